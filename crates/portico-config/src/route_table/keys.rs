//! Every key of a route, declared once: its types, its line in the reference, and what it sets.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::options::REDIRECT_STATUS;
use super::{RouteKey, paths, reading};
use crate::error::ParseError;
use crate::route::{Fallback, RoutePath, RouteResponse, Symlinks};

const STRING: &[&str] = &["string"];
const STRINGS: &[&str] = &["string", "array"];
const BOOLEAN: &[&str] = &["boolean"];
const INTEGER: &[&str] = &["integer"];
const SIZE: &[&str] = &["integer", "string"];
const TIME: &[&str] = &["number", "string"];
const TABLE: &[&str] = &["object"];

/// As `--timeout` has it.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=YEAR;
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Statuses that a browser follows to the Location (RFC 9110, section 15.4).
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

/// More would not be a number of requests but a port typed in the wrong place.
const CONCURRENT: RangeInclusive<u64> = 1..=32_768;

/// In the order of the reference: where it applies, what responds, how.
pub(crate) const KEYS: &[RouteKey] = &[
    RouteKey {
        name: "host",
        types: STRINGS,
        help: "Hosts it is for: example.com, or *.example.com for all below; without port",
        set: |draft, value| {
            let hosts = reading::texts(value, "a host such as example.com or *.example.com")?;
            draft.route.hosts = hosts.iter().map(|text| reading::host(text)).collect::<Result<_, _>>()?;
            Ok(())
        },
    },
    RouteKey {
        name: "path",
        types: STRING,
        help: "It is for this path and those below it: /shop means /shop and /shop/x, not /shopping",
        set: |draft, value| {
            let prefix = paths::prefix(&reading::text(value, "a path such as /shop")?)?;
            set_path(draft, if prefix.is_empty() { RoutePath::Any } else { RoutePath::Prefix(prefix) })
        },
    },
    RouteKey {
        name: "exact",
        types: STRING,
        help: "It is for this path alone; {name} captures a segment or a part of one, {name…} the rest",
        set: |draft, value| {
            let path = paths::exact(&reading::text(value, "a path such as /blog/{year}/{slug}.html")?)?;
            set_path(draft, RoutePath::Exact(path))
        },
    },
    RouteKey {
        name: "methods",
        types: STRINGS,
        help: "It is for these methods alone; GET includes HEAD",
        set: |draft, value| {
            let mut methods = reading::texts(value, "methods such as [\"GET\", \"POST\"]")?;
            if let Some(wrong) = methods.iter().find(|method| {
                !reading::is_token(method) || method.bytes().any(|byte| byte.is_ascii_lowercase())
            }) {
                return Err(format!("{wrong:?} is no method; write it in capitals, such as POST").into());
            }
            if methods.iter().any(|method| method == "GET") {
                methods.push("HEAD".to_owned());
            }
            methods.sort();
            methods.dedup();
            draft.route.methods = methods;
            Ok(())
        },
    },
    RouteKey {
        name: "if_file",
        types: STRING,
        help: "It counts while this file is there, and then before all routes without one",
        set: |draft, value| {
            draft.route.if_file = Some(path(value, "the path of a file")?);
            Ok(())
        },
    },
    RouteKey {
        name: "app",
        types: &["boolean", "string"],
        help: "true: the main application; \"shop:app\": another one, with the path as SCRIPT_NAME",
        set: |draft, value| match value {
            DeValue::Boolean(true) => draft.respond(RouteResponse::MainApplication),
            DeValue::String(text) if !text.is_empty() => {
                draft.respond(RouteResponse::Application(text.to_string()))
            }
            _ => Err("write true for the main application, or another such as \"shop:app\"".into()),
        },
    },
    RouteKey {
        name: "static",
        types: STRINGS,
        help: "The files of this folder; of several, those of the first that has the file",
        set: |draft, value| {
            let folders = reading::texts(value, "a folder, or an array of them")?;
            draft.respond(RouteResponse::Files(folders.into_iter().map(PathBuf::from).collect()))
        },
    },
    RouteKey {
        name: "redirect",
        types: STRING,
        help: "Where to go instead: a path or a URI; {path} and captures are filled in, the query is kept",
        set: |draft, value| {
            let to = paths::target(&reading::text(value, "a path, or https://example.com{path}")?)?;
            draft.respond(RouteResponse::Redirect { to, status: REDIRECT_STATUS })
        },
    },
    RouteKey {
        name: "status",
        types: INTEGER,
        help: "The status of a redirect: 301, 302 (the default), 303, 307 or 308",
        set: |draft, value| {
            let status = reading::count(value, &(300..=399), "a redirect")? as u16;
            if !REDIRECTS.contains(&status) {
                return Err(format!("{status} is none of a redirect; write 301, 302, 303, 307 or 308").into());
            }
            draft.status = Some(status);
            Ok(())
        },
    },
    RouteKey {
        name: "redirects",
        types: STRING,
        help: "A file with a redirect on each line, FROM TO [STATUS], which goes before the response",
        set: |draft, value| {
            draft.route.redirects = Some(path(value, "the path of a file")?);
            Ok(())
        },
    },
    RouteKey {
        name: "respond",
        types: INTEGER,
        help: "This status, 200 to 599",
        set: |draft, value| {
            let status = reading::count(value, &(200..=599), "a status")? as u16;
            draft.respond(RouteResponse::Fixed { status, page: None })
        },
    },
    RouteKey {
        name: "page",
        types: STRING,
        help: "The file that is the body of respond; it is read at the start",
        set: |draft, value| {
            draft.page = Some(path(value, "the path of a file")?);
            Ok(())
        },
    },
    RouteKey {
        name: "headers",
        types: TABLE,
        help: "Of each response, errors too: a value, \"Name?\" for one where it is absent, false for none",
        set: |draft, value| reading::headers(value).map(|rules| draft.route.headers = rules),
    },
    RouteKey {
        name: "request_headers",
        types: TABLE,
        help: "The same of the request that the application gets",
        set: |draft, value| reading::headers(value).map(|rules| draft.route.request_headers = rules),
    },
    RouteKey {
        name: "auth",
        types: STRING,
        help: "A file of users and hashes (htpasswd); `portico hash-password` makes its lines",
        set: |draft, value| {
            draft.route.auth = Some(path(value, "the path of a file")?);
            Ok(())
        },
    },
    RouteKey {
        name: "allow",
        types: STRINGS,
        help: "Addresses and networks whose requests are served; others get 403",
        set: |draft, value| {
            draft.route.allow = Some(reading::networks(value)?);
            Ok(())
        },
    },
    RouteKey {
        name: "deny",
        types: STRINGS,
        help: "Addresses and networks whose requests get 403",
        set: |draft, value| {
            draft.route.deny = Some(reading::networks(value)?);
            Ok(())
        },
    },
    RouteKey {
        name: "limit",
        types: &["string", "object"],
        help: "Requests of one client: \"5/m burst 10\", or a table with rate, burst, by and dry_run",
        set: |draft, value| {
            draft.route.limit = Some(reading::limit(value)?);
            Ok(())
        },
    },
    RouteKey {
        name: "concurrent",
        types: INTEGER,
        help: "Requests that may run or wait for a thread at once, in all workers together; others get 503",
        set: |draft, value| {
            draft.route.concurrent = Some(reading::count(value, &CONCURRENT, "requests")? as u32);
            Ok(())
        },
    },
    RouteKey {
        name: "timeout",
        types: TIME,
        help: "As --timeout; counts before --timeout-path",
        set: |draft, value| {
            draft.route.timeout = Some(reading::time(value, &TIMEOUTS, Some("without end"))?);
            Ok(())
        },
    },
    RouteKey {
        name: "limit_request_body",
        types: SIZE,
        help: "As --limit-request-body",
        set: |draft, value| {
            draft.route.body_bytes_max = Some(reading::size(value, &(1..=1 << 50))?);
            Ok(())
        },
    },
    RouteKey {
        name: "stream_request_body",
        types: BOOLEAN,
        help: "As --stream-request-body",
        set: |draft, value| {
            draft.route.stream_request_body = Some(reading::flag(value)?);
            Ok(())
        },
    },
    RouteKey {
        name: "compress",
        types: BOOLEAN,
        help: "As --compress, for the application's responses of this route",
        set: |draft, value| {
            draft.route.compress = Some(reading::flag(value)?);
            Ok(())
        },
    },
    RouteKey {
        name: "error_pages",
        types: STRING,
        help: "A folder of pages such as 404.html and 5xx.html for the server's own refusals",
        set: |draft, value| {
            draft.route.error_pages = Some(path(value, "the path of a folder")?);
            Ok(())
        },
    },
    RouteKey {
        name: "intercept",
        types: BOOLEAN,
        help: "Whether the application's errors get those pages too",
        set: |draft, value| {
            draft.route.intercept = Some(reading::flag(value)?);
            Ok(())
        },
    },
    RouteKey {
        name: "rewrite",
        types: STRING,
        help: "The path that whatever responds sees; {path} and captures are filled in",
        set: |draft, value| {
            draft.route.rewrite = Some(paths::rewrite(&reading::text(value, "a path such as /new/{rest}")?)?);
            Ok(())
        },
    },
    RouteKey {
        name: "internal",
        types: BOOLEAN,
        help: "Reached by X-Accel-Redirect and X-Sendfile of the application alone; 404 for clients",
        set: |draft, value| {
            draft.route.internal = Some(reading::flag(value)?);
            Ok(())
        },
    },
    RouteKey {
        name: "fallback",
        types: &["string", "integer"],
        help: "For a file that is not there: 404, \"app\", or a file such as \"/index.html\" for browsers",
        set: |draft, value| {
            draft.route.files.fallback = Some(fallback(value)?);
            Ok(())
        },
    },
    RouteKey {
        name: "index",
        types: STRINGS,
        help: "Files that stand for their folder; index.html by default",
        set: |draft, value| {
            let names = match value {
                DeValue::Array(items) if items.is_empty() => Vec::new(),
                value => reading::texts(value, "names of files such as [\"index.html\"]")?,
            };
            if let Some(name) = names.iter().find(|name| name.contains('/') || name.starts_with('.')) {
                return Err(format!("{name:?} is no name of a file in the folder; write index.html").into());
            }
            draft.route.files.index = Some(names);
            Ok(())
        },
    },
    RouteKey {
        name: "listing",
        types: BOOLEAN,
        help: "Whether a folder without index gets a page that lists it",
        set: |draft, value| {
            draft.route.files.listing = Some(reading::flag(value)?);
            Ok(())
        },
    },
    RouteKey {
        name: "symlinks",
        types: STRING,
        help: "beneath (the default): those that stay beneath the folder are followed; follow; refuse",
        set: |draft, value| {
            draft.route.files.symlinks =
                Some(match reading::text(value, "beneath, follow or refuse")?.as_str() {
                    "beneath" => Symlinks::Beneath,
                    "follow" => Symlinks::Follow,
                    "refuse" => Symlinks::Refuse,
                    other => {
                        return Err(format!("{other:?} is not known; write beneath, follow or refuse").into());
                    }
                });
            Ok(())
        },
    },
    RouteKey {
        name: "max_age",
        types: TIME,
        help: "How long clients may keep a file without asking; 1m by default",
        set: |draft, value| {
            let ages = Duration::from_secs(1)..=YEAR;
            draft.route.files.max_age = Some(reading::time(value, &ages, Some("they ask each time"))?);
            Ok(())
        },
    },
    RouteKey {
        name: "immutable",
        types: STRINGS,
        help: "Patterns of paths below the route whose content never changes, such as `/assets/**`",
        set: |draft, value| {
            let patterns = reading::texts(value, "patterns such as [\"/assets/**\"]")?;
            if let Some(pattern) = patterns.iter().find(|pattern| !pattern.starts_with('/')) {
                return Err(format!("{pattern:?} does not begin with a slash; write /{pattern}").into());
            }
            draft.route.files.immutable = Some(patterns);
            Ok(())
        },
    },
    RouteKey {
        name: "mime",
        types: TABLE,
        help: "Types of files by their extension, such as { wasm = \"application/wasm\" }",
        set: |draft, value| {
            let mut types = Vec::new();
            for (extension, value) in reading::table(value, "a table such as { md = \"text/markdown\" }")? {
                let name = extension.trim_start_matches('.').to_ascii_lowercase();
                let media_type = reading::text(value, "a type such as \"text/markdown\"")?;
                if name.is_empty() || name.contains(['.', '/']) {
                    return Err(format!("{extension:?} is no extension; write it as md").into());
                }
                if !media_type.contains('/') || !reading::is_field_value(&media_type) {
                    return Err(format!("{media_type:?} is no type; write it as text/markdown").into());
                }
                types.push((name, media_type));
            }
            draft.route.files.mime = types;
            Ok(())
        },
    },
];

fn path(value: &DeValue<'_>, wanted: &str) -> Result<PathBuf, ParseError> {
    reading::text(value, wanted).map(PathBuf::from)
}

fn set_path(draft: &mut super::RouteDraft, path: RoutePath) -> Result<(), ParseError> {
    if draft.has_path {
        return Err("path and exact do not go together; remove one of them".into());
    }
    draft.has_path = true;
    draft.route.path = path;
    Ok(())
}

fn fallback(value: &DeValue<'_>) -> Result<Fallback, ParseError> {
    let wanted = "404, \"app\", or a file such as \"/index.html\"";
    match value {
        DeValue::Integer(number) if number.as_str() == "404" => Ok(Fallback::NotFound),
        DeValue::String(text) => match text.as_ref() {
            "404" => Ok(Fallback::NotFound),
            "app" => Ok(Fallback::Application),
            file => paths::file(file).map(Fallback::File),
        },
        _ => Err(format!("it is not known; write {wanted}").into()),
    }
}
