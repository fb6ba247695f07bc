//! The hub of an application whose threads are greenlets: gevent's or eventlet's.
//!
//! Where one of the two has patched `threading`, the threads, locks, queues and pools of the application belong to
//! the hub of the thread that has imported it, and must be used in that thread alone. So all of the application's
//! code runs there, each request in a greenlet. Other threads hand over what they want done there: it is queued,
//! and an eventfd that the hub watches wakes it. A greenlet that has to wait for something outside of Python has
//! that done on a thread of its own, and the hub goes on meanwhile.
//!
//! A greenlet's part of the C stack lies elsewhere while another greenlet runs. So nothing that another thread or
//! another greenlet uses may lie on the stack of one that waits: it is moved to the heap before.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, ThreadId};
use std::{fmt, io, mem};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyDict, PyTuple};
use rustix::event::{EventfdFlags, eventfd};

use crate::error::one_line;
use crate::{forked_children, raw};

/// The hub of one thread, with what other threads want done there.
pub(crate) struct Hub {
    library: Library,
    /// Python's identity of the thread, as it was before it was patched.
    thread_ident: u64,
    hub: Py<PyAny>,
    getcurrent: Py<PyAny>,
    /// Bounded by what waits: a call, a wait or an exception for each of the worker's threads.
    callbacks: Mutex<Vec<Callback>>,
    wakeup: OwnedFd,
    watcher: Mutex<Option<Py<PyAny>>>,
}

/// The library that has patched `threading`, by which the hub is found and callbacks are handed to it. It is
/// looked up when a worker starts and does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Library {
    Gevent,
    Eventlet,
}

/// A function that the hub runs. It must not wait.
type Callback = Box<dyn FnOnce(Python<'_>) + Send>;

/// A greenlet of a hub, to be continued by any thread through the hub.
pub(crate) struct Greenlet {
    hub: Arc<Hub>,
    object: Py<PyAny>,
}

/// Work that a thread of its own does for a greenlet.
pub(crate) struct Offloaded<T> {
    hub: Arc<Hub>,
    state: Arc<OffloadState<T>>,
}

/// The state that a greenlet shares with the thread which works for it, and with nobody else: the result, and
/// whether the greenlet has left for the hub and is to be woken there.
struct OffloadState<T> {
    result: Mutex<Option<thread::Result<T>>>,
    /// The greenlet has left for the hub.
    waiting: AtomicBool,
}

/// The owner of something of a thread: one greenlet of it, where greenlets run there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane(ThreadId, u64);

/// Stack of a thread that waits for a greenlet: it calls nothing of Python's.
const OFFLOADED_STACK_BYTES: usize = 256 * 1024;

/// How long a greenlet leaves a lock alone that another one has, in seconds.
const LOCK_PAUSE: f64 = 0.001;

thread_local! {
    /// The hub whose thread this is.
    static HERE: RefCell<Option<Arc<Hub>>> = const { RefCell::new(None) };
    static IS_HERE: Cell<bool> = const { Cell::new(false) };
    /// What was thrown into greenlets, by their identities, that had to wait where nothing can be raised.
    static INTERRUPTIONS: RefCell<Vec<(u64, PyErr)>> = const { RefCell::new(Vec::new()) };
}

impl Hub {
    /// The calling thread's hub, if the application's threads are greenlets. It takes callbacks until it is
    /// [closed](Hub::close).
    ///
    /// # Errors
    /// The process has no descriptor left; what gevent or eventlet raise.
    pub(crate) fn of_application(py: Python<'_>) -> PyResult<Option<Arc<Self>>> {
        let Some(library) = Library::of_application(py)? else { return Ok(None) };
        let hub = match library {
            Library::Gevent => py.import("gevent")?.call_method0("get_hub")?,
            Library::Eventlet => py.import("eventlet.hubs")?.call_method0("get_hub")?,
        };
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io::Error::from)?;
        let this = Arc::new(Self {
            library,
            thread_ident: raw::thread_ident(py),
            hub: hub.unbind(),
            getcurrent: py.import("greenlet")?.getattr("getcurrent")?.unbind(),
            callbacks: Mutex::default(),
            wakeup,
            watcher: Mutex::default(),
        });
        this.watch(py)?;
        IS_HERE.set(true);
        HERE.set(Some(Arc::clone(&this)));
        Ok(Some(this))
    }

    /// Takes no callbacks any more. To be called in the hub's thread.
    pub(crate) fn close(&self, py: Python<'_>) {
        IS_HERE.set(false);
        drop(HERE.take());
        self.unwatch(py);
    }

    /// Whose it is.
    pub(crate) fn library(&self) -> &'static str {
        self.library.module()
    }

    /// Python's identity of the hub's thread.
    pub(crate) fn thread_ident(&self) -> u64 {
        self.thread_ident
    }

    /// Has `callback` run in the hub, soon. It must not wait, but may switch to a greenlet. For any thread.
    pub(crate) fn run_soon(&self, callback: impl FnOnce(Python<'_>) + Send + 'static) {
        let mut callbacks = self.callbacks.lock().unwrap_or_else(PoisonError::into_inner);
        callbacks.push(Box::new(callback));
        if callbacks.len() == 1 {
            // Fails only if it has been written to 2^64 times without a read, and is readable then.
            let _ = rustix::io::write(&self.wakeup, &1u64.to_ne_bytes());
        }
    }

    /// Has `work` run in a greenlet of its own. To be called in the hub's thread.
    ///
    /// # Errors
    /// What gevent or eventlet raise.
    pub(crate) fn spawn(
        &self,
        py: Python<'_>,
        work: impl FnOnce(Python<'_>) + Send + 'static,
    ) -> PyResult<()> {
        let body = Bound::new(py, GreenletBody { work: Mutex::new(Some(Box::new(work))) })?;
        py.import(self.library.module())?.call_method1("spawn", (body,)).map(drop)
    }

    /// The greenlet that runs. To be called in the hub's thread.
    ///
    /// # Errors
    /// None is expected.
    pub(crate) fn current(self: &Arc<Self>, py: Python<'_>) -> PyResult<Greenlet> {
        Ok(Greenlet { hub: Arc::clone(self), object: self.getcurrent.call0(py)? })
    }

    /// Leaves the calling greenlet for the hub, until somebody switches to it: whoever does says nothing of the
    /// reason, so look.
    ///
    /// # Errors
    /// What is thrown into the greenlet.
    pub(crate) fn switch(&self, py: Python<'_>) -> PyResult<()> {
        self.hub.call_method0(py, intern!(py, "switch")).map(drop)
    }

    /// Has `work` done on a thread of its own, which must not need the interpreter. To be called in the hub's
    /// thread.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn offload<T: Send + 'static>(
        self: &Arc<Self>,
        py: Python<'_>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> PyResult<Offloaded<T>> {
        let greenlet = self.current(py)?;
        let state = Arc::new(OffloadState { result: Mutex::new(None), waiting: AtomicBool::new(false) });
        let own = Arc::clone(&state);
        let run = move || {
            *own.result() = Some(catch_unwind(AssertUnwindSafe(work)));
            let hub = Arc::clone(&greenlet.hub);
            hub.run_soon(move |py| {
                if own.waiting.load(Ordering::SeqCst) {
                    greenlet.switch_to(py);
                }
            });
        };
        let thread = thread::Builder::new().name("portico-wait".to_owned()).stack_size(OFFLOADED_STACK_BYTES);
        thread.spawn(run)?;
        Ok(Offloaded { hub: Arc::clone(self), state })
    }

    /// Runs `work` on a thread of its own and waits for its end, whatever is thrown into the greenlet meanwhile:
    /// `noticed` is told of that. Where the system has no thread left the hub stands still until then.
    pub(crate) fn run_outside<T: Send + 'static>(
        self: &Arc<Self>,
        py: Python<'_>,
        work: impl Fn() -> T + Send + Sync + 'static,
        noticed: impl Fn(&PyErr),
    ) -> T {
        let work = Arc::new(work);
        let own = Arc::clone(&work);
        let Ok(offloaded) = self.offload(py, move || own()) else { return py.detach(|| work()) };
        loop {
            match offloaded.wait(py) {
                Ok(result) => return result,
                Err(error) => noticed(&error),
            }
        }
    }

    /// Waits for what `wait` waits for. Where something is thrown into the greenlet meanwhile, that ends the wait,
    /// and is kept for [`take_interruption`]; until it is taken nothing is waited for.
    pub(crate) fn await_outside(self: &Arc<Self>, py: Python<'_>, wait: Box<dyn FnOnce() + Send>) {
        let Ok(current) = self.current(py) else { return };
        if INTERRUPTIONS.with_borrow(|known| known.iter().any(|(ident, _)| *ident == current.ident())) {
            return;
        }
        let waited = self.offload(py, wait).and_then(|offloaded| offloaded.wait(py));
        if let Err(error) = waited {
            interrupt(current.ident(), error);
        }
    }

    fn watch(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let run = Bound::new(py, HubCallbacks { hub: Arc::clone(self) })?;
        let (hub, wakeup) = (self.hub.bind(py), self.wakeup.as_raw_fd());
        let watcher = match self.library {
            Library::Gevent => {
                const READ: i32 = 1;
                let watcher = hub.getattr("loop")?.call_method1("io", (wakeup, READ))?;
                watcher.call_method1("start", (run,))?;
                watcher
            }
            Library::Eventlet => {
                let read = hub.getattr("READ")?; // It is compared by identity.
                hub.call_method1("add", (read, wakeup, &run, &run, py.None()))?
            }
        };
        *self.watcher() = Some(watcher.unbind());
        Ok(())
    }

    fn unwatch(&self, py: Python<'_>) {
        let watcher = self.watcher().take();
        let Some(watcher) = watcher else { return };
        let removed = match self.library {
            Library::Gevent => {
                watcher.call_method0(py, "stop").and_then(|_| watcher.call_method0(py, "close"))
            }
            Library::Eventlet => self.hub.call_method1(py, "remove", (watcher,)),
        };
        if let Err(error) = removed {
            log::debug!("the hub keeps a watcher: {}", one_line(py, &error));
        }
    }

    fn watcher(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs what was handed over.
    fn run_callbacks(&self, py: Python<'_>) {
        // Before the queue is taken: what is queued after that wakes the hub anew.
        let _ = rustix::io::read(&self.wakeup, &mut [0u8; 8]);
        let callbacks = mem::take(&mut *self.callbacks.lock().unwrap_or_else(PoisonError::into_inner));
        for callback in callbacks {
            if catch_unwind(AssertUnwindSafe(|| callback(py))).is_err() {
                log::error!("a callback in the hub failed (this is a bug in Portico)");
            }
        }
    }
}

impl Library {
    fn module(self) -> &'static str {
        match self {
            Self::Gevent => "gevent",
            Self::Eventlet => "eventlet",
        }
    }

    fn of_application(py: Python<'_>) -> PyResult<Option<Self>> {
        let modules = py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?;
        let says = |module: &str, function: &str, patched: &str| -> PyResult<bool> {
            let Some(module) = modules.get_item(module)? else { return Ok(false) };
            module.call_method1(function, (patched,))?.is_truthy()
        };
        if says("gevent.monkey", "is_module_patched", "threading")? {
            return Ok(Some(Self::Gevent));
        }
        Ok(says("eventlet.patcher", "is_monkey_patched", "thread")?.then_some(Self::Eventlet))
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hub").field(&self.library).finish()
    }
}

impl Greenlet {
    /// Its hub.
    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Its identity, which `threading.get_ident()` returns in it.
    pub(crate) fn ident(&self) -> u64 {
        self.object.as_ptr() as u64
    }

    /// The frame in which it waits; `None` if it runs, has not begun or has ended.
    pub(crate) fn frame<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.object.bind(py).getattr(intern!(py, "gr_frame")).ok().filter(|frame| !frame.is_none())
    }

    /// Has it run until it waits again. To be called in the hub.
    pub(crate) fn switch_to(&self, py: Python<'_>) {
        if let Err(error) = self.object.call_method0(py, intern!(py, "switch")) {
            log::debug!("a greenlet cannot be switched to: {}", one_line(py, &error));
        }
    }

    /// Raises `exception`, a class, where it waits. To be called in the hub.
    pub(crate) fn throw(&self, py: Python<'_>, exception: &Py<PyAny>) {
        if let Err(error) = self.object.call_method1(py, intern!(py, "throw"), (exception,)) {
            log::debug!("nothing can be thrown into a greenlet: {}", one_line(py, &error));
        }
    }
}

impl fmt::Debug for Greenlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Greenlet({:#x})", self.ident())
    }
}

impl<T> Offloaded<T> {
    /// Waits for the end of the work, whose panics are passed on.
    ///
    /// # Errors
    /// What is thrown into the greenlet. The work goes on, and may be waited for again.
    pub(crate) fn wait(&self, py: Python<'_>) -> PyResult<T> {
        loop {
            match self.state.result().take() {
                Some(Ok(result)) => return Ok(result),
                Some(Err(panic)) => resume_unwind(panic),
                None => {}
            }
            self.state.waiting.store(true, Ordering::SeqCst);
            let switched = self.hub.switch(py);
            self.state.waiting.store(false, Ordering::SeqCst);
            switched?;
        }
    }
}

impl<T> OffloadState<T> {
    fn result(&self) -> MutexGuard<'_, Option<Result<T, Box<dyn Any + Send>>>> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hub whose thread the calling one is.
pub(crate) fn here() -> Option<Arc<Hub>> {
    HERE.with_borrow(Option::clone)
}

/// Whether the calling thread is that of a hub.
pub(crate) fn is_here() -> bool {
    IS_HERE.get()
}

/// The calling thread; where it is that of a hub, the greenlet.
pub(crate) fn lane(py: Python<'_>) -> Lane {
    Lane(thread::current().id(), current_ident(py).unwrap_or_default())
}

/// The identity of the greenlet that runs, in a hub's thread.
pub(crate) fn current_ident(py: Python<'_>) -> Option<u64> {
    let hub = here()?;
    hub.current(py).ok().map(|greenlet| greenlet.ident())
}

/// What was thrown into the calling greenlet while it could not be raised.
#[inline]
pub(crate) fn take_interruption(py: Python<'_>) -> Option<PyErr> {
    if is_here() { take_interruption_of_greenlet(py) } else { None }
}

#[cold]
fn take_interruption_of_greenlet(py: Python<'_>) -> Option<PyErr> {
    if INTERRUPTIONS.with_borrow(Vec::is_empty) {
        return None;
    }
    let current = current_ident(py)?;
    INTERRUPTIONS.with_borrow_mut(|known| {
        let at = known.iter().position(|(ident, _)| *ident == current)?;
        Some(known.swap_remove(at).1)
    })
}

fn interrupt(greenlet: u64, error: PyErr) {
    INTERRUPTIONS.with_borrow_mut(|known| {
        // What comes first is what is raised.
        if known.iter().all(|(ident, _)| *ident != greenlet) {
            known.push((greenlet, error));
        }
    });
}

/// Takes a lock that is held while others work without the interpreter. In a hub's thread another greenlet may
/// hold it, and goes on only if this one leaves for the hub.
pub(crate) fn lock<'a, T>(py: Python<'_>, mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
    loop {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if is_here() => pause(py),
            Err(TryLockError::WouldBlock) => {
                return mutex.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

#[cold]
fn pause(py: Python<'_>) {
    // By what they have patched it with.
    let slept = py.import("time").and_then(|time| time.call_method1("sleep", (LOCK_PAUSE,)));
    if let Err(error) = slept
        && let Some(current) = current_ident(py)
    {
        interrupt(current, error);
    }
}

/// As `Python::attach`, on a thread of ours that has no state in Python otherwise. Patched code makes a hub for
/// any thread that it runs in; here it ends before the state does.
pub(crate) fn attach<T>(work: impl FnOnce(Python<'_>) -> T) -> T {
    Python::attach(|py| {
        let result = work(py);
        destroy_own(py);
        result
    })
}

/// Destroys the calling thread's hub, if gevent has made one and it is not the main thread's: what is left to the
/// interpreter, at the end of the thread's state, crashes it in the destructor of the hub's loop.
pub(crate) fn destroy_own(py: Python<'_>) {
    let destroyed = || -> PyResult<()> {
        let modules = py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?;
        let Some(local) = modules.get_item("gevent._hub_local")? else { return Ok(()) };
        let hub = local.call_method0("get_hub_if_exists")?;
        if hub.is_none() || hub.getattr("main_hub")?.is_truthy()? {
            return Ok(());
        }
        hub.call_method1("destroy", (true,)).map(drop)
    };
    if let Err(error) = destroyed() {
        log::debug!("a thread's hub is not destroyed: {}", one_line(py, &error));
    }
}

/// The callbacks of the hub for what was handed over.
#[pyclass(frozen, name = "HubCallbacks", module = "portico._portico")]
struct HubCallbacks {
    hub: Arc<Hub>,
}

#[pymethods]
impl HubCallbacks {
    #[pyo3(signature = (*_arguments))]
    fn __call__(&self, py: Python<'_>, _arguments: &Bound<'_, PyTuple>) {
        if forked_children::is_marked() {
            // What the parent is told is not this process' business.
            return self.hub.unwatch(py);
        }
        self.hub.run_callbacks(py);
    }
}

/// The function that a greenlet of ours runs.
#[pyclass(frozen, name = "GreenletBody", module = "portico._portico")]
struct GreenletBody {
    work: Mutex<Option<Callback>>,
}

#[pymethods]
impl GreenletBody {
    fn __call__(&self, py: Python<'_>) {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(work) = work {
            work(py);
        }
    }
}
