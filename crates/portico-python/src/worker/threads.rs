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

use super::greenlets::Greenlets;
use crate::hub;
use crate::thread_status;

/// The threads of one worker.
pub struct Threads {
    pool: Arc<PoolState>,
    body: ThreadMain,
    /// How many there may be at once.
    most: usize,
    /// How many of those that are written off may be replaced.
    replaced_max: usize,
}

/// What the threads share.
struct PoolState {
    members: Mutex<Vec<PoolThread>>,
    exit_notifier: Mutex<UnixStream>,
}

struct PoolThread {
    thread: Option<ThreadHandle>,
    state: PoolThreadState,
}

/// A thread that was started.
enum ThreadHandle {
    /// Python's `threading.Thread`.
    Python(Py<PyAny>),
    /// One whose calls run in a greenlet.
    Native(JoinHandle<()>),
}

/// The function that the threads run.
enum ThreadMain {
    Python(Py<ThreadBody>),
    Native { run: Arc<dyn Fn(usize) + Send + Sync>, greenlets: Arc<Greenlets> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PoolThreadState {
    Running,
    /// In a call that has taken its connection over. Another thread answers requests in its stead.
    Streaming,
    /// That call has ended, and the thread with it: its number is free.
    Free,
    Ended,
    WrittenOff,
    /// Written off, and come out of the application after all.
    Returned,
}

impl Threads {
    /// Starts threads called `portico-1` and so on, as many as answer requests; each calls `run` once, with its
    /// number from 0, and rings `bell` as it ends. They are daemons: one that is stuck in the application does not
    /// keep the process.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(
        py: Python<'_>,
        config: &Config,
        exit_notifier: UnixStream,
        run: impl Fn(usize) + Send + Sync + 'static,
    ) -> PyResult<Self> {
        let pool = PoolState::new(exit_notifier);
        let body = Py::new(py, ThreadBody { run: Box::new(run), pool: Arc::clone(&pool) })?;
        let (most, replaced_max) = (thread_count(config), config.threads as usize);
        Self { pool, body: ThreadMain::Python(body), most, replaced_max }.started(py, config.threads)
    }

    /// As [`Threads::start`], for an application whose calls run in `greenlets`.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start_for(
        py: Python<'_>,
        greenlets: Arc<Greenlets>,
        count: u32,
        exit_notifier: UnixStream,
        run: impl Fn(usize) + Send + Sync + 'static,
    ) -> PyResult<Self> {
        let body = ThreadMain::Native { run: Arc::new(run), greenlets };
        let replaced_max = count as usize;
        Self { pool: PoolState::new(exit_notifier), body, most: 2 * replaced_max, replaced_max }
            .started(py, count)
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
    pub fn start_another(&self, py: Python<'_>) -> PyResult<bool> {
        let is_gone = |member: &&PoolThread| {
            matches!(member.state, PoolThreadState::WrittenOff | PoolThreadState::Returned)
        };
        // The one that is about to be replaced is among them.
        if self.pool.members().iter().filter(is_gone).count() > self.replaced_max {
            return Ok(false);
        }
        self.start_one(py)
    }

    /// Starts one more thread, beside thread number `index`, whose call has taken its connection over and is not
    /// waited for.
    ///
    /// # Errors
    /// The system has no thread left: that thread is one of those that response requests as before.
    pub fn start_beside(&self, py: Python<'_>, index: usize) -> PyResult<()> {
        if !self.start_one(py)? {
            return Err(PyRuntimeError::new_err("there are as many threads as there may be"));
        }
        if let Some(member) = self.pool.members().get_mut(index)
            && member.state == PoolThreadState::Running
        {
            member.state = PoolThreadState::Streaming;
        }
        Ok(())
    }

    /// Starts a thread with the first number that is free; `false` if there is none.
    fn start_one(&self, py: Python<'_>) -> PyResult<bool> {
        let index = {
            let mut members = self.pool.members();
            let new = PoolThread { thread: None, state: PoolThreadState::Running };
            match members.iter().position(|member| member.state == PoolThreadState::Free) {
                Some(free) => {
                    members[free] = new;
                    free
                }
                None if members.len() >= self.most => return Ok(false),
                None => {
                    members.push(new);
                    members.len() - 1
                }
            }
        };
        let started = self.start_number(py, index);
        let mut members = self.pool.members();
        match started {
            Ok(thread) => members[index].thread = Some(thread),
            Err(error) => {
                members[index].state = PoolThreadState::Ended;
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
    pub fn write_off(&self, index: usize) {
        self.pool.leave(index, PoolThreadState::WrittenOff);
    }

    /// Whether every thread that has not been written off is done with the engine. They are so once that has
    /// `stopped`; before it, that the last one has been written off is no end: another is about to take its place.
    pub fn all_ended(&self, stopped: bool) -> bool {
        let members = self.pool.members();
        let are = |state: PoolThreadState| members.iter().any(|member| member.state == state);
        (stopped || are(PoolThreadState::Ended)) && !are(PoolThreadState::Running)
    }

    /// Has the main thread look whether all have ended.
    pub fn ring(&self) {
        self.pool.ring();
    }

    /// Whether some that have been written off are still in the application.
    pub fn are_some_stuck(&self) -> bool {
        let is_stuck = |member: &PoolThread| {
            matches!(member.state, PoolThreadState::WrittenOff | PoolThreadState::Streaming)
        };
        self.pool.members().iter().any(is_stuck)
    }

    /// Waits until all have ended but those that have been written off. Only after [`Threads::all_ended`]: what is
    /// left to do then is Python's and short.
    ///
    /// # Errors
    /// What a signal handler raises meanwhile.
    pub fn join(&self, py: Python<'_>) -> PyResult<()> {
        let ended = |member: &mut PoolThread| match member.state {
            PoolThreadState::Ended | PoolThreadState::Free => member.thread.take(),
            PoolThreadState::Running
            | PoolThreadState::Streaming
            | PoolThreadState::WrittenOff
            | PoolThreadState::Returned => None,
        };
        let threads: Vec<_> = self.pool.members().iter_mut().filter_map(ended).collect();
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
    fn new(exit_notifier: UnixStream) -> Arc<Self> {
        Arc::new(Self { members: Mutex::default(), exit_notifier: Mutex::new(exit_notifier) })
    }

    fn members(&self) -> MutexGuard<'_, Vec<PoolThread>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread goes, or is given up; the main thread is told. What is told later of it is no news.
    fn leave(&self, index: usize, state: PoolThreadState) {
        if let Some(member) = self.members().get_mut(index) {
            member.state = match (member.state, state) {
                (PoolThreadState::Running, _) => state,
                (PoolThreadState::WrittenOff, PoolThreadState::Ended) => PoolThreadState::Returned,
                (PoolThreadState::Streaming, PoolThreadState::Ended) => PoolThreadState::Free,
                (PoolThreadState::Streaming, PoolThreadState::WrittenOff) => PoolThreadState::Streaming,
                (former, _) => former,
            };
        }
        self.ring();
    }

    fn ring(&self) {
        // A full pipe has a ring in it already.
        let _ = self.exit_notifier.lock().unwrap_or_else(PoisonError::into_inner).write(&[0]);
    }
}

/// What the threads call.
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
        self.pool.leave(self.index, PoolThreadState::Ended);
    }
}
