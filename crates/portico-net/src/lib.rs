//! Sockets and what is spoken on them below HTTP: readiness, bound sockets, the byte pipe to a peer, TLS, the
//! header of the PROXY protocol.
//!
//! Knows no request. The connections that use these sockets are in `portico-server`.
#![deny(unreachable_pub)]

mod listener;
mod reactor;
mod server;
mod tls;
mod transport;

pub use listener::Listener;
pub use reactor::{Event, Events, Interest, Reactor};
pub use server::Server;
pub use tls::{Acceptor, CertificateExpiry, CertificateReloader, TlsClient};
pub use transport::{Progress, Transport, read, write, write_in_turn};
