//! The configuration in Python: gunicorn.conf.py, its hooks, and Python's loggers in the place of the server's.
//!
//! The Python side of it is `portico._gunicorn` and `portico._logs`; here are the calls into it.

mod accesses;
mod file;
mod hooks;
mod loggers;
mod observer;

pub(crate) use accesses::access_observer;
pub(crate) use file::ConfFiles;
pub(crate) use hooks::{Hooks, Link};
pub(crate) use loggers::{
    guard_files, install_loggers, leave_loggers, log_from_thread, log_here, reopen_handlers, reopen_loggers,
    share_access_log,
};
pub(crate) use observer::{Observer, Outcome};
