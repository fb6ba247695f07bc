//! The body of a request, as the application reads it.

use std::fmt;

/// A request's body: buffered in memory, spooled to an unlinked file, or still arriving.
pub struct Body {
    len: Option<u64>,
}

/// Why the body ends before its end.
#[derive(Debug)]
pub enum BodyError {
    /// The peer left, was too slow, or broke the framing before the body was complete.
    Disconnected,
    /// The spool file could not be read.
    Io(std::io::Error),
}

impl Body {
    /// Length in bytes; `None` while a streamed chunked body is still arriving.
    pub fn len(&self) -> Option<u64> {
        self.len
    }

    /// Whether there is certainly nothing to read.
    pub fn is_empty(&self) -> bool {
        self.len == Some(0)
    }

    /// Bytes not yet read, if the whole body is at hand in memory: no copy, no wait. The gateway consumes with
    /// [`Body::consume`]. `None` for spooled and streamed bodies.
    pub fn in_memory(&self) -> Option<&[u8]> {
        todo!()
    }

    /// Marks `count` bytes of [`Body::in_memory`] as read.
    pub fn consume(&mut self, count: usize) {
        todo!("{count}")
    }

    /// Reads at least one byte into `buffer` and returns how many; 0 at the end of a complete body only (or if
    /// `buffer` is empty). May block (spool file, streamed body): call it through
    /// [`Application::blocking`](crate::Application::blocking) or with the interpreter let go.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, BodyError> {
        todo!("{}", buffer.len())
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("the client disconnected before the request body was complete"),
            Self::Io(error) => write!(f, "the spooled request body cannot be read: {error}"),
        }
    }
}

impl std::error::Error for BodyError {}
