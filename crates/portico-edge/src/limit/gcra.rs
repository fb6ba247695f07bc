//! The generic cell rate algorithm: pure arithmetic on nanoseconds.

use std::time::Duration;

use portico_config::{LimitKey, RateLimit};

/// A rate and its burst, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Between two requests of a steady client.
    interval: u64,
    /// How far a client may be ahead of its steady self: `burst - 1` intervals.
    tolerance: u64,
}

impl Rate {
    /// The rate of a route's limit.
    pub fn new(limit: &RateLimit) -> Self {
        let period = u64::try_from(limit.period.as_nanos()).unwrap_or(u64::MAX);
        let interval = (period / u64::from(limit.requests.max(1))).max(1);
        let ahead = u64::from(limit.burst.max(1)) - 1;
        Self { interval, tolerance: interval.saturating_mul(ahead) }
    }

    /// `requests` in `period`, all of which may come at once.
    pub fn of(requests: u32, period: Duration) -> Self {
        let (by, dry_run) = (LimitKey::Client, false);
        Self::new(&RateLimit { requests, period, burst: requests, by, dry_run })
    }

    /// When the next request is expected, without the last one.
    pub(crate) fn take_back(self, arrival: u64) -> u64 {
        arrival.saturating_sub(self.interval)
    }

    /// What becomes of a request at `now` by a client whose next request was expected at `arrival`: when the one
    /// after it is expected, or how long the client has to wait.
    pub(crate) fn admit(self, arrival: u64, now: u64) -> Result<u64, Duration> {
        // No client of this rate is ever so far ahead. The clock went back, or something else was in the memory.
        let farthest = now.saturating_add(self.tolerance).saturating_add(self.interval);
        let arrival = if arrival > farthest { now } else { arrival.max(now) };
        match (arrival - now).checked_sub(self.tolerance) {
            None | Some(0) => Ok(arrival.saturating_add(self.interval)),
            Some(wait) => Err(Duration::from_nanos(wait)),
        }
    }
}

/// The value of Retry-After: whole seconds, rounded up and never 0, or clients would come at once and be refused
/// again (mholt/caddy-ratelimit#22).
pub(crate) fn retry_after(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(requests: u32, seconds: u64, burst: u32) -> Rate {
        let period = Duration::from_secs(seconds);
        Rate::new(&RateLimit { requests, period, burst, by: LimitKey::Client, dry_run: false })
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let rate = rate(5, 60, 3);
        let mut arrival = 0;
        let now = 1000 * SECOND;
        for _ in 0..3 {
            arrival = rate.admit(arrival, now).unwrap();
        }
        assert_eq!(rate.admit(arrival, now), Err(Duration::from_secs(12)));
        assert_eq!(rate.admit(arrival, now + 12 * SECOND - 1), Err(Duration::from_nanos(1)));
        arrival = rate.admit(arrival, now + 12 * SECOND).unwrap();
        assert!(rate.admit(arrival, now + 12 * SECOND).is_err());
        assert!(rate.admit(arrival, now + 1000 * SECOND).is_ok());
    }

    #[test]
    fn a_clock_that_jumps_locks_nobody_out() {
        let rate = rate(1, 86_400, 1);
        let arrival = rate.admit(0, 90_000_000 * SECOND).unwrap();
        assert!(rate.admit(arrival, 90_000_000 * SECOND).is_err());
        // Back by more than a client can be ahead: it begins anew.
        assert!(rate.admit(arrival, 5 * SECOND).is_ok());
        // Forward: time has passed.
        assert!(rate.admit(arrival, u64::MAX - 1).is_ok());
        assert!(rate.admit(u64::MAX, 7).is_ok());
    }

    #[test]
    fn retry_after_is_rounded_up_and_never_zero() {
        for (wait, expected) in [(0, 1), (1, 1), (SECOND, 1), (SECOND + 1, 2), (u64::MAX, 18_446_744_074)] {
            assert_eq!(retry_after(Duration::from_nanos(wait)), expected, "{wait}");
        }
    }

    proptest! {
        /// In any span of time no more passes than the burst and what the rate gives.
        #[test]
        fn no_more_passes_than_burst_and_rate(
            requests in 1_u32..50, seconds in 1_u64..60, burst in 1_u32..20,
            gaps in prop::collection::vec(0_u64..3 * SECOND, 1..200),
        ) {
            let rate = rate(requests, seconds, burst);
            let (mut now, mut arrival, mut passed) = (SECOND, 0, 0_u64);
            let start = now;
            for gap in gaps {
                now += gap;
                if let Ok(next) = rate.admit(arrival, now) {
                    arrival = next;
                    passed += 1;
                }
            }
            prop_assert!(passed <= u64::from(burst) + (now - start) / rate.interval);
        }
    }
}
