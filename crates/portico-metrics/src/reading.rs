//! The metrics of a whole server: what the blocks of its processes say together, and what whoever reads them has
//! worked out itself.

use std::borrow::Cow;

use crate::buckets::{Buckets, NO_DURATIONS};
use crate::cells::Metrics;
use crate::metric::Metric;
use crate::table::{Counter, Gauge, Histogram, Observed};

/// The blocks of a server's processes, for whoever shows their metrics.
pub struct Reading<'a> {
    supervisor: Metrics<'a>,
    slots: Vec<SlotReading<'a>>,
    /// In the order of the table.
    observed: Vec<Number>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// The metric.
    pub metric: &'static Metric,
    /// The slot, where each has a number of its own.
    pub slot: Option<u32>,
    /// Labels with their values.
    pub labels: Vec<(&'static str, Cow<'static, str>)>,
    /// The number: nanoseconds, where the metric's cells have these.
    pub value: u64,
}

impl Number {
    /// One that was not counted but worked out, with the values of its metric's labels in their order.
    pub fn observed<const LABELS: usize>(
        metric: Observed,
        slot: Option<u32>,
        labels: [Cow<'static, str>; LABELS],
        value: u64,
    ) -> Self {
        let metric = metric.metric();
        let names = metric.labels.iter().map(|label| label.name);
        Self { metric, slot, labels: names.zip(labels).collect(), value }
    }

    /// Its value in the unit of its metric, where that has parts of a second.
    pub fn seconds(&self) -> Option<f64> {
        self.metric.in_nanos.then(|| self.value as f64 / 1e9)
    }
}

/// What one of several equal series has in common with the others.
fn is_same_series(one: &Number, other: &Number) -> bool {
    one.metric == other.metric && one.labels == other.labels
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
        let all = gauges.chain(Counter::ALL.iter().copied().map(Self::Counter));
        all.filter(|row| row.metric().is_shown)
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
    /// Of the supervisor's block and those of the slots, with what was worked out.
    pub fn new(
        supervisor: Metrics<'a>,
        slots: impl IntoIterator<Item = SlotReading<'a>>,
        mut observed: Vec<Number>,
    ) -> Self {
        let place = |number: &Number| Observed::ALL.iter().position(|row| row.metric() == number.metric);
        observed.sort_by_key(|number| (place(number), number.slot));
        Self { supervisor, slots: slots.into_iter().collect(), observed }
    }

    /// What was worked out, in the same way as [`Reading::numbers`].
    fn observed(&self, by_slot: bool) -> Vec<Number> {
        let mut numbers: Vec<Number> = Vec::new();
        for number in &self.observed {
            let same = numbers.iter_mut().find(|other| !by_slot && is_same_series(other, number));
            match same {
                // What is old is as old as the oldest.
                Some(sum) if number.metric == Observed::QueueOldest.metric() => {
                    sum.value = sum.value.max(number.value);
                }
                Some(sum) => sum.value = sum.value.saturating_add(number.value),
                None => {
                    let slot = number.slot.filter(|_| by_slot);
                    numbers.push(Number { slot, ..number.clone() });
                }
            }
        }
        numbers
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

    /// All gauges and counters of the server, those that were worked out first. `by_slot`: those that each
    /// worker has are told slot by slot, and not as their sum.
    pub fn numbers(&self, by_slot: bool) -> Vec<Number> {
        let mut numbers = self.observed(by_slot);
        for row in Row::all() {
            let metric = row.metric();
            let mut push = |slot, series, value| {
                if row.shows(value) {
                    numbers.push(Number { metric, slot, labels: labels(metric, series), value });
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

    /// The gauges of the worker in a slot, what it has counted itself, and what was worked out of it.
    pub fn numbers_of_worker(&self, number: u32) -> Vec<Number> {
        let Some(slot) = self.slots.iter().find(|slot| slot.slot == number) else { return Vec::new() };
        let observed = self.observed.iter().filter(|observed| observed.slot == Some(number)).cloned();
        observed.chain(Self::counted_by_worker(slot.metrics)).collect()
    }

    fn counted_by_worker(slot: Metrics<'_>) -> Vec<Number> {
        let of_workers = |row: &Row| row.metric().by_slot || matches!(row, Row::Counter(_));
        let rows = Row::all().filter(|row| of_workers(row) && !row.metric().by_supervisor);
        let number = |row: Row, series: usize| {
            let metric = row.metric();
            let value = match row {
                Row::Gauge(gauge) => slot.gauge_at(gauge, series),
                Row::Counter(counter) => slot.since_start_at(counter, series),
            };
            let is_told = row.shows(value) && (metric.by_slot || value > 0);
            is_told.then(|| Number { metric, slot: None, labels: labels(metric, series), value })
        };
        rows.flat_map(|row| (0..row.metric().series_count()).filter_map(move |series| number(row, series)))
            .collect()
    }

    /// The durations of one series of a histogram in the whole server: their sum in nanoseconds, and how many
    /// there are in each bucket.
    pub(crate) fn durations(&self, histogram: Histogram, series: usize) -> (u64, Buckets) {
        let (mut sum, mut buckets) = (0_u64, NO_DURATIONS);
        // The supervisor counts requests that were lost with their worker.
        for metrics in self.slots.iter().map(|slot| slot.metrics).chain([self.supervisor]) {
            let (of_slot, counts) = metrics.durations_at(histogram, series);
            sum = sum.saturating_add(of_slot);
            buckets.iter_mut().zip(counts).for_each(|(all, count)| *all = all.saturating_add(count));
        }
        (sum, buckets)
    }
}

/// The labels of a series of which all values are in the table.
fn labels(metric: &Metric, series: usize) -> Vec<(&'static str, Cow<'static, str>)> {
    metric.series(series).into_iter().map(|(name, value)| (name, Cow::Borrowed(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::CountedExchange;
    use crate::labels::{Method, ReloadResult, ThreadUse};

    fn slot(slot: u32, is_occupied: bool) -> SlotReading<'static> {
        SlotReading { slot, metrics: Metrics::private(), is_occupied }
    }

    fn exchange(code: u16) -> CountedExchange {
        CountedExchange { method: Method::of(b"GET"), code, whole: 1, call: None }
    }

    fn values<'a>(numbers: &'a [Number], name: &str) -> Vec<(Option<u32>, Vec<&'a str>, u64)> {
        let of_name = numbers.iter().filter(|number| number.metric.exposed_name() == name);
        let told = |number: &'a Number| {
            (number.slot, number.labels.iter().map(|label| &*label.1).collect(), number.value)
        };
        of_name.map(told).collect()
    }

    #[test]
    fn totals_are_summed_and_gauges_only_where_there_is_a_worker() {
        let supervisor = Metrics::private();
        let (here, gone) = (slot(0, true), slot(3, false));
        for metrics in [here.metrics, gone.metrics] {
            metrics.add(Counter::Calls, 4);
            metrics.set(Gauge::QueueLength, 9);
            metrics.set_threads(ThreadUse::Busy, 1);
        }
        supervisor.set(Gauge::WorkersWanted, 1);
        supervisor.add_reloads(ReloadResult::Failed, 2);
        let state = |slot, state: &'static str, count| {
            Number::observed(Observed::ThreadStates, Some(slot), [state.into()], count)
        };
        let oldest = |slot, age| Number::observed(Observed::QueueOldest, Some(slot), [], age);
        let observed =
            vec![oldest(0, 5), state(3, "idle", 2), oldest(3, 7), state(0, "idle", 1), state(0, "lost", 4)];
        let reading = Reading::new(supervisor, [here, gone, slot(4, false)], observed);
        let all = reading.numbers(false);
        assert_eq!(values(&all, "portico_calls_total"), [(None, vec![], 8)]);
        assert_eq!(values(&all, "portico_queue_length"), [(None, vec![], 9)]);
        assert_eq!(values(&all, "portico_workers_wanted"), [(None, vec![], 1)]);
        assert_eq!(values(&all, "portico_threads"), [(None, vec!["idle"], 3), (None, vec!["lost"], 4)]);
        assert_eq!(values(&all, "portico_queue_oldest_seconds"), [(None, vec![], 7)]);
        assert_eq!(values(&all, "portico_threads_told"), [], "it is for the workers alone");
        let reloads = [(None, vec!["succeeded"], 0), (None, vec!["failed"], 2)];
        assert_eq!(values(&all, "portico_reloads_total"), reloads);
        let by_slot = reading.numbers(true);
        assert_eq!(values(&by_slot, "portico_calls_total"), [(Some(0), vec![], 4), (Some(3), vec![], 4)]);
        let threads = [(Some(0), vec!["idle"], 1), (Some(0), vec!["lost"], 4), (Some(3), vec!["idle"], 2)];
        assert_eq!(values(&by_slot, "portico_threads"), threads);
        assert_eq!(
            values(&by_slot, "portico_queue_oldest_seconds"),
            [(Some(0), vec![], 5), (Some(3), vec![], 7)]
        );
    }

    #[test]
    fn what_the_supervisor_counts_no_worker_changes() {
        let (supervisor, hostile) = (Metrics::private(), slot(0, true));
        supervisor.add(Counter::UpgradesFailed, 2);
        hostile.metrics.add(Counter::UpgradesFailed, u64::MAX);
        hostile.metrics.set(Gauge::WorkersWanted, u64::MAX);
        let told = Reading::new(supervisor, [hostile], Vec::new()).numbers(true);
        assert_eq!(values(&told, "portico_upgrades_failed_total"), [(None, vec![], 2)]);
        assert_eq!(values(&told, "portico_workers_wanted"), [(None, vec![], 0)]);
    }

    #[test]
    fn what_was_never_measured_or_seen_is_not_told() {
        let reading = Reading::new(Metrics::private(), [slot(0, true)], Vec::new());
        let told = reading.numbers(true);
        for name in ["portico_reload_last_success_timestamp_seconds", "portico_exchanges_total"] {
            assert_eq!(values(&told, name), [], "{name}");
        }
        assert_eq!(values(&told, "portico_queue_length"), [(Some(0), vec![], 0)]);
    }

    #[test]
    fn a_worker_tells_what_it_has_counted_itself() {
        let metrics = Metrics::private();
        metrics.add(Counter::Calls, 5);
        metrics.record_exchange(&exchange(200));
        metrics.begin_worker();
        metrics.add(Counter::Calls, 2);
        metrics.record_exchange(&exchange(404));
        let observed = [2, 5].map(|slot| Number::observed(Observed::InterpreterWaits, Some(slot), [], 7));
        let slots = [SlotReading { slot: 5, metrics, is_occupied: true }];
        let reading = Reading::new(Metrics::private(), slots, observed.into());
        let told = reading.numbers_of_worker(5);
        assert_eq!(values(&told, "portico_interpreter_waits_total"), [(Some(5), vec![], 7)]);
        assert!(reading.numbers_of_worker(2).is_empty(), "there is no such slot");
        assert_eq!(values(&told, "portico_calls_total"), [(None, vec![], 2)]);
        assert_eq!(values(&told, "portico_exchanges_total"), [(None, vec!["GET", "404"], 1)]);
        assert_eq!(values(&told, "portico_worker_starts_total"), [], "that is the supervisor's");
    }
}
