//! `portico config`: each effective value, who set it and what a change of it needs, as TOML that a
//! configuration file can have, or as JSON.
//! What may be secret is not shown.

use std::fmt::Write;

use serde_json::{Map, Value as Json, json};
use toml::Value as Toml;

use crate::conceal::concealed;
use crate::raw::SettingSource;
use crate::resolution::{Effective, Resolved};
use crate::setting::{Area, Setting};
use crate::settings;
use crate::typed::typed;

/// Columns of a value, beyond which who set it is not lined up.
const VALUE_COLUMNS: usize = 32;

impl Resolved {
    /// Each effective value and who set it: lines of TOML, those that have no value commented out.
    pub fn show(&self) -> String {
        let shown: Vec<(&Setting, &Effective)> = self.shown().collect();
        let names = shown.iter().map(|(setting, _)| setting.name.len()).max().unwrap_or_default();
        let mut page = String::new();
        let mut area: Option<Area> = None;
        for (setting, effective) in shown {
            if area.replace(setting.area) != Some(setting.area) {
                let apart = if page.is_empty() { "" } else { "\n" };
                push(&mut page, format_args!("{apart}# {}\n", setting.area));
            }
            let Effective { texts, source, .. } = effective;
            let name = setting.name;
            let note = setting.applies.note().map_or(String::new(), |note| format!("; {note}"));
            match shown_value(setting, texts) {
                Some(value) if *setting == settings::CONFIG => {
                    // A file cannot name another.
                    let line = format!("# {name} = {value}");
                    push(&mut page, format_args!("{line:<0$} # {source}{note}\n", names + 3 + VALUE_COLUMNS));
                }
                Some(value) => {
                    let value = value.to_string();
                    push(
                        &mut page,
                        format_args!("{name:<names$} = {value:<VALUE_COLUMNS$} # {source}{note}\n"),
                    );
                }
                None => {
                    let line = format!("# {name}");
                    push(&mut page, format_args!("{line:<0$} # {source}{note}\n", names + 3 + VALUE_COLUMNS));
                }
            }
        }
        page
    }

    /// The same as a JSON object: of each setting its value, `null` where it has none, and its source.
    pub fn show_json(&self) -> String {
        let mut all = Map::new();
        for (setting, effective) in self.shown() {
            let mut of_one = source(&effective.source);
            let value = shown_value(setting, &effective.texts).map_or(Json::Null, |value| json(&value));
            of_one.insert("value".to_owned(), value);
            of_one.insert("applies".to_owned(), json!(setting.applies.word()));
            all.insert(setting.name.to_owned(), Json::Object(of_one));
        }
        format!("{:#}", Json::Object(all))
    }

    /// What somebody has set, as a JSON array: of each setting its name, its value and who has set it, as texts.
    pub fn show_set_json(&self) -> String {
        let is_set = |shown: &(&Setting, &Effective)| shown.1.source != SettingSource::Default;
        let all = self.shown().filter(is_set).map(|(setting, effective)| {
            let value =
                shown_value(setting, &effective.texts).map_or_else(String::new, |value| value.to_string());
            json!({"name": setting.name, "value": value, "origin": effective.source.to_string()})
        });
        Json::Array(all.collect()).to_string()
    }

    /// All but what does nothing and what nobody has asked for.
    fn shown(&self) -> impl Iterator<Item = (&'static Setting, &Effective)> {
        self.effective.iter().filter_map(|effective| {
            let setting = effective.setting;
            let always = setting.is_real() && setting.area != Area::Hooks;
            (always || effective.source != SettingSource::Default).then_some((setting, effective))
        })
    }
}

/// What stands for `texts`, with what may be secret concealed.
fn shown_value(setting: &Setting, texts: &[String]) -> Option<Toml> {
    let texts: Vec<String> = texts.iter().map(|text| concealed(setting, text)).collect();
    typed(setting, &texts)
}

fn source(source: &SettingSource) -> Map<String, Json> {
    let fields = match source {
        SettingSource::Default => json!({"source": "default"}),
        SettingSource::Platform(variable) => json!({"source": "environment", "variable": variable}),
        SettingSource::Preset(word) => json!({"source": "preset", "behind": word}),
        SettingSource::File { path, line, column } => {
            json!({"source": "file", "file": path, "line": line, "column": column})
        }
        SettingSource::Environment(variable) => json!({"source": "environment", "variable": variable}),
        SettingSource::CommandArguments(variable) => json!({"source": "arguments", "variable": variable}),
        SettingSource::Keyword => json!({"source": "keyword"}),
        SettingSource::CommandLine => json!({"source": "command line"}),
    };
    match fields {
        Json::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn json(value: &Toml) -> Json {
    match value {
        Toml::Boolean(on) => json!(on),
        Toml::Integer(number) => json!(number),
        Toml::Float(number) => json!(number),
        Toml::Array(items) => items.iter().map(json).collect(),
        Toml::Table(table) => {
            table.iter().map(|(key, value)| (key.clone(), json(value))).collect::<Map<_, _>>().into()
        }
        Toml::String(text) => json!(text),
        other => json!(other.to_string()),
    }
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = page.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::resolved;

    const ENV: [(&str, &str); 3] =
        [("PORTICO_THREADS", "2"), ("WEB_CONCURRENCY", "3"), ("GUNICORN_CMD_ARGS", "--keep-alive 500ms")];

    #[test]
    fn what_is_set_is_told_with_its_source_and_without_secrets() {
        let args = ["-w", "2", "--env", "API_TOKEN=hunter2", "a:b"];
        let told: Json = serde_json::from_str(&resolved(&ENV, &args).show_set_json()).unwrap();
        let of = |name: &str| told.as_array().unwrap().iter().find(|one| one["name"] == name).cloned();
        assert_eq!(of("workers"), Some(json!({"name": "workers", "value": "2", "origin": "command line"})));
        assert_eq!(of("threads").unwrap()["origin"], "PORTICO_THREADS");
        assert_eq!(of("daemon"), None, "nobody has set it");
        assert!(!told.to_string().contains("hunter2"), "{told}");
    }

    #[test]
    fn each_value_has_its_source() {
        let page = resolved(&ENV, &["-b", "fd://3", "-b", "fd://4", "--spew", "a:b"]).show();
        let has = |line: &str| {
            let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(page.lines().any(|other| squeezed(other) == line), "{line} in\n{page}");
        };
        has("app = \"a:b\" # command line");
        has("threads = 2 # PORTICO_THREADS; more of them need an upgrade");
        has("workers = 3 # WEB_CONCURRENCY");
        has("keep_alive = \"500ms\" # GUNICORN_CMD_ARGS");
        has("bind = [\"fd://3\", \"fd://4\"] # command line; changes need an upgrade");
        has("daemon = false # default; changes need a restart");
        has("spew = \"true\" # command line");
        has("sendfile = true # default");
        has("# chdir # default");
        assert!(!page.contains("dirty_apps"));
    }

    #[test]
    fn what_is_shown_is_a_configuration_file() {
        let shown = resolved(&ENV, &["a:b", "-b", "fd://3", "-c", "a.toml"]).show();
        let lines = crate::toml_file::read("", &shown, false).unwrap().unwrap();
        assert!(lines.len() > 30);
    }

    #[test]
    fn json_has_types_and_places() {
        let shown: Json = serde_json::from_str(&resolved(&ENV, &["-b", "fd://3"]).show_json()).unwrap();
        assert_eq!(
            shown["threads"],
            json!({"value": 2, "source": "environment", "variable": "PORTICO_THREADS", "applies": "upgrade"})
        );
        assert_eq!(
            shown["bind"],
            json!({"value": ["fd://3"], "source": "command line", "applies": "upgrade"})
        );
        assert_eq!(shown["app"], json!({"value": null, "source": "default", "applies": "reload"}));
        assert_eq!(shown["sendfile"]["value"], json!(true));
        let route = [("PORTICO_ROUTE", "{ path = '/a', respond = 204 }")];
        let shown: Json = serde_json::from_str(&resolved(&route, &[]).show_json()).unwrap();
        assert_eq!(shown["route"]["value"], json!([{"path": "/a", "respond": 204}]));
    }
}
