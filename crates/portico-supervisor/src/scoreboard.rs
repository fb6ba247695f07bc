//! The scoreboard: what the supervisor, every worker and every thread is doing, in memory that all of them share.
//!
//! It is read from outside too (`portico status`), also while every interpreter is held, and by the supervisor
//! after a worker's death. So it is nothing but 64-bit numbers, each written atomically by its owner: a worker
//! writes its own slot, a thread its own record. The text of a request, which is more than one number, is guarded
//! by the record's sequence number: odd while it is written. `fields.rs` has what the numbers are, `thread.rs` the
//! records, and `portico-metrics` the metrics.
//!
//! Beside what is told there is what workers count together for the limits of routes: the words are had here,
//! their meaning is portico-edge's. The supervisor never reads them.
//!
//! ```text
//!   supervisor   SupervisorField..., metrics, certificates
//!   limits       the table of clients
//!   slot 0       SlotField..., metrics, requests that run at once, thread 0, thread 1, ...
//!   slot 1       ...
//!   routes       the names of the application's routes
//!   events       what has happened to the server lately
//!   room 0       what is larger and mostly empty: see `room.rs`
//!   room 1       ...
//! ```
//!
//! A slot's *state*, its fields, gauges and threads, is cleared for the next worker. Its *totals*, those of its
//! threads too, never are: the next worker goes on adding to them, so a counter never falls.

mod certificates;
mod entries;
mod events;
mod fields;
mod inspection;
mod room;
mod routes;
mod thread;
mod thread_totals;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portico_metrics::{EndedRequests, GAUGE_WORDS, LAYOUT, METRIC_WORDS, Metrics, RouteDurations};
use portico_os::{is_sealed, sealed_memory};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::descriptors::{is_open_in, parent_of};

use certificates::{CERTIFICATE_WORDS, Certificates};
pub use entries::{Entries, Entry, EntryPlace};
use events::{EVENT_WORDS, EventLog};
pub use events::{Event, EventKind};
pub(crate) use fields::QueueHealth;
pub use fields::{SlotField, SlotState, SupervisorField, SupervisorState};
use inspection::PAGE_WORDS;
pub use inspection::{
    Inspection, InspectionKind, InspectionLease, InspectionNumber, InspectionOrder, InspectionOutcome,
};
use room::{FOUND_BYTES, SlotRoom, room_words};
use routes::RouteTable;
pub use routes::{ROUTE_NUMBERS, ROUTES_MAX, RouteNumber};
use thread::THREAD_WORDS;
pub use thread::{Note, Running, ThreadRecord, ThreadState, thread_count, thread_name};

/// The memory, shared by all clones and, over a fork, by processes.
#[derive(Clone, Debug)]
pub struct Scoreboard(Arc<Mapping>);

/// The mapped memory itself, which goes with its last owner in this process. What is in it is written by
/// several processes at once, so that nothing but atomics touches it.
#[derive(Debug)]
struct Mapping {
    words: NonNull<AtomicU64>,
    count: usize,
    layout: BoardLayout,
    /// Stays open to be found by [`Scoreboard::attach`].
    file: OwnedFd,
}

/// How large its parts are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct BoardLayout {
    slots: usize,
    threads: usize,
    limit_words: usize,
}

/// The part of the scoreboard that belongs to one worker: its numbers and the records of its threads. The
/// worker writes it, the supervisor and `portico status` read it; what it says is never trusted for more
/// than reports.
#[derive(Clone, Copy, Debug)]
pub struct WorkerSlot<'a> {
    words: &'a [AtomicU64],
    threads: usize,
    room: SlotRoom<'a>,
}

/// "portico" and the version of the layout.
const MAGIC: u64 = u64::from_le_bytes(*b"portico\x04");

/// Its name, under which [`Scoreboard::attach`] finds it among a process' descriptors.
const NAME: &str = "portico-scoreboard";

/// Words of a [`SupervisorField`] each, with room for more.
const SUPERVISOR_FIELDS: usize = 32;
/// Where the certificates are.
const CERTIFICATES_FROM: usize = SUPERVISOR_FIELDS + METRIC_WORDS;
/// Words before those for limits, which begin at a cache line.
const SUPERVISOR_WORDS: usize = (CERTIFICATES_FROM + CERTIFICATE_WORDS).next_multiple_of(8);
/// Words of a [`SlotField`] each, with room for more.
const SLOT_FIELDS: usize = 16;
/// Words of a slot before what it counts for limits.
const SLOT_WORDS: usize = SLOT_FIELDS + METRIC_WORDS;
/// Words in which a worker counts the requests of routes that run at once there.
pub const CONCURRENCY_WORDS: usize = 128;
/// Words of a slot before its threads.
const THREADS_FROM: usize = SLOT_WORDS + CONCURRENCY_WORDS;

/// Nanoseconds of the monotonic clock, which all processes of a machine share.
pub fn now_nanos() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // Not rustix, whose way to the clock does not survive valgrind, which counts our instructions.
    // SAFETY: the call writes one `timespec` through the pointer and keeps nothing. It cannot fail: every Linux
    // has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

impl Scoreboard {
    /// A new one, all zero, with room for `slots` workers of `threads` threads each. Pages that nobody writes cost
    /// no memory.
    ///
    /// # Errors
    /// The kernel's: no memory, no descriptor.
    pub fn create(slots: usize, threads: usize) -> io::Result<Self> {
        Self::with_limits(slots, threads, 0)
    }

    /// The same, with `limit_words` words for the limits of routes.
    ///
    /// # Errors
    /// The kernel's: no memory, no descriptor.
    pub fn with_limits(slots: usize, threads: usize, limit_words: usize) -> io::Result<Self> {
        let layout = BoardLayout { slots, threads, limit_words };
        let count = layout.word_count().ok_or(io::ErrorKind::InvalidInput)?;
        let file = sealed_memory(NAME, count as u64 * 8)?;
        let board = Self::map(file, count, layout)?;
        board.set(SupervisorField::Layout, LAYOUT);
        board.set(SupervisorField::MetricWords, METRIC_WORDS as u64);
        board.set(SupervisorField::GaugeWords, GAUGE_WORDS as u64);
        board.set(SupervisorField::Slots, slots as u64);
        board.set(SupervisorField::Threads, threads as u64);
        board.set(SupervisorField::LimitWords, limit_words as u64);
        board.set(SupervisorField::LimitsFrom, SUPERVISOR_WORDS as u64);
        board.set(SupervisorField::ThreadWords, THREAD_WORDS as u64);
        board.set(SupervisorField::Version, packed_version(env!("CARGO_PKG_VERSION")));
        board.set(SupervisorField::Magic, MAGIC);
        Ok(board)
    }

    /// That of another process: the supervisor `pid` or one of its workers.
    ///
    /// # Errors
    /// `NotFound` if there is no such process or it has none, `PermissionDenied` if it belongs to another user,
    /// `InvalidData` if it is of another version of Portico.
    pub fn attach(pid: u32) -> io::Result<Self> {
        let wanted = format!("/memfd:{NAME}");
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            let path = entry?.path();
            if !fs::read_link(&path).is_ok_and(|link| link.to_string_lossy().starts_with(&wanted)) {
                continue;
            }
            return Self::open(&path);
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "it is not a Portico process"))
    }

    /// The supervisor whose scoreboard this is, where the process `pid` has it: that one or, if `pid` is a worker,
    /// its parent, which has the same one. No other, whatever stands on the scoreboard: any worker writes there.
    pub fn supervisor_of(&self, pid: u32) -> u32 {
        if self.get(SupervisorField::Pid) == u64::from(pid) {
            return pid;
        }
        parent_of(pid).filter(|parent| is_open_in(&self.0.file, *parent)).unwrap_or(pid)
    }

    fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        let count = (file.metadata()?.len() / 8) as usize;
        let message = "it runs another version of Portico";
        let other_version = || io::Error::new(io::ErrorKind::InvalidData, message);
        if count < SUPERVISOR_WORDS || !is_sealed(&file) {
            return Err(other_version());
        }
        let head = Self::map(file.try_clone()?.into(), count, BoardLayout::default())?;
        let layout = BoardLayout {
            slots: head.get(SupervisorField::Slots) as usize,
            threads: head.get(SupervisorField::Threads) as usize,
            limit_words: head.get(SupervisorField::LimitWords) as usize,
        };
        let known = [SupervisorField::Magic, SupervisorField::Layout].map(|field| head.get(field));
        if known != [MAGIC, LAYOUT] || layout.word_count() != Some(count) {
            return Err(other_version());
        }
        Self::map(file.into(), count, layout)
    }

    fn map(file: OwnedFd, count: usize, layout: BoardLayout) -> io::Result<Self> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a fresh mapping at an address of the kernel's choice, of a file that is at least this long: it
        // was made so, or measured, by the callers, and its length is sealed.
        let address = unsafe { mmap(null_mut(), count * 8, protection, flags, file.as_fd(), 0) }?;
        let words = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self(Arc::new(Mapping { words, count, layout, file })))
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is `count` words long, aligned to a page, zero or written by atomic stores alone,
        // and lives as long as `self.0`.
        unsafe { std::slice::from_raw_parts(self.0.words.as_ptr(), self.0.count) }
    }

    /// A number of the supervisor's.
    pub fn get(&self, field: SupervisorField) -> u64 {
        self.words()[field as usize].load(Ordering::Acquire)
    }

    /// Sets a number of the supervisor's.
    pub fn set(&self, field: SupervisorField, value: u64) {
        self.words()[field as usize].store(value, Ordering::Release);
    }

    /// The supervisor's metrics.
    pub fn metrics(&self) -> Metrics<'_> {
        metrics(&self.words()[SUPERVISOR_FIELDS..SUPERVISOR_FIELDS + METRIC_WORDS])
    }

    /// The certificates' ends.
    pub fn certificates(&self) -> Certificates<'_> {
        Certificates(&self.words()[CERTIFICATES_FROM..CERTIFICATES_FROM + CERTIFICATE_WORDS])
    }

    /// The same scoreboard, for the rest of this process' life.
    pub fn leaked(&self) -> &'static Self {
        Box::leak(Box::new(self.clone()))
    }

    /// The supervisor's state.
    pub fn state(&self) -> SupervisorState {
        match self.get(SupervisorField::State) {
            1 => SupervisorState::Serving,
            2 => SupervisorState::Stopping,
            _ => SupervisorState::Booting,
        }
    }

    /// Whether requests wait for too long.
    pub(crate) fn queue_health(&self) -> QueueHealth {
        match self.get(SupervisorField::QueueHealth) {
            1 => QueueHealth::Brisk,
            2 => QueueHealth::Late,
            _ => QueueHealth::Unwatched,
        }
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.0.layout.slots
    }

    /// Whether it has no slot.
    pub fn is_empty(&self) -> bool {
        self.0.layout.slots == 0
    }

    /// The words for the limits of routes, which all workers write.
    pub fn limits(&self) -> &[AtomicU64] {
        self.words().get(SUPERVISOR_WORDS..SUPERVISOR_WORDS + self.0.layout.limit_words).unwrap_or_default()
    }

    /// WorkerSlot `number`, if there is one.
    pub fn slot(&self, number: u32) -> Option<WorkerSlot<'_>> {
        let BoardLayout { slots, threads, limit_words } = self.0.layout;
        let words = slot_words(threads)?;
        let from = SUPERVISOR_WORDS + limit_words + (number as usize).checked_mul(words)?;
        let inside = (number as usize) < slots;
        let words = self.words().get(from..from + words).filter(|_| inside)?;
        let room = self.words().get(self.room_at(number)?..).unwrap_or_default();
        let room = SlotRoom::in_words(room.get(..room_words(threads)?).unwrap_or_default());
        Some(WorkerSlot { words, threads, room })
    }

    /// The names of the application's routes.
    pub fn routes(&self) -> RouteTable<'_> {
        let from = self.0.layout.slots_end().unwrap_or(usize::MAX);
        let words = self.words().get(from..from.saturating_add(routes::TABLE_WORDS));
        RouteTable::in_words(words.unwrap_or_default())
    }

    /// What has happened to the server lately.
    pub fn events(&self) -> EventLog<'_> {
        let end = self.0.layout.rooms_at().unwrap_or_default();
        let words = self.words().get(end.saturating_sub(EVENT_WORDS)..end);
        EventLog::in_words(words.unwrap_or_default())
    }

    /// Where the room of slot `number` begins.
    fn room_at(&self, number: u32) -> Option<usize> {
        let rooms = room_words(self.0.layout.threads)?.checked_mul(number as usize)?;
        self.0.layout.rooms_at()?.checked_add(rooms)
    }

    /// Gives the memory back in which the worker in slot `number` has told what it found.
    pub fn give_back_found(&self, number: u32) {
        let Some(from) = self.room_at(number).filter(|_| self.slot(number).is_some()) else { return };
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let (from, bytes) = (from as u64 * 8 + FOUND_BYTES.start as u64, FOUND_BYTES.len() as u64);
        // Where that cannot be done the memory stays in use, and no harm is done.
        let _ = fallocate(&self.0.file, flags, from, bytes);
    }

    /// All slots with their numbers.
    pub fn slots(&self) -> impl Iterator<Item = (u32, WorkerSlot<'_>)> {
        (0..self.0.layout.slots as u32).filter_map(|number| Some((number, self.slot(number)?)))
    }
}

impl<'a> WorkerSlot<'a> {
    /// A number of the worker's.
    pub fn get(self, field: SlotField) -> u64 {
        self.words[field as usize].load(Ordering::Acquire)
    }

    /// Sets a number of the worker's.
    pub fn set(self, field: SlotField, value: u64) {
        self.words[field as usize].store(value, Ordering::Release);
    }

    /// Adds to a number that several threads write; returns what it was.
    pub fn add(self, field: SlotField, value: u64) -> u64 {
        self.words[field as usize].fetch_add(value, Ordering::AcqRel)
    }

    /// The worker's state.
    pub fn state(self) -> SlotState {
        match self.get(SlotField::State) {
            1 => SlotState::Starting,
            2 => SlotState::Ready,
            3 => SlotState::Retiring,
            _ => SlotState::Empty,
        }
    }

    /// The worker's metrics, and the totals of those before it in this slot.
    pub fn metrics(self) -> Metrics<'a> {
        metrics(&self.words[SLOT_FIELDS..SLOT_WORDS])
    }

    /// Where the worker counts the requests of routes that run at once.
    pub fn concurrency(self) -> &'a [AtomicU64] {
        self.words.get(SLOT_WORDS..THREADS_FROM).unwrap_or_default()
    }

    /// Number of thread records.
    pub fn thread_count(self) -> usize {
        self.threads
    }

    /// A thread's record, if there is one.
    pub fn thread(self, index: usize) -> Option<ThreadRecord<'a>> {
        let from = THREADS_FROM + index.checked_mul(THREAD_WORDS)?;
        self.words.get(from..from + THREAD_WORDS).filter(|_| index < self.threads).map(ThreadRecord)
    }

    /// All records.
    pub fn threads(self) -> impl Iterator<Item = ThreadRecord<'a>> {
        (0..self.threads).filter_map(move |index| self.thread(index))
    }

    /// Sets the state to zero, for the next worker, and leaves it the totals and the numbers of calls.
    pub fn begin_worker(self) {
        let fields = self.words[..SLOT_FIELDS].iter();
        fields.chain(self.concurrency()).for_each(|word| word.store(0, Ordering::Release));
        self.threads().for_each(ThreadRecord::begin_worker);
        self.metrics().begin_worker();
        self.room.begin_worker();
    }
}

/// What is larger than some numbers.
impl<'a> WorkerSlot<'a> {
    /// Where the worker is told what to find out about itself.
    pub fn inspection(self) -> Inspection<'a> {
        self.room.inspection()
    }

    /// The metrics of the application, which it keeps itself. The next worker goes on with them.
    pub fn application_metrics(self) -> Entries<'a> {
        self.room.application_metrics()
    }

    /// The last of its requests that were slow or failed. The next worker goes on with them.
    pub fn ended_requests(self) -> EndedRequests<'a> {
        self.room.ended_requests()
    }

    /// The durations of the requests of one route.
    pub fn route_durations(self, route: RouteNumber) -> Option<RouteDurations<'a>> {
        RouteDurations::in_words(self.room.durations(route))
    }

    /// Thread `index` has learnt that its request number `sequence` is one of this route.
    pub fn set_route(self, index: usize, sequence: u64, route: RouteNumber) {
        self.room.set_route(index, sequence, route);
    }

    /// The route of request number `sequence` of thread `index`, if the application has told one.
    pub fn route(self, index: usize, sequence: u64) -> Option<RouteNumber> {
        self.room.route(index, sequence)
    }

    /// The worker has died: so have the calls that it was in, whose time is counted up to now.
    pub fn end_calls(self, now_nanos: u64) {
        self.threads().for_each(|thread| thread.totals().cut_call(thread, now_nanos));
    }
}

/// A version as a number: `1.2.3` is 0x1_0002_0003.
fn packed_version(version: &str) -> u64 {
    let parts = version.split(['.', '-', '+']).take(3).map(|part| part.parse::<u16>().unwrap_or(0));
    parts.fold(0, |version, part| version << 16 | u64::from(part))
}

/// The same as text.
pub(crate) fn unpacked_version(version: u64) -> String {
    format!("{}.{}.{}", version >> 32, version >> 16 & 0xFFFF, version & 0xFFFF)
}

fn slot_words(threads: usize) -> Option<usize> {
    threads.checked_mul(THREAD_WORDS)?.checked_add(THREADS_FROM)
}

fn metrics(words: &[AtomicU64]) -> Metrics<'_> {
    Metrics::in_words(words).expect("the slice is cut to the length of the metrics")
}

impl BoardLayout {
    /// Where the slots end, and what is larger begins: at a page.
    fn slots_end(self) -> Option<usize> {
        let slots = slot_words(self.threads)?.checked_mul(self.slots)?;
        let words = slots.checked_add(self.limit_words)?.checked_add(SUPERVISOR_WORDS)?;
        words.checked_next_multiple_of(PAGE_WORDS)
    }

    /// Where the rooms begin: at a page, right behind the events.
    fn rooms_at(self) -> Option<usize> {
        let words = self.slots_end()?.checked_add(routes::TABLE_WORDS)?.checked_add(EVENT_WORDS)?;
        words.checked_next_multiple_of(PAGE_WORDS)
    }

    fn word_count(self) -> Option<usize> {
        let rooms = room_words(self.threads)?.checked_mul(self.slots)?;
        self.rooms_at()?.checked_add(rooms)
    }
}

// SAFETY: the memory behind the pointer is used through atomics alone, and unmapped when the last owner goes.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and no reference into it outlives the owner.
        let unmapped = unsafe { munmap(self.words.as_ptr().cast(), self.count * 8) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use portico_metrics::{Counter, EndedExchange, Gauge};
    use rustix::fs::ftruncate;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

    fn note<'a>(method: &'a [u8], target: &'a [u8]) -> Note<'a> {
        Note { method, target, peer: Some(PEER), begun_nanos: 5, queued_nanos: 3, route_timeout: None }
    }

    #[test]
    fn a_process_finds_what_another_has_written() {
        let board = Scoreboard::create(3, 2).unwrap();
        board.slot(2).unwrap().set(SlotField::Pid, 77);
        let thread = board.slot(2).unwrap().thread(1).unwrap();
        thread.enlist(88, 99);
        thread.begin(&note(b"GET", b"/a?b=c"));
        // Not `attach`: the tests beside this one have boards as well.
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&board.0.file);
        let other = Scoreboard::open(Path::new(&format!("/proc/self/fd/{descriptor}"))).unwrap();
        assert_eq!(other.len(), 3);
        assert!(other.slot(3).is_none() && other.slot(2).unwrap().thread(2).is_none());
        assert_eq!(other.slot(2).unwrap().get(SlotField::Pid), 77);
        let running = other.slot(2).unwrap().thread(1).unwrap().running().unwrap();
        assert_eq!((&running.method[..], &running.target[..]), (&b"GET"[..], &b"/a?b=c"[..]));
        assert_eq!((running.peer, running.begun_nanos, running.queued_nanos), (Some(PEER), 5, 3));
        assert_eq!((running.native_id, running.ident, running.state), (88, 99, ThreadState::Running));
        thread.set_state(ThreadState::Idle);
        assert_eq!(other.slot(2).unwrap().thread(1).unwrap().running(), None);
    }

    #[test]
    fn workers_count_together_for_limits_and_each_for_itself() {
        let board = Scoreboard::with_limits(2, 3, 40).unwrap();
        assert_eq!((board.limits().len(), Scoreboard::create(1, 1).unwrap().limits().len()), (40, 0));
        board.limits().iter().for_each(|word| word.store(u64::MAX, Ordering::Relaxed));
        let slots = [board.slot(0).unwrap(), board.slot(1).unwrap()];
        for (number, slot) in slots.into_iter().enumerate() {
            assert_eq!(slot.concurrency().len(), CONCURRENCY_WORDS);
            slot.concurrency().iter().for_each(|word| word.store(7, Ordering::Relaxed));
            slot.metrics().add(Counter::Calls, 1);
            slot.thread(2).unwrap().enlist(88, 99);
            let counted = slot.get(SlotField::Pid) + slot.metrics().total(Counter::Calls);
            assert_eq!(counted, 1, "{number}: each has its own words");
        }
        assert_eq!(board.get(SupervisorField::Threads), 3);
        slots[0].begin_worker();
        let sum = |slot: WorkerSlot<'_>| -> u64 {
            slot.concurrency().iter().map(|word| word.load(Ordering::Relaxed)).sum()
        };
        assert_eq!(slots.map(sum), [0, 7 * CONCURRENCY_WORDS as u64], "a dead worker's are cleared");
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&board.0.file);
        let other = Scoreboard::open(Path::new(&format!("/proc/self/fd/{descriptor}"))).unwrap();
        assert_eq!(other.limits()[39].load(Ordering::Relaxed), u64::MAX);
        assert_eq!(sum(other.slot(1).unwrap()), 7 * CONCURRENCY_WORDS as u64);
    }

    #[test]
    fn nobody_shortens_it_and_one_that_could_be_shortened_is_not_attached_to() {
        let board = Scoreboard::create(2, 2).unwrap();
        let bytes = board.0.count as u64 * 8;
        for length in [0, bytes - 8, bytes + 8] {
            assert_eq!(ftruncate(&board.0.file, length), Err(rustix::io::Errno::PERM), "{length}");
        }
        board.slot(1).unwrap().set(SlotField::Pid, 77);
        // The same bytes, in a file whose length its owner could change while it is read.
        let unsealed = tempfile::NamedTempFile::new().unwrap();
        let words: Vec<u8> =
            board.words().iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect();
        fs::write(unsealed.path(), words).unwrap();
        let error = Scoreboard::open(unsealed.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_a_worker_has_written_names_no_other_process_as_the_supervisor() {
        let board = Scoreboard::create(1, 1).unwrap();
        let own = std::process::id();
        board.set(SupervisorField::Pid, u64::from(own));
        assert_eq!(board.supervisor_of(own), own);
        board.set(SupervisorField::Pid, 1);
        assert_eq!(board.supervisor_of(own), own, "the parent of this process does not have it");
        // A worker: its parent has it.
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        assert_eq!(board.supervisor_of(child.id()), own);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn text_beyond_its_room_is_cut() {
        let board = Scoreboard::create(1, 1).unwrap();
        let thread = board.slot(0).unwrap().thread(0).unwrap();
        thread.begin(&note(&[b'M'; 20], &[b'/'; 300]));
        let running = thread.running().unwrap();
        assert_eq!((running.method.len(), running.target.len()), (16, 256));
    }

    #[test]
    fn a_process_without_one_is_told_so() {
        assert_eq!(Scoreboard::attach(1 << 30).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_reader_never_sees_two_requests_mixed() {
        let board = Scoreboard::create(1, 1).unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let thread = board.slot(0).unwrap().thread(0).unwrap();
                for byte in (b'a'..=b'z').cycle().take(200_000) {
                    thread.begin(&note(&[byte; 9], &[byte; 100]));
                }
                stop.store(true, Ordering::SeqCst);
            });
            let thread = board.slot(0).unwrap().thread(0).unwrap();
            while !stop.load(Ordering::SeqCst) {
                if let Some(running) = thread.running() {
                    let first = running.method[0];
                    assert!(running.method.iter().chain(&running.target).all(|&byte| byte == first));
                }
            }
        });
    }

    #[test]
    fn the_next_worker_goes_on_from_the_totals_alone() {
        let board = Scoreboard::create(2, 2).unwrap();
        let slot = board.slot(1).unwrap();
        slot.set(SlotField::Pid, 77);
        slot.set(SlotField::Interpreter, 5);
        slot.thread(1).unwrap().begin(&note(b"GET", b"/"));
        slot.metrics().add(Counter::Calls, 3);
        slot.metrics().set(Gauge::Connections, 9);
        slot.begin_worker();
        assert_eq!((slot.get(SlotField::Pid), slot.get(SlotField::Interpreter)), (0, 0));
        assert_eq!(slot.thread(1).unwrap().running(), None);
        assert_eq!((slot.thread(0).unwrap().sequence(), slot.metrics().gauge(Gauge::Connections)), (0, 0));
        let metrics = slot.metrics();
        assert_eq!((metrics.total(Counter::Calls), metrics.since_start(Counter::Calls)), (3, 0));
        assert!(board.slot(0).unwrap().words.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        assert_eq!(board.metrics().total(Counter::Calls), 0);
    }

    #[test]
    fn each_slot_has_a_room_of_its_own() {
        let board = Scoreboard::with_limits(3, 5, 9).unwrap();
        let route = board.routes().number("/users/<id>");
        for (number, slot) in board.slots() {
            slot.inspection().entries().append(b"found", 0, 0, u64::from(number)).unwrap();
            slot.application_metrics().append(b"metric", 0, 0, u64::from(number)).unwrap();
            slot.set_route(4, 2 + u64::from(number), route);
            slot.route_durations(RouteNumber::OTHER).unwrap().record(1);
        }
        for (number, slot) in board.slots() {
            let value = |entries: Entries<'_>| entries.iter().map(|entry| entry.value).collect::<Vec<_>>();
            assert_eq!(value(slot.inspection().entries()), [u64::from(number)]);
            assert_eq!(value(slot.application_metrics()), [u64::from(number)]);
            assert_eq!(slot.route(4, 2 + u64::from(number)), Some(route));
            assert_eq!((slot.route(4, 9), slot.route(3, 2)), (None, None), "another request, another thread");
        }
        assert_eq!(board.routes().name(route).as_deref(), Some("/users/<id>"));
        board.give_back_found(1);
        let found = |number| board.slot(number).unwrap().inspection().entries().iter().count();
        assert_eq!([found(0), found(1), found(2)], [1, 0, 1]);
        let slot = board.slot(1).unwrap();
        assert_eq!(slot.application_metrics().iter().count(), 1);
        slot.ended_requests().push(&EndedExchange { status: 504, ..EndedExchange::default() });
        board.events().note(EventKind::Reload, None, None, "a reload");
        slot.begin_worker();
        assert_eq!(slot.ended_requests().read()[0].status, 504, "they outlive the worker");
        assert_eq!(board.slot(0).unwrap().ended_requests().read(), []);
        assert_eq!(board.events().read()[0].text, "a reload");
        assert_eq!((slot.route(4, 3), slot.application_metrics().iter().count()), (None, 1));
    }

    /// What is larger costs no memory until it is used.
    #[test]
    fn what_nobody_writes_takes_no_memory() {
        let board = Scoreboard::create(32, 64).unwrap();
        let blocks = |board: &Scoreboard| rustix::fs::fstat(&board.0.file).unwrap().st_blocks;
        assert!(blocks(&board) * 512 < 256 * 1024, "{} KiB", blocks(&board) / 2);
        let entries = board.slot(31).unwrap().inspection().entries();
        while entries.append(&[1; 512], 0, 0, 0).is_some() {}
        assert!(blocks(&board) * 512 > 2_000_000);
        board.give_back_found(31);
        assert!(blocks(&board) * 512 < 256 * 1024, "{} KiB", blocks(&board) / 2);
    }

    #[test]
    fn a_wish_to_cancel_is_for_one_call_of_all_that_there_ever_are() {
        let board = Scoreboard::create(1, 1).unwrap();
        let (slot, thread) = (board.slot(0).unwrap(), board.slot(0).unwrap().thread(0).unwrap());
        let is_asked = || thread.running().map(|running| running.is_cancel_asked);
        let first = thread.begin(&note(b"GET", b"/"));
        assert_eq!(is_asked(), Some(false));
        thread.ask_cancel(first);
        assert_eq!(is_asked(), Some(true));
        let second = thread.begin(&note(b"GET", b"/"));
        assert_eq!(is_asked(), Some(false), "what comes late");
        thread.ask_cancel(second);
        slot.begin_worker();
        assert_eq!(is_asked(), None);
        thread.ask_cancel(second);
        assert_eq!(thread.begin(&note(b"GET", b"/")), second + 2, "the next worker goes on counting");
        assert_eq!(is_asked(), Some(false));
        // Its thread has died while it wrote the record.
        thread.0[0].store(second + 3, Ordering::Relaxed);
        slot.begin_worker();
        assert_eq!(thread.begin(&note(b"GET", b"/")), second + 6);
        assert!(thread.running().is_some());
    }

    #[test]
    fn a_version_is_read_back_from_its_number() {
        assert_eq!(packed_version("1.2.3"), 0x1_0002_0003);
        for version in ["0.1.0", "12.345.65535"] {
            assert_eq!(unpacked_version(packed_version(version)), version);
        }
        assert_eq!(unpacked_version(packed_version("2.0.1-rc.1")), "2.0.1");
    }

    #[test]
    fn one_with_another_table_of_metrics_is_not_read() {
        let board = Scoreboard::create(1, 1).unwrap();
        board.set(SupervisorField::Layout, LAYOUT ^ 1);
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&board.0.file);
        let error = Scoreboard::open(Path::new(&format!("/proc/self/fd/{descriptor}"))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
