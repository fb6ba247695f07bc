//! What `portico migrate` writes is taken by the router: no two routes are equally specific, and each can be had.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use portico_config::{EdgeSettings, Parsed, PythonFile, parse_with_files};
use portico_edge::{EdgeRouter, RouteAction, RouteRequest, bypassed_guards, never_taken};

fn migrated() -> Vec<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../portico-config/tests");
    let folders = ["nginx", "uwsgi"].map(|kind| fs::read_dir(tests.join(kind)).expect("a folder"));
    let files = folders.into_iter().flatten().map(|entry| entry.expect("an entry").path());
    files.filter(|path| path.extension().is_some_and(|it| it == "expected")).collect()
}

/// The routes of a file, without the lines that tell of what is not in it and without certificates.
fn edge(file: &Path) -> EdgeSettings {
    let text = fs::read_to_string(file).expect("a file");
    let start = text.find("[[route]]").map_or("", |at| &text[at..]);
    let routes: Vec<&str> = start.lines().filter(|line| !line.starts_with('#')).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("portico.toml");
    fs::write(&path, routes.join("\n")).expect("a file");
    let arguments = ["-c".into(), OsString::from(path)];
    let mut no_python = |_: &PythonFile| Ok(Vec::new());
    match parse_with_files(arguments.into_iter(), &|_| None, &mut no_python) {
        Ok(Parsed::Run(resolved)) => {
            assert_eq!(resolved.config.edge.routes.len(), start.matches("[[route]]").count());
            resolved.config.edge
        }
        other => panic!("{}: {other:?}", file.display()),
    }
}

fn router(file: &Path) -> EdgeRouter {
    // A page, a table of redirects and a file of users alike.
    let user = "bob:$2y$04$KBCwKxOzLha2MUKvKBCwKui0nTY/vM1SuWl0DVv6yR50jmX2M4Ya.\n";
    let mut read = |_: &Path| Ok(user.as_bytes().to_vec());
    EdgeRouter::build(&edge(file), true, &mut read)
        .unwrap_or_else(|problem| panic!("{}: {problem}", file.display()))
}

#[test]
fn each_file_is_served_and_each_of_its_routes_can_be_had() {
    let files = migrated();
    assert!(files.len() >= 21, "{}", files.len());
    for file in files {
        assert_eq!(never_taken(&router(&file)), [""; 0], "{}", file.display());
        assert_eq!(bypassed_guards(&router(&file)), [""; 0], "{}", file.display());
    }
}

#[test]
fn requests_get_what_nginx_gave_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../portico-config/tests/nginx");
    for (file, host, path, expected) in [
        ("django", "x", "/", "app"),
        ("django", "x", "/static/a.css", "/srv/shop/static/a.css"),
        ("django", "x", "/favicon.ico", "/srv/shop/static/img/favicon.ico"),
        ("certbot", "example.com", "/static/a", "/srv/example/static/a"),
        ("several-sites", "www.example.com", "/a?b", "301 https://example.com/a?b"),
        ("several-sites", "docs.example.com", "/a", "/srv/docs/html/a"),
        ("several-sites", "example.com", "/a", "app"),
        ("single-page", "x", "/assets/a.js", "/srv/app/dist/assets/a.js"),
        ("single-page", "x", "/index.html", "/srv/app/dist/index.html"),
        ("single-page", "x", "/api/a", "app"),
        ("redirects", "x", "/blog/7/a/b", "301 /posts/a/b"),
        ("redirects", "x", "/de/x", "302 https://example.com/de/x"),
        ("redirects", "x", "/gone/x", "410"),
        ("redirects", "x", "/a", "/srv/old/a"),
        ("uwsgi-pass", "x", "/protected/a", "refused"),
        ("uwsgi-pass", "x", "/downloads/a", "/srv/files/downloads/a"),
        ("maintenance", "x", "/tools/a/b", "app as /a/b"),
    ] {
        let router = router(&folder.join(format!("{file}.expected")));
        let present = vec![false; router.watched_files().len()];
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let request = RouteRequest {
            method: b"GET",
            path: path.as_bytes(),
            query: query.map(str::as_bytes),
            host: Some(host.as_bytes()),
        };
        let found = match router.decide(&request, &present).action {
            RouteAction::Call(call) => {
                call.rewritten.map_or("app".into(), |to| format!("app as {}", String::from_utf8_lossy(&to)))
            }
            RouteAction::Serve(lookup) => {
                format!("{}{}", lookup.folders[0].display(), String::from_utf8_lossy(&lookup.path))
            }
            RouteAction::Redirect { status, location } => format!("{status} {location}"),
            RouteAction::Respond { status } => status.to_string(),
            RouteAction::Refuse(_) => "refused".to_owned(),
        };
        assert_eq!(found, expected, "{file}: {host}{path}");
    }
}
