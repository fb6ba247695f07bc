//! Settings of the worker processes: how many there are and how they come to be ready.

use std::time::Duration;

use super::{DAY, keep};
use crate::error::ParseError;
use crate::gunicorn;
use crate::resolved::{Preload, Warmup, Workers};
use crate::setting::{Applies, Area, Fixed, Platform, Setting, ValueType};
use crate::value::count;

pub(super) const SETTINGS: &[Setting] = &[WORKERS, PRELOAD, WARMUP, BOOT_TIMEOUT];

pub(crate) const WORKERS: Setting = Setting {
    name: "workers",
    gunicorns: Some(gunicorn::workers),
    flags: &["workers"],
    short: Some('w'),
    platform: Some(Platform { variables: &["WEB_CONCURRENCY"], translate: str::to_owned }),
    value: ValueType::Form {
        metavar: "N",
        form: "number of processes from 1 to 512, two of them as MIN..MAX, or auto",
        set: |config, text| {
            config.workers_auto = is_auto(text);
            workers(text).map(|workers| config.workers = workers)
        },
    },
    default: "auto",
    area: Area::Processes,
    help: "Processes that serve: a number, 2..8 to follow the load, or auto",
    details: "`auto` is the number of CPUs that this process may use, by its affinity and the quota of its \
        cgroup: a container with two CPUs on a machine with 64 gets two. It is limited by the memory of the \
        cgroup or the machine, at 128 MiB a worker. An application that computes gains from one worker for \
        each CPU; an application that waits for databases and other services gains more from --threads, with \
        less memory.\n\n\
        With MIN..MAX workers are added while requests wait for a thread, and leave once the load has been \
        low for a while. Use a lower number if memory is scarce: each worker has its own copy of the \
        application, unless --preload shares it.",
    ..Setting::BLANK
};

fn workers(text: &str) -> Result<Workers, ParseError> {
    let number = |text: &str| {
        // The range is that of u32 too.
        count(text, &Workers::RANGE, None, "processes")
            .map(|number| number as u32)
            .map_err(|problem| ParseError::from(format!("{problem}, MIN..MAX, or auto")))
    };
    if is_auto(text) {
        let available = available_cpus();
        return Ok(Workers { min: available, max: available });
    }
    let Some((min, max)) = text.split_once("..") else {
        return number(text).map(|fixed| Workers { min: fixed, max: fixed });
    };
    let (min, max) = (number(min)?, number(max)?);
    if min > max {
        return Err(format!("{text}: the first number is the lesser one; write {max}..{min}").into());
    }
    Ok(Workers { min, max })
}

fn is_auto(text: &str) -> bool {
    text.eq_ignore_ascii_case("auto")
}

/// The CPUs that affinity and cgroup quota leave to this process; 1 where that cannot be told.
fn available_cpus() -> u32 {
    let most = *Workers::RANGE.end() as u32;
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get());
    u32::try_from(cpus).unwrap_or(most).min(most)
}

#[cfg(test)]
#[test]
fn worker_numbers() {
    use crate::testing::{config, refusal, with_environment};
    let fixed = |number| Workers { min: number, max: number };
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert_eq!(config(&[]).workers, fixed(cpus as u32));
    assert_eq!(config(&["--workers", "AUTO"]).workers, fixed(cpus as u32));
    assert!(config(&[]).workers_auto && config(&["-w", "Auto"]).workers_auto);
    assert!(!config(&["-w", "2"]).workers_auto && !config(&["-w", "1..2"]).workers_auto);
    assert_eq!(config(&["-w", "1"]).workers, fixed(1));
    assert_eq!(config(&["-w512"]).workers, fixed(512));
    assert_eq!(config(&["-w", "2..8"]).workers, Workers { min: 2, max: 8 });
    assert_eq!(config(&["-w", "3..3"]).workers, fixed(3));
    assert_eq!(with_environment(&[("WEB_CONCURRENCY", "3")], &[]).workers, fixed(3));
    let both = [("WEB_CONCURRENCY", "3"), ("PORTICO_WORKERS", "2")];
    assert_eq!(with_environment(&both, &[]).workers, fixed(2));
    for text in ["0", "513", "-1", "2..513", "0..2", "8..2", "2..", "..8", "2...8", "2..auto", "2-8", "many"]
    {
        assert!(refusal(&["-w", text]).starts_with("--workers: "), "{text}");
    }
    assert!(refusal(&["-w", "0"]).ends_with("from 1 to 512, MIN..MAX, or auto"));
    assert!(refusal(&["-w", "8..2"]).ends_with("write 2..8"));
}

pub(crate) const PRELOAD: Setting = Setting {
    name: "preload",
    gunicorn: Some("preload_app"),
    // With --reload it is off in any case, which is told of it.
    applies: Applies::Upgrade(Fixed::any(|new, old| !old.reload && keep(&mut new.preload, &old.preload))),
    flags: &["preload"],
    value: ValueType::Choice {
        of: &[
            ("off", |config| config.preload = Preload::Off),
            ("on", |config| config.preload = Preload::On),
            ("strict", |config| config.preload = Preload::Strict),
        ],
        alone: Some("on"),
    },
    default: "off",
    area: Area::Processes,
    help: "Import the application once and fork the workers from that process",
    details: "Workers then start in milliseconds and share the memory of the import. The application must \
        not start threads or open connections while it is imported, because these do not survive the fork; a \
        warning names them. --preload=strict refuses to start instead. A reload imports the application \
        again.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn preload() {
    use crate::testing::{config, refusal, with_environment};
    assert_eq!(config(&[]).preload, Preload::Off);
    assert_eq!(config(&["--preload"]).preload, Preload::On);
    assert_eq!(config(&["--preload=strict"]).preload, Preload::Strict);
    assert_eq!(config(&["--preload=off"]).preload, Preload::Off);
    let before_the_application = config(&["--preload", "a:b"]);
    assert_eq!(
        (before_the_application.preload, before_the_application.app.as_deref()),
        (Preload::On, Some("a:b"))
    );
    assert_eq!(config(&["--preload", "--preload=strict"]).preload, Preload::Strict);
    assert_eq!(config(&["--preload=strict", "--preload"]).preload, Preload::On);
    for (text, preload) in
        [("1", Preload::On), ("true", Preload::On), ("strict", Preload::Strict), ("0", Preload::Off)]
    {
        assert_eq!(with_environment(&[("PORTICO_PRELOAD", text)], &[]).preload, preload, "{text}");
    }
    assert!(refusal(&["--preload=all"]).contains("off, on, strict"));
    assert!(refusal(&["--preload="]).starts_with("--preload: "));
}

/// A path that many workers answer before they serve should be one of a few.
const WARMUPS_MAX: usize = 64;

const WARMUP_TARGET_BYTES_MAX: usize = 2048;

pub(crate) const WARMUP: Setting = Setting {
    name: "warmup",
    flags: &["warmup"],
    value: ValueType::List {
        metavar: "GET:/PATH",
        set: |config, texts| {
            let said: Vec<&&str> = texts.iter().filter(|text| !text.is_empty()).collect();
            if said.len() > WARMUPS_MAX {
                return Err(format!("{} requests; name at most {WARMUPS_MAX}", said.len()).into());
            }
            config.warmups = said.into_iter().map(|text| warmup(text)).collect::<Result<_, _>>()?;
            Ok(())
        },
    },
    area: Area::Processes,
    help: "A request that each worker serves before it gets traffic; may be repeated",
    details: "GET:/PATH, HEAD:/PATH, or /PATH alone for GET; write a comma in it as %2C. It fills caches and \
        opens connections, so that the first user need not wait for them. A worker whose application \
        responds with a status of 500 or above is not ready. Warm-up counts towards --boot-timeout.",
    ..Setting::BLANK
};

fn warmup(text: &str) -> Result<Warmup, ParseError> {
    let hint = "write GET:/path, HEAD:/path or /path";
    let (method, target) = match text.split_once(':') {
        Some((method, target)) if !text.starts_with('/') => (method, target),
        _ => ("GET", text),
    };
    if !matches!(method, "GET" | "HEAD") {
        return Err(format!("{text:?} has the method {method:?}; {hint}").into());
    }
    let plain = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !target.starts_with('/') || !plain {
        return Err(format!("{text:?} has no path that can be sent as it is; {hint}, percent-encoded").into());
    }
    if target.len() > WARMUP_TARGET_BYTES_MAX {
        return Err(
            format!("a path of {} bytes; write at most {WARMUP_TARGET_BYTES_MAX}", target.len()).into()
        );
    }
    Ok(Warmup { method: method.to_owned(), target: target.to_owned() })
}

#[cfg(test)]
#[test]
fn warmups() {
    use crate::testing::{config, refusal};
    let get = |target: &str| Warmup { method: "GET".to_owned(), target: target.to_owned() };
    assert_eq!(config(&[]).warmups, []);
    assert_eq!(config(&["--warmup", "GET:/healthz?deep=1"]).warmups, [get("/healthz?deep=1")]);
    let head = Warmup { method: "HEAD".to_owned(), ..get("/c") };
    assert_eq!(config(&["--warmup", "/a:b,", "--warmup=HEAD:/c"]).warmups, [get("/a:b"), head]);
    for text in
        ["POST:/a", "get:/a", "GET:", "GET:a", "a", "GET:/a b", "/a#b", "/\u{e9}", "http://a/b", ":/a"]
    {
        assert!(refusal(&["--warmup", text]).starts_with("--warmup: "), "{text}");
    }
    let long = format!("/{}", "a".repeat(WARMUP_TARGET_BYTES_MAX - 1));
    assert_eq!(config(&["--warmup", &long]).warmups, [get(&long)]);
    assert!(refusal(&["--warmup", &format!("{long}a")]).contains("at most 2048"));
    assert_eq!(config(&["--warmup", &["/"; 64].join(",")]).warmups.len(), 64);
    assert!(refusal(&["--warmup", &["/"; 65].join(",")]).contains("at most 64"));
}

pub(crate) const BOOT_TIMEOUT: Setting = Setting {
    name: "boot_timeout",
    flags: &["boot-timeout"],
    value: ValueType::Time {
        range: Duration::from_millis(100)..=DAY,
        zero: Some("without end"),
        set: |config, time| config.boot_timeout = time,
    },
    default: "120",
    area: Area::Processes,
    help: "How long a worker may take to become ready",
    details: "This includes importing the application and each --warmup. A worker that takes longer is \
        stopped, with its stack in the log, and counts as failed. Raise it for an application that loads \
        large models.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn boot_timeout() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).boot_timeout, Duration::from_secs(120));
    assert_eq!(config(&["--boot-timeout", "10m"]).boot_timeout, Duration::from_secs(600));
    assert_eq!(config(&["--boot-timeout", "0"]).boot_timeout, Duration::ZERO);
    assert!(refusal(&["--boot-timeout", "10ms"]).contains("from 100ms to 24h"));
}
