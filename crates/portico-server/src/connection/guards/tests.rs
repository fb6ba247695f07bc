//! Limits of routes on a connection: who counts as whom, what is refused how, and when a place is free again.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use portico_config::WireProtocol;
use portico_metrics::Counter;

use super::super::moving::MovedRequest;
use super::super::tests::{Fixture, POST, routed, seconds};
use super::super::{Client, ResponsePart, Step};
use super::*;

type Routed = Fixture<UnixStream>;

fn http(routes: &str) -> Routed {
    routed(WireProtocol::Http, routes)
}

/// The client has this address from now on, and is `trusted` or not.
fn from(fixture: &mut Routed, address: &str, trusted: bool) {
    let listener = Arc::clone(&fixture.connection.client().listener);
    let peer = Peer::Inet(format!("{address}:80").parse().unwrap());
    fixture.connection.client = Arc::new(Client { peer, trusted, tls: None, destination: None, listener });
}

fn request(line: &str, fields: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes()
}

/// The status that a request gets on a connection that is kept; 200 is the application's.
fn status(fixture: &mut Routed, line: &str, fields: &str) -> u16 {
    match fixture.receive(&request(line, fields)) {
        Step::Ready => {
            fixture.begin_call();
            fixture.start(Some(0), b"");
            assert_eq!(fixture.respond(ResponsePart::Finish), Step::Keep);
        }
        step => {
            assert_eq!(step, Step::Respond, "{line}");
            assert_eq!(fixture.connection.respond_by_route(&mut fixture.context), Step::Keep);
        }
    }
    assert!(fixture.connection.is_idle(), "{line}");
    let response = String::from_utf8(fixture.sent()).unwrap();
    response.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn beyond_its_rate_a_client_gets_429_and_when_to_come_again() {
    let mut fixture = http("[{ path = '/login', limit = '6/m burst 2' }]");
    from(&mut fixture, "192.0.2.1", false);
    for path in ["/login", "/login/x"] {
        assert_eq!(status(&mut fixture, &format!("GET {path}"), ""), 200);
    }
    assert_eq!(fixture.receive(&request("GET /login", "")), Step::Respond);
    assert_eq!(fixture.connection.respond_by_route(&mut fixture.context), Step::Keep);
    let refused = String::from_utf8(fixture.sent()).unwrap();
    assert!(refused.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{refused}");
    assert!(refused.contains("\r\nRetry-After: 10\r\n"), "{refused}");
    assert!(fixture.connection.is_idle(), "the connection is kept");
    assert_eq!(status(&mut fixture, "GET /other", ""), 200);
    assert_eq!(status(&mut fixture, "GET //login", ""), 400, "another spelling is no way around");
    fixture.wait(seconds(10));
    assert_eq!(status(&mut fixture, "GET /login", ""), 200);
    assert_eq!(status(&mut fixture, "GET /login", ""), 429);
    assert_eq!(fixture.context.metrics.total(Counter::Limited), 2);
}

#[test]
fn the_body_of_a_refused_request_is_not_read() {
    for key in ["limit = '1/d'", "concurrent = 1"] {
        let mut fixture = http(&format!("[{{ path = '/', {key} }}]"));
        assert_eq!(fixture.receive(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), Step::Ready);
        let first = fixture.begin_call();
        let mut other = http("[]");
        // The same worker, another connection.
        std::mem::swap(&mut other.context.routes, &mut fixture.context.routes);
        let continues =
            String::from_utf8(POST.to_vec()).unwrap().replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
        other.receive(continues.as_bytes());
        let refused = String::from_utf8(other.sent()).unwrap();
        let status = if key.starts_with("limit") { "429" } else { "503" };
        assert!(refused.starts_with(&format!("HTTP/1.1 {status} ")), "{key}: {refused}");
        assert!(refused.contains("\r\nConnection: close\r\n"), "{key}: {refused}");
        drop(first);
    }
}

#[test]
fn a_client_is_who_is_believed_to_be_one() {
    let limit = "[{ limit = '1/d' }]";
    let forwarded = |address: &str| format!("X-Forwarded-For: {address}\r\n");
    let mut fixture = http(limit);
    from(&mut fixture, "192.0.2.1", false);
    assert_eq!(status(&mut fixture, "GET /", ""), 200);
    for address in ["198.51.100.1", "2001:db8::1", "192.0.2.9, 198.51.100.2"] {
        assert_eq!(status(&mut fixture, "GET /", &forwarded(address)), 429, "{address}: anybody can say so");
    }
    from(&mut fixture, "127.0.0.1", true);
    for (address, expected) in [
        ("198.51.100.1", 200),
        ("198.51.100.2", 200),
        ("203.0.113.7, 198.51.100.2", 429),
        ("::ffff:198.51.100.1", 429),
        ("2001:db8:0:1::1", 200),
        ("2001:db8:0:1:ffff::9", 429),
        ("2001:db8:0:2::1", 200),
        ("192.0.2.1", 429),
    ] {
        assert_eq!(status(&mut fixture, "GET /", &forwarded(address)), expected, "{address}");
    }
}

#[test]
fn a_limit_may_go_by_a_header() {
    let mut fixture = http("[{ limit = { rate = '1/d', by = 'header:X-Api-Key' } }]");
    from(&mut fixture, "192.0.2.1", false);
    for (fields, expected) in [
        ("X-Api-Key: a\r\n", 200),
        ("x-api-key: a\r\n", 429),
        ("X-Api-Key: b\r\n", 200),
        ("X-Api-Key: b\r\nX-Api-Key: a\r\n", 200),
        ("X-Api-Key: b,a\r\n", 429),
        ("X-Api-Key: \r\n", 200),
        ("", 429),
    ] {
        assert_eq!(status(&mut fixture, "GET /", fields), expected, "{fields:?}");
    }
}

#[test]
fn what_would_be_refused_is_only_told_in_a_dry_run() {
    let mut fixture = http("[{ limit = { rate = '1/d', dry_run = true } }]");
    for _ in 0..5 {
        assert_eq!(status(&mut fixture, "GET /", ""), 200);
    }
    let routes = fixture.context.routes.as_ref().unwrap();
    // It was noted four times.
    let next = (0..4).find_map(|_| routes.guards.spared.note());
    assert_eq!(next.map(|times| times.count()), Some(8));
    assert_eq!(fixture.context.metrics.total(Counter::Limited), 0);
}

/// The crowd of what the fixture's worker has seen.
fn crowd(fixture: &Routed) -> &Crowd {
    &fixture.context.routes.as_ref().unwrap().guards.crowd
}

#[test]
fn a_proxy_that_nobody_has_told_of_is_noticed() {
    let limit = "[{ limit = '1/d' }]";
    for (address, trusted, expected) in [
        ("10.0.0.7", false, true),
        ("10.0.0.7", true, false),
        ("192.0.2.1", false, false),
        ("100.64.0.1", false, true),
    ] {
        let mut fixture = http(limit);
        from(&mut fixture, address, trusted);
        for number in 1..=CROWD_REQUESTS_MIN {
            let fields =
                if trusted { format!("X-Forwarded-For: 192.0.2.{number}\r\n") } else { String::new() };
            status(&mut fixture, "GET /", &fields);
            assert!(!crowd(&fixture).is_told || number == CROWD_REQUESTS_MIN, "{number}");
        }
        assert_eq!(crowd(&fixture).is_told, expected, "{address}");
    }
    // Of a hundred requests six come from elsewhere.
    let mut fixture = http(limit);
    for number in 0..200 {
        from(&mut fixture, if number % 16 == 0 { "192.0.2.1" } else { "10.0.0.7" }, false);
        status(&mut fixture, "GET /", "");
    }
    assert!(!crowd(&fixture).is_told);
    // Who came first does not hide who comes then.
    from(&mut fixture, "10.0.0.8", false);
    for _ in 0..1000 {
        status(&mut fixture, "GET /", "");
    }
    assert!(crowd(&fixture).is_told);
}

/// Whether a place is free of the only route, which has one.
fn is_free(fixture: &Routed) -> bool {
    let routes = fixture.context.routes.as_ref().unwrap();
    routes.place(routes.root(), false).is_ok()
}

#[test]
fn a_place_is_held_until_the_response_has_ended_and_the_call_is_over() {
    let limit = "[{ concurrent = 1 }]";
    // The call comes back before the client has taken all of it.
    let mut fixture = http(limit);
    assert!(is_free(&fixture));
    assert_eq!(fixture.receive(&request("GET /", "")), Step::Ready);
    assert!(!is_free(&fixture), "it waits for a thread");
    let call = fixture.connection.request().cloned();
    fixture.begin_call();
    fixture.start(Some(2), b"ok");
    drop(call);
    assert!(!is_free(&fixture), "the response has not ended");
    assert_eq!(fixture.respond(ResponsePart::Finish), Step::Keep);
    assert!(is_free(&fixture));
    assert_eq!(status(&mut fixture, "GET /", ""), 200, "the next request of the connection");
    // The client leaves, and the call goes on.
    assert_eq!(fixture.receive(&request("GET /", "")), Step::Ready);
    let call = fixture.connection.request().cloned();
    fixture.begin_call();
    fixture.connection.end_exchange(&mut fixture.context);
    assert!(!is_free(&fixture), "the call runs");
    drop(call);
    assert!(is_free(&fixture));
}

#[test]
fn without_a_place_a_request_gets_503_and_the_connection_is_kept() {
    let mut fixture = http("[{ path = '/report', concurrent = 1 }]");
    let routes = fixture.context.routes.as_ref().unwrap();
    let route = routes.router.routes().iter().find(|route| route.concurrent.is_some()).unwrap();
    let place = routes.place(route, false).unwrap();
    assert!(routes.place(route, false).is_err());
    assert_eq!(fixture.receive(&request("GET /report", "")), Step::Respond);
    assert_eq!(fixture.connection.respond_by_route(&mut fixture.context), Step::Keep);
    let refused = String::from_utf8(fixture.sent()).unwrap();
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("\r\nRetry-After: 1\r\n"), "{refused}");
    assert_eq!(status(&mut fixture, "GET /other", ""), 200);
    drop(place);
    assert_eq!(status(&mut fixture, "GET /report", ""), 200);
    assert_eq!(fixture.context.metrics.total(Counter::TooManyAtOnce), 1);
}

#[test]
fn a_client_that_sends_its_body_slowly_takes_no_place() {
    let mut fixture = http("[{ concurrent = 1 }]");
    assert_eq!(fixture.receive(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n1"), Step::Keep);
    assert!(is_free(&fixture));
    assert_eq!(fixture.receive(b"2"), Step::Ready);
    assert!(!is_free(&fixture));
}

#[test]
fn a_streamed_body_has_its_place_from_the_head_on() {
    let mut fixture = http("[{ concurrent = 1, stream_request_body = true }]");
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(fixture.receive(head), Step::Ready);
    assert!(!is_free(&fixture), "its call may begin");
}

#[test]
fn a_request_that_another_worker_has_let_in_is_not_counted_again() {
    let mut fixture = http("[{ limit = '1/d', concurrent = 1 }]");
    let moved = |fixture: &mut Routed| {
        let arrived = fixture.context.now;
        fixture.connection.moved = Some(Box::new(MovedRequest { arrived, handover_count: 1 }));
    };
    let taken = {
        let routes = fixture.context.routes.as_ref().unwrap();
        routes.place(routes.root(), false).unwrap()
    };
    for _ in 0..2 {
        moved(&mut fixture);
        assert_eq!(status(&mut fixture, "GET /", ""), 200, "it had a place where it came from");
    }
    drop(taken);
    assert_eq!(status(&mut fixture, "GET /", ""), 200, "nothing was counted");
    assert_eq!(status(&mut fixture, "GET /", ""), 429);
    moved(&mut fixture);
    assert_eq!(status(&mut fixture, "GET //", ""), 200);
    assert_eq!(status(&mut fixture, "GET /", ""), 429, "the next request of its connection is a new one");
}
