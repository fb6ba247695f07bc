//! The table of clients in memory that is given: which slot is whose, and what becomes of a full set.
//!
//! A subject has a set of eight slots, in which it is found by 64 bits of a hash. Whoever comes anew takes the
//! first slot whose time has passed, by a compare-and-swap of its tag. All workers choose the same one, so two
//! of them that bring the same new subject meet there, and it gets one slot. If all eight are of clients that
//! are ahead of their rates, the one that is least ahead is forgotten, and counted: it may then make its burst
//! again.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::gcra::{Rate, retry_after};
use super::key::LimitSubject;

/// One client's place in the table. Memory that is zero is a slot that is free.
#[derive(Debug, Default)]
#[repr(C)]
pub struct LimitSlot {
    /// A hash of the subject; 0 for none.
    tag: AtomicU64,
    /// When its next request is expected, in nanoseconds of the clock that all workers go by.
    arrival: AtomicU64,
}

/// All clients that limits know of.
#[derive(Debug)]
pub struct LimitTable<'m, S> {
    slots: &'m [LimitSlot],
    hasher: S,
    forgotten: &'m AtomicU64,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Admit,
    /// It is one too many.
    Refuse {
        /// The value of Retry-After, at least 1.
        retry_after_seconds: u64,
    },
}

/// Slots of a set: two lines of a processor's cache.
const SET_SLOTS: usize = 8;

/// How often a compare-and-swap is tried again. Each failure means that another worker's has succeeded, so
/// that all of them together never wait; whoever meets that many is one too many.
const ATTEMPTS_MAX: u32 = 64;

impl<'m, S: BuildHasher> LimitTable<'m, S> {
    /// A table in `slots`, of which as many are used as make a power of two. `hasher` has secret keys, the same in
    /// all workers: otherwise clients could choose addresses of one set. `forgotten` counts clients that were
    /// forgotten for others.
    pub fn new(slots: &'m [LimitSlot], hasher: S, forgotten: &'m AtomicU64) -> Self {
        let usable = if slots.is_empty() { 0 } else { 1 << slots.len().ilog2() };
        Self { slots: &slots[..usable], hasher, forgotten }
    }

    /// Whether `subject` may make a request at `now`, which counts if it may.
    pub fn check(&self, subject: &LimitSubject<'_>, rate: Rate, now: u64) -> Verdict {
        let hash = self.hasher.hash_one(subject);
        // 0 is a free slot's.
        let tag = hash.max(1);
        let sets = self.slots.len() / SET_SLOTS;
        if sets == 0 {
            return Verdict::Admit;
        }
        let first = (hash as usize & (sets - 1)) * SET_SLOTS;
        let set = &self.slots[first..first + SET_SLOTS];
        for _ in 0..ATTEMPTS_MAX {
            let Some(slot) = self.slot(set, tag, now) else { continue };
            let arrival = slot.arrival.load(Ordering::Acquire);
            match rate.admit(arrival, now) {
                Err(wait) => return Verdict::refuse(wait),
                Ok(next) => {
                    let swapped =
                        slot.arrival.compare_exchange(arrival, next, Ordering::AcqRel, Ordering::Relaxed);
                    if swapped.is_ok() {
                        return Verdict::Admit;
                    }
                }
            }
        }
        Verdict::refuse(Duration::ZERO)
    }

    /// The slot of `tag`, taken if it has none yet; `None` where another worker was quicker to take it.
    fn slot(&self, set: &'m [LimitSlot], tag: u64, now: u64) -> Option<&'m LimitSlot> {
        let mut free: Option<(&LimitSlot, u64)> = None;
        let mut oldest: Option<(&LimitSlot, u64, u64)> = None;
        for slot in set {
            let known = slot.tag.load(Ordering::Acquire);
            if known == tag {
                return Some(slot);
            }
            let arrival = slot.arrival.load(Ordering::Acquire);
            if arrival <= now {
                free = free.or(Some((slot, known)));
            } else if oldest.is_none_or(|(.., least)| arrival < least) {
                oldest = Some((slot, known, arrival));
            }
        }
        let take = |slot: &'m LimitSlot, known: u64| {
            slot.tag.compare_exchange(known, tag, Ordering::AcqRel, Ordering::Relaxed).ok().map(|_| slot)
        };
        if let Some((slot, known)) = free {
            return take(slot, known);
        }
        let (slot, known, arrival) = oldest?;
        let slot = take(slot, known)?;
        self.forgotten.fetch_add(1, Ordering::Relaxed);
        // Its time is that of the other client. If that one's last request changes it meanwhile, the newcomer is
        // taken for as far ahead, at most once.
        let _ = slot.arrival.compare_exchange(arrival, now, Ordering::AcqRel, Ordering::Relaxed);
        Some(slot)
    }
}

impl Verdict {
    fn refuse(wait: Duration) -> Self {
        Self::Refuse { retry_after_seconds: retry_after(wait) }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Barrier;
    use std::sync::atomic::AtomicU32;
    use std::thread;

    use portico_config::{LimitKey, RateLimit};

    use super::*;

    fn rate(requests: u32, burst: u32) -> Rate {
        let period = Duration::from_secs(60);
        Rate::new(&RateLimit { requests, period, burst, by: LimitKey::Client, dry_run: false })
    }

    fn slots(number: usize) -> Vec<LimitSlot> {
        (0..number).map(|_| LimitSlot::default()).collect()
    }

    fn client(number: u32) -> LimitSubject<'static> {
        LimitSubject::client(1, IpAddr::V4(Ipv4Addr::from(number)))
    }

    const NOW: u64 = 1 << 40;

    #[test]
    fn each_client_has_a_rate_of_its_own() {
        let (slots, forgotten) = (slots(1024), AtomicU64::new(0));
        let table = LimitTable::new(&slots, RandomState::new(), &forgotten);
        for number in 0..50 {
            for _ in 0..3 {
                assert_eq!(table.check(&client(number), rate(6, 3), NOW), Verdict::Admit);
            }
            let refused = Verdict::Refuse { retry_after_seconds: 10 };
            assert_eq!(table.check(&client(number), rate(6, 3), NOW), refused);
        }
        assert_eq!(table.check(&client(0), rate(6, 3), NOW + 10_000_000_000), Verdict::Admit);
        let other = LimitSubject::client(2, IpAddr::V4(Ipv4Addr::from(0)));
        assert_eq!(table.check(&other, rate(6, 3), NOW), Verdict::Admit, "another limit counts for itself");
    }

    /// Eight threads stand for eight workers: the memory is the same.
    #[test]
    fn together_workers_pass_exactly_what_the_limit_says() {
        for clients in [1, 3] {
            let (slots, forgotten) = (slots(8), AtomicU64::new(0));
            let passed: Vec<AtomicU32> = (0..clients).map(|_| AtomicU32::new(0)).collect();
            let (hasher, barrier) = (RandomState::new(), Barrier::new(8));
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let table = LimitTable::new(&slots, hasher.clone(), &forgotten);
                        barrier.wait();
                        for number in 0..1000 {
                            let who = number % clients;
                            if table.check(&client(who), rate(60, 100), NOW) == Verdict::Admit {
                                passed[who as usize].fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            let passed: Vec<u32> = passed.iter().map(|count| count.load(Ordering::Relaxed)).collect();
            assert_eq!(passed, vec![100; clients as usize]);
            assert_eq!(forgotten.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn slots_whose_time_has_passed_are_free_as_they_are() {
        let (slots, forgotten) = (slots(8), AtomicU64::new(0));
        let table = LimitTable::new(&slots, RandomState::new(), &forgotten);
        for number in 0..10_000 {
            let now = NOW + u64::from(number) * 10_000_000_000;
            assert_eq!(table.check(&client(number), rate(60, 1), now), Verdict::Admit);
        }
        assert_eq!(forgotten.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_full_set_forgets_who_is_least_ahead_and_counts_it() {
        let (slots, forgotten) = (slots(8), AtomicU64::new(0));
        let table = LimitTable::new(&slots, RandomState::new(), &forgotten);
        for number in 0..8 {
            for _ in 0..=number {
                assert_eq!(table.check(&client(number), rate(60, 9), NOW), Verdict::Admit);
            }
        }
        assert_eq!(table.check(&client(8), rate(60, 9), NOW), Verdict::Admit);
        assert_eq!(forgotten.load(Ordering::Relaxed), 1);
        // The one that was ahead by eight requests is still known.
        assert_eq!(table.check(&client(7), rate(60, 9), NOW), Verdict::Admit);
        assert!(matches!(table.check(&client(7), rate(60, 9), NOW), Verdict::Refuse { .. }));
    }

    #[test]
    fn however_many_clients_need_no_more_memory() {
        let (slots, forgotten) = (slots(1024), AtomicU64::new(0));
        let table = LimitTable::new(&slots, RandomState::new(), &forgotten);
        for number in 0..100_000 {
            table.check(&client(number), rate(60, 1), NOW);
        }
        assert!(forgotten.load(Ordering::Relaxed) >= 100_000 - 1024);
    }

    #[test]
    fn what_is_in_the_memory_locks_nobody_out() {
        let (slots, forgotten) = (slots(8), AtomicU64::new(0));
        for slot in &slots {
            slot.tag.store(7, Ordering::Relaxed);
            slot.arrival.store(u64::MAX, Ordering::Relaxed);
        }
        let table = LimitTable::new(&slots, RandomState::new(), &forgotten);
        assert_eq!(table.check(&client(1), rate(60, 1), NOW), Verdict::Admit);
        let none = LimitTable::new(&[], RandomState::new(), &forgotten);
        assert_eq!(none.check(&client(1), rate(60, 1), NOW), Verdict::Admit);
    }
}
