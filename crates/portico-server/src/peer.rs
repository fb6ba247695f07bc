//! The two ends of a connection, as everything above names them: plain values that own nothing.

use std::fmt;
use std::net::SocketAddr;

use portico_config::{ProxyProtocol, WireProtocol};

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An address and a port.
    Inet(SocketAddr),
    /// A UNIX socket: it has no address worth telling.
    Unix,
}

/// The listener that a request came through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Host part of the listener's own address, such as `127.0.0.1`; the path for a UNIX socket.
    pub name: String,
    /// Port in decimal; empty for a UNIX socket.
    pub port: String,
    /// What its clients speak, within TLS where that is spoken.
    pub protocol: WireProtocol,
    /// Whether they speak TLS.
    pub tls: bool,
    /// Which PROXY protocol they begin with, where that is not what the configuration says of all.
    pub proxy: Option<ProxyProtocol>,
}

impl fmt::Display for Peer {
    /// The address without the port; `-` for a UNIX socket.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.ip().fmt(f),
            Self::Unix => f.write_str("-"),
        }
    }
}
