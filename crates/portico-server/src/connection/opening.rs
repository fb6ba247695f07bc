//! What comes before the first request of a connection: a header of the PROXY protocol, a TLS handshake. After
//! each the client is known anew.

use std::sync::Arc;

use portico_metrics::Handshake;
use portico_net::Transport;
use portico_proto::{Peer, ProxyAddresses, ProxyClient};

use super::timeout::next_deadline;
use super::{Connection, EngineContext};
use crate::client::Client;

impl Connection {
    /// Sees how far what comes before the first request has got: the PROXY protocol, the TLS handshake. Whether
    /// the first of them is done, and there may be more to read.
    #[cold]
    pub(super) fn note_handshake(&mut self, context: &mut EngineContext) -> bool {
        let Some(socket) = self.carrier.socket_io_mut() else { return false };
        match socket.transport.take_header() {
            Some(Ok(header)) => {
                socket.is_opening = socket.transport.is_handshaking();
                self.due = Some(next_deadline(&socket.transport, context));
                self.client = Arc::new(self.client_of(header, context));
                return true;
            }
            Some(Err(error)) => context.reports.proxy_header(error, self.client.peer),
            None => {}
        }
        if !socket.transport.is_handshaking() {
            socket.is_opening = false;
            self.due = Some(next_deadline(&socket.transport, context));
            if let Some(tls) = socket.transport.tls_client().cloned() {
                context.metrics.add_handshake(Handshake::Done(if tls.protocol == "TLSv1.3" {
                    13
                } else {
                    12
                }));
                self.client = Arc::new(Client { tls: Some(tls), ..self.client_again() });
            }
            if self.has_agreed_on_http2() {
                self.begin_http2(context);
            }
        }
        false
    }

    /// The connection ends: counts a handshake that was begun and has not been done.
    pub(super) fn note_failed_handshake(&mut self, context: &mut EngineContext) {
        if self.carrier.transport().is_some_and(Transport::has_broken_handshake) {
            context.metrics.add_handshake(Handshake::Failed);
        }
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
}
