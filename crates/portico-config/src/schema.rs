//! The JSON Schema of portico.toml, from the table of settings: editors complete and check with it.

use serde_json::{Map, Value as Json, json};

use crate::route_table::{KEYS, RouteKey};
use crate::setting::{Setting, ValueType};
use crate::settings;
use crate::typed::typed;

/// The schema, draft 2020-12.
pub fn schema() -> String {
    let mut properties = Map::new();
    for setting in settings::all().filter(|setting| setting.is_real() && **setting != settings::CONFIG) {
        let mut property = of(setting);
        if let (Some(default), Some(fields)) = (default(setting), property.as_object_mut()) {
            fields.insert("default".to_owned(), default);
        }
        properties.insert(setting.name.to_owned(), property);
        if let Some(name) = setting.gunicorn {
            let path = format!("#/properties/{}", setting.name);
            let description = format!("{} as gunicorn.conf.py calls it", setting.name);
            properties.insert(name.to_owned(), json!({"$ref": path, "description": description}));
        }
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "portico.toml",
        "description": "Settings of Portico; in pyproject.toml the table tool.portico has the same",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    format!("{schema:#}\n")
}

/// Its default, where that does not depend on the machine.
fn default(setting: &Setting) -> Option<Json> {
    if setting.default.is_empty() {
        return None;
    }
    serde_json::to_value(typed(setting, &[setting.default.to_owned()])?).ok()
}

fn of(setting: &Setting) -> Json {
    let mut schema = kind(setting);
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("title".to_owned(), json!(setting.help));
        let details = setting.details.replace("\n\n", "\n");
        fields.insert("description".to_owned(), json!(format!("{details} [{}]", setting.value.describe())));
    }
    schema
}

/// Routes: an array of tables with the keys of one.
fn routes() -> Json {
    let of = |key: &RouteKey| (key.name.to_owned(), json!({"type": key.types, "description": key.help}));
    let properties: Map<String, Json> = KEYS.iter().map(of).collect();
    json!({"type": "array", "items": {
        "type": "object", "additionalProperties": false, "properties": properties,
    }})
}

fn kind(setting: &Setting) -> Json {
    if setting.repeatable() && !matches!(setting.value, ValueType::Tables { .. }) {
        let scalar = json!({"type": ["string", "number"]});
        return json!({"anyOf": [
            {"type": "string"},
            {"type": "array", "items": scalar},
            {"type": "object", "additionalProperties": scalar},
        ]});
    }
    match &setting.value {
        ValueType::Tables { .. } => routes(),
        ValueType::Switch { .. } => json!({"type": "boolean"}),
        ValueType::Count { range, zero, .. } => {
            let least = if zero.is_some() { 0 } else { *range.start() };
            json!({"type": "integer", "minimum": least, "maximum": range.end()})
        }
        ValueType::Size { range, .. } => json!({"anyOf": [
            {"type": "integer", "minimum": 0, "maximum": range.end()},
            {"type": "string", "pattern": "^[0-9]+[kmgKMG]?$"},
        ]}),
        ValueType::Time { range, .. } => json!({"anyOf": [
            {"type": "number", "minimum": 0, "maximum": range.end().as_secs()},
            {"type": "string", "pattern": "^[0-9.]+(ms|s|m|h)?$"},
        ]}),
        ValueType::Mode { .. } => json!({"anyOf": [
            {"type": "string", "pattern": "^(0o)?[0-7]{1,4}$"},
            {"type": "integer", "minimum": 0, "maximum": 0o777},
        ]}),
        ValueType::Choice { of, alone } => {
            let words = of.iter().map(|(word, _)| json!(word));
            let booleans = alone.iter().flat_map(|_| [json!(true), json!(false)]);
            json!({"enum": words.chain(booleans).collect::<Vec<_>>()})
        }
        ValueType::Form { .. } => json!({"type": ["string", "number"]}),
        _ => json!({"type": "string"}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_in_the_repository_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/portico.schema.json");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            text == schema(),
            "docs/reference/portico.schema.json is out of date: run `make docs-settings`"
        );
    }

    #[test]
    fn it_has_every_setting() {
        let schema: Json = serde_json::from_str(&schema()).unwrap();
        for setting in settings::all().filter(|setting| setting.is_real() && **setting != settings::CONFIG) {
            let property = &schema["properties"][setting.name];
            assert!(property["title"].is_string(), "{}", setting.name);
            if let Some(name) = setting.gunicorn {
                assert!(schema["properties"][name]["$ref"].is_string(), "{name}");
            }
        }
        assert_eq!(schema["properties"]["threads"]["default"], json!(4));
        assert_eq!(schema["properties"]["sendfile"]["type"], json!("boolean"));
        assert_eq!(schema["properties"]["preload"]["enum"], json!(["off", "on", "strict", true, false]));
    }
}
