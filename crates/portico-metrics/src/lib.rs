//! The registry of metrics: one table in which each metric stands once, the cells that hold their values, and the
//! texts that are made of both.
//!
//! Whoever counts names a row and a number; it knows nothing of who reads. Whoever reads, `portico status`,
//! `portico metrics` and statsd, goes through the table and knows none of the rows by name.
//!
//! The memory is not this crate's: it is given a slice of words, which for a server is a part of the scoreboard.
#![deny(unreachable_pub)]
#![forbid(unsafe_code)]

mod application;
mod buckets;
mod cells;
mod ended_requests;
mod labels;
mod metric;
mod openmetrics;
mod reading;
mod record_ring;
mod reference;
mod route_durations;
mod table;

pub use application::{ApplicationEntry, ApplicationMetrics, is_name_of_server};
pub use buckets::{Buckets, bucket_bounds_nanos, octave_counts, quantile_nanos};
pub use cells::{CountedExchange, GAUGE_WORDS, METRIC_WORDS, Metrics};
pub use ended_requests::{ENDED_WORDS, EndedExchange, EndedRequests};
pub use labels::{
    DeathReason, Handshake, LogSeverity, Method, ProtocolVersion, ReloadResult, RequestProtocol, StartReason,
    ThreadUse,
};
pub use metric::{Metric, StatsdForm, StatsdName};
pub use openmetrics::TextFormat;
pub use reading::{Number, Reading, SlotReading};
pub use record_ring::{RecordRing, RingRecord};
pub use reference::reference;
pub use route_durations::{RouteDurations, SERIES_WORDS, route_text};
pub use table::{Counter, Gauge, Histogram, LAYOUT, Observed};
