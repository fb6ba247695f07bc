//! The data plane: connections, their deadlines, the queue, the engine that drives them, and the threads that lend
//! it to each other.
//!
//! Knows no Python. Its seam to the layer above is one trait, [`Application`].
#![deny(unreachable_pub)]

mod blocking_work;
mod body;
mod client;
mod connection;
mod engine;
mod forwarded;
mod handover;
mod health;
mod heap;
mod lending;
mod limits;
mod queue;
mod request_start;
mod spool;

pub use body::{Body, BodyError};
pub use client::RequestContext;
pub use connection::{Recording, Reply, RequestKey, Routes, error_summary};
pub use forwarded::{Forwarded, Scheme};
pub use handover::{Handover, Load, Sharing, Siblings};
pub use health::{Health, HealthCheck, HealthProbe, HealthSource};
pub use lending::{Application, Gone, InterpreterWait, Lending, Request, Responder};
pub use limits::{LimitMemory, SharedLimits};
