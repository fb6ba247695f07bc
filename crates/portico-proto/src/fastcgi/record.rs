//! Records of FastCGI: their headers, and those that are sent.
//!
//! ```text
//! record = version (1) type id (u16) size (u16) padding (u8) reserved content padding   ; numbers big-endian
//! ```

use crate::error::ErrorKind;

/// The type of a record (FastCGI, section 8). Those that a server is not sent are `Other`: they are answered as
/// unknown where they are about no request, else ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    BeginRequest,
    AbortRequest,
    Params,
    Stdin,
    Data,
    GetValues,
    /// None that a server is sent.
    Other(u8),
}

/// The header of a record: its type, its request and the lengths of what follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Of the request that it belongs to; 0 for the connection's own.
    pub(super) id: u16,
    pub(super) content_bytes: u16,
    pub(super) padding_bytes: u8,
}

/// The content of a BEGIN_REQUEST record: the role, and whether the connection is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begin {
    pub(super) role: u16,
    pub(super) keep_connection: bool,
}

/// The end of a request, as END_REQUEST tells the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Complete = 0,
    Overloaded = 2,
    UnknownRole = 3,
}

pub(super) const HEADER_BYTES: usize = 8;

/// Bytes of the content of BEGIN_REQUEST, END_REQUEST and UNKNOWN_TYPE.
pub(super) const BODY_BYTES: usize = 8;

/// Most bytes of content in one record that is sent: a multiple of eight, as the specification advises.
pub(super) const CONTENT_BYTES_MAX: usize = 65_528;

/// The role of a web server's request.
pub(super) const RESPONDER: u16 = 1;

/// In the flags of BEGIN_REQUEST: the connection outlives the request.
const KEEP_CONNECTION: u8 = 1;

const VERSION: u8 = 1;
const END_REQUEST: u8 = 3;
const STDOUT: u8 = 6;
const GET_VALUES_RESULT: u8 = 10;
const UNKNOWN_TYPE: u8 = 11;

impl Header {
    /// The header at the front of `input`, once it is complete. A version other than 1 is told by its first byte:
    /// a peer that speaks another protocol may never send eight.
    pub(super) fn read(input: &[u8]) -> Result<Option<Self>, ErrorKind> {
        if input.first().is_some_and(|&version| version != VERSION) {
            return Err(ErrorKind::Packet);
        }
        let Some(&[_, kind, id_high, id_low, high, low, padding_bytes, _]) =
            input.first_chunk::<HEADER_BYTES>()
        else {
            return Ok(None);
        };
        let kind = match kind {
            1 => Kind::BeginRequest,
            2 => Kind::AbortRequest,
            4 => Kind::Params,
            5 => Kind::Stdin,
            8 => Kind::Data,
            9 => Kind::GetValues,
            other => Kind::Other(other),
        };
        let id = u16::from_be_bytes([id_high, id_low]);
        Ok(Some(Self { kind, id, content_bytes: u16::from_be_bytes([high, low]), padding_bytes }))
    }

    /// Bytes of content and padding.
    pub(super) fn bytes_behind(&self) -> usize {
        usize::from(self.content_bytes) + usize::from(self.padding_bytes)
    }

    /// That a BEGIN_REQUEST is no longer than it may be, so that it can be waited for.
    pub(super) fn check_begin(&self) -> Result<(), ErrorKind> {
        if usize::from(self.content_bytes) > BODY_BYTES { Err(ErrorKind::Packet) } else { Ok(()) }
    }
}

impl Begin {
    /// Reads the content of BEGIN_REQUEST for a request of this id.
    pub(super) fn read(id: u16, content: &[u8]) -> Result<Self, ErrorKind> {
        match content.first_chunk::<BODY_BYTES>() {
            Some(&[high, low, flags, ..]) if id != 0 => {
                let role = u16::from_be_bytes([high, low]);
                Ok(Self { role, keep_connection: flags & KEEP_CONNECTION != 0 })
            }
            _ => Err(ErrorKind::Packet),
        }
    }
}

/// How many of the bytes at the front of `records`, which we have made, are records that are whole: as many as fit
/// into `bytes_max`, one at least if there is one. Whether the last of them is END_REQUEST, with which they stop.
pub(super) fn whole(records: &[u8], bytes_max: usize) -> (usize, bool) {
    let mut end = 0;
    while let Some(&[_, kind, _, _, high, low, padding, _]) = records[end..].first_chunk::<HEADER_BYTES>() {
        let content = usize::from(u16::from_be_bytes([high, low]));
        let after = end + HEADER_BYTES + content + usize::from(padding);
        if after > records.len() || (end > 0 && after > bytes_max) {
            break;
        }
        end = after;
        if kind == END_REQUEST {
            return (end, true);
        }
    }
    (end, false)
}

/// Appends the header of a STDOUT record with so many bytes, at most [`CONTENT_BYTES_MAX`]. One without any ends
/// the stream.
pub(super) fn write_stdout_header(id: u16, content_bytes: usize, out: &mut Vec<u8>) {
    write_header(STDOUT, id, content_bytes, out);
}

/// Appends END_REQUEST.
pub(super) fn write_end(id: u16, status: Status, out: &mut Vec<u8>) {
    write_header(END_REQUEST, id, BODY_BYTES, out);
    out.extend_from_slice(&[0, 0, 0, 0, status as u8, 0, 0, 0]);
}

/// Appends the response to a record for the connection of a type that is not known.
pub(super) fn write_unknown_type(kind: u8, out: &mut Vec<u8>) {
    write_header(UNKNOWN_TYPE, 0, BODY_BYTES, out);
    out.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
}

/// Appends the response to GET_VALUES: those of `values` that `names` asks for.
pub(super) fn write_values(
    names: &[u8],
    values: &[(&[u8], &[u8])],
    out: &mut Vec<u8>,
) -> Result<(), ErrorKind> {
    let mut content = Vec::new();
    let mut rest = names;
    while !rest.is_empty() {
        let (name, value) = sizes(&mut rest).ok_or(ErrorKind::Packet)?;
        let (name, after) = rest.split_at_checked(name).ok_or(ErrorKind::Packet)?;
        rest = after.get(value..).ok_or(ErrorKind::Packet)?;
        let known = values.iter().find(|(known, _)| *known == name);
        // Asked for twice, it is told once.
        if let Some((name, value)) = known.filter(|(name, _)| memchr::memmem::find(&content, name).is_none())
        {
            content.extend_from_slice(&[name.len() as u8, value.len() as u8]);
            content.extend_from_slice(name);
            content.extend_from_slice(value);
        }
    }
    write_header(GET_VALUES_RESULT, 0, content.len(), out);
    out.extend_from_slice(&content);
    Ok(())
}

/// The sizes of a name and its value at the front of `rest`: each one byte, or four of which the first has its
/// highest bit set.
pub(super) fn sizes(rest: &mut &[u8]) -> Option<(usize, usize)> {
    Some((size(rest)?, size(rest)?))
}

fn size(rest: &mut &[u8]) -> Option<usize> {
    let (&first, after) = rest.split_first()?;
    if first < 0x80 {
        *rest = after;
        return Some(usize::from(first));
    }
    let (four, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some((u32::from_be_bytes(*four) & 0x7fff_ffff) as usize)
}

fn write_header(kind: u8, id: u16, content_bytes: usize, out: &mut Vec<u8>) {
    let [id_high, id_low] = id.to_be_bytes();
    let [high, low] = (content_bytes as u16).to_be_bytes();
    out.extend_from_slice(&[VERSION, kind, id_high, id_low, high, low, 0, 0]);
}
