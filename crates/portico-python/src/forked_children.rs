//! Processes that the application has forked and that come back to this program's code, as `os.fork()` without
//! `os._exit()` does. There they would be the worker once more: at the same connections, at the same epoll
//! instance, and without its other threads. They end instead.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use signal_hook::low_level;

use crate::error::traceback;

/// Whether this process is one that the application has forked.
static STRAY: AtomicBool = AtomicBool::new(false);

/// This process was forked by the application.
pub(crate) fn mark() {
    STRAY.store(true, Ordering::Relaxed);
}

/// This process is a server of its own, whoever has forked it.
pub(crate) fn unmark() {
    STRAY.store(false, Ordering::Relaxed);
}

/// Whether this process is one that the application has forked.
pub(crate) fn is_marked() -> bool {
    STRAY.load(Ordering::Relaxed)
}

/// Ends the process if the application has forked it. It has come back from `place`, such as "a request", by
/// itself or with this error: the status of a `SystemExit` is the process'.
pub(crate) fn end(py: Python<'_>, error: Option<&PyErr>, place: &str) {
    if is_marked() {
        end_stray(py, error, place);
    }
}

#[cold]
fn end_stray(py: Python<'_>, error: Option<&PyErr>, place: &str) {
    let exit = error.filter(|error| error.is_instance_of::<PySystemExit>(py));
    let status = match (exit, error) {
        (Some(exit), _) => match exit.value(py).getattr("code") {
            Ok(code) if code.is_none() => 0,
            Ok(code) => code.extract().unwrap_or(1),
            Err(_) => 1,
        },
        (None, Some(error)) => {
            let traceback = traceback(py, error);
            log::error!("a process that the application forked in {place} has failed\n{traceback}");
            1
        }
        (None, None) => {
            log::error!(
                "a process that the application forked in {place} has come back from it as if it were the worker, \
                 and is ended; os._exit() would have ended it"
            );
            1
        }
    };
    for stream in ["stdout", "stderr"] {
        // There may be none, or a closed one: lost output is all that can come of an error here.
        let _ = py.import("sys").and_then(|sys| sys.getattr(stream)?.call_method0("flush"));
    }
    low_level::exit(status)
}
