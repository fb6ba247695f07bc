//! Descriptors, folders, shared memory and the outputs of logs, as every process of Portico handles them: what the
//! application in a worker, or the reader of a log, can do to one must not reach the other processes, nor the
//! clients.

mod backlog;
mod folder;
mod log_output;
mod memory;
mod sink;
mod standard;
mod vital;

pub use backlog::Weight;
pub use folder::{Entered, Folder};
pub use log_output::{LOG_BACKLOG_BYTES_MAX, LogOutput};
pub use memory::{is_sealed, sealed_memory};
pub use sink::Sink;
pub use standard::{above_standard, fill_standard};
pub use vital::VitalDescriptors;
