//! docs/reference/metrics.md, from the table.

use crate::metric::{Metric, MetricKind};
use crate::table::rows;

const HEAD: &str = "# Metrics

<!-- Written by `make docs-metrics` from crates/portico-metrics/src/table.rs; a test keeps it up to date. -->

All metrics of Portico. `portico metrics PID` prints them as OpenMetrics text, with `--prometheus` in the older
text format of Prometheus; `portico status PID --json` has those that are not histograms. Those with a name for
statsd are sent to `--statsd-host`. The guide on [observability](../guides/observability.md#porticos-own-metrics)
says more.

Each worker counts in memory that all processes of the server share. Counters and histograms are totals since the
server was started: they go on when a worker is recycled, replaced by a reload or killed, so they never fall. After
`portico upgrade` they begin at zero, because that starts another server. Gauges of a worker end with it.

A client cannot add a series: methods and codes that the lists below do not have count as others. Series of methods
and codes appear when they are first counted. The histogram of requests has the class of the code; the code itself
is a label of `portico_exchanges_total`.
";

/// The page.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for (title, kind) in [
        ("Counters", MetricKind::Counter),
        ("Gauges", MetricKind::Gauge),
        ("Histograms", MetricKind::Histogram),
        ("Facts", MetricKind::Info),
    ] {
        page.push_str(&format!("\n## {title}\n"));
        rows()
            .filter(|metric| metric.kind == kind && metric.is_shown)
            .for_each(|metric| page.push_str(&entry(metric)));
    }
    page
}

fn entry(metric: &Metric) -> String {
    let mut entry = format!("\n### `{}`\n\n{}\n", metric.exposed_name(), wrapped(metric.help));
    let mut facts = Vec::new();
    if metric.by_slot {
        facts.push("Label `slot`: the worker's slot, from 0.".to_owned());
    }
    for label in metric.labels {
        let values: Vec<String> = label.values.iter().map(|value| format!("`{value}`")).collect();
        let values = if values.is_empty() { label.about.to_owned() } else { values.join(", ") };
        facts.push(format!("Label `{}`: {values}.", label.name));
    }
    for sent in metric.statsd {
        let (name, code) = (sent.name, sent.form.code());
        facts.push(match metric.labels.last().filter(|_| sent.by_label) {
            Some(label) => format!("statsd: `{name}.` and `{}`, type `{code}`.", label.name),
            None => format!("statsd: `{name}`, type `{code}`."),
        });
    }
    if !facts.is_empty() {
        let facts: Vec<String> = facts.iter().map(|fact| wrapped(&format!("* {fact}"))).collect();
        entry.push_str(&format!("\n{}\n", facts.join("\n")));
    }
    entry
}

/// `text` in lines of a page's width; what belongs to an item of a list is indented.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 120;
    let indent = if text.starts_with("* ") { "  " } else { "" };
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split(' ') {
        if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
            lines.push(std::mem::replace(&mut line, indent.to_owned()));
        }
        if !line.trim_start().is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_up_to_date() {
        let page = include_str!("../../../docs/reference/metrics.md");
        assert!(page == reference(), "docs/reference/metrics.md is out of date: run `make docs-metrics`");
    }

    #[test]
    fn long_items_are_wrapped_and_indented() {
        let text = format!("* {}", "word ".repeat(40).trim_end());
        let lines = wrapped(&text);
        assert!(lines.lines().all(|line| line.len() <= 120) && lines.lines().count() == 2);
        assert!(lines.lines().nth(1).unwrap().starts_with("  word"));
        assert_eq!(lines.replace("\n ", ""), text);
    }
}
