//! Settings of the two logs.

use std::path::PathBuf;

use crate::access_log_format::AccessLogFormat;
use crate::error::ParseError;
use crate::gunicorn;
use crate::resolved::{LogLevel, LogTarget};
use crate::setting::{Area, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] =
    &[ACCESS_LOGFILE, ACCESS_LOGFORMAT, REQUEST_ID, ERROR_LOGFILE, LOG_LEVEL];

pub(crate) const ACCESS_LOGFILE: Setting = Setting {
    name: "access_logfile",
    gunicorn: Some("accesslog"),
    flags: &["access-logfile"],
    value: ValueType::Text {
        metavar: "FILE",
        set: |config, text| {
            config.access_log = Some(target(text, LogTarget::Stdout)?);
            Ok(())
        },
    },
    area: Area::Logging,
    help: "Write a line for each request to this file; - is standard output",
    details: "Off by default. A separate thread formats and writes the lines.",
    ..Setting::BLANK
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

pub(crate) const ACCESS_LOGFORMAT: Setting = Setting {
    name: "access_logformat",
    gunicorns: Some(gunicorn::access_log_format),
    gunicorn: Some("access_log_format"),
    flags: &["access-logformat"],
    value: ValueType::Form {
        metavar: "FORMAT",
        form: "common, combined, json, logfmt, or a template of atoms",
        set: |config, text| {
            config.access_log_format = AccessLogFormat::parse(text)?;
            Ok(())
        },
    },
    default: "combined",
    area: Area::Logging,
    help: "Lines of the access log: combined, common, json, logfmt, or a template",
    details: "combined is common with Referer and User-Agent: gunicorn's lines, which log analysers expect. \
        json and logfmt have more, under OpenTelemetry's names: docs/reference/access-log.md lists their \
        keys. A template is a text with gunicorn's atoms, such as `%(h)s \"%(r)s\" %(s)s %(D)s`. Data from \
        clients is escaped in all of them: no request can forge a line or a key.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn access_logformat() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).access_log_format, AccessLogFormat::Combined);
    assert_eq!(config(&["--access-logformat", "common"]).access_log_format, AccessLogFormat::Common);
    let template = config(&["--access-logformat", "%(h)s"]).access_log_format;
    assert!(matches!(template, AccessLogFormat::Template(_)));
    assert!(refusal(&["--access-logformat", "%(x)s"]).contains("%(x)s is no atom"));
}

pub(crate) const REQUEST_ID: Setting = Setting {
    name: "request_id",
    flags: &["request-id"],
    value: ValueType::Switch { given: true, set: |config, on| config.telemetry.request_id = on },
    default: "false",
    area: Area::Logging,
    help: "Give each request an id: in environ, and as X-Request-Id in its response",
    details: "The id is the request's own X-Request-Id if a peer of --forwarded-allow-ips has sent one, \
        otherwise a new one, unique over all processes, that reveals nothing about other ids. The \
        application finds it as environ['portico.request_id'], the client in the response, unless the \
        application has set X-Request-Id itself. If the format of the access log has the id, as json and \
        logfmt do, requests have one also without this option; the response then does not.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn request_id() {
    use crate::testing::config;
    assert!(!config(&[]).telemetry.request_id);
    assert!(config(&["--request-id"]).telemetry.request_id);
}

pub(crate) const ERROR_LOGFILE: Setting = Setting {
    name: "error_logfile",
    gunicorn: Some("errorlog"),
    flags: &["error-logfile", "log-file"],
    value: ValueType::Text {
        metavar: "FILE",
        set: |config, text| {
            config.error_log = target(text, LogTarget::Stderr)?;
            Ok(())
        },
    },
    default: "-",
    area: Area::Logging,
    help: "Write the error log to this file; - is standard error",
    details: "Start and stop, warnings, errors, and the tracebacks of the application, wsgi.errors included.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn error_logfile() {
    use crate::testing::config;
    assert_eq!(config(&[]).error_log, LogTarget::Stderr);
    assert_eq!(config(&["--error-logfile", "e.log"]).error_log, LogTarget::File("e.log".into()));
    assert_eq!(config(&["--log-file", "e.log"]).error_log, LogTarget::File("e.log".into()));
}

pub(crate) const LOG_LEVEL: Setting = Setting {
    name: "log_level",
    gunicorns: Some(gunicorn::log_level),
    gunicorn: Some("loglevel"),
    flags: &["log-level"],
    value: ValueType::Choice {
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
    details: "It does not affect the access log.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn log_level() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).log_level, LogLevel::Info);
    assert_eq!(config(&["--log-level", "DEBUG"]).log_level, LogLevel::Debug);
    assert!(refusal(&["--log-level", "loud"]).contains("debug, info, warning, error, critical"));
}

fn target(text: &str, dash: LogTarget) -> Result<LogTarget, ParseError> {
    match text {
        "" => Err("no file is named; write a path, or - for the terminal".to_owned().into()),
        "-" => Ok(dash),
        path => Ok(LogTarget::File(PathBuf::from(path))),
    }
}
