//! Ranges of bytes (RFC 9110, section 14).

/// Which bytes of a file are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeSelection {
    /// All of them: no range was asked for, or none that is worth it.
    Whole,
    /// These: ascending, apart from each other, at most 16, none empty. First and last byte.
    Parts(Vec<(u64, u64)>),
    /// 416: none of them is in the file.
    Unsatisfiable,
}

/// After merging; nginx has no limit, and thousands of ranges of one byte are an attack (nginx/nginx#988).
const RANGES_MAX: usize = 16;

/// What of a file of `size` bytes the value of Range asks for. What is malformed, or in another unit, counts for
/// nothing (section 14.2). The cost is that of sorting.
pub fn select_ranges(value: &[u8], size: u64) -> RangeSelection {
    let Some(asked) = parse(value) else { return RangeSelection::Whole };
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    let mut total: u128 = 0;
    let mut is_empty_suffix = false;
    for spec in asked {
        let range = match spec {
            Spec::From(first, last) if first < size => (first, last.min(size - 1)),
            Spec::Suffix(length) if length > 0 && size > 0 => (size - length.min(size), size - 1),
            // The end of nothing is all of it (section 14.1.2).
            Spec::Suffix(length) if length > 0 => {
                is_empty_suffix = true;
                continue;
            }
            _ => continue,
        };
        total += u128::from(range.1 - range.0) + 1;
        ranges.push(range);
    }
    if ranges.is_empty() {
        return if is_empty_suffix { RangeSelection::Whole } else { RangeSelection::Unsatisfiable };
    }
    // More than the file is nobody's need (section 14.2 lets a server refuse it).
    if total > u128::from(size) {
        return RangeSelection::Whole;
    }
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            // Section 15.3.7.2: those that overlap or touch may be one.
            Some(last) if range.0 <= last.1 + 1 => last.1 = last.1.max(range.1),
            _ => merged.push(range),
        }
    }
    if merged.len() > RANGES_MAX { RangeSelection::Whole } else { RangeSelection::Parts(merged) }
}

enum Spec {
    From(u64, u64),
    Suffix(u64),
}

/// `None` where it is malformed.
fn parse(value: &[u8]) -> Option<Vec<Spec>> {
    let text = str::from_utf8(value).ok()?;
    let (unit, set) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let specs = set.split(',').map(str::trim).filter(|spec| !spec.is_empty());
    let specs: Option<Vec<Spec>> = specs.map(spec).collect();
    specs.filter(|specs| !specs.is_empty())
}

fn spec(text: &str) -> Option<Spec> {
    let (first, last) = text.split_once('-')?;
    match (first, last) {
        ("", last) => position(last).map(Spec::Suffix),
        (first, "") => Some(Spec::From(position(first)?, u64::MAX)),
        (first, last) => {
            let (first, last) = (position(first)?, position(last)?);
            (first <= last).then_some(Spec::From(first, last))
        }
    }
}

/// Digits; a number that is too large is beyond every file.
fn position(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::RangeSelection::{Parts, Unsatisfiable, Whole};
    use super::*;

    /// RFC 9110, sections 14.1.2 and 14.2, with the examples of the former for 10,000 bytes.
    #[test]
    fn ranges_as_the_rfc_has_them() {
        for (value, size, expected) in [
            ("bytes=0-499", 10_000, Parts(vec![(0, 499)])),
            ("bytes=500-999", 10_000, Parts(vec![(500, 999)])),
            ("bytes=-500", 10_000, Parts(vec![(9500, 9999)])),
            ("bytes=9500-", 10_000, Parts(vec![(9500, 9999)])),
            ("bytes=0-0,-1", 10_000, Parts(vec![(0, 0), (9999, 9999)])),
            ("bytes= 0-999, 4500-5499, -1000", 10_000, Parts(vec![(0, 999), (4500, 5499), (9000, 9999)])),
            ("bytes=500-600,601-999", 10_000, Parts(vec![(500, 999)])),
            ("bytes=500-700,601-999", 10_000, Parts(vec![(500, 999)])),
            ("bytes=4-5,0-1", 10, Parts(vec![(0, 1), (4, 5)])),
            ("BYTES=0-0", 10, Parts(vec![(0, 0)])),
            ("bytes=,0-0,,", 10, Parts(vec![(0, 0)])),
            ("bytes=5-99", 10, Parts(vec![(5, 9)])),
            ("bytes=-99", 10, Parts(vec![(0, 9)])),
            ("bytes=0-18446744073709551615", 10, Parts(vec![(0, 9)])),
            ("bytes=0-99999999999999999999999", 10, Parts(vec![(0, 9)])),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=10-,20-30", 10, Unsatisfiable),
            ("bytes=10-,0-0", 10, Parts(vec![(0, 0)])),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=0-0", 0, Unsatisfiable),
            ("bytes=-5", 0, Whole),
            ("bytes=0-,0-", 10, Whole),
            ("bytes=5-4", 10, Whole),
            ("bytes=", 10, Whole),
            ("bytes", 10, Whole),
            ("bytes=a-b", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=1 - 2", 10, Whole),
            ("bytes=--1", 10, Whole),
            ("lines=0-1", 10, Whole),
        ] {
            assert_eq!(select_ranges(value.as_bytes(), size), expected, "{value} of {size}");
        }
    }

    #[test]
    fn so_many_ranges_are_served_and_no_more() {
        let ranges = |number: u64| {
            let specs: Vec<String> = (0..number).map(|n| format!("{}-{}", n * 10, n * 10)).collect();
            select_ranges(format!("bytes={}", specs.join(",")).as_bytes(), 1 << 40)
        };
        assert!(matches!(ranges(16), Parts(parts) if parts.len() == 16));
        assert_eq!(ranges(17), Whole);
        assert_eq!(ranges(10_000), Whole);
    }

    proptest! {
        /// What is sent is never more than the file, in order and apart.
        #[test]
        fn parts_are_in_the_file_in_order_and_apart(
            specs in prop::collection::vec("[0-9]{0,3}-[0-9]{0,3}", 0..20), size in 0_u64..500,
        ) {
            if let Parts(parts) = select_ranges(format!("bytes={}", specs.join(",")).as_bytes(), size) {
                prop_assert!(!parts.is_empty() && parts.len() <= RANGES_MAX);
                prop_assert!(parts.iter().all(|(first, last)| first <= last && *last < size));
                prop_assert!(parts.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            }
        }
    }
}
