//! What a session of any protocol tells of its streams, and how a stream's bytes go.

use crate::error::ErrorKind;

/// An event of a session, made from the peer's bytes; each concerns one stream. `S` is what the protocol gives for
/// a stream that has just begun.
#[derive(Debug)]
pub enum StreamEvent<S> {
    /// A new stream, with its number.
    Opened(u32, S),
    /// So many bytes are there of a frame of this stream's body, which is not whole.
    Arriving(u32, u32),
    /// There may be more of this stream's request in its I/O.
    Body(u32),
    /// This stream has been given up: by the peer, or by us for what the peer did to it, by which its request may
    /// be malformed. It may be one that has not been told of.
    Reset(u32, Option<ErrorKind>),
    /// The I/O of this stream that was blocked may have room.
    Room(u32),
}

/// The outcome of reading from a stream's I/O or writing to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoProgress {
    /// This many bytes, at least one.
    Bytes(usize),
    /// Nothing now: the session will tell.
    Blocked,
    /// The peer's body is complete (only of reading).
    Ended,
    /// The stream has been given up, by whichever side, or its session has ended.
    Failed,
}

impl<S> StreamEvent<S> {
    /// The same event with what `change` makes of a new stream.
    pub(crate) fn map<T>(self, change: impl FnOnce(S) -> T) -> StreamEvent<T> {
        match self {
            Self::Opened(number, stream) => StreamEvent::Opened(number, change(stream)),
            Self::Arriving(number, bytes) => StreamEvent::Arriving(number, bytes),
            Self::Body(number) => StreamEvent::Body(number),
            Self::Reset(number, fault) => StreamEvent::Reset(number, fault),
            Self::Room(number) => StreamEvent::Room(number),
        }
    }
}
