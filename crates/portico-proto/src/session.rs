//! A connection that carries several requests at once: matched here and nowhere else.
//!
//! A session is told the peer's bytes and tells what they mean for its streams. Each stream is a [`Protocol`] of
//! its own, whose bytes go through a [`StreamIo`]; what streams write there goes out with [`Session::output`].

use std::fmt;
use std::time::Duration;

use crate::error::Error;
use crate::limits::Limits;
use crate::protocol::Protocol;
use crate::streams::{IoProgress, StreamEvent};
use crate::{fastcgi, http2};

/// State of one connection that carries several requests at once.
#[derive(Debug)]
pub enum Session {
    /// HTTP/2.
    Http2(Box<http2::Session>),
    /// FastCGI, while there are more requests than one, or something else than requests.
    Fastcgi(fastcgi::Session),
}

/// An event of a session of either protocol.
pub type SessionEvent = StreamEvent<NewStream>;

/// A stream that has just begun, for the engine to make a connection of.
#[derive(Debug)]
pub struct NewStream {
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Where its bytes are.
    pub io: StreamIo,
}

/// The bytes of one stream, to and from its session.
#[derive(Debug)]
pub enum StreamIo {
    /// Of HTTP/2: bodies.
    Http2(http2::StreamIo),
    /// Of FastCGI: records.
    Fastcgi(fastcgi::StreamIo),
}

/// A fault of a peer that ends its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolViolation {
    /// In HTTP/2.
    Http2(http2::Http2Violation),
    /// In FastCGI.
    Fastcgi(Error),
}

/// The same expression for whichever session there is.
macro_rules! each {
    ($session:expr, $state:ident => $work:expr) => {
        match $session {
            Session::Http2($state) => $work,
            Session::Fastcgi($state) => $work,
        }
    };
}

impl Session {
    /// Takes in bytes of the peer's. `elapsed` is the time since the last call, `limits` are those on requests.
    ///
    /// # Errors
    /// What the peer has done that ends the session.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        elapsed: Duration,
        limits: &Limits,
    ) -> Result<(), ProtocolViolation> {
        match self {
            Self::Http2(session) => session.receive(bytes, elapsed, limits).map_err(ProtocolViolation::Http2),
            Self::Fastcgi(session) => {
                session.receive(bytes);
                Ok(())
            }
        }
    }

    /// The next event; `None` until more bytes come or go. `limits` are those on requests.
    ///
    /// # Errors
    /// What the peer has done that ends the session.
    pub fn next_event(&mut self, limits: &Limits) -> Result<Option<SessionEvent>, ProtocolViolation> {
        match self {
            Self::Http2(session) => Ok(session.next_event(limits).map(|event| {
                event.map(|stream| {
                    let io = StreamIo::Http2(stream.io().clone());
                    NewStream { protocol: Protocol::Http2(stream), io }
                })
            })),
            Self::Fastcgi(session) => match session.next_event() {
                Ok(event) => Ok(event.map(|event| {
                    event.map(|fastcgi::Stream { connection, io }| NewStream {
                        protocol: Protocol::Fastcgi(connection),
                        io: StreamIo::Fastcgi(io),
                    })
                })),
                Err(error) => Err(ProtocolViolation::Fastcgi(error)),
            },
        }
    }

    /// Appends to `out` what is to be written now. There may be more once that is written.
    pub fn output(&mut self, out: &mut Vec<u8>) {
        each!(self, session => session.output(out));
    }

    /// What the session has ended for, where that was not told before; once.
    pub fn take_fault(&mut self) -> Option<ProtocolViolation> {
        match self {
            Self::Http2(session) => session.take_fault().map(ProtocolViolation::Http2),
            Self::Fastcgi(_) => None,
        }
    }

    /// Whether [`Session::next_event`] is to be asked though nothing has come.
    pub fn has_more(&self) -> bool {
        each!(self, session => session.has_more())
    }

    /// Whether there is nothing more to read or write but what [`Session::output`] gives.
    pub fn is_closed(&self) -> bool {
        each!(self, session => session.is_closed())
    }

    /// Whether bytes of the peer's have a place: not before what it has not taken of ours makes room.
    pub fn wants_bytes(&self) -> bool {
        each!(self, session => session.wants_bytes())
    }

    /// Whether nothing has come yet.
    pub fn is_untouched(&self) -> bool {
        match self {
            Self::Http2(session) => session.is_untouched(),
            Self::Fastcgi(_) => false,
        }
    }

    /// Whether something has begun to come that is not whole and that no stream waits for.
    pub fn is_partial(&self) -> bool {
        each!(self, session => session.is_partial())
    }

    /// Whether it carries nothing, and what comes next could be the first on a new connection.
    pub fn is_at_rest(&self) -> bool {
        match self {
            Self::Http2(_) => false,
            Self::Fastcgi(session) => session.is_at_rest(),
        }
    }

    /// A stream has ended, its request answered to the end or not.
    pub fn forget(&mut self, number: u32, answered: bool) {
        match self {
            Self::Http2(session) => session.forget(number, answered),
            Self::Fastcgi(session) => session.forget(number),
        }
    }

    /// Has the peer begin no more streams. When those that there are have ended, so may the session.
    pub fn shut_down(&mut self) {
        each!(self, session => session.shut_down());
    }

    /// Whether it has been told to [`shut_down`](Session::shut_down).
    pub fn is_leaving(&self) -> bool {
        each!(self, session => session.is_leaving())
    }

    /// Ends the session at once, after a last word.
    pub fn end(&mut self) {
        each!(self, session => session.end());
    }

    /// Ends the session at once because the peer has us hold too much.
    pub fn end_calm(&mut self) {
        match self {
            Self::Http2(session) => session.end_calm(),
            Self::Fastcgi(session) => session.end(),
        }
    }

    /// Memory that it takes beside its streams.
    pub fn memory_bytes(&self) -> usize {
        each!(self, session => session.memory_bytes())
    }

    /// Gives the memory of empty buffers back.
    pub fn release(&mut self) {
        each!(self, session => session.release());
    }
}

impl StreamIo {
    /// Reads into `buffer` what is there of what the peer has sent on the stream.
    pub fn read(&self, buffer: &mut [u8]) -> IoProgress {
        match self {
            Self::Http2(io) => io.read(buffer),
            Self::Fastcgi(io) => io.read(buffer),
        }
    }

    /// Writes what there is room for of `bytes`.
    pub fn write(&self, bytes: &[u8]) -> IoProgress {
        match self {
            Self::Http2(io) => io.write(bytes),
            Self::Fastcgi(io) => io.write(bytes),
        }
    }

    /// How many of `count` bytes [`StreamIo::write`] would take now; 0 is for [`IoProgress::Blocked`].
    pub fn room(&self, count: usize) -> usize {
        match self {
            Self::Http2(io) => io.room(count),
            Self::Fastcgi(io) => io.room(count),
        }
    }

    /// Bytes that all streams of the session have written: what its peer has taken, as far as that can be told
    /// here.
    pub fn session_bytes(&self) -> u64 {
        match self {
            Self::Http2(io) => io.session_bytes(),
            Self::Fastcgi(io) => io.session_bytes(),
        }
    }

    /// Whether its session has all that was written among what is to be written next, so that [`StreamIo::cut`]
    /// takes nothing of it away; otherwise it will tell of room.
    pub fn is_written(&self) -> bool {
        match self {
            Self::Http2(io) => io.is_written(),
            Self::Fastcgi(_) => true,
        }
    }

    /// Bytes that have come on the stream and not been read.
    pub fn unread_bytes(&self) -> usize {
        match self {
            Self::Http2(io) => io.unread_bytes(),
            Self::Fastcgi(io) => io.unread_bytes(),
        }
    }

    /// Gives the stream up: the peer sees that its response is not complete.
    pub fn cut(&self) {
        match self {
            Self::Http2(io) => io.cut(),
            // Its session sees that it ends without END_REQUEST.
            Self::Fastcgi(_) => {}
        }
    }

    /// Whether the stream has been given up, or its session has ended.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Http2(io) => io.is_gone(),
            Self::Fastcgi(io) => io.is_gone(),
        }
    }
}

impl fmt::Display for ProtocolViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http2(violation) => violation.fmt(f),
            Self::Fastcgi(error) => error.fmt(f),
        }
    }
}
