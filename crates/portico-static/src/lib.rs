//! Files that are served to clients.
//!
//! A file is opened beneath a folder that is held open ([`ServedFolder`]); everything that is told of it comes from
//! its descriptor, never from a second look at its path. What a response says of a file is decided in portico-edge.
#![forbid(unsafe_code)]
#![deny(unreachable_pub)]

mod folder;
mod served_file;

pub use folder::{Links, OpenFault, Patience, ServedFolder};
pub use served_file::{FileFacts, ServedFile};
