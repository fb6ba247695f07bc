//! The one table of settings, a file or two for each area.

mod application;
mod calls;
mod client_limits;
mod compatibility;
mod development;
mod gateway;
mod health;
mod hooks;
mod hosts;
mod http2;
mod leniency;
mod limits;
mod logging;
mod platform;
mod processes;
mod proxy_protocol;
mod python_logging;
mod recycling;
mod requests;
mod routes;
mod socket;
mod telemetry;
mod threads;
mod timeouts;
mod tls;
mod traces;
mod trust;
mod worker_class;

use std::time::Duration;

use crate::setting::{Area, Setting, ValueType};

// The rows that rules outside of the table are about. A rule names the row, never the setting's name as text.
pub(crate) use application::{APP, CHDIR, CONFIG, PYTHONPATH, ROOT_PATH};
pub(crate) use calls::{SLOW_REQUEST, TIMEOUT};
pub(crate) use compatibility::SSL_CONTEXT;
pub(crate) use development::RELOAD;
pub(crate) use limits::{
    LIMIT_REQUEST_BODY, LIMIT_REQUEST_FIELD_SIZE, LIMIT_REQUEST_HEAD, LIMIT_REQUEST_LINE,
    settle as settle_limits,
};
pub(crate) use logging::{ACCESS_LOGFILE, ERROR_LOGFILE};
pub(crate) use platform::{DAEMON, GROUP, PASTE, PIDFILE, PROC_NAME, RAW_ENV, UMASK, USER};
pub(crate) use processes::WORKERS;
pub(crate) use proxy_protocol::PROXY_PROTOCOL;
pub(crate) use python_logging::{LOGCONFIG, LOGCONFIG_DICT};
pub(crate) use recycling::{MAX_LIFETIME, MAX_REQUESTS, MAX_REQUESTS_JITTER, WORKER_MAX_RSS};
pub(crate) use requests::REQUEST_BUFFER;
pub(crate) use routes::{ROUTE, place_routes};
pub(crate) use socket::{BACKLOG, BIND, REUSE_PORT, SOCKET_MODE};
pub(crate) use threads::THREADS;
pub(crate) use timeouts::{BODY_TIMEOUT, GRACEFUL_TIMEOUT, KEEP_ALIVE};
pub(crate) use tls::{CA_CERTS, CERT_REQS, CERTFILE, CIPHERS, KEYFILE, settle as settle_tls};
pub(crate) use trust::{BEHIND, FORWARDED_ALLOW_IPS, FORWARDED_HEADERS};
pub(crate) use worker_class::{WORKER_CLASS, asgi_message, is_known_class, settle_threads};
#[cfg(test)]
pub(crate) use {
    application::{CHECK_CONFIG, PRINT_CONFIG},
    gateway::PROTOCOL,
    platform::ENABLE_STDIO_INHERITANCE,
    processes::PRELOAD,
    routes::LIMIT_SLOTS,
    threads::MAX_STREAMS,
};

/// Gives `new` the value of `old`. Returns whether they differ.
fn keep<T: Clone + PartialEq>(new: &mut T, old: &T) -> bool {
    let differs = new != old;
    if differs {
        new.clone_from(old);
    }
    differs
}

/// The most that is taken for a length of time after which something is cut off or tried again.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The most that is taken for one that may as well be off. People write a huge number for that.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Every setting, in the order of the help.
pub(crate) fn all() -> impl Iterator<Item = &'static Setting> {
    [
        application::SETTINGS,
        platform::PASTE_SETTINGS,
        socket::SETTINGS,
        tls::SETTINGS,
        processes::SETTINGS,
        worker_class::SETTINGS,
        recycling::SETTINGS,
        threads::SETTINGS,
        calls::SETTINGS,
        timeouts::SETTINGS,
        limits::SETTINGS,
        client_limits::SETTINGS,
        requests::SETTINGS,
        hosts::SETTINGS,
        health::SETTINGS,
        routes::SETTINGS,
        http2::SETTINGS,
        trust::SETTINGS,
        proxy_protocol::SETTINGS,
        gateway::SETTINGS,
        logging::SETTINGS,
        telemetry::SETTINGS,
        traces::SETTINGS,
        python_logging::SETTINGS,
        development::SETTINGS,
        platform::SETTINGS,
        hooks::SETTINGS,
        compatibility::SETTINGS,
        leniency::SETTINGS,
    ]
    .into_iter()
    .flatten()
}

/// Whether the setting of that name is written in octal, so that a number given from Python, which prints as
/// decimal, has to be written so first.
pub fn is_octal(name: &str) -> bool {
    called(name).is_some_and(|setting| matches!(setting.value, ValueType::Mode { .. }))
}

/// Whether commas separate the items of the setting of that name, so that one in an item has to be
/// [`escaped`](crate::value::escaped).
pub fn is_list(name: &str) -> bool {
    called(name).is_some_and(Setting::is_list)
}

/// Whether the setting of that name is plain text, which no boolean is.
pub fn is_text(name: &str) -> bool {
    called(name).is_some_and(|setting| matches!(setting.value, ValueType::Text { .. }))
}

/// Whether the setting of that name takes several values.
pub fn is_repeatable(name: &str) -> bool {
    called(name).is_some_and(Setting::repeatable)
}

/// What a list that is empty says of the setting of that name, where it is not the same as nothing said.
pub fn empty_list(name: &str) -> Option<&'static str> {
    called(name)?.empty_list
}

/// The names that are settings in a configuration file in Python: gunicorn's, and Portico's for what gunicorn
/// does not have. What gunicorn calls otherwise is not one by Portico's name: there are variables called `app`.
pub fn file_names() -> impl Iterator<Item = &'static str> {
    all().map(|setting| setting.gunicorn.unwrap_or(setting.name))
}

/// Whether the setting of this name is one of gunicorn's hooks, a function that is called when something happens.
pub fn is_hook(name: &str) -> bool {
    named(name).is_some_and(|setting| setting.area == Area::Hooks)
}

/// The setting that `name` stands for by another of its names: Portico's or gunicorn's, or an option of it.
pub(crate) fn by_another_name(name: &str) -> Option<&'static Setting> {
    let flag = name.replace('_', "-");
    all().find(|setting| setting.is_called(name) || setting.flags.contains(&flag.as_str()))
}

/// The setting that a name in such a file was most likely meant to be, if it is hardly another.
pub fn likely_file_name(name: &str) -> Option<&'static str> {
    // There are variables called `app`.
    if let Some(setting) = by_another_name(name).filter(|setting| !setting.is_positional()) {
        return Some(setting.gunicorn.unwrap_or(setting.name)).filter(|known| *known != name);
    }
    let similar = file_names().map(|known| (strsim::jaro_winkler(name, known), known));
    let similar = similar.filter(|(similarity, known)| *similarity > SIMILAR && *known != name);
    similar.max_by(|(left, _), (right, _)| left.total_cmp(right)).map(|(_, known)| known)
}

/// From here on two names are hardly by chance so similar.
const SIMILAR: f64 = 0.9;

/// The setting of that name.
pub(crate) fn named(name: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.name == name)
}

/// The name of a setting that `name` was most likely meant to be.
pub(crate) fn likely(name: &str) -> Option<&'static str> {
    all()
        .map(|setting| (strsim::jaro_winkler(name, setting.name), setting.name))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, likely)| likely)
}

/// The setting that a configuration file calls so, by Portico's name or gunicorn's.
pub(crate) fn called(name: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.is_called(name))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_options_are_unique() {
        let mut seen = HashSet::new();
        for setting in all() {
            for name in setting.gunicorn.iter().chain([&setting.name]) {
                assert!(seen.insert(name.to_string()), "{name} twice");
            }
            for flag in setting.flags {
                assert!(seen.insert(format!("--{flag}")), "--{flag} twice");
            }
            if let Some(short) = setting.short {
                assert!(seen.insert(format!("-{short}")), "-{short} twice");
            }
        }
    }

    #[test]
    fn words_are_there_and_in_house_style() {
        for setting in all() {
            assert!(!setting.help.is_empty() && !setting.help.ends_with('.'), "help of {}", setting.name);
            assert!(setting.help.len() <= 80, "help of {} is long", setting.name);
            assert!(setting.details.ends_with('.'), "details of {}", setting.name);
        }
    }

    #[test]
    fn an_empty_list_is_one_that_its_setting_takes() {
        let mut config = crate::resolved::Config::default();
        for setting in all() {
            if let Some(text) = empty_list(setting.name) {
                assert_eq!(setting.value.apply(&mut config, &[text.to_owned()]), Ok(()), "{}", setting.name);
            }
        }
        assert_eq!((empty_list("bind"), empty_list("x")), (None, None));
    }

    #[test]
    fn modes_are_octal_and_other_numbers_are_not() {
        assert!(is_octal("socket_mode"));
        assert!(!is_octal("threads") && !is_octal("no_such_setting"));
    }

    #[test]
    fn areas_stand_together_in_the_order_of_the_help() {
        let mut areas: Vec<Area> = all().map(|setting| setting.area).collect();
        areas.dedup();
        assert_eq!(areas, Area::ALL);
    }
}
