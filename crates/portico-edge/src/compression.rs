//! Compression of responses as they are made: which are compressed, with which coding, and the encoders.
//!
//! Files that are compressed beforehand are the matter of `files`; what a client takes, both read the same way.

mod encoder;
mod rules;

pub use encoder::{EncodeError, Encoder, Flush};
pub use rules::{Compressible, PADDING_MAX, ResponseFacts, is_compressible_type, weak_tag};
