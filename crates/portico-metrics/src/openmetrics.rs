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
                let labels = number.labels.iter().map(|(name, value)| (*name, &**value));
                let labels: Vec<_> = slot.chain(labels).collect();
                let name = metric.exposed_name();
                match metric.in_nanos {
                    true => push(&mut text, &name, &labels, seconds(number.value)),
                    false => push(&mut text, &name, &labels, number.value),
                }
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
    let kind = match (format, metric.kind) {
        // It has no other that fits.
        (TextFormat::Prometheus, MetricKind::Info) => MetricKind::Gauge,
        (_, kind) => kind,
    };
    let _ = writeln!(text, "# TYPE {name} {}", kind.name());
    if format == TextFormat::OpenMetrics && metric.unit != Unit::None {
        let _ = writeln!(text, "# UNIT {name} {}", metric.unit.name().unwrap_or_default());
    }
    let _ = writeln!(text, "# HELP {name} {}", metric.help);
}

fn push(text: &mut String, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
    let labels: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape_label(value))).collect();
    let _ = match labels.is_empty() {
        true => writeln!(text, "{name} {value}"),
        false => writeln!(text, "{name}{{{}}} {value}", labels.join(",")),
    };
}

/// The value of a label, or a help, as text has it: what an application says may hold anything. Most are in the
/// table, and have nothing to escape.
pub(crate) fn escape_label(value: &str) -> std::borrow::Cow<'_, str> {
    match value.contains(['\\', '"', '\n']) {
        false => value.into(),
        true => value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").into(),
    }
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
    use crate::cells::{CountedExchange, Metrics};
    use crate::labels::Method;
    use crate::reading::{Number, SlotReading};
    use crate::table::{Counter, Gauge, Observed};

    fn reading() -> Reading<'static> {
        let supervisor = Metrics::private();
        supervisor.set(Gauge::WorkersWanted, 2);
        let slots: Vec<SlotReading<'_>> = (0..2)
            .map(|slot| SlotReading { slot, metrics: Metrics::private(), is_occupied: slot == 0 })
            .collect();
        for slot in &slots {
            slot.metrics.add(Counter::Calls, 7);
            slot.metrics.record(Histogram::QueueDuration, 5_000_000);
            slot.metrics.record(Histogram::QueueDuration, 1_500_000_000);
        }
        let (method, whole) = (Method::of(b"POST"), 10_000_000_001);
        slots[1].metrics.record_exchange(&CountedExchange { method, code: 503, whole, call: None });
        let running = Number::observed(Observed::ThreadStates, Some(0), ["running".into()], 3);
        let listener = Number::observed(Observed::ListenQueue, None, ["unix:/a\"\\b\n".into()], 4);
        let busy = Number::observed(Observed::BusyTime, Some(1), [], 1_500_000_000);
        let build = ["1.2", "3.14.0", "cpython", "off"].map(Into::into);
        let build = Number::observed(Observed::Build, None, build, 1);
        Reading::new(supervisor, slots, vec![listener, busy, running, build])
    }

    #[test]
    fn open_metrics_announces_each_metric_and_ends() {
        let text = reading().text(TextFormat::OpenMetrics);
        for lines in [
            "# TYPE portico_threads gauge\n# HELP portico_threads Threads of a worker",
            "portico_threads{slot=\"0\",state=\"running\"} 3\n",
            "portico_listen_queue_length{listener=\"unix:/a\\\"\\\\b\\n\"} 4\n",
            "# TYPE portico_busy_seconds counter\n# UNIT portico_busy_seconds seconds\n",
            "portico_busy_seconds_total{slot=\"1\"} 1.5\n",
            "# TYPE portico_build info\n",
            "portico_build_info{version=\"1.2\",python=\"3.14.0\",implementation=\"cpython\",gil=\"off\"} 1\n",
            "# TYPE portico_calls counter\n# HELP portico_calls Calls",
            "portico_calls_total{slot=\"0\"} 7\nportico_calls_total{slot=\"1\"} 7\n#",
            "portico_workers_wanted 2\n",
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
        assert!(text.contains("# TYPE portico_build_info gauge\n"), "{text}");
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
