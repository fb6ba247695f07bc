//! The body of a request on its way in: to memory or a file until it is complete, or through a pipe to a call that
//! reads it as it comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portico_config::StreamRequestBody;
use portico_metrics::Histogram;
use portico_proto::{ErrorKind, Framing, Part};

use super::exchange::RequestExchange;
use super::{Connection, Deadline, EngineContext, Phase, Step, nanos};
use crate::body::{Body, BodyPipe, MemoryRoom, PipeEnd, Spool};

/// A request body on its way in.
#[derive(Debug)]
pub(super) struct Upload {
    sink: Sink,
    received: u64,
    /// Bytes that the request's route takes, which may be fewer than the protocol does; 0 means no limit.
    bytes_max: u64,
    /// Bytes beyond these that have come of a frame which is not whole.
    arriving: u32,
    /// When the request's head had come.
    begun: Instant,
    /// When the peer began to send, put off by the time for which it could not.
    started: Instant,
    /// Since when the application has had more than it reads: the peer is not at fault.
    paused: Option<Instant>,
    /// The peer waits for `100 Continue`.
    expected: bool,
}

#[derive(Debug)]
enum Sink {
    /// Buffered until it is complete.
    Spool(Spool),
    /// Read by the application as it arrives.
    Pipe(Feed),
}

/// The engine's end of a pipe. Whatever ends the connection, the reader learns of it.
#[derive(Debug)]
struct Feed(Arc<BodyPipe>);

impl Upload {
    /// Whether a call reads it as it comes.
    #[inline]
    pub(super) fn is_streamed(&self) -> bool {
        matches!(self.sink, Sink::Pipe(_))
    }

    /// Whether the call has to read before more of it can be taken.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        matches!(&self.sink, Sink::Pipe(pipe) if pipe.0.is_full())
    }

    /// The client will send nothing more: tells who reads it.
    pub(super) fn disconnect(&self) {
        if let Sink::Pipe(pipe) = &self.sink {
            pipe.0.end(PipeEnd::Disconnected);
        }
    }
}

impl Connection {
    /// The application has to read before the peer can go on: no deadline of the peer's runs meanwhile.
    pub(super) fn pause_upload(&mut self, now: Instant) {
        self.clear_receive_due();
        if let Some(upload) = self.upload_mut() {
            upload.paused.get_or_insert(now);
        }
    }

    /// The peer can go on.
    pub(super) fn resume_upload(&mut self, now: Instant) {
        if let Some(upload) = self.upload_mut()
            && let Some(paused) = upload.paused.take()
        {
            upload.started += now.saturating_duration_since(paused);
        }
    }

    /// Nothing is awaited from the peer; that it takes the response still is.
    fn clear_receive_due(&mut self) {
        if self.due.is_some_and(|(deadline, _)| !matches!(deadline, Deadline::Write | Deadline::Queue)) {
            self.due = None;
        }
    }

    /// Begins to take in the body of the request whose head has come. It has `expected` bytes, if that is known;
    /// with `more_follows` its first bytes are there; the peer may wait for `100 Continue`.
    pub(super) fn begin_upload(
        &mut self,
        expected: Option<u64>,
        (more_follows, expects_continue): (bool, bool),
        context: &mut EngineContext,
    ) -> Step {
        let streamed = match (self.route_streams(), context.config.stream_request_body) {
            (Some(false), _) | (None, StreamRequestBody::Off) => false,
            (None | Some(true), StreamRequestBody::Always) => true,
            (None, StreamRequestBody::On) | (Some(true), _) => expected.is_some(),
        };
        let bytes_max = self.route_body_bytes_max(context);
        if bytes_max != 0 && expected.is_some_and(|expected| expected > bytes_max) {
            return self.refuse_large_body(context);
        }
        // No call runs while it is not known for whom.
        let streamed = streamed && !self.exchange_or_new().awaits_login();
        if streamed && self.exchange_or_new().is_limited() {
            // It runs before it has come whole.
            self.take_place(context);
            let reply = self.exchange_or_new().routed.as_mut().and_then(|routed| routed.reply.take());
            if let Some(reply) = reply {
                return self.reply_at_head(reply, context);
            }
        }
        let buffer_bytes = context.config.request_buffer_bytes;
        let sink = if streamed {
            // What is not read waits in a file where other requests come the same way.
            let overflow = self.protocol.reads_ahead().then(|| Arc::clone(&context.spools));
            Sink::Pipe(Feed(Arc::new(BodyPipe::new(buffer_bytes, overflow))))
        } else {
            Sink::Spool(Spool::new(expected, buffer_bytes))
        };
        let upload = Upload {
            sink,
            received: 0,
            bytes_max,
            arriving: 0,
            begun: context.now,
            started: context.now,
            paused: None,
            expected: expects_continue,
        };
        let exchange = self.exchange_or_new();
        exchange.upload = Some(Box::new(upload));
        if let Some(routed) = exchange.routed.as_mut().filter(|_| streamed) {
            routed.file = None; // The application is called before the request is whole.
        }
        if !streamed {
            return self.send_continue(context);
        }
        // Whoever has begun to send the body is invited now: it will not wait for the application to read.
        let step = if more_follows { self.send_continue(context) } else { Step::Keep };
        if step != Step::Keep {
            return step;
        }
        self.await_thread(context);
        Step::Ready
    }

    /// Whether the request's route has the application read the body while it comes; `None` if it does not say.
    fn route_streams(&self) -> Option<bool> {
        let routed = self.exchange.as_ref()?.routed.as_ref()?;
        routed.route.stream_request_body
    }

    /// The largest body that the request's route takes; 0 where the protocol's limit is enough.
    fn route_body_bytes_max(&self, context: &EngineContext) -> u64 {
        let routed = self.exchange.as_ref().and_then(|exchange| exchange.routed.as_ref());
        routed.map_or(0, |routed| routed.route.body_bytes_max.unwrap_or(context.config.body_bytes_max))
    }

    #[cold]
    fn refuse_large_body(&mut self, context: &mut EngineContext) -> Step {
        let kind = ErrorKind::BodyTooLarge;
        self.refuse(kind.status(), kind.to_string(), context)
    }

    /// Sends `100 Continue` to a peer that waits for it (RFC 9110, section 10.1.1).
    pub(super) fn send_continue(&mut self, context: &mut EngineContext) -> Step {
        let Some(upload) = self.upload_mut().filter(|upload| upload.expected) else {
            return Step::Keep;
        };
        upload.expected = false;
        upload.started = context.now;
        self.protocol.send(Part::Continue, self.io.outbox.buffer());
        match self.flush(context) {
            Step::Again => Step::Keep,
            step => step,
        }
    }

    pub(super) fn handle_body(&mut self, bytes: &[u8], context: &mut EngineContext) -> Step {
        let Some(upload) = self.upload_mut() else {
            return Step::Keep;
        };
        upload.received += bytes.len() as u64;
        if upload.bytes_max != 0 && upload.received > upload.bytes_max {
            return self.refuse_large_body(context);
        }
        upload.arriving = 0;
        upload.expected = false;
        let stored = match &mut upload.sink {
            Sink::Pipe(pipe) => pipe.0.push(bytes),
            Sink::Spool(spool) => {
                let (held, left) = (spool.memory_bytes(), context.memory_left());
                let buffer = context.config.request_buffer_bytes.min(held + left.buffer);
                spool.push(
                    bytes,
                    MemoryRoom { buffer, fallback: held + left.rest, may_spool: context.may_spool },
                    &context.spools,
                )
            }
        };
        if let Err(error) = stored {
            let received = upload.received;
            log::debug!("a request body of {received} bytes cannot be stored: {error}");
            return self.refuse(507, "the request body cannot be stored", context);
        }
        Step::Keep
    }

    pub(super) fn handle_end(&mut self, context: &mut EngineContext) -> Step {
        let exchange = self.exchange_or_new();
        if let Some(upload) = &exchange.upload {
            let taken = context.now.saturating_duration_since(upload.begun);
            context.metrics.record(Histogram::BodyDuration, nanos(taken));
        }
        match exchange.upload.take().map(|upload| upload.sink) {
            // The call is waiting or running already; its body is whole now.
            Some(Sink::Pipe(pipe)) => {
                pipe.0.end(PipeEnd::Complete);
                self.keep_for_call(&pipe);
                self.clear_receive_due();
                return Step::Keep;
            }
            Some(Sink::Spool(spool)) => exchange.body = Some(spool.finish()),
            None => {}
        }
        self.go_on(context)
    }

    /// The request has come whole: it waits for what is not known yet, gets the server's response, or a thread.
    #[inline]
    pub(super) fn go_on(&mut self, context: &mut EngineContext) -> Step {
        if self.exchange_or_new().routed.is_some()
            && let Some(step) = self.go_on_by_route(context)
        {
            return step;
        }
        self.await_thread(context);
        Step::Ready
    }

    /// The same as far as its route decides it; `None`: it is for a thread.
    fn go_on_by_route(&mut self, context: &mut EngineContext) -> Option<Step> {
        if self.exchange_or_new().awaits_login() {
            return Some(self.await_login(context));
        }
        if self.exchange_or_new().is_limited() {
            self.take_place(context);
        }
        self.exchange_or_new().has_reply().then(|| {
            self.phase = Phase::Calling;
            self.due = None;
            Step::Respond
        })
    }

    /// A streamed body has ended, well or not: a call that still waits for its thread is to find it all the same.
    fn keep_for_call(&mut self, pipe: &Feed) {
        if self.phase == Phase::Waiting
            && let Some(exchange) = &mut self.exchange
        {
            // There is nothing to ask the engine for any more.
            exchange.body = Some(Body::streamed(Arc::clone(&pipe.0), exchange.announced_length(), || {}));
        }
    }

    /// The request is to wait for a thread.
    #[inline]
    pub(super) fn await_thread(&mut self, context: &EngineContext) {
        let patience = context.config.queue_timeout;
        let arrived = *self.exchange_or_new().moments.arrived.get_or_insert(context.now);
        self.phase = Phase::Waiting;
        self.due = (!patience.is_zero()).then(|| (Deadline::Queue, arrived + patience));
    }

    /// Sets the deadline that a wait for more bytes has.
    pub(super) fn await_more(&mut self, partial: bool, context: &EngineContext) {
        let config = &context.config;
        if let Some(upload) = self.upload() {
            let queued = self.due.is_some_and(|(deadline, _)| deadline == Deadline::Queue);
            if upload.expected || queued || !self.io.outbox.is_empty() {
                return; // The peer waits to be invited or for a thread, or is to take what there is for it.
            }
            // Each byte buys time: at least `body_timeout` from now on, unless the average since the start has
            // fallen below the minimum rate.
            let by_pause = context.now + config.body_timeout;
            let received = upload.received + u64::from(upload.arriving);
            let at = match received.checked_div(config.body_rate_min) {
                Some(seconds) => {
                    by_pause.min(upload.started + config.body_timeout + Duration::from_secs(seconds))
                }
                None => by_pause,
            };
            self.due = Some((Deadline::Body, at));
        } else if (partial || !self.protocol.is_idle())
            && self.phase == Phase::Receiving
            && self.due.is_none_or(|(deadline, _)| deadline != Deadline::Head)
        {
            self.due = Some((Deadline::Head, context.now + config.head_timeout));
        }
    }

    /// So many bytes have come of a frame of the body: it can be taken in when it is whole, the peer is judged by
    /// what it sends.
    pub(crate) fn note_arriving(&mut self, bytes: u32, context: &EngineContext) -> Step {
        if let Some(upload) = self.upload_mut()
            && upload.paused.is_none()
        {
            upload.arriving = bytes;
            self.await_more(false, context);
        }
        Step::Keep
    }

    /// The rest of a streamed body will not come, for this reason: tells who reads it, or will.
    pub(super) fn end_pipe(&mut self, upload: &Upload, end: PipeEnd) {
        if let Sink::Pipe(pipe) = &upload.sink {
            pipe.0.end(end);
            self.keep_for_call(pipe);
        }
    }

    /// Whether the body that is on its way in has gone on in a file.
    pub(super) fn upload_has_file(&self) -> bool {
        let sink = self.upload().map(|upload| &upload.sink);
        matches!(sink, Some(Sink::Spool(spool)) if spool.has_file())
    }

    /// Memory that the body takes which is on its way in.
    pub(super) fn upload_memory_bytes(&self) -> usize {
        let sink = match self.upload().map(|upload| &upload.sink) {
            Some(Sink::Spool(spool)) => spool.memory_bytes(),
            // Of a stream, what is not read waits in the session.
            Some(Sink::Pipe(pipe)) => pipe.0.memory_bytes() + self.carrier.unread_bytes(),
            None => 0,
        };
        size_of::<Upload>() + sink
    }
}

impl RequestExchange {
    /// The body that the application is to read: complete, or the pipe it arrives through.
    #[inline]
    pub(super) fn take_body(&mut self, read_more: impl Fn() + Send + Sync + 'static) -> Body {
        if let Some(Upload { sink: Sink::Pipe(pipe), .. }) = self.upload.as_deref() {
            return Body::streamed(Arc::clone(&pipe.0), self.announced_length(), read_more);
        }
        self.body.take().unwrap_or_else(Body::empty)
    }

    #[inline]
    fn announced_length(&self) -> Option<u64> {
        match self.head().map(|head| head.framing) {
            Some(Framing::Length(length)) => Some(length),
            _ => None,
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.end(PipeEnd::Disconnected); // Not heard after `Complete`.
    }
}

#[cfg(test)]
mod tests;
