//! A request for a file from its head to its response, on values alone: what a server does in between is to
//! open the file.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use portico_config::{EdgeSettings, Route, RoutePath, RouteResponse};
use portico_edge::files::{
    AcceptedCodings, ContentCoding, EntityTag, FileBody, FileFacts, FileQuery, Preconditions, Sidecar,
    cache_control, choose_sidecar, content_type, is_served, respond,
};
use portico_edge::host::RequestHost;
use portico_edge::path::RequestPath;
use portico_edge::{EdgeRouter, RouteAction, RouteRequest};

/// What a folder is asked for by a request for `path`, or the status of the refusal.
fn looked_up(path: &str) -> Result<String, u16> {
    let route = Route {
        path: RoutePath::Prefix("/static".to_owned()),
        response: Some(RouteResponse::Files(vec!["dist".into()])),
        ..Route::default()
    };
    let settings = EdgeSettings { routes: vec![route], ..EdgeSettings::default() };
    let mut read = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
    let router = EdgeRouter::build(&settings, true, &mut read).unwrap_or_else(|error| panic!("{error}"));
    let request = RouteRequest { method: b"GET", path: path.as_bytes(), query: None, host: None };
    match router.decide(&request, &[]).action {
        RouteAction::Serve(file) if !is_served(&file.path) => Err(404),
        RouteAction::Serve(file) => Ok(String::from_utf8_lossy(&file.path).into_owned()),
        RouteAction::Call(_) => Err(0),
        RouteAction::Refuse(refusal) => Err(refusal.status()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_spelling_leads_out_of_the_folder() {
    for path in [
        "/static/../etc/passwd",
        "/static/%2e%2e/etc/passwd",
        "/static/%252e%252e/etc",
        "/static/..%2fetc",
        "/static/..%5cetc",
        "/static/a%00b",
        "/static/%c0%ae%c0%ae/etc",
        "/static../etc",
        "//etc/passwd",
        "/static//etc/passwd",
        "/static/.git/config",
        "/static/a/../../etc",
    ] {
        if let Ok(file) = looked_up(path) {
            // Whatever is left is a name below the folder.
            assert!(file.starts_with('/') && !file.split('/').any(|name| name == ".."), "{path}: {file}");
        }
    }
    assert_eq!(looked_up("/static/%252e%252e/etc"), Ok("/%2e%2e/etc".to_owned()), "decoded once");
    assert_eq!(looked_up("/static//a/./b.css"), Ok("/a/b.css".to_owned()));
    assert_eq!(looked_up("/static/.git/config"), Err(404));
    assert_eq!(looked_up("/static/../x"), Err(400));
    assert_eq!(looked_up("/static../x"), Err(0), "the application's");
    assert_eq!(
        RequestPath::parse(b"/static//x").map(|path| path.normal().to_vec()),
        Ok(b"/static/x".to_vec())
    );
    assert_eq!(
        RequestHost::parse(b"A.example:80").map(|host| host.name().to_owned()),
        Ok("a.example".to_owned())
    );
}

#[test]
fn two_codings_of_a_file_have_two_tags() {
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let sidecars =
        [ContentCoding::Gzip, ContentCoding::Brotli].map(|coding| Sidecar { coding, size: 10, modified });
    let mut tags = Vec::new();
    for accept in ["br", "gzip", "identity"] {
        let accepted = AcceptedCodings::parse(Some(accept.as_bytes()));
        let sidecar = choose_sidecar(&accepted, 100, modified, &sidecars);
        let tag = EntityTag::of_content(b"body { }");
        let kind = content_type(b"a.css", &[]);
        let control = cache_control(false, &kind, Duration::from_secs(60), false);
        let facts = FileFacts {
            size: sidecar.map_or(100, |sidecar| sidecar.size),
            modified: Some(modified),
            tag: Some(sidecar.map_or(tag.clone(), |sidecar| tag.coded(sidecar.coding))),
            content_type: &kind,
            coding: sidecar.map(|sidecar| sidecar.coding),
            varies: true,
            cache_control: &control,
        };
        let now = modified + Duration::from_secs(100);
        let conditions = Preconditions::default();
        let query = FileQuery { with_content: true, conditions, range: None, now, boundary: 1 };
        let response = respond(&facts, &query);
        let field = |name: &str| {
            response.fields.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone())
        };
        assert_eq!(field("Content-Encoding").as_deref(), (accept != "identity").then_some(accept));
        assert_eq!(field("Vary").as_deref(), Some("Accept-Encoding"));
        assert_eq!(response.body, FileBody::Range(0, facts.size - 1));
        tags.extend(field("ETag"));
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 3, "{tags:?}");
}
