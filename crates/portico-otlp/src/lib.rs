//! Traces: a span for each request, sent to a collector by OTLP over HTTP.
//!
//! The engine begins a span when a request gets its response and gives it away at the end, encoded, into a
//! bounded queue. A thread of this crate's own sends what is in it. Neither waits for the other: what the
//! collector does not take in time is dropped and counted.
//!
//! The crate opentelemetry-otlp brings 93 crates with it, an asynchronous runtime among them; the protocol needs
//! three wire types of protobuf and one kind of request of HTTP/1.1.
#![forbid(unsafe_code)]
#![deny(unreachable_pub)]

mod collector;
mod export;
mod http;
mod ids;
mod protobuf;
mod queue;
mod retry;
mod sampling;
mod sender;
mod span;
mod tracer;
mod trust;

pub use span::{ServerSpan, SpanContext, SpanEvent, SpanTimes};
pub use tracer::Tracer;
