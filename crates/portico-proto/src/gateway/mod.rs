//! uwsgi and SCGI, server side: a head as a packet of variables, a body of the length that it tells, one request
//! to a connection.
//!
//! This file owns the state of such a connection. What a packet looks like is in `uwsgi` and `scgi`, what its
//! variables mean in `head`, the response in `response`; FastCGI shares the latter two.

mod head;
mod response;
mod scgi;
mod uwsgi;

pub(crate) use head::{Repeats, VariablesHead, span};
pub(crate) use response::{Form, write_head};

use crate::content::Content;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Part};
use crate::limits::Limits;
use crate::message::Framing;

/// State of one uwsgi or SCGI connection: which part of its request comes next, and which of the response.
///
/// Small and without buffers, as [`crate::http1::Connection`]: bytes that are not consumed stay with the caller.
#[derive(Debug)]
pub struct Connection {
    dialect: Dialect,
    receive: Receive,
    content: Content,
    is_head: bool,
}

/// The protocol of a gateway: the form of its packets and of the response's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// uwsgi, packets with modifier 0. The response is one of HTTP/1.
    Uwsgi,
    /// SCGI. The response is one of CGI.
    Scgi,
}

/// The part of the request that comes next.
#[derive(Debug)]
enum Receive {
    Head,
    /// This many bytes of the body, perhaps none, and the end.
    Body(u64),
    /// Nothing: the request is complete.
    Ended,
    /// Nothing any more.
    Failed(ErrorKind),
}

/// The outcome of looking for a packet: its length in bytes and the draft of its head.
pub(crate) type FoundPacket = Option<(usize, VariablesHead)>;

impl Connection {
    /// A connection on which nothing has been sent.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, receive: Receive::Head, content: Content::default(), is_head: false }
    }

    /// As [`crate::http1::Connection::next_event`].
    ///
    /// # Errors
    /// As there; where [`Error::status`] is 0, nothing is answered: the bytes are none of this protocol.
    pub fn next_event<'b>(
        &mut self,
        input: &mut &'b [u8],
        limits: &Limits,
    ) -> Result<Option<Event<'b>>, Error> {
        let event = match &mut self.receive {
            Receive::Head => self.next_head(input, limits),
            Receive::Body(0) => Ok(Some(Event::End)),
            Receive::Body(left) => Ok(next_body(left, input)),
            Receive::Ended => Ok(None),
            Receive::Failed(kind) => Err((*kind).into()),
        };
        match &event {
            Ok(Some(Event::End)) => self.receive = Receive::Ended,
            Ok(_) => {}
            Err(error) => self.receive = Receive::Failed(error.kind),
        }
        event
    }

    /// Whether nothing of the request has been taken in.
    pub fn is_idle(&self) -> bool {
        matches!(self.receive, Receive::Head)
    }

    /// As [`crate::http1::Connection::send`]. There are no interim responses.
    pub fn send(&mut self, part: Part<'_>, out: &mut Vec<u8>) {
        match part {
            Part::Head { head, added, .. } if !self.content.has_started() => {
                self.content.start(head, self.is_head);
                write_head(head, self.form(), added, out);
            }
            Part::Body(block) => {
                let taken = self.content.take(block.len() as u64) as usize;
                out.extend_from_slice(&block[..taken]);
            }
            Part::End => self.content.end(),
            Part::Head { .. } | Part::Continue | Part::EarlyHints(_) => {}
        }
    }

    /// As [`crate::http1::Connection::splice`].
    pub fn splice(&mut self, length: u64) -> u64 {
        self.content.take(length)
    }

    /// The state of the response.
    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    fn form(&self) -> Form {
        match self.dialect {
            Dialect::Uwsgi => Form::Http,
            Dialect::Scgi => Form::Cgi,
        }
    }

    fn next_head<'b>(&mut self, input: &mut &'b [u8], limits: &Limits) -> Result<Option<Event<'b>>, Error> {
        let found = match self.dialect {
            Dialect::Uwsgi => uwsgi::find(input, limits)?,
            Dialect::Scgi => scgi::find(input, limits)?,
        };
        let Some((packet_bytes, draft)) = found else { return Ok(None) };
        self.is_head = draft.is_head();
        if draft.lacks_length() {
            return Err(ErrorKind::LengthMissing.into());
        }
        let head = draft.finish(limits)?;
        *input = &input[packet_bytes..];
        self.receive = Receive::Body(match head.framing {
            Framing::Length(length) => length,
            Framing::None | Framing::Chunked => 0,
        });
        Ok(Some(Event::Head(head)))
    }
}

/// The part of a body with `left` bytes to come that is at the front of `input`.
fn next_body<'b>(left: &mut u64, input: &mut &'b [u8]) -> Option<Event<'b>> {
    let count = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
    let (body, rest) = input.split_at(count);
    *input = rest;
    *left -= count as u64;
    (!body.is_empty()).then_some(Event::Body(body))
}
