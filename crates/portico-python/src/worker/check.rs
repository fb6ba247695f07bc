//! Whether it could be served, without serving: `portico check` and `--check-config`.

use pyo3::prelude::*;

use portico_config::Resolved;
use portico_server::Listener;

use super::{Setting, Source, StartError, enter_folder, fill_environment, find};

/// What `portico check` has found, a line each.
#[derive(Debug, Default)]
pub struct Found {
    /// What keeps it from being served.
    pub wrong: Vec<String>,
    /// What else its operator should know.
    pub right: Vec<String>,
}

/// Goes through what a start goes through, as far as that disturbs nobody: the folder, the addresses, the import
/// of the application. No log is opened.
///
/// # Errors
/// What a handler of a signal raises.
pub fn check(py: Python<'_>, resolved: &Resolved) -> PyResult<Found> {
    let config = &resolved.config;
    let mut found = Found::default();
    found.right.extend(resolved.warnings.iter().map(|warning| format!("warning: {warning}")));
    let folder = match enter_folder(py, config) {
        Ok(folder) => folder,
        Err(StartError::Raised(error)) => return Err(error),
        Err(error) => {
            found.wrong.push(error.told());
            return Ok(found);
        }
    };
    fill_environment(py, config)?;
    found.wrong.extend(Listener::probe(config).iter().map(ToString::to_string));
    match find(py, Source::Target, config, &folder) {
        Ok(loaded) => found.right.push(format!("The application is {}", loaded.target)),
        Err(error) if error.interrupted => {
            py.check_signals()?;
            found.wrong.push("interrupted while the application was imported".to_owned());
        }
        Err(error) => found.wrong.push(error.message),
    }
    if found.wrong.is_empty() {
        found.right.push("The configuration is good".to_owned());
    }
    Ok(found)
}

/// Imports the application, and does no more.
///
/// # Errors
/// It cannot be imported.
pub(super) fn import(py: Python<'_>, source: Source, setting: &Setting) -> Result<(), StartError> {
    let loaded = find(py, source, &setting.config, &setting.folder)?;
    log::info!("The configuration is good; the application is {}", loaded.target);
    Ok(())
}
