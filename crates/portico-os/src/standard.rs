//! Descriptors 0 to 2: standard input, output and error, and nothing else.
//!
//! The kernel gives the lowest free number to what is opened. Where one of the three is closed, that would be a
//! client's socket or a file of the server, and whatever prints would print to it.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Result, dup2, fcntl_dupfd_cloexec, fcntl_getfd};
use rustix::stdio::{stderr, stdin, stdout};

/// The first number that is none of the three.
const FIRST: RawFd = 3;

/// Opens /dev/null for those of descriptors 0 to 2 that are closed. To be called before anything else is opened,
/// and whenever somebody may have closed one.
///
/// # Errors
/// /dev/null cannot be opened.
pub fn fill_standard() -> Result<()> {
    for standard in [stdin(), stdout(), stderr()] {
        if fcntl_getfd(standard).is_err() {
            let null = open_null()?;
            if null.as_raw_fd() < FIRST {
                let _ = null.into_raw_fd(); // Left open, for programs that are started as well.
            }
        }
    }
    Ok(())
}

/// The same file under a number above 2, close-on-exec. If `descriptor` has a number that belongs to a standard
/// stream, which somebody has closed, /dev/null takes its place there.
///
/// # Errors
/// The process has no descriptor left.
#[inline]
pub fn above_standard(descriptor: OwnedFd) -> Result<OwnedFd> {
    if descriptor.as_raw_fd() >= FIRST { Ok(descriptor) } else { move_up(descriptor) }
}

#[cold]
fn move_up(mut low: OwnedFd) -> Result<OwnedFd> {
    let high = fcntl_dupfd_cloexec(&low, FIRST)?;
    // In one step, so that no other thread is given the number in between. Where there is no /dev/null, the number
    // is free again, and the next descriptor that gets it is moved as well.
    if let Ok(null) = open_null()
        && dup2(&null, &mut low).is_ok()
    {
        let _ = low.into_raw_fd();
        drop(null); // May itself have had a number that is to be filled.
        fill_standard()?;
    }
    Ok(high)
}

fn open_null() -> Result<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())
}
