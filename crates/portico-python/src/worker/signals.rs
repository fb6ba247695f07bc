//! The signals of a worker's main thread: from Python's handlers into its [`Inbox`].
//!
//! Python's own handlers of these signals are set aside meanwhile and put back afterwards. They are caught
//! through Python's wake-up descriptor and not by a handler beside Python's, which a second worker in the
//! same process would find overwritten. Handlers of other signals keep working: a wait gives them their turn.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use portico_os::VitalDescriptors;
use portico_worker::{Inbox, Master, Meaning};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};
use rustix::process::getpid;
use rustix::thread::gettid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

/// Python's handlers of a worker's signals, replaced from its creation until its release.
pub(crate) struct Signals {
    /// What Python had, to be put back.
    former: Vec<(i32, Py<PyAny>)>,
    caught: Option<Caught>,
    inbox: Inbox,
    ring: UnixStream,
}

/// The registration that has numbers of signals written.
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

impl Signals {
    /// Has the signals that stop raise KeyboardInterrupt: they end the import of an application, however long
    /// it takes, and what was opened before it is closed in order. In a thread other than Python's main one
    /// they stay as they are.
    ///
    /// # Errors
    /// The kernel's, or an exception of the `signal` module.
    pub(crate) fn interrupting(py: Python<'_>, master: Master) -> PyResult<Self> {
        let (exit_notifier, ring) = UnixStream::pair()?;
        exit_notifier.set_nonblocking(true)?;
        ring.set_nonblocking(true)?;
        let inbox = Inbox::new(master, exit_notifier);
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
    pub(crate) fn catch(&mut self, py: Python<'_>) -> PyResult<()> {
        if self.former.is_empty() {
            return Ok(());
        }
        let (numbers, writer) = UnixStream::pair()?;
        numbers.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        let former = set_wakeup(py, writer.as_raw_fd())?;
        CAUGHT.store(writer.as_raw_fd(), Ordering::SeqCst);
        self.caught = Some(Caught { writer, former });
        self.inbox.set_numbers(Some(numbers));
        let handler = wrap_pyfunction!(noticed, py)?;
        for (number, _) in self.inbox.master().signals() {
            set_handler(py, *number, &handler)?;
        }
        Ok(())
    }

    /// What a thread rings to end a wait: it writes a byte.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub(crate) fn exit_notifier(&self) -> io::Result<UnixStream> {
        self.ring.try_clone()
    }

    /// Adds the descriptors that they need.
    pub(crate) fn add_to(&self, vital: &VitalDescriptors) {
        let writer = self.caught.iter().map(|caught| &caught.writer);
        let ends = self.inbox.ends().chain(writer).chain([&self.ring]);
        ends.for_each(|end| vital.add("where signals arrive", end));
    }

    /// Where to wait for them.
    pub(crate) fn inbox(&self) -> Inbox {
        self.inbox.clone()
    }

    /// Gives the signals back to Python.
    ///
    /// # Errors
    /// An exception of the `signal` module.
    pub(crate) fn release(&mut self, py: Python<'_>) -> PyResult<()> {
        if let Some(caught) = self.caught.take() {
            // A signal of the last moment has its turn now: the handler that comes back would get it else.
            py.check_signals()?;
            CAUGHT.store(-1, Ordering::SeqCst);
            set_wakeup(py, caught.former)?;
            self.inbox.set_numbers(None);
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

/// Has a process that is about to end ignore what would only disturb that: the end has been asked for, or
/// comes by itself.
pub(crate) fn ignore_at_end(py: Python<'_>) {
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
