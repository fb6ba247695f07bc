//! Settings that say how many requests run at once and how many may wait.

use super::keep;
use crate::setting::{Applies, Area, Fixed, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] =
    &[THREADS, REQUIRE_FREE_THREADING, MAX_QUEUE, MAX_STREAMS, AFTER_THREADS];

pub(crate) const THREADS: Setting = Setting {
    name: "threads",
    // The scoreboard has room for so many.
    applies: Applies::Upgrade(Fixed {
        changes: "more of them",
        keep: |new, old| new.threads > old.threads && keep(&mut new.threads, &old.threads),
    }),
    flags: &["threads"],
    // The most that is taken is far above what one interpreter can use; it catches a port typed in the wrong
    // place.
    value: ValueType::Count {
        range: 1..=4096,
        zero: None,
        unit: "threads",
        set: |config, n| config.threads = n as u32,
    },
    default: "4",
    area: Area::Threads,
    help: "Requests that the application handles at once, in each worker process",
    details: "Each thread lives as long as the process, so its resources (a database connection of Django) \
        are kept, and a pool with this many connections is always large enough. Slow and idle clients hold \
        no thread. More threads help an application that waits for other services, not one that computes.",
    ..Setting::BLANK
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

pub(crate) const REQUIRE_FREE_THREADING: Setting = Setting {
    name: "require_free_threading",
    flags: &["require-free-threading"],
    value: ValueType::Switch { given: true, set: |config, on| config.require_free_threading = on },
    default: "false",
    area: Area::Threads,
    help: "Refuse to start if the interpreter has a GIL",
    details: "For an application that is sized for threads that compute at the same time. The server does \
        not start with a Python that is not free-threaded (python3.14t), with PYTHON_GIL=1, or if the import \
        of the application has turned the GIL on; the message names the module. A module that turns it on \
        later, while requests are served, is named in a warning.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn require_free_threading() {
    use crate::testing::{config, with_environment};
    assert!(!config(&[]).require_free_threading);
    assert!(config(&["--require-free-threading"]).require_free_threading);
    assert!(with_environment(&[("PORTICO_REQUIRE_FREE_THREADING", "true")], &[]).require_free_threading);
}

pub(crate) const MAX_QUEUE: Setting = Setting {
    name: "max_queue",
    flags: &["max-queue"],
    value: ValueType::Count {
        range: 1..=1_000_000,
        zero: None,
        unit: "requests",
        set: |config, n| config.max_queue = n as usize,
    },
    default: "2048",
    area: Area::Threads,
    help: "Complete requests that may wait for a thread; further ones get 503",
    details: "The response has a Retry-After. A request whose client leaves while it waits is dropped (see \
        --allow-half-close).",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn max_queue() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).max_queue, 2048);
    assert_eq!(config(&["--max-queue", "1"]).max_queue, 1);
    assert!(refusal(&["--max-queue", "1000001"]).contains("from 1 to 1000000"));
}

pub(crate) const MAX_STREAMS: Setting = Setting {
    name: "max_streams",
    // The scoreboard has room for so many.
    applies: Applies::Upgrade(Fixed {
        changes: "more of them",
        keep: |new, old| new.max_streams > old.max_streams && keep(&mut new.max_streams, &old.max_streams),
    }),
    flags: &["max-streams"],
    value: ValueType::Count {
        range: 1..=10_000,
        zero: Some("that no application gets a socket"),
        unit: "connections",
        set: |config, n| config.max_streams = n as u32,
    },
    default: "256",
    area: Area::Threads,
    help: "WebSockets that may be open at once, in each worker process",
    details: "A WebSocket is a request with `Upgrade: websocket` whose application has taken \
        `environ[\"gunicorn.socket\"]`, as flask-sock, simple-websocket and Flask-SocketIO do. It has a \
        thread of its own beside --threads, and no --timeout. A further one gets 503.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn max_streams() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).max_streams, 256);
    assert_eq!(config(&["--max-streams", "0"]).max_streams, 0);
    assert_eq!(config(&["--max-streams", "10000"]).max_streams, 10_000);
    assert!(refusal(&["--max-streams", "10001"]).contains("from 1 to 10000"));
}

pub(crate) const AFTER_THREADS: Setting = Setting {
    name: "after_threads",
    flags: &["after-threads"],
    value: ValueType::Count {
        range: 1..=256,
        zero: None,
        unit: "threads",
        set: |config, n| config.after_threads = u32::try_from(n).unwrap_or(u32::MAX),
    },
    default: "1",
    area: Area::Threads,
    help: "Threads in each worker process for portico.after_response",
    details: "Functions that an application leaves to be called after a response run in them, and do not keep \
        a thread of --threads. They are started when they are first needed. At most 1,000 functions wait; \
        beyond that the application gets an exception. At a stop, and when a worker is replaced, they may end \
        within --graceful-timeout; what has not ended by then is dropped.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn after_threads() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).after_threads, 1);
    assert_eq!(config(&["--after-threads", "4"]).after_threads, 4);
    assert!(refusal(&["--after-threads", "0"]).contains("from 1 to 256"));
}
