//! What a process that the application forks, as `multiprocessing` does, must not keep: the listening sockets. It
//! would hold the port long after the server has stopped.
//!
//! Programs that it starts are no concern: all descriptors are close-on-exec.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use portico_net::Listener;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::fs::fstat;

use crate::{fork, forked_children, raw};

/// A socket by its number and, since that may be another file's by now, its identity.
struct WithheldSocket {
    descriptor: RawFd,
    inode: u64,
}

/// The listening sockets of this process.
static WITHHELD: Mutex<Vec<WithheldSocket>> = Mutex::new(Vec::new());

/// Has every process that the application forks from now on let go of `listeners`.
///
/// # Errors
/// Python's `os` refuses the hook; the kernel does not know a socket.
pub(crate) fn withhold<'l>(
    py: Python<'_>,
    listeners: impl IntoIterator<Item = &'l Listener>,
) -> PyResult<()> {
    let withheld = |listener: &Listener| -> PyResult<WithheldSocket> {
        let descriptor = listener.as_fd();
        let inode = fstat(descriptor).map_err(std::io::Error::from)?.st_ino;
        Ok(WithheldSocket { descriptor: descriptor.as_raw_fd(), inode })
    };
    let withheld = listeners.into_iter().map(withheld).collect::<PyResult<Vec<_>>>()?;
    forked_children::unmark();
    if let Ok(mut known) = WITHHELD.lock() {
        *known = withheld;
    }
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if REGISTERED.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    let keywords = PyDict::new(py);
    keywords.set_item("after_in_child", wrap_pyfunction!(let_go, py)?)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&keywords)).map(drop)
}

/// What runs in a process that was forked.
#[pyfunction]
fn let_go() {
    if fork::is_own() {
        return; // By a template: a worker.
    }
    forked_children::mark();
    // Another thread may have held the lock at the moment of the fork: nobody would ever release it here.
    let Ok(withheld) = WITHHELD.try_lock() else { return };
    for WithheldSocket { descriptor, inode } in withheld.iter() {
        if let Err(error) = raw::replace_by_null(*descriptor, *inode) {
            log::debug!("A forked process keeps listening socket {descriptor}: {error}");
        }
    }
}
