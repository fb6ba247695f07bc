//! HTTP/1.0 and HTTP/1.1, server side (RFC 9112).

use crate::{Error, Event, HttpDate, Limits, Part};

/// State of one HTTP/1 connection: which part of a request comes next and which part of an answer.
///
/// Small (it is kept for every idle connection) and without buffers: bytes that are not consumed stay with the
/// caller, who passes them again with more behind them.
#[derive(Debug)]
pub struct Connection {}

impl Connection {
    /// A connection on which nothing has been sent.
    pub fn new() -> Self {
        todo!()
    }

    /// Takes the next event from the front of `input` and moves `input` past what it used.
    ///
    /// `Ok(None)`: more bytes are needed; `input` may have been moved past bytes that are done with (chunk
    /// framing), what is left must be passed again with more behind it. After `End` no event of the next request
    /// comes until [`Connection::next_request`] has been called. After an error the connection is to be closed.
    pub fn next_event<'b>(
        &mut self,
        input: &mut &'b [u8],
        limits: &Limits,
    ) -> Result<Option<Event<'b>>, Error> {
        let _ = (input, limits);
        todo!()
    }

    /// Whether the peer is between requests: nothing of a next one has been taken in.
    pub fn is_idle(&self) -> bool {
        todo!()
    }

    /// Appends `part` to `out` in wire form. `date` is today's.
    pub fn send(&mut self, part: Part<'_>, date: &HttpDate, out: &mut Vec<u8>) {
        let _ = (part, date, out);
        todo!()
    }

    /// Whether the head of the answer has been sent (an error page can no longer be).
    pub fn head_sent(&self) -> bool {
        todo!()
    }

    /// Whether, once the present request and answer are complete, the connection can serve another.
    pub fn can_keep_alive(&self) -> bool {
        todo!()
    }

    /// Begins the next request. Call it when the answer is complete and `can_keep_alive`.
    pub fn next_request(&mut self) {
        todo!()
    }
}

impl Default for Connection {
    fn default() -> Self {
        Self::new()
    }
}
