//! Settings that say how long the application may take, and how long a request may wait for it.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{DAY, YEAR};
use crate::error::ParseError;
use crate::resolved::{OnDisconnect, PathTimeout};
use crate::setting::{Area, Setting, ValueType};
use crate::value::time;

pub(super) const SETTINGS: &[Setting] =
    &[TIMEOUT, TIMEOUT_PATH, TIMEOUT_GRACE, SLOW_REQUEST, QUEUE_TIMEOUT, ON_DISCONNECT];

const TIMEOUT_RANGE: RangeInclusive<Duration> = Duration::from_millis(100)..=YEAR;

/// What 0 means for a time that may be off.
const NEVER: Option<&str> = Some("without end");

pub(crate) const TIMEOUT: Setting = Setting {
    name: "timeout",
    flags: &["timeout"],
    short: Some('t'),
    value: ValueType::Time { range: TIMEOUT_RANGE, zero: NEVER, set: |config, time| config.timeout = time },
    default: "30",
    area: Area::Timeouts,
    help: "How long the application may take for a request, or for its next block",
    details: "Then Portico logs the request and the Python stack of its thread, and raises \
        portico.RequestTimeout in that thread only. If that does not end the request within --timeout-grace, \
        the client gets a 504, another thread takes the place of this one, and the worker is replaced. Other \
        requests continue.\n\n\
        The time starts with the call of the application, not while a client sends or a request waits, and \
        starts again with each block: a stream that keeps yielding never times out. Use --timeout-path for \
        single slow paths.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn timeout() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).timeout, Duration::from_secs(30));
    assert_eq!(config(&["-t", "120"]).timeout, Duration::from_secs(120));
    assert_eq!(config(&["--timeout=0"]).timeout, Duration::ZERO);
    assert_eq!(config(&["--timeout", "100ms"]).timeout, Duration::from_millis(100));
    assert!(refusal(&["-t", "50ms"]).contains("from 100ms to 8760h"));
    assert!(refusal(&["-t", "-1"]).starts_with("--timeout: "));
}

/// They are looked through for each request.
const PATH_TIMEOUTS_MAX: usize = 64;

pub(crate) const TIMEOUT_PATH: Setting = Setting {
    name: "timeout_path",
    flags: &["timeout-path"],
    value: ValueType::List {
        metavar: "/PREFIX=TIME",
        set: |config, texts| path_timeouts(texts).map(|timeouts| config.path_timeouts = timeouts),
    },
    area: Area::Timeouts,
    help: "Another --timeout for a path and the paths below it; may be repeated",
    details: "`/reports=5m` applies to /reports and /reports/2024, not to /reportsheet; 0 turns the timeout \
        off there. The longest matching prefix is used. It is compared with the path as the client has sent \
        it, including --root-path; percent-encode it like the client, and write a comma as %2C.",
    ..Setting::BLANK
};

fn path_timeouts(texts: &[&str]) -> Result<Vec<PathTimeout>, ParseError> {
    let mut timeouts: Vec<PathTimeout> = Vec::new();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        let timeout = path_timeout(text)?;
        if timeouts.iter().any(|other| other.prefix == timeout.prefix) {
            return Err(format!("{} is given twice; remove one of them", timeout.prefix).into());
        }
        timeouts.push(timeout);
    }
    if timeouts.len() > PATH_TIMEOUTS_MAX {
        return Err(format!("{} prefixes; name at most {PATH_TIMEOUTS_MAX}", timeouts.len()).into());
    }
    timeouts.sort_by_key(|timeout| std::cmp::Reverse(timeout.prefix.len()));
    Ok(timeouts)
}

fn path_timeout(text: &str) -> Result<PathTimeout, ParseError> {
    let form = || format!("{text:?} is no path with a time; write /reports=5m");
    let (prefix, length) = text.rsplit_once('=').ok_or_else(form)?;
    let plain = prefix.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
    if !prefix.starts_with('/') || !plain {
        return Err(form().into());
    }
    let timeout = time(length, &TIMEOUT_RANGE, NEVER).map_err(|problem| format!("{prefix}: {problem}"))?;
    let trimmed = prefix.trim_end_matches('/');
    Ok(PathTimeout { prefix: if trimmed.is_empty() { "/" } else { trimmed }.to_owned(), timeout })
}

#[cfg(test)]
#[test]
fn timeout_path() {
    use crate::testing::{config, refusal, with_environment};
    let of = |prefix: &str, seconds| PathTimeout {
        prefix: prefix.to_owned(),
        timeout: Duration::from_secs(seconds),
    };
    assert_eq!(config(&[]).path_timeouts, []);
    assert_eq!(
        config(&["--timeout-path", "/a=1", "--timeout-path", "/=2,/a/b/=5m", "--timeout-path=/x=y=0"])
            .path_timeouts,
        [of("/a/b", 300), of("/x=y", 0), of("/a", 1), of("/", 2)]
    );
    let environment = [("PORTICO_TIMEOUT_PATH", "/a=1, /bc=2")];
    assert_eq!(with_environment(&environment, &[]).path_timeouts, [of("/bc", 2), of("/a", 1)]);
    for text in ["/a", "a=1", "=1", "/a=", "/a=soon", "/a=-1", "/a=1ms", "/a b=1", "/a?b=1", "/\u{e9}=1"] {
        assert!(refusal(&["--timeout-path", text]).starts_with("--timeout-path: "), "{text}");
    }
    assert!(refusal(&["--timeout-path", "/a=1,/a/=2"]).contains("/a is given twice"));
    let many = |number| (0..number).map(|n| format!("/{n}=1")).collect::<Vec<_>>().join(",");
    assert_eq!(config(&["--timeout-path", &many(64)]).path_timeouts.len(), 64);
    assert!(refusal(&["--timeout-path", &many(65)]).contains("at most 64"));
}

pub(crate) const TIMEOUT_GRACE: Setting = Setting {
    name: "timeout_grace",
    flags: &["timeout-grace"],
    value: ValueType::Time {
        range: Duration::ZERO..=Duration::from_secs(60),
        zero: None,
        set: |config, time| config.timeout_grace = time,
    },
    default: "500ms",
    area: Area::Timeouts,
    help: "How long a request may take to end after portico.RequestTimeout",
    details: "The application can use this time to roll back and to respond itself. A thread in a call of C \
        code, such as a query without a timeout, sees the exception only when the call returns: such a \
        request gets its 504 after this time. Raise it if cleaning up takes longer.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn timeout_grace() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).timeout_grace, Duration::from_millis(500));
    assert_eq!(config(&["--timeout-grace", "60"]).timeout_grace, Duration::from_secs(60));
    assert_eq!(config(&["--timeout-grace", "0"]).timeout_grace, Duration::ZERO);
    assert!(refusal(&["--timeout-grace", "61"]).contains("from 0s to 60s"));
}

pub(crate) const SLOW_REQUEST: Setting = Setting {
    name: "slow_request",
    flags: &["slow-request"],
    value: ValueType::Time {
        range: Duration::from_millis(1)..=DAY,
        zero: Some("off"),
        set: |config, time| config.slow_request = time,
    },
    default: "0",
    area: Area::Timeouts,
    help: "Time after which a running request is logged with its Python stack",
    details: "It shows where slow requests spend their time, without affecting them. Use a value below \
        --timeout, such as 5s.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn slow_request() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).slow_request, Duration::ZERO);
    assert_eq!(config(&["--slow-request", "5s"]).slow_request, Duration::from_secs(5));
    assert!(refusal(&["--slow-request", "25h"]).contains("from 1ms to 24h"));
}

pub(crate) const QUEUE_TIMEOUT: Setting = Setting {
    name: "queue_timeout",
    flags: &["queue-timeout"],
    value: ValueType::Time {
        range: Duration::from_millis(1)..=DAY,
        zero: NEVER,
        set: |config, time| config.queue_timeout = time,
    },
    default: "0",
    area: Area::Timeouts,
    help: "How long a complete request may wait for a thread before it gets 503",
    details: "The response has a Retry-After. Set it a little below the timeout of the clients or of the \
        load balancer in front, so that an overloaded server works for clients that still wait.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn queue_timeout() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).queue_timeout, Duration::ZERO);
    assert_eq!(config(&["--queue-timeout", "1.5"]).queue_timeout, Duration::from_millis(1500));
    assert!(refusal(&["--queue-timeout", "25h"]).contains("from 1ms to 24h"));
}

pub(crate) const ON_DISCONNECT: Setting = Setting {
    name: "on_disconnect",
    flags: &["on-disconnect"],
    value: ValueType::Choice {
        of: &[
            ("ignore", |config| config.on_disconnect = OnDisconnect::Ignore),
            ("raise", |config| config.on_disconnect = OnDisconnect::Raise),
        ],
        alone: None,
    },
    default: "ignore",
    area: Area::Timeouts,
    help: "What to do with a running GET or HEAD whose client has left",
    // Others may be half done: who sends them again expects that they were done or were not.
    details: "With raise, portico.ClientDisconnected is raised in its thread only, within about a tenth of a \
        second; the access log says 499. The application may clean up; nobody reads its response. It is \
        raised once, also between the blocks of a stream, but never in close() or in requests with other \
        methods. It is a ConnectionError: a framework that turns exceptions into error pages logs it as one \
        of the application's. A thread in a call of C code sees it only when the call returns. With ignore, \
        the application can ask `environ[\"portico.client_disconnected\"]`.\n\n\
        A client that shuts down its sending side counts as gone, unless --allow-half-close is set.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn on_disconnect() {
    use crate::testing::{config, refusal, with_environment};
    assert_eq!(config(&[]).on_disconnect, OnDisconnect::Ignore);
    assert_eq!(config(&["--on-disconnect", "raise"]).on_disconnect, OnDisconnect::Raise);
    assert_eq!(config(&["--on-disconnect=ignore"]).on_disconnect, OnDisconnect::Ignore);
    let environment = [("PORTICO_ON_DISCONNECT", "raise")];
    assert_eq!(with_environment(&environment, &[]).on_disconnect, OnDisconnect::Raise);
    assert!(refusal(&["--on-disconnect", "kill"]).starts_with("--on-disconnect: "));
}
