//! What of one response waits for a slow client in a file.
//!
//! Written by the application's thread, so that no disk keeps the thread that drives waiting for a write; sent
//! from by the engine, which frames the bytes as it sends them: however small the application's blocks were,
//! what waits takes no memory.

use std::fs::File;
use std::sync::Arc;

use portico_lending::Watermark;

use crate::spool::{SpoolError, SpoolFile, Spools};

/// The file of one response, and how far it has been written and taken.
#[derive(Debug)]
pub(crate) struct ResponseSpool {
    file: SpoolFile,
    bytes_max: u64,
    mark: Watermark,
}

impl ResponseSpool {
    /// An empty one that takes `bytes_max` bytes (`--response-spool`), and has room for the `announced` ones: what
    /// cannot be stored as a whole is not to be begun, for it holds its thread all the same.
    ///
    /// # Errors
    /// No file is to be had.
    pub(crate) fn new(spools: &Arc<Spools>, bytes_max: u64, announced: u64) -> Result<Self, SpoolError> {
        if bytes_max == 0 {
            return Err(SpoolError::Total);
        }
        Ok(Self { file: spools.create(announced.min(bytes_max))?, bytes_max, mark: Watermark::new() })
    }

    /// Appends `block`; whether the engine is to be told.
    ///
    /// # Errors
    /// There is no room for it.
    pub(crate) fn append(&self, block: &[u8]) -> Result<bool, SpoolError> {
        let (written, count) = (self.mark.written(), block.len() as u64);
        if written + count > self.bytes_max {
            return Err(SpoolError::Total);
        }
        self.file.write_at(block, written)?;
        Ok(self.mark.advance(count))
    }

    /// What the engine may take, as in [`Watermark::available`].
    pub(crate) fn available(&self, max: u64) -> Option<(u64, u64)> {
        self.mark.available(max)
    }

    /// The engine has taken `count` bytes.
    pub(crate) fn take(&self, count: u64) {
        self.mark.take(count);
    }

    /// Whether the engine has taken all that was written.
    pub(crate) fn is_drained(&self) -> bool {
        self.mark.is_drained()
    }

    /// Bytes that the engine has not taken.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.mark.waiting()
    }

    /// Whether it has been used, and the engine has taken all of it.
    pub(crate) fn is_done(&self) -> bool {
        self.mark.written() > 0 && self.mark.is_drained()
    }

    /// The file to send from.
    pub(crate) fn file(&self) -> &File {
        self.file.file()
    }
}
