//! The heap of the C library, which keeps what has been freed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A thread is at it.
static TRIMMING: AtomicBool = AtomicBool::new(false);

/// Has a thread of its own [`trim`] the heap, unless one does: it takes a millisecond for some ten megabytes.
pub(crate) fn trim_apart() {
    if TRIMMING.swap(true, Ordering::Relaxed) {
        return;
    }
    let trimming = thread::Builder::new().name("portico-heap".to_owned()).spawn(|| {
        trim();
        TRIMMING.store(false, Ordering::Relaxed);
    });
    // Without a thread for it memory is kept for later.
    if trimming.is_err() {
        TRIMMING.store(false, Ordering::Relaxed);
    }
}

/// Gives pages of the heap that nobody uses back to the system.
///
/// glibc has a heap for each of several threads, and gives back by itself only what lies at the end of one.
/// Threads drive in turn, so that each heap would come to keep as much as has once been held for all clients.
#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: it takes the heap's own locks, and touches no memory that is in use.
    unsafe { libc::malloc_trim(0) };
}

/// The heap of other C libraries does so by itself.
#[cfg(not(target_env = "gnu"))]
fn trim() {}
