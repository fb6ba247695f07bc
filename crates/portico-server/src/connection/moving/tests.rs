//! What was judged of a client before its connection moved, and after.

use std::ffi::OsString;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use portico_config::{Parsed, parse};
use portico_proto::Peer;

use super::*;
use crate::body::Body;
use crate::connection::exchange::RequestExchange;
use crate::connection::io_state::IoState;
use crate::connection::{Recording, Step};
use crate::handover::{Dispatch, Handover, MESSAGE_BYTES_MAX};

const HEAD: &[u8] =
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";

/// A worker's context: whatever connects is to say whom it speaks for, and is believed.
fn context(now: Instant) -> EngineContext {
    let arguments = [
        "--proxy-protocol",
        "auto",
        "--proxy-allow-from",
        "unix,127.0.0.1",
        "--forwarded-allow-ips",
        "unix,127.0.0.1,192.0.2.7",
    ];
    let Ok(Parsed::Run(resolved)) = parse(arguments.iter().map(OsString::from), &|_| None) else {
        panic!("the arguments of a test are valid");
    };
    EngineContext::new(Arc::new(resolved.config), Recording::private(), now)
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours, client)
}

/// Facts of one value: all of its fields, those that are told and those that are not. One that is in neither list
/// does not compile.
macro_rules! tell_fields {
    ($value:expr, $type:ident { $($told:ident),* $(,)? }, { $($untold:ident),* $(,)? }) => {{
        let $type { $($told,)* $($untold: _,)* } = $value;
        vec![$((stringify!($told), format!("{:?}", $told))),*]
    }};
}

/// What must be the same of a connection before and after a move.
fn facts(connection: &Connection) -> Vec<(&'static str, String)> {
    let mut facts = tell_fields!(
        connection,
        Connection {
            client, protocol, phase, served, moved, lingering, framing_lost,
        },
        {
            // Told below in another form: a descriptor and moments have other numbers there.
            carrier, io, due, exchange,
            // Counted anew where it is.
            counted,
        }
    );
    let IoState { inbox, outbox, peer_closed, .. } = &connection.io;
    facts.push(("io", format!("{inbox:?} {outbox:?} {peer_closed} {}", connection.io.is_failed())));
    let socket = connection.carrier.socket_io().expect("a socket");
    facts.push(("transport", socket.transport.is_unix().to_string()));
    facts.push(("session", format!("{:?} {}", socket.session, socket.is_opening)));
    facts.push(("due", format!("{:?}", connection.due.map(|(deadline, _)| deadline))));
    facts.push(("listener", format!("{:p}", Arc::as_ptr(&connection.client.listener))));
    facts.push(("request", connection.exchange.is_some().to_string()));
    if let Some(exchange) = &connection.exchange {
        facts.extend(exchange_facts(exchange));
    }
    facts
}

fn exchange_facts(exchange: &RequestExchange) -> Vec<(&'static str, String)> {
    let mut facts = tell_fields!(
        exchange,
        RequestExchange {
            request, head_bytes, method, upload, id, outcome, flow, backlog, lent, is_last, is_cut, call,
            is_work_over, routed,
        },
        {
            // Told below in another form.
            body,
            // Compared by themselves: one is counted up, the other are moments.
            handover_count, moments,
        }
    );
    facts.push(("body", format!("{:?}", exchange.body.as_ref().map(Body::in_memory))));
    facts
}

fn arrived(connection: &Connection) -> Option<Instant> {
    connection.exchange.as_ref().and_then(|exchange| exchange.moments.arrived)
}

/// Sends `connection` through a queue in the kernel, to a worker that is not the one it was in.
fn moved(connection: &Connection, queue: HandoverQueue, context: &mut EngineContext) -> Connection {
    let handover = Handover::new().unwrap();
    let pieces = match queue {
        HandoverQueue::Idle => connection.pack_idle(),
        HandoverQueue::Ready => connection.pack_request(),
    };
    let socket = connection.socket().unwrap();
    let metadata = connection.metadata(queue, 0).unwrap();
    let sent = handover.send(queue, (socket.as_fd(), &metadata), pieces.expect("it can go"), context.now);
    assert_eq!(sent, Dispatch::Done);
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    let message = handover.take(queue, &mut buffer, context.now).unwrap();
    let mut there = Connection::unpack(queue, message, Arc::clone(&connection.client.listener), context);
    let step = there.receive_more(context);
    assert_eq!(step, if queue == HandoverQueue::Ready { Step::Ready } else { Step::Keep });
    there
}

fn close(one: Instant, other: Instant) -> bool {
    one.max(other) - one.min(other) < Duration::from_secs(1)
}

fn compare(here: &Connection, there: &Connection, queue: HandoverQueue) {
    assert_eq!(facts(here), facts(there), "{queue:?}");
    match queue {
        HandoverQueue::Idle => {
            assert!(close(here.due.unwrap().1, there.due.unwrap().1));
            assert_eq!(there.handover_count(), 0);
        }
        HandoverQueue::Ready => {
            assert!(close(arrived(here).unwrap(), arrived(there).unwrap()));
            assert_eq!(there.handover_count(), here.handover_count() + 1);
        }
    }
}

/// The client sends `bytes`, and the connection reads them.
fn feed(
    connection: &mut Connection,
    client: &mut impl Write,
    bytes: &[u8],
    context: &mut EngineContext,
) -> Step {
    client.write_all(bytes).unwrap();
    connection.receive_more(context)
}

/// Has `header` tell of the client, and moves its connection at each of its stages.
fn move_about(transport: Transport, peer: Peer, mut client: impl Write, header: &[u8]) -> Connection {
    let mut context = context(Instant::now());
    let server = Arc::new(Server { name: "x".into(), ..Server::default() });
    let transport = context.wrap_transport(transport, peer, &server).unwrap();
    let mut here = Connection::new(transport, peer, server, &context);
    assert!(here.pack_idle().is_none(), "it has not said yet whom it speaks for");
    assert_eq!(feed(&mut here, &mut client, header, &mut context), Step::Keep);
    // As the first that the taker sees of it, a while later, and once more after others have been answered.
    for served in [0, 70_000] {
        here.served = served;
        if served > 0 {
            here.due = Some((Deadline::KeepAlive, context.now + context.config.keep_alive));
        }
        context.now += Duration::from_secs(3);
        let there = moved(&here, HandoverQueue::Idle, &mut context);
        compare(&here, &there, HandoverQueue::Idle);
        here = there;
    }
    assert_eq!(feed(&mut here, &mut client, &HEAD[..30], &mut context), Step::Keep);
    let mut there = moved(&here, HandoverQueue::Idle, &mut context);
    compare(&here, &there, HandoverQueue::Idle);
    assert_eq!(feed(&mut there, &mut client, &HEAD[30..], &mut context), Step::Keep);
    assert_eq!(feed(&mut there, &mut client, b"bodyGET", &mut context), Step::Ready);
    context.now += Duration::from_secs(5);
    let again = moved(&there, HandoverQueue::Ready, &mut context);
    compare(&there, &again, HandoverQueue::Ready);
    let last = moved(&again, HandoverQueue::Ready, &mut context);
    compare(&again, &last, HandoverQueue::Ready);
    last
}

fn unix() -> (Transport, Peer, UnixStream) {
    let (ours, client) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (Transport::Unix(ours.into()), Peer::Unix, client)
}

fn tcp() -> (Transport, Peer, TcpStream) {
    let (ours, client) = tcp_pair();
    let peer = Peer::Inet(ours.peer_addr().unwrap());
    (Transport::Tcp(ours.into()), peer, client)
}

/// A client that the balancer tells of; one that it says nothing of; and the balancer's own look.
const HEADERS: [(&[u8], &str); 3] = [
    (b"PROXY TCP4 192.0.2.7 198.51.100.2 4711 443\r\n", "trusted"),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n", "untrusted"),
    (b"PROXY UNKNOWN\r\n", "untrusted"),
];

#[test]
fn all_that_was_judged_of_a_client_goes_with_its_connection() {
    for (header, expected) in HEADERS {
        let over_tcp = {
            let (transport, peer, client) = tcp();
            move_about(transport, peer, client, header)
        };
        let over_unix = {
            let (transport, peer, client) = unix();
            move_about(transport, peer, client, header)
        };
        for connection in [over_tcp, over_unix] {
            let told = String::from_utf8_lossy(header);
            assert_eq!(connection.client.trusted, expected == "trusted", "{told}");
            let forwarded = connection.request().and_then(|request| request.forwarded.as_ref());
            let address = forwarded.and_then(|forwarded| forwarded.address);
            assert_eq!(address.is_some(), expected == "trusted", "{told}: whose X-Forwarded-For counts");
            assert_eq!(connection.client.destination.is_some(), !header.ends_with(b"UNKNOWN\r\n"));
        }
    }
}

#[test]
fn a_connection_that_says_nothing_of_itself_keeps_its_kind_and_its_peers_rights() {
    let now = Instant::now();
    let mut context = context(now);
    let server = Arc::new(Server::default());
    for trusted in [false, true] {
        let (transport, peer, mut client) = tcp();
        let (tls, destination, listener) = (None, None, Arc::clone(&server));
        let known = Client { peer, trusted, tls, destination, listener };
        let mut here = Connection::of(Arc::new(known), transport, &context);
        feed(&mut here, &mut client, b"GET /", &mut context);
        let there = moved(&here, HandoverQueue::Idle, &mut context);
        compare(&here, &there, HandoverQueue::Idle);
        assert_eq!(
            (there.client.trusted, there.carrier.transport().is_some_and(Transport::is_unix)),
            (trusted, false)
        );
    }
}
