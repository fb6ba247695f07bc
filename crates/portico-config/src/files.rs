//! The configuration file: which it is, and what it says.

use std::fmt;
use std::path::{Path, PathBuf};

use portico_files::read_text;

use crate::error::ConfigError;
use crate::raw::{RawConfig, SettingSource};
use crate::toml_file::TomlEntry;
use crate::{settings, toml_file};

/// A configuration file in Python, gunicorn's, which this crate cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PythonFile {
    /// A file by its path.
    Path(PathBuf),
    /// A module that Python imports: `python:deploy.settings`.
    Module(String),
}

/// The text of one setting in a configuration file, before it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileValue {
    /// The setting's name, gunicorn's or Portico's. What is no setting's name counts for nothing: such files
    /// have variables of their own.
    pub name: String,
    /// Its value as the command line would have it: one text, or one for each item of a list.
    pub texts: Vec<String>,
    /// The line that says it, where that is known.
    pub line: Option<u32>,
}

/// The functions that reading configuration files takes beside this crate. The program passes them in, so that
/// this crate never runs code of the file's.
pub trait FileAccess {
    /// Before the first of them: whom `--user` names on the command line or in the environment.
    fn begin(&mut self, user: Option<&str>) {
        let _ = user;
    }

    /// Whether the file at `path` may be read. One in Python is asked for by [`FileAccess::evaluate`] alone.
    ///
    /// # Errors
    /// It may not, for this reason.
    fn admit(&mut self, path: &Path) -> Result<(), ConfigError> {
        let _ = path;
        Ok(())
    }

    /// Runs a configuration file in Python and returns what it says of the settings, in any order.
    ///
    /// # Errors
    /// It is not there, it may not be read, it raises, or what it says cannot be used.
    fn evaluate(&mut self, file: &PythonFile) -> Result<Vec<FileValue>, ConfigError>;

    /// What a class of workers amounts to that is none of gunicorn's own. It is looked for in `folders`, of which
    /// relative ones are in the folder that the program was started in, before those of Python's own.
    ///
    /// # Errors
    /// It cannot be imported, or is none that Portico can stand in for.
    fn judge_worker(&mut self, name: &str, folders: &[PathBuf]) -> Result<WorkerKind, ConfigError> {
        let _ = folders;
        Ok(WorkerKind { kind: name.to_owned(), lost: Vec::new() })
    }
}

/// A class of workers that is none of gunicorn's own, judged by its bases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerKind {
    /// As `--worker-class` calls such workers.
    pub kind: String,
    /// What they would have done that is not done here, a line each.
    pub lost: Vec<String>,
}

/// Has a class of workers that is none of gunicorn's own judged by its bases. Returns what of it is lost.
///
/// # Errors
/// It cannot be imported, or is none that Portico can stand in for.
pub(crate) fn judge_worker(
    raw: &mut RawConfig,
    files: &mut dyn FileAccess,
) -> Result<Vec<String>, ConfigError> {
    let setting = &settings::WORKER_CLASS;
    let Some(said) = raw.said(setting) else { return Ok(Vec::new()) };
    let (name, source) = (said.last().to_owned(), said.source.clone());
    if settings::is_known_class(&name) {
        return Ok(Vec::new());
    }
    // As in the workers: --pythonpath first, then the folder that they work in.
    let folder = PathBuf::from(raw.last(&settings::CHDIR).unwrap_or_default());
    let paths = raw.last(&settings::PYTHONPATH).unwrap_or_default();
    let paths = paths.split(',').filter(|path| !path.is_empty()).map(|path| folder.join(path));
    let folders: Vec<PathBuf> = paths.chain([folder.clone()]).collect();
    let judged = files.judge_worker(&name, &folders);
    let judged = judged.map_err(|error| source.error(setting, error))?;
    if judged.kind == "asgi" {
        return Err(source.error(setting, settings::asgi_message(&name)));
    }
    let naming = source.naming(setting);
    raw.say(setting, vec![judged.kind], source);
    Ok(judged.lost.into_iter().map(|lost| format!("{naming}: {lost}")).collect())
}

/// A function that runs such a file, where all may be read.
impl<F: FnMut(&PythonFile) -> Result<Vec<FileValue>, ConfigError>> FileAccess for F {
    fn evaluate(&mut self, file: &PythonFile) -> Result<Vec<FileValue>, ConfigError> {
        self(file)
    }
}

/// What is looked for in the current folder; of several the first counts.
const FILES: [&str; 3] = ["gunicorn.conf.py", "portico.toml", PYPROJECT];

/// Has more than our settings.
const PYPROJECT: &str = "pyproject.toml";

/// A configuration file, by how it is read.
#[derive(Debug, PartialEq, Eq)]
enum ConfigFile {
    Python(PythonFile),
    Toml(PathBuf),
    Pyproject(PathBuf),
}

/// Takes what the configuration file says: that which `raw` names (`--config`), or that of `folder`. Returns what
/// its operator should know.
///
/// # Errors
/// The file cannot be read or says something wrong.
pub(crate) fn say_file(
    raw: &mut RawConfig,
    folder: &Path,
    files: &mut dyn FileAccess,
) -> Result<Vec<String>, ConfigError> {
    files.begin(raw.last(&settings::USER));
    let named = raw.last(&settings::CONFIG).filter(|text| !text.is_empty()).map(str::to_owned);
    if let Some(text) = named {
        let file = file(&text);
        if !say(raw, &file, files)? {
            return Err(ConfigError::new(format!("{text}: there is no table [tool.portico] in it; add one")));
        }
        return Ok(Vec::new());
    }
    let mut found: Option<&str> = None;
    let mut warnings = Vec::new();
    for name in FILES.into_iter().filter(|name| folder.join(name).is_file()) {
        let path = folder.join(name);
        match found {
            None => found = say(raw, &file(&path.to_string_lossy()), &mut *files)?.then_some(name),
            Some(counts) if name != PYPROJECT || has_table(&path) => warnings.push(format!(
                "{counts} is the configuration file, and {name} counts for nothing; remove one of them, or name \
                 one with --config"
            )),
            Some(_) => {}
        }
    }
    Ok(warnings)
}

/// gunicorn's ways to name it, `python:MODULE`, `file:PATH` or `PATH`; which language it is in its name says.
fn file(text: &str) -> ConfigFile {
    if let Some(module) = text.strip_prefix("python:") {
        return ConfigFile::Python(PythonFile::Module(module.to_owned()));
    }
    let path = PathBuf::from(text.strip_prefix("file:").unwrap_or(text));
    match path.extension() {
        _ if path.file_name().is_some_and(|name| name == PYPROJECT) => ConfigFile::Pyproject(path),
        Some(extension) if extension == "toml" => ConfigFile::Toml(path),
        _ => ConfigFile::Python(PythonFile::Path(path)),
    }
}

/// Takes what `file` says; whether it has anything for us.
fn say(raw: &mut RawConfig, file: &ConfigFile, files: &mut dyn FileAccess) -> Result<bool, ConfigError> {
    let path = file.to_string();
    let source = |line, column| SettingSource::File { path: path.clone(), line, column };
    match file {
        ConfigFile::Python(file) => {
            raw.note_gunicorns_file();
            for value in files.evaluate(file)? {
                if let Some(setting) = settings::called(&value.name) {
                    raw.say(setting, value.texts, source(value.line, None));
                }
            }
        }
        ConfigFile::Toml(location) | ConfigFile::Pyproject(location) => {
            let pyproject = matches!(file, ConfigFile::Pyproject(_));
            let Some(lines) = lines(&path, location, pyproject, files)? else { return Ok(false) };
            for line in lines {
                if *line.setting == settings::ROUTE {
                    raw.note_route_lines(line.lines);
                }
                raw.say(
                    line.setting,
                    line.texts,
                    source(Some(line.position.line), Some(line.position.column)),
                );
            }
        }
    }
    Ok(true)
}

/// What the file in TOML at `location` says; `None` for a `pyproject` without our table.
fn lines(
    path: &str,
    location: &Path,
    pyproject: bool,
    files: &mut dyn FileAccess,
) -> Result<Option<Vec<TomlEntry>>, ConfigError> {
    let read = || {
        let text = read_text(location).map_err(|error| {
            ConfigError::new(format!("{path}: the configuration file cannot be read ({error}); name another"))
        })?;
        toml_file::read(path, &text, pyproject)
    };
    match files.admit(location) {
        Ok(()) => read(),
        // Most projects have one, and nothing in it is ours.
        Err(_) if pyproject && matches!(read(), Ok(None)) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// Whether this pyproject.toml has our table; one that is not even TOML has not.
fn has_table(path: &Path) -> bool {
    let text = read_text(path).unwrap_or_default();
    toml_file::read(PYPROJECT, &text, true).is_ok_and(|lines| lines.is_some())
}

impl fmt::Display for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Python(PythonFile::Module(module)) => write!(f, "python:{module}"),
            Self::Python(PythonFile::Path(path)) | Self::Toml(path) | Self::Pyproject(path) => {
                path.display().fmt(f)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;

    use super::*;
    use crate::parse::{Parsed, parse_with_files};
    use crate::resolution::Resolved;
    use crate::testing::environment;

    fn value(name: &str, texts: &[&str], line: u32) -> FileValue {
        let texts = texts.iter().map(|text| text.to_string()).collect();
        FileValue { name: name.to_owned(), texts, line: Some(line) }
    }

    /// What becomes of these options where the file that they name says `values`.
    fn resolved(
        env: &[(&str, &str)],
        args: &[&str],
        values: &[FileValue],
    ) -> (Result<Resolved, ConfigError>, Vec<PythonFile>) {
        let mut files = Vec::new();
        let mut evaluate = |file: &PythonFile| {
            files.push(file.clone());
            Ok(values.to_vec())
        };
        let args = args.iter().map(OsString::from);
        let parsed = parse_with_files(args, &environment(env), &mut evaluate);
        let resolved = parsed.map(|parsed| match parsed {
            Parsed::Run(resolved) => *resolved,
            other => panic!("{other:?}"),
        });
        (resolved, files)
    }

    #[test]
    fn gunicorns_ways_to_name_a_file() {
        for (text, file) in [
            ("a/b.py", PythonFile::Path("a/b.py".into())),
            ("file:/a/b.py", PythonFile::Path("/a/b.py".into())),
            ("python:a.b", PythonFile::Module("a.b".to_owned())),
        ] {
            for options in [&["-c", text][..], &["--config", text], &["-c", "x.py", "-c", text]] {
                assert_eq!(resolved(&[], options, &[]).1, std::slice::from_ref(&file), "{options:?}");
            }
            assert_eq!(resolved(&[("PORTICO_CONFIG", text)], &[], &[]).1, std::slice::from_ref(&file));
            assert_eq!(resolved(&[("GUNICORN_CMD_ARGS", "-c y.py")], &["-c", text], &[]).1, [file]);
        }
        assert_eq!(resolved(&[], &[], &[]).1, []);
    }

    #[test]
    fn a_file_counts_above_platforms_and_below_all_else() {
        let says = [value("workers", &["7"], 3), value("keepalive", &["9"], 4), value("mine", &["x"], 5)];
        let workers = |env: &[(&str, &str)], args: &[&str]| {
            let config = resolved(env, &[&["-c", "a.py"], args].concat(), &says).0.unwrap().config;
            assert_eq!(config.keep_alive.as_secs(), 9);
            config.workers.min
        };
        assert_eq!(workers(&[], &[]), 7);
        assert_eq!(workers(&[("WEB_CONCURRENCY", "2")], &[]), 7);
        assert_eq!(workers(&[("PORTICO_WORKERS", "3")], &[]), 3);
        let both = [("PORTICO_WORKERS", "3"), ("GUNICORN_CMD_ARGS", "-w 4")];
        assert_eq!(workers(&both, &[]), 4);
        assert_eq!(workers(&[both[0], both[1], ("PORTICO_CMD_ARGS", "-w 5")], &[]), 5);
        assert_eq!(workers(&both, &["-w", "6"]), 6);
    }

    #[test]
    fn an_error_names_the_file_and_the_line() {
        let says = [value("threads", &["many"], 12)];
        let error = resolved(&[], &["-c", "a.py"], &says).0.unwrap_err();
        assert!(error.to_string().starts_with("a.py:12: threads: \"many\" is not"), "{error}");
        assert_eq!(error.exit_status(), 1);
    }

    /// What a folder of these files, with --chdir to another, says of threads, and the warnings.
    fn in_folder(files: &[(&str, &str)], args: &[&str]) -> Result<(u32, Vec<String>), ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let mut raw = RawConfig::default();
        for text in args {
            let text = text.replace("{}", folder.path().to_str().unwrap());
            raw.say(&settings::CONFIG, vec![text], SettingSource::CommandLine);
        }
        let mut evaluate = |_: &PythonFile| Ok(vec![value("threads", &["2"], 1)]);
        let warnings = say_file(&mut raw, folder.path(), &mut evaluate)?;
        let threads = raw.said(&settings::THREADS).map_or(0, |said| said.texts[0].parse().unwrap());
        Ok((threads, warnings))
    }

    const PYTHON: (&str, &str) = ("gunicorn.conf.py", "");
    const TOML: (&str, &str) = ("portico.toml", "threads = 3");
    const PROJECT: (&str, &str) = ("pyproject.toml", "[tool.portico]\nthreads = 4");
    const OTHER_PROJECT: (&str, &str) = ("pyproject.toml", "[project]\nname = 'x'");

    #[test]
    fn the_first_file_of_the_folder_counts_and_the_others_are_a_warning() {
        for (files, threads, warnings) in [
            (&[][..], 0, 0),
            (&[PYTHON], 2, 0),
            (&[TOML], 3, 0),
            (&[PROJECT], 4, 0),
            (&[OTHER_PROJECT], 0, 0),
            (&[TOML, OTHER_PROJECT], 3, 0),
            (&[PYTHON, TOML], 2, 1),
            (&[TOML, PROJECT], 3, 1),
            (&[PYTHON, TOML, PROJECT], 2, 2),
        ] {
            let (found, warned) = in_folder(files, &[]).unwrap();
            assert_eq!((found, warned.len()), (threads, warnings), "{files:?}: {warned:?}");
        }
        assert!(
            in_folder(&[PYTHON, TOML], &[]).unwrap().1[0].starts_with(
                "gunicorn.conf.py is the configuration file, and portico.toml counts for nothing"
            )
        );
    }

    /// Lets no file in, and notes what it was asked.
    #[derive(Default)]
    struct Closed(Vec<String>);

    impl FileAccess for Closed {
        fn begin(&mut self, user: Option<&str>) {
            self.0.push(format!("{user:?}"));
        }

        fn admit(&mut self, path: &Path) -> Result<(), ConfigError> {
            Err(ConfigError::new(format!("{} is closed", path.display())))
        }

        fn evaluate(&mut self, file: &PythonFile) -> Result<Vec<FileValue>, ConfigError> {
            Err(ConfigError::new(format!("{file:?} is closed")))
        }
    }

    #[test]
    fn a_file_that_may_not_be_read_says_nothing() {
        let closed = |name: &str, text: &str| {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(name), text).unwrap();
            say_file(&mut RawConfig::default(), folder.path(), &mut Closed::default())
        };
        for (name, text) in [TOML, PROJECT, ("portico.toml", "no TOML"), ("pyproject.toml", "no TOML")] {
            let error = closed(name, text).unwrap_err().to_string();
            assert!(error.ends_with(&format!("{name} is closed")), "{text:?}: {error}");
        }
        assert!(closed(PYTHON.0, PYTHON.1).is_err());
        assert_eq!(closed(OTHER_PROJECT.0, OTHER_PROJECT.1), Ok(Vec::new()), "it has nothing for us");
        assert_eq!(closed("other.toml", ""), Ok(Vec::new()));
    }

    #[test]
    fn the_user_is_told_before_any_file_as_far_as_it_is_known() {
        let mut told = Vec::new();
        for (env, args) in [
            (&[][..], &[][..]),
            (&[], &["--user", "a"]),
            (&[("PORTICO_USER", "b")], &[]),
            (&[("PORTICO_USER", "b"), ("GUNICORN_CMD_ARGS", "-u c")], &[]),
            (&[("PORTICO_USER", "b")], &["--user", "a"]),
        ] {
            let mut files = Closed::default();
            let args = args.iter().map(OsString::from).chain(["-c".into(), "x.toml".into()]);
            assert!(parse_with_files(args, &environment(env), &mut files).is_err());
            told.extend(files.0);
        }
        assert_eq!(told, ["None", "Some(\"a\")", "Some(\"b\")", "Some(\"c\")", "Some(\"a\")"]);
    }

    #[test]
    fn a_file_that_is_named_counts_alone() {
        assert_eq!(in_folder(&[PYTHON, TOML], &["{}/portico.toml"]), Ok((3, Vec::new())));
        assert_eq!(in_folder(&[PYTHON, PROJECT], &["file:{}/pyproject.toml"]), Ok((4, Vec::new())));
        let refusal = |files, name| in_folder(files, &[name]).unwrap_err().to_string();
        assert!(refusal(&[OTHER_PROJECT], "{}/pyproject.toml").contains("no table [tool.portico]"));
        assert!(refusal(&[], "{}/portico.toml").contains("cannot be read"));
        assert!(refusal(&[("a.toml", "x = 1")], "{}/a.toml").contains("/a.toml:1:1: x is not a setting"));
    }

    #[test]
    fn routes_know_where_they_were_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.toml");
        fs::write(&path, "[[route]]\nstatic = 'x'\n\n[[route]]\npath = '/a'\napp = true\n").unwrap();
        let path = path.to_str().unwrap();
        let resolve = |more: &[&str]| resolved(&[], &[&["-c", path], more].concat(), &[]).0;
        let routes = resolve(&["--limit", "/a=5/m"]).unwrap().config.edge.routes;
        let origins: Vec<String> = routes.iter().map(|route| route.origin.to_string()).collect();
        assert_eq!(origins, [format!("{path}:1"), format!("{path}:4")]);
        assert!(routes[1].limit.is_some(), "an option adds to the route of the same place");
        let refused = resolve(&["--static", "/=y"]).unwrap_err().to_string();
        let both = format!("--static /=y and {path}:1 both say what responds of the route for /; remove one");
        assert!(refused.contains(&both), "{refused}");
        let shown = resolve(&[]).unwrap().show();
        assert!(shown.contains("route ") && shown.contains("static = \"x\""), "{shown}");
        assert!(crate::toml_file::read("", &shown, false).is_ok(), "what is shown can be read");
    }

    #[test]
    fn a_wrong_value_names_line_and_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.toml");
        fs::write(&path, "\n  threads = 0").unwrap();
        let path = path.to_str().unwrap();
        let error = resolved(&[], &["-c", path], &[]).0.unwrap_err().to_string();
        assert!(error.starts_with(&format!("{path}:2:3: threads: 0 is out of range")), "{error}");
    }
}
