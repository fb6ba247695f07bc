//! The calls of an application whose threads are greenlets: each of the worker's threads hands its calls to a
//! greenlet of the hub, and waits for their ends without the interpreter.
//!
//! So the engine is driven, deadlines are kept and requests are refused whatever the application does, and all of
//! the application's code runs in the one thread that it expects. A greenlet lives as long as the worker, and with
//! it what `threading.local` has: it is to the application what a thread is elsewhere.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

use portico_server::{Application, Request, Responder};
use portico_supervisor::thread_name;

use crate::error::one_line;
use crate::gateway::{Gateway, is_detached};
use crate::hub::{self, Greenlet, Hub};
use crate::thread_status::{self, InGreenlet, ThreadStatuses};

/// A caller of the application in greenlets of its hub, where gevent or eventlet has patched it.
pub(crate) struct Greenlets {
    hub: Arc<Hub>,
    gateway: Gateway,
    records: Arc<ThreadStatuses>,
    /// One for each thread that there may ever be.
    slots: Vec<Arc<GreenletSlot>>,
}

/// The meeting point of a thread and its greenlet.
#[derive(Default)]
struct GreenletSlot {
    state: Mutex<GreenletState>,
    ended: Condvar,
}

/// The call, its end and the idle greenlet, as a thread and its greenlet pass them to each other. It is locked for
/// single steps only: the greenlet must not leave for the hub with it.
#[derive(Default)]
struct GreenletState {
    /// What the greenlet is to do next.
    call: Option<GreenletCall>,
    /// How the last call has ended.
    end: Option<Result<(), Box<dyn Any + Send>>>,
    /// The greenlet, while it has left for the hub because it has nothing to do.
    idle: Option<Greenlet>,
    /// No call will come any more.
    closed: bool,
}

/// A call on its way to the greenlet.
struct GreenletCall {
    request: Request,
    responder: Responder,
    noted: InGreenlet,
}

impl Greenlets {
    /// Has the calls of `gateway` run in greenlets of `hub`, and noted in `records`.
    pub(crate) fn new(hub: Arc<Hub>, gateway: Gateway, records: Arc<ThreadStatuses>) -> Self {
        let slots = records.iter().map(|_| Arc::default()).collect();
        Self { hub, gateway, records, slots }
    }

    /// Starts the greenlet number `index`. For any thread.
    pub(crate) fn start(self: &Arc<Self>, index: usize) {
        let this = Arc::clone(self);
        self.hub.run_soon(move |py| {
            let own = Arc::clone(&this);
            if let Err(error) = this.hub.spawn(py, move |py| own.run(py, index)) {
                log::error!("the greenlet {} does not start: {}", thread_name(index), one_line(py, &error));
            }
        });
    }

    /// Ends the greenlet number `index` when it has nothing to do. For any thread.
    pub(crate) fn end(&self, index: usize) {
        if let Some(slot) = self.slots.get(index) {
            slot.state().closed = true;
            self.wake(slot);
        }
    }

    fn wake(&self, slot: &Arc<GreenletSlot>) {
        let slot = Arc::clone(slot);
        self.hub.run_soon(move |py| {
            // One that is not idle looks for itself before it is.
            let idle = slot.state().idle.take();
            if let Some(greenlet) = idle {
                greenlet.switch_to(py);
            }
        });
    }

    /// What the greenlet does.
    fn run(&self, py: Python<'_>, index: usize) {
        let (Some(slot), Ok(greenlet)) = (self.slots.get(index), self.hub.current(py)) else { return };
        let ident = greenlet.ident();
        self.records.enlist_greenlet(index, greenlet);
        if let Err(error) = name_thread(py, index) {
            log::debug!("a greenlet has no name: {}", one_line(py, &error));
        }
        let mut kept = None;
        while let Some(GreenletCall { request, responder, noted }) = self.next_call(py, slot) {
            let call = || {
                // One that was given up while the hub was kept busy is not begun: its client has its response.
                if noted.enter() {
                    self.gateway.call_keeping(&mut kept, request, responder);
                }
                drop(noted);
            };
            let end = catch_unwind(AssertUnwindSafe(call));
            drop(hub::take_interruption(py)); // It was meant for this call.
            slot.state().end = Some(end);
            slot.ended.notify_one();
        }
        thread_status::leave_greenlet(ident);
    }

    /// Waits for the next call, in the greenlet; `None` if there will be none.
    fn next_call(&self, py: Python<'_>, slot: &GreenletSlot) -> Option<GreenletCall> {
        loop {
            let current = self.hub.current(py).ok();
            {
                let mut state = slot.state();
                if let Some(call) = state.call.take() {
                    return Some(call);
                }
                if state.closed {
                    return None;
                }
                state.idle = current;
            }
            if let Err(error) = self.hub.switch(py) {
                // A timeout that a request has not cancelled, or the end of all greenlets that somebody has asked
                // for. It is no later request's business.
                log::debug!("thrown between two requests: {}", one_line(py, &error));
            }
            let left = slot.state().idle.take();
            drop(left);
        }
    }
}

impl Application for Greenlets {
    fn call(&self, request: Request, responder: Responder) {
        // None but the worker's threads call. Dropped, the responder answers 500.
        let Some(slot) = self.slots.get(thread_status::index()) else { return };
        let noted = self.records.begin_for_greenlet(&request);
        slot.state().call = Some(GreenletCall { request, responder, noted });
        self.wake(slot);
        if let Err(panic) = slot.await_end() {
            resume_unwind(panic);
        }
    }

    fn busy_word(&self) -> Option<&'static AtomicU64> {
        self.records.busy_word()
    }

    fn blocking(&self, wait: &mut (dyn FnMut() + Send)) {
        // The threads that wait between calls never have the interpreter.
        match hub::is_here() {
            true => self.gateway.blocking(&mut || thread_status::awaiting_client(wait)),
            false => wait(),
        }
    }

    fn await_client(&self, wait: Box<dyn FnOnce() + Send>) {
        let mut wait = Some(wait);
        if is_detached() {
            return self.blocking(&mut || wait.take().into_iter().for_each(|wait| wait()));
        }
        thread_status::awaiting_client(&mut || {
            if let Some(wait) = wait.take() {
                Python::attach(|py| self.hub.await_outside(py, wait));
            }
        });
    }
}

impl GreenletSlot {
    fn state(&self) -> MutexGuard<'_, GreenletState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn await_end(&self) -> Result<(), Box<dyn Any + Send>> {
        let mut state = self.state();
        loop {
            match state.end.take() {
                Some(end) => return end,
                None => state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Tells `threading` the name of the greenlet that runs.
fn name_thread(py: Python<'_>, index: usize) -> PyResult<()> {
    let thread = py.import("threading")?.call_method0("current_thread")?;
    thread.setattr("name", thread_name(index))
}
