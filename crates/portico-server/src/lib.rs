//! The data plane: reactor, listeners, connections, deadlines, access log, and the lent event loop.
//!
//! Knows no Python. Its seam to the layer above is one trait, [`Application`].

mod application;
mod body;
mod connection;
mod engine;
mod forwarded;
mod handover;
mod heap;
mod lending;
mod queue;
mod spool;

pub use application::{Application, Request};
pub use body::{Body, BodyError};
pub use connection::{Counters, RequestKey};
pub use forwarded::{Forwarded, Scheme};
pub use handover::{Handover, Load, Sharing, Siblings};
pub use lending::{Gone, Lending, Responder};
