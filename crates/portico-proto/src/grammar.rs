//! Character classes of RFC 9110 and RFC 3986 with their ABNF beside them, and the scans built on them.

/// Bit of [`CLASSES`]: `tchar` (RFC 9110, section 5.6.2).
///
/// ```abnf
/// token = 1*tchar
/// tchar = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`" / "|" / "~"
///       / DIGIT / ALPHA
/// ```
pub(crate) const TOKEN: u8 = 1;

/// Bit of [`CLASSES`]: a byte of a `reg-name` other than `%` (RFC 3986, section 3.2.2).
///
/// ```abnf
/// reg-name   = *( unreserved / pct-encoded / sub-delims )
/// unreserved = ALPHA / DIGIT / "-" / "." / "_" / "~"
/// sub-delims = "!" / "$" / "&" / "'" / "(" / ")" / "*" / "+" / "," / ";" / "="
/// ```
pub(crate) const REG_NAME: u8 = 2;

/// Bit of [`CLASSES`]: a `tchar` other than the underscore, which CGI cannot tell from `-`.
pub(crate) const TOKEN_SAFE_IN_CGI: u8 = 4;

/// The classes of each byte.
pub(crate) static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let c = byte as u8;
        let alphanumeric = c.is_ascii_alphanumeric();
        if alphanumeric || contains(b"!#$%&'*+-.^_`|~", c) {
            classes[byte] |= TOKEN | TOKEN_SAFE_IN_CGI;
        }
        if alphanumeric || contains(b"-._~!$&'()*+,;=", c) {
            classes[byte] |= REG_NAME;
        }
        byte += 1;
    }
    classes[b'_' as usize] &= !TOKEN_SAFE_IN_CGI;
    classes
}

const fn contains(set: &[u8], byte: u8) -> bool {
    let mut i = 0;
    while i < set.len() {
        if set[i] == byte {
            return true;
        }
        i += 1;
    }
    false
}

/// Whether `byte` belongs to `class`.
pub(crate) fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// Whether `bytes` are a token (RFC 9110, section 5.6.2). Written without an early way out: there seldom is one.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().fold(TOKEN, |classes, &byte| classes & CLASSES[byte as usize]) != 0
}

/// Whether a field's value may have all of `bytes`: no `CTL = %x00-1F / %x7F` but HTAB (RFC 9110, section 5.5).
/// Written without an early way out, so that the compiler makes vector code of it.
pub fn is_field_value(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |bad, &byte| bad | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f))
}

/// Whether each `%` in `bytes` begins a `pct-encoded = "%" HEXDIG HEXDIG` (RFC 3986, section 2.1).
pub(crate) fn is_percent_encoded(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'%', bytes)
        .all(|at| matches!(bytes.get(at + 1..at + 3), Some(pair) if pair.iter().all(u8::is_ascii_hexdigit)))
}

/// Whether all `bytes` are `VCHAR = %x21-7E` and none is `#`. Written without an early way out, so that the
/// compiler makes vector code of it.
pub(crate) fn is_visible_without_fragment(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |bad, &byte| bad | (byte.wrapping_sub(0x21) > 0x5d) | (byte == b'#'))
}

/// `bytes` without the `OWS = *( SP / HTAB )` around them (RFC 9110, section 5.6.3).
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&byte| !is_blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|&byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// Whether `byte` is SP or HTAB.
pub(crate) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// The elements of a comma-separated list, empty ones left out (RFC 9110, section 5.6.1.2).
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// The decimal number `1*DIGIT`; `None` where `bytes` are none or it is not below 2^64.
pub fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |value, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Position of the first `CTL = %x00-1F / %x7F` other than HTAB at or after `from`.
///
/// Every byte of a head passes through here: blocks without any go by in vector code, the first with one is
/// looked at eight bytes at a time.
pub(crate) fn find_control(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk::<16>) {
        // No early way out, so that the compiler makes vector code of it.
        if block.iter().fold(false, |found, &byte| found | (byte < 0x20) | (byte == 0x7f)) {
            break;
        }
        at += 16;
    }
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let Some(offset) = first_control(u64::from_le_bytes(*eight)) else {
            at += 8;
            continue;
        };
        at += offset;
        if bytes[at] != b'\t' {
            return Some(at);
        }
        at += 1;
    }
    let rest = bytes.get(at..)?;
    rest.iter().position(|&byte| byte.is_ascii_control() && byte != b'\t').map(|offset| at + offset)
}

/// Which of the eight bytes of `word`, counted from the lowest, is the first control byte.
///
/// A subtraction borrows into the top bit of each byte that is too small. The borrow can spoil only bytes
/// above the first that is really small, and only the first is used.
fn first_control(word: u64) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let deleted = word ^ (ONES * 0x7f);
    let below_space = word.wrapping_sub(ONES * 0x20) & !word;
    let found = (below_space | (deleted.wrapping_sub(ONES) & !deleted)) & (ONES * 0x80);
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_are_those_of_the_rfc() {
        let delimiters = b"\"(),/:;<=>?@[\\]{}";
        for byte in 0..=255u8 {
            let expected = byte.is_ascii_graphic() && !delimiters.contains(&byte);
            assert_eq!(is_token(&[byte]), expected, "{byte:#04x}");
        }
        assert!(!is_token(b""));
    }

    #[test]
    fn decimals() {
        for (text, expected) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("99999999999999999999", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1_0", None),
            ("0x1", None),
            ("1 ", None),
        ] {
            assert_eq!(decimal(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn lists_leave_out_empty_elements() {
        let elements: Vec<_> = list(b" ,a ,\t, b c,").collect();
        assert_eq!(elements, [&b"a"[..], b"b c"]);
    }

    #[test]
    fn percent_encoding() {
        assert!(is_percent_encoded(b"/a%20b%fF"));
        for bad in ["%", "/%", "/%2", "/%2g", "/%%20", "/%20%"] {
            assert!(!is_percent_encoded(bad.as_bytes()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn finds_the_first_control_byte(
            bytes in prop::collection::vec(prop_oneof![4 => 0x20u8..0x7f, 1 => any::<u8>()], 0..64),
            from in 0usize..66,
        ) {
            let slow = (from..bytes.len()).find(|&at| bytes[at].is_ascii_control() && bytes[at] != b'\t');
            prop_assert_eq!(find_control(&bytes, from), slow);
        }

        #[test]
        fn trims_as_the_standard_library_does(text in "[ \ta-c]{0,12}") {
            prop_assert_eq!(trim(text.as_bytes()), text.trim_matches([' ', '\t']).as_bytes());
        }
    }
}
