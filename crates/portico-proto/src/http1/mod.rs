//! HTTP/1.0 and HTTP/1.1, server side (RFC 9112).
//!
//! This file owns the state of a connection: which part of a request and of its response comes next. Parsing is
//! in `head`, `lines` and `target`, the decision how a body is delimited in `framing`, decoding in `body`,
//! writing in `encode`.

mod body;
mod encode;
mod framing;
mod head;
mod lines;
mod target;

pub(crate) use body::is_forbidden_trailer;
pub(crate) use encode::{write_added, write_status_line};
pub(crate) use framing::Control;
pub use target::is_authority;
pub(crate) use target::{is_passed_on, parse as parse_target, parse_passed_on as parse_passed_on_target};

use body::Chunked;
use encode::{RequestInfo, ResponseEncoder};
use lines::Scan;

use crate::content::Content;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Part};
use crate::limits::Limits;
use crate::message::Framing;

/// State of one HTTP/1 connection: which part of a request comes next and which part of a response.
///
/// Small (it is kept for every idle connection) and without buffers: bytes that are not consumed stay with
/// the caller, who passes them again with more behind them.
///
/// ```text
/// Head ──▶ Length ──▶ Ended ──next_request──▶ Head          any error ──▶ Failed, for good
///     └──▶ Chunked ──┘
/// ```
#[derive(Debug, Default)]
pub struct Connection {
    receive: Receive,
    response: ResponseEncoder,
}

/// The part of a request that comes next.
#[derive(Debug)]
enum Receive {
    /// A head, after as many empty lines as were skipped.
    Head { scan: Scan, empty_lines: u8 },
    /// This many bytes of a body, perhaps none, and the end.
    Length(u64),
    /// The rest of a chunked body, and the end.
    Chunked(Chunked),
    /// Nothing: the request is complete.
    Ended,
    /// Nothing any more.
    Failed(ErrorKind),
}

impl Default for Receive {
    fn default() -> Self {
        Self::Head { scan: Scan::default(), empty_lines: 0 }
    }
}

impl Connection {
    /// A connection on which nothing has been sent.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next event from the front of `input` and moves `input` past what it used.
    ///
    /// `Ok(None)`: more bytes are needed; `input` may have been moved past bytes that are done with (chunk
    /// framing), what is left must be passed again with more behind it. After `End` no event of the next
    /// request comes until [`Connection::next_request`] has been called. After an error the connection is to
    /// be closed; the same error comes again for whatever is passed.
    ///
    /// Events do not depend on how the bytes are cut, except that a `Body` holds what is there. `limits` must
    /// be the same throughout a request.
    pub fn next_event<'b>(
        &mut self,
        input: &mut &'b [u8],
        limits: &Limits,
    ) -> Result<Option<Event<'b>>, Error> {
        let event = match &mut self.receive {
            Receive::Head { .. } => self.next_head(input, limits),
            Receive::Length(0) => Ok(Some(Event::End)),
            Receive::Length(left) => Ok(next_body(left, input)),
            Receive::Chunked(chunked) => chunked.next_event(input, limits),
            Receive::Ended => Ok(None),
            Receive::Failed(kind) => Err((*kind).into()),
        };
        match &event {
            Ok(Some(Event::End)) => self.receive = Receive::Ended,
            // A peer that sends its body does not wait for leave to do so (RFC 9110, section 10.1.1).
            Ok(Some(Event::Body(_))) => self.response.request.waits = false,
            Ok(_) => {}
            Err(error) => self.receive = Receive::Failed(error.kind),
        }
        event
    }

    /// Whether the peer is between requests: nothing of a next one has been taken in.
    pub fn is_idle(&self) -> bool {
        matches!(&self.receive, Receive::Head { scan, .. } if scan.scanned() == 0)
    }

    /// Appends `part` to `out` in wire form. Parts out of their order send nothing.
    ///
    /// A response may also be sent before the request is complete: to a malformed one, or one that does not come
    /// in time. No body follows where the request is known to be a HEAD (RFC 9110, section 9.3.2).
    pub fn send(&mut self, part: Part<'_>, out: &mut Vec<u8>) {
        self.response.send(part, out);
    }

    /// Makes room in the body of the response for `length` bytes that the caller writes to the wire itself,
    /// such as a file's through `sendfile`: appends to `out` what has to come before them and returns how
    /// many of them the response takes, which the caller must write right after `out`: none where the response
    /// has no body, and no more than the length that its head announced. Any parts may follow.
    pub fn splice(&mut self, length: u64, out: &mut Vec<u8>) -> u64 {
        self.response.splice(length, out)
    }

    /// Whether the head of the response has been sent (an error page can no longer be).
    pub fn head_sent(&self) -> bool {
        self.content().has_started()
    }

    /// Whether the response has been sent to its end. After [`Part::End`] this is false where the body was
    /// shorter than its head announced: the connection must then be cut, or the peer would wait for the rest.
    pub fn response_complete(&self) -> bool {
        self.content().is_complete()
    }

    /// Whether bytes of the body have been dropped because its head announced fewer.
    pub fn response_surplus(&self) -> bool {
        self.content().had_surplus()
    }

    /// Whether the framing tells where the response ends: its length, or chunks.
    pub fn delimits_response(&self) -> bool {
        self.response.is_delimited()
    }

    #[inline]
    pub(crate) fn content(&self) -> &Content {
        self.response.content()
    }

    /// Whether, once the present response is complete, the connection can serve another request. Never before
    /// the present request has been taken in to its end, nor where [`Connection::response_complete`] came out
    /// false.
    pub fn can_keep_alive(&self) -> bool {
        matches!(self.receive, Receive::Ended) && self.response.can_keep_alive()
    }

    /// Begins the next request. Call it when the response is complete and `can_keep_alive`; otherwise it does
    /// nothing, so that the rest of one request is never read as another.
    pub fn next_request(&mut self) {
        if self.can_keep_alive() && self.response_complete() {
            *self = Self::default();
        }
    }

    fn next_head<'b>(&mut self, input: &mut &'b [u8], limits: &Limits) -> Result<Option<Event<'b>>, Error> {
        let Receive::Head { scan, empty_lines } = &mut self.receive else { return Ok(None) };
        if scan.scanned() == 0 && !skip_empty_lines(input, empty_lines)? {
            return Ok(None);
        }
        let parsed = head::parse(input, scan, limits);
        let Ok(Some((head, head_bytes))) = parsed else {
            // What is there may have to be refused: the method decides whether the refusal has a body.
            self.response.request.is_head = input.starts_with(b"HEAD ");
            return parsed.map(|_| None);
        };
        *input = &input[head_bytes..];
        self.receive = match head.framing {
            Framing::None => Receive::Length(0),
            Framing::Length(length) => Receive::Length(length),
            Framing::Chunked => Receive::Chunked(Chunked::default()),
        };
        self.response.request = RequestInfo {
            version: head.version,
            is_head: head.method() == b"HEAD",
            keep_alive: head.keep_alive,
            waits: head.expect_continue,
        };
        Ok(Some(Event::Head(head)))
    }
}

/// Moves `input` past empty lines before a request; whether its first byte, if any, is a request's. Old
/// clients send CRLF after a body: RFC 9112, section 2.2.
fn skip_empty_lines(input: &mut &[u8], skipped: &mut u8) -> Result<bool, Error> {
    while input.first() == Some(&b'\r') {
        match input.get(1) {
            None => return Ok(false),
            Some(b'\n') if *skipped < LEADING_EMPTY_LINES_MAX => {
                *skipped += 1;
                *input = &input[2..];
            }
            Some(b'\n') => return Err(ErrorKind::RequestLine.into()),
            Some(_) => return Err(ErrorKind::BareCr.into()),
        }
    }
    Ok(!input.is_empty())
}

/// The part of a body with `left` bytes to come that is at the front of `input`.
fn next_body<'b>(left: &mut u64, input: &mut &'b [u8]) -> Option<Event<'b>> {
    let count = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
    let (body, rest) = input.split_at(count);
    *input = rest;
    *left -= count as u64;
    (!body.is_empty()).then_some(Event::Body(body))
}

/// Empty lines that are skipped before a request line; with more of them a peer only keeps us busy.
const LEADING_EMPTY_LINES_MAX: u8 = 4;

#[cfg(test)]
mod tests;
