//! Records between two looks of the log's thread, copied small and close together.
//!
//! Nothing of a request outlives it here: keeping the heads themselves alive until they are written would keep a
//! busy server from reusing memory that is still in the processor's cache. What a request has in common with the
//! one before, all but its time as a rule, is there once.

use std::net::{IpAddr, SocketAddr};

use portico_proto::{Peer, RequestHead, TraceContext, TraceText, Version};

use super::plan::Plan;
use super::{AccessRecord, LostRequest, Moment, Reason, Times};
use crate::request_id::{Digits, RequestId};

/// Records that wait for the log's thread, with copies of the bytes that they refer to. Whoever answers requests
/// fills it, behind its lock; the log's thread takes it whole. It must never keep a part of a request alive.
#[derive(Debug, Default)]
pub(super) struct Batch {
    deltas: Vec<LineDelta>,
    /// What of them is the same for several that follow each other.
    shared: Vec<LineShared>,
    /// Rows of places in `bytes`: where the first text of a request begins, and where each of its texts ends, with
    /// [`ABSENT`] added where there is none.
    rows: Vec<u32>,
    bytes: Vec<u8>,
    last: Last,
    dropped: u64,
}

/// The record that came last, to be compared with the next one.
#[derive(Debug, Default)]
struct Last {
    /// What others may have in common with it; `None` where they cannot.
    shared: Option<LineShared>,
    /// The head's bytes.
    head: Vec<u8>,
}

/// The facts of one line that differ from request to request even if all else repeats.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineDelta {
    /// Where its time went; 0 where that is not known.
    pub times: Times,
    /// Its id, if it is one of ours.
    pub id: Digits,
    /// Nanoseconds within the second when it was answered.
    pub nanos: u32,
    /// The number of what it has in common with others.
    pub shared: u32,
    /// The client's; 0 where it has none.
    pub port: u16,
}

/// The facts that successive lines have in common; kept once for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LineShared {
    address: Option<IpAddr>,
    second: u64,
    version: Option<Version>,
    status: u16,
    body_bytes: u64,
    is_timed: bool,
    reason: Option<Reason>,
    id: IdKind,
    /// Where their row begins.
    row: u32,
}

/// The origin of a request's id, by which a line finds it: there is none, a client or proxy has given it and it is
/// among the texts, or the server has made it and its digits are in the delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IdKind {
    None,
    Given,
    Made,
}

/// The facts of one request that are no texts, as a format reads them.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogEntry {
    /// Who sent it.
    pub peer: Peer,
    /// When it was answered.
    pub moment: Moment,
    /// `None` where what came was no request.
    pub version: Option<Version>,
    /// Status of the response.
    pub status: u16,
    /// Bytes of the response's body that were sent.
    pub body_bytes: u64,
    /// Where its time went.
    pub times: Option<Times>,
    /// Why it ended otherwise than with the application's whole response.
    pub reason: Option<Reason>,
    /// Its id.
    pub id: RequestId,
}

/// One request as a format needs it, assembled from its batch. It borrows from the batch and lives for one line.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogLine<'a> {
    /// What is no text.
    pub entry: LogEntry,
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
    #[inline]
    pub(super) fn push(&mut self, record: &AccessRecord<'_>, plan: &Plan) {
        if self.deltas.len() >= RECORDS_MAX || self.bytes.len() >= BYTES_MAX {
            self.dropped += 1;
            return;
        }
        if !self.last.is_like(record) {
            // Only a copy goes out of sight, so that otherwise the record need not be put together in memory.
            let record = *record;
            self.push_shared(&record, plan);
        }
        self.deltas.push(LineDelta {
            times: record.times.unwrap_or_default(),
            id: match *record.id {
                RequestId::Made(digits) => digits,
                RequestId::None | RequestId::Given => [0; 26],
            },
            nanos: record.moment.nanos,
            shared: self.shared.len() as u32 - 1,
            port: port_of(record.peer),
        });
    }

    /// Copies what others may have in common with `record`.
    #[cold]
    #[inline(never)]
    fn push_shared(&mut self, record: &AccessRecord<'_>, plan: &Plan) {
        let row = match &self.last.shared {
            Some(shared) if self.last.has_texts_of(record) => shared.row,
            _ => self.push_row(record, plan),
        };
        let shared = LineShared::of(record, row);
        self.shared.push(shared);
        self.last.note(record, plan, shared);
    }

    /// Copies the texts of `record`; where their row begins.
    fn push_row(&mut self, record: &AccessRecord<'_>, plan: &Plan) -> u32 {
        let row = self.begin_row();
        for source in &plan.texts {
            let present = source.copy(record, &mut self.bytes);
            self.end_text(present);
        }
        row
    }

    fn begin_row(&mut self) -> u32 {
        let row = self.rows.len() as u32;
        self.rows.push(self.bytes.len() as u32);
        row
    }

    /// The same for a request of another process.
    pub(super) fn push_lost(&mut self, request: &LostRequest<'_>, plan: &Plan) {
        let row = self.begin_row();
        let known = [Some(request.method), Some(request.target)].into_iter();
        for text in known.chain(std::iter::repeat(None)).take(plan.texts.len()) {
            self.bytes.extend_from_slice(text.unwrap_or_default());
            self.end_text(text.is_some());
        }
        self.last.shared = None;
        self.shared.push(LineShared {
            address: request.peer,
            second: request.second,
            version: None,
            status: request.status,
            body_bytes: 0,
            is_timed: true,
            reason: Some(Reason::WorkerDied),
            id: IdKind::None,
            row,
        });
        self.deltas.push(LineDelta {
            times: request.times,
            id: [0; 26],
            nanos: 0,
            shared: self.shared.len() as u32 - 1,
            port: 0,
        });
    }

    fn end_text(&mut self, present: bool) {
        let absent = if present { 0 } else { ABSENT };
        self.rows.push(self.bytes.len() as u32 | absent);
    }

    /// Whether there is nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.deltas.is_empty() && self.dropped == 0
    }

    /// Records that found no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// What is each record's own, in order.
    pub(super) fn deltas(&self) -> &[LineDelta] {
        &self.deltas
    }

    /// The line of one of them; `plan` is that of its pushing.
    pub(super) fn line(&self, delta: &LineDelta, plan: &Plan) -> Option<LogLine<'_>> {
        let shared = self.shared.get(delta.shared as usize)?;
        let start = shared.row as usize;
        let row = self.rows.get(start..=start + plan.texts.len())?;
        Some(LogLine { entry: shared.entry(delta), row, bytes: &self.bytes })
    }

    /// The lines, in order.
    pub(super) fn lines(&self, plan: &Plan) -> impl Iterator<Item = LogLine<'_>> {
        self.deltas.iter().filter_map(move |delta| self.line(delta, plan))
    }

    /// Forgets everything and keeps a working set of memory.
    pub(super) fn clear(&mut self) {
        self.deltas.clear();
        self.deltas.shrink_to(4096);
        self.shared.clear();
        self.shared.shrink_to(4096);
        self.rows.clear();
        self.rows.shrink_to(16 * 1024);
        self.last.shared = None;
        self.bytes.clear();
        self.bytes.shrink_to(1024 * 1024);
        self.dropped = 0;
    }
}

impl Last {
    /// Whether all that `record` has not by itself is what the last one had.
    #[inline]
    fn is_like(&self, record: &AccessRecord<'_>) -> bool {
        let same = |shared: &LineShared| *shared == LineShared::of(record, shared.row);
        self.shared.as_ref().is_some_and(same) && self.has_head_of(record)
    }

    /// Whether the texts of `record` are those of the last one.
    fn has_texts_of(&self, record: &AccessRecord<'_>) -> bool {
        let id = self.shared.as_ref().map(|shared| shared.id == IdKind::Given);
        id == Some(*record.id == RequestId::Given) && self.has_head_of(record)
    }

    #[inline]
    fn has_head_of(&self, record: &AccessRecord<'_>) -> bool {
        record.head.is_some_and(|head| is_as_it_came(head) && self.head == head.bytes())
    }

    /// `record` with this in common is the last one.
    fn note(&mut self, record: &AccessRecord<'_>, plan: &Plan, shared: LineShared) {
        let is_whole = |head: &&RequestHead| is_as_it_came(head) && head.bytes().len() <= HEAD_BYTES_MAX;
        let head = record.head.filter(is_whole).filter(|_| plan.is_of_head());
        self.shared = head.map(|_| shared);
        self.head.clear();
        self.head.extend_from_slice(head.map_or(&[], |head| head.bytes()));
    }
}

impl LineShared {
    #[inline]
    fn of(record: &AccessRecord<'_>, row: u32) -> Self {
        Self {
            address: match record.peer {
                Peer::Inet(address) => Some(address.ip()),
                Peer::Unix => None,
            },
            second: record.moment.second,
            version: record.head.map(|head| head.version),
            status: record.status,
            body_bytes: record.body_bytes,
            is_timed: record.times.is_some(),
            reason: record.reason,
            id: match record.id {
                RequestId::None => IdKind::None,
                RequestId::Given => IdKind::Given,
                RequestId::Made(_) => IdKind::Made,
            },
            row,
        }
    }

    /// With what is `delta`'s own.
    fn entry(&self, delta: &LineDelta) -> LogEntry {
        let peer = |ip| Peer::Inet(SocketAddr::new(ip, delta.port));
        LogEntry {
            peer: self.address.map_or(Peer::Unix, peer),
            moment: Moment { second: self.second, nanos: delta.nanos },
            version: self.version,
            status: self.status,
            body_bytes: self.body_bytes,
            times: self.is_timed.then_some(delta.times),
            reason: self.reason,
            id: match self.id {
                IdKind::None => RequestId::None,
                IdKind::Given => RequestId::Given,
                IdKind::Made => RequestId::Made(delta.id),
            },
        }
    }
}

#[inline]
fn port_of(peer: &Peer) -> u16 {
    match peer {
        Peer::Inet(address) => address.port(),
        Peer::Unix => 0,
    }
}

/// Whether the bytes of `head` tell all of it.
#[inline]
fn is_as_it_came(head: &RequestHead) -> bool {
    !head.is_edited() && !head.is_gateway()
}

impl<'a> LogLine<'a> {
    /// The text of that number in the plan; `None` where the request has none.
    pub(super) fn text(&self, at: usize) -> Option<&'a [u8]> {
        let (&before, &end) = (self.row.get(at)?, self.row.get(at + 1)?);
        let start = (before & !ABSENT) as usize;
        self.bytes.get(start..end as usize).filter(|_| end & ABSENT == 0)
    }

    /// The trace that the text of that number tells.
    pub(super) fn trace(&self, at: usize) -> Option<TraceText> {
        self.text(at).and_then(TraceContext::parse).map(|context| context.text())
    }

    /// The request's id, the text of that number if it is its own.
    pub(super) fn id(&self, at: usize) -> Option<&[u8]> {
        self.entry.version.and_then(|_| self.entry.id.made().or_else(|| self.text(at)))
    }
}

#[cfg(test)]
mod tests {
    use portico_config::AccessLogFormat;

    use super::super::plan::{LineConstants, TRACEPARENT};
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
    fn equal_requests_have_traces_of_their_own_where_the_server_traces() {
        let constants = LineConstants { own_traces: true, ..LineConstants::default() };
        let plan = Plan::new(&AccessLogFormat::Json, constants);
        let mut batch = Batch::default();
        let mut sample = Sample::of(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        for number in [1, 2] {
            sample.trace = Some(TraceContext::root([number; 16], [number; 8], true).text());
            batch.push(&sample.record(), &plan);
        }
        let traces: Vec<_> = batch.lines(&plan).filter_map(|line| line.trace(TRACEPARENT)).collect();
        let expected = [1, 2].map(|number| TraceContext::root([number; 16], [number; 8], true).text());
        assert_eq!(traces, expected);
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
