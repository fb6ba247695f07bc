//! The engine with clients of its own and without a driver: what becomes of connections, calls and answers.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use portico_config::{Parsed, parse};
use portico_proto::ResponseHead;

use super::*;
use crate::listener::Listener;
use crate::reactor::Interest;
use crate::transport::Transport;

fn config(arguments: &[&str]) -> Config {
    match parse(arguments.iter().map(OsString::from), &|_| None) {
        Ok(Parsed::Run(resolved)) => resolved.config,
        other => panic!("the arguments of a test are valid: {other:?}"),
    }
}

/// An engine without listeners that has one client.
pub(super) fn engine_with_client(arguments: &[&str]) -> (Engine, ConnectionId, UnixStream) {
    let reactor = Arc::new(Reactor::new().unwrap());
    let now = Instant::now();
    let mut engine = Engine::new(Arc::new(config(arguments)), reactor, None, None, now);
    let (id, client) = admit_client(&mut engine);
    (engine, id, client)
}

pub(super) fn admit_client(engine: &mut Engine) -> (ConnectionId, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let server = Arc::new(Server { name: "x".into(), port: String::new(), ..Server::default() });
    let id = engine.admit(Transport::Unix(ours.into()), Peer::Unix, server).unwrap();
    (id, theirs)
}

pub(super) fn readable(id: ConnectionId) -> Event {
    Event { token: id.token(), readable: true, writable: false, read_closed: false, failed: false }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_request_that_has_waited_too_long_is_answered_503_and_never_run() {
    let (mut engine, id, mut client) = engine_with_client(&["--queue-timeout", "5"]);
    let start = engine.now();
    client.write_all(GET).unwrap();
    engine.handle_event(readable(id));
    assert!(engine.has_call());
    assert_eq!(engine.next_deadline(), Some(start + Duration::from_secs(5)));
    engine.set_now(start + Duration::from_secs(5));
    engine.advance();
    let mut answer = [0; 1024];
    let count = client.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..count]);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
    assert!(!engine.has_call() && engine.next_call(|_| || ()).is_none());
    // The connection is kept. Its next request waits in the place of its own, not in the first one's.
    client.write_all(GET).unwrap();
    engine.handle_event(readable(id));
    assert_eq!(engine.queue.len(), 1);
    assert!(engine.next_call(|_| || ()).is_some() && engine.next_call(|_| || ()).is_none());
    engine.set_now(start + Duration::from_secs(60));
    engine.advance();
    assert_eq!(engine.counters().queue_timeouts, 1, "a running call is not queued");
    assert_eq!(engine.table.len(), 1);
}

#[test]
fn a_panic_costs_the_connection_and_not_the_engine() {
    let (mut engine, id, mut client) = engine_with_client(&[]);
    let alive = engine.work_on(id, |_, tools| {
        tools.scratch = Vec::new();
        panic!("as a bug would")
    });
    assert!(!alive);
    assert_eq!((engine.table.len(), engine.tools.scratch.is_empty()), (0, false));
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "closed");
    assert!(!engine.work_on(id, |_, _| Step::Keep), "and forgotten");
}

#[test]
fn a_small_answer_is_held_for_the_next_one_and_a_large_one_never() {
    for (length, held) in [(10, true), (10_000, false)] {
        let (mut engine, first, mut client) = engine_with_client(&[]);
        let (second, mut waiting) = admit_client(&mut engine);
        for (id, peer) in [(first, &mut client), (second, &mut waiting)] {
            peer.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            engine.handle_event(readable(id));
        }
        let call = engine.next_call(|_| || {}).unwrap();
        let head = ResponseHead { length: Some(length as u64), ..ResponseHead::default() };
        let (head, body) = (Cow::Owned(head), Cow::Owned(vec![b'x'; length]));
        assert!(engine.answer(call.key, Answer::Whole { head, body }, Writing::Batched));
        client.set_nonblocking(true).unwrap();
        let mut received = Vec::new();
        let _ = client.read_to_end(&mut received);
        assert_eq!(received.is_empty(), held);
        engine.flush_held();
        let _ = client.read_to_end(&mut received);
        assert!(received.len() > length && received.ends_with(b"x"));
    }
}

/// What the reactor tells of now: of whom, and whether that one has left.
fn told(engine: &Engine) -> Vec<(u64, bool)> {
    let mut events = Events::new();
    engine.reactor.wait(&mut events, Some(Duration::ZERO)).unwrap();
    events.iter().map(|event| (event.token, event.read_closed)).collect()
}

#[test]
fn a_request_that_comes_with_its_connection_is_answered_before_the_socket_is_watched() {
    let (mut engine, _, _first) = engine_with_client(&[]);
    let arrive = |engine: &mut Engine| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.write_all(GET).unwrap();
        let server = Arc::new(Server { name: "x".into(), ..Server::default() });
        (engine.admit(Transport::Unix(ours.into()), Peer::Unix, server).unwrap(), theirs)
    };
    let (answered, mut client) = arrive(&mut engine);
    let call = engine.next_call(|_| || {}).unwrap();
    assert!(engine.has_unwatched() && told(&engine).is_empty());
    let head = Cow::Owned(ResponseHead { length: Some(0), ..ResponseHead::default() });
    engine.answer(call.key, Answer::Whole { head, body: Cow::Borrowed(b"") }, Writing::AtOnce);
    client.write_all(GET).unwrap();
    assert_eq!(told(&engine), [(answered.token(), false)], "once it is answered it is");
    engine.watch_all();
    assert!(!engine.has_unwatched() && told(&engine).is_empty(), "it is not watched twice");

    let (left, client) = arrive(&mut engine);
    drop(client);
    assert!(told(&engine).is_empty());
    engine.watch_all();
    assert_eq!(told(&engine), [(left.token(), true)], "a call that takes time learns of it");
}

#[test]
fn a_request_that_comes_with_its_connection_does_not_overtake_those_before_it() {
    let (mut engine, first, mut earlier) = engine_with_client(&[]);
    engine.watch_all();
    let listeners = Listener::bind_all(&config(&["--bind", "127.0.0.1:0"])).unwrap();
    let address = listeners[0].url().trim_start_matches("http://").to_owned();
    Accepting::watch(&listeners, &engine.reactor, Interest::Accept).unwrap();
    engine.listen(listeners);
    engine.advance();
    // The kernel tells of the listener first, for the connection is there before the other client's request.
    let mut later = TcpStream::connect(address).unwrap();
    earlier.write_all(GET).unwrap();
    later.write_all(GET).unwrap();
    let mut events = Events::new();
    engine.reactor.wait(&mut events, Some(Duration::ZERO)).unwrap();
    engine.handle_events(&events);
    assert_eq!(engine.next_call(|_| || ()).unwrap().key.id, first);
    assert!(engine.next_call(|_| || ()).is_some());
}
