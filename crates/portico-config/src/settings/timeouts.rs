//! Settings that say how long a client may take, and the process to stop.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::DAY;
use crate::setting::{Area, Platform, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] = &[
    KEEP_ALIVE,
    GRACEFUL_TIMEOUT,
    DRAIN_DELAY,
    HEAD_TIMEOUT,
    BODY_TIMEOUT,
    BODY_MIN_RATE,
    WRITE_TIMEOUT,
    RESPONSE_MIN_RATE,
];

/// For what a client must do: never off, since a client that stalls would then hold its connection for ever.
const PATIENCE: RangeInclusive<Duration> = Duration::from_millis(100)..=DAY;

pub(crate) const KEEP_ALIVE: Setting = Setting {
    name: "keep_alive",
    gunicorn: Some("keepalive"),
    flags: &["keep-alive"],
    value: ValueType::Time {
        range: Duration::from_millis(1)..=DAY,
        zero: Some("that a connection closes after each response"),
        set: |config, time| config.keep_alive = time,
    },
    default: "75",
    area: Area::Timeouts,
    help: "How long a kept-alive connection may stay idle",
    // The shorter side's close races with the longer side's next request, which is where a balancer's 502
    // comes from: AWS' ALB keeps 60 s, nginx' own default for clients is 75 s. Idle connections cost next to
    // nothing here.
    details: "It must be longer than the idle timeout of a load balancer in front. Otherwise the load \
        balancer sends requests on connections that are just being closed, and clients get 502. 75 s is \
        right for AWS (60 s) and nginx (60 s); use 95 behind Heroku (90 s) and 620 behind Google Cloud (600 \
        s).",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn keep_alive() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).keep_alive, Duration::from_secs(75));
    assert_eq!(config(&["--keep-alive", "0"]).keep_alive, Duration::ZERO);
    assert_eq!(config(&["--keep-alive", "620s"]).keep_alive, Duration::from_secs(620));
    assert!(refusal(&["--keep-alive", "25h"]).contains("24h"));
}

pub(crate) const GRACEFUL_TIMEOUT: Setting = Setting {
    name: "graceful_timeout",
    flags: &["graceful-timeout"],
    value: ValueType::Time {
        range: Duration::from_millis(1)..=DAY,
        zero: Some("stopping at once"),
        set: |config, time| config.graceful_timeout = time,
    },
    default: "30",
    area: Area::Timeouts,
    help: "How long running and waiting requests may take to finish at a stop",
    details: "At SIGTERM and SIGINT, Portico accepts the connections in the backlog, closes idle connections \
        and finishes the rest within this time. It starts with the first signal and includes --drain-delay. \
        A second signal stops at once. Keep it a few seconds below the timeout of whatever sends the signal \
        (Kubernetes: terminationGracePeriodSeconds, 30 s, so make that 35; systemd: TimeoutStopSec, 90 s).",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn graceful_timeout() {
    use crate::testing::config;
    assert_eq!(config(&[]).graceful_timeout, Duration::from_secs(30));
    assert_eq!(config(&["--graceful-timeout", "2m"]).graceful_timeout, Duration::from_secs(120));
    assert_eq!(config(&["--graceful-timeout", "0"]).graceful_timeout, Duration::ZERO);
}

/// What an orchestrator that takes its time to stop routing sets in the environment of what it runs.
const ORCHESTRATORS: &[&str] = &[
    "KUBERNETES_SERVICE_HOST",
    "NOMAD_ALLOC_ID",
    "ECS_CONTAINER_METADATA_URI",
    "ECS_CONTAINER_METADATA_URI_V4",
];

pub(crate) const DRAIN_DELAY: Setting = Setting {
    name: "drain_delay",
    flags: &["drain-delay"],
    platform: Some(Platform { variables: ORCHESTRATORS, translate: |_| "5".to_owned() }),
    value: ValueType::Time {
        range: Duration::from_millis(1)..=Duration::from_secs(3600),
        zero: Some("none"),
        set: |config, time| config.drain_delay = time,
    },
    default: "0",
    area: Area::Timeouts,
    help: "How long connections are still accepted at a stop",
    // Endpoints and the SIGTERM go out at the same moment; kube-proxy and ingresses follow seconds later.
    details: "Orchestrators inform the load balancer and the process at the same time, and the load balancer \
        keeps sending for a while. During the delay readiness is off and each response says `Connection: \
        close`. The value is 5 s if a variable of Kubernetes, Nomad or ECS is set. Raise it if clients see \
        refused connections at a deploy. It is a part of --graceful-timeout, and at most half of that if it \
        is not shorter. A second signal skips the rest of it.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn drain_delay() {
    use crate::testing::{config, refusal, with_environment};
    assert_eq!(config(&[]).drain_delay, Duration::ZERO);
    assert_eq!(config(&["--drain-delay", "1h"]).drain_delay, Duration::from_secs(3600));
    assert!(refusal(&["--drain-delay", "2h"]).contains("from 1ms to 1h"));
    for variable in ORCHESTRATORS {
        let delay = |args: &[&str]| with_environment(&[(variable, "10.0.0.1")], args).drain_delay;
        assert_eq!(delay(&[]), Duration::from_secs(5), "{variable}");
        assert_eq!(delay(&["--drain-delay", "0"]), Duration::ZERO, "{variable}");
    }
    let environment = [("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("PORTICO_DRAIN_DELAY", "15")];
    assert_eq!(with_environment(&environment, &[]).drain_delay, Duration::from_secs(15));
    assert_eq!(with_environment(&[("NOMAD_ALLOC_ID", "")], &[]).drain_delay, Duration::ZERO);
}

pub(crate) const HEAD_TIMEOUT: Setting = Setting {
    name: "head_timeout",
    flags: &["head-timeout"],
    value: ValueType::Time { range: PATIENCE, zero: None, set: |config, time| config.head_timeout = time },
    default: "30",
    area: Area::Timeouts,
    help: "How long a client may take to send a request head",
    details: "It runs from the first byte of the head, or from the start of the connection for the first \
        request, to the end of the head. nginx calls it client_header_timeout.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn head_timeout() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).head_timeout, Duration::from_secs(30));
    assert_eq!(config(&["--head-timeout", "1.5"]).head_timeout, Duration::from_millis(1500));
    assert!(refusal(&["--head-timeout", "0"]).contains("from 100ms to 24h"));
}

pub(crate) const BODY_TIMEOUT: Setting = Setting {
    name: "body_timeout",
    flags: &["body-timeout"],
    value: ValueType::Time { range: PATIENCE, zero: None, set: |config, time| config.body_timeout = time },
    default: "30",
    area: Area::Timeouts,
    help: "How long a client may take to send the next byte of a request body",
    details: "An upload may take as long as it needs while data arrives: see --body-min-rate. nginx calls it \
        client_body_timeout.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn body_timeout() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).body_timeout, Duration::from_secs(30));
    assert_eq!(config(&["--body-timeout", "500ms"]).body_timeout, Duration::from_millis(500));
    assert!(refusal(&["--body-timeout", "0"]).contains("from 100ms"));
}

pub(crate) const BODY_MIN_RATE: Setting = Setting {
    name: "body_min_rate",
    flags: &["body-min-rate"],
    value: ValueType::Size {
        range: 1..=1 << 30,
        zero: Some("no minimum"),
        set: |config, bytes| config.body_rate_min = bytes,
    },
    // Apache's default too (mod_reqtimeout: body=20,MinRate=500). Far below the slowest line that people
    // upload over (2 KB/s), far above a byte now and then, which --body-timeout alone would let go on for
    // days.
    default: "500",
    area: Area::Timeouts,
    help: "Bytes a second that a request body must reach on average",
    details: "It applies once --body-timeout has passed since the head. A client that sends a byte now and \
        then to hold its connection falls below it. Apache's default is the same.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn body_min_rate() {
    use crate::testing::config;
    assert_eq!(config(&[]).body_rate_min, 500);
    assert_eq!(config(&["--body-min-rate", "2k"]).body_rate_min, 2048);
    assert_eq!(config(&["--body-min-rate", "0"]).body_rate_min, 0);
}

pub(crate) const WRITE_TIMEOUT: Setting = Setting {
    name: "write_timeout",
    flags: &["write-timeout"],
    value: ValueType::Time { range: PATIENCE, zero: None, set: |config, time| config.write_timeout = time },
    default: "30",
    area: Area::Timeouts,
    help: "How long a client may pause reading its response",
    details: "Only bytes that the client has acknowledged count, not bytes that the kernel buffers. A client \
        that reads slowly but steadily gets the whole response: see --response-min-rate. nginx calls it \
        send_timeout.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn write_timeout() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).write_timeout, Duration::from_secs(30));
    assert_eq!(config(&["--write-timeout", "1h"]).write_timeout, Duration::from_secs(3600));
    assert!(refusal(&["--write-timeout", "50ms"]).contains("from 100ms"));
}

pub(crate) const RESPONSE_MIN_RATE: Setting = Setting {
    name: "response_min_rate",
    flags: &["response-min-rate"],
    value: ValueType::Size {
        range: 1..=1 << 30,
        zero: Some("no minimum"),
        set: |config, bytes| config.response_rate_min = bytes,
    },
    default: "500",
    area: Area::Timeouts,
    help: "Bytes a second that a client must read of its response, on average",
    details: "A client has --write-timeout, and gains a second for this many bytes that it acknowledges, up \
        to four times --write-timeout ahead: a byte now and then extends nothing. The factor is four because \
        a kernel acknowledges in steps: if a program reads 8 KB/s from a large receive buffer, 50 s pass \
        between two of them. The streams of an HTTP/2 connection share the rate. Only time in which bytes \
        wait for the client counts.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn response_min_rate() {
    use crate::testing::config;
    assert_eq!(config(&[]).response_rate_min, 500);
    assert_eq!(config(&["--response-min-rate", "2k"]).response_rate_min, 2048);
    assert_eq!(config(&["--response-min-rate", "0"]).response_rate_min, 0);
}
