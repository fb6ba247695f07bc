//! The protocol of one connection that carries one request at a time: matched here and nowhere else.
//!
//! Protocols that carry several at once are no [`Protocol`] but sessions, whose streams are.

use crate::{Error, Event, HttpDate, Limits, Part, http1, http2};

/// State of one connection in the protocol that it speaks. All verbs are those of [`http1::Connection`].
///
/// Kept for every idle client: what is larger than the state of HTTP/1 is boxed.
#[derive(Debug)]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1.
    Http1(http1::Connection),
    /// One stream of an HTTP/2 session.
    Http2(Box<http2::Stream>),
}

impl Default for Protocol {
    fn default() -> Self {
        Self::Http1(http1::Connection::new())
    }
}

/// The same expression for whichever state there is.
macro_rules! each {
    ($protocol:expr, $state:ident => $work:expr) => {
        match $protocol {
            Protocol::Http1($state) => $work,
            Protocol::Http2($state) => $work,
        }
    };
}

impl Protocol {
    /// Takes the next event from the front of `input` and moves `input` past what it used.
    ///
    /// # Errors
    /// The peer has sent what it must not: the connection is to be closed.
    #[inline]
    pub fn next_event<'b>(
        &mut self,
        input: &mut &'b [u8],
        limits: &Limits,
    ) -> Result<Option<Event<'b>>, Error> {
        each!(self, state => state.next_event(input, limits))
    }

    /// Whether the peer is between requests: nothing of a next one has been taken in.
    #[inline]
    pub fn is_idle(&self) -> bool {
        each!(self, state => state.is_idle())
    }

    /// Appends `part` to `out` in wire form. `date` is today's. Parts out of their order send nothing.
    #[inline]
    pub fn send(&mut self, part: Part<'_>, date: &HttpDate, out: &mut Vec<u8>) {
        each!(self, state => state.send(part, date, out));
    }

    /// Appends a whole short answer with `text` and a line end as its plain-text body, after which the connection
    /// is to be closed.
    pub fn refuse(&self, status: u16, text: &str, date: &HttpDate, out: &mut Vec<u8>) {
        each!(self, state => state.refuse(status, text, date, out));
    }

    /// Makes room in the body of the answer for `length` bytes that the caller writes to the wire itself, right
    /// after `out`; returns how many of them the answer takes.
    #[inline]
    pub fn splice(&mut self, length: u64, out: &mut Vec<u8>) -> u64 {
        each!(self, state => state.splice(length, out))
    }

    /// Whether the head of the answer has been sent.
    #[inline]
    pub fn head_sent(&self) -> bool {
        each!(self, state => state.head_sent())
    }

    /// Whether the answer has been sent to its end.
    #[inline]
    pub fn answer_complete(&self) -> bool {
        each!(self, state => state.answer_complete())
    }

    /// Whether bytes of the body have been dropped because its head announced fewer.
    pub fn answer_surplus(&self) -> bool {
        each!(self, state => state.answer_surplus())
    }

    /// Whether, once the present answer is complete, the connection can serve another request.
    #[inline]
    pub fn can_keep_alive(&self) -> bool {
        each!(self, state => state.can_keep_alive())
    }

    /// Begins the next request, if the answer is complete and the connection can serve another.
    #[inline]
    pub fn next_request(&mut self) {
        each!(self, state => state.next_request());
    }
}
