//! The table: each metric of the server, once.
//!
//! A row is a doc comment, which is the metric's sentence in `# HELP` and in the reference, a name for the code,
//! and what differs from a plain number. From the rows follow the layout of the cells on the scoreboard, `portico
//! status --json`, `portico metrics`, the names that statsd is sent, and docs/reference/metrics.md (`make
//! docs-metrics`).
//!
//! To add a metric, add its row, and the line that counts it. Do not change the name of one, nor what it is to
//! statsd: dashboards name it.

use crate::labels::{
    CONNECTION_STATE, DEATH_REASON, END_REASON, HANDSHAKE_RESULT, LOG_SEVERITY, METHOD, PROTOCOL_VERSION,
    RELOAD_RESULT, START_REASON, STATUS_CLASS, STATUS_CODE, THREAD_STATE, THREAD_USE, TLS_VERSION,
    URL_SCHEME, WORKER_STATE,
};
use crate::metric::{Label, Metric, MetricKind, StatsdForm, StatsdName, Unit};

/// Makes of the rows of one kind an enum, by which the code names a metric and its kind at once, and their table.
macro_rules! table {
    (
        $(#[$about:meta])* $kind:ident of $behaviour:ident;
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
                ..plain(MetricKind::$behaviour)
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
        is_shown: true,
        in_nanos: false,
        statsd: &[],
    }
}

/// The address or the path of a listener.
const LISTENER: Label = Label::open("listener", "the address that the server listens on");

table! {
    /// Metrics that say how something is now. Those of a worker are zero again when the next one begins.
    Gauge of Gauge;

    /// Threads of a worker as its engine has told the other workers; portico_threads is never late.
    Threads = { name: "portico_threads_told", labels: &[THREAD_USE], by_slot: true, is_shown: false };
    /// Requests whose response has not ended, from the head on, by their method.
    ActiveRequests = { name: "http_server_active_requests", labels: &[METHOD] };
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
    /// When the request began to wait that has waited longest, on the machine's clock; 0 if none waits. Shown as
    /// portico_queue_oldest_seconds.
    QueueSince = { name: "portico_queue_since", by_slot: true, is_shown: false };
    /// Connections of a worker. Shown as portico_connections, with what they are at.
    Connections = { name: "portico_connections_held", by_slot: true, is_shown: false };
    /// Streams that connections carry: each request that is active has one there, and none elsewhere.
    Streams = { name: "portico_streams", by_slot: true, is_shown: false };
    /// Connections that carry such streams.
    Sessions = { name: "portico_sessions", by_slot: true, is_shown: false };
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
    /// Workers that there should be.
    WorkersWanted = { name: "portico_workers_wanted", by_supervisor: true };
    /// Threads of each worker that run calls.
    ThreadsPerWorker = { name: "portico_threads_capacity", by_supervisor: true };
    /// Generation of the code that new workers belong to; grows with each reload.
    Generation = { name: "portico_generation", by_supervisor: true };
    /// Seconds since 1970 when a reload last ended well.
    LastReload = {
        name: "portico_reload_last_success_timestamp_seconds",
        by_supervisor: true,
        unit: Unit::Seconds,
        is_optional: true,
    };
    /// 1 while files of certificates have changed and cannot be used, so that former ones still are.
    CertificatesStale = {
        name: "portico_tls_certificates_stale",
        by_supervisor: true,
        statsd: &[StatsdName { name: "portico.certificate.stale", form: StatsdForm::Gauge, by_label: false }],
    };
}

table! {
    /// Metrics that nobody counts: whoever asks works them out, of records, clocks and the kernel's tables.
    Observed of Gauge;

    /// Threads of a worker that run calls, by what they are at. One in a WebSocket or lost has had its place taken
    /// by another.
    ThreadStates = { name: "portico_threads", labels: &[THREAD_STATE], by_slot: true };
    /// Age of the request that has waited longest for a thread; 0 if none waits.
    QueueOldest = {
        name: "portico_queue_oldest_seconds",
        unit: Unit::Seconds,
        in_nanos: true,
        by_slot: true,
    };
    /// Connections that a worker holds: those with a request that has not had all of its response are active.
    ConnectionStates = { name: "portico_connections", labels: &[CONNECTION_STATE], by_slot: true };
    /// Worker processes that exist, by what they are at.
    Workers = {
        name: "portico_workers",
        labels: &[WORKER_STATE],
        statsd: &[StatsdName { name: "gunicorn.workers", form: StatsdForm::Gauge, by_label: false }],
    };
    /// Time from the fork of a worker until it was ready.
    WorkerReady = {
        name: "portico_worker_ready_seconds",
        unit: Unit::Seconds,
        in_nanos: true,
        by_slot: true,
    };
    /// Time that threads have spent in calls. One that runs counts up to a second ago.
    BusyTime = {
        name: "portico_busy_seconds",
        kind: MetricKind::Counter,
        unit: Unit::Seconds,
        in_nanos: true,
        by_slot: true,
    };
    /// Time that threads have waited for the interpreter when they needed it for a call.
    InterpreterWait = {
        name: "portico_interpreter_wait_seconds",
        kind: MetricKind::Counter,
        unit: Unit::Seconds,
        in_nanos: true,
        by_slot: true,
    };
    /// How often threads have asked for the interpreter after they had let go of it.
    InterpreterWaits = {
        name: "portico_interpreter_waits",
        kind: MetricKind::Counter,
        by_slot: true,
    };
    /// Connections that the kernel holds until a worker accepts them.
    ListenQueue = { name: "portico_listen_queue_length", labels: &[LISTENER] };
    /// Connections that the kernel holds at most.
    ListenQueueLimit = { name: "portico_listen_queue_limit", labels: &[LISTENER] };
    /// Connections that found a listen queue full, of all TCP sockets in the server's network namespace since
    /// that was made.
    ListenOverflows = { name: "portico_listen_overflows", kind: MetricKind::Counter };
    /// Seconds since 1970 when a certificate expires.
    CertificateExpiry = {
        name: "portico_tls_certificate_not_after_seconds",
        unit: Unit::Seconds,
        labels: &[Label::open("name", "the end of the path of the certificate's file")],
        statsd: &[StatsdName { name: "portico.certificate.days", form: StatsdForm::Gauge, by_label: false }],
    };
    /// Which Portico this is, and what runs the application.
    Build = {
        name: "portico_build",
        kind: MetricKind::Info,
        labels: &[
            Label::open("version", "Portico's"),
            Label::open("python", "the interpreter's version"),
            Label::open("implementation", "its name, `cpython`"),
            Label::open("gil", "`on` or `off`"),
        ],
    };
}

table! {
    /// Metrics that only grow. Those of a worker go on with the next one in its slot.
    Counter of Counter;

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
    /// Exchanges that have ended, by the version of HTTP and the scheme of the URL that the client has used.
    /// Those by HTTP/1.1 without TLS, the usual ones behind a proxy, are not in it: they are the rest of
    /// portico_exchanges.
    ExchangesByProtocol = {
        name: "portico_exchanges_by_protocol",
        labels: &[PROTOCOL_VERSION, URL_SCHEME],
    };
    /// Exchanges that have ended otherwise than with the application's whole response, by the reason that the
    /// access log has.
    ExchangesEnded = { name: "portico_exchanges_ended", labels: &[END_REASON] };
    /// Connections that were accepted.
    Accepts = { name: "portico_accepts" };
    /// TLS handshakes that have ended, by the version that was agreed on.
    TlsHandshakes = { name: "portico_tls_handshakes", labels: &[TLS_VERSION, HANDSHAKE_RESULT] };
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
    AccessLogDropped = { name: "portico_log_lines_dropped" };
    /// Spans of requests that the collector has taken (--otlp).
    SpansSent = { name: "portico_otlp_spans_sent" };
    /// Spans that were dropped, because the collector did not take them in time or rejected them (--otlp).
    SpansDropped = { name: "portico_otlp_spans_dropped" };
    /// Workers that were started, by what made one necessary.
    WorkerStarts = { name: "portico_worker_starts", by_supervisor: true, labels: &[START_REASON] };
    /// Workers that died, instead of ending when they were told to.
    WorkerDeaths = { name: "portico_worker_deaths", by_supervisor: true, labels: &[DEATH_REASON] };
    /// Reloads that have ended.
    Reloads = { name: "portico_reloads", by_supervisor: true, labels: &[RELOAD_RESULT] };
    /// Upgrades that were rolled back.
    UpgradesFailed = { name: "portico_upgrades_failed", by_supervisor: true };
}

table! {
    /// Metrics that count durations by their length. Those of a worker go on with the next one in its slot.
    Histogram of Histogram;

    /// How long complete requests have waited for a thread.
    QueueDuration = { name: "portico_queue_duration_seconds", unit: Unit::Seconds };
    /// Time from when a believed proxy had a request (X-Request-Start or X-Queue-Start) until its head was here.
    UpstreamDuration = { name: "portico_upstream_queue_duration_seconds", unit: Unit::Seconds };
    /// Time from when a thread took a request until the application had given the last of its response.
    ApplicationDuration = { name: "portico_application_duration_seconds", unit: Unit::Seconds };
    /// Time from when the application had given the last of a response until it was written.
    WriteDuration = { name: "portico_write_duration_seconds", unit: Unit::Seconds };
    /// Time from the head of a request with a body until its body was here.
    BodyDuration = { name: "portico_request_body_duration_seconds", unit: Unit::Seconds };
    /// How long the interpreter took to get, tried while a call ran for more than 50 ms.
    InterpreterProbe = { name: "portico_interpreter_probe_seconds", unit: Unit::Seconds };
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
    let observed = Observed::ALL.iter().map(|observed| observed.metric());
    let counters = Counter::ALL.iter().map(|counter| counter.metric());
    gauges.chain(observed).chain(counters).chain(Histogram::ALL.iter().map(|histogram| histogram.metric()))
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
            assert!(labels.iter().all(|label| label.values.is_empty() != label.about.is_empty()), "{name}");
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
            "portico.certificate.stale:g",
            "gunicorn.workers:g",
            "portico.certificate.days:g",
            "gunicorn.requests:c",
            "gunicorn.request.status.*:c",
            "gunicorn.log.*:c",
            "gunicorn.request.duration:ms",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn each_row_is_found_by_its_name_in_the_code() {
        assert_eq!(Observed::Workers.metric().name, "portico_workers");
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
