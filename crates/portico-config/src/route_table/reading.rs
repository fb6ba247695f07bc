//! Values of TOML as the keys of a route take them.

use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::{DeInteger, DeValue};

use crate::error::ParseError;
use crate::route::{HeaderAction, HeaderRule, LimitKey, RateLimit, RouteHost};
use crate::value;

/// Why a value of this type is not taken.
fn expected(value: &DeValue<'_>, wanted: &str) -> ParseError {
    format!("this is of type {}; write {wanted}", value.type_str()).into()
}

pub(super) fn text(value: &DeValue<'_>, wanted: &str) -> Result<String, ParseError> {
    match value {
        DeValue::String(text) if text.is_empty() => Err(format!("it is empty; write {wanted}").into()),
        DeValue::String(text) => Ok(text.to_string()),
        _ => Err(expected(value, wanted)),
    }
}

/// One text, or an array of them.
pub(super) fn texts(value: &DeValue<'_>, wanted: &str) -> Result<Vec<String>, ParseError> {
    match value {
        DeValue::Array(items) if items.is_empty() => Err(format!("it is empty; write {wanted}").into()),
        DeValue::Array(items) => items.iter().map(|item| text(item.get_ref(), wanted)).collect(),
        _ => Ok(vec![text(value, wanted)?]),
    }
}

pub(super) fn flag(value: &DeValue<'_>) -> Result<bool, ParseError> {
    match value {
        DeValue::Boolean(on) => Ok(*on),
        _ => Err(expected(value, "true or false")),
    }
}

pub(super) fn count(value: &DeValue<'_>, range: &RangeInclusive<u64>, unit: &str) -> Result<u64, ParseError> {
    match value {
        DeValue::Integer(number) => value::count(&digits(number), range, None, unit),
        _ => Err(expected(value, &format!("a number of {unit}"))),
    }
}

pub(super) fn size(value: &DeValue<'_>, range: &RangeInclusive<u64>) -> Result<u64, ParseError> {
    match value {
        DeValue::Integer(number) => value::size(&digits(number), range, Some("no limit")),
        DeValue::String(text) => value::size(text, range, Some("no limit")),
        _ => Err(expected(value, "a number of bytes, or a string such as \"64k\"")),
    }
}

pub(super) fn time(
    value: &DeValue<'_>,
    range: &RangeInclusive<Duration>,
    zero: Option<&str>,
) -> Result<Duration, ParseError> {
    match value {
        DeValue::Integer(number) => value::time(&digits(number), range, zero),
        DeValue::Float(number) => value::time(number.as_str(), range, zero),
        DeValue::String(text) => value::time(text, range, zero),
        _ => Err(expected(value, "a number of seconds, or a string such as \"500ms\"")),
    }
}

/// A whole number in decimal, whatever it is written in.
fn digits(number: &DeInteger<'_>) -> String {
    i128::from_str_radix(number.as_str(), number.radix())
        .map_or_else(|_| number.as_str().to_owned(), |number| number.to_string())
}

/// Names and their values.
pub(super) fn table<'v>(
    value: &'v DeValue<'_>,
    wanted: &str,
) -> Result<Vec<(&'v str, &'v DeValue<'v>)>, ParseError> {
    match value {
        DeValue::Table(table) => {
            Ok(table.iter().map(|(key, value)| (key.get_ref().as_ref(), value.get_ref())).collect())
        }
        _ => Err(expected(value, wanted)),
    }
}

/// Headers that decide where a message ends or whom it is for. Portico alone writes them: a route that changed
/// them would break the framing (RFC 9112, section 6).
const FRAMING: [&str; 8] =
    ["connection", "content-length", "date", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

pub(super) fn headers(value: &DeValue<'_>) -> Result<Vec<HeaderRule>, ParseError> {
    let wanted = "a table such as { X-Frame-Options = \"DENY\", Server = false }";
    let mut rules: Vec<HeaderRule> = Vec::new();
    for (key, value) in table(value, wanted)? {
        let (name, if_absent) = match key.strip_suffix('?') {
            Some(name) => (name, true),
            None => (key, false),
        };
        let action = match (value, if_absent) {
            (DeValue::Boolean(false), false) => HeaderAction::Remove,
            (DeValue::String(text), true) => HeaderAction::SetIfAbsent(text.to_string()),
            (DeValue::String(text), false) => HeaderAction::Set(text.to_string()),
            (DeValue::Integer(number), false) => HeaderAction::Set(digits(number)),
            _ => return Err(format!("{key}: write its value in quotes, or false to take it out").into()),
        };
        let rule = header_rule(name, action)?;
        if rules.iter().any(|other| other.name.eq_ignore_ascii_case(&rule.name)) {
            return Err(format!("{name} is said twice; remove one of them").into());
        }
        rules.push(rule);
    }
    Ok(rules)
}

/// A rule for the header `name`, if it is one that a route may change and its value can be sent.
pub(super) fn header_rule(name: &str, action: HeaderAction) -> Result<HeaderRule, ParseError> {
    if !is_token(name) {
        return Err(format!("{name:?} is no name of a header; write letters, digits and hyphens").into());
    }
    if FRAMING.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(format!("{name} is written by the server alone; remove it").into());
    }
    if let HeaderAction::Set(value) | HeaderAction::SetIfAbsent(value) = &action
        && !is_field_value(value)
    {
        return Err(format!("the value of {name} has characters that no header may have; remove them").into());
    }
    Ok(HeaderRule { name: name.to_owned(), action })
}

/// RFC 9110, section 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// RFC 9110, section 5.5, without obs-text: no control character but a tab between others.
pub(super) fn is_field_value(text: &str) -> bool {
    text.trim_matches([' ', '\t']) == text && text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
}

/// Longest name in the DNS, written out (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 253;

pub(super) fn host(text: &str) -> Result<RouteHost, ParseError> {
    let wrong = || -> ParseError {
        format!("{text:?} is no host; write example.com, *.example.com or an address, without port").into()
    };
    let lower = text.to_ascii_lowercase();
    let (below, name) = match lower.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, lower.as_str()),
    };
    if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: std::net::Ipv6Addr = address.parse().map_err(|_| wrong())?;
        return if below { Err(wrong()) } else { Ok(RouteHost::Exact(format!("[{address}]"))) };
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        let is_label_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.bytes().all(is_label_byte)
    };
    if name.len() > NAME_BYTES_MAX || !name.split('.').all(is_label) {
        return Err(wrong());
    }
    Ok(if below { RouteHost::Below(name.to_owned()) } else { RouteHost::Exact(name.to_owned()) })
}

pub(super) fn networks(value: &DeValue<'_>) -> Result<Vec<IpNet>, ParseError> {
    let wanted = "addresses or networks, such as [\"10.0.0.0/8\", \"::1\"]";
    // An empty list has a meaning of its own: nobody.
    if let DeValue::Array(items) = value
        && items.is_empty()
    {
        return Ok(Vec::new());
    }
    let network = |text: &String| {
        let address = || text.parse::<std::net::IpAddr>().map(|address| IpNet::from(address.to_canonical()));
        text.parse::<IpNet>().or_else(|_| address()).map_err(|_| {
            ParseError::from(format!("{text:?} is neither an address nor a network; write {wanted}"))
        })
    };
    texts(value, wanted)?.iter().map(network).collect()
}

/// The most requests of one period, and the largest burst: above it the arithmetic in nanoseconds says nothing.
const LIMIT_REQUESTS: RangeInclusive<u64> = 1..=1_000_000;

/// `"5/m burst 5"`, or a table with `rate`, `burst`, `by` and `dry_run`.
pub(super) fn limit(value: &DeValue<'_>) -> Result<RateLimit, ParseError> {
    let wanted = "a rate such as \"5/m\" or \"5/m burst 10\", or a table { rate = \"5/m\", burst = 10, by = \
                  \"header:X-Api-Key\", dry_run = true }";
    if let DeValue::String(text) = value {
        return rate(text);
    }
    let entries = table(value, wanted)?;
    let Some((_, DeValue::String(text))) = entries.iter().find(|(key, _)| *key == "rate") else {
        return Err(format!("its rate is missing; write {wanted}").into());
    };
    let mut limit = rate(text)?;
    for (key, value) in entries {
        match key {
            "rate" => {}
            "burst" => limit.burst = count(value, &LIMIT_REQUESTS, "requests")? as u32,
            "dry_run" => limit.dry_run = flag(value)?,
            "by" => limit.by = limit_key(&text_of_key(value)?)?,
            _ => return Err(format!("{key} is not known in it; write rate, burst, by or dry_run").into()),
        }
    }
    Ok(limit)
}

fn text_of_key(value: &DeValue<'_>) -> Result<String, ParseError> {
    text(value, "\"client\", or a header such as \"header:X-Api-Key\"")
}

fn limit_key(text: &str) -> Result<LimitKey, ParseError> {
    match text.split_once(':') {
        None if text == "client" => Ok(LimitKey::Client),
        Some(("header", name)) if is_token(name) => Ok(LimitKey::Header(name.to_ascii_lowercase())),
        _ => Err(format!("by: {text:?} is not known; write \"client\" or \"header:X-Api-Key\"").into()),
    }
}

/// `5/m`, or `5/m burst 10`. Without a burst, the requests of one period may come at once.
pub(super) fn rate(text: &str) -> Result<RateLimit, ParseError> {
    let wrong = || ParseError::from(format!("{text:?} is no rate; write \"5/m\", or \"5/m burst 10\""));
    let mut words = text.split_ascii_whitespace();
    let (number, unit) = words.next().and_then(|rate| rate.split_once('/')).ok_or_else(wrong)?;
    let requests = value::count(number, &LIMIT_REQUESTS, None, "requests")? as u32;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let burst = match (words.next(), words.next(), words.next()) {
        (None, ..) => requests,
        (Some("burst"), Some(number), None) => {
            value::count(number, &LIMIT_REQUESTS, None, "requests")? as u32
        }
        _ => return Err(wrong()),
    };
    let period = Duration::from_secs(seconds);
    Ok(RateLimit { requests, period, burst, by: LimitKey::Client, dry_run: false })
}
