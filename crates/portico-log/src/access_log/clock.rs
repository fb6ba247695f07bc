//! Time stamps of lines, made once for all lines of a second. Always UTC.

use portico_proto::HttpDate;

use super::Moment;

/// A maker of time stamps, which keeps the texts of the last second. The log's thread owns it.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: Option<u64>,
    common: String,
    rfc3339: String,
}

const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";

impl Clock {
    /// `[18/Oct/2026:13:55:36 +0000]`
    pub(super) fn common(&mut self, second: u64) -> &[u8] {
        self.set(second);
        self.common.as_bytes()
    }

    /// Appends `2026-10-18T13:55:36.123456Z`.
    pub(super) fn rfc3339(&mut self, moment: Moment, out: &mut Vec<u8>) {
        self.set(moment.second);
        out.extend_from_slice(self.rfc3339.as_bytes());
        out.push(b'.');
        super::escape::micros(u64::from(moment.nanos), out);
        out.push(b'Z');
    }

    fn set(&mut self, second: u64) {
        if self.second == Some(second) {
            return;
        }
        // From `Sun, 06 Nov 1994 08:49:37 GMT`.
        let date = HttpDate::from_unix(second);
        let text = String::from_utf8_lossy(date.as_bytes()).into_owned();
        let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
        let (day, month, year, time) = (part(5..7), part(8..11), part(12..16), part(17..25));
        let number = MONTHS.find(month).unwrap_or_default() / 3 + 1;
        self.common = format!("[{day}/{month}/{year}:{time} +0000]");
        self.rfc3339 = format!("{year}-{number:02}-{day}T{time}");
        self.second = Some(second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps() {
        let mut clock = Clock::default();
        let mut check = |second, nanos, common: &str, rfc3339: &str| {
            assert_eq!(clock.common(second), common.as_bytes());
            let mut out = Vec::new();
            clock.rfc3339(Moment { second, nanos }, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), rfc3339);
        };
        check(784111777, 1_999, "[06/Nov/1994:08:49:37 +0000]", "1994-11-06T08:49:37.000001Z");
        check(784111777, 999_999_999, "[06/Nov/1994:08:49:37 +0000]", "1994-11-06T08:49:37.999999Z");
        check(1_767_225_599, 0, "[31/Dec/2025:23:59:59 +0000]", "2025-12-31T23:59:59.000000Z");
        check(1_767_225_600, 0, "[01/Jan/2026:00:00:00 +0000]", "2026-01-01T00:00:00.000000Z");
    }
}
