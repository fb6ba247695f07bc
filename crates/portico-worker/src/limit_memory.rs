//! What the workers count together for the limits of routes, on the scoreboard.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use std::hash::RandomState;

use portico_config::Config;
use portico_edge::limit;
use portico_server::{LimitMemory, SharedLimits};
use portico_supervisor::{CONCURRENCY_WORDS, Scoreboard, SlotState, WorkerSlot, now_nanos};

/// The scoreboard as the worker of one slot counts on it.
#[derive(Debug)]
struct CountedOnScoreboard {
    scoreboard: Scoreboard,
    slot: u32,
    pid: u32,
}

// The scoreboard does not know for what its words are.
const _: () = assert!(CONCURRENCY_WORDS == limit::CONCURRENCY_WORDS);

/// Words that the limits of `config` need on a scoreboard.
pub fn limit_words(config: &Config) -> usize {
    limit::table_words(config.edge.limit_slots)
}

/// What the worker of `slot` of `scoreboard` counts, with `keys` that all of its workers have.
pub(crate) fn shared_limits(scoreboard: Scoreboard, slot: u32, keys: RandomState) -> SharedLimits {
    let pid = std::process::id();
    SharedLimits { memory: Arc::new(CountedOnScoreboard { scoreboard, slot, pid }), keys }
}

impl LimitMemory for CountedOnScoreboard {
    fn table(&self) -> &[AtomicU64] {
        self.scoreboard.limits()
    }

    fn own_row(&self) -> &[AtomicU64] {
        self.scoreboard.slot(self.slot).map_or(&[], WorkerSlot::concurrency)
    }

    fn visit_other_rows(&self, visit: &mut dyn FnMut(&[AtomicU64])) {
        // A slot whose worker has died is empty before it is cleared.
        let living =
            |(number, slot): &(u32, WorkerSlot<'_>)| *number != self.slot && slot.state() != SlotState::Empty;
        self.scoreboard.slots().filter(living).for_each(|(_, slot)| visit(slot.concurrency()));
    }

    fn now_nanos(&self) -> u64 {
        now_nanos()
    }

    fn is_of_this_process(&self) -> bool {
        std::process::id() == self.pid
    }
}

#[cfg(test)]
mod tests {
    use portico_edge::limit::{ConcurrencyLimit, ConcurrencyRow};
    use portico_supervisor::SlotField;

    use super::*;

    #[test]
    fn what_a_dead_worker_ran_does_not_count() {
        let board = Scoreboard::with_limits(3, 1, 64).unwrap();
        let limit = ConcurrencyLimit { max: 4, id: 7, index: 0 };
        let limits: Vec<SharedLimits> =
            (0..3).map(|slot| shared_limits(board.clone(), slot, RandomState::new())).collect();
        for (number, shared) in limits.iter().enumerate() {
            board.slot(number as u32).unwrap().set(SlotField::State, SlotState::Ready as u64);
            let row = ConcurrencyRow::new(shared.memory.own_row());
            row.declare(limit);
            row.take_admitted(limit);
        }
        let elsewhere = || {
            let mut running = 0;
            limits[0].memory.visit_other_rows(&mut |row| running += ConcurrencyRow::new(row).running(limit));
            running
        };
        assert_eq!(elsewhere(), 2);
        board.slot(1).unwrap().set(SlotField::State, SlotState::Empty as u64);
        assert_eq!(elsewhere(), 1);
        board.slot(1).unwrap().begin_worker();
        board.slot(1).unwrap().set(SlotField::State, SlotState::Starting as u64);
        assert_eq!(elsewhere(), 1);
    }
}
