//! How the scoreboard is read: which slots, and what numbers become.

use portico_metrics::Counter;
use portico_supervisor::{Scoreboard, SlotField, WorkerSlot};

/// The slots that have a worker.
pub(crate) fn occupied(board: &Scoreboard) -> impl Iterator<Item = (u32, WorkerSlot<'_>)> {
    board.slots().filter(|(_, slot)| slot.get(SlotField::Pid) != 0)
}

/// The slots that have or had one. The memory of others has never been touched, and reading it would cost some.
pub(crate) fn used(board: &Scoreboard) -> impl Iterator<Item = WorkerSlot<'_>> {
    let is_used = |slot: &WorkerSlot<'_>| {
        slot.get(SlotField::Pid) != 0
            || slot.metrics().total(Counter::Exchanges) > 0
            || slot.metrics().total(Counter::Calls) > 0
    };
    board.slots().map(|(_, slot)| slot).filter(is_used)
}

/// Adds numbers of which a process may have made anything.
pub(crate) fn add(sum: &mut [u64], more: &[u64]) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
}

/// Of nanoseconds; to the microsecond, which is what anybody can use.
pub(crate) fn seconds(nanos: u64) -> f64 {
    (nanos / 1_000) as f64 / 1e6
}
