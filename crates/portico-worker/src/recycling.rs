//! When a worker has served long enough: requests, memory, age. Decides only; what it measures is a [`Usage`].

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::Duration;

use portico_config::Config;
use portico_metrics::{Counter, Gauge};
use portico_supervisor::{Footprint, WorkerSlot, resident_kib};

/// The reason for which a worker that works well is replaced: a limit of the operator's on its requests, its age
/// or its memory, with the figures for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecycleReason {
    /// It has served so many requests: `--max-requests`.
    Requests {
        /// As many as that.
        served: u64,
        /// The limit with its jitter.
        max: u64,
    },
    /// It has lived for so many seconds: `--max-lifetime`.
    Lifetime {
        /// As many as that.
        seconds: u64,
    },
    /// It has so much memory: `--worker-max-rss`.
    Memory {
        /// As much as that.
        kib: u64,
        /// The limit.
        kib_max: u64,
    },
}

/// The use that a worker has made of itself: requests and memory, as limits are compared with it. A trait, so that
/// tests have figures of their own; reading it must cost next to nothing, but for the walk through memory.
pub trait Usage {
    /// Requests that it has begun with.
    fn requests(&self) -> u64;

    /// Resident memory in KiB, shared pages in full; `None` where the kernel does not say.
    fn resident_kib(&mut self) -> Option<u64>;

    /// Its own part of that, which takes a walk through all of it; `None` where the kernel does not say.
    fn proportional_kib(&mut self) -> Option<u64>;
}

/// The use that this process has made of itself, noted on the scoreboard as it is read. The thread that watches
/// calls owns it.
#[derive(Clone, Copy, Debug)]
pub struct OwnUsage<'a>(pub WorkerSlot<'a>);

/// The limits on what a worker may use up before it is replaced.
#[derive(Debug)]
pub struct Recycling {
    requests_max: Option<u64>,
    lifetime_max: Option<u64>,
    began: u64,
    memory: Memory,
}

/// The memory limit of a worker: when it is measured again, and how often it was above.
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

impl fmt::Display for RecycleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requests { served, max } => {
                write!(f, "it has served {served} requests (--max-requests, {max} with its jitter)")
            }
            Self::Lifetime { seconds } => write!(f, "it has lived for {seconds} s (--max-lifetime)"),
            Self::Memory { kib, kib_max } => {
                write!(f, "it has {} MiB of memory (--worker-max-rss is {} MiB)", kib / 1024, kib_max / 1024)
            }
        }
    }
}

impl Usage for OwnUsage<'_> {
    fn requests(&self) -> u64 {
        self.0.metrics().since_start(Counter::Calls)
    }

    fn resident_kib(&mut self) -> Option<u64> {
        let kib = resident_kib(Path::new("/"), std::process::id())?;
        self.0.metrics().set(Gauge::ResidentBytes, kib.saturating_mul(1024));
        Some(kib)
    }

    fn proportional_kib(&mut self) -> Option<u64> {
        let kib = Footprint::of(Path::new("/"), std::process::id())?.pss_kib;
        self.0.metrics().set(Gauge::ProportionalBytes, kib.saturating_mul(1024));
        Some(kib)
    }
}

impl Recycling {
    /// For a worker that begins to serve at `now`, in nanoseconds of the machine's clock.
    pub fn new(config: &Config, now: u64) -> Self {
        Self::with_jitter(config, now, random)
    }

    /// As [`Recycling::new`]; `jitter` chooses a number from 0 to what it is given.
    fn with_jitter(config: &Config, now: u64, jitter: impl Fn(u64) -> u64) -> Self {
        let requests_jitter = config.max_requests_jitter.unwrap_or(config.max_requests / 10);
        let lifetime = nanos(config.max_lifetime);
        let memory = Memory {
            kib_max: (config.worker_rss_max > 0).then_some(config.worker_rss_max / 1024),
            due: now,
            footprint_due: now,
            above: 0,
        };
        Self {
            requests_max: (config.max_requests > 0)
                .then(|| config.max_requests.saturating_add(jitter(requests_jitter))),
            lifetime_max: (lifetime > 0).then(|| lifetime.saturating_add(jitter(lifetime / 10))),
            began: now,
            memory,
        }
    }

    /// Measures memory where it is time to. Says why the worker is to be replaced, if it is.
    pub fn check(&mut self, usage: &mut impl Usage, now: u64) -> Option<RecycleReason> {
        let memory = self.memory.check(usage, now);
        let served = usage.requests();
        if let Some(max) = self.requests_max.filter(|max| served >= *max) {
            return Some(RecycleReason::Requests { served, max });
        }
        let age = now.saturating_sub(self.began);
        if self.lifetime_max.is_some_and(|max| age >= max) {
            return Some(RecycleReason::Lifetime { seconds: age / 1_000_000_000 });
        }
        memory
    }
}

impl Memory {
    fn check(&mut self, usage: &mut impl Usage, now: u64) -> Option<RecycleReason> {
        if now < self.due {
            return None;
        }
        self.due = now + MEMORY_EVERY;
        let resident = usage.resident_kib()?;
        let kib_max = self.kib_max?;
        if resident <= kib_max {
            self.above = 0;
            return None;
        }
        if now < self.footprint_due {
            return None;
        }
        // A kernel without smaps_rollup: everything counts.
        let kib = usage.proportional_kib().unwrap_or(resident);
        if kib <= kib_max {
            self.above = 0;
            self.footprint_due = now + FOOTPRINT_EVERY;
            return None;
        }
        self.above += 1;
        (self.above >= SAMPLES).then_some(RecycleReason::Memory { kib, kib_max })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const MIB: u64 = 1024;

    #[derive(Debug, Default)]
    struct Fake {
        requests: u64,
        resident: Option<u64>,
        proportional: Option<u64>,
        /// How often each was measured.
        measured: [u32; 2],
    }

    impl Usage for Fake {
        fn requests(&self) -> u64 {
            self.requests
        }

        fn resident_kib(&mut self) -> Option<u64> {
            self.measured[0] += 1;
            self.resident
        }

        fn proportional_kib(&mut self) -> Option<u64> {
            self.measured[1] += 1;
            self.proportional
        }
    }

    fn recycling(change: impl FnOnce(&mut Config), jitter: impl Fn(u64) -> u64) -> Recycling {
        let mut config = Config::default();
        change(&mut config);
        Recycling::with_jitter(&config, 0, jitter)
    }

    fn of_memory(mib: u64) -> Recycling {
        recycling(|config| config.worker_rss_max = mib * MIB * 1024, |_| 0)
    }

    #[test]
    fn nothing_ends_a_worker_without_limits() {
        let mut recycling = recycling(|_| {}, |max| max);
        let mut usage = Fake { requests: u64::MAX, resident: Some(u64::MAX), ..Fake::default() };
        assert_eq!(recycling.check(&mut usage, 100 * 365 * 86_400 * SECOND), None);
        assert_eq!(usage.measured, [1, 0], "memory is measured for `portico status` all the same");
    }

    #[test]
    fn requests_end_it_at_the_limit() {
        let limit =
            |config: &mut Config| (config.max_requests, config.max_requests_jitter) = (1000, Some(50));
        let mut least = recycling(limit, |_| 0);
        let mut most = recycling(limit, |max| max);
        let reason = RecycleReason::Requests { served: 1000, max: 1000 };
        assert_eq!(least.check(&mut Fake { requests: 999, ..Fake::default() }, 0), None);
        assert_eq!(least.check(&mut Fake { requests: 1000, ..Fake::default() }, 0), Some(reason));
        assert_eq!(most.check(&mut Fake { requests: 1049, ..Fake::default() }, 0), None);
        assert!(most.check(&mut Fake { requests: 1050, ..Fake::default() }, 0).is_some());
        assert_eq!(reason.to_string(), "it has served 1000 requests (--max-requests, 1000 with its jitter)");
    }

    #[test]
    fn the_jitter_is_a_tenth_by_default() {
        let mut recycling = recycling(|config| config.max_requests = 1000, |max| max);
        assert_eq!(recycling.check(&mut Fake { requests: 1099, ..Fake::default() }, 0), None);
        assert!(recycling.check(&mut Fake { requests: 1100, ..Fake::default() }, 0).is_some());
    }

    #[test]
    fn age_ends_it_at_the_limit() {
        let limit = |config: &mut Config| config.max_lifetime = Duration::from_secs(60);
        let (mut least, mut most) = (recycling(limit, |_| 0), recycling(limit, |max| max));
        let mut usage = Fake::default();
        assert_eq!(least.check(&mut usage, 60 * SECOND - 1), None);
        assert_eq!(least.check(&mut usage, 60 * SECOND), Some(RecycleReason::Lifetime { seconds: 60 }));
        assert_eq!(most.check(&mut usage, 66 * SECOND - 1), None);
        assert!(most.check(&mut usage, 66 * SECOND).is_some());
    }

    #[test]
    fn memory_ends_it_after_three_samples() {
        let mut recycling = of_memory(100);
        let above = 101 * MIB;
        let mut usage = Fake { resident: Some(120 * MIB), proportional: Some(above), ..Fake::default() };
        assert_eq!(recycling.check(&mut usage, 0), None);
        assert_eq!(recycling.check(&mut usage, SECOND - 1), None, "it is measured once a second");
        assert_eq!(recycling.check(&mut usage, SECOND), None);
        let reason = RecycleReason::Memory { kib: above, kib_max: 100 * MIB };
        assert_eq!(recycling.check(&mut usage, 2 * SECOND), Some(reason));
        assert_eq!(reason.to_string(), "it has 101 MiB of memory (--worker-max-rss is 100 MiB)");
    }

    #[test]
    fn a_moment_above_the_limit_is_forgotten() {
        let mut recycling = of_memory(100);
        let mut seconds = 0..;
        let mut check = |kib: u64| {
            let mut usage = Fake { resident: Some(kib), proportional: Some(kib), ..Fake::default() };
            recycling.check(&mut usage, seconds.next().unwrap() * SECOND)
        };
        for kib in [101 * MIB, 101 * MIB, 100 * MIB, 101 * MIB, 101 * MIB] {
            assert_eq!(check(kib), None);
        }
        assert!(check(101 * MIB).is_some());
    }

    #[test]
    fn shared_memory_alone_is_measured_seldom() {
        let mut recycling = of_memory(100);
        let mut usage = Fake { resident: Some(120 * MIB), proportional: Some(60 * MIB), ..Fake::default() };
        for second in 0..20 {
            assert_eq!(recycling.check(&mut usage, second * SECOND), None);
        }
        assert_eq!(usage.measured, [20, 2], "the walk through all pages is made every ten seconds");
    }

    #[test]
    fn all_counts_where_the_part_is_unknown() {
        let mut recycling = of_memory(100);
        let mut usage = Fake { resident: Some(101 * MIB), ..Fake::default() };
        let checks: Vec<bool> =
            (0..3).map(|second| recycling.check(&mut usage, second * SECOND).is_some()).collect();
        assert_eq!(checks, [false, false, true]);
        assert_eq!(of_memory(100).check(&mut Fake::default(), 0), None, "no /proc: nothing is known");
    }

    proptest! {
        #[test]
        fn chance_stays_within_its_bounds(max in prop_oneof![0..5u64, any::<u64>()]) {
            prop_assert!(random(max) <= max);
        }
    }
}
