//! The other end of a connection, as everything above names it: a plain value that owns nothing.

use core::net::{IpAddr, SocketAddr};
use std::fmt;

/// The other end of a connection, as logs, limits and the application know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An address and a port.
    Inet(SocketAddr),
    /// A UNIX socket: it has no address worth telling.
    Unix,
}

impl Peer {
    /// Its address without the port; `None` for a UNIX socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Inet(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }
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
