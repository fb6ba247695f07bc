//! What a worker's engine tells the other workers of itself, and sees of them, on the scoreboard.

use portico_server::{Load, Siblings};
use portico_supervisor::{Scoreboard, SlotField, SlotState, WorkerSlot};

/// What this worker's engine tells the other workers, and sees of them.
pub struct OtherWorkers {
    slot: u32,
    scoreboard: Scoreboard,
    succeeded: bool,
}

impl OtherWorkers {
    /// As slot `slot` of `scoreboard` sees them. `succeeded`: whoever retires is followed by another, who may not
    /// be ready yet.
    pub fn new(scoreboard: Scoreboard, slot: u32, succeeded: bool) -> Self {
        Self { slot, scoreboard, succeeded }
    }

    fn ready(&self) -> impl Iterator<Item = WorkerSlot<'_>> {
        let others = self.scoreboard.slots().filter(|(number, _)| *number != self.slot);
        others.map(|(_, slot)| slot).filter(|slot| slot.state() == SlotState::Ready)
    }
}

impl Siblings for OtherWorkers {
    fn publish(&self, load: Load) {
        let Some(slot) = self.scoreboard.slot(self.slot) else { return };
        slot.set(SlotField::BusyThreads, load.busy.into());
        slot.set(SlotField::IdleThreads, load.idle.into());
        slot.set(SlotField::Queued, load.queued.into());
        slot.set(SlotField::Connections, load.connections.into());
    }

    fn idle_threads(&self) -> u32 {
        let idle: u64 = self.ready().map(|slot| slot.get(SlotField::IdleThreads)).sum();
        u32::try_from(idle).unwrap_or(u32::MAX)
    }

    fn has_ready(&self) -> bool {
        self.succeeded || self.ready().next().is_some()
    }

    fn take_waiting(&self) -> bool {
        self.succeeded
    }
}
