//! A worker's place under a supervisor: its slot on the scoreboard, its control socket, its siblings.

use std::hash::RandomState;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;

use portico_metrics::Counter;
use portico_server::{Handover, Sharing};
use portico_supervisor::{ChildContext, ControlSocket, Report, SlotField, SlotState, WorkerSlot, now_nanos};
use portico_worker::{OtherWorkers, SlotHandle};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use signal_hook::low_level;

use super::start_error::{StartError, system};
use crate::conf::{Hooks, Link, Observer, leave_loggers, log_from_thread};
use crate::error::traceback;

/// A worker under a supervisor: its slot, its control socket, its siblings and its hooks. Shared by the threads of
/// the worker; a worker without a supervisor has none.
pub(crate) struct WorkerContext {
    child: ChildContext,
    handover: Handover,
    limit_keys: RandomState,
    succeeded: bool,
    failed: AtomicBool,
    /// The `Worker` that hooks get, where there are some.
    hooked: OnceLock<Py<PyAny>>,
    /// It has been told of its end.
    ended: AtomicBool,
}

impl WorkerContext {
    /// Takes the place. `succeeded`: whoever retires is followed by another, who may not be ready yet.
    pub(crate) fn new(
        child: ChildContext,
        handover: Handover,
        limit_keys: RandomState,
        succeeded: bool,
    ) -> Self {
        Self {
            child,
            handover,
            limit_keys,
            succeeded,
            failed: AtomicBool::new(false),
            hooked: OnceLock::new(),
            ended: AtomicBool::new(false),
        }
    }

    /// From now on it notices by itself that the supervisor has died, and finishes its work first.
    pub(crate) fn outlive_supervisor(&self) {
        if let Err(error) = set_parent_process_death_signal(None) {
            log::debug!("The kernel still ends this worker with the supervisor: {error}");
        }
    }

    /// How many reloads came before it.
    pub(crate) fn generation(&self) -> u32 {
        self.child.generation
    }

    /// Number of its slot.
    pub(crate) fn slot(&self) -> u32 {
        self.child.slot
    }

    /// Its control socket.
    pub(crate) fn control(&self) -> &ControlSocket {
        &self.child.control
    }

    /// Where its threads note what they do; `None` if the scoreboard has no such slot.
    pub(crate) fn place(&self) -> Option<SlotHandle> {
        SlotHandle::new(&self.child.scoreboard, self.child.slot)
    }

    /// The keys with which it counts for limits, together with its siblings.
    pub(crate) fn limit_keys(&self) -> RandomState {
        self.limit_keys.clone()
    }

    /// How it passes connections on to its siblings, which find its load at its `place`.
    pub(crate) fn sharing(&self, place: &SlotHandle) -> Sharing {
        let (scoreboard, slot) = (self.child.scoreboard.clone(), self.child.slot);
        let others = OtherWorkers::new(scoreboard, slot, place.metrics(), self.succeeded);
        Sharing { handover: self.handover.clone(), siblings: Arc::new(others) }
    }

    /// Has `hooks` called in this process; calls `post_fork`.
    ///
    /// # Errors
    /// What that raises.
    pub(crate) fn enter(self: &Arc<Self>, py: Python<'_>, hooks: &Hooks) -> Result<(), StartError> {
        if hooks.are_loggers_in_force(py) {
            log_from_thread().map_err(|error| system("starting threads", &error))?;
        }
        let (own, counting) = (Arc::clone(self), Arc::clone(self));
        let link = Link::new(
            move |reason| own.report(&Report::Replace(reason)),
            move || counting.record().map_or(0, |slot| slot.metrics().since_start(Counter::Calls)),
        );
        let worker = hooks.enter_worker(py, self.slot(), link);
        let worker = worker.map_err(|error| hook_failed(py, "post_fork", &error))?;
        self.hooked.get_or_init(|| worker);
        Ok(())
    }

    /// The `Worker` that hooks get, where there are some.
    pub(crate) fn hooked(&self) -> Option<&Py<PyAny>> {
        self.hooked.get()
    }

    /// The application is there: calls `post_worker_init`. Returns who wants to know of its requests.
    ///
    /// # Errors
    /// What that raises.
    pub(crate) fn loaded(
        &self,
        py: Python<'_>,
        application: &Py<PyAny>,
    ) -> Result<Option<Observer>, StartError> {
        let Some(worker) = self.hooked() else { return Ok(None) };
        let requests = worker.call_method1(py, "load", (application,));
        let requests = requests.map_err(|error| hook_failed(py, "post_worker_init", &error))?;
        Ok((!requests.is_none(py)).then(|| Observer::new(requests)))
    }

    /// Tells the `Worker` of something; what its hook raises is logged.
    pub(crate) fn tell(&self, py: Python<'_>, what: &str, hook: &str) {
        if let Some(worker) = self.hooked()
            && let Err(error) = worker.call_method0(py, what)
        {
            log::error!("the hook {hook} raised\n{}", traceback(py, &error));
        }
    }

    /// The process is about to end: calls `worker_exit`, once.
    pub(crate) fn end(&self, py: Python<'_>) {
        if !self.ended.swap(true, Ordering::SeqCst) {
            self.tell(py, "exit", "worker_exit");
            leave_loggers(py);
        }
    }

    /// It serves from now on.
    pub(crate) fn ready(&self) {
        if let Some(slot) = self.record() {
            slot.set(SlotField::ReadyNanos, now_nanos());
            slot.set(SlotField::State, SlotState::Ready as u64);
        }
        self.report(&Report::Ready);
    }

    /// It will not serve, for this reason; the supervisor is told once. Returns the exit status.
    pub(crate) fn boot_failed(&self, error: &StartError) -> i32 {
        let status = error.exit_status();
        if !self.failed.swap(true, Ordering::SeqCst) {
            self.report(&Report::BootFailed { status, message: error.told() });
        }
        status
    }

    /// It takes nothing new from now on.
    pub(crate) fn retiring(&self) {
        if let Some(slot) = self.record() {
            slot.set(SlotField::State, SlotState::Retiring as u64);
        }
    }

    /// Tells the supervisor. One that has died is noticed where the line is read.
    pub(crate) fn report(&self, report: &Report) {
        if let Err(error) = self.child.control.report(report) {
            log::debug!("The supervisor cannot be told {report}: {error}");
        }
    }

    fn record(&self) -> Option<WorkerSlot<'_>> {
        self.child.scoreboard.slot(self.child.slot)
    }
}

fn hook_failed(py: Python<'_>, hook: &str, error: &PyErr) -> StartError {
    StartError::Hook(format!("the hook {hook} raised\n{}", traceback(py, error)))
}

/// Has the kernel end this process, a child of the supervisor, together with that: while the application is
/// imported, nothing else would.
pub(crate) fn end_with_supervisor(child: &ChildContext) {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        log::debug!("The kernel does not end this process with the supervisor: {error}");
    }
    if !is_child_of(child.supervisor) {
        low_level::exit(1); // It died before this was asked for.
    }
}

/// Whether this process is a child of that one.
pub(crate) fn is_child_of(pid: u32) -> bool {
    getppid().is_some_and(|parent| parent.as_raw_nonzero().get().unsigned_abs() == pid)
}
