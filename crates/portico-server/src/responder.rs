//! The answering end of a call.

use std::fs::File;

use portico_proto::{Fields, ResponseHead};

/// Answers one request. Holds no socket: blocks are handed to the engine, which writes them at once if it can
/// and buffers them up to the high-water mark, at which the calling thread waits.
///
/// Dropped before [`Responder::finish`] it answers 500 if the head has not gone out, else it aborts the
/// connection, so that a truncated answer never looks complete.
pub struct Responder {}

/// The peer has gone: nothing more can be sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl Responder {
    /// Sends `103 Early Hints` with these fields, if the head has not gone out and the peer can take them.
    pub fn early_hints(&mut self, fields: &Fields) -> Result<(), Gone> {
        todo!("{fields:?}")
    }

    /// Sends the head, together with the first block of the body if there is one. The block leaves at once.
    pub fn start(&mut self, head: &ResponseHead, block: &[u8]) -> Result<(), Gone> {
        todo!("{head:?} {}", block.len())
    }

    /// Sends a further block at once; waits (through `Application::blocking`) while too much is buffered.
    pub fn send(&mut self, block: &[u8]) -> Result<(), Gone> {
        todo!("{}", block.len())
    }

    /// Sends `length` bytes of `file` from `offset` on, without passing them through memory. The calling thread
    /// does not wait for it.
    pub fn send_file(&mut self, file: File, offset: u64, length: u64) -> Result<(), Gone> {
        todo!("{file:?} {offset} {length}")
    }

    /// The answer is complete after what has been sent.
    pub fn finish(self) {
        todo!()
    }

    /// Sends head and whole body and finishes, in one step: the path of most answers. May be held back for up to
    /// half a millisecond while other requests wait, to be written together with their answers.
    pub fn answer(self, head: &ResponseHead, body: &[u8]) {
        todo!("{head:?} {}", body.len())
    }

    /// Cuts the connection: the peer sees that the answer is incomplete.
    pub fn abort(self) {
        todo!()
    }

    /// Whether the head has gone out.
    pub fn started(&self) -> bool {
        todo!()
    }

    /// Whether the peer is known to have gone.
    pub fn is_gone(&self) -> bool {
        todo!()
    }
}
