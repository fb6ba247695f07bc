//! Requests whose route asks for a password.

use std::os::unix::net::UnixStream;

use portico_config::WireProtocol;

use super::super::tests::{Fixture, routed, seconds};
use super::super::{Deadline, ResponsePart, Step, WorkResult};
use super::*;

type Routed = Fixture<UnixStream>;

/// `bob:secret`, `bob:wrong`, `eve:secret` and `bob:again`; the file of users has Bob's.
const RIGHT: &str = "Authorization: Basic Ym9iOnNlY3JldA==\r\n";
const WRONG: &str = "Authorization: Basic Ym9iOndyb25n\r\n";
const UNKNOWN: &str = "Authorization: Basic ZXZlOnNlY3JldA==\r\n";

fn guarded() -> Routed {
    routed(WireProtocol::Http, "[{ path = '/admin', auth = 'users.htpasswd' }]")
}

fn request(line: &str, fields: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes()
}

fn sent(fixture: &mut Routed) -> String {
    String::from_utf8(fixture.sent()).unwrap()
}

/// What the client gets for this request; the application responds 200.
fn response(fixture: &mut Routed, fields: &str) -> String {
    let mut step = fixture.receive(&request("GET /admin", fields));
    if step == Step::Keep {
        assert_eq!(fixture.due(), Some((Deadline::Work, WORK_TIMEOUT)));
        step = fixture.take_result().unwrap();
    }
    match step {
        Step::Ready => {
            fixture.begin_call();
            fixture.start(Some(0), b"");
            assert_eq!(fixture.respond(ResponsePart::Finish), Step::Keep);
        }
        Step::Respond => {
            assert_eq!(fixture.connection.respond_by_route(&mut fixture.context), Step::Keep);
        }
        step => assert_eq!(step, Step::Keep),
    }
    assert!(fixture.connection.is_idle(), "the connection is kept");
    sent(fixture)
}

#[test]
fn without_credentials_a_request_gets_401_at_once() {
    let mut fixture = guarded();
    for fields in
        ["", "Authorization: Bearer x\r\n", "Authorization: Basic !\r\n", "Authorization: Basic Ym9i\r\n"]
    {
        assert_eq!(fixture.receive(&request("GET /admin/x", fields)), Step::Respond, "{fields}");
        assert_eq!(fixture.connection.respond_by_route(&mut fixture.context), Step::Keep);
        let refused = sent(&mut fixture);
        assert!(refused.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{refused}");
        let challenge = "\r\nWWW-Authenticate: Basic realm=\"/admin\", charset=\"UTF-8\"\r\n";
        assert!(refused.contains(challenge), "{refused}");
    }
    // A body is not awaited.
    fixture.receive(&request("POST /admin", "Content-Length: 9\r\nExpect: 100-continue\r\n"));
    let refused = sent(&mut fixture);
    assert!(
        refused.starts_with("HTTP/1.1 401 ") && refused.contains("\r\nConnection: close\r\n"),
        "{refused}"
    );
}

#[test]
fn with_the_right_password_a_request_has_a_user() {
    let mut fixture = guarded();
    assert_eq!(fixture.receive(&request("GET /admin", RIGHT)), Step::Keep);
    assert!(sent(&mut fixture).is_empty(), "it waits");
    assert_eq!(fixture.take_result(), Some(Step::Ready));
    assert_eq!(fixture.connection.request().unwrap().user.as_deref(), Some("bob"));
    fixture.begin_call();
    fixture.start(Some(0), b"");
    assert_eq!(fixture.respond(ResponsePart::Finish), Step::Keep);
    sent(&mut fixture);
    // From now on it is known, and nothing is computed.
    assert_eq!(fixture.receive(&request("GET /admin", RIGHT)), Step::Ready);
    assert_eq!(fixture.connection.request().unwrap().user.as_deref(), Some("bob"));
    fixture.begin_call();
    fixture.start(Some(0), b"");
    assert_eq!(fixture.respond(ResponsePart::Finish), Step::Keep);
    sent(&mut fixture);
    fixture.wait(seconds(300));
    assert_eq!(fixture.receive(&request("GET /admin", RIGHT)), Step::Keep, "five minutes later it is not");
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_refused_alike() {
    let mut fixture = guarded();
    let (wrong, unknown) = (response(&mut fixture, WRONG), response(&mut fixture, UNKNOWN));
    assert!(wrong.starts_with("HTTP/1.1 401 ") && wrong.contains("WWW-Authenticate"), "{wrong}");
    assert_eq!(wrong, unknown);
    assert!(response(&mut fixture, RIGHT).starts_with("HTTP/1.1 200 "));
    assert!(response(&mut fixture, WRONG).starts_with("HTTP/1.1 401 "), "the connection has no user");
}

#[test]
fn so_many_wrong_passwords_a_client_may_try_and_right_ones_cost_nothing() {
    let mut fixture = guarded();
    for _ in 0..20 {
        assert!(response(&mut fixture, RIGHT).starts_with("HTTP/1.1 200 "));
        fixture.wait(seconds(300));
    }
    for _ in 0..FAILURES_PER_MINUTE {
        assert!(response(&mut fixture, WRONG).starts_with("HTTP/1.1 401 "));
    }
    for fields in [WRONG, RIGHT] {
        let refused = response(&mut fixture, fields);
        assert!(
            refused.starts_with("HTTP/1.1 429 ") && refused.contains("\r\nRetry-After: 6\r\n"),
            "{refused}"
        );
    }
    fixture.wait(seconds(6));
    assert!(response(&mut fixture, RIGHT).starts_with("HTTP/1.1 200 "));
    assert!(response(&mut fixture, WRONG).starts_with("HTTP/1.1 401 "));
    assert!(response(&mut fixture, WRONG).starts_with("HTTP/1.1 429 "));
    assert!(response(&mut fixture, RIGHT).starts_with("HTTP/1.1 200 "), "who is known is not asked");
}

#[test]
fn a_body_comes_in_while_the_password_is_verified() {
    let fields = |credentials: &str| format!("{credentials}Content-Length: 2\r\n");
    let mut fixture = guarded();
    assert_eq!(fixture.receive(&request("POST /admin", &fields(RIGHT))), Step::Keep);
    assert_eq!(fixture.take_result(), Some(Step::Keep), "the body is still to come");
    assert_eq!(fixture.receive(b"ok"), Step::Ready);
    assert_eq!(fixture.connection.request().unwrap().user.as_deref(), Some("bob"));
    let mut fixture = guarded();
    assert_eq!(
        fixture.receive(&[request("POST /admin", &fields(RIGHT)), b"ok".to_vec()].concat()),
        Step::Keep
    );
    assert_eq!(fixture.take_result(), Some(Step::Ready), "the body was first");
    // A wrong one ends the connection: what follows could be the body.
    let mut fixture = guarded();
    assert_eq!(fixture.receive(&request("POST /admin", &fields(WRONG))), Step::Keep);
    fixture.take_result();
    let refused = sent(&mut fixture);
    assert!(
        refused.starts_with("HTTP/1.1 401 ") && refused.contains("\r\nConnection: close\r\n"),
        "{refused}"
    );
}

#[test]
fn no_call_streams_a_body_in_for_nobody_knows_whom() {
    let mut fixture = routed(
        WireProtocol::Http,
        "[{ path = '/admin', auth = 'users.htpasswd', stream_request_body = true }]",
    );
    let head = request("POST /admin", &format!("{RIGHT}Content-Length: 2\r\n"));
    assert_eq!(fixture.receive(&head), Step::Keep);
    assert_eq!(fixture.take_result(), Some(Step::Keep));
    assert_eq!(fixture.receive(b"ok"), Step::Ready);
    fixture.begin_call();
    fixture.start(Some(0), b"");
    assert_eq!(fixture.respond(ResponsePart::Finish), Step::Keep);
    assert_eq!(fixture.receive(&head), Step::Ready, "now it is known");
}

#[test]
fn equal_credentials_are_verified_once() {
    let mut fixture = guarded();
    assert_eq!(fixture.receive(&request("GET /admin", RIGHT)), Step::Keep);
    let mut other = guarded();
    std::mem::swap(&mut other.context.routes, &mut fixture.context.routes);
    assert_eq!(other.receive(&request("GET /admin", RIGHT)), Step::Keep);
    std::mem::swap(&mut other.context.routes, &mut fixture.context.routes);
    let pending = &fixture.context.routes.as_ref().unwrap().guards.logins.pending;
    assert_eq!(pending.values().map(Vec::len).collect::<Vec<_>>(), [2]);
    let WorkResult::Exchanges(finish) = fixture.next_result() else { panic!("it is for many") };
    let exchanges = finish(&mut fixture.context);
    assert_eq!(exchanges.len(), 2, "both go on");
    assert!(fixture.context.routes.as_ref().unwrap().guards.logins.pending.is_empty());
    for ((.., resume), one) in exchanges.into_iter().zip([&mut fixture, &mut other]) {
        assert_eq!(one.connection.resume(resume, &mut one.context), Step::Ready);
        assert_eq!(one.connection.request().unwrap().user.as_deref(), Some("bob"));
    }
}

#[test]
fn a_request_that_has_gone_leaves_nothing_behind() {
    let mut fixture = guarded();
    assert_eq!(fixture.receive(&request("GET /admin", RIGHT)), Step::Keep);
    fixture.connection.end_exchange(&mut fixture.context);
    assert_eq!(fixture.take_result(), None);
    let guards = &fixture.context.routes.as_ref().unwrap().guards;
    assert!(guards.logins.pending.is_empty());
}

#[test]
fn a_request_waits_for_its_user_before_it_takes_a_place() {
    let routes = "[{ path = '/admin', auth = 'users.htpasswd', concurrent = 1, limit = '2/d' }]";
    let mut fixture = routed(WireProtocol::Http, routes);
    assert!(response(&mut fixture, "").starts_with("HTTP/1.1 401 "));
    assert_eq!(fixture.receive(&request("GET /admin", RIGHT)), Step::Keep);
    assert!(fixture.connection.request().unwrap().place.is_none());
    assert_eq!(fixture.take_result(), Some(Step::Ready));
    assert!(fixture.connection.request().unwrap().place.is_some());
    fixture.begin_call();
    fixture.start(Some(0), b"");
    assert_eq!(fixture.respond(ResponsePart::Finish), Step::Keep);
    sent(&mut fixture);
    assert!(response(&mut fixture, RIGHT).starts_with("HTTP/1.1 429 "), "the rate is asked first");
}

/// A route's own response is not given before it is known for whom, however the request comes.
#[test]
fn a_response_of_a_route_waits_for_its_user_too() {
    let page = "[{ path = '/admin', auth = 'users.htpasswd', respond = 200, page = 'secret.html' }]";
    for body in ["", "Content-Length: 2\r\n", "Transfer-Encoding: chunked\r\n"] {
        for (credentials, status) in [("", "401"), (WRONG, "401"), (RIGHT, "200")] {
            let mut fixture = routed(WireProtocol::Http, page);
            let mut step = fixture.receive(&request("POST /admin", &format!("{credentials}{body}")));
            if !credentials.is_empty() {
                assert!(sent(&mut fixture).is_empty(), "{credentials}{body}: nothing before it is known");
                assert!(!fixture.connection.has_reply());
                step = fixture.take_result().unwrap();
            }
            if credentials == RIGHT && !body.is_empty() {
                assert_eq!(step, Step::Keep);
                step = fixture.receive(if body.starts_with('C') { b"ok" } else { b"0\r\n\r\n" });
            }
            if step == Step::Respond {
                fixture.connection.respond_by_route(&mut fixture.context);
            }
            let response = sent(&mut fixture);
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{credentials}{body}: {response}");
            assert_eq!(response.contains("secret.html"), status == "200", "{response}");
        }
    }
}

/// Nor is a file, in whichever place it stands and whatever body the request has.
#[test]
fn a_file_waits_for_its_user_too() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "secret file").unwrap();
    for settings in ["", ", fallback = 'app'", ", fallback = '/a.txt'", ", stream_request_body = true"] {
        let routes = format!(
            "[{{ path = '/admin', auth = 'users.htpasswd', static = '{}'{settings} }}]",
            folder.path().display()
        );
        for body in ["", "Content-Length: 2\r\n", "Transfer-Encoding: chunked\r\n"] {
            for (credentials, status) in [("", "401"), (WRONG, "401"), (RIGHT, "200")] {
                let mut fixture = routed(WireProtocol::Http, &routes);
                let told = format!("{settings} {credentials}{body}");
                let mut step = fixture.receive(&request("GET /admin/a.txt", &format!("{credentials}{body}")));
                if !credentials.is_empty() {
                    assert!(sent(&mut fixture).is_empty(), "{told}: nothing before it is known");
                    assert!(!fixture.connection.has_reply(), "{told}");
                    assert_eq!(step, Step::Keep, "{told}: no call either");
                    step = fixture.take_result().unwrap();
                }
                if credentials == RIGHT && !body.is_empty() {
                    assert_eq!(step, Step::Keep, "{told}");
                    step = fixture.receive(if body.starts_with('C') { b"ok" } else { b"0\r\n\r\n" });
                }
                if step == Step::Respond {
                    step = fixture.connection.respond_by_route(&mut fixture.context);
                }
                let mut response = sent(&mut fixture);
                if response.is_empty() && step == Step::Keep {
                    fixture.take_result(); // The file has been opened off the engine.
                    response = sent(&mut fixture);
                }
                assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{told}: {response}");
                assert_eq!(response.contains("secret file"), status == "200", "{told}: {response}");
                assert!(!fixture.connection.has_reply(), "{told}: one response, and no other");
            }
        }
    }
}
