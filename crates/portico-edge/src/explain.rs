//! Why a request gets the route that it gets, and which routes no request can get: for `portico route` and
//! `portico check`.

use std::sync::Arc;

use std::fmt::Write;

use portico_config::{
    Fallback, HeaderAction, HeaderRule, LimitKey, RateLimit, Route, RouteHost, RoutePath, Symlinks,
};

use crate::decision::{RouteAction, RouteDecision};
use crate::flat::FlatRoute;
use crate::pattern::{Segment, segments};
use crate::router::{EdgeRouter, RouteRequest};

/// A page for people: which route counts for a request, why, what responds, and every setting of the route
/// with who said it.
pub fn explain(router: &EdgeRouter, request: &RouteRequest<'_>, present: &[bool]) -> String {
    let decision = router.decide(request, present);
    let route = decision.route;
    let mut page = String::new();
    push(&mut page, format_args!("route     {} ({})\n", route.place(), route.origin));
    push(&mut page, format_args!("responds  {}\n", responds(&decision)));
    let others = router.matching(request, present);
    for other in others.iter().filter(|other| !std::ptr::eq(**other, &**route)) {
        let why = reason(route, other);
        push(&mut page, format_args!("before    {} ({}), because {why}\n", other.place(), other.origin));
    }
    let settings = settings(router, route);
    if !settings.is_empty() {
        page.push_str("\nsettings\n");
    }
    let widest = settings.iter().map(|setting| setting.0.chars().count()).max().unwrap_or_default();
    for (text, origin) in settings {
        let gap = widest - text.chars().count();
        push(&mut page, format_args!("  {text}{:gap$}  # {origin}\n", ""));
    }
    page
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String never fails.
    let _ = page.write_fmt(text);
}

fn responds(decision: &RouteDecision<'_>) -> String {
    match &decision.action {
        RouteAction::Call(call) => {
            let target =
                call.target.map_or_else(|| "the application".to_owned(), |it| format!("application {it}"));
            let mount = match call.script_name {
                "" => String::new(),
                name => format!(", SCRIPT_NAME {name}"),
            };
            let path = call.rewritten.as_ref().map(|path| format!(", as {}", String::from_utf8_lossy(path)));
            format!("{target}{mount}{}", path.unwrap_or_default())
        }
        RouteAction::Serve(file) => {
            let folders: Vec<String> =
                file.folders.iter().map(|folder| folder.display().to_string()).collect();
            format!("the file {} of {}", String::from_utf8_lossy(&file.path), folders.join(", "))
        }
        RouteAction::Redirect { status, location } => format!("{status} to {location}"),
        RouteAction::Respond { status } => format!("{status}"),
        RouteAction::Refuse(refusal) => {
            let why = match refusal {
                crate::decision::Refusal::BadRequest(why) => (*why).to_owned(),
                crate::decision::Refusal::NotFound if decision.route.internal => {
                    "the route is internal: the application alone leads here, by X-Accel-Redirect".to_owned()
                }
                crate::decision::Refusal::NotFound => "nothing is there".to_owned(),
                crate::decision::Refusal::MethodNotAllowed(methods) => {
                    format!("only {} are taken", methods.join(", "))
                }
                crate::decision::Refusal::Misdirected => "no route is for this host".to_owned(),
            };
            format!("{}: {why}", refusal.status())
        }
    }
}

/// Why `route` counts before `other`, which matches as well.
pub(crate) fn reason(route: &FlatRoute, other: &FlatRoute) -> &'static str {
    let (own, theirs) = (route.rank(), other.rank());
    match () {
        () if own.0 != theirs.0 => "its file is there",
        () if own.1 != theirs.1 => "its host is more specific",
        () if own.2.0 != theirs.2.0 && own.2.0 == 2 => "its path is exact",
        () if own.2 != theirs.2 => "its path is longer",
        () => "it has methods",
    }
}

/// All that is said of a route, as the configuration says it, and who said each.
fn settings(router: &EdgeRouter, route: &FlatRoute) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut keys: Vec<String> = Vec::new();
    for source in router.chain(route) {
        for (key, value) in said(source) {
            if !keys.contains(&key) {
                all.push((format!("{key} = {value}"), source.origin.to_string()));
                keys.push(key);
            }
        }
    }
    all
}

/// Each thing that a route says of how it responds: its key and its value.
fn said(route: &Route) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |key: &str, value: Option<String>| all.extend(value.map(|value| (key.to_owned(), value)));
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let flag = |on: Option<bool>| on.map(|on| on.to_string());
    let list = |items: Vec<String>| format!("[{}]", items.join(", "));
    add("response", route.response.as_ref().map(ToString::to_string));
    add("redirects", path(&route.redirects));
    add("auth", path(&route.auth));
    let networks = |networks: &Vec<ipnet::IpNet>| list(networks.iter().map(ToString::to_string).collect());
    add("allow", route.allow.as_ref().map(networks));
    add("deny", route.deny.as_ref().map(networks));
    add("limit", route.limit.as_ref().map(limit));
    add("concurrent", route.concurrent.map(|number| number.to_string()));
    add("timeout", route.timeout.map(|time| format!("{time:?}")));
    add("limit_request_body", route.body_bytes_max.map(|bytes| bytes.to_string()));
    add("stream_request_body", flag(route.stream_request_body));
    add("compress", flag(route.compress));
    add("error_pages", path(&route.error_pages));
    add("intercept", flag(route.intercept));
    add("rewrite", route.rewrite.clone());
    add("internal", flag(route.internal));
    let files = &route.files;
    add(
        "fallback",
        files.fallback.as_ref().map(|fallback| match fallback {
            Fallback::NotFound => "404".to_owned(),
            Fallback::Application => "app".to_owned(),
            Fallback::File(file) => file.clone(),
        }),
    );
    add("index", files.index.clone().map(list));
    add("listing", flag(files.listing));
    let symlinks = |symlinks| match symlinks {
        Symlinks::Beneath => "beneath".to_owned(),
        Symlinks::Follow => "follow".to_owned(),
        Symlinks::Refuse => "refuse".to_owned(),
    };
    add("symlinks", files.symlinks.map(symlinks));
    add("max_age", files.max_age.map(|time| format!("{time:?}")));
    add("immutable", files.immutable.clone().map(list));
    for (extension, media_type) in &files.mime {
        add(&format!("mime.{extension}"), Some(media_type.clone()));
    }
    for (kind, rules) in [("headers", &route.headers), ("request_headers", &route.request_headers)] {
        for rule in rules {
            // What is between server and application may be a secret of both.
            let is_shown = kind == "headers" || rule.action == HeaderAction::Remove;
            let value = if is_shown { header(rule) } else { "…".to_owned() };
            add(&format!("{kind}.{}", rule.name.to_ascii_lowercase()), Some(value));
        }
    }
    all
}

fn header(rule: &HeaderRule) -> String {
    match &rule.action {
        HeaderAction::Set(value) => format!("{value:?}"),
        HeaderAction::SetIfAbsent(value) => format!("{value:?} if absent"),
        HeaderAction::Remove => "false".to_owned(),
    }
}

fn limit(limit: &RateLimit) -> String {
    let by = match &limit.by {
        LimitKey::Client => String::new(),
        LimitKey::Header(name) => format!(" by {name}"),
    };
    let dry_run = if limit.dry_run { ", only logged" } else { "" };
    format!("{} in {:?}, burst {}{by}{dry_run}", limit.requests, limit.period, limit.burst)
}

/// A segment that no configuration has: a character that no path of a route may have stands in it.
pub(crate) const PROBE: &str = "\u{1}";

/// Routes that no request can get, a line each: others take all of their requests.
pub fn never_taken(router: &EdgeRouter) -> Vec<String> {
    let deepest = router.routes().iter().map(|route| segments_of(&route.path)).max().unwrap_or_default() + 1;
    let unreached = router.routes().iter().filter(|route| {
        route.origin != portico_config::RouteOrigin::Implied && !is_reached(router, route, deepest)
    });
    let line = |route: &Arc<FlatRoute>| {
        format!(
            "{}: no request can get the route for {}: others take all of its paths",
            route.origin,
            route.place()
        )
    };
    unreached.map(line).collect()
}

pub(crate) fn segments_of(path: &RoutePath) -> usize {
    match path {
        RoutePath::Any => 0,
        RoutePath::Prefix(path) | RoutePath::Exact(path) => path.split('/').count(),
    }
}

/// Whether a request that has nothing in common with other routes by chance gets this one. If such a request is
/// another's, it is so by a capture, which takes all others as well.
fn is_reached(router: &EdgeRouter, route: &FlatRoute, deepest: usize) -> bool {
    let host = match &route.host {
        Some(RouteHost::Exact(name)) => name.clone(),
        Some(RouteHost::Below(name)) => format!("portico-probe.{name}"),
        None => "portico-probe.invalid".to_owned(),
    };
    let present: Vec<bool> =
        router.watched_files().iter().map(|file| Some(file) == route.if_file.as_ref()).collect();
    let methods = match &route.methods {
        methods if methods.is_empty() => vec!["PORTICO-PROBE".to_owned()],
        methods => methods.clone(),
    };
    let paths = (0..=deepest).map(|depth| probe(&route.path, depth));
    paths.into_iter().any(|path| {
        methods.iter().any(|method| {
            let found = router.winner(&host, &path, method, &present);
            found.is_some_and(|found| std::ptr::eq(found, route))
        })
    })
}

/// A path that the route is for, `depth` segments below it if it takes such.
fn probe(path: &RoutePath, depth: usize) -> Vec<u8> {
    let below = || format!("/{PROBE}").repeat(depth);
    let text = match path {
        RoutePath::Any => {
            if depth == 0 {
                "/".to_owned()
            } else {
                below()
            }
        }
        RoutePath::Prefix(path) => format!("{path}{}", below()),
        RoutePath::Exact(path) => {
            let mut text = Vec::new();
            for segment in segments(path) {
                text.push(b'/');
                match segment {
                    Segment::Literal(bytes) => text.extend_from_slice(&bytes),
                    Segment::Capture { before, after, .. } => {
                        text.extend_from_slice(&before);
                        text.extend_from_slice(PROBE.as_bytes());
                        text.extend_from_slice(&after);
                    }
                    Segment::Rest { .. } => {
                        text.extend_from_slice(below().trim_start_matches('/').as_bytes())
                    }
                }
            }
            return text;
        }
    };
    text.into_bytes()
}

#[cfg(test)]
pub(crate) mod tests {
    use portico_config::{EdgeSettings, Parsed, parse};

    use super::*;

    pub(crate) fn router(routes: &str) -> EdgeRouter {
        let text = std::ffi::OsString::from(routes);
        let env = |name: &str| (name == "PORTICO_ROUTE").then(|| text.clone());
        let edge: EdgeSettings = match parse(std::iter::empty(), &env) {
            Ok(Parsed::Run(resolved)) => resolved.config.edge,
            other => panic!("{other:?}"),
        };
        // Nothing is read but files of users.
        let mut read = |_: &std::path::Path| {
            Ok(b"bob:$2y$04$KBCwKxOzLha2MUKvKBCwKui0nTY/vM1SuWl0DVv6yR50jmX2M4Ya.\n".to_vec())
        };
        EdgeRouter::build(&edge, true, &mut read).unwrap()
    }

    #[test]
    fn a_route_is_explained_with_who_said_what() {
        let router = router(
            "[{ headers = { A = '1' }, timeout = '9s', request_headers = { X = 'hush' } }, \
              { path = '/shop', app = 'shop:app', \
                limit = '5/m' }, \
              { path = '/shop', methods = 'POST', headers = { A = '2' } }]",
        );
        let request = RouteRequest { method: b"POST", path: b"/shop/x", query: None, host: None };
        let page = explain(&router, &request, &[]);
        for line in [
            "route     /shop, POST (PORTICO_ROUTE)\n",
            "responds  application shop:app, SCRIPT_NAME /shop\n",
            "before    /shop (PORTICO_ROUTE), because it has methods\n",
            "before    / (PORTICO_ROUTE), because its path is longer\n",
            "  headers.a = \"2\"",
            "  limit = 5 in 60s, burst 5",
            "  timeout = 9s",
        ] {
            assert!(page.contains(line), "{line} in\n{page}");
        }
        assert!(!page.contains("\"1\"") && !page.contains("hush"), "{page}");
        let request = RouteRequest { method: b"GET", path: b"//shop", query: None, host: None };
        assert!(explain(&router, &request, &[]).contains("400: the path as it was sent has another route"));
    }

    #[test]
    fn a_server_without_routes_is_explained() {
        let router = router("[]");
        let request = RouteRequest { method: b"GET", path: b"/x", query: None, host: Some(b"a.example") };
        let page = explain(&router, &request, &[]);
        assert_eq!(page, "route     / (the default)\nresponds  the application\n");
        assert!(never_taken(&router).is_empty());
    }

    #[test]
    fn routes_that_no_request_can_get_are_found() {
        for (routes, dead) in [
            ("[{ path = '/a', app = true }, { exact = '/a/{rest...}', respond = 204 }]", &[][..]),
            (
                "[{ path = '/a', app = true }, { exact = '/a/{rest...}', respond = 204 }, \
                  { exact = '/a', respond = 204 }]",
                &["/a:"],
            ),
            ("[{ path = '/a/b', app = true }, { exact = '/a/{rest...}', respond = 204 }]", &["/a/b:"]),
            ("[{ path = '/a/b', app = true }, { exact = '/a/{x}', respond = 204 }]", &[]),
            ("[{ exact = '/{x}', app = true }, { exact = '/{x}.html', respond = 204 }]", &[]),
            ("[{ exact = '/{x}/{rest...}', app = true }, { exact = '/{x}/{y}', respond = 204 }]", &[]),
            (
                "[{ path = '/a/b', methods = 'GET', app = true }, \
                  { exact = '/a/{rest...}', methods = ['GET', 'PUT'], respond = 204 }]",
                &["/a/b, GET|HEAD:"],
            ),
            (
                "[{ host = 'a.example', path = '/a/b', app = true }, \
                  { exact = '/a/{rest...}', respond = 204 }]",
                &[],
            ),
            ("[{ if_file = 'x', respond = 503 }, { path = '/a', app = true }]", &[]),
        ] {
            let found = never_taken(&router(routes));
            assert_eq!(found.len(), dead.len(), "{routes}: {found:?}");
            for (line, place) in found.iter().zip(dead) {
                assert!(line.contains(&format!("the route for {place}")), "{line}");
            }
        }
    }
}
