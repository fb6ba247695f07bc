//! How the value of a setting is written: numbers, sizes, times, modes, booleans. Pure text to value, and
//! back.
//!
//! Errors end in what to write instead; the caller puts the option's or the variable's name in front.
//!
//! The crates humantime and parse-size were tried and take other texts. humantime refuses `75` and `1.5`, which
//! are seconds here as for gunicorn, and takes `5 s`, `1d` and `1month`; parse-size takes `64kb`, `1.5m`, `1_000`
//! and `1e3`. The tests beneath have what is taken and what is not.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::ParseError;
use crate::resolved::Config;
use crate::setting::{ChoiceWord, ValueType};

impl ValueType {
    /// Sets its field of `config` to what `texts` say: the last of them, or for a list all of them.
    ///
    /// # Errors
    /// What is wrong with the text and what to write instead.
    pub(crate) fn apply(&self, config: &mut Config, texts: &[String]) -> Result<(), ParseError> {
        let last = texts.last().map_or("", String::as_str);
        match self {
            Self::Switch { set, .. } => set(config, boolean(last)?),
            Self::Count { range, zero, unit, set } => set(config, count(last, range, *zero, unit)?),
            Self::Size { range, zero, set } => set(config, size(last, range, *zero)?),
            Self::Time { range, zero, set } => set(config, time(last, range, *zero)?),
            Self::Mode { set } => set(config, mode(last)?),
            Self::Choice { of, alone } => choice(last, of, *alone)?(config),
            Self::Text { set, .. } | Self::Form { set, .. } => set(config, last)?,
            Self::List { set, .. } => {
                let parts: Vec<String> = texts.iter().flat_map(|text| items(text)).collect();
                set(config, &parts.iter().map(String::as_str).collect::<Vec<_>>())?;
            }
            Self::Texts { set, .. } | Self::Tables { set } => {
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                set(config, &texts)?;
            }
            Self::Ignored { .. } => {}
            Self::Refused { harmless, why, .. } => {
                if !are_harmless(texts, harmless) {
                    return Err((*why).into());
                }
            }
        }
        Ok(())
    }

    /// Why `texts` have no effect, where they should have one and are taken all the same.
    pub(crate) fn ignores(&self, texts: &[String]) -> Option<&'static str> {
        match self {
            Self::Ignored { harmless, why, .. } => (!are_harmless(texts, harmless)).then_some(*why),
            _ => None,
        }
    }

    /// Type and limits in words, for the help and the reference: `whole number of threads, 1 to 4096`.
    pub(crate) fn describe(&self) -> String {
        let or_zero = |zero: &Option<&str>| zero.map_or(String::new(), |means| format!("; 0 means {means}"));
        match self {
            Self::Switch { .. } => "switch".to_owned(),
            Self::Count { range, zero, unit, .. } => {
                format!("whole number of {unit}, {} to {}{}", range.start(), range.end(), or_zero(zero))
            }
            Self::Size { range, zero, .. } => format!(
                "size in bytes (suffixes k, m, g), {} to {}{}",
                size_text(*range.start()),
                size_text(*range.end()),
                or_zero(zero)
            ),
            Self::Time { range, zero, .. } => format!(
                "time in seconds (suffixes ms, s, m, h), {} to {}{}",
                time_text(*range.start()),
                time_text(*range.end()),
                or_zero(zero)
            ),
            Self::Mode { .. } => "file mode in octal, 0 to 777".to_owned(),
            Self::Choice { of, alone: None } => format!("one of {}", words(of)),
            Self::Choice { of, alone: Some(word) } => {
                format!("one of {}; the option alone means {word}", words(of))
            }
            Self::Form { form, .. } => (*form).to_owned(),
            Self::Text { .. } => "text".to_owned(),
            Self::List { .. } => "list: repeat the option, or separate by commas".to_owned(),
            Self::Texts { .. } => "list: repeat the option".to_owned(),
            Self::Tables { .. } => "tables of TOML, with the keys below".to_owned(),
            Self::Ignored { .. } => "accepted without effect".to_owned(),
            Self::Refused { .. } => "refused".to_owned(),
        }
    }
}

/// The items of a list in one text: commas stand between them, and `\,` is a comma in one.
pub(crate) fn items(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut rest = text;
    while let Some(at) = rest.find(',') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        let item = items.last_mut();
        match (before.strip_suffix('\\'), item) {
            (Some(before), Some(item)) => item.extend([before, ","]),
            (_, item) => {
                item.into_iter().for_each(|item| item.push_str(before));
                items.push(String::new());
            }
        }
        rest = after;
    }
    items.last_mut().into_iter().for_each(|item| item.push_str(rest));
    items.iter().map(|item| item.trim().to_owned()).collect()
}

/// One item of a list as it is written among others.
pub fn escaped(item: &str) -> String {
    item.replace(',', "\\,")
}

/// A boolean as environment variables and Python write it.
pub(crate) fn boolean(text: &str) -> Result<bool, ParseError> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" | "y" => Ok(true),
        "0" | "false" | "no" | "off" | "n" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false; write one of them").into()),
    }
}

/// A whole number of `unit` within `range`, or 0 where `zero` says what that means.
pub(crate) fn count(
    text: &str,
    range: &RangeInclusive<u64>,
    zero: Option<&str>,
    unit: &str,
) -> Result<u64, ParseError> {
    let limits = || format!("write a number of {unit} from {} to {}", range.start(), range.end());
    let number = whole(text).ok_or_else(|| format!("{text:?} is not a whole number; {}", limits()))?;
    if range.contains(&number) || (number == 0 && zero.is_some()) {
        Ok(number)
    } else {
        Err(format!("{number} is out of range; {}", limits()).into())
    }
}

/// A number of bytes within `range`, or 0 where `zero` says what that means.
pub(crate) fn size(text: &str, range: &RangeInclusive<u64>, zero: Option<&str>) -> Result<u64, ParseError> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let bytes = whole(digits)
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| format!("{text:?} is not a size; write bytes, or 64k, 1m, 2g"))?;
    if range.contains(&bytes) || (bytes == 0 && zero.is_some()) {
        Ok(bytes)
    } else {
        let (least, most) = (size_text(*range.start()), size_text(*range.end()));
        Err(format!("{text} is out of range; write a size from {least} to {most}").into())
    }
}

/// A length of time within `range`, or 0 where `zero` says what that means.
pub(crate) fn time(
    text: &str,
    range: &RangeInclusive<Duration>,
    zero: Option<&str>,
) -> Result<Duration, ParseError> {
    // "ms" before "m" and "s", which it ends in.
    let suffixes = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (number, seconds) = suffixes
        .iter()
        .find_map(|(suffix, seconds)| Some((text.strip_suffix(suffix)?, *seconds)))
        .unwrap_or((text, 1.0));
    // f64's own grammar also takes signs, exponents, "inf" and "nan".
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let time = number
        .parse::<f64>()
        .ok()
        .filter(|_| plain)
        .and_then(|number| Duration::try_from_secs_f64(number * seconds).ok())
        .ok_or_else(|| format!("{text:?} is not a time; write seconds, or 500ms, 1.5s, 2m, 1h"))?;
    if range.contains(&time) || (time.is_zero() && zero.is_some()) {
        Ok(time)
    } else {
        let (least, most) = (time_text(*range.start()), time_text(*range.end()));
        Err(format!("{text} is out of range; write a time from {least} to {most}").into())
    }
}

/// Octal with or without a leading `0` or `0o`, as chmod(1) and Python write it.
fn mode(text: &str) -> Result<u32, ParseError> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let octal = !digits.is_empty() && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    octal
        .then(|| u32::from_str_radix(digits, 8).ok())
        .flatten()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("{text:?} is not a file mode; write three octal digits, such as 660").into())
}

fn choice(text: &str, of: &'static [ChoiceWord], alone: Option<&str>) -> Result<fn(&mut Config), ParseError> {
    let named =
        |name: &str| of.iter().find_map(|(word, set)| word.eq_ignore_ascii_case(name).then_some(*set));
    named(text)
        .or_else(|| named(if boolean(text).ok()? { alone? } else { "off" }))
        .ok_or_else(|| format!("{text:?} is not known; write one of {}", words(of)).into())
}

/// Whether each of `texts` is one of `harmless`; of booleans any spelling.
fn are_harmless(texts: &[String], harmless: &[&str]) -> bool {
    texts.iter().all(|text| {
        harmless.iter().any(|word| {
            word.eq_ignore_ascii_case(text.trim())
                || boolean(word).is_ok_and(|word| boolean(text) == Ok(word))
        })
    })
}

/// Digits only: `u64`'s own grammar also takes a plus sign.
fn whole(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn words(of: &[ChoiceWord]) -> String {
    of.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ")
}

/// Bytes with the largest suffix that divides them.
pub(crate) fn size_text(bytes: u64) -> String {
    for (shift, suffix) in [(30, 'g'), (20, 'm'), (10, 'k')] {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{suffix}", bytes >> shift);
        }
    }
    bytes.to_string()
}

pub(crate) fn time_text(time: Duration) -> String {
    match time.as_secs() {
        0 if time.subsec_millis() > 0 => format!("{}ms", time.as_millis()),
        hours if hours >= 3600 && hours % 3600 == 0 => format!("{}h", hours / 3600),
        seconds => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);

    #[test]
    fn times() {
        let check = |text: &str, millis: u64| {
            assert_eq!(time(text, &DAY, None), Ok(Duration::from_millis(millis)), "{text}");
        };
        check("75", 75_000);
        check("75s", 75_000);
        check("1.5", 1_500);
        check("500ms", 500);
        check("2m", 120_000);
        check("24h", 86_400_000);
        check("0", 0);
        for text in
            ["", "s", "-1", "+1", "1e3", "inf", "nan", "1.5.2", "5 s", "1d", "1month", "25h", "1.5x", "ms"]
        {
            assert!(time(text, &DAY, None).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_time_below_its_range_is_refused_unless_it_is_a_zero_with_a_meaning() {
        let range = Duration::from_millis(100)..=Duration::from_secs(10);
        assert_eq!(time("0", &range, Some("never")), Ok(Duration::ZERO));
        assert!(time("0", &range, None).is_err());
        assert!(time("50ms", &range, Some("never")).is_err());
    }

    #[test]
    fn sizes() {
        let range = 1..=4 << 30;
        for (text, bytes) in [("1", 1), ("64k", 65_536), ("64K", 65_536), ("1m", 1 << 20), ("4G", 4 << 30)] {
            assert_eq!(size(text, &range, None), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "k",
            "-1",
            "1.5m",
            "0",
            "5g",
            "64kb",
            "1_000",
            "1e3",
            "1é",
            "99999999999999999999",
            "17179869184g",
        ] {
            assert!(size(text, &range, None).is_err(), "{text:?} was taken");
        }
        assert_eq!(size("0", &range, Some("no limit")), Ok(0));
    }

    #[test]
    fn counts() {
        assert_eq!(count("1", &(1..=64), None, "threads"), Ok(1));
        assert_eq!(count("64", &(1..=64), None, "threads"), Ok(64));
        assert_eq!(count("0", &(1..=64), Some("no limit"), "threads"), Ok(0));
        for text in ["0", "65", "-1", "+1", "1_000", "0x10", "4.0", "", "four", "18446744073709551616"] {
            assert!(count(text, &(1..=64), None, "threads").is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn modes() {
        for (text, bits) in [("660", 0o660), ("0660", 0o660), ("0o660", 0o660), ("0", 0), ("777", 0o777)] {
            assert_eq!(mode(text), Ok(bits), "{text}");
        }
        for text in ["", "0o", "888", "1777", "rw", "-660", "+660"] {
            assert!(mode(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_comma_in_an_item_has_a_backslash_before_it() {
        let check = |text: &str, expected: &[&str]| assert_eq!(items(text), expected, "{text}");
        check("a", &["a"]);
        check(" a , b,", &["a", "b", ""]);
        check(r"a\,b,c", &["a,b", "c"]);
        check(r"\,", &[","]);
        check(r"a\b, \c", &[r"a\b", r"\c"]);
        for item in ["a,b", ",", "a,,b", ",a,"] {
            assert_eq!(items(&escaped(item)), [item]);
        }
    }

    #[test]
    fn booleans() {
        for text in ["1", "true", "True", "YES", "on", "y"] {
            assert_eq!(boolean(text), Ok(true), "{text}");
        }
        for text in ["0", "false", "False", "no", "OFF", "n"] {
            assert_eq!(boolean(text), Ok(false), "{text}");
        }
        assert!(boolean("2").is_err());
        assert!(boolean("").is_err());
    }

    #[test]
    fn limits_read_as_they_are_written() {
        assert_eq!(size_text(65_536), "64k");
        assert_eq!(size_text(1 << 30), "1g");
        assert_eq!(size_text(8190), "8190");
        assert_eq!(size_text(0), "0");
        assert_eq!(time_text(Duration::from_millis(100)), "100ms");
        assert_eq!(time_text(Duration::from_secs(86_400)), "24h");
        assert_eq!(time_text(Duration::ZERO), "0s");
    }
}
