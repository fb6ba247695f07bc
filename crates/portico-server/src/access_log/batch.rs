//! Records between two looks of the log's thread, copied small and close together.
//!
//! Nothing of a request outlives it here: keeping the heads themselves alive until they are written would cost a
//! busy server its warm memory. What a request has in common with the one before, all but its time as a rule, is
//! there once.

use std::net::SocketAddr;

use portico_proto::{RequestHead, Version};

use super::plan::Plan;
use super::{LostRequest, Moment, Reason, Record, Times};
use crate::application::Peer;
use crate::request_id::{IdBuffer, RequestId};

/// Records, and the bytes that they refer to.
#[derive(Debug, Default)]
pub struct Batch {
    entries: Vec<Entry>,
    /// Rows of places in `bytes`: where the first text of a request begins, and where each of its texts ends, with
    /// [`ABSENT`] added where there is none.
    rows: Vec<u32>,
    bytes: Vec<u8>,
    last: Last,
    dropped: u64,
}

/// What the last row was made of.
#[derive(Debug, Default)]
struct Last {
    /// Where the row begins.
    row: u32,
    /// Whether another request can have the same.
    is_known: bool,
    /// The head's bytes.
    head: Vec<u8>,
    /// Whether the request's id is its own.
    is_id_given: bool,
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
    /// Its id.
    pub id: RequestId,
    /// Where its row begins: requests with the same row have the same texts and the same version.
    pub row: u32,
}

/// One line's worth, to be formatted.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// What is no text.
    pub entry: &'a Entry,
    row: &'a [u32],
    bytes: &'a [u8],
}

const ABSENT: u32 = 1 << 31;

/// Records and memory that may wait for the writer; beyond either, records are counted and dropped.
const RECORDS_MAX: usize = 65_536;
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longer heads are not kept to be compared.
const HEAD_BYTES_MAX: usize = 4096;

impl Batch {
    /// Copies what `plan` needs of `record`.
    pub fn push(&mut self, record: &Record<'_>, plan: &Plan) {
        if self.entries.len() >= RECORDS_MAX || self.bytes.len() >= BYTES_MAX {
            self.dropped += 1;
            return;
        }
        if !self.last.is_of(record) {
            self.push_row(record, plan);
        }
        self.entries.push(Entry {
            peer: record.peer,
            moment: record.moment,
            version: record.head.map(|head| head.version),
            status: record.status,
            body_bytes: record.body_bytes,
            times: record.times,
            reason: record.reason,
            id: record.id,
            row: self.last.row,
        });
    }

    /// Copies the texts of `record`.
    fn push_row(&mut self, record: &Record<'_>, plan: &Plan) {
        self.begin_row();
        for source in &plan.texts {
            let present = source.copy(record, &mut self.bytes);
            self.end_text(present);
        }
        self.last.note(record, plan);
    }

    fn begin_row(&mut self) {
        self.last.row = self.rows.len() as u32;
        self.last.is_known = false;
        self.rows.push(self.bytes.len() as u32);
    }

    /// The same for a request of another process.
    pub fn push_lost(&mut self, request: &LostRequest<'_>, plan: &Plan) {
        self.begin_row();
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
            id: RequestId::None,
            row: self.last.row,
        });
    }

    fn end_text(&mut self, present: bool) {
        let absent = if present { 0 } else { ABSENT };
        self.rows.push(self.bytes.len() as u32 | absent);
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
        let length = plan.texts.len() + 1;
        self.entries.iter().map(move |entry| {
            let start = entry.row as usize;
            let row = self.rows.get(start..start + length).unwrap_or_default();
            Line { entry, row, bytes: &self.bytes }
        })
    }

    /// Forgets everything and keeps a working set of memory.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.entries.shrink_to(4096);
        self.rows.clear();
        self.rows.shrink_to(16 * 1024);
        self.last.is_known = false;
        self.bytes.clear();
        self.bytes.shrink_to(1024 * 1024);
        self.dropped = 0;
    }
}

impl Last {
    /// Whether the texts of `record` are those of the row.
    fn is_of(&self, record: &Record<'_>) -> bool {
        let same = |head: &RequestHead| self.head == head.bytes() && is_as_it_came(head);
        self.is_known && self.is_id_given == (record.id == RequestId::Given) && record.head.is_some_and(same)
    }

    /// The row has the texts of `record`.
    fn note(&mut self, record: &Record<'_>, plan: &Plan) {
        let Some(head) = record.head.filter(|head| plan.is_of_head() && is_as_it_came(head)) else { return };
        if head.bytes().len() > HEAD_BYTES_MAX {
            return;
        }
        self.head.clear();
        self.head.extend_from_slice(head.bytes());
        self.is_id_given = record.id == RequestId::Given;
        self.is_known = true;
    }
}

/// Whether the bytes of `head` tell all of it.
fn is_as_it_came(head: &RequestHead) -> bool {
    !head.is_edited() && !head.is_gateway()
}

impl<'a> Line<'a> {
    /// The text of that number in the plan; `None` where the request has none.
    pub fn text(&self, at: usize) -> Option<&'a [u8]> {
        let (&before, &end) = (self.row.get(at)?, self.row.get(at + 1)?);
        let start = (before & !ABSENT) as usize;
        self.bytes.get(start..end as usize).filter(|_| end & ABSENT == 0)
    }

    /// The request's id, the text of that number if it is its own.
    pub fn id<'l>(&self, at: usize, buffer: &'l mut IdBuffer) -> Option<&'l [u8]>
    where
        'a: 'l,
    {
        match self.entry.version {
            Some(_) => self.entry.id.made(buffer).or_else(|| self.text(at)),
            None => None,
        }
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
