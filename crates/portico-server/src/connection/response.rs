//! From the application to the peer: encoding, writing at once or later, and what follows a complete response.
//!
//! One file because each part of a response takes the same way, and where it may turn off depends on its kind.

use std::borrow::Cow;
use std::fs::File;
use std::io::IoSlice;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use portico_config::EarlyHints;
use portico_log::Reason;
use portico_metrics::Counter;
use portico_net::Progress;
use portico_proto::{Fields, Part, ResponseHead};

use super::outbox::Outbox;
use super::{Connection, Deadline, EngineContext, Flow, Phase, Reply, ResponseSpool, Step};

/// A piece of a body on its way from the application to its client.
#[derive(Debug)]
pub(crate) enum Block<'a> {
    /// Copied where the client does not take it at once.
    Borrowed(&'a [u8]),
    /// The same, which has been in the mailbox.
    Owned(Vec<u8>),
    /// Kept as it is until the client has taken it. Boxed, so that the parts of a response which are moved from
    /// hand to hand stay as small as the others have them.
    Shared(Box<Bytes>),
}

/// A part of a response on its way from a call to its connection, in the order in which the variants stand.
#[derive(Debug)]
pub(crate) enum ResponsePart<'a> {
    /// `103 Early Hints`.
    EarlyHints(Cow<'a, Fields>),
    /// The server's own response, in place of the application's.
    Own(Reply),
    /// Head, body and end in one.
    Whole {
        /// Status and fields.
        head: Cow<'a, ResponseHead>,
        /// The whole body.
        body: Block<'a>,
    },
    /// The head, with the first block of a body of several.
    Start {
        /// Status and fields.
        head: Cow<'a, ResponseHead>,
        /// May be empty.
        block: Block<'a>,
        /// Tells the application how far its response has got.
        flow: Arc<Flow>,
    },
    /// A further block.
    Block(Block<'a>),
    /// A part of a file; only after a head that tells the length.
    File {
        /// The file.
        file: Arc<File>,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
    /// A further part of the body waits in this file.
    Spooled(Arc<ResponseSpool>),
    /// The response is complete.
    Finish,
    /// The response will never be complete.
    Abort(Reason),
}

impl Block<'_> {
    /// The same without borrowed bytes.
    fn into_owned(self) -> Block<'static> {
        match self {
            Block::Borrowed(bytes) => Block::Owned(bytes.to_vec()),
            Block::Owned(bytes) => Block::Owned(bytes),
            Block::Shared(bytes) => Block::Shared(bytes),
        }
    }

    /// Whether it is large enough to be kept rather than copied.
    fn is_kept(&self) -> bool {
        matches!(self, Self::Shared(bytes) if bytes.len() > COPIED_BYTES_MAX)
    }
}

impl Deref for Block<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl ResponsePart<'_> {
    /// The same without borrowed parts, to be kept in the mailbox.
    pub(crate) fn into_owned(self) -> ResponsePart<'static> {
        match self {
            ResponsePart::EarlyHints(fields) => ResponsePart::EarlyHints(Cow::Owned(fields.into_owned())),
            ResponsePart::Own(reply) => ResponsePart::Own(reply),
            ResponsePart::Whole { head, body } => {
                ResponsePart::Whole { head: Cow::Owned(head.into_owned()), body: body.into_owned() }
            }
            ResponsePart::Start { head, block, flow } => {
                ResponsePart::Start { head: Cow::Owned(head.into_owned()), block: block.into_owned(), flow }
            }
            ResponsePart::Block(block) => ResponsePart::Block(block.into_owned()),
            ResponsePart::File { file, offset, length } => ResponsePart::File { file, offset, length },
            ResponsePart::Spooled(spool) => ResponsePart::Spooled(spool),
            ResponsePart::Finish => ResponsePart::Finish,
            ResponsePart::Abort(reason) => ResponsePart::Abort(reason),
        }
    }

    /// Whether it gains by being written together with others. A large one does not: holding it takes a copy, and
    /// a batch of such copies is more than the processor's cache and the allocator keep at hand.
    pub(crate) fn is_worth_holding(&self) -> bool {
        matches!(self, ResponsePart::Whole { body, .. } if body.len() < VECTORED_BYTES_MIN)
    }

    /// Whether it may wait for the next block: a small one of a response whose head has left.
    pub(crate) fn may_be_joined(&self) -> bool {
        matches!(self, ResponsePart::Block(block) if block.len() < VECTORED_BYTES_MIN)
    }

    /// Bytes of body that it carries as a copy.
    pub(crate) fn copied_bytes(&self) -> usize {
        self.block().filter(|block| !block.is_kept()).map_or(0, |block| block.len())
    }

    fn block(&self) -> Option<&Block<'_>> {
        match self {
            ResponsePart::Whole { body: block, .. }
            | ResponsePart::Start { block, .. }
            | ResponsePart::Block(block) => Some(block),
            ResponsePart::EarlyHints(_)
            | ResponsePart::Own(_)
            | ResponsePart::File { .. }
            | ResponsePart::Spooled(_)
            | ResponsePart::Finish
            | ResponsePart::Abort(_) => None,
        }
    }

    /// Whether it goes through the outbox by itself, and not through the engine's buffer.
    fn is_queued(&self, splices_whole: bool) -> bool {
        match self {
            ResponsePart::File { .. } => true,
            // That is written from where it lies.
            ResponsePart::Whole { .. } if splices_whole => false,
            response => response.block().is_some_and(Block::is_kept),
        }
    }
}

impl Connection {
    /// Takes the next part of the present request's response. With `hold` it is kept for [`Connection::flush`],
    /// else it is written at once.
    pub(crate) fn respond(
        &mut self,
        response: ResponsePart<'_>,
        hold: bool,
        context: &mut EngineContext,
    ) -> Step {
        if self.phase != Phase::Calling {
            return Step::Keep; // An application that goes on after its response was cut.
        }
        if self.may_be_order(&response, context) {
            return self.respond_to_order(response, hold, context);
        }
        self.respond_with(response, hold, context)
    }

    /// As [`Connection::respond`], of what may tell the server to send a file in its stead.
    #[cold]
    fn respond_to_order(
        &mut self,
        response: ResponsePart<'_>,
        hold: bool,
        context: &mut EngineContext,
    ) -> Step {
        match self.take_order(response, context) {
            Ok(step) => step,
            Err(response) => self.respond_with(response, hold, context),
        }
    }

    /// The server's own response, as it is here: with the page that the route has for its status.
    #[cold]
    fn respond_by_itself(&mut self, reply: &Reply, hold: bool, context: &mut EngineContext) -> Step {
        reply.reason().into_iter().for_each(|reason| self.note_reason(reason));
        let whole = reply.whole(self.error_page(reply.status(), context));
        self.respond_with(whole, hold, context)
    }

    #[inline(always)]
    fn respond_with(&mut self, response: ResponsePart<'_>, hold: bool, context: &mut EngineContext) -> Step {
        match &response {
            ResponsePart::Own(reply) => return self.respond_by_itself(reply, hold, context),
            ResponsePart::Abort(reason @ (Reason::Aborted | Reason::Cancelled | Reason::Timeout)) => {
                self.note_reason(*reason);
                return self.begin_cut(context);
            }
            ResponsePart::Abort(reason) => {
                self.note_reason(*reason);
                return self.cut();
            }
            ResponsePart::Spooled(spool) => {
                self.set_spool(Arc::clone(spool));
                return self.flush(context);
            }
            ResponsePart::Finish if self.has_spooled() => {
                self.end_after_spool(context);
                return self.flush(context);
            }
            _ => {}
        }
        let complete = matches!(response, ResponsePart::Whole { .. } | ResponsePart::Finish);
        if hold || !self.io.outbox.is_empty() || response.is_queued(self.protocol.splices_whole()) {
            self.encode_queued(response, context);
        } else {
            self.encode_and_write(response, context);
        }
        if complete {
            self.note_answered(context);
            self.phase = Phase::Flushing;
            if !self.protocol.response_complete() {
                self.end_incomplete(); // Fewer bytes than announced.
            }
        }
        if hold {
            return Step::Keep;
        }
        self.flush(context)
    }

    /// Encodes into the engine's own buffer and writes it; only what the peer does not take yet is kept.
    fn encode_and_write(&mut self, response: ResponsePart<'_>, context: &mut EngineContext) {
        let mut out = std::mem::take(&mut context.out);
        out.clear();
        match response {
            ResponsePart::Whole { head, body }
                if body.len() >= VECTORED_BYTES_MIN && self.protocol.splices_whole() =>
            {
                self.write_whole(head, &body, context, &mut out);
            }
            response => {
                self.encode(response, context, &mut out);
                self.write_or_keep(&out);
            }
        }
        out.shrink_to(OUT_CAPACITY_KEPT);
        context.out = out;
    }

    /// Writes a large body from where it lies, without a copy.
    fn write_whole(
        &mut self,
        head: Cow<'_, ResponseHead>,
        body: &Block<'_>,
        context: &mut EngineContext,
        out: &mut Vec<u8>,
    ) {
        self.send_head(head, context, out);
        let length = self.protocol.splice(body.len() as u64, out) as usize;
        self.count_body(length as u64);
        let mut tail = Vec::new();
        self.protocol.send(Part::End, &mut tail);
        let pieces = [IoSlice::new(out), IoSlice::new(&body[..length]), IoSlice::new(&tail)];
        let sent = match self.carrier.write_vectored(&pieces) {
            Progress::Bytes(count) => count,
            Progress::Blocked => 0,
            Progress::Closed => {
                self.io.set_failed();
                return;
            }
        };
        self.note_written(sent as u64);
        self.keep_unsent(out, body, length, &tail, sent);
        self.io.set_blocked(!self.is_written());
    }

    /// Keeps what has not been sent of head, body and tail, of which `sent` bytes have.
    fn keep_unsent(&mut self, head: &[u8], body: &Block<'_>, length: usize, tail: &[u8], sent: usize) {
        let skip = |piece: usize, before: usize| sent.saturating_sub(before).min(piece);
        self.io.outbox.buffer().extend_from_slice(&head[skip(head.len(), 0)..]);
        let rest = skip(length, head.len())..length;
        match body {
            Block::Shared(bytes) if rest.len() > COPIED_BYTES_MAX => {
                self.io.outbox.push_shared(bytes.slice(rest), bytes.len())
            }
            body => self.io.outbox.buffer().extend_from_slice(&body[rest]),
        }
        self.io.outbox.buffer().extend_from_slice(&tail[skip(tail.len(), head.len() + length)..]);
    }

    pub(super) fn write_or_keep(&mut self, bytes: &[u8]) {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.carrier.write(&bytes[sent..]) {
                Progress::Bytes(count) => sent += count,
                Progress::Blocked => break,
                Progress::Closed => {
                    self.io.set_failed();
                    return;
                }
            }
        }
        self.note_written(sent as u64);
        if sent < bytes.len() {
            self.io.outbox.buffer().extend_from_slice(&bytes[sent..]);
            self.io.set_blocked(true);
        } else if self.carrier.is_owing() {
            self.io.set_blocked(true);
        }
    }

    /// Whether the connection is to be closed after this response.
    #[inline]
    pub(super) fn closes(&self, context: &EngineContext) -> bool {
        let stays = context.retiring && !self.carrier.can_be_handed_over();
        (context.draining || context.announcing || stays || context.config.keep_alive.is_zero())
            || (self.framing_lost || self.is_last_response() || self.owes_body())
    }

    /// Whether the present response is the connection's last.
    #[inline]
    fn is_last_response(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.is_last)
    }

    /// The last of the present response has been given.
    #[inline]
    pub(super) fn note_answered(&mut self, context: &EngineContext) {
        if let Some(exchange) = &mut self.exchange {
            exchange.moments.answered = Some(context.now);
        }
    }

    /// So many bytes of the present response's body have been handed over.
    #[inline]
    fn count_body(&mut self, bytes: u64) {
        if let Some(exchange) = &mut self.exchange {
            exchange.outcome.body_bytes += bytes;
        }
    }

    /// Whether the peer has more of a body to send, which would be taken for the next request.
    #[inline]
    fn owes_body(&self) -> bool {
        self.has_upload() && !self.protocol.reads_ahead()
    }

    /// Encodes behind what waits already.
    fn encode_queued(&mut self, response: ResponsePart<'_>, context: &mut EngineContext) {
        match response {
            ResponsePart::File { file, offset, length } => {
                self.queue_pieces(length, |outbox, sent, taken| {
                    outbox.push_file(Arc::clone(&file), offset + sent, taken);
                });
            }
            ResponsePart::Block(Block::Shared(block)) => self.queue_block(&block),
            ResponsePart::Start { head, block: Block::Shared(block), flow } => {
                self.encode_behind(ResponsePart::Start { head, block: Block::Borrowed(b""), flow }, context);
                self.queue_block(&block);
            }
            ResponsePart::Whole { head, body: Block::Shared(body) } => {
                let mut out = std::mem::take(self.io.outbox.buffer());
                self.send_head(head, context, &mut out);
                *self.io.outbox.buffer() = out;
                self.queue_block(&body);
                self.protocol.send(Part::End, self.io.outbox.buffer());
            }
            response => self.encode_behind(response, context),
        }
    }

    fn encode_behind(&mut self, response: ResponsePart<'_>, context: &mut EngineContext) {
        let mut out = std::mem::take(self.io.outbox.buffer());
        self.encode(response, context, &mut out);
        *self.io.outbox.buffer() = out;
    }

    fn queue_block(&mut self, block: &Bytes) {
        self.queue_pieces(block.len() as u64, |outbox, sent, taken| {
            let piece = block.slice(sent as usize..(sent + taken) as usize);
            match piece.len() {
                0..=COPIED_BYTES_MAX => outbox.buffer().extend_from_slice(&piece),
                _ => outbox.push_shared(piece, block.len()),
            }
        });
    }

    /// Frames `length` bytes of a body in as many pieces as the protocol wants, and has `push` queue each, which
    /// is told where it begins and how long it is.
    fn queue_pieces(&mut self, length: u64, push: impl Fn(&mut Outbox, u64, u64)) {
        let mut sent = 0;
        while sent < length {
            let taken = self.protocol.splice(length - sent, self.io.outbox.buffer());
            if taken == 0 {
                break;
            }
            self.count_body(taken);
            push(&mut self.io.outbox, sent, taken);
            sent += taken;
        }
    }

    fn encode(&mut self, response: ResponsePart<'_>, context: &mut EngineContext, out: &mut Vec<u8>) {
        match response {
            ResponsePart::EarlyHints(fields) => {
                let wanted = match context.config.early_hints {
                    EarlyHints::Direct => self.request().is_some_and(|request| request.forwarded.is_none()),
                    EarlyHints::Always => true,
                    EarlyHints::Never => false,
                };
                if wanted {
                    self.protocol.send(Part::EarlyHints(&fields), out);
                }
            }
            ResponsePart::Whole { head, body } => {
                self.send_head(head, context, out);
                self.encode_block(&body, out);
                self.protocol.send(Part::End, out);
            }
            ResponsePart::Start { head, block, flow } => {
                self.send_head(head, context, out);
                self.encode_block(&block, out);
                self.exchange_or_new().flow = Some(flow);
            }
            ResponsePart::Block(block) => self.encode_block(&block, out),
            ResponsePart::Finish => self.protocol.send(Part::End, out),
            ResponsePart::File { .. }
            | ResponsePart::Own(_)
            | ResponsePart::Spooled(_)
            | ResponsePart::Abort(_) => {}
        }
    }

    fn encode_block(&mut self, block: &[u8], out: &mut Vec<u8>) {
        let before = out.len();
        self.protocol.send(Part::Body(block), out);
        if out.len() > before {
            self.count_body(block.len() as u64); // Not so for HEAD, 204, 304.
        }
    }

    /// Whether all that was to be written is.
    #[inline]
    pub(super) fn is_written(&self) -> bool {
        self.io.outbox.is_empty() && !self.carrier.is_owing()
    }

    /// Writes what waits, as far as the peer takes it, and goes on to what follows.
    pub(crate) fn flush(&mut self, context: &mut EngineContext) -> Step {
        if self.is_session() {
            return self.resume_session(context);
        }
        if self.has_spooled() {
            context.may_have_taken_long = true;
            self.write_spooled();
        } else if !self.is_written() && !self.io.is_failed() {
            context.may_have_taken_long = true;
            self.write_outbox();
        }
        if self.io.is_failed() {
            return Step::Close;
        }
        if let Some(flow) = self.exchange.as_ref().and_then(|exchange| exchange.flow.as_ref()) {
            flow.set_buffered(self.io.outbox.buffered(), context.config.response_buffer_bytes / 2);
        }
        if !self.is_written() {
            if self.io.outbox.is_cold() {
                return self.await_pages(context);
            }
            if !self.is_waiting() && self.due.is_none_or(|(deadline, _)| deadline != Deadline::Write) {
                self.due = Some((Deadline::Write, self.await_write(context)));
            }
            // Not blocked and not empty: a file has had its turn, others come first.
            return if self.io.is_blocked() { Step::Keep } else { Step::Again };
        }
        if self.backlog().is_some() && self.pause_backlog(context.now) {
            return Step::Again;
        }
        if self.phase == Phase::Flushing {
            return self.finish_exchange(context);
        }
        // What is done for it off the engine has its own time.
        if !self.is_waiting() && self.due.is_none_or(|(deadline, _)| deadline != Deadline::Work) {
            self.due = None;
        }
        Step::Keep
    }

    /// Whether so little of the response waits that more of it may be joined to that.
    pub(crate) fn has_room_to_join(&self) -> bool {
        self.io.outbox.buffered() < VECTORED_BYTES_MIN && !self.has_spooled()
    }

    /// Writes what waits, as far as the peer takes it.
    pub(super) fn write_outbox(&mut self) {
        let (written, progress) = self.io.outbox.write_to(&mut self.carrier);
        self.note_written(written);
        self.io.set_blocked(progress == Progress::Blocked);
        if progress == Progress::Closed {
            match self.io.outbox.has_short_file() {
                true => {
                    self.drop_behind_short_file();
                    // What TLS has taken before is still to be written: the event that there is room goes on.
                    self.io.set_blocked(self.carrier.is_owing());
                }
                false => self.io.set_failed(),
            }
        }
    }

    /// The response is written: log it, then the next request or the end of the connection.
    fn finish_exchange(&mut self, context: &mut EngineContext) -> Step {
        let (is_cut, is_last) =
            self.exchange.as_ref().map_or((false, true), |exchange| (exchange.is_cut, exchange.is_last));
        if is_cut {
            return self.end_cut(context);
        }
        self.io.outbox.release();
        self.served = self.served.saturating_add(1);
        context.metrics.add(Counter::Responses, 1);
        if self.framing_lost || is_last || self.owes_body() || !self.protocol.can_keep_alive() {
            return self.begin_close(context);
        }
        self.end_exchange(context);
        self.protocol.next_request();
        self.await_next((Deadline::KeepAlive, context.now + context.config.keep_alive), context)
    }

    /// Awaits the next request on a connection that is kept.
    #[inline]
    pub(super) fn await_next(&mut self, due: (Deadline, Instant), context: &mut EngineContext) -> Step {
        self.phase = Phase::Receiving;
        self.due = Some(due);
        if context.retiring {
            return Step::Leave;
        }
        if self.io.readable || !self.io.inbox.is_empty() {
            let step = self.receive(context);
            if step != Step::Keep {
                return step;
            }
        }
        if context.draining { self.drain(context) } else { Step::Keep }
    }

    /// Cuts the connection so that the peer cannot take the response for complete.
    pub(crate) fn cut(&mut self) -> Step {
        self.carrier.reset();
        self.io.set_failed();
        Step::Close
    }
}

/// Bodies from this size on are written at once and from where they lie: below it one write of one buffer costs
/// less.
const VECTORED_BYTES_MIN: usize = 4096;

/// Blocks up to this size are copied where they wait: keeping one costs as much, and its allocation goes on as
/// long.
const COPIED_BYTES_MAX: usize = 64 * 1024;

/// Capacity that the engine's encoding buffer keeps.
pub(super) const OUT_CAPACITY_KEPT: usize = 256 * 1024;
