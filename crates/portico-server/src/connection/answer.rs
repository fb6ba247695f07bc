//! From the application to the peer: encoding, writing at once or later, and what follows a complete answer.

use std::borrow::Cow;
use std::fs::File;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portico_config::EarlyHints;
use portico_proto::{Fields, HttpDate, Part, ResponseHead};

use super::{Connection, Deadline, Flow, Phase, Step, Tools};
use crate::access_log::Reason;
use crate::request_id::{FIELD, RequestId};
use crate::transport::Progress;

/// What a call has its connection send.
#[derive(Debug)]
pub enum Answer<'a> {
    /// `103 Early Hints`.
    EarlyHints(Cow<'a, Fields>),
    /// Head, body and end in one.
    Whole {
        /// Status and fields.
        head: Cow<'a, ResponseHead>,
        /// The whole body.
        body: Cow<'a, [u8]>,
    },
    /// The head, with the first block of a body of several.
    Start {
        /// Status and fields.
        head: Cow<'a, ResponseHead>,
        /// May be empty.
        block: Cow<'a, [u8]>,
        /// Tells the application how far its answer has got.
        flow: Arc<Flow>,
    },
    /// A further block.
    Block(Cow<'a, [u8]>),
    /// A part of a file; only after a head that tells the length.
    File {
        /// The file.
        file: File,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
    /// The answer is complete.
    Finish,
    /// The answer will never be complete.
    Abort,
}

impl Answer<'_> {
    /// The same without borrowed parts, to be kept in the mailbox.
    pub fn into_owned(self) -> Answer<'static> {
        match self {
            Answer::EarlyHints(fields) => Answer::EarlyHints(Cow::Owned(fields.into_owned())),
            Answer::Whole { head, body } => {
                Answer::Whole { head: Cow::Owned(head.into_owned()), body: Cow::Owned(body.into_owned()) }
            }
            Answer::Start { head, block, flow } => Answer::Start {
                head: Cow::Owned(head.into_owned()),
                block: Cow::Owned(block.into_owned()),
                flow,
            },
            Answer::Block(block) => Answer::Block(Cow::Owned(block.into_owned())),
            Answer::File { file, offset, length } => Answer::File { file, offset, length },
            Answer::Finish => Answer::Finish,
            Answer::Abort => Answer::Abort,
        }
    }

    /// Whether it gains by being written together with others. A large one does not: holding it takes a copy, and
    /// a batch of such copies is more than the processor's cache and the allocator keep at hand.
    pub fn is_worth_holding(&self) -> bool {
        matches!(self, Answer::Whole { body, .. } if body.len() < VECTORED_BYTES_MIN)
    }

    /// Bytes of body that it carries in memory.
    pub fn len(&self) -> usize {
        match self {
            Answer::Whole { body: block, .. } | Answer::Start { block, .. } | Answer::Block(block) => {
                block.len()
            }
            Answer::EarlyHints(_) | Answer::File { .. } | Answer::Finish | Answer::Abort => 0,
        }
    }
}

impl Connection {
    /// Takes the next part of the present request's answer. With `hold` it is kept for [`Connection::flush`],
    /// else it is written at once.
    pub fn answer(&mut self, answer: Answer<'_>, hold: bool, tools: &mut Tools) -> Step {
        if self.phase != Phase::Calling {
            return Step::Keep; // An application that goes on after its answer was cut.
        }
        if matches!(answer, Answer::Abort) {
            self.note_reason(Reason::Aborted);
            return self.cut();
        }
        let complete = matches!(answer, Answer::Whole { .. } | Answer::Finish);
        if hold || !self.outbox.is_empty() || matches!(answer, Answer::File { .. }) {
            self.encode_queued(answer, tools);
        } else {
            self.encode_and_write(answer, tools);
        }
        if complete {
            self.answered = Some(tools.now);
            if !self.protocol.answer_complete() {
                self.note_reason(Reason::Aborted);
                return self.cut(); // Fewer bytes than announced.
            }
            self.phase = Phase::Flushing;
        }
        if hold {
            return Step::Keep;
        }
        self.flush(tools)
    }

    /// Encodes into the engine's own buffer and writes it; only what the peer does not take yet is kept.
    fn encode_and_write(&mut self, answer: Answer<'_>, tools: &mut Tools) {
        let mut out = std::mem::take(&mut tools.out);
        out.clear();
        match answer {
            Answer::Whole { head, body }
                if body.len() >= VECTORED_BYTES_MIN && self.protocol.splices_whole() =>
            {
                let head = self.take_head(head, tools);
                self.write_whole(&head, &body, tools, &mut out);
            }
            answer => {
                self.encode(answer, tools, &mut out);
                self.write_or_keep(&out);
            }
        }
        out.shrink_to(OUT_CAPACITY_KEPT);
        tools.out = out;
    }

    /// Writes a large body from where it lies, without a copy.
    fn write_whole(&mut self, head: &ResponseHead, body: &[u8], tools: &mut Tools, out: &mut Vec<u8>) {
        let date = tools.date();
        self.protocol.send(Part::Head { head, close: self.closes(tools) }, &date, out);
        let length = self.protocol.splice(body.len() as u64, out);
        let body = &body[..length as usize];
        self.body_bytes += length;
        let mut tail = Vec::new();
        self.protocol.send(Part::End, &date, &mut tail);
        let pieces = [IoSlice::new(out), IoSlice::new(body), IoSlice::new(&tail)];
        let mut sent = match self.transport.write_vectored(&pieces) {
            Progress::Bytes(count) => count,
            Progress::Blocked => 0,
            Progress::Closed => {
                self.failed = true;
                return;
            }
        };
        for piece in [&out[..], body, &tail] {
            let skipped = sent.min(piece.len());
            sent -= skipped;
            self.outbox.buffer().extend_from_slice(&piece[skipped..]);
        }
        self.blocked = !self.is_written();
    }

    pub(super) fn write_or_keep(&mut self, bytes: &[u8]) {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.transport.write(&bytes[sent..]) {
                Progress::Bytes(count) => sent += count,
                Progress::Blocked => break,
                Progress::Closed => {
                    self.failed = true;
                    return;
                }
            }
        }
        if sent < bytes.len() {
            self.outbox.buffer().extend_from_slice(&bytes[sent..]);
            self.blocked = true;
        } else if self.transport.is_owing() {
            self.blocked = true;
        }
    }

    /// Whether the connection is to be closed after this answer.
    fn closes(&self, tools: &Tools) -> bool {
        let stays = tools.retiring && !self.transport.can_be_handed_over();
        (tools.draining || tools.announcing || stays || tools.config.keep_alive.is_zero())
            || (self.misunderstood || self.closing || self.owes_body())
    }

    /// Whether the peer has more of a body to send, which would be taken for the next request.
    fn owes_body(&self) -> bool {
        self.upload.is_some() && !self.protocol.reads_ahead()
    }

    /// Encodes behind what waits already.
    fn encode_queued(&mut self, answer: Answer<'_>, tools: &mut Tools) {
        if let Answer::File { file, offset, length } = answer {
            let file = Arc::new(file);
            let (mut offset, mut left) = (offset, length);
            while left > 0 {
                let taken = self.protocol.splice(left, self.outbox.buffer());
                if taken == 0 {
                    break;
                }
                self.body_bytes += taken;
                self.outbox.push_file(Arc::clone(&file), offset, taken);
                (offset, left) = (offset + taken, left - taken);
            }
            return;
        }
        let mut out = std::mem::take(self.outbox.buffer());
        self.encode(answer, tools, &mut out);
        *self.outbox.buffer() = out;
    }

    fn encode(&mut self, answer: Answer<'_>, tools: &mut Tools, out: &mut Vec<u8>) {
        let date = tools.date();
        let close = self.closes(tools);
        match answer {
            Answer::EarlyHints(fields) => {
                let wanted = match tools.config.early_hints {
                    EarlyHints::Direct => self.forwarded.is_none(),
                    EarlyHints::Always => true,
                    EarlyHints::Never => false,
                };
                if wanted {
                    self.protocol.send(Part::EarlyHints(&fields), &date, out);
                }
            }
            Answer::Whole { head, body } => {
                let head = self.take_head(head, tools);
                self.protocol.send(Part::Head { head: &head, close }, &date, out);
                self.encode_block(&body, &date, out);
                self.protocol.send(Part::End, &date, out);
            }
            Answer::Start { head, block, flow } => {
                let head = self.take_head(head, tools);
                self.protocol.send(Part::Head { head: &head, close }, &date, out);
                self.encode_block(&block, &date, out);
                self.flow = Some(flow);
            }
            Answer::Block(block) => self.encode_block(&block, &date, out),
            Answer::Finish => self.protocol.send(Part::End, &date, out),
            Answer::File { .. } | Answer::Abort => {}
        }
    }

    fn encode_block(&mut self, block: &[u8], date: &HttpDate, out: &mut Vec<u8>) {
        let before = out.len();
        self.protocol.send(Part::Body(block), date, out);
        if out.len() > before {
            self.body_bytes += block.len() as u64; // Not so for HEAD, 204, 304.
        }
    }

    /// Notes what the access log is to tell of an answer, and adds the request's id if it is to have that.
    fn take_head<'h>(&mut self, mut head: Cow<'h, ResponseHead>, tools: &Tools) -> Cow<'h, ResponseHead> {
        self.status = Some(head.status);
        if let Some(log) = &tools.access_log {
            log.note_answer(&head, &mut self.answer_fields);
        }
        if tools.config.telemetry.request_id
            && self.id != RequestId::None
            && head.fields.get(FIELD).is_none()
            && let Some(asked) = &self.head
            && let Some(id) = self.id.text(asked)
        {
            head.to_mut().fields.push(b"X-Request-Id", id);
        }
        head
    }

    /// Whether all that was to be written is.
    pub(super) fn is_written(&self) -> bool {
        self.outbox.is_empty() && !self.transport.is_owing()
    }

    /// Writes what waits, as far as the peer takes it, and goes on to what follows.
    pub fn flush(&mut self, tools: &mut Tools) -> Step {
        if self.is_session() {
            return self.resume_session(tools);
        }
        if !self.is_written() && !self.failed {
            let (written, progress) = self.outbox.write_to(&mut self.transport);
            self.blocked = progress == Progress::Blocked;
            self.failed |= progress == Progress::Closed;
            if written > 0 {
                self.due = None; // There was progress: the write deadline starts anew.
            }
        }
        if self.failed {
            return Step::Close;
        }
        if let Some(flow) = &self.flow {
            flow.set_buffered(self.outbox.buffered(), tools.config.response_buffer_bytes / 2);
        }
        if !self.is_written() {
            if !self.is_waiting() && self.due.is_none_or(|(deadline, _)| deadline != Deadline::Write) {
                self.due = Some((Deadline::Write, tools.now + tools.config.write_timeout));
            }
            // Not blocked and not empty: a file has had its turn, others come first.
            return if self.blocked { Step::Keep } else { Step::Again };
        }
        if self.phase == Phase::Flushing {
            return self.finish_exchange(tools);
        }
        if !self.is_waiting() {
            self.due = None;
        }
        Step::Keep
    }

    /// The answer is written: log it, then the next request or the end of the connection.
    fn finish_exchange(&mut self, tools: &mut Tools) -> Step {
        self.finish_record(tools);
        self.flow = None;
        self.outbox.release();
        self.served = self.served.saturating_add(1);
        self.hops = 0;
        tools.counters.answers += 1;
        if self.misunderstood || self.closing || self.owes_body() || !self.protocol.can_keep_alive() {
            return self.begin_close(tools);
        }
        if self.upload.is_some() {
            self.upload = None;
        }
        self.protocol.next_request();
        self.await_next((Deadline::KeepAlive, tools.now + tools.config.keep_alive), tools)
    }

    /// Awaits the next request on a connection that is kept.
    #[inline]
    pub(super) fn await_next(&mut self, due: (Deadline, Instant), tools: &mut Tools) -> Step {
        self.phase = Phase::Receiving;
        self.due = Some(due);
        if tools.retiring {
            return Step::Leave;
        }
        if self.readable || !self.inbox.is_empty() {
            let step = self.receive(tools);
            if step != Step::Keep {
                return step;
            }
        }
        if tools.draining { self.drain(tools) } else { Step::Keep }
    }

    /// Ends the connection so that the peer gets all that was sent: closing with unread bytes would send a reset,
    /// which may overtake the answer (RFC 9112, section 9.6).
    pub(super) fn begin_close(&mut self, tools: &Tools) -> Step {
        let all_read = self.upload.is_none() && self.inbox.is_empty() && !self.readable;
        if all_read && !self.misunderstood || self.transport.socket().is_none() {
            return Step::Close;
        }
        self.transport.shutdown_write();
        self.inbox = Vec::new();
        self.upload = None;
        self.phase = Phase::Lingering;
        self.due = Some((Deadline::Drain, tools.now + LINGER));
        Step::Again
    }

    /// Cuts the connection so that the peer cannot take the answer for complete.
    pub fn cut(&mut self) -> Step {
        self.transport.set_reset_on_close();
        self.failed = true;
        Step::Close
    }
}

/// How long a peer may go on sending after the last answer.
const LINGER: Duration = Duration::from_secs(2);

/// Bodies from this size on are written at once and from where they lie: below it one write of one buffer costs
/// less.
const VECTORED_BYTES_MIN: usize = 4096;

/// Capacity that the engine's encoding buffer keeps.
pub(super) const OUT_CAPACITY_KEPT: usize = 256 * 1024;
