//! Who sends requests: the client at the other end of a connection, and one request with all that has been
//! established about its sender.
//!
//! Plain values that are made once and shared. The connection, the call, the application and the access log refer
//! to the same ones, so a new fact is added in one place. What is established, others decide: `forwarded` whose
//! statements count, `transport` what a handshake has shown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portico_edge::{FlatRoute, MountedApplication};
use portico_net::{Server, TlsClient};
use portico_otlp::SpanContext;
use portico_proto::{Peer, RequestHead};

use crate::forwarded::{Forwarded, Scheme};
use crate::limits::ConcurrencyPlace;

/// The other end of one connection. Made when it is accepted and, if a header of the PROXY protocol or a TLS
/// handshake comes first, made anew with what that has shown; the same for all requests from then on.
#[derive(Debug)]
pub struct Client {
    /// Its address, or the one in the header of the PROXY protocol.
    pub peer: Peer,
    /// Whether its statements about its own clients are believed.
    pub trusted: bool,
    /// What it has shown of itself in a TLS handshake with this server.
    pub tls: Option<Arc<TlsClient>>,
    /// Where it connected to, by a header of the PROXY protocol. Boxed: few clients have it, and every idle
    /// connection would keep room for it.
    pub destination: Option<Box<SocketAddr>>,
    /// The listener that it came through.
    pub listener: Arc<Server>,
}

/// One request: its head, and who has sent it. Made at the head, changed there by a route at most, and then shared
/// until the request's end.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The head, where the protocol has put it: moving it costs more than following this.
    pub head: Box<RequestHead>,
    /// The client at the other end of the connection.
    pub client: Arc<Client>,
    /// Whether statements about the client are believed: the peer's own or, behind a gateway, those of the client
    /// that the gateway names.
    pub trusted: bool,
    /// What a believed proxy says about the client.
    pub forwarded: Option<Arc<Forwarded>>,
    /// Its route, where there are routes and its head has reached one.
    pub route: Option<Arc<FlatRoute>>,
    /// Its place among those of its route that run at once, where the route limits these (`concurrent`).
    pub place: Option<Arc<ConcurrencyPlace>>,
    /// The user whose password it has brought, where its route asks for one (`auth`).
    pub user: Option<Arc<str>>,
    /// Its place in a trace, from its response's beginning on, where traces are sent: what the application
    /// continues. Boxed: without traces nobody is to move it from hand to hand.
    pub trace: Option<Box<SpanContext>>,
}

impl RequestContext {
    /// The application that its route chooses, where it is not the main one.
    #[inline]
    pub fn mounted(&self) -> Option<&MountedApplication> {
        self.route.as_ref().and_then(|route| route.application.as_deref())
    }

    /// Whether its route has changed its headers: equal field lines of others say something else.
    #[inline]
    pub fn is_edited_by_route(&self) -> bool {
        self.route.as_ref().is_some_and(|route| !route.request_headers.is_empty())
    }

    /// How long it may take, where its route says so; zero means without end.
    #[inline]
    pub fn timeout(&self) -> Option<Duration> {
        self.route.as_ref().and_then(|route| route.timeout)
    }

    /// Who has sent it, as far as that can be believed; without a port if none is known.
    #[inline]
    pub fn sender(&self) -> Peer {
        self.forwarded.as_ref().and_then(|forwarded| forwarded.client()).unwrap_or(self.client.peer)
    }

    /// The host that the application will take for the one asked for: from a believed proxy, or the request's
    /// own. A gateway that passes no Host has another variable, which takes its place.
    #[inline]
    pub fn host(&self) -> Option<&[u8]> {
        let forwarded = self.forwarded.as_deref().and_then(|forwarded| forwarded.host.as_deref());
        let server_name = || self.head.variable(b"SERVER_NAME").filter(|name| !name.is_empty());
        forwarded.or_else(|| self.head.authority().or_else(server_name))
    }

    /// Whether the client has asked by https, as far as is known.
    #[inline]
    pub fn is_https(&self) -> bool {
        match self.forwarded.as_deref().and_then(|forwarded| forwarded.scheme) {
            Some(scheme) => scheme == Scheme::Https,
            None => self.client.listener.tls,
        }
    }

    /// The port of a host that is named without one.
    #[inline]
    pub fn default_port(&self) -> u16 {
        let told = self.forwarded.as_deref().and_then(|forwarded| forwarded.server_port);
        told.unwrap_or(if self.is_https() { 443 } else { 80 })
    }
}
