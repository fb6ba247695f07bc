//! When a place whose worker failed is tried again.

use std::time::{Duration, Instant};

/// The places that have failed lately. Which slot it was does not matter: there are so many that have to wait.
#[derive(Debug, Default)]
pub(super) struct Backoff(Vec<Wait>);

/// The time for which a slot that has failed waits before it is tried again.
#[derive(Debug)]
struct Wait {
    /// Of this place, one after the other.
    failures: u32,
    until: Instant,
}

/// Doubled with each failure.
const DELAY: Duration = Duration::from_millis(100);

/// For a place whose worker does not boot.
const BOOT_DELAY_MAX: Duration = Duration::from_secs(10);

/// Between two starts of a worker that boots, serves, and then dies. It does serve in between, so that waiting
/// longer would cost more than starting it.
const DEATH_DELAY_MAX: Duration = Duration::from_secs(1);

/// A worker that was ready for so long is not held against its place.
const SETTLED: Duration = Duration::from_secs(10);

impl Backoff {
    /// A process ended before it was ready, after so many failures of its place.
    pub(super) fn note_failed_boot(&mut self, failures: u32, now: Instant) {
        self.0.push(Wait { failures: failures + 1, until: now + delay(failures, BOOT_DELAY_MAX) });
    }

    /// A process ended unasked.
    pub(super) fn note_death(&mut self, failures: u32, started: Instant, ready: Instant, now: Instant) {
        if now.saturating_duration_since(ready) < SETTLED {
            // From its start: one that has lived for longer than that is succeeded at once.
            self.0.push(Wait { failures: failures + 1, until: started + delay(failures, DEATH_DELAY_MAX) });
        }
    }

    /// How many of the places that are empty may be filled now.
    pub(super) fn allowed(&self, empty: u32, now: Instant) -> u32 {
        empty.saturating_sub(self.0.iter().filter(|wait| wait.until > now).count() as u32)
    }

    /// A place is filled. Returns how often it has failed.
    pub(super) fn take(&mut self, now: Instant) -> u32 {
        let over = (0..self.0.len()).filter(|&index| self.0[index].until <= now);
        let worst = over.max_by_key(|&index| self.0[index].failures);
        worst.map_or(0, |index| self.0.swap_remove(index).failures)
    }

    /// Forgets what is long past: places that are not there any more.
    pub(super) fn forget(&mut self, now: Instant) {
        self.0.retain(|wait| wait.until + SETTLED > now);
    }

    /// Forgets everything: the operator has changed something.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// When the next place may be filled or forgotten.
    pub(super) fn next_timeout(&self, now: Instant) -> Option<Instant> {
        self.0.iter().map(|wait| if wait.until > now { wait.until } else { wait.until + SETTLED }).min()
    }
}

fn delay(failures: u32, max: Duration) -> Duration {
    DELAY.saturating_mul(1 << failures.min(16)).min(max)
}
