//! The account of gunicorn's settings: each of them has its row in the table, or is a hook.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::setting::{Setting, ValueType};
use crate::settings;

/// A setting of gunicorn, from tests/gunicorn_settings.toml.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Theirs {
    #[serde(skip)]
    pub name: String,
    pub grade: char,
    pub options: Vec<String>,
    #[serde(default)]
    pub hook: bool,
}

/// All of them, by their names.
pub(crate) fn gunicorn() -> Vec<Theirs> {
    let text = include_str!("../tests/gunicorn_settings.toml");
    let all: BTreeMap<String, Theirs> = toml::from_str(text).expect("it is TOML of this shape");
    all.into_iter().map(|(name, theirs)| Theirs { name, ..theirs }).collect()
}

fn ours(theirs: &Theirs) -> Option<&'static Setting> {
    settings::all().find(|setting| match setting.gunicorn {
        Some(name) => name == theirs.name,
        None => setting.name == theirs.name,
    })
}

#[test]
fn there_are_120_of_the_known_grades() {
    let all = gunicorn();
    let count = |grade| all.iter().filter(|theirs| theirs.grade == grade).count();
    assert_eq!(['A', 'B', 'C', 'D'].map(count), [76, 23, 7, 14]);
}

#[test]
fn each_is_there_under_its_name_with_its_options() {
    let mut missing = Vec::new();
    for theirs in gunicorn() {
        let Some(setting) = ours(&theirs) else {
            missing.push(theirs.name);
            continue;
        };
        for option in &theirs.options {
            let found = match option.strip_prefix("--") {
                Some(flag) => setting.flags.contains(&flag),
                None => setting.short == option.chars().nth(1),
            };
            assert!(found, "{option} is not an option of {}", setting.name);
        }
        match (theirs.grade, &setting.value) {
            ('A' | 'B', ValueType::Ignored { .. }) => {
                assert_eq!(setting.name, "control_socket_disable", "{} must not be ignored", setting.name);
            }
            (_, ValueType::Ignored { why, .. } | ValueType::Refused { why, .. }) => {
                assert!(!why.is_empty(), "{} says nothing of what to do", setting.name);
            }
            _ => {}
        }
    }
    assert!(missing.is_empty(), "missing of gunicorn's settings: {missing:?}");
}

#[test]
fn the_hooks_are_gunicorns() {
    let theirs: Vec<Theirs> = gunicorn();
    for hook in settings::all().map(|setting| setting.name).filter(|name| settings::is_hook(name)) {
        assert!(theirs.iter().any(|theirs| theirs.hook && theirs.name == hook), "{hook}");
    }
}
