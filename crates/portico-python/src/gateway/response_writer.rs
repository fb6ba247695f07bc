//! The response to one request, from the application's blocks to the responder: which part of it has been given
//! and sent.
//!
//! Keeps the framing true whatever the application does: Content-Length is inferred, enforced, or its breach
//! made visible.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use portico_log::Reason;
use portico_proto::ResponseHead;
use portico_server::{Gone, Reply, RequestKey, Responder};
use portico_supervisor::now_nanos;
use portico_worker::ClientState;

use super::detached;
use super::file_wrapper::FileRange;
use crate::hub;
use crate::thread_status::{ThreadStatus, note_progress};

/// Blocks from this size on are handed to the engine with the interpreter let go: copying them takes longer than
/// that. Smaller ones are not, even if other threads wait for the interpreter: they would run a whole call before
/// this one got it back for its last steps.
const DETACH_BYTES: usize = 64 * 1024;

/// Blocks of a body that is there as a whole are kept from this size on, rather than copied, where the client
/// does not take them at once.
const KEPT_BYTES_MIN: usize = 256 * 1024;

/// Whether `block` is handed over with the interpreter let go. A greenlet that has to wait for its client there
/// leaves for the hub, and needs the interpreter for that.
fn is_detached_for(block: &[u8]) -> bool {
    block.len() >= DETACH_BYTES && !hub::is_here()
}

/// How long a response of the network's holds: whether the client has left is asked before a block only after
/// that. A generator of a million empty blocks is not to ask as often, and a client that has sent FIN with its
/// request (a script's `nc -N`) still gets what takes no longer.
const ASK_INTERVAL_NANOS: u64 = 10_000_000;

/// The state of a response after a block has been handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteProgress {
    /// The response wants further blocks.
    More,
    /// The client has everything that it is to get.
    Complete,
    /// The client has left.
    Gone,
}

/// The state of one response: which part of it has been given and sent.
#[derive(Default)]
pub(crate) struct ResponseWriter {
    /// Present while the request runs and its response is not complete.
    pub(super) responder: Option<Responder>,
    /// The same where the application has taken the connection over, until its call ends.
    pub(super) lent: Option<Arc<Responder>>,
    pub(super) head: ResponseHead,
    /// Whether `head` was given by the application.
    pub(super) given: bool,
    /// Whether the application has called `start_response`, successfully or not.
    pub(super) called: bool,
    /// Whether the head has been handed to the engine.
    pub(super) started: bool,
    /// Whether the whole response has been handed to the engine.
    pub(super) complete: bool,
    /// Whether the client has left.
    gone: bool,
    /// When the network was asked last whether it has; 0: when the call began.
    asked_nanos: u64,
    /// Whether the request's method is HEAD.
    is_head: bool,
    /// Bytes of the body that have been sent.
    sent: u64,
    /// Bytes that were dropped because they exceed Content-Length.
    surplus: u64,
    /// The bound method that `start_response` returns.
    pub(super) write: Option<Py<PyAny>>,
    /// The record of the thread whose request is answered, where it has one.
    pub(super) record: Option<Arc<ThreadStatus>>,
}

impl ResponseWriter {
    /// For the requests of the thread with `record`.
    pub(crate) fn new(record: Option<Arc<ThreadStatus>>) -> Self {
        Self { record, ..Self::default() }
    }

    /// Makes ready for a request.
    pub(crate) fn begin(&mut self, responder: Responder, is_head: bool) {
        self.responder = Some(responder);
        self.given = false;
        self.called = false;
        self.started = false;
        self.complete = false;
        self.gone = false;
        self.asked_nanos = 0;
        self.is_head = is_head;
        self.sent = 0;
        self.surplus = 0;
    }

    /// Gives the connection of the request `key` to the application. What it still hands over as a response goes
    /// nowhere.
    ///
    /// # Errors
    /// `OSError`: that request has ended or is being answered, its client has left, or descriptors have run out.
    pub(crate) fn lend(&mut self, py: Python<'_>, key: RequestKey) -> PyResult<OwnedFd> {
        let open = self.responder.as_mut().filter(|responder| responder.key() == key && !self.started);
        let Some(responder) = open else { return Err(io::Error::from(io::ErrorKind::NotConnected).into()) };
        let socket = detached(py, true, || responder.take_connection())?;
        self.lent = self.responder.take().map(Arc::new);
        self.head =
            ResponseHead { status: 101, reason: b"Switching Protocols".to_vec(), ..Default::default() };
        (self.given, self.started) = (true, true);
        self.set_complete();
        Ok(socket)
    }

    /// Sends a block of the body, with the head before the first one. An empty block sends nothing.
    ///
    /// # Errors
    /// `AssertionError` if the application has not called `start_response`; what was thrown into the greenlet
    /// while it waited for its client.
    pub(crate) fn send(&mut self, py: Python<'_>, block: &[u8]) -> PyResult<WriteProgress> {
        self.send_or_keep(py, block, None)
    }

    /// As [`ResponseWriter::send`], with a block of a body of which all blocks are there: the client is not waited
    /// for, and a large block is kept rather than copied.
    ///
    /// # Errors
    /// As [`ResponseWriter::send`].
    pub(crate) fn send_whole(&mut self, block: &Bound<'_, PyBytes>) -> PyResult<WriteProgress> {
        if let Some(responder) = &mut self.responder {
            responder.expect_whole();
        }
        self.send_or_keep(block.py(), block.as_bytes(), Some(block))
    }

    /// Sends `block`, which begins the content of `object`.
    fn send_or_keep(
        &mut self,
        py: Python<'_>,
        block: &[u8],
        object: Option<&Bound<'_, PyBytes>>,
    ) -> PyResult<WriteProgress> {
        if block.is_empty() {
            return Ok(self.progress());
        }
        if !self.given {
            return Err(no_start_response());
        }
        let rest = self.head.length.map(|length| length - self.sent);
        let block = self.cut(block, rest);
        if self.responder.is_none() || (self.started && block.is_empty()) {
            return Ok(self.progress());
        }
        let is_whole = rest == Some(block.len() as u64) || self.bodiless();
        if is_whole && !self.started {
            self.respond(py, block, object);
            return Ok(self.progress());
        }
        let kept = kept(block, object);
        let Some(responder) = self.responder.as_mut() else { return Ok(self.progress()) };
        let head = (!self.started).then_some(&self.head);
        let result = detached(py, is_detached_for(block), || match (head, kept) {
            (Some(head), Some(kept)) => responder.start_shared(head, kept),
            (Some(head), None) => responder.start(head, block),
            (None, Some(kept)) => responder.send_shared(kept),
            (None, None) => responder.send(block),
        });
        note_progress();
        self.started = true;
        self.sent += block.len() as u64;
        if result == Err(Gone) {
            self.set_gone(py);
        } else if rest == Some(block.len() as u64) {
            self.finish_responder();
        }
        hub::take_interruption(py).map_or_else(|| Ok(self.progress()), Err)
    }

    /// Sends what is known to be the whole body (or all of it that `write` has not sent) and ends the response.
    ///
    /// # Errors
    /// As [`ResponseWriter::send`].
    pub(crate) fn send_last(&mut self, py: Python<'_>, block: &[u8]) -> PyResult<()> {
        self.send_last_or_keep(py, block, None)
    }

    /// As [`ResponseWriter::send_last`]; a large block is kept rather than copied.
    ///
    /// # Errors
    /// As [`ResponseWriter::send`].
    pub(crate) fn send_last_whole(&mut self, block: &Bound<'_, PyBytes>) -> PyResult<()> {
        self.send_last_or_keep(block.py(), block.as_bytes(), Some(block))
    }

    fn send_last_or_keep(
        &mut self,
        py: Python<'_>,
        block: &[u8],
        object: Option<&Bound<'_, PyBytes>>,
    ) -> PyResult<()> {
        if !self.given {
            return Err(no_start_response());
        }
        if !self.started && self.head.length.is_none() && self.may_infer(block) {
            self.head.length = Some(block.len() as u64);
        }
        self.send_or_keep(py, block, object)?;
        self.finish(py)
    }

    /// The application has no further block.
    ///
    /// # Errors
    /// As [`ResponseWriter::send`].
    pub(crate) fn finish(&mut self, py: Python<'_>) -> PyResult<()> {
        if !self.given {
            return Err(no_start_response());
        }
        if self.complete || self.gone || self.responder.is_none() {
            return Ok(());
        }
        if !self.started && self.head.length.is_none() && self.may_infer(b"") {
            self.head.length = Some(0);
        }
        let missing = self.missing();
        if missing > 0 {
            if !self.started {
                self.start_only();
            }
            self.abort();
        } else if self.started {
            self.finish_responder();
        } else {
            self.respond(py, b"", None);
        }
        Ok(())
    }

    /// Sends the range of a file as the body (after what `write` has sent) and ends the response. What the file
    /// has beyond Content-Length is not wanted, which is no fault (PEP 3333, "Optional Platform-Specific File
    /// Handling").
    ///
    /// # Errors
    /// As [`ResponseWriter::send`].
    pub(crate) fn send_file(&mut self, py: Python<'_>, range: FileRange) -> PyResult<()> {
        if !self.given {
            return Err(no_start_response());
        }
        if !self.started && self.head.length.is_none() && !self.no_content() {
            self.head.length = Some(range.length);
        }
        let promised = self.head.length.map_or(range.length, |length| length - self.sent);
        let length = promised.min(range.length);
        if self.bodiless() || length == 0 {
            return self.finish(py);
        }
        let Some(responder) = self.responder.as_mut() else { return Ok(()) };
        let head = (!self.started).then_some(&self.head);
        let result = detached(py, true, || {
            if let Some(head) = head {
                responder.start(head, b"")?;
            }
            responder.send_file(range.file, range.offset, length)
        });
        self.started = true;
        self.sent += length;
        if result == Err(Gone) {
            self.set_gone(py);
        }
        self.finish(py)
    }

    /// The part of `block` that Content-Length leaves room for.
    pub(crate) fn within_length<'b>(&self, block: &'b [u8]) -> &'b [u8] {
        let rest = self.head.length.filter(|_| self.given).map(|length| length - self.sent);
        let allowed = rest.map_or(block.len(), |rest| usize::try_from(rest).unwrap_or(usize::MAX));
        &block[..allowed.min(block.len())]
    }

    /// Says how long the whole body is, if the application has not said it itself.
    pub(crate) fn expect_length(&mut self, length: u64) {
        if self.given && !self.started && !self.no_content() {
            self.head.length.get_or_insert(length);
        }
    }

    /// Whether the response cannot be mended any more: its head is out.
    pub(crate) fn started(&self) -> bool {
        self.started
    }

    /// Whether the application has sent all that it promised, or the client has left: no block is wanted.
    pub(crate) fn progress(&self) -> WriteProgress {
        match () {
            () if self.gone => WriteProgress::Gone,
            () if self.complete => WriteProgress::Complete,
            () => WriteProgress::More,
        }
    }

    /// Notices whether the client has left, before a block that is one of several: asks the network, as
    /// `portico.client_disconnected` does, unless it has just been asked. Nothing more is sent then.
    pub(crate) fn notice_gone(&mut self, py: Python<'_>) {
        let now = now_nanos();
        if self.asked_nanos == 0 {
            self.asked_nanos = self.record.as_ref().map_or(now, |record| record.thread().begun_nanos());
        }
        if now.saturating_sub(self.asked_nanos) < ASK_INTERVAL_NANOS {
            if self.responder.as_ref().is_some_and(Responder::is_gone) {
                self.set_gone(py);
            }
            return;
        }
        self.asked_nanos = now;
        if self.responder.is_some() && self.client_has_left(py) {
            self.cut_off(py);
            self.set_gone(py);
        }
    }

    /// Asks the network whether the client has left.
    pub(crate) fn client_has_left(&self, py: Python<'_>) -> bool {
        let Some(responder) = &self.responder else { return self.gone };
        let gone = self.gone || detached(py, true, || responder.is_client_gone());
        if gone {
            self.note_told(py);
        }
        gone
    }

    /// The application has nothing more to say but `close()`, in which nothing is to be raised because a client
    /// has left.
    pub(crate) fn note_closing(&self, py: Python<'_>) {
        match (self.complete, &self.record) {
            (false, _) => self.note_told(py),
            // That was noted before, and perhaps after somebody has looked.
            (true, Some(record)) => record.forget_disconnect(py),
            (true, None) => {}
        }
    }

    /// Bytes of the body that the application promised and has not sent.
    pub(crate) fn missing(&self) -> u64 {
        if self.bodiless() {
            return 0;
        }
        self.head.length.map_or(0, |length| length - self.sent)
    }

    /// Bytes that the application sent beyond its Content-Length.
    pub(crate) fn surplus(&self) -> u64 {
        self.surplus
    }

    /// The Content-Length that the application gave.
    pub(crate) fn length(&self) -> Option<u64> {
        self.head.length
    }

    /// The head that the application has given, the bytes of the body that were sent, and whether any is out.
    pub(crate) fn outcome(&self) -> (ResponseHead, u64, bool) {
        let head = if self.given || self.started { self.head.clone() } else { ResponseHead::default() };
        (head, self.sent, self.started)
    }

    /// The server has ended the call: `reply`, or for `reason` a cut connection where the head is out.
    pub(crate) fn end_without(&mut self, py: Python<'_>, reply: Reply, reason: Reason) {
        let started = self.started;
        let Some(responder) = self.take_responder() else { return };
        detached(py, true, || match started {
            true => responder.cut(reason),
            false => responder.reply(reply),
        });
    }

    /// The client has left: there is nobody to be told of a failure.
    pub(crate) fn cut_off(&mut self, py: Python<'_>) {
        if let Some(responder) = self.take_responder() {
            detached(py, true, || responder.leave());
        }
    }

    /// Takes the responder out, to answer in the application's place.
    pub(crate) fn take_responder(&mut self) -> Option<Responder> {
        self.set_complete();
        self.responder.take()
    }

    /// HEAD, 204 and 304 are answered without a body (RFC 9110, sections 9.3.2, 15.3.5, 15.4.5).
    fn bodiless(&self) -> bool {
        self.is_head || self.no_content()
    }

    fn no_content(&self) -> bool {
        matches!(self.head.status, 204 | 304)
    }

    /// Whether Content-Length may be inferred from the whole body. To HEAD an application may well return an
    /// empty body although GET has one: zero would be wrong there.
    fn may_infer(&self, block: &[u8]) -> bool {
        !(self.no_content() || self.is_head && block.is_empty())
    }

    /// The part of `block` that Content-Length allows; the rest is counted and dropped.
    fn cut<'b>(&mut self, block: &'b [u8], rest: Option<u64>) -> &'b [u8] {
        let Some(rest) = rest else { return block };
        let allowed = usize::try_from(rest).unwrap_or(usize::MAX).min(block.len());
        if !self.bodiless() {
            self.surplus += (block.len() - allowed) as u64;
        }
        &block[..allowed]
    }

    fn respond(&mut self, py: Python<'_>, block: &[u8], object: Option<&Bound<'_, PyBytes>>) {
        let Some(responder) = self.responder.take() else { return };
        let block = if self.bodiless() { b"" } else { block };
        self.set_complete();
        let (head, kept) = (&self.head, kept(block, object));
        detached(py, is_detached_for(block), || match kept {
            Some(kept) => responder.respond_shared(head, kept),
            None => responder.respond(head, block),
        });
        self.started = true;
        self.sent += block.len() as u64;
    }

    fn start_only(&mut self) {
        let Some(responder) = self.responder.as_mut() else { return };
        let head = &self.head;
        let _ = responder.start(head, b"");
        self.started = true;
    }

    fn finish_responder(&mut self) {
        self.set_complete();
        if let Some(responder) = self.responder.take() {
            responder.finish();
        }
    }

    fn abort(&mut self) {
        self.set_complete();
        if let Some(responder) = self.responder.take() {
            responder.abort();
        }
    }

    /// Before the last of it is handed to the engine: a client that leaves then has left nothing.
    fn set_complete(&mut self) {
        self.complete = true;
        self.note(ClientState::Complete);
    }

    fn set_gone(&mut self, py: Python<'_>) {
        self.gone = true;
        self.note_told(py);
    }

    /// Nothing is raised any more because the client has left.
    fn note_told(&self, py: Python<'_>) {
        if let Some(record) = &self.record {
            record.set_standing(ClientState::Told);
            record.forget_disconnect(py);
        }
    }

    fn note(&self, standing: ClientState) {
        if let Some(record) = &self.record {
            record.set_standing(standing);
        }
    }
}

/// `block`, which begins the content of `object`, to be kept as it is; `None` where a copy costs less.
#[inline]
fn kept(block: &[u8], object: Option<&Bound<'_, PyBytes>>) -> Option<Bytes> {
    if block.len() < KEPT_BYTES_MIN { None } else { object.map(|object| keep(block.len(), object)) }
}

fn keep(length: usize, object: &Bound<'_, PyBytes>) -> Bytes {
    Bytes::from_owner(PyBackedBytes::from(object.clone())).slice(..length)
}

fn no_start_response() -> PyErr {
    PyAssertionError::new_err(
        "the application has not called start_response before its first block (PEP 3333)",
    )
}
