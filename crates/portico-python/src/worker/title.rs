//! What the processes are called in ps and top.

use std::ffi::CStr;

use portico_config::{Config, conceal_arguments};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// The role of a process, for its name in ps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The supervisor: the word that gunicorn has, since scripts look for it.
    Master,
    /// Imports the application and forks the workers.
    Template,
    /// Serves.
    Worker,
}

/// What sets the whole title: `setproctitle.setproctitle`, or nothing where that package is not installed.
static SETTER: PyOnceLock<Option<Py<PyAny>>> = PyOnceLock::new();

/// Looks for the package that gunicorn needs for titles. To be called before the first title, while what is found
/// is no module of the application's: the supervisor may be root.
pub(crate) fn find_setter(py: Python<'_>) {
    setter(py);
}

fn setter(py: Python<'_>) -> Option<&Bound<'_, PyAny>> {
    let find = || Some(py.import("setproctitle").ok()?.getattr("setproctitle").ok()?.unbind());
    SETTER.get_or_init(py, find).as_ref().map(|setter| setter.bind(py))
}

/// Calls this process `portico: master [NAME]`, as gunicorn does and if the package that gunicorn needs for it is
/// there; by 15 bytes alone (prctl(2), PR_SET_NAME) otherwise. Returns whether it was there.
pub(crate) fn set(py: Python<'_>, role: Role, config: &Config) -> bool {
    let (word, short): (_, &CStr) = match role {
        Role::Master => ("master", c"portico: master"),
        Role::Template => ("template", c"portico: templ."),
        Role::Worker => ("worker", c"portico: worker"),
    };
    let paste = config.paste.as_ref().map(|paste| paste.to_string_lossy());
    let name = config
        .system
        .proc_name
        .as_deref()
        .or(config.app.as_deref())
        .or(paste.as_deref())
        .unwrap_or("portico");
    let name = conceal_arguments(name);
    let set = setter(py).is_some_and(|setter| setter.call1((format!("portico: {word} [{name}]"),)).is_ok());
    if !set && let Err(error) = rustix::thread::set_name(short) {
        log::debug!("the process keeps its name: {error}");
    }
    set
}
