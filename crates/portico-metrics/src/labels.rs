//! The labels of metrics: every value that each can have, and which one is whose.
//!
//! What clients choose, methods and by way of the application codes, is bounded here: what is not listed counts as
//! another one, so that no client makes a series.

use crate::metric::Label;

/// The method of a request, by its place among the values of its label; by default that of requests that are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method(u8);

/// The status of a response, by its place among the values of its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusCode(u8);

/// The protocol that a request has come by, and its URL's scheme, by their place among the values of their labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestProtocol(u8);

/// What a client has spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolVersion {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
    /// FastCGI, uwsgi or SCGI: another server has spoken to the client.
    Gateway,
}

/// Why a worker was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartReason {
    /// The server starts.
    #[default]
    Boot,
    /// More workers are wanted.
    Scale,
    /// One is to be replaced that has served long enough.
    Replace,
    /// There is new code.
    Reload,
    /// One has died.
    Death,
}

/// Why a worker died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathReason {
    /// It ended before it was ready.
    Boot,
    /// It has exited by itself.
    Exit,
    /// The kernel killed it, because memory was short.
    OutOfMemory,
    /// The supervisor killed it, because it showed no life.
    Stalled,
    /// The supervisor killed it for another reason: it did not end in time.
    Killed,
    /// SIGKILL from outside.
    Sigkill,
    /// Another signal: it crashed.
    Signal,
}

/// How a TLS handshake has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It is done, by this version: 12 or 13.
    Done(u8),
    /// It has failed, or the client has left before its end.
    Failed,
}

/// The outcome of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadResult {
    /// The new code serves.
    Succeeded,
    /// The old code goes on serving.
    Failed,
}

/// What a worker's threads are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadUse {
    /// They could take a request now.
    Idle,
    /// They are in a call.
    Busy,
    /// They were written off: their call did not end in time.
    Lost,
}

/// The severity of records of the error log that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSeverity {
    /// An error.
    Error,
    /// An error with Python's traceback.
    Exception,
    /// A warning.
    Warning,
}

/// Methods, by OpenTelemetry's convention: those of RFC 9110 and RFC 5789, all others as `_OTHER`.
pub(crate) const METHOD: Label = Label::of(
    "http_request_method",
    &["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "_OTHER"],
);

/// Codes that many servers send, and one for the others of each class.
pub(crate) const STATUS_CODE: Label = Label::of(
    "http_response_status_code",
    &[
        "200",
        "201",
        "202",
        "204",
        "206",
        "301",
        "302",
        "303",
        "304",
        "307",
        "308",
        "400",
        "401",
        "403",
        "404",
        "405",
        "408",
        "409",
        "410",
        "413",
        "421",
        "422",
        "429",
        "499",
        "500",
        "501",
        "502",
        "503",
        "504",
        "1xx_other",
        "2xx_other",
        "3xx_other",
        "4xx_other",
        "5xx_other",
    ],
);

/// Classes of codes (RFC 9110, section 15).
pub(crate) const STATUS_CLASS: Label =
    Label::of("http_response_status_class", &["1xx", "2xx", "3xx", "4xx", "5xx"]);

pub(crate) const THREAD_USE: Label = Label::of("state", &["idle", "busy", "lost"]);

pub(crate) const THREAD_STATE: Label =
    Label::of("state", &["idle", "running", "awaiting_client", "websocket", "lost"]);

pub(crate) const WORKER_STATE: Label = Label::of("state", &["starting", "ready", "retiring"]);

pub(crate) const CONNECTION_STATE: Label = Label::of("state", &["idle", "active"]);

pub(crate) const PROTOCOL_VERSION: Label =
    Label::of("network_protocol_version", &["1.0", "1.1", "2", "gateway"]);

pub(crate) const URL_SCHEME: Label = Label::of("url_scheme", &["http", "https"]);

/// The reasons of the access log, by their names there.
pub(crate) const END_REASON: Label = Label::of(
    "reason",
    &[
        "aborted",
        "cancelled",
        "client_gone",
        "client_memory",
        "queue_full",
        "queue_timeout",
        "refused",
        "request_timeout",
        "server_stopped",
        "timeout",
        "worker_died",
        "write_timeout",
        "other",
    ],
);

pub(crate) const START_REASON: Label = Label::of("reason", &["boot", "scale", "replace", "reload", "death"]);

pub(crate) const DEATH_REASON: Label =
    Label::of("reason", &["boot", "exit", "out_of_memory", "stalled", "killed", "sigkill", "signal"]);

pub(crate) const TLS_VERSION: Label = Label::of("version", &["1.2", "1.3", "none"]);

pub(crate) const HANDSHAKE_RESULT: Label = Label::of("result", &["succeeded", "failed"]);

pub(crate) const RELOAD_RESULT: Label = Label::of("result", &["succeeded", "failed"]);

pub(crate) const LOG_SEVERITY: Label = Label::of("level", &["error", "exception", "warning"]);

/// Codes that a response can have: 100 to 599.
const CODES: std::ops::Range<u16> = 100..600;

/// The place of each code among the values of its label.
const PLACES: [u8; 500] = places();

const fn places() -> [u8; 500] {
    let mut places = [0; 500];
    let classes = STATUS_CLASS.values.len();
    let listed = STATUS_CODE.values.len() - classes;
    let mut code = 0;
    while code < places.len() {
        places[code] = (listed + code / 100) as u8;
        code += 1;
    }
    let mut place = 0;
    while place < listed {
        let digits = STATUS_CODE.values[place].as_bytes();
        let mut code = 0;
        let mut index = 0;
        while index < digits.len() {
            code = code * 10 + (digits[index] - b'0') as usize;
            index += 1;
        }
        places[code - CODES.start as usize] = place as u8;
        place += 1;
    }
    places
}

impl Default for Method {
    #[inline]
    fn default() -> Self {
        Self::OTHER
    }
}

impl Method {
    /// What counts for requests that are none: nothing of them was understood.
    pub const OTHER: Self = Self(METHOD.values.len() as u8 - 1);

    /// Of a request's method, as it was sent.
    #[inline]
    pub fn of(method: &[u8]) -> Self {
        match method {
            b"GET" => Self(0),
            b"HEAD" => Self(1),
            b"POST" => Self(2),
            b"PUT" => Self(3),
            b"DELETE" => Self(4),
            b"CONNECT" => Self(5),
            b"OPTIONS" => Self(6),
            b"TRACE" => Self(7),
            b"PATCH" => Self(8),
            _ => Self::OTHER,
        }
    }

    /// The series of a metric with the label `METHOD` alone.
    #[inline]
    pub(crate) fn place(self) -> usize {
        self.0 as usize
    }

    /// The series of a response to such a request, of a metric with the labels `METHOD` and `STATUS_CODE`.
    #[inline]
    pub fn with_code(self, status: StatusCode) -> usize {
        self.0 as usize * STATUS_CODE.values.len() + status.0 as usize
    }

    /// The same with the labels `METHOD` and `STATUS_CLASS`.
    #[inline]
    pub fn with_class(self, code: u16) -> usize {
        let class = (code.clamp(CODES.start, CODES.end - 1) - CODES.start) / 100;
        self.0 as usize * STATUS_CLASS.values.len() + class as usize
    }
}

impl RequestProtocol {
    /// Of a request.
    #[inline]
    pub fn of(version: ProtocolVersion, is_https: bool) -> Self {
        Self(version as u8 * URL_SCHEME.values.len() as u8 + u8::from(is_https))
    }

    /// The series of a metric with the labels `PROTOCOL_VERSION` and `URL_SCHEME`.
    #[inline]
    pub(crate) fn series(self) -> usize {
        self.0 as usize
    }
}

impl Handshake {
    /// The series of a metric with the labels `TLS_VERSION` and `HANDSHAKE_RESULT`.
    pub(crate) fn series(self) -> usize {
        let (version, result) = match self {
            Self::Done(12) => (0, 0),
            Self::Done(_) => (1, 0),
            Self::Failed => (2, 1),
        };
        version * HANDSHAKE_RESULT.values.len() + result
    }
}

/// The place of a reason of the access log among the values of its label; the last one if it has none.
pub(crate) fn end_reason(name: &str) -> usize {
    let last = END_REASON.values.len() - 1;
    END_REASON.values.iter().position(|value| *value == name).unwrap_or(last)
}

impl std::fmt::Display for LogSeverity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(LOG_SEVERITY.values[*self as usize])
    }
}

impl StatusCode {
    /// Of a response's code. What is none counts as an error of the server's.
    #[inline]
    pub fn of(code: u16) -> Self {
        let place = PLACES.get(code.wrapping_sub(CODES.start) as usize);
        Self(place.copied().unwrap_or(STATUS_CODE.values.len() as u8 - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_listed_method_has_its_own_value_and_no_client_makes_another() {
        for (place, name) in METHOD.values.iter().enumerate() {
            assert_eq!(Method::of(name.as_bytes()).0 as usize, place, "{name}");
        }
        for other in ["get", "QUERY", "", "GETX", "GE"] {
            assert_eq!(Method::of(other.as_bytes()), Method::OTHER);
        }
    }

    #[test]
    fn each_code_has_its_value_or_that_of_its_class() {
        for code in 0..=u16::MAX {
            let value = STATUS_CODE.values[StatusCode::of(code).0 as usize];
            match value.strip_suffix("xx_other") {
                None => assert_eq!(value, code.to_string()),
                Some(class) if CODES.contains(&code) => {
                    assert_eq!(class, (code / 100).to_string());
                    assert!(!STATUS_CODE.values.contains(&&*code.to_string()), "{code}");
                }
                Some(class) => assert_eq!(class, "5"),
            }
        }
    }

    #[test]
    fn series_have_the_labels_that_they_are_of() {
        let labels = |metric: &crate::metric::Metric, series| -> Vec<&str> {
            metric.series(series).into_iter().map(|(_, value)| value).collect()
        };
        let protocols = crate::table::Counter::ExchangesByProtocol.metric();
        let series = |version, is_https| RequestProtocol::of(version, is_https).series();
        assert_eq!(labels(protocols, series(ProtocolVersion::Http10, false)), ["1.0", "http"]);
        assert_eq!(labels(protocols, series(ProtocolVersion::Http2, true)), ["2", "https"]);
        assert_eq!(labels(protocols, series(ProtocolVersion::Gateway, true)), ["gateway", "https"]);
        let handshakes = crate::table::Counter::TlsHandshakes.metric();
        for (handshake, expected) in [
            (Handshake::Done(12), ["1.2", "succeeded"]),
            (Handshake::Done(13), ["1.3", "succeeded"]),
            (Handshake::Failed, ["none", "failed"]),
        ] {
            assert_eq!(labels(handshakes, handshake.series()), expected);
        }
        assert_eq!(END_REASON.values[end_reason("timeout")], "timeout");
        assert_eq!(END_REASON.values[end_reason("news")], "other");
        assert_eq!(START_REASON.values[StartReason::Death as usize], "death");
        assert_eq!(DEATH_REASON.values[DeathReason::OutOfMemory as usize], "out_of_memory");
        assert_eq!(DEATH_REASON.values[DeathReason::Signal as usize], "signal");
    }

    #[test]
    fn a_series_is_in_the_order_of_its_labels() {
        let (codes, classes) = (STATUS_CODE.values.len(), STATUS_CLASS.values.len());
        assert_eq!(Method::of(b"HEAD").with_code(StatusCode::of(201)), codes + 1);
        assert_eq!(Method::of(b"HEAD").with_class(204), classes + 1);
        assert_eq!(Method::OTHER.with_class(65_535), 10 * classes - 1);
        assert_eq!(Method::of(b"GET").with_class(0), 0);
    }
}
