//! Descriptors, folders, shared memory and the outputs of logs, as every process of Portico handles them: what the
//! application in a worker, or the reader of a log, can do to one must not reach the other processes, nor the
//! clients.
#![deny(unreachable_pub)]

mod folder;
mod log_output;
mod log_sink;
mod memory;
mod record_queue;
mod standard;
mod vital;

pub use folder::{Entered, Folder};
pub use log_output::LogOutput;
pub use log_sink::LogSink;
pub use memory::{is_sealed, sealed_memory};
pub use record_queue::Weight;
pub use standard::{above_standard, fill_standard};
pub use vital::VitalDescriptors;
