//! A setting's texts as the value that a configuration file in TOML has for them: the way back from `toml_file`.

use toml::Value as Toml;

use crate::setting::{Setting, ValueType};
use crate::value::{boolean, items};

/// What stands for `texts`; `None` for none.
pub(crate) fn typed(setting: &Setting, texts: &[String]) -> Option<Toml> {
    let last = texts.last()?;
    let string = || Toml::String(last.clone());
    Some(match &setting.value {
        ValueType::List { .. } => {
            let items = texts.iter().flat_map(|text| items(text));
            Toml::Array(items.filter(|item| !item.is_empty()).map(Toml::from).collect())
        }
        ValueType::Ignored { .. } | ValueType::Refused { .. } => string(),
        ValueType::Tables { .. } => Toml::Array(texts.iter().flat_map(|text| tables(text)).collect()),
        ValueType::Texts { .. } => Toml::Array(texts.iter().map(|text| Toml::from(text.as_str())).collect()),
        ValueType::Switch { .. } => boolean(last).map_or_else(|_| string(), Toml::Boolean),
        ValueType::Choice { alone: Some(_), .. } => boolean(last).map_or_else(|_| string(), Toml::Boolean),
        ValueType::Count { .. } | ValueType::Size { .. } | ValueType::Form { .. } => {
            number(last).unwrap_or_else(string)
        }
        ValueType::Time { .. } => number(last).or_else(|| fraction(last)).unwrap_or_else(string),
        ValueType::Choice { .. } | ValueType::Mode { .. } | ValueType::Text { .. } => string(),
    })
}

/// The tables that a text has: one, or an array of them.
fn tables(text: &str) -> Vec<Toml> {
    let parsed = toml::from_str::<toml::Table>(&format!("tables = {text}"));
    match parsed.ok().and_then(|mut document| document.remove("tables")) {
        Some(Toml::Array(tables)) => tables,
        table => table.into_iter().collect(),
    }
}

/// A whole number that reads the same as a number; `022` does not.
fn number(text: &str) -> Option<Toml> {
    text.parse().ok().filter(|number: &i64| number.to_string() == text).map(Toml::Integer)
}

fn fraction(text: &str) -> Option<Toml> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|_| plain && text.contains('.')).map(Toml::Float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{settings, toml_file};

    #[test]
    fn what_is_written_reads_back_as_the_same() {
        for (name, texts, written) in [
            ("threads", &["8"][..], "8"),
            ("sendfile", &["no"], "false"),
            ("preload", &["on"], "true"),
            ("preload", &["strict"], "\"strict\""),
            ("keep_alive", &["75"], "75"),
            ("keep_alive", &["1.5"], "1.5"),
            ("keep_alive", &["500ms"], "\"500ms\""),
            ("socket_mode", &["660"], "\"660\""),
            ("workers", &["2..8"], "\"2..8\""),
            ("workers", &["4"], "4"),
            ("request_buffer", &["64k"], "\"64k\""),
            ("log_level", &["debug"], "\"debug\""),
            ("bind", &["fd://3, fd://4", "fd://5"], "[\"fd://3\", \"fd://4\", \"fd://5\"]"),
            ("bind", &[r"unix:/a\,b, fd://4"], "[\"unix:/a,b\", \"fd://4\"]"),
            ("app", &["a\"b:c"], "'a\"b:c'"),
        ] {
            let setting = settings::named(name).unwrap();
            let texts: Vec<String> = texts.iter().map(|text| text.to_string()).collect();
            let value = typed(setting, &texts).unwrap();
            assert_eq!(value.to_string(), written, "{name}");
            let read = toml_file::read("", &format!("{name} = {value}"), false).unwrap().unwrap();
            assert_eq!(typed(setting, &read[0].texts), Some(value), "{name}");
        }
        assert_eq!(typed(settings::named("app").unwrap(), &[]), None);
    }

    #[test]
    fn every_default_has_its_type() {
        for setting in settings::all().filter(|setting| !setting.default.is_empty()) {
            let value = typed(setting, &[setting.default.to_owned()]).unwrap();
            let line = format!("{} = {value}", setting.name);
            assert!(toml_file::read("", &line, false).is_ok(), "{line}");
        }
    }
}
