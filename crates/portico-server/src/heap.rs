//! The heap of the C library, which keeps what has been freed.

/// Gives pages of the heap that nobody uses back to the system.
///
/// glibc has a heap for each of several threads, and gives back by itself only what lies at the end of one.
/// Threads drive in turn, so that each heap would come to keep as much as has once been held for all clients.
#[cfg(target_env = "gnu")]
pub fn trim() {
    // SAFETY: it takes the heap's own locks, and touches no memory that is in use.
    unsafe { libc::malloc_trim(0) };
}

/// The heap of other C libraries does so by itself.
#[cfg(not(target_env = "gnu"))]
pub fn trim() {}
