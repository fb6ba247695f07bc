//! Settings of the endpoints for probes.

use std::time::Duration;

use super::DAY;
use crate::health;
use crate::resolved::Workers;
use crate::setting::{Area, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] = &[HEALTH_PATH, HEALTH_LOG, READY_MIN, READY_MAX_WAIT];

pub(crate) const HEALTH_PATH: Setting = Setting {
    name: "health_path",
    flags: &["health-path"],
    value: ValueType::Form {
        metavar: "PATH",
        form: "a path such as /-/, or off",
        set: |config, text| health::path(text).map(|path| config.health.path = path),
    },
    default: "off",
    area: Area::Requests,
    help: "Answer probes below this path: livez, readyz and startupz",
    details: "With /-/ these are /-/livez, /-/readyz and /-/startupz, on all listeners. The server itself \
        responds, also while every thread and every interpreter is busy. They come before routes, passwords, \
        limits, --allowed-hosts and redirect:// listeners. /livez fails if a restart would help: the \
        supervisor or all workers have stopped working for 10 s. /readyz fails before the first worker is \
        ready, while fewer than --ready-min are, and from the signal to stop on. /startupz passes once a \
        worker has been ready, and says before what the server waits for. GET and HEAD are allowed; ?verbose \
        tells each check, and `Accept: application/health+json` gets JSON. Whoever reaches the listener can \
        ask, so let a proxy that faces the internet refuse the path. While the first worker starts, other \
        requests get 503 with Retry-After; without this setting, or with sockets that systemd passes \
        on, they wait.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn health_path() {
    use crate::testing::{config, refusal, with_environment};
    assert_eq!(config(&[]).health.path, None);
    for (text, path) in [("/-/", "/-"), ("/-", "/-"), ("/", ""), ("/a/b.c/", "/a/b.c")] {
        assert_eq!(config(&["--health-path", text]).health.path.as_deref(), Some(path), "{text}");
    }
    assert_eq!(
        with_environment(&[("PORTICO_HEALTH_PATH", "/x")], &["--health-path", "off"]).health.path,
        None
    );
    for text in ["-", "livez", "//", "/a//b", "/a/../b", "/./a", "/a?b", "/a#b", "/a%2d", "/a b", "/\u{e9}"] {
        assert!(refusal(&["--health-path", text]).contains("as in /-/"), "{text}");
    }
}

pub(crate) const HEALTH_LOG: Setting = Setting {
    name: "health_log",
    flags: &["health-log"],
    value: ValueType::Switch { given: true, set: |config, on| config.health.log = on },
    area: Area::Requests,
    help: "Write probes of --health-path to the access log",
    details: "Without it they are neither logged nor counted among the requests: a probe every second would be \
        most of what a quiet server logs.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn health_log() {
    use crate::testing::config;
    assert!(!config(&[]).health.log && config(&["--health-log"]).health.log);
}

pub(crate) const READY_MIN: Setting = Setting {
    name: "ready_min",
    flags: &["ready-min"],
    value: ValueType::Count {
        range: Workers::RANGE,
        zero: None,
        unit: "processes",
        set: |config, count| config.health.ready_min = u32::try_from(count).unwrap_or(u32::MAX),
    },
    default: "1",
    area: Area::Requests,
    help: "Ready workers that /readyz of --health-path asks for",
    details: "At most the number of --workers counts, and of MIN..MAX the first. A higher number keeps a \
        server that has lost some of its workers from getting a full share of the requests.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn ready_min() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).health.ready_min, 1);
    assert_eq!(config(&["--ready-min", "3"]).health.ready_min, 3);
    assert!(refusal(&["--ready-min", "0"]).contains("from 1 to 512"));
}

pub(crate) const READY_MAX_WAIT: Setting = Setting {
    name: "ready_max_wait",
    flags: &["ready-max-wait"],
    value: ValueType::Time {
        range: Duration::from_millis(1)..=DAY,
        zero: Some("no limit"),
        set: |config, time| config.health.ready_max_wait = time,
    },
    default: "0",
    area: Area::Requests,
    help: "Wait in the queue from which on /readyz of --health-path fails",
    details: "/readyz fails once a request has waited for a thread for so long, and passes again when none has \
        waited for half of that. Off by default: if all servers are overloaded at once, all of them would be \
        taken out of service, and nobody would respond. Use it where a load balancer keeps some servers in \
        any case.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn ready_max_wait() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).health.ready_max_wait, Duration::ZERO);
    assert_eq!(config(&["--ready-max-wait", "2"]).health.ready_max_wait, Duration::from_secs(2));
    assert!(refusal(&["--ready-max-wait", "25h"]).contains("from 1ms"));
}
