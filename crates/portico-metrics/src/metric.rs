//! What a row of the table says of a metric.

/// A metric: a row of the table. Nobody changes it; the values are in [`Metrics`](crate::Metrics).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name in the form of Prometheus, with its unit and without `_total`: OpenTelemetry's where that has one.
    pub name: &'static str,
    /// How its values behave.
    pub kind: MetricKind,
    /// What its values count.
    pub unit: Unit,
    /// What it tells, in a sentence.
    pub help: &'static str,
    /// What tells its series apart; none for a metric that is a single number.
    pub labels: &'static [Label],
    /// Whether each worker is shown by itself, with the label `slot`. Else it is one number for the server.
    pub by_slot: bool,
    /// Whether the supervisor alone counts it. What another process has written into its cells is not read.
    pub by_supervisor: bool,
    /// Whether a zero says that there is nothing to measure, and is not shown.
    pub is_optional: bool,
    /// Whether it is shown at all: what workers tell each other is not, where another metric says it better.
    pub is_shown: bool,
    /// Whether the cells have it in nanoseconds, and it is shown in seconds.
    pub in_nanos: bool,
    /// What it is to statsd.
    pub statsd: &'static [StatsdName],
}

/// The behaviour of a metric's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows, also over the end of a worker.
    Counter,
    /// Says how it is now.
    Gauge,
    /// Durations by their length; as a counter.
    Histogram,
    /// A fact, told by its labels; its value is 1.
    Info,
}

/// The unit of a metric's values, which its name ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    None,
    /// Bytes.
    Bytes,
    /// Seconds. In the cells of a histogram these are nanoseconds.
    Seconds,
}

/// A label, with all values that it can have: nobody outside can make a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values; none where they are in the configuration or follow from the program.
    pub values: &'static [&'static str],
    /// What such a value is.
    pub about: &'static str,
}

/// A name under which statsd is sent a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatsdName {
    /// The name; if there is one for each value of the metric's last label, without a dot and that value.
    pub name: &'static str,
    /// What statsd makes of the numbers.
    pub form: StatsdForm,
    /// Whether there is one for each value of the last label.
    pub by_label: bool,
}

/// The type of a number that is sent to statsd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsdForm {
    /// `c`: added to a counter.
    Count,
    /// `g`: the value of a gauge.
    Gauge,
    /// `h`: added to a distribution.
    Histogram,
    /// `ms`: a time in milliseconds, added to a distribution.
    Time,
}

impl Label {
    /// One with these values.
    pub(crate) const fn of(name: &'static str, values: &'static [&'static str]) -> Self {
        Self { name, values, about: "" }
    }

    /// One whose values only the server itself knows: as many as `about` says, and no client adds one.
    pub(crate) const fn open(name: &'static str, about: &'static str) -> Self {
        Self { name, values: &[], about }
    }
}

impl Metric {
    /// How many series it has: the product of the numbers of its labels' values.
    pub const fn series_count(&self) -> usize {
        let (mut count, mut index) = (1, 0);
        while index < self.labels.len() {
            count *= self.labels[index].values.len();
            index += 1;
        }
        count
    }

    /// Its name as a scrape has it: that of a counter ends in `_total`.
    pub fn exposed_name(&self) -> String {
        match self.kind {
            MetricKind::Counter => format!("{}_total", self.name),
            MetricKind::Info => format!("{}_info", self.name),
            MetricKind::Gauge | MetricKind::Histogram => self.name.to_owned(),
        }
    }

    /// The labels of series `number`, each with its value.
    pub fn series(&self, number: usize) -> Vec<(&'static str, &'static str)> {
        let mut rest = number;
        let mut series: Vec<_> = self
            .labels
            .iter()
            .rev()
            .map(|label| {
                let value = label.values[rest % label.values.len()];
                rest /= label.values.len();
                (label.name, value)
            })
            .collect();
        series.reverse();
        series
    }
}

impl MetricKind {
    /// As OpenMetrics has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

impl Unit {
    /// As OpenMetrics has it.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Bytes => Some("bytes"),
            Self::Seconds => Some("seconds"),
        }
    }
}

impl StatsdForm {
    /// As it stands in a datagram.
    pub fn code(self) -> &'static str {
        match self {
            Self::Count => "c",
            Self::Gauge => "g",
            Self::Histogram => "h",
            Self::Time => "ms",
        }
    }
}
