//! Probes as a client sees them, beside hosts, routes and other requests.

use std::os::unix::net::UnixStream;

use portico_config::WireProtocol;
use portico_metrics::Counter;

use super::super::tests::{Fixture, GET, fixture, fixture_of, routed};
use super::*;
use crate::health::{HealthCheck, HealthProbe, HealthSource};

/// A server that is ready if that is said, and lives in any case.
#[derive(Debug)]
struct Stated {
    ready: bool,
}

impl HealthSource for Stated {
    fn check(&self, probe: HealthProbe) -> Vec<HealthCheck> {
        let passes = self.ready || probe == HealthProbe::Live;
        vec![HealthCheck { name: "workers", passes, text: "0 of 1 ready".to_owned() }]
    }
}

fn health(ready: bool) -> Health {
    Health::new("/-", false, Arc::new(Stated { ready }))
}

fn probed(mut fixture: Fixture<UnixStream>, ready: bool) -> Fixture<UnixStream> {
    fixture.context.set_health(health(ready));
    fixture
}

/// What the client gets for `request`, and whether the connection is kept.
fn answer(fixture: &mut Fixture<UnixStream>, request: &str) -> (String, bool) {
    let mut step = fixture.receive(request.as_bytes());
    while step == Step::Respond {
        step = fixture.connection.respond_by_route(&mut fixture.context);
    }
    let is_kept = step == Step::Keep && fixture.connection.is_idle();
    (String::from_utf8(fixture.sent()).unwrap(), is_kept)
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: 10.1.2.3:8000\r\n\r\n")
}

#[test]
fn a_probe_gets_its_response_without_a_thread_and_the_connection_is_kept() {
    let mut fixture = probed(fixture(&[]), false);
    for (target, status, content) in [
        ("/-/livez", "200 OK", "ok\n"),
        ("/-/readyz", "503 Service Unavailable", "workers: 0 of 1 ready\n"),
        ("/-/livez?verbose", "200 OK", "[+]workers: 0 of 1 ready\nlivez check passed\n"),
    ] {
        let (response, is_kept) = answer(&mut fixture, &get(target));
        assert!(response.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{target}: {response}");
        assert!(response.ends_with(&format!("\r\n\r\n{content}")), "{target}: {response}");
        assert!(response.contains("\r\nCache-Control: no-store\r\n") && is_kept, "{target}: {response}");
    }
    let head = get("/-/readyz").replace("GET", "HEAD");
    let (response, is_kept) = answer(&mut fixture, &head);
    assert!(response.starts_with("HTTP/1.1 503 ") && response.ends_with("\r\n\r\n") && is_kept, "{response}");
    assert!(response.contains("\r\nContent-Length: 22\r\n"), "{response}");
    let json = get("/-/readyz").replace("\r\n\r\n", "\r\nAccept: application/health+json\r\n\r\n");
    let (response, _) = answer(&mut fixture, &json);
    assert!(response.contains("\r\nContent-Type: application/health+json\r\n"), "{response}");
    assert_eq!(fixture.receive(GET), Step::Ready, "all else is for the application");
}

#[test]
fn neither_hosts_nor_routes_nor_redirects_come_before_probes() {
    let routes = "[
        { path = '/', auth = 'users.htpasswd', limit = '1/h' },
        { host = 'x', path = '/-/livez', respond = 410 },
        { path = '/-', allow = [], headers = { X-Route = 'yes' } },
    ]";
    for mut fixture in [
        probed(fixture(&["--allowed-hosts", "x"]), true),
        probed(routed(WireProtocol::Http, routes), true),
        probed(fixture_of(WireProtocol::Redirect, &[]), true),
    ] {
        for _ in 0..3 {
            let (response, is_kept) = answer(&mut fixture, &get("/-/livez"));
            assert!(response.starts_with("HTTP/1.1 200 ") && is_kept, "{response}");
            assert!(!response.contains("X-Route"), "{response}");
        }
        let (response, _) = answer(&mut fixture, &get("/-/other"));
        assert!(!response.starts_with("HTTP/1.1 200 "), "{response}");
    }
}

#[test]
fn other_methods_are_not_allowed_and_bodies_are_not_read() {
    for (request, is_kept_then) in [
        ("POST /-/livez HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", false),
        ("DELETE /-/readyz HTTP/1.1\r\nHost: x\r\n\r\n", true),
    ] {
        let mut fixture = probed(fixture(&[]), true);
        let (response, is_kept) = answer(&mut fixture, request);
        assert!(response.starts_with("HTTP/1.1 405 ") && is_kept == is_kept_then, "{response}");
        assert!(response.contains("\r\nAllow: GET, HEAD\r\n"), "{response}");
    }
    let mut fixture = probed(fixture(&[]), true);
    let with_body = "GET /-/livez HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n";
    let (response, is_kept) = answer(&mut fixture, with_body);
    assert!(
        response.starts_with("HTTP/1.1 200 ") && response.contains("\r\nConnection: close\r\n"),
        "{response}"
    );
    assert!(!is_kept);
}

#[test]
fn what_is_malformed_is_refused_all_the_same() {
    let mut malformed = probed(fixture(&[]), true);
    let (response, _) = answer(&mut malformed, "GET /-/livez HTTP/1.1\r\n\r\n");
    assert!(response.starts_with("HTTP/1.1 400 "), "a Host is needed: {response}");
}

#[test]
fn without_an_application_all_else_is_refused() {
    let mut fixture = fixture(&[]);
    fixture.context.set_health(health(false).without_application());
    let (response, _) = answer(&mut fixture, &get("/-/startupz"));
    assert!(response.starts_with("HTTP/1.1 503 ") && response.contains("workers: "), "{response}");
    let (response, _) = answer(&mut fixture, &get("/"));
    assert!(
        response.starts_with("HTTP/1.1 503 ") && response.contains("\r\nRetry-After: 1\r\n"),
        "{response}"
    );
    assert!(response.ends_with("the application is being started\n"), "{response}");
}

#[test]
fn probes_are_counted_among_the_requests_only_where_they_are_logged() {
    for (is_logged, count) in [(false, 0), (true, 1)] {
        let mut fixture = fixture(&[]);
        fixture.context.set_health(Health::new("/-", is_logged, Arc::new(Stated { ready: true })));
        answer(&mut fixture, &get("/-/livez"));
        assert_eq!(fixture.context.metrics.total(Counter::Exchanges), count);
    }
}
