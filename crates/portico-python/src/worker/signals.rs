//! What a worker's main thread waits for: signals, the supervisor's commands, threads that ring.
//!
//! Python's own handlers of these signals are set aside meanwhile and put back afterwards. They are caught
//! through Python's wake-up descriptor and not by a handler beside Python's, which a second worker in the
//! same process would find overwritten. Handlers of other signals keep working: a wait gives them their turn.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use portico_os::VitalDescriptors;
use portico_supervisor::{ControlCommand, ControlSocket};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::getpid;
use rustix::thread::gettid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

/// What ended a wait.
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

/// Who decides about this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Master {
    /// It itself, by its signals.
    Own,
    /// A supervisor, which gets the terminal's signals and the operator's as well: SIGINT and SIGHUP, which
    /// reach all processes of a terminal, are its business alone.
    Supervisor,
}

/// What a signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Stop(&'static str),
    StopNow(&'static str),
    ReopenLogs,
    TellStacks,
    Interrupted,
    Nothing,
}

/// Python's handlers of a worker's signals, replaced from its creation until its release.
pub struct Signals {
    /// What Python had, to be put back.
    former: Vec<(i32, Py<PyAny>)>,
    caught: Option<Caught>,
    inbox: Inbox,
    ring: UnixStream,
}

/// Where what ends a wait arrives, for any thread.
#[derive(Clone)]
pub struct Inbox {
    master: Master,
    exit_notifier: Arc<UnixStream>,
    /// The numbers of signals, while they are caught.
    numbers: Option<Arc<UnixStream>>,
}

/// What has signals' numbers written.
struct Caught {
    /// Python's wake-up descriptor: its signal handler writes there.
    writer: UnixStream,
    /// The wake-up descriptor that was set before; -1 if there was none.
    former: RawFd,
}

/// Whether handlers are in the place of Python's.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The wake-up descriptor while signals are caught, else -1.
static CAUGHT: AtomicI32 = AtomicI32::new(-1);

impl Master {
    /// The signals that are the worker's in any case, and what they mean.
    fn signals(self) -> &'static [(i32, Meaning)] {
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
    fn offered(self) -> &'static [(i32, Meaning)] {
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

impl Signals {
    /// Has the signals that stop raise KeyboardInterrupt: they end the import of an application, however long
    /// it takes, and what was opened before it is closed in order. In a thread other than Python's main one
    /// they stay as they are.
    ///
    /// # Errors
    /// The kernel's, or an exception of the `signal` module.
    pub fn interrupting(py: Python<'_>, master: Master) -> PyResult<Self> {
        let (exit_notifier, ring) = UnixStream::pair()?;
        exit_notifier.set_nonblocking(true)?;
        ring.set_nonblocking(true)?;
        let inbox = Inbox { master, exit_notifier: Arc::new(exit_notifier), numbers: None };
        let mut signals = Self { former: Vec::new(), caught: None, inbox, ring };
        if is_main_thread() {
            let interrupt = py.import("_signal")?.getattr("default_int_handler")?;
            let nothing = wrap_pyfunction!(noticed, py)?.into_any();
            restore_in_children(py)?;
            TAKEN.store(true, Ordering::SeqCst);
            for &(number, meaning) in master.signals() {
                let is_nothing = matches!(meaning, Meaning::Nothing | Meaning::Interrupted);
                let handler = if is_nothing { &nothing } else { &interrupt };
                signals.former.push((number, set_handler(py, number, handler)?));
            }
            // The default would end the process.
            for (number, _) in master.offered() {
                let signal = py.import("_signal")?;
                if signal.call_method1("getsignal", (number,))?.eq(signal.getattr("SIG_DFL")?)? {
                    signals.former.push((*number, set_handler(py, *number, &nothing)?));
                }
            }
        }
        Ok(signals)
    }

    /// Has the signals wake [`Inbox::wait`] from now on, instead of raising.
    ///
    /// # Errors
    /// As [`Signals::interrupting`].
    pub fn catch(&mut self, py: Python<'_>) -> PyResult<()> {
        if self.former.is_empty() {
            return Ok(());
        }
        let (numbers, writer) = UnixStream::pair()?;
        numbers.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        let former = set_wakeup(py, writer.as_raw_fd())?;
        CAUGHT.store(writer.as_raw_fd(), Ordering::SeqCst);
        self.caught = Some(Caught { writer, former });
        self.inbox.numbers = Some(Arc::new(numbers));
        let handler = wrap_pyfunction!(noticed, py)?;
        for (number, _) in self.inbox.master.signals() {
            set_handler(py, *number, &handler)?;
        }
        Ok(())
    }

    /// What a thread rings to end a wait: it writes a byte.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn exit_notifier(&self) -> io::Result<UnixStream> {
        self.ring.try_clone()
    }

    /// Adds the descriptors that they need.
    pub fn add_to(&self, vital: &VitalDescriptors) {
        let numbers = self.inbox.numbers.as_deref().into_iter();
        let writer = self.caught.iter().map(|caught| &caught.writer);
        let ends = numbers.chain(writer).chain([&*self.inbox.exit_notifier, &self.ring]);
        ends.for_each(|end| vital.add("where signals arrive", end));
    }

    /// Where to wait for them.
    pub fn inbox(&self) -> Inbox {
        self.inbox.clone()
    }

    /// Gives the signals back to Python.
    ///
    /// # Errors
    /// An exception of the `signal` module.
    pub fn release(&mut self, py: Python<'_>) -> PyResult<()> {
        if let Some(caught) = self.caught.take() {
            // A signal of the last moment has its turn now: the handler that comes back would get it else.
            py.check_signals()?;
            CAUGHT.store(-1, Ordering::SeqCst);
            set_wakeup(py, caught.former)?;
            self.inbox.numbers = None;
        }
        if !self.former.is_empty() {
            TAKEN.store(false, Ordering::SeqCst);
        }
        for (number, former) in self.former.drain(..) {
            if !former.is_none(py) {
                set_handler(py, number, former.bind(py))?;
            }
        }
        Ok(())
    }
}

impl Inbox {
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

/// Has a process that is about to end ignore what would only disturb that: the end has been asked for, or
/// comes by itself.
pub fn ignore_at_end(py: Python<'_>) {
    let ignored = py.import("_signal").and_then(|signal| {
        let ignore = signal.getattr("SIG_IGN")?;
        [SIGTERM, SIGINT, SIGHUP, SIGQUIT]
            .into_iter()
            .try_for_each(|number| set_handler(py, number, &ignore).map(drop))
    });
    if let Err(error) = ignored {
        log::debug!("Signals cannot be ignored at the end: {error}");
    }
}

/// Python's handler while signals are caught. Nothing is left to do: their numbers lie in the pipe.
#[pyfunction]
#[pyo3(signature = (_number, _frame, /))]
fn noticed(_number: i32, _frame: &Bound<'_, PyAny>) {}

/// Has every process that the application forks (`multiprocessing` does) get Python's default handlers: it
/// would else outlive a SIGTERM, and tell this worker of it.
fn restore_in_children(py: Python<'_>) -> PyResult<()> {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if REGISTERED.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    let keywords = PyDict::new(py);
    keywords.set_item("after_in_child", wrap_pyfunction!(restore, py)?)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&keywords)).map(drop)
}

#[pyfunction]
fn restore(py: Python<'_>) -> PyResult<()> {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return Ok(());
    }
    if CAUGHT.swap(-1, Ordering::SeqCst) >= 0 {
        set_wakeup(py, -1)?;
    }
    let signal = py.import("_signal")?;
    for number in [SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2] {
        if !signal.call_method1("getsignal", (number,))?.is_instance_of::<PyCFunction>() {
            continue; // The application's own: ours is a builtin function.
        }
        let default = if number == SIGINT { "default_int_handler" } else { "SIG_DFL" };
        set_handler(py, number, &signal.getattr(default)?)?;
    }
    Ok(())
}

/// Sets Python's wake-up descriptor and returns the former one.
fn set_wakeup(py: Python<'_>, descriptor: RawFd) -> PyResult<RawFd> {
    let keywords = PyDict::new(py);
    keywords.set_item("warn_on_full_buffer", false)?;
    py.import("_signal")?.call_method("set_wakeup_fd", (descriptor,), Some(&keywords))?.extract()
}

fn set_handler(py: Python<'_>, number: i32, handler: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    Ok(py.import("_signal")?.call_method1(intern!(py, "signal"), (number, handler))?.unbind())
}

/// Whether Python lets the calling thread set handlers: after a fork, too, that is the first one of the process.
/// What `threading` says of it is another thing where its threads are greenlets.
fn is_main_thread() -> bool {
    gettid() == getpid()
}
