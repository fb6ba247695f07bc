//! Which Python this process runs, and whether it has a global interpreter lock (GIL): what the log says at the
//! start and `portico status` later, and which module has turned the GIL on.
//!
//! A free-threaded build (PEP 703) starts without a GIL. It turns it on, for the rest of the process, when an
//! extension module is loaded that does not declare that it can run without (`Py_mod_gil`). That is noticed where
//! such modules are loaded, so that the module can be named; Python's own warning may be filtered, or go nowhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use portico_supervisor::{Gil, Interpreter};
use pyo3::prelude::*;

use crate::error::one_line;

/// This process' interpreter as a number; 0 before [`watch`].
static CURRENT: AtomicU64 = AtomicU64::new(0);

/// The module that has turned the GIL on, where that was seen.
static TURNED_ON_BY: Mutex<Option<String>> = Mutex::new(None);

/// Looks at the interpreter, and from now on at each extension module that is loaded while there is no GIL. To be
/// called at the start, before anything of the application's is imported.
///
/// # Errors
/// This is no CPython as it should be.
pub(crate) fn watch(py: Python<'_>) -> PyResult<()> {
    let interpreter = now(py)?;
    let former = CURRENT.swap(interpreter.to_number(), Ordering::Relaxed);
    if former == 0 && interpreter.gil() == Gil::Off {
        let watched = wrap_pyfunction!(turned_on, py)?;
        py.import("portico._free_threading")?.call_method1("watch", (watched,))?;
    }
    Ok(())
}

/// Looks at the interpreter again.
///
/// # Errors
/// As [`watch`].
pub(crate) fn look(py: Python<'_>) -> PyResult<Interpreter> {
    let interpreter = now(py)?;
    CURRENT.store(interpreter.to_number(), Ordering::Relaxed);
    Ok(interpreter)
}

/// This process' interpreter, as [`Interpreter::from_number`] reads it: for the scoreboard. Needs no interpreter.
pub(crate) fn number() -> u64 {
    CURRENT.load(Ordering::Relaxed)
}

/// Whether threads of this process run Python at the same time, as far as it is known. Needs no interpreter.
#[inline]
pub(crate) fn has_no_gil() -> bool {
    cfg!(Py_GIL_DISABLED) && Interpreter::from_number(number()).is_some_and(Interpreter::has_no_gil)
}

/// Refuses an interpreter that has a GIL.
///
/// # Errors
/// What the operator of `--require-free-threading` is told.
pub(crate) fn require_free_threading(py: Python<'_>) -> PyResult<Result<(), String>> {
    let interpreter = look(py)?;
    let reason = match interpreter.gil() {
        Gil::Off => return Ok(Ok(())),
        Gil::BuiltIn => {
            format!("{interpreter} has a GIL; start with a free-threaded Python, such as python3.14t")
        }
        Gil::On => match turned_on_by() {
            Some(module) => format!(
                "{interpreter}: the import of {module} has turned it on, since that does not declare that it can \
                 run without"
            ),
            None => {
                format!("{interpreter}: PYTHON_GIL, -X gil or an import before the start has turned it on")
            }
        },
    };
    Ok(Err(format!("--require-free-threading: {reason}")))
}

/// The module that has turned the GIL on, where that was seen: its name and its file.
fn turned_on_by() -> Option<String> {
    TURNED_ON_BY.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Is called after an extension module was loaded that has turned the GIL on.
#[pyfunction]
fn turned_on(py: Python<'_>, name: &str, file: Option<&str>) {
    let module = match file {
        Some(file) => format!("{name} ({file})"),
        None => name.to_owned(),
    };
    log::warn!(
        "the import of {module} has turned the GIL on: it does not declare that it can run without. From now on \
         the threads of this process run Python code one at a time"
    );
    *TURNED_ON_BY.lock().unwrap_or_else(PoisonError::into_inner) = Some(module);
    if let Err(error) = look(py) {
        log::debug!("the interpreter cannot be looked at: {}", one_line(py, &error));
    }
}

fn now(py: Python<'_>) -> PyResult<Interpreter> {
    let sys = py.import("sys")?;
    let version = sys.getattr("hexversion")?.extract()?;
    let is_on = || -> PyResult<bool> { sys.call_method0("_is_gil_enabled")?.is_truthy() };
    let gil = match () {
        () if !cfg!(Py_GIL_DISABLED) => Gil::BuiltIn,
        () if is_on()? => Gil::On,
        () => Gil::Off,
    };
    Ok(Interpreter::new(version, gil))
}
