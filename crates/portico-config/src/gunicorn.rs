//! Values as gunicorn takes them, for what is said in its ways: gunicorn.conf.py, GUNICORN_CMD_ARGS, and its own
//! options on the command line. A spelling that gunicorn accepts is accepted. If the value used differs from the
//! one written, a warning says so.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::access_log_format::for_gunicorn;
use crate::raw::SettingSource;
use crate::resolved::Workers;
use crate::setting::{Setting, ValueType};
use crate::value::time_text;

/// A value in a form of gunicorn's, turned into the form that the table takes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Eased {
    /// As the table takes them.
    pub texts: Vec<String>,
    /// What its operator should know, after the setting's name.
    pub warning: Option<String>,
}

/// Whether `source` says `setting` in a way of gunicorn's.
pub(crate) fn is_its_way(source: &SettingSource, setting: &Setting) -> bool {
    match source {
        // A file in TOML tells the column as well.
        SettingSource::File { column, .. } => column.is_none(),
        SettingSource::CommandArguments(variable) => *variable == "GUNICORN_CMD_ARGS",
        SettingSource::CommandLine => {
            setting.is_positional() || setting.flags.iter().any(|flag| is_gunicorns(flag))
        }
        SettingSource::Default
        | SettingSource::Platform(_)
        | SettingSource::Preset(_)
        | SettingSource::Environment(_)
        | SettingSource::Keyword => false,
    }
}

/// Reads `texts` as gunicorn does.
pub(crate) fn ease(setting: &Setting, texts: Vec<String>) -> Eased {
    let Some(last) = texts.last().map(|text| text.trim().to_owned()) else {
        return Eased { texts, warning: None };
    };
    let one = |(text, warning): (String, Option<String>)| Eased { texts: vec![text], warning };
    if let Some(read) = setting.gunicorns {
        return one(read(texts.last().map_or("", String::as_str)));
    }
    match &setting.value {
        ValueType::Count { range, zero, .. } | ValueType::Size { range, zero, .. } => {
            one(number(&last, range, zero.is_some(), u64::to_string))
        }
        ValueType::Time { range, zero, .. } => one(time(&last, range, zero.is_some())),
        ValueType::Switch { .. } => one((last, None)),
        ValueType::Choice { .. } => one((last, None)),
        ValueType::List { .. } => Eased { texts: without_ends(texts), warning: None },
        ValueType::Mode { .. }
        | ValueType::Form { .. }
        | ValueType::Text { .. }
        | ValueType::Texts { .. }
        | ValueType::Ignored { .. }
        | ValueType::Tables { .. }
        | ValueType::Refused { .. } => Eased { texts, warning: None },
    }
}

/// A whole number as Python's `int(text, 0)` reads it; one that is too large for `u128` as the largest.
pub(crate) fn whole(text: &str) -> Option<u128> {
    let text = text.trim();
    if let "True" | "true" = text {
        return Some(1);
    }
    if let "False" | "false" = text {
        return Some(0);
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = [("0x", 16), ("0o", 8), ("0b", 2)]
        .into_iter()
        .find_map(|(prefix, radix)| Some((lower.strip_prefix(prefix)?, radix)))
        .unwrap_or((&lower, 10));
    // One underscore between two digits, and after the prefix.
    let digits = if radix == 10 { digits } else { digits.strip_prefix('_').unwrap_or(digits) };
    let sound = digits.split('_').all(|part| !part.is_empty() && part.chars().all(|it| it.is_digit(radix)));
    sound.then(|| u128::from_str_radix(&digits.replace('_', ""), radix).unwrap_or(u128::MAX))
}

/// `text` if it is a number within `range`, else the nearest one that is, with a warning. What is no number for
/// gunicorn is left to the table.
fn number(
    text: &str,
    range: &RangeInclusive<u64>,
    has_zero: bool,
    shown: impl Fn(&u64) -> String,
) -> (String, Option<String>) {
    let Some(number) = whole(text) else { return (text.to_owned(), None) };
    if number == 0 && has_zero {
        return ("0".to_owned(), None);
    }
    let nearest = u64::try_from(number).unwrap_or(u64::MAX).clamp(*range.start(), *range.end());
    let shown = shown(&nearest);
    let warning = (u128::from(nearest) != number).then(|| beyond(text, &shown));
    (nearest.to_string(), warning)
}

fn beyond(text: &str, nearest: &str) -> String {
    format!("{text} is beyond what there is here; {nearest} counts")
}

/// A length of time in seconds. One with a suffix is none of gunicorn's, and left to the table.
fn time(text: &str, range: &RangeInclusive<Duration>, has_zero: bool) -> (String, Option<String>) {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = match whole(text) {
        Some(number) => number as f64,
        None if plain(text) && text.bytes().any(|byte| byte.is_ascii_digit()) => match text.parse() {
            Ok(seconds) => seconds,
            Err(_) => return (text.to_owned(), None),
        },
        None => return (text.to_owned(), None),
    };
    let (least, most) = (range.start().as_secs_f64(), range.end().as_secs_f64());
    if seconds == 0.0 && has_zero || (least..=most).contains(&seconds) {
        return (seconds.to_string(), None);
    }
    let nearest = if seconds < least { range.start() } else { range.end() };
    (nearest.as_secs_f64().to_string(), Some(beyond(text, &time_text(*nearest))))
}

/// The levels that gunicorn knows; it takes every other word for `info`.
const LEVELS: [&str; 5] = ["debug", "info", "warning", "error", "critical"];

pub(crate) fn log_level(text: &str) -> (String, Option<String>) {
    let text = text.trim();
    let is = |level: &&str| level.eq_ignore_ascii_case(text);
    if let Some(level) = LEVELS.into_iter().find(is) {
        return (level.to_owned(), None);
    }
    let bare = text.trim_matches(['"', '\'', ' ']).to_ascii_lowercase();
    let meant = match bare.as_str() {
        "warn" => Some("warning"),
        "fatal" => Some("critical"),
        bare => LEVELS.into_iter().find(|level| *level == bare),
    };
    let hint = meant.map(|meant| format!("; write {meant}")).unwrap_or_default();
    let warning = format!("{text:?} is no level, and means info as for gunicorn{hint}");
    ("info".to_owned(), Some(warning))
}

/// gunicorn's other ways to HTTP/2 without TLS; the upgrade of HTTP/1.1 has gone with RFC 9113.
pub(crate) fn http2_cleartext(text: &str) -> (String, Option<String>) {
    let text = text.trim();
    let told = |counts: &str| Some(format!("no connection is upgraded to HTTP/2; {counts} counts"));
    match text.to_ascii_lowercase().as_str() {
        "true" => ("prior-knowledge".to_owned(), None),
        "false" => ("off".to_owned(), None),
        "both" => ("prior-knowledge".to_owned(), told("prior-knowledge")),
        "upgrade" => ("off".to_owned(), told("off")),
        _ => (text.to_owned(), None),
    }
}

/// Workers, which this Portico has a range of its own for.
pub(crate) fn workers(text: &str) -> (String, Option<String>) {
    let text = text.trim();
    match whole(text) {
        Some(_) => number(text, &Workers::RANGE, false, u64::to_string),
        None => (text.to_owned(), None),
    }
}

/// Bits beyond those of permissions mean nothing to a socket.
pub(crate) fn umask(text: &str) -> (String, Option<String>) {
    const BITS: u128 = 0o777;
    let text = text.trim();
    // gunicorn's option takes C's octal numbers as well, which are the table's to read.
    let is_octal = text.len() > 1 && text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = match is_octal {
        true => u128::from_str_radix(text, 8).ok(),
        false => whole(text),
    };
    match number {
        Some(mask) if mask > BITS => (
            format!("0o{:o}", mask & BITS),
            Some(format!("{text} has bits beyond 0o777, which mean nothing")),
        ),
        // What C and the table know as well stays as it is.
        Some(mask) if text.contains(['_', 'b', 'B', '+']) => (format!("0o{mask:o}"), None),
        Some(_) | None => (text.to_owned(), None),
    }
}

pub(crate) fn access_log_format(text: &str) -> (String, Option<String>) {
    match for_gunicorn(text) {
        Ok((eased, missing)) => {
            let told = || format!("- stands for what is not known here: {}", missing.join(", "));
            (eased, (!missing.is_empty()).then(told))
        }
        Err(problem) => ("combined".to_owned(), Some(format!("{problem}; lines are those of combined"))),
    }
}

/// Without the items that are empty because a comma stands at an end, or twice: gunicorn passes over them.
fn without_ends(texts: Vec<String>) -> Vec<String> {
    let kept = |text: String| {
        let items: Vec<&str> = text.split(',').filter(|item| !item.trim().is_empty()).collect();
        if items.is_empty() { text } else { items.join(",") }
    };
    texts.into_iter().map(kept).collect()
}

/// gunicorn's long options, without the dashes.
pub(crate) const OPTIONS: &[&str] = &[
    "access-logfile",
    "access-logformat",
    "asgi-disconnect-grace-period",
    "asgi-lifespan",
    "asgi-loop",
    "backlog",
    "bind",
    "ca-certs",
    "capture-output",
    "casefold-http-method",
    "cert-reqs",
    "certfile",
    "chdir",
    "check-config",
    "ciphers",
    "config",
    "control-socket",
    "control-socket-mode",
    "daemon",
    "dirty-app",
    "dirty-graceful-timeout",
    "dirty-threads",
    "dirty-timeout",
    "dirty-workers",
    "disable-redirect-access-to-syslog",
    "do-handshake-on-connect",
    "dogstatsd-tags",
    "enable-backlog-metric",
    "enable-stdio-inheritance",
    "env",
    "error-logfile",
    "forwarded-allow-ips",
    "forwarder-headers",
    "graceful-timeout",
    "group",
    "header-map",
    "http-parser",
    "http-protocols",
    "http2-cleartext",
    "http2-initial-window-size",
    "http2-max-concurrent-streams",
    "http2-max-frame-size",
    "http2-max-header-list-size",
    "initgroups",
    "keep-alive",
    "keyfile",
    "limit-request-field_size",
    "limit-request-fields",
    "limit-request-line",
    "log-config",
    "log-config-json",
    "log-file",
    "log-level",
    "log-syslog",
    "log-syslog-facility",
    "log-syslog-prefix",
    "log-syslog-to",
    "logger-class",
    "max-requests",
    "max-requests-jitter",
    "name",
    "no-control-socket",
    "no-sendfile",
    "paste",
    "paste-global",
    "paster",
    "permit-obsolete-folding",
    "permit-unconventional-http-method",
    "permit-unconventional-http-version",
    "pid",
    "preload",
    "print-config",
    "protocol",
    "proxy-allow-from",
    "proxy-protocol",
    "pythonpath",
    "reload",
    "reload-engine",
    "reload-extra-file",
    "reuse-port",
    "root-path",
    "spew",
    "ssl-version",
    "statsd-host",
    "statsd-prefix",
    "strip-header-spaces",
    "suppress-ragged-eofs",
    "threads",
    "timeout",
    "umask",
    "user",
    "uwsgi-allow-from",
    "websocket-max-message-size",
    "worker-class",
    "worker-connections",
    "worker-tmp-dir",
    "workers",
];

/// Whether the long option, without its dashes, is one of gunicorn's, or stands for one.
pub(crate) fn is_gunicorns(flag: &str) -> bool {
    OPTIONS.contains(&flag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log_format::AccessLogFormat;
    use crate::testing::{config, refusal, resolved};

    /// What this option of gunicorn's comes to, and the only warning about it.
    fn eased(args: &[&str]) -> (crate::resolved::Config, String) {
        let resolved = resolved(&[], args);
        let option = args[0];
        let mut about = resolved.warnings.into_iter().filter(|it| it.starts_with(option));
        let warning = about.next().unwrap_or_default();
        assert_eq!(about.next(), None);
        (resolved.config, warning)
    }

    #[test]
    fn whole_numbers_are_pythons() {
        for (text, number) in [
            ("1_000", 1000),
            (" 10 ", 10),
            ("+5", 5),
            ("0x10", 16),
            ("0X_1f", 31),
            ("0o17", 15),
            ("0b11", 3),
            ("007", 7),
            ("true", 1),
            ("False", 0),
            ("340282366920938463463374607431768211456", u128::MAX),
        ] {
            assert_eq!(whole(text), Some(number), "{text}");
        }
        for text in ["", "-1", "1__0", "_1", "1_", "0x", "0xg", "1.0", "1e3", "four", "0b2"] {
            assert_eq!(whole(text), None, "{text}");
        }
    }

    #[test]
    fn a_number_beyond_the_range_is_the_nearest_one_and_said() {
        let (config, warning) = eased(&["--backlog", "100_000"]);
        assert_eq!(config.backlog, 65_535);
        assert_eq!(warning, "--backlog: 100_000 is beyond what there is here; 65535 counts");
        assert_eq!(eased(&["--workers", "1000"]).0.workers.max, 512);
        assert_eq!(eased(&["--workers", "0"]).0.workers.max, 1);
        assert_eq!(eased(&["--threads", "0"]).0.threads, 1);
        let (config, warning) = eased(&["--graceful-timeout", "1000000000"]);
        assert_eq!(config.graceful_timeout, Duration::from_secs(24 * 3600), "{warning}");
        assert!(warning.ends_with("24h counts"), "{warning}");
        assert_eq!(eased(&["--max-requests", "1_000"]), (config_of("max-requests", "1000"), String::new()));
        assert_eq!(eased(&["--keep-alive", "0x10"]).0.keep_alive, Duration::from_secs(16));
        for args in [["--threads", "-1"], ["--threads", "x"], ["--timeout", "-1"], ["--timeout", "soon"]] {
            assert!(refusal(&args).starts_with(args[0]), "{args:?}");
        }
    }

    fn config_of(flag: &str, text: &str) -> crate::resolved::Config {
        config(&[&format!("--{flag}"), text])
    }

    #[test]
    fn our_own_ways_stay_strict() {
        use crate::testing::environment;
        let refused = |env: &[(&str, &str)], args: &[&str]| {
            let args = args.iter().map(std::ffi::OsString::from);
            crate::parse::parse(args, &environment(env)).unwrap_err().to_string()
        };
        assert!(refused(&[("PORTICO_BACKLOG", "100000")], &[]).contains("from 1 to 65535"));
        assert!(refused(&[("PORTICO_CMD_ARGS", "--backlog 1_000")], &[]).contains("whole number"));
        assert!(refused(&[("PORTICO_LOG_LEVEL", "warn")], &[]).contains("is not known"));
        assert!(refused(&[], &["--max-queue", "1_000"]).contains("whole number"));
        let pairs = [("backlog".to_owned(), "0".to_owned())];
        assert!(crate::parse::from_pairs(&pairs, &|_| None).is_err());
        assert_eq!(resolved(&[("GUNICORN_CMD_ARGS", "--backlog 1_000")], &[]).config.backlog, 1000);
    }

    #[test]
    fn a_level_that_is_none_is_info_and_said() {
        use crate::LogLevel::{Debug, Info};
        let level = |text: &str| {
            let (config, warning) = eased(&["--log-level", text]);
            (config.log_level, warning)
        };
        assert_eq!(level("DEBUG"), (Debug, String::new()));
        assert_eq!(
            level("warn"),
            (
                Info,
                "--log-level: \"warn\" is no level, and means info as for gunicorn; write warning".to_owned()
            )
        );
        for text in ["fatal", "loud", "\"debug\"", "'info'", "20", ""] {
            let (level, warning) = level(text);
            assert_eq!(level, Info, "{text}");
            assert!(warning.contains("is no level"), "{text}: {warning}");
        }
    }

    #[test]
    fn a_format_that_is_none_is_combined_and_said() {
        let (config, warning) = eased(&["--access-logformat", "%h %l"]);
        assert_eq!(config.access_log_format, AccessLogFormat::Combined);
        assert!(warning.contains("lines are those of combined"), "{warning}");
        let (config, warning) = eased(&["--access-logformat", "%(h)5s %(x)s"]);
        assert_eq!(config.access_log_format, AccessLogFormat::parse("%(h)5s %(l)s").unwrap());
        assert!(warning.ends_with("- stands for what is not known here: %(x)s"), "{warning}");
    }

    #[test]
    fn ways_to_http2_without_tls() {
        for (text, cleartext, warned) in
            [("true", true, false), ("False", false, false), ("both", true, true), ("upgrade", false, true)]
        {
            let (config, warning) = eased(&["--http2-cleartext", text]);
            assert_eq!((config.http2.cleartext, !warning.is_empty()), (cleartext, warned), "{text}");
        }
    }

    #[test]
    fn masks_and_lists() {
        assert_eq!(eased(&["--umask", "0o1022"]).0.system.umask, Some(0o022));
        assert_eq!(eased(&["--umask", "022"]), (config_of("umask", "022"), String::new()));
        assert_eq!(eased(&["--umask", "0b11"]).0.system.umask, Some(3));
        let (config, _) = eased(&["--forwarded-allow-ips", "127.0.0.1,,10.0.0.0/8,"]);
        assert_eq!(
            config.forwarded_allow,
            config_of("forwarded-allow-ips", "127.0.0.1,10.0.0.0/8").forwarded_allow
        );
    }

    #[test]
    fn no_limit_of_a_line_raises_that_of_the_head() {
        for option in ["--limit-request-line", "--limit-request-field_size"] {
            let (config, warning) = eased(&[option, "0"]);
            assert_eq!(config.head_bytes_max, 16 << 20, "{option}");
            assert!(warning.contains("16m"), "{warning}");
            let (config, warning) = eased(&[option, "0", "--limit-request-head", "128k"]);
            assert_eq!((config.head_bytes_max, warning.as_str()), (128 << 10, ""), "{option}");
            let (config, warning) = eased(&[option, "100000"]);
            assert!(config.head_bytes_max >= 100_000 + (64 << 10), "{option}");
            assert_eq!(warning, "");
        }
    }
}
