//! What becomes of a request: decided at its head, before its body, the queue and a thread.
//!
//! A router is pure: it sees the head and its sender, does no I/O and keeps nothing. A listener without one passes
//! every request to the application, at no cost but the question. The first router is that of `redirect://`.

use std::fmt;

use portico_config::WireProtocol;
use portico_net::Server;
use portico_proto::Framing;
use portico_proto::http1::is_authority;

use super::{Connection, EngineContext, Phase, Reply, Step};
use crate::client::RequestContext;

/// Decides what becomes of requests.
pub(super) trait Router: fmt::Debug + Send + Sync {
    /// What becomes of `request`. Called on the thread that drives the engine: it must not block.
    fn route(&self, request: &RequestContext) -> Decision;
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The application answers it.
    Application,
    /// The server answers it at once, and closes the connection: the request's body is not read.
    Reply(Reply),
}

/// The router of `redirect://`: every request is told to come again by https.
#[derive(Debug, Default)]
pub(crate) struct HttpsRedirect {
    /// The port of the first listener where TLS is spoken.
    pub port: Option<String>,
}

/// The port that an https URL need not name.
const DEFAULT_HTTPS_PORT: &str = "443";

impl Router for HttpsRedirect {
    fn route(&self, request: &RequestContext) -> Decision {
        let head = &request.head;
        // A host that is none is refused before; what this sends to browsers is looked at all the same.
        let Some(host) = request.host().filter(|host| is_authority(host)).map(host) else {
            return Decision::Reply(Reply::Refused(400, "the request names no host to redirect to".into()));
        };
        let mut location = b"https://".to_vec();
        location.extend_from_slice(host);
        if let Some(port) =
            self.port.as_deref().filter(|port| *port != DEFAULT_HTTPS_PORT && !port.is_empty())
        {
            location.extend_from_slice(b":");
            location.extend_from_slice(port.as_bytes());
        }
        if head.path().first() != Some(&b'/') {
            location.push(b'/'); // `*`, or an absolute form without a path.
        } else {
            location.extend_from_slice(head.path());
        }
        if !head.query().is_empty() {
            location.push(b'?');
            location.extend_from_slice(head.query());
        }
        Decision::Reply(Reply::Redirect(location))
    }
}

impl EngineContext {
    /// The router of the requests that come through `listener`, if it has one.
    #[inline]
    fn router(&self, listener: &Server) -> Option<&dyn Router> {
        match listener.protocol {
            WireProtocol::Redirect => Some(&self.https_redirect),
            WireProtocol::Http | WireProtocol::Uwsgi | WireProtocol::Scgi | WireProtocol::Fastcgi => None,
        }
    }
}

impl Connection {
    /// Has the router of the listener, if there is one, decide what becomes of the request whose head has come.
    #[inline]
    pub(super) fn route(&self, context: &EngineContext) -> Decision {
        match (context.router(&self.client.listener), self.request()) {
            (Some(router), Some(request)) => router.route(request),
            _ => Decision::Application,
        }
    }

    /// Answers the request whose head has come, and ends the connection.
    #[cold]
    pub(super) fn reply_at_head(&mut self, reply: Reply, context: &mut EngineContext) -> Step {
        if let Reply::Refused(status, reason) = reply {
            return self.refuse(status, reason, context);
        }
        // Its body is not read, but a reset must not overtake the response.
        let framing = self.request().map(|request| request.head.framing);
        self.framing_lost = !matches!(framing, Some(Framing::None | Framing::Length(0)));
        let exchange = self.exchange_or_new();
        exchange.begin(context);
        exchange.is_last = true;
        self.phase = Phase::Calling;
        self.respond(reply.into_part(), false, context)
    }
}

/// An authority without its port.
fn host(authority: &[u8]) -> &[u8] {
    let after_bracket = authority.iter().rposition(|byte| *byte == b']').map_or(0, |at| at + 1);
    let colon = authority[after_bracket..].iter().position(|byte| *byte == b':');
    colon.map_or(authority, |at| &authority[..after_bracket + at])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portico_proto::{Event, Limits, Peer, http1};

    use super::*;
    use crate::client::Client;

    fn route(port: Option<&str>, request: &str) -> Decision {
        let mut input = request.as_bytes();
        let event = http1::Connection::new().next_event(&mut input, &Limits::default());
        let Ok(Some(Event::Head(head))) = event else { panic!("{request:?} is no head") };
        let listener = Arc::new(Server { protocol: WireProtocol::Redirect, ..Server::default() });
        let client = Client { peer: Peer::Unix, trusted: false, tls: None, destination: None, listener };
        let context = RequestContext { head, client: Arc::new(client), trusted: false, forwarded: None };
        HttpsRedirect { port: port.map(str::to_owned) }.route(&context)
    }

    #[test]
    fn requests_are_redirected_to_the_same_target_by_https() {
        for (port, line, host, location) in [
            (None, "GET /a?b=c", "x.example", "https://x.example/a?b=c"),
            (Some("443"), "GET /", "x.example:80", "https://x.example/"),
            (Some("8443"), "POST /a", "[::1]:8080", "https://[::1]:8443/a"),
            (Some(""), "OPTIONS *", "x", "https://x/"),
            (None, "GET http://y.example:8/z", "x", "https://y.example/z"),
        ] {
            let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let expected = Decision::Reply(Reply::Redirect(location.as_bytes().to_vec()));
            assert_eq!(route(port, &request), expected, "{request:?}");
        }
    }

    #[test]
    fn a_request_without_a_host_is_refused() {
        let decision = route(None, "GET / HTTP/1.0\r\n\r\n");
        assert!(matches!(decision, Decision::Reply(Reply::Refused(400, _))), "{decision:?}");
    }
}
