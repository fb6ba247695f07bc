//! Whether it could be served, without serving: `portico check` and `--check-config`.

use std::path::Path;

use portico_net::{CertificateReloader, Listener};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::fs::{Access, access};

use portico_config::{Config, LogTarget, Resolved};
use portico_files::Owner;
use portico_os::Folder;
use portico_worker::{WorkerSetup, no_upload_folder};

use super::environment;
use super::identity::Identity;
use super::source::{Source, find};
use super::start::{add_supervisors_folders, enter_folder, put_on_path};
use super::start_error::StartError;
use super::static_folders;
use crate::error::{one_line, text_of};
use crate::import_path;

/// The findings of `portico check`, a line each.
#[derive(Debug, Default)]
pub(crate) struct CheckResult {
    /// What keeps it from being served.
    pub(crate) wrong: Vec<String>,
    /// What else its operator should know.
    pub(crate) right: Vec<String>,
}

/// Goes through what a start goes through, as far as that disturbs nobody: the folder, the addresses, files and
/// users that are named, the import of the application. No log is opened.
///
/// # Errors
/// What a handler of a signal raises.
pub(crate) fn check(py: Python<'_>, resolved: &Resolved, start: Option<&Folder>) -> PyResult<CheckResult> {
    let config = &resolved.config;
    let mut found = CheckResult::default();
    found.right.extend(resolved.warnings.iter().map(|warning| format!("warning: {warning}")));
    let folder = match enter_folder(config, start) {
        Ok(folder) => folder,
        Err(StartError::Raised(error)) => return Err(error),
        Err(error) => {
            found.wrong.push(error.told());
            return Ok(found);
        }
    };
    environment::fill(py, config)?;
    let identity = match Identity::find(py, config) {
        Err(StartError::Raised(error)) => return Err(error),
        Err(error) => {
            found.wrong.push(error.told());
            None
        }
        Ok(identity) => identity,
    };
    let workers = identity.as_ref().map(Identity::owner);
    if workers.is_some_and(|workers| workers.is_lesser()) {
        let withheld = import_path::withhold_exposed(py)?;
        found.right.extend(withheld.iter().map(|told| format!("warning: {told}")));
    }
    found.wrong.extend(CertificateReloader::check(config, workers).err());
    found.wrong.extend(Listener::probe(config).iter().map(ToString::to_string));
    found.wrong.extend(files(config));
    match portico_cli::router(config) {
        Ok(router) => found.right.extend(portico_cli::route_warnings(&router, config)),
        Err(error) => found.wrong.push(error),
    }
    found.wrong.extend(wrong_logger_class(py, config, folder.path(), workers)?);
    // As in a worker: it is not root that imports the application.
    if let Some(Err(error)) = identity.map(|identity| identity.take(py)) {
        found.wrong.push(format!("a worker cannot become its user: {}", one_line(py, &error)));
        return Ok(found);
    }
    import_path::restore(py)?;
    put_on_path(py, config, folder.path())?;
    match find(py, Source::Target, config, folder.path()) {
        Ok(loaded) => {
            found.right.push(format!("The application is {}", loaded.target));
            // What is wrong with the routes themselves has been said above.
            if let Ok(routes) = static_folders::router(py, config, folder.path(), false, &loaded) {
                found.right.extend(routes.told(py));
            }
        }
        Err(error) if error.interrupted => {
            py.check_signals()?;
            found.wrong.push("interrupted while the application was imported".to_owned());
        }
        // That a folder shows the application's files can be seen before its import, too.
        Err(error) if found.wrong.contains(&error.message) => {}
        Err(error) => found.wrong.push(error.message),
    }
    if found.wrong.is_empty() {
        found.right.push("The configuration is good".to_owned());
    }
    Ok(found)
}

/// What is wrong with `logger_class`, where one is named.
fn wrong_logger_class(
    py: Python<'_>,
    config: &Config,
    folder: &Path,
    workers: Option<Owner>,
) -> PyResult<Option<String>> {
    let Some(class) = &config.python_logging.class else { return Ok(None) };
    add_supervisors_folders(py, config, folder, workers)?;
    let settings = PyDict::new(py);
    settings.set_item("logger_class", class)?;
    let settings = py.import("types")?.getattr("SimpleNamespace")?.call((), Some(&settings))?;
    let found = py.import("portico._logs")?.call_method1("logger_class", (settings,));
    Ok(found.err().map(|error| text_of(py, &error, "logger_class cannot be imported")))
}

/// What is wrong with the files and folders that the settings name. None is made.
fn files(config: &Config) -> Vec<String> {
    let logging = &config.python_logging;
    let logs =
        [("--error-logfile", Some(&config.error_log)), ("--access-logfile", config.access_log.as_ref())];
    let logs = logs.into_iter().filter_map(|(option, log)| match log {
        Some(LogTarget::File(path)) => Some((option, path)),
        _ => None,
    });
    let written = logs.chain(config.system.pidfile.iter().map(|path| ("--pid", path)));
    let written = written.filter_map(|(option, path)| {
        // A log may be a pipe, which would wait for its reader.
        let there =
            if path.exists() { access(path, Access::WRITE_OK) } else { access(folder_of(path), FOLDER) };
        there.err().map(|error| format!("{option}: {} cannot be written: {error}", path.display()))
    });
    let read = [("--log-config", &logging.file), ("--log-config-json", &logging.json)];
    let read = read.into_iter().filter_map(|(option, path)| {
        let path = path.as_ref()?;
        let error = access(path, Access::READ_OK).err()?;
        Some(format!("{option}: {} cannot be read: {error}", path.display()))
    });
    let uploads = config.tmp_upload_dir.iter().filter(|path| !path.is_dir());
    let uploads = uploads.map(|path| no_upload_folder(path));
    written.chain(read).chain(uploads).collect()
}

/// What a folder has to allow whoever makes a file in it.
const FOLDER: Access = Access::WRITE_OK.union(Access::EXEC_OK);

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

/// Imports the application, and does no more.
///
/// # Errors
/// It cannot be imported.
pub(super) fn import(py: Python<'_>, source: Source, setup: &WorkerSetup) -> Result<(), StartError> {
    let loaded = find(py, source, &setup.config, setup.folder.path())?;
    log::info!("The configuration is good; the application is {}", loaded.target);
    Ok(())
}
