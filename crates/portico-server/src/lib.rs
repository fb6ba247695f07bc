//! The data plane: reactor, listeners, connections, deadlines, access log, and the lent event loop.
//!
//! Knows no Python. Its seam to the layer above is one trait, [`Application`].

mod access_log;
mod application;
mod body;
mod connection;
mod engine;
mod forwarded;
mod handover;
mod heap;
mod lending;
mod occurrences;
mod queue;
mod request_id;
mod spool;
mod statsd;
mod syslog;

pub use access_log::{
    AccessLog, AccessObserver, Destination, LineConstants, LostRequest, Outputs, Plan, Reopener,
    ServerResponse, Times,
};
pub use application::{Application, Request};
pub use body::{Body, BodyError};
pub use connection::{Counters, RequestKey};
pub use forwarded::{Forwarded, Scheme};
pub use handover::{Handover, Load, Sharing, Siblings};
pub use lending::{Gone, Lending, Responder};
pub use occurrences::{Occurrences, Ration};
pub use request_id::RequestId;
pub use statsd::Statsd;
pub use syslog::{Severity, Syslog};
