//! The span of an exchange: begun with its response, told at its end.
//!
//! It says what the access log says, of the same exchanges. `portico-otlp` encodes and sends it.

use std::sync::Arc;
use std::time::Instant;

use portico_log::{CLIENT_GONE, Moment, Reason, Times};
use portico_otlp::{ServerSpan, SpanContext, SpanEvent, SpanTimes, Tracer};
use portico_proto::{Peer, RequestHead, TraceContext};

use super::exchange::{RequestExchange, nanos};
use super::{Connection, EngineContext};
use crate::client::RequestContext;

/// Gives `request` its place in a trace, if it has none yet.
#[inline(never)]
pub(super) fn begin_span(tracer: &mut Tracer, request: &mut Arc<RequestContext>) {
    if request.trace.is_none() {
        let span = span_of(tracer, Some(request));
        // As a rule nobody else has the request yet, so that nothing is copied.
        Arc::make_mut(request).trace = Some(Box::new(span));
    }
}

/// The place in a trace of `request`, or of what was none.
pub(super) fn span_of(tracer: &mut Tracer, request: Option<&RequestContext>) -> SpanContext {
    if let Some(begun) = request.and_then(|request| request.trace.as_deref()) {
        return *begun;
    }
    // More than one is none (W3C Trace Context, section 3.2.2).
    let traceparent = request.and_then(|request| request.head.sole_field(TraceContext::FIELD));
    let is_trusted = request.is_some_and(|request| request.trusted || request.head.is_gateway());
    tracer.begin(traceparent, is_trusted)
}

impl Connection {
    /// The exchange has ended: gives its span away, if it is sampled.
    pub(super) fn push_span(
        &self,
        exchange: &RequestExchange,
        status: u16,
        trace: &SpanContext,
        context: &mut EngineContext,
    ) {
        if !trace.own.is_sampled() {
            return;
        }
        let end = unix_nanos(context.moment());
        let before_end = |at: Instant| end.saturating_sub(nanos(context.now.saturating_duration_since(at)));
        let moments = &exchange.moments;
        let start = moments.arrived.or(moments.begun).map_or(end, before_end);
        let Some(tracer) = &context.tracer else { return };
        let request = exchange.request.as_deref();
        let head = request.map(|request| &*request.head);
        let reason = exchange.outcome.reason;
        tracer.push(&ServerSpan {
            context: trace,
            times: SpanTimes { start, end },
            method: head.map(RequestHead::method),
            // The application's, once it can say so (`environ["portico.route"]`).
            route: None,
            path: head.map(RequestHead::path),
            is_https: request.map_or(self.client.listener.tls, RequestContext::is_https),
            host: request.and_then(RequestContext::host),
            default_port: request.map_or(0, RequestContext::default_port),
            client: match request.map_or(self.client.peer, RequestContext::sender) {
                Peer::Inet(address) => Some(address.ip()),
                Peer::Unix => None,
            },
            version: head.map(|head| head.version),
            user_agent: head.and_then(|head| head.field(b"user-agent")),
            status: (status != CLIENT_GONE).then_some(status),
            reason: reason.map(Reason::name),
            event: reason.and_then(|reason| event(reason, moments.answered.map_or(end, before_end), end)),
            queue: moments.times(context.now).map(|Times { queue, .. }| queue),
            // A proxy's, once X-Request-Start is read.
            upstream_queue: None,
        });
    }
}

/// What happened in a span that ended for this reason.
fn event(reason: Reason, answered: u64, end: u64) -> Option<SpanEvent> {
    match reason {
        // The response of the server's own came then.
        Reason::Timeout => Some(SpanEvent { name: "timeout", at: answered }),
        Reason::ClientGone => Some(SpanEvent { name: "client_gone", at: end }),
        _ => None,
    }
}

fn unix_nanos(moment: Moment) -> u64 {
    moment.second * 1_000_000_000 + u64::from(moment.nanos)
}

#[cfg(test)]
mod tests;
