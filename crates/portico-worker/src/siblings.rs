//! What a worker's engine tells the other workers of itself, and sees of them, on the scoreboard.

use portico_metrics::{Metrics, ThreadUse};
use portico_server::{Load, Siblings};
use portico_supervisor::{Scoreboard, SlotField, SlotState, WorkerSlot, now_nanos};

/// The other workers, as this one's engine sees them on the scoreboard, and the place where it tells its own load.
/// It reads what others wrote last and never waits for them.
pub struct OtherWorkers {
    slot: u32,
    scoreboard: Scoreboard,
    own: WorkerSlot<'static>,
    metrics: Metrics<'static>,
    succeeded: bool,
}

impl OtherWorkers {
    /// As slot `slot` of `scoreboard` sees them, which is `own`. `succeeded`: whoever retires is followed by
    /// another, who may not be ready yet.
    pub fn new(scoreboard: Scoreboard, slot: u32, own: WorkerSlot<'static>, succeeded: bool) -> Self {
        Self { slot, scoreboard, own, metrics: own.metrics(), succeeded }
    }

    fn ready(&self) -> impl Iterator<Item = WorkerSlot<'_>> {
        let others = self.scoreboard.slots().filter(|(number, _)| *number != self.slot);
        others.map(|(_, slot)| slot).filter(|slot| slot.state() == SlotState::Ready)
    }
}

impl Siblings for OtherWorkers {
    fn publish(&self, load: Load) {
        self.metrics.set_threads(ThreadUse::Busy, load.busy.into());
        self.metrics.set_threads(ThreadUse::Idle, load.idle.into());
        let since = load.waiting_since.map_or(0, |since| {
            let waited = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
            now_nanos().saturating_sub(waited).max(1)
        });
        self.own.set(SlotField::WaitingSinceNanos, since);
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
