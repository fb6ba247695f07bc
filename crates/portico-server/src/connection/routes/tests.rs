//! What becomes of requests by routes, in HTTP/1 and behind a gateway.

use std::borrow::Cow;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use portico_config::WireProtocol;
use portico_metrics::Counter;
use portico_proto::{Fields, Peer, ResponseHead};

use super::super::tests::{Fixture, fixture, routed, routed_beside, seconds};
use super::super::{Block, Client, Connection, ResponsePart, Step};

type Routed = Fixture<UnixStream>;

const ROUTES: &str = "[
    { path = '/old', redirect = '/new{path}', status = 301 },
    { path = '/gone', respond = 410 },
    { path = '/page', respond = 503, page = 'down.html' },
    { path = '/empty', respond = 204 },
    { path = '/form', methods = ['POST', 'PUT'], app = true },
    { path = '/form', methods = ['GET'], respond = 200 },
    { path = '/inside', allow = ['10.0.0.0/8'], app = true },
    { path = '/outside', deny = ['192.0.2.0/24'], app = true },
]";

fn http(routes: &str) -> Routed {
    routed(WireProtocol::Http, routes)
}

fn request(line: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()
}

/// What the client gets for this request on a connection that is kept before and after.
fn response(fixture: &mut Routed, line: &str) -> String {
    assert_eq!(fixture.receive(&request(line)), Step::Respond, "{line}");
    assert_eq!(fixture.connection.respond_by_route(&mut fixture.context), Step::Keep, "{line}");
    assert!(fixture.connection.is_idle(), "{line}: the connection is kept");
    String::from_utf8(fixture.sent()).unwrap()
}

fn has(response: &str, line: &str) -> bool {
    response.lines().any(|other| other.eq_ignore_ascii_case(line))
}

#[test]
fn routes_respond_in_place_of_the_application() {
    let mut fixture = http(ROUTES);
    let moved = response(&mut fixture, "GET /old/a%20b?c=d");
    assert!(moved.starts_with("HTTP/1.1 301 ") && has(&moved, "Location: /new/old/a%20b?c=d"), "{moved}");
    let gone = response(&mut fixture, "DELETE /gone");
    assert!(gone.starts_with("HTTP/1.1 410 ") && gone.ends_with("\r\n\r\n410\n"), "{gone}");
    let page = response(&mut fixture, "GET /page/x");
    assert!(page.starts_with("HTTP/1.1 503 ") && page.ends_with("\r\n\r\ndown.html"), "{page}");
    assert!(has(&page, "Content-Type: text/html; charset=utf-8"), "{page}");
    let empty = response(&mut fixture, "GET /empty");
    assert!(empty.starts_with("HTTP/1.1 204 ") && !empty.to_lowercase().contains("content-"), "{empty}");
}

#[test]
fn a_head_request_gets_no_body() {
    let mut fixture = http(ROUTES);
    for path in ["/gone", "/page", "/old"] {
        let head = response(&mut fixture, &format!("HEAD {path}"));
        assert!(head.ends_with("\r\n\r\n") && head.to_lowercase().contains("\r\ncontent-length: "), "{head}");
    }
}

/// A site of hosts alone, without an application for all else.
#[test]
fn what_no_route_takes_is_refused() {
    const HOSTS: &str = "[
        { host = 'x', path = '/form', methods = ['PUT', 'POST'], respond = 200 },
        { host = 'x', path = '/form', methods = ['GET'], respond = 200 },
        { host = 'y', respond = 200 },
    ]";
    for (line, host, status) in [
        ("GET /form", "x", "200"),
        ("DELETE /form", "x", "405"),
        ("GET /other", "x", "404"),
        ("GET /", "y", "200"),
        ("GET /", "Y.:80", "200"),
        ("GET /", "z", "421"),
        ("GET /", "yy", "421"),
    ] {
        let mut fixture = routed_beside(WireProtocol::Http, HOSTS, false);
        let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(fixture.receive(request.as_bytes()), Step::Respond, "{line} {host}");
        assert_eq!(fixture.connection.respond_by_route(&mut fixture.context), Step::Keep);
        let response = String::from_utf8(fixture.sent()).unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{line} {host}: {response}");
        assert_eq!(has(&response, "Allow: GET, HEAD, POST, PUT"), status == "405", "{response}");
    }
    // With an application these are its own to refuse.
    let mut fixture = routed(WireProtocol::Http, HOSTS);
    assert_eq!(fixture.receive(b"GET / HTTP/1.1\r\nHost: z\r\n\r\n"), Step::Ready);
}

/// Pitfall: a guarded path reached by another spelling.
#[test]
fn a_path_that_reads_in_two_ways_is_refused() {
    for path in
        ["//inside", "/x/../inside", "/x/%2e%2e/inside", "/inside%2fx", "/inside/%00", "/inside;/..;/x"]
    {
        let mut fixture = http(ROUTES);
        let refused = response(&mut fixture, &format!("GET {path}"));
        assert!(
            ["HTTP/1.1 400 ", "HTTP/1.1 403 "].iter().any(|it| refused.starts_with(it)),
            "{path}: {refused}"
        );
    }
    let mut fixture = http(ROUTES);
    assert_eq!(fixture.receive(&request("GET /a//b")), Step::Ready, "it has the same route either way");
}

fn from(fixture: &mut Routed, address: &str) {
    let Client { listener, .. } = fixture.connection.client();
    let peer = Peer::Inet(format!("{address}:80").parse().unwrap());
    let listener = Arc::clone(listener);
    fixture.connection.client =
        Arc::new(Client { peer, trusted: false, tls: None, destination: None, listener });
}

#[test]
fn clients_are_admitted_by_their_address() {
    for (address, path, admitted) in [
        ("10.1.2.3", "/inside", true),
        ("192.0.2.7", "/inside/deep", false),
        ("[2001:db8::1]", "/inside", false),
        ("192.0.2.7", "/outside", false),
        ("[::ffff:192.0.2.7]", "/outside", false),
        ("198.51.100.1", "/outside", true),
    ] {
        let mut fixture = http(ROUTES);
        from(&mut fixture, address);
        let request = request(&format!("GET {path}"));
        match admitted {
            true => assert_eq!(fixture.receive(&request), Step::Ready, "{address} {path}"),
            false => {
                let refused = response(&mut fixture, &format!("GET {path}"));
                assert!(refused.starts_with("HTTP/1.1 403 "), "{address} {path}: {refused}");
            }
        }
    }
    // A client of a UNIX socket has no address.
    assert!(response(&mut http(ROUTES), "GET /inside").starts_with("HTTP/1.1 403 "));
    assert_eq!(http(ROUTES).receive(&request("GET /outside")), Step::Ready);
}

/// The body is not read, so that what follows it cannot be told from it.
#[test]
fn a_response_before_a_body_ends_the_connection() {
    for head in
        ["Content-Length: 9", "Transfer-Encoding: chunked", "Content-Length: 9\r\nExpect: 100-continue"]
    {
        let mut fixture = http(ROUTES);
        let request = format!("POST /gone HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n");
        fixture.receive(request.as_bytes());
        let response = String::from_utf8(fixture.sent()).unwrap();
        assert!(response.starts_with("HTTP/1.1 410 "), "{head}: {response}");
        assert!(has(&response, "Connection: close"), "{head}: {response}");
    }
}

#[test]
fn requests_sent_together_are_responded_to_in_order() {
    let mut fixture = http(ROUTES);
    let together = [request("GET /gone"), request("GET /old"), request("GET /app")].concat();
    assert_eq!(fixture.receive(&together), Step::Respond);
    assert_eq!(fixture.connection.proceed(&mut fixture.context), Step::Respond, "it is asked again");
    assert_eq!(fixture.connection.respond_by_route(&mut fixture.context), Step::Respond);
    assert_eq!(fixture.connection.respond_by_route(&mut fixture.context), Step::Ready);
    let sent = String::from_utf8(fixture.sent()).unwrap();
    let (gone, moved) = (sent.find("HTTP/1.1 410 "), sent.find("HTTP/1.1 301 "));
    assert!(gone.is_some() && gone < moved, "{sent}");
}

/// The clock is the engine's: a file is looked at once a second, whatever comes.
#[test]
fn a_file_turns_a_route_on_within_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("MAINTENANCE");
    let mut fixture = http(&format!("[{{ if_file = '{}', respond = 503 }}]", file.display()));
    let ask = |fixture: &mut Routed| match fixture.receive(&request("GET /")) {
        Step::Respond => {
            fixture.connection.respond_by_route(&mut fixture.context);
            assert!(fixture.sent().starts_with(b"HTTP/1.1 503 "));
            true
        }
        step => {
            assert_eq!(step, Step::Ready);
            fixture.begin_call();
            fixture.start(Some(0), b"");
            fixture.respond(ResponsePart::Finish);
            fixture.sent();
            false
        }
    };
    assert!(!ask(&mut fixture));
    std::fs::write(&file, "").unwrap();
    assert!(!ask(&mut fixture), "it was looked at in this second");
    fixture.wait(seconds(1));
    assert!(ask(&mut fixture));
    std::fs::remove_file(&file).unwrap();
    assert!(ask(&mut fixture));
    fixture.wait(seconds(1));
    assert!(!ask(&mut fixture));
}

fn scgi(variables: &[(&str, &str)]) -> Vec<u8> {
    let all = [("CONTENT_LENGTH", "0"), ("SCGI", "1"), ("REQUEST_METHOD", "GET")];
    let pairs = all.iter().chain(variables).map(|(name, value)| format!("{name}\0{value}\0"));
    let packet: String = pairs.collect();
    format!("{}:{packet},", packet.len()).into_bytes()
}

/// Gateways may rewrite the path; what their application is called with counts, not what their client has sent.
#[test]
fn behind_a_gateway_the_path_of_the_application_counts() {
    for (variables, status) in [
        (&[("REQUEST_URI", "/gone")][..], Some("410")),
        (&[("REQUEST_URI", "/x"), ("PATH_INFO", "/gone")], Some("410")),
        (&[("REQUEST_URI", "/gone"), ("PATH_INFO", "/x")], None),
        (&[("PATH_INFO", "/one"), ("SCRIPT_NAME", "/g")], None),
        (&[("PATH_INFO", "/x"), ("SCRIPT_NAME", "/gone")], Some("410")),
        (&[("PATH_INFO", "/gone/x"), ("SCRIPT_NAME", "/gone")], Some("410")),
        (&[("PATH_INFO", "/old/a b%"), ("REQUEST_URI", "/")], Some("301")),
    ] {
        let mut fixture = routed(WireProtocol::Scgi, ROUTES);
        let step = fixture.receive(&scgi(variables));
        assert_eq!(step == Step::Respond, status.is_some(), "{variables:?}: {step:?}");
        if let Some(status) = status {
            fixture.connection.respond_by_route(&mut fixture.context);
            let sent = String::from_utf8(fixture.sent()).unwrap();
            assert!(sent.starts_with(&format!("Status: {status}")), "{variables:?}: {sent}");
            assert_eq!(status == "301", has(&sent, "Location: /new/old/a%20b%25"), "{sent}");
        }
    }
}

#[test]
fn a_connection_keeps_nothing_of_a_route() {
    let mut fixture = http(ROUTES);
    response(&mut fixture, "GET /gone");
    assert_eq!(fixture.receive(&request("GET /app")), Step::Ready);
    let connection: &Connection = &fixture.connection;
    assert!(connection.exchange.as_ref().is_some_and(|exchange| !exchange.has_reply()));
}

/// Pitfall of other servers: headers that are lost on errors, and inherited all or none.
#[test]
fn headers_are_set_on_every_response() {
    const HEADERS: &str = "[
        { headers = { X-A = 'all', 'X-B?' = 'b', Server = false, Strict-Transport-Security = 'max-age=1' } },
        { path = '/gone', respond = 410, headers = { X-A = 'own' } },
        { path = '/empty', respond = 304 },
        { path = '/in', deny = ['0.0.0.0/0', '::/0'], allow = [], app = true },
    ]";
    let names = ["x-a: all", "x-a: own", "x-b: b", "server:", "strict-transport-security:", "date:"];
    let lines = |response: &str| {
        let text = response.to_ascii_lowercase();
        names.map(|name| text.lines().filter(|line| line.starts_with(name)).count())
    };
    for (line, expected) in [
        ("GET /gone", [0, 1, 1, 0, 0, 1]),
        ("GET /empty", [1, 0, 1, 0, 0, 1]),
        ("GET /in", [1, 0, 1, 0, 0, 1]),
    ] {
        let mut fixture = http(HEADERS);
        assert_eq!(lines(&response(&mut fixture, line)), expected, "{line}");
    }
    // Refused before it has a route, and the application's.
    let mut fixture = http(HEADERS);
    fixture.receive(b"GET / HTTP/1.1\r\n\r\n");
    let refused = String::from_utf8(fixture.sent()).unwrap();
    assert!(refused.starts_with("HTTP/1.1 400 ") && lines(&refused) == [1, 0, 1, 0, 0, 1], "{refused}");
    let mut fixture = http(HEADERS);
    assert_eq!(fixture.receive(&request("GET /app")), Step::Ready);
    fixture.begin_call();
    let mut fields = Fields::new();
    for (name, value) in
        [("X-A", "mine"), ("x-b", "mine"), ("SERVER", "mine"), ("x-a", "twice"), ("X-C", "c")]
    {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    let head = ResponseHead { status: 200, fields, length: Some(0), ..ResponseHead::default() };
    fixture.respond(ResponsePart::Whole { head: Cow::Owned(head), body: Block::Borrowed(b"") });
    let own = String::from_utf8(fixture.sent()).unwrap();
    assert!(lines(&own) == [1, 0, 0, 0, 0, 1] && has(&own, "X-B: mine") && has(&own, "X-C: c"), "{own}");
}

#[test]
fn strict_transport_security_is_sent_by_https_alone() {
    const HSTS: &str = "[{ respond = 200, headers = { Strict-Transport-Security = 'max-age=1' } }]";
    for (scheme, sent) in [("http", false), ("https", true)] {
        let mut fixture = routed(WireProtocol::Scgi, HSTS);
        assert_eq!(fixture.receive(&scgi(&[("REQUEST_SCHEME", scheme)])), Step::Respond);
        fixture.connection.respond_by_route(&mut fixture.context);
        let response = String::from_utf8(fixture.sent()).unwrap();
        assert_eq!(has(&response, "Strict-Transport-Security: max-age=1"), sent, "{response}");
    }
}

#[test]
fn the_id_of_a_request_can_be_withheld() {
    for (headers, sent) in [("X-Request-Id = false", 0), ("X-Request-Id = 'x'", 1), ("X-A = 'x'", 1)] {
        let routes = http(&format!("[{{ respond = 200, headers = {{ {headers} }} }}]")).context.routes;
        let mut fixture = fixture(&["--request-id"]);
        fixture.context.routes = routes;
        let response = response(&mut fixture, "GET /");
        assert_eq!(response.to_lowercase().matches("x-request-id:").count(), sent, "{headers}: {response}");
    }
}

/// Pitfall: what the route takes out comes in again under a name that means the same to the application.
#[test]
fn request_headers_are_what_the_application_gets() {
    const HEADERS: &str = "[{ request_headers = { X-User = false, X-A = 'ours', 'X-B?' = 'ours' } }]";
    for (sent, expected) in [
        ("", &[("X-A", "ours"), ("X-B", "ours")][..]),
        ("x-user: me\r\nx-a: mine\r\nX-A: mine\r\nx-b: mine\r\n", &[("x-b", "mine"), ("X-A", "ours")]),
        ("X-Users: me\r\n", &[("X-Users", "me"), ("X-A", "ours"), ("X-B", "ours")]),
    ] {
        for underscores in [false, true] {
            let mut fixture = http(HEADERS);
            if underscores {
                let routes = fixture.context.routes.take();
                fixture = super::super::tests::fixture(&["--header-map", "dangerous"]);
                fixture.context.routes = routes;
            }
            let sent = if underscores { sent.replace("x-", "x_") } else { sent.to_owned() };
            let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{sent}\r\n");
            assert_eq!(fixture.receive(text.as_bytes()), Step::Ready);
            let head = &fixture.connection.request().unwrap().head;
            let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('_', "-");
            let had: Vec<_> = head.fields().map(|(name, value)| (text_of(name), text_of(value))).collect();
            let had: Vec<_> = had.iter().map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!(had, [&[("Host", "x")], expected].concat(), "{text:?}");
            // Another worker that gets the request by a handover gets what was sent.
            assert_eq!(head.bytes(), text.as_bytes());
            assert!(head.is_edited());
        }
    }
}

#[test]
fn a_route_says_whether_bodies_are_streamed() {
    const ROUTES: &str = "[{ path = '/on', stream_request_body = true }, \
        { path = '/on/off', stream_request_body = false }]";
    const KNOWN: &str = "Content-Length: 9";
    const CHUNKED: &str = "Transfer-Encoding: chunked";
    for (setting, path, framing, streamed) in [
        ("off", "/", KNOWN, false),
        ("off", "/on/x", KNOWN, true),
        ("off", "/on", CHUNKED, false),
        ("off", "/on/off", KNOWN, false),
        ("on", "/", KNOWN, true),
        ("on", "/on/off", KNOWN, false),
        ("on", "/on", CHUNKED, false),
        ("always", "/", CHUNKED, true),
        ("always", "/on", CHUNKED, true),
        ("always", "/on/off", CHUNKED, false),
    ] {
        let routes = http(ROUTES).context.routes;
        let mut fixture = fixture(&[&format!("--stream-request-body={setting}")]);
        fixture.context.routes = routes;
        let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n");
        // One that is buffered is not ready before its body has come.
        let expected = if streamed { Step::Ready } else { Step::Keep };
        assert_eq!(fixture.receive(request.as_bytes()), expected, "{setting} {path} {framing}");
    }
}

/// On a connection that is kept, and where a body is left unread.
#[test]
fn every_refusal_counts_as_one() {
    const ROUTES: &str = "[
        { host = 'x', path = '/form', methods = ['GET'], respond = 200 },
        { host = 'x', path = '/outside', deny = ['0.0.0.0/0', '::/0'], respond = 200 },
        { host = 'x', path = '/old', redirect = '/new' },
    ]";
    const BODY: &str = "Content-Length: 9\r\n";
    for (line, status, refused) in [
        ("GET /outside", "403", 1),
        ("GET /form/%00", "400", 1),
        ("DELETE /form", "405", 1),
        ("GET /form", "200", 0),
        ("GET /old", "302", 0),
    ] {
        for body in ["", BODY] {
            let mut fixture = routed_beside(WireProtocol::Http, ROUTES, false);
            from(&mut fixture, "192.0.2.7");
            let text = format!("{line} HTTP/1.1\r\nHost: x\r\n{body}\r\n");
            if fixture.receive(text.as_bytes()) == Step::Respond {
                fixture.connection.respond_by_route(&mut fixture.context);
            }
            let response = String::from_utf8(fixture.sent()).unwrap();
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{line} {body}: {response}");
            assert_eq!(fixture.context.metrics.total(Counter::Refused), refused, "{line} {body}");
        }
    }
}

#[test]
fn a_route_has_its_own_limit_of_bodies() {
    const LIMITS: &str = "[{ path = '/small', limit_request_body = 5 }, { path = '/small/no', app = true }]";
    for (path, length, is_taken) in [
        ("/small", 5, true),
        ("/small", 6, false),
        ("/small/no", 6, false),
        ("/other", 8, true),
        ("/other", 9, false),
    ] {
        let routes = http(LIMITS).context.routes;
        let mut by_length = fixture(&["--limit-request-body", "8"]);
        by_length.context.routes = routes;
        let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        let step = by_length.receive(request.as_bytes());
        assert_eq!(step == Step::Keep && by_length.sent().is_empty(), is_taken, "{path} {length}");

        let routes = http(LIMITS).context.routes;
        let mut chunked = fixture(&["--limit-request-body", "8"]);
        chunked.context.routes = routes;
        let content = "x".repeat(length - 3);
        let chunks = format!("3\r\nxxx\r\n{:x}\r\n{content}\r\n0\r\n\r\n", content.len());
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        let step = chunked.receive(format!("{head}{chunks}").as_bytes());
        assert_eq!(step == Step::Ready, is_taken, "{path} {length}");
        let refused = String::from_utf8(chunked.sent()).unwrap();
        assert_eq!(refused.starts_with("HTTP/1.1 413 "), !is_taken, "{refused}");
    }
}
