//! The responses of a server by their class, and how long they took.
//!
//! The cells have a series for each method and code, of which most have never counted anything. Those are skipped:
//! a snapshot is made every second.

use std::collections::BTreeMap;

use portico_metrics::{Buckets, Counter, Histogram, Metric};
use portico_supervisor::Scoreboard;
use serde::Serialize;

use crate::reading::{add, used};

/// How many responses there were of each class of codes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ResponseCounts(BTreeMap<&'static str, u64>);

/// The classes (RFC 9110, section 15).
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl ResponseCounts {
    /// How many of a class such as `5xx`.
    pub fn of(&self, class: &str) -> u64 {
        self.0.get(class).copied().unwrap_or_default()
    }

    /// Each class with its number, from `1xx` up.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(class, count)| (*class, *count))
    }

    /// How many of all classes.
    pub fn count(&self) -> u64 {
        self.0.values().copied().fold(0, u64::saturating_add)
    }
}

/// The responses of all workers that there have been, and how long they took.
pub(crate) fn read(board: &Scoreboard) -> (ResponseCounts, Buckets) {
    let (codes, durations) = (Counter::Exchanges.metric(), Histogram::RequestDuration.metric());
    let series_of: BTreeMap<_, _> =
        (0..durations.series_count()).map(|series| (values(durations, series), series)).collect();
    // Of each series that counts exchanges: its class, and the series of its durations.
    let places: Vec<_> = (0..codes.series_count())
        .map(|series| {
            let [method, code] = values(codes, series);
            let class = CLASSES.into_iter().find(|class| class.as_bytes()[0] == code.as_bytes()[0]);
            let class = class.unwrap_or("5xx");
            (class, series_of.get(&[method, class]).copied())
        })
        .collect();
    let mut counts = ResponseCounts(CLASSES.into_iter().map(|class| (class, 0)).collect());
    let mut latency = [0; _];
    for metrics in used(board).map(|slot| slot.metrics()) {
        let mut has_counted = vec![false; durations.series_count()];
        for (series, (class, of_class)) in places.iter().enumerate() {
            let count = metrics.total_at(Counter::Exchanges, series);
            if count > 0 {
                let sum = counts.0.entry(class).or_default();
                *sum = sum.saturating_add(count);
                of_class.iter().for_each(|series| has_counted[*series] = true);
            }
        }
        for series in (0..has_counted.len()).filter(|series| has_counted[*series]) {
            add(&mut latency, &metrics.durations_at(Histogram::RequestDuration, series).1);
        }
    }
    (counts, latency)
}

/// The values of the two labels of a series: the method, and the code or its class.
fn values(metric: &Metric, series: usize) -> [&'static str; 2] {
    let value = |label: usize| metric.series(series).get(label).map_or("", |(_, value)| *value);
    [value(0), value(1)]
}

#[cfg(test)]
mod tests {
    use portico_metrics::{CountedExchange, Method};

    use super::*;

    #[test]
    fn responses_of_all_workers_are_summed_by_their_class() {
        let board = Scoreboard::create(3, 1).unwrap();
        for number in [0, 2] {
            let metrics = board.slot(number).unwrap().metrics();
            metrics.record_exchange(&CountedExchange::without_call(Method::of(b"GET"), 200, 5_000));
            metrics.record_exchange(&CountedExchange::without_call(Method::of(b"GET"), 204, 5_000));
            metrics.record_exchange(&CountedExchange::without_call(Method::of(b"BREW"), 418, 9_000_000));
            metrics.record_exchange(&CountedExchange::without_call(Method::of(b"POST"), 599, 9_000_000));
            board.slot(number).unwrap().begin_worker();
        }
        let (counts, latency) = read(&board);
        let all: Vec<_> = counts.iter().collect();
        assert_eq!(all, [("1xx", 0), ("2xx", 4), ("3xx", 0), ("4xx", 2), ("5xx", 2)]);
        assert_eq!((counts.count(), counts.of("5xx"), counts.of("6xx")), (8, 2, 0));
        assert_eq!(latency.iter().sum::<u64>(), 8);
    }

    #[test]
    fn each_series_has_the_durations_of_its_class() {
        let board = Scoreboard::create(1, 1).unwrap();
        let metrics = board.slot(0).unwrap().metrics();
        let (mut count, methods) = (0, [&b"GET"[..], b"HEAD", b"PATCH", b"BREW"]);
        for method in methods {
            for code in 100..600 {
                metrics.record_exchange(&CountedExchange::without_call(Method::of(method), code, 1_000));
                count += 1;
                let (counts, latency) = read(&board);
                assert_eq!((counts.count(), latency.iter().sum::<u64>()), (count, count), "{code}");
            }
        }
        let classes: Vec<_> = read(&board).0.iter().map(|(_, count)| count).collect();
        assert_eq!(classes, [100 * methods.len() as u64; 5]);
    }

    #[test]
    fn nonsense_in_the_cells_makes_no_panic() {
        let board = Scoreboard::create(2, 1).unwrap();
        for (_, slot) in board.slots() {
            slot.metrics().record_exchange(&CountedExchange::without_call(Method::of(b"GET"), 200, u64::MAX));
            for _ in 0..3 {
                slot.metrics().record_exchange(&CountedExchange::without_call(
                    Method::of(b"GET"),
                    500,
                    u64::MAX,
                ));
            }
        }
        assert_eq!(read(&board).0.count(), 8);
    }
}
