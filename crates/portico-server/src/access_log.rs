//! The access log: what happened to each request, formatted and written off the request path.
//!
//! The engine copies what a line needs into a bounded batch. A thread of the log's own takes the batch some fifty
//! times a second, formats and writes it. A writer that is blocked (a full pipe) costs lines, which are counted
//! and reported, never a request's time.

mod batch;
mod format;
mod writer;

use std::net::{IpAddr, SocketAddr};

use portico_proto::RequestHead;

use crate::application::Peer;
use batch::Line;

pub use writer::{AccessLog, Destination, Reopener};

/// What happened to one request.
#[derive(Debug)]
pub struct Record<'a> {
    /// The request; `None` where what came was not one.
    pub head: Option<&'a RequestHead>,
    /// Who sent it.
    pub peer: Peer,
    /// When it was answered, in seconds since 1970.
    pub second: u64,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of the answer's body that were sent.
    pub body_bytes: u64,
}

/// A request that died with the process that was answering it, as another process knows it.
#[derive(Clone, Copy, Debug)]
pub struct LostRequest<'a> {
    /// Its method.
    pub method: &'a [u8],
    /// Its target, or as much of it as is known.
    pub target: &'a [u8],
    /// Who sent it; `None` for a UNIX socket.
    pub peer: Option<IpAddr>,
    /// When it was lost, in seconds since 1970.
    pub second: u64,
    /// The status that stands for what the client saw.
    pub status: u16,
}

impl LostRequest<'_> {
    fn line(&self) -> Line<'_> {
        let texts = [Some(self.method), Some(self.target), None, None, None];
        let peer = self.peer.map_or(Peer::Unix, |peer| Peer::Inet(SocketAddr::new(peer, 0)));
        Line { peer, second: self.second, version: None, status: self.status, body_bytes: 0, texts }
    }
}

/// The status of a request whose client left before there was an answer (nginx's number for it).
pub const CLIENT_GONE: u16 = 499;
