//! The table of clients in memory that is given: which slot is whose, and what becomes of a full set.
//!
//! A subject has a set of eight slots, in which it is found by 64 bits of a hash. Whoever comes anew takes the
//! first slot whose time has passed, by a compare-and-swap of its tag. All workers choose the same one, so two
//! of them that bring the same new subject meet there, and it gets one slot. If all eight are of clients that
//! are ahead of their rates, the one that is least ahead is forgotten, and counted: it may then make its burst
//! again.
//!
//! The memory is nothing but 64-bit numbers that are read and written atomically, so any content is a table:
//! a worker that writes there what it likes spoils limits, and nothing else.
//!
//! ```text
//!   0       clients that were forgotten for others
//!   8, 9    tag and arrival of the first slot
//!   10, 11  ... of the second, and so on
//! ```

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::gcra::{Rate, retry_after};
use super::key::LimitSubject;

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

/// Words before the first slot: one line of a processor's cache.
const HEAD_WORDS: usize = 8;

/// Words of a slot: the tag, which is a hash of the subject or 0, and the arrival, which is when its next request
/// is expected, in nanoseconds of the clock that all workers go by. Where both are zero the slot is free.
const SLOT_WORDS: usize = 2;

/// Words of memory for a table of at least `slots` slots, of which there is a power of two.
pub fn table_words(slots: u32) -> usize {
    HEAD_WORDS + (slots.max(1) as usize).next_power_of_two().max(SET_SLOTS) * SLOT_WORDS
}

/// How many clients were forgotten for others, in a table in these words.
pub fn forgotten(words: &[AtomicU64]) -> u64 {
    words.first().map_or(0, |count| count.load(Ordering::Relaxed))
}

/// One client's place in the table.
struct LimitSlot<'m> {
    tag: &'m AtomicU64,
    arrival: &'m AtomicU64,
}

/// All clients that limits know of, in the memory `M`.
#[derive(Debug)]
pub struct LimitTable<M, S> {
    memory: M,
    hasher: S,
}

impl<M: AsRef<[AtomicU64]>, S: BuildHasher> LimitTable<M, S> {
    /// A table in `memory`, of which as many slots are used as make a power of two. `hasher` has secret keys, the
    /// same in all workers: otherwise clients could choose addresses of one set.
    pub fn new(memory: M, hasher: S) -> Self {
        Self { memory, hasher }
    }

    /// Whether `subject` may make a request at `now`, which counts if it may.
    pub fn check(&self, subject: &LimitSubject<'_>, rate: Rate, now: u64) -> Verdict {
        let hash = self.hasher.hash_one(subject);
        // 0 is a free slot's.
        let tag = hash.max(1);
        let Some(set) = self.set(hash) else { return Verdict::Admit };
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

    /// Takes back that a request of `subject` was counted.
    pub fn take_back(&self, subject: &LimitSubject<'_>, rate: Rate) {
        let hash = self.hasher.hash_one(subject);
        let tag = hash.max(1);
        for words in self.set(hash).into_iter().flat_map(|set| set.chunks_exact(SLOT_WORDS)) {
            if words[0].load(Ordering::Acquire) == tag {
                let earlier = |arrival| Some(rate.take_back(arrival));
                // What is closed over never fails.
                let _ = words[1].fetch_update(Ordering::AcqRel, Ordering::Acquire, earlier);
                return;
            }
        }
    }

    /// The words of the set of this hash; `None` where the memory has no room for one.
    fn set(&self, hash: u64) -> Option<&[AtomicU64]> {
        const WORDS: usize = SET_SLOTS * SLOT_WORDS;
        let words = self.memory.as_ref().get(HEAD_WORDS..)?;
        let sets = 1 << (words.len() / WORDS).checked_ilog2()?;
        let first = (hash as usize & (sets - 1)) * WORDS;
        words.get(first..first + WORDS)
    }

    /// The slot of `tag`, taken if it has none yet; `None` where another worker was quicker to take it.
    fn slot<'m>(&self, set: &'m [AtomicU64], tag: u64, now: u64) -> Option<LimitSlot<'m>> {
        let mut free: Option<(LimitSlot<'_>, u64)> = None;
        let mut oldest: Option<(LimitSlot<'_>, u64, u64)> = None;
        for words in set.chunks_exact(SLOT_WORDS) {
            let slot = LimitSlot { tag: &words[0], arrival: &words[1] };
            let known = slot.tag.load(Ordering::Acquire);
            if known == tag {
                return Some(slot);
            }
            let arrival = slot.arrival.load(Ordering::Acquire);
            if arrival <= now {
                free = free.or(Some((slot, known)));
            } else if oldest.as_ref().is_none_or(|(.., least)| arrival < *least) {
                oldest = Some((slot, known, arrival));
            }
        }
        let take = |slot: LimitSlot<'m>, known: u64| {
            slot.tag.compare_exchange(known, tag, Ordering::AcqRel, Ordering::Relaxed).ok().map(|_| slot)
        };
        if let Some((slot, known)) = free {
            return take(slot, known);
        }
        let (slot, known, arrival) = oldest?;
        let slot = take(slot, known)?;
        if let Some(forgotten) = self.memory.as_ref().first() {
            forgotten.fetch_add(1, Ordering::Relaxed);
        }
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

    fn memory(slots: u32) -> Vec<AtomicU64> {
        (0..table_words(slots)).map(|_| AtomicU64::new(0)).collect()
    }

    fn client(number: u32) -> LimitSubject<'static> {
        LimitSubject::client(1, IpAddr::V4(Ipv4Addr::from(number)))
    }

    const NOW: u64 = 1 << 40;

    #[test]
    fn each_client_has_a_rate_of_its_own() {
        let memory = memory(1024);
        let table = LimitTable::new(&memory, RandomState::new());
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

    #[test]
    fn what_is_taken_back_does_not_count() {
        let memory = memory(1024);
        let table = LimitTable::new(&memory, RandomState::new());
        for _ in 0..100 {
            assert_eq!(table.check(&client(1), rate(6, 2), NOW), Verdict::Admit);
            table.take_back(&client(1), rate(6, 2));
            table.take_back(&client(2), rate(6, 2)); // It is not known, and stays so.
        }
        assert_eq!(table.check(&client(1), rate(6, 2), NOW), Verdict::Admit);
        assert_eq!(table.check(&client(1), rate(6, 2), NOW), Verdict::Admit);
        assert!(matches!(table.check(&client(1), rate(6, 2), NOW), Verdict::Refuse { .. }));
    }

    /// Eight threads stand for eight workers: the memory is the same.
    #[test]
    fn together_workers_pass_exactly_what_the_limit_says() {
        for clients in [1, 3] {
            let memory = memory(8);
            let passed: Vec<AtomicU32> = (0..clients).map(|_| AtomicU32::new(0)).collect();
            let (hasher, barrier) = (RandomState::new(), Barrier::new(8));
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let table = LimitTable::new(&memory, hasher.clone());
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
            assert_eq!(forgotten(&memory), 0);
        }
    }

    #[test]
    fn slots_whose_time_has_passed_are_free_as_they_are() {
        let memory = memory(8);
        let table = LimitTable::new(&memory, RandomState::new());
        for number in 0..10_000 {
            let now = NOW + u64::from(number) * 10_000_000_000;
            assert_eq!(table.check(&client(number), rate(60, 1), now), Verdict::Admit);
        }
        assert_eq!(forgotten(&memory), 0);
    }

    #[test]
    fn a_full_set_forgets_who_is_least_ahead_and_counts_it() {
        let memory = memory(8);
        let table = LimitTable::new(&memory, RandomState::new());
        for number in 0..8 {
            for _ in 0..=number {
                assert_eq!(table.check(&client(number), rate(60, 9), NOW), Verdict::Admit);
            }
        }
        assert_eq!(table.check(&client(8), rate(60, 9), NOW), Verdict::Admit);
        assert_eq!(forgotten(&memory), 1);
        // The one that was ahead by eight requests is still known.
        assert_eq!(table.check(&client(7), rate(60, 9), NOW), Verdict::Admit);
        assert!(matches!(table.check(&client(7), rate(60, 9), NOW), Verdict::Refuse { .. }));
    }

    #[test]
    fn however_many_clients_need_no_more_memory() {
        let memory = memory(1024);
        let table = LimitTable::new(&memory, RandomState::new());
        for number in 0..1_000_000 {
            table.check(&client(number), rate(60, 1), NOW);
        }
        assert_eq!(memory.len(), table_words(1024));
        assert!((1_000_000 - 1024..1_000_000).contains(&forgotten(&memory)));
    }

    #[test]
    fn what_is_in_the_memory_locks_nobody_out() {
        let memory = memory(8);
        memory.iter().for_each(|word| word.store(u64::MAX, Ordering::Relaxed));
        let table = LimitTable::new(&memory, RandomState::new());
        assert_eq!(table.check(&client(1), rate(60, 1), NOW), Verdict::Admit);
        for words in [0, 1, HEAD_WORDS, HEAD_WORDS + 15] {
            let none = LimitTable::new(&memory[..words], RandomState::new());
            assert_eq!(none.check(&client(1), rate(60, 1), NOW), Verdict::Admit, "{words}");
        }
    }

    #[test]
    fn a_table_has_a_power_of_two_of_slots() {
        for (slots, expected) in [(0, 8), (8, 8), (9, 16), (1024, 1024), (1025, 2048), (65_536, 65_536)] {
            assert_eq!(table_words(slots), HEAD_WORDS + 2 * expected, "{slots}");
        }
    }
}
