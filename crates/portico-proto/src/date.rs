//! The Date field's value (RFC 9110, section 5.6.7). The clock is the caller's.

use std::time::{Duration, UNIX_EPOCH};

/// A moment in the form in which HTTP writes it, such as `Sun, 06 Nov 1994 08:49:37 GMT`. Made once a second and
/// copied into each response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpDate([u8; 29]);

/// 9999-12-31T23:59:59Z: the form has four digits for the year.
const LAST_SECOND: u64 = 253_402_300_799;

impl HttpDate {
    /// The moment `seconds` after 1970-01-01T00:00:00Z (leap seconds not counted). Moments after the year 9999 are
    /// written as its last second; httpdate would panic.
    pub fn from_unix(seconds: u64) -> Self {
        let moment = UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND));
        let text = httpdate::fmt_http_date(moment);
        let mut bytes = [b' '; 29];
        bytes.iter_mut().zip(text.bytes()).for_each(|(byte, written)| *byte = written);
        Self(bytes)
    }

    /// The 29 bytes.
    pub fn as_bytes(&self) -> &[u8; 29] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(seconds: u64) -> String {
        String::from_utf8(HttpDate::from_unix(seconds).as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn writes_the_example_of_the_rfc() {
        assert_eq!(text(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn stops_at_the_last_second_of_four_digit_years() {
        assert_eq!(text(LAST_SECOND), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(text(LAST_SECOND + 1), text(LAST_SECOND));
        assert_eq!(text(u64::MAX), text(LAST_SECOND));
    }

    proptest! {
        #[test]
        fn fills_all_its_bytes_with_the_moment(seconds in 0..=LAST_SECOND) {
            let moment = UNIX_EPOCH + Duration::from_secs(seconds);
            prop_assert_eq!(httpdate::parse_http_date(&text(seconds)).unwrap(), moment);
        }
    }
}
