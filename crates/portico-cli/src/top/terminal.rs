//! The terminal of `portico top`: raw while the screen is shown, and as it was afterwards, whatever ends it.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::low_level::{pipe, unregister};

use super::paint::{ENTER, LEAVE};

/// The terminal, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Terminal {
    before: Termios,
    /// Readable after one of the signals that end the screen.
    ends: UnixStream,
    /// The same where the size has changed.
    resizes: UnixStream,
    handlers: Vec<SigId>,
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    /// These bytes were typed.
    Input(Vec<u8>),
    /// It has another size.
    Resized,
    /// Whoever has it wants the screen to end: a signal, or the terminal has gone.
    End,
    /// Time has passed.
    Nothing,
}

/// The size of a terminal that does not tell its own.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// Bytes that are read at once.
const INPUT_BYTES: usize = 256;

impl Terminal {
    /// Whether both standard streams are one.
    pub(crate) fn is_there() -> bool {
        isatty(stdin()) && isatty(stdout())
    }

    /// Takes it.
    ///
    /// # Errors
    /// It has none of a terminal's settings; the process has no descriptor left.
    pub(crate) fn open() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let ((ends, ended), (resizes, resized)) = (UnixStream::pair()?, UnixStream::pair()?);
        for stream in [&ends, &resizes] {
            stream.set_nonblocking(true)?;
        }
        let mut terminal = Self { before, ends, resizes, handlers: Vec::new() };
        for signal in [SIGTERM, SIGHUP, SIGINT] {
            terminal.handlers.push(pipe::register(signal, ended.try_clone()?)?);
        }
        terminal.handlers.push(pipe::register(SIGWINCH, resized)?);
        let mut raw = terminal.before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Flush, &raw)?;
        terminal.show(ENTER)?;
        Ok(terminal)
    }

    /// Columns and rows.
    pub(crate) fn size() -> (usize, usize) {
        match tcgetwinsize(stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => USUAL_SIZE,
        }
    }

    /// Writes all of `text`.
    ///
    /// # Errors
    /// The terminal has gone.
    pub(crate) fn show(&self, text: &str) -> io::Result<()> {
        write_all(text)
    }

    /// Waits for the first thing that happens, for `time` at most.
    pub(crate) fn wait(&self, time: Duration) -> Happening {
        let input = stdin();
        let mut polled = [
            PollFd::new(&input, PollFlags::IN),
            PollFd::new(&self.ends, PollFlags::IN),
            PollFd::new(&self.resizes, PollFlags::IN),
        ];
        let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
        match poll(&mut polled, Some(&time)) {
            Ok(1..) => {}
            _ => return Happening::Nothing, // Also for a signal: the next look has it.
        }
        let [typed, ended, resized] = polled.map(|each| !each.revents().is_empty());
        if ended {
            return Happening::End;
        }
        if resized {
            let mut bytes = [0; 16];
            while matches!(read(&self.resizes, &mut bytes), Ok(1..)) {}
            return Happening::Resized;
        }
        let mut bytes = [0; INPUT_BYTES];
        match read(input, &mut bytes) {
            _ if !typed => Happening::Nothing,
            Ok(0) | Err(Errno::IO) => Happening::End,
            Ok(count) => Happening::Input(bytes[..count].to_vec()),
            Err(_) => Happening::Nothing,
        }
    }

    /// Whether a signal has asked for its end.
    pub(crate) fn is_ended(&self) -> bool {
        let mut polled = [PollFd::new(&self.ends, PollFlags::IN)];
        matches!(poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have gone: there is nothing to give back then.
        let _ = write_all(LEAVE);
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &self.before);
        for handler in self.handlers.drain(..) {
            unregister(handler);
        }
    }
}

fn write_all(text: &str) -> io::Result<()> {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match write(stdout(), rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let output = stdout();
                poll(&mut [PollFd::new(&output, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
