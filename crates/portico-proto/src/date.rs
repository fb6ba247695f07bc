//! The Date field's value (RFC 9110, section 5.6.7). The clock is the caller's.

/// A moment in the form in which HTTP writes it, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpDate(pub(crate) [u8; 29]);

impl HttpDate {
    /// The moment `seconds` after 1970-01-01T00:00:00Z (leap seconds not counted). The form has four digits
    /// for the year: moments after 9999-12-31T23:59:59Z are written as that one.
    pub fn from_unix(seconds: u64) -> Self {
        let seconds = seconds.min(LAST_SECOND);
        let days = seconds / SECONDS_PER_DAY;
        let (year, month, day) = civil_from_days(days);
        let second_of_day = seconds % SECONDS_PER_DAY;

        let mut text = *b"Thu, 00 Jan 0000 00:00:00 GMT";
        text[..3].copy_from_slice(WEEKDAYS[(days % 7) as usize]);
        write_two_digits(&mut text[5..7], day);
        text[8..11].copy_from_slice(MONTHS[month as usize - 1]);
        write_two_digits(&mut text[12..14], year / 100);
        write_two_digits(&mut text[14..16], year % 100);
        write_two_digits(&mut text[17..19], second_of_day / 3600);
        write_two_digits(&mut text[20..22], second_of_day / 60 % 60);
        write_two_digits(&mut text[23..25], second_of_day % 60);
        Self(text)
    }

    /// The 29 bytes.
    pub fn as_bytes(&self) -> &[u8; 29] {
        &self.0
    }
}

/// Year, month (1 to 12) and day (1 to 31) of the day `days` after 1970-01-01 in the Gregorian calendar.
///
/// Counts in years that begin on 1 March, so that the leap day is a year's last, and in eras of 400 years,
/// after which the calendar repeats (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days_since_march_0000 = days + DAYS_FROM_MARCH_0000_TO_1970;
    let era = days_since_march_0000 / DAYS_PER_ERA;
    let day_of_era = days_since_march_0000 % DAYS_PER_ERA;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_since_march + 2) / 5 + 1;
    let month = if months_since_march < 10 { months_since_march + 3 } else { months_since_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// Writes `value`, below 100, into the two bytes of `place`.
fn write_two_digits(place: &mut [u8], value: u64) {
    place[0] = b'0' + (value / 10) as u8;
    place[1] = b'0' + (value % 10) as u8;
}

const SECONDS_PER_DAY: u64 = 86_400;
const DAYS_PER_ERA: u64 = 146_097;
const DAYS_FROM_MARCH_0000_TO_1970: u64 = 719_468;
/// 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;
/// Day 0, 1970-01-01, was a Thursday.
const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    fn text(seconds: u64) -> String {
        String::from_utf8(HttpDate::from_unix(seconds).as_bytes().to_vec()).unwrap()
    }

    fn reference(seconds: u64) -> String {
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn writes_the_example_of_the_rfc() {
        assert_eq!(text(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn agrees_with_httpdate_on_every_day_of_four_centuries() {
        for day in 0..2 * DAYS_PER_ERA {
            let second = day * SECONDS_PER_DAY + day % SECONDS_PER_DAY;
            assert_eq!(text(second), reference(second));
        }
    }

    #[test]
    fn stops_at_the_last_second_of_four_digit_years() {
        assert_eq!(text(LAST_SECOND), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(text(LAST_SECOND + 1), text(LAST_SECOND));
        assert_eq!(text(u64::MAX), text(LAST_SECOND));
    }

    proptest! {
        #[test]
        fn agrees_with_httpdate(seconds in 0..=LAST_SECOND) {
            prop_assert_eq!(text(seconds), reference(seconds));
        }
    }
}
