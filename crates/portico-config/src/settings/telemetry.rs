//! Settings of what is told to statsd and to syslog.

use crate::setting::{Area, Setting, ValueType};
use crate::telemetry;

pub(super) const SETTINGS: &[Setting] = &[
    STATSD_HOST,
    STATSD_PREFIX,
    DOGSTATSD_TAGS,
    ENABLE_BACKLOG_METRIC,
    PROMETHEUS_SLOTS,
    LOG_SYSLOG,
    LOG_SYSLOG_TO,
    LOG_SYSLOG_PREFIX,
    LOG_SYSLOG_FACILITY,
];

pub(crate) const STATSD_HOST: Setting = Setting {
    name: "statsd_host",
    flags: &["statsd-host"],
    value: ValueType::Form {
        metavar: "ADDRESS",
        form: "HOST:PORT (8125 by default) or unix://PATH",
        set: |config, text| {
            config.telemetry.statsd.endpoint = Some(telemetry::statsd(text)?);
            Ok(())
        },
    },
    area: Area::Logging,
    help: "Send metrics to statsd at this address",
    details: "gunicorn's metrics under gunicorn's names: the counters gunicorn.requests and \
        gunicorn.request.status.NNN, the time gunicorn.request.duration in milliseconds, the gauge \
        gunicorn.workers, and gunicorn.log.error and so on. A separate thread sends them in batches; metrics \
        that statsd does not accept are lost, and delay nothing.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn statsd_host() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).telemetry.statsd.endpoint, None);
    let endpoint = config(&["--statsd-host", "localhost:9125"]).telemetry.statsd.endpoint;
    assert_eq!(endpoint.map(|endpoint| endpoint.to_string()).as_deref(), Some("localhost:9125"));
    assert!(refusal(&["--statsd-host", "a:b"]).contains("unix://PATH"));
}

pub(crate) const PROMETHEUS_SLOTS: Setting = Setting {
    name: "prometheus_slots",
    flags: &["prometheus-slots"],
    value: ValueType::Switch { given: true, set: |config, on| config.telemetry.prometheus_slots = on },
    default: "false",
    area: Area::Logging,
    help: "Keep prometheus_client's metrics by slot, so that counters outlive workers",
    details: "Without PROMETHEUS_MULTIPROC_DIR they are in shared memory, and `portico metrics` prints them \
        summed over the workers, also while no thread gets on. With it, prometheus_client's files are named \
        by slot and not by process id: their number stays the same, whatever becomes of workers. Done before \
        the application is imported, by portico.contrib.prometheus.use_slots().",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn prometheus_slots() {
    use crate::testing::{config, with_environment};
    assert!(!config(&[]).telemetry.prometheus_slots);
    assert!(config(&["--prometheus-slots"]).telemetry.prometheus_slots);
    assert!(with_environment(&[("PORTICO_PROMETHEUS_SLOTS", "1")], &[]).telemetry.prometheus_slots);
}

pub(crate) const STATSD_PREFIX: Setting = Setting {
    name: "statsd_prefix",
    flags: &["statsd-prefix"],
    value: ValueType::Text {
        metavar: "TEXT",
        set: |config, text| {
            config.telemetry.statsd.prefix = telemetry::prefix(text);
            Ok(())
        },
    },
    area: Area::Logging,
    help: "Prefix of the names of metrics",
    details: "A dot separates it from the name.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn statsd_prefix() {
    use crate::testing::config;
    assert_eq!(config(&[]).telemetry.statsd.prefix, "");
    assert_eq!(config(&["--statsd-prefix", "service"]).telemetry.statsd.prefix, "service.");
}

pub(crate) const DOGSTATSD_TAGS: Setting = Setting {
    name: "dogstatsd_tags",
    flags: &["dogstatsd-tags"],
    value: ValueType::Text {
        metavar: "TAGS",
        set: |config, text| {
            config.telemetry.statsd.tags = text.to_owned();
            Ok(())
        },
    },
    area: Area::Logging,
    help: "Tags of all metrics, separated by commas",
    details: "Such as `env:production,service:shop`, in DogStatsD's notation, which other statsd servers may \
        not understand.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn dogstatsd_tags() {
    use crate::testing::config;
    assert_eq!(config(&[]).telemetry.statsd.tags, "");
    assert_eq!(config(&["--dogstatsd-tags", "a:b,c"]).telemetry.statsd.tags, "a:b,c");
}

pub(crate) const ENABLE_BACKLOG_METRIC: Setting = Setting {
    name: "enable_backlog_metric",
    flags: &["enable-backlog-metric"],
    value: ValueType::Switch { given: true, set: |config, on| config.telemetry.backlog_metric = on },
    default: "false",
    area: Area::Logging,
    help: "Send the number of requests that wait for a thread to statsd, every second",
    details: "As gunicorn.backlog. In gunicorn these requests wait in the kernel; in Portico workers accept \
        at once, and complete requests wait in their queues.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn enable_backlog_metric() {
    use crate::testing::config;
    assert!(!config(&[]).telemetry.backlog_metric);
    assert!(config(&["--enable-backlog-metric"]).telemetry.backlog_metric);
}

pub(crate) const LOG_SYSLOG: Setting = Setting {
    name: "log_syslog",
    gunicorn: Some("syslog"),
    flags: &["log-syslog"],
    value: ValueType::Switch { given: true, set: |config, on| config.telemetry.syslog.on = on },
    default: "false",
    area: Area::Logging,
    help: "Send the error log and the access log to syslog as well",
    details: "In gunicorn's form, which is that of Python's SysLogHandler: `<14>gunicorn.NAME.access: [PID] \
        LINE`. Nothing waits for syslog: messages that it does not accept are lost.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn log_syslog() {
    use crate::testing::config;
    assert!(!config(&[]).telemetry.syslog.on);
    assert!(config(&["--log-syslog"]).telemetry.syslog.on);
}

pub(crate) const LOG_SYSLOG_TO: Setting = Setting {
    name: "log_syslog_to",
    gunicorn: Some("syslog_addr"),
    flags: &["log-syslog-to"],
    value: ValueType::Form {
        metavar: "ADDRESS",
        form: "udp://HOST:PORT, tcp://HOST:PORT, unix://PATH, unix://PATH#dgram or unix://PATH#stream",
        set: |config, text| {
            (config.telemetry.syslog.endpoint, config.telemetry.syslog.transport) = telemetry::syslog(text)?;
            Ok(())
        },
    },
    default: "udp://localhost:514",
    area: Area::Logging,
    help: "Address of syslog",
    details: "A UNIX socket without #dgram or #stream is tried as both. A message ends with a null byte in a \
        datagram, as gunicorn's do, and with a newline in a stream.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn log_syslog_to() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).telemetry.syslog, crate::telemetry::SyslogSettings::default());
    let syslog = config(&["--log-syslog-to", "unix:///dev/log#dgram"]).telemetry.syslog;
    assert_eq!(syslog.endpoint.to_string(), "unix:///dev/log");
    assert!(refusal(&["--log-syslog-to", "localhost"]).contains("udp://HOST:PORT"));
}

pub(crate) const LOG_SYSLOG_PREFIX: Setting = Setting {
    name: "log_syslog_prefix",
    gunicorn: Some("syslog_prefix"),
    flags: &["log-syslog-prefix"],
    value: ValueType::Text {
        metavar: "NAME",
        set: |config, text| {
            let bad = |character: char| !character.is_ascii_graphic() || "[]:".contains(character);
            if text.contains(bad) {
                return Err(format!(
                    "{text:?} cannot be a program's name; write letters, digits, dots, dashes"
                )
                .into());
            }
            config.telemetry.syslog.prefix = (!text.is_empty()).then(|| text.to_owned());
            Ok(())
        },
    },
    area: Area::Logging,
    help: "The program's name in syslog, between gunicorn. and .access or .error",
    details: "By default the application's, with dots for colons.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn log_syslog_prefix() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).telemetry.syslog.prefix, None);
    assert_eq!(config(&["--log-syslog-prefix", "shop"]).telemetry.syslog.prefix.as_deref(), Some("shop"));
    assert!(refusal(&["--log-syslog-prefix", "a b"]).contains("write letters"));
}

pub(crate) const LOG_SYSLOG_FACILITY: Setting = Setting {
    name: "log_syslog_facility",
    gunicorn: Some("syslog_facility"),
    flags: &["log-syslog-facility"],
    value: ValueType::Form {
        metavar: "NAME",
        form: "user, daemon, local0 to local7, or another of syslog's, with or without LOG_",
        set: |config, text| {
            config.telemetry.syslog.facility = telemetry::facility(text)?;
            Ok(())
        },
    },
    default: "user",
    area: Area::Logging,
    help: "The facility of messages to syslog",
    details: "The facilities of RFC 3164, section 4.1.1.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn log_syslog_facility() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).telemetry.syslog.facility, 1);
    assert_eq!(config(&["--log-syslog-facility", "local3"]).telemetry.syslog.facility, 19);
    assert!(refusal(&["--log-syslog-facility", "mine"]).contains("is no facility"));
}
