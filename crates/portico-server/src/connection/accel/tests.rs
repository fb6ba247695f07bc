//! Orders to send a file, in the heads of applications' responses.

use std::borrow::Cow;
use std::fs::write;
use std::os::unix::net::UnixStream;

use portico_config::WireProtocol;

use super::super::tests::{Fixture, routed};
use super::*;
use crate::connection::Block;

/// A connection behind these routes, where `FOLDER` stands for a folder with `a b.txt`.
fn behind(routes: &str) -> (tempfile::TempDir, Fixture<UnixStream>) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("a b.txt"), "0123456789").unwrap();
    let routes = routes.replace("FOLDER", &folder.path().display().to_string());
    (folder, routed(WireProtocol::Http, &routes))
}

const INTERNAL: &str = "[{ path = '/protected', static = 'FOLDER', internal = true }]";

/// What the client gets for `request` where the application responds with `status` and these fields.
fn respond(
    fixture: &mut Fixture<UnixStream>,
    request: &str,
    status: u16,
    own: &[(&str, &str)],
) -> (String, String) {
    let request = format!("{request}\r\nHost: x\r\n\r\n");
    assert_eq!(fixture.receive(request.as_bytes()), Step::Ready);
    fixture.begin_call();
    let mut fields = Fields::new();
    own.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value.as_bytes()));
    let head = ResponseHead { status, fields, length: Some(7), ..ResponseHead::default() };
    fixture.respond(ResponsePart::Whole { head: Cow::Owned(head), body: Block::Borrowed(b"dropped") });
    let mut sent = fixture.sent();
    if sent.is_empty() {
        fixture.take_result().expect("the file is looked for");
        sent = fixture.sent();
    }
    let sent = String::from_utf8(sent).unwrap();
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

const GET: &str = "GET /download HTTP/1.1";

#[test]
fn a_file_of_an_internal_route_is_sent_in_place_of_the_content() {
    let (folder, mut fixture) = behind(INTERNAL);
    let sendfile = folder.path().join("a b.txt").display().to_string();
    for order in [
        ("X-Accel-Redirect", "/protected/a%20b.txt"),
        ("x-accel-redirect", "/protected/a b.txt"),
        ("X-Sendfile", &*sendfile),
    ] {
        let own = [order, ("Set-Cookie", "a=b"), ("ETag", "\"app\""), ("X-Own", "1")];
        let (head, body) = respond(&mut fixture, GET, 200, &own);
        assert!(head.starts_with("http/1.1 200 ") && body == "0123456789", "{head}");
        assert!(head.contains("set-cookie: a=b") && head.contains("content-length: 10"), "{head}");
        assert!(head.contains("content-type: text/plain"), "{head}");
        for absent in ["x-accel", "x-sendfile", "x-own", "\"app\""] {
            assert!(!head.contains(absent), "{absent}: {head}");
        }
    }
}

#[test]
fn what_the_application_says_of_the_content_counts() {
    let (_folder, mut fixture) = behind(INTERNAL);
    let order = ("X-Accel-Redirect", "/protected/a%20b.txt");
    let own = [order, ("Content-Type", "application/pdf"), ("Cache-Control", "private")];
    let (head, _) = respond(&mut fixture, GET, 200, &own);
    assert!(head.contains("content-type: application/pdf") && head.contains("cache-control: private"));
    assert_eq!(head.matches("content-type:").count(), 1, "{head}");
    // Ranges and conditions are the file's.
    let ranged = format!("{GET}\r\nRange: bytes=1-2");
    let (head, body) = respond(&mut fixture, &ranged, 200, &own);
    assert!(head.starts_with("http/1.1 206 ") && body == "12", "{head}");
    let several = format!("{GET}\r\nRange: bytes=1-2,5-5");
    let (head, _) = respond(&mut fixture, &several, 200, &own);
    assert!(head.contains("content-type: multipart/byteranges"), "{head}");
    // A status of its own stays, and then the content is whole.
    let (head, body) = respond(&mut fixture, &ranged, 403, &own);
    assert!(head.starts_with("http/1.1 403 ") && body == "0123456789", "{head}");
    // What a POST is responded to with is not conditional.
    let posted = "POST /download HTTP/1.1\r\nContent-Length: 0\r\nRange: bytes=1-2";
    let (head, body) = respond(&mut fixture, posted, 200, &own);
    assert!(head.starts_with("http/1.1 200 ") && body == "0123456789", "{head}");
}

#[test]
fn no_cache_is_told_to_keep_what_the_application_guards() {
    let order = ("X-Accel-Redirect", "/protected/a%20b.txt");
    let route = |more: &str| INTERNAL.replace(" }", &format!("{more} }}"));
    for (more, own, expected) in [
        ("", None, None),
        (", max_age = '5m'", None, Some("max-age=300, private")),
        (", max_age = '60s'", None, Some("max-age=60, private")),
        (", immutable = ['/*.txt']", None, Some("max-age=31536000, private, immutable")),
        (", max_age = '5m'", Some("no-store"), Some("no-store")),
        ("", Some("private"), Some("private")),
    ] {
        let (_folder, mut fixture) = behind(&route(more));
        let own: Vec<_> = own.map(|value| ("Cache-Control", value)).into_iter().chain([order]).collect();
        let (head, _) = respond(&mut fixture, GET, 200, &own);
        let found = head.lines().find_map(|line| line.strip_prefix("cache-control: "));
        assert_eq!(found, expected, "{more}: {head}");
        // Nor by what says that it is still the same.
        let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
        let conditional = format!("{GET}\r\nIf-None-Match: {tag}");
        let (head, _) = respond(&mut fixture, &conditional, 200, &own);
        assert!(head.starts_with("http/1.1 304 "), "{head}");
        let found = head.lines().find_map(|line| line.strip_prefix("cache-control: "));
        assert_eq!(found, expected, "{more}: {head}");
    }
}

#[test]
fn what_the_applications_response_depends_on_stays() {
    let (folder, mut fixture) = behind(INTERNAL);
    let order = ("X-Accel-Redirect", "/protected/a%20b.txt");
    let expires = ("Expires", "0");
    let varies = |own: &[&str], fixture: &mut Fixture<UnixStream>| {
        let own: Vec<_> = own.iter().map(|value| ("Vary", *value)).chain([order, expires]).collect();
        let (head, _) = respond(fixture, GET, 200, &own);
        assert!(head.contains("expires: 0"), "{head}");
        let values = head.lines().filter_map(|line| line.strip_prefix("vary: "));
        values.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(varies(&["Cookie"], &mut fixture), ["cookie"]);
    // Beside a file in a coding, the response depends on that as well.
    write(folder.path().join("a b.txt.br"), "x").unwrap();
    assert_eq!(varies(&[], &mut fixture), ["accept-encoding"]);
    assert_eq!(varies(&["Cookie"], &mut fixture), ["cookie, accept-encoding"]);
    assert_eq!(varies(&["Cookie", "Accept-Encoding"], &mut fixture), ["cookie", "accept-encoding"]);
    assert_eq!(varies(&["*"], &mut fixture), ["*"]);
}

#[test]
fn an_order_that_leads_nowhere_is_404() {
    let (_folder, mut fixture) = behind(
        "[{ path = '/protected', static = 'FOLDER', internal = true }, { path = '/open', static = 'FOLDER' }]",
    );
    for order in [
        ("X-Accel-Redirect", "/protected/none"),
        ("X-Accel-Redirect", "/open/a%20b.txt"),
        ("X-Accel-Redirect", "/elsewhere"),
        ("X-Accel-Redirect", "/protected/../secret"),
        ("X-Accel-Redirect", "http://x/"),
        ("X-Sendfile", "/etc/passwd"),
        ("X-Sendfile", "relative"),
    ] {
        let (head, body) = respond(&mut fixture, GET, 200, &[order, ("Set-Cookie", "a=b")]);
        assert!(head.starts_with("http/1.1 404 ") && body == "404 Not Found\n", "{order:?}: {head}");
        assert!(!head.contains("set-cookie"), "{head}");
    }
}

#[test]
fn without_an_internal_route_the_headers_pass() {
    for routes in ["[{ path = '/open', static = 'FOLDER' }]", "[{ path = '/x', respond = 404 }]"] {
        let (_folder, mut fixture) = behind(routes);
        let order = ("X-Accel-Redirect", "/protected/a%20b.txt");
        let (head, body) = respond(&mut fixture, GET, 200, &[order]);
        assert!(head.contains("x-accel-redirect: /protected/a%20b.txt") && body == "dropped", "{head}");
    }
}

#[test]
fn nobody_reaches_an_internal_route_from_outside() {
    let (_folder, mut fixture) = behind(INTERNAL);
    for path in ["/protected/a%20b.txt", "/protected/", "/protected", "/x/../protected/a%20b.txt"] {
        let step = fixture.receive(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        assert_eq!(step, Step::Respond, "{path}");
        fixture.connection.respond_by_route(&mut fixture.context);
        let sent = String::from_utf8(fixture.sent()).unwrap();
        assert!(sent.starts_with("HTTP/1.1 404 ") || sent.starts_with("HTTP/1.1 400 "), "{path}: {sent}");
    }
}
