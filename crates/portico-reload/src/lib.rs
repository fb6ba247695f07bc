//! Which files of an application have changed, for `--reload`: what counts as one of its files, and how a change
//! is noticed.
//!
//! Knows no Python and no process: which modules are imported is told to it, and what follows from a change is
//! the caller's affair.
#![forbid(unsafe_code)]
#![deny(unreachable_pub)]

mod bytecode;
mod inotify;
mod kind;
mod snapshot;
mod watch;

pub use kind::FileKind;
pub use watch::{FileChange, FileWatch, WatchEvent, WatchStop, configuration_files};
