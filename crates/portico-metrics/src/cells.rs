//! The cells: where the values of metrics are kept, one block of words for each process.
//!
//! Each process of a server has a block of its own, the supervisor as well, and all blocks have the same layout.
//! A block outlives its process: the next worker in a slot goes on adding to the totals that it finds, so counters
//! never fall, whatever a worker dies of. What it has done itself is the difference to the totals at its start,
//! which are noted in the block as well.
//!
//! Each cell is written by one thread at a time: by whoever has the engine, or by a thread of its own. So adding
//! is a load and a store, without the lock of a read-modify-write. Readers get each number whole, but not all
//! numbers of the same moment. They take them for numbers and nothing else: a process can write what it likes into
//! its block.
//!
//! ```text
//!   gauges | counters | counters at the worker's start | plain histograms at the start | histograms
//! ```
//!
//! A histogram has for each series the sum of its durations in nanoseconds and then its buckets.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::buckets::{BUCKETS, Buckets, bucket_of};
use crate::labels::{LogSeverity, Method, ReloadResult, StatusCode, ThreadUse};
use crate::metric::Metric;
use crate::table::{Counter, Gauge, Histogram};

/// The metrics of one process. It writes them, everybody reads them. Copies are the same cells.
#[derive(Clone, Copy)]
pub struct Metrics<'a> {
    words: &'a [AtomicU64; METRIC_WORDS],
}

/// The sum of the durations of a series and its buckets.
const SERIES_WORDS: usize = 1 + BUCKETS;

const GAUGES: [usize; Gauge::ROWS.len() + 1] = places(&Gauge::ROWS, 1);
const COUNTERS: [usize; Counter::ROWS.len() + 1] = places(&Counter::ROWS, 1);
const HISTOGRAMS: [usize; Histogram::ROWS.len() + 1] = places(&Histogram::ROWS, SERIES_WORDS);

/// Words of the gauges, which come first in [`Metrics`].
pub const GAUGE_WORDS: usize = GAUGES[Gauge::ROWS.len()];
const COUNTER_WORDS: usize = COUNTERS[Counter::ROWS.len()];
const COUNTERS_AT: usize = GAUGE_WORDS;
const STARTS_AT: usize = COUNTERS_AT + COUNTER_WORDS;
const HISTOGRAM_STARTS_AT: usize = STARTS_AT + COUNTER_WORDS;
const HISTOGRAMS_AT: usize = HISTOGRAM_STARTS_AT + PLAIN_HISTOGRAMS * SERIES_WORDS;

/// Histograms without labels come first in the table, and their values at a worker's start are kept.
const PLAIN_HISTOGRAMS: usize = plain_histograms();

/// Words that [`Metrics`] take.
pub const METRIC_WORDS: usize = HISTOGRAMS_AT + HISTOGRAMS[Histogram::ROWS.len()];

/// Where the words of each metric begin, with `words` for each series; at last, where they end.
const fn places<const PLACES: usize>(rows: &[Metric], words: usize) -> [usize; PLACES] {
    let (mut places, mut row) = ([0; PLACES], 0);
    while row < rows.len() {
        places[row + 1] = places[row] + rows[row].series_count() * words;
        row += 1;
    }
    places
}

const fn plain_histograms() -> usize {
    let mut count = 0;
    while count < Histogram::ROWS.len() && Histogram::ROWS[count].labels.is_empty() {
        count += 1;
    }
    count
}

impl<'a> Metrics<'a> {
    /// Those that lie in `words`; `None` if these are not [`METRIC_WORDS`].
    pub fn in_words(words: &'a [AtomicU64]) -> Option<Self> {
        words.try_into().ok().map(|words| Self { words })
    }

    #[inline]
    fn get(self, word: usize) -> u64 {
        self.words[word].load(Ordering::Relaxed)
    }

    #[inline]
    fn put(self, word: usize, value: u64) {
        self.words[word].store(value, Ordering::Relaxed);
    }

    #[inline]
    fn increase(self, word: usize, value: u64) {
        self.put(word, self.get(word).wrapping_add(value));
    }

    /// Sets a gauge without labels.
    #[inline]
    pub fn set(self, gauge: Gauge, value: u64) {
        self.put(GAUGES[gauge as usize], value);
    }

    /// A gauge: the sum of its series, if it has some.
    pub fn gauge(self, gauge: Gauge) -> u64 {
        (0..gauge.metric().series_count())
            .fold(0, |sum, series| self.gauge_at(gauge, series).saturating_add(sum))
    }

    /// One series of a gauge.
    pub fn gauge_at(self, gauge: Gauge, series: usize) -> u64 {
        self.get(within(&GAUGES, gauge as usize, series))
    }

    /// Adds to a counter without labels.
    #[inline]
    pub fn add(self, counter: Counter, value: u64) {
        self.increase(COUNTERS_AT + COUNTERS[counter as usize], value);
    }

    /// The total of a counter: the sum of its series, if it has some.
    pub fn total(self, counter: Counter) -> u64 {
        (0..counter.metric().series_count())
            .fold(0, |sum, series| self.total_at(counter, series).saturating_add(sum))
    }

    /// The total of one series of a counter.
    pub fn total_at(self, counter: Counter, series: usize) -> u64 {
        self.get(COUNTERS_AT + within(&COUNTERS, counter as usize, series))
    }

    /// What of the total the worker that has the block now has added.
    pub fn since_start(self, counter: Counter) -> u64 {
        let own = (0..counter.metric().series_count()).map(|series| self.since_start_at(counter, series));
        own.fold(0, u64::saturating_add)
    }

    /// The same of one series.
    pub(crate) fn since_start_at(self, counter: Counter, series: usize) -> u64 {
        let word = within(&COUNTERS, counter as usize, series);
        self.get(COUNTERS_AT + word).saturating_sub(self.get(STARTS_AT + word))
    }

    /// Adds a duration to a histogram without labels.
    #[inline]
    pub fn record(self, histogram: Histogram, nanos: u64) {
        self.record_at(HISTOGRAMS_AT + HISTOGRAMS[histogram as usize], nanos);
    }

    #[inline]
    fn record_at(self, word: usize, nanos: u64) {
        self.increase(word, nanos);
        self.increase(word + 1 + bucket_of(nanos), 1);
    }

    /// The durations of one series of a histogram: their sum in nanoseconds, and their numbers by bucket.
    pub fn durations_at(self, histogram: Histogram, series: usize) -> (u64, Buckets) {
        let at = HISTOGRAMS_AT + within(&HISTOGRAMS, histogram as usize, series * SERIES_WORDS);
        (self.get(at), self.buckets(at + 1))
    }

    /// Those that the worker that has the block now has added to a histogram without labels.
    pub fn durations_since_start(self, histogram: Histogram) -> Buckets {
        let (_, mut buckets) = self.durations_at(histogram, 0);
        if (histogram as usize) < PLAIN_HISTOGRAMS {
            let before = self.buckets(HISTOGRAM_STARTS_AT + HISTOGRAMS[histogram as usize] + 1);
            buckets.iter_mut().zip(before).for_each(|(count, before)| *count = count.saturating_sub(before));
        }
        buckets
    }

    fn buckets(self, at: usize) -> Buckets {
        std::array::from_fn(|bucket| self.get(at + bucket))
    }

    /// Another worker begins, with the totals that the one before it has left.
    pub fn begin_worker(self) {
        (0..GAUGE_WORDS).for_each(|word| self.put(word, 0));
        (0..COUNTER_WORDS).for_each(|word| self.put(STARTS_AT + word, self.get(COUNTERS_AT + word)));
        let words = PLAIN_HISTOGRAMS * SERIES_WORDS;
        (0..words).for_each(|word| self.put(HISTOGRAM_STARTS_AT + word, self.get(HISTOGRAMS_AT + word)));
    }
}

/// What is counted with labels, each with the values that its metric has.
impl Metrics<'_> {
    /// An exchange has ended: with a response of this code to a request of this method, after this time.
    #[inline]
    pub fn record_exchange(self, method: Method, code: u16, nanos: u64) {
        const EXCHANGES: usize = COUNTERS_AT + COUNTERS[Counter::Exchanges as usize];
        const DURATIONS: usize = HISTOGRAMS_AT + HISTOGRAMS[Histogram::RequestDuration as usize];
        self.increase(EXCHANGES + method.with_code(StatusCode::of(code)), 1);
        self.record_at(DURATIONS + method.with_class(code) * SERIES_WORDS, nanos);
    }

    /// Sets the number of threads that are used for this.
    #[inline]
    pub fn set_threads(self, is_used: ThreadUse, count: u64) {
        self.put(GAUGES[Gauge::Threads as usize] + is_used as usize, count);
    }

    /// The number of threads that are used for this.
    pub fn threads(self, is_used: ThreadUse) -> u64 {
        self.gauge_at(Gauge::Threads, is_used as usize)
    }

    /// So many reloads have ended like this.
    pub fn add_reloads(self, result: ReloadResult, count: u64) {
        self.increase(COUNTERS_AT + COUNTERS[Counter::Reloads as usize] + result as usize, count);
    }

    /// How many reloads have ended like this.
    pub fn reloads(self, result: ReloadResult) -> u64 {
        self.total_at(Counter::Reloads, result as usize)
    }

    /// The error log has got a record of this severity.
    pub fn add_log_record(self, severity: LogSeverity) {
        self.increase(COUNTERS_AT + COUNTERS[Counter::LogRecords as usize] + severity as usize, 1);
    }
}

impl Metrics<'static> {
    /// Cells that no other process sees, for the rest of this one's life: an engine lasts as long as its process.
    pub fn private() -> Self {
        let words: Vec<AtomicU64> = (0..METRIC_WORDS).map(|_| AtomicU64::new(0)).collect();
        Self::in_words(words.leak()).expect("so many words were made")
    }
}

impl std::fmt::Debug for Metrics<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counters = Counter::ALL.iter().map(|counter| (counter, self.total(*counter)));
        f.debug_map().entries(counters.filter(|(_, total)| *total > 0)).finish()
    }
}

/// Word `offset` of a metric, or its last one.
fn within<const PLACES: usize>(places: &[usize; PLACES], row: usize, offset: usize) -> usize {
    (places[row] + offset).min(places[row + 1] - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buckets::quantile_nanos;

    #[test]
    fn every_cell_is_one_metrics_alone() {
        let metrics = Metrics::private();
        let mut expected = 0;
        for gauge in Gauge::ALL {
            for series in 0..gauge.metric().series_count() {
                assert_eq!(within(&GAUGES, *gauge as usize, series), expected);
                expected += 1;
            }
        }
        for (number, counter) in
            Counter::ALL.iter().enumerate().filter(|(_, it)| it.metric().labels.is_empty())
        {
            metrics.add(*counter, number as u64 + 1);
        }
        for (number, counter) in Counter::ALL.iter().enumerate() {
            let count = if counter.metric().labels.is_empty() { number as u64 + 1 } else { 0 };
            assert_eq!(metrics.total(*counter), count, "{counter:?}");
        }
        assert!(Gauge::ALL.iter().all(|gauge| metrics.gauge(*gauge) == 0));
        assert_eq!(metrics.durations_at(Histogram::QueueDuration, 0), (0, [0; BUCKETS]));
    }

    #[test]
    fn words_of_another_number_are_no_cells() {
        let words: Vec<AtomicU64> = (0..METRIC_WORDS + 1).map(|_| AtomicU64::new(0)).collect();
        assert!(Metrics::in_words(&words).is_none() && Metrics::in_words(&words[2..]).is_none());
        assert!(Metrics::in_words(&words[1..]).is_some());
    }

    #[test]
    fn totals_outlive_a_worker_and_gauges_do_not() {
        let metrics = Metrics::private();
        metrics.add(Counter::Calls, 7);
        metrics.record(Histogram::QueueDuration, 5_000);
        metrics.record_exchange(Method::of(b"GET"), 200, 1_000_000);
        metrics.set(Gauge::Connections, 3);
        metrics.set_threads(ThreadUse::Lost, 1);
        metrics.begin_worker();
        assert_eq!((metrics.total(Counter::Calls), metrics.since_start(Counter::Calls)), (7, 0));
        assert_eq!((metrics.total(Counter::Exchanges), metrics.since_start(Counter::Exchanges)), (1, 0));
        assert_eq!((metrics.gauge(Gauge::Connections), metrics.gauge(Gauge::Threads)), (0, 0));
        metrics.add(Counter::Calls, 2);
        metrics.record(Histogram::QueueDuration, 900_000);
        assert_eq!((metrics.total(Counter::Calls), metrics.since_start(Counter::Calls)), (9, 2));
        let own = metrics.durations_since_start(Histogram::QueueDuration);
        assert_eq!((own.iter().sum::<u64>(), quantile_nanos(&own, 1)), (1, Some(1_024_000)));
        let (sum, all) = metrics.durations_at(Histogram::QueueDuration, 0);
        assert_eq!((sum, all.iter().sum::<u64>()), (905_000, 2));
    }

    #[test]
    fn an_exchange_counts_for_its_method_code_and_class() {
        let metrics = Metrics::private();
        metrics.record_exchange(Method::of(b"BREW"), 418, 3_000_000_000);
        let series = Method::OTHER.with_code(StatusCode::of(418));
        let labels = [("http_request_method", "_OTHER"), ("http_response_status_code", "4xx_other")];
        assert_eq!(Counter::Exchanges.metric().series(series), labels);
        assert_eq!((metrics.total_at(Counter::Exchanges, series), metrics.total(Counter::Exchanges)), (1, 1));
        let (sum, buckets) = metrics.durations_at(Histogram::RequestDuration, Method::OTHER.with_class(418));
        assert_eq!((sum, buckets.iter().sum::<u64>()), (3_000_000_000, 1));
    }

    /// Whatever a process writes into its block, reading it neither fails nor reaches beyond it.
    #[test]
    fn nonsense_is_read_as_numbers() {
        let metrics = Metrics::private();
        (0..METRIC_WORDS).for_each(|word| metrics.put(word, u64::MAX));
        for counter in Counter::ALL {
            assert_eq!(metrics.total_at(*counter, usize::MAX / 2), u64::MAX);
            assert_eq!((metrics.total(*counter), metrics.since_start(*counter)), (u64::MAX, 0));
        }
        assert_eq!(metrics.gauge(Gauge::Threads), u64::MAX);
        metrics.add(Counter::Calls, 1);
        assert_eq!(metrics.total(Counter::Calls), 0, "it wraps and does not panic");
    }
}
