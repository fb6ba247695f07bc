//! What a front server does, as decisions: which route a request gets and what follows from it.
//!
//! Pure values and functions. Nothing here opens a file or a socket, sees a clock or knows Python; whoever calls
//! passes in what was read, the time, and whether a file is there. portico-server calls it at a request's head,
//! before body, queue and thread; what a decision asks for is performed there.
#![forbid(unsafe_code)]
#![deny(unreachable_pub)]

pub mod access;
mod application_files;
mod bypassed;
pub mod compression;
mod decision;
mod error_pages;
mod explain;
pub mod files;
mod flat;
mod headers;
pub mod host;
pub mod limit;
pub mod path;
mod pattern;
mod redirect;
mod router;
mod trie;

pub use application_files::{ApplicationFolder, with_folder};
pub use bypassed::bypassed_guards;
pub use decision::{Refusal, RouteAction};
pub use explain::{explain, never_taken};
pub use flat::{FlatAuth, FlatLimit, FlatRoute, MountedApplication};
pub use headers::HeaderPlan;
pub use router::{EdgeRouter, RouteRequest};
