//! Does what is due for a running call whose client has left ([`portico_worker::Disconnects`] decides that): its
//! callbacks are called and, with --on-disconnect raise, an exception is raised in it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use portico_log::Occurrences;
use pyo3::prelude::*;

use portico_worker::DisconnectStep;

use super::inspector::Inspector;
use crate::error::{ClientDisconnected, one_line};
use crate::hub::Hub;
use crate::thread_status::ThreadStatus;

/// The callbacks of applications for clients that leave, and those of them that run. Owned by the thread that
/// watches calls, which must never wait for one.
pub(crate) struct DisconnectCallbacks {
    /// Disconnected, of each thread, once the callbacks that were asked for have been called.
    running: Vec<Option<Receiver<()>>>,
    /// A thread of their own for callbacks: one that takes long must not keep timeouts waiting. Started when there
    /// is a callback to call.
    callbacks: Option<Inspector>,
    /// Where the application's threads are greenlets: callbacks are called in its thread, too.
    hub: Option<Arc<Hub>>,
}

impl DisconnectCallbacks {
    /// For `threads` threads, whose calls run in greenlets where there is a `hub`.
    pub(crate) fn new(threads: usize, hub: Option<Arc<Hub>>) -> Self {
        Self { running: (0..threads).map(|_| None).collect(), callbacks: None, hub }
    }

    /// Whether none run of the thread `index`.
    pub(crate) fn are_ended(&self, index: usize) -> bool {
        let running = self.running.get(index).and_then(Option::as_ref);
        running.is_none_or(|running| running.try_recv() != Err(TryRecvError::Empty))
    }

    /// Does what is due for a call of the thread `index` whose client has left.
    pub(crate) fn perform(
        &mut self,
        step: DisconnectStep,
        (index, record, number): (usize, &Arc<ThreadStatus>, u64),
        inspector: &Inspector,
    ) {
        let record = Arc::clone(record);
        let raises = match step {
            DisconnectStep::Raise => {
                return drop(inspector.ask(move |py| {
                    record.raise_if_open(py, number, py.get_type::<ClientDisconnected>().as_any());
                }));
            }
            DisconnectStep::CallBack { raises } => raises,
        };
        let call_back = move |py: Python<'_>| {
            let exception = raises.then(|| py.get_type::<ClientDisconnected>().into_any());
            record.call_back(py, number, exception.as_ref());
        };
        let running = match &self.hub {
            Some(hub) => Some(run_in_greenlet(hub, call_back)),
            None => thread_for(&mut self.callbacks).map(|callbacks| callbacks.ask(call_back)),
        };
        if let Some(known) = self.running.get_mut(index) {
            *known = running;
        }
    }
}

/// Clients leave as often as they like.
static UNCALLED: Occurrences = Occurrences::new();

/// The thread of callbacks, started if need be.
fn thread_for(callbacks: &mut Option<Inspector>) -> Option<&Inspector> {
    if callbacks.is_none() {
        match Inspector::start("portico-callbacks") {
            Ok(started) => *callbacks = Some(started),
            Err(error) => {
                if let Some(times) = UNCALLED.note() {
                    log::error!("callbacks cannot be called, since no thread starts: {error}{times}");
                }
            }
        }
    }
    callbacks.as_ref()
}

/// Runs `work` in a greenlet. Returns what is disconnected when it has ended.
fn run_in_greenlet(hub: &Arc<Hub>, work: impl FnOnce(Python<'_>) + Send + 'static) -> Receiver<()> {
    let (running, ended) = channel::<()>();
    let own = Arc::clone(hub);
    hub.run_soon(move |py| {
        let begun = own.spawn(py, move |py| {
            let _running = running;
            work(py);
        });
        if let Err(error) = begun
            && let Some(times) = UNCALLED.note()
        {
            let error = one_line(py, &error);
            log::error!("callbacks cannot be called, since no greenlet starts: {error}{times}");
        }
    });
    ended
}
