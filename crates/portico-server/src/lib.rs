//! The data plane: reactor, listeners, connections, deadlines, access log, and the lent event loop.
//!
//! Knows no Python. Its seam to the layer above is one trait, [`Application`].

mod application;
mod body;
mod responder;

pub use application::{Application, Peer, Request, Server};
pub use body::{Body, BodyError};
pub use responder::{Gone, Responder};
