//! From the peer to the queue: reading, the protocol's events, the body on its way in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portico_config::{StreamRequestBody, WireProtocol};
use portico_log::Reason;
use portico_net::Progress;
use portico_proto::{ErrorKind, Event, Framing, Part, Peer, ProxyAddresses, ProxyClient, RequestHead};

use super::exchange::RequestExchange;
use super::timeout::next_deadline;
use super::{Connection, Deadline, EngineContext, Phase, Step};
use crate::body::{Body, BodyPipe, MemoryRoom, PipeEnd, Spool};
use crate::client::{Client, RequestContext};
use crate::forwarded::{Forwarded, ForwardedRefusal};

/// A request body on its way in.
#[derive(Debug)]
pub(super) struct Upload {
    sink: Sink,
    received: u64,
    /// Bytes beyond these that have come of a frame which is not whole.
    arriving: u32,
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

/// What has been established about the sender of one request.
#[derive(Debug, Default)]
pub(super) struct Sender {
    /// Statements about it are believed.
    pub(super) trusted: bool,
    /// What a believed proxy says of it.
    pub(super) forwarded: Option<Arc<Forwarded>>,
}

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

    /// The application has to read before the peer can go on: no deadline of the peer's runs meanwhile.
    fn pause_upload(&mut self, now: Instant) {
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

    fn receive_through(&mut self, scratch: &mut [u8], context: &mut EngineContext) -> Step {
        // Without bytes too: the last of a streamed body may have filled the pipe, with its end still to be taken.
        if (!self.inbox.is_empty() || self.has_upload()) && self.wants_bytes() {
            let step = self.digest_inbox(context);
            if step != Step::Keep {
                return step;
            }
        }
        for reads in 0..READS_MAX {
            if !self.readable || !self.wants_bytes() {
                return Step::Keep;
            }
            context.may_have_taken_long |= reads > 0;
            let count = match self.transport.read(scratch) {
                Progress::Bytes(count) => count,
                stopped => match self.handle_stop(stopped, context) {
                    Some(step) => return step,
                    None => continue,
                },
            };
            if self.opening {
                self.note_handshake(context);
            }
            // Fewer bytes than there was room for: the socket is empty, and an edge will tell of more. The one
            // exception is an end that was announced already.
            let emptied = count < scratch.len() && self.transport.is_emptied_by_short_read();
            self.readable = !emptied || self.peer_closed;
            let step = if self.phase == Phase::Lingering {
                self.discard(count, context)
            } else if self.inbox.is_empty() {
                let rest = self.digest(&scratch[..count], context);
                self.inbox.extend_from_slice(rest.0);
                rest.1
            } else {
                self.inbox.extend_from_slice(&scratch[..count]);
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
        if self.opening && self.note_handshake(context) {
            return None;
        }
        match stopped {
            Progress::Closed if self.transport.is_plain_http() => {
                Some(self.refuse(400, "this port speaks TLS: write https:// in place of http://", context))
            }
            Progress::Closed => Some(self.end_of_input()),
            Progress::Blocked | Progress::Bytes(_) => {
                self.readable = false;
                Some(Step::Keep)
            }
        }
    }

    /// Sees how far what comes before the first request has got: the PROXY protocol, the TLS handshake. Whether
    /// the first of them is done, and there may be more to read.
    #[cold]
    fn note_handshake(&mut self, context: &mut EngineContext) -> bool {
        match self.transport.take_header() {
            Some(Ok(header)) => {
                self.client = Arc::new(self.client_of(header, context));
                self.opening = self.transport.is_handshaking();
                self.due = Some(next_deadline(&self.transport, context));
                return true;
            }
            Some(Err(error)) => context.reports.proxy_header(error, self.client.peer),
            None => {}
        }
        if !self.transport.is_handshaking() {
            if let Some(tls) = self.transport.tls_client() {
                self.client = Arc::new(Client { tls: Some(Arc::clone(tls)), ..self.client_again() });
            }
            self.opening = false;
            self.due = Some(next_deadline(&self.transport, context));
            if self.has_agreed_on_http2() {
                self.begin_http2(context);
            }
        }
        false
    }

    /// The client by what a header of the PROXY protocol says of it.
    fn client_of(&self, header: ProxyClient, context: &EngineContext) -> Client {
        let client = self.client_again();
        match header {
            ProxyClient::Balancer => client,
            // Whoever it is, it is not the balancer, whose word counts.
            ProxyClient::Unknown => Client { trusted: false, ..client },
            ProxyClient::Known(ProxyAddresses { source, destination }) => {
                let peer = Peer::Inet(source);
                let trusted = context.policy.trusts(peer);
                Client { peer, trusted, destination: Some(Box::new(destination)), ..client }
            }
        }
    }

    /// The client as it is known so far, to be changed.
    fn client_again(&self) -> Client {
        let Client { peer, trusted, tls, destination, listener } = &*self.client;
        let (tls, destination, listener) = (tls.clone(), destination.clone(), Arc::clone(listener));
        Client { peer: *peer, trusted: *trusted, tls, destination, listener }
    }

    /// Whether bytes from the peer have a place to go now.
    fn wants_bytes(&self) -> bool {
        match (self.upload(), self.phase) {
            (_, Phase::Receiving) => self.session_wants_bytes(),
            (_, Phase::Lingering) => true,
            // What is still said of a request that has been answered is taken and dropped: it must not pile up.
            (_, Phase::Flushing) if self.is_stream_of_records() => true,
            (Some(Upload { sink: Sink::Pipe(pipe), .. }), _) => !pipe.0.is_full(),
            (_, Phase::Waiting | Phase::Calling) => self.protocol.reads_ahead(),
            (_, Phase::Flushing | Phase::Lent) => false,
        }
    }

    fn digest_inbox(&mut self, context: &mut EngineContext) -> Step {
        let mut inbox = std::mem::take(&mut self.inbox);
        let (rest, step) = self.digest(&inbox, context);
        let rest = rest.len();
        // A head that comes in small pieces stays where it is: nothing is copied again and again.
        inbox.drain(..inbox.len() - rest);
        if !inbox.is_empty() {
            self.inbox = inbox;
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
                Err(error) => return (&[], self.refuse(error.status, &error.to_string(), context)),
            };
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

    fn handle_head(
        &mut self,
        mut head: Box<RequestHead>,
        more_follows: bool,
        context: &mut EngineContext,
    ) -> Step {
        let judged = match context.policy.concerns(&head) {
            true => self.judge_forwarded(&mut head, context),
            false => Ok(Sender { trusted: self.client.trusted, forwarded: None }),
        };
        let head_bytes = u32::try_from(head.memory_bytes()).unwrap_or(u32::MAX);
        let (framing, expects_continue) = (head.framing, head.expect_continue);
        let refusal = judged.as_ref().err().copied();
        let sender = judged.unwrap_or_default();
        self.begin_exchange(*head, head_bytes, sender);
        if let Some(refusal) = refusal {
            return self.refuse(400, refusal.sentence(), context);
        }
        if context.ledger.refuses(head_bytes as usize) {
            return self.refuse_for_memory(context);
        }
        if context.config.allowed_hosts.is_limited()
            && let Some(host) = self.find_foreign_host(context)
        {
            return self.refuse_host(&host, context);
        }
        if self.client.listener.protocol == WireProtocol::Redirect {
            return self.redirect(context);
        }
        let expected = match framing {
            Framing::None | Framing::Length(0) => return Step::Keep,
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        };
        let streamed = match context.config.stream_request_body {
            StreamRequestBody::Off => false,
            StreamRequestBody::On => expected.is_some(),
            StreamRequestBody::Always => true,
        };
        let buffer_bytes = context.config.request_buffer_bytes;
        let sink = if streamed {
            // What is not read waits in a file where other requests come the same way.
            let overflow = self.protocol.reads_ahead().then(|| Arc::clone(&context.spools));
            Sink::Pipe(Feed(Arc::new(BodyPipe::new(buffer_bytes, overflow))))
        } else {
            Sink::Spool(Spool::new(expected, buffer_bytes))
        };
        let expected = expects_continue;
        let upload = Upload { sink, received: 0, arriving: 0, started: context.now, paused: None, expected };
        self.exchange_or_new().upload = Some(Box::new(upload));
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

    /// The request with this head, which takes `head_bytes` of memory, begins.
    #[inline]
    fn begin_exchange(&mut self, head: RequestHead, head_bytes: u32, sender: Sender) {
        let Sender { trusted, forwarded } = sender;
        let request = RequestContext { head, client: Arc::clone(&self.client), trusted, forwarded };
        let mut exchange = RequestExchange::new(request, head_bytes);
        if let Some(moved) = self.moved.take() {
            exchange.handover_count = moved.handover_count;
            exchange.moments.arrived = Some(moved.arrived);
        }
        self.exchange = Some(Box::new(exchange));
    }

    /// Takes note of what the peer says of its client, if it is believed, and else has it unsaid.
    #[inline(never)]
    fn judge_forwarded(
        &mut self,
        head: &mut RequestHead,
        context: &mut EngineContext,
    ) -> Result<Sender, ForwardedRefusal> {
        if head.is_gateway() {
            return self.judge_gateway(head, context);
        }
        let Client { peer, trusted, .. } = *self.client;
        let judgement = context.policy.evaluate(trusted, head, &mut context.heard);
        for name in head.dropped() {
            context.reports.dropped_field(name);
        }
        let judgement = judgement.inspect_err(|refusal| context.reports.refusal(*refusal, peer))?;
        if judgement.scheme_ignored {
            context.reports.ignored_scheme(peer);
        }
        if judgement.forwarded_ignored {
            context.reports.ignored_forwarded(peer);
        }
        Ok(Sender { trusted, forwarded: judgement.forwarded })
    }

    /// Sends `100 Continue` to a peer that waits for it (RFC 9110, section 10.1.1).
    pub(super) fn send_continue(&mut self, context: &mut EngineContext) -> Step {
        let Some(upload) = self.upload_mut().filter(|upload| upload.expected) else {
            return Step::Keep;
        };
        upload.expected = false;
        upload.started = context.now;
        let added = context.added_fields();
        self.protocol.send(Part::Continue, &added, self.outbox.buffer());
        match self.flush(context) {
            Step::Again => Step::Keep,
            step => step,
        }
    }

    fn handle_body(&mut self, bytes: &[u8], context: &mut EngineContext) -> Step {
        let Some(upload) = self.upload_mut() else {
            return Step::Keep;
        };
        upload.received += bytes.len() as u64;
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

    fn handle_end(&mut self, context: &mut EngineContext) -> Step {
        let exchange = self.exchange_or_new();
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
        self.await_thread(context);
        Step::Ready
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
    fn await_thread(&mut self, context: &EngineContext) {
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
            if upload.expected || queued || !self.outbox.is_empty() {
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
    pub fn note_arriving(&mut self, bytes: u32, context: &EngineContext) -> Step {
        if let Some(upload) = self.upload_mut()
            && upload.paused.is_none()
        {
            upload.arriving = bytes;
            self.await_more(false, context);
        }
        Step::Keep
    }

    /// Tells the peer what is wrong with its request and ends the connection.
    pub(super) fn refuse(&mut self, status: u16, reason: &str, context: &mut EngineContext) -> Step {
        log::debug!("refused a request of {}: {status} {reason}", self.client.peer);
        self.framing_lost = true;
        context.counters.refused += 1;
        let exchange = self.exchange_or_new();
        if let Some(upload) = exchange.upload.take()
            && let Sink::Pipe(pipe) = &upload.sink
        {
            // The call waits or runs: it learns of the end by reading, and what it sends is the response.
            pipe.0.end(PipeEnd::Disconnected);
            self.keep_for_call(pipe);
            return Step::Keep;
        }
        exchange.note_reason(if status == 408 { Reason::RequestTimeout } else { Reason::Refused });
        exchange.outcome.status = Some(status);
        let added = context.added_fields();
        self.protocol.refuse(status, reason, &added, self.outbox.buffer());
        self.phase = Phase::Flushing;
        self.due = None;
        self.flush(context)
    }

    /// Tells the peer that there is no memory for its request now.
    #[cold]
    fn refuse_for_memory(&mut self, context: &mut EngineContext) -> Step {
        context.ledger.note_refused(context.now);
        self.refuse(503, "too much is held for clients", context)
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
            Some(Sink::Pipe(pipe)) => pipe.0.memory_bytes() + self.transport.unread_bytes(),
            None => 0,
        };
        size_of::<Upload>() + sink
    }

    /// The peer will send nothing more.
    fn end_of_input(&mut self) -> Step {
        self.readable = false;
        self.peer_closed = true;
        if let Some(Upload { sink: Sink::Pipe(pipe), .. }) = self.upload() {
            pipe.0.end(PipeEnd::Disconnected);
        }
        match self.phase {
            Phase::Receiving | Phase::Lingering => Step::Close,
            Phase::Waiting | Phase::Calling | Phase::Lent | Phase::Flushing => Step::Keep,
        }
    }
}

impl RequestExchange {
    /// The body that the application is to read: complete, or the pipe it arrives through.
    pub(super) fn take_body(&mut self, read_more: impl Fn() + Send + Sync + 'static) -> Body {
        if let Some(Upload { sink: Sink::Pipe(pipe), .. }) = self.upload.as_deref() {
            return Body::streamed(Arc::clone(&pipe.0), self.announced_length(), read_more);
        }
        self.body.take().unwrap_or_else(Body::empty)
    }

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
