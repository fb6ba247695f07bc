//! What an outside command has a worker find out about itself: where its calls spend their time, what its memory
//! is full of.
//!
//! The command leaves an order and keeps a *lease* while it waits: it renews a time again and again. The worker
//! looks for orders now and then, works on one as long as its lease is fresh, and writes what it finds as
//! entries. So a command that dies ends the work, whatever it dies of, and nobody else can give an order
//! meanwhile. A worker that dies leaves what it has found so far.
//!
//! Either side may write anything: both take what they read for numbers and bytes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::entries::Entries;

/// The room in which a worker is given an order and tells what it finds. Copies are the same words.
#[derive(Clone, Copy, Debug)]
pub struct Inspection<'a>(&'a [AtomicU64]);

/// What is to be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum InspectionKind {
    /// Where calls spend time.
    WallTime = 1,
    /// Where calls spend time of a processor.
    CpuTime = 2,
    /// How many objects of each type there are.
    Objects = 3,
    /// Which lines allocate memory that stays.
    Allocations = 4,
}

/// What a worker is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectionOrder {
    /// What is to be found out.
    pub kind: InspectionKind,
    /// For how long.
    pub duration: Duration,
    /// How often it looks in a second, where it looks more than once.
    pub rate: u64,
}

/// A number that the worker tells beside its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InspectionNumber {
    /// When it began with the order.
    BegunNanos,
    /// When it last found something.
    LastNanos,
    /// How often it has looked.
    Samples,
    /// Looks that came later than they were due.
    Late,
    /// How long C code has kept the interpreter, in nanoseconds, while stacks were taken without it.
    HeldNanos,
    /// Stacks that were longer than is kept.
    CutStacks,
    /// What could not be read.
    Failed,
    /// What is not among the entries for want of room, in their unit.
    Dropped,
    /// Objects that were not looked at because there are too many; or the memory that tracing itself took.
    Rest,
}

/// How an order has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum InspectionOutcome {
    /// As it should.
    Done = 1,
    /// It could not be followed; the log of the worker says why.
    Failed = 2,
    /// Somebody else traces memory already.
    Taken = 3,
}

/// A lease that was not renewed for so long is none any more.
const LEASE: Duration = Duration::from_secs(2);

/// The words of the room: a page for the order, the rest for entries.
pub(super) const INSPECTION_WORDS: usize = PAGE_WORDS + 2 * 1024 * 1024 / 8;
/// Entries begin at a page, so that theirs can be given back.
pub(super) const PAGE_WORDS: usize = 512;

const LEASE_NANOS: usize = 0;
const ORDER: usize = 1;
const ENDED: usize = 2;
const OUTCOME: usize = 3;
const KIND: usize = 4;
const DURATION_NANOS: usize = 5;
const RATE: usize = 6;
const PID: usize = 7;
const BEGUN: usize = 8;
const NUMBERS_AT: usize = 16;

impl<'a> Inspection<'a> {
    /// The room in `words`.
    pub(super) fn in_words(words: &'a [AtomicU64]) -> Self {
        Self(words)
    }

    fn get(self, word: usize) -> u64 {
        self.0.get(word).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn set(self, word: usize, value: u64) {
        self.0.get(word).into_iter().for_each(|word| word.store(value, Ordering::Release));
    }

    /// What has been found.
    pub fn entries(self) -> Entries<'a> {
        Entries::in_words(self.0.get(PAGE_WORDS..).unwrap_or_default())
    }

    /// Takes the lease at `now`. `None` while somebody else has it.
    pub fn lease(self, now: u64) -> Option<InspectionLease<'a>> {
        let word = self.0.get(LEASE_NANOS)?;
        let current = word.load(Ordering::Acquire);
        if is_fresh(current, now) {
            return None;
        }
        word.compare_exchange(current, now, Ordering::AcqRel, Ordering::Acquire).ok()?;
        Some(InspectionLease { room: self, renewed: now })
    }

    /// Whether whoever has given the order still waits.
    pub fn is_awaited(self, now: u64) -> bool {
        is_fresh(self.get(LEASE_NANOS), now)
    }

    /// Number of the last order; 0 before the first.
    pub fn order_number(self) -> u64 {
        self.get(ORDER)
    }

    /// The last order, if it is for the process `pid` and such as there are.
    pub fn order(self, pid: u32) -> Option<InspectionOrder> {
        let kinds = [
            InspectionKind::WallTime,
            InspectionKind::CpuTime,
            InspectionKind::Objects,
            InspectionKind::Allocations,
        ];
        let kind = kinds.into_iter().find(|kind| *kind as u64 == self.get(KIND))?;
        (self.get(PID) == u64::from(pid)).then(|| InspectionOrder {
            kind,
            duration: Duration::from_nanos(self.get(DURATION_NANOS)),
            rate: self.get(RATE),
        })
    }

    /// The worker begins with order `number`: what it has told before is forgotten.
    pub fn begin(self, number: u64, now: u64) {
        self.entries().clear();
        let numbers = self.0.get(NUMBERS_AT..PAGE_WORDS).unwrap_or_default();
        numbers.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        self.set_number(InspectionNumber::BegunNanos, now);
        self.set(BEGUN, number);
    }

    /// The worker has done with order `number`.
    pub fn end(self, number: u64, outcome: InspectionOutcome) {
        self.set(OUTCOME, outcome as u64);
        self.set(ENDED, number);
    }

    /// Sets a number.
    pub fn set_number(self, number: InspectionNumber, value: u64) {
        self.set(NUMBERS_AT + number as usize, value);
    }

    /// Adds to a number. One thread at a time does.
    pub fn add(self, number: InspectionNumber, value: u64) {
        self.set_number(number, self.number(number).saturating_add(value));
    }

    /// A number.
    pub fn number(self, number: InspectionNumber) -> u64 {
        self.get(NUMBERS_AT + number as usize)
    }
}

/// The right to give a worker an order. Dropping it ends the work.
#[derive(Debug)]
pub struct InspectionLease<'a> {
    room: Inspection<'a>,
    renewed: u64,
}

impl InspectionLease<'_> {
    /// Gives the process `pid` an order. Returns its number.
    pub fn give(&self, pid: u32, order: InspectionOrder) -> u64 {
        let number = self.room.get(ORDER).wrapping_add(1);
        let nanos = u64::try_from(order.duration.as_nanos()).unwrap_or(u64::MAX);
        self.room.set(PID, pid.into());
        self.room.set(KIND, order.kind as u64);
        self.room.set(DURATION_NANOS, nanos);
        self.room.set(RATE, order.rate);
        self.room.set(ORDER, number);
        number
    }

    /// Keeps it. `false` if somebody else has it, since it was not renewed in time.
    pub fn renew(&mut self, now: u64) -> bool {
        let Some(word) = self.room.0.get(LEASE_NANOS) else { return false };
        let is_kept = word.compare_exchange(self.renewed, now, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if is_kept {
            self.renewed = now;
        }
        is_kept
    }

    /// Whether the worker has begun with order `number`.
    pub fn has_begun(&self, number: u64) -> bool {
        self.room.get(BEGUN) == number
    }

    /// How order `number` has ended, if it has.
    pub fn outcome(&self, number: u64) -> Option<InspectionOutcome> {
        if self.room.get(ENDED) != number {
            return None;
        }
        let outcome = self.room.get(OUTCOME);
        let known = [InspectionOutcome::Done, InspectionOutcome::Taken];
        Some(known.into_iter().find(|it| *it as u64 == outcome).unwrap_or(InspectionOutcome::Failed))
    }

    /// The room.
    pub fn room(&self) -> Inspection<'_> {
        self.room
    }
}

impl Drop for InspectionLease<'_> {
    fn drop(&mut self) {
        if let Some(word) = self.room.0.get(LEASE_NANOS) {
            let _ = word.compare_exchange(self.renewed, 0, Ordering::AcqRel, Ordering::Acquire);
        }
    }
}

fn is_fresh(lease: u64, now: u64) -> bool {
    lease != 0 && now.saturating_sub(lease) < LEASE.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: InspectionOrder =
        InspectionOrder { kind: InspectionKind::CpuTime, duration: Duration::from_secs(3), rate: 100 };
    const SECOND: u64 = 1_000_000_000;

    fn words() -> Vec<AtomicU64> {
        (0..INSPECTION_WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn an_order_reaches_the_process_that_it_is_for() {
        let words = words();
        let room = Inspection::in_words(&words);
        let lease = room.lease(SECOND).unwrap();
        let number = lease.give(7, ORDER);
        assert_eq!((room.order_number(), room.order(7), room.order(8)), (number, Some(ORDER), None));
        assert!(!lease.has_begun(number) && lease.outcome(number).is_none());
        room.begin(number, 5);
        room.entries().append(b"x", 0, 0, 1);
        room.add(InspectionNumber::Samples, 2);
        assert!(lease.has_begun(number) && lease.outcome(number).is_none());
        room.end(number, InspectionOutcome::Done);
        assert_eq!(lease.outcome(number), Some(InspectionOutcome::Done));
        assert_eq!((room.entries().iter().count(), room.number(InspectionNumber::Samples)), (1, 2));
        room.begin(number + 1, 6);
        assert_eq!((room.entries().iter().count(), room.number(InspectionNumber::Samples)), (0, 0));
        assert_eq!(room.number(InspectionNumber::BegunNanos), 6);
    }

    #[test]
    fn one_at_a_time_has_the_lease() {
        let words = words();
        let room = Inspection::in_words(&words);
        let mut lease = room.lease(SECOND).unwrap();
        assert!(room.lease(2 * SECOND).is_none() && lease.renew(2 * SECOND));
        assert!(room.lease(4 * SECOND - 1).is_none(), "it counts from the last time that it was renewed");
        let other = room.lease(4 * SECOND).unwrap();
        assert!(!lease.renew(4 * SECOND), "it came too late");
        drop(lease);
        assert!(room.is_awaited(5 * SECOND), "the other one's is left alone");
        drop(other);
        assert!(!room.is_awaited(5 * SECOND) && room.lease(5 * SECOND).is_some());
    }

    #[test]
    fn who_dies_is_waited_for_no_longer() {
        let words = words();
        let room = Inspection::in_words(&words);
        std::mem::forget(room.lease(SECOND));
        assert!(room.is_awaited(3 * SECOND - 1) && !room.is_awaited(3 * SECOND));
    }

    #[test]
    fn nonsense_is_no_order_and_no_success() {
        let words: Vec<AtomicU64> = (0..INSPECTION_WORDS).map(|_| AtomicU64::new(u64::MAX)).collect();
        let room = Inspection::in_words(&words);
        assert_eq!((room.order(7), room.entries().iter().count()), (None, 0));
        let lease = InspectionLease { room, renewed: 0 };
        assert_eq!(lease.outcome(u64::MAX), Some(InspectionOutcome::Failed));
    }
}
