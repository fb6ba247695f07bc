//! What is still to be written to one peer: bytes that were copied, blocks of the application's own, and files
//! that the kernel copies.

use std::collections::VecDeque;
use std::fs::File;
use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use portico_net::Progress;
use portico_proto::forget_taken;
use rustix::fs::Advice;
use rustix::io::ReadWriteFlags;

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
    pages: Pages,
    /// Of so many bytes one is asked for.
    probed_every: usize,
}

/// What is known of a file's pages: whether sending them would have a disk be asked.
#[derive(Debug)]
enum Pages {
    /// All before this offset are in memory.
    WarmTo(u64),
    /// The next ones are not.
    Cold,
    /// Somebody brings them into memory.
    Awaited,
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

/// Of so many bytes one is asked for to know whether all are in memory, at first: what the kernel reads ahead at
/// once, and most often drops together. A file that was in memory so far is most likely there as a whole, and is
/// asked for less and less.
const PROBED_EVERY_MIN: usize = 128 * 1024;

/// The kernel brings in so much at once, at least, where it has been told what will be needed.
const FETCHED_EVERY: usize = 16 * 1024;

/// What is brought into memory at once.
const FETCHED_BYTES: u64 = 2 * 1024 * 1024;

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
            let pages = Pages::WarmTo(0);
            let part = OutboxPart {
                source,
                offset,
                left: length,
                after: Vec::new(),
                pages,
                probed_every: PROBED_EVERY_MIN,
            };
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

    /// Whether the file that is to be sent next is not in memory.
    #[inline]
    pub(super) fn is_cold(&self) -> bool {
        match &self.parts {
            None => false,
            Some(parts) => parts.front().is_some_and(|part| !matches!(part.pages, Pages::WarmTo(_))),
        }
    }

    /// The file that is to be brought into memory: from which offset on, and how much of it. Asked for once.
    #[cold]
    pub(super) fn take_cold(&mut self) -> Option<(Arc<File>, u64, u64)> {
        let part = self.parts.as_mut()?.front_mut()?;
        match (&part.pages, &part.source) {
            (Pages::Cold, OutboxSource::File(file)) => {
                part.pages = Pages::Awaited;
                Some((Arc::clone(file), part.offset, part.left.min(FETCHED_BYTES)))
            }
            _ => None,
        }
    }

    /// What is to be sent next is in memory, as far as `offset`, or is to be sent whether it is or not.
    #[cold]
    pub(super) fn set_warm(&mut self, offset: u64) {
        if let Some(part) = self.parts.as_mut().and_then(|parts| parts.front_mut()) {
            part.pages = Pages::WarmTo(offset);
        }
    }

    /// The bringing of pages into memory has found no place: it is to be asked for again.
    #[cold]
    pub(super) fn set_cold(&mut self) {
        if let Some(part) = self.parts.as_mut().and_then(|parts| parts.front_mut()) {
            part.pages = Pages::Cold;
        }
    }

    /// From now on nobody asks whether files are in memory.
    #[cold]
    pub(super) fn trust_pages(&mut self) {
        for part in self.parts.iter_mut().flat_map(|parts| parts.iter_mut()) {
            part.pages = Pages::WarmTo(u64::MAX);
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

/// Whether the byte at `offset` can be read without a disk. One behind the end can: there is none. Where the file
/// system cannot tell, it may have to ask.
fn is_in_memory(file: &File, offset: u64) -> bool {
    let mut byte = [0];
    rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT).is_ok()
}

/// Brings `length` bytes of `file` into memory. May take long.
pub(super) fn fetch(file: &File, offset: u64, length: u64) {
    _ = rustix::fs::fadvise(file, offset, NonZeroU64::new(length), Advice::WillNeed);
    // To read all would copy it: one byte is waited for in each of the kernel's pieces.
    for at in (offset..offset + length).step_by(FETCHED_EVERY).chain([offset + length - 1]) {
        match file.read_at(&mut [0], at) {
            Ok(1) => {}
            // Whoever sends it finds out why there is no more.
            Ok(_) | Err(_) => return,
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

    /// How much of the part can be sent at once without a disk, within one turn. Not asked again where the client
    /// does not take all of that.
    fn warm_bytes(&mut self) -> u64 {
        let count = self.left.min(PART_TURN_BYTES);
        let OutboxSource::File(file) = &self.source else { return count };
        let Pages::WarmTo(end) = self.pages else { return 0 };
        let known = end.saturating_sub(self.offset).min(count);
        if known == count {
            return count;
        }
        let is_cold = |after: &u64| !is_in_memory(file, self.offset + after);
        let warm = (known..count).step_by(self.probed_every).find(is_cold).unwrap_or(count);
        self.probed_every = match warm == count {
            true => (2 * self.probed_every).min(PART_TURN_BYTES as usize),
            false => PROBED_EVERY_MIN,
        };
        self.pages = Pages::WarmTo(end.max(self.offset + warm));
        warm
    }

    /// Sends up to one turn of the part. `Closed` also where a file has become shorter than was announced.
    fn write_to(&mut self, carrier: &mut Carrier) -> (u64, Progress) {
        let mut written = 0;
        while self.left > 0 && written < PART_TURN_BYTES {
            let count = match self.warm_bytes() {
                0 => {
                    if matches!(self.pages, Pages::WarmTo(_)) {
                        self.pages = Pages::Cold;
                    }
                    return (written, Progress::Bytes(0));
                }
                count => count as usize,
            };
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

    use super::super::tests::warm;
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
        let file = warm(file);
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
    fn what_is_not_in_memory_is_not_sent_before_it_is() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut carrier = Carrier::of(Transport::Unix(ours.into()));
        // Not where temporary files may be in memory alone.
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let length = 2 * FETCHED_BYTES;
        file.write_all(&vec![1; length as usize]).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        let mut outbox = Outbox::default();
        outbox.push_file(Arc::new(file), 0, length);
        let (mut fetched, mut written) = (Vec::new(), 0);
        let mut buffer = vec![0; length as usize];
        while !outbox.is_empty() {
            let (count, progress) = outbox.write_to(&mut carrier);
            written += count;
            if outbox.is_cold() {
                assert_eq!(outbox.write_to(&mut carrier), (0, Progress::Bytes(0)));
                let (file, offset, length) = outbox.take_cold().unwrap();
                assert!(outbox.take_cold().is_none() && outbox.is_cold(), "it is awaited");
                assert_eq!(outbox.write_to(&mut carrier), (0, Progress::Bytes(0)));
                assert!(length <= FETCHED_BYTES && offset == written);
                fetch(&file, offset, length);
                outbox.set_warm(offset + length);
                fetched.push(offset);
            } else if progress == Progress::Blocked {
                let _ = theirs.read(&mut buffer).unwrap();
            }
        }
        assert_eq!(written, length);
        assert!(!fetched.is_empty() && fetched.len() <= 4, "{fetched:?}");
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
