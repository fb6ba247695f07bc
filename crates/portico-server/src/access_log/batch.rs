//! Records between two looks of the log's thread, copied small and close together.
//!
//! Nothing of a request outlives it here: keeping the heads themselves alive until they are written would cost a
//! busy server its warm memory.

use std::net::SocketAddr;

use portico_proto::Version;

use super::plan::Plan;
use super::{LostRequest, Moment, Reason, Record, Times};
use crate::application::Peer;

/// Records, and the bytes that they refer to.
#[derive(Debug, Default)]
pub struct Batch {
    entries: Vec<Entry>,
    /// For each entry where each of its texts ends in `bytes`, with [`ABSENT`] added where there is none.
    ends: Vec<u32>,
    bytes: Vec<u8>,
    dropped: u64,
}

/// What is kept of a record, but for its texts.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Who sent it.
    pub peer: Peer,
    /// When it was answered.
    pub moment: Moment,
    /// `None` where what came was no request.
    pub version: Option<Version>,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of the answer's body that were sent.
    pub body_bytes: u64,
    /// Where its time went.
    pub times: Option<Times>,
    /// Why it ended otherwise than with the application's whole answer.
    pub reason: Option<Reason>,
}

/// One line's worth, to be formatted.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// What is no text.
    pub entry: &'a Entry,
    ends: &'a [u32],
    start: usize,
    bytes: &'a [u8],
}

const ABSENT: u32 = 1 << 31;

/// Records and memory that may wait for the writer; beyond either, records are counted and dropped.
const RECORDS_MAX: usize = 65_536;
const BYTES_MAX: usize = 16 * 1024 * 1024;

impl Batch {
    /// Copies what `plan` needs of `record`.
    pub fn push(&mut self, record: &Record<'_>, plan: &Plan) {
        if self.entries.len() >= RECORDS_MAX || self.bytes.len() >= BYTES_MAX {
            self.dropped += 1;
            return;
        }
        for source in &plan.texts {
            let present = source.copy(record, &mut self.bytes);
            self.end_text(present);
        }
        self.entries.push(Entry {
            peer: record.peer,
            moment: record.moment,
            version: record.head.map(|head| head.version),
            status: record.status,
            body_bytes: record.body_bytes,
            times: record.times,
            reason: record.reason,
        });
    }

    /// The same for a request of another process.
    pub fn push_lost(&mut self, request: &LostRequest<'_>, plan: &Plan) {
        let known = [Some(request.method), Some(request.target)].into_iter();
        for text in known.chain(std::iter::repeat(None)).take(plan.texts.len()) {
            self.bytes.extend_from_slice(text.unwrap_or_default());
            self.end_text(text.is_some());
        }
        self.entries.push(Entry {
            peer: request.peer.map_or(Peer::Unix, |peer| Peer::Inet(SocketAddr::new(peer, 0))),
            moment: Moment { second: request.second, nanos: 0 },
            version: None,
            status: request.status,
            body_bytes: 0,
            times: Some(request.times),
            reason: Some(Reason::WorkerDied),
        });
    }

    fn end_text(&mut self, present: bool) {
        let absent = if present { 0 } else { ABSENT };
        self.ends.push(self.bytes.len() as u32 | absent);
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.dropped == 0
    }

    /// Records that found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The lines, in order; `plan` is that of their pushing.
    pub fn lines(&self, plan: &Plan) -> impl Iterator<Item = Line<'_>> {
        let mut start = 0;
        self.entries.iter().zip(self.ends.chunks_exact(plan.texts.len())).map(move |(entry, ends)| {
            let line = Line { entry, ends, start, bytes: &self.bytes };
            start = ends.last().map_or(start, |end| (end & !ABSENT) as usize);
            line
        })
    }

    /// Forgets everything and keeps a working set of memory.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.entries.shrink_to(4096);
        self.ends.clear();
        self.ends.shrink_to(16 * 1024);
        self.bytes.clear();
        self.bytes.shrink_to(1024 * 1024);
        self.dropped = 0;
    }
}

impl<'a> Line<'a> {
    /// The text of that number in the plan; `None` where the request has none.
    pub fn text(&self, at: usize) -> Option<&'a [u8]> {
        let end = *self.ends.get(at)?;
        let start = match at.checked_sub(1) {
            Some(before) => (self.ends[before] & !ABSENT) as usize,
            None => self.start,
        };
        self.bytes.get(start..end as usize).filter(|_| end & ABSENT == 0)
    }
}

#[cfg(test)]
mod tests {
    use portico_config::AccessLogFormat;

    use super::super::testing::Sample;
    use super::*;

    #[test]
    fn a_full_batch_drops_and_counts() {
        let plan = Plan::new(&AccessLogFormat::Common, Default::default());
        let mut batch = Batch::default();
        let sample = Sample::default();
        (0..RECORDS_MAX + 3).for_each(|_| batch.push(&sample.record(), &plan));
        assert_eq!((batch.lines(&plan).count(), batch.dropped()), (RECORDS_MAX, 3));
        batch.clear();
        assert!(batch.is_empty());
    }

    #[test]
    fn each_line_has_its_own_texts() {
        let plan = Plan::new(&AccessLogFormat::Combined, Default::default());
        let mut batch = Batch::default();
        let requests = [
            "GET /a HTTP/1.1\r\nHost: x\r\nUser-Agent: b\r\nReferer:\r\n\r\n",
            "",
            "PUT /c HTTP/1.0\r\n\r\n",
        ];
        for request in requests {
            batch.push(&Sample::of(request.as_bytes()).record(), &plan);
        }
        let texts: Vec<Vec<Option<&[u8]>>> =
            batch.lines(&plan).map(|line| (0..5).map(|at| line.text(at)).collect()).collect();
        let first: [Option<&[u8]>; 5] = [Some(b"GET"), Some(b"/a"), None, Some(b""), Some(b"b")];
        assert_eq!(texts, [&first[..], &[None; 5], &[Some(b"PUT"), Some(b"/c"), None, None, None]]);
        assert_eq!(batch.lines(&plan).next().and_then(|line| line.text(5)), None);
    }
}
