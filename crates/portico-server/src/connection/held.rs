//! The memory that is held for one connection.

use super::exchange::RequestExchange;
use super::{Connection, Phase};
use crate::body::Body;

/// Heads up to this size are usual, and not counted one by one.
const SMALL_HEAD_BYTES: usize = 2048;

/// Bytes of a response that stay in memory however scarce that is.
const SMALL_RESPONSE_BYTES: usize = 16 * 1024;

/// What a connection counts for that has no more than such a head.
const SMALL_BYTES: usize = 1024;

impl RequestExchange {
    /// Whether it holds no more than a small head.
    #[inline]
    fn is_small(&self) -> bool {
        self.upload.is_none() && self.body.is_none() && self.head_bytes as usize <= SMALL_HEAD_BYTES
    }
}

impl Connection {
    /// Bytes, as far as its client has a say in them; those of a session without its streams. While nothing of
    /// much size is held it is always the same number, which takes no time to find.
    #[inline]
    pub(crate) fn memory_bytes(&self) -> usize {
        let buffers = self.io.inbox.capacity() | self.io.outbox.memory_bytes();
        let is_small =
            self.carrier.is_plain() && self.exchange.as_ref().is_none_or(|exchange| exchange.is_small());
        if buffers == 0 && is_small { SMALL_BYTES } else { self.memory_bytes_in_detail() }
    }

    /// Temporary files that are kept for it.
    pub(crate) fn files(&self) -> u8 {
        let of_body = self.upload_has_file()
            || self
                .exchange
                .as_ref()
                .is_some_and(|exchange| exchange.body.as_ref().is_some_and(Body::has_file));
        u8::from(of_body) + u8::from(self.has_spooled())
    }

    /// Bytes that it holds of a response. They go to files when memory is scarce, but for the first of them.
    pub(crate) fn response_bytes(&self) -> usize {
        self.io.outbox.memory_bytes().saturating_sub(SMALL_RESPONSE_BYTES)
    }

    /// Whether its application makes a response that the client takes as it comes: what is held for it stays the
    /// same, and the request's body is held by the call.
    #[inline]
    pub(crate) fn holds_the_same(&self) -> bool {
        self.phase == Phase::Calling && self.backlog().is_none() && self.io.outbox.is_unused()
    }

    #[inline(never)]
    fn memory_bytes_in_detail(&self) -> usize {
        let exchange = self.exchange.as_ref();
        let head = exchange.map_or(0, |exchange| exchange.head_bytes as usize);
        let body = exchange.and_then(|exchange| exchange.body.as_ref()).map_or(0, Body::memory_bytes);
        let buffers = self.io.inbox.capacity() + self.io.outbox.memory_bytes();
        let upload = if self.has_upload() { self.upload_memory_bytes() } else { 0 };
        SMALL_BYTES + head + body + buffers + upload + self.carrier.memory_bytes()
    }
}
