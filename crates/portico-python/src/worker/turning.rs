//! Whether the hub of an application turns, and which call keeps it from that if not: the time of the others does
//! not run meanwhile. One that computes costs its own timeout, and not those of all that wait beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};

use portico_supervisor::now_nanos;
use portico_worker::TimeoutEscalation;

use super::inspector::Inspector;
use crate::hub::Hub;
use crate::thread_status::ThreadStatuses;

/// What is known of a hub.
pub struct Turning {
    hub: Arc<Hub>,
    records: Arc<ThreadStatuses>,
    /// When it last came round.
    seen: Arc<AtomicU64>,
    /// Since when it is waited for, if it is.
    awaited: Option<u64>,
    keeper: HubKeeper,
}

/// Who keeps the hub.
#[derive(Default)]
enum HubKeeper {
    #[default]
    Unasked,
    Asked(Receiver<Option<usize>>),
    /// The thread whose call it is; `None` where it is no call's greenlet.
    Known(Option<usize>),
}

/// How long the hub may take to come round.
const TURN_MAX: u64 = 50_000_000;

impl Turning {
    /// Of `hub`, whose greenlets have `records`.
    pub fn new(hub: Arc<Hub>, records: Arc<ThreadStatuses>) -> Self {
        Self { hub, records, seen: Arc::default(), awaited: None, keeper: HubKeeper::default() }
    }

    /// Looks whether it has come round, and excuses the calls that had to wait for that. To be called while calls
    /// run. Returns the thread whose call keeps it, where one does.
    pub fn look(
        &mut self,
        now: u64,
        escalations: &mut [TimeoutEscalation],
        inspector: &Inspector,
    ) -> Option<usize> {
        let since = match self.awaited {
            Some(since) if self.seen.load(Ordering::Acquire) < since => since,
            former => {
                if let Some(since) = former {
                    self.excuse(self.seen.load(Ordering::Acquire).saturating_sub(since), escalations);
                }
                return self.ask_hub(now);
            }
        };
        if now.saturating_sub(since) < TURN_MAX {
            return None;
        }
        match &self.keeper {
            HubKeeper::Unasked => {
                let records = Arc::clone(&self.records);
                self.keeper = HubKeeper::Asked(inspector.ask(move |py| records.greenlet_that_runs(py)));
                None
            }
            HubKeeper::Asked(answer) => {
                match answer.try_recv() {
                    Ok(keeper) => self.keeper = HubKeeper::Known(keeper),
                    Err(TryRecvError::Disconnected) => self.keeper = HubKeeper::Known(None),
                    Err(TryRecvError::Empty) => {}
                }
                self.known()
            }
            HubKeeper::Known(_) => self.known(),
        }
    }

    fn known(&self) -> Option<usize> {
        match self.keeper {
            HubKeeper::Known(keeper) => keeper,
            HubKeeper::Unasked | HubKeeper::Asked(_) => None,
        }
    }

    fn ask_hub(&mut self, now: u64) -> Option<usize> {
        self.keeper = HubKeeper::default();
        self.awaited = Some(now);
        let seen = Arc::clone(&self.seen);
        self.hub.run_soon(move |_| seen.store(now_nanos(), Ordering::Release));
        None
    }

    /// It has come round after so long a time.
    fn excuse(&self, nanos: u64, escalations: &mut [TimeoutEscalation]) {
        let Some(keeper) = self.known().filter(|_| nanos >= TURN_MAX) else { return };
        for (index, escalation) in escalations.iter_mut().enumerate() {
            if index != keeper {
                escalation.excuse(nanos);
            }
        }
    }
}
