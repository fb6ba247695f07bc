//! gunicorn's kinds of workers, and what each of them asks for here: every worker is of one kind.

use crate::resolved::{Config, WorkerClass};
use crate::setting::{Area, Setting, Value};

pub(super) const SETTINGS: &[Setting] = &[WORKER_CLASS, WORKER_CONNECTIONS];

const WORKER_CLASS: Setting = Setting {
    name: "worker_class",
    gunicorn: None,
    since: "0.1",
    flags: &["worker-class"],
    short: Some('k'),
    platform: None,
    value: Value::Form {
        metavar: "CLASS",
        form: "gthread, sync, gevent, eventlet or tornado",
        set: |config, text| worker_class(text).map(|class| config.worker_class = class),
    },
    default: "gthread",
    area: Area::Processes,
    help: "gunicorn's kind of worker: says how many threads there are by default",
    details: "There is one kind of worker, with threads. `sync` means 1 thread and `gthread` 4, unless \
        --threads says another number. `gevent`, `eventlet` and `tornado` are served by threads too: by 32 of \
        them, or by as many as --worker-connections says, 128 at most. Idle and slow clients, the usual reason \
        for greenlets, take no thread here.\n\nAn application that gevent or eventlet has patched, by itself or \
        in the configuration file, is called in greenlets of its own hub, as many at a time as there are threads. \
        ASGI applications, and with them the workers of uvicorn, are not served.",
};

/// Classes of gunicorn by the names that people write: alias, dotted path, entry point.
const CLASSES: [(&str, WorkerClass); 13] = [
    ("gthread", WorkerClass::Threads),
    ("gunicorn.workers.gthread.ThreadWorker", WorkerClass::Threads),
    ("sync", WorkerClass::Sync),
    ("gunicorn.workers.sync.SyncWorker", WorkerClass::Sync),
    ("gevent", WorkerClass::Green),
    ("gevent_wsgi", WorkerClass::Green),
    ("gevent_pywsgi", WorkerClass::Green),
    ("gunicorn.workers.ggevent.GeventWorker", WorkerClass::Green),
    ("gunicorn.workers.ggevent.GeventPyWSGIWorker", WorkerClass::Green),
    ("eventlet", WorkerClass::Green),
    ("gunicorn.workers.geventlet.EventletWorker", WorkerClass::Green),
    ("tornado", WorkerClass::Green),
    ("gunicorn.workers.gtornado.TornadoWorker", WorkerClass::Green),
];

/// What serves ASGI applications, by the beginning of its name.
const ASGI: [&str; 6] =
    ["uvicorn.", "uvicorn_worker.", "asgi", "aiohttp.", "hypercorn.", "gunicorn.workers.gasgi"];

fn worker_class(text: &str) -> Result<WorkerClass, String> {
    let name = text.strip_prefix("egg:gunicorn#").unwrap_or(text);
    if let Some((_, class)) = CLASSES.iter().find(|(known, _)| *known == name) {
        return Ok(*class);
    }
    Err(match ASGI.iter().any(|beginning| name.starts_with(beginning)) {
        true => format!(
            "{text} serves ASGI applications, and Portico serves WSGI; keep gunicorn or uvicorn for this one, or \
             name the WSGI application and leave this out"
        ),
        false => format!(
            "{text:?} is no worker class that Portico can stand in for; leave it out, or write gthread, sync, \
             gevent, eventlet or tornado"
        ),
    })
}

const WORKER_CONNECTIONS: Setting = Setting {
    name: "worker_connections",
    gunicorn: None,
    since: "0.1",
    flags: &["worker-connections"],
    short: None,
    platform: None,
    value: Value::Count {
        range: 1..=1_000_000,
        zero: None,
        unit: "connections",
        set: |config, n| config.worker_connections = Some(n as u32),
    },
    default: "",
    area: Area::Processes,
    help: "With -k gevent, eventlet or tornado: threads in each worker, 128 at most",
    details: "Connections are not limited otherwise: one that waits takes a descriptor and no thread. How \
        many requests may wait for a thread is --max-queue.",
};

/// Threads for a worker class that has greenlets where nothing is said of their number, and at most.
const GREEN_THREADS: u32 = 32;
const GREEN_THREADS_MAX: u32 = 128;

/// What the worker class says of threads. `asked`: somebody has said a number; `by_gunicorns_file`: what was said
/// comes from a file for gunicorn, whose default is one.
pub(crate) fn settle_threads(
    config: &mut Config,
    asked: bool,
    by_gunicorns_file: bool,
    warnings: &mut Vec<String>,
) {
    let green = config.worker_class == WorkerClass::Green;
    if !asked {
        match config.worker_class {
            WorkerClass::Green => {
                let threads = config.worker_connections.unwrap_or(GREEN_THREADS);
                config.threads = threads.min(GREEN_THREADS_MAX);
            }
            WorkerClass::Sync => config.threads = 1,
            WorkerClass::Threads if by_gunicorns_file => config.threads = 1,
            WorkerClass::Threads => {}
        }
    }
    if green {
        warnings.push(format!(
            "--worker-class: served by {} threads in each worker (--threads), not by greenlets, unless the \
             application patches itself",
            config.threads
        ));
    } else if config.worker_connections.is_some() {
        warnings.push(
            "--worker-connections does nothing: connections that wait take no thread; --max-queue limits the \
             requests that wait for one"
                .to_owned(),
        );
    }
}

#[cfg(test)]
#[test]
fn worker_classes() {
    use crate::testing::{config, refusal, resolved, with_environment};
    assert_eq!((config(&[]).worker_class, config(&[]).threads), (WorkerClass::Threads, 4));
    for (text, threads) in [
        ("sync", 1),
        ("gthread", 4),
        ("gevent", 32),
        ("eventlet", 32),
        ("tornado", 32),
        ("gunicorn.workers.ggevent.GeventWorker", 32),
        ("egg:gunicorn#sync", 1),
    ] {
        assert_eq!(config(&["-k", text]).threads, threads, "{text}");
        assert_eq!(config(&["-k", text, "--threads", "7"]).threads, 7, "{text}");
        let environment = [("PORTICO_THREADS", "7"), ("PORTICO_WORKER_CLASS", text)];
        assert_eq!(with_environment(&environment, &[]).threads, 7, "{text}");
        let warnings = resolved(&[], &["-k", text]).warnings;
        assert_eq!(warnings.len(), usize::from(threads == 32), "{warnings:?}");
    }
    for text in ["uvicorn.workers.UvicornWorker", "uvicorn_worker.UvicornH11Worker", "asgi"] {
        assert!(refusal(&["-k", text]).contains("serves ASGI"), "{text}");
    }
    for text in ["meinheld.gmeinheld.MeinheldWorker", "", "Sync"] {
        assert!(refusal(&[&format!("--worker-class={text}")]).contains("no worker class"), "{text}");
    }
}

#[cfg(test)]
#[test]
fn worker_connections() {
    use crate::testing::{config, refusal, resolved};
    assert_eq!(config(&[]).worker_connections, None);
    for (number, threads) in [("8", 8), ("128", 128), ("1000", 128)] {
        assert_eq!(config(&["-k", "gevent", "--worker-connections", number]).threads, threads);
        let warnings = resolved(&[], &["--worker-connections", number]).warnings;
        assert!(warnings[0].starts_with("--worker-connections does nothing"), "{warnings:?}");
    }
    assert!(refusal(&["--worker-connections", "0"]).contains("from 1 to 1000000"));
}

#[cfg(test)]
#[test]
fn a_file_for_gunicorn_has_one_thread() {
    use crate::testing::config;
    let threads = |args: &[&str], asked| {
        let mut config = config(args);
        settle_threads(&mut config, asked, true, &mut Vec::new());
        config.threads
    };
    assert_eq!((threads(&[], false), threads(&["--threads", "3"], true)), (1, 3));
    assert_eq!((threads(&["-k", "gthread"], false), threads(&["-k", "gevent"], false)), (1, 32));
}
