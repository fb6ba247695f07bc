//! From the socket to the protocol's events: reading, and what follows each of them.

use std::borrow::Cow;

use portico_log::Reason;
use portico_metrics::Counter;
use portico_net::{Progress, Transport};
use portico_proto::{ErrorKind, Event};

use super::{Connection, EngineContext, Phase, Reply, ResponsePart, Step};
use crate::body::PipeEnd;

/// Reads from one peer before others get their turn.
const READS_MAX: usize = 16;

impl Connection {
    /// Reads what is there and makes of it what it is: the next request, its body, its end.
    pub(crate) fn receive(&mut self, context: &mut EngineContext) -> Step {
        let mut scratch = std::mem::take(&mut context.scratch);
        let step = self.receive_through(&mut scratch, context);
        context.scratch = scratch;
        if self.has_upload() && !self.wants_bytes() {
            self.pause_upload(context.now);
        }
        step
    }

    fn receive_through(&mut self, scratch: &mut [u8], context: &mut EngineContext) -> Step {
        // Without bytes too: the last of a streamed body may have filled the pipe, with its end still to be taken.
        if (!self.io.inbox.is_empty() || self.has_upload()) && self.wants_bytes() {
            let step = self.digest_inbox(context);
            if step != Step::Keep {
                return step;
            }
        }
        for reads in 0..READS_MAX {
            if !self.io.readable || !self.wants_bytes() {
                return Step::Keep;
            }
            context.may_have_taken_long |= reads > 0;
            let count = match self.carrier.read(scratch) {
                Progress::Bytes(count) => count,
                stopped => match self.handle_stop(stopped, context) {
                    Some(step) => return step,
                    None => continue,
                },
            };
            if self.carrier.is_opening() {
                self.note_handshake(context);
            }
            // Fewer bytes than there was room for: the socket is empty, and an edge will tell of more. The one
            // exception is an end that was announced already.
            let emptied = count < scratch.len() && self.carrier.is_emptied_by_short_read();
            self.io.readable = !emptied || self.io.peer_closed;
            let step = if self.phase == Phase::Lingering {
                self.discard(count, context)
            } else if self.io.inbox.is_empty() {
                let rest = self.digest(&scratch[..count], context);
                self.io.inbox.extend_from_slice(rest.0);
                rest.1
            } else {
                self.io.inbox.extend_from_slice(&scratch[..count]);
                self.digest_inbox(context)
            };
            if step != Step::Keep {
                return step;
            }
        }
        Step::Again
    }

    /// Nothing could be read; `None` where something can be now.
    fn handle_stop(&mut self, stopped: Progress, context: &mut EngineContext) -> Option<Step> {
        if self.carrier.is_opening() && self.note_handshake(context) {
            return None;
        }
        match stopped {
            Progress::Closed if self.carrier.transport().is_some_and(Transport::is_plain_http) => {
                Some(self.refuse(400, "this port speaks TLS: write https:// in place of http://", context))
            }
            Progress::Closed => Some(self.end_of_input()),
            Progress::Blocked | Progress::Bytes(_) => {
                self.io.readable = false;
                Some(Step::Keep)
            }
        }
    }

    /// Whether bytes from the peer have a place to go now.
    fn wants_bytes(&self) -> bool {
        match (self.upload(), self.phase) {
            (_, Phase::Receiving) => self.session_wants_bytes(),
            (_, Phase::Lingering) => true,
            // What is still said of a request that has been answered is taken and dropped: it must not pile up.
            (_, Phase::Flushing) if self.is_stream_of_records() => true,
            (Some(upload), _) if upload.is_streamed() => !upload.is_full(),
            (_, Phase::Waiting | Phase::Calling) => self.protocol.reads_ahead(),
            (_, Phase::Flushing | Phase::Lent) => false,
        }
    }

    fn digest_inbox(&mut self, context: &mut EngineContext) -> Step {
        let mut inbox = std::mem::take(&mut self.io.inbox);
        let (rest, step) = self.digest(&inbox, context);
        let rest = rest.len();
        // A head that comes in small pieces stays where it is: nothing is copied again and again.
        inbox.drain(..inbox.len() - rest);
        if !inbox.is_empty() {
            self.io.inbox = inbox;
        }
        step
    }

    /// Passes `input` through the protocol; returns what is left of it.
    pub(super) fn digest<'b>(
        &mut self,
        mut input: &'b [u8],
        context: &mut EngineContext,
    ) -> (&'b [u8], Step) {
        if self.is_session() {
            return (&[], self.feed_session(input, context));
        }
        loop {
            if !self.wants_bytes() {
                return (input, Step::Keep);
            }
            if self.phase == Phase::Flushing {
                return (self.pass_over_body(input, context), Step::Keep);
            }
            let step = match self.protocol.next_event(&mut input, &context.limits) {
                Ok(Some(Event::Head(head))) => self.handle_head(head, !input.is_empty(), context),
                Ok(Some(Event::Body(bytes))) => self.handle_body(bytes, context),
                Ok(Some(Event::End)) => self.handle_end(context),
                Ok(None) if !self.has_upload() && input.len() > context.memory_left().rest => {
                    return (&[], self.refuse_for_memory(context));
                }
                Ok(None) => {
                    self.await_more(!input.is_empty(), context);
                    return (input, Step::Keep);
                }
                Err(error) if error.kind == ErrorKind::Shared => return self.share(input, context),
                Err(error) if error.status == 0 => return (&[], self.close_unanswered(error, context)),
                // Here and not before HTTP/1 is tried: so it costs HTTP/1 nothing.
                Err(_) if self.speaks_http2(input, context) => {
                    self.begin_http2(context);
                    return (&[], self.feed_session(input, context));
                }
                Err(error) => return (&[], self.refuse(error.status, error.to_string(), context)),
            };
            if self.phase == Phase::Lingering {
                return (&[], step); // What follows the last response is no request.
            }
            if step != Step::Keep {
                return (input, step);
            }
        }
    }

    /// Passes over what comes of the body of a request that has been answered. Where another request can follow,
    /// that waits; returns what is left.
    #[cold]
    fn pass_over_body<'b>(&mut self, mut input: &'b [u8], context: &EngineContext) -> &'b [u8] {
        if !self.protocol.reads_ahead() || self.is_stream_of_records() {
            return &[];
        }
        loop {
            match self.protocol.next_event(&mut input, &context.limits) {
                Ok(Some(Event::Body(_))) => {}
                Ok(None) => return input,
                Ok(Some(Event::Head(_) | Event::End)) | Err(_) => {
                    if let Some(exchange) = &mut self.exchange {
                        exchange.upload = None;
                    }
                    return input;
                }
            }
        }
    }

    /// Tells the peer what is wrong with its request and ends the connection.
    pub(super) fn refuse(
        &mut self,
        status: u16,
        reason: impl Into<Cow<'static, str>>,
        context: &mut EngineContext,
    ) -> Step {
        let reason = reason.into();
        log::debug!("refused a request of {}: {status} {reason}", self.client.peer);
        self.framing_lost = true;
        context.metrics.add(Counter::Refused, 1);
        let exchange = self.exchange_or_new();
        if let Some(upload) = exchange.upload.take()
            && upload.is_streamed()
        {
            // The call waits or runs: it learns of the end by reading, and what it sends is the response.
            self.end_pipe(&upload, PipeEnd::Disconnected);
            return Step::Keep;
        }
        exchange.note_reason(if status == 408 { Reason::RequestTimeout } else { Reason::Refused });
        if self.protocol.head_sent() {
            return self.begin_cut(context); // What there is of a response is all that there will be.
        }
        (self.phase, self.due) = (Phase::Calling, None);
        self.respond(ResponsePart::Own(Reply::Refused(status, reason)), false, context)
    }

    /// Tells the peer that there is no memory for its request now.
    #[cold]
    pub(super) fn refuse_for_memory(&mut self, context: &mut EngineContext) -> Step {
        context.ledger.note_refused(context.now);
        self.refuse(503, "too much is held for clients", context)
    }

    /// The peer will send nothing more.
    fn end_of_input(&mut self) -> Step {
        self.io.readable = false;
        self.io.peer_closed = true;
        if let Some(upload) = self.upload() {
            upload.disconnect();
        }
        match self.phase {
            Phase::Receiving | Phase::Lingering => Step::Close,
            Phase::Waiting | Phase::Calling | Phase::Lent | Phase::Flushing => Step::Keep,
        }
    }
}
