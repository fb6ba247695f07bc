//! The supervisor's signals, as something that it waits for: a handler does nothing but write the signal's number
//! into a pipe, in the order in which the kernel delivers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, getpid};
use signal_hook::SigId;
use signal_hook::consts as number;
use signal_hook::low_level::{register, unregister};

/// The supervisor's signals, caught from [`SignalQueue::install`] until [`SignalQueue::release`].
#[derive(Debug)]
pub(crate) struct SignalQueue {
    /// Readable while a signal waits.
    numbers: OwnedFd,
    handlers: Vec<SigId>,
}

/// A signal that means something to the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Stop when the work is done.
    Term,
    /// Stop when the work is done: Ctrl-C.
    Int,
    /// Stop at once.
    Quit,
    /// Reload.
    Hup,
    /// One worker more.
    Ttin,
    /// One worker less.
    Ttou,
    /// Open the log files again.
    Usr1,
    /// Upgrade: start a new supervisor.
    Usr2,
    /// End the workers, keep the supervisor.
    Winch,
    /// A process has ended.
    Chld,
}

const SIGNALS: [(i32, Signal, &str); 10] = [
    (number::SIGTERM, Signal::Term, "term"),
    (number::SIGINT, Signal::Int, "int"),
    (number::SIGQUIT, Signal::Quit, "quit"),
    (number::SIGHUP, Signal::Hup, "hup"),
    (number::SIGTTIN, Signal::Ttin, "ttin"),
    (number::SIGTTOU, Signal::Ttou, "ttou"),
    (number::SIGUSR1, Signal::Usr1, "usr1"),
    (number::SIGUSR2, Signal::Usr2, "usr2"),
    (number::SIGWINCH, Signal::Winch, "winch"),
    (number::SIGCHLD, Signal::Chld, "chld"),
];

impl SignalQueue {
    /// Catches them. Handlers that were there before are called as well, so that whoever has some (Python has one
    /// for SIGINT) sets them to the default first.
    ///
    /// Signals that come faster than they are taken wait in a pipe, which has room for thousands; what does not
    /// fit is lost.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub(crate) fn install() -> io::Result<Self> {
        let (numbers, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let writer = Arc::new(writer);
        let owner = getpid();
        let mut signals = Self { numbers, handlers: Vec::with_capacity(SIGNALS.len()) };
        for (number, _, _) in SIGNALS {
            let writer = Arc::clone(&writer);
            let handler = move || enqueue(&writer, owner, number);
            // SAFETY: the handler does nothing but two system calls, which signal-safety(7) allows: it allocates
            // nothing, takes no lock, does not panic, and leaves errno alone (rustix' calls do not go through it).
            signals.handlers.push(unsafe { register(number, handler) }?);
        }
        Ok(signals)
    }

    /// The signal that came first of those that wait; `None` if none does. Never waits.
    pub(crate) fn next(&self) -> Option<Signal> {
        let mut number = [0];
        loop {
            match rustix::io::read(&self.numbers, &mut number) {
                Ok(1..) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Ok(0) | Err(_) => return None,
            }
            let known = SIGNALS.iter().find(|(known, ..)| *known == i32::from(number[0]));
            if let Some((_, signal, _)) = known {
                return Some(*signal);
            }
        }
    }

    /// Lets go of them: from now on they do nothing in this process, until it sets other handlers. A forked child
    /// does so first of all. Even before, no signal to it reaches the supervisor.
    pub(crate) fn release(self) {
        drop(self);
    }
}

impl AsFd for SignalQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.numbers.as_fd()
    }
}

impl Drop for SignalQueue {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            unregister(handler);
        }
    }
}

impl Signal {
    /// As gunicorn logs it: `hup`.
    pub(crate) fn name(self) -> &'static str {
        SIGNALS.iter().find(|(_, signal, _)| *signal == self).map_or("", |(_, _, name)| name)
    }
}

/// What a handler does, in the process that installed it alone: a forked child has the same pipe.
fn enqueue(writer: &OwnedFd, owner: Pid, number: i32) {
    if getpid() == owner {
        // Nothing can be done about a full pipe here, and no signal has a number above 64.
        let _ = rustix::io::write(writer, &[number as u8]);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use signal_hook::low_level::raise;

    use super::*;

    /// Signals belong to the whole process: one test at a time.
    static ALONE: Mutex<()> = Mutex::new(());

    /// Those that wait, without SIGCHLD: tests beside these have children.
    fn waiting(signals: &SignalQueue) -> Vec<Signal> {
        std::iter::from_fn(|| signals.next()).filter(|signal| *signal != Signal::Chld).collect()
    }

    #[test]
    fn signals_come_out_one_by_one_in_their_order() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let signals = SignalQueue::install().unwrap();
        assert_eq!(waiting(&signals), []);
        for (number, ..) in SIGNALS {
            raise(number).unwrap();
        }
        raise(number::SIGTTIN).unwrap();
        raise(number::SIGTTIN).unwrap();
        let expected: Vec<Signal> =
            SIGNALS.iter().map(|(_, signal, _)| *signal).filter(|signal| *signal != Signal::Chld).collect();
        assert_eq!(waiting(&signals), [&expected[..], &[Signal::Ttin, Signal::Ttin]].concat());
        assert_eq!(waiting(&signals), []);
    }

    #[test]
    fn a_burst_beyond_the_room_neither_blocks_nor_disturbs_what_comes_later() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let signals = SignalQueue::install().unwrap();
        for _ in 0..70_000 {
            raise(number::SIGHUP).unwrap();
        }
        let kept = waiting(&signals);
        assert!((60_000..70_000).contains(&kept.len()), "{}", kept.len());
        assert!(kept.iter().all(|signal| *signal == Signal::Hup));
        raise(number::SIGTERM).unwrap();
        assert_eq!(waiting(&signals), [Signal::Term]);
    }

    #[test]
    fn once_released_they_do_nothing() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let signals = SignalQueue::install().unwrap();
        let copy = signals.numbers.try_clone().unwrap();
        signals.release();
        raise(number::SIGUSR1).unwrap();
        let mut byte = [0];
        assert_eq!(rustix::io::read(&copy, &mut byte), Ok(0), "and nothing can write into the pipe any more");
    }

    #[test]
    fn a_handler_that_a_child_has_inherited_tells_the_supervisor_nothing() {
        let (numbers, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        enqueue(&writer, Pid::INIT, number::SIGTERM); // This process is not that one.
        assert_eq!(rustix::io::read(&numbers, &mut [0]), Err(rustix::io::Errno::AGAIN));
        enqueue(&writer, getpid(), number::SIGTERM);
        assert_eq!(rustix::io::read(&numbers, &mut [0]), Ok(1));
    }

    #[test]
    fn names_are_gunicorns() {
        assert_eq!((Signal::Hup.name(), Signal::Chld.name(), Signal::Winch.name()), ("hup", "chld", "winch"));
    }
}
