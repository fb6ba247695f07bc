//! The packet of the uwsgi protocol.
//!
//! ```text
//! packet   = modifier1 (0) size (u16, little-endian) modifier2 *variable    ; size counts the variables' bytes
//! variable = size (u16) name size (u16) value
//! ```

use super::{FoundPacket, Repeats, VariablesHead, span};
use crate::error::ErrorKind;
use crate::limits::Limits;

const HEADER_BYTES: usize = 4;

/// The packet at the front of `input`, once it is complete. A repeated variable counts with its last value: a
/// configuration of nginx that includes `uwsgi_params` and sets one of them anew sends both.
pub(super) fn find(input: &[u8], limits: &Limits) -> Result<FoundPacket, ErrorKind> {
    // Said at once: a peer that speaks another protocol may never send as much as the size seems to say.
    if input.first().is_some_and(|&modifier1| modifier1 != 0) {
        return Err(ErrorKind::UwsgiModifier);
    }
    let Some(&[_, low, high, _]) = input.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let size = usize::from(u16::from_le_bytes([low, high]));
    let end = HEADER_BYTES + size;
    if end > limits.head_bytes_max {
        return Err(ErrorKind::HeadTooLarge);
    }
    let Some(packet) = input.get(..end) else { return Ok(None) };
    let mut draft = VariablesHead::new(packet.to_vec(), Repeats::LastCounts);
    let mut at = HEADER_BYTES;
    while at < end {
        let name = string(packet, &mut at).ok_or(ErrorKind::Packet)?;
        let value = string(packet, &mut at).ok_or(ErrorKind::Packet)?;
        draft.push(span(name.0, name.1), span(value.0, value.1), limits)?;
    }
    Ok(Some((end, draft)))
}

/// Where the string begins and ends that is at this place of `packet`, with its size before it.
fn string(packet: &[u8], at: &mut usize) -> Option<(usize, usize)> {
    let size = packet.get(*at..)?.first_chunk::<2>()?;
    let start = *at + 2;
    let end = start + usize::from(u16::from_le_bytes(*size));
    *at = end;
    (end <= packet.len()).then_some((start, end))
}
