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
use crate::labels::{
    DeathReason, Handshake, LogSeverity, Method, ReloadResult, RequestProtocol, StartReason, StatusCode,
    ThreadUse, end_reason,
};
use crate::metric::Metric;
use crate::table::{Counter, Gauge, Histogram};

/// The metrics of one process. It writes them, everybody reads them. Copies are the same cells.
#[derive(Clone, Copy)]
pub struct Metrics<'a> {
    words: &'a [AtomicU64; METRIC_WORDS],
}

/// An exchange that has ended, as it is counted. Times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct CountedExchange {
    /// The method of its request.
    pub method: Method,
    /// The status of its response.
    pub code: u16,
    /// All of its time.
    pub whole: u64,
    /// That of the application, and that in which the response was written; `None` where no call was made for it.
    pub call: Option<(u64, u64)>,
}

impl CountedExchange {
    /// One for which no call was made.
    pub fn without_call(method: Method, code: u16, whole: u64) -> Self {
        Self { method, code, whole, call: None }
    }
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
        let word = HISTOGRAMS_AT + HISTOGRAMS[histogram as usize];
        match nanos {
            0 => self.increase(word + 1, 1), // Most requests have not waited at all.
            _ => self.record_in(word, nanos, bucket_of(nanos)),
        }
    }

    /// The same for a series whose words begin at `word` and a duration whose bucket is known.
    #[inline]
    fn record_in(self, word: usize, nanos: u64, bucket: usize) {
        self.increase(word, nanos);
        self.increase(word + 1 + bucket, 1);
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
    /// An exchange has ended.
    #[inline]
    pub fn record_exchange(self, ended: &CountedExchange) {
        const EXCHANGES: usize = COUNTERS_AT + COUNTERS[Counter::Exchanges as usize];
        const DURATIONS: usize = HISTOGRAMS_AT + HISTOGRAMS[Histogram::RequestDuration as usize];
        const APPLICATION: usize = HISTOGRAMS_AT + HISTOGRAMS[Histogram::ApplicationDuration as usize];
        let CountedExchange { method, code, whole, call } = *ended;
        self.increase(EXCHANGES + method.with_code(StatusCode::of(code)), 1);
        let bucket = bucket_of(whole);
        self.record_in(DURATIONS + method.with_class(code) * SERIES_WORDS, whole, bucket);
        if let Some((application, write)) = call {
            // As a rule all of the time is the application's.
            let bucket = if application == whole { bucket } else { bucket_of(application) };
            self.record_in(APPLICATION, application, bucket);
            self.record(Histogram::WriteDuration, write);
        }
    }

    /// An exchange has come by this protocol.
    #[inline]
    pub fn add_protocol(self, protocol: RequestProtocol) {
        self.increase(COUNTERS_AT + COUNTERS[Counter::ExchangesByProtocol as usize] + protocol.series(), 1);
    }

    /// A request of this method has begun.
    #[inline]
    pub fn begin_request(self, method: Method) {
        self.increase(GAUGES[Gauge::ActiveRequests as usize] + method.place(), 1);
    }

    /// Such a request has ended.
    #[inline]
    pub fn end_request(self, method: Method) {
        let word = GAUGES[Gauge::ActiveRequests as usize] + method.place();
        self.put(word, self.get(word).wrapping_sub(1));
    }

    /// An exchange has ended otherwise than with the application's whole response, for this reason of the access
    /// log.
    pub fn add_ended(self, reason: &str) {
        self.increase(COUNTERS_AT + COUNTERS[Counter::ExchangesEnded as usize] + end_reason(reason), 1);
    }

    /// A TLS handshake has ended.
    pub fn add_handshake(self, handshake: Handshake) {
        self.increase(COUNTERS_AT + COUNTERS[Counter::TlsHandshakes as usize] + handshake.series(), 1);
    }

    /// A worker was started.
    pub fn add_worker_start(self, reason: StartReason) {
        self.increase(COUNTERS_AT + COUNTERS[Counter::WorkerStarts as usize] + reason as usize, 1);
    }

    /// A worker has died.
    pub fn add_worker_death(self, reason: DeathReason) {
        self.increase(COUNTERS_AT + COUNTERS[Counter::WorkerDeaths as usize] + reason as usize, 1);
    }

    /// So many streams of connections have begun or ended, and so many connections carry some for the first time
    /// or no more.
    #[inline]
    pub fn add_streams(self, streams: i64, sessions: i64) {
        for (gauge, change) in [(Gauge::Streams, streams), (Gauge::Sessions, sessions)] {
            let word = GAUGES[gauge as usize];
            self.put(word, self.get(word).wrapping_add_signed(change));
        }
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
        metrics.record_exchange(&ended(b"GET", 200, 1_000_000));
        metrics.begin_request(Method::of(b"GET"));
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

    fn ended(method: &[u8], code: u16, whole: u64) -> CountedExchange {
        CountedExchange { method: Method::of(method), code, whole, call: None }
    }

    #[test]
    fn an_exchange_counts_for_its_method_code_and_class() {
        let metrics = Metrics::private();
        metrics.record_exchange(&ended(b"BREW", 418, 3_000_000_000));
        let series = Method::OTHER.with_code(StatusCode::of(418));
        let labels = [("http_request_method", "_OTHER"), ("http_response_status_code", "4xx_other")];
        assert_eq!(Counter::Exchanges.metric().series(series), labels);
        assert_eq!((metrics.total_at(Counter::Exchanges, series), metrics.total(Counter::Exchanges)), (1, 1));
        let (sum, buckets) = metrics.durations_at(Histogram::RequestDuration, Method::OTHER.with_class(418));
        assert_eq!((sum, buckets.iter().sum::<u64>()), (3_000_000_000, 1));
        assert_eq!(metrics.durations_at(Histogram::ApplicationDuration, 0).0, 0, "no call was made for it");
    }

    #[test]
    fn the_stages_of_a_call_count_apart() {
        let metrics = Metrics::private();
        for (whole, call) in [(9_000, (9_000, 0)), (9_000, (5_000, 3_000))] {
            metrics.record_exchange(&CountedExchange { call: Some(call), ..ended(b"GET", 200, whole) });
        }
        let stage = |histogram| {
            let (sum, buckets) = metrics.durations_at(histogram, 0);
            (sum, [0, 3_000, 5_000, 9_000].map(|nanos| buckets[bucket_of(nanos)]))
        };
        assert_eq!(stage(Histogram::ApplicationDuration), (14_000, [0, 0, 1, 1]));
        assert_eq!(stage(Histogram::WriteDuration), (3_000, [1, 1, 0, 0]));
    }

    #[test]
    fn each_event_is_counted_once_and_under_its_label() {
        let metrics = Metrics::private();
        metrics.begin_request(Method::of(b"PUT"));
        metrics.begin_request(Method::of(b"PUT"));
        metrics.end_request(Method::of(b"PUT"));
        metrics.add_protocol(RequestProtocol::of(crate::ProtocolVersion::Http2, true));
        metrics.add_ended("timeout");
        metrics.add_handshake(Handshake::Done(13));
        metrics.add_worker_start(StartReason::Reload);
        metrics.add_worker_death(DeathReason::Stalled);
        metrics.add_streams(3, 1);
        metrics.add_streams(-1, 0);
        let put = metrics.gauge_at(Gauge::ActiveRequests, Method::of(b"PUT").place());
        assert_eq!((put, metrics.gauge(Gauge::ActiveRequests)), (1, 1));
        assert_eq!((metrics.gauge(Gauge::Streams), metrics.gauge(Gauge::Sessions)), (2, 1));
        let counters = Counter::ALL.iter().flat_map(|counter| {
            let series = 0..counter.metric().series_count();
            series.filter(|series| metrics.total_at(*counter, *series) > 0).map(|series| {
                counter.metric().series(series).iter().map(|label| label.1).collect::<Vec<_>>().join(" ")
            })
        });
        let counted: Vec<_> = counters.collect();
        assert_eq!(counted, ["2 https", "timeout", "1.3 succeeded", "reload", "stalled"]);
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
