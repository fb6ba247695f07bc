//! What a worker's engine tells the other workers of itself, and sees of them, on the scoreboard.

use portico_metrics::{Metrics, ThreadUse};
use portico_server::{Load, Siblings};
use portico_supervisor::{Scoreboard, SlotState, WorkerSlot};

/// The other workers, as this one's engine sees them on the scoreboard, and the place where it tells its own load.
/// It reads what others wrote last and never waits for them.
pub struct OtherWorkers {
    slot: u32,
    scoreboard: Scoreboard,
    own: Metrics<'static>,
    succeeded: bool,
}

impl OtherWorkers {
    /// As slot `slot` of `scoreboard` sees them, which tells its load in `own`. `succeeded`: whoever retires is
    /// followed by another, who may not be ready yet.
    pub fn new(scoreboard: Scoreboard, slot: u32, own: Metrics<'static>, succeeded: bool) -> Self {
        Self { slot, scoreboard, own, succeeded }
    }

    fn ready(&self) -> impl Iterator<Item = WorkerSlot<'_>> {
        let others = self.scoreboard.slots().filter(|(number, _)| *number != self.slot);
        others.map(|(_, slot)| slot).filter(|slot| slot.state() == SlotState::Ready)
    }
}

impl Siblings for OtherWorkers {
    fn publish(&self, load: Load) {
        self.own.set_threads(ThreadUse::Busy, load.busy.into());
        self.own.set_threads(ThreadUse::Idle, load.idle.into());
    }

    fn idle_threads(&self) -> u32 {
        let idle = self.ready().map(|slot| slot.metrics().threads(ThreadUse::Idle));
        let idle = idle.fold(0, u64::saturating_add);
        u32::try_from(idle).unwrap_or(u32::MAX)
    }

    fn has_ready(&self) -> bool {
        self.succeeded || self.ready().next().is_some()
    }

    fn take_waiting(&self) -> bool {
        self.succeeded
    }
}
