//! One request and its response: what a connection is in HTTP/1, with the same verbs.
//!
//! Heads go to the session as they are sent. The bytes of bodies pass through the caller: what is received is read
//! from the [`StreamIo`] and passed in, what is to be sent is appended to a buffer and written to the I/O.

use http::StatusCode;

use super::response;
use super::stream_io::StreamIo;
use crate::added::AddedFields;
use crate::content::{Content, announced_length};
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Part};
use crate::limits::Limits;
use crate::message::{Fields, Framing, RequestHead, ResponseHead};

/// The state of one stream: its request and its response. Its bytes are in its [`StreamIo`].
#[derive(Debug)]
pub struct Stream {
    io: StreamIo,
    receive: Receive,
    received: u64,
    is_head: bool,
    /// The peer waits for `100 Continue`.
    waits: bool,
    content: Content,
    /// Bytes of the response's content so far.
    sent: u64,
}

/// The part of a request that its reader is told next. Owned by the stream; it goes from the head to the end, and
/// once a stream has failed it says nothing else.
#[derive(Debug)]
enum Receive {
    Head(Result<Box<RequestHead>, Error>),
    Body,
    /// Nothing but the end.
    End,
    Ended,
    Failed(ErrorKind),
}

impl Stream {
    /// A stream that begins with this head, or with what is wrong with it.
    pub(super) fn new(io: StreamIo, head: Result<Box<RequestHead>, Error>, is_head: bool) -> Self {
        Self {
            io,
            receive: Receive::Head(head),
            received: 0,
            is_head,
            waits: false,
            content: Content::default(),
            sent: 0,
        }
    }

    /// Where the bytes of its bodies are read from and written to.
    pub fn io(&self) -> &StreamIo {
        &self.io
    }

    /// Takes the next event; `input` is what has been read from the I/O, all of which is taken.
    ///
    /// # Errors
    /// The request cannot be served.
    pub fn next_event<'b>(
        &mut self,
        input: &mut &'b [u8],
        limits: &Limits,
    ) -> Result<Option<Event<'b>>, Error> {
        match std::mem::replace(&mut self.receive, Receive::Ended) {
            Receive::Head(Ok(head)) => {
                let ends = matches!(head.framing, Framing::None) || self.io.has_ended();
                self.receive = if ends { Receive::End } else { Receive::Body };
                self.waits = head.expect_continue;
                Ok(Some(Event::Head(head)))
            }
            Receive::Head(Err(error)) => self.fail(error.kind),
            Receive::Failed(kind) => self.fail(kind),
            Receive::Ended => Ok(None),
            Receive::End => Ok(Some(Event::End)),
            Receive::Body if !input.is_empty() => {
                self.received += input.len() as u64;
                if limits.body_bytes_max != 0 && self.received > limits.body_bytes_max {
                    return self.fail(ErrorKind::BodyTooLarge);
                }
                self.receive = Receive::Body;
                self.waits = false;
                Ok(Some(Event::Body(std::mem::take(input))))
            }
            Receive::Body if self.io.has_ended() => Ok(Some(Event::End)),
            Receive::Body => {
                self.receive = Receive::Body;
                Ok(None)
            }
        }
    }

    /// Whether nothing of the request has been taken in.
    pub fn is_idle(&self) -> bool {
        false
    }

    /// Sends `part`; what of it belongs to the body is appended to `out`, to be written to the I/O.
    pub fn send(&mut self, part: Part<'_>, out: &mut Vec<u8>) {
        match part {
            Part::Continue if !self.content.has_started() && self.waits => {
                self.waits = false;
                self.io.send_interim(interim(StatusCode::CONTINUE, &Fields::new()));
            }
            Part::EarlyHints(fields) if !self.content.has_started() => {
                self.io.send_interim(interim(StatusCode::EARLY_HINTS, fields));
            }
            Part::Head { head, added, .. } if !self.content.has_started() => self.send_head(head, added),
            Part::Body(block) => {
                let taken = self.splice(block.len() as u64, out) as usize;
                out.extend_from_slice(&block[..taken]);
            }
            Part::End => self.end(),
            // Parts out of their order.
            _ => {}
        }
    }

    /// How many of `length` further bytes belong to the body; the caller writes them to the I/O.
    pub fn splice(&mut self, length: u64, _: &mut Vec<u8>) -> u64 {
        let taken = self.content.take(length);
        self.sent += taken;
        taken
    }

    /// The state of the response.
    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// Whether another request can follow: never, each has a stream of its own.
    pub fn can_keep_alive(&self) -> bool {
        false
    }

    /// There is no next request.
    pub fn next_request(&mut self) {}

    fn send_head(&mut self, head: &ResponseHead, added: &AddedFields) {
        self.content.start(head, self.is_head);
        if head.close {
            self.io.close_session();
        }
        let fields = response::fields(&head.fields, announced_length(head), added);
        self.io.send_head(status_code(head.status), fields, self.content.left());
    }

    fn end(&mut self) {
        let is_open = self.content.is_open() && self.content.is_started();
        self.content.end();
        if is_open {
            self.io.finish(self.sent);
        }
    }

    fn fail<T>(&mut self, kind: ErrorKind) -> Result<T, Error> {
        self.receive = Receive::Failed(kind);
        Err(kind.into())
    }
}

fn interim(status: StatusCode, fields: &Fields) -> http::Response<()> {
    let mut head = http::Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = response::interim_fields(fields, 0);
    head
}

/// The caller's statuses are 200 to 999.
fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
