//! How many workers a range like `--workers 2..8` needs now: a pure decision from what they did lately.
//!
//! What counts is how long requests wait for a thread. Busy threads alone say little: a worker may be busy all the
//! time and nobody waits. Up is fast, because someone waits at this moment: by half after two looks. Down is slow,
//! one worker after half a minute in which one less would have been enough. If that turns out wrong, the next time
//! takes twice as long, so that a load between two numbers does not make it flap.

use std::collections::VecDeque;

/// How many requests have waited, by powers of two of microseconds ([`portico_metrics::octave_counts`]).
pub(crate) type WaitCounts = [u64; 32];

/// The work of all ready workers since the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoadSample {
    /// How long the requests that have begun since then had waited.
    pub waits: WaitCounts,
    /// Requests that wait now.
    pub queued: u64,
    /// Threads that are in calls now.
    pub busy: u64,
    /// Workers that serve, or start to.
    pub workers: u32,
    /// Workers that serve.
    pub ready: u32,
}

/// Decides at each look, of which there is one a second.
#[derive(Debug)]
pub(crate) struct Autoscaler {
    min: u32,
    max: u32,
    threads: u64,
    recent: VecDeque<WaitCounts>,
    /// Looks in a row in which requests waited too long.
    pressed: u32,
    /// Looks in a row in which one worker less would have been enough.
    calm: u32,
    /// How many of them it takes.
    patience: u32,
    /// Looks since the last step down.
    since_down: u32,
}

/// Looks that the waits are taken from.
const RECENT: usize = 5;

/// So many in a hundred requests should not wait longer than the limits below.
const PERCENTILE: u64 = 95;

/// From this bucket on waits are too long: 16 ms and more, as long as many a call takes itself.
const LONG: usize = 15;

/// Up to this bucket nobody has waited: less than 2 ms.
const SHORT: usize = 11;

/// Looks with long waits that it takes to go up.
const PRESSED: u32 = 2;

const PATIENCE_MIN: u32 = 30;
const PATIENCE_MAX: u32 = 16 * PATIENCE_MIN;

/// At most so many in a hundred threads may be busy after a step down.
const BUSY_PERCENT_MAX: u64 = 60;

impl Autoscaler {
    /// Between `min` and `max` workers of so many threads.
    pub(crate) fn new(min: u32, max: u32, threads: u32) -> Self {
        Self {
            min,
            max,
            threads: u64::from(threads),
            recent: VecDeque::with_capacity(RECENT),
            pressed: 0,
            calm: 0,
            patience: PATIENCE_MIN,
            since_down: u32::MAX,
        }
    }

    /// How many workers there should be from now on, if that is another number.
    pub(crate) fn tick(&mut self, sample: &LoadSample) -> Option<u32> {
        self.since_down = self.since_down.saturating_add(1);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(sample.waits);
        let bucket = self.bucket();
        // Where all threads are in long calls, nothing begins, and only the queue shows that somebody waits.
        let saturated = sample.queued > 0 && sample.busy >= u64::from(sample.ready) * self.threads;
        let pressed = saturated || bucket.is_some_and(|bucket| bucket >= LONG) && has_any(&sample.waits);
        let room = u64::from(sample.workers.saturating_sub(1)) * self.threads * BUSY_PERCENT_MAX / 100;
        let calm = sample.queued == 0 && bucket.is_none_or(|bucket| bucket <= SHORT) && sample.busy <= room;
        self.pressed = if pressed { self.pressed + 1 } else { 0 };
        self.calm = if calm { self.calm + 1 } else { 0 };
        if sample.ready < sample.workers {
            return None; // What was decided last has not come into effect yet.
        }
        if self.pressed >= PRESSED && sample.workers < self.max {
            return Some(self.up(sample.workers));
        }
        if self.calm >= self.patience && sample.workers > self.min {
            (self.calm, self.since_down) = (0, 0);
            return Some(sample.workers - 1);
        }
        None
    }

    fn up(&mut self, workers: u32) -> u32 {
        self.patience = match self.since_down <= self.patience {
            true => (2 * self.patience).min(PATIENCE_MAX),
            false => PATIENCE_MIN,
        };
        (self.pressed, self.calm) = (0, 0);
        self.recent.clear();
        workers.saturating_add(workers.div_ceil(2)).min(self.max)
    }

    /// The bucket that the percentile of the recent waits lies in.
    fn bucket(&self) -> Option<usize> {
        let count = |bucket: usize| self.recent.iter().map(|waits| waits[bucket]).sum::<u64>();
        let total: u64 = (0..32).map(count).sum();
        let mut below = 0;
        (0..32).find(|&bucket| {
            below += count(bucket);
            total > 0 && below * 100 >= total * PERCENTILE
        })
    }
}

fn has_any(waits: &WaitCounts) -> bool {
    waits.iter().any(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server under a load of so many requests a second of a tenth of a second each.
    struct Server {
        autoscaler: Autoscaler,
        workers: u32,
        ready: u32,
        queued: u64,
        steps: Vec<u32>,
    }

    const THREADS: u64 = 4;

    impl Server {
        fn new(min: u32, max: u32) -> Self {
            let autoscaler = Autoscaler::new(min, max, THREADS as u32);
            Self { autoscaler, workers: min, ready: min, queued: 0, steps: Vec::new() }
        }

        fn run(&mut self, seconds: u32, rate: u64) {
            for _ in 0..seconds {
                let capacity = u64::from(self.ready) * THREADS * 10;
                let done = (self.queued + rate).min(capacity);
                let waited_micros = self.queued * 1_000_000 / capacity;
                self.queued = self.queued + rate - done;
                let mut waits = WaitCounts::default();
                waits[((u64::BITS - waited_micros.leading_zeros()) as usize).min(31)] = done;
                let busy = (done / 10).min(u64::from(self.ready) * THREADS);
                let sample =
                    LoadSample { waits, queued: self.queued, busy, workers: self.workers, ready: self.ready };
                self.ready = self.workers; // It takes a worker a second to boot.
                if let Some(workers) = self.autoscaler.tick(&sample) {
                    self.workers = workers;
                    self.ready = self.ready.min(workers);
                    self.steps.push(workers);
                }
            }
        }
    }

    #[test]
    fn a_step_in_the_load_is_followed_within_seconds_and_left_slowly() {
        let mut server = Server::new(2, 8);
        server.run(60, 20);
        assert_eq!(server.steps, [0; 0], "nothing to do at rest");
        server.run(10, 200);
        assert_eq!(server.steps, [3, 5, 8], "20 threads would be busy, and some requests wait already");
        server.steps.clear();
        server.run(25, 20);
        assert_eq!(server.steps, [0; 0], "not for a short pause");
        server.run(300, 20);
        assert_eq!(server.steps, [7, 6, 5, 4, 3, 2]);
    }

    #[test]
    fn a_steady_load_does_not_make_it_flap() {
        // Whatever the load: within an hour it settles.
        for rate in (10..330).step_by(7) {
            let mut server = Server::new(2, 8);
            server.run(600, rate);
            server.steps.clear();
            server.run(3000, rate);
            assert!(server.steps.len() <= 2, "{rate}/s: {:?}", server.steps);
        }
    }

    #[test]
    fn a_load_that_comes_and_goes_makes_it_patient() {
        let mut server = Server::new(2, 8);
        for _ in 0..60 {
            server.run(20, 120);
            server.run(40, 20);
        }
        assert!(server.steps.len() <= 24, "{:?}", server.steps);
    }

    #[test]
    fn calls_that_never_end_are_seen_by_their_queue() {
        let mut autoscaler = Autoscaler::new(1, 3, 2);
        let sample = LoadSample { queued: 1, busy: 2, workers: 1, ready: 1, ..LoadSample::default() };
        assert_eq!(autoscaler.tick(&sample), None);
        assert_eq!(autoscaler.tick(&sample), Some(2));
        let starting = LoadSample { workers: 2, ..sample };
        assert_eq!((0..9).find_map(|_| autoscaler.tick(&starting)), None, "the second one still boots");
        let served = LoadSample { workers: 2, ready: 2, busy: 4, ..sample };
        assert_eq!(autoscaler.tick(&served), Some(3));
    }

    #[test]
    fn it_stays_within_its_range() {
        let mut server = Server::new(2, 3);
        server.run(600, 1000);
        assert_eq!(server.steps, [3]);
        server.queued = 0;
        server.run(3000, 0);
        assert_eq!(server.steps, [3, 2]);
    }
}
