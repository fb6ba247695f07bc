//! What peers have sent, so written that it forges no line and no field; and numbers.

use std::io::Write as _;
use std::net::IpAddr;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Three decimal digits for each number below 1000, the first in the lowest byte.
static THREES: [u32; 1000] = {
    let mut threes = [0; 1000];
    let mut at = 0;
    while at < 1000 {
        let digits = [b'0' + (at / 100) as u8, b'0' + (at / 10 % 10) as u8, b'0' + (at % 10) as u8, 0];
        threes[at] = u32::from_le_bytes(digits);
        at += 1;
    }
    threes
};

/// Escapes for the line formats: printable ASCII stays, `"` and `\` get a backslash, other bytes become `\xHH`.
pub(super) fn plain(bytes: &[u8], out: &mut Vec<u8>) {
    match are_harmless(bytes) {
        true => out.extend_from_slice(bytes),
        false => plain_inner(bytes, out),
    }
}

#[cold]
fn plain_inner(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| !is_harmless(byte)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            byte => {
                let (high, low) = hex(byte);
                out.extend_from_slice(&[b'\\', b'x', high, low]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Appends `bytes` as a JSON string (RFC 8259), in its quotes.
///
/// Valid UTF-8 without control characters stays as it is. Of all else each byte above 0x7F is one character
/// `\u00XX`, as latin-1 has it: the line tells the two apart, and nothing is lost.
pub(super) fn json(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    if are_harmless(bytes) {
        out.extend_from_slice(bytes);
    } else {
        json_inner(bytes, out);
    }
    out.push(b'"');
}

#[cold]
fn json_inner(bytes: &[u8], out: &mut Vec<u8>) {
    let is_text = std::str::from_utf8(bytes).is_ok_and(|text| !text.chars().any(is_treacherous));
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b' '..=b'~' => out.push(byte),
            0x80.. if is_text => out.push(byte),
            _ => {
                let (high, low) = hex(byte);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
}

/// Appends `bytes` as a value of logfmt: as they are where that is unmistakable, else as a JSON string.
pub(super) fn logfmt(bytes: &[u8], out: &mut Vec<u8>) {
    let is_plain = |byte: &u8| matches!(byte, b'!'..=b'~') && !b"\"\\=".contains(byte);
    match !bytes.is_empty() && bytes.iter().all(is_plain) {
        true => out.extend_from_slice(bytes),
        false => json(bytes, out),
    }
}

/// Characters of valid text that a terminal or a viewer obeys: C1 controls, and those that turn the direction.
fn is_treacherous(character: char) -> bool {
    matches!(character,
        '\u{80}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        | '\u{61c}' | '\u{feff}')
}

fn is_harmless(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\')
}

/// Whether all are, found out for many at a time and without a branch for each.
fn are_harmless(bytes: &[u8]) -> bool {
    let are = |bytes: &[u8]| bytes.iter().fold(true, |all, &byte| all & is_harmless(byte));
    let mut chunks = bytes.chunks_exact(16);
    chunks.all(are) && are(chunks.remainder())
}

fn hex(byte: u8) -> (u8, u8) {
    (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)])
}

/// Appends a number.
pub(super) fn number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends an address.
pub(super) fn address(address: IpAddr, out: &mut Vec<u8>) {
    let IpAddr::V4(address) = address else {
        let _ = write!(out, "{address}");
        return;
    };
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        number(octet.into(), out);
    }
}

/// Appends nanoseconds as seconds with six decimals.
pub(super) fn seconds(nanos: u64, out: &mut Vec<u8>) {
    number(nanos / 1_000_000_000, out);
    out.push(b'.');
    micros(nanos % 1_000_000_000, out);
}

/// Appends nanoseconds, fewer than a second, as six digits.
pub(super) fn micros(nanos: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&micros_digits(nanos));
}

/// Nanoseconds, fewer than ten seconds, as seconds with six decimals.
#[inline]
pub(super) fn seconds_digits(nanos: u64) -> [u8; 8] {
    // Half the width: a division costs a third.
    let micros = (nanos / 1000) as u32;
    let millis = micros / 1000;
    let seconds = millis / 1000;
    let [millis, micros] = [millis - seconds * 1000, micros - millis * 1000].map(|at| THREES[at as usize]);
    let point = u64::from(seconds) + u64::from(u16::from_le_bytes(*b"0."));
    (u64::from(micros) << 40 | u64::from(millis) << 16 | point).to_le_bytes()
}

/// Nanoseconds within their second as six digits.
#[inline]
pub(super) fn micros_digits(nanos: u64) -> [u8; 6] {
    let [_, _, digits @ ..] = seconds_digits(nanos);
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_as_the_standard_library_writes_them() {
        for text in ["0.0.0.0", "127.0.0.1", "203.0.113.255", "::1", "2001:db8::7", "::ffff:192.0.2.1"] {
            let mut out = Vec::new();
            address(text.parse().unwrap(), &mut out);
            assert_eq!(out, text.as_bytes());
        }
    }

    fn told(escape: fn(&[u8], &mut Vec<u8>), bytes: &[u8]) -> String {
        let mut out = Vec::new();
        escape(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// What a JSON string was made of.
    fn untold(line: &str) -> Vec<u8> {
        let parsed: String = serde_json::from_str(line).unwrap();
        if line.is_ascii() {
            parsed.chars().map(|character| character as u8).collect()
        } else {
            parsed.into()
        }
    }

    #[test]
    fn plain_text() {
        assert_eq!(told(plain, b"a\"b\\c\td\xffe"), r#"a\"b\\c\x09d\xffe"#);
    }

    #[test]
    fn json_strings() {
        for (bytes, expected) in [
            (&b""[..], r#""""#),
            (b"a b", r#""a b""#),
            (b"\"\\\n\r\t\0\x1f\x7f", r#""\"\\\n\r\t\u0000\u001f\u007f""#),
            ("gr\u{fc}\u{df} \u{1f600}".as_bytes(), "\"gr\u{fc}\u{df} \u{1f600}\""),
            (b"caf\xe9", r#""caf\u00e9""#),
            (b"\xc3\xa9\xff", r#""\u00c3\u00a9\u00ff""#),
            ("\u{9b}31m".as_bytes(), r#""\u00c2\u009b31m""#),
            ("\u{202e}x".as_bytes(), r#""\u00e2\u0080\u00aex""#),
        ] {
            assert_eq!(told(json, bytes), expected);
            assert_eq!(untold(expected), bytes);
        }
    }

    #[test]
    fn logfmt_values() {
        for (bytes, expected) in [
            (&b"a-b/c:d"[..], "a-b/c:d"),
            (b"", r#""""#),
            (b"a b", r#""a b""#),
            (b"a=b", r#""a=b""#),
            (b"a\"b", r#""a\"b""#),
            (b"a\nb=c", r#""a\nb=c""#),
        ] {
            assert_eq!(told(logfmt, bytes), expected);
        }
    }

    #[test]
    fn seconds_have_six_decimals() {
        let told = |nanos| {
            let mut out = Vec::new();
            seconds(nanos, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(told(0), "0.000000");
        assert_eq!(told(1_234_567_890), "1.234567");
        assert_eq!(told(99_000_000_999), "99.000000");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_forged_in_json(bytes: Vec<u8>) {
            let line = told(json, &bytes);
            prop_assert!(!line.contains(|character: char| character.is_control()));
            prop_assert_eq!(untold(&line), bytes);
        }

        #[test]
        fn text_is_read_as_it_was(text in "\\PC*") {
            let line = told(json, text.as_bytes());
            prop_assert_eq!(untold(&line), text.as_bytes());
        }

        #[test]
        fn nothing_is_forged_in_logfmt(bytes: Vec<u8>) {
            let value = told(logfmt, &bytes);
            prop_assert!(!value.contains(|character: char| character.is_control()));
            match value.strip_prefix('"') {
                Some(_) => prop_assert_eq!(untold(&value), bytes),
                None => {
                    prop_assert!(!value.is_empty() && !value.contains([' ', '=', '"']));
                    prop_assert_eq!(value.as_bytes(), bytes);
                }
            }
        }
    }
}
