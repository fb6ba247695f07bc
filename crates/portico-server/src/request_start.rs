//! When a proxy in front says that it had a request: X-Request-Start and X-Queue-Start, as New Relic, Heroku and
//! others write them.
//!
//! Pure. Whether the proxy is believed, its caller knows.

use std::time::Duration;

use portico_proto::RequestHead;

/// A wait that is longer is none: the clocks of the two machines differ, or nobody has set the field anew.
const WAIT_MAX: Duration = Duration::from_secs(10 * 60);

/// From how many units since 1970 on these are microseconds, or milliseconds. In seconds the first would be after
/// the year 31 million, and in milliseconds the second is 2001.
const MICROSECONDS_MIN: f64 = 1e15;
const MILLISECONDS_MIN: f64 = 1e12;

/// How long a request with this head has been on its way since the proxy had it; `now` is the time since 1970.
/// `None` if that is not said, or cannot be.
pub(crate) fn upstream_wait(head: &RequestHead, now: Duration) -> Option<Duration> {
    let said = |name: &[u8]| head.field(name).and_then(since_epoch);
    let start = said(b"x-request-start").or_else(|| said(b"x-queue-start"))?;
    // A proxy whose clock is ahead has not waited for less than nothing.
    Some(now.saturating_sub(start)).filter(|wait| *wait <= WAIT_MAX)
}

/// `t=1700000000.123`, nginx's `t=${msec}`; `t=1700000000123456`, Apache's `t=%t`; `1700000000123`, Heroku's.
fn since_epoch(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let digits = text.strip_prefix("t=").unwrap_or(text);
    if !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None; // What else a float may be: `inf`, `1e300`, a sign.
    }
    let number: f64 = digits.parse().ok()?;
    let seconds = match number {
        MICROSECONDS_MIN.. => number / 1e6,
        MILLISECONDS_MIN.. => number / 1e3,
        _ => number,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_told_by_its_magnitude() {
        for text in [
            "t=1700000000.250",
            "1700000000.25",
            "t=1700000000250000",
            "1700000000250000",
            "1700000000250",
            " t=1700000000250 ",
        ] {
            let found = since_epoch(text.as_bytes()).unwrap();
            let error = found.abs_diff(Duration::from_millis(1_700_000_000_250));
            assert!(error < Duration::from_micros(1), "{text}: {found:?}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in
            ["", "t=", "t=-1", "1.2.3", "inf", "t=NaN", "1e9", "soon", "0x10", "t=t=1", "1700000000,1"]
        {
            assert_eq!(since_epoch(text.as_bytes()), None, "{text}");
        }
        assert_eq!(since_epoch(b"\xff"), None);
        assert!(since_epoch(&[b'9'; 400]).is_none(), "longer than there is time");
    }

    #[test]
    fn limits_of_a_form_are_where_the_next_begins() {
        let seconds = |text: &str| since_epoch(text.as_bytes()).unwrap().as_secs();
        assert_eq!(seconds("999999999999"), 999_999_999_999);
        assert_eq!(seconds("1000000000000"), 1_000_000_000);
        assert_eq!(seconds("999999999999999"), 999_999_999_999);
        assert_eq!(seconds("1000000000000000"), 1_000_000_000);
    }
}
