//! Decodes a chunked body (RFC 9112, section 7.1).
//!
//! Chunk framing is taken in byte by byte and never asked for again, so a verdict does not depend on how the
//! bytes arrive. Only trailers wait in the caller's buffer until they are complete.

use super::lines::{self, FieldLine, Scan};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::grammar;
use crate::limits::Limits;

/// The position of the peer in a chunked body.
///
/// ```text
/// Size ─┬─ ';' ──▶ Extension ─┬─ CR ─▶ SizeLf ─┬─ size > 0 ─▶ Data ─▶ DataCr ─▶ DataLf ─▶ Size
///       └─ CR ────────────────┘                └─ size = 0 ─▶ Trailers ─▶ (complete)
/// ```
#[derive(Debug, Default)]
pub(super) struct Chunked {
    /// Bytes of the body up to the end of the present chunk.
    body_bytes: u64,
    /// Size of the present chunk while its size line is read, then what is left of it.
    left: u64,
    /// Bytes of the present size line so far.
    line_bytes: u32,
    /// Bytes of extensions in all size lines so far.
    extension_bytes: u32,
    at: ChunkPosition,
}

/// The element of a chunked body that the next byte belongs to (RFC 9112, section 7.1). The decoder of one body
/// owns it, and takes in each position only what the grammar has there.
#[derive(Debug, Default)]
enum ChunkPosition {
    #[default]
    Size,
    Extension(Extension),
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers(Scan),
}

/// The position of the peer in the extensions of a chunk.
///
/// ```abnf
/// chunk-ext      = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
/// chunk-ext-name = token
/// chunk-ext-val  = token / quoted-string
/// ```
#[derive(Clone, Copy, Debug)]
enum Extension {
    /// White space before a `;`; the line must not end in it.
    BeforeSemicolon,
    /// After `;`, before a name.
    BeforeName,
    Name,
    /// White space after a name.
    AfterName,
    /// After `=`, before a value.
    BeforeValue,
    Token,
    Quoted,
    /// After a `\` in a quoted string.
    Escaped,
    /// Right after a quoted string.
    AfterQuoted,
}

impl Chunked {
    /// The next event of the body. As [`super::Connection::next_event`]; `End` comes once.
    pub(super) fn next_event<'b>(
        &mut self,
        input: &mut &'b [u8],
        limits: &Limits,
    ) -> Result<Option<Event<'b>>, Error> {
        while !input.is_empty() {
            match &mut self.at {
                ChunkPosition::Data => return Ok(Some(Event::Body(self.take_data(input)))),
                ChunkPosition::Trailers(scan) => return take_trailers(input, scan, limits),
                _ => {
                    self.take_byte(input[0], limits)?;
                    *input = &input[1..];
                }
            }
        }
        Ok(None)
    }

    fn take_data<'b>(&mut self, input: &mut &'b [u8]) -> &'b [u8] {
        let count = usize::try_from(self.left).map_or(input.len(), |left| left.min(input.len()));
        let (data, rest) = input.split_at(count);
        *input = rest;
        self.left -= count as u64;
        if self.left == 0 {
            self.at = ChunkPosition::DataCr;
        }
        data
    }

    /// Takes one byte of chunk framing.
    fn take_byte(&mut self, byte: u8, limits: &Limits) -> Result<(), Error> {
        let next = match self.at {
            ChunkPosition::Size => self.take_size_byte(byte, limits)?,
            ChunkPosition::Extension(extension) => self.take_extension_byte(extension, byte, limits)?,
            ChunkPosition::SizeLf if byte == b'\n' => self.begin_chunk(limits)?,
            ChunkPosition::SizeLf => return Err(ErrorKind::BareCr.into()),
            ChunkPosition::DataCr if byte == b'\r' => ChunkPosition::DataLf,
            ChunkPosition::DataLf if byte == b'\n' => ChunkPosition::Size,
            _ => return Err(ErrorKind::ChunkEnd.into()),
        };
        self.at = next;
        Ok(())
    }

    /// `chunk-size = 1*HEXDIG`
    fn take_size_byte(&mut self, byte: u8, limits: &Limits) -> Result<ChunkPosition, Error> {
        let has_digits = self.line_bytes > 0;
        if let Some(digit) = (byte as char).to_digit(16) {
            self.count_line_byte(limits)?;
            if self.line_bytes > SIZE_DIGITS_MAX {
                return Err(ErrorKind::ChunkLineTooLong.into());
            }
            let shifted = self.left.checked_mul(16).ok_or(ErrorKind::ChunkSize)?;
            self.left = shifted + u64::from(digit);
            return Ok(ChunkPosition::Size);
        }
        match byte {
            b'\n' => Err(ErrorKind::BareLf.into()),
            _ if !has_digits => Err(ErrorKind::ChunkSize.into()),
            b'\r' => Ok(ChunkPosition::SizeLf),
            b';' | b' ' | b'\t' => self.take_extension_byte(Extension::BeforeSemicolon, byte, limits),
            _ => Err(ErrorKind::ChunkSize.into()),
        }
    }

    fn take_extension_byte(
        &mut self,
        extension: Extension,
        byte: u8,
        limits: &Limits,
    ) -> Result<ChunkPosition, Error> {
        use Extension::{AfterName, AfterQuoted, BeforeName, BeforeSemicolon, BeforeValue};
        use Extension::{Escaped, Name, Quoted, Token};
        let is_tchar = grammar::is(byte, grammar::TOKEN);
        let is_blank = grammar::is_blank(byte);
        let next = match (extension, byte) {
            (Name | Token | AfterQuoted, b'\r') => return Ok(ChunkPosition::SizeLf),
            (_, b'\n') => return Err(ErrorKind::BareLf.into()),
            (Quoted, b'"') => AfterQuoted,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, b'\t' | b' '..=b'~' | 0x80..) => Quoted,
            (BeforeSemicolon | Name | AfterName | Token | AfterQuoted, b';') => BeforeName,
            (Name | AfterName, b'=') => BeforeValue,
            (BeforeValue, b'"') => Quoted,
            (BeforeName | Name, _) if is_tchar => Name,
            (BeforeValue | Token, _) if is_tchar => Token,
            (BeforeSemicolon | BeforeName | BeforeValue | AfterName, _) if is_blank => extension,
            (Name, _) if is_blank => AfterName,
            (Token | AfterQuoted, _) if is_blank => BeforeSemicolon,
            _ => return Err(ErrorKind::ChunkExtension.into()),
        };
        self.count_line_byte(limits)?;
        self.extension_bytes = self.extension_bytes.saturating_add(1);
        if self.extension_bytes as usize > limits.chunk_extension_bytes_max() {
            return Err(ErrorKind::ChunkExtensionsTooLong.into());
        }
        Ok(ChunkPosition::Extension(next))
    }

    fn count_line_byte(&mut self, limits: &Limits) -> Result<(), Error> {
        if self.line_bytes as usize >= limits.chunk_line_bytes_max.min(CHUNK_LINE_BYTES_MAX) {
            return Err(ErrorKind::ChunkLineTooLong.into());
        }
        self.line_bytes += 1;
        Ok(())
    }

    /// The size line is complete. A chunk that makes the body too large is refused before it is taken in.
    fn begin_chunk(&mut self, limits: &Limits) -> Result<ChunkPosition, Error> {
        self.line_bytes = 0;
        if self.left == 0 {
            return Ok(ChunkPosition::Trailers(Scan::default()));
        }
        self.body_bytes = self.body_bytes.saturating_add(self.left);
        if limits.body_bytes_max != 0 && self.body_bytes > limits.body_bytes_max {
            return Err(ErrorKind::BodyTooLarge.into());
        }
        Ok(ChunkPosition::Data)
    }
}

/// Checks the trailers at the front of `input` and drops them once they are complete.
fn take_trailers<'b>(
    input: &mut &'b [u8],
    scan: &mut Scan,
    limits: &Limits,
) -> Result<Option<Event<'b>>, Error> {
    loop {
        match scan.next_field_line(input, limits)? {
            FieldLine::Incomplete => {
                lines::check_size(input, limits)?;
                return Ok(None);
            }
            FieldLine::Blank => {
                *input = &input[scan.line_start()..];
                return Ok(Some(Event::End));
            }
            FieldLine::Field(field) if is_forbidden_trailer(field.name.of(input)) => {
                return Err(ErrorKind::Trailer.into());
            }
            FieldLine::Field(_) => {}
        }
    }
}

/// Whether a field of this name says how a message is framed, where it goes, or how long its connection lives:
/// whoever took such a trailer for a field of the head would read another message (RFC 9110, section 6.5.1). All
/// others are dropped.
pub(crate) fn is_forbidden_trailer(name: &[u8]) -> bool {
    // The length spares comparing nearly all names.
    let forbidden: &[&[u8]] = match name.len() {
        2 => &[b"te"],
        4 => &[b"host"],
        7 => &[b"trailer", b"upgrade"],
        10 => &[b"connection", b"keep-alive"],
        14 => &[b"content-length"],
        16 => &[b"proxy-connection"],
        17 => &[b"transfer-encoding"],
        _ => return false,
    };
    forbidden.iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// Digits of a chunk's size: 16 say all that there can be, what is more are zeros before them.
const SIZE_DIGITS_MAX: u32 = 256;

/// Bytes of a size line are counted in 32 bits.
const CHUNK_LINE_BYTES_MAX: usize = u32::MAX as usize;
