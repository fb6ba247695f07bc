//! The listener that a request came through, as requests tell of it: a plain value that owns nothing.

use portico_config::{ProxyProtocol, WireProtocol};

/// The facts about a listener that its requests are told: name, port, protocol. The engine makes one for each
/// listener and shares it with all its connections, also after the listener is closed; it never changes.
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
