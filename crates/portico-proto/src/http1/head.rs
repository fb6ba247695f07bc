//! Parses a request head (RFC 9112, sections 2 and 3).
//!
//! There is no parser library beneath. httparse takes bare LF, bytes above 7F in the target and any number of
//! empty lines, so that each of its heads would have to be gone over again, and it begins an incomplete one
//! anew each time. One pass of ours takes 5,100 instructions for a browser's request, checks included;
//! httparse takes 3,700 without them. The tests hold every head that is taken against its reading.
//!
//! Owns the syntax of the request line. Lines and fields are found by `lines`; what fields mean for the
//! connection is decided by `framing`.

use std::ops::Range;

use super::framing::Control;
use super::lines::{self, FieldLine, Scan};
use super::target;
use crate::error::{Error, ErrorKind};
use crate::limits::Limits;
use crate::message::{RequestHead, Span, Version};
use crate::{grammar, singletons};

/// The head at the front of `input`, once it is complete, and its length in bytes.
///
/// Every line is checked when its end arrives. A head that did not come in one piece is gone through once
/// more when it is complete, to note where things are: nothing is kept meanwhile but `scan`.
pub(super) fn parse(
    input: &[u8],
    scan: &mut Scan,
    limits: &Limits,
) -> Result<Option<(Box<RequestHead>, usize)>, Error> {
    if scan.in_first_line() && !may_begin(input) {
        return Err(first_byte_error(input).into());
    }
    let resumed = !scan.in_first_line();
    let mut syntax = Syntax::default();
    if !syntax.take_lines(input, scan, limits)? {
        lines::check_size(input, limits)?;
        return Ok(None);
    }
    if resumed {
        (*scan, syntax) = Default::default();
        if !syntax.take_lines(input, scan, limits)? {
            return Ok(None);
        }
    }
    let head_bytes = scan.line_start();
    Ok(Some((syntax.into_head(&input[..head_bytes], limits)?, head_bytes)))
}

/// The places of the parts of a head, noted line by line.
#[derive(Default)]
struct Syntax {
    request_line: RequestLine,
    fields: FieldList,
    dropped: Vec<(Span, Span)>,
}

impl Syntax {
    /// Takes in the lines that are there; whether the last was the empty one.
    fn take_lines(&mut self, input: &[u8], scan: &mut Scan, limits: &Limits) -> Result<bool, ErrorKind> {
        if scan.in_first_line() {
            let Some(line) = scan.next_request_line(input, limits)? else { return Ok(false) };
            self.request_line = RequestLine::parse(&input[line])?;
        }
        loop {
            match scan.next_field_line(input, limits)? {
                FieldLine::Blank => return Ok(true),
                FieldLine::Incomplete => return Ok(false),
                FieldLine::Field(field) if field.underscore => self.dropped.push((field.name, field.value)),
                FieldLine::Field(field) => self.fields.push((field.name, field.value)),
            }
        }
    }

    /// The head of these `bytes`, if its fields agree with each other and with the limits.
    fn into_head(self, bytes: &[u8], limits: &Limits) -> Result<Box<RequestHead>, Error> {
        let line = self.request_line;
        let control = Control::gather(bytes, self.fields.as_slice())?;
        let framing = control.framing(line.version, limits)?;
        let host = control.host(line.version)?;
        let mut fields = self.fields.into_vec();
        if control.has_repeats() {
            singletons::keep_first(bytes, &mut fields);
        }
        let websocket = control.asks_for_websocket(line.method.of(bytes), line.version, framing);
        Ok(Box::new(RequestHead {
            bytes: bytes.into(),
            method: line.method,
            target: line.target,
            path: line.path,
            query: line.query,
            authority: line.authority.or(host),
            field_lines: Span { start: line.end, end: bytes.len() as u32 - LINE_END_BYTES },
            fields,
            dropped: self.dropped,
            initials: control.initials(),
            edited: false,
            sent_bytes: bytes.len() as u32,
            gateway: None,
            version: line.version,
            framing,
            keep_alive: control.keep_alive(line.version),
            expect_continue: control.expect_continue(line.version, framing),
            websocket,
        }))
    }
}

/// A request line taken apart. Spans count from its first byte, which is the head's.
struct RequestLine {
    method: Span,
    target: Span,
    path: Span,
    query: Span,
    authority: Option<Span>,
    version: Version,
    /// Where the field lines begin.
    end: u32,
}

impl RequestLine {
    /// ```abnf
    /// request-line = method SP request-target SP HTTP-version
    /// method       = token
    /// ```
    ///
    /// Any token is a method: which ones it answers is the application's affair (RFC 9110, section 9.1).
    fn parse(line: &[u8]) -> Result<Self, ErrorKind> {
        let malformed = ErrorKind::RequestLine;
        let method_end = memchr::memchr(b' ', line).ok_or(malformed)?;
        let target_start = method_end + 1;
        let target_bytes = memchr::memchr(b' ', &line[target_start..]).ok_or(malformed)?;
        let target_end = target_start + target_bytes;
        let method = &line[..method_end];
        if !grammar::is_token(method) {
            return Err(malformed);
        }
        let version = parse_version(&line[target_end + 1..])?;
        if method == b"CONNECT" {
            return Err(ErrorKind::Connect);
        }
        let target = target::parse(method, &line[target_start..target_end]).ok_or(ErrorKind::Target)?;
        let shifted = |part: Span| span(target_start, part.start as usize..part.end as usize);
        Ok(Self {
            method: span(0, 0..method_end),
            target: span(0, target_start..target_end),
            path: shifted(target.path),
            query: shifted(target.query),
            authority: target.authority.map(shifted),
            version,
            end: line.len() as u32 + LINE_END_BYTES,
        })
    }
}

impl Default for RequestLine {
    fn default() -> Self {
        let (method, target, path, query) = Default::default();
        Self { method, target, path, query, authority: None, version: Version::Http11, end: 0 }
    }
}

/// ```abnf
/// HTTP-version = %s"HTTP" "/" DIGIT "." DIGIT
/// ```
///
/// A minor version above 1 is served as 1.1, the highest that we conform to: RFC 9110, section 2.5.
fn parse_version(bytes: &[u8]) -> Result<Version, ErrorKind> {
    match bytes {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            if *major == b'1' {
                Ok(Version::Http11)
            } else {
                Err(ErrorKind::Version)
            }
        }
        _ => Err(ErrorKind::RequestLine),
    }
}

/// Spans of fields: as many as nearly all requests have without an allocation, until their number is known.
struct FieldList {
    inline: [(Span, Span); FIELDS_INLINE],
    inline_len: usize,
    /// All of them, once they are more than `inline` holds.
    spilled: Vec<(Span, Span)>,
}

impl FieldList {
    fn push(&mut self, field: (Span, Span)) {
        if let Some(place) = self.inline.get_mut(self.inline_len) {
            *place = field;
            self.inline_len += 1;
            return;
        }
        if self.spilled.is_empty() {
            self.spilled.extend_from_slice(&self.inline);
        }
        self.spilled.push(field);
    }

    fn as_slice(&self) -> &[(Span, Span)] {
        if self.spilled.is_empty() { &self.inline[..self.inline_len] } else { &self.spilled }
    }

    fn into_vec(mut self) -> Vec<(Span, Span)> {
        if self.spilled.is_empty() {
            return self.inline[..self.inline_len].to_vec();
        }
        self.spilled.shrink_to_fit();
        self.spilled
    }
}

impl Default for FieldList {
    fn default() -> Self {
        Self { inline: [Default::default(); FIELDS_INLINE], inline_len: 0, spilled: Vec::new() }
    }
}

/// Whether a method can begin with the first byte of `input`, if it is there.
fn may_begin(input: &[u8]) -> bool {
    input.first().is_none_or(|&byte| grammar::is(byte, grammar::TOKEN))
}

/// What to call a first byte with which no method begins. Said at once: a peer that speaks another protocol
/// may never send a line end.
fn first_byte_error(input: &[u8]) -> ErrorKind {
    match input.first() {
        Some(&TLS_HANDSHAKE) => ErrorKind::Tls,
        Some(b'\n') => ErrorKind::BareLf,
        _ => ErrorKind::RequestLine,
    }
}

/// `range`, which counts from `start`, as a span of the head. Heads are limited to 32 bits.
fn span(start: usize, range: Range<usize>) -> Span {
    Span { start: (start + range.start) as u32, end: (start + range.end) as u32 }
}

const LINE_END_BYTES: u32 = 2;
/// Browsers send 12 to 25 fields, and proxies in front add a few.
const FIELDS_INLINE: usize = 32;
/// The content type of a TLS record that begins a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
