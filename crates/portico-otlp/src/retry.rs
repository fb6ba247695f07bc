//! What follows from the outcome of an export: pure, told the time.
//!
//! The rules are those of the OTLP specification ("OTLP/HTTP Response", "Retryable Response Codes"): 429, 502, 503
//! and 504 are tried again, after `Retry-After` if there is one, as is a collector that cannot be reached; after
//! anything else the spans are dropped.

use std::time::Duration;

/// The outcome of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExportOutcome {
    /// The collector has answered with success.
    Delivered,
    /// It asks to be left alone for a while, or could not be reached.
    Later {
        /// What it has asked for.
        after: Option<Duration>,
    },
    /// It does not want these spans.
    Refused,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryDecision {
    /// It is done with.
    Done,
    /// It is tried again after this.
    Wait(Duration),
    /// It is dropped.
    Drop,
}

/// The pauses between attempts. One for all batches: a collector that is down is not asked more often because
/// there is more for it.
#[derive(Debug, Default)]
pub(crate) struct RetryState {
    /// Attempts in a row that were put off.
    failures: u32,
    /// Attempts for the present batch.
    attempts: u32,
}

/// Attempts for one batch: with the pauses between them it is kept for a quarter of a minute at first.
const ATTEMPTS_MAX: u32 = 5;

/// The first pause; each is twice as long as the one before.
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// The longest pause, whatever the collector asks for: what waits meanwhile is dropped.
const PAUSE_MAX: Duration = Duration::from_secs(30);

impl RetryState {
    /// What follows from this outcome. `jitter` is from 0 to 255, at random: workers that have lost one collector
    /// are not to come back all at once.
    pub(crate) fn handle(&mut self, outcome: &ExportOutcome, jitter: u8) -> RetryDecision {
        self.attempts += 1;
        let after = match outcome {
            ExportOutcome::Delivered => {
                *self = Self::default();
                return RetryDecision::Done;
            }
            ExportOutcome::Refused => {
                *self = Self::default();
                return RetryDecision::Drop;
            }
            ExportOutcome::Later { after } => *after,
        };
        self.failures += 1;
        let doubled = PAUSE_FIRST * (1 << (self.failures - 1).min(5));
        // Between a half and the whole of it.
        let own = doubled.min(PAUSE_MAX).mul_f64(0.5 + f64::from(jitter) / 510.0);
        let pause = after.map_or(own, |asked| asked.max(own).min(PAUSE_MAX));
        if self.attempts >= ATTEMPTS_MAX {
            self.attempts = 0;
            return RetryDecision::Drop;
        }
        RetryDecision::Wait(pause)
    }

    /// How long to leave the collector alone after a batch was dropped because it could not be reached.
    pub(crate) fn pause_after_drop(&self) -> Duration {
        if self.failures == 0 {
            Duration::ZERO
        } else {
            PAUSE_MAX.min(PAUSE_FIRST * (1 << self.failures.min(5)))
        }
    }
}

/// The outcome of a response with this status, and `Retry-After` as it was sent. `unix_seconds`: now.
pub(crate) fn outcome_of(status: u16, retry_after: Option<&str>, unix_seconds: u64) -> ExportOutcome {
    match status {
        200..=299 => ExportOutcome::Delivered,
        429 | 502 | 503 | 504 => {
            ExportOutcome::Later { after: retry_after.and_then(|text| delay(text.trim(), unix_seconds)) }
        }
        _ => ExportOutcome::Refused,
    }
}

/// RFC 9110, section 10.2.3: seconds, or a date.
fn delay(text: &str, unix_seconds: u64) -> Option<Duration> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let at = date.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    Some(Duration::from_secs(at.saturating_sub(unix_seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: ExportOutcome = ExportOutcome::Later { after: None };

    fn pauses(backoff: &mut RetryState) -> Vec<RetryDecision> {
        (0..ATTEMPTS_MAX).map(|_| backoff.handle(&LATER, 255)).collect()
    }

    #[test]
    fn each_pause_is_twice_the_last_and_bounded_and_so_are_the_attempts() {
        let wait = |seconds| RetryDecision::Wait(Duration::from_secs(seconds));
        let mut backoff = RetryState::default();
        assert_eq!(pauses(&mut backoff), [wait(1), wait(2), wait(4), wait(8), RetryDecision::Drop]);
        assert_eq!(backoff.pause_after_drop(), Duration::from_secs(30));
        // For the next batch the collector is no less down.
        assert_eq!(pauses(&mut backoff), [wait(30), wait(30), wait(30), wait(30), RetryDecision::Drop]);
        for _ in 0..1000 {
            backoff.handle(&LATER, 255);
        }
        assert_eq!(backoff.handle(&ExportOutcome::Delivered, 0), RetryDecision::Done);
        assert_eq!((backoff.pause_after_drop(), backoff.handle(&LATER, 255)), (Duration::ZERO, wait(1)));
    }

    #[test]
    fn pauses_differ_between_workers() {
        let pause = |jitter| RetryState::default().handle(&LATER, jitter);
        assert_eq!(pause(0), RetryDecision::Wait(Duration::from_millis(500)));
        assert_eq!(pause(255), RetryDecision::Wait(Duration::from_millis(1000)));
    }

    #[test]
    fn what_the_collector_asks_for_is_done_within_the_bound() {
        let pause = |seconds| {
            RetryState::default()
                .handle(&ExportOutcome::Later { after: Some(Duration::from_secs(seconds)) }, 255)
        };
        assert_eq!(pause(7), RetryDecision::Wait(Duration::from_secs(7)));
        assert_eq!(
            pause(0),
            RetryDecision::Wait(Duration::from_secs(1)),
            "it does not get to be asked in a loop"
        );
        assert_eq!(pause(u64::MAX), RetryDecision::Wait(PAUSE_MAX));
    }

    #[test]
    fn some_statuses_are_tried_again_and_no_others() {
        for status in [200, 202, 204, 299] {
            assert_eq!(outcome_of(status, None, 0), ExportOutcome::Delivered);
        }
        for status in [301, 302, 307, 308, 400, 401, 403, 404, 405, 413, 415, 500, 501, 505, 599] {
            assert_eq!(outcome_of(status, Some("1"), 0), ExportOutcome::Refused, "{status}");
        }
        let later = |after: Option<u64>| ExportOutcome::Later { after: after.map(Duration::from_secs) };
        for status in [429, 502, 503, 504] {
            assert_eq!(outcome_of(status, None, 0), later(None));
            assert_eq!(outcome_of(status, Some(" 3 "), 0), later(Some(3)));
        }
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (text, after) in [
            (date, Some(7)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("-1", None),
            ("", None),
            ("soon", None),
        ] {
            assert_eq!(outcome_of(503, Some(text), 784_111_770), later(after), "{text}");
        }
        assert_eq!(outcome_of(503, Some(date), 784_111_999), later(Some(0)));
    }
}
