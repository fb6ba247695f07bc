//! The memory that is held for one connection.

use super::Connection;

impl Connection {
    /// Bytes, as far as its client has a say in them; those of a session without its streams.
    #[inline]
    pub fn memory_bytes(&self) -> usize {
        let head = self.head.as_ref().map_or(0, |head| head.memory_bytes());
        let body = self.body.as_ref().map_or(0, |body| body.memory_bytes());
        let buffers = self.inbox.capacity() + self.outbox.memory_bytes() + self.answer_fields.capacity();
        let transport = self.transport.memory_bytes();
        let rest = if self.upload.is_some() || self.is_session() { self.memory_bytes_of_rest() } else { 0 };
        size_of::<Self>() + head + body + buffers + transport + rest
    }

    /// Of what most connections do not have.
    #[inline(never)]
    fn memory_bytes_of_rest(&self) -> usize {
        let upload = if self.upload.is_some() { self.upload_memory_bytes() } else { 0 };
        upload + self.session_memory_bytes()
    }
}
