//! Asks the hub of an application, and the interpreter, what [`CallWatch`] wants to know of its turning.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};

use portico_supervisor::now_nanos;
use portico_worker::{CallWatch, TurningStep};

use super::inspector::Inspector;
use crate::hub::Hub;
use crate::thread_status::ThreadStatuses;

/// The questions to a hub that is watched: whether it comes round, and whose call keeps it. Owned by the thread
/// that watches calls; an answer that does not come is the finding, so nothing here waits for one.
pub(crate) struct HubQuestions {
    hub: Arc<Hub>,
    records: Arc<ThreadStatuses>,
    /// When it last came round.
    came_round: Arc<AtomicU64>,
    /// The thread whose greenlet runs, once that was asked for.
    keeper: Option<Receiver<Option<usize>>>,
}

impl HubQuestions {
    /// Of `hub`, whose greenlets have `records`.
    pub(crate) fn new(hub: Arc<Hub>, records: Arc<ThreadStatuses>) -> Self {
        Self { hub, records, came_round: Arc::default(), keeper: None }
    }

    /// Has `calls` look whether the hub turns, and asks what it wants to know. To be called while calls run.
    pub(crate) fn look(&mut self, now: u64, calls: &mut CallWatch, inspector: &Inspector) {
        let answer = match self.keeper.as_ref().map(Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => None,
            Some(Ok(keeper)) => Some(keeper),
            Some(Err(TryRecvError::Disconnected)) => Some(None),
        };
        match calls.look_at_hub(now, self.came_round.load(Ordering::Acquire), answer) {
            Some(TurningStep::AskHub) => {
                self.keeper = None;
                let came_round = Arc::clone(&self.came_round);
                self.hub.run_soon(move |_| came_round.store(now_nanos(), Ordering::Release));
            }
            Some(TurningStep::AskKeeper) => {
                let records = Arc::clone(&self.records);
                self.keeper = Some(inspector.ask(move |py| records.greenlet_that_runs(py)));
            }
            None => {}
        }
    }
}
