//! Where statsd and syslog are, as gunicorn writes it.

use std::fmt;
use std::path::PathBuf;

use crate::error::ParseError;
use crate::traces::{CollectorUrl, TraceParents, TraceSettings};

/// The address of a statsd or syslog server, not looked up yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A host, by name or address, and a port.
    Inet {
        /// Without brackets.
        host: String,
        /// Not 0.
        port: u16,
    },
    /// A UNIX socket.
    Unix(PathBuf),
}

/// The settings of what is told of requests beside the access log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// `--statsd-host` and its like
    pub statsd: StatsdSettings,
    /// `--enable-backlog-metric`
    pub backlog_metric: bool,
    /// `--prometheus-slots`: metrics of prometheus_client are kept by slot.
    pub prometheus_slots: bool,
    /// `--log-syslog` and its like
    pub syslog: SyslogSettings,
    /// `--request-id`: the request's id is in environ and in the answer.
    pub request_id: bool,
    /// `--otlp`
    pub otlp: bool,
    /// `--otlp-endpoint`
    pub otlp_endpoint: Option<CollectorUrl>,
    /// `--otlp-parents`
    pub otlp_parents: TraceParents,
    /// What these and OpenTelemetry's variables come to; `None` without `--otlp`.
    pub traces: Option<Box<TraceSettings>>,
}

/// The settings of metrics: where they go and what their names begin with (`--statsd-host`, `--statsd-prefix`,
/// `--dogstatsd-tags`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatsdSettings {
    /// `None` turns it off.
    pub endpoint: Option<Endpoint>,
    /// Ends in a dot, unless it is empty.
    pub prefix: String,
    /// Comma-separated; may be empty.
    pub tags: String,
}

/// The settings of syslog: whether the logs go there, its address and how lines are marked (`--log-syslog` and its
/// like).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogSettings {
    /// Whether anything goes there.
    pub on: bool,
    /// `--log-syslog-to`
    pub endpoint: Endpoint,
    /// How it is spoken to; `None` for a UNIX socket of which that is not said.
    pub transport: Option<SyslogTransport>,
    /// `--log-syslog-prefix`
    pub prefix: Option<String>,
    /// The number of the facility (RFC 3164, section 4.1.1).
    pub facility: u8,
}

/// The kind of socket for messages to syslog: datagrams or a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyslogTransport {
    /// One message, one datagram.
    Datagram,
    /// Messages one after the other.
    Stream,
}

const STATSD_PORT: u16 = 8125;
const SYSLOG_PORT: u16 = 514;

/// Names of facilities (RFC 3164, section 4.1.1, as Python's `SysLogHandler` has them).
const FACILITIES: &[(&str, u8)] = &[
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("security", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

impl Default for SyslogSettings {
    fn default() -> Self {
        Self {
            on: false,
            endpoint: Endpoint::Inet { host: "localhost".to_owned(), port: SYSLOG_PORT },
            transport: Some(SyslogTransport::Datagram),
            prefix: None,
            facility: 1,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Inet { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Reads `--statsd-host`.
///
/// # Errors
/// What is wrong, and what to write instead.
pub(crate) fn statsd(text: &str) -> Result<Endpoint, ParseError> {
    let wrong = || ParseError::from(format!("{text:?} is no address; write HOST:PORT or unix://PATH"));
    match text.strip_prefix("unix:") {
        Some(path) => unix(path).ok_or_else(wrong),
        None => inet(text, STATSD_PORT).ok_or_else(wrong),
    }
}

/// Reads `--log-syslog-to`.
///
/// # Errors
/// As [`statsd`].
pub(crate) fn syslog(text: &str) -> Result<(Endpoint, Option<SyslogTransport>), ParseError> {
    let wrong = || {
        ParseError::from(format!(
            "{text:?} is no address; write udp://HOST:PORT, tcp://HOST:PORT, unix://PATH#dgram or \
             unix://PATH#stream"
        ))
    };
    let inet = |rest: &str| {
        let host = if rest.is_empty() { "localhost" } else { rest };
        inet(host, SYSLOG_PORT).ok_or_else(wrong)
    };
    if let Some(rest) = text.strip_prefix("udp://") {
        return Ok((inet(rest)?, Some(SyslogTransport::Datagram)));
    }
    if let Some(rest) = text.strip_prefix("tcp://") {
        return Ok((inet(rest)?, Some(SyslogTransport::Stream)));
    }
    let rest = text.strip_prefix("unix://").ok_or_else(wrong)?;
    let (path, transport) = match rest.split_once('#') {
        None => (rest, None),
        Some((path, "dgram")) => (path, Some(SyslogTransport::Datagram)),
        Some((path, "stream")) => (path, Some(SyslogTransport::Stream)),
        Some(_) => return Err(wrong()),
    };
    Ok((unix(path).ok_or_else(wrong)?, transport))
}

/// Reads `--log-syslog-facility`.
///
/// # Errors
/// The name is not known.
pub(crate) fn facility(text: &str) -> Result<u8, ParseError> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_prefix("log_").unwrap_or(&lower);
    let found = FACILITIES.iter().find(|(known, _)| *known == name);
    found.map(|(_, number)| *number).ok_or_else(|| {
        let known: Vec<&str> = FACILITIES.iter().map(|(known, _)| *known).collect();
        format!("{text:?} is no facility; write one of {}", known.join(", ")).into()
    })
}

/// Reads `--statsd-prefix`: it ends in one dot.
pub(crate) fn prefix(text: &str) -> String {
    let bare = text.trim_end_matches('.');
    if bare.is_empty() { String::new() } else { format!("{bare}.") }
}

fn unix(path: &str) -> Option<Endpoint> {
    // unix://PATH and unix:PATH; an absolute path has three slashes after the colon, or one.
    let path = path.strip_prefix("//").unwrap_or(path);
    (!path.is_empty()).then(|| Endpoint::Unix(PathBuf::from(path)))
}

fn inet(text: &str, port_default: u16) -> Option<Endpoint> {
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None if text.matches(':').count() > 1 => return None,
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(digits) => digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?,
        None => port_default,
    };
    let good = !host.is_empty() && !host.contains(['/', ' ']) && port != 0;
    good.then(|| Endpoint::Inet { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Endpoint {
        Endpoint::Inet { host: host.to_owned(), port }
    }

    #[test]
    fn addresses_of_statsd() {
        for (text, endpoint) in [
            ("localhost:8125", at("localhost", 8125)),
            ("10.0.0.1:9125", at("10.0.0.1", 9125)),
            ("stats", at("stats", 8125)),
            ("[::1]:8126", at("::1", 8126)),
            ("[::1]", at("::1", 8125)),
            ("unix:///run/statsd.sock", Endpoint::Unix("/run/statsd.sock".into())),
            ("unix:/run/statsd.sock", Endpoint::Unix("/run/statsd.sock".into())),
            ("unix://statsd.sock", Endpoint::Unix("statsd.sock".into())),
        ] {
            assert_eq!(statsd(text), Ok(endpoint), "{text}");
        }
        for text in
            ["", ":8125", "a:b", "a:0", "a:99999", "a:+1", "::1", "[::1", "[::1]x", "unix:", "udp://a:1"]
        {
            assert!(statsd(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_of_syslog() {
        let (datagram, stream) = (Some(SyslogTransport::Datagram), Some(SyslogTransport::Stream));
        for (text, endpoint, transport) in [
            ("udp://localhost:514", at("localhost", 514), datagram),
            ("udp://", at("localhost", 514), datagram),
            ("udp://log", at("log", 514), datagram),
            ("tcp://[::1]:601", at("::1", 601), stream),
            ("unix:///dev/log", Endpoint::Unix("/dev/log".into()), None),
            ("unix:///dev/log#dgram", Endpoint::Unix("/dev/log".into()), datagram),
            ("unix:///dev/log#stream", Endpoint::Unix("/dev/log".into()), stream),
        ] {
            assert_eq!(syslog(text), Ok((endpoint, transport)), "{text}");
        }
        for text in
            ["", "localhost:514", "udp://:514", "tls://a:1", "unix://", "unix:///dev/log#raw", "udp://a:b"]
        {
            assert!(syslog(text).is_err(), "{text}");
        }
    }

    #[test]
    fn facilities_and_prefixes() {
        for (text, number) in [("user", 1), ("LOCAL7", 23), ("log_daemon", 3), ("LOG_AUTH", 4)] {
            assert_eq!(facility(text), Ok(number), "{text}");
        }
        assert!(facility("local8").unwrap_err().to_string().contains("local7"));
        for (text, expected) in [("", ""), (".", ""), ("a", "a."), ("a.b..", "a.b.")] {
            assert_eq!(prefix(text), expected, "{text}");
        }
        assert_eq!(at("::1", 5).to_string(), "[::1]:5");
    }
}
