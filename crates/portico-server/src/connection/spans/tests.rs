//! What a collector is told of exchanges, read from the bytes that it is sent: the encoding is tested in
//! `portico-otlp`, and against OpenTelemetry's own classes in `tests/log/test_traces.py`.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use portico_config::{Parsed, parse};
use portico_log::Reason;
use portico_metrics::Metrics;

use super::super::tests::{Fixture, GET, fixture};
use super::super::{ResponsePart, Step};
use super::*;

/// A collector that takes one message, and the tracer that sends to it.
fn traced<S>(fixture: &mut Fixture<S>) -> Receiver<Vec<u8>> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, messages) = channel();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let count = socket.read(&mut buffer).unwrap();
            request.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&request);
            let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.split("Content-Length: ").nth(1).unwrap().split("\r\n").next().unwrap();
            if request.len() >= head.len() + 4 + length.parse::<usize>().unwrap() {
                break;
            }
        }
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        sender.send(request).unwrap();
    });
    let arguments = ["--otlp", "--otlp-endpoint", &url].into_iter().map(OsString::from);
    let Ok(Parsed::Run(resolved)) = parse(arguments, &|_| None) else { panic!("{url}") };
    let settings = resolved.config.telemetry.traces.as_deref().unwrap();
    let tracer = Tracer::open(settings, Metrics::private()).unwrap();
    fixture.context.tracer = Some(Box::new(tracer));
    messages
}

/// What the collector was sent, once the tracer has ended.
fn told<S>(fixture: &mut Fixture<S>, messages: &Receiver<Vec<u8>>) -> String {
    fixture.context.tracer = None;
    String::from_utf8_lossy(&messages.recv_timeout(Duration::from_secs(10)).unwrap()).into_owned()
}

#[test]
fn a_call_continues_the_trace_and_is_told() {
    let mut fixture = fixture(&[]);
    let messages = traced(&mut fixture);
    let request =
        b"GET /first?secret HTTP/1.1\r\nHost: shop:81\r\nUser-Agent: curl\r\nAuthorization: secret\r\n\
        traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n";
    assert_eq!(fixture.receive(request), Step::Ready);
    fixture.wait(Duration::from_secs(3));
    let Fixture { connection, context, .. } = &mut fixture;
    let begun = connection.begin_call(1, context, || {}).unwrap();
    let trace = begun.context.trace.clone().expect("the application gets it");
    assert_eq!(connection.request().and_then(|request| request.trace.clone()), Some(trace.clone()));
    assert_eq!(trace.own.text().trace_id(), b"4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(trace.parent.map(u64::from_be_bytes), Some(0x00f0_67aa_0ba9_02b7));
    fixture.start(Some(2), b"ok");
    assert_eq!(fixture.respond(ResponsePart::Finish), Step::Keep);
    let told = told(&mut fixture, &messages);
    for text in ["/first", "shop", "curl", "portico.queue_time", "http.response.status_code"] {
        assert!(told.contains(text), "{text} in {told}");
    }
    assert!(!told.contains("secret") && !told.contains("error.type"), "{told}");
}

#[test]
fn two_parents_are_none_and_one_that_is_not_sampled_is_not_told() {
    let mut fixture = fixture(&[]);
    let messages = traced(&mut fixture);
    let parent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\n";
    for (path, parents, follows) in [("/once", 1, true), ("/twice", 2, false)] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{}\r\n", parent.repeat(parents));
        assert_eq!(fixture.receive(request.as_bytes()), Step::Ready);
        fixture.begin_call();
        let trace = fixture.connection.request().and_then(|request| request.trace.clone()).unwrap();
        assert_eq!((trace.parent.is_some(), trace.own.is_sampled()), (follows, !follows));
        fixture.start(Some(2), b"ok");
        assert_eq!(fixture.respond(ResponsePart::Finish), Step::Keep);
    }
    let told = told(&mut fixture, &messages);
    assert!(told.contains("/twice") && !told.contains("/once"), "{told}");
}

#[test]
fn what_the_server_answers_itself_is_told_too() {
    let mut fixture = fixture(&[]);
    let messages = traced(&mut fixture);
    assert_eq!(fixture.receive(GET), Step::Ready);
    fixture.begin_call();
    fixture.connection.give_up(Reason::Timeout, &mut fixture.context);
    fixture.connection.end_exchange(&mut fixture.context);
    let told = told(&mut fixture, &messages);
    for text in ["error.type", "portico.reason", "timeout"] {
        assert!(told.contains(text), "{text} in {told}");
    }
}

#[test]
fn what_is_no_request_is_told_as_the_access_log_has_it() {
    let mut fixture = fixture(&[]);
    let messages = traced(&mut fixture);
    fixture.receive(b"nonsense\r\n\r\n");
    fixture.connection.end_exchange(&mut fixture.context);
    let told = told(&mut fixture, &messages);
    assert!(told.contains("_OTHER") && told.contains("refused") && !told.contains("nonsense"), "{told}");
}
