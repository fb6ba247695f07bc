//! The seam: what the engine hands to an application and what it asks of one.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portico_config::{ProxyProtocol, WireProtocol};
use portico_proto::RequestHead;

use crate::{Body, Forwarded, RequestId, RequestKey, Responder, TlsClient};

/// A program that answers requests. The gateway to Python implements it; tests and benches implement it in Rust.
pub trait Application: Send + Sync + 'static {
    /// Answers one request through `responder`, on the calling thread. Called on at most `threads` threads at
    /// once, always the same ones. A panic costs the request, not the process.
    fn call(&self, request: Request, responder: Responder);

    /// Runs `wait`, which may block or does work that is not the application's: the place to let go of what the
    /// thread holds for the application (Python's interpreter). Called on the threads that call `call`, both
    /// between calls and, by the [`Responder`] and the [`Body`], within one.
    fn blocking(&self, wait: &mut (dyn FnMut() + Send)) {
        wait();
    }

    /// Whether several calls can compute at the same moment. With Python's global lock only one does.
    fn computes_in_parallel(&self) -> bool {
        false
    }

    /// As [`Application::blocking`], for a wait for the client within a call: `wait` may run on another thread,
    /// while the calling one does other work of the application's.
    fn await_client(&self, wait: Box<dyn FnOnce() + Send>) {
        let mut wait = Some(wait);
        self.blocking(&mut || wait.take().into_iter().for_each(|wait| wait()));
    }
}

/// A complete request: its head, and its body buffered (or, where streaming is set, arriving).
pub struct Request {
    /// Names it, among all that the server ever hands out.
    pub key: RequestKey,
    /// The head (its connection keeps it until the response is complete).
    pub head: Arc<RequestHead>,
    /// The body.
    pub body: Body,
    /// Its id.
    pub id: RequestId,
    /// The other end of its connection.
    pub peer: Peer,
    /// Whether what that says of others is believed.
    pub trusted: bool,
    /// What a believed proxy says of the client.
    pub forwarded: Option<Arc<Forwarded>>,
    /// What the client has shown of itself in the TLS handshake, if there was one with this server.
    pub tls: Option<Arc<TlsClient>>,
    /// Where the client connected to, as a header of the PROXY protocol tells.
    pub destination: Option<Arc<SocketAddr>>,
    /// Where it arrived.
    pub server: Arc<Server>,
    /// How long it has waited for a thread.
    pub queued: Duration,
    /// When the thread began with it.
    pub begun: Instant,
}

impl Request {
    /// Who sent it, as far as that can be believed; without a port where none was told.
    pub fn client(&self) -> Peer {
        self.forwarded.as_ref().and_then(|forwarded| forwarded.client()).unwrap_or(self.peer)
    }
}

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

/// PATH_INFO of a request for `path`, still percent-encoded: decoded, and below `root_path`. A path outside it is
/// passed whole: the proxy in front has then taken the prefix off already, and its users expect the application to
/// be called all the same.
pub fn path_info<'p>(path: &'p [u8], root_path: &[u8]) -> Cow<'p, [u8]> {
    let inside = |path: &[u8]| match path.strip_prefix(root_path) {
        Some(rest) if rest.is_empty() || rest.starts_with(b"/") => path.len() - rest.len(),
        _ => 0,
    };
    match percent_decode(path) {
        Cow::Borrowed(path) => Cow::Borrowed(&path[inside(path)..]),
        Cow::Owned(mut path) => {
            path.drain(..inside(&path));
            Cow::Owned(path)
        }
    }
}

/// Decodes `%XX`. A `%` without two hexadecimal digits stays, as in `urllib.parse.unquote`.
pub fn percent_decode(path: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'%', path) else { return Cow::Borrowed(path) };
    let mut decoded = Vec::with_capacity(path.len());
    decoded.extend_from_slice(&path[..first]);
    let mut rest = &path[first..];
    while let [byte, after @ ..] = rest {
        rest = after;
        match (byte, after) {
            (b'%', [high, low, after @ ..]) => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = after;
                }
                _ => decoded.push(b'%'),
            },
            _ => decoded.push(*byte),
        }
    }
    Cow::Owned(decoded)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
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
