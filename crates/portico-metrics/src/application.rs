//! The metrics that an application keeps with prometheus_client, summed over the slots as that does it over files
//! (`prometheus_client/multiprocess.py`).
//!
//! Each slot has entries, whose keys are the kind of metric, the mode of a gauge, and the key that
//! prometheus_client makes itself: JSON of the metric's name, the sample's name, its labels and its help. A
//! worker can write anything: what is no such key is left out and counted, and names and labels are checked
//! before they are shown.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::openmetrics::{TextFormat, escape_label};
use crate::route_durations::ROUTE_DURATION;
use crate::table::rows;

/// An entry of one slot.
#[derive(Clone, Debug)]
pub struct ApplicationEntry<'a> {
    /// The slot.
    pub slot: u32,
    /// Whether the process that wrote it is still the worker in that slot.
    pub is_alive: bool,
    /// FamilyKind, mode and prometheus_client's key, with a newline between them.
    pub key: &'a [u8],
    /// Its value.
    pub value: f64,
    /// When it was set, for gauges of which the most recent counts.
    pub time: f64,
}

/// The metrics of an application.
#[derive(Debug, Default)]
pub struct ApplicationMetrics {
    families: BTreeMap<String, Family>,
    /// Names that are the server's own, or that two kinds of metric have.
    clashes: HashSet<String>,
    /// Entries that are none.
    unreadable: u64,
}

/// One metric with all of its samples.
#[derive(Debug)]
struct Family {
    kind: FamilyKind,
    help: String,
    samples: BTreeMap<SampleKey, SampleValue>,
}

type Labels = Vec<(String, String)>;

/// A sample's name and its labels, in their order.
type SampleKey = (String, Labels);

#[derive(Clone, Copy, Debug, PartialEq)]
struct SampleValue {
    value: f64,
    time: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FamilyKind {
    Counter,
    Summary,
    Histogram,
    Gauge(GaugeMode),
}

/// How the gauges of several workers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GaugeMode {
    All,
    Min,
    Max,
    Sum,
    MostRecent,
}

/// What a key says.
#[derive(Clone, Debug)]
struct MetricKey {
    kind: FamilyKind,
    /// Only of workers that still are.
    is_live: bool,
    metric: String,
    sample: String,
    labels: Labels,
    help: String,
}

impl MetricKey {
    fn parse(key: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(key).ok()?;
        let mut parts = text.splitn(3, '\n');
        let (kind, mode, json) = (parts.next()?, parts.next()?, parts.next()?);
        let (is_live, mode) = mode.strip_prefix("live").map_or((false, mode), |mode| (true, mode));
        let kind = match (kind, mode) {
            ("counter", _) => FamilyKind::Counter,
            ("summary", _) => FamilyKind::Summary,
            ("histogram", _) => FamilyKind::Histogram,
            ("gauge", "all") => FamilyKind::Gauge(GaugeMode::All),
            ("gauge", "min") => FamilyKind::Gauge(GaugeMode::Min),
            ("gauge", "max") => FamilyKind::Gauge(GaugeMode::Max),
            ("gauge", "sum") => FamilyKind::Gauge(GaugeMode::Sum),
            ("gauge", "mostrecent") => FamilyKind::Gauge(GaugeMode::MostRecent),
            _ => return None,
        };
        let Json::Array(parts) = serde_json::from_str(json).ok()? else { return None };
        let [Json::String(metric), Json::String(sample), Json::Object(labels), Json::String(help)] =
            &parts[..]
        else {
            return None;
        };
        let text = |(name, value): (&String, &Json)| Some((name.clone(), value.as_str()?.to_owned()));
        let mut labels: Labels = labels.iter().map(text).collect::<Option<_>>()?;
        labels.sort();
        let names = labels.iter().all(|(name, _)| is_name(name, false));
        let fits = names && is_name(metric, true) && is_sample_of(kind, metric, sample, &labels);
        let (metric, sample, help) = (metric.clone(), sample.clone(), help.clone());
        fits.then_some(Self { kind, is_live, metric, sample, labels, help })
    }
}

/// Whether a sample of this name is one of its metric, so that no metric has samples under another's name.
fn is_sample_of(kind: FamilyKind, metric: &str, sample: &str, labels: &Labels) -> bool {
    let Some(suffix) = sample.strip_prefix(metric) else { return false };
    let bound = labels.iter().find(|(name, _)| name == "le");
    match kind {
        FamilyKind::Counter => suffix == "_total",
        FamilyKind::Summary => matches!(suffix, "_count" | "_sum"),
        FamilyKind::Histogram => match suffix {
            "_bucket" => bound.is_some_and(|(_, bound)| parse_bound(bound).is_some()),
            _ => suffix == "_sum" && bound.is_none(),
        },
        FamilyKind::Gauge(_) => suffix.is_empty(),
    }
}

fn is_name(name: &str, is_metric: bool) -> bool {
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || (is_metric && byte == b':');
    let mut bytes = name.bytes();
    bytes.next().is_some_and(is_first) && bytes.all(|byte| is_first(byte) || byte.is_ascii_digit())
}

fn parse_bound(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok().filter(|bound: &f64| !bound.is_nan()),
    }
}

impl ApplicationMetrics {
    /// Those of all slots' entries.
    pub fn of<'a>(entries: impl IntoIterator<Item = ApplicationEntry<'a>>) -> Self {
        let (mut all, mut known) = (Self::default(), HashMap::<&[u8], Option<MetricKey>>::new());
        for entry in entries {
            // Slots have the same keys, which are read once.
            let key = known.entry(entry.key).or_insert_with(|| MetricKey::parse(entry.key));
            match key {
                Some(key) if key.is_live && !entry.is_alive => {}
                Some(key) => all.add(key, &entry),
                None => all.unreadable += 1,
            }
        }
        all.families
            .values_mut()
            .filter(|family| family.kind == FamilyKind::Histogram)
            .for_each(Family::accumulate);
        all
    }

    fn add(&mut self, key: &MetricKey, entry: &ApplicationEntry<'_>) {
        if is_name_of_server(&key.metric) {
            self.clashes.insert(key.metric.clone());
            return;
        }
        let family = self.families.entry(key.metric.clone()).or_insert_with(|| Family {
            kind: key.kind,
            help: key.help.clone(),
            samples: BTreeMap::new(),
        });
        if family.kind != key.kind {
            self.clashes.insert(key.metric.clone());
            return;
        }
        family.add(key, entry);
    }

    /// How many metrics are left out because the server or another kind has their name, and how many entries
    /// because they are none.
    pub fn refused(&self) -> u64 {
        self.unreadable.saturating_add(self.clashes.len() as u64)
    }

    /// All of them as text, without an end.
    pub fn text(&self, format: TextFormat) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            let (kind, announced) = match (family.kind, format) {
                (FamilyKind::Counter, TextFormat::OpenMetrics) => ("counter", name.clone()),
                (FamilyKind::Counter, TextFormat::Prometheus) => ("counter", format!("{name}_total")),
                (FamilyKind::Summary, _) => ("summary", name.clone()),
                (FamilyKind::Histogram, _) => ("histogram", name.clone()),
                (FamilyKind::Gauge(_), _) => ("gauge", name.clone()),
            };
            let help = escape_help(&family.help, format);
            let _ = writeln!(text, "# TYPE {announced} {kind}\n# HELP {announced} {help}");
            family.push(&mut text);
        }
        text
    }
}

impl Family {
    fn add(&mut self, key: &MetricKey, entry: &ApplicationEntry<'_>) {
        let mut labels = key.labels.clone();
        if key.kind == FamilyKind::Gauge(GaugeMode::All) {
            labels.push(("pid".to_owned(), entry.slot.to_string()));
            labels.sort();
        }
        let ApplicationEntry { value, time, .. } = *entry;
        let found = self.samples.entry((key.sample.clone(), labels));
        let is_new = matches!(found, std::collections::btree_map::Entry::Vacant(_));
        let sample = found.or_insert(SampleValue { value, time });
        if is_new {
            return;
        }
        match key.kind {
            FamilyKind::Counter
            | FamilyKind::Summary
            | FamilyKind::Histogram
            | FamilyKind::Gauge(GaugeMode::Sum) => sample.value += value,
            FamilyKind::Gauge(GaugeMode::Min) => {
                sample.value = if value < sample.value { value } else { sample.value }
            }
            FamilyKind::Gauge(GaugeMode::Max) => {
                sample.value = if value > sample.value { value } else { sample.value }
            }
            FamilyKind::Gauge(GaugeMode::All) => sample.value = value,
            FamilyKind::Gauge(GaugeMode::MostRecent) if time > sample.time => {
                *sample = SampleValue { value, time }
            }
            FamilyKind::Gauge(GaugeMode::MostRecent) => {}
        }
    }

    /// Makes of what each bucket of a histogram has counted what it and those below it have, and the number of
    /// all.
    fn accumulate(&mut self) {
        let mut buckets: BTreeMap<Labels, Vec<(f64, SampleKey)>> = BTreeMap::new();
        for key in self.samples.keys() {
            let bound = key.1.iter().find(|(name, _)| name == "le").and_then(|(_, bound)| parse_bound(bound));
            if let Some(bound) = bound {
                let others = key.1.iter().filter(|(name, _)| name != "le").cloned().collect();
                buckets.entry(others).or_default().push((bound, key.clone()));
            }
        }
        for (labels, mut of_series) in buckets {
            of_series.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut sum = 0.0;
            for (_, key) in &of_series {
                if let Some(sample) = self.samples.get_mut(key) {
                    sum += sample.value;
                    sample.value = sum;
                }
            }
            if let Some((_, (bucket, _))) = of_series.first() {
                let name = format!("{}_count", bucket.trim_end_matches("_bucket"));
                self.samples.insert((name, labels), SampleValue { value: sum, time: 0.0 });
            }
        }
    }

    /// Writes the samples, those of one series of a histogram together and in the order of their bounds.
    fn push(&self, text: &mut String) {
        let order = |name: &str| match name.rsplit('_').next() {
            Some("bucket") => 0,
            Some("count") => 1,
            _ => 2,
        };
        let bound = |labels: &Labels| {
            let bound = labels.iter().find(|(name, _)| name == "le");
            bound.and_then(|(_, bound)| parse_bound(bound)).unwrap_or(f64::NEG_INFINITY)
        };
        let others = |labels: &Labels| -> Labels {
            labels
                .iter()
                .filter(|(name, _)| name != "le" || self.kind != FamilyKind::Histogram)
                .cloned()
                .collect()
        };
        let mut samples: Vec<_> = self.samples.iter().collect();
        samples.sort_by(|((a_name, a), _), ((b_name, b), _)| {
            (others(a), order(a_name))
                .cmp(&(others(b), order(b_name)))
                .then_with(|| bound(a).total_cmp(&bound(b)))
        });
        for ((name, labels), sample) in samples {
            let pairs: Vec<String> =
                labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape_label(value))).collect();
            let labels = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
            let _ = writeln!(text, "{name}{labels} {}", number(sample.value));
        }
    }
}

/// Whether the server has a metric of this name, or one whose samples would have it.
pub fn is_name_of_server(name: &str) -> bool {
    let clashes = |own: &str| {
        name.strip_prefix(own).or_else(|| own.strip_prefix(name)).is_some_and(|rest| {
            matches!(rest, "" | "_total" | "_count" | "_sum" | "_bucket" | "_created" | "_info")
        })
    };
    name.starts_with("portico_") || clashes(ROUTE_DURATION) || rows().any(|row| clashes(row.name))
}

fn escape_help(help: &str, format: TextFormat) -> String {
    match format {
        TextFormat::OpenMetrics => escape_label(help).into_owned(),
        TextFormat::Prometheus => help.replace('\\', "\\\\").replace('\n', "\\n"),
    }
}

/// A float as Python and Go write it, as far as every reader takes it.
fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-5..1e16).contains(&size) {
        return format!("{value:e}");
    }
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(kind: &str, mode: &str, metric: &str, sample: &str, labels: &str) -> Vec<u8> {
        format!("{kind}\n{mode}\n[\"{metric}\", \"{sample}\", {labels}, \"Help.\"]").into_bytes()
    }

    /// The samples of entries: a key, the slot, whether it is alive, the value and the time.
    fn samples(entries: &[(Vec<u8>, u32, bool, f64, f64)]) -> Vec<String> {
        let entries = entries.iter().map(|(key, slot, is_alive, value, time)| ApplicationEntry {
            slot: *slot,
            is_alive: *is_alive,
            key,
            value: *value,
            time: *time,
        });
        let text = ApplicationMetrics::of(entries).text(TextFormat::OpenMetrics);
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn counters_are_summed_also_of_the_dead() {
        let counter = key("counter", "", "a", "a_total", r#"{"b": "x\"y\\z\n"}"#);
        let found = samples(&[(counter.clone(), 0, true, 2.0, 0.0), (counter, 1, false, 3.0, 0.0)]);
        assert_eq!(found, [r#"a_total{b="x\"y\\z\n"} 5.0"#]);
    }

    #[test]
    fn gauges_follow_their_mode() {
        for (mode, expected) in [
            ("min", "g 1.0"),
            ("livemin", "g 4.0"),
            ("max", "g 9.0"),
            ("livemax", "g 4.0"),
            ("sum", "g 14.0"),
            ("livesum", "g 4.0"),
            ("mostrecent", "g 1.0"),
            ("livemostrecent", "g 4.0"),
        ] {
            let gauge = key("gauge", mode, "g", "g", "{}");
            let found = samples(&[
                (gauge.clone(), 0, true, 4.0, 5.0),
                (gauge.clone(), 1, false, 9.0, 6.0),
                (gauge, 2, false, 1.0, 7.0),
            ]);
            assert_eq!(found, [expected], "{mode}");
        }
        let gauge = key("gauge", "all", "g", "g", "{}");
        let found = samples(&[(gauge.clone(), 0, true, 4.0, 0.0), (gauge, 3, false, 9.0, 0.0)]);
        assert_eq!(found, [r#"g{pid="0"} 4.0"#, r#"g{pid="3"} 9.0"#]);
    }

    #[test]
    fn buckets_are_accumulated_in_the_order_of_their_bounds() {
        let bucket = |bound: &str| key("histogram", "", "h", "h_bucket", &format!(r#"{{"le": "{bound}"}}"#));
        let found = samples(&[
            (bucket("+Inf"), 0, true, 1.0, 0.0),
            (bucket("10.0"), 0, true, 2.0, 0.0),
            (bucket("2.5"), 0, true, 3.0, 0.0),
            (bucket("2.5"), 1, true, 4.0, 0.0),
            (key("histogram", "", "h", "h_sum", "{}"), 1, true, 0.1, 0.0),
        ]);
        let expected = [
            r#"h_bucket{le="2.5"} 7.0"#,
            r#"h_bucket{le="10.0"} 9.0"#,
            r#"h_bucket{le="+Inf"} 10.0"#,
            "h_count 10.0",
            "h_sum 0.1",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn names_of_the_server_and_of_two_kinds_are_refused() {
        let entries = [
            key("counter", "", "portico_calls", "portico_calls_total", "{}"),
            key(
                "gauge",
                "sum",
                "http_server_request_duration_seconds",
                "http_server_request_duration_seconds",
                "{}",
            ),
            key("gauge", "sum", "twice", "twice", "{}"),
            key("counter", "", "twice", "twice_total", "{}"),
            b"nonsense".to_vec(),
        ];
        let all = ApplicationMetrics::of(entries.iter().map(|key| ApplicationEntry {
            slot: 0,
            is_alive: true,
            key,
            value: 1.0,
            time: 0.0,
        }));
        assert_eq!(all.refused(), 4);
        let text = all.text(TextFormat::Prometheus);
        assert_eq!(text, "# TYPE twice gauge\n# HELP twice Help.\ntwice 1.0\n");
    }

    #[test]
    fn floats_are_written_so_that_all_read_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (-1.5, "-1.5"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e16"),
            (1.5e-7, "1.5e-7"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    proptest! {
        /// Whatever a worker writes, no line comes of it that is not a sample or an announcement of checked names.
        #[test]
        fn a_hostile_worker_adds_no_lines_of_its_own(
            kind in prop_oneof![Just("counter"), Just("gauge"), Just("histogram"), Just("summary"), Just("x")],
            mode in prop_oneof![Just(""), Just("all"), Just("sum"), Just("livemax"), Just("y")],
            texts in proptest::array::uniform5(".{0,12}"),
            value in any::<f64>(),
            raw in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let [metric, sample, name, text, help] = texts;
            let json = serde_json::json!([metric, format!("{metric}{sample}"), {name: text}, help]);
            let known = serde_json::json!(["m", "m_total", {"l": text}, help]);
            let keys = [
                format!("{kind}\n{mode}\n{json}").into_bytes(),
                format!("counter\n\n{known}").into_bytes(),
                raw,
            ];
            let all = ApplicationMetrics::of(keys.iter().map(|key| ApplicationEntry {
                slot: 0, is_alive: true, key, value, time: value,
            }));
            for format in [TextFormat::OpenMetrics, TextFormat::Prometheus] {
                for line in all.text(format).split('\n').filter(|line| !line.is_empty()) {
                    let is_ours = line.starts_with("# TYPE ") || line.starts_with("# HELP ")
                        || line.split(['{', ' ']).next().is_some_and(|name| is_name(name, true));
                    prop_assert!(is_ours && line != "# EOF", "{:?}", line);
                }
            }
        }
    }
}
