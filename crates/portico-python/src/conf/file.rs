//! Reads configuration files in Python, for the table of settings.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use pyo3::exceptions::PyModuleNotFoundError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use portico_config::{
    ConfigError, FileValue, PythonFile, WorkerKind, file_names, is_hook, is_list, is_octal, is_repeatable,
    is_text, likely_file_name,
};

use crate::error::traceback;
use crate::import_path;

/// The file that was read last, and what its operator should know about it.
#[derive(Default)]
pub(crate) struct ConfFiles {
    /// The `ConfFile` of `portico._gunicorn.conf_file`.
    pub(crate) last: Option<Py<PyAny>>,
    /// One line each.
    pub(crate) warnings: Vec<String>,
    /// The current folder, and why nothing is imported from it.
    hidden: Option<(PathBuf, String)>,
}

/// Name, texts and line of a setting.
type Value = (String, Vec<String>, Option<u32>);

impl ConfFiles {
    /// Executes `file`, as gunicorn does: with the folder that the program was `started_in` on `sys.path`. With
    /// `guarded` that is there, and whatever else is, only as far as root alone can change it.
    ///
    /// # Errors
    /// It is not there, it raises, or what it says cannot be used.
    pub(crate) fn evaluate(
        &mut self,
        py: Python<'_>,
        file: &PythonFile,
        started_in: Option<&Path>,
        guarded: bool,
    ) -> Result<Vec<FileValue>, ConfigError> {
        let (place, is_module) = match file {
            PythonFile::Path(path) => (path.display().to_string(), false),
            PythonFile::Module(module) => (module.clone(), true),
        };
        if !is_module && !Path::new(&place).exists() {
            return Err(ConfigError::new(format!(
                "{place}: there is no such file; name another with --config"
            )));
        }
        self.read(py, &place, is_module, started_in, guarded).map_err(|error| match unusable(py, &error) {
            Some((message, Some(line))) => ConfigError::new(format!("{place}:{line}: {message}")),
            Some((message, None)) => ConfigError::new(format!("{place}: {message}")),
            None => {
                let hint = match &self.hidden {
                    Some((folder, reason)) if error.is_instance_of::<PyModuleNotFoundError>(py) => {
                        format!("\nRoot imports nothing from {}, since {reason}", folder.display())
                    }
                    _ => String::new(),
                };
                let traceback = traceback(py, &error);
                let option = if is_module { " (--config)" } else { "" };
                ConfigError::new(format!("Failed to read config file: {place}{option}\n{traceback}{hint}"))
            }
        })
    }

    /// What a class of workers amounts to that is none of gunicorn's own; it is looked for in `folders` first, but
    /// for those that others than root can change where it is `guarded`.
    ///
    /// # Errors
    /// It cannot be imported, or is none that Portico can stand in for.
    pub(crate) fn judge_worker(
        &mut self,
        py: Python<'_>,
        name: &str,
        folders: &[PathBuf],
        guarded: bool,
    ) -> Result<WorkerKind, ConfigError> {
        let allowed: Vec<&OsStr> = folders
            .iter()
            .filter(|folder| import_path::why_not(folder, guarded).is_none())
            .map(|folder| folder.as_os_str())
            .collect();
        let judged = reader(py).and_then(|reader| {
            if guarded {
                self.warnings.extend(import_path::withhold_exposed(py)?);
            }
            reader.call_method1("judge_worker", (self.last.as_ref(), name, allowed))?.extract()
        });
        match judged {
            Ok((kind, lost)) => Ok(WorkerKind { kind, lost }),
            Err(error) => Err(ConfigError::new(match unusable(py, &error) {
                Some((message, _)) => message,
                None => traceback(py, &error),
            })),
        }
    }

    /// Whether the file at `path`, which is not run for this, says whose the workers are. Root has to know that
    /// before it is.
    pub(crate) fn names_user(py: Python<'_>, path: &Path) -> bool {
        let names = reader(py).and_then(|reader| reader.call_method1("names_user", (path,))?.extract());
        names.unwrap_or(true)
    }

    /// The file that was read last, where it is one.
    pub(crate) fn path(&self, py: Python<'_>) -> Option<PathBuf> {
        self.last.as_ref()?.getattr(py, "path").ok()?.extract(py).ok()
    }

    fn read(
        &mut self,
        py: Python<'_>,
        place: &str,
        is_module: bool,
        started_in: Option<&Path>,
        guarded: bool,
    ) -> PyResult<Vec<FileValue>> {
        let reader = reader(py)?;
        let folder = started_in.map_or_else(std::env::current_dir, |folder| Ok(folder.to_owned()))?;
        let withheld = if guarded { import_path::withhold_exposed(py)? } else { Vec::new() };
        self.hidden = import_path::add(py, &folder, guarded)?.map(|reason| (folder, reason));
        let known = PyDict::new(py);
        for name in file_names() {
            let written = match name {
                name if is_octal(name) => "octal",
                name if is_list(name) => "list",
                name if is_text(name) => "text",
                name if is_repeatable(name) => "texts",
                _ => "",
            };
            known.set_item(name, written)?;
        }
        let conf = reader.call_method1("read", (place, is_module, known))?;
        let values: Vec<Value> = conf.getattr("values")?.extract()?;
        let said: HashSet<&str> = values.iter().map(|(name, ..)| name.as_str()).collect();
        let others: Vec<(String, Option<u32>, bool)> = conf.getattr("others")?.extract()?;
        let misspelt = others.iter().filter_map(|(name, line, is_function)| {
            let likely = likely_file_name(name).filter(|likely| !said.contains(likely))?;
            if *is_function && !is_hook(likely) {
                return None;
            }
            let at = line.map(|line| format!("{place}:{line}")).unwrap_or_else(|| place.to_owned());
            Some(format!("{at}: {name} is not a setting and counts for nothing; did you mean {likely}?"))
        });
        let told: Vec<(Option<u32>, String)> = conf.getattr("warnings")?.extract()?;
        let told = told.into_iter().map(|(line, told)| match line {
            Some(line) => format!("{place}:{line}: {told}"),
            None => format!("{place}: {told}"),
        });
        self.warnings = withheld.into_iter().chain(misspelt).chain(told).collect();
        self.last = Some(conf.unbind());
        Ok(values.into_iter().map(|(name, texts, line)| FileValue { name, texts, line }).collect())
    }
}

/// What reads such files: imported before the file's folder can have modules of the same names.
fn reader(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    const READER: &str = "portico._gunicorn.conf_file";
    import_path::import_guarded(py, &[READER])?;
    py.import(READER)
}

/// What the file says that cannot be used, and where; `None` if `error` is one that the file has raised.
fn unusable(py: Python<'_>, error: &PyErr) -> Option<(String, Option<u32>)> {
    let class =
        py.import("portico._gunicorn.conf_file").and_then(|module| module.getattr("Unusable")).ok()?;
    let value = error.value(py);
    value.is_instance(&class).ok()?.then(|| {
        let line = value.getattr("line").and_then(|line| line.extract()).unwrap_or_default();
        let message = value.str().map(|text| text.to_string_lossy().into_owned()).unwrap_or_default();
        // What it comes from, where that has a place of its own.
        let cause = error.cause(py).map(|cause| format!("\n{}", traceback(py, &cause)));
        (message + &cause.unwrap_or_default(), line)
    })
}
