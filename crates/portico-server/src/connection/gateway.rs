//! Connections of gateways (uwsgi, SCGI, FastCGI): each request has a client of its own, of whom the gateway tells
//! in variables.
//!
//! Only peers that are named get as far as this ([`EngineContext::is_allowed`]), so that the variables are
//! believed. Fields are another matter: a gateway passes on what its client has sent, and sets some itself, and
//! nobody can tell which. They stay in environ, but for those that only proxies may send (`forwarder_headers`),
//! and say nothing of the client unless the gateway's own client, REMOTE_ADDR, is a proxy that is believed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use portico_config::WireProtocol;
use portico_log::Reason;
use portico_metrics::Counter;
use portico_net::Server;
use portico_proto::{Error, Peer, Protocol, RequestHead};

use super::request_head::Sender;
use super::{Connection, EngineContext, Step};
use crate::forwarded::{ForwardedRefusal, Scheme};

/// What a new connection to `server` speaks.
pub(super) fn protocol(server: &Server) -> Protocol {
    match server.protocol {
        WireProtocol::Http | WireProtocol::Redirect => Protocol::default(),
        WireProtocol::Uwsgi => Protocol::uwsgi(),
        WireProtocol::Scgi => Protocol::scgi(),
        WireProtocol::Fastcgi => Protocol::fastcgi(),
    }
}

impl Connection {
    /// Takes note of the client of whom the gateway tells, and of whom that tells in turn, if it is believed.
    pub(super) fn judge_gateway(
        &mut self,
        head: &mut RequestHead,
        context: &mut EngineContext,
    ) -> Result<Sender, ForwardedRefusal> {
        // Gateways have variables to say such things with; in a field it is what their client has sent.
        context.policy.remove_claimed(head);
        let client = client(head);
        let trusted = client.is_some_and(|client| context.policy.trusts(client));
        let (peer, mut forwarded) = (self.client.peer, None);
        if trusted {
            let judged = context.policy.evaluate(true, head, &mut context.heard);
            let judged = judged.inspect_err(|refusal| context.reports.refusal(*refusal, peer))?;
            if judged.forwarded_ignored {
                context.reports.ignored_forwarded(peer);
            }
            forwarded = judged.forwarded;
        }
        let scheme = scheme(head);
        if !matches!(client, Some(Peer::Inet(_))) && scheme.is_none() {
            return Ok(Sender { trusted, forwarded });
        }
        let mut forwarded = forwarded.unwrap_or_default();
        let said = Arc::make_mut(&mut forwarded);
        if let (None, Some(Peer::Inet(client))) = (said.address, client) {
            said.address = Some(client.ip());
            said.port = Some(client.port()).filter(|port| *port != 0);
        }
        said.scheme = said.scheme.or(scheme);
        Ok(Sender { trusted, forwarded: Some(forwarded) })
    }

    /// Closes the connection of a peer that does not speak its protocol.
    pub(super) fn close_unanswered(&mut self, error: Error, context: &mut EngineContext) -> Step {
        let protocol = self.client.listener.protocol.scheme();
        context.reports.malformed_packet(self.client.peer, protocol, error);
        context.metrics.add(Counter::Refused, 1);
        self.framing_lost = true;
        if let Some(exchange) = &mut self.exchange {
            exchange.upload = None; // Whoever reads it learns of the end.
            exchange.note_reason(Reason::Refused);
        }
        Step::Close
    }
}

/// The client that the gateway tells of.
fn client(head: &RequestHead) -> Option<Peer> {
    let address = str::from_utf8(head.variable(b"REMOTE_ADDR")?).ok()?;
    if address.starts_with("unix:") {
        return Some(Peer::Unix); // As nginx has it.
    }
    let address: IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
    let port = head.variable(b"REMOTE_PORT").and_then(|port| str::from_utf8(port).ok());
    let port = port.and_then(|port| port.parse().ok()).unwrap_or_default();
    Some(Peer::Inet(SocketAddr::new(address.to_canonical(), port)))
}

/// The scheme that the gateway tells of.
fn scheme(head: &RequestHead) -> Option<Scheme> {
    for name in [&b"UWSGI_SCHEME"[..], b"REQUEST_SCHEME"] {
        match head.variable(name) {
            Some(value) if value.eq_ignore_ascii_case(b"https") => return Some(Scheme::Https),
            Some(value) if value.eq_ignore_ascii_case(b"http") => return Some(Scheme::Http),
            _ => {}
        }
    }
    let on = |value: &[u8]| value.eq_ignore_ascii_case(b"on") || value == b"1";
    head.variable(b"HTTPS").filter(|value| on(value)).map(|_| Scheme::Https)
}
