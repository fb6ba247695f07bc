//! The access log: what happened to each request, formatted and written off the request path.
//!
//! The engine notes a [`Record`] (it shares the request's head and copies nothing) in a bounded batch. A thread of
//! the log's own takes the batch a few times a second, formats and writes it. A writer that is blocked (a full
//! pipe) costs lines, which are counted and reported, never a request's time.

mod format;
mod writer;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use portico_proto::RequestHead;

use crate::application::Peer;

pub use writer::{AccessLog, Destination};

/// What happened to one request.
#[derive(Debug)]
pub struct Record {
    /// The request; `None` where what came was not one.
    pub head: Option<Arc<RequestHead>>,
    /// Who sent it.
    pub peer: Peer,
    /// When it was complete.
    pub at: SystemTime,
    /// How long it waited for a thread.
    pub waited: Duration,
    /// From its completion to the last byte of the answer.
    pub took: Duration,
    /// Status of the answer; 499 where the client left before there was one.
    pub status: u16,
    /// Bytes of the answer's body that were sent.
    pub body_bytes: u64,
}

impl Record {
    /// A request whose answer is still to come.
    pub fn new(head: Option<Arc<RequestHead>>, peer: Peer, waited: Duration) -> Self {
        let at = SystemTime::now();
        Self { head, peer, at, waited, took: Duration::ZERO, status: CLIENT_GONE, body_bytes: 0 }
    }

    /// Memory that the record holds on to, in bytes.
    fn size(&self) -> usize {
        size_of::<Self>() + self.head.as_ref().map_or(0, |head| head.size())
    }
}

/// The client left before an answer (nginx's number for it).
const CLIENT_GONE: u16 = 499;
