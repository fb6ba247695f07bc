//! The configuration file: which it is, and what it says.

use std::path::{Path, PathBuf};

use crate::error::ConfigError;
use crate::raw::{RawConfig, Source};
use crate::settings;

/// A configuration file in Python, gunicorn's, which this crate cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PythonFile {
    /// A file by its path.
    Path(PathBuf),
    /// A module that Python imports: `python:deploy.settings`.
    Module(String),
}

/// What a configuration file says of one setting.
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

/// Runs a configuration file in Python and returns what it says of the settings, in any order.
pub type Evaluate<'a> = &'a mut dyn FnMut(&PythonFile) -> Result<Vec<FileValue>, ConfigError>;

/// What is looked for in the current folder, as gunicorn does.
const PYTHON_FILE: &str = "gunicorn.conf.py";

/// Takes what the configuration file says: that which `raw` names (`--config`), or that of `folder`.
///
/// # Errors
/// The file cannot be read or says something wrong.
pub(crate) fn say_file(
    raw: &mut RawConfig,
    folder: &Path,
    evaluate: Evaluate<'_>,
) -> Result<(), ConfigError> {
    let named = raw.said("config").and_then(|said| said.texts.last()).filter(|text| !text.is_empty());
    let file = match named {
        Some(text) => python_file(text),
        None if folder.join(PYTHON_FILE).is_file() => PythonFile::Path(Path::new("./").join(PYTHON_FILE)),
        None => return Ok(()),
    };
    let path = match &file {
        PythonFile::Path(path) => path.display().to_string(),
        PythonFile::Module(module) => format!("python:{module}"),
    };
    for value in evaluate(&file)? {
        if let Some(setting) = settings::called(&value.name) {
            raw.say(setting, value.texts, Source::File { path: path.clone(), line: value.line });
        }
    }
    Ok(())
}

/// gunicorn's ways to name it: `python:MODULE`, `file:PATH`, or `PATH`.
fn python_file(text: &str) -> PythonFile {
    match text.strip_prefix("python:") {
        Some(module) => PythonFile::Module(module.to_owned()),
        None => PythonFile::Path(text.strip_prefix("file:").unwrap_or(text).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::testing::environment;
    use crate::{Parsed, Resolved, parse_with_files};

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
        let parsed = parse_with_files(args.iter().map(OsString::from), &environment(env), &mut |file| {
            files.push(file.clone());
            Ok(values.to_vec())
        });
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
}
