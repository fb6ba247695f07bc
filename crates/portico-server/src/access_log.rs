//! The access log: what happened to each request, formatted and written off the request path.
//!
//! The engine copies what a line needs into a bounded batch. A thread of the log's own takes the batch some fifty
//! times a second, formats and writes it. A writer that is blocked (a full pipe) costs lines, which are counted
//! and reported, never a request's time.

mod batch;
mod format;
mod writer;

use portico_proto::RequestHead;

use crate::application::Peer;

pub use writer::{AccessLog, Destination};

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

/// The status of a request whose client left before there was an answer (nginx's number for it).
pub const CLIENT_GONE: u16 = 499;
