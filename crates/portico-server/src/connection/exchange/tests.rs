//! The life of an exchange, with the clock set by hand: made at the head, dropped at the end, and nothing of it is
//! in the next one.

use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use portico_metrics::{Counter, ENDED_WORDS, EndedRequests, Histogram};

use super::super::context::slow_after;
use super::super::tests::{Fixture, GET, fixture};
use super::*;
use crate::connection::{Block, ResponsePart, Step};

const POST: &[u8] = b"POST /first HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nX-Request-Id: 1\r\n\r\n";

fn exchange<S>(fixture: &Fixture<S>) -> &RequestExchange {
    fixture.connection.exchange.as_deref().expect("an exchange")
}

#[test]
fn it_is_made_at_the_head_and_dropped_at_the_end() {
    let mut fixture = fixture(&[]);
    assert!(fixture.connection.exchange.is_none(), "nothing has come");
    assert_eq!(fixture.receive(&POST[..20]), Step::Keep);
    assert!(fixture.connection.exchange.is_none(), "a part of a head is no request");
    assert_eq!(fixture.receive(&POST[20..]), Step::Keep);
    assert_eq!(exchange(&fixture).head().map(RequestHead::path), Some(&b"/first"[..]));
    assert_eq!(fixture.receive(b"body"), Step::Ready);
    let request = fixture.connection.request().cloned().expect("it waits");
    fixture.begin_call();
    fixture.start(Some(2), b"ok");
    assert_eq!(fixture.respond(ResponsePart::Finish), Step::Keep);
    assert!(fixture.connection.exchange.is_none() && fixture.connection.is_idle());
    assert_eq!(Arc::strong_count(&request), 1, "the connection keeps nothing of it");
    assert_eq!(Arc::strong_count(&request.client), 2, "the client is the connection's");
}

#[test]
fn the_second_request_sees_nothing_of_the_first() {
    let mut fixture = fixture(&["--request-id", "--forwarded-allow-ips", "unix"]);
    let forwarded =
        b"GET /first HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\nX-Request-Id: one\r\n\r\n";
    assert_eq!(fixture.receive(forwarded), Step::Ready);
    fixture.wait(Duration::from_secs(3));
    fixture.begin_call();
    fixture.start(Some(4), b"four");
    fixture.respond(ResponsePart::Finish);
    fixture.wait(Duration::from_secs(5));
    assert_eq!(fixture.receive(GET), Step::Ready);
    let present = exchange(&fixture);
    assert_eq!(present.head().map(RequestHead::path), Some(&b"/"[..]));
    assert!(fixture.connection.request().is_some_and(|request| request.forwarded.is_none()));
    // Every field: a new one has its value here.
    let RequestExchange {
        request: _,
        head_bytes: _,
        method: _,
        upload: None,
        body: None,
        routed: None,
        handover_count: 0,
        id: RequestId::None,
        call: 0,
        moments: Moments { arrived: Some(arrived), begun: None, answered: None },
        outcome: ResponseOutcome { status: None, reason: None, body_bytes: 0, fields },
        flow: None,
        backlog: None,
        lent: None,
        is_last: false,
        is_cut: false,
        is_work_over: false,
    } = present
    else {
        panic!("something is left of the first: {present:?}");
    };
    assert_eq!((*arrived, fields.len()), (fixture.context.now, 0));
    assert_eq!(fixture.connection.waited(fixture.context.now), Duration::ZERO);
}

#[test]
fn a_pipelined_request_has_an_exchange_of_its_own() {
    let mut fixture = fixture(&[]);
    assert_eq!(fixture.receive(&[POST, b"body", GET].concat()), Step::Ready);
    let first = fixture.connection.request().cloned().expect("the first waits");
    fixture.begin_call();
    fixture.start(Some(0), b"");
    assert_eq!(fixture.respond(ResponsePart::Finish), Step::Ready);
    let second = fixture.connection.request().cloned().expect("the second waits");
    assert_eq!((first.head.path(), second.head.path()), (&b"/first"[..], &b"/"[..]));
    assert!(Arc::ptr_eq(&first.client, &second.client), "both are of one client");
    assert!(fixture.begin_call().is_empty(), "the first one's body is not the second one's");
}

#[test]
fn what_ends_one_response_ends_not_the_next() {
    let mut fixture = fixture(&["--queue-timeout", "3"]);
    assert_eq!(fixture.receive(GET), Step::Ready);
    assert_eq!(fixture.pass(Deadline::Queue), Step::Keep);
    assert!(fixture.sent().starts_with(b"HTTP/1.1 503 "));
    assert_eq!(fixture.receive(GET), Step::Ready);
    assert_eq!(exchange(&fixture).outcome.reason, None);
    fixture.begin_call();
    fixture.start(Some(1), b"1");
    assert_eq!(exchange(&fixture).outcome.status, Some(200));
}

#[test]
fn what_is_no_request_has_an_exchange_until_it_is_refused() {
    let mut fixture = fixture(&[]);
    assert_eq!(fixture.receive(b"\0\r\n\r\n"), Step::Again);
    assert!(fixture.sent().starts_with(b"HTTP/1.1 400 "));
    assert!(fixture.connection.exchange.is_none());
}

#[test]
fn its_flow_says_that_the_client_has_gone_when_the_connection_is_closed() {
    let mut fixture = fixture(&[]);
    assert_eq!(fixture.receive(GET), Step::Ready);
    fixture.begin_call();
    fixture.start(None, b"a");
    let flow = exchange(&fixture).flow.clone().expect("it has begun");
    assert_eq!(fixture.respond(ResponsePart::Block(Block::Borrowed(b"b"))), Step::Keep);
    assert!(!flow.is_gone());
    fixture.connection.close(&mut fixture.context);
    assert!(flow.is_gone() && fixture.connection.exchange.is_none());
}

#[test]
fn it_is_counted_by_its_method_status_and_time() {
    let mut fixture = fixture(&[]);
    assert_eq!(fixture.receive(&[POST, b"body"].concat()), Step::Ready);
    fixture.wait(Duration::from_millis(300));
    fixture.begin_call();
    fixture.wait(Duration::from_millis(50));
    fixture.start(Some(2), b"ok");
    let metrics = fixture.context.metrics;
    assert_eq!(metrics.total(Counter::Exchanges), 0, "it has not ended");
    fixture.respond(ResponsePart::Finish);
    let durations = |method: &[u8], code| {
        let (sum, buckets) =
            metrics.durations_at(Histogram::RequestDuration, Method::of(method).with_class(code));
        (buckets.iter().sum::<u64>(), Duration::from_nanos(sum))
    };
    assert_eq!(durations(b"POST", 200), (1, Duration::from_millis(350)));
    assert_eq!(metrics.total(Counter::Exchanges), 1);
    fixture.receive(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n");
    fixture.context.now += Duration::from_secs(100);
    fixture.connection.end_exchange(&mut fixture.context);
    assert_eq!(metrics.total(Counter::Exchanges), 2, "a refusal is one as well");
    assert_eq!(durations(b"", 400), (1, Duration::ZERO), "nothing was awaited for it");
}

/// A connection of an engine that notes which requests were slow or failed, and where it does.
fn noting(arguments: &[&str]) -> (Fixture<UnixStream>, EndedRequests<'static>) {
    let mut fixture = fixture(arguments);
    let words: Vec<AtomicU64> = (0..ENDED_WORDS).map(|_| AtomicU64::new(0)).collect();
    let ended = EndedRequests::in_words(words.leak());
    fixture.context.ended = Some(ended);
    fixture.context.slow_nanos = nanos(slow_after(&fixture.context.config));
    (fixture, ended)
}

/// Has the application take so long for a request, and respond with an empty body.
fn respond_after(fixture: &mut Fixture<UnixStream>, head: &[u8], time: Duration) {
    assert_eq!(fixture.receive(head), Step::Ready);
    fixture.begin_call();
    fixture.wait(time);
    fixture.start(Some(0), b"");
    fixture.respond(ResponsePart::Finish);
}

#[test]
fn a_slow_request_is_noted_without_its_query() {
    let (mut fixture, ended) = noting(&["--slow-request", "3"]);
    let head = b"GET /a?secret=1 HTTP/1.1\r\nHost: x\r\n\
                 traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n";
    respond_after(&mut fixture, head, Duration::from_millis(2_999));
    assert_eq!(ended.read(), [], "below the limit");
    respond_after(&mut fixture, head, Duration::from_secs(3));
    let noted = ended.read();
    assert_eq!(noted.len(), 1);
    assert_eq!((&noted[0].method[..], &noted[0].path[..]), (&b"GET"[..], &b"/a"[..]));
    assert_eq!((noted[0].status, &noted[0].reason[..]), (200, &b"-"[..]));
    assert_eq!((noted[0].application_nanos, noted[0].queue_nanos), (3_000_000_000, 0));
    assert_eq!(noted[0].trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
    assert!(noted[0].unix_nanos > 1_700_000_000_000_000_000);
}

#[test]
fn a_request_is_slow_after_a_second_unless_something_else_is_said() {
    let (mut fixture, ended) = noting(&[]);
    respond_after(&mut fixture, GET, Duration::from_millis(999));
    assert_eq!(ended.read().len(), 0);
    respond_after(&mut fixture, GET, Duration::from_secs(1));
    assert_eq!(ended.read().len(), 1);
}

#[test]
fn a_failed_request_is_noted_with_its_reason() {
    let (mut fixture, ended) = noting(&["--queue-timeout", "3"]);
    assert_eq!(fixture.receive(GET), Step::Ready);
    assert_eq!(fixture.pass(Deadline::Queue), Step::Keep);
    let noted = ended.read();
    assert_eq!((noted[0].status, &noted[0].reason[..]), (503, &b"queue_timeout"[..]));
    fixture.receive(b"\0\r\n\r\n");
    assert_eq!(ended.read().len(), 1, "a client's mistake is no failure");
}
