//! Tests of the router: which route counts, what is inherited, what is refused, and the pitfalls of paths.
//!
//! One file because all of them write routes and requests in the same few words, [`check`] and [`outcome`].

use std::io;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use portico_config::{Parsed, parse};
use proptest::prelude::*;

use super::*;
use crate::path::encode;

/// Routes as the configuration reads them.
fn settings(routes: &str) -> portico_config::EdgeSettings {
    let text = std::ffi::OsString::from(routes);
    let env = |name: &str| (name == "PORTICO_ROUTE").then(|| text.clone());
    match parse(std::iter::empty(), &env) {
        Ok(Parsed::Run(resolved)) => resolved.config.edge,
        other => panic!("{routes}: {other:?}"),
    }
}

/// Of "secret", with few rounds.
const HASH: &str = "$2y$04$KBCwKxOzLha2MUKvKBCwKui0nTY/vM1SuWl0DVv6yR50jmX2M4Ya.";

fn read(path: &Path) -> io::Result<Vec<u8>> {
    match path.to_str() {
        Some("redirects.txt") => Ok(b"/old /new 301\n/a%20b /c\n".to_vec()),
        Some("errors/404.html") => Ok(b"not here".to_vec()),
        Some("m.html") => Ok(b"<h1>soon</h1>".to_vec()),
        Some("dist/staticfiles.json") => Ok(br#"{"paths": {"a.css": "a.1.css"}}"#.to_vec()),
        Some("dist/.vite/manifest.json") => Ok(br#"{"a.ts": {"file": "assets/a-2.js"}}"#.to_vec()),
        Some("old/staticfiles.json") => Ok(b"{}".to_vec()),
        Some("users") => Ok(format!("bob:{HASH}\n").into_bytes()),
        Some("bad-users") => Ok(format!("bob:{HASH}\neve:plain\n").into_bytes()),
        Some("wrong.txt") => Ok(b"/old".to_vec()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    }
}

fn router(routes: &str) -> EdgeRouter {
    EdgeRouter::build(&settings(routes), true, &mut read).unwrap_or_else(|error| panic!("{routes}: {error}"))
}

fn problem(routes: &str) -> String {
    EdgeRouter::build(&settings(routes), true, &mut read)
        .map(|_| panic!("{routes}"))
        .unwrap_or_else(|it| it.to_string())
}

/// A request for `/path?query`, or for `@host/path`.
fn request<'q>(method: &'q str, url: &'q str) -> RouteRequest<'q> {
    let (host, path) = match url.strip_prefix('@') {
        Some(rest) => {
            let at = rest.find('/').unwrap_or(rest.len());
            (Some(&rest.as_bytes()[..at]), &rest[at..])
        }
        None => (None, url),
    };
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    RouteRequest { method: method.as_bytes(), path: path.as_bytes(), query: query.map(str::as_bytes), host }
}

/// What becomes of a request, in a word or two.
fn outcome(router: &EdgeRouter, method: &str, url: &str, present: &[bool]) -> String {
    match router.decide(&request(method, url), present).action {
        RouteAction::Call(call) => {
            let rewritten = call.rewritten.map(|path| format!(" as {}", String::from_utf8_lossy(&path)));
            let name = call.target.unwrap_or("main");
            format!("{name} {}", call.script_name).trim_end().to_owned() + &rewritten.unwrap_or_default()
        }
        RouteAction::Serve(file) => {
            format!("{}:{}", file.folders[0].display(), String::from_utf8_lossy(&file.path))
        }
        RouteAction::Redirect { status, location } => format!("{status} {location}"),
        RouteAction::Respond { status } => status.to_string(),
        RouteAction::Refuse(Refusal::MethodNotAllowed(methods)) => format!("405 {}", methods.join(",")),
        RouteAction::Refuse(refusal) => refusal.status().to_string(),
    }
}

fn check(routes: &str, expected: &[(&str, &str)]) {
    let router = router(routes);
    for (url, expected) in expected {
        assert_eq!(outcome(&router, "GET", url, &[true]), *expected, "{url} with {routes}");
    }
}

#[test]
fn without_routes_all_is_the_applications() {
    let router = router("[]");
    assert!(router.is_idle());
    assert_eq!(outcome(&router, "GET", "/x", &[]), "main");
    assert_eq!(outcome(&router, "OPTIONS", "*", &[]), "main");
}

#[test]
fn the_most_specific_route_counts_wherever_it_stands() {
    let routes = [
        "{ path = '/shop', app = 'shop:app' }",
        "{ path = '/shop/cart', static = 'cart' }",
        "{ exact = '/shop/cart', respond = 204 }",
        "{ path = '/shop', methods = 'POST', respond = 403 }",
        "{ host = 'a.example', app = 'a:app' }",
        "{ host = '*.a.example', app = 'below:app' }",
        "{ host = '*.b.a.example', app = 'deeper:app' }",
    ];
    let expected = [
        ("/", "main"),
        ("/shopping", "main"),
        ("/shop", "shop:app /shop"),
        ("/shop/x", "shop:app /shop"),
        ("/shop/cart", "204"),
        ("/shop/cart/x", "cart:/x"),
        ("@A.example:80/shop", "a:app"),
        ("@x.a.example./", "below:app"),
        ("@y.x.a.example/", "below:app"),
        ("@b.a.example/", "below:app"),
        ("@x.b.a.example/", "deeper:app"),
        ("@other.example/shop/x", "shop:app /shop"),
    ];
    check(&format!("[{}]", routes.join(",")), &expected);
    let mut reversed = routes;
    reversed.reverse();
    check(&format!("[{}]", reversed.join(",")), &expected);
    let router = router(&format!("[{}]", routes.join(",")));
    assert_eq!(outcome(&router, "POST", "/shop/x", &[]), "403");
    assert_eq!(outcome(&router, "POST", "/shop/cart/x", &[]), "cart:/x", "path counts before methods");
}

#[test]
fn routes_that_are_equally_specific_do_not_start() {
    for routes in [
        "[{ path = '/a', respond = 204 }, { path = '/a/', app = true }]",
        "[{ exact = '/a/{x}', respond = 204 }, { exact = '/a/{y}', app = true }]",
        "[{ exact = '/{x}.a', respond = 204 }, { exact = '/b{y}', app = true }]"
            .replace("{x}.a", "{x}aa")
            .replace("b{y}", "bb{y}")
            .leak(),
        "[{ path = '/a', methods = ['GET'], respond = 204 }, \
          { path = '/a', methods = ['GET','PUT'], app = true }]",
        "[{ host = ['a', 'b'], respond = 204 }, { host = ['b', 'c'], app = true }]",
        "[{ if_file = 'x', respond = 204 }, { if_file = 'y', app = true }]",
    ] {
        let problem = problem(routes);
        assert!(problem.contains("two routes are equally specific"), "{routes}: {problem}");
        assert_eq!(problem.matches("PORTICO_ROUTE").count(), 2, "both are shown: {problem}");
    }
    for routes in [
        "[{ path = '/a', respond = 204 }, { exact = '/a', app = true }]",
        "[{ path = '/a', methods = 'GET', respond = 204 }, { path = '/a', methods = 'PUT', app = true }]",
        "[{ path = '/a', methods = 'GET', respond = 204 }, { path = '/a', app = true }]",
        "[{ exact = '/{x}.html', respond = 204 }, { exact = '/{y}.txt', app = true }]",
        "[{ exact = '/{x}/b', respond = 204 }, { exact = '/a/{y}', app = true }]",
        "[{ exact = '/{x}/b', respond = 204 }, { exact = '/{x}/{y}', app = true }]",
        "[{ host = 'a', respond = 204 }, { host = '*.a', app = true }]",
    ] {
        router(routes);
    }
}

#[test]
fn what_a_route_does_not_say_it_inherits_field_by_field() {
    let router = router(
        "[{ headers = { A = '1', B = '1', C = '1' }, timeout = '9s' }, \
          { path = '/a', auth = 'users', headers = { B = '2', 'C?' = '2' }, static = 'files', \
            limit = '5/m' }, \
          { path = '/a/b', headers = { C = false }, methods = 'GET', listing = true }, \
          { host = 'h.example', path = '/a/b', compress = true }, \
          { exact = '/a/b/c', allow = '10.0.0.0/8' }]",
    );
    let decide = |url| router.decide(&request("GET", url), &[]);
    let headers = |url| {
        let route = decide(url).route;
        route
            .headers
            .added(false, |_| false)
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
    };
    let sorted = |url| {
        let mut headers = headers(url);
        headers.sort();
        headers.join(" ")
    };
    assert_eq!(sorted("/x"), "A=1 B=1 C=1");
    assert_eq!(sorted("/a/x"), "A=1 B=2 C=2");
    assert_eq!(sorted("/a/b"), "A=1 B=2");
    let inner = decide("/a/b/x");
    assert_eq!(inner.route.timeout, Some(Duration::from_secs(9)));
    assert!(inner.route.files.listing && inner.route.auth.is_some());
    let RouteAction::Serve(file) = inner.action else { panic!("not a file") };
    assert_eq!(file.path, b"/b/x", "the prefix is that of the route which said what responds");
    assert_eq!(inner.route.limit, decide("/a/x").route.limit, "they count together");
    assert!(decide("@h.example/a/b/x").route.compress && decide("@h.example/a/b/x").route.auth.is_some());
    assert!(decide("/a/b/c").route.allow.is_some() && decide("/a/b/c").route.auth.is_some());
    assert!(!decide("/a/b/c").route.files.listing, "a route with methods contains none without");
}

#[test]
fn hosts_that_no_route_is_for_are_misdirected() {
    let two = settings("[{ host = 'a.example', app = 'a:app' }, { host = '*.b.example', app = 'b:app' }]");
    let unnamed = EdgeRouter::build(&two, false, &mut read).unwrap();
    for (url, expected) in [
        ("@a.example/", "a:app"),
        ("@x.b.example/", "b:app"),
        ("@b.example/", "421"),
        ("@c.example/", "421"),
        ("/", "421"),
        ("@[::1]:80/", "421"),
        ("@user@a.example/", "400"),
        ("@evil:80@a.example/", "400"),
    ] {
        assert_eq!(outcome(&unnamed, "GET", url, &[]), expected, "{url}");
    }
    // An application that the command names, or a route for any host, is for the others.
    let named = EdgeRouter::build(&two, true, &mut read).unwrap();
    assert_eq!(outcome(&named, "GET", "@c.example/", &[]), "main");
    for (more, expected) in
        [("{ path = '/x', respond = 204 }", "404"), ("{ host = 'c.example', auth = 'users' }", "main")]
    {
        let routes = settings(&format!("[{{ host = 'a.example', app = 'a:app' }}, {more}]"));
        let router = EdgeRouter::build(&routes, false, &mut read).unwrap();
        assert_eq!(outcome(&router, "GET", "@d.example/", &[]), expected, "{more}");
    }
    let defaults = settings("[{ host = 'a.example', app = 'a:app' }, { headers = { A = '1' } }]");
    let router = EdgeRouter::build(&defaults, false, &mut read).unwrap();
    assert_eq!(outcome(&router, "GET", "@d.example/", &[]), "421", "defaults respond to nobody");
    let refused = router.decide(&request("GET", "@d.example/"), &[]).route;
    assert!(!refused.headers.is_empty(), "a refusal has the headers of all responses");
}

#[test]
fn a_host_without_a_route_for_the_method_says_which_it_has() {
    let routes = settings("[{ host = 'a.example', path = '/x', methods = ['GET', 'PUT'], app = 'a:app' }]");
    let router = EdgeRouter::build(&routes, false, &mut read).unwrap();
    assert_eq!(outcome(&router, "DELETE", "@a.example/x", &[]), "405 GET,HEAD,PUT");
    assert_eq!(outcome(&router, "GET", "@a.example/y", &[]), "404");
    assert_eq!(outcome(&router, "GET", "@b.example/x", &[]), "421");
}

#[test]
fn redirects_fill_in_captures_and_keep_the_query() {
    check(
        "[{ exact = '/blog/{year}/{slug}.html', redirect = '/posts/{slug}', status = 301 }, \
          { exact = '/old/{rest...}', redirect = '/new/{rest}' }, \
          { path = '/away', redirect = 'https://b.example{path}' }, \
          { path = '/', redirects = 'redirects.txt' }, \
          { host = 'www.a.example', redirect = 'https://a.example{path}', status = 308 }]",
        &[
            ("/blog/2020/a%20b.html?x=1", "301 /posts/a%20b?x=1"),
            ("/old/x/y", "302 /new/x/y"),
            ("/old/", "302 /new/"),
            ("/away/%C3%A9/", "302 https://b.example/away/%C3%A9/"),
            ("/old", "301 /new"),
            ("/a%20b?q", "302 /c?q"),
            ("@www.a.example/x//y?q", "308 https://a.example/x/y?q"),
            ("@www.a.example", "308 https://a.example/"),
            ("/blog/2020/x", "main"),
        ],
    );
    assert!(problem("[{ redirects = 'wrong.txt' }]").starts_with("wrong.txt:1: a line is FROM TO"));
    assert!(problem("[{ redirects = 'none.txt' }]").contains("PORTICO_ROUTE: none.txt cannot be read"));
}

#[test]
fn a_redirect_never_leads_off_the_site_or_into_headers() {
    let router = router(
        "[{ exact = '/go/{rest...}', redirect = '/{rest}' }, { path = '/p', redirect = '{path}' }]"
            .replace("'{path}'", "'/q{path}'")
            .as_str(),
    );
    for url in [
        "/go//evil.example",
        "/go/%5cevil.example",
        "/go/%5c%5cevil.example",
        "/go/%2fevil.example",
        "/go/%0d%0aSet-Cookie:x",
        "/go/x%0d%0a",
        "/go/\\evil",
        "/go/http://evil.example",
        "/go/%2e%2e//evil",
        "/p//evil",
        "/p/%09/evil",
    ] {
        match outcome(&router, "GET", url, &[]).split_once(' ') {
            Some((_, location)) => {
                assert!(location.starts_with('/') && !location.starts_with("//"), "{url}: {location}");
                assert!(
                    !location.starts_with("/\\") && location.bytes().all(|b| b.is_ascii_graphic()),
                    "{url}"
                );
            }
            None => assert_eq!(outcome(&router, "GET", url, &[]), "400", "{url}"),
        }
    }
}

#[test]
fn rewrites_change_the_path_once() {
    check(
        "[{ exact = '/v1/{rest...}', rewrite = '/v2/{rest}' }, { path = '/v2', app = 'two:app' }, \
          { exact = '/v2/old/{id}', rewrite = '/v2/new/{id}' }, \
          { exact = '/v2/away/{id}', rewrite = '/else/{id}' }, \
          { path = '/img', static = 'media', rewrite = '/images{path}' }]",
        &[
            ("/v1/a%20b", "main as /v2/a b"),
            ("/v2/x", "two:app /v2"),
            ("/v2/old/7", "two:app /v2 as /v2/new/7"),
            ("/v2/away/7", "two:app as /else/7"),
            ("/img/x.png", "media:/images/img/x.png"),
        ],
    );
}

#[test]
fn a_redirect_has_what_stands_before_the_path() {
    let router = router("[{ host = 'www.a.example', redirect = 'https://a.example{path}' }]");
    for (prefix, location) in [
        ("", "https://a.example/x"),
        ("/base", "https://a.example/base/x"),
        ("/caf%C3%A9", "https://a.example/caf%C3%A9/x"),
        ("/caf\u{e9}", "https://a.example/caf%C3%A9/x"),
        ("/a%20b", "https://a.example/a%20b/x"),
        ("/50%", "https://a.example/50%25/x"),
    ] {
        let action = router.decide_below(prefix.as_bytes(), &request("GET", "@www.a.example/x"), &[]).action;
        assert_eq!(action, RouteAction::Redirect { status: 302, location: location.to_owned() });
    }
}

#[test]
fn manifests_name_what_never_changes() {
    let router = router(
        "[{ path = '/s', static = ['dist', 'old'], immutable = ['/fonts/*'] }, \
          { path = '/d', static = 'dist' }]",
    );
    let names = |path| router.decide(&request("GET", path), &[]).route.immutable.clone();
    for path in ["/a.1.css", "/assets/a-2.js", "/fonts/x"] {
        assert!(names("/s").has(path), "{path}");
    }
    assert!(names("/d").has("/a.1.css") && !names("/d").has("/fonts/x") && !names("/").has("/a.1.css"));
    let [unread] = router.unread_manifests() else { panic!("{:?}", router.unread_manifests()) };
    assert!(unread.ends_with("old/staticfiles.json lists no immutable files: it has no paths"), "{unread}");
    assert!(problem("[{ path = '/s', static = 'dist', immutable = ['/a***'] }]").contains("is no pattern"));
}

#[test]
fn a_file_that_is_there_puts_its_route_above_all() {
    let routes = "[{ if_file = '/x/MAINTENANCE', respond = 503, page = 'm.html', \
                     headers = { Retry-After = '9' } }, \
                   { host = 'a.example', exact = '/x', app = 'a:app' }, \
                   { path = '/y', if_file = '/z', respond = 418 }]";
    let router = router(routes);
    assert_eq!(router.watched_files().len(), 2);
    let at = |file: &str| router.watched_files().iter().position(|other| other == Path::new(file)).unwrap();
    let mut present = [false; 2];
    assert_eq!(outcome(&router, "GET", "@a.example/x", &present), "a:app");
    present[at("/x/MAINTENANCE")] = true;
    assert_eq!(outcome(&router, "GET", "@a.example/x", &present), "503");
    assert_eq!(outcome(&router, "GET", "/y", &present), "503");
    let route = router.decide(&request("GET", "/"), &present).route;
    assert_eq!(route.page.as_deref(), Some(&b"<h1>soon</h1>"[..]));
    present[at("/z")] = true;
    assert_eq!(outcome(&router, "GET", "/y", &present), "418", "the more specific of both");
    assert_eq!(outcome(&router, "GET", "/y", &[]), "main", "what is not known is not there");
}

const GUARDED: &str = "[{ path = '/admin', auth = 'users' }, { path = '/net', allow = '10.0.0.0/8' }, \
                        { path = '/login', limit = '5/m' }, \
                        { path = '/secret', static = 's', internal = true }, \
                        { path = '/static', static = 'dist' }, { path = '/shop', app = 'shop:app' }]";

/// Spellings that some server has taken for another path (caddyserver/caddy#1859, #4407, #7941).
const SPELLINGS: [&str; 24] = [
    "//{}",
    "/./{}",
    "/x/../{}",
    "/x/%2e%2e/{}",
    "/x/..%2f{}",
    "/x/..;/{}",
    "/;/../{}",
    "/%2f{}",
    "/%5c{}",
    "/\\{}",
    "/x\\..\\{}",
    "/x/..%5c{}",
    "/{}/../{}",
    "/{}//",
    "/{}/.",
    "/{};/x",
    "/{}%2fx",
    "/{}%5cx",
    "/{}%00",
    "/{}/%c0%ae%c0%ae/x",
    "/{}/../../{}",
    "/%2e/{}",
    "/{}/..;/x",
    "/{}%0d%0a",
];

#[test]
fn no_spelling_of_a_guarded_path_reaches_the_application_around_its_guard() {
    let router = router(GUARDED);
    for name in ["admin", "net", "login", "secret", "static", "shop"] {
        let encoded = name.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let upper = format!("%{:02X}{}", name.as_bytes()[0], &name[1..]);
        for spelling in SPELLINGS {
            for written in [name, &encoded, &upper] {
                let path = spelling.replace("{}", written);
                let decision = router.decide(&request("GET", &path), &[]);
                // What an application sees: the path decoded once, slashes and dots as they are.
                let seen = crate::path::RequestPath::parse(path.as_bytes());
                let leads_there = seen.as_ref().is_ok_and(|seen| {
                    let normal = seen.normal();
                    normal
                        .strip_prefix(format!("/{name}").as_bytes())
                        .is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
                });
                if let RouteAction::Call(call) = &decision.action
                    && leads_there
                {
                    let guarded = decision.route.is_guarded() || call.target == Some("shop:app");
                    assert!(guarded, "{path} reaches the application around {name}");
                }
            }
        }
    }
    for (path, expected) in [
        ("/admin", "main"),
        ("//admin", "400"),
        ("/%61dmin", "400"),
        ("/x/../admin", "400"),
        ("/%2fadmin", "400"),
        ("/admin/x%2fy", "400"),
        ("/x%2fy", "main"),
        ("/static/a%2fb", "404"),
        ("/static/a%5cb", "404"),
        ("/static/%00", "400"),
        ("/static../x", "main"),
        ("/static/../x", "400"),
        ("/static/./x", "dist:/x"),
        ("/static//x", "dist:/x"),
        ("/static", "dist:"),
        ("/static/", "dist:/"),
        ("/secret/x", "404"),
    ] {
        assert_eq!(outcome(&router, "GET", path, &[]), expected, "{path}");
    }
    assert!(router.decide(&request("GET", "/admin"), &[]).route.auth.is_some());
}

#[test]
fn errors_have_the_pages_of_their_route() {
    let mut settings =
        settings("[{ path = '/a', error_pages = 'errors' }, { path = '/a/b', compress = true }]");
    let page = |router: &EdgeRouter, path: &str| {
        let route = router.decide(&request("GET", path), &[]).route;
        route.error_pages.as_ref().and_then(|pages| pages.page(404)).is_some()
    };
    let router = EdgeRouter::build(&settings, true, &mut read).unwrap();
    assert!(page(&router, "/a/b/c") && !page(&router, "/x"));
    settings.error_pages = Some("errors".into());
    assert!(page(&EdgeRouter::build(&settings, true, &mut read).unwrap(), "/x"));
    settings.error_pages = Some("none".into());
    let problem = EdgeRouter::build(&settings, true, &mut read).unwrap_err().to_string();
    assert!(problem.starts_with("--error-pages: none has no page"), "{problem}");
}

#[test]
fn an_application_leads_to_internal_files_and_to_nothing_else() {
    let router = router(GUARDED);
    let found = |path: &str| {
        let (route, file) = router.internal(None, path.as_bytes())?;
        assert!(route.internal);
        Some(String::from_utf8(file.path).unwrap())
    };
    assert_eq!(found("/secret/a b.pdf"), Some("/a b.pdf".to_owned()));
    for path in ["/static/x", "/admin", "/x", "/secretx"] {
        assert_eq!(found(path), None, "{path}");
    }
    assert_eq!(router.internal_folders(), [PathBuf::from("s")]);
}

#[test]
fn an_internal_route_without_a_host_is_for_all_hosts() {
    let router = router(
        "[{ path = '/secret', static = 's', internal = true }, \
          { host = 'a.example', app = 'a:app' }, \
          { host = '*.a.example', path = '/secret', static = 'w', internal = true }, \
          { host = 'b.example', path = '/secret', static = 'open', internal = false }]",
    );
    let folder = |host: &str| {
        let (_, file) = router.internal(Some(host.as_bytes()), b"/secret/x")?;
        assert_eq!(file.path, b"/x");
        file.folders[0].to_str().map(str::to_owned)
    };
    for (host, expected) in [("a.example", "s"), ("b.example", "s"), ("c.example", "s"), ("x.a.example", "w")]
    {
        assert_eq!(folder(host).as_deref(), Some(expected), "{host}");
    }
}

#[test]
fn a_backslash_leads_around_no_route() {
    let router = router("[{ path = '/admin', deny = ['0.0.0.0/0'] }, { path = '/open', respond = 210 }]");
    let is_refused = |path: &str| {
        let found = router.decide(&request("GET", path), &[]).action;
        matches!(found, RouteAction::Refuse(Refusal::BadRequest(_)))
    };
    for path in ["/admin%5cx", "/%5cadmin", "/x%5c..%5cadmin", "/x/..%5cadmin", "/\\admin/x"] {
        assert!(is_refused(path), "{path}");
    }
    // Where both are the application's, a backslash is a character as any other.
    for path in ["/x%5cy", "/admin\\..\\x", "/x/y%5cadmin", "/administrator%5cx", "/%255cadmin"] {
        assert!(!is_refused(path), "{path}");
    }
}

proptest! {
    /// Two spellings of one path never reach different routes: each has the route of the normal form or is
    /// refused.
    #[test]
    fn no_two_spellings_reach_different_routes(
        path in "/(admin|net|static|shop|%61dmin|\\.|\\.\\.|%2e%2e|%2f|x|;|\\\\|/){0,6}"
    ) {
        static ROUTER: LazyLock<EdgeRouter> = LazyLock::new(|| router(GUARDED));
        let router = &*ROUTER;
        if let Ok(parsed) = RequestPath::parse(path.as_bytes()) {
            let normal = encode(parsed.normal());
            let meant = router.decide(&request("GET", &normal), &[]);
            let found = router.decide(&request("GET", &path), &[]);
            let refused = matches!(found.action, RouteAction::Refuse(_));
            prop_assert!(refused || found.route.place() == meant.route.place(), "{path} {normal}");
            if let RouteAction::Serve(file) = &found.action {
                let segments: Vec<&[u8]> = file.path.split(|byte| *byte == b'/').collect();
                prop_assert!(!segments.iter().any(|segment| *segment == b".." || *segment == b"."));
            }
        }
    }
}

#[test]
fn routes_keep_the_ids_of_their_limits_when_others_come() {
    let guarded = "{ path = '/login', limit = '5/m', concurrent = 2 }";
    let alone = router(&format!("[{guarded}]"));
    let beside = router(&format!(
        "[{{ path = '/a', limit = '9/m', concurrent = 9 }}, {}]",
        guarded.replace("5/m", "6/m").replace('2', "3")
    ));
    let of = |router: &EdgeRouter, path| {
        let decision = router.decide(&request("GET", path), &[]);
        let (limit, concurrent) =
            (decision.route.limit.as_ref().unwrap(), decision.route.concurrent.unwrap());
        (limit.id, concurrent.id, concurrent.index, concurrent.max)
    };
    let (first, second) = (of(&alone, "/login"), of(&beside, "/login/x"));
    assert_eq!((first.0, first.1), (second.0, second.1));
    assert_eq!(((first.2, first.3), (second.2, second.3)), ((0, 2), (1, 3)));
    assert_ne!(of(&beside, "/a").0, second.0);
}

#[test]
fn so_many_routes_may_limit_what_runs_at_once_and_no_more() {
    let routes = |number: usize| {
        let routes: Vec<String> =
            (0..number).map(|number| format!("{{ path = '/{number}', concurrent = 1 }}")).collect();
        EdgeRouter::build(&settings(&format!("[{}]", routes.join(","))), true, &mut read)
    };
    assert!(routes(64).is_ok());
    assert!(routes(65).unwrap_err().to_string().contains("at most 64 routes may say `concurrent`"));
}

#[test]
fn the_users_of_a_route_are_read_with_it() {
    let router = router(
        "[{ path = '/admin', auth = 'users' }, { path = '/admin/x', limit = '1/s' }, { host = 'h.example', \
           auth = 'users' }]",
    );
    let auth = |path| router.decide(&request("GET", path), &[]).route.auth.clone();
    let admin = auth("/admin").unwrap();
    assert_eq!(admin.challenge, "Basic realm=\"/admin\", charset=\"UTF-8\"");
    assert_eq!(
        (auth("/admin/x").unwrap().challenge.clone(), admin.users.len()),
        (admin.challenge.clone(), 1)
    );
    let host = auth("@h.example/").unwrap();
    assert_eq!((host.challenge.as_str(), host.id), ("Basic realm=\"/\", charset=\"UTF-8\"", admin.id));
    assert!(auth("/open").is_none());
    for (file, problem) in [
        ("none", "PORTICO_ROUTE: none cannot be read: entity not found"),
        ("bad-users", "PORTICO_ROUTE: bad-users:2: this is no hash of bcrypt, argon2id or sha512-crypt"),
    ] {
        let settings = settings(&format!("[{{ auth = '{file}' }}]"));
        let error = EdgeRouter::build(&settings, true, &mut read).unwrap_err().to_string();
        assert!(error.starts_with(problem) && !error.contains("plain"), "{error}");
    }
}
