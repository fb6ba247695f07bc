//! The metrics of a server as text, for Prometheus and whatever reads its formats.
//!
//! OpenMetrics 1.0 and the older text format of Prometheus differ in how a counter is announced, so no text is
//! both.

use std::fmt::Write as _;

use crate::buckets::{ADVISED_NANOS, cumulated};
use crate::metric::{Metric, MetricKind, Unit};
use crate::reading::Reading;
use crate::table::{Histogram, rows};

/// The form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// OpenMetrics 1.0: what Prometheus asks for first.
    OpenMetrics,
    /// Prometheus' own, version 0.0.4: what node_exporter's textfile collector reads.
    Prometheus,
}

impl Reading<'_> {
    /// All metrics, each with what it means.
    pub fn text(&self, format: TextFormat) -> String {
        let (mut text, numbers) = (String::new(), self.numbers(true));
        for metric in rows().filter(|metric| metric.kind != MetricKind::Histogram) {
            let mut of_metric = numbers.iter().filter(|number| number.metric == metric).peekable();
            if of_metric.peek().is_some() {
                announce(&mut text, metric, format);
            }
            for number in of_metric {
                let slot = number.slot.map(|slot| slot.to_string());
                let slot = slot.iter().map(|slot| ("slot", &**slot));
                let labels: Vec<_> = slot.chain(number.labels.iter().copied()).collect();
                push(&mut text, &metric.exposed_name(), &labels, number.value);
            }
        }
        for histogram in Histogram::ALL {
            announce(&mut text, histogram.metric(), format);
            (0..histogram.metric().series_count())
                .for_each(|series| self.push_series(&mut text, *histogram, series));
        }
        if format == TextFormat::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }

    fn push_series(&self, text: &mut String, histogram: Histogram, series: usize) {
        let (metric, (sum, buckets)) = (histogram.metric(), self.durations(histogram, series));
        let (counts, total) = cumulated(&buckets);
        if total == 0 && !metric.labels.is_empty() {
            return; // One of many that has not been seen.
        }
        let (name, labels) = (metric.name, metric.series(series));
        let bounds = ADVISED_NANOS.map(seconds).into_iter().chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(counts.into_iter().chain([total])) {
            let labels: Vec<_> = labels.iter().copied().chain([("le", &*bound)]).collect();
            push(text, &format!("{name}_bucket"), &labels, count);
        }
        push(text, &format!("{name}_count"), &labels, total);
        push(text, &format!("{name}_sum"), &labels, seconds(sum));
    }
}

fn announce(text: &mut String, metric: &Metric, format: TextFormat) {
    let name = match format {
        TextFormat::OpenMetrics => metric.name.to_owned(),
        TextFormat::Prometheus => metric.exposed_name(),
    };
    let _ = writeln!(text, "# TYPE {name} {}", metric.kind.name());
    if format == TextFormat::OpenMetrics && metric.unit != Unit::None {
        let _ = writeln!(text, "# UNIT {name} {}", metric.unit.name().unwrap_or_default());
    }
    let _ = writeln!(text, "# HELP {name} {}", metric.help);
}

fn push(text: &mut String, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
    // No value has a character that would have to be escaped: they are in the table, or numbers.
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    let _ = match labels.is_empty() {
        true => writeln!(text, "{name} {value}"),
        false => writeln!(text, "{name}{{{}}} {value}", labels.join(",")),
    };
}

/// A label's value, or a help, as text has it: what an application says may hold anything.
pub(crate) fn escape_label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

/// Nanoseconds as seconds: `0.005`, `1.0`. Exactly: a sum over years has more digits than a float.
pub(crate) fn seconds(nanos: u64) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let trimmed = text.trim_end_matches('0');
    if trimmed.ends_with('.') { format!("{trimmed}0") } else { trimmed.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::Metrics;
    use crate::labels::{Method, ThreadUse};
    use crate::reading::SlotReading;
    use crate::table::{Counter, Gauge};

    fn reading() -> Reading<'static> {
        let supervisor = Metrics::private();
        supervisor.set(Gauge::Workers, 2);
        let slots: Vec<SlotReading<'_>> = (0..2)
            .map(|slot| SlotReading { slot, metrics: Metrics::private(), is_occupied: slot == 0 })
            .collect();
        slots[0].metrics.set_threads(ThreadUse::Busy, 3);
        for slot in &slots {
            slot.metrics.add(Counter::Calls, 7);
            slot.metrics.record(Histogram::QueueDuration, 5_000_000);
            slot.metrics.record(Histogram::QueueDuration, 1_500_000_000);
        }
        slots[1].metrics.record_exchange(Method::of(b"POST"), 503, 10_000_000_001);
        Reading::new(supervisor, slots)
    }

    #[test]
    fn open_metrics_announces_each_metric_and_ends() {
        let text = reading().text(TextFormat::OpenMetrics);
        for lines in [
            "# TYPE portico_threads gauge\n# HELP portico_threads Threads of a worker",
            "portico_threads{slot=\"0\",state=\"idle\"} 0\nportico_threads{slot=\"0\",state=\"busy\"} 3\n",
            "# TYPE portico_calls counter\n# HELP portico_calls Calls",
            "portico_calls_total{slot=\"0\"} 7\nportico_calls_total{slot=\"1\"} 7\n#",
            "portico_workers 2\n",
            "portico_exchanges_total{http_request_method=\"POST\",http_response_status_code=\"503\"} 1\n",
            "# UNIT portico_queue_duration_seconds seconds\n# HELP portico_queue_duration_seconds How long",
        ] {
            assert!(text.contains(lines), "{lines}\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1);
        assert!(!text.contains("certificate_not_after"), "there is none: {text}");
    }

    #[test]
    fn the_older_format_has_the_samples_names_and_no_end() {
        let text = reading().text(TextFormat::Prometheus);
        assert!(
            text.contains("# TYPE portico_calls_total counter\n# HELP portico_calls_total Calls"),
            "{text}"
        );
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
        let samples = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        assert_eq!(samples(&text), samples(&reading().text(TextFormat::OpenMetrics)));
    }

    #[test]
    fn histograms_are_summed_over_slots_with_the_advised_bounds() {
        let text = reading().text(TextFormat::OpenMetrics);
        let of_queue: Vec<_> =
            text.lines().filter(|line| line.starts_with("portico_queue_duration_seconds")).collect();
        assert_eq!(of_queue.len(), ADVISED_NANOS.len() + 3);
        for (bound, count) in [("0.005", 2), ("0.01", 2), ("1.0", 2), ("2.5", 4), ("10.0", 4), ("+Inf", 4)] {
            let line = format!("portico_queue_duration_seconds_bucket{{le=\"{bound}\"}} {count}");
            assert!(of_queue.contains(&&*line), "{line} {of_queue:?}");
        }
        assert_eq!(
            of_queue[15..],
            ["portico_queue_duration_seconds_count 4", "portico_queue_duration_seconds_sum 3.01"]
        );
        let of_requests: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("http_server_request_duration_seconds_bucket"))
            .collect();
        assert_eq!(of_requests.len(), ADVISED_NANOS.len() + 1, "series that were not seen are not told");
        assert!(of_requests[13].ends_with("le=\"10.0\"} 0") && of_requests[14].ends_with("le=\"+Inf\"} 1"));
    }

    #[test]
    fn seconds_are_exact() {
        for (nanos, text) in
            [(0, "0.0"), (1, "0.000000001"), (10_000_000_000, "10.0"), (u64::MAX, "18446744073.709551615")]
        {
            assert_eq!(seconds(nanos), text);
        }
    }
}
