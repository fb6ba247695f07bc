//! The application's threads: ordinary `threading.Thread`s that live as long as the worker.
//!
//! So `threading.local`, and with it Django's persistent database connections, last from request to request,
//! and tracing tools see the threads that they know.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The threads of one worker.
pub struct Threads {
    threads: Vec<Py<PyAny>>,
    running: Arc<AtomicUsize>,
}

impl Threads {
    /// Starts `count` threads called `portico-1` and so on; each calls `run` once and rings `bell` as it
    /// ends. They are daemons: one that is stuck in the application does not keep the process.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(
        py: Python<'_>,
        count: u32,
        bell: UnixStream,
        run: impl Fn() + Send + Sync + 'static,
    ) -> PyResult<Self> {
        let running = Arc::new(AtomicUsize::new(0));
        let end = End { running: Arc::clone(&running), bell: Mutex::new(bell) };
        let body = Py::new(py, ThreadBody { run: Box::new(run), end })?;
        let class = py.import("threading")?.getattr("Thread")?;
        let mut threads = Vec::new();
        for number in 1..=count {
            let keywords = PyDict::new(py);
            keywords.set_item("target", &body)?;
            keywords.set_item("name", format!("portico-{number}"))?;
            keywords.set_item("daemon", true)?;
            let thread = class.call((), Some(&keywords))?;
            running.fetch_add(1, Ordering::SeqCst);
            thread.call_method0("start").inspect_err(|_| {
                running.fetch_sub(1, Ordering::SeqCst);
            })?;
            threads.push(thread.unbind());
        }
        Ok(Self { threads, running })
    }

    /// Whether every thread is done with the engine.
    pub fn all_ended(&self) -> bool {
        self.running.load(Ordering::SeqCst) == 0
    }

    /// Waits until all have ended. Only after [`Threads::all_ended`]: what is left to do then is Python's and
    /// short.
    ///
    /// # Errors
    /// What a signal handler raises meanwhile.
    pub fn join(&self, py: Python<'_>) -> PyResult<()> {
        self.threads.iter().try_for_each(|thread| thread.call_method0(py, "join").map(drop))
    }
}

/// What the threads call.
#[pyclass(frozen, name = "ThreadBody", module = "portico._portico")]
struct ThreadBody {
    run: Box<dyn Fn() + Send + Sync>,
    end: End,
}

#[pymethods]
impl ThreadBody {
    fn __call__(&self) {
        let _leaving = Leaving(&self.end);
        (self.run)();
    }
}

struct End {
    running: Arc<AtomicUsize>,
    bell: Mutex<UnixStream>,
}

/// Tells the main thread that one of the threads has ended, by whatever way.
struct Leaving<'a>(&'a End);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        // A full pipe has a ring in it already.
        let _ = self.0.bell.lock().unwrap_or_else(PoisonError::into_inner).write(&[0]);
    }
}
