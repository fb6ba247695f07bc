//! Whether a client takes its response fast enough. Pure: the clock and the counts are the caller's.
//!
//! A client has `--write-timeout`, and earns more time by what it acknowledges, at `--response-min-rate`; so one
//! byte now and then renews nothing. What it has earned is bounded: who has taken much and then stops is not
//! waited for for hours. Only time in which bytes wait for the client counts.

use std::time::{Duration, Instant};

/// The time that one client has left.
#[derive(Debug)]
pub(super) struct RateClock {
    /// When its time is over, by what was known at the last look.
    due: Instant,
    /// What it had acknowledged then. Only differences count, so it may begin anywhere.
    acknowledged: i64,
    /// Since when nothing waits for it.
    paused: Option<Instant>,
}

/// What is asked of clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateLimits {
    /// `--write-timeout`
    pub timeout: Duration,
    /// `--response-min-rate`, in bytes a second; 0: any byte renews the whole time.
    pub rate_min: u64,
}

/// How many times `--write-timeout` a client can have earned. Linux tells the sender of room in a full receive
/// buffer when a sixteenth of it is free again: for the usual 6 MiB that takes a reader of 8 KB/s 48 s, and the
/// default is to bear one of half that rate.
const EARNED_MAX: u32 = 4;

impl RateClock {
    /// From `now` on bytes wait for the client, which has acknowledged `acknowledged`.
    pub(super) fn new(acknowledged: i64, now: Instant, limits: RateLimits) -> Self {
        Self { due: now + limits.timeout, acknowledged, paused: None }
    }

    /// Nothing waits for the client any more.
    pub(super) fn pause(&mut self, now: Instant) {
        self.paused.get_or_insert(now);
    }

    /// Bytes wait for the client. Returns when its time is to be looked at.
    pub(super) fn resume(&mut self, now: Instant) -> Instant {
        if let Some(since) = self.paused.take() {
            self.due += now.saturating_duration_since(since);
        }
        self.due
    }

    /// Its time may be over: returns until when it has more, having acknowledged `acknowledged` by `now`.
    pub(super) fn extend(&mut self, acknowledged: i64, now: Instant, limits: RateLimits) -> Option<Instant> {
        let taken = u64::try_from(acknowledged - self.acknowledged).unwrap_or(0);
        self.acknowledged = self.acknowledged.max(acknowledged);
        let earned_max = limits.timeout.saturating_mul(EARNED_MAX);
        let earned = match limits.rate_min {
            0 if taken > 0 => earned_max,
            0 => Duration::ZERO,
            rate => Duration::from_secs_f64((taken as f64 / rate as f64).min(earned_max.as_secs_f64())),
        };
        self.due = (self.due + earned).min(now + earned_max);
        (self.due > now).then_some(self.due)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: RateLimits = RateLimits { timeout: Duration::from_secs(30), rate_min: 500 };

    /// How many seconds a client is borne that acknowledges `bytes` every `every` seconds; `None`: for a day.
    fn borne(bytes: i64, every: u64, limits: RateLimits) -> Option<u64> {
        let start = Instant::now();
        let mut clock = RateClock::new(0, start, limits);
        let mut at = clock.due;
        while at < start + Duration::from_secs(86_400) {
            let passed = at.duration_since(start).as_secs();
            match clock.extend((passed / every) as i64 * bytes, at, limits) {
                Some(due) => at = due,
                None => return Some(passed),
            }
        }
        None
    }

    #[test]
    fn a_byte_now_and_then_renews_nothing() {
        assert_eq!(borne(0, 1, LIMITS), Some(30));
        assert_eq!(borne(1, 20, LIMITS), Some(30));
        assert_eq!(borne(499, 1, LIMITS).map(|seconds| seconds < 20_000), Some(true));
    }

    #[test]
    fn a_steady_reader_is_served_to_the_end() {
        assert_eq!(borne(501, 1, LIMITS), None);
        for (rate, step) in
            [(8 << 10, 384 << 10), (16 << 10, 384 << 10), (32 << 10, 384 << 10), (4 << 10, 384 << 10)]
        {
            // The first step is there at once: buffers in the kernels are empty at the beginning.
            let every = step / rate;
            let start = Instant::now();
            let mut clock = RateClock::new(0, start, LIMITS);
            let mut at = clock.due;
            for _ in 0..1000 {
                let steps = 1 + at.duration_since(start).as_secs() / every;
                at = clock.extend((steps * step) as i64, at, LIMITS).expect("it goes on reading");
            }
        }
    }

    #[test]
    fn what_is_earned_is_bounded_and_pauses_do_not_count() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut clock = RateClock::new(-100, start, LIMITS);
        let due = clock.extend(1 << 40, start + 30 * second, LIMITS);
        assert_eq!(due, Some(start + 150 * second));
        clock.pause(start + 40 * second);
        clock.pause(start + 50 * second);
        assert_eq!(clock.resume(start + 60 * second), start + 170 * second);
        assert_eq!(clock.extend(1 << 40, start + 170 * second, LIMITS), None);
    }

    #[test]
    fn without_a_minimum_any_byte_renews() {
        let limits = RateLimits { rate_min: 0, ..LIMITS };
        assert_eq!(borne(1, 29, limits), None);
        assert_eq!(borne(0, 1, limits), Some(30));
    }

    proptest! {
        /// Who takes `taken` in all is not waited for longer than that is worth, and not beyond the bound.
        #[test]
        fn nobody_has_more_time_than_earned(steps in proptest::collection::vec((1u64..40, 0i64..100_000), 1..50)) {
            let start = Instant::now();
            let mut clock = RateClock::new(0, start, LIMITS);
            let (mut now, mut taken) = (start, 0);
            for (seconds, bytes) in steps {
                now += Duration::from_secs(seconds);
                taken += bytes;
                if let Some(due) = clock.extend(taken, now, LIMITS) {
                    let worth = start + Duration::from_secs_f64(30.1 + taken as f64 / 500.0);
                    prop_assert!(due <= worth && due <= now + Duration::from_secs(120));
                }
            }
        }
    }
}
