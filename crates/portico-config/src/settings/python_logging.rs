//! Settings of Python's `logging`, through which the server's own log goes where one of them is given.

use crate::setting::{Area, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] = &[
    LOGGER_CLASS,
    LOGCONFIG,
    LOGCONFIG_DICT,
    LOGCONFIG_JSON,
    CAPTURE_OUTPUT,
    DISABLE_REDIRECT_ACCESS_TO_SYSLOG,
];

/// What the rows below have in common.
const BLANK: Setting = Setting { area: Area::Logging, ..Setting::BLANK };

/// gunicorn's own classes: what they do is done without a class.
const OWN_CLASSES: [&str; 3] = ["simple", "gunicorn.glogging.Logger", "gunicorn.instrument.statsd.Statsd"];

pub(crate) const LOGGER_CLASS: Setting = Setting {
    name: "logger_class",
    makes_loggers: true,
    flags: &["logger-class"],
    value: ValueType::Text {
        metavar: "CLASS",
        set: |config, text| {
            config.python_logging.class = (!OWN_CLASSES.contains(&text)).then(|| text.to_owned());
            Ok(())
        },
    },
    help: "Python class that does the server's logging",
    details: "An import string such as mysite.logs.Logger. Its base class is \
        portico.compat.gunicorn.glogging.Logger; it may override setup, access, atoms and now. Errors and \
        accesses of the server then go through Python. With a trivial application a request and its line took six \
        times the CPU of a request without an access log; a line of the server's own in the combined format adds \
        some 4 %.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn logger_class() {
    use crate::testing::config;
    assert!(!config(&[]).python_logging.is_in_force());
    assert!(!config(&["--logger-class", "gunicorn.glogging.Logger"]).python_logging.is_in_force());
    let config = config(&["--logger-class", "mysite.logs.Logger"]);
    assert_eq!(config.python_logging.class.as_deref(), Some("mysite.logs.Logger"));
    assert!(config.python_logging.is_in_force());
}

pub(crate) const LOGCONFIG: Setting = Setting {
    name: "logconfig",
    makes_loggers: true,
    flags: &["log-config"],
    value: ValueType::Text {
        metavar: "FILE",
        set: |config, text| {
            config.python_logging.file = (!text.is_empty()).then(|| text.into());
            Ok(())
        },
    },
    help: "Configure Python's logging by this ini file",
    details: "As logging.config.fileConfig reads it. The server then logs through Python's loggers \
        gunicorn.error and gunicorn.access.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn logconfig() {
    use crate::testing::config;
    let config = config(&["--log-config", "logging.ini"]);
    assert_eq!(config.python_logging.file, Some("logging.ini".into()));
    assert!(config.python_logging.is_in_force());
}

pub(crate) const LOGCONFIG_DICT: Setting = Setting {
    name: "logconfig_dict",
    makes_loggers: true,
    value: ValueType::Text {
        metavar: "DICT",
        set: |config, text| {
            config.python_logging.dict = !text.is_empty();
            Ok(())
        },
    },
    help: "Configure Python's logging by this dictionary; in gunicorn.conf.py",
    details: "As logging.config.dictConfig accepts it; gunicorn's own configuration is its base. It takes \
        precedence over logconfig_json and logconfig.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn logconfig_dict() {
    use crate::testing::with_environment;
    assert!(with_environment(&[("PORTICO_LOGCONFIG_DICT", "x")], &[]).python_logging.is_in_force());
}

pub(crate) const LOGCONFIG_JSON: Setting = Setting {
    name: "logconfig_json",
    makes_loggers: true,
    flags: &["log-config-json"],
    value: ValueType::Text {
        metavar: "FILE",
        set: |config, text| {
            config.python_logging.json = (!text.is_empty()).then(|| text.into());
            Ok(())
        },
    },
    help: "Configure Python's logging by this JSON file",
    details: "As logging.config.dictConfig accepts it. It takes precedence over logconfig.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn logconfig_json() {
    use crate::testing::config;
    let config = config(&["--log-config-json", "logging.json"]);
    assert_eq!(config.python_logging.json, Some("logging.json".into()));
    assert!(config.python_logging.is_in_force());
}

pub(crate) const CAPTURE_OUTPUT: Setting = Setting {
    name: "capture_output",
    flags: &["capture-output"],
    value: ValueType::Switch { given: true, set: |config, on| config.capture_output = on },
    default: "false",
    help: "Send standard output and standard error to the error log",
    details: "Only if --error-logfile is a file, which then replaces both.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn capture_output() {
    use crate::testing::config;
    assert!(!config(&[]).capture_output);
    assert!(config(&["--capture-output"]).capture_output);
}

pub(crate) const DISABLE_REDIRECT_ACCESS_TO_SYSLOG: Setting = Setting {
    name: "disable_redirect_access_to_syslog",
    flags: &["disable-redirect-access-to-syslog"],
    value: ValueType::Switch { given: true, set: |config, on| config.access_to_syslog = !on },
    default: "false",
    help: "Do not send the access log to syslog",
    details: "Without it, --log-syslog sends both logs.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn disable_redirect_access_to_syslog() {
    use crate::testing::config;
    assert!(config(&[]).access_to_syslog);
    assert!(!config(&["--disable-redirect-access-to-syslog"]).access_to_syslog);
}
