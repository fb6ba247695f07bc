//! Settings in TOML: portico.toml, or the table `tool.portico` of pyproject.toml. Pure text to what it says.
//!
//! Types are taken strictly: a number in quotes where a number belongs is a mistake, as is `true` where a time
//! belongs. What can be written in several ways, as a size can, may be a number or a string.

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use crate::error::{ConfigError, ParseError};
use crate::route_table;
use crate::setting::{Setting, ValueType};
use crate::settings;
use crate::value::escaped;

/// The entry of a TOML file for one setting.
pub(crate) struct TomlEntry {
    pub setting: &'static Setting,
    pub texts: Vec<String>,
    pub position: Position,
    /// Of tables, the line of each.
    pub lines: Vec<u32>,
}

/// A place in a file, its line and column; both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub line: u32,
    pub column: u32,
}

/// The table of pyproject.toml that is ours.
const TABLE: [&str; 2] = ["tool", "portico"];

/// A file being read, for the sake of its errors.
struct TomlSource<'a> {
    path: &'a str,
    text: &'a str,
}

/// What `text`, the content of the file `path`, says: all of it, or in a pyproject.toml its table for us; `None`
/// where it has no such table.
///
/// # Errors
/// One line with the place: it is no TOML, a key is no setting, or a value is of a wrong type.
pub(crate) fn read(path: &str, text: &str, pyproject: bool) -> Result<Option<Vec<TomlEntry>>, ConfigError> {
    let file = TomlSource { path, text };
    let root = DeTable::parse(text).map_err(|error| {
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        file.error(error.span().unwrap_or_default(), &message)
    })?;
    let mut table = root.get_ref();
    for name in TABLE.iter().filter(|_| pyproject) {
        let Some(value) = table.get(*name) else { return Ok(None) };
        let DeValue::Table(inner) = value.get_ref() else {
            return Err(file.error(value.span(), &format!("{name} is no table; write [tool.portico]")));
        };
        table = inner;
    }
    let mut lines: Vec<TomlEntry> = Vec::new();
    // The table is sorted by its keys; a file is read from its top.
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let name: &str = key.get_ref();
        let setting = settings::called(name).ok_or_else(|| file.error(key.span(), &unknown(name)))?;
        if *setting == settings::CONFIG {
            let problem = "config names the configuration file and cannot stand in it; remove it";
            return Err(file.error(key.span(), problem));
        }
        if lines.iter().any(|line| line.setting == setting) {
            let problem = format!("{name} is said twice, also by its other name; remove one of them");
            return Err(file.error(key.span(), &problem));
        }
        let (texts, of_tables) = match setting.value {
            ValueType::Tables { .. } => file.routes(name, value)?,
            _ => (
                texts(setting, value.get_ref()).map_err(|expected| {
                    file.error(value.span(), &wrong_type(name, value.get_ref(), &expected))
                })?,
                Vec::new(),
            ),
        };
        lines.push(TomlEntry { setting, texts, position: file.position(key.span()), lines: of_tables });
    }
    Ok(Some(lines))
}

fn unknown(name: &str) -> String {
    if TABLE.contains(&name) {
        return format!("{name} is not a setting; write the settings at the top, in no table");
    }
    if let Some(problem) = route_table::later_setting(name) {
        return problem;
    }
    match settings::likely(name) {
        Some(likely) => format!("{name} is not a setting; did you mean {likely}?"),
        None => format!("{name} is not a setting; `portico --help` lists them"),
    }
}

fn wrong_type(name: &str, value: &DeValue<'_>, expected: &ParseError) -> String {
    format!("{name}: this is {}; write {expected}", with_article(value.type_str()))
}

fn with_article(kind: &str) -> String {
    format!("{} {kind}", if kind.starts_with(['a', 'i']) { "an" } else { "a" })
}

/// The texts that the command line would have for `value`.
///
/// # Errors
/// What the setting takes instead.
fn texts(setting: &Setting, value: &DeValue<'_>) -> Result<Vec<String>, ParseError> {
    if setting.repeatable() {
        return items(setting, value);
    }
    let expected = |of: &str| Err(of.into());
    let text = match (&setting.value, value) {
        (ValueType::Switch { .. }, DeValue::Boolean(on)) => on.to_string(),
        (ValueType::Switch { .. }, _) => return expected("true or false"),
        (ValueType::Choice { alone: Some(_), .. }, DeValue::Boolean(on)) => on.to_string(),
        (ValueType::Count { .. }, DeValue::Integer(number)) => integer(number),
        (ValueType::Count { .. }, _) => return expected("a whole number"),
        (ValueType::Mode { .. }, DeValue::Integer(number)) if number.radix() == 8 => {
            number.as_str().to_owned()
        }
        (ValueType::Mode { .. }, DeValue::String(text)) => text.to_string(),
        (ValueType::Mode { .. }, _) => return expected("a mode in octal, such as \"660\" or 0o660"),
        (ValueType::Size { .. }, DeValue::Integer(number)) => integer(number),
        (ValueType::Size { .. }, DeValue::String(text)) => text.to_string(),
        (ValueType::Size { .. }, _) => return expected("a number of bytes, or a string such as \"64k\""),
        (ValueType::Time { .. }, DeValue::Integer(number)) => integer(number),
        (ValueType::Time { .. }, DeValue::Float(number)) => number.as_str().to_owned(),
        (ValueType::Time { .. }, DeValue::String(text)) => text.to_string(),
        (ValueType::Time { .. }, _) => return expected("a number of seconds, or a string such as \"500ms\""),
        (ValueType::Form { .. }, DeValue::Integer(number)) => integer(number),
        (ValueType::Form { .. }, DeValue::Float(number)) => number.as_str().to_owned(),
        (
            ValueType::Choice { .. } | ValueType::Text { .. } | ValueType::Form { .. },
            DeValue::String(text),
        ) => text.to_string(),
        _ => return Err(format!("a string: {}", setting.value.describe()).into()),
    };
    Ok(vec![text])
}

/// The items of a list: of an array, of a table `key = value`, or a string as the command line has it.
fn items(setting: &Setting, value: &DeValue<'_>) -> Result<Vec<String>, ParseError> {
    let expected = || ParseError::from("a string, or an array of strings");
    let item = |text: String| if setting.is_list() { escaped(&text) } else { text };
    let empty = || setting.empty_list.map(str::to_owned).into_iter().collect();
    match value {
        DeValue::Array(items) if items.is_empty() => Ok(empty()),
        DeValue::Table(table) if table.is_empty() => Ok(empty()),
        DeValue::Array(items) => {
            items.iter().map(|value| scalar(setting, value).map(item).ok_or_else(expected)).collect()
        }
        DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| {
                let value = scalar(setting, value).ok_or_else(expected)?;
                Ok(item(format!("{}={value}", key.get_ref())))
            })
            .collect(),
        DeValue::String(text) => Ok(vec![text.to_string()]),
        // What is ignored or refused is so with a value of any type.
        DeValue::Integer(number) if !setting.is_real() => Ok(vec![integer(number)]),
        DeValue::Boolean(on) if !setting.is_real() => Ok(vec![on.to_string()]),
        _ => Err(expected()),
    }
}

fn scalar(setting: &Setting, value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(integer(number)),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        _ => (!setting.is_real()).then(String::new),
    }
}

/// A value without the places at which it stands.
fn plain(value: &DeValue<'_>) -> toml::Value {
    match value {
        DeValue::String(text) => text.to_string().into(),
        DeValue::Integer(number) => integer(number).parse::<i64>().unwrap_or(i64::MAX).into(),
        DeValue::Float(number) => number.as_str().parse::<f64>().unwrap_or(f64::NAN).into(),
        DeValue::Boolean(on) => (*on).into(),
        DeValue::Datetime(time) => (*time).into(),
        DeValue::Array(items) => items.iter().map(|item| plain(item.get_ref())).collect::<Vec<_>>().into(),
        DeValue::Table(table) => {
            let entries =
                table.iter().map(|(key, value)| (key.get_ref().to_string(), plain(value.get_ref())));
            toml::Value::Table(entries.collect())
        }
    }
}

/// As Python writes it: the table's numbers are decimal but for modes.
fn integer(number: &DeInteger<'_>) -> String {
    match number.radix() {
        10 => number.as_str().to_owned(),
        // One that is too large stays as it is, and is refused for that.
        radix => i128::from_str_radix(number.as_str(), radix)
            .map_or_else(|_| number.as_str().to_owned(), |number| number.to_string()),
    }
}

impl TomlSource<'_> {
    fn error(&self, span: Range<usize>, problem: &str) -> ConfigError {
        ConfigError::new(format!("{}:{}: {problem}", self.path, self.position(span)))
    }

    /// The routes of `value` as texts, each with its line.
    fn routes(
        &self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(Vec<String>, Vec<u32>), ConfigError> {
        let expected = || {
            let example = ParseError::from(format!("[[{name}]] and its keys below it"));
            self.error(value.span(), &wrong_type(name, value.get_ref(), &example))
        };
        let (mut texts, mut lines) = (Vec::new(), Vec::new());
        let DeValue::Array(items) = value.get_ref() else { return Err(expected()) };
        for item in items.iter() {
            let DeValue::Table(table) = item.get_ref() else { return Err(expected()) };
            // Here it is known where each key stands.
            route_table::read(table, item.span())
                .map_err(|error| self.error(error.span, &format!("{name}: {}", error.problem)))?;
            texts.push(plain(item.get_ref()).to_string());
            lines.push(self.position(item.span()).line);
        }
        Ok((texts, lines))
    }

    fn position(&self, span: Range<usize>) -> Position {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Position { line: line as u32, column: column as u32 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<(&'static str, Vec<String>, String)> {
        let lines = read("portico.toml", text, false).unwrap().unwrap();
        lines.into_iter().map(|line| (line.setting.name, line.texts, line.position.to_string())).collect()
    }

    fn refusal(text: &str) -> String {
        let error = read("portico.toml", text, false).err().unwrap();
        assert_eq!(error.exit_status(), 1);
        assert!(!error.to_string().contains('\n'), "{error}");
        error.to_string()
    }

    #[test]
    fn each_type_as_it_is_written() {
        for (line, name, texts) in [
            ("threads = 8", "threads", &["8"][..]),
            ("threads = 1_0", "threads", &["10"]),
            ("threads = 0x10", "threads", &["16"]),
            ("sendfile = false", "sendfile", &["false"]),
            ("preload = true", "preload", &["true"]),
            ("preload = \"strict\"", "preload", &["strict"]),
            ("keep_alive = 1.5", "keep_alive", &["1.5"]),
            ("keepalive = \"2m\"", "keep_alive", &["2m"]),
            ("request_buffer = \"64k\"", "request_buffer", &["64k"]),
            ("request_buffer = 1024", "request_buffer", &["1024"]),
            ("socket_mode = 0o660", "socket_mode", &["660"]),
            ("socket_mode = \"660\"", "socket_mode", &["660"]),
            ("workers = 4", "workers", &["4"]),
            ("workers = \"2..8\"", "workers", &["2..8"]),
            ("log_level = \"debug\"", "log_level", &["debug"]),
            ("loglevel = \"debug\"", "log_level", &["debug"]),
            ("wsgi_app = 'a:b'", "app", &["a:b"]),
            ("bind = \"fd://3, fd://4\"", "bind", &["fd://3, fd://4"]),
            ("bind = [\"fd://3\",\n \"fd://4\"]", "bind", &["fd://3", "fd://4"]),
            ("bind = [\"unix:/a,b\", \"fd://4\"]", "bind", &[r"unix:/a\,b", "fd://4"]),
            ("timeout_path = { \"/a,b\" = 7 }", "timeout_path", &[r"/a\,b=7"]),
            ("forwarded_allow_ips = []", "forwarded_allow_ips", &[""]),
            ("forwarded_headers = []", "forwarded_headers", &["none"]),
            ("secure_scheme_headers = {}", "secure_scheme_headers", &["none"]),
            ("bind = []", "bind", &[]),
            ("raw_env = [\"A=1,2\"]", "raw_env", &["A=1,2"]),
            ("timeout_path = { \"/a\" = \"5m\", \"/b\" = 7 }", "timeout_path", &["/a=5m", "/b=7"]),
            ("[timeout_path]\n\"/a\" = 0.5", "timeout_path", &["/a=0.5"]),
            ("proxy_protocol = false", "proxy_protocol", &["false"]),
            ("dirty_workers = 0", "dirty_workers", &["0"]),
        ] {
            let texts: Vec<String> = texts.iter().map(|text| text.to_string()).collect();
            let [found] = &said(line)[..] else { panic!("{line}") };
            assert_eq!((found.0, &found.1), (name, &texts), "{line}");
        }
    }

    #[test]
    fn places_are_lines_and_columns() {
        let lines = said("# é\nthreads = 8\n\n  é_ = 1".replace("é_", "max_queue").as_str());
        assert_eq!(lines[0].2, "2:1");
        assert_eq!(lines[1].2, "4:3");
    }

    #[test]
    fn a_value_of_another_type_is_refused_at_its_place() {
        for (line, expected) in [
            ("threads = true", "1:11: threads: this is a boolean; write a whole number"),
            ("threads = \"8\"", "1:11: threads: this is a string; write a whole number"),
            ("threads = 8.0", "1:11: threads: this is a float; write a whole number"),
            ("sendfile = 1", "1:12: sendfile: this is an integer; write true or false"),
            ("keep_alive = true", "1:14: keep_alive: this is a boolean; write a number of seconds, or"),
            ("socket_mode = 660", "1:15: socket_mode: this is an integer; write a mode in octal"),
            ("log_level = 3", "1:13: log_level: this is an integer; write a string: one of debug,"),
            ("app = [\"a\"]", "1:7: app: this is an array; write a string: text"),
            ("bind = 8000", "1:8: bind: this is an integer; write a string, or an array of strings"),
            ("bind = [true]", "1:8: bind: this is an array; write a string, or an array of strings"),
            ("workers = 2024-01-01", "1:11: workers: this is a datetime; write a string: number of"),
        ] {
            let refused = refusal(line);
            assert!(refused.starts_with(&format!("portico.toml:{expected}")), "{line}: {refused}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_with_a_hint() {
        assert_eq!(
            refusal("threads = 1\nthraeds = 1"),
            "portico.toml:2:1: thraeds is not a setting; did you mean threads?"
        );
        assert_eq!(
            refusal("keep-alive = 1"),
            "portico.toml:1:1: keep-alive is not a setting; did you mean keep_alive?"
        );
        assert!(refusal("[zoo]\na = 1").ends_with("1:2: zoo is not a setting; `portico --help` lists them"));
        for text in ["[tool.portico]\nthreads = 1", "[portico]\nthreads = 1"] {
            assert!(refusal(text).ends_with("write the settings at the top, in no table"), "{text}");
        }
        assert!(refusal("config = 'a'").contains("cannot stand in it"));
        assert!(
            refusal("keepalive = 1\nkeep_alive = 1")
                .starts_with("portico.toml:2:1: keep_alive is said twice")
        );
    }

    #[test]
    fn routes_are_tables_with_their_lines() {
        let text = "threads = 1\n\n[[route]]\npath = '/a'\nrespond = 204\n[[route]]\napp = true\n";
        let entries = read("portico.toml", text, false).unwrap().unwrap();
        assert_eq!(entries[1].texts, ["{ path = \"/a\", respond = 204 }", "{ app = true }"]);
        assert_eq!(entries[1].lines, [3, 6]);
        for (text, expected) in [
            ("[[route]]\npth = 1", "2:1: route: pth is no key of a route; did you mean path?"),
            ("[[route]]\npath = '/a'\nrespond = 'x'", "3:11: route: respond: this is of type string"),
            ("[[route]]\npath = '/a'\nproxy = 'x'", "3:1: route: proxy is not in this version"),
            ("[[route]]\npath = '/a'", "1:1: route: this route says nothing"),
            ("[route]\npath = '/a'", "1:1: route: this is a table; write [[route]] and its keys below it"),
            ("route = 'x'", "1:9: route: this is a string; write [[route]]"),
            ("acme = 'x'", "1:1: acme is not in this version of Portico; remove it"),
        ] {
            assert!(refusal(text).starts_with(&format!("portico.toml:{expected}")), "{}", refusal(text));
        }
    }

    #[test]
    fn what_is_no_toml_is_told_in_a_line() {
        for text in
            ["threads = ", "threads", "threads = 1 2", "threads = 1\nthreads = 2", "[a\n", "bind = [\n"]
        {
            assert!(refusal(text).starts_with("portico.toml:"), "{text}");
        }
        assert!(refusal("a = 1\nthreads = \n").starts_with("portico.toml:2:"));
    }

    #[test]
    fn pyproject_has_a_table_for_us() {
        let lines = |text| read("pyproject.toml", text, true).map(|lines| lines.map(|lines| lines.len()));
        assert_eq!(lines("[project]\nname = 'x'\n"), Ok(None));
        assert_eq!(lines("[tool.black]\nx = 1"), Ok(None));
        assert_eq!(lines("[tool.portico]\n"), Ok(Some(0)));
        assert_eq!(lines("[tool.portico]\nthreads = 8\n[tool.ruff]\nx = 1"), Ok(Some(1)));
        assert_eq!(lines("[tool]\nportico.threads = 8"), Ok(Some(1)));
        assert!(lines("[tool]\nportico = 8").is_err());
    }
}
