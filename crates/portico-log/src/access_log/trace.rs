//! `traceparent` of W3C Trace Context, read strictly.

/// The ids of a trace that a `traceparent` field tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trace<'a> {
    /// 32 hexadecimal digits.
    pub trace_id: &'a [u8],
    /// 16 of them: the span of the caller.
    pub span_id: &'a [u8],
    /// Two of them.
    pub flags: &'a [u8],
}

/// Reads the value of the field; `None` for what is not valid (W3C Trace Context, section 3.2.2).
pub(super) fn parse(value: &[u8]) -> Option<Trace<'_>> {
    let (known, beyond) = value.split_at_checked(55)?;
    let [version, trace_id, span_id, flags] = [&known[..2], &known[3..35], &known[36..52], &known[53..]];
    let dashes = [2, 35, 52].iter().all(|&at| known[at] == b'-');
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let digits = [version, trace_id, span_id, flags].iter().all(|part| part.iter().all(is_hex));
    // A later version may append to what is known, after a dash.
    let extent = beyond.is_empty() || (version != b"00" && beyond.starts_with(b"-"));
    let nothing = |id: &[u8]| id.iter().all(|&byte| byte == b'0');
    let valid = dashes && digits && extent && version != b"ff" && !nothing(trace_id) && !nothing(span_id);
    valid.then_some(Trace { trace_id, span_id, flags })
}

/// The trace of a `traceparent` field as a number; `None` for what is not valid.
pub fn trace_id(value: &[u8]) -> Option<u128> {
    let digits = std::str::from_utf8(parse(value)?.trace_id).ok()?;
    u128::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_one_is_taken_apart() {
        let trace = parse(VALID.as_bytes()).unwrap();
        assert_eq!(trace.trace_id, b"4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace_id(VALID.as_bytes()), Some(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736));
        assert_eq!((trace.span_id, trace.flags), (&b"00f067aa0ba902b7"[..], &b"01"[..]));
        assert!(parse(VALID.replace("00-4", "cc-4").as_bytes()).is_some());
        assert!(parse(format!("{}-what", VALID.replace("00-4", "cc-4")).as_bytes()).is_some());
    }

    #[test]
    fn anything_else_is_not() {
        let nothing = ("0".repeat(32), "0".repeat(16));
        for value in [
            String::new(),
            VALID[..54].to_owned(),
            format!("{VALID}-what"),
            format!("{VALID}0"),
            format!("{}what", VALID.replace("00-4", "cc-4")),
            VALID.replace("00-4", "ff-4"),
            VALID.to_uppercase(),
            VALID.replace("4bf", "4gf"),
            VALID.replace('-', "_"),
            VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", &nothing.0),
            VALID.replace("00f067aa0ba902b7", &nothing.1),
            VALID.replace("-01", "-0\u{e9}"),
        ] {
            assert_eq!(parse(value.as_bytes()), None, "{value}");
        }
    }
}
