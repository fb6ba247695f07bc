//! When a worker has served long enough: requests, memory, age.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::Duration;

use portico_config::Config;
use portico_supervisor::{Footprint, SlotField, WorkerSlot, resident_kib};

/// What a worker may use up before it is replaced.
#[derive(Debug)]
pub struct Recycling {
    requests_max: Option<u64>,
    lifetime_max: Option<u64>,
    began: u64,
    memory: Memory,
}

/// Memory, as it was measured last.
#[derive(Debug)]
struct Memory {
    /// `--worker-max-rss` in KiB.
    kib_max: Option<u64>,
    due: u64,
    footprint_due: u64,
    /// Samples in a row that were above the limit.
    above: u32,
}

/// How often resident memory is measured.
const MEMORY_EVERY: u64 = 1_000_000_000;

/// How often a worker's own part of its memory is measured, which walks through all of it, while it is within the
/// limit and resident memory as a whole is not.
const FOOTPRINT_EVERY: u64 = 10_000_000_000;

/// Samples above the limit that it takes: a request may need much for a moment.
const SAMPLES: u32 = 3;

impl Recycling {
    /// For a worker that begins to serve at `now`, in nanoseconds of the machine's clock.
    pub fn new(config: &Config, now: u64) -> Self {
        let jitter = config.max_requests_jitter.unwrap_or(config.max_requests / 10);
        let lifetime = nanos(config.max_lifetime);
        let memory = Memory {
            kib_max: (config.worker_rss_max > 0).then_some(config.worker_rss_max / 1024),
            due: now,
            footprint_due: now,
            above: 0,
        };
        Self {
            requests_max: (config.max_requests > 0).then(|| config.max_requests + random(jitter)),
            lifetime_max: (lifetime > 0).then(|| lifetime + random(lifetime / 10)),
            began: now,
            memory,
        }
    }

    /// Measures memory where it is time to. Says why the worker is to be replaced, if it is.
    pub fn check(&mut self, slot: WorkerSlot<'_>, now: u64) -> Option<String> {
        let memory = self.memory.check(slot, now);
        let requests = slot.get(SlotField::Requests);
        if let Some(max) = self.requests_max.filter(|_| self.has_served_enough(slot)) {
            return Some(format!(
                "it has served {requests} requests (--max-requests, {max} with its jitter)"
            ));
        }
        let age = now.saturating_sub(self.began);
        if self.lifetime_max.is_some_and(|max| age >= max) {
            return Some(format!("it has lived for {} s (--max-lifetime)", age / 1_000_000_000));
        }
        memory
    }

    /// Whether it is for its requests that the worker is to be replaced (`--max-requests`).
    pub fn has_served_enough(&self, slot: WorkerSlot<'_>) -> bool {
        self.requests_max.is_some_and(|max| slot.get(SlotField::Requests) >= max)
    }
}

impl Memory {
    fn check(&mut self, slot: WorkerSlot<'_>, now: u64) -> Option<String> {
        if now < self.due {
            return None;
        }
        self.due = now + MEMORY_EVERY;
        let (root, pid) = (Path::new("/"), std::process::id());
        let rss_kib = resident_kib(root, pid)?;
        slot.set(SlotField::RssKib, rss_kib);
        let max = self.kib_max?;
        if rss_kib <= max {
            self.above = 0;
            return None;
        }
        if now < self.footprint_due {
            return None;
        }
        // A kernel without smaps_rollup: everything counts.
        let pss_kib = Footprint::of(root, pid).map_or(rss_kib, |footprint| footprint.pss_kib);
        slot.set(SlotField::PssKib, pss_kib);
        if pss_kib <= max {
            self.above = 0;
            self.footprint_due = now + FOOTPRINT_EVERY;
            return None;
        }
        self.above += 1;
        (self.above >= SAMPLES).then(|| {
            format!("it has {} MiB of memory (--worker-max-rss is {} MiB)", pss_kib / 1024, max / 1024)
        })
    }
}

/// A number from 0 to `max`, by chance.
fn random(max: u64) -> u64 {
    // The standard library's own source: 64 bits that differ from thread to thread and from process to process.
    let number = RandomState::new().hash_one(std::process::id());
    max.checked_add(1).map_or(number, |count| number % count)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
