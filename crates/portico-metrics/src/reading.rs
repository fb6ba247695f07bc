//! The metrics of a whole server: what the blocks of its processes say together.

use crate::buckets::{Buckets, NO_DURATIONS};
use crate::cells::Metrics;
use crate::metric::Metric;
use crate::table::{Counter, Gauge, Histogram};

/// The blocks of a server's processes, for whoever shows their metrics.
pub struct Reading<'a> {
    supervisor: Metrics<'a>,
    slots: Vec<SlotReading<'a>>,
}

/// One slot's block.
pub struct SlotReading<'a> {
    /// The slot's number.
    pub slot: u32,
    /// Its metrics.
    pub metrics: Metrics<'a>,
    /// Whether it has a worker: else its gauges are those of one that is gone.
    pub is_occupied: bool,
}

/// One number that is shown, with what tells it from the others of its metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Number {
    /// The metric.
    pub metric: &'static Metric,
    /// The slot, where each has a number of its own.
    pub slot: Option<u32>,
    /// Labels with their values.
    pub labels: Vec<(&'static str, &'static str)>,
    /// The number.
    pub value: u64,
}

/// A gauge or a counter.
#[derive(Clone, Copy)]
enum Row {
    Gauge(Gauge),
    Counter(Counter),
}

impl Row {
    fn all() -> impl Iterator<Item = Self> {
        let gauges = Gauge::ALL.iter().copied().map(Self::Gauge);
        gauges.chain(Counter::ALL.iter().copied().map(Self::Counter))
    }

    fn metric(self) -> &'static Metric {
        match self {
            Self::Gauge(gauge) => gauge.metric(),
            Self::Counter(counter) => counter.metric(),
        }
    }

    fn value(self, metrics: Metrics<'_>, series: usize) -> u64 {
        match self {
            Self::Gauge(gauge) => metrics.gauge_at(gauge, series),
            Self::Counter(counter) => metrics.total_at(counter, series),
        }
    }

    /// Whether a zero is shown. Not of what has never been measured, and not of each of hundreds of series.
    fn shows(self, value: u64) -> bool {
        value > 0 || !(self.metric().is_optional || self.metric().labels.len() > 1)
    }
}

impl<'a> Reading<'a> {
    /// Of the supervisor's block and those of the slots.
    pub fn new(supervisor: Metrics<'a>, slots: impl IntoIterator<Item = SlotReading<'a>>) -> Self {
        Self { supervisor, slots: slots.into_iter().collect() }
    }

    /// A number of the whole server: the sum of all blocks. Where there is no worker, its gauges are none.
    fn sum(&self, row: Row, series: usize) -> u64 {
        if row.metric().by_supervisor {
            return row.value(self.supervisor, series);
        }
        let slots = self.slots.iter().filter(|slot| slot.is_occupied || matches!(row, Row::Counter(_)));
        let blocks = slots.map(|slot| slot.metrics).chain([self.supervisor]);
        blocks.map(|metrics| row.value(metrics, series)).fold(0, u64::saturating_add)
    }

    /// All gauges and counters of the server, in the order of the table. `by_slot`: those that each worker has are
    /// told slot by slot, and not as their sum.
    pub fn numbers(&self, by_slot: bool) -> Vec<Number> {
        let mut numbers = Vec::new();
        for row in Row::all() {
            let metric = row.metric();
            let mut push = |slot, series, value| {
                if row.shows(value) {
                    numbers.push(Number { metric, slot, labels: metric.series(series), value });
                }
            };
            for series in 0..metric.series_count() {
                if !(by_slot && metric.by_slot) {
                    push(None, series, self.sum(row, series));
                    continue;
                }
                for slot in &self.slots {
                    let value = row.value(slot.metrics, series);
                    // The totals of a slot stay when it is not used any more.
                    if slot.is_occupied || matches!(row, Row::Counter(_)) && value > 0 {
                        push(Some(slot.slot), series, value);
                    }
                }
            }
        }
        numbers
    }

    /// The gauges of the worker in a slot, and what it has counted itself.
    pub fn numbers_of_worker(slot: Metrics<'_>) -> Vec<Number> {
        let of_workers = |row: &Row| row.metric().by_slot || matches!(row, Row::Counter(_));
        let rows = Row::all().filter(|row| of_workers(row) && !row.metric().by_supervisor);
        let number = |row: Row, series: usize| {
            let metric = row.metric();
            let value = match row {
                Row::Gauge(gauge) => slot.gauge_at(gauge, series),
                Row::Counter(counter) => slot.since_start_at(counter, series),
            };
            let is_told = row.shows(value) && (metric.by_slot || value > 0);
            is_told.then(|| Number { metric, slot: None, labels: metric.series(series), value })
        };
        rows.flat_map(|row| (0..row.metric().series_count()).filter_map(move |series| number(row, series)))
            .collect()
    }

    /// The durations of one series of a histogram in the whole server: their sum in nanoseconds, and how many
    /// there are in each bucket.
    pub(crate) fn durations(&self, histogram: Histogram, series: usize) -> (u64, Buckets) {
        let (mut sum, mut buckets) = (0_u64, NO_DURATIONS);
        for slot in &self.slots {
            let (of_slot, counts) = slot.metrics.durations_at(histogram, series);
            sum = sum.saturating_add(of_slot);
            buckets.iter_mut().zip(counts).for_each(|(all, count)| *all = all.saturating_add(count));
        }
        (sum, buckets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::{Method, ReloadResult, ThreadUse};

    fn slot(slot: u32, is_occupied: bool) -> SlotReading<'static> {
        SlotReading { slot, metrics: Metrics::private(), is_occupied }
    }

    fn values(numbers: &[Number], name: &str) -> Vec<(Option<u32>, Vec<&'static str>, u64)> {
        let of_name = numbers.iter().filter(|number| number.metric.exposed_name() == name);
        let told = |number: &Number| {
            (number.slot, number.labels.iter().map(|label| label.1).collect(), number.value)
        };
        of_name.map(told).collect()
    }

    #[test]
    fn totals_are_summed_and_gauges_only_where_there_is_a_worker() {
        let supervisor = Metrics::private();
        let (here, gone) = (slot(0, true), slot(3, false));
        for metrics in [here.metrics, gone.metrics] {
            metrics.add(Counter::Calls, 4);
            metrics.set(Gauge::Connections, 9);
            metrics.set_threads(ThreadUse::Busy, 1);
        }
        supervisor.set(Gauge::Workers, 1);
        supervisor.add_reloads(ReloadResult::Failed, 2);
        let reading = Reading::new(supervisor, [here, gone, slot(4, false)]);
        let all = reading.numbers(false);
        assert_eq!(values(&all, "portico_calls_total"), [(None, vec![], 8)]);
        assert_eq!(values(&all, "portico_connections"), [(None, vec![], 9)]);
        assert_eq!(values(&all, "portico_workers"), [(None, vec![], 1)]);
        let reloads = [(None, vec!["succeeded"], 0), (None, vec!["failed"], 2)];
        assert_eq!(values(&all, "portico_reloads_total"), reloads);
        let by_slot = reading.numbers(true);
        assert_eq!(values(&by_slot, "portico_calls_total"), [(Some(0), vec![], 4), (Some(3), vec![], 4)]);
        assert_eq!(values(&by_slot, "portico_connections"), [(Some(0), vec![], 9)]);
        let threads = [(Some(0), vec!["idle"], 0), (Some(0), vec!["busy"], 1), (Some(0), vec!["lost"], 0)];
        assert_eq!(values(&by_slot, "portico_threads"), threads);
    }

    #[test]
    fn what_the_supervisor_counts_no_worker_changes() {
        let (supervisor, hostile) = (Metrics::private(), slot(0, true));
        supervisor.add(Counter::WorkerStarts, 2);
        hostile.metrics.add(Counter::WorkerStarts, u64::MAX);
        hostile.metrics.set(Gauge::Workers, u64::MAX);
        let told = Reading::new(supervisor, [hostile]).numbers(true);
        assert_eq!(values(&told, "portico_worker_starts_total"), [(None, vec![], 2)]);
        assert_eq!(values(&told, "portico_workers"), [(None, vec![], 0)]);
    }

    #[test]
    fn what_was_never_measured_or_seen_is_not_told() {
        let reading = Reading::new(Metrics::private(), [slot(0, true)]);
        let told = reading.numbers(true);
        for name in ["portico_tls_certificate_not_after_seconds", "portico_exchanges_total"] {
            assert_eq!(values(&told, name), [], "{name}");
        }
        assert_eq!(values(&told, "portico_queue_length"), [(Some(0), vec![], 0)]);
    }

    #[test]
    fn a_worker_tells_what_it_has_counted_itself() {
        let metrics = Metrics::private();
        metrics.add(Counter::Calls, 5);
        metrics.record_exchange(Method::of(b"GET"), 200, 1);
        metrics.begin_worker();
        metrics.add(Counter::Calls, 2);
        metrics.record_exchange(Method::of(b"GET"), 404, 1);
        let told = Reading::numbers_of_worker(metrics);
        assert_eq!(values(&told, "portico_calls_total"), [(None, vec![], 2)]);
        assert_eq!(values(&told, "portico_exchanges_total"), [(None, vec!["GET", "404"], 1)]);
        assert_eq!(values(&told, "portico_worker_starts_total"), [], "that is the supervisor's");
    }
}
