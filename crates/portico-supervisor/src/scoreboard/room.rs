//! The room of a slot beside its numbers: what is larger, and mostly empty, so that its pages cost nothing.
//!
//! ```text
//!   inspection: an order, then what was found   the application's metrics   durations by route
//!   requests that were slow or failed   route of each thread
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use portico_metrics::{ENDED_WORDS, EndedRequests, SERIES_WORDS};

use super::entries::Entries;
use super::inspection::{INSPECTION_WORDS, Inspection, PAGE_WORDS};
use super::routes::{ROUTE_NUMBERS, RouteNumber};

/// The room of one slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotRoom<'a>(&'a [AtomicU64]);

/// For the metrics of the application: some thousand series.
const APPLICATION_WORDS: usize = 1024 * 1024 / 8;
const APPLICATION_AT: usize = INSPECTION_WORDS;
const DURATIONS_AT: usize = APPLICATION_AT + APPLICATION_WORDS;
const DURATION_WORDS: usize = ROUTE_NUMBERS * SERIES_WORDS;
const ENDED_AT: usize = DURATIONS_AT + DURATION_WORDS;
const THREADS_AT: usize = ENDED_AT + ENDED_WORDS;

/// Bits of the route in a thread's word; above them is the number of the request.
const ROUTE_BITS: u32 = 16;

/// Words of a slot with so many threads. Whole pages, so that those of one slot can be given back.
pub(super) fn room_words(threads: usize) -> Option<usize> {
    threads.checked_add(THREADS_AT)?.checked_next_multiple_of(PAGE_WORDS)
}

/// The bytes of a slot's room that hold what was found, from its start.
pub(super) const FOUND_BYTES: std::ops::Range<usize> = PAGE_WORDS * 8..INSPECTION_WORDS * 8;

impl<'a> SlotRoom<'a> {
    /// That in `words`.
    pub(super) fn in_words(words: &'a [AtomicU64]) -> Self {
        Self(words)
    }

    pub(super) fn inspection(self) -> Inspection<'a> {
        Inspection::in_words(self.0.get(..INSPECTION_WORDS).unwrap_or_default())
    }

    pub(super) fn application_metrics(self) -> Entries<'a> {
        Entries::in_words(self.0.get(APPLICATION_AT..DURATIONS_AT).unwrap_or_default())
    }

    /// The durations of the requests of one route: their sum and their buckets.
    pub(super) fn durations(self, route: RouteNumber) -> &'a [AtomicU64] {
        let from = DURATIONS_AT + route.index() * SERIES_WORDS;
        self.0.get(from..from + SERIES_WORDS).unwrap_or_default()
    }

    /// The last requests that were slow or failed.
    pub(super) fn ended_requests(self) -> EndedRequests<'a> {
        EndedRequests::in_words(self.0.get(ENDED_AT..THREADS_AT).unwrap_or_default())
    }

    fn thread(self, index: usize) -> Option<&'a AtomicU64> {
        self.0.get(THREADS_AT.checked_add(index)?)
    }

    /// Thread `index` has learnt that its request number `sequence` is one of this route.
    pub(super) fn set_route(self, index: usize, sequence: u64, route: RouteNumber) {
        if let Some(word) = self.thread(index) {
            word.store(sequence << ROUTE_BITS | (route.index() as u64 + 1), Ordering::Relaxed);
        }
    }

    /// The route of request number `sequence` of thread `index`, if that has told one. The number tells an earlier
    /// request's from it, so that a request that tells none costs nothing.
    pub(super) fn route(self, index: usize, sequence: u64) -> Option<RouteNumber> {
        let word = self.thread(index)?.load(Ordering::Relaxed);
        let number = (word & ((1 << ROUTE_BITS) - 1)).checked_sub(1)?;
        (word >> ROUTE_BITS == sequence & (u64::MAX >> ROUTE_BITS))
            .then(|| RouteNumber::of_index(number as usize))
    }

    /// Forgets what belongs to the worker that was there, and no total.
    pub(super) fn begin_worker(self) {
        let threads = self.0.get(THREADS_AT..).unwrap_or_default();
        threads.iter().filter(|word| word.load(Ordering::Relaxed) != 0).for_each(|word| {
            word.store(0, Ordering::Relaxed);
        });
    }
}
