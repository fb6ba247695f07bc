//! What a worker's main thread waits for: signals, the supervisor's commands, threads that ring.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portico_supervisor::{ControlCommand, ControlSocket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

/// The event that has ended a wait of the main thread, such as a signal or a command of the supervisor. It says
/// what was asked for; what is done about it is decided where it is received.
#[derive(Debug)]
pub enum Wake {
    /// Stop when the work is done. With the signal's name as gunicorn logs it.
    Stop(&'static str),
    /// SIGQUIT: stop at once.
    StopNow(&'static str),
    /// SIGUSR1: open the log files again.
    ReopenLogs,
    /// SIGUSR2: tell what the threads do.
    TellStacks,
    /// SIGINT, which is the supervisor's to act upon.
    Interrupted,
    /// The supervisor has sent a command.
    Command(ControlCommand),
    /// The supervisor has died.
    Orphaned,
    /// A signal that is not ours: Python's handlers are to have their turn.
    Handlers,
    /// A thread has rung.
    ExitNotified,
    /// The time is over.
    Timeout,
}

/// The process that decides when this one ends. It is known when signals are caught, and says which of them are
/// this process' own business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Master {
    /// It itself, by its signals.
    Own,
    /// A supervisor, which gets the terminal's signals and the operator's as well: SIGINT and SIGHUP, which
    /// reach all processes of a terminal, are its business alone.
    Supervisor,
}

/// The meaning of a signal to this process, by its master. It is settled when signals are caught; a handler itself
/// decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Stop when the work is done. With the signal's name as gunicorn logs it.
    Stop(&'static str),
    /// Stop at once.
    StopNow(&'static str),
    /// Open the log files again.
    ReopenLogs,
    /// Tell what the threads do.
    TellStacks,
    /// The supervisor acts upon it.
    Interrupted,
    /// It is the supervisor's alone.
    Nothing,
}

/// The place where what ends a wait arrives, for any thread.
#[derive(Clone, Debug)]
pub struct Inbox {
    master: Master,
    exit_notifier: Arc<UnixStream>,
    /// The numbers of signals, while they are caught.
    numbers: Option<Arc<UnixStream>>,
}

impl Master {
    /// The signals that are the worker's in any case, and what they mean.
    pub fn signals(self) -> &'static [(i32, Meaning)] {
        match self {
            Self::Own => &[
                (SIGTERM, Meaning::Stop("term")),
                (SIGINT, Meaning::Stop("int")),
                (SIGQUIT, Meaning::StopNow("quit")),
            ],
            Self::Supervisor => &[
                (SIGTERM, Meaning::Stop("term")),
                (SIGQUIT, Meaning::StopNow("quit")),
                (SIGINT, Meaning::Interrupted),
                (SIGHUP, Meaning::Nothing),
            ],
        }
    }

    /// Those that it takes where the application has not taken them.
    pub fn offered(self) -> &'static [(i32, Meaning)] {
        match self {
            Self::Own => &[],
            Self::Supervisor => &[(SIGUSR1, Meaning::ReopenLogs), (SIGUSR2, Meaning::TellStacks)],
        }
    }

    fn meaning(self, number: i32) -> Option<Meaning> {
        let known = self.signals().iter().chain(self.offered());
        known.into_iter().find(|(known, _)| *known == number).map(|(_, meaning)| *meaning)
    }
}

impl Inbox {
    /// Of a process that `master` decides about; its threads ring at the other end of `exit_notifier`, which does
    /// not wait.
    pub fn new(master: Master, exit_notifier: UnixStream) -> Self {
        Self { master, exit_notifier: Arc::new(exit_notifier), numbers: None }
    }

    /// Has the numbers of signals arrive at `numbers`, which does not wait, while they are caught.
    pub fn set_numbers(&mut self, numbers: Option<UnixStream>) {
        self.numbers = numbers.map(Arc::new);
    }

    /// Who decides about this process.
    pub fn master(&self) -> Master {
        self.master
    }

    /// Its descriptors.
    pub fn ends(&self) -> impl Iterator<Item = &UnixStream> {
        self.numbers.as_deref().into_iter().chain([&*self.exit_notifier])
    }

    /// Waits until something happens or `limit` is over. To be called with the interpreter let go: what is to be
    /// done at a signal must not wait for code that keeps the interpreter to itself. `control` is the line to the
    /// supervisor: a worker that has learnt that it is orphaned waits without it.
    ///
    /// # Errors
    /// The kernel's: somebody else has closed what it waits with.
    pub fn wait(&self, control: Option<&ControlSocket>, limit: Option<Duration>) -> io::Result<Wake> {
        let end = limit.map(|limit| Instant::now() + limit);
        loop {
            if let Some(wake) = self.pending() {
                return Ok(wake);
            }
            if let Some(wake) = control.map(command).transpose()?.flatten() {
                return Ok(wake);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(Wake::Timeout);
            }
            let mut polled = vec![PollFd::new(&*self.exit_notifier, PollFlags::IN)];
            polled.extend(self.numbers.iter().map(|numbers| PollFd::new(&**numbers, PollFlags::IN)));
            polled.extend(control.map(|control| PollFd::new(control, PollFlags::IN)));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut polled, timeout.as_ref()) {
                Ok(_) if polled.iter().any(|fd| fd.revents().contains(PollFlags::NVAL)) => {
                    return Err(rustix::io::Errno::BADF.into());
                }
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => return Ok(self.pending().unwrap_or(Wake::Handlers)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn pending(&self) -> Option<Wake> {
        let mut number = [0];
        while let Some(mut numbers) = self.numbers.as_deref()
            && matches!(numbers.read(&mut number), Ok(1))
        {
            match self.master.meaning(number[0].into()) {
                Some(Meaning::Stop(name)) => return Some(Wake::Stop(name)),
                Some(Meaning::StopNow(name)) => return Some(Wake::StopNow(name)),
                Some(Meaning::ReopenLogs) => return Some(Wake::ReopenLogs),
                Some(Meaning::TellStacks) => return Some(Wake::TellStacks),
                Some(Meaning::Interrupted) => return Some(Wake::Interrupted),
                Some(Meaning::Nothing) => {}
                // Signals that others handle are written there too.
                None => return Some(Wake::Handlers),
            }
        }
        let mut bytes = [0; 64];
        matches!((&*self.exit_notifier).read(&mut bytes), Ok(1..)).then_some(Wake::ExitNotified)
    }
}

/// What the supervisor has to say.
///
/// # Errors
/// Somebody else has closed the line.
fn command(control: &ControlSocket) -> io::Result<Option<Wake>> {
    match control.command() {
        Ok(None) => Ok(None),
        Ok(Some(command)) => Ok(Some(Wake::Command(command))),
        // What cannot be understood comes from no supervisor either.
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::InvalidData) => {
            Ok(Some(Wake::Orphaned))
        }
        Err(error) => Err(error),
    }
}
