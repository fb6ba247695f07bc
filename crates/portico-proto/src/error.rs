//! What a peer can do wrong, and which status it is told.

use std::fmt;

/// A message that cannot be served. The connection is closed after the answer: its framing is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// What was wrong.
    pub kind: ErrorKind,
    /// The status to answer.
    pub status: u16,
}

/// Reasons; alphabetical. (To be completed by the parser.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The head is longer than `head_bytes_max`.
    HeadTooLarge,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl std::error::Error for Error {}
