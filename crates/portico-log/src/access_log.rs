//! The access log: what happened to each request, formatted and written off the request path.
//!
//! The engine copies what a line needs into a bounded batch. A thread of the log's own takes the batch some fifty
//! times a second, formats and writes it. A writer that is blocked (a full pipe) costs lines, which are counted
//! and reported, never a request's time.

mod batch;
mod clock;
mod escape;
mod format;
mod observer;
mod plan;
mod request;
mod structured;
mod template;
#[cfg(test)]
mod testing;
mod writer;

use std::net::IpAddr;

use portico_proto::{Peer, RequestHead, TraceText};

use crate::request_id::RequestId;

pub use observer::{AccessObserver, ServerResponse};
pub use plan::{LineConstants, Plan};
pub use writer::{AccessLog, Destination, Outputs, Reopener};

/// The facts of one finished request, borrowed from its connection for the moment in which the log copies them.
#[derive(Clone, Copy, Debug)]
pub struct AccessRecord<'a> {
    /// The request; `None` where what came was not one.
    pub head: Option<&'a RequestHead>,
    /// Who sent it.
    pub peer: &'a Peer,
    /// The name of the listener that it came through.
    pub server_name: &'a str,
    /// The port of that, in decimal; empty for a UNIX socket.
    pub server_port: &'a str,
    /// Where the application is mounted that has responded, below the root path; empty for the main one.
    pub mount: &'a str,
    /// When it was answered.
    pub moment: Moment,
    /// Status of the response.
    pub status: u16,
    /// Bytes of the response's body that were sent.
    pub body_bytes: u64,
    /// Its id.
    pub id: &'a RequestId,
    /// The span that stands for it, where traces are sent.
    pub trace: Option<&'a TraceText>,
    /// Where its time went; `None` where nothing was awaited for it.
    pub times: Option<Times>,
    /// Why it ended otherwise than with the application's whole response.
    pub reason: Option<Reason>,
    /// What [`AccessLog::note_response`] has noted of the response's fields.
    pub response_fields: &'a [u8],
}

/// A moment of the clock on the wall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970.
    pub second: u64,
    /// Nanoseconds within that.
    pub nanos: u32,
}

/// The time of a request by its stages, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// From the complete request until a thread took it.
    pub queue: u64,
    /// From then on until the application had given the last of its response.
    pub application: u64,
    /// From then on until it was written.
    pub write: u64,
}

impl Times {
    /// All of it.
    #[inline]
    pub fn whole(&self) -> u64 {
        self.queue + self.application + self.write
    }
}

/// The reason for which an exchange ended otherwise than with the application's whole response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The application ended its response too early, or failed within it.
    Aborted,
    /// An operator has ended it (`portico cancel`).
    Cancelled,
    /// The client left before it had the response.
    ClientGone,
    /// The client was cut, because too much was held for all clients.
    ClientMemory,
    /// The queue was full.
    QueueFull,
    /// It waited in the queue for too long.
    QueueTimeout,
    /// It was malformed or too large.
    Refused,
    /// It did not arrive in time.
    RequestTimeout,
    /// The server stopped before the response was complete.
    ServerStopped,
    /// The application did not answer in time.
    Timeout,
    /// The worker died.
    WorkerDied,
    /// The client took nothing of the response for too long.
    WriteTimeout,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Aborted,
        Self::Cancelled,
        Self::ClientGone,
        Self::ClientMemory,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Refused,
        Self::RequestTimeout,
        Self::ServerStopped,
        Self::Timeout,
        Self::WorkerDied,
        Self::WriteTimeout,
    ];

    /// Whether the server has answered, not the application.
    #[inline]
    pub fn is_servers(self) -> bool {
        match self {
            Self::Cancelled
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::Refused
            | Self::RequestTimeout
            | Self::Timeout
            | Self::WorkerDied => true,
            Self::Aborted
            | Self::ClientGone
            | Self::ClientMemory
            | Self::ServerStopped
            | Self::WriteTimeout => false,
        }
    }

    /// As the log tells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Cancelled => "cancelled",
            Self::ClientGone => "client_gone",
            Self::ClientMemory => "client_memory",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::Refused => "refused",
            Self::RequestTimeout => "request_timeout",
            Self::ServerStopped => "server_stopped",
            Self::Timeout => "timeout",
            Self::WorkerDied => "worker_died",
            Self::WriteTimeout => "write_timeout",
        }
    }
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
    /// Where its time went.
    pub times: Times,
}

/// The status of a request whose client left before there was a response (nginx's number for it).
pub const CLIENT_GONE: u16 = 499;

#[cfg(test)]
mod tests {
    use portico_metrics::{Counter, Metrics};

    use super::*;

    #[test]
    fn each_reason_is_counted_under_its_own_name() {
        let metrics = Metrics::private();
        Reason::ALL.iter().for_each(|reason| metrics.add_ended(reason.name()));
        let ended = Counter::ExchangesEnded;
        for (series, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(ended.metric().series(series), [("reason", reason.name())]);
            assert_eq!(metrics.total_at(ended, series), 1);
        }
        assert_eq!(metrics.total(ended), Reason::ALL.len() as u64, "none counts as another one");
    }
}
