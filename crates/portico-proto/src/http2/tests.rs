//! A session against the h2 crate's own client, over buffers.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use http::Request;

use super::pipe::{Pipe, Shared};
use super::*;
use crate::{Event, Fields, HttpDate, Moved, Part, ResponseHead};

/// Both ends, and what is between them.
struct Pair {
    session: Session,
    limits: Limits,
    shared: Arc<Shared>,
    requests: SendRequest<Bytes>,
    connection: client::Connection<Pipe, Bytes>,
    streams: Vec<(u32, Box<Stream>)>,
    others: Vec<SessionEvent<Box<Stream>>>,
}

fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

const WINDOW: u32 = 65_535;

const SETTINGS: Settings = Settings {
    concurrent_streams_max: 5,
    window_bytes: WINDOW,
    frame_bytes_max: 70_000,
    header_list_bytes_max: 4096,
};

fn date() -> HttpDate {
    HttpDate::from_unix(0)
}

impl Pair {
    fn new() -> Self {
        let shared = Arc::new(Shared::default());
        let (requests, connection) =
            now(client::handshake(Pipe(Arc::clone(&shared)))).expect("a buffer takes it at once").unwrap();
        let session = Session::new(&SETTINGS);
        let (streams, others) = (Vec::new(), Vec::new());
        let mut pair =
            Self { session, limits: Limits::default(), shared, requests, connection, streams, others };
        pair.turn();
        pair
    }

    /// Lets each side take what the other has sent, until nothing comes any more.
    fn turn(&mut self) {
        loop {
            let _ = Pin::new(&mut self.connection).poll(&mut Context::from_waker(Waker::noop()));
            let (mut sent, mut answered) = (Vec::new(), Vec::new());
            self.shared.take_output(&mut sent);
            self.session.receive(&sent, Duration::ZERO).unwrap();
            while let Some(event) = self.session.next_event(&self.limits) {
                match event {
                    SessionEvent::Opened(number, stream) => self.streams.push((number, stream)),
                    other => self.others.push(other),
                }
            }
            self.session.output(&mut answered);
            self.shared.push(&answered);
            if sent.is_empty() && answered.is_empty() {
                return;
            }
        }
    }

    fn request(&mut self, request: Request<()>, ends: bool) -> (ResponseFuture, h2::SendStream<Bytes>) {
        let sent = self.requests.send_request(request, ends).unwrap();
        self.turn();
        sent
    }

    fn get(&mut self) -> (ResponseFuture, Box<Stream>) {
        let (answer, _) = self.request(get("/"), true);
        let (_, stream) = self.streams.pop().expect("it has begun");
        (answer, stream)
    }
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a.example{path}")).body(()).unwrap()
}

/// What a stream tells, with what is in its port.
fn events(stream: &mut Stream, limits: &Limits) -> Result<Vec<String>, u16> {
    let (mut told, mut buffer) = (Vec::new(), [0; 7]);
    loop {
        while let Some(event) = stream.next_event(&mut &[][..], limits).map_err(|error| error.status)? {
            told.push(match event {
                Event::Head(head) => format!("{} {:?}", head.bytes().escape_ascii(), head.framing),
                Event::Body(_) => unreachable!("nothing was passed in"),
                Event::End => "end".to_owned(),
            });
        }
        let count = match stream.port().read(&mut buffer) {
            Moved::Bytes(count) => count,
            Moved::Ended if told.last().is_none_or(|last| last != "end") => continue,
            _ => return Ok(told),
        };
        if let Some(Event::Body(bytes)) =
            stream.next_event(&mut &buffer[..count], limits).map_err(|error| error.status)?
        {
            told.push(format!("body {}", bytes.escape_ascii()));
        }
    }
}

fn head(status: u16, fields: &[(&str, &str)], length: Option<u64>) -> ResponseHead {
    let mut all = Fields::new();
    fields.iter().for_each(|(name, value)| all.push(name.as_bytes(), value.as_bytes()));
    ResponseHead { status, reason: Vec::new(), fields: all, length }
}

/// Sends a whole answer in these blocks.
fn answer(stream: &mut Stream, head: &ResponseHead, blocks: &[&[u8]]) {
    stream.send(Part::Head { head, close: false }, &date(), &mut Vec::new());
    for block in blocks {
        let mut out = Vec::new();
        stream.send(Part::Body(block), &date(), &mut out);
        let mut rest = &out[..];
        while !rest.is_empty() {
            let Moved::Bytes(count) = stream.port().write(rest) else { panic!("there is room") };
            rest = &rest[count..];
        }
    }
    stream.send(Part::End, &date(), &mut Vec::new());
}

#[test]
fn a_request_becomes_a_head_and_its_body_comes_through_the_port() {
    let mut pair = Pair::new();
    let request = Request::post("http://a.example/p?q").header("cookie", "a=1").header("cookie", "b=2");
    let request = request.header("x_y", "z").header("content-length", "10").body(()).unwrap();
    let (_answer, mut body) = pair.request(request, false);
    let (_, mut stream) = pair.streams.pop().unwrap();
    let limits = Limits::default();
    let told = events(&mut stream, &limits).unwrap();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("POST /p?q HTTP/2.0\\r\\nhost: a.example\\r\\n"), "{told:?}");
    assert!(told[0].contains("cookie: a=1; b=2\\r\\n") && told[0].ends_with("Length(10)"), "{told:?}");
    body.send_data(Bytes::from_static(b"01234"), false).unwrap();
    pair.turn();
    assert!(matches!(pair.others[..], [SessionEvent::Body(1)]), "{:?}", pair.others);
    assert_eq!(events(&mut stream, &limits).unwrap(), ["body 01234"]);
    body.send_data(Bytes::from_static(b"56789"), true).unwrap();
    pair.turn();
    assert_eq!(events(&mut stream, &limits).unwrap(), ["body 56789", "end"]);
}

#[test]
fn a_body_is_told_of_when_its_frame_is_whole_however_it_comes() {
    let mut session = Session::new(&SETTINGS);
    let head = [&[0, 0, 6, 1, 4, 0, 0, 0, 1][..], b"\x83\x84\x86\x41\x01a"].concat();
    let data = [&[0, 0, 5, 0, 1, 0, 0, 0, 1][..], b"01234"].concat();
    let mut start = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], &head].concat();
    start.extend_from_slice(&data[..11]);
    session.receive(&start, Duration::ZERO).unwrap();
    let Some(SessionEvent::Opened(1, mut stream)) = session.next_event(&Limits::default()) else {
        panic!("it has begun");
    };
    assert!(matches!(session.next_event(&Limits::default()), Some(SessionEvent::Arriving(1, 2))));
    assert!(session.next_event(&Limits::default()).is_none(), "nothing can be read yet");
    session.receive(&data[11..], Duration::ZERO).unwrap();
    assert!(matches!(session.next_event(&Limits::default()), Some(SessionEvent::Body(1))));
    assert_eq!(events(&mut stream, &Limits::default()).unwrap()[1..], ["body 01234", "end"]);
}

#[test]
fn trailers_end_a_body_and_are_dropped() {
    let mut pair = Pair::new();
    let (_answer, mut body) = pair.request(Request::post("http://a/").body(()).unwrap(), false);
    let (_, mut stream) = pair.streams.pop().unwrap();
    body.send_data(Bytes::from_static(b"ab"), false).unwrap();
    pair.turn();
    assert_eq!(events(&mut stream, &Limits::default()).unwrap()[1..], ["body ab"]);
    body.send_trailers(http::HeaderMap::from_iter([(http::header::AGE, http::HeaderValue::from(1))]))
        .unwrap();
    pair.turn();
    assert_eq!(events(&mut stream, &Limits::default()).unwrap(), ["end"]);
}

#[test]
fn an_answer_of_known_length_ends_with_its_last_byte_and_one_of_unknown_with_its_end() {
    for length in [Some(6), None] {
        let mut pair = Pair::new();
        let (future, mut stream) = pair.get();
        let fields =
            [("X-A", " b "), ("Connection", "close"), ("Transfer-Encoding", "chunked"), ("Bad", "\u{1}")];
        answer(&mut stream, &head(200, &fields, length), &[b"abc", b"def"]);
        assert!(stream.content().is_complete());
        pair.turn();
        let (parts, mut body) = now(future).unwrap().unwrap().into_parts();
        let names: Vec<_> = parts.headers.keys().map(|name| name.as_str()).collect();
        let told = length.map(|_| "content-length");
        assert_eq!(names, ["x-a", "date", "server"].into_iter().chain(told).collect::<Vec<_>>());
        assert_eq!(parts.headers["x-a"], "b");
        let mut got = Vec::new();
        while let Some(Some(block)) = now(body.data()) {
            got.extend_from_slice(&block.unwrap());
        }
        assert_eq!(got, b"abcdef");
        assert!(body.is_end_stream());
    }
}

#[test]
fn head_204_and_304_have_no_body_and_a_short_answer_is_not_complete() {
    for (status, length, told) in [(200, Some(3), Some("3")), (204, Some(0), None), (304, Some(3), Some("3"))]
    {
        let mut pair = Pair::new();
        let method = if status == 200 { "HEAD" } else { "GET" };
        let request = Request::builder().method(method).uri("http://a/").body(()).unwrap();
        let (future, _) = pair.request(request, true);
        let (_, mut stream) = pair.streams.pop().unwrap();
        answer(&mut stream, &head(status, &[], length), &[b"abc"]);
        assert!(stream.content().is_complete());
        pair.turn();
        let answer = now(future).unwrap().unwrap();
        assert!(answer.body().is_end_stream());
        let length = answer.headers().get("content-length").map(|value| value.to_str().unwrap());
        assert_eq!(length, told, "{status}");
    }
    let mut pair = Pair::new();
    let (_future, mut stream) = pair.get();
    answer(&mut stream, &head(200, &[], Some(9)), &[b"abc"]);
    assert!(!stream.content().is_complete());
}

#[test]
fn what_cannot_be_served_is_refused_on_its_stream_and_the_session_goes_on() {
    let limits = Limits { body_bytes_max: 4, ..Limits::default() };
    for (request, ends, status) in [
        (Request::post("http://a/").header("content-length", "9").body(()).unwrap(), false, 413),
        (Request::get("http://u@a/").body(()).unwrap(), true, 400),
        (Request::get("http://a/").header("host", "b").body(()).unwrap(), true, 400),
        (Request::get("http://a/%").body(()).unwrap(), true, 400),
        (Request::get("http://a/").header("x", "y".repeat(9000)).body(()).unwrap(), true, 431),
    ] {
        let mut pair = Pair { limits: limits.clone(), ..Pair::new() };
        let (future, _body) = pair.request(request, ends);
        if let Some((_, mut stream)) = pair.streams.pop() {
            assert_eq!(events(&mut stream, &limits), Err(status));
            let mut out = Vec::new();
            stream.refuse(status, "no", &date(), &mut out);
            assert_eq!(stream.port().write(&out), Moved::Bytes(3));
        } // Else the crate has answered itself.
        pair.turn();
        assert_eq!(now(future).unwrap().unwrap().status(), status);
        assert!(!pair.session.is_closed());
        drop(pair.get());
    }
    let mut pair = Pair::new();
    let (_future, mut body) = pair.request(Request::post("http://a/").body(()).unwrap(), false);
    let (_, mut stream) = pair.streams.pop().unwrap();
    assert!(events(&mut stream, &limits).is_ok());
    body.send_data(Bytes::from_static(b"12345"), true).unwrap();
    pair.turn();
    assert_eq!(events(&mut stream, &limits), Err(413));
}

#[test]
fn interim_answers_come_before_the_answer_and_not_after() {
    let mut pair = Pair::new();
    let request = Request::post("http://a/").header("expect", "100-continue").body(()).unwrap();
    let (mut future, _body) = pair.request(request, false);
    let (_, mut stream) = pair.streams.pop().unwrap();
    events(&mut stream, &Limits::default()).unwrap();
    let mut hints = Fields::new();
    hints.push(b"Link", b"</a>");
    for _ in 0..2 {
        stream.send(Part::Continue, &date(), &mut Vec::new());
    }
    stream.send(Part::EarlyHints(&hints), &date(), &mut Vec::new());
    answer(&mut stream, &head(200, &[], Some(0)), &[]);
    stream.send(Part::EarlyHints(&hints), &date(), &mut Vec::new());
    pair.turn();
    let mut seen = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(Ok(interim))) = future.poll_informational(&mut context) {
        seen.push(interim.status().as_u16());
    }
    assert_eq!(seen, [100, 103]);
    assert_eq!(now(future).unwrap().unwrap().status(), 200);
}

#[test]
fn no_more_is_written_than_the_peer_takes_and_room_is_told_of() {
    let mut pair = Pair::new();
    let (future, mut stream) = pair.get();
    stream.send(Part::Head { head: &head(200, &[], None), close: false }, &date(), &mut Vec::new());
    let block = vec![7; 200_000];
    let mut sent = 0;
    loop {
        match stream.port().write(&block) {
            Moved::Bytes(count) => sent += count,
            Moved::Blocked => break,
            other => panic!("{other:?}"),
        }
        pair.turn();
    }
    assert_eq!(sent, 65_535, "the client's window");
    let mut body = now(future).unwrap().unwrap().into_body();
    let mut got = 0;
    while let Some(Some(Ok(bytes))) = now(body.data()) {
        got += bytes.len();
    }
    assert_eq!(got, sent);
    pair.others.clear();
    body.flow_control().release_capacity(got).unwrap();
    pair.turn();
    assert!(matches!(pair.others[..], [SessionEvent::Room(1)]), "{:?}", pair.others);
    assert!(matches!(stream.port().write(&block), Moved::Bytes(_)));
}

#[test]
fn what_is_not_read_is_not_asked_for() {
    let mut pair = Pair::new();
    let (_answer, mut body) = pair.request(Request::post("http://a/").body(()).unwrap(), false);
    let (_, stream) = pair.streams.pop().unwrap();
    body.reserve_capacity(200_000);
    assert_eq!(body.capacity(), 65_535);
    body.send_data(Bytes::from(vec![1; 65_535]), false).unwrap();
    pair.turn();
    assert_eq!(body.capacity(), 0, "nobody has read");
    let mut buffer = vec![0; 40_000];
    assert_eq!(stream.port().read(&mut buffer), Moved::Bytes(40_000));
    pair.turn();
    assert_eq!(body.capacity(), 40_000);
}

#[test]
fn a_reset_of_either_side_is_told_to_the_other() {
    let mut pair = Pair::new();
    let (future, body) = pair.request(Request::post("http://a/").body(()).unwrap(), false);
    let (_, stream) = pair.streams.pop().unwrap();
    assert!(!stream.port().is_gone());
    drop((future, body));
    pair.turn();
    assert!(matches!(pair.others[..], [SessionEvent::Reset(1)]), "{:?}", pair.others);
    assert!(stream.port().is_gone());
    assert_eq!(stream.port().write(b"x"), Moved::Failed);
    let (future, stream) = pair.get();
    stream.port().cut();
    pair.turn();
    assert_eq!(now(future).unwrap().unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
}

/// A frame byte by byte.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const WITH_PRIORITY: u8 = 0x20;

const GREATEST_WINDOW: [u8; 4] = [0x7f, 0xff, 0xff, 0xff];

/// What a peer sends that has a stream of a POST with `content-length: 4` reset by us.
fn faults(stream: u32) -> Vec<(&'static str, Vec<u8>)> {
    let itself = [&stream.to_be_bytes()[..], &[0]].concat();
    let block = |flags: u8, block: &[u8]| frame(HEADERS, END_HEADERS | flags, stream, block);
    vec![
        ("a window above the most", frame(WINDOW_UPDATE, 0, stream, &GREATEST_WINDOW)),
        ("a body longer than its length", frame(DATA, 0, stream, b"12345")),
        ("a body shorter than its length", frame(DATA, END_STREAM, stream, b"123")),
        ("trailers before the end of the length", block(END_STREAM, b"")),
        ("trailers that do not end the stream", block(0, b"")),
        ("trailers with a field of HTTP/1", block(END_STREAM, b"\0\x0akeep-alive\x011")),
        ("PRIORITY that depends on itself", frame(PRIORITY, 0, stream, &itself)),
        ("trailers that depend on themselves", block(END_STREAM | WITH_PRIORITY, &itself)),
        ("more than the window", frame(DATA, 0, stream, &[0; WINDOW as usize + 1])),
    ]
}

/// The head of a POST with `content-length: 4`.
fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, b"\x83\x84\x86\x41\x01a\x0f\x0d\x014")
}

/// A session that has greeted the peer.
fn greeted() -> Session {
    let mut session = Session::new(&SETTINGS);
    session.receive(&[PREFACE, &frame(4, 0, 0, b"")].concat(), Duration::ZERO).unwrap();
    while session.next_event(&Limits::default()).is_some() {}
    session.output(&mut Vec::new());
    session
}

/// What a session tells, the streams that have begun in it, and what it writes.
fn told(session: &mut Session) -> (Vec<String>, Vec<Box<Stream>>, Vec<u8>) {
    let (mut told, mut begun, mut out) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        while let Some(event) = session.next_event(&Limits::default()) {
            match event {
                SessionEvent::Opened(number, stream) => {
                    told.push(format!("opened {number}"));
                    begun.push(stream);
                }
                SessionEvent::Body(number) => told.push(format!("body {number}")),
                SessionEvent::Reset(number) => told.push(format!("reset {number}")),
                other => told.push(format!("{other:?}")),
            }
        }
        let before = out.len();
        session.output(&mut out);
        if out.len() == before {
            return (told, begun, out);
        }
    }
}

#[test]
fn a_stream_that_is_reset_for_what_the_peer_did_is_told_of() {
    for (name, fault) in faults(1) {
        let mut session = greeted();
        session.receive(&post(1), Duration::ZERO).unwrap();
        let (begun, streams, _) = told(&mut session);
        assert_eq!(begun, ["opened 1"]);
        session.receive(&fault, Duration::ZERO).unwrap();
        assert_eq!(told(&mut session).0, ["reset 1"], "{name}");
        assert!(streams[0].port().is_gone(), "{name}");
        assert!(!session.is_closed() && session.open.is_empty(), "{name}");
        session.receive(&get_frame(3), Duration::ZERO).unwrap();
        assert_eq!(told(&mut session).0, ["opened 3"], "{name}");
    }
}

#[test]
fn one_that_is_reset_before_anybody_has_heard_of_it_is_told_of_and_counts_once() {
    for (name, fault) in faults(1) {
        let mut session = greeted();
        session.receive(&[post(1), fault, get_frame(3)].concat(), Duration::ZERO).unwrap();
        let (told, streams, _) = told(&mut session);
        assert_eq!(told, ["opened 1", "opened 3", "reset 1"], "{name}");
        assert!(streams[0].port().is_gone() && !streams[1].port().is_gone());
        assert_eq!(session.frames.resets_left(), frames::RESETS_MAX - 1, "{name}");
    }
}

#[test]
fn requests_that_are_given_up_as_they_come_are_as_many_as_others() {
    let mut session = Session::new(&Settings { concurrent_streams_max: 300, ..SETTINGS });
    session.receive(&[PREFACE, &frame(4, 0, 0, b"")].concat(), Duration::ZERO).unwrap();
    told(&mut session);
    let both = |number| [get_frame(1 + 2 * number), frame(RST_STREAM, 0, 1 + 2 * number, &[0; 4])].concat();
    let bytes: Vec<u8> = (0..frames::RESETS_MAX).flat_map(both).collect();
    session.receive(&bytes, Duration::ZERO).unwrap();
    told(&mut session);
    assert!(!session.is_closed() && session.open.is_empty());
}

/// The head of a GET, and its end.
fn get_frame(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x82\x84\x86\x41\x01a")
}

#[test]
fn what_has_us_reset_counts_as_a_reset_by_the_peer() {
    let cancel = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    let overflow = |stream| frame(WINDOW_UPDATE, 0, stream, &GREATEST_WINDOW);
    // By the peer, by each in turn, by us, and by us and then by the peer, which is one.
    for (by_us, by_peer) in [(0, true), (1, false), (2, false), (2, true)] {
        let mut session = greeted();
        for number in 0..=frames::RESETS_MAX {
            let stream = 1 + 2 * number;
            session.receive(&get_frame(stream), Duration::ZERO).unwrap();
            let (begun, _streams, _) = told(&mut session);
            assert_eq!(begun, [format!("opened {stream}")]);
            let mut bytes = Vec::new();
            if number % 2 < by_us {
                bytes.extend(overflow(stream));
            }
            if number % 2 >= by_us || by_peer {
                bytes.extend(cancel(stream));
            }
            let received = session.receive(&bytes, Duration::ZERO);
            let (ended, _, out) = told(&mut session);
            assert_eq!(ended, [format!("reset {stream}")]);
            let fault = received.err().or(session.take_fault());
            if number < frames::RESETS_MAX {
                assert_eq!(fault, None, "{number}");
                continue;
            }
            assert_eq!(fault, Some(Offence::Resets));
            assert!(session.is_closed() && out.ends_with(&[0, 0, 0, 11]), "ENHANCE_YOUR_CALM: {out:?}");
        }
    }
}

#[test]
fn those_that_are_reset_as_they_begin_count_as_well() {
    let mut session = greeted();
    let overflow = |stream| frame(WINDOW_UPDATE, 0, stream, &GREATEST_WINDOW);
    let both = |stream: u32| [get_frame(stream), overflow(stream)].concat();
    let mut received = 0;
    while !session.is_closed() {
        let two = [both(1 + 2 * received), both(3 + 2 * received)].concat();
        session.receive(&two, Duration::ZERO).unwrap();
        let (told, _, _) = told(&mut session);
        assert_eq!(told.iter().filter(|event| event.starts_with("reset")).count() * 2, told.len());
        received += 2;
    }
    assert_eq!(received, frames::RESETS_MAX + 2);
    assert_eq!(session.take_fault(), Some(Offence::Resets));
}

#[test]
fn what_we_reset_of_ourselves_does_not_count() {
    let mut session = greeted();
    for number in 0..3 * frames::RESETS_MAX {
        let stream = 1 + 2 * number;
        session.receive(&get_frame(stream), Duration::ZERO).unwrap();
        let (_, begun, _) = told(&mut session);
        begun[0].port().cut();
        drop(begun);
        session.forget(stream, false);
        session.receive(&frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1]), Duration::ZERO).unwrap();
        assert_eq!(told(&mut session).0, [""; 0]);
        session.frames.refill(Duration::from_millis(100)); // So that the frames do not count.
    }
    assert!(!session.is_closed());
}

#[test]
fn the_end_of_a_session_is_told_to_its_streams_though_nobody_takes_its_last_word() {
    for end in [true, false] {
        let mut session = greeted();
        session.receive(&[get_frame(1), get_frame(3)].concat(), Duration::ZERO).unwrap();
        let mut streams = Vec::new();
        while let Some(event) = session.next_event(&Limits::default()) {
            if let SessionEvent::Opened(_, stream) = event {
                streams.push(stream);
            }
        }
        if end {
            session.end();
        } else {
            // DATA on a stream that has not begun.
            session.receive(&frame(DATA, 0, 9, b"x"), Duration::ZERO).unwrap();
        }
        let mut resets = 0;
        while let Some(event) = session.next_event(&Limits::default()) {
            assert!(matches!(event, SessionEvent::Reset(1 | 3)), "{event:?}");
            resets += 1;
        }
        assert_eq!(resets, 2);
    }
}

#[test]
fn shutting_down_lets_streams_end_that_began_before_it_was_heard() {
    let mut pair = Pair::new();
    let (first, mut stream) = pair.get();
    pair.session.shut_down();
    let second = pair.requests.send_request(get("/late"), true).unwrap().0; // It has not heard yet.
    pair.turn();
    let (_, mut late) = pair.streams.pop().expect("taken all the same");
    for stream in [&mut stream, &mut late] {
        answer(stream, &head(200, &[], Some(0)), &[]);
    }
    drop((stream, late));
    pair.turn();
    assert_eq!(now(first).unwrap().unwrap().status(), 200);
    assert_eq!(now(second).unwrap().unwrap().status(), 200);
    assert!(pair.session.is_closed());
}

#[test]
fn a_flood_ends_the_session_with_a_word() {
    let mut session = Session::new(&SETTINGS);
    session.receive(PREFACE, Duration::ZERO).unwrap();
    session.receive(&[0, 0, 0, 4, 0, 0, 0, 0, 0], Duration::ZERO).unwrap();
    while session.next_event(&Limits::default()).is_some() {}
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8].repeat(2000);
    assert_eq!(session.receive(&ping, Duration::ZERO), Err(Offence::IdleFrames));
    assert!(session.next_event(&Limits::default()).is_none());
    let mut out = Vec::new();
    session.output(&mut out);
    assert!(session.is_closed());
    assert_eq!(session.take_fault(), None, "it has been told");
    let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
    assert!(out.ends_with(&goaway), "ENHANCE_YOUR_CALM: {out:?}");
}

#[test]
fn what_the_crate_ends_a_session_for_is_told() {
    let mut session = Session::new(&SETTINGS);
    session.receive(PREFACE, Duration::ZERO).unwrap();
    session.receive(&[0, 0, 0, 4, 0, 0, 0, 0, 0], Duration::ZERO).unwrap();
    // DATA on a stream that has not begun.
    session.receive(&[0, 0, 1, 0, 0, 0, 0, 0, 1, 7], Duration::ZERO).unwrap();
    for _ in 0..4 {
        while session.next_event(&Limits::default()).is_some() {}
        session.output(&mut Vec::new());
    }
    assert!(session.is_closed());
    assert_eq!(session.take_fault(), Some(Offence::Refused(Reason::PROTOCOL_ERROR)));
    assert_eq!(session.take_fault(), None);
}

#[test]
fn who_takes_nothing_is_read_no_further() {
    let mut session = Session::new(&SETTINGS);
    session.receive(PREFACE, Duration::ZERO).unwrap();
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    session.receive(&[0, 0, 0, 4, 0, 0, 0, 0, 0], Duration::ZERO).unwrap();
    let mut fed = 0;
    while session.wants_bytes() && fed < 100_000 {
        session.receive(&ping, Duration::from_secs(1)).unwrap();
        while session.next_event(&Limits::default()).is_some() {}
        fed += 1;
    }
    assert!(fed < 20_000, "{fed}");
    let mut out = Vec::new();
    session.output(&mut out);
    assert!(out.len() < 256 * 1024 && session.has_more());
    while session.next_event(&Limits::default()).is_some() {}
    assert!(session.wants_bytes(), "there is room again");
}
