//! What a protocol reports ([`Event`]) and what it is told to send ([`Part`]).

use crate::added::AddedFields;
use crate::message::{Fields, RequestHead, ResponseHead};

/// A part of a request, as a protocol yields it to the layers above. It borrows from the bytes that were read.
#[derive(Debug)]
pub enum Event<'b> {
    /// A whole request head. `Body`s (if its framing has any) and `End` follow.
    Head(Box<RequestHead>),
    /// The next bytes of the request's body, without transfer coding; never empty.
    Body(&'b [u8]),
    /// The request is complete (its trailers, if any, are checked and dropped).
    End,
}

/// A part of a response, as the layers above pass it to a protocol. It borrows all that it sends.
#[derive(Clone, Copy, Debug)]
pub enum Part<'b> {
    /// `100 Continue`; sent once per request at most, and only to a peer that expects it.
    Continue,
    /// `103 Early Hints` with these fields; nothing for peers that cannot take interim responses.
    EarlyHints(&'b Fields),
    /// The response's head.
    Head {
        /// Status and fields.
        head: &'b ResponseHead,
        /// Whether the connection is to be closed after this response whatever the peer wishes.
        close: bool,
        /// Fields that go with those of the head.
        added: &'b AddedFields,
    },
    /// The next bytes of the response's body; dropped where the response has no body (HEAD, 204, 304). Empty
    /// blocks send nothing.
    Body(&'b [u8]),
    /// The response is complete.
    End,
}
