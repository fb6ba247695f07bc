//! What is told of requests and of the server: the access log, the outputs of both logs, syslog, statsd, the ids
//! of requests, and how what happens often is told without filling a log.
//!
//! Nobody who logs waits for a reader. What is told is decided above: by `portico-server` of requests, by whoever
//! has the error log of everything else.
#![deny(unreachable_pub)]

mod access_log;
mod log_output;
mod log_sink;
mod occurrences;
mod random_blocks;
mod record_queue;
mod request_id;
mod statsd;
mod syslog;

pub use access_log::{
    AccessLog, AccessObserver, AccessRecord, CLIENT_GONE, Destination, LineConstants, LostRequest, Moment,
    Outputs, Plan, Reason, Reopener, ServerResponse, Times,
};
pub use log_output::LogOutput;
pub use log_sink::LogSink;
pub use occurrences::{Occurrences, Ration};
pub use random_blocks::RandomBlocks;
pub use record_queue::Weight;
pub use request_id::{FIELD as REQUEST_ID_FIELD, RequestId, RequestIds};
pub use statsd::Statsd;
pub use syslog::{Severity, Syslog};
