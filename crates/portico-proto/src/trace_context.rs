//! W3C Trace Context: the field `traceparent`, read strictly and written.

/// The position of a request in a trace, as `traceparent` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; not all zeros.
    pub trace_id: [u8; 16],
    /// The span that is the parent of what comes next; not all zeros.
    pub span_id: [u8; 8],
    /// The flags. Bits that version 00 does not define are kept.
    pub flags: u8,
}

/// `traceparent` as it is sent, in version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceText([u8; TEXT_BYTES]);

/// Length of a `traceparent` of version 00.
const TEXT_BYTES: usize = 55;

/// Flag: whoever wrote it records the trace.
const SAMPLED: u8 = 0b01;

/// Flag of Level 2: the last seven bytes of the trace's id are random.
const RANDOM: u8 = 0b10;

impl TraceContext {
    /// The field's name.
    pub const FIELD: &[u8] = b"traceparent";

    /// Reads the value of the field; `None` for what is not valid (section 3.2.2), which begins a new trace.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, beyond) = value.split_first_chunk::<TEXT_BYTES>()?;
        if [2, 35, 52].iter().any(|&at| known[at] != b'-') {
            return None;
        }
        let [version] = digits(&known[..2])?;
        // A later version may append to what is known, after a dash. 255 is no version.
        if version == 0xff || !(beyond.is_empty() || version != 0 && beyond.starts_with(b"-")) {
            return None;
        }
        let [flags] = digits(&known[53..])?;
        let context = Self { trace_id: digits(&known[3..35])?, span_id: digits(&known[36..52])?, flags };
        (context.trace_id != [0; 16] && context.span_id != [0; 8]).then_some(context)
    }

    /// Whether the trace is recorded by the caller.
    #[inline]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The next span in the same trace: that of a server which was called with this context.
    #[inline]
    pub fn child(&self, span_id: [u8; 8], is_sampled: bool) -> Self {
        // Section 4.3: flags that are not understood are not passed on.
        let flags = self.flags & RANDOM | if is_sampled { SAMPLED } else { 0 };
        Self { trace_id: self.trace_id, span_id, flags }
    }

    /// The first span of a trace.
    #[inline]
    pub fn root(trace_id: [u8; 16], span_id: [u8; 8], is_sampled: bool) -> Self {
        Self { trace_id, span_id, flags: if is_sampled { SAMPLED } else { 0 } }
    }

    /// As it is sent on.
    pub fn text(&self) -> TraceText {
        let mut text = [b'-'; TEXT_BYTES];
        write(&[0], &mut text[..2]);
        write(&self.trace_id, &mut text[3..35]);
        write(&self.span_id, &mut text[36..52]);
        write(&[self.flags], &mut text[53..]);
        TraceText(text)
    }
}

impl TraceText {
    /// The value of the field.
    #[inline]
    pub fn value(&self) -> &[u8] {
        &self.0
    }

    /// The trace's id, 32 hexadecimal digits.
    #[inline]
    pub fn trace_id(&self) -> &[u8] {
        &self.0[3..35]
    }

    /// The span's id, 16 of them.
    #[inline]
    pub fn span_id(&self) -> &[u8] {
        &self.0[36..52]
    }

    /// The flags, two of them.
    #[inline]
    pub fn flags(&self) -> &[u8] {
        &self.0[53..]
    }
}

/// So many bytes as lower-case hexadecimal digits; capitals are not valid.
fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn write(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_one_is_taken_apart() {
        let context = TraceContext::parse(VALID.as_bytes()).unwrap();
        assert_eq!(u128::from_be_bytes(context.trace_id), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(u64::from_be_bytes(context.span_id), 0x00f0_67aa_0ba9_02b7);
        assert!(context.is_sampled());
        let text = context.text();
        assert_eq!(text.value(), VALID.as_bytes());
        assert_eq!(text.trace_id(), b"4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((text.span_id(), text.flags()), (&b"00f067aa0ba902b7"[..], &b"01"[..]));
        let later = VALID.replace("00-4", "cc-4");
        assert_eq!(TraceContext::parse(later.as_bytes()), Some(context));
        assert_eq!(TraceContext::parse(format!("{later}-what").as_bytes()), Some(context));
    }

    #[test]
    fn anything_else_is_not() {
        let nothing = ("0".repeat(32), "0".repeat(16));
        for value in [
            String::new(),
            VALID[..54].to_owned(),
            format!(" {VALID}"),
            format!("{VALID} "),
            format!("{VALID},{VALID}"),
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
            VALID.replace("-01", "-1"),
        ] {
            assert_eq!(TraceContext::parse(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn flags_that_are_not_understood_are_not_passed_on() {
        let parse = |flags: &str| TraceContext::parse(VALID.replace("-01", flags).as_bytes()).unwrap();
        for (flags, is_sampled, passed_on) in
            [("-ff", true, b"03"), ("-fe", false, b"02"), ("-01", false, b"00"), ("-00", true, b"01")]
        {
            let child = parse(flags).child([7; 8], is_sampled);
            assert_eq!((child.text().flags(), child.span_id), (&passed_on[..], [7; 8]), "{flags}");
            assert_eq!(child.trace_id, parse(flags).trace_id);
        }
        assert!(!parse("-02").is_sampled() && parse("-03").is_sampled());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace_id in any::<[u8; 16]>(), span_id in any::<[u8; 8]>(), flags: u8) {
            let context = TraceContext { trace_id, span_id, flags };
            let valid = trace_id != [0; 16] && span_id != [0; 8];
            prop_assert_eq!(TraceContext::parse(context.text().value()), valid.then_some(context));
        }

        #[test]
        fn only_what_would_be_written_so_is_read_in_version_00(
            value in "00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",
        ) {
            if let Some(context) = TraceContext::parse(value.as_bytes()) {
                let text = context.text();
                prop_assert_eq!(text.value(), value.as_bytes());
            }
        }

        #[test]
        fn no_bytes_make_it_fail(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = TraceContext::parse(&value);
        }
    }
}
