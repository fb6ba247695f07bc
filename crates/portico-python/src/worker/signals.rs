//! The signals that stop a worker, as something that its main thread waits for.
//!
//! Python's own handlers of these signals are set aside meanwhile (signal-hook would call them too, and
//! SIGINT's raises KeyboardInterrupt) and put back afterwards. Handlers of other signals keep working: a wait
//! that one of them interrupts gives Python its turn.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pyo3::intern;
use pyo3::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level;

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// SIGTERM or SIGINT: stop when the work is done. With the signal's name as gunicorn logs it.
    Stop(&'static str),
    /// SIGQUIT: stop at once.
    StopNow(&'static str),
    /// A thread has rung.
    Bell,
    /// The time is over.
    Timeout,
}

/// Python's handlers of the signals that stop a worker, replaced from its creation until its release.
pub struct Signals {
    /// What Python had, to be put back.
    former: Vec<(i32, Py<PyAny>)>,
    caught: Vec<Caught>,
    bell: UnixStream,
    ring: UnixStream,
}

struct Caught {
    wake: Wake,
    pipe: UnixStream,
    id: SigId,
}

/// The signals and what they mean.
const SIGNALS: [(i32, Wake); 3] =
    [(SIGTERM, Wake::Stop("term")), (SIGINT, Wake::Stop("int")), (SIGQUIT, Wake::StopNow("quit"))];

impl Signals {
    /// Has the signals raise KeyboardInterrupt: they end the import of an application, however long it takes,
    /// and what was opened before it is closed in order. In a thread other than Python's main one they stay
    /// as they are.
    ///
    /// # Errors
    /// The kernel's, or an exception of the `signal` module.
    pub fn interrupting(py: Python<'_>) -> PyResult<Self> {
        let (bell, ring) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ring.set_nonblocking(true)?;
        let mut signals = Self { former: Vec::new(), caught: Vec::new(), bell, ring };
        if is_main_thread(py)? {
            let interrupt = py.import("_signal")?.getattr("default_int_handler")?;
            for (number, _) in SIGNALS {
                signals.former.push((number, set_handler(py, number, &interrupt)?));
            }
        }
        Ok(signals)
    }

    /// Has the signals wake [`Signals::wait`] from now on.
    ///
    /// # Errors
    /// As [`Signals::interrupting`].
    pub fn catch(&mut self, py: Python<'_>) -> PyResult<()> {
        if self.former.is_empty() {
            return Ok(());
        }
        let default = py.import("_signal")?.getattr("SIG_DFL")?;
        for (number, wake) in SIGNALS {
            set_handler(py, number, &default)?;
            let (pipe, writer) = UnixStream::pair()?;
            pipe.set_nonblocking(true)?;
            self.caught.push(Caught { wake, pipe, id: low_level::pipe::register(number, writer)? });
        }
        Ok(())
    }

    /// What a thread rings to end a wait: it writes a byte.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn bell(&self) -> io::Result<UnixStream> {
        self.ring.try_clone()
    }

    /// Waits, with the interpreter let go, until something happens or `limit` is over.
    ///
    /// # Errors
    /// What a Python signal handler raises.
    pub fn wait(&mut self, py: Python<'_>, limit: Option<Duration>) -> PyResult<Wake> {
        let end = limit.map(|limit| Instant::now() + limit);
        loop {
            if let Some(wake) = self.pending() {
                return Ok(wake);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(Wake::Timeout);
            }
            let mut polled: Vec<_> =
                self.caught.iter().map(|caught| PollFd::new(&caught.pipe, PollFlags::IN)).collect();
            polled.push(PollFd::new(&self.bell, PollFlags::IN));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            match py.detach(|| poll(&mut polled, timeout.as_ref())) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => py.check_signals()?,
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }

    fn pending(&mut self) -> Option<Wake> {
        let mut byte = [0];
        for caught in &mut self.caught {
            if matches!(caught.pipe.read(&mut byte), Ok(1)) {
                return Some(caught.wake);
            }
        }
        let mut bytes = [0; 64];
        matches!(self.bell.read(&mut bytes), Ok(1..)).then_some(Wake::Bell)
    }

    /// Gives the signals back to Python.
    ///
    /// # Errors
    /// An exception of the `signal` module.
    pub fn release(&mut self, py: Python<'_>) -> PyResult<()> {
        for caught in self.caught.drain(..) {
            low_level::unregister(caught.id);
        }
        for (number, former) in self.former.drain(..) {
            if !former.is_none(py) {
                set_handler(py, number, former.bind(py))?;
            }
        }
        Ok(())
    }
}

fn set_handler(py: Python<'_>, number: i32, handler: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    Ok(py.import("_signal")?.call_method1(intern!(py, "signal"), (number, handler))?.unbind())
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    main.eq(threading.call_method0("get_ident")?)
}
