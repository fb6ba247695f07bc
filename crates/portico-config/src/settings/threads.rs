//! Settings that say how many requests run at once and how many may wait.

use crate::setting::{Area, Platform, Setting, Value};

pub(super) const SETTINGS: &[Setting] = &[WORKERS, THREADS, MAX_QUEUE];

const WORKERS: Setting = Setting {
    name: "workers",
    flags: &["workers"],
    short: Some('w'),
    platform: Some(Platform { variable: "WEB_CONCURRENCY", translate: str::to_owned }),
    value: Value::Count {
        range: 1..=4096,
        zero: None,
        unit: "processes",
        set: |config, n| config.workers = n as u32,
    },
    default: "1",
    area: Area::Threads,
    help: "Processes that serve; only 1 for now",
    details: "This version serves from one process: another number is refused, and one that a platform set \
        through WEB_CONCURRENCY is lowered to 1 with a warning. Use --threads for more requests at once.",
};

#[cfg(test)]
#[test]
fn workers() {
    use crate::testing::{config, refusal, resolved};
    assert_eq!(config(&["-w", "1"]).workers, 1);
    assert!(refusal(&["-w", "2"]).starts_with("--workers: "));
    assert!(refusal(&["-w", "2"]).contains("--threads"));
    assert!(refusal(&["-w", "0"]).contains("from 1"));
    let platform = resolved(&[("WEB_CONCURRENCY", "3")], &[]);
    assert_eq!(platform.config.workers, 1);
    assert!(platform.warnings[0].contains("WEB_CONCURRENCY"), "{:?}", platform.warnings);
    assert!(resolved(&[("WEB_CONCURRENCY", "1")], &[]).warnings.is_empty());
}

const THREADS: Setting = Setting {
    name: "threads",
    flags: &["threads"],
    short: None,
    platform: None,
    // The most that is taken is far above what one interpreter can use; it catches a port typed in the wrong
    // place.
    value: Value::Count {
        range: 1..=4096,
        zero: None,
        unit: "threads",
        set: |config, n| config.threads = n as u32,
    },
    default: "4",
    area: Area::Threads,
    help: "Requests that the application answers at once",
    details: "Each thread lives as long as the process, so that what it holds (a database connection of \
        Django) is kept, and a pool with this many connections is never short. Slow and idle clients take \
        none of them. More threads help an application that waits for other services, not one that \
        computes.",
};

#[cfg(test)]
#[test]
fn threads() {
    use crate::testing::{config, refusal, with_environment};
    assert_eq!(config(&[]).threads, 4);
    assert_eq!(config(&["--threads", "64"]).threads, 64);
    assert_eq!(with_environment(&[("PORTICO_THREADS", "8")], &[]).threads, 8);
    assert!(refusal(&["--threads", "-1"]).starts_with("--threads: \"-1\" is not a whole number"));
    assert!(refusal(&["--threads", "8000"]).contains("from 1 to 4096"));
}

const MAX_QUEUE: Setting = Setting {
    name: "max_queue",
    flags: &["max-queue"],
    short: None,
    platform: None,
    value: Value::Count {
        range: 1..=1_000_000,
        zero: None,
        unit: "requests",
        set: |config, n| config.max_queue = n as usize,
    },
    default: "2048",
    area: Area::Threads,
    help: "Complete requests that may wait for a thread; more are answered 503",
    details: "The answer has a Retry-After. A request whose client goes away while it waits is dropped (see \
        --allow-half-close).",
};

#[cfg(test)]
#[test]
fn max_queue() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).max_queue, 2048);
    assert_eq!(config(&["--max-queue", "1"]).max_queue, 1);
    assert!(refusal(&["--max-queue", "1000001"]).contains("from 1 to 1000000"));
}
