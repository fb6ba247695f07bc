//! The live page: what a browser shows of a running server, and what it may do to it.
//!
//! Serves one page (`page.html`), the state that it shows each second, and a few actions, with the project's own
//! engine and an `Application` in Rust. Reaches the server by [`ShownServer`] alone: it knows neither the
//! scoreboard nor a process. `access.rs` decides who may ask, `routes.rs` what is asked, `application.rs` answers,
//! `serving.rs` has the engine and its threads.
#![deny(unreachable_pub)]
#![forbid(unsafe_code)]

mod access;
mod application;
mod page;
mod routes;
mod secret;
mod serving;
mod shown_server;
#[cfg(test)]
mod testing;

pub use serving::PageServer;
pub use shown_server::{Done, GroupedStacks, PageAction, ShownServer};
