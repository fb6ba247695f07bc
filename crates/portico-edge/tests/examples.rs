//! The worked examples of the configuration, as files: each decides what it says.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use portico_config::{Config, Parsed, PythonFile, parse_with_files};
use portico_edge::{EdgeRouter, RouteAction, RouteRequest, bypassed_guards, never_taken};

/// The router of a portico.toml.
fn router(text: &str) -> (EdgeRouter, Config) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("portico.toml");
    std::fs::write(&path, text).expect("a file");
    let mut no_python = |_: &PythonFile| Ok(Vec::new());
    let args = [OsString::from("-c"), path.into_os_string()];
    let parsed = parse_with_files(args.into_iter(), &|_| None, &mut no_python);
    let Ok(Parsed::Run(resolved)) = parsed else { panic!("{text}: {parsed:?}") };
    let config = resolved.config;
    let mut read = |path: &Path| match path.to_str() {
        Some("redirects.txt") => Ok(b"/2019/about /about 301\n".to_vec()),
        Some("maintenance.html") => Ok(b"soon".to_vec()),
        // Of "secret", with few rounds.
        Some("/etc/portico/htpasswd") => {
            Ok(b"bob:$2y$04$KBCwKxOzLha2MUKvKBCwKui0nTY/vM1SuWl0DVv6yR50jmX2M4Ya.\n".to_vec())
        }
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    let router = EdgeRouter::build(&config.edge, config.app.is_some(), &mut read);
    let router = router.unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(never_taken(&router), [""; 0], "{text}");
    assert_eq!(bypassed_guards(&router), [""; 0], "{text}");
    (router, config)
}

fn decide(router: &EdgeRouter, method: &str, host: &str, path: &str, present: &[bool]) -> String {
    let request = RouteRequest {
        method: method.as_bytes(),
        path: path.as_bytes(),
        query: None,
        host: Some(host.as_bytes()),
    };
    match router.decide(&request, present).action {
        RouteAction::Call(call) => format!("{} at {:?}", call.target.unwrap_or("main"), call.script_name),
        RouteAction::Serve(file) => {
            format!("{}{}", file.folders[0].display(), String::from_utf8_lossy(&file.path))
        }
        RouteAction::Redirect { status, location } => format!("{status} {location}"),
        RouteAction::Respond { status } => status.to_string(),
        RouteAction::Refuse(refusal) => refusal.status().to_string(),
    }
}

#[test]
fn an_api_beside_a_single_page_application() {
    let (router, _) = router(
        "app = 'api:app'\n[[route]]\nstatic = 'dist'\nfallback = '/index.html'\n\
         [[route]]\npath = '/api'\napp = true\n",
    );
    let get = |path| decide(&router, "GET", "a.example", path, &[]);
    assert_eq!(get("/users/17"), "dist/users/17");
    assert_eq!(get("/api/users"), "main at \"\"");
    assert_eq!(get("/apis"), "dist/apis");
}

#[test]
fn two_applications_under_one_host() {
    let (router, _) = router("app = 'site:app'\n[[route]]\npath = '/shop'\napp = 'shop:app'\n");
    assert_eq!(decide(&router, "GET", "a", "/shop/x", &[]), "shop:app at \"/shop\"");
    assert_eq!(decide(&router, "GET", "a", "/", &[]), "main at \"\"");
}

#[test]
fn old_addresses() {
    let (router, _) = router(
        "[[route]]\nexact = '/blog/{year}/{slug}.html'\nredirect = '/posts/{slug}'\nstatus = 301\n\
         [[route]]\npath = '/'\nredirects = 'redirects.txt'\n",
    );
    assert_eq!(decide(&router, "GET", "a", "/blog/2020/x.html", &[]), "301 /posts/x");
    assert_eq!(decide(&router, "GET", "a", "/2019/about", &[]), "301 /about");
    assert_eq!(decide(&router, "GET", "a", "/about", &[]), "main at \"\"");
}

#[test]
fn media_that_the_application_guards() {
    let (router, _) = router("[[route]]\npath = '/protected'\nstatic = '/srv/media'\ninternal = true\n");
    assert_eq!(decide(&router, "GET", "a", "/protected/a.pdf", &[]), "404");
    assert!(router.internal(None, b"/protected/a b.pdf").is_some());
}

#[test]
fn a_limit_on_logins() {
    let (router, _) = router("[[route]]\npath = '/login'\nmethods = ['POST']\nlimit = '5/m burst 5'\n");
    let limit = |method: &str| {
        let request = RouteRequest { method: method.as_bytes(), path: b"/login", query: None, host: None };
        router.decide(&request, &[]).route.limit.clone()
    };
    assert!(limit("POST").is_some() && limit("GET").is_none());
}

#[test]
fn a_password_on_the_admin_of_one_host() {
    let (router, _) = router(
        "[[route]]\nhost = 'staging.example.com'\npath = '/admin'\nauth = '/etc/portico/htpasswd'\n\
         allow = ['10.0.0.0/8']\n",
    );
    let guarded = |host: &str, path: &str| {
        let request =
            RouteRequest { method: b"GET", path: path.as_bytes(), query: None, host: Some(host.as_bytes()) };
        router.decide(&request, &[]).route.is_guarded()
    };
    assert!(guarded("staging.example.com", "/admin/x") && guarded("STAGING.example.com.:8000", "/admin"));
    assert!(!guarded("staging.example.com", "/") && !guarded("example.com", "/admin"));
}

#[test]
fn a_page_while_the_site_is_maintained() {
    let (router, _) = router(
        "[[route]]\nif_file = '/srv/app/MAINTENANCE'\nrespond = 503\npage = 'maintenance.html'\n\
         headers = { Retry-After = '600' }\n",
    );
    assert_eq!(decide(&router, "GET", "a", "/", &[true]), "503");
    assert_eq!(decide(&router, "GET", "a", "/", &[false]), "main at \"\"");
}

#[test]
fn security_headers_of_all_responses() {
    let (router, _) = router(
        "[[route]]\nheaders = { Strict-Transport-Security = 'max-age=31536000', X-Content-Type-Options = \
         'nosniff', 'Content-Security-Policy?' = \"default-src 'self'\", Server = false }\n",
    );
    let request = RouteRequest { method: b"GET", path: b"/", query: None, host: None };
    let headers = &router.decide(&request, &[]).route.headers;
    assert!(headers.removes(b"server"));
    assert_eq!(headers.added(true, |name| name == "Content-Security-Policy").count(), 2);
    assert_eq!(headers.added(false, |_| false).count(), 2);
}

#[test]
fn several_hosts() {
    let (router, config) = router(
        "[[route]]\nhost = 'example.com'\napp = 'site:app'\n\
         [[route]]\nhost = 'www.example.com'\nredirect = 'https://example.com{path}'\nstatus = 308\n\
         [[route]]\nhost = 'api.example.com'\napp = 'api:app'\nconcurrent = 8\ntimeout = '10s'\n",
    );
    assert_eq!(decide(&router, "GET", "example.com", "/x", &[]), "site:app at \"\"");
    assert_eq!(decide(&router, "GET", "www.example.com", "/x", &[]), "308 https://example.com/x");
    assert_eq!(decide(&router, "GET", "api.example.com", "/x", &[]), "api:app at \"\"");
    assert_eq!(decide(&router, "GET", "other.example", "/x", &[]), "421");
    assert_eq!(config.edge.routes.len(), 3);
}
