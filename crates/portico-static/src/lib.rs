//! Files that are served to clients.
//!
//! A file is opened beneath a folder that is held open (`folder.rs`); everything that is told of it comes from
//! its descriptor, never from a second look at its path. [`FileSite`] finds and reads what a route serves,
//! [`FileCache`] keeps it as finished responses. What a response says of a file is decided in portico-edge.
//! Nothing here knows connections; what may wait for a disk says so ([`Patience`]).
#![forbid(unsafe_code)]
#![deny(unreachable_pub)]

mod cache;
mod compression;
mod folder;
mod served_file;
mod site;
mod stored_file;

pub use cache::{FileCache, KeptFile};
pub use folder::Patience;
pub use site::{FileSite, Found, Reopened};
pub use stored_file::{FileVariant, StoredFile};
