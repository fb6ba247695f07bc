//! Finds the lines of a head or of trailers, however the bytes arrive, and takes field lines apart.
//!
//! Owns line ends and the limits on lines: bare CR, bare LF, control bytes, folded, over-long and too many
//! lines are refused as soon as the byte that makes them so is there. What a field means is not looked at.

use std::ops::Range;

use crate::error::ErrorKind;
use crate::grammar;
use crate::limits::Limits;
use crate::message::Span;

/// The progress of scanning a block of lines. Bytes before it are not looked at again, so that a block which comes
/// one byte at a time costs no more than one that comes whole.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    /// Where the present line begins.
    line_start: u32,
    /// Where to go on looking for its end.
    scanned: u32,
    /// Field lines before the present line.
    fields: u32,
}

/// The next element of a block of field lines.
pub(super) enum FieldLine {
    /// The empty line that ends the block.
    Blank,
    /// A field line.
    Field(Field),
    /// More bytes are needed.
    Incomplete,
}

/// A field line taken apart. Spans count from the first byte of the block.
pub(super) struct Field {
    pub(super) name: Span,
    pub(super) value: Span,
    /// Whether the name has an underscore.
    pub(super) underscore: bool,
}

impl Scan {
    /// Whether the first line is still to be found.
    pub(super) fn in_first_line(&self) -> bool {
        self.line_start == 0
    }

    /// How many bytes need not be looked at again.
    pub(super) fn scanned(&self) -> usize {
        self.scanned as usize
    }

    /// Where the present line begins: right after a line, that line's end.
    pub(super) fn line_start(&self) -> usize {
        self.line_start as usize
    }

    /// The request line at the front of `block`.
    pub(super) fn next_request_line(
        &mut self,
        block: &[u8],
        limits: &Limits,
    ) -> Result<Option<Range<usize>>, ErrorKind> {
        self.next_line(window(block, limits), limits.request_line_bytes_max, ErrorKind::RequestLineTooLong)
    }

    /// The field line, or the end of the block, at the present place of `block`.
    ///
    /// ```abnf
    /// field-line  = field-name ":" OWS field-value OWS
    /// field-name  = token
    /// field-value = *( VCHAR / obs-text / SP / HTAB )
    /// ```
    // Inlined by force into the loops over lines, with what it calls: that saves a sixth of their
    // instructions.
    #[inline(always)]
    pub(super) fn next_field_line(&mut self, block: &[u8], limits: &Limits) -> Result<FieldLine, ErrorKind> {
        let window = window(block, limits);
        let start = self.line_start();
        let mut name = None;
        if self.scanned == self.line_start {
            match window.get(start) {
                None | Some(b'\r') => {}
                Some(b' ' | b'\t') => return Err(ErrorKind::FoldedField),
                Some(_) if self.fields as usize >= limits.fields_max => return Err(ErrorKind::TooManyFields),
                // A good name that is all there has no line end in it: the line's is behind. Of one that is
                // not good the line's end, or a worse byte, is to be found first, as it is when bytes come
                // singly.
                Some(_) => {
                    name = FieldName::at_front(&window[start..]);
                    self.scanned += name.map_or(0, |name| name.length as u32);
                }
            }
        }
        let line = self.next_line(window, limits.field_bytes_max, ErrorKind::FieldTooLong)?;
        let Some(line) = line else { return Ok(FieldLine::Incomplete) };
        if line.is_empty() {
            return Ok(FieldLine::Blank);
        }
        self.fields += 1;
        let name = name.or_else(|| FieldName::at_front(&window[line.clone()])).ok_or(ErrorKind::FieldName)?;
        Ok(FieldLine::Field(name.with_value(&window[line], start)))
    }

    /// The bytes of the present line, once its end is in `window`. It may have `bytes_max` of them, and no
    /// more may wait for its end either.
    #[inline(always)]
    fn next_line(
        &mut self,
        window: &[u8],
        bytes_max: usize,
        too_long: ErrorKind,
    ) -> Result<Option<Range<usize>>, ErrorKind> {
        let start = self.line_start();
        let found = grammar::find_control(window, self.scanned as usize);
        let at = found.unwrap_or(window.len());
        if at.saturating_sub(start) > bytes_max {
            return Err(too_long);
        }
        self.scanned = at as u32;
        match (window.get(at), window.get(at + 1)) {
            (None, _) | (Some(b'\r'), None) => Ok(None),
            (Some(b'\r'), Some(b'\n')) => {
                self.line_start = at as u32 + 2;
                self.scanned = self.line_start;
                Ok(Some(start..at))
            }
            (Some(b'\r'), Some(_)) => Err(ErrorKind::BareCr),
            (Some(b'\n'), _) => Err(ErrorKind::BareLf),
            _ => Err(ErrorKind::ControlByte),
        }
    }
}

/// Refuses a `block` that goes on where it has reached its greatest size.
pub(super) fn check_size(block: &[u8], limits: &Limits) -> Result<(), ErrorKind> {
    if block.len() >= block_bytes_max(limits) { Err(ErrorKind::HeadTooLarge) } else { Ok(()) }
}

/// What of `block` may be looked at. Which error comes must not depend on how much has arrived beyond.
fn window<'b>(block: &'b [u8], limits: &Limits) -> &'b [u8] {
    &block[..block.len().min(block_bytes_max(limits))]
}

/// Positions are kept in 32 bits.
fn block_bytes_max(limits: &Limits) -> usize {
    limits.head_bytes_max.min(u32::MAX as usize)
}

/// The length of a field line's name, and whether it has an underscore.
#[derive(Clone, Copy)]
struct FieldName {
    length: usize,
    underscore: bool,
}

impl FieldName {
    /// The token at the front of `line`, if a colon is right behind it.
    #[inline(always)]
    fn at_front(line: &[u8]) -> Option<Self> {
        let mut name = Self { length: 0, underscore: false };
        loop {
            while grammar::is(*line.get(name.length)?, grammar::TOKEN_SAFE_IN_CGI) {
                name.length += 1;
            }
            match line[name.length] {
                b':' if name.length > 0 => return Some(name),
                b'_' => name.underscore = true,
                _ => return None,
            }
            name.length += 1;
        }
    }

    /// The field of this `line`, which begins at `start` of its block: its value is what is behind the colon,
    /// trimmed.
    #[inline(always)]
    fn with_value(self, line: &[u8], start: usize) -> Field {
        let name_end = self.length;
        let mut value = &line[name_end + 1..];
        while let [b' ' | b'\t', rest @ ..] = value {
            value = rest;
        }
        let value_start = start + line.len() - value.len();
        while let [rest @ .., b' ' | b'\t'] = value {
            value = rest;
        }
        let value_end = value_start + value.len();
        Field {
            name: Span { start: start as u32, end: (start + name_end) as u32 },
            value: Span { start: value_start as u32, end: value_end as u32 },
            underscore: self.underscore,
        }
    }
}
