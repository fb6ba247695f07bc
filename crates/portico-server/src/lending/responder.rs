//! The answering end of a call.

use std::borrow::Cow;
use std::fs::File;
use std::sync::Arc;

use portico_proto::{Fields, ResponseHead};

use super::Lending;
use crate::connection::{Answer, Flow, RequestKey};

/// Answers one request. Holds no socket: blocks are handed to the engine, which writes them at once if it can
/// and buffers them up to the high-water mark, at which the calling thread waits.
///
/// Dropped before [`Responder::finish`] it answers 500 if the head has not gone out, else it aborts the
/// connection, so that a truncated answer never looks complete.
pub struct Responder {
    lending: Arc<Lending>,
    key: RequestKey,
    state: State,
    flow: Option<Arc<Flow>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Started,
    Finished,
}

/// The peer has gone: nothing more can be sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Largest block that is handed to the engine at once; larger ones go in pieces, so that a slow peer costs no more
/// memory than the high-water mark and one of these.
const PIECE_BYTES_MAX: usize = 256 * 1024;

impl Responder {
    pub(crate) fn new(lending: Arc<Lending>, key: RequestKey) -> Self {
        Self { lending, key, state: State::Open, flow: None }
    }

    /// Sends `103 Early Hints` with these fields, if the head has not gone out and the peer can take them.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn early_hints(&mut self, fields: &Fields) -> Result<(), Gone> {
        if self.state != State::Open {
            return Ok(());
        }
        self.hand(Answer::EarlyHints(Cow::Borrowed(fields)))
    }

    /// Sends the head, together with the first block of the body if there is one. The block leaves at once.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn start(&mut self, head: &ResponseHead, block: &[u8]) -> Result<(), Gone> {
        debug_assert_eq!(self.state, State::Open, "an answer starts once");
        self.state = State::Started;
        let flow = Arc::new(Flow::default());
        self.flow = Some(Arc::clone(&flow));
        let (first, rest) = block.split_at(block.len().min(PIECE_BYTES_MAX));
        self.hand(Answer::Start { head: Cow::Borrowed(head), block: Cow::Borrowed(first), flow })?;
        if rest.is_empty() { self.wait_for_room() } else { self.send(rest) }
    }

    /// Sends a further block at once; waits (through `Application::blocking`) while too much is buffered.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn send(&mut self, block: &[u8]) -> Result<(), Gone> {
        if self.is_gone() {
            return Err(Gone);
        }
        for piece in block.chunks(PIECE_BYTES_MAX) {
            self.hand(Answer::Block(Cow::Borrowed(piece)))?;
            self.wait_for_room()?;
        }
        Ok(())
    }

    /// Sends `length` bytes of `file` from `offset` on, without passing them through memory. The calling thread
    /// does not wait for it. The head must have told the length.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn send_file(&mut self, file: File, offset: u64, length: u64) -> Result<(), Gone> {
        self.hand(Answer::File { file, offset, length })
    }

    /// The answer is complete after what has been sent.
    pub fn finish(mut self) {
        self.state = State::Finished;
        let _ = self.hand(Answer::Finish);
    }

    /// Sends head and whole body and finishes, in one step: the path of most answers. May be held back for up to
    /// half a millisecond while other requests wait, to be written together with their answers.
    pub fn answer(mut self, head: &ResponseHead, body: &[u8]) {
        if body.len() > PIECE_BYTES_MAX {
            if self.start(head, body).is_ok() {
                self.finish();
            }
            return;
        }
        self.state = State::Finished;
        let _ = self.hand(Answer::Whole { head: Cow::Borrowed(head), body: Cow::Borrowed(body) });
    }

    /// Cuts the connection: the peer sees that the answer is incomplete.
    pub fn abort(mut self) {
        self.state = State::Finished;
        let _ = self.hand(Answer::Abort);
    }

    /// Whether the head has gone out.
    pub fn started(&self) -> bool {
        self.state != State::Open
    }

    /// Whether the peer is known to have gone.
    pub fn is_gone(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.is_gone())
    }

    /// Whether the peer has left by now: asks the network, unlike [`Responder::is_gone`]. Takes microseconds, or
    /// some milliseconds where the thread that drives is kept waiting by the system.
    pub fn is_client_gone(&self) -> bool {
        self.is_gone() || self.lending.is_client_gone(self.key)
    }

    fn hand(&self, answer: Answer<'_>) -> Result<(), Gone> {
        if self.lending.answer(self.key, answer, self.flow.as_ref()) { Ok(()) } else { Err(Gone) }
    }

    fn wait_for_room(&self) -> Result<(), Gone> {
        let Some(flow) = &self.flow else {
            return Ok(());
        };
        let high_water = self.lending.response_buffer_bytes();
        if flow.is_over(high_water) {
            self.lending.ensure_driven();
            self.lending.blocking(&mut || flow.wait(high_water / 2));
        }
        if flow.is_gone() { Err(Gone) } else { Ok(()) }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        match self.state {
            State::Finished => {}
            State::Started => {
                let _ = self.hand(Answer::Abort);
            }
            State::Open => {
                let body = b"500 Internal Server Error\n";
                let mut fields = Fields::new();
                fields.push(b"Content-Type", b"text/plain; charset=utf-8");
                let length = Some(body.len() as u64);
                let head = ResponseHead { status: 500, reason: Vec::new(), fields, length };
                self.state = State::Finished;
                let _ = self.hand(Answer::Whole { head: Cow::Owned(head), body: Cow::Borrowed(body) });
            }
        }
    }
}
