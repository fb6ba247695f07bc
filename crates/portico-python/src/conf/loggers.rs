//! Python's loggers: those that applications expect, and those that log in the server's place.

use std::fs::File;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyo3::prelude::*;

use portico_config::{Config, LogLevel, LogTarget};
use portico_files::open_written;
use portico_worker::logging::{self, Diverted};
use portico_worker::{WorkerSetup, logs};

use super::hooks::Hooks;
use crate::hub;

/// How long the end of a process waits for a logger of Python.
const PATIENCE: Duration = Duration::from_secs(2);

/// Gives the loggers `gunicorn.error` and the like the server's own log to write to; `errors` is a stream into it.
///
/// # Errors
/// Python's own.
pub(crate) fn install_loggers(py: Python<'_>, config: &Config, errors: Py<PyAny>) -> PyResult<()> {
    let level = match config.log_level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warning => "warning",
        LogLevel::Error => "error",
        LogLevel::Critical => "critical",
    };
    let access = config.access_log.as_ref().map(|target| match target {
        LogTarget::Stdout => "-".to_owned(),
        LogTarget::Stderr => "/dev/stderr".to_owned(),
        LogTarget::File(path) => path.display().to_string(),
    });
    py.import("portico._logs")?.call_method1("install", (level, errors, access)).map(drop)
}

/// Has the files of Python's handlers opened as the server's own logs are: in a process of root's, where the
/// workers' user can write, nothing that it has put there is followed or waited for.
///
/// # Errors
/// Python's own.
pub(crate) fn guard_files(py: Python<'_>) -> PyResult<()> {
    let opener = wrap_pyfunction!(open_file, py)?;
    py.import("portico._logs")?.call_method1("guard_files", (opener,)).map(drop)
}

/// Opens a file for a handler; `flags` are those of open(2).
#[pyfunction]
fn open_file(path: PathBuf, flags: i32) -> PyResult<RawFd> {
    Ok(open_written(&path, flags, logging::owner())?.into_raw_fd())
}

/// Has Python's logger of accesses write there too.
///
/// # Errors
/// Python's own.
pub(crate) fn share_access_log(py: Python<'_>, setup: &WorkerSetup) -> PyResult<()> {
    let path = setup.config.access_log.as_ref().and_then(logs::path_of);
    note_opened(py, path.as_deref().zip(setup.access_log.as_deref()))
}

/// The server has this file open for its access log, or none: Python's logger writes there.
///
/// # Errors
/// Python's own.
fn note_opened(py: Python<'_>, opened: Option<(&Path, &File)>) -> PyResult<()> {
    let (path, descriptor) = opened.map_or((None, -1), |(path, file)| (Some(path), file.as_raw_fd()));
    py.import("portico._logs")?.call_method1("note_opened", (path, descriptor)).map(drop)
}

/// Has what the server logs go through the `log` of `hooks`, on the thread that logs it: this process has one.
/// Where that is not configured, it goes to the log itself.
pub(crate) fn log_here(py: Python<'_>, hooks: &Hooks) {
    if !hooks.are_loggers_in_force(py) {
        return leave_loggers(py);
    }
    let server = hooks.server().clone_ref(py);
    logging::divert(move |record| relay(&server, record));
}

/// As before, but on a thread of its own: none of the server's waits for Python.
///
/// # Errors
/// The system has no thread left.
pub(crate) fn log_from_thread() -> std::io::Result<()> {
    logging::divert_to_thread()
}

/// Ends that: what waits is logged, and what comes from now on goes where it would without Python.
pub(crate) fn leave_loggers(py: Python<'_>) {
    py.detach(|| logging::end_diversion(PATIENCE));
}

/// Has the files of Python's handlers opened again, on a thread of its own: a handler may be held by a thread that
/// writes to something that takes nothing. `worker` is what hooks get, where there are some.
pub(crate) fn reopen_loggers(py: Python<'_>, worker: Option<&Py<PyAny>>) {
    let log = worker.map(|worker| worker.getattr(py, "log")).transpose();
    let begun = log.and_then(|log| py.import("portico._logs")?.call_method1("reopen_aside", (log,)));
    if let Err(error) = begun {
        log::error!("the files of Python's loggers cannot be opened again: {error}");
    }
}

/// The same on this thread, where nobody else logs.
pub(crate) fn reopen_handlers(py: Python<'_>) {
    if let Err(error) = py.import("portico._logs").and_then(|logs| logs.call_method0("reopen_files")) {
        log::error!("the files of Python's loggers cannot be opened again: {error}");
    }
}

/// Logs a record through Python.
fn relay(server: &Py<PyAny>, record: &Diverted) -> bool {
    hub::attach(|py| {
        let level = match record.level {
            log::Level::Error => "error",
            log::Level::Warn => "warning",
            log::Level::Info => "info",
            log::Level::Debug | log::Level::Trace => "debug",
        };
        let relayed = server.bind(py).getattr("log").and_then(|log| {
            let arguments = (log, level, record.message.as_str(), record.seconds);
            py.import("portico._logs")?.call_method1("relay", arguments)
        });
        relayed.is_ok()
    })
}
