//! `portico migrate`: portico.toml for what another server's configuration file says, and what it cannot say.

use std::fs;
use std::path::{Path, PathBuf};

use crate::draft::{MigrationDraft, is_elsewhere};
use crate::environment::Environment;
use crate::error::ConfigError;
use crate::files::{FileAccess, FileValue, PythonFile};
use crate::raw::{RawConfig, SettingSource};
use crate::resolve::resolve;
use crate::resolved::Config;
use crate::setting::{Area, ValueType};
use crate::systemd::SystemdSockets;
use crate::task::Printout;
use crate::{nginx, settings, toml_file, uwsgi};

/// Writes portico.toml for the file `from`: uWSGI's if it ends in `.ini`, nginx's if it is written so, else
/// gunicorn's.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn migrate(
    from: &Path,
    to: Option<PathBuf>,
    env: Environment<'_>,
    files: Option<&mut dyn FileAccess>,
) -> Result<Printout, ConfigError> {
    let name = from.display().to_string();
    let mut draft = MigrationDraft::default();
    let ends_in = |ending: &str| from.extension().is_some_and(|extension| extension == ending);
    let read = || {
        fs::read_to_string(from).map_err(|error| {
            ConfigError::new(format!("migrate: {name} cannot be read: {error}; name another"))
        })
    };
    if ends_in("ini") {
        draft.take_uwsgi(uwsgi::Ini::read(&read()?, from, env));
        return Ok(finished(draft, &name, to));
    }
    let text = match (ends_in("py"), ends_in("conf")) {
        (true, _) => None,
        (_, true) => Some(read()?),
        _ => read().ok(),
    };
    if let Some(text) = text.filter(|text| is_nginx(text, ends_in("conf"))) {
        draft.take_nginx(&text, from);
    } else {
        let files = files.ok_or_else(|| ConfigError::new("migrate: there is nothing to run Python with"))?;
        draft.take_gunicorn(&name, files.evaluate(&PythonFile::Path(from.into()))?);
    }
    Ok(finished(draft, &name, to))
}

/// What is printed of a draft, once Portico has looked at it.
fn finished(mut draft: MigrationDraft, name: &str, to: Option<PathBuf>) -> Printout {
    draft.check_routes();
    let text = format!("# Written by `portico migrate {name}`.\n{}", draft.text());
    let shown = to.as_deref().unwrap_or(Path::new("portico.toml")).display().to_string();
    if draft.problems.is_empty() {
        draft.problems.extend(refusal(&shown, &text));
    }
    Printout { text, file: to, notes: draft.notes, problems: draft.problems, of_settings: false }
}

/// Whether a text is nginx's: one of a file that may be, unless it assigns to names as Python does.
fn is_nginx(text: &str, may_be: bool) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.trim_end() != "location"
            && name.trim_end().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let mut names = text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
    nginx::is_configuration(text) || (may_be && !names.any(is_name))
}

/// What Portico would say against the settings of this file in TOML.
fn refusal(name: &str, text: &str) -> Option<String> {
    let resolved = || {
        let mut raw = RawConfig::default();
        for line in toml_file::read(name, text, false)?.unwrap_or_default() {
            let (row, column) = (Some(line.position.line), Some(line.position.column));
            if is_elsewhere(line.setting, &line.texts) {
                continue;
            }
            raw.say(
                line.setting,
                line.texts,
                SettingSource::File { path: name.to_owned(), line: row, column },
            );
        }
        resolve(raw, &SystemdSockets::read(&|_| None, std::process::id())?, None)
    };
    resolved().err().map(|error| error.to_string())
}

impl MigrationDraft {
    fn take_gunicorn(&mut self, file: &str, values: Vec<FileValue>) {
        for value in values {
            let Some(setting) = settings::called(&value.name) else { continue };
            let line = value.line.map_or(String::new(), |line| format!(":{line}"));
            let place = format!("{file}{line}: {}", value.name);
            if setting.area == Area::Hooks {
                let remedy = "a file in TOML has no functions; keep it in one in Python, named with --config";
                self.notes.push(format!("{place}: {remedy}"));
                continue;
            }
            match setting.value {
                ValueType::Ignored { why, .. } => self.notes.push(format!("{place}: left out, {why}")),
                ValueType::Refused { why, .. } => {
                    if setting.value.apply(&mut Config::default(), &value.texts).is_err() {
                        self.notes.push(format!("{place}: left out, {why}"));
                    }
                }
                _ if *setting == settings::LOGCONFIG_DICT => {
                    let remedy = "write the dictionary to a file and name that with logconfig_json";
                    self.notes.push(format!("{place}: {remedy}"));
                }
                _ => self.say(&place, setting, value.texts),
            }
        }
        if !self.says(&settings::THREADS) {
            self.say(file, &settings::THREADS, vec!["1".to_owned()]);
            self.notes.push(format!(
                "{file}: names no threads, which is 1 for gunicorn and written so; remove it where the \
                 application is thread-safe"
            ));
        }
        self.notes.push(format!(
            "{file}: what it computes, from the environment for example, is written as it is now; and it counts \
             before portico.toml: remove it once that is as you want it"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_gunicorn(values: &[(&str, &[&str])]) -> (String, String) {
        let value = |(name, texts): &(&str, &[&str])| FileValue {
            name: name.to_string(),
            texts: texts.iter().map(|text| text.to_string()).collect(),
            line: Some(3),
        };
        let values: Vec<FileValue> = values.iter().map(value).collect();
        let mut evaluate = |_: &PythonFile| Ok(values.clone());
        let done = migrate(Path::new("g.py"), None, &|_| None, Some(&mut evaluate)).unwrap();
        (done.text, [done.notes, done.problems].concat().join("\n"))
    }

    #[test]
    fn what_does_not_hold_together_is_a_problem() {
        let mut evaluate = |_: &PythonFile| {
            Ok(vec![FileValue { name: "keyfile".into(), texts: vec!["/a.key".into()], line: None }])
        };
        let done = migrate(Path::new("g.py"), None, &|_| None, Some(&mut evaluate)).unwrap();
        assert_eq!(done.problems.len(), 1, "{:?}", done.problems);
        assert!(done.problems[0].contains("there is no certificate for it"), "{:?}", done.problems);
    }

    #[test]
    fn gunicorns_settings_get_our_names_and_types() {
        let (text, _) = of_gunicorn(&[
            ("keepalive", &["5"]),
            ("bind", &["127.0.0.1:1", "unix:/a"]),
            ("preload_app", &["true"]),
            ("loglevel", &["debug"]),
            ("threads", &["4"]),
            ("wsgi_app", &["a:b"]),
        ]);
        let expected = "# Written by `portico migrate g.py`.\n\
            app = \"a:b\"\n\
            bind = [\"127.0.0.1:1\", \"unix:/a\"]\n\
            preload = true\n\
            threads = 4\n\
            keep_alive = 5\n\
            log_level = \"debug\"\n";
        assert_eq!(text, expected);
        assert!(crate::toml_file::read("", &text, false).is_ok());
    }

    #[test]
    fn the_kind_of_a_file_is_told() {
        for (text, may_be, expected) in [
            ("server { root /s; }", false, true),
            ("root /s;", true, true),
            ("server {", true, true),
            ("server {\nlocation = /x {", true, true),
            ("bind = '127.0.0.1:8000'\n", true, false),
            ("root /s;", false, false),
        ] {
            assert_eq!(is_nginx(text, may_be), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_noted() {
        let (text, notes) = of_gunicorn(&[
            ("post_fork", &["__config__.post_fork"]),
            ("worker_tmp_dir", &["/dev/shm"]),
            ("dirty_apps", &["x.pem"]),
            ("dirty_workers", &["0"]),
            ("timeout", &["-1"]),
        ]);
        assert_eq!(text, "# Written by `portico migrate g.py`.\nthreads = 1\ntimeout = -1\n");
        for note in [
            "g.py:3: post_fork: a file in TOML has no functions",
            "g.py:3: worker_tmp_dir: left out, ",
            "g.py:3: dirty_apps: left out, ",
            "g.py:3: timeout: written as timeout, but \"-1\" is not a time",
            "g.py: names no threads",
        ] {
            assert!(notes.contains(note), "{note} in\n{notes}");
        }
        assert!(!notes.contains("dirty_workers"));
    }
}
