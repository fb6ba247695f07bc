//! The head of a request: who has sent it, whether it is refused, and what becomes of it before its body comes.

use std::sync::Arc;
use std::time::Duration;

use portico_metrics::Histogram;
use portico_proto::{Framing, RequestHead};

use super::exchange::RequestExchange;
use super::{Connection, Decision, EngineContext, Step, nanos};
use crate::client::{Client, RequestContext};
use crate::forwarded::{Forwarded, ForwardedRefusal};
use crate::request_start::upstream_wait;

/// What has been established about the sender of one request.
#[derive(Debug, Default)]
pub(super) struct Sender {
    /// Statements about it are believed.
    pub(super) trusted: bool,
    /// What a believed proxy says of it.
    pub(super) forwarded: Option<Arc<Forwarded>>,
}

impl Connection {
    /// A head has come: an exchange begins. With `more_follows` bytes behind it are there already.
    pub(super) fn handle_head(
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
        self.begin_exchange(head, head_bytes, sender, context);
        if let Some(refusal) = refusal {
            return self.refuse(400, refusal.sentence(), context);
        }
        if context.ledger.refuses(head_bytes as usize) {
            return self.refuse_for_memory(context);
        }
        if context.health.is_some()
            && let Some(step) = self.respond_to_probe(context)
        {
            return step;
        }
        if context.config.allowed_hosts.is_limited()
            && let Some(host) = self.find_foreign_host(context)
        {
            return self.refuse_host(&host, context);
        }
        match self.route(context) {
            Decision::Application => {}
            Decision::Reply(reply) => return self.reply_at_head(reply, context),
            Decision::Routed(mut routed) => {
                if routed.route.auth.is_some() {
                    self.ask_login(&mut routed, context);
                }
                if let Some(step) = self.take_route(routed, context) {
                    return step;
                }
            }
        }
        let expected = match framing {
            Framing::None | Framing::Length(0) => return Step::Keep,
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        };
        self.begin_upload(expected, (more_follows, expects_continue), context)
    }

    /// The request with this head, which takes `head_bytes` of memory, begins.
    #[inline]
    fn begin_exchange(
        &mut self,
        head: Box<RequestHead>,
        head_bytes: u32,
        sender: Sender,
        context: &mut EngineContext,
    ) {
        let Sender { trusted, forwarded } = sender;
        let request = RequestContext {
            head,
            client: Arc::clone(&self.client),
            trusted,
            forwarded,
            route: None,
            place: None,
            user: None,
            trace: None,
        };
        let mut exchange = RequestExchange::new(request, head_bytes);
        if let Some(moved) = self.moved.take() {
            exchange.handover_count = moved.handover_count;
            exchange.moments.arrived = Some(moved.arrived);
        }
        context.metrics.begin_request(exchange.method);
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
            return self.judge_gateway(head, context).inspect(|sender| note_upstream(head, sender, context));
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
        let sender = Sender { trusted, forwarded: judgement.forwarded };
        note_upstream(head, &sender, context);
        Ok(sender)
    }
}

/// Counts how long a request has been with those in front of this server, if that is said and believed.
fn note_upstream(head: &RequestHead, sender: &Sender, context: &mut EngineContext) {
    if sender.trusted {
        let moment = context.moment();
        if let Some(wait) = upstream_wait(head, Duration::new(moment.second, moment.nanos)) {
            context.metrics.record(Histogram::UpstreamDuration, nanos(wait));
        }
    }
}
