//! What the limits of routes count in memory that all workers share: where that is, and a place among the requests
//! that run at once. The arithmetic is portico-edge's.

use std::fmt;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use portico_edge::limit::{ConcurrencyLimit, ConcurrencyRow};

/// Memory in which the workers count together. What is in it is believed for nothing but limits.
pub trait LimitMemory: fmt::Debug + Send + Sync {
    /// The table of clients.
    fn table(&self) -> &[AtomicU64];

    /// Where this worker counts requests that run at once; zero when it starts.
    fn own_row(&self) -> &[AtomicU64];

    /// Passes on the rows of the other workers that live.
    fn visit_other_rows(&self, visit: &mut dyn FnMut(&[AtomicU64]));

    /// The present moment by a clock that all workers share and that nobody sets, in nanoseconds.
    fn now_nanos(&self) -> u64;

    /// Whether this process is the worker: what a process that the application has forked drops is counted there.
    fn is_of_this_process(&self) -> bool;
}

/// What all workers need in common to count together.
#[derive(Clone, Debug)]
pub struct SharedLimits {
    /// Where they count.
    pub memory: Arc<dyn LimitMemory>,
    /// Secret, and the same in all workers: clients cannot choose which of them share a part of the table.
    pub keys: RandomState,
}

/// The words of the table.
#[derive(Debug)]
pub(crate) struct TableWords(pub(crate) Arc<dyn LimitMemory>);

impl AsRef<[AtomicU64]> for TableWords {
    #[inline]
    fn as_ref(&self) -> &[AtomicU64] {
        self.0.table()
    }
}

/// A request's place among those of its route that run at once; whoever drops it last makes room. The request has
/// it, so that it counts until its response has ended and its call has come back, whichever is later: a call whose
/// client has left still runs.
#[derive(Debug)]
pub struct ConcurrencyPlace {
    memory: Arc<dyn LimitMemory>,
    limit: ConcurrencyLimit,
}

impl ConcurrencyPlace {
    /// Says to the other workers which limit this one counts at which index.
    pub(crate) fn declare(limit: ConcurrencyLimit, memory: &dyn LimitMemory) {
        ConcurrencyRow::new(memory.own_row()).declare(limit);
    }

    /// A place, if there is one. A request that another worker has let in gets one in any case.
    pub(crate) fn take(
        limit: ConcurrencyLimit,
        memory: &Arc<dyn LimitMemory>,
        is_admitted: bool,
    ) -> Option<Arc<Self>> {
        let row = ConcurrencyRow::new(memory.own_row());
        if is_admitted {
            row.take_admitted(limit);
        } else if !row.take(limit, || running_elsewhere(limit, &**memory)) {
            return None;
        }
        Some(Arc::new(Self { memory: Arc::clone(memory), limit }))
    }

    /// Whether all places are taken now.
    pub(crate) fn are_taken(limit: ConcurrencyLimit, memory: &dyn LimitMemory) -> bool {
        let own = ConcurrencyRow::new(memory.own_row()).running(limit);
        own.saturating_add(running_elsewhere(limit, memory)) >= u64::from(limit.max)
    }
}

fn running_elsewhere(limit: ConcurrencyLimit, memory: &dyn LimitMemory) -> u64 {
    let mut running: u64 = 0;
    memory.visit_other_rows(&mut |row| {
        running = running.saturating_add(ConcurrencyRow::new(row).running(limit));
    });
    running
}

impl Drop for ConcurrencyPlace {
    fn drop(&mut self) {
        if self.memory.is_of_this_process() {
            ConcurrencyRow::new(self.memory.own_row()).release(self.limit);
        }
    }
}
