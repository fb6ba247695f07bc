//! What the processes are called in ps and top.

use std::ffi::CStr;

use portico_config::{Config, conceal_arguments};
use pyo3::prelude::*;

/// What a process of the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The supervisor: the word that gunicorn has, since scripts look for it.
    Master,
    /// Imports the application and forks the workers.
    Template,
    /// Serves.
    Worker,
}

/// Calls this process `portico: master [NAME]`, as gunicorn does and if the package that gunicorn needs for it is
/// there; by 15 bytes alone (prctl(2), PR_SET_NAME) otherwise. Returns whether it was there.
pub fn set(py: Python<'_>, role: Role, config: &Config) -> bool {
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
    let set = py.import("setproctitle");
    let set = set.and_then(|module| {
        module.call_method1("setproctitle", (format!("portico: {word} [{name}]"),)).map(drop)
    });
    if set.is_err()
        && let Err(error) = rustix::thread::set_name(short)
    {
        log::debug!("the process keeps its name: {error}");
    }
    set.is_ok()
}
