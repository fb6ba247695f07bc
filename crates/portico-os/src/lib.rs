//! Descriptors, folders and shared memory, as every process of Portico handles them: what the application in a
//! worker can do to one must not reach the other processes, nor the clients.
#![deny(unreachable_pub)]

mod folder;
mod memory;
mod standard;
mod vital;

pub use folder::{Entered, Folder};
pub use memory::{is_sealed, sealed_memory};
pub use standard::{above_standard, fill_standard};
pub use vital::VitalDescriptors;
