//! Every `unsafe` block of this crate: calls for which rustix and std have no safe form.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Puts another open file in the place of `file`, under its number: whoever writes there writes to that one.
///
/// # Errors
/// The kernel's; none is expected.
pub(crate) fn replace_file(file: &File, other: &OwnedFd) -> io::Result<()> {
    // SAFETY: both are open, and no memory is concerned; the number stays `file`'s.
    match unsafe { libc::dup3(other.as_raw_fd(), file.as_raw_fd(), libc::O_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Calendar time of the machine's time zone, for lines of logs. Nothing is timed by it: it may jump.
pub(crate) struct LocalTime {
    /// Year, month (1 to 12) and day of the month.
    pub(crate) date: (i32, i32, i32),
    /// Hour, minute and second.
    pub(crate) time: (i32, i32, i32),
    /// Seconds east of UTC.
    pub(crate) offset_seconds: i64,
}

/// Turns seconds since 1970-01-01T00:00:00Z into local time; `None` where the C library cannot.
pub(crate) fn local_time(unix_seconds: i64) -> Option<LocalTime> {
    let seconds: libc::time_t = unix_seconds;
    // SAFETY: `tm` is a plain C struct for which zeroes are valid; localtime_r writes it and keeps no
    // pointer. It may read TZ from the environment, which Rust code of this process never changes; Python's
    // os.environ does so under the same libc lock as any other C program's setenv.
    let tm = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&seconds, &mut tm).is_null() {
            return None;
        }
        tm
    };
    Some(LocalTime {
        date: (tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday),
        time: (tm.tm_hour, tm.tm_min, tm.tm_sec),
        offset_seconds: tm.tm_gmtoff,
    })
}
