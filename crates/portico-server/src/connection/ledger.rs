//! What one worker holds in memory for its clients: `--client-memory` for all, `--connection-memory` for each
//! connection with its streams.
//!
//! The engine counts after each piece of a connection's work; nothing is counted by hand, so nothing is forgotten.
//! What leaves memory is decided where it lies: bodies and responses above the first mark, by [`MemoryLeft`]
//! and [`MemoryGauge`]; clients that have stopped, above the second; new requests, at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portico_config::ClientLimits;

/// Bytes held for all clients.
#[derive(Debug)]
pub(crate) struct Ledger {
    bytes: usize,
    bytes_max: usize,
    connection_max: usize,
    /// Calls that run at once.
    threads: usize,
    gauge: Arc<MemoryGauge>,
    /// When the log was last told.
    told: Option<Instant>,
    /// What has happened since.
    cut: u64,
    refused: u64,
    /// Requests refused so far.
    refusals: u64,
    /// Bytes that have been let go of since the heap was trimmed.
    freed: usize,
}

/// Whether memory is scarce, for the application threads.
#[derive(Debug, Default)]
pub(crate) struct MemoryGauge {
    tight: AtomicBool,
}

/// What one connection may add to what is held for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryLeft {
    /// Bytes before bodies and responses go to files.
    pub buffer: usize,
    /// Bytes before requests are refused.
    pub rest: usize,
}

/// What one response may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseShare {
    /// Bytes of memory.
    pub memory_bytes: u32,
    /// Whether its connection has not had its share of temporary files.
    pub may_spool: bool,
}

/// Heads of browsers are seldom larger.
const USUAL_HEAD_BYTES: usize = 8 * 1024;

/// How often the log is told.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

impl Ledger {
    /// Nothing is held.
    pub(crate) fn new(limits: &ClientLimits, threads: usize) -> Self {
        Self {
            bytes: 0,
            bytes_max: usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX),
            connection_max: limits.connection_bytes,
            threads: threads.max(1),
            gauge: Arc::default(),
            told: None,
            cut: 0,
            refused: 0,
            refusals: 0,
            freed: 0,
        }
    }

    /// What is held for a connection has changed.
    #[inline]
    pub(crate) fn change(&mut self, before: usize, after: usize) {
        self.bytes = (self.bytes + after).saturating_sub(before);
        self.freed = self.freed.saturating_add(before.saturating_sub(after));
        let tight = self.bytes > self.spill_mark();
        if tight != self.gauge.is_tight() {
            self.gauge.tight.store(tight, Ordering::Relaxed);
        }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a connection may add for which `held` bytes are held.
    #[inline]
    pub(crate) fn left(&self, held: usize) -> MemoryLeft {
        let least = |mark: usize, connection_mark: usize| {
            mark.saturating_sub(self.bytes).min(connection_mark.saturating_sub(held))
        };
        MemoryLeft {
            buffer: least(self.spill_mark(), self.connection_max / 4 * 3),
            rest: least(self.bytes_max, self.connection_max),
        }
    }

    /// What a response on that connection may hold: a share, for as many may begin at once as there are threads.
    #[inline]
    pub(crate) fn response_room(&self, held: usize) -> usize {
        let share = self.spill_mark().saturating_sub(self.bytes) / self.threads;
        share.min((self.connection_max / 4 * 3).saturating_sub(held))
    }

    /// Whether a connection for which `held` bytes are held has more than it may.
    pub(crate) fn is_overdrawn(&self, held: usize) -> bool {
        held > self.connection_max
    }

    /// Whether a request with a head of so many bytes is to be refused. A usual one is not before a little more is
    /// held than may be: what fills the memory are others, which are about to be cut.
    pub(crate) fn refuses(&self, head_bytes: usize) -> bool {
        let leeway = if head_bytes <= USUAL_HEAD_BYTES { self.bytes_max / 16 } else { 0 };
        self.bytes >= self.bytes_max + leeway
    }

    /// Bytes that clients which have stopped are to be relieved of.
    #[inline]
    pub(crate) fn surplus(&self) -> usize {
        let mark = self.bytes_max / 8 * 7;
        if self.bytes > mark { self.bytes - self.spill_mark() } else { 0 }
    }

    /// Whether so much has been let go of that the heap is worth trimming: an eighth of what may be held. Each
    /// piece counts, also where as much has come to be held meanwhile: by another thread, and in another heap.
    #[inline]
    pub(crate) fn has_let_go_of_much(&self) -> bool {
        self.freed > self.bytes_max / 8
    }

    /// The heap has been trimmed.
    pub(crate) fn note_trimmed(&mut self) {
        self.freed = 0;
    }

    /// A request was refused for want of memory.
    pub(crate) fn note_refused(&mut self, now: Instant) {
        self.refused += 1;
        self.refusals += 1;
        self.tell(now);
    }

    /// Requests that have been refused for want of memory so far.
    pub(crate) fn refusals(&self) -> u64 {
        self.refusals
    }

    /// `count` clients have been cut for want of memory.
    pub(crate) fn note_cut(&mut self, count: u64, now: Instant) {
        self.cut += count;
        self.tell(now);
    }

    /// For the application threads.
    pub(crate) fn gauge(&self) -> &Arc<MemoryGauge> {
        &self.gauge
    }

    fn spill_mark(&self) -> usize {
        self.bytes_max / 4 * 3
    }

    /// Tells the log, once a minute.
    fn tell(&mut self, now: Instant) {
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < TELL_INTERVAL) {
            return;
        }
        self.told = Some(now);
        let (bytes, max) = (self.bytes >> 10, self.bytes_max >> 10);
        let (cut, refused) = (std::mem::take(&mut self.cut), std::mem::take(&mut self.refused));
        log::warn!(
            "{bytes} of {max} KiB are held for clients (--client-memory); cut {cut} that were idle or have \
             stopped reading or sending, refused {refused} requests since this was last said"
        );
    }
}

impl MemoryGauge {
    /// Whether what is held for clients is to leave memory.
    #[inline]
    pub(crate) fn is_tight(&self) -> bool {
        self.tight.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let limits = ClientLimits { memory_bytes: 800, connection_bytes: 400, ..ClientLimits::default() };
        Ledger::new(&limits, 2)
    }

    #[test]
    fn a_connection_has_its_share_and_all_have_theirs() {
        let mut ledger = ledger();
        assert_eq!(ledger.left(0), MemoryLeft { buffer: 300, rest: 400 });
        assert_eq!((ledger.response_room(0), ledger.response_room(100)), (300, 200));
        ledger.change(0, 350);
        assert_eq!(ledger.left(350), MemoryLeft { buffer: 0, rest: 50 });
        assert_eq!(ledger.left(0), MemoryLeft { buffer: 250, rest: 400 });
        assert_eq!(ledger.response_room(0), 125);
        assert!(!ledger.is_overdrawn(400) && ledger.is_overdrawn(401));
    }

    #[test]
    fn the_marks_are_passed_in_their_order() {
        let mut ledger = ledger();
        let states = [600, 601, 700, 701, 799, 800].map(|bytes| {
            ledger.change(ledger.bytes(), bytes);
            (ledger.gauge().is_tight(), ledger.surplus(), ledger.refuses(1 << 20))
        });
        let expected = [
            (false, 0, false),
            (true, 0, false),
            (true, 0, false),
            (true, 101, false),
            (true, 199, false),
            (true, 200, true),
        ];
        assert_eq!(states, expected);
        assert!(!ledger.refuses(100), "a usual head has a little more");
        ledger.change(800, 850);
        assert!(ledger.refuses(100));
        ledger.change(850, 0);
        assert_eq!((ledger.bytes(), ledger.gauge().is_tight(), ledger.refuses(1 << 20)), (0, false, false));
    }

    #[test]
    fn the_heap_is_worth_trimming_when_an_eighth_has_been_let_go_of() {
        let mut ledger = ledger();
        ledger.change(0, 500);
        let seen = [(60, 10), (10, 60), (60, 10), (50, 49)].map(|(before, after)| {
            ledger.change(before, after);
            ledger.has_let_go_of_much()
        });
        assert_eq!(seen, [false, false, false, true]);
        ledger.note_trimmed();
        assert!(!ledger.has_let_go_of_much());
    }

    #[test]
    fn the_log_is_told_once_a_minute() {
        let (mut ledger, start) = (ledger(), Instant::now());
        for seconds in [0, 10, 59] {
            ledger.note_refused(start + Duration::from_secs(seconds));
            assert_eq!(ledger.told, Some(start));
        }
        ledger.note_cut(2, start + Duration::from_secs(60));
        assert_eq!((ledger.told, ledger.cut, ledger.refused), (Some(start + TELL_INTERVAL), 0, 0));
    }
}
