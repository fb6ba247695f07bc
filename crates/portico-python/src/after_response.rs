//! What applications have done after a response: `environ["portico.after_response"](function, *args,
//! **kwargs)`.
//!
//! A worker has a pool of threads of its own for it, which starts with the first task; in a hub, greenlets. A
//! task waits in the thread of its request until the call has ended, close() included, and then in the pool's
//! queue. It runs in a copy of the context that it was given in.
//!
//! Nothing is kept beyond the process: what does not end in time at the worker's end is dropped, and told.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use portico_log::{Occurrences, Ration};
use portico_metrics::{Counter, Gauge, Metrics};
use portico_worker::{AFTER_QUEUE_MAX, AfterQueue, AfterRefusal};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::error::{one_line, traceback};
use crate::hub::{self, Hub};
use crate::{forked_children, thread_status};

pyo3::create_exception!(
    portico,
    AfterResponseRefused,
    PyRuntimeError,
    "A function is not called after the response: too many wait for that, or this worker ends."
);

/// The pool of one worker.
pub(crate) struct AfterResponse {
    queue: Mutex<AfterQueue<AfterTask>>,
    /// There is a task, or there will be none any more.
    changed: Condvar,
    /// Written with the queue locked.
    metrics: Metrics<'static>,
    /// The process whose threads there are.
    pid: u32,
    /// Where the application's threads are greenlets.
    hub: Option<Arc<Hub>>,
    /// Threads that have been started.
    threads: Mutex<Vec<Py<PyAny>>>,
    /// Tells the main thread that there is nothing to do.
    notifier: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// A call that is to be made.
struct AfterTask {
    /// The function, and what it is given by position.
    arguments: Py<PyTuple>,
    keywords: Option<Py<PyDict>>,
    context: Py<PyAny>,
    /// The request that it was given in, for the log.
    request: Option<String>,
}

/// That of this process, while it serves.
static POOL: Mutex<Option<Arc<AfterResponse>>> = Mutex::new(None);

thread_local! {
    /// Tasks of the calls that this thread, or its greenlets, are in, by the numbers of their records.
    static PENDING: RefCell<Vec<(usize, AfterTask)>> = const { RefCell::new(Vec::new()) };
    /// How many these are.
    static PENDING_COUNT: Cell<usize> = const { Cell::new(0) };
}

/// Failures that are logged each second, with their tracebacks.
const FAILURES_PER_SECOND_MAX: u32 = 100;

static FAILURES: Ration = Ration::new(FAILURES_PER_SECOND_MAX);
static REFUSALS: Occurrences = Occurrences::new();
static UNSTARTED: Occurrences = Occurrences::new();

/// Calls `function(*args, **kwargs)` in a thread of its own once the response has been handed over. Of a thread
/// that has no request it is called at once.
///
/// # Errors
/// `TypeError` if it cannot be called; [`AfterResponseRefused`].
#[pyfunction]
#[pyo3(signature = (function, /, *args, **kwargs))]
pub(crate) fn after_response(
    py: Python<'_>,
    function: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    if !function.is_callable() {
        return Err(PyTypeError::new_err("what is to be called after the response must be callable"));
    }
    let refuse = |reason: &str| Err(AfterResponseRefused::new_err(reason.to_owned()));
    let pool = POOL.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(pool) = pool else { return refuse("no worker of Portico runs in this process") };
    if pool.pid != std::process::id() {
        return refuse("this process was forked by a worker of Portico, and has none of its threads");
    }
    let context = py.import(intern!(py, "contextvars"))?.call_method0(intern!(py, "copy_context"))?;
    let arguments: Vec<_> = std::iter::once(function.clone()).chain(args.iter()).collect();
    let arguments = PyTuple::new(py, arguments)?;
    let task = AfterTask {
        arguments: arguments.unbind(),
        keywords: kwargs.map(|kwargs| kwargs.clone().unbind()),
        context: context.unbind(),
        request: None,
    };
    match pool.promise() {
        Ok(()) => {}
        Err(AfterRefusal::Closed) => {
            return refuse("this worker ends, and does nothing more after responses");
        }
        Err(AfterRefusal::Full) => {
            if let Some(times) = REFUSALS.note() {
                log::warn!(
                    "{AFTER_QUEUE_MAX} functions wait to be called after responses; one is refused{times}"
                );
            }
            return refuse("too many functions wait to be called after responses (--after-threads)");
        }
    }
    match thread_status::own() {
        Some(record) => {
            PENDING.with_borrow_mut(|pending| pending.push((record.index(), task)));
            PENDING_COUNT.set(PENDING_COUNT.get() + 1);
        }
        None => pool.submit(py, task),
    }
    Ok(())
}

/// Whether calls that the calling thread is in have left something to be done.
#[inline]
pub(crate) fn are_pending() -> bool {
    PENDING_COUNT.get() > 0
}

/// The call that the calling thread, or its greenlet that runs, was in has ended: has done what it has left.
/// `request` names it.
#[cold]
pub(crate) fn begin(py: Python<'_>, request: impl Fn() -> String) {
    let Some(index) = thread_status::own().map(|record| record.index()) else { return };
    let own: Vec<AfterTask> = PENDING.with_borrow_mut(|pending| {
        let own = pending.extract_if(.., |(of, _)| *of == index).map(|(_, task)| task).collect();
        PENDING_COUNT.set(pending.len());
        own
    });
    let Some(pool) = POOL.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return };
    for mut task in own {
        task.request = Some(request());
        pool.submit(py, task);
    }
}

impl AfterResponse {
    /// One that does what the application leaves to be done in this process, in `threads_max` threads, or in
    /// greenlets of `hub`.
    pub(crate) fn install(threads_max: u32, metrics: Metrics<'static>, hub: Option<&Arc<Hub>>) -> Arc<Self> {
        let pool = Arc::new(Self {
            queue: Mutex::new(AfterQueue::new(threads_max as usize)),
            changed: Condvar::new(),
            metrics,
            pid: std::process::id(),
            hub: hub.cloned(),
            threads: Mutex::default(),
            notifier: OnceLock::new(),
        });
        *POOL.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&pool));
        pool
    }

    /// From now on `notify` is called when there is nothing more to do. To be called once.
    pub(crate) fn notify(&self, notify: impl Fn() + Send + Sync + 'static) {
        drop(self.notifier.set(Box::new(notify)));
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_done(&self) -> bool {
        self.queue().is_done()
    }

    /// Whether something runs.
    pub(crate) fn is_running(&self) -> bool {
        self.queue().running() > 0
    }

    /// Takes nothing more, and drops what waits; says so in the log. For any thread, without the interpreter:
    /// what is dropped lives on in memory, for which that would be needed.
    pub(crate) fn close(&self) {
        let (dropped, running) = self.change(|queue| match queue.is_closed() {
            true => (Vec::new(), 0),
            false => (queue.close(), queue.running()),
        });
        self.changed.notify_all();
        let count = dropped.len() + running;
        if count > 0 {
            self.add(Counter::AfterResponseDropped, count as u64);
            let requests: Vec<&str> =
                dropped.iter().filter_map(|task| task.request.as_deref()).take(TOLD_MAX).collect();
            let of =
                if requests.is_empty() { String::new() } else { format!("; of {}", requests.join(", ")) };
            log::error!(
                "{count} functions that were to be called after responses are dropped, {running} of which run: \
                 they had not ended within --graceful-timeout{of}"
            );
        }
        std::mem::forget(dropped);
    }

    /// Takes nothing more, and waits for the threads to end, where they have nothing to do.
    ///
    /// # Errors
    /// What a signal handler raises meanwhile.
    pub(crate) fn end(&self, py: Python<'_>) -> PyResult<()> {
        self.close();
        let mut installed = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        installed.take_if(|pool| std::ptr::eq(&**pool, self));
        drop(installed);
        if self.is_running() {
            return Ok(());
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        threads.into_iter().try_for_each(|thread| thread.call_method0(py, "join").map(drop))
    }

    fn queue(&self) -> MutexGuard<'_, AfterQueue<AfterTask>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue, and the figures of it. Nothing of Python's happens meanwhile.
    fn change<T>(&self, change: impl FnOnce(&mut AfterQueue<AfterTask>) -> T) -> T {
        let mut queue = self.queue();
        let result = change(&mut queue);
        self.metrics.set(Gauge::AfterResponseQueued, queue.queued() as u64);
        self.metrics.set(Gauge::AfterResponseRunning, queue.running() as u64);
        result
    }

    fn add(&self, counter: Counter, count: u64) {
        self.change(|_| self.metrics.add(counter, count));
    }

    fn promise(&self) -> Result<(), AfterRefusal> {
        let promised = self.change(AfterQueue::promise);
        promised.inspect_err(|_| self.add(Counter::AfterResponseRefused, 1))
    }

    /// Has `task`, which has its place, done as soon as there is a thread.
    fn submit(self: &Arc<Self>, py: Python<'_>, task: AfterTask) {
        match self.change(|queue| queue.push(task)) {
            Ok(false) => self.changed.notify_one(),
            Ok(true) => {
                if let Err(error) = self.start(py) {
                    self.change(AfterQueue::end_thread);
                    if let Some(times) = UNSTARTED.note() {
                        let error = one_line(py, &error);
                        log::error!(
                            "a thread for what is left after responses does not start: {error}{times}"
                        );
                    }
                }
            }
            Err(task) => {
                self.add(Counter::AfterResponseDropped, 1);
                let request = task.request.as_deref().unwrap_or("a thread of the application's");
                log::error!("{request}: a function is not called after the response: the worker ends");
            }
        }
    }

    fn start(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        if let Some(hub) = &self.hub {
            let (own, pool) = (Arc::clone(hub), Arc::clone(self));
            hub.run_soon(move |py| {
                let tasks = Arc::clone(&pool);
                if let Err(error) = own.spawn(py, move |py| tasks.run_greenlet(py)) {
                    pool.change(AfterQueue::end_thread);
                    log::error!(
                        "a greenlet for what is left after responses does not start: {}",
                        one_line(py, &error)
                    );
                }
            });
            return Ok(());
        }
        let body = Py::new(py, AfterThread { pool: Arc::clone(self) })?;
        let number = self.threads.lock().unwrap_or_else(PoisonError::into_inner).len() + 1;
        let keywords = PyDict::new(py);
        keywords.set_item("target", body)?;
        keywords.set_item("name", format!("portico-after-{number}"))?;
        keywords.set_item("daemon", true)?;
        let thread = py.import("threading")?.getattr("Thread")?.call((), Some(&keywords))?;
        thread.call_method0("start")?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread.unbind());
        Ok(())
    }

    /// What a thread does, to the end of the worker.
    fn run_thread(&self, py: Python<'_>) {
        while let Some(task) = py.detach(|| self.next()) {
            self.run(py, task);
        }
        self.change(AfterQueue::end_thread);
    }

    /// What a greenlet does, while there is something.
    fn run_greenlet(&self, py: Python<'_>) {
        while let Some(task) = self.change(AfterQueue::take) {
            self.run(py, task);
        }
        self.change(AfterQueue::end_thread);
    }

    /// Waits for a task, without the interpreter; `None` if there will be none.
    fn next(&self) -> Option<AfterTask> {
        let mut queue = self.queue();
        loop {
            if queue.is_closed() {
                return None;
            }
            if let Some(task) = queue.take() {
                drop(queue);
                self.change(|_| ()); // For the figures.
                return Some(task);
            }
            queue.set_idle(true);
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.set_idle(false);
        }
    }

    /// Runs a task to its end, whatever that is.
    fn run(&self, py: Python<'_>, task: AfterTask) {
        let AfterTask { arguments, keywords, context, request } = task;
        let keywords = keywords.as_ref().map(|keywords| keywords.bind(py));
        let called = context.bind(py).getattr(intern!(py, "run"));
        let called = called.and_then(|run| run.call(arguments.bind(py), keywords));
        forked_children::end(py, called.as_ref().err(), "a function that was called after a response");
        let counter = match &called {
            Ok(_) => Counter::AfterResponseDone,
            Err(error) => {
                let function = arguments.bind(py).get_item(0).and_then(|function| function.repr());
                let function = function.map_or_else(|_| "a function".to_owned(), |text| text.to_string());
                tell_failure(py, error, &function, request.as_deref());
                Counter::AfterResponseFailed
            }
        };
        drop(called);
        // What the last references end may be code of the application's.
        drop((arguments, context));
        let is_done = self.change(|queue| {
            queue.end_task();
            self.metrics.add(counter, 1);
            queue.is_done()
        });
        if let Some(notify) = self.notifier.get().filter(|_| is_done) {
            notify();
        }
    }
}

/// Requests that are named where what they have left is dropped.
const TOLD_MAX: usize = 8;

fn tell_failure(py: Python<'_>, error: &PyErr, function: &str, request: Option<&str>) {
    let Some(left_out) = FAILURES.take(Instant::now()) else { return };
    let request = request.map(|request| format!("{request}: ")).unwrap_or_default();
    let text = traceback(py, error);
    py.detach(|| {
        log::error!("{request}{function}, called after the response, raised\n{text}");
        if left_out > 0 {
            log::error!(
                "{left_out} further failures after responses were not logged: at most \
                 {FAILURES_PER_SECOND_MAX} a second are"
            );
        }
    });
}

/// What the pool's threads call.
#[pyclass(frozen, name = "AfterThread", module = "portico._portico")]
struct AfterThread {
    pool: Arc<AfterResponse>,
}

#[pymethods]
impl AfterThread {
    fn __call__(&self, py: Python<'_>) {
        self.pool.run_thread(py);
        hub::destroy_own(py);
    }
}
