//! Records between two looks of the log's thread, copied small and close together.
//!
//! Nothing of a request outlives it here: keeping the heads themselves alive until they are written would cost a
//! busy server its warm memory.

use portico_proto::Version;

use super::Record;
use crate::application::Peer;

/// Records, and the bytes that they refer to.
#[derive(Debug, Default)]
pub struct Batch {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    dropped: u64,
}

/// What is kept of a record; its texts follow each other in the batch's bytes.
#[derive(Debug)]
struct Entry {
    peer: Peer,
    second: u64,
    version: Option<Version>,
    status: u16,
    body_bytes: u64,
    lengths: [u32; TEXTS],
}

/// One line's worth, to be formatted.
#[derive(Debug)]
pub struct Line<'a> {
    /// Who sent it.
    pub peer: Peer,
    /// When, in seconds since 1970.
    pub second: u64,
    /// `None` where what came was no request.
    pub version: Option<Version>,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of the answer's body that were sent.
    pub body_bytes: u64,
    /// Method, target, Authorization, Referer, User-Agent; `None` where the request has none.
    pub texts: [Option<&'a [u8]>; TEXTS],
}

const TEXTS: usize = 5;
const ABSENT: u32 = u32::MAX;

/// Records and memory that may wait for the writer; beyond either, records are counted and dropped.
const RECORDS_MAX: usize = 65_536;
const BYTES_MAX: usize = 16 * 1024 * 1024;

impl Batch {
    /// Copies what a line needs of `record`.
    pub fn push(&mut self, record: &Record<'_>) {
        if self.entries.len() >= RECORDS_MAX || self.bytes.len() >= BYTES_MAX {
            self.dropped += 1;
            return;
        }
        let field = |name| record.head.and_then(|head| head.field(name));
        let texts = [
            record.head.map(|head| head.method()),
            record.head.map(|head| head.target()),
            field(b"authorization"),
            field(b"referer"),
            field(b"user-agent"),
        ];
        let lengths = texts.map(|text| {
            self.bytes.extend_from_slice(text.unwrap_or_default());
            text.map_or(ABSENT, |text| text.len() as u32)
        });
        self.entries.push(Entry {
            peer: record.peer,
            second: record.second,
            version: record.head.map(|head| head.version),
            status: record.status,
            body_bytes: record.body_bytes,
            lengths,
        });
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.dropped == 0
    }

    /// Records that found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The lines, in order.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let mut rest = self.bytes.as_slice();
        self.entries.iter().map(move |entry| {
            let texts = entry.lengths.map(|length| {
                let (text, after) = rest.split_at_checked(length as usize).filter(|_| length != ABSENT)?;
                rest = after;
                Some(text)
            });
            let Entry { peer, second, version, status, body_bytes, .. } = *entry;
            Line { peer, second, version, status, body_bytes, texts }
        })
    }

    /// Forgets everything and keeps a working set of memory.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.entries.shrink_to(4096);
        self.bytes.clear();
        self.bytes.shrink_to(1024 * 1024);
        self.dropped = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_batch_drops_and_counts() {
        let mut batch = Batch::default();
        let record = Record { head: None, peer: Peer::Unix, second: 0, status: 400, body_bytes: 0 };
        (0..RECORDS_MAX + 3).for_each(|_| batch.push(&record));
        assert_eq!((batch.lines().count(), batch.dropped()), (RECORDS_MAX, 3));
        batch.clear();
        assert!(batch.is_empty());
    }
}
