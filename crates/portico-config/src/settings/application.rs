//! Settings that say which application is served and from where it is imported.

use std::path::PathBuf;

use super::keep;
use crate::setting::{Applies, Area, Fixed, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] =
    &[APP, CONFIG, CHDIR, PYTHONPATH, ROOT_PATH, CHECK_CONFIG, PRINT_CONFIG];

pub(crate) const APP: Setting = Setting {
    name: "app",
    positional: true,
    gunicorn: Some("wsgi_app"),
    value: ValueType::Text {
        metavar: "APP_MODULE",
        set: |config, text| {
            config.app = (!text.is_empty()).then(|| text.to_owned());
            Ok(())
        },
    },
    area: Area::Application,
    help: "Application to serve: MODULE, MODULE:NAME, MODULE:FACTORY() or PATH.py:NAME",
    details: "MODULE is imported from the current folder (or --chdir) and from --pythonpath. Without NAME, \
        its `application` or `app` is served. NAME followed by parentheses is called once, and its result is \
        served.\n\n\
        Without an argument the application of the current folder is served: a Django project's \
        WSGI_APPLICATION, or else `application`, `app` or `create_app()` of wsgi.py, app.py or main.py.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn app() {
    use crate::testing::{config, with_environment};
    assert_eq!(config(&[]).app, None);
    assert_eq!(config(&["mysite.wsgi:application"]).app.as_deref(), Some("mysite.wsgi:application"));
    assert_eq!(with_environment(&[("PORTICO_APP", "a:b")], &[]).app.as_deref(), Some("a:b"));
}

pub(crate) const CONFIG: Setting = Setting {
    name: "config",
    // No file can say it, and what can stays as it was.
    applies: Applies::Start(Fixed::any(|_, _| false)),
    flags: &["config"],
    short: Some('c'),
    // It is read before all others: see `files`.
    value: ValueType::Text { metavar: "FILE", set: |_, _| Ok(()) },
    area: Area::Application,
    help: "Configuration file: portico.toml, gunicorn.conf.py or python:MODULE",
    details: "A name that ends in .toml is TOML; of a pyproject.toml the table [tool.portico] is read. \
        Anything else is Python, as for gunicorn: PATH, file:PATH or python:MODULE.\n\n\
        Without this option the first of these in the current folder is read: gunicorn.conf.py, \
        portico.toml, pyproject.toml with that table.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn config_file() {
    use crate::testing::resolved;
    let effective = resolved(&[], &["-c", "a.py"]).effective;
    let said = effective.iter().find(|effective| *effective.setting == CONFIG).unwrap();
    assert_eq!(
        (&said.texts[..], &said.source),
        (&["a.py".to_owned()][..], &crate::raw::SettingSource::CommandLine)
    );
}

pub(crate) const CHDIR: Setting = Setting {
    name: "chdir",
    flags: &["chdir"],
    value: ValueType::Text {
        metavar: "PATH",
        set: |config, text| {
            let path = PathBuf::from(text);
            if !path.is_dir() {
                return Err(format!("{text:?} is not a folder; name one that exists").into());
            }
            config.chdir = Some(path);
            Ok(())
        },
    },
    area: Area::Application,
    help: "Change to this folder before the application is imported",
    details: "Relative paths of other settings are then relative to it.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn chdir() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).chdir, None);
    assert_eq!(config(&["--chdir", "/"]).chdir, Some(PathBuf::from("/")));
    assert!(
        refusal(&["--chdir", "/no/such/folder"]).starts_with("--chdir: \"/no/such/folder\" is not a folder")
    );
}

pub(crate) const PYTHONPATH: Setting = Setting {
    name: "pythonpath",
    flags: &["pythonpath"],
    value: ValueType::List {
        metavar: "PATH,...",
        set: |config, paths| {
            config.pythonpath = paths.iter().filter(|path| !path.is_empty()).map(PathBuf::from).collect();
            Ok(())
        },
    },
    area: Area::Application,
    help: "Folders to put in front of Python's module search path",
    details: "Separated by commas, in the order in which they are searched.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn pythonpath() {
    use crate::testing::config;
    assert_eq!(config(&[]).pythonpath, Vec::<PathBuf>::new());
    let expected: Vec<PathBuf> = ["/a", "/b", "/c"].map(PathBuf::from).into();
    assert_eq!(config(&["--pythonpath", "/a, /b,,/c"]).pythonpath, expected);
    assert_eq!(config(&["--pythonpath", "/a,/b", "--pythonpath=/c"]).pythonpath, expected);
}

pub(crate) const ROOT_PATH: Setting = Setting {
    name: "root_path",
    flags: &["root-path"],
    platform: Some(crate::setting::Platform { variables: &["SCRIPT_NAME"], translate: str::to_owned }),
    value: ValueType::Text {
        metavar: "PATH",
        set: |config, text| {
            let path = text.trim_end_matches('/');
            if !path.is_empty() && !path.starts_with('/') {
                return Err(format!("{text:?} does not begin with a slash; write /{path}").into());
            }
            if path.chars().any(char::is_control) {
                return Err(
                    format!("{text:?} has a control character; write a plain path, such as /api").into()
                );
            }
            config.root_path = path.to_owned();
            Ok(())
        },
    },
    area: Area::Application,
    help: "Path under which the application is mounted: its SCRIPT_NAME",
    details: "Write it decoded, as the application sees it. If the path of a request begins with it, \
        SCRIPT_NAME is this path and PATH_INFO the rest (PEP 3333).",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn root_path() {
    use crate::testing::{config, refusal, with_environment};
    assert_eq!(config(&[]).root_path, "");
    assert_eq!(config(&["--root-path", "/"]).root_path, "");
    assert_eq!(config(&["--root-path", "/api/v1/"]).root_path, "/api/v1");
    assert_eq!(with_environment(&[("SCRIPT_NAME", "/api")], &[]).root_path, "/api");
    assert!(refusal(&["--root-path", "api"]).ends_with("write /api"));
    assert!(refusal(&["--root-path", "/a\r\nb"]).contains("control character"));
}

pub(crate) const CHECK_CONFIG: Setting = Setting {
    name: "check_config",
    applies: Applies::Start(Fixed::any(|new, old| keep(&mut new.checks.import, &old.checks.import))),
    flags: &["check-config"],
    value: ValueType::Switch { given: true, set: |config, on| config.checks.import = on },
    default: "false",
    area: Area::Application,
    help: "Check the settings, import the application and exit",
    details: "Exit status 0 if it could be served, otherwise 1; no socket is opened. `portico check` also \
        tries the addresses.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn check_config() {
    use crate::testing::config;
    assert!(!config(&[]).only_checks());
    assert!(config(&["--check-config"]).checks.import);
}

pub(crate) const PRINT_CONFIG: Setting = Setting {
    name: "print_config",
    applies: Applies::Start(Fixed::any(|new, old| keep(&mut new.checks.print, &old.checks.print))),
    flags: &["print-config"],
    value: ValueType::Switch { given: true, set: |config, on| config.checks.print = on },
    default: "false",
    area: Area::Application,
    help: "Print the settings, import the application and exit",
    details: "Like --check-config, after the output of `portico config`.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn print_config() {
    use crate::testing::config;
    assert!(!config(&[]).only_checks());
    assert!(config(&["--print-config"]).checks.print);
    assert!(config(&["--print-config"]).only_checks());
}
