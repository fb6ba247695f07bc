//! Forking as Python does it: by `os.fork` or, twice, as that does it, so that what modules have registered to run
//! around a fork runs.
//!
//! All signals are blocked around it, and in the child until it has handlers of its own: none is lost, and
//! none is told to the parent.

use std::collections::HashMap;
use std::io;
use std::os::raw::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use portico_supervisor::{Fork, Forked};
use rustix::process::{Pid, WaitOptions, waitpid};
use signal_hook::consts::{
    SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::low_level;

use crate::error::one_line;
use crate::raw;

/// The signals that the supervisor handles.
const SUPERVISORS: [c_int; 10] =
    [SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH];

/// Whether a fork is under way that is Portico's.
static OWN: AtomicBool = AtomicBool::new(false);

/// Whether the fork that hooks run for is Portico's, not the application's.
pub(crate) fn is_own() -> bool {
    OWN.load(Ordering::Relaxed)
}

/// The treatment, in a child, of the signals that its parent handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handlers {
    /// Puts Python's own in their place: the parent's are the supervisor's.
    Reset,
    /// Keeps them: they are the application's, which the parent has imported.
    Keep,
}

/// `os.fork` in a process of one thread, whose main thread this is.
pub(crate) struct PythonFork<'py> {
    py: Python<'py>,
    handlers: Handlers,
    warned: bool,
    /// The threads beside the main one, by their names, that the process had which has forked last: this one, or
    /// in a child its parent.
    threads: Vec<String>,
    /// In a child: the signals that were blocked before.
    blocked: Option<Bound<'py, PyAny>>,
}

impl<'py> PythonFork<'py> {
    /// Forks nothing yet.
    pub(crate) fn new(py: Python<'py>, handlers: Handlers) -> Self {
        Self { py, handlers, warned: false, threads: Vec::new(), blocked: None }
    }

    /// In a child: the parent's threads beside the main one. If one of this name is here, it was started anew.
    pub(crate) fn former_threads(&self) -> &[String] {
        &self.threads
    }

    /// In a child, once it has handlers of its own: signals are no longer blocked, and those that came
    /// meanwhile are delivered.
    ///
    /// # Errors
    /// What a handler raises.
    pub(crate) fn unblock_signals(&mut self) -> PyResult<()> {
        match self.blocked.take() {
            Some(blocked) => set_mask(&blocked).map(drop),
            None => Ok(()),
        }
    }

    /// Forks a process that becomes the child of whoever adopts orphans, which is to reap it.
    ///
    /// # Errors
    /// The kernel's, and Python's own.
    pub(crate) fn fork_twice(&mut self) -> io::Result<Forked> {
        let forked = if self.has_pythons_fork() {
            let py = self.py;
            self.fork_child(|| raw::fork_twice(py).map_err(PyErr::from))
                .map_err(|error| self.io_error(&error))?
        } else {
            match self.fork()? {
                Forked::Parent(middle) => Forked::Parent(middle),
                Forked::Child => match self.fork() {
                    Ok(Forked::Child) => Forked::Child,
                    Ok(Forked::Parent(_)) => low_level::exit(0),
                    Err(_) => low_level::exit(1),
                },
            }
        };
        let Forked::Parent(middle) = forked else { return Ok(forked) };
        let pid = i32::try_from(middle).ok().and_then(Pid::from_raw);
        match waitpid(pid, WaitOptions::empty())? {
            Some((_, status)) if status.exit_status() != Some(0) => {
                let status = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal));
                Err(io::Error::other(format!(
                    "the process in between ended with status {}",
                    status.unwrap_or_default()
                )))
            }
            _ => Ok(forked),
        }
    }

    /// Whether `os.fork` is Python's. Others, such as gevent's, do more than that.
    fn has_pythons_fork(&self) -> bool {
        let is_same = || -> PyResult<bool> {
            let own = self.py.import("posix")?.getattr("fork")?;
            Ok(self.py.import("os")?.getattr("fork")?.is(&own))
        };
        is_same().unwrap_or(false)
    }

    fn io_error(&self, error: &PyErr) -> io::Error {
        match error.value(self.py).getattr("errno") {
            Ok(errno) if let Ok(errno) = errno.extract::<i32>() => io::Error::from_raw_os_error(errno),
            _ => io::Error::other(one_line(self.py, error)),
        }
    }

    fn fork_child(&mut self, fork: impl FnOnce() -> PyResult<u32>) -> PyResult<Forked> {
        let py = self.py;
        self.warn_of_threads();
        // Else each child would write what waits there once more.
        flush_output(py);
        let signal = py.import("_signal")?;
        let blocked = set_mask(&signal.call_method0("valid_signals")?)?;
        OWN.store(true, Ordering::Relaxed);
        let forked = fork();
        OWN.store(false, Ordering::Relaxed);
        if !matches!(forked, Ok(0)) {
            if let Err(error) = set_mask(&blocked) {
                log::error!("a signal's handler has raised beside a fork: {}", one_line(py, &error));
            }
            return forked.map(Forked::Parent);
        }
        // Forked again from a child that has not unblocked them, it has them from the first parent.
        self.blocked.get_or_insert(blocked);
        if self.handlers == Handlers::Reset
            && let Err(error) = reset_handlers(py)
        {
            // As a child it must not come back with an error: its caller would take itself for the parent.
            log::error!("a new process cannot set signal handlers: {}", one_line(py, &error));
            exit_now(py, 1);
        }
        Ok(Forked::Child)
    }

    /// Says once that threads are there which the child will not have, and whose locks stay locked in it.
    fn warn_of_threads(&mut self) {
        self.threads = other_threads(self.py).into_iter().map(|thread| thread.name).collect();
        if self.warned || self.handlers == Handlers::Keep {
            return; // A template has looked at its threads, and said so.
        }
        if !self.threads.is_empty() {
            self.warned = true;
            log::warn!(
                "something has started threads in the process that forks the workers ({}): a worker has them only \
                 if they are started anew after a fork, and what they have locked stays locked",
                self.threads.join(", ")
            );
        }
    }
}

impl Fork for PythonFork<'_> {
    fn fork(&mut self) -> io::Result<Forked> {
        let py = self.py;
        let fork = || py.import("os")?.call_method0("fork")?.extract();
        self.fork_child(fork).map_err(|error| self.io_error(&error))
    }
}

/// A thread of this process, to be named where a fork would lose it.
pub(crate) struct OtherThread {
    /// The kernel's number for it.
    pub(crate) id: u64,
    /// The name that Python has for it, else the kernel's.
    pub(crate) name: String,
    /// Whether Python knows it.
    pub(crate) is_python: bool,
}

/// The threads of this process but for the main one.
pub(crate) fn other_threads(py: Python<'_>) -> Vec<OtherThread> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let main = u64::from(std::process::id());
    let named = |task: std::fs::DirEntry| {
        let id = task.file_name().to_str()?.parse().ok().filter(|id| *id != main)?;
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        Some(OtherThread { id, name: name.trim_end().to_owned(), is_python: false })
    };
    let mut threads: Vec<_> = tasks.flatten().filter_map(named).collect();
    threads.sort_by_key(|thread| thread.id);
    // The kernel has Python's names from Python 3.14 on, and only the beginnings of them.
    if !threads.is_empty()
        && let Ok(mut names) = python_threads(py)
    {
        for thread in &mut threads {
            if let Some(name) = names.remove(&thread.id) {
                thread.name = name;
                thread.is_python = true;
            }
        }
    }
    threads
}

/// The names of Python's threads by the kernel's numbers.
fn python_threads(py: Python<'_>) -> PyResult<HashMap<u64, String>> {
    let mut names = HashMap::new();
    for thread in py.import("threading")?.call_method0("enumerate")?.try_iter()? {
        let thread = thread?;
        if let Ok(id) = thread.getattr("native_id")?.extract() {
            names.insert(id, thread.getattr("name")?.str()?.to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// Ends the process without anything that Python does at its end, but with its output written.
pub(crate) fn exit_now(py: Python<'_>, status: i32) -> ! {
    flush_output(py);
    // Does not come back; if the module itself is broken, the kernel's exit remains.
    let _ = py.import("os").and_then(|os| os.call_method1("_exit", (status,)));
    signal_hook::low_level::exit(status)
}

/// Writes what waits in Python's output streams.
pub(crate) fn flush_output(py: Python<'_>) {
    for stream in ["stdout", "stderr"] {
        // There may be none, or a closed one: lost output is all that can come of an error here.
        let _ = py.import("sys").and_then(|sys| sys.getattr(stream)?.call_method0("flush"));
    }
}

/// Takes Python's handlers away from the signals that the supervisor will handle, which would call them as
/// well.
///
/// # Errors
/// An exception of the `signal` module: this is not Python's main thread.
pub(crate) fn leave_signals(py: Python<'_>) -> PyResult<()> {
    let signal = py.import("_signal")?;
    let default = signal.getattr("SIG_DFL")?;
    SUPERVISORS.iter().try_for_each(|number| signal.call_method1("signal", (number, &default)).map(drop))
}

/// Has no signal blocked: whoever has started this process may have blocked some, and all that it starts would
/// have them blocked as well.
///
/// # Errors
/// What a handler raises of a signal that has waited.
pub(crate) fn unblock_all(py: Python<'_>) -> PyResult<()> {
    set_mask(PyTuple::empty(py).as_any()).map(drop)
}

/// Has Python's own handlers in the place of the supervisor's.
fn reset_handlers(py: Python<'_>) -> PyResult<()> {
    let signal = py.import("_signal")?;
    for number in SUPERVISORS {
        let default = if number == SIGINT { "default_int_handler" } else { "SIG_DFL" };
        signal.call_method1("signal", (number, signal.getattr(default)?))?;
    }
    Ok(())
}

/// Blocks these signals and no other; returns those that were blocked before.
fn set_mask<'py>(blocked: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let signal = blocked.py().import("_signal")?;
    signal.call_method1("pthread_sigmask", (signal.getattr("SIG_SETMASK")?, blocked))
}
