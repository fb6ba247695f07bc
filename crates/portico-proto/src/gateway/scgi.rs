//! The head of SCGI (<https://python.ca/scgi/protocol.txt>).
//!
//! ```abnf
//! head     = length ":" *header ","                            ; length counts the headers' bytes
//! length   = "0" / ( %x31-39 *DIGIT )
//! header   = name NUL value NUL
//! ```
//!
//! The first header is CONTENT_LENGTH, and SCGI with the value 1 is among them.

use super::{FoundPacket, Repeats, VariablesHead, span};
use crate::error::ErrorKind;
use crate::limits::Limits;

/// The head at the front of `input`, once it is complete.
pub(super) fn find(input: &[u8], limits: &Limits) -> Result<FoundPacket, ErrorKind> {
    let Some((start, length)) = netstring(input, limits)? else { return Ok(None) };
    let end = start + length;
    let Some(&comma) = input.get(end) else { return Ok(None) };
    let headers = &input[start..end];
    if comma != b',' || !headers.starts_with(b"CONTENT_LENGTH\0") || !headers.ends_with(b"\0") {
        return Err(ErrorKind::Packet);
    }
    let mut draft = VariablesHead::new(input[..=end].to_vec(), Repeats::Refused);
    let mut is_scgi = false;
    let mut at = start;
    while at < end {
        let name = string(&input[..end], &mut at).ok_or(ErrorKind::Packet)?;
        let value = string(&input[..end], &mut at).ok_or(ErrorKind::Packet)?;
        is_scgi |= input[name.0..name.1] == *b"SCGI" && input[value.0..value.1] == *b"1";
        draft.push(span(name.0, name.1), span(value.0, value.1), limits)?;
    }
    if !is_scgi || !draft.has_length() {
        return Err(ErrorKind::Packet);
    }
    Ok(Some((end + 1, draft)))
}

/// Where the string of a netstring begins, and its length, once that is complete.
fn netstring(input: &[u8], limits: &Limits) -> Result<Option<(usize, usize)>, ErrorKind> {
    let mut length = 0usize;
    for (at, &byte) in input.iter().enumerate() {
        match byte {
            b'0'..=b'9' if at == 0 || input[0] != b'0' => {
                length = length.saturating_mul(10).saturating_add(usize::from(byte - b'0'));
                // Before anything that long is awaited. Digits, colon and comma count too.
                if length.saturating_add(at + 3) > limits.head_bytes_max.min(u32::MAX as usize) {
                    return Err(ErrorKind::HeadTooLarge);
                }
            }
            b':' if at > 0 => return Ok(Some((at + 1, length))),
            _ => return Err(ErrorKind::Packet),
        }
    }
    Ok(None)
}

/// Where the string begins and ends that is at this place, up to its NUL.
fn string(headers: &[u8], at: &mut usize) -> Option<(usize, usize)> {
    let start = *at;
    let end = start + memchr::memchr(0, headers.get(start..)?)?;
    *at = end + 1;
    Some((start, end))
}
