//! What is done about a running call whose client has left: its callbacks are called and, with --on-disconnect
//! raise, an exception is raised in it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use portico_log::Occurrences;
use pyo3::prelude::*;

use portico_server::Lending;
use portico_supervisor::{Running, ThreadState};

use super::inspector::Inspector;
use crate::error::{ClientDisconnected, one_line};
use crate::hub::Hub;
use crate::thread_status::{ClientState, ThreadStatus};

/// What has been done about the present call of each thread.
pub struct Disconnects {
    /// Whether the exception is wanted.
    raises: bool,
    threads: Vec<WatchedThread>,
    /// A thread of their own for callbacks: one that takes long must not keep timeouts waiting. Started when there
    /// is a callback to call.
    callbacks: Option<Inspector>,
    /// Where the application's threads are greenlets: callbacks are called in its thread, too.
    hub: Option<Arc<Hub>>,
}

#[derive(Default)]
struct WatchedThread {
    /// The call in which the exception was raised last.
    raised: u64,
    /// Disconnected once the callbacks that were asked for have been called.
    calling_back: Option<Receiver<()>>,
}

impl Disconnects {
    /// For `threads` threads, whose calls run in greenlets where there is a `hub`.
    pub fn new(raises: bool, threads: usize, hub: Option<Arc<Hub>>) -> Self {
        let threads = (0..threads).map(|_| WatchedThread::default()).collect();
        Self { raises, threads, callbacks: None, hub }
    }

    /// Looks at the call that the thread `index` is in. The engine is asked only if somebody wants to know.
    pub fn look(
        &mut self,
        index: usize,
        (record, running): (&Arc<ThreadStatus>, &Running),
        lending: &Lending,
        inspector: &Inspector,
    ) {
        let Some(thread) = self.threads.get_mut(index) else { return };
        let number = running.sequence;
        let raises = self.raises && is_safe(&running.method) && thread.wants_exception(record, running);
        let calls_back = thread.is_free() && record.has_callbacks(number);
        if !raises && !calls_back || running.state == ThreadState::Lost {
            return;
        }
        if !record.request(number).is_some_and(|request| lending.is_client_gone(request)) {
            return;
        }
        if raises {
            thread.raised = number;
        }
        let (record, callbacks) = (Arc::clone(record), &mut self.callbacks);
        if !calls_back {
            return drop(inspector.ask(move |py| {
                record.raise_if_open(py, number, py.get_type::<ClientDisconnected>().as_any());
            }));
        }
        let call_back = move |py: Python<'_>| {
            let exception = raises.then(|| py.get_type::<ClientDisconnected>().into_any());
            record.call_back(py, number, exception.as_ref());
        };
        match &self.hub {
            Some(hub) => thread.calling_back = Some(run_in_greenlet(hub, call_back)),
            None => thread.calling_back = thread_for(callbacks).map(|callbacks| callbacks.ask(call_back)),
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

impl WatchedThread {
    fn wants_exception(&self, record: &ThreadStatus, running: &Running) -> bool {
        running.state == ThreadState::Running
            && self.raised != running.sequence
            && record.standing() == ClientState::Open
    }

    fn is_free(&self) -> bool {
        self.calling_back.as_ref().is_none_or(|answer| answer.try_recv() != Err(TryRecvError::Empty))
    }
}

/// Whether a request of this method is to change nothing (RFC 9110, section 9.2.1), so that it can be broken off.
fn is_safe(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD")
}
