//! How many requests of a route run at once, in all workers together, counted in memory that all of them share.
//!
//! Each worker has a row there, in which it alone writes: pairs of a limit's id and of how many of its requests
//! run in that worker. Readers add the rows up. A worker that dies needs no repair: whoever looks after the
//! workers clears its row before the next one gets it, and until then leaves it out.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many limits of this kind a configuration may have.
pub const CONCURRENT_LIMITS_MAX: usize = 64;

/// Words of a row: for each limit its id, which is not 0, and how many of its requests run.
pub const CONCURRENCY_WORDS: usize = CONCURRENT_LIMITS_MAX * 2;

/// How many requests of a route may run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencyLimit {
    /// So many.
    pub max: u32,
    /// Under which all routes that inherit it count together, in workers of other configurations as well; not 0.
    pub id: u64,
    /// Where in a row of this configuration it is, below [`CONCURRENT_LIMITS_MAX`].
    pub index: usize,
}

/// What one worker counts.
#[derive(Clone, Copy, Debug)]
pub struct ConcurrencyRow<'m>(&'m [AtomicU64]);

impl<'m> ConcurrencyRow<'m> {
    /// The row in these words, which are [`CONCURRENCY_WORDS`], or fewer.
    pub fn new(words: &'m [AtomicU64]) -> Self {
        Self(words)
    }

    /// Says which limit is counted at its index; before the first request.
    pub fn declare(self, limit: ConcurrencyLimit) {
        if let Some(id) = self.0.get(limit.index * 2) {
            id.store(limit.id, Ordering::SeqCst);
        }
    }

    /// Counts a request of `limit` that begins, if there is room for it beside those of `others`; whether there
    /// is.
    ///
    /// It is counted before the others are asked, and all of it in one order (`SeqCst`): of two workers that take
    /// the last place at the same moment at least one sees the other. So there are never more than `max`; both may
    /// be refused then, for that once.
    pub fn take(self, limit: ConcurrencyLimit, others: impl FnOnce() -> u64) -> bool {
        let Some(count) = self.0.get(limit.index * 2 + 1) else { return false };
        let before = count.fetch_add(1, Ordering::SeqCst);
        if before.saturating_add(others()) < u64::from(limit.max) {
            return true;
        }
        self.release(limit);
        false
    }

    /// Counts a request of `limit` that another worker has let in.
    pub fn take_admitted(self, limit: ConcurrencyLimit) {
        if let Some(count) = self.0.get(limit.index * 2 + 1) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A request of `limit` has ended.
    pub fn release(self, limit: ConcurrencyLimit) {
        if let Some(count) = self.0.get(limit.index * 2 + 1) {
            count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// How many requests of `limit` run in this worker. One of another configuration, as there is during a reload,
    /// may have it at another index.
    pub fn running(self, limit: ConcurrencyLimit) -> u64 {
        let at = |index: usize| match self.0.get(index * 2..index * 2 + 2)? {
            [id, count] if id.load(Ordering::SeqCst) == limit.id => Some(count.load(Ordering::SeqCst)),
            _ => None,
        };
        at(limit.index).or_else(|| (0..self.0.len() / 2).find_map(at)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    fn memory() -> Vec<AtomicU64> {
        (0..CONCURRENCY_WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    fn limit(max: u32, id: u64, index: usize) -> ConcurrencyLimit {
        ConcurrencyLimit { max, id, index }
    }

    #[test]
    fn so_many_run_at_once_in_all_workers_together() {
        let (one, other) = (memory(), memory());
        let (one, other) = (ConcurrencyRow::new(&one), ConcurrencyRow::new(&other));
        let limit = limit(3, 7, 0);
        one.declare(limit);
        other.declare(limit);
        let (take_one, take_other) =
            (|| one.take(limit, || other.running(limit)), || other.take(limit, || one.running(limit)));
        assert!(take_one() && take_other() && take_one());
        assert!(!take_one() && !take_other() && !take_one());
        one.release(limit);
        assert!(take_other() && !take_one());
        assert_eq!((one.running(limit), other.running(limit)), (1, 2));
        // It was let in elsewhere, and leaves there when it has come.
        one.take_admitted(limit);
        assert_eq!(one.running(limit), 2);
    }

    #[test]
    fn a_limit_is_found_in_a_worker_of_another_configuration() {
        let memory = memory();
        let row = ConcurrencyRow::new(&memory);
        let last = CONCURRENT_LIMITS_MAX - 1;
        row.declare(limit(9, 1, 0));
        row.declare(limit(9, 2, last));
        assert!(row.take(limit(9, 2, last), || 0));
        for index in [0, 1, last] {
            assert_eq!(row.running(limit(9, 2, index)), 1, "{index}");
            assert_eq!(row.running(limit(9, 3, index)), 0, "{index}");
        }
    }

    /// Eight threads stand for eight workers.
    #[test]
    fn there_are_never_more_than_the_limit() {
        let rows: Vec<Vec<AtomicU64>> = (0..8).map(|_| memory()).collect();
        let (limit, barrier) = (limit(3, 7, 0), Barrier::new(8));
        let (running, most, passed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        rows.iter().for_each(|row| ConcurrencyRow::new(row).declare(limit));
        thread::scope(|scope| {
            for own in 0..8 {
                let (rows, barrier, running, most, passed) = (&rows, &barrier, &running, &most, &passed);
                scope.spawn(move || {
                    barrier.wait();
                    let row = ConcurrencyRow::new(&rows[own]);
                    let others = || {
                        let others = rows.iter().enumerate().filter(|(at, _)| *at != own);
                        others.map(|(_, row)| ConcurrencyRow::new(row).running(limit)).sum()
                    };
                    for _ in 0..20_000 {
                        if row.take(limit, others) {
                            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            passed.fetch_add(1, Ordering::Relaxed);
                            running.fetch_sub(1, Ordering::SeqCst);
                            row.release(limit);
                        }
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert!(passed.into_inner() > 0);
        assert!(rows.iter().all(|row| ConcurrencyRow::new(row).running(limit) == 0));
    }

    #[test]
    fn memory_without_room_lets_nobody_in() {
        assert!(!ConcurrencyRow::new(&[]).take(limit(1, 1, 0), || 0));
        assert_eq!(ConcurrencyRow::new(&[]).running(limit(1, 1, 0)), 0);
    }
}
