//! gunicorn's kinds of workers, and what each of them asks for here: every worker is of one kind.

use crate::error::ParseError;
use crate::gunicorn;
use crate::raw::SettingSource;
use crate::resolved::{Config, WorkerClass};
use crate::setting::{Area, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] = &[WORKER_CLASS, WORKER_CONNECTIONS];

pub(crate) const WORKER_CLASS: Setting = Setting {
    name: "worker_class",
    flags: &["worker-class"],
    short: Some('k'),
    value: ValueType::Form {
        metavar: "CLASS",
        form: "gthread, sync, gevent, eventlet or tornado",
        set: |config, text| worker_class(text).map(|class| config.worker_class = class),
    },
    default: "gthread",
    area: Area::Processes,
    help: "gunicorn's kind of worker: sets the default number of threads",
    details: "There is one kind of worker, with threads. `sync` means 1 thread and `gthread` 4, unless \
        --threads is set. `gevent`, `eventlet` and `tornado` are served by threads too: by 32 of them, or \
        the number of --worker-connections, at most 128; --threads is ignored beside them, as by gunicorn. \
        Idle and slow clients, the usual reason for greenlets, hold no thread here.\n\n\
        If gevent or eventlet has patched an application, by itself or in the configuration file, it runs in \
        greenlets of its own hub, as many at once as there are threads.\n\n\
        A class of your own is classified by its base class; methods that it overrides are not called, and \
        the log names them. ASGI applications, and so the workers of uvicorn, are not supported.",
    ..Setting::BLANK
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

/// The class of that name, if it is one of gunicorn's.
fn known(text: &str) -> Option<WorkerClass> {
    let name = text.strip_prefix("egg:gunicorn#").unwrap_or(text);
    CLASSES.iter().find(|(known, _)| *known == name).map(|(_, class)| *class)
}

fn is_asgi(text: &str) -> bool {
    let name = text.strip_prefix("egg:gunicorn#").unwrap_or(text);
    ASGI.iter().any(|beginning| name.starts_with(beginning))
}

/// Whether it is known by its name what the class is: it need not be imported.
pub(crate) fn is_known_class(text: &str) -> bool {
    known(text).is_some() || is_asgi(text)
}

/// Why a class is refused that serves ASGI applications.
pub(crate) fn asgi_message(text: &str) -> String {
    format!(
        "{text} serves ASGI applications, and Portico serves WSGI; keep gunicorn or uvicorn for this one, or name \
         the WSGI application and leave this out"
    )
}

fn worker_class(text: &str) -> Result<WorkerClass, ParseError> {
    known(text).ok_or_else(|| match is_asgi(text) {
        true => asgi_message(text).into(),
        false => format!(
            "{text:?} is no worker class that Portico can stand in for; leave it out, or write gthread, sync, \
             gevent, eventlet or tornado"
        )
        .into(),
    })
}

pub(crate) const WORKER_CONNECTIONS: Setting = Setting {
    name: "worker_connections",
    flags: &["worker-connections"],
    value: ValueType::Count {
        range: 1..=1_000_000,
        zero: None,
        unit: "connections",
        set: |config, n| config.worker_connections = Some(n as u32),
    },
    area: Area::Processes,
    help: "With -k gevent, eventlet or tornado: threads in each worker, 128 at most",
    details: "Connections are not limited otherwise: an idle connection needs a descriptor and no thread. \
        --max-queue limits the requests that wait for a thread.",
    ..Setting::BLANK
};

/// Threads for a worker class that has greenlets where nothing is said of their number, and at most.
const GREEN_THREADS: u32 = 32;
const GREEN_THREADS_MAX: u32 = 128;

/// What the worker class says of threads. `asked`: who has said a number; `by_gunicorns_file`: what was said comes
/// from a file for gunicorn, whose default is one. Whether the number that was said counts: beside greenlets
/// gunicorn passes over it.
pub(crate) fn settle_threads(
    config: &mut Config,
    asked: Option<&SettingSource>,
    by_gunicorns_file: bool,
    warnings: &mut Vec<String>,
) -> bool {
    let green = config.worker_class == WorkerClass::Green;
    let asked = asked.filter(|source| {
        let is_passed_over = green && gunicorn::is_its_way(source, &super::threads::THREADS);
        if is_passed_over {
            warnings.push(format!(
                "{} does nothing with this worker class, as for gunicorn; say how many requests may run at once \
                 with {}",
                source.naming(&super::threads::THREADS),
                match source {
                    SettingSource::File { .. } => WORKER_CONNECTIONS.name.to_owned(),
                    _ => WORKER_CONNECTIONS.option(),
                },
            ));
        }
        !is_passed_over
    });
    if asked.is_none() {
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
            "--worker-class: served by {} threads in each worker, not by greenlets, unless the application \
             patches itself",
            config.threads
        ));
    } else if config.worker_connections.is_some() {
        warnings.push(
            "--worker-connections does nothing: connections that wait take no thread; --max-queue limits the \
             requests that wait for one"
                .to_owned(),
        );
    }
    asked.is_some()
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
        let asked = resolved(&[], &["-k", text, "--threads", "7"]);
        assert_eq!(asked.config.threads, if threads == 32 { 32 } else { 7 }, "{text}");
        assert_eq!(asked.warnings.len(), if threads == 32 { 2 } else { 0 }, "{:?}", asked.warnings);
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
    let (file, ours) = (
        SettingSource::File { path: String::new(), line: None, column: None },
        SettingSource::Environment(String::new()),
    );
    assert_eq!((threads(&[], None), threads(&["--threads", "3"], Some(&file))), (1, 3));
    assert_eq!((threads(&["-k", "gthread"], None), threads(&["-k", "gevent"], None)), (1, 32));
    let green = &["-k", "gevent", "--worker-connections", "8"];
    assert_eq!((threads(green, Some(&file)), threads(green, Some(&ours))), (8, 8));
}
