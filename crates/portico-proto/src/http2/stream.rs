//! One request and its answer: what a connection is in HTTP/1, with the same verbs.
//!
//! Heads go to the session as they are sent. The bytes of bodies pass through the caller: what is received is read
//! from the [`Port`] and passed in, what is to be sent is appended to a buffer and written to the port.

use http::StatusCode;

use super::answer;
use super::port::Port;
use crate::{Error, ErrorKind, Event, Fields, Framing, HttpDate, Limits, Part, RequestHead, ResponseHead};

/// State of one stream.
#[derive(Debug)]
pub struct Stream {
    port: Port,
    receive: Receive,
    received: u64,
    is_head: bool,
    /// The peer waits for `100 Continue`.
    waits: bool,
    stage: Stage,
    /// The answer has no body, whatever the application says.
    bodyless: bool,
    /// Bytes of the answer's body that may still be sent, where its length is known.
    left: Option<u64>,
    /// Bytes of the answer's body so far.
    sent: u64,
    surplus: bool,
}

#[derive(Debug)]
enum Receive {
    Head(Result<Box<RequestHead>, Error>),
    Body,
    /// Nothing but the end.
    End,
    Ended,
    Failed(ErrorKind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Started,
    Complete,
    /// It has ended before its announced end.
    Incomplete,
}

impl Stream {
    /// A stream that begins with this head, or with what is wrong with it.
    pub(super) fn new(port: Port, head: Result<Box<RequestHead>, Error>, is_head: bool) -> Self {
        Self {
            port,
            receive: Receive::Head(head),
            received: 0,
            is_head,
            waits: false,
            stage: Stage::Waiting,
            bodyless: false,
            left: None,
            sent: 0,
            surplus: false,
        }
    }

    /// Where the bytes of its bodies are read from and written to.
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// Takes the next event; `input` is what has been read from the port, all of which is taken.
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
                let ends = matches!(head.framing, Framing::None) || self.port.has_ended();
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
            Receive::Body if self.port.has_ended() => Ok(Some(Event::End)),
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

    /// Sends `part`; what of it belongs to the body is appended to `out`, to be written to the port.
    pub fn send(&mut self, part: Part<'_>, date: &HttpDate, out: &mut Vec<u8>) {
        match part {
            Part::Continue if self.stage == Stage::Waiting && self.waits => {
                self.waits = false;
                self.port.send_interim(interim(StatusCode::CONTINUE, &Fields::new()));
            }
            Part::EarlyHints(fields) if self.stage == Stage::Waiting => {
                self.port.send_interim(interim(StatusCode::EARLY_HINTS, fields));
            }
            Part::Head { head, .. } if self.stage == Stage::Waiting => self.send_head(head, date),
            Part::Body(block) if self.stage == Stage::Started => {
                let taken = self.splice(block.len() as u64, out) as usize;
                out.extend_from_slice(&block[..taken]);
            }
            Part::End => self.end(),
            // Parts out of their order.
            _ => {}
        }
    }

    /// Sends a whole short answer with `text` and a line end as its plain-text body, which is appended to `out`.
    pub fn refuse(&self, status: u16, text: &str, date: &HttpDate, out: &mut Vec<u8>) {
        let mut fields = Fields::new();
        fields.push(b"Content-Type", b"text/plain; charset=utf-8");
        let length = text.len() as u64 + 1;
        let body_bytes = if self.is_head { 0 } else { length };
        let fields = answer::fields(&fields, Some(length), date);
        self.port.send_head(status_code(status), fields, Some(body_bytes));
        if !self.is_head {
            out.extend_from_slice(text.as_bytes());
            out.push(b'\n');
        }
    }

    /// How many of `length` further bytes belong to the body; the caller writes them to the port.
    pub fn splice(&mut self, length: u64, _: &mut Vec<u8>) -> u64 {
        if self.stage != Stage::Started || self.bodyless {
            return 0;
        }
        let taken = self.left.map_or(length, |left| length.min(left));
        self.surplus |= taken < length;
        self.left = self.left.map(|left| left - taken);
        self.sent += taken;
        taken
    }

    /// Whether the head of the answer has been sent.
    pub fn head_sent(&self) -> bool {
        self.stage != Stage::Waiting
    }

    /// Whether the answer has been sent to its end.
    pub fn answer_complete(&self) -> bool {
        self.stage == Stage::Complete
    }

    /// Whether bytes of the body have been dropped because its head announced fewer.
    pub fn answer_surplus(&self) -> bool {
        self.surplus
    }

    /// Whether another request can follow: never, each has a stream of its own.
    pub fn can_keep_alive(&self) -> bool {
        false
    }

    /// There is no next request.
    pub fn next_request(&mut self) {}

    fn send_head(&mut self, head: &ResponseHead, date: &HttpDate) {
        self.stage = Stage::Started;
        let status = status_code(head.status);
        // RFC 9110, sections 9.3.2, 15.3.5 and 15.4.5.
        self.bodyless = self.is_head || matches!(head.status, 204 | 304);
        // RFC 9110, section 15.3.6.
        let length = if head.status == 205 { Some(0) } else { head.length };
        self.left = length.filter(|_| !self.bodyless);
        // It is told for HEAD and 304 too, never with 204 (RFC 9110, section 8.6).
        let told = length.filter(|_| head.status != 204);
        let fields = answer::fields(&head.fields, told, date);
        self.port.send_head(status, fields, if self.bodyless { Some(0) } else { length });
    }

    fn end(&mut self) {
        if self.stage != Stage::Started {
            return;
        }
        self.stage = match self.left {
            Some(left) if left > 0 => Stage::Incomplete,
            _ => Stage::Complete,
        };
        if self.left.is_none() && !self.bodyless {
            self.port.finish(self.sent);
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
    *head.headers_mut() = answer::interim_fields(fields, 0);
    head
}

/// The caller's statuses are 200 to 999.
fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
