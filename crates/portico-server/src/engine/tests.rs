//! The engine with clients of its own and without a driver: what becomes of connections, calls and responses.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use portico_config::{Parsed, parse};
use portico_net::{Event, Events, Interest, Listener, Server, Transport};
use portico_proto::{Peer, ResponseHead};

use super::*;
use crate::connection::Block;
use crate::handover::{Handover, Load, Siblings};

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
    let mut engine = Engine::new(Arc::new(config(arguments)), reactor, Recording::private(), None, now);
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

/// Connections that are closed at once when descriptors run out.
const EVICTIONS: usize = 16;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn who_never_asked_makes_room_before_who_was_served() {
    let (mut engine, kept, mut client) = engine_with_client(&[]);
    client.write_all(GET).unwrap();
    engine.handle_event(readable(kept));
    let call = engine.next_call(|_| || {}).unwrap();
    let (head, body) =
        (Cow::Owned(ResponseHead { length: Some(0), ..ResponseHead::default() }), Block::Borrowed(b""));
    engine.respond(call.key, ResponsePart::Whole { head, body }, Writing::AtOnce);
    let mut clients = Vec::new();
    let (begun, mut beginning) = admit_client(&mut engine);
    beginning.write_all(b"GET /").unwrap();
    engine.handle_event(readable(begun));
    for seconds in 1..=(2 * EVICTIONS) {
        engine.set_now(engine.now() + Duration::from_secs(1));
        clients.push((seconds, admit_client(&mut engine)));
    }
    let newest = clients.last().unwrap().1.0;
    assert!(engine.make_room("a test", Some(newest)));
    let left = |engine: &Engine, clients: &[(usize, (ConnectionId, UnixStream))]| -> Vec<usize> {
        let there = clients.iter().filter(|(_, (id, _))| engine.table.get(*id).is_some());
        there.map(|(number, _)| *number).collect()
    };
    assert_eq!(
        left(&engine, &clients),
        (EVICTIONS + 1..=2 * EVICTIONS).collect::<Vec<_>>(),
        "the oldest went"
    );
    assert!(engine.table.get(begun).is_some() && engine.table.get(kept).is_some());
    assert!(engine.make_room("a test", Some(newest)));
    assert_eq!(left(&engine, &clients), [2 * EVICTIONS]);
    assert!(
        engine.table.get(begun).is_some() && engine.table.get(kept).is_some(),
        "not while others are silent"
    );
    assert!(engine.make_room("a test", Some(newest)));
    assert!(engine.table.get(kept).is_none() && engine.table.get(begun).is_some());
    assert!(!engine.make_room("a test", Some(newest)), "nobody is left");
}

#[test]
fn a_client_has_no_more_connections_than_it_may() {
    let (mut engine, _, _client) = engine_with_client(&["--connections-per-client", "2"]);
    let admit = |engine: &mut Engine, address: &str| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let peer = Peer::Inet(SocketAddr::new(address.parse().unwrap(), 1));
        let id = engine.admit(Transport::Tcp(ours.into()), peer, Arc::default());
        (id, theirs)
    };
    let clients: Vec<_> =
        ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"].map(|it| admit(&mut engine, it)).into();
    let admitted: Vec<_> = clients.iter().map(|(id, _)| id.is_some()).collect();
    assert_eq!(admitted, [true, true, false, true]);
    // Loopback is trusted by default: a proxy there has the connections of many.
    assert!(["127.0.0.1"; 5].map(|it| admit(&mut engine, it)).iter().all(|(id, _)| id.is_some()));
    let (id, client) = &clients[0];
    client.shutdown(std::net::Shutdown::Both).unwrap();
    engine.handle_event(readable(id.unwrap()));
    assert!(admit(&mut engine, "192.0.2.1").0.is_some(), "one has gone");
}

/// A sibling that takes whatever there is.
struct Willing;

impl Siblings for Willing {
    fn publish(&self, _: Load) {}

    fn idle_threads(&self) -> u32 {
        1
    }

    fn has_ready(&self) -> bool {
        true
    }
}

#[test]
fn a_connection_that_moves_counts_where_it_is_and_is_not_judged_again() {
    let arguments =
        ["--connections-per-client", "1", "--forwarded-allow-ips", "none", "--bind", "127.0.0.1:0"];
    let config = Arc::new(config(&arguments));
    let listener = Listener::bind_all(&config).unwrap().remove(0);
    let address = rustix::net::getsockname(&listener).unwrap();
    let address = SocketAddr::try_from(address).unwrap();
    let handover = Handover::new().unwrap();
    let mut engines = [0, 1].map(|_| {
        let sharing = Sharing { handover: handover.clone(), siblings: Arc::new(Willing) };
        let reactor = Arc::new(Reactor::new().unwrap());
        let listener = listener.share().unwrap();
        Accepting::watch(std::slice::from_ref(&listener), &reactor, Interest::Shared).unwrap();
        SharingState::watch(&sharing, &reactor).unwrap();
        let mut engine =
            Engine::new(Arc::clone(&config), reactor, Recording::private(), Some(sharing), Instant::now());
        engine.listen(vec![listener]);
        engine
    });
    let mut clients = Vec::new();
    for engine in &mut engines {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
        engine.advance();
        assert_eq!(engine.table.len(), 1);
        assert!(engine.context.ledger.bytes() > 0);
        clients.push(client);
    }
    let [leaving, staying] = &mut engines;
    leaving.retire(leaving.now() + Duration::from_secs(9));
    assert!(leaving.table.len() == 0 && leaving.is_stopped());
    assert_eq!(
        (leaving.context.ledger.bytes(), leaving.clients.count()),
        (0, 0),
        "nothing counts there any more"
    );
    staying.note_handover_queues();
    staying.advance();
    assert_eq!((staying.table.len(), staying.clients.count()), (2, 2), "beyond what one that comes may have");
    for id in staying.table.ids() {
        assert!(!staying.work_on(id, |_, _| Step::Close));
    }
    assert_eq!((staying.context.ledger.bytes(), staying.clients.count()), (0, 0));
}

#[test]
fn memory_is_counted_and_clients_that_stopped_are_cut() {
    let arguments = ["--client-memory", "8m", "--limit-request-head", "1m", "--head-timeout", "60"];
    let (mut engine, first, mut client) = engine_with_client(&arguments);
    let idle = engine.context.ledger.bytes();
    let part = [b"GET / HTTP/1.1\r\nHost: x\r\n".as_slice(), &b"A: b\r\n".repeat(50)].concat();
    client.write_all(&part).unwrap();
    engine.handle_event(readable(first));
    let held = engine.context.ledger.bytes() - idle;
    assert!(held >= part.len(), "{held}");
    client.write_all(b"\r\n").unwrap();
    engine.handle_event(readable(first));
    let call = engine.next_call(|_| || {}).unwrap();
    let (head, body) =
        (Cow::Owned(ResponseHead { length: Some(0), ..ResponseHead::default() }), Block::Borrowed(b""));
    engine.respond(call.key, ResponsePart::Whole { head, body }, Writing::AtOnce);
    assert_eq!(engine.context.ledger.bytes(), idle, "what was held has been let go");

    // Responses that nobody reads: each is kept as it is, as long as there is room.
    let mut clients = Vec::new();
    for _ in 0..7 {
        engine.set_now(engine.now() + Duration::from_secs(1));
        let (id, mut client) = admit_client(&mut engine);
        client.write_all(GET).unwrap();
        engine.handle_event(readable(id));
        let call = engine.next_call(|_| || {}).unwrap();
        let head = Cow::Owned(ResponseHead { length: Some(2_000_000), ..ResponseHead::default() });
        let body = Block::Shared(Box::new(vec![0; 2_000_000].into()));
        engine.respond(call.key, ResponsePart::Whole { head, body }, Writing::AtOnce);
        engine.advance();
        clients.push((id, client));
    }
    let there: Vec<_> = clients.iter().map(|(id, _)| engine.table.get(*id).is_some()).collect();
    assert!(!there[0] && there[6], "those that stopped first are cut first: {there:?}");
    assert!(engine.context.ledger.bytes() <= 8 << 20);
    drop(clients);
    engine.set_now(engine.now() + Duration::from_secs(200));
    for _ in 0..3 {
        engine.advance();
    }
    assert!(engine.context.ledger.bytes() < 100_000, "{}", engine.context.ledger.bytes());
}

#[test]
fn a_request_that_has_waited_too_long_is_answered_503_and_never_run() {
    let (mut engine, id, mut client) = engine_with_client(&["--queue-timeout", "5"]);
    let start = engine.now();
    client.write_all(GET).unwrap();
    engine.handle_event(readable(id));
    assert!(engine.has_call());
    assert_eq!(engine.next_deadline(true), Some(start + Duration::from_secs(5)));
    engine.set_now(start + Duration::from_secs(5));
    engine.advance();
    let mut response = [0; 1024];
    let count = client.read(&mut response).unwrap();
    let response = String::from_utf8_lossy(&response[..count]);
    assert!(
        response.starts_with("HTTP/1.1 503 ") && response.contains("\r\nRetry-After: 1\r\n"),
        "{response}"
    );
    assert!(!engine.has_call() && engine.next_call(|_| || ()).is_none());
    // The connection is kept. Its next request waits in the place of its own, not in the first one's.
    client.write_all(GET).unwrap();
    engine.handle_event(readable(id));
    assert_eq!(engine.queue.len(), 1);
    assert!(engine.next_call(|_| || ()).is_some() && engine.next_call(|_| || ()).is_none());
    engine.set_now(start + Duration::from_secs(60));
    engine.advance();
    assert_eq!(engine.metrics().total(Counter::QueueTimeouts), 1, "a running call is not queued");
    assert_eq!(engine.table.len(), 1);
}

#[test]
fn a_panic_costs_the_connection_and_not_the_engine() {
    let (mut engine, id, mut client) = engine_with_client(&[]);
    let alive = engine.work_on(id, |_, context| {
        context.scratch = Vec::new();
        panic!("as a bug would")
    });
    assert!(!alive);
    assert_eq!((engine.table.len(), engine.context.scratch.is_empty()), (0, false));
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "closed");
    assert!(!engine.work_on(id, |_, _| Step::Keep), "and forgotten");
}

#[test]
fn a_small_response_is_held_for_the_next_one_and_a_large_one_never() {
    for (length, held) in [(10, true), (10_000, false)] {
        let (mut engine, first, mut client) = engine_with_client(&[]);
        let (second, mut waiting) = admit_client(&mut engine);
        for (id, peer) in [(first, &mut client), (second, &mut waiting)] {
            peer.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            engine.handle_event(readable(id));
        }
        let call = engine.next_call(|_| || {}).unwrap();
        let head = ResponseHead { length: Some(length as u64), ..ResponseHead::default() };
        let (head, body) = (Cow::Owned(head), Block::Owned(vec![b'x'; length]));
        assert!(engine.respond(call.key, ResponsePart::Whole { head, body }, Writing::Batched));
        client.set_nonblocking(true).unwrap();
        let mut received = Vec::new();
        let _ = client.read_to_end(&mut received);
        assert_eq!(received.is_empty(), held);
        engine.flush_held();
        let _ = client.read_to_end(&mut received);
        assert!(received.len() > length && received.ends_with(b"x"));
    }
}

/// Hands `blocks` of a response of unknown length over, each joined to the one before, after its head has left.
fn join_blocks(
    engine: &mut Engine,
    id: ConnectionId,
    client: &mut UnixStream,
    blocks: &[usize],
) -> RequestKey {
    client.set_nonblocking(true).unwrap();
    client.write_all(GET).unwrap();
    engine.handle_event(readable(id));
    let key = engine.next_call(|_| || {}).unwrap().key;
    let head = Cow::Owned(ResponseHead::default());
    let start = ResponsePart::Start { head, block: Block::Borrowed(b"first"), flow: Arc::default() };
    assert!(engine.respond(key, start, Writing::AtOnce));
    assert!(received(client).windows(5).any(|bytes| bytes == b"first"), "head and first block leave at once");
    for length in blocks {
        let block = vec![b'x'; *length];
        assert!(engine.respond(key, ResponsePart::Block(Block::Borrowed(&block)), Writing::Joined));
    }
    key
}

fn received(client: &mut UnixStream) -> Vec<u8> {
    let mut received = Vec::new();
    let _ = client.read_to_end(&mut received);
    received
}

#[test]
fn small_blocks_are_joined_until_the_response_ends() {
    let (mut engine, id, mut client) = engine_with_client(&[]);
    let key = join_blocks(&mut engine, id, &mut client, &[1, 2, 3]);
    assert!(received(&mut client).is_empty());
    assert!(engine.respond(key, ResponsePart::Finish, Writing::AtOnce));
    assert_eq!(received(&mut client), b"1\r\nx\r\n2\r\nxx\r\n3\r\nxxx\r\n0\r\n\r\n");
    assert_eq!(engine.join_until, None, "nothing is left to be written");
}

#[test]
fn joined_blocks_leave_by_their_deadline() {
    let (mut engine, id, mut client) = engine_with_client(&[]);
    join_blocks(&mut engine, id, &mut client, &[1, 2]);
    let Some(Some(due)) = engine.changed_timeout(false) else { panic!("the standby is told of it") };
    assert_eq!(due, engine.now() + HOLD_MAX);
    engine.set_now(due);
    engine.advance();
    assert_eq!(received(&mut client), b"1\r\nx\r\n2\r\nxx\r\n");
}

#[test]
fn joined_blocks_are_few_bytes() {
    for blocks in [&[1, 5000][..], &[2000, 3000, 1]] {
        let (mut engine, id, mut client) = engine_with_client(&[]);
        join_blocks(&mut engine, id, &mut client, blocks);
        assert!(received(&mut client).len() > blocks.iter().sum::<usize>(), "all of them have left");
    }
}

#[test]
fn joined_blocks_leave_before_the_engine_stops() {
    let (mut engine, id, mut client) = engine_with_client(&[]);
    join_blocks(&mut engine, id, &mut client, &[2]);
    assert!(received(&mut client).is_empty());
    engine.stop();
    assert_eq!(received(&mut client), b"2\r\nxx\r\n");
}

#[test]
fn joined_blocks_leave_before_a_response_is_cut() {
    let (mut engine, id, mut client) = engine_with_client(&[]);
    let key = join_blocks(&mut engine, id, &mut client, &[2]);
    engine.respond(key, ResponsePart::Abort(portico_log::Reason::Aborted), Writing::AtOnce);
    assert_eq!(received(&mut client), b"2\r\nxx\r\n");
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
    engine.respond(call.key, ResponsePart::Whole { head, body: Block::Borrowed(b"") }, Writing::AtOnce);
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
