//! The application's threads: ordinary `threading.Thread`s that live as long as the worker.
//!
//! So `threading.local`, and with it Django's persistent database connections, last from request to request,
//! and tracing tools see the threads that they know. One that is written off, because a call does not come out of
//! the application, is replaced and not waited for any more.
//!
//! Where gevent or eventlet has patched `threading`, whose threads are greenlets of one thread then, the threads
//! are started past it. Each has a hub of its own.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};

use crate::error::one_line;
use crate::record::thread_name;

/// The threads of one worker.
pub struct Threads {
    crew: Arc<Crew>,
    body: Py<ThreadBody>,
    /// How many there may ever be.
    max: usize,
}

/// What the threads share.
struct Crew {
    members: Mutex<Vec<Member>>,
    bell: Mutex<UnixStream>,
}

struct Member {
    thread: Option<Thread>,
    state: State,
}

/// A thread that was started.
enum Thread {
    /// Python's `threading.Thread`.
    Python(Py<PyAny>),
    /// One that `threading` knows of by its own calls alone.
    Native(JoinHandle<()>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Ended,
    WrittenOff,
    /// Written off, and come out of the application after all.
    Returned,
}

impl Threads {
    /// Starts `count` threads called `portico-1` and so on; each calls `run` once, with its number from 0, and
    /// rings `bell` as it ends. They are daemons: one that is stuck in the application does not keep the process.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(
        py: Python<'_>,
        count: u32,
        bell: UnixStream,
        run: impl Fn(usize) + Send + Sync + 'static,
    ) -> PyResult<Self> {
        let crew = Arc::new(Crew { members: Mutex::default(), bell: Mutex::new(bell) });
        let body = Py::new(py, ThreadBody { run: Box::new(run), crew: Arc::clone(&crew) })?;
        let threads = Self { crew, body, max: 2 * count as usize };
        for _ in 0..count {
            threads.start_another(py)?;
        }
        Ok(threads)
    }

    /// Starts one more thread, in the place of one that was written off. `false` if as many have been replaced as
    /// there were in the beginning.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start_another(&self, py: Python<'_>) -> PyResult<bool> {
        let index = {
            let mut members = self.crew.members();
            if members.len() >= self.max {
                return Ok(false);
            }
            members.push(Member { thread: None, state: State::Running });
            members.len() - 1
        };
        let started = self.start_number(py, index);
        let mut members = self.crew.members();
        match started {
            Ok(thread) => members[index].thread = Some(thread),
            Err(error) => {
                members[index].state = State::Ended;
                return Err(error);
            }
        }
        Ok(true)
    }

    fn start_number(&self, py: Python<'_>, index: usize) -> PyResult<Thread> {
        let threading = py.import("threading")?;
        if is_patched(&threading) {
            return self.start_native(py, index).map(Thread::Native);
        }
        let keywords = PyDict::new(py);
        keywords.set_item("target", &self.body)?;
        keywords.set_item("args", (index,))?;
        keywords.set_item("name", thread_name(index))?;
        keywords.set_item("daemon", true)?;
        let thread = threading.getattr("Thread")?.call((), Some(&keywords))?;
        thread.call_method0("start")?;
        Ok(Thread::Python(thread.unbind()))
    }

    fn start_native(&self, py: Python<'_>, index: usize) -> PyResult<JoinHandle<()>> {
        let body = self.body.clone_ref(py);
        let (begun, begins) = mpsc::channel();
        begin_hub(py)?;
        let run = move || {
            Python::attach(|py| {
                let prepared = name_thread(py, index).and_then(|()| begin_hub(py));
                drop(begun);
                if let Err(error) = prepared.and_then(|()| body.call1(py, (index,)).map(drop)) {
                    log::error!("the thread {} has ended: {}", thread_name(index), one_line(py, &error));
                }
                if let Err(error) = end_hub(py) {
                    log::debug!(
                        "the hub of {} is not destroyed: {}",
                        thread_name(index),
                        one_line(py, &error)
                    );
                }
            });
        };
        let thread = thread::Builder::new().name(thread_name(index)).spawn(run)?;
        // One after the other: what a hub imports at its beginning waits for locks that take a hub.
        let _: Result<(), _> = py.detach(move || begins.recv());
        Ok(thread)
    }

    /// Counts thread number `index` no more: it is stuck in the application.
    pub fn write_off(&self, index: usize) {
        self.crew.leave(index, State::WrittenOff);
    }

    /// Whether every thread that has not been written off is done with the engine. They are so once that has
    /// stopped; that the last one has been written off is no end, another is about to take its place.
    pub fn all_ended(&self) -> bool {
        let members = self.crew.members();
        let are = |state: State| members.iter().any(|member| member.state == state);
        are(State::Ended) && !are(State::Running)
    }

    /// Whether some that have been written off are still in the application.
    pub fn are_some_stuck(&self) -> bool {
        self.crew.members().iter().any(|member| member.state == State::WrittenOff)
    }

    /// Waits until all have ended but those that have been written off. Only after [`Threads::all_ended`]: what is
    /// left to do then is Python's and short.
    ///
    /// # Errors
    /// What a signal handler raises meanwhile.
    pub fn join(&self, py: Python<'_>) -> PyResult<()> {
        let ended = |member: &mut Member| match member.state {
            State::Ended => member.thread.take(),
            State::Running | State::WrittenOff | State::Returned => None,
        };
        let threads: Vec<_> = self.crew.members().iter_mut().filter_map(ended).collect();
        threads.into_iter().try_for_each(|thread| match thread {
            Thread::Python(thread) => thread.call_method0(py, "join").map(drop),
            Thread::Native(thread) => {
                // One that has panicked has ended as well.
                let _ = py.detach(|| thread.join());
                Ok(())
            }
        })
    }
}

/// Whether what `threading` starts is no thread: what it starts them by is not the interpreter's own.
fn is_patched(threading: &Bound<'_, PyModule>) -> bool {
    // The second from Python 3.13 on.
    let starters = ["_start_new_thread", "_start_joinable_thread"];
    let starters = starters.into_iter().filter_map(|name| threading.getattr(name).ok());
    starters.into_iter().any(|starter| !starter.is_instance_of::<PyCFunction>())
}

/// Makes the calling thread's hub, if gevent is there: not in the middle of a request, nor in two threads at once.
fn begin_hub(py: Python<'_>) -> PyResult<()> {
    match py.import("sys")?.getattr("modules")?.get_item("gevent") {
        Ok(gevent) => gevent.call_method0("get_hub").map(drop),
        Err(_) => Ok(()),
    }
}

/// Takes the calling thread's hub apart, as gevent wants it of whoever has one in a thread of his own: one that
/// is left to the interpreter, at the end of the thread, crashes in the loop's destructor.
fn end_hub(py: Python<'_>) -> PyResult<()> {
    match py.import("sys")?.getattr("modules")?.get_item("gevent") {
        Ok(gevent) => gevent.call_method0("get_hub")?.call_method1("destroy", (true,)).map(drop),
        Err(_) => Ok(()),
    }
}

/// Tells `threading` the calling thread's name.
fn name_thread(py: Python<'_>, index: usize) -> PyResult<()> {
    let thread = py.import("threading")?.call_method0("current_thread")?;
    thread.setattr("name", thread_name(index))
}

impl Crew {
    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread goes, or is given up; the main thread is told. What is told later of it is no news.
    fn leave(&self, index: usize, state: State) {
        if let Some(member) = self.members().get_mut(index) {
            member.state = match (member.state, state) {
                (State::Running, _) => state,
                (State::WrittenOff, State::Ended) => State::Returned,
                (former, _) => former,
            };
        }
        // A full pipe has a ring in it already.
        let _ = self.bell.lock().unwrap_or_else(PoisonError::into_inner).write(&[0]);
    }
}

/// What the threads call.
#[pyclass(frozen, name = "ThreadBody", module = "portico._portico")]
struct ThreadBody {
    run: Box<dyn Fn(usize) + Send + Sync>,
    crew: Arc<Crew>,
}

#[pymethods]
impl ThreadBody {
    fn __call__(&self, index: usize) {
        let _leaving = Leaving { crew: &self.crew, index };
        (self.run)(index);
    }
}

/// Tells the main thread that one of the threads has ended, by whatever way.
struct Leaving<'a> {
    crew: &'a Crew,
    index: usize,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.crew.leave(self.index, State::Ended);
    }
}
