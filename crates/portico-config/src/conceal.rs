//! What is not shown of values: what is or may be secret stands as `…` where settings are printed or logged.

use std::borrow::Cow;

use serde_json::Value as Json;

use crate::setting::{Setting, ValueType};
use crate::settings;

/// What stands for a value.
pub(crate) const CONCEALED: &str = "…";

/// In names of what is secret.
const SECRET_WORDS: [&str; 9] =
    ["secret", "key", "token", "password", "passwd", "passphrase", "pwd", "credential", "dsn"];

/// At the end of names of what only says where a secret is.
const PLACES: [&str; 4] = ["file", "path", "folder", "dir"];

/// Whether what goes by `name` is secret, as far as a name tells.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word)) && !PLACES.iter().any(|place| name.ends_with(place))
}

/// `text`, one of the values of `setting`, as it may be shown.
pub(crate) fn concealed(setting: &Setting, text: &str) -> String {
    if is_secret(setting.name) {
        return CONCEALED.to_owned();
    }
    if *setting == settings::APP {
        return conceal_arguments(text).into_owned();
    }
    if *setting == settings::ROUTE {
        return conceal_route(text);
    }
    match (&setting.value, text.split_once('=')) {
        // The environment is where applications are told their secrets, whatever the names.
        (ValueType::Texts { .. }, Some((name, _))) if *setting == settings::RAW_ENV || is_secret(name) => {
            format!("{name}={CONCEALED}")
        }
        (ValueType::Texts { .. }, None) if *setting == settings::RAW_ENV => CONCEALED.to_owned(),
        _ => conceal_within(text),
    }
}

/// Routes without the values of the headers that the application gets: what is between it and the server may be a
/// secret of both.
fn conceal_route(text: &str) -> String {
    let document = toml::from_str::<toml::Table>(&format!("route = {text}"));
    let Some(mut routes) = document.ok().and_then(|mut document| document.remove("route")) else {
        return text.to_owned();
    };
    let conceal_one = |route: &mut toml::Value| {
        let headers = route.get_mut("request_headers").and_then(toml::Value::as_table_mut);
        for (_, value) in headers.into_iter().flatten().filter(|(_, value)| value.is_str()) {
            *value = CONCEALED.into();
        }
    };
    match &mut routes {
        toml::Value::Array(several) => several.iter_mut().for_each(conceal_one),
        one => conceal_one(one),
    }
    routes.to_string()
}

/// The target of an application without the arguments of a factory: `app:create_app(…)`.
pub fn conceal_arguments(target: &str) -> Cow<'_, str> {
    match target.split_once('(') {
        Some((factory, arguments)) if !matches!(arguments.trim(), ")" | "") => {
            format!("{factory}({CONCEALED})").into()
        }
        _ => target.into(),
    }
}

/// `NAME=VALUE` without the value: it was meant for `--env`, most likely.
pub(crate) fn conceal_assigned(text: &str) -> Cow<'_, str> {
    match text.split_once('=') {
        Some((name, _)) => format!("{name}={CONCEALED}").into(),
        None => text.into(),
    }
}

/// Conceals the secret members of JSON, and the passwords in URLs.
fn conceal_within(text: &str) -> String {
    match serde_json::from_str::<Json>(text) {
        Ok(mut json @ (Json::Object(_) | Json::Array(_))) => {
            conceal_members(&mut json);
            json.to_string()
        }
        _ => conceal_passwords(text),
    }
}

fn conceal_members(json: &mut Json) {
    match json {
        Json::Object(members) => {
            for (name, value) in members {
                match is_secret(name) {
                    true => *value = CONCEALED.into(),
                    false => conceal_members(value),
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(conceal_members),
        Json::String(text) => *text = conceal_passwords(text),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

/// `scheme://user:…@host` for the URLs in `text`. Without a colon what stands before the `@` may be a token.
fn conceal_passwords(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let ends = |letter: char| letter.is_whitespace() || "/?#\"'<>".contains(letter);
        let (authority, behind) = after.split_at(after.find(ends).unwrap_or(after.len()));
        match authority.rsplit_once('@') {
            Some((user, host)) => {
                let user = user.split_once(':').map_or("", |(user, _)| user);
                let colon = if user.is_empty() { "" } else { ":" };
                shown.push_str(&format!("{user}{colon}{CONCEALED}@{host}"));
            }
            None => shown.push_str(authority),
        }
        rest = behind;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, text: &str) -> String {
        concealed(settings::named(name).unwrap(), text)
    }

    #[test]
    fn headers_that_the_application_gets_are_not_shown() {
        let shown = |text: &str| concealed(&settings::ROUTE, text);
        let route =
            "{ path = '/a', request_headers = { X-Auth = 'hush', Cookie = false }, headers = { A = 'b' } }";
        for text in [route.to_owned(), format!("[{route}]")] {
            let shown = shown(&text);
            assert!(
                !shown.contains("hush") && shown.contains("A = \"b\"") && shown.contains("/a"),
                "{shown}"
            );
            assert!(crate::route_table::read_text(&shown).is_err(), "it is not taken for a value: {shown}");
        }
        assert_eq!(shown("{"), "{");
    }

    #[test]
    fn the_environment_is_concealed_whatever_the_names() {
        assert_eq!(shown("raw_env", "DJANGO_SETTINGS_MODULE=a.b"), "DJANGO_SETTINGS_MODULE=…");
        assert_eq!(shown("raw_env", "A=b=c"), "A=…");
        assert_eq!(shown("raw_env", "hunter2"), "…");
    }

    #[test]
    fn a_name_tells_of_a_secret_but_not_one_that_says_where_it_is() {
        for name in
            ["SECRET_KEY", "apiToken", "db-password", "MYSQL_PWD", "credentials", "SENTRY_DSN", "passwd"]
        {
            assert!(is_secret(name), "{name}");
        }
        for name in ["keyfile", "certfile", "KEY_PATH", "credentials_file", "user", "threads", "keep_alive"] {
            assert!(!is_secret(name), "{name}");
        }
        // A setting whose own name tells of a secret is concealed; of those that there are, none is.
        let secret: Vec<_> =
            settings::all().map(|setting| setting.name).filter(|name| is_secret(name)).collect();
        assert_eq!(secret, [""; 0]);
        assert_eq!(shown("keyfile", "/etc/ssl/private.key"), "/etc/ssl/private.key");
    }

    #[test]
    fn variables_json_and_urls_are_concealed_where_they_have_secrets() {
        assert_eq!(shown("raw_paste_global_conf", "auth.secret=x"), "auth.secret=…");
        assert_eq!(shown("raw_paste_global_conf", "debug=true"), "debug=true");
        assert_eq!(shown("raw_paste_global_conf", "db=mysql://me:x@h/d?a=b"), "db=mysql://me:…@h/d?a=b");
        assert_eq!(
            shown(
                "logconfig_dict",
                r#"{"version":1,"handlers":{"mail":{"credentials":["a","b"],"x":"http://t@h"}}}"#
            ),
            r#"{"handlers":{"mail":{"credentials":"…","x":"http://…@h"}},"version":1}"#
        );
        assert_eq!(conceal_passwords("a://b:c@d:1/e@f g://h://i"), "a://b:…@d:1/e@f g://h://i");
        assert_eq!(conceal_passwords("a://b:c:d@e@f"), "a://b:…@f");
        assert_eq!(conceal_passwords("127.0.0.1:8000"), "127.0.0.1:8000");
    }

    #[test]
    fn a_factory_keeps_its_arguments_to_itself() {
        assert_eq!(shown("app", "a:make('x', key=1)"), "a:make(…)");
        for target in ["a:make()", "a:make( )", "a:b", "a.b"] {
            assert_eq!(shown("app", target), target);
        }
    }
}
