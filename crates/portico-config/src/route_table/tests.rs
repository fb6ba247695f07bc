//! Tests of the reading of routes: each key, what is refused, and what does not go together.

use std::time::Duration;

use super::{KEYS, read_text};
use crate::route::{Fallback, HeaderAction, LimitKey, Route, RouteHost, RoutePath, RouteResponse, Symlinks};

fn route(text: &str) -> Route {
    let mut routes = read_text(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
    assert_eq!(routes.len(), 1, "{text}");
    routes.remove(0)
}

fn problem(text: &str) -> String {
    read_text(text).map(|routes| panic!("{text}: {routes:?}")).unwrap_or_else(|problem| problem.to_string())
}

#[test]
fn where_a_route_applies() {
    let place =
        route("{ host = ['A.example', '*.b.example.'], path = '/x/', methods = 'GET', respond = 204 }");
    assert_eq!(place.hosts, [RouteHost::Exact("a.example".into()), RouteHost::Below("b.example".into())]);
    assert_eq!(place.path, RoutePath::Prefix("/x".into()));
    assert_eq!(place.methods, ["GET", "HEAD"]);
    assert_eq!(route("{ path = '/', respond = 204 }").path, RoutePath::Any);
    assert_eq!(route("{ host = '[::0:1]', respond = 204 }").hosts[0].to_string(), "[::1]");
    assert_eq!(
        route("{ exact = '/a/{x}.html/{rest...}', redirect = '/{rest}/{x}' }").path,
        RoutePath::Exact("/a/{x}.html/{rest…}".into())
    );
    assert_eq!(route("{ if_file = 'x', respond = 503, page = 'm.html' }").if_file, Some("x".into()));
}

#[test]
fn what_responds() {
    let response = |text: &str| route(text).response.unwrap();
    assert_eq!(response("{ app = true }"), RouteResponse::MainApplication);
    assert_eq!(response("{ app = 'a:b' }"), RouteResponse::Application("a:b".into()));
    assert_eq!(response("{ static = ['a', 'b'] }"), RouteResponse::Files(vec!["a".into(), "b".into()]));
    let redirect = |to: &str, status| RouteResponse::Redirect { to: to.into(), status };
    assert_eq!(
        response("{ redirect = 'https://a.example{path}' }"),
        redirect("https://a.example{path}", 302)
    );
    assert_eq!(response("{ redirect = '/x', status = 308 }"), redirect("/x", 308));
    assert_eq!(
        response("{ respond = 503, page = 'm.html' }"),
        RouteResponse::Fixed { status: 503, page: Some("m.html".into()) }
    );
}

#[test]
fn how_it_responds() {
    let how = route(
        "{ headers = { A = 'x', 'B?' = 'y', C = false, Retry-After = 600 }, allow = ['10.0.0.0/8', '::1'], \
           deny = [], limit = { rate = '5/m', burst = 9, by = 'header:X-Key', dry_run = true }, concurrent = 4, \
           timeout = '5m', limit_request_body = '1m', stream_request_body = true, compress = false, \
           fallback = '/index.html', index = [], listing = true, symlinks = 'refuse', max_age = '1h', \
           immutable = '/a/**', mime = { '.MD' = 'text/markdown' }, internal = true, rewrite = '/y', auth = 'f' }",
    );
    let action = |name: &str| how.headers.iter().find(|rule| rule.name == name).unwrap().action.clone();
    assert_eq!(action("A"), HeaderAction::Set("x".into()));
    assert_eq!(action("B"), HeaderAction::SetIfAbsent("y".into()));
    assert_eq!(action("C"), HeaderAction::Remove);
    assert_eq!(action("Retry-After"), HeaderAction::Set("600".into()));
    assert_eq!(how.allow.unwrap().len(), 2);
    assert_eq!(how.deny, Some(Vec::new()));
    let limit = how.limit.unwrap();
    assert_eq!((limit.requests, limit.period.as_secs(), limit.burst, limit.dry_run), (5, 60, 9, true));
    assert_eq!(limit.by, LimitKey::Header("x-key".into()));
    assert_eq!((how.concurrent, how.timeout), (Some(4), Some(Duration::from_secs(300))));
    assert_eq!((how.body_bytes_max, how.stream_request_body), (Some(1 << 20), Some(true)));
    assert_eq!(how.files.fallback, Some(Fallback::File("/index.html".into())));
    assert_eq!((how.files.index, how.files.symlinks), (Some(Vec::new()), Some(Symlinks::Refuse)));
    assert_eq!(how.files.mime, [("md".to_owned(), "text/markdown".to_owned())]);
    assert_eq!(route("{ limit = '5/m' }").limit.unwrap().burst, 5);
}

#[test]
fn what_is_wrong_is_told() {
    for (text, expected) in [
        ("{ pth = '/x' }", "pth is no key of a route; did you mean path?"),
        ("{ zzz = 1 }", "`portico help route` lists them"),
        ("{ proxy = 'http://x' }", "proxy is not in this version"),
        ("{ cache = '60s' }", "cache is not in this version"),
        ("{ path = '/x' }", "says nothing but where it applies"),
        ("{ path = 'x', respond = 204 }", "path: \"x\" does not begin with a slash"),
        ("{ path = '/a//b', respond = 204 }", "has an empty segment or dots"),
        ("{ path = '/a/../b', respond = 204 }", "has an empty segment or dots"),
        ("{ path = '/a%20b', respond = 204 }", "is percent-encoded"),
        ("{ path = '/{x}', respond = 204 }", "go with exact alone"),
        ("{ path = '/x', exact = '/y', respond = 204 }", "path and exact do not go together"),
        ("{ exact = '/{x}{y}', respond = 204 }", "captures twice in one segment"),
        ("{ exact = '/{x…}/y', respond = 204 }", "have it be the last segment"),
        ("{ exact = '/{x}/{x}', respond = 204 }", "is captured twice"),
        ("{ exact = '/{1}', respond = 204 }", "captures nothing"),
        ("{ exact = '/a}', respond = 204 }", "captures nothing"),
        ("{ host = 'a:80', respond = 204 }", "is no host"),
        ("{ host = 'u@a', respond = 204 }", "is no host"),
        ("{ methods = 'get', respond = 204 }", "write it in capitals"),
        ("{ app = false }", "write true for the main application"),
        ("{ app = true, static = 'x' }", "responds otherwise too"),
        ("{ redirect = 'ftp://x' }", "leads nowhere"),
        ("{ redirect = '/\\x' }", "leads nowhere"),
        ("{ redirect = 'https:///x' }", "names no host"),
        ("{ redirect = 'https://u@x/' }", "names no host"),
        ("{ exact = '/{x}', redirect = 'https://a{x}' }", "must not follow the host"),
        ("{ redirect = '/{x}' }", "is in no exact path"),
        ("{ redirect = '/x', status = 304 }", "is none of a redirect"),
        ("{ app = true, status = 301 }", "status goes with redirect alone"),
        ("{ app = true, page = 'x' }", "page goes with respond alone"),
        ("{ respond = 99 }", "from 200 to 599"),
        ("{ headers = { 'A b' = 'x' } }", "is no name of a header"),
        ("{ headers = { A = \"x\\ny\" } }", "no header may have"),
        ("{ headers = { a = 'x', A = 'y' } }", "is said twice"),
        ("{ headers = { Transfer-Encoding = 'x' } }", "by the server alone"),
        ("{ headers = { A = true } }", "write its value in quotes"),
        ("{ allow = 'a.example' }", "neither an address nor a network"),
        ("{ limit = '5' }", "is no rate"),
        ("{ limit = '5/y' }", "is no rate"),
        ("{ limit = { burst = 1 } }", "its rate is missing"),
        ("{ limit = { rate = '5/m', by = 'cookie' } }", "is not known"),
        ("{ fallback = 'x' }", "does not begin with a slash"),
        ("{ symlinks = 'never' }", "write beneath, follow or refuse"),
        ("{ timeout = '1ms', app = true }", "out of range"),
        ("{ compress = 1 }", "this is of type integer; write true or false"),
        ("7", "write a table of TOML"),
        ("[{ respond = 204 }, { pth = 1 }]", "the 2nd route: pth"),
        ("{", "write a table of TOML"),
    ] {
        assert!(problem(text).contains(expected), "{text}: {}", problem(text));
    }
}

#[test]
fn each_key_has_its_words() {
    for key in KEYS {
        assert!(!key.help.is_empty() && !key.help.ends_with('.'), "{}", key.name);
    }
}
