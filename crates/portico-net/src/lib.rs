//! Sockets and what is spoken on them below HTTP: readiness, bound sockets, the byte pipe to a peer, TLS, the
//! header of the PROXY protocol.
//!
//! Knows no request. `portico-server` has the connections that these sockets are of.

mod listener;
mod reactor;
mod server;
mod tls;
mod transport;

pub use listener::{BindError, Listener};
pub use reactor::{Event, Events, Interest, Reactor};
pub use server::Server;
pub use tls::{Acceptor, CertificateExpiry, CertificateReloader, CertificateSource, TlsClient};
pub use transport::{Progress, ProxyResult, Transport, read, write};
