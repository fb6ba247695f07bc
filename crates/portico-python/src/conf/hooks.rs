//! The calls of hooks: when something happens, `portico._gunicorn.server` is told of it.

use std::os::fd::{AsFd, AsRawFd};

use portico_net::Listener;
use pyo3::call::PyCallArgs;
use pyo3::prelude::*;

use portico_config::{Resolved, SettingSource};

use super::file::ConfFiles;
use crate::error::{one_line, traceback};

/// The `Server` of `portico._gunicorn.server`: what hooks are called with.
pub(crate) struct Hooks {
    server: Py<PyAny>,
}

/// The functions by which Python code of a worker process reaches the worker: it is replaced by one, its requests
/// are counted by the other.
#[pyclass(frozen, module = "portico._portico")]
pub(crate) struct Link {
    replace: Box<dyn Fn(String) + Send + Sync>,
    requests: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Link {
    /// Has the worker replaced by `replace`, and its requests counted by `requests`.
    pub(crate) fn new(
        replace: impl Fn(String) + Send + Sync + 'static,
        requests: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self { replace: Box::new(replace), requests: Box::new(requests) }
    }
}

#[pymethods]
impl Link {
    /// Has the worker replaced: it leaves when its successor is ready.
    fn replace(&self, reason: String) {
        (self.replace)(reason);
    }

    /// How many requests it has begun.
    fn requests(&self) -> u64 {
        (self.requests)()
    }
}

impl Hooks {
    /// Whether something in Python is configured.
    pub(crate) fn are_configured(files: &ConfFiles, resolved: &Resolved) -> bool {
        files.last.is_some() || resolved.config.python_logging.is_in_force() || resolved.has_hook()
    }

    /// `None` where nothing in Python is configured. `errors` is a stream into the error log.
    ///
    /// # Errors
    /// The configuration of logging cannot be used: which setting that is, and why, with a traceback.
    pub(crate) fn new(
        py: Python<'_>,
        files: &ConfFiles,
        resolved: &Resolved,
        errors: Py<PyAny>,
    ) -> Result<Option<Self>, String> {
        if !Self::are_configured(files, resolved) {
            return Ok(None);
        }
        let server = py.import("portico._gunicorn.server").and_then(|module| {
            module.getattr("Server")?.call1((files.last.as_ref(), effective(resolved), errors))
        });
        let server = server.map_err(|error| {
            let said = resolved.logging_settings().join(", ");
            let said = if said.is_empty() { said } else { format!("{said}: ") };
            format!("{said}{}\n{}", one_line(py, &error), traceback(py, &error))
        })?;
        Ok(Some(Self { server: server.unbind() }))
    }

    /// The object itself.
    pub(crate) fn server(&self) -> &Py<PyAny> {
        &self.server
    }

    /// Whether what the server logs goes through Python.
    pub(crate) fn are_loggers_in_force(&self, py: Python<'_>) -> bool {
        let in_force = self.server.bind(py).getattr("logs_through_python");
        in_force.and_then(|in_force| in_force.is_truthy()).unwrap_or_default()
    }

    /// Tells it of something.
    ///
    /// # Errors
    /// What the hook raises.
    pub(crate) fn call<'py>(
        &self,
        py: Python<'py>,
        what: &str,
        arguments: impl PyCallArgs<'py>,
    ) -> PyResult<()> {
        self.server.bind(py).call_method1(what, arguments).map(drop)
    }

    /// Tells it of something; what the hook raises is logged.
    pub(crate) fn tell<'py>(&self, py: Python<'py>, what: &str, arguments: impl PyCallArgs<'py>) {
        if let Err(error) = self.call(py, what, arguments) {
            let hook = self.server.getattr(py, "called").and_then(|hook| hook.extract::<String>(py));
            let hook = hook.unwrap_or_else(|_| what.to_owned());
            log::error!("the hook {hook} raised\n{}", traceback(py, &error));
        }
    }

    /// The sockets listen: calls `when_ready`.
    ///
    /// # Errors
    /// What the hook raises.
    pub(crate) fn listening(&self, py: Python<'_>, listeners: &[Listener]) -> PyResult<()> {
        let sockets = listeners.iter().map(|it| (it.url().to_owned(), it.as_fd().as_raw_fd()));
        self.call(py, "listening", (sockets.collect::<Vec<_>>(),))
    }

    /// Goes by another configuration, with another number of workers perhaps; what hooks raise is logged.
    pub(crate) fn reload(
        &self,
        py: Python<'_>,
        files: &ConfFiles,
        resolved: &Resolved,
        workers: Option<u32>,
    ) {
        self.tell(py, "reloaded", (files.last.as_ref(), effective(resolved), workers));
    }

    /// This process is a worker: calls `post_fork`. Returns its `Worker`.
    ///
    /// # Errors
    /// What the hook raises.
    pub(crate) fn enter_worker(&self, py: Python<'_>, slot: u32, link: Link) -> PyResult<Py<PyAny>> {
        Ok(self.server.bind(py).call_method1("enter_worker", (slot, Py::new(py, link)?))?.unbind())
    }
}

/// What counts of each setting, for the `cfg` of the hooks.
fn effective(resolved: &Resolved) -> Vec<(&'static str, &[String], bool)> {
    let is_files = |source: &SettingSource| matches!(source, SettingSource::File { .. });
    let all = resolved.effective.iter();
    all.map(|it| (it.file_name(), it.texts.as_slice(), is_files(&it.source))).collect()
}
