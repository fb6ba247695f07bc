//! Why a worker does not come to serve, as far as no Python is concerned.

use std::{fmt, io};

/// The system refuses something that a worker cannot do without: a log file, a folder, a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemError(String);

impl SystemError {
    /// `doing`, as in `opening the error log`, has failed.
    pub fn new(doing: &str, error: &io::Error) -> Self {
        Self(format!("{doing} failed: {error}"))
    }
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SystemError {}

/// A request of `--warmup` was not answered well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmUpError(pub(crate) String);

impl fmt::Display for WarmUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WarmUpError {}
