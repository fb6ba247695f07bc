//! The way from a daemon to the process that was started, which waits until it is known whether the daemon serves:
//! what went wrong, as text, and at the end a zero byte and the exit status.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The daemon's end of the pipe to the process that was started. It carries text, then the exit status; a reader
/// that has gone is no error.
#[derive(Debug)]
pub struct StartPipe {
    pipe: File,
    /// Whether standard error goes nowhere.
    mute: bool,
}

/// That of this process, while the other one waits.
static KEPT: Mutex<Option<StartPipe>> = Mutex::new(None);

impl StartPipe {
    /// Over `pipe`, in a process whose standard error goes nowhere if it is `mute`.
    pub fn new(pipe: File, mute: bool) -> Self {
        Self { pipe, mute }
    }

    /// Has [`tell_start`] and [`settle_start`] write there.
    pub fn keep(self) {
        *kept() = Some(self);
    }

    /// What has been written so far, read as text and exit status; `None` before its end.
    pub fn read(written: &[u8]) -> Option<(&[u8], i32)> {
        let end = written.iter().position(|byte| *byte == 0)?;
        Some((&written[..end], i32::from(*written.get(end + 1)?)))
    }

    fn tell(&mut self, text: &str, on_stderr_too: bool) -> bool {
        // Nobody reads it any more: nothing is lost with it that matters.
        (self.mute || !on_stderr_too) && self.pipe.write_all(text.as_bytes()).is_ok()
    }

    fn settle(mut self, status: i32) {
        // It has ended already, if this fails.
        let _ = self.pipe.write_all(&[0, u8::try_from(status).unwrap_or(u8::MAX)]);
    }
}

/// Has the process that was started say this. `false` if none waits, or if it can be read on standard error
/// anyway.
pub fn tell_start(text: &str, on_stderr_too: bool) -> bool {
    kept().as_mut().is_some_and(|pipe| pipe.tell(text, on_stderr_too))
}

/// Has the process that was started end with this status; the second time nothing is left to do.
pub fn settle_start(status: i32) {
    let settled = kept().take();
    settled.into_iter().for_each(|pipe| pipe.settle(status));
}

/// In a process that this one has forked: the pipe is the parent's.
pub fn forget_start() {
    kept().take();
}

fn kept() -> MutexGuard<'static, Option<StartPipe>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    fn pair(mute: bool) -> (File, StartPipe) {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        (reader.into(), StartPipe::new(writer.into(), mute))
    }

    #[test]
    fn text_and_status_are_read_as_written() {
        let (mut reader, mut pipe) = pair(true);
        assert!(pipe.tell("portico: error: no address\n", true));
        pipe.settle(3);
        let mut written = Vec::new();
        reader.read_to_end(&mut written).unwrap();
        assert_eq!(StartPipe::read(&written), Some((&b"portico: error: no address\n"[..], 3)));
        for cut in 0..written.len() {
            assert_eq!(StartPipe::read(&written[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn what_stderr_shows_is_not_said_twice() {
        let (_reader, mut pipe) = pair(false);
        assert!(!pipe.tell("x", true));
        assert!(pipe.tell("x", false));
    }

    #[test]
    fn a_status_beyond_a_byte_is_an_error() {
        let (mut reader, pipe) = pair(false);
        pipe.settle(-1);
        let mut written = Vec::new();
        reader.read_to_end(&mut written).unwrap();
        assert_eq!(StartPipe::read(&written), Some((&b""[..], 255)));
    }
}
