//! What OTLP needs of protobuf: three wire types to write, and a reader that knows all that there are.

/// Appends fields to a message.
#[derive(Debug)]
pub(crate) struct MessageWriter<'a>(pub(crate) &'a mut Vec<u8>);

/// Reads the fields of a message, one after the other.
#[derive(Debug)]
pub(crate) struct MessageReader<'a>(&'a [u8]);

/// The value of a field, by its wire type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValue<'a> {
    /// A number; negative ones as their two's complement.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes.
    Fixed32(u32),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
}

/// A message that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MalformedMessage;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// The longest varint.
const VARINT_BYTES_MAX: usize = 10;

impl MessageWriter<'_> {
    /// A field that is a number.
    pub(crate) fn varint(&mut self, field: u32, value: u64) {
        self.tag(field, VARINT);
        self.raw(value);
    }

    /// A field of eight bytes.
    pub(crate) fn fixed64(&mut self, field: u32, value: u64) {
        self.tag(field, FIXED64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A field of bytes.
    pub(crate) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.head(field, value.len());
        self.0.extend_from_slice(value);
    }

    /// What comes before a field of so many bytes.
    pub(crate) fn head(&mut self, field: u32, length: usize) {
        self.tag(field, BYTES);
        self.raw(length as u64);
    }

    fn tag(&mut self, field: u32, wire_type: u64) {
        self.raw(u64::from(field) << 3 | wire_type);
    }

    fn raw(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// Bytes that a field takes which holds so many.
pub(crate) fn bytes_len(field: u32, length: usize) -> usize {
    varint_len(u64::from(field) << 3) + varint_len(length as u64) + length
}

/// Bytes that a field takes which is this number.
pub(crate) fn varint_field_len(field: u32, value: u64) -> usize {
    varint_len(u64::from(field) << 3) + varint_len(value)
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

impl<'a> MessageReader<'a> {
    /// Of this message.
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// The next field with its number; `None` at the end.
    pub(crate) fn next_field(&mut self) -> Result<Option<(u32, FieldValue<'a>)>, MalformedMessage> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.raw()?;
        let field = u32::try_from(tag >> 3).map_err(|_| MalformedMessage)?;
        let value = match tag & 7 {
            VARINT => FieldValue::Varint(self.raw()?),
            FIXED64 => FieldValue::Fixed64(u64::from_le_bytes(self.chunk()?)),
            FIXED32 => FieldValue::Fixed32(u32::from_le_bytes(self.chunk()?)),
            BYTES => {
                let length = usize::try_from(self.raw()?).map_err(|_| MalformedMessage)?;
                let (value, rest) = self.0.split_at_checked(length).ok_or(MalformedMessage)?;
                self.0 = rest;
                FieldValue::Bytes(value)
            }
            // Groups, which nobody has used for fifteen years.
            _ => return Err(MalformedMessage),
        };
        if field == 0 { Err(MalformedMessage) } else { Ok(Some((field, value))) }
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], MalformedMessage> {
        let (chunk, rest) = self.0.split_first_chunk().ok_or(MalformedMessage)?;
        self.0 = rest;
        Ok(*chunk)
    }

    fn raw(&mut self) -> Result<u64, MalformedMessage> {
        let mut value = 0;
        for (at, &byte) in self.0.iter().take(VARINT_BYTES_MAX).enumerate() {
            // Of the tenth byte one bit is left.
            if at == VARINT_BYTES_MAX - 1 && byte > 1 {
                return Err(MalformedMessage);
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Ok(value);
            }
        }
        Err(MalformedMessage)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(message: &[u8]) -> Result<Vec<(u32, FieldValue<'_>)>, MalformedMessage> {
        let mut reader = MessageReader::new(message);
        let mut fields = Vec::new();
        while let Some(field) = reader.next_field()? {
            fields.push(field);
        }
        Ok(fields)
    }

    #[test]
    fn fields_are_those_of_the_documentation_s_examples() {
        let mut out = Vec::new();
        MessageWriter(&mut out).varint(1, 150);
        MessageWriter(&mut out).bytes(2, b"testing");
        MessageWriter(&mut out).fixed64(3, 1);
        assert_eq!(out, b"\x08\x96\x01\x12\x07testing\x19\x01\0\0\0\0\0\0\0");
    }

    #[test]
    fn what_is_cut_or_no_field_is_malformed() {
        for message in [
            &b"\x08"[..],
            b"\x08\x96",
            b"\x12\x07testin",
            b"\x19\0\0\0\0\0\0\0",
            b"\x0d\0\0\0",
            b"\x0b",
            b"\x00\x00",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert_eq!(all(message), Err(MalformedMessage), "{message:?}");
        }
        assert_eq!(
            all(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            Ok(vec![(1, FieldValue::Varint(u64::MAX))])
        );
        assert_eq!(all(b"\x0d\x01\0\0\0"), Ok(vec![(1, FieldValue::Fixed32(1))]));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            field in 1u32..1 << 29,
            number: u64,
            text in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut out = Vec::new();
            MessageWriter(&mut out).varint(field, number);
            prop_assert_eq!(out.len(), varint_field_len(field, number));
            MessageWriter(&mut out).fixed64(field, number);
            let before = out.len();
            MessageWriter(&mut out).bytes(field, &text);
            prop_assert_eq!(out.len() - before, bytes_len(field, text.len()));
            let values = [FieldValue::Varint(number), FieldValue::Fixed64(number), FieldValue::Bytes(&text)];
            prop_assert_eq!(all(&out), Ok(values.map(|value| (field, value)).to_vec()));
            // A part of it is never taken for more than it is.
            for end in 0..out.len() {
                let part = all(&out[..end]);
                prop_assert!(part.is_err() || part.is_ok_and(|fields| fields.len() < 3));
            }
        }

        #[test]
        fn no_bytes_make_it_fail(message in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = all(&message);
        }
    }
}
