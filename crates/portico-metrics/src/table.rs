//! The table: each metric of the server, once.
//!
//! A row is a doc comment, which is the metric's sentence in `# HELP` and in the reference, a name for the code,
//! and what differs from a plain number. From the rows follow the layout of the cells on the scoreboard, `portico
//! status --json`, `portico metrics`, the names that statsd is sent, and docs/reference/metrics.md (`make
//! docs-metrics`).
//!
//! To add a metric, add its row, and the line that counts it. Do not change the name of one, nor what it is to
//! statsd: dashboards name it.

use crate::labels::{LOG_SEVERITY, METHOD, RELOAD_RESULT, STATUS_CLASS, STATUS_CODE, THREAD_USE};
use crate::metric::{Metric, MetricKind, StatsdForm, StatsdName, Unit};

/// Makes of the rows of one kind an enum, by which the code names a metric and its kind at once, and their table.
macro_rules! table {
    (
        $(#[$about:meta])* $kind:ident;
        $($(#[doc = $help:literal])+ $row:ident = { $($field:ident: $value:expr),+ $(,)? };)+
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $kind {
            $($(#[doc = $help])+ $row,)+
        }

        impl $kind {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$row,)+];

            pub(crate) const ROWS: [Metric; Self::ALL.len()] = [$(Metric {
                help: concat!($($help),+).trim_ascii_start(),
                $($field: $value,)+
                ..plain(MetricKind::$kind)
            },)+];

            /// Its row.
            pub const fn metric(self) -> &'static Metric {
                const ROWS: [Metric; $kind::ALL.len()] = $kind::ROWS;
                &ROWS[self as usize]
            }
        }
    };
}

/// The parts of a row that most have in common.
const fn plain(kind: MetricKind) -> Metric {
    Metric {
        name: "",
        kind,
        unit: Unit::None,
        help: "",
        labels: &[],
        by_slot: false,
        by_supervisor: false,
        is_optional: false,
        statsd: &[],
    }
}

table! {
    /// Metrics that say how something is now. Those of a worker are zero again when the next one begins.
    Gauge;

    /// Threads of a worker that run calls, by what they are used for.
    Threads = { name: "portico_threads", labels: &[THREAD_USE], by_slot: true };
    /// Requests that wait for a thread.
    QueueLength = {
        name: "portico_queue_length",
        by_slot: true,
        statsd: &[StatsdName { name: "gunicorn.backlog", form: StatsdForm::Histogram, by_label: false }],
    };
    /// Functions that run after a response (portico.after_response).
    AfterResponseRunning = { name: "portico_after_response_running", by_slot: true };
    /// Functions that wait to be called after a response, those of requests that still run included.
    AfterResponseQueued = { name: "portico_after_response_queued", by_slot: true };
    /// Connections that a worker holds.
    Connections = { name: "portico_connections", by_slot: true };
    /// Resident memory of a worker, as it was measured last.
    ResidentBytes = {
        name: "portico_worker_resident_bytes",
        unit: Unit::Bytes,
        by_slot: true,
        is_optional: true,
    };
    /// Memory of a worker with its share of what it has in common with others, if --worker-max-rss measures it.
    ProportionalBytes = {
        name: "portico_worker_proportional_bytes",
        unit: Unit::Bytes,
        by_slot: true,
        is_optional: true,
    };
    /// Worker processes that exist, also those that start or leave.
    Workers = {
        name: "portico_workers",
        by_supervisor: true,
        statsd: &[StatsdName { name: "gunicorn.workers", form: StatsdForm::Gauge, by_label: false }],
    };
    /// Workers that there should be.
    WorkersWanted = { name: "portico_workers_wanted", by_supervisor: true };
    /// Threads of each worker that run calls.
    ThreadsPerWorker = { name: "portico_threads_capacity", by_supervisor: true };
    /// Generation of the code that new workers belong to; grows with each reload.
    Generation = { name: "portico_generation", by_supervisor: true };
    /// Seconds since 1970 when the first of the certificates expires.
    CertificateExpiry = {
        name: "portico_tls_certificate_not_after_seconds",
        by_supervisor: true,
        unit: Unit::Seconds,
        is_optional: true,
        statsd: &[StatsdName { name: "portico.certificate.days", form: StatsdForm::Gauge, by_label: false }],
    };
    /// 1 while files of certificates have changed and cannot be used, so that former ones still are.
    CertificatesStale = {
        name: "portico_tls_certificates_stale",
        by_supervisor: true,
        statsd: &[StatsdName { name: "portico.certificate.stale", form: StatsdForm::Gauge, by_label: false }],
    };
}

table! {
    /// Metrics that only grow. Those of a worker go on with the next one in its slot.
    Counter;

    /// Calls of the application that have begun.
    Calls = { name: "portico_calls", by_slot: true };
    /// Exchanges that have ended, by the method of the request and the status of the response; 499 if the client
    /// left before it.
    Exchanges = {
        name: "portico_exchanges",
        labels: &[METHOD, STATUS_CODE],
        statsd: &[
            StatsdName { name: "gunicorn.requests", form: StatsdForm::Count, by_label: false },
            StatsdName { name: "gunicorn.request.status", form: StatsdForm::Count, by_label: true },
        ],
    };
    /// Responses that were sent completely.
    Responses = { name: "portico_responses_complete" };
    /// Requests refused because they were malformed, too large or too slow.
    Refused = { name: "portico_requests_refused" };
    /// Requests refused with 503 because the queue was full (--max-queue).
    QueueFull = { name: "portico_queue_full" };
    /// Requests refused with 503 after too long a wait in the queue (--queue-timeout).
    QueueTimeouts = { name: "portico_queue_timeouts" };
    /// Requests refused with 429 because their client had made as many as it may (`limit` of a route).
    Limited = { name: "portico_requests_limited" };
    /// Requests refused with 503 because as many ran as may at once (`concurrent` of a route).
    TooManyAtOnce = { name: "portico_concurrency_refused" };
    /// Queued requests that were not run because their client had left.
    Abandoned = { name: "portico_requests_abandoned" };
    /// Idle connections closed to make room for new ones.
    Evicted = { name: "portico_connections_evicted" };
    /// Waiting requests passed on to other workers.
    PassedOn = { name: "portico_requests_passed_on" };
    /// Connections handed to other workers by one that left.
    HandedOn = { name: "portico_connections_handed_on" };
    /// Connections and requests taken over from other workers.
    TakenOver = { name: "portico_handovers_taken" };
    /// Functions that were called after a response and have returned.
    AfterResponseDone = { name: "portico_after_response_done" };
    /// Functions that were called after a response and have raised.
    AfterResponseFailed = { name: "portico_after_response_failed" };
    /// Functions that were not called after a response, or not to their end, because their worker ended.
    AfterResponseDropped = { name: "portico_after_response_dropped" };
    /// Functions that were refused because too many waited, or because the worker ended.
    AfterResponseRefused = { name: "portico_after_response_refused" };
    /// Records of the error log.
    LogRecords = {
        name: "portico_log_records",
        labels: &[LOG_SEVERITY],
        statsd: &[StatsdName { name: "gunicorn.log", form: StatsdForm::Count, by_label: true }],
    };
    /// Lines of the access log that were dropped because it could not keep up.
    AccessLogDropped = { name: "portico_access_log_lines_dropped" };
    /// Spans of requests that the collector has taken (--otlp).
    SpansSent = { name: "portico_otlp_spans_sent" };
    /// Spans that were dropped, because the collector did not take them in time or rejected them (--otlp).
    SpansDropped = { name: "portico_otlp_spans_dropped" };
    /// Workers that were started.
    WorkerStarts = { name: "portico_worker_starts", by_supervisor: true };
    /// Workers that died, instead of ending when they were told to.
    WorkerDeaths = { name: "portico_worker_deaths", by_supervisor: true };
    /// Reloads that have ended.
    Reloads = { name: "portico_reloads", by_supervisor: true, labels: &[RELOAD_RESULT] };
    /// Upgrades that were rolled back.
    UpgradesFailed = { name: "portico_upgrades_failed", by_supervisor: true };
}

table! {
    /// Metrics that count durations by their length. Those of a worker go on with the next one in its slot.
    Histogram;

    /// How long complete requests have waited for a thread.
    QueueDuration = { name: "portico_queue_duration_seconds", unit: Unit::Seconds };
    /// Time from a complete request until its response was written, by the request's method and the response's
    /// class.
    RequestDuration = {
        name: "http_server_request_duration_seconds",
        unit: Unit::Seconds,
        labels: &[METHOD, STATUS_CLASS],
        statsd: &[StatsdName { name: "gunicorn.request.duration", form: StatsdForm::Time, by_label: false }],
    };
}

/// Every row.
pub(crate) fn rows() -> impl Iterator<Item = &'static Metric> {
    let gauges = Gauge::ALL.iter().map(|gauge| gauge.metric());
    let counters = Counter::ALL.iter().map(|counter| counter.metric());
    gauges.chain(counters).chain(Histogram::ALL.iter().map(|histogram| histogram.metric()))
}

/// A number that tells one table from another: what lies in the cells depends on it.
pub const LAYOUT: u64 =
    layout_of(&Histogram::ROWS, layout_of(&Counter::ROWS, layout_of(&Gauge::ROWS, 0xcbf2_9ce4_8422_2325)));

/// FNV-1a over names and numbers of series.
const fn layout_of(rows: &[Metric], seed: u64) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let (mut hash, mut row) = (seed, 0);
    while row < rows.len() {
        let name = rows[row].name.as_bytes();
        let mut index = 0;
        while index < name.len() {
            hash = (hash ^ name[index] as u64).wrapping_mul(PRIME);
            index += 1;
        }
        hash = (hash ^ (256 + rows[row].series_count() as u64)).wrapping_mul(PRIME);
        row += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_those_of_prometheus() {
        let mut seen = HashSet::new();
        for Metric { name, kind, unit, help, labels, .. } in rows() {
            assert!(seen.insert(name), "{name} stands twice");
            let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(is_plain(name) && labels.iter().all(|label| is_plain(label.name)), "{name}");
            assert!(name.starts_with("portico_") || name.starts_with("http_server_"), "{name}");
            assert!(unit.name().is_none_or(|unit| name.ends_with(&format!("_{unit}"))), "{name}");
            // What a writer appends is not in a name itself.
            for suffix in ["_total", "_count", "_sum", "_bucket", "_created", "_info"] {
                assert!(!name.ends_with(suffix), "{name}");
            }
            assert!(*kind != MetricKind::Histogram || *unit == Unit::Seconds, "{name}");
            assert!(
                !help.contains("  ") && help.ends_with('.') && !help.contains(['"', '\\', '\n']),
                "{name}"
            );
        }
    }

    /// Names that dashboards of gunicorn's users have: they never change.
    #[test]
    fn statsd_has_gunicorns_names() {
        let names: Vec<_> = rows()
            .flat_map(|row| row.statsd.iter().map(move |sent| (sent, row.labels)))
            .map(|(StatsdName { name, form, by_label }, labels)| {
                assert_eq!(*by_label, *by_label && !labels.is_empty());
                format!("{name}{}:{}", if *by_label { ".*" } else { "" }, form.code())
            })
            .collect();
        let expected = [
            "gunicorn.backlog:h",
            "gunicorn.workers:g",
            "portico.certificate.days:g",
            "portico.certificate.stale:g",
            "gunicorn.requests:c",
            "gunicorn.request.status.*:c",
            "gunicorn.log.*:c",
            "gunicorn.request.duration:ms",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn each_row_is_found_by_its_name_in_the_code() {
        assert_eq!(Gauge::Workers.metric().name, "portico_workers");
        assert_eq!(Counter::Calls.metric().kind, MetricKind::Counter);
        assert_eq!(Histogram::RequestDuration.metric().unit, Unit::Seconds);
    }

    #[test]
    fn another_table_has_another_number() {
        let mut rows = Counter::ROWS;
        let before = layout_of(&rows, 1);
        rows.swap(1, 2);
        assert_ne!(layout_of(&rows, 1), before);
        rows.swap(1, 2);
        rows[3].labels = &[THREAD_USE];
        assert_ne!(layout_of(&rows, 1), before);
    }
}
