//! Settings that say when a worker process is replaced by a fresh one.

use std::time::Duration;

use super::YEAR;
use crate::setting::{Area, Setting, ValueType};
use crate::value::count;

pub(super) const SETTINGS: &[Setting] = &[MAX_REQUESTS, MAX_REQUESTS_JITTER, WORKER_MAX_RSS, MAX_LIFETIME];

const REQUESTS_MAX: u64 = 1_000_000_000;

pub(crate) const MAX_REQUESTS: Setting = Setting {
    name: "max_requests",
    flags: &["max-requests"],
    value: ValueType::Count {
        range: 1..=REQUESTS_MAX,
        zero: Some("never"),
        unit: "requests",
        set: |config, n| config.max_requests = n,
    },
    default: "0",
    area: Area::Processes,
    help: "Requests after which a worker is replaced",
    details: "For an application that leaks. Workers are replaced one at a time, and the successor is ready \
        before the worker stops taking requests, so no request and no capacity is lost. For memory leaks use \
        --worker-max-rss instead.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn max_requests() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).max_requests, 0);
    assert_eq!(config(&["--max-requests", "1000"]).max_requests, 1000);
    assert_eq!(config(&["--max-requests", "1000000000"]).max_requests, 1_000_000_000);
    assert!(refusal(&["--max-requests", "1000000001"]).contains("from 1 to 1000000000"));
}

pub(crate) const MAX_REQUESTS_JITTER: Setting = Setting {
    name: "max_requests_jitter",
    flags: &["max-requests-jitter"],
    value: ValueType::Form {
        metavar: "N",
        form: "whole number of requests, 0 to 1000000000, or auto",
        set: |config, text| {
            config.max_requests_jitter = match text.eq_ignore_ascii_case("auto") {
                true => None,
                false => Some(count(text, &(0..=REQUESTS_MAX), None, "requests")?),
            };
            Ok(())
        },
    },
    default: "auto",
    area: Area::Processes,
    help: "Random number of requests, up to this, added to --max-requests",
    details: "It prevents workers that have started together from being replaced together. `auto` is a tenth \
        of --max-requests; 0 replaces each worker after exactly --max-requests.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn max_requests_jitter() {
    use crate::testing::{config, refusal, with_environment};
    assert_eq!(config(&[]).max_requests_jitter, None);
    let jitter = |text| config(&["--max-requests", "9", "--max-requests-jitter", text]).max_requests_jitter;
    assert_eq!(jitter("auto"), None);
    assert_eq!(jitter("0"), Some(0));
    assert_eq!(jitter("1000000000"), Some(1_000_000_000));
    let environment = [("PORTICO_MAX_REQUESTS_JITTER", "50")];
    assert_eq!(with_environment(&environment, &["--max-requests", "9"]).max_requests_jitter, Some(50));
    assert!(refusal(&["--max-requests-jitter", "some"]).starts_with("--max-requests-jitter: \"some\""));
    assert!(refusal(&["--max-requests-jitter", "-1"]).contains("from 0 to 1000000000"));
}

pub(crate) const WORKER_MAX_RSS: Setting = Setting {
    name: "worker_max_rss",
    flags: &["worker-max-rss"],
    // Below the least there would be no room for an interpreter and an application.
    value: ValueType::Size {
        range: 16 << 20..=1 << 40,
        zero: Some("no limit"),
        set: |config, bytes| config.worker_rss_max = bytes,
    },
    default: "0",
    area: Area::Processes,
    help: "Memory above which a worker is replaced",
    details: "Memory that workers share, as with --preload, counts in part for each of them (PSS). A worker \
        that stays above the value for several samples is replaced; its successor is ready first. Choose it \
        so that all workers and one successor fit into the container's limit.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn worker_max_rss() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).worker_rss_max, 0);
    assert_eq!(config(&["--worker-max-rss", "512m"]).worker_rss_max, 512 << 20);
    assert_eq!(config(&["--worker-max-rss", "0"]).worker_rss_max, 0);
    assert!(refusal(&["--worker-max-rss", "512"]).contains("from 16m to 1024g"));
}

pub(crate) const MAX_LIFETIME: Setting = Setting {
    name: "max_lifetime",
    flags: &["max-lifetime"],
    value: ValueType::Time {
        range: Duration::from_secs(1)..=YEAR,
        zero: Some("without end"),
        set: |config, time| config.max_lifetime = time,
    },
    default: "0",
    area: Area::Processes,
    help: "Time after which a worker is replaced",
    details: "For problems that grow with time rather than with requests, such as a leak in a background \
        thread. Workers that have started together are not replaced together: a random time of up to a tenth \
        is added.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn max_lifetime() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).max_lifetime, Duration::ZERO);
    assert_eq!(config(&["--max-lifetime", "24h"]).max_lifetime, Duration::from_secs(86_400));
    assert!(refusal(&["--max-lifetime", "500ms"]).contains("from 1s to 8760h"));
}
