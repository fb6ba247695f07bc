//! What is still to be written to one peer: bytes that were copied, blocks of the application's own, and files
//! that the kernel copies.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use portico_net::Progress;
use portico_proto::forget_taken;

use super::ResponseSpool;
use super::carrier::Carrier;

/// Queue of bytes, blocks and files in the order in which they go out.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Bytes before the first part; `sent` of them are gone.
    bytes: Vec<u8>,
    sent: usize,
    /// Parts, each with the bytes that follow it. Most connections never have one.
    #[expect(clippy::box_collection, reason = "24 bytes less for each of 10,000 idle connections")]
    parts: Option<Box<VecDeque<OutboxPart>>>,
}

#[derive(Debug)]
struct OutboxPart {
    source: OutboxSource,
    offset: u64,
    left: u64,
    after: Vec<u8>,
}

/// Where a part's bytes are.
#[derive(Debug)]
enum OutboxSource {
    /// In a file of the application's.
    File(Arc<File>),
    /// In memory of the application's, of which so much is kept by it.
    Shared(Bytes, usize),
    /// In the response's spool file.
    Spool(Arc<ResponseSpool>),
}

/// Most that one peer is sent of parts before others get their turn.
const PART_TURN_BYTES: u64 = 512 * 1024;

/// What is left of a block of the application's is copied when it is no more than this.
const REST_BYTES_MAX: usize = 64 * 1024;

/// Capacity that an empty outbox keeps between two blocks of one response.
const KEPT_CAPACITY: usize = 16 * 1024;

impl Outbox {
    /// Whether everything has been written.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len() && self.parts.is_none()
    }

    /// Whether it takes no memory.
    #[inline]
    pub(super) fn is_unused(&self) -> bool {
        self.bytes.capacity() == 0 && self.parts.is_none()
    }

    /// Bytes that wait in memory as copies.
    pub(super) fn buffered(&self) -> usize {
        let after: usize = self.parts().map(|part| part.after.len()).sum();
        self.bytes.len() - self.sent + after
    }

    /// All bytes that wait.
    pub(super) fn unsent_bytes(&self) -> u64 {
        self.buffered() as u64 + self.parts().map(|part| part.left).sum::<u64>()
    }

    /// Memory that it takes, blocks of the application's included.
    #[inline]
    pub(super) fn memory_bytes(&self) -> usize {
        if self.parts.is_none() { self.bytes.capacity() } else { self.memory_bytes_of_parts() }
    }

    #[cold]
    fn memory_bytes_of_parts(&self) -> usize {
        let parts = self.parts().map(|part| {
            let shared = if let OutboxSource::Shared(_, held) = part.source { held } else { 0 };
            size_of::<OutboxPart>() + part.after.capacity() + shared
        });
        self.bytes.capacity() + parts.sum::<usize>()
    }

    fn parts(&self) -> impl Iterator<Item = &OutboxPart> {
        self.parts.iter().flat_map(|parts| parts.iter())
    }

    /// The buffer to append bytes to.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        match self.parts.as_mut().and_then(|parts| parts.back_mut()) {
            Some(part) => &mut part.after,
            None => &mut self.bytes,
        }
    }

    /// Appends `length` bytes of `file` from `offset` on.
    pub(super) fn push_file(&mut self, file: Arc<File>, offset: u64, length: u64) {
        self.push(OutboxSource::File(file), offset, length);
    }

    /// Appends `length` bytes of `spool` from `offset` on.
    pub(super) fn push_spooled(&mut self, spool: Arc<ResponseSpool>, offset: u64, length: u64) {
        self.push(OutboxSource::Spool(spool), offset, length);
    }

    /// Appends `block`, which is kept and not copied; it keeps `held` bytes of the application's memory.
    pub(super) fn push_shared(&mut self, block: Bytes, held: usize) {
        let length = block.len() as u64;
        self.push(OutboxSource::Shared(block, held), 0, length);
    }

    fn push(&mut self, source: OutboxSource, offset: u64, length: u64) {
        if length > 0 {
            let part = OutboxPart { source, offset, left: length, after: Vec::new() };
            self.parts.get_or_insert_default().push_back(part);
        }
    }

    /// Writes what the peer takes. `Bytes(n)`: n bytes went out and either all is written or a part has had its
    /// turn ([`Outbox::is_empty`] tells); `Blocked`: wait until there is room; `Closed`: give up.
    pub(super) fn write_to(&mut self, carrier: &mut Carrier) -> (u64, Progress) {
        let mut written = 0u64;
        loop {
            while self.sent < self.bytes.len() {
                match carrier.write(&self.bytes[self.sent..]) {
                    Progress::Bytes(count) => {
                        self.sent += count;
                        written += count as u64;
                    }
                    stopped => {
                        forget_taken(&mut self.bytes, &mut self.sent);
                        return (written, stopped);
                    }
                }
            }
            self.sent = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_CAPACITY);
            let Some(parts) = &mut self.parts else {
                return (written, carrier.settle());
            };
            let Some(part) = parts.front_mut() else {
                self.parts = None;
                continue;
            };
            let (count, progress) = part.write_to(carrier);
            written += count;
            part.let_go_of_rest();
            if !matches!(progress, Progress::Bytes(_)) {
                return (written, progress);
            }
            if part.left > 0 {
                return (written, Progress::Bytes(0));
            }
            self.bytes = std::mem::take(&mut part.after);
            parts.pop_front();
            if parts.is_empty() {
                self.parts = None;
            }
            // A file may come in many parts.
            if written >= PART_TURN_BYTES {
                return (written, Progress::Bytes(0));
            }
        }
    }

    /// Whether the file that is to be sent next has no more of what is to be sent: it has become shorter.
    #[cold]
    pub(super) fn has_short_file(&self) -> bool {
        let Some(OutboxPart { source: OutboxSource::File(file), offset, .. }) = self.parts().next() else {
            return false;
        };
        self.sent == self.bytes.len() && file.metadata().is_ok_and(|metadata| metadata.len() <= *offset)
    }

    /// Drops all that waits.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Gives the memory of an empty outbox back.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
            self.sent = 0;
        }
    }
}

impl OutboxPart {
    /// Copies a small rest of a block of the application's: it would keep all of that.
    fn let_go_of_rest(&mut self) {
        if let OutboxSource::Shared(block, held) = &mut self.source
            && *held > REST_BYTES_MAX
            && self.left <= REST_BYTES_MAX as u64
        {
            let rest = block.slice(self.offset as usize..self.offset as usize + self.left as usize);
            (*block, *held, self.offset) = (Bytes::copy_from_slice(&rest), rest.len(), 0);
        }
    }

    /// Sends up to one turn of the part. `Closed` also where a file has become shorter than was announced.
    fn write_to(&mut self, carrier: &mut Carrier) -> (u64, Progress) {
        let mut written = 0;
        while self.left > 0 && written < PART_TURN_BYTES {
            let count = self.left.min(PART_TURN_BYTES) as usize;
            let progress = match &self.source {
                OutboxSource::File(file) => carrier.send_file(file, self.offset, count),
                OutboxSource::Spool(spool) => carrier.send_file(spool.file(), self.offset, count),
                OutboxSource::Shared(block, _) => carrier.write(&block[self.offset as usize..][..count]),
            };
            match progress {
                Progress::Bytes(count) => {
                    self.offset += count as u64;
                    self.left -= count as u64;
                    written += count as u64;
                }
                stopped => return (written, stopped),
            }
        }
        (written, Progress::Bytes(0))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use portico_net::Transport;

    use super::*;

    #[test]
    fn bytes_blocks_and_files_go_out_in_order() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut carrier = Carrier::of(Transport::Unix(ours.into()));
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..2_000_000u32).map(|i| i as u8).collect();
        file.write_all(&content).unwrap();

        let mut outbox = Outbox::default();
        outbox.buffer().extend_from_slice(b"head");
        let file = Arc::new(file);
        outbox.push_file(Arc::clone(&file), 1, 1_999_990);
        outbox.buffer().extend_from_slice(b"between");
        outbox.push_file(file, 0, 3);
        outbox.buffer().extend_from_slice(b"tail");
        outbox.push_shared(Bytes::copy_from_slice(&content[..300_000]), 300_000);
        assert_eq!(outbox.buffered(), 4 + 7 + 4);
        assert!(outbox.memory_bytes() > 300_000);

        let (mut received, mut written, mut blocked) = (Vec::new(), 0, false);
        while !outbox.is_empty() {
            let (count, progress) = outbox.write_to(&mut carrier);
            written += count;
            blocked |= progress == Progress::Blocked;
            let _ = theirs.read_to_end(&mut received);
        }
        let _ = theirs.read_to_end(&mut received);
        let expected =
            [b"head", &content[1..1_999_991], b"between", &content[..3], b"tail", &content[..300_000]]
                .concat();
        assert!(blocked && received == expected);
        assert_eq!(written, expected.len() as u64);
    }

    #[test]
    fn a_client_that_always_lags_behind_keeps_nothing_that_it_has_got() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut carrier = Carrier::of(Transport::Unix(ours.into()));
        let (mut outbox, mut taken) = (Outbox::default(), vec![0; 100_000]);
        outbox.buffer().extend_from_slice(&[1; 600_000]);
        for _ in 0..200 {
            let (_, progress) = outbox.write_to(&mut carrier);
            assert_eq!(progress, Progress::Blocked, "there is always more than it takes");
            theirs.read_exact(&mut taken).unwrap();
            let waiting = outbox.buffered();
            outbox.buffer().extend_from_slice(&taken);
            assert_eq!(outbox.buffered(), waiting + taken.len());
            assert!(outbox.memory_bytes() <= 4 * 700_000, "{} bytes are kept", outbox.memory_bytes());
        }
    }

    #[test]
    fn a_file_that_shrank_ends_the_connection_and_not_the_loop() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut outbox = Outbox::default();
        outbox.push_file(Arc::new(tempfile::tempfile().unwrap()), 0, 10);
        assert_eq!(outbox.write_to(&mut Carrier::of(Transport::Unix(ours.into()))).1, Progress::Closed);
        assert!(outbox.has_short_file());
        outbox.clear();
        assert!(outbox.is_empty() && !outbox.has_short_file());
    }
}
