//! Every deadline in every phase, with the clock set by hand: no test here waits for time to pass.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use portico_config::{Parsed, WireProtocol, parse};
use portico_proto::{Fields, ResponseHead};

use super::timeout::DRAIN_GRACE;
use super::*;
use crate::body::Body;
use crate::handover::{HandoverMessage, HandoverQueue};

/// A connection as the engine holds it, and the client's end of it.
pub(super) struct Fixture<S> {
    pub(super) connection: Connection,
    pub(super) context: EngineContext,
    pub(super) client: S,
}

pub(super) const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
pub(super) const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
pub(super) const INPUT: Event =
    Event { token: 0, readable: true, writable: false, read_closed: false, failed: false };
pub(super) const ROOM: Event =
    Event { token: 0, readable: false, writable: true, read_closed: false, failed: false };

pub(super) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) fn fixture(arguments: &[&str]) -> Fixture<UnixStream> {
    fixture_of(WireProtocol::Http, arguments)
}

/// The same for a client of this protocol.
pub(super) fn fixture_of(protocol: WireProtocol, arguments: &[&str]) -> Fixture<UnixStream> {
    let (ours, client) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    client.set_nonblocking(true).unwrap();
    Fixture::around(protocol, Transport::Unix(ours.into()), client, arguments)
}

pub(super) fn tcp_fixture() -> Fixture<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    client.set_read_timeout(Some(seconds(5))).unwrap();
    Fixture::around(WireProtocol::Http, Transport::Tcp(ours.into()), client, &[])
}

impl<S: Read + Write> Fixture<S> {
    pub(super) fn around(
        protocol: WireProtocol,
        transport: Transport,
        client: S,
        arguments: &[&str],
    ) -> Self {
        let Ok(Parsed::Run(resolved)) = parse(arguments.iter().map(OsString::from), &|_| None) else {
            panic!("the arguments of a test are valid");
        };
        let context = EngineContext::new(Arc::new(resolved.config), None, Instant::now());
        let server = Arc::new(Server { protocol, ..Server::default() });
        let connection = Connection::new(transport, Peer::Unix, server, &context);
        Self { connection, context, client }
    }

    /// The client sends `bytes`, and the reactor tells of it.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Step {
        self.client.write_all(bytes).unwrap();
        self.connection.handle_event(INPUT, &mut self.context)
    }

    /// Everything that has been sent to the client and not been read by it.
    pub(super) fn sent(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.client.read_to_end(&mut bytes);
        bytes
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.context.now += time;
    }

    /// Which deadline is set, and how far away it is.
    pub(super) fn due(&self) -> Option<(Deadline, Duration)> {
        self.connection.due().map(|(deadline, at)| (deadline, at.saturating_duration_since(self.context.now)))
    }

    /// The clock reaches the deadline that is set, which is this one.
    pub(super) fn pass(&mut self, expected: Deadline) -> Step {
        let (deadline, at) = self.connection.due().expect("a deadline is set");
        assert_eq!(deadline, expected);
        self.context.now = self.context.now.max(at);
        self.connection.handle_timeout(deadline, &mut self.context)
    }

    /// A thread takes the request.
    pub(super) fn begin_call(&mut self) -> Body {
        self.connection.begin_call(1, &mut self.context, || {}).expect("a request waits").body
    }

    pub(super) fn respond(&mut self, response: ResponsePart<'_>) -> Step {
        self.connection.respond(response, false, &mut self.context)
    }

    /// Begins a response of `length` bytes with `block`.
    pub(super) fn start(&mut self, length: Option<u64>, block: &[u8]) -> Step {
        let head = ResponseHead { status: 200, fields: Fields::new(), length, ..ResponseHead::default() };
        let flow = Arc::default();
        self.respond(ResponsePart::Start { head: Cow::Owned(head), block: Block::Borrowed(block), flow })
    }

    /// One whole exchange, after which the connection is kept.
    pub(super) fn exchange(&mut self) {
        assert_eq!(self.receive(GET), Step::Ready);
        self.begin_call();
        assert_eq!(self.start(Some(2), b"ok"), Step::Keep);
        assert_eq!(self.respond(ResponsePart::Finish), Step::Keep);
        assert!(self.connection.is_idle());
    }
}

#[test]
fn a_client_that_sends_nothing_is_closed_without_a_word() {
    let mut fixture = fixture(&["--head-timeout", "20"]);
    assert_eq!(fixture.due(), Some((Deadline::Head, seconds(20))));
    assert_eq!(fixture.pass(Deadline::Head), Step::Close);
    assert_eq!(fixture.sent(), b"");
}

#[test]
fn a_head_is_not_bought_time_by_more_of_it_and_ends_in_408_and_lingering() {
    let mut fixture = fixture(&["--head-timeout", "20"]);
    for left in [20, 15, 10] {
        assert_eq!(fixture.due(), Some((Deadline::Head, seconds(left))));
        assert_eq!(fixture.receive(b"G"), Step::Keep);
        fixture.wait(seconds(5));
    }
    assert_eq!(fixture.pass(Deadline::Head), Step::Again);
    assert!(fixture.sent().starts_with(b"HTTP/1.1 408 "));
    assert_eq!(fixture.connection.proceed(&mut fixture.context), Step::Keep);
    assert_eq!(fixture.receive(b"more that nobody reads"), Step::Keep);
    assert_eq!(fixture.pass(Deadline::Drain), Step::Close);
}

#[test]
fn bytes_of_a_body_buy_time_until_the_rate_has_fallen_too_low() {
    let mut fixture = fixture(&["--body-timeout", "30", "--body-min-rate", "100"]);
    assert_eq!(fixture.receive(POST), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Body, seconds(30))));
    fixture.wait(seconds(20));
    assert_eq!(fixture.receive(&[0; 4000]), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Body, seconds(30))), "40 seconds' worth came in 20");
    fixture.wait(seconds(29));
    assert_eq!(fixture.receive(b"x"), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Body, seconds(21))), "30 + 4001 / 100 - 49");
    assert_eq!(fixture.pass(Deadline::Body), Step::Again);
    assert!(fixture.sent().starts_with(b"HTTP/1.1 408 "));
}

#[test]
fn a_complete_request_has_its_time_in_the_queue_until_a_thread_takes_it() {
    let mut fixture = fixture(&["--queue-timeout", "3"]);
    assert_eq!(fixture.receive(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"), Step::Keep);
    fixture.wait(seconds(1));
    assert_eq!(fixture.receive(b"body"), Step::Ready);
    assert_eq!(fixture.due(), Some((Deadline::Queue, seconds(3))), "an upload takes what it takes");
    fixture.begin_call();
    assert_eq!(fixture.due(), None);
    fixture.start(Some(0), b"");
    assert_eq!(fixture.respond(ResponsePart::Finish), Step::Keep);
    assert_eq!(fixture.receive(GET), Step::Ready);
    fixture.sent();
    assert_eq!(fixture.pass(Deadline::Queue), Step::Keep);
    assert!(fixture.sent().starts_with(b"HTTP/1.1 503 "));
    assert!(fixture.connection.is_idle(), "and kept");
}

#[test]
fn a_streamed_body_buys_its_request_no_time_in_the_queue() {
    let mut fixture = fixture(&["--queue-timeout", "3", "--stream-request-body"]);
    assert_eq!(fixture.receive(POST), Step::Ready);
    fixture.wait(seconds(1));
    assert_eq!(fixture.receive(b"some of the body"), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Queue, seconds(2))));
    assert_eq!(fixture.pass(Deadline::Queue), Step::Again);
    let response = fixture.sent();
    assert!(response.starts_with(b"HTTP/1.1 503 "), "{}", String::from_utf8_lossy(&response));
    assert_eq!(fixture.due(), Some((Deadline::Drain, seconds(2))), "the rest of the body is not read");
}

/// The connection of `fixture` as it arrives in another worker.
fn moved(
    fixture: &Fixture<UnixStream>,
    lane: HandoverQueue,
    arguments: &[&str],
) -> (Fixture<UnixStream>, Step) {
    let mut there = self::fixture(arguments);
    there.context.now = fixture.context.now;
    // With a client of its own.
    let socket = there.connection.socket().unwrap().try_clone_to_owned().unwrap();
    let pieces = match lane {
        HandoverQueue::Idle => fixture.connection.pack_idle(),
        HandoverQueue::Ready => fixture.connection.pack_request(),
    };
    let bytes = pieces.expect("it can go").concat();
    let message =
        HandoverMessage { socket, metadata: fixture.connection.metadata(lane, 0).unwrap(), bytes: &bytes };
    let server = Arc::clone(&fixture.connection.client().listener);
    there.connection = Connection::unpack(lane, message, server, &there.context);
    let step = there.connection.receive(&mut there.context);
    (there, step)
}

#[test]
fn a_move_to_another_worker_buys_no_time() {
    let arguments = ["--keep-alive", "75", "--head-timeout", "20", "--queue-timeout", "8"];
    let mut here = fixture(&arguments);
    here.exchange();
    here.wait(seconds(30));
    let (idle, step) = moved(&here, HandoverQueue::Idle, &arguments);
    assert_eq!((step, idle.due()), (Step::Keep, Some((Deadline::KeepAlive, seconds(45)))));
    assert!(idle.connection.is_idle());
    assert_eq!(here.receive(&GET[..9]), Step::Keep);
    here.wait(seconds(5));
    let (mut begun, step) = moved(&here, HandoverQueue::Idle, &arguments);
    assert_eq!((step, begun.due()), (Step::Keep, Some((Deadline::Head, seconds(15)))));
    assert_eq!(begun.receive(&GET[9..]), Step::Ready);
    assert_eq!(here.receive(&[&GET[9..], GET].concat()), Step::Ready);
    here.wait(seconds(3));
    let (mut waiting, step) = moved(&here, HandoverQueue::Ready, &arguments);
    assert_eq!((step, waiting.due()), (Step::Ready, Some((Deadline::Queue, seconds(5)))));
    waiting.begin_call();
    waiting.start(Some(0), b"");
    assert_eq!(waiting.respond(ResponsePart::Finish), Step::Ready, "what was behind it has come along");
    assert_eq!(waiting.due(), Some((Deadline::Queue, seconds(8))));
}

#[test]
fn an_idle_connection_is_kept_for_its_time_and_bytes_just_before_the_end_are_served() {
    let mut fixture = fixture(&["--keep-alive", "75"]);
    fixture.exchange();
    assert_eq!(fixture.due(), Some((Deadline::KeepAlive, seconds(75))));
    // They are in the socket, and no event has told of them yet.
    fixture.client.write_all(GET).unwrap();
    assert_eq!(fixture.pass(Deadline::KeepAlive), Step::Ready);
    assert_eq!(fixture.due(), None, "nothing is awaited of a client whose request waits");
    fixture.begin_call();
    assert_eq!(fixture.start(Some(0), b""), Step::Keep);
    assert_eq!(fixture.respond(ResponsePart::Finish), Step::Keep);
    assert_eq!(fixture.pass(Deadline::KeepAlive), Step::Close);
}

#[test]
fn a_part_of_a_head_just_before_the_end_has_the_time_that_heads_have() {
    let mut fixture = fixture(&["--keep-alive", "75", "--head-timeout", "20"]);
    fixture.exchange();
    fixture.client.write_all(b"GET /").unwrap();
    assert_eq!(fixture.pass(Deadline::KeepAlive), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Head, seconds(20))));
    assert_eq!(fixture.receive(&GET[5..]), Step::Ready);
}

#[test]
fn a_client_that_takes_nothing_is_cut_and_one_that_takes_a_little_is_not() {
    let mut fixture = fixture(&["--write-timeout", "30"]);
    assert_eq!(fixture.receive(GET), Step::Ready);
    fixture.begin_call();
    assert_eq!(fixture.start(Some(4_000_000), &vec![0; 4_000_000]), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Write, seconds(30))));
    fixture.wait(seconds(29));
    assert!(!fixture.sent().is_empty());
    assert_eq!(fixture.connection.handle_event(ROOM, &mut fixture.context), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Write, seconds(1))), "it is looked at when its time is over");
    assert_eq!(fixture.pass(Deadline::Write), Step::Keep, "it has earned more");
    assert_eq!(fixture.due(), Some((Deadline::Write, seconds(120))), "and no more than that");
    fixture.wait(seconds(10));
    assert_eq!(fixture.connection.handle_event(ROOM, &mut fixture.context), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Write, seconds(110))), "it has taken nothing since");
    assert_eq!(fixture.pass(Deadline::Write), Step::Close);
}

#[test]
fn a_client_that_takes_a_byte_now_and_then_is_cut() {
    let mut fixture = fixture(&["--write-timeout", "30"]);
    assert_eq!(fixture.receive(GET), Step::Ready);
    fixture.begin_call();
    assert_eq!(fixture.start(Some(4_000_000), &vec![0; 4_000_000]), Step::Keep);
    for _ in 0..2 {
        fixture.wait(seconds(14));
        fixture.client.read_exact(&mut [0]).unwrap();
        assert_eq!(fixture.connection.handle_event(ROOM, &mut fixture.context), Step::Keep);
    }
    assert_eq!(fixture.pass(Deadline::Write), Step::Close);
}

#[test]
fn what_waits_in_a_file_is_framed_and_ends_the_response() {
    for chunked in [false, true] {
        let mut fixture = fixture(&[]);
        assert_eq!(fixture.receive(GET), Step::Ready);
        fixture.begin_call();
        let content: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
        let spool = Arc::new(ResponseSpool::new(&fixture.context.spools, 1 << 30, 0).unwrap());
        assert_eq!(fixture.start((!chunked).then_some(3_000_000), &content[..1_000_000]), Step::Keep);
        for (number, block) in content[1_000_000..].chunks(100_000).enumerate() {
            assert_eq!(spool.append(block).unwrap(), number == 0, "the engine is told once");
        }
        fixture.respond(ResponsePart::Spooled(Arc::clone(&spool)));
        fixture.respond(ResponsePart::Finish);
        let mut received = Vec::new();
        while fixture.connection.phase == Phase::Flushing {
            received.append(&mut fixture.sent());
            fixture.connection.handle_event(ROOM, &mut fixture.context);
            fixture.connection.proceed(&mut fixture.context);
            let held = fixture.connection.memory_bytes();
            assert!(held < 1_500_000, "{held} bytes of memory are held, which is more than the first block");
        }
        received.append(&mut fixture.sent());
        drop(spool);
        assert_eq!((fixture.context.spools.bytes(), fixture.context.spools.files()), (0, 0));
        let head_end = memchr::memmem::find(&received, b"\r\n\r\n").unwrap() + 4;
        let body = if chunked { unchunked(&received[head_end..]) } else { received[head_end..].to_vec() };
        assert!(body == content, "{} bytes, chunked: {chunked}", body.len());
    }
}

#[test]
fn a_response_that_ends_early_in_its_file_is_cut() {
    let mut fixture = fixture(&[]);
    assert_eq!(fixture.receive(GET), Step::Ready);
    fixture.begin_call();
    fixture.start(Some(10), b"123");
    let spool = Arc::new(ResponseSpool::new(&fixture.context.spools, 1 << 30, 0).unwrap());
    assert!(spool.append(b"45").unwrap());
    assert_eq!(fixture.respond(ResponsePart::Spooled(Arc::clone(&spool))), Step::Keep);
    assert!(spool.append(b"6").unwrap(), "who has found nothing is told of more");
    assert_eq!(fixture.respond(ResponsePart::Spooled(Arc::clone(&spool))), Step::Keep);
    assert!(spool.is_drained());
    assert_eq!(fixture.respond(ResponsePart::Finish), Step::Close);
}

/// All that comes to a client, which reads it only now, and how it ends.
fn drained(mut fixture: Fixture<TcpStream>, mut step: Step) -> (Vec<u8>, Option<ErrorKind>) {
    let Fixture { connection, context, client } = &mut fixture;
    client.set_nonblocking(true).unwrap();
    let (mut received, begun) = (Vec::new(), Instant::now());
    loop {
        match client.read_to_end(&mut received).map_err(|error| error.kind()) {
            Ok(_) => return (received, None),
            Err(ErrorKind::WouldBlock) => {}
            Err(kind) => return (received, Some(kind)),
        }
        assert!(begun.elapsed() < seconds(20), "{step:?} after {} bytes", received.len());
        step = match (step, connection.due()) {
            (Step::Close, _) => {
                connection.close(context);
                Step::Close
            }
            (Step::Again, _) => connection.proceed(context),
            (_, Some((Deadline::Delivery, at))) => {
                context.now = context.now.max(at);
                connection.handle_timeout(Deadline::Delivery, context)
            }
            _ => connection.handle_event(ROOM, context),
        };
    }
}

/// What has been given goes out before the end, which the client sees as one that came too early.
#[test]
fn what_was_given_of_a_response_is_delivered_before_it_is_cut() {
    let block = vec![7; 8_000_000];
    let requests: [(&[u8], Option<u64>, Option<ErrorKind>); 4] = [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", None, None),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Some(9_000_000), None),
        (b"GET / HTTP/1.0\r\n\r\n", Some(9_000_000), None),
        (b"GET / HTTP/1.0\r\n\r\n", None, Some(ErrorKind::ConnectionReset)),
    ];
    for (request, length, end) in requests {
        for last in [ResponsePart::Abort(Reason::Aborted), ResponsePart::Finish] {
            if length.is_none() && matches!(last, ResponsePart::Finish) {
                continue; // That is whole.
            }
            let mut fixture = tcp_fixture();
            fixture.client.write_all(request).unwrap();
            while fixture.connection.handle_event(INPUT, &mut fixture.context) != Step::Ready {}
            fixture.begin_call();
            assert_eq!(fixture.start(length, &block), Step::Keep);
            let flow = fixture.connection.exchange.as_ref().unwrap().flow.clone().unwrap();
            let step = fixture.respond(last);
            assert_ne!(step, Step::Close, "it waits for the client");
            assert!(flow.is_gone(), "nothing more is taken");
            let (received, ended) = drained(fixture, step);
            let body = received.iter().filter(|byte| **byte == 7).count();
            assert_eq!((body, ended), (block.len(), end), "{length:?}");
            assert!(!received.ends_with(b"0\r\n\r\n"));
        }
    }
}

#[test]
fn a_client_that_takes_nothing_of_a_cut_response_has_no_more_time_than_of_others() {
    let mut fixture = tcp_fixture();
    fixture.client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    while fixture.connection.handle_event(INPUT, &mut fixture.context) != Step::Ready {}
    fixture.begin_call();
    assert_eq!(fixture.start(None, &vec![0; 8_000_000]), Step::Keep);
    assert_eq!(fixture.respond(ResponsePart::Abort(Reason::Aborted)), Step::Keep);
    assert_eq!(fixture.due().map(|(deadline, _)| deadline), Some(Deadline::Write));
    // What the kernel has taken meanwhile has earned it some time.
    let mut step = Step::Keep;
    for _ in 0..5 {
        if step == Step::Keep {
            step = fixture.pass(Deadline::Write);
        }
    }
    assert_eq!(step, Step::Close);
}

#[test]
fn what_is_written_is_looked_after_until_it_is_acknowledged_or_the_time_is_over() {
    let mut fixture = tcp_fixture();
    let small = rustix::net::sockopt::set_socket_recv_buffer_size;
    small(&fixture.client, 4096).unwrap();
    fixture.client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    while fixture.connection.handle_event(INPUT, &mut fixture.context) != Step::Ready {}
    fixture.begin_call();
    // More than the client has room for, and less than the kernel takes.
    assert_eq!(fixture.start(None, &vec![0; 1_000_000]), Step::Keep);
    assert_eq!(fixture.respond(ResponsePart::Abort(Reason::Aborted)), Step::Keep);
    let begun = fixture.context.now;
    let mut looks = 0;
    while fixture.pass(Deadline::Delivery) == Step::Keep {
        looks += 1;
        assert!(looks < 1000);
    }
    let waited = fixture.context.now - begun;
    assert!((seconds(30)..seconds(151)).contains(&waited), "{waited:?}");
    assert!((50..400).contains(&looks), "{looks}");
}

#[test]
fn a_response_is_cut_at_once_where_its_client_has_been_too_slow_or_has_left() {
    for reason in [Reason::WriteTimeout, Reason::ClientGone] {
        let mut fixture = tcp_fixture();
        fixture.client.write_all(GET).unwrap();
        while fixture.connection.handle_event(INPUT, &mut fixture.context) != Step::Ready {}
        fixture.begin_call();
        assert_eq!(fixture.start(None, &vec![0; 8_000_000]), Step::Keep);
        assert_eq!(fixture.respond(ResponsePart::Abort(reason)), Step::Close);
    }
}

#[test]
fn a_file_that_became_shorter_is_sent_to_its_end() {
    let mut fixture = tcp_fixture();
    fixture.client.write_all(GET).unwrap();
    while fixture.connection.handle_event(INPUT, &mut fixture.context) != Step::Ready {}
    fixture.begin_call();
    assert_eq!(fixture.start(Some(20_000_000), b""), Step::Keep);
    let file = tempfile::tempfile().unwrap();
    file.set_len(20_000_000).unwrap();
    let step = fixture.respond(ResponsePart::File {
        file: file.try_clone().unwrap(),
        offset: 0,
        length: 20_000_000,
    });
    assert_ne!(step, Step::Close);
    file.set_len(15_000_000).unwrap();
    let (received, end) = drained(fixture, step);
    assert_eq!((received.iter().filter(|byte| **byte == 0).count(), end), (15_000_000, None));
}

#[test]
fn whoever_goes_on_sending_after_the_last_response_has_time_for_it_within_bounds() {
    let mut fixture = fixture(&["--limit-request-body", "10"]);
    assert_eq!(fixture.receive(POST), Step::Again);
    assert!(fixture.sent().starts_with(b"HTTP/1.1 413 "));
    assert_eq!(fixture.connection.proceed(&mut fixture.context), Step::Keep);
    for _ in 0..20 {
        fixture.wait(Duration::from_millis(1500));
        assert_eq!(fixture.receive(b"more"), Step::Keep);
    }
    assert_eq!(fixture.due(), Some((Deadline::Drain, Duration::ZERO)), "30 seconds in all");
    assert_eq!(fixture.pass(Deadline::Drain), Step::Close);
}

#[test]
fn what_is_discarded_after_the_last_response_is_bounded() {
    let mut fixture = fixture(&["--limit-request-body", "10"]);
    assert_eq!(fixture.receive(POST), Step::Again);
    fixture.connection.proceed(&mut fixture.context);
    fixture.connection.lingering.as_mut().unwrap().discarded = 1024 * 1024 * 1024 - 4;
    assert_eq!(fixture.receive(b"four"), Step::Keep);
    assert_eq!(fixture.receive(b"5"), Step::Close);
}

#[test]
fn a_server_that_stops_gives_no_more_time_to_who_goes_on_sending() {
    let mut fixture = fixture(&["--limit-request-body", "10"]);
    assert_eq!(fixture.receive(POST), Step::Again);
    fixture.connection.proceed(&mut fixture.context);
    fixture.context.draining = true;
    fixture.wait(seconds(1));
    assert_eq!(fixture.receive(b"more"), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Drain, seconds(1))));
}

/// The content of a chunked body that is whole.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let line_end = memchr::memmem::find(body, b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&body[..line_end]).unwrap(), 16).unwrap();
        content.extend_from_slice(&body[line_end + 2..][..length]);
        body = &body[line_end + 2 + length..];
        assert_eq!(&body[..2], b"\r\n");
        body = &body[2..];
        if length == 0 {
            assert!(body.is_empty());
            return content;
        }
    }
}

#[test]
fn a_file_that_never_finds_the_socket_full_is_not_cut_however_long_it_takes() {
    let mut fixture = tcp_fixture();
    let file = tempfile::tempfile().unwrap();
    let length = 4 * 1024 * 1024;
    file.set_len(length).unwrap();
    fixture.client.write_all(GET).unwrap();
    while fixture.connection.handle_event(INPUT, &mut fixture.context) != Step::Ready {}
    fixture.begin_call();
    fixture.start(Some(length), b"");
    let mut left = read_head(&mut fixture.client, length);
    let mut step = fixture.respond(ResponsePart::File { file, offset: 0, length });
    while left > 0 {
        if step == Step::Again {
            let (deadline, after) = fixture.due().expect("the file is being written");
            assert_eq!(deadline, Deadline::Write);
            if after.is_zero() {
                assert_eq!(fixture.pass(Deadline::Write), Step::Keep);
            }
        }
        let turn = left.min(256 * 1024);
        left -= turn;
        fixture.client.read_exact(&mut vec![0; turn as usize]).unwrap();
        fixture.wait(seconds(10));
        step = match step {
            Step::Again => fixture.connection.proceed(&mut fixture.context),
            _ => fixture.connection.handle_event(ROOM, &mut fixture.context),
        };
    }
    assert_eq!((step, fixture.connection.due()), (Step::Keep, None));
}

fn read_head(client: &mut TcpStream, length: u64) -> u64 {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    length
}

#[test]
fn a_drain_closes_what_is_idle_and_serves_what_has_come() {
    let mut idle = fixture(&[]);
    idle.exchange();
    idle.context.draining = true;
    assert_eq!(idle.connection.drain(&mut idle.context), Step::Close);

    let mut busy = fixture(&[]);
    busy.exchange();
    busy.context.draining = true;
    busy.client.write_all(GET).unwrap();
    assert_eq!(busy.connection.drain(&mut busy.context), Step::Ready);
}

#[test]
fn a_fresh_connection_has_half_a_second_in_a_drain_and_is_looked_at_once_more() {
    let mut silent = fixture(&[]);
    silent.context.draining = true;
    assert_eq!(silent.connection.drain(&mut silent.context), Step::Keep);
    assert_eq!(silent.due(), Some((Deadline::Drain, DRAIN_GRACE)));
    assert_eq!(silent.pass(Deadline::Drain), Step::Close);

    let mut late = fixture(&[]);
    late.context.draining = true;
    assert_eq!(late.connection.drain(&mut late.context), Step::Keep);
    late.client.write_all(GET).unwrap();
    assert_eq!(late.pass(Deadline::Drain), Step::Ready);
}

#[test]
fn a_response_begun_before_a_drain_ends_its_connection_also_after_an_edge_without_bytes() {
    let mut fixture = fixture(&[]);
    assert_eq!(fixture.receive(GET), Step::Ready);
    fixture.begin_call();
    fixture.start(Some(2), b"o");
    // The edge of bytes that were read with those before them.
    assert_eq!(fixture.connection.handle_event(INPUT, &mut fixture.context), Step::Keep);
    fixture.context.draining = true;
    assert_eq!(fixture.connection.drain(&mut fixture.context), Step::Keep);
    assert_eq!(fixture.respond(ResponsePart::Block(Block::Borrowed(b"k"))), Step::Keep);
    assert_eq!(fixture.respond(ResponsePart::Finish), Step::Close);
}

const STREAMED: [&str; 7] =
    ["--stream-request-body", "--request-buffer", "4k", "--body-timeout", "30", "--body-min-rate", "100"];

#[test]
fn a_streamed_upload_is_not_timed_while_the_application_does_not_read() {
    let mut fixture = fixture(&STREAMED);
    assert_eq!(fixture.receive(POST), Step::Ready);
    assert_eq!(fixture.due(), None, "no thread has been free yet");
    let mut body = fixture.begin_call();
    assert_eq!(fixture.receive(&[0; 5000]), Step::Keep);
    assert_eq!(fixture.due(), None, "the pipe is full");
    fixture.wait(seconds(3600));
    while body.read(&mut [0; 4096]).unwrap() == 4096 {}
    assert_eq!(fixture.connection.read_more(&mut fixture.context), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Body, seconds(30))), "the hour was not the client's");
    assert_eq!(fixture.pass(Deadline::Body), Step::Keep);
    assert!(body.read(&mut [0; 4096]).is_err());
}

#[test]
fn a_streamed_upload_that_waits_to_be_invited_is_not_timed() {
    let mut fixture = fixture(&STREAMED);
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(fixture.receive(head), Step::Ready);
    fixture.begin_call();
    assert_eq!(fixture.connection.handle_event(INPUT, &mut fixture.context), Step::Keep);
    assert_eq!((fixture.due(), fixture.sent()), (None, Vec::new()));
    assert_eq!(fixture.connection.read_more(&mut fixture.context), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Body, seconds(30))));
    assert_eq!(fixture.sent(), b"HTTP/1.1 100 Continue\r\n\r\n");
}

#[test]
fn a_client_that_sends_on_and_takes_nothing_is_cut_all_the_same() {
    let mut fixture = fixture(&STREAMED);
    assert_eq!(fixture.receive(POST), Step::Ready);
    fixture.begin_call();
    assert_eq!(fixture.start(None, &vec![0; 1_000_000]), Step::Keep);
    for left in [30, 20, 10] {
        assert_eq!(fixture.receive(&[0; 1000]), Step::Keep);
        assert_eq!(fixture.due(), Some((Deadline::Write, seconds(left))));
        fixture.wait(seconds(10));
    }
    assert_eq!(fixture.pass(Deadline::Write), Step::Close);
}

#[test]
fn the_end_of_an_upload_does_not_end_the_wait_for_a_client_that_takes_nothing() {
    let mut fixture = fixture(&STREAMED);
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(fixture.receive(head), Step::Ready);
    fixture.begin_call();
    assert_eq!(fixture.start(None, &vec![0; 1_000_000]), Step::Keep);
    assert_eq!(fixture.receive(b"abc"), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Write, seconds(30))));
}

#[test]
fn a_client_whose_file_has_been_sent_is_waited_on_for_the_rest_of_its_upload() {
    let mut fixture = fixture(&STREAMED);
    assert_eq!(fixture.receive(POST), Step::Ready);
    fixture.begin_call();
    assert_eq!(fixture.start(None, b""), Step::Keep);
    let file: File = tempfile::tempfile().unwrap();
    file.set_len(1_000_000).unwrap();
    fixture.respond(ResponsePart::File { file, offset: 0, length: 1_000_000 });
    assert_eq!(fixture.connection.read_more(&mut fixture.context), Step::Keep);
    while !fixture.connection.io.outbox.is_empty() {
        fixture.sent();
        assert_ne!(fixture.connection.proceed(&mut fixture.context), Step::Close);
    }
    assert_eq!(fixture.due(), Some((Deadline::Body, seconds(30))));
}

#[test]
fn a_response_that_ends_with_the_connection_is_not_made_to_look_whole() {
    let mut fixture = tcp_fixture();
    fixture.client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    while fixture.connection.handle_event(INPUT, &mut fixture.context) != Step::Ready {}
    fixture.begin_call();
    assert_eq!(fixture.start(None, b"the first half"), Step::Keep);
    fixture.connection.close(&mut fixture.context);
    drop(fixture.connection);
    let error = fixture.client.read_to_end(&mut Vec::new()).expect_err("not the end of the response");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}
