//! Settings of the two logs.

use std::path::PathBuf;

use crate::resolved::{AccessLogFormat, LogLevel, LogTarget};
use crate::setting::{Area, Setting, Value};

pub(super) const SETTINGS: &[Setting] = &[ACCESS_LOGFILE, ACCESS_LOGFORMAT, ERROR_LOGFILE, LOG_LEVEL];

const ACCESS_LOGFILE: Setting = Setting {
    name: "access_logfile",
    gunicorn: Some("accesslog"),
    since: "0.1",
    flags: &["access-logfile"],
    short: None,
    platform: None,
    value: Value::Text {
        metavar: "FILE",
        set: |config, text| {
            config.access_log = Some(target(text, LogTarget::Stdout)?);
            Ok(())
        },
    },
    default: "",
    area: Area::Logging,
    help: "Write a line for each request to this file; - is standard output",
    details: "Off by default. Lines are formatted and written off the path of requests.",
};

#[cfg(test)]
#[test]
fn access_logfile() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).access_log, None);
    assert_eq!(config(&["--access-logfile", "-"]).access_log, Some(LogTarget::Stdout));
    assert_eq!(config(&["--access-logfile=a.log"]).access_log, Some(LogTarget::File("a.log".into())));
    assert!(refusal(&["--access-logfile", ""]).contains("or -"));
}

const ACCESS_LOGFORMAT: Setting = Setting {
    name: "access_logformat",
    gunicorn: Some("access_log_format"),
    since: "0.1",
    flags: &["access-logformat"],
    short: None,
    platform: None,
    value: Value::Choice {
        alone: None,
        of: &[
            ("common", |config| config.access_log_format = AccessLogFormat::Common),
            ("combined", |config| config.access_log_format = AccessLogFormat::Combined),
        ],
    },
    default: "combined",
    area: Area::Logging,
    help: "Lines of the access log: common or combined",
    details: "combined is common with Referer and User-Agent: gunicorn's lines, which log analysers expect.",
};

#[cfg(test)]
#[test]
fn access_logformat() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).access_log_format, AccessLogFormat::Combined);
    assert_eq!(config(&["--access-logformat", "common"]).access_log_format, AccessLogFormat::Common);
    assert!(refusal(&["--access-logformat", "%(h)s"]).contains("one of common, combined"));
}

const ERROR_LOGFILE: Setting = Setting {
    name: "error_logfile",
    gunicorn: Some("errorlog"),
    since: "0.1",
    flags: &["error-logfile", "log-file"],
    short: None,
    platform: None,
    value: Value::Text {
        metavar: "FILE",
        set: |config, text| {
            config.error_log = target(text, LogTarget::Stderr)?;
            Ok(())
        },
    },
    default: "-",
    area: Area::Logging,
    help: "Write what happens to this file; - is standard error",
    details: "Start and stop, warnings, errors, and the tracebacks of the application, wsgi.errors included.",
};

#[cfg(test)]
#[test]
fn error_logfile() {
    use crate::testing::config;
    assert_eq!(config(&[]).error_log, LogTarget::Stderr);
    assert_eq!(config(&["--error-logfile", "e.log"]).error_log, LogTarget::File("e.log".into()));
    assert_eq!(config(&["--log-file", "e.log"]).error_log, LogTarget::File("e.log".into()));
}

const LOG_LEVEL: Setting = Setting {
    name: "log_level",
    gunicorn: Some("loglevel"),
    since: "0.1",
    flags: &["log-level"],
    short: None,
    platform: None,
    value: Value::Choice {
        alone: None,
        of: &[
            ("debug", |config| config.log_level = LogLevel::Debug),
            ("info", |config| config.log_level = LogLevel::Info),
            ("warning", |config| config.log_level = LogLevel::Warning),
            ("error", |config| config.log_level = LogLevel::Error),
            ("critical", |config| config.log_level = LogLevel::Critical),
        ],
    },
    default: "info",
    area: Area::Logging,
    help: "Least severe level that is logged: debug, info, warning, error or critical",
    details: "It does not touch the access log.",
};

#[cfg(test)]
#[test]
fn log_level() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).log_level, LogLevel::Info);
    assert_eq!(config(&["--log-level", "DEBUG"]).log_level, LogLevel::Debug);
    assert!(refusal(&["--log-level", "loud"]).contains("debug, info, warning, error, critical"));
}

fn target(text: &str, dash: LogTarget) -> Result<LogTarget, String> {
    match text {
        "" => Err("no file is named; write a path, or - for the terminal".to_owned()),
        "-" => Ok(dash),
        path => Ok(LogTarget::File(PathBuf::from(path))),
    }
}
