//! Finds the lines of a head or of trailers, however the bytes arrive.
//!
//! Owns line ends and the limits on lines: bare CR, bare LF, control bytes, folded, over-long and too many lines
//! are refused as soon as the byte that makes them so is there. What a line says is not looked at.

use std::ops::Range;

use crate::{Error, ErrorKind, Limits, grammar};

/// How far a block of lines has been scanned. Bytes before it are not looked at again, so that a block which
/// comes one byte at a time costs no more than one that comes whole.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    /// Where the present line begins.
    line_start: u32,
    /// Where to go on looking for its end.
    scanned: u32,
    /// Field lines before the present line.
    fields: u32,
}

/// What comes next in a block of field lines.
pub(super) enum FieldLine {
    /// The empty line that ends the block.
    Blank,
    /// A field line: its bytes within the block, without the line end.
    Field(Range<usize>),
    /// More bytes are needed.
    Incomplete,
}

impl Scan {
    /// Whether the first line is still to be found.
    pub(super) fn in_first_line(&self) -> bool {
        self.line_start == 0
    }

    /// Whether no byte has been looked at.
    pub(super) fn is_untouched(&self) -> bool {
        self.scanned == 0
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
    ) -> Result<Option<Range<usize>>, Error> {
        let bound = Bound::new(0, limits.request_line_bytes_max, ErrorKind::RequestLineTooLong, limits);
        self.next_line(block, bound)
    }

    /// The field line, or the end of the block, at the present place of `block`.
    pub(super) fn next_field_line(&mut self, block: &[u8], limits: &Limits) -> Result<FieldLine, Error> {
        let start = self.line_start();
        let bound = Bound::new(start, limits.field_bytes_max, ErrorKind::FieldTooLong, limits);
        match block.get(start) {
            Some(_) if start >= bound.end => return Err(bound.error.into()),
            Some(&byte) if grammar::is_blank(byte) => return Err(ErrorKind::FoldedField.into()),
            Some(&byte) if byte != b'\r' && self.fields as usize >= limits.fields_max => {
                return Err(ErrorKind::TooManyFields.into());
            }
            _ => {}
        }
        Ok(match self.next_line(block, bound)? {
            None => FieldLine::Incomplete,
            Some(line) if line.is_empty() => FieldLine::Blank,
            Some(line) => {
                self.fields += 1;
                FieldLine::Field(line)
            }
        })
    }

    /// The bytes of the present line, once its end is there. Looks at no byte beyond `bound`: which error comes
    /// then does not depend on how much has arrived.
    fn next_line(&mut self, block: &[u8], bound: Bound) -> Result<Option<Range<usize>>, Error> {
        let window = &block[..block.len().min(bound.end)];
        let Some(at) = grammar::find_control(window, self.scanned as usize) else {
            return self.wait(window.len(), bound, window.len());
        };
        match (window[at], window.get(at + 1)) {
            (b'\r', Some(b'\n')) => {
                let line = self.line_start()..at;
                self.line_start = at as u32 + 2;
                self.scanned = self.line_start;
                Ok(Some(line))
            }
            (b'\r', None) => self.wait(at, bound, window.len()),
            (b'\r', Some(_)) => Err(ErrorKind::BareCr.into()),
            (b'\n', _) => Err(ErrorKind::BareLf.into()),
            _ => Err(ErrorKind::ControlByte.into()),
        }
    }

    /// Notes that the line goes on after the `available` bytes, unless it must not.
    fn wait(
        &mut self,
        scanned: usize,
        bound: Bound,
        available: usize,
    ) -> Result<Option<Range<usize>>, Error> {
        if available >= bound.end {
            return Err(bound.error.into());
        }
        self.scanned = scanned as u32;
        Ok(None)
    }
}

/// The nearer of two ends: the longest line's and the largest block's.
#[derive(Clone, Copy)]
struct Bound {
    /// One past the last byte that the line, its end included, may have.
    end: usize,
    /// What it is to be longer.
    error: ErrorKind,
}

impl Bound {
    fn new(line_start: usize, line_bytes_max: usize, too_long: ErrorKind, limits: &Limits) -> Self {
        let line_end = line_start.saturating_add(line_bytes_max).saturating_add(LINE_END_BYTES);
        let block_end = limits.head_bytes_max.min(BLOCK_BYTES_MAX);
        if line_end <= block_end {
            Self { end: line_end, error: too_long }
        } else {
            Self { end: block_end, error: ErrorKind::HeadTooLarge }
        }
    }
}

const LINE_END_BYTES: usize = 2;
/// Positions are kept in 32 bits.
const BLOCK_BYTES_MAX: usize = u32::MAX as usize;
