//! The application's threads: ordinary `threading.Thread`s that live as long as the worker.
//!
//! So `threading.local`, and with it Django's persistent database connections, last from request to request,
//! and tracing tools see the threads that they know. One that is written off, because a call does not come out of
//! the application, is replaced and not waited for any more.
//!
//! Where gevent or eventlet has patched `threading`, they are no threads of Python's: each hands its calls to a
//! greenlet.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use portico_config::Config;
use portico_supervisor::{thread_count, thread_name};
use portico_worker::ThreadNumbers;

use super::greenlets::Greenlets;
use crate::hub;
use crate::thread_status;

/// The threads of one worker that call the application.
pub(crate) struct Threads {
    pool: Arc<PoolState>,
    body: ThreadMain,
}

/// The state that the threads of a worker share: who they are, and the socket by which those that end wake the
/// main thread. It is never locked during a call of the application.
struct PoolState {
    members: Mutex<PoolMembers>,
    exit_notifier: Mutex<UnixStream>,
}

/// The threads by their numbers, with a handle of each that was started. Behind the pool's lock; a thread that was
/// written off keeps its number until it comes back.
struct PoolMembers {
    numbers: ThreadNumbers,
    /// Those that have been started, by their numbers.
    handles: Vec<Option<ThreadHandle>>,
}

/// A thread that was started, to be waited for.
enum ThreadHandle {
    /// Python's `threading.Thread`.
    Python(Py<PyAny>),
    /// One whose calls run in a greenlet.
    Native(JoinHandle<()>),
}

/// The function that the threads run, as Python calls it.
enum ThreadMain {
    Python(Py<ThreadBody>),
    Native { run: Arc<dyn Fn(usize) + Send + Sync>, greenlets: Arc<Greenlets> },
}

impl Threads {
    /// Starts threads called `portico-1` and so on, as many as answer requests; each calls `run` once, with its
    /// number from 0, and rings `bell` as it ends. They are daemons: one that is stuck in the application does not
    /// keep the process.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn start(
        py: Python<'_>,
        config: &Config,
        exit_notifier: UnixStream,
        run: impl Fn(usize) + Send + Sync + 'static,
    ) -> PyResult<Self> {
        let numbers = ThreadNumbers::new(thread_count(config), config.threads as usize);
        let pool = PoolState::new(numbers, exit_notifier);
        let body = Py::new(py, ThreadBody { run: Box::new(run), pool: Arc::clone(&pool) })?;
        Self { pool, body: ThreadMain::Python(body) }.started(py, config.threads)
    }

    /// As [`Threads::start`], for an application whose calls run in `greenlets`.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn start_for(
        py: Python<'_>,
        greenlets: Arc<Greenlets>,
        count: u32,
        exit_notifier: UnixStream,
        run: impl Fn(usize) + Send + Sync + 'static,
    ) -> PyResult<Self> {
        let body = ThreadMain::Native { run: Arc::new(run), greenlets };
        let numbers = ThreadNumbers::new(2 * count as usize, count as usize);
        Self { pool: PoolState::new(numbers, exit_notifier), body }.started(py, count)
    }

    fn started(self, py: Python<'_>, count: u32) -> PyResult<Self> {
        for _ in 0..count {
            self.start_one(py)?;
        }
        Ok(self)
    }

    /// Starts one more thread, in the place of one that was written off. `false` if as many have been replaced as
    /// there were in the beginning.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn start_another(&self, py: Python<'_>) -> PyResult<bool> {
        // The one that is about to be replaced counts already.
        if !self.pool.members().numbers.may_replace() {
            return Ok(false);
        }
        self.start_one(py)
    }

    /// Starts one more thread, beside thread number `index`, whose call has taken its connection over and is not
    /// waited for.
    ///
    /// # Errors
    /// The system has no thread left: that thread is one of those that response requests as before.
    pub(crate) fn start_beside(&self, py: Python<'_>, index: usize) -> PyResult<()> {
        if !self.start_one(py)? {
            return Err(PyRuntimeError::new_err("there are as many threads as there may be"));
        }
        self.pool.members().numbers.stream(index);
        Ok(())
    }

    /// Starts a thread with the first number that is free; `false` if there is none.
    fn start_one(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(index) = self.pool.members().numbers.take() else { return Ok(false) };
        let started = self.start_number(py, index);
        let mut members = self.pool.members();
        match started {
            Ok(thread) => members.keep(index, thread),
            Err(error) => {
                members.numbers.fail(index);
                return Err(error);
            }
        }
        Ok(true)
    }

    fn start_number(&self, py: Python<'_>, index: usize) -> PyResult<ThreadHandle> {
        let body = match &self.body {
            ThreadMain::Python(body) => body,
            ThreadMain::Native { run, greenlets } => return Ok(self.start_native(index, run, greenlets)?),
        };
        let keywords = PyDict::new(py);
        keywords.set_item("target", body)?;
        keywords.set_item("args", (index,))?;
        keywords.set_item("name", thread_name(index))?;
        keywords.set_item("daemon", true)?;
        let thread = py.import("threading")?.getattr("Thread")?.call((), Some(&keywords))?;
        thread.call_method0("start")?;
        Ok(ThreadHandle::Python(thread.unbind()))
    }

    fn start_native(
        &self,
        index: usize,
        run: &Arc<dyn Fn(usize) + Send + Sync>,
        greenlets: &Arc<Greenlets>,
    ) -> std::io::Result<ThreadHandle> {
        let (run, greenlets, pool) = (Arc::clone(run), Arc::clone(greenlets), Arc::clone(&self.pool));
        greenlets.start(index);
        let work = move || {
            let _leaving = Leaving { pool: &pool, index };
            thread_status::set_index(index);
            run(index);
            greenlets.end(index);
        };
        thread::Builder::new().name(thread_name(index)).spawn(work).map(ThreadHandle::Native)
    }

    /// Counts thread number `index` no more: it is stuck in the application.
    pub(crate) fn write_off(&self, index: usize) {
        self.pool.members().numbers.write_off(index);
        self.pool.ring();
    }

    /// Whether every thread that has not been written off is done with the engine. They are so once that has
    /// `stopped`; before it, that the last one has been written off is no end: another is about to take its place.
    pub(crate) fn all_ended(&self, stopped: bool) -> bool {
        self.pool.members().numbers.all_ended(stopped)
    }

    /// Has the main thread look whether all have ended.
    pub(crate) fn ring(&self) {
        self.pool.ring();
    }

    /// Whether some that have been written off are still in the application.
    pub(crate) fn are_some_stuck(&self) -> bool {
        self.pool.members().numbers.are_some_stuck()
    }

    /// Waits until all have ended but those that have been written off. Only after [`Threads::all_ended`]: what is
    /// left to do then is Python's and short.
    ///
    /// # Errors
    /// What a signal handler raises meanwhile.
    pub(crate) fn join(&self, py: Python<'_>) -> PyResult<()> {
        let threads = self.pool.members().take_ended();
        threads.into_iter().try_for_each(|thread| match thread {
            ThreadHandle::Python(thread) => thread.call_method0(py, "join").map(drop),
            ThreadHandle::Native(thread) => {
                // One that has panicked has ended as well.
                let _ = py.detach(|| thread.join());
                Ok(())
            }
        })
    }
}

impl PoolState {
    fn new(numbers: ThreadNumbers, exit_notifier: UnixStream) -> Arc<Self> {
        let members = Mutex::new(PoolMembers { numbers, handles: Vec::new() });
        Arc::new(Self { members, exit_notifier: Mutex::new(exit_notifier) })
    }

    fn members(&self) -> MutexGuard<'_, PoolMembers> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        // A full pipe has a ring in it already.
        let _ = self.exit_notifier.lock().unwrap_or_else(PoisonError::into_inner).write(&[0]);
    }
}

impl PoolMembers {
    fn keep(&mut self, index: usize, thread: ThreadHandle) {
        if self.handles.len() <= index {
            self.handles.resize_with(index + 1, || None);
        }
        self.handles[index] = Some(thread);
    }

    fn take_ended(&mut self) -> Vec<ThreadHandle> {
        let Self { numbers, handles } = self;
        let ended = handles.iter_mut().enumerate().filter(|(index, _)| numbers.may_join(*index));
        ended.filter_map(|(_, handle)| handle.take()).collect()
    }
}

/// The function that the threads call, with what it takes to leave the pool when it returns. Each thread has a
/// share of it, so that the pool outlives its last thread.
#[pyclass(frozen, name = "ThreadBody", module = "portico._portico")]
struct ThreadBody {
    run: Box<dyn Fn(usize) + Send + Sync>,
    pool: Arc<PoolState>,
}

#[pymethods]
impl ThreadBody {
    fn __call__(&self, py: Python<'_>, index: usize) {
        let _leaving = Leaving { pool: &self.pool, index };
        (self.run)(index);
        // One that the application has made, where gevent has not patched `threading`.
        hub::destroy_own(py);
    }
}

/// Tells the main thread that one of the threads has ended, by whatever way.
struct Leaving<'a> {
    pool: &'a PoolState,
    index: usize,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.pool.members().numbers.end(self.index);
        self.pool.ring();
    }
}
