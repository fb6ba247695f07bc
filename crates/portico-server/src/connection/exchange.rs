//! One request and its response: made at the request's head, dropped at the response's end.
//!
//! Nothing of it is reset for the next request: the next one has an exchange of its own. What outlives it is the
//! connection's: the client, the protocol's state, the bytes read and to be written. The access log is told of it
//! when it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portico_log::{AccessRecord, CLIENT_GONE, Reason, RequestId, Times};
use portico_metrics::{CountedExchange, EndedExchange, Method, ProtocolVersion, RequestProtocol};
use portico_otlp::SpanContext;
use portico_proto::{Protocol, RequestHead, TraceContext, Version};

use super::backlog::Backlog;
use super::lent::Lent;
use super::router::Routed;
use super::spans::{begin_span, span_of};
use super::upload::Upload;
use super::{Connection, Deadline, EngineContext, Flow, Phase};
use crate::body::Body;
use crate::client::RequestContext;

/// The state of one request and its response. Its fields are not divided, because each of them ends with the
/// exchange, and the three that are true or false are independent of each other.
#[derive(Debug, Default)]
pub(super) struct RequestExchange {
    /// The request; `None` if what came was none, and is refused.
    pub(super) request: Option<Arc<RequestContext>>,
    /// Memory that its head takes.
    pub(super) head_bytes: u32,
    /// The request's method, as it is counted.
    pub(super) method: Method,
    /// Its body on its way in.
    pub(super) upload: Option<Box<Upload>>,
    /// Its body, complete, until a call takes it.
    pub(super) body: Option<Body>,
    /// Its route, and the server's response until the request has come whole; `None` where there are no routes.
    pub(super) routed: Option<Box<Routed>>,
    /// How often it has been handed over to another worker.
    pub(super) handover_count: u8,
    /// Its id, once it has one.
    pub(super) id: RequestId,
    /// Number of the call that makes the response.
    pub(super) call: u64,
    /// When what happened.
    pub(super) moments: Moments,
    /// What the access log is to tell of the response.
    pub(super) outcome: ResponseOutcome,
    /// Tells the application how far its response has got.
    pub(super) flow: Option<Arc<Flow>>,
    /// What of the response the client does not take at once.
    pub(super) backlog: Option<Box<Backlog>>,
    /// The application has taken the connection over.
    pub(super) lent: Option<Box<Lent>>,
    /// The response is the connection's last.
    pub(super) is_last: bool,
    /// The response ends with what there is of it, before its end.
    pub(super) is_cut: bool,
    /// What was to be done for it off the engine has not come in time, or was refused: no result is of use to it.
    pub(super) is_work_over: bool,
}

/// The moments of one exchange.
#[derive(Debug, Default)]
pub(super) struct Moments {
    /// The request was complete, or complete enough to be run. Known from the head on if another worker has handed
    /// it over: it waits since then.
    pub(super) arrived: Option<Instant>,
    /// A thread took it, or it was answered without one.
    pub(super) begun: Option<Instant>,
    /// The last of its response was given.
    pub(super) answered: Option<Instant>,
}

/// What the access log is to tell of one response.
#[derive(Debug, Default)]
pub(super) struct ResponseOutcome {
    /// Its status; `None` as long as there is nothing to tell.
    pub(super) status: Option<u16>,
    /// Why it ends otherwise than with the application's whole response.
    pub(super) reason: Option<Reason>,
    /// Bytes of its body that have been handed over.
    pub(super) body_bytes: u64,
    /// What the format wants of its fields.
    pub(super) fields: Vec<u8>,
}

/// A request that a thread has taken.
pub(crate) struct BegunCall {
    /// Its head, and who has sent it.
    pub context: Arc<RequestContext>,
    /// Its id.
    pub id: RequestId,
    /// Its body.
    pub body: Body,
    /// How long it has waited.
    pub queued: Duration,
}

/// How long a request must have waited before a FIN that came with it counts as a client gone.
const ABANDONED_AFTER: Duration = Duration::from_millis(10);

impl RequestExchange {
    /// That of `request`, whose head takes `head_bytes` of memory.
    #[inline]
    pub(super) fn new(request: RequestContext, head_bytes: u32) -> Self {
        let method = Method::of(request.head.method());
        Self { request: Some(Arc::new(request)), head_bytes, method, ..Self::default() }
    }

    /// The request's head.
    #[inline]
    pub(super) fn head(&self) -> Option<&RequestHead> {
        self.request.as_ref().map(|request| &*request.head)
    }

    /// Whether the server responds to it by its route.
    #[inline]
    pub(super) fn has_reply(&self) -> bool {
        self.routed
            .as_ref()
            .is_some_and(|routed| (routed.reply.is_some() || routed.file.is_some()) && !routed.awaits_login)
    }

    /// Whether it is being found out who it is from.
    #[inline]
    pub(super) fn awaits_login(&self) -> bool {
        self.routed.as_ref().is_some_and(|routed| routed.awaits_login)
    }

    /// Whether its route limits how many of its requests run at once.
    #[inline]
    pub(super) fn is_limited(&self) -> bool {
        self.routed.as_ref().is_some_and(|routed| routed.route.concurrent.is_some())
    }

    /// Notes why it ends otherwise than with the application's whole response: the first reason counts.
    pub(super) fn note_reason(&mut self, reason: Reason) {
        self.outcome.reason.get_or_insert(reason);
    }

    /// Notes that the response begins to be made, by a call or without one.
    #[inline]
    pub(super) fn begin(&mut self, context: &mut EngineContext) {
        self.moments.begun = Some(context.now);
        if let Some(request) = &self.request {
            self.id = context.id_of(&request.head, request.trusted || request.head.is_gateway());
        }
        if let (Some(tracer), Some(request)) = (&mut context.tracer, &mut self.request) {
            begin_span(tracer, request);
        }
    }

    /// The trace that it belongs to; 0 if it belongs to none.
    fn trace_id(&self) -> u128 {
        let span = self.request.as_ref().and_then(|request| request.trace.as_ref()).map(|span| span.own);
        let sent = || TraceContext::parse(self.head()?.sole_field(TraceContext::FIELD)?);
        span.or_else(sent).map_or(0, |trace| u128::from_be_bytes(trace.trace_id))
    }

    /// How long it has waited by `now`.
    #[inline]
    fn waited(&self, now: Instant) -> Duration {
        self.moments.arrived.map_or(Duration::ZERO, |arrived| now.saturating_duration_since(arrived))
    }
}

/// As a number of 64 bits, which is enough for centuries. `Duration::as_nanos` reckons with 128.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    duration.as_secs() * 1_000_000_000 + u64::from(duration.subsec_nanos())
}

impl Moments {
    /// All of the time of an exchange that ends at `now`, in nanoseconds; 0 if nothing was awaited for it.
    #[inline]
    fn whole(&self, now: Instant) -> u64 {
        let begun = if self.begun.is_some() { self.arrived.or(self.begun) } else { None };
        begun.map_or(0, |begun| nanos(now.saturating_duration_since(begun)))
    }

    /// The part of `whole` that was the application's, and that in which its response was written, of a call that
    /// ends at `now`.
    #[inline]
    fn of_call(&self, whole: u64, now: Instant) -> (u64, u64) {
        let nanos = |from: Instant, to: Instant| nanos(to.saturating_duration_since(from));
        let begun = self.begun.unwrap_or(now);
        match self.answered.unwrap_or(now) {
            // As a rule no time goes into waiting or writing.
            answered if answered == now && self.arrived == Some(begun) => (whole, 0),
            answered => (nanos(begun, answered), nanos(answered, now)),
        }
    }

    /// Where the time has gone of an exchange that ends at `now`; `None` if nothing was awaited for it.
    pub(super) fn times(&self, now: Instant) -> Option<Times> {
        let nanos = |from: Instant, to: Instant| nanos(to.saturating_duration_since(from));
        let begun = self.begun?;
        let arrived = self.arrived.unwrap_or(begun);
        let answered = self.answered.unwrap_or(now);
        // As a rule no time goes there.
        Some(Times {
            queue: if arrived == begun { 0 } else { nanos(arrived, begun) },
            application: nanos(begun, answered),
            write: if answered == now { 0 } else { nanos(answered, now) },
        })
    }
}

impl Connection {
    /// The present request.
    #[inline]
    pub(crate) fn request(&self) -> Option<&Arc<RequestContext>> {
        self.exchange.as_ref().and_then(|exchange| exchange.request.as_ref())
    }

    /// How often the present request has been handed over.
    #[inline]
    pub(crate) fn handover_count(&self) -> u8 {
        self.exchange.as_ref().map_or(0, |exchange| exchange.handover_count)
    }

    /// How long the present request waits, or has waited, for a thread.
    pub(crate) fn waited(&self, now: Instant) -> Duration {
        self.exchange.as_ref().map_or(Duration::ZERO, |exchange| exchange.waited(now))
    }

    /// Since when the present request waits, or has waited, for a thread.
    pub(crate) fn arrived(&self) -> Option<Instant> {
        self.exchange.as_ref().and_then(|exchange| exchange.moments.arrived)
    }

    /// Notes why the present exchange ends otherwise than with the application's whole response.
    pub(crate) fn note_reason(&mut self, reason: Reason) {
        if let Some(exchange) = &mut self.exchange {
            exchange.note_reason(reason);
        }
    }

    /// The present exchange; one without a request where what has come is none.
    #[inline]
    pub(super) fn exchange_or_new(&mut self) -> &mut RequestExchange {
        self.exchange.get_or_insert_default()
    }

    /// Whether a body is on its way in.
    #[inline]
    pub(super) fn has_upload(&self) -> bool {
        self.upload().is_some()
    }

    /// The body that is on its way in.
    #[inline]
    pub(super) fn upload(&self) -> Option<&Upload> {
        self.exchange.as_ref().and_then(|exchange| exchange.upload.as_deref())
    }

    /// The same, to work on.
    #[inline]
    pub(super) fn upload_mut(&mut self) -> Option<&mut Upload> {
        self.exchange.as_mut().and_then(|exchange| exchange.upload.as_deref_mut())
    }

    /// Whether the client has left while its request waited in the queue.
    pub(crate) fn is_abandoned(&self, context: &EngineContext) -> bool {
        self.io.peer_closed && !context.config.allow_half_close && self.waited(context.now) > ABANDONED_AFTER
    }

    /// A thread is free: hands out the request. `read_more` is what the reader of a streamed body calls when there
    /// is room.
    #[inline]
    pub(crate) fn begin_call(
        &mut self,
        call: u64,
        context: &mut EngineContext,
        read_more: impl Fn() + Send + Sync + 'static,
    ) -> Option<BegunCall> {
        if self.due.is_some_and(|(deadline, _)| deadline == Deadline::Queue) {
            self.due = None;
        }
        let exchange = self.exchange.as_deref_mut()?;
        exchange.request.as_ref()?;
        let body = exchange.take_body(read_more);
        exchange.outcome.status = Some(CLIENT_GONE);
        exchange.begin(context);
        exchange.call = call;
        self.phase = Phase::Calling;
        let queued = exchange.waited(context.now);
        // Not before: from its beginning on it may have a place in a trace.
        let request = Arc::clone(exchange.request.as_ref()?);
        Some(BegunCall { context: request, id: exchange.id, body, queued })
    }

    /// Whether `call` is the one whose response is awaited.
    #[inline]
    pub(crate) fn awaits(&self, call: u64) -> bool {
        self.phase == Phase::Calling && self.is_of_call(call)
    }

    /// Whether `call` makes the present response.
    #[inline]
    pub(super) fn is_of_call(&self, call: u64) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.call == call)
    }

    /// The exchange has ended: counts it, and tells the access log of it.
    #[inline]
    pub(super) fn end_exchange(&mut self, context: &mut EngineContext) {
        let Some(exchange) = self.exchange.take() else { return };
        self.forget_request(&exchange, context);
        let method = exchange.method;
        let Some(status) = exchange.outcome.status else { return };
        if context.health.is_some() && context.is_unlogged(exchange.routed.as_deref()) {
            return; // Probes are none of the requests that are measured.
        }
        self.count_protocol(&exchange, context);
        let whole = exchange.moments.whole(context.now);
        let call = (exchange.call != 0).then(|| exchange.moments.of_call(whole, context.now));
        context.metrics.record_exchange(&CountedExchange { method, code: status, whole, call });
        if let Some(reason) = exchange.outcome.reason {
            context.metrics.add_ended(reason.name());
        }
        // One that failed, or was slow: nobody else pays more than these two comparisons.
        if status >= 500 || whole >= context.slow_nanos {
            self.note_ended(&exchange, status, context);
        }
        if context.access_log.is_some() || context.tracer.is_some() {
            self.tell_of(&exchange, status, context);
        }
    }

    /// The request of `exchange` is not this engine's any more.
    #[inline]
    fn forget_request(&self, exchange: &RequestExchange, context: &mut EngineContext) {
        if exchange.request.is_some() {
            context.metrics.end_request(exchange.method);
        }
    }

    /// Counts by which protocol the request has come.
    #[inline]
    fn count_protocol(&self, exchange: &RequestExchange, context: &mut EngineContext) {
        let Some(request) = &exchange.request else { return };
        let version = match (&self.protocol, request.head.version) {
            (Protocol::Http1(_), Version::Http10) => ProtocolVersion::Http10,
            (Protocol::Http1(_), _) => ProtocolVersion::Http11,
            (Protocol::Http2(_), _) => ProtocolVersion::Http2,
            (Protocol::Gateway(_) | Protocol::Fastcgi(_), _) => ProtocolVersion::Gateway,
        };
        let is_https = request.is_https();
        // What most speak is what is left of all exchanges.
        if version != ProtocolVersion::Http11 || is_https {
            context.metrics.add_protocol(RequestProtocol::of(version, is_https));
        }
    }

    /// The connection is another worker's now, with the request that it may have.
    pub(crate) fn leave_to_another(&mut self, context: &mut EngineContext) {
        if let Some(exchange) = self.exchange.take() {
            self.forget_request(&exchange, context);
        }
    }

    /// Notes an exchange that was slow or failed. A WebSocket is neither for being long.
    #[cold]
    fn note_ended(&self, exchange: &RequestExchange, status: u16, context: &mut EngineContext) {
        let moment = context.moment();
        let Some(ended) = context.ended.filter(|_| exchange.lent.is_none()) else { return };
        let times = exchange.moments.times(context.now).unwrap_or_default();
        let head = exchange.head();
        let text = |text: Option<&[u8]>| text.unwrap_or(b"-").to_vec();
        ended.push(&EndedExchange {
            unix_nanos: moment.second.saturating_mul(1_000_000_000).saturating_add(moment.nanos.into()),
            status,
            queue_nanos: times.queue,
            application_nanos: times.application,
            write_nanos: times.write,
            trace_id: exchange.trace_id(),
            method: text(head.map(RequestHead::method)),
            reason: text(exchange.outcome.reason.map(|reason| reason.name().as_bytes())),
            path: text(head.map(RequestHead::path)),
        });
    }

    /// Tells whoever wants to know of each exchange.
    fn tell_of(&self, exchange: &RequestExchange, status: u16, context: &mut EngineContext) {
        let trace = context.tracer.as_mut().map(|tracer| span_of(tracer, exchange.request.as_deref()));
        self.log(exchange, status, trace.as_ref(), context);
        if let Some(trace) = &trace {
            self.push_span(exchange, status, trace, context);
        }
    }

    fn log(
        &self,
        exchange: &RequestExchange,
        status: u16,
        trace: Option<&SpanContext>,
        context: &mut EngineContext,
    ) {
        let moment = context.moment();
        let Some(log) = &context.access_log else { return };
        let request = exchange.request.as_deref();
        let RequestExchange { id, moments, outcome, .. } = exchange;
        let trace = trace.map(|trace| trace.own.text());
        log.push(&AccessRecord {
            head: request.map(|request| &*request.head),
            peer: &request.map_or(self.client.peer, RequestContext::sender),
            server_name: &self.client.listener.name,
            server_port: &self.client.listener.port,
            mount: request.and_then(|request| request.mounted()).map_or("", |mounted| &mounted.path),
            moment,
            status,
            body_bytes: outcome.body_bytes.saturating_sub(self.io.outbox.unsent_bytes()),
            id,
            trace: trace.as_ref(),
            times: if log.needs_times() { moments.times(context.now) } else { None },
            reason: outcome.reason,
            response_fields: &outcome.fields,
        });
    }
}

#[cfg(test)]
mod tests;
