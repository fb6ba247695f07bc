//! The reasons for which a process does not serve, with the exit status of each.

use std::io;

use portico_worker::{SystemError, WarmUpError};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

use super::app::{BOOT_FAILED, LoadError};

/// The reason for which a worker does not serve.
#[derive(Debug)]
pub(crate) enum StartError {
    /// An address that cannot be listened on.
    Listen(String),
    /// There is no application.
    Load(LoadError),
    /// A hook raised in a worker.
    Hook(String),
    /// Python code that is not the application raised.
    Raised(PyErr),
    /// The system refuses something: a log file, a folder, a descriptor.
    System(String),
    /// What is to be forked does not survive it.
    Unforkable(String),
    /// A request of `--warmup` was not answered well.
    WarmUp(String),
}

impl StartError {
    /// For the operator: one line, and the traceback if there is one.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Hook(message)
            | Self::Listen(message)
            | Self::System(message)
            | Self::Unforkable(message)
            | Self::WarmUp(message) => message.clone(),
            Self::Load(LoadError { message, traceback: Some(traceback), .. }) => {
                format!("{message}\n{traceback}")
            }
            Self::Load(LoadError { message, .. }) => message.clone(),
            Self::Raised(error) => error.to_string(),
        }
    }

    /// Whether a signal ended the import of the application, or what comes before and after it.
    pub(crate) fn is_interruption(&self, py: Python<'_>) -> bool {
        match self {
            Self::Load(error) => error.interrupted,
            Self::Raised(error) => error.is_instance_of::<PyKeyboardInterrupt>(py),
            _ => false,
        }
    }

    /// The process' exit status, gunicorn's where it has one: 3 and 4 for the application (see `LoadError`; 3 if
    /// it does not warm up or cannot be forked), 1 for all else.
    pub(crate) fn exit_status(&self) -> i32 {
        match self {
            Self::Load(error) => error.exit_status,
            Self::Hook(_) | Self::Unforkable(_) | Self::WarmUp(_) => BOOT_FAILED,
            Self::Listen(_) | Self::Raised(_) | Self::System(_) => 1,
        }
    }
}

impl From<PyErr> for StartError {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<SystemError> for StartError {
    fn from(error: SystemError) -> Self {
        Self::System(error.to_string())
    }
}

impl From<WarmUpError> for StartError {
    fn from(error: WarmUpError) -> Self {
        Self::WarmUp(error.to_string())
    }
}

impl From<LoadError> for StartError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

pub(crate) fn system(doing: &str, error: &io::Error) -> StartError {
    SystemError::new(doing, error).into()
}
