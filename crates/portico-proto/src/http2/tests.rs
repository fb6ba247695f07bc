//! A session against the h2 crate's own client, over buffers.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use http::Request;

use super::pipe::{InMemoryPipe, SharedBuffers};
use super::*;
use crate::added::AddedFields;
use crate::date::HttpDate;
use crate::event::{Event, Part};
use crate::message::{Fields, ResponseHead};
use crate::streams::IoProgress;

/// Both ends, and what is between them.
struct Pair {
    session: Session,
    limits: Limits,
    shared: Arc<SharedBuffers>,
    requests: SendRequest<Bytes>,
    connection: client::Connection<InMemoryPipe, Bytes>,
    streams: Vec<(u32, Box<Stream>)>,
    others: Vec<StreamEvent<Box<Stream>>>,
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

fn receive(session: &mut Session, bytes: &[u8], elapsed: Duration) -> Result<(), Http2Violation> {
    session.receive(bytes, elapsed, &Limits::default())
}

fn added() -> AddedFields {
    AddedFields::new(HttpDate::from_unix(0))
}

impl Pair {
    fn new() -> Self {
        let shared = Arc::new(SharedBuffers::default());
        let (requests, connection) = now(client::handshake(InMemoryPipe(Arc::clone(&shared))))
            .expect("a buffer takes it at once")
            .unwrap();
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
            self.session.receive(&sent, Duration::ZERO, &self.limits).unwrap();
            while let Some(event) = self.session.next_event(&self.limits) {
                match event {
                    StreamEvent::Opened(number, stream) => self.streams.push((number, stream)),
                    other => self.others.push(other),
                }
            }
            self.session.output(&mut answered);
            self.shared.push(|input| input.extend_from_slice(&answered));
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
        let (response, _) = self.request(get("/"), true);
        let (_, stream) = self.streams.pop().expect("it has begun");
        (response, stream)
    }
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a.example{path}")).body(()).unwrap()
}

/// What a stream tells, with what is in its I/O.
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
        let count = match stream.io().read(&mut buffer) {
            IoProgress::Bytes(count) => count,
            IoProgress::Ended if told.last().is_none_or(|last| last != "end") => continue,
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
    ResponseHead { status, fields: all, length, ..ResponseHead::default() }
}

/// Sends a whole response in these blocks.
fn respond(stream: &mut Stream, head: &ResponseHead, blocks: &[&[u8]]) {
    stream.send(Part::Head { head, close: false, added: &added() }, &mut Vec::new());
    for block in blocks {
        let mut out = Vec::new();
        stream.send(Part::Body(block), &mut out);
        let mut rest = &out[..];
        while !rest.is_empty() {
            let IoProgress::Bytes(count) = stream.io().write(rest) else { panic!("there is room") };
            rest = &rest[count..];
        }
    }
    stream.send(Part::End, &mut Vec::new());
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
    assert!(matches!(pair.others[..], [StreamEvent::Body(1)]), "{:?}", pair.others);
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
    receive(&mut session, &start, Duration::ZERO).unwrap();
    let Some(StreamEvent::Opened(1, mut stream)) = session.next_event(&Limits::default()) else {
        panic!("it has begun");
    };
    assert!(matches!(session.next_event(&Limits::default()), Some(StreamEvent::Arriving(1, 2))));
    assert!(session.next_event(&Limits::default()).is_none(), "nothing can be read yet");
    receive(&mut session, &data[11..], Duration::ZERO).unwrap();
    assert!(matches!(session.next_event(&Limits::default()), Some(StreamEvent::Body(1))));
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
    let lawful = ["content-digest", "content-type", "content-md5", "server-timing", "authorization"];
    let trailers = lawful.map(|name| (http::HeaderName::from_static(name), http::HeaderValue::from(1)));
    body.send_trailers(http::HeaderMap::from_iter(trailers)).unwrap();
    pair.turn();
    assert_eq!(events(&mut stream, &Limits::default()).unwrap(), ["end"]);
}

#[test]
fn a_response_of_known_length_ends_with_its_last_byte_and_one_of_unknown_with_its_end() {
    for length in [Some(6), None] {
        let mut pair = Pair::new();
        let (future, mut stream) = pair.get();
        let fields =
            [("X-A", " b "), ("Connection", "close"), ("Transfer-Encoding", "chunked"), ("Bad", "\u{1}")];
        respond(&mut stream, &head(200, &fields, length), &[b"abc", b"def"]);
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
fn head_204_and_304_have_no_body_and_a_short_response_is_not_complete() {
    for (status, length, told) in [(200, Some(3), Some("3")), (204, Some(0), None), (304, Some(3), Some("3"))]
    {
        let mut pair = Pair::new();
        let method = if status == 200 { "HEAD" } else { "GET" };
        let request = Request::builder().method(method).uri("http://a/").body(()).unwrap();
        let (future, _) = pair.request(request, true);
        let (_, mut stream) = pair.streams.pop().unwrap();
        respond(&mut stream, &head(status, &[], length), &[b"abc"]);
        assert!(stream.content().is_complete());
        pair.turn();
        let response = now(future).unwrap().unwrap();
        assert!(response.body().is_end_stream());
        let length = response.headers().get("content-length").map(|value| value.to_str().unwrap());
        assert_eq!(length, told, "{status}");
    }
    let mut pair = Pair::new();
    let (_future, mut stream) = pair.get();
    respond(&mut stream, &head(200, &[], Some(9)), &[b"abc"]);
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
        let (_, mut stream) = pair.streams.pop().unwrap();
        assert_eq!(events(&mut stream, &limits), Err(status));
        let mut out = Vec::new();
        stream.send(Part::Head { head: &head(status, &[], Some(3)), close: true, added: &added() }, &mut out);
        stream.send(Part::Body(b"no\n"), &mut out);
        assert_eq!(stream.io().write(&out), IoProgress::Bytes(3));
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
fn interim_responses_come_before_the_response_and_not_after() {
    let mut pair = Pair::new();
    let request = Request::post("http://a/").header("expect", "100-continue").body(()).unwrap();
    let (mut future, _body) = pair.request(request, false);
    let (_, mut stream) = pair.streams.pop().unwrap();
    events(&mut stream, &Limits::default()).unwrap();
    let mut hints = Fields::new();
    hints.push(b"Link", b"</a>");
    for _ in 0..2 {
        stream.send(Part::Continue, &mut Vec::new());
    }
    stream.send(Part::EarlyHints(&hints), &mut Vec::new());
    respond(&mut stream, &head(200, &[], Some(0)), &[]);
    stream.send(Part::EarlyHints(&hints), &mut Vec::new());
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
    stream.send(Part::Head { head: &head(200, &[], None), close: false, added: &added() }, &mut Vec::new());
    let block = vec![7; 200_000];
    let mut sent = 0;
    loop {
        match stream.io().write(&block) {
            IoProgress::Bytes(count) => sent += count,
            IoProgress::Blocked => break,
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
    assert!(matches!(pair.others[..], [StreamEvent::Room(1)]), "{:?}", pair.others);
    assert!(matches!(stream.io().write(&block), IoProgress::Bytes(_)));
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
    assert_eq!(stream.io().read(&mut buffer), IoProgress::Bytes(40_000));
    pair.turn();
    assert_eq!(body.capacity(), 40_000);
}

#[test]
fn a_reset_of_either_side_is_told_to_the_other() {
    let mut pair = Pair::new();
    let (future, body) = pair.request(Request::post("http://a/").body(()).unwrap(), false);
    let (_, stream) = pair.streams.pop().unwrap();
    assert!(!stream.io().is_gone());
    drop((future, body));
    pair.turn();
    assert!(matches!(pair.others[..], [StreamEvent::Reset(1, None)]), "{:?}", pair.others);
    assert!(stream.io().is_gone());
    assert_eq!(stream.io().write(b"x"), IoProgress::Failed);
    let (future, stream) = pair.get();
    stream.io().cut();
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
    let block = |flags: u8, block: &[u8]| frame(HEADERS, END_HEADERS | flags, stream, block);
    let itself = [&stream.to_be_bytes()[..], &[0]].concat();
    vec![
        ("a window above the most", frame(WINDOW_UPDATE, 0, stream, &GREATEST_WINDOW)),
        ("a body longer than its length", frame(DATA, 0, stream, b"12345")),
        ("a body shorter than its length", frame(DATA, END_STREAM, stream, b"123")),
        ("trailers before the end of the length", block(END_STREAM, b"")),
        ("PRIORITY that depends on itself", frame(PRIORITY, 0, stream, &itself)),
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
    receive(&mut session, &[PREFACE, &frame(4, 0, 0, b"")].concat(), Duration::ZERO).unwrap();
    while session.next_event(&Limits::default()).is_some() {}
    session.output(&mut Vec::new());
    session
}

/// What a session tells, the streams that have begun in it, and what it writes.
fn told(session: &mut Session) -> (Vec<String>, Vec<Stream>, Vec<u8>) {
    let (mut told, mut begun, mut out) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        while let Some(event) = session.next_event(&Limits::default()) {
            match event {
                StreamEvent::Opened(number, stream) => {
                    told.push(format!("opened {number}"));
                    begun.push(*stream);
                }
                StreamEvent::Body(number) => told.push(format!("body {number}")),
                StreamEvent::Reset(number, None) => told.push(format!("reset {number}")),
                StreamEvent::Reset(number, Some(kind)) => told.push(format!("reset {number} {kind:?}")),
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
        receive(&mut session, &post(1), Duration::ZERO).unwrap();
        let (begun, streams, _) = told(&mut session);
        assert_eq!(begun, ["opened 1"]);
        receive(&mut session, &fault, Duration::ZERO).unwrap();
        assert_eq!(told(&mut session).0, ["reset 1"], "{name}");
        assert!(streams[0].io().is_gone(), "{name}");
        assert!(!session.is_closed() && session.open.numbers().next().is_none(), "{name}");
        receive(&mut session, &get_frame(3), Duration::ZERO).unwrap();
        assert_eq!(told(&mut session).0, ["opened 3"], "{name}");
    }
}

#[test]
fn one_that_is_reset_before_anybody_has_heard_of_it_is_told_of_and_counts_once() {
    for (name, fault) in faults(1) {
        let mut session = greeted();
        receive(&mut session, &[post(1), fault, get_frame(3)].concat(), Duration::ZERO).unwrap();
        let (told, streams, _) = told(&mut session);
        assert_eq!(told, ["opened 1", "opened 3", "reset 1"], "{name}");
        assert!(streams[0].io().is_gone() && !streams[1].io().is_gone());
        assert_eq!(session.frames.resets_left(), frames::RESETS_MAX - 1, "{name}");
    }
}

/// A field that is not compressed.
fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0, name.len() as u8], name, &[value.len() as u8], value].concat()
}

/// A header block of these fields.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name.as_bytes(), value.as_bytes())).collect()
}

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

#[test]
fn a_malformed_request_costs_its_stream_and_never_begins() {
    let with = |field: (&'static str, &'static str)| [&GET[..], &[field]].concat();
    let at = |place: usize, value: &'static str| {
        let mut fields = GET;
        fields[place].1 = value;
        fields.to_vec()
    };
    let without =
        |place: usize| GET.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, f)| *f).collect();
    for (fields, expected) in [
        (with(("X-Test", "")), ErrorKind::FieldName),
        (with(("x test", "")), ErrorKind::FieldName),
        (with(("x:test", "")), ErrorKind::FieldName),
        (with(("x\u{1}", "")), ErrorKind::FieldName),
        (with(("\u{e4}", "")), ErrorKind::FieldName),
        (with(("", "")), ErrorKind::FieldName),
        (with(("x", "a\r\nb: c")), ErrorKind::ControlByte),
        (with(("x", "a\nb")), ErrorKind::ControlByte),
        (with(("x", "a\0b")), ErrorKind::ControlByte),
        (with(("connection", "close")), ErrorKind::ConnectionField),
        (with(("keep-alive", "1")), ErrorKind::ConnectionField),
        (with(("proxy-connection", "close")), ErrorKind::ConnectionField),
        (with(("transfer-encoding", "chunked")), ErrorKind::ConnectionField),
        (with(("upgrade", "websocket")), ErrorKind::ConnectionField),
        (with(("te", "gzip")), ErrorKind::ConnectionField),
        (with((":test", "")), ErrorKind::PseudoField),
        (with((":status", "200")), ErrorKind::PseudoField),
        (with((":protocol", "websocket")), ErrorKind::PseudoField),
        (with((":method", "GET")), ErrorKind::PseudoField),
        (with(("content-length", "1")), ErrorKind::BodyMissing),
        ([&[("x", "")], &GET[..]].concat(), ErrorKind::PseudoField),
        (at(0, "G T"), ErrorKind::RequestLine),
        (at(0, ""), ErrorKind::RequestLine),
        (at(0, "CONNECT"), ErrorKind::PseudoField),
        (at(1, ""), ErrorKind::PseudoField),
        (at(1, "1http"), ErrorKind::PseudoField),
        (at(2, ""), ErrorKind::PseudoField),
        (without(0), ErrorKind::PseudoField),
        (without(1), ErrorKind::PseudoField),
        (without(2), ErrorKind::PseudoField),
        (vec![], ErrorKind::PseudoField),
    ] {
        let mut session = greeted();
        let bytes = [
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields)),
            frame(HEADERS, END_HEADERS | END_STREAM, 3, &block(&GET)),
        ]
        .concat();
        receive(&mut session, &bytes, Duration::ZERO).unwrap();
        let (told, _, out) = told(&mut session);
        assert_eq!(told, [format!("reset 1 {expected:?}"), "opened 3".to_owned()], "{fields:?}");
        assert_eq!(out, frame(RST_STREAM, 0, 1, &[0, 0, 0, 1]), "PROTOCOL_ERROR: {fields:?}");
        assert_eq!(session.frames.resets_left(), frames::RESETS_MAX - 1);
    }
}

#[test]
fn what_http1_would_refuse_is_answered_with_its_status() {
    let with = |field: (&'static str, &'static str)| [&GET[..], &[field]].concat();
    let path = |path: &'static str| [&GET[..2], &[(":path", path)], &GET[3..]].concat();
    for (fields, status) in [
        (path("/a#b"), 400),
        (path("/#"), 400),
        (path("#"), 400),
        (path("a"), 400),
        (path("/a b"), 400),
        (path("/%zz"), 400),
        (path("/\u{e4}"), 400),
        (path("*"), 400),
        (path("http://a/"), 400),
        (with(("host", "b")), 400),
        (with(("x", "\u{1}")), 400),
        (with(("content-length", "+0")), 400),
        (with(("expect", "200-ok")), 417),
        (vec![(":method", "CONNECT"), (":authority", "a:443")], 501),
        ([&GET[..3], &[(":authority", "u@a")]].concat(), 400),
        (GET[..3].to_vec(), 400),
    ] {
        let mut session = greeted();
        let bytes = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields));
        receive(&mut session, &bytes, Duration::ZERO).unwrap();
        let (told, mut streams, _) = told(&mut session);
        assert_eq!(told, ["opened 1"], "{fields:?}");
        assert_eq!(events(&mut streams[0], &Limits::default()), Err(status), "{fields:?}");
        assert_eq!(session.frames.resets_left(), frames::RESETS_MAX);
    }
}

#[test]
fn a_stream_that_depends_on_itself_is_reset() {
    let itself = |stream: u32, block: &[u8]| [&stream.to_be_bytes()[..], &[0], block].concat();
    let flags = END_HEADERS | END_STREAM | WITH_PRIORITY;
    let mut session = greeted();
    let bytes = [
        frame(HEADERS, flags, 1, &itself(1, &block(&GET))),
        frame(HEADERS, flags, 3, &itself(1, &block(&GET))),
        post(5),
        frame(DATA, 0, 5, b"1234"),
        frame(HEADERS, flags, 5, &itself(5, b"")),
    ];
    receive(&mut session, &bytes.concat(), Duration::ZERO).unwrap();
    assert_eq!(told(&mut session).0, ["reset 1 Priority", "opened 3", "opened 5", "reset 5 Priority"]);
}

/// As a browser's requests are: most fields come again and again.
#[test]
fn blocks_of_another_encoder_are_read_as_it_meant_them() {
    let mut pair = Pair::new();
    let mut sent = Vec::new();
    for number in 0..300u64 {
        let mut request = Request::get(format!("http://a.example/{}?q={}", number % 7, number % 11));
        for field in 0..number % 9 {
            let value = (number * 31 + field * 7).to_string().repeat((number % 40) as usize);
            request = request.header(format!("x-{}", (number + field) % 13), value);
        }
        let bytes: Vec<u8> = (0x20..0x7f).chain(0x80..=0xff).skip(number as usize % 200).take(20).collect();
        let value = http::HeaderValue::from_bytes(bytes.trim_ascii()).unwrap();
        let request = request.header("x-bytes", value).body(()).unwrap();
        let expected = request.headers().clone();
        sent.push(pair.request(request, true));
        let (_, mut stream) = pair.streams.pop().expect("it has begun");
        let Ok(Some(Event::Head(asked))) = stream.next_event(&mut &[][..], &pair.limits) else { panic!() };
        let target = format!("/{}?q={}", number % 7, number % 11);
        assert_eq!((asked.target(), asked.authority()), (target.as_bytes(), Some(&b"a.example"[..])));
        assert_eq!(asked.fields().len(), expected.len() + 1);
        for (name, value) in &expected {
            let told: Vec<_> =
                asked.fields().filter(|(n, _)| *n == name.as_str().as_bytes()).map(|(_, v)| v).collect();
            assert_eq!(
                told,
                expected.get_all(name).iter().map(|v| v.as_bytes()).collect::<Vec<_>>(),
                "{value:?}"
            );
        }
        respond(&mut stream, &head(200, &[], Some(0)), &[]);
        drop(stream);
        pair.session.forget(1 + 2 * number as u32, true);
        pair.turn();
    }
}

/// A head may be much longer than its block; so only one is read that has no place yet.
#[test]
fn what_comes_behind_a_stream_that_begins_waits_for_it() {
    let mut session = greeted();
    let bytes: Vec<u8> = (0..4).flat_map(|number| get_frame(1 + 2 * number)).collect();
    receive(&mut session, &bytes, Duration::ZERO).unwrap();
    assert!(session.begun.is_some() && !session.wants_bytes());
    assert_eq!(session.rest.0.len(), bytes.len() * 3 / 4);
    receive(&mut session, &get_frame(9), Duration::ZERO).unwrap();
    let (told, ..) = told(&mut session);
    assert_eq!(told, ["opened 1", "opened 3", "opened 5", "opened 7", "opened 9"]);
    assert!(session.begun.is_none() && session.wants_bytes() && session.rest.0.is_empty());
}

#[test]
fn a_head_on_a_stream_that_has_been_is_late_and_one_on_a_stream_that_never_was_is_an_error() {
    for (first, late, expected) in
        [(1, 1, None), (3, 1, Some(Reason::PROTOCOL_ERROR)), (3, 2, Some(Reason::PROTOCOL_ERROR))]
    {
        let mut session = greeted();
        receive(&mut session, &get_frame(first), Duration::ZERO).unwrap();
        let (_, mut streams, _) = told(&mut session);
        respond(&mut streams[0], &head(200, &[], Some(0)), &[]);
        drop(streams);
        session.forget(first, true);
        told(&mut session);
        receive(&mut session, &[get_frame(late), get_frame(5)].concat(), Duration::ZERO).unwrap();
        let (told, ..) = told(&mut session);
        assert_eq!(session.take_fault(), expected.map(Http2Violation::Refused), "{first} {late}");
        assert_eq!(told.contains(&"opened 5".to_owned()), expected.is_none());
    }
    let mut session = greeted();
    receive(&mut session, &get_frame(1), Duration::ZERO).unwrap();
    drop(told(&mut session));
    session.forget(1, false);
    let late = get_frame(1).repeat(2000);
    let mut received = Ok(());
    for piece in late.chunks(get_frame(1).len()) {
        received = receive(&mut session, piece, Duration::ZERO);
        if received.is_err() {
            break;
        }
    }
    assert_eq!(received, Err(Http2Violation::IdleFrames));
}

#[test]
fn what_is_held_of_a_block_counts_until_it_has_been_read() {
    let mut session = Session::new(&Settings { header_list_bytes_max: 65_536, ..SETTINGS });
    let start = [PREFACE, &frame(4, 0, 0, b""), &frame(HEADERS, END_STREAM, 1, &block(&GET))].concat();
    receive(&mut session, &start, Duration::ZERO).unwrap();
    told(&mut session);
    let before = session.memory_bytes();
    let more = field(b"x", &[b'v'; 120]).repeat(400);
    receive(&mut session, &frame(9, 0, 1, &more), Duration::ZERO).unwrap();
    assert!(session.memory_bytes() >= before + more.len());
    receive(&mut session, &frame(9, END_HEADERS, 1, b""), Duration::ZERO).unwrap();
    assert_eq!(told(&mut session).0, ["opened 1"]);
    session.release();
    assert!(session.memory_bytes() < before + 4096, "{before} {}", session.memory_bytes());
}

#[test]
fn a_stream_that_begins_while_the_peer_takes_nothing_is_told_of_when_it_does() {
    let mut session = greeted();
    let ping = frame(6, 0, 0, &[0; 8]);
    let pings = |session: &mut Session| {
        let bytes = [&ping.repeat(600)[..], &get_frame(1), &ping, &get_frame(3)].concat();
        receive(session, &bytes, Duration::from_secs(99)).unwrap();
    };
    let mut begun = 0;
    for _ in 0..40 {
        receive(&mut session, &ping.repeat(600), Duration::from_secs(99)).unwrap();
        while session.next_event(&Limits::default()).is_some() {
            begun += 1;
        }
        if !session.wants_bytes() {
            break;
        }
    }
    assert!(begun == 0 && !session.wants_bytes(), "its responses to PING have no place");
    pings(&mut session);
    assert!(session.next_event(&Limits::default()).is_none() && !session.wants_bytes());
    let (told, ..) = told(&mut session);
    assert_eq!(told, ["opened 1", "opened 3"]);
    assert!(session.wants_bytes() && session.rest.0.is_empty() && !session.is_closed());
}

#[test]
fn a_stream_that_the_crate_refuses_leaves_nothing_behind() {
    let mut session = greeted();
    let count = SETTINGS.concurrent_streams_max;
    let bytes: Vec<u8> = (0..count + 2).flat_map(|number| get_frame(1 + 2 * number)).collect();
    receive(&mut session, &bytes, Duration::ZERO).unwrap();
    let (begun, streams, out) = told(&mut session);
    assert_eq!((begun.len(), streams.len()), (5, 5));
    assert!(out.ends_with(&frame(RST_STREAM, 0, 3 + 2 * count, &[0, 0, 0, 7])), "REFUSED_STREAM");
    assert!(session.begun.is_none() && session.wants_bytes());
    drop(streams);
    (0..count).for_each(|number| session.forget(1 + 2 * number, false));
    told(&mut session);
    receive(&mut session, &get_frame(99), Duration::ZERO).unwrap();
    assert_eq!(told(&mut session).0, ["opened 99"]);
}

#[test]
fn malformed_trailers_cost_their_stream() {
    for (fields, expected) in [
        (block(&[(":method", "GET")]), ErrorKind::PseudoField),
        (block(&[(":status", "200")]), ErrorKind::PseudoField),
        (block(&[("x", "1"), (":path", "/")]), ErrorKind::PseudoField),
        (block(&[("X", "1")]), ErrorKind::FieldName),
        (block(&[("x y", "1")]), ErrorKind::FieldName),
        (block(&[("", "1")]), ErrorKind::FieldName),
        (block(&[("x", "a\nb")]), ErrorKind::ControlByte),
        (block(&[("keep-alive", "1")]), ErrorKind::ConnectionField),
        (block(&[("host", "a")]), ErrorKind::Trailer),
        (block(&[("content-length", "4")]), ErrorKind::Trailer),
        (block(&[("x", &"v".repeat(120))]).repeat(40), ErrorKind::HeadTooLarge),
    ] {
        let mut session = greeted();
        receive(&mut session, &post(1), Duration::ZERO).unwrap();
        let (_, streams, _) = told(&mut session);
        let body = frame(DATA, 0, 1, b"1234");
        let bytes = [body, frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields), get_frame(3)].concat();
        receive(&mut session, &bytes, Duration::ZERO).unwrap();
        let (told, _others, out) = told(&mut session);
        assert_eq!(told, ["opened 3".to_owned(), format!("reset 1 {expected:?}")]);
        assert!(streams[0].io().is_gone());
        assert!(out.ends_with(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 1])), "PROTOCOL_ERROR: {expected:?}");
        assert_eq!(session.frames.resets_left(), frames::RESETS_MAX - 1);
    }
}

#[test]
fn trailers_that_do_not_end_their_stream_are_malformed() {
    let mut session = greeted();
    receive(&mut session, &post(1), Duration::ZERO).unwrap();
    let (_, _streams, _) = told(&mut session);
    receive(&mut session, &frame(HEADERS, END_HEADERS, 1, b""), Duration::ZERO).unwrap();
    assert_eq!(told(&mut session).0, ["reset 1 Trailer"]);
}

/// What RFC 9113 calls an error of a stream costs no other stream anything, by the name that it has there.
#[test]
fn an_error_of_a_stream_is_none_of_the_connection() {
    let protocol_error = [0, 0, 0, 1];
    let stream_closed = [0, 0, 0, 5];
    let frame_size_error = [0, 0, 0, 6];
    for (name, ended, bytes, code) in [
        ("DATA behind the end", true, frame(DATA, 0, 1, b"more"), stream_closed),
        ("an end behind the end", true, frame(DATA, END_STREAM, 1, b""), stream_closed),
        ("trailers behind the end", true, frame(HEADERS, END_HEADERS | END_STREAM, 1, b""), stream_closed),
        ("another head behind the end", true, get_frame(1), stream_closed),
        ("a window that grows by nothing", false, frame(WINDOW_UPDATE, 0, 1, &[0; 4]), protocol_error),
        ("and by a bit of no meaning", true, frame(WINDOW_UPDATE, 0, 1, &[0x80, 0, 0, 0]), protocol_error),
        ("a priority of four bytes", false, frame(PRIORITY, 0, 1, &[0; 4]), frame_size_error),
        ("a priority of none", true, frame(PRIORITY, 0, 1, b""), frame_size_error),
    ] {
        for step in [1, 100] {
            let mut session = greeted();
            let begin = if ended { get_frame(1) } else { post(1) };
            receive(&mut session, &begin, Duration::ZERO).unwrap();
            let (_, _streams, _) = told(&mut session);
            let (mut events, mut out) = (Vec::new(), Vec::new());
            for piece in [bytes.clone(), get_frame(3)].concat().chunks(step) {
                receive(&mut session, piece, Duration::ZERO).unwrap();
                let (told, _, written) = told(&mut session);
                events.extend(told);
                out.extend(written);
            }
            events.retain(|event| !event.starts_with("Arriving"));
            events.sort();
            assert_eq!(events, ["opened 3", "reset 1"], "{name}");
            assert_eq!(out[..13], frame(RST_STREAM, 0, 1, &code), "{name}");
            assert_eq!(session.frames.resets_left(), frames::RESETS_MAX - 1, "{name}");
        }
    }
}

#[test]
fn what_is_late_on_a_stream_that_has_ended_costs_nothing() {
    let mut session = greeted();
    receive(&mut session, &post(1), Duration::ZERO).unwrap();
    let (_, streams, _) = told(&mut session);
    drop(streams);
    session.forget(1, false);
    told(&mut session);
    let window = frame(WINDOW_UPDATE, 0, 1, &[0; 4]);
    let late =
        [window, frame(PRIORITY, 0, 1, b""), frame(DATA, 0, 1, b"12"), frame(DATA, END_STREAM, 1, b"34")];
    receive(&mut session, &[late.concat(), get_frame(3)].concat(), Duration::ZERO).unwrap();
    assert_eq!(told(&mut session).0, ["opened 3"]);
    assert_eq!(session.frames.resets_left(), frames::RESETS_MAX);
}

#[test]
fn bodies_that_nobody_takes_leave_the_connection_its_window() {
    let mut session = Session::new(&Settings { concurrent_streams_max: 100, ..SETTINGS });
    receive(&mut session, &[PREFACE, &frame(4, 0, 0, b"")].concat(), Duration::ZERO).unwrap();
    told(&mut session);
    // Three times what all streams may send together, each piece behind the end of its request.
    for number in 0..60 {
        let stream = 1 + 2 * number;
        let bytes = [get_frame(stream), frame(DATA, 0, stream, &[0; 60_000])].concat();
        receive(&mut session, &bytes, Duration::ZERO).unwrap();
        let (told, ..) = told(&mut session);
        assert_eq!(told, [format!("opened {stream}"), format!("reset {stream}")]);
    }
    assert!(!session.is_closed());
}

#[test]
fn what_comes_with_the_preface_is_answered_as_what_comes_later() {
    let settings = |value: &[u8]| frame(4, 0, 0, value);
    for (name, bytes, code) in [
        ("PING before SETTINGS", frame(6, 0, 0, &[0; 8]), 1),
        ("DATA of no stream", [settings(b""), frame(DATA, 0, 0, b"")].concat(), 1),
        ("PING of seven bytes", [settings(b""), frame(6, 0, 0, &[0; 7])].concat(), 6),
        ("a window that cannot be", settings(&[0, 4, 0x80, 0, 0, 0]), 3),
        ("push that is neither on nor off", settings(&[0, 2, 0, 0, 0, 2]), 1),
        ("no header block", [settings(b""), frame(HEADERS, END_HEADERS, 1, b"\x80")].concat(), 9),
    ] {
        let mut session = Session::new(&SETTINGS);
        let _ = receive(&mut session, &[PREFACE, &bytes].concat(), Duration::ZERO);
        let (told, _, out) = told(&mut session);
        assert!(told.is_empty() && session.is_closed(), "{name}");
        assert_eq!(out[3], 4, "SETTINGS first: {name}");
        let goaway = [&[7, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0, 0, 0, code]].concat();
        assert!(out.windows(14).any(|frame| frame == goaway), "{name}: {out:?}");
    }
}

#[test]
fn trailers_of_a_stream_that_has_ended_change_nothing() {
    let mut session = greeted();
    receive(&mut session, &post(1), Duration::ZERO).unwrap();
    drop(told(&mut session));
    session.forget(1, false);
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[(":path", "/")]));
    receive(&mut session, &[trailers, get_frame(3)].concat(), Duration::ZERO).unwrap();
    assert_eq!(told(&mut session).0, ["opened 3"]);
    assert_eq!(session.frames.resets_left(), frames::RESETS_MAX);
}

#[test]
fn what_cannot_be_decompressed_ends_the_session() {
    for block in [&b"\x80"[..], b"\xff\xff\xff\xff\xff\xff\xff", b"\0\x81\0\0", b"\x82\x84\x86\x41"] {
        let mut session = greeted();
        let bytes = frame(HEADERS, END_HEADERS | END_STREAM, 1, block);
        assert_eq!(receive(&mut session, &bytes, Duration::ZERO), Err(Http2Violation::Compression));
        let (told, _, out) = told(&mut session);
        assert!(told.is_empty() && session.is_closed());
        assert!(out.ends_with(&[0, 0, 0, 9]), "COMPRESSION_ERROR: {out:?}");
    }
}

#[test]
fn requests_that_are_given_up_as_they_come_are_as_many_as_others() {
    let mut session = Session::new(&Settings { concurrent_streams_max: 300, ..SETTINGS });
    receive(&mut session, &[PREFACE, &frame(4, 0, 0, b"")].concat(), Duration::ZERO).unwrap();
    told(&mut session);
    let both = |number| [get_frame(1 + 2 * number), frame(RST_STREAM, 0, 1 + 2 * number, &[0; 4])].concat();
    let bytes: Vec<u8> = (0..frames::RESETS_MAX).flat_map(both).collect();
    receive(&mut session, &bytes, Duration::ZERO).unwrap();
    told(&mut session);
    assert!(!session.is_closed() && session.open.numbers().next().is_none());
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
            receive(&mut session, &get_frame(stream), Duration::ZERO).unwrap();
            let (begun, _streams, _) = told(&mut session);
            assert_eq!(begun, [format!("opened {stream}")]);
            let mut bytes = Vec::new();
            if number % 2 < by_us {
                bytes.extend(overflow(stream));
            }
            if number % 2 >= by_us || by_peer {
                bytes.extend(cancel(stream));
            }
            let received = receive(&mut session, &bytes, Duration::ZERO);
            let (ended, _, out) = told(&mut session);
            assert_eq!(ended, [format!("reset {stream}")]);
            let fault = received.err().or(session.take_fault());
            if number < frames::RESETS_MAX {
                assert_eq!(fault, None, "{number}");
                continue;
            }
            assert_eq!(fault, Some(Http2Violation::Resets));
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
        receive(&mut session, &two, Duration::ZERO).unwrap();
        let (told, _, _) = told(&mut session);
        assert_eq!(told.iter().filter(|event| event.starts_with("reset")).count() * 2, told.len());
        received += 2;
    }
    assert_eq!(received, frames::RESETS_MAX + 2);
    assert_eq!(session.take_fault(), Some(Http2Violation::Resets));
}

#[test]
fn what_we_reset_of_ourselves_does_not_count() {
    let mut session = greeted();
    for number in 0..3 * frames::RESETS_MAX {
        let stream = 1 + 2 * number;
        receive(&mut session, &get_frame(stream), Duration::ZERO).unwrap();
        let (_, begun, _) = told(&mut session);
        begun[0].io().cut();
        drop(begun);
        session.forget(stream, false);
        receive(&mut session, &frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1]), Duration::ZERO).unwrap();
        assert_eq!(told(&mut session).0, [""; 0]);
        session.frames.refill(Duration::from_millis(100)); // So that the frames do not count.
    }
    assert!(!session.is_closed());
}

#[test]
fn the_end_of_a_session_is_told_to_its_streams_though_nobody_takes_its_last_word() {
    for end in [true, false] {
        let mut session = greeted();
        receive(&mut session, &[get_frame(1), get_frame(3)].concat(), Duration::ZERO).unwrap();
        let mut streams = Vec::new();
        while let Some(event) = session.next_event(&Limits::default()) {
            if let StreamEvent::Opened(_, stream) = event {
                streams.push(stream);
            }
        }
        if end {
            session.end();
        } else {
            // DATA on a stream that has not begun.
            receive(&mut session, &frame(DATA, 0, 9, b"x"), Duration::ZERO).unwrap();
        }
        let mut resets = 0;
        while let Some(event) = session.next_event(&Limits::default()) {
            assert!(matches!(event, StreamEvent::Reset(1 | 3, None)), "{event:?}");
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
        respond(stream, &head(200, &[], Some(0)), &[]);
    }
    drop((stream, late));
    pair.turn();
    assert_eq!(now(first).unwrap().unwrap().status(), 200);
    assert_eq!(now(second).unwrap().unwrap().status(), 200);
    assert!(pair.session.is_closed());
}

#[test]
fn a_response_that_closes_has_the_session_end_with_the_streams_that_there_are() {
    let mut pair = Pair::new();
    let (_first, mut other) = pair.get();
    let (_second, mut stream) = pair.get();
    let closing = ResponseHead { close: true, ..head(200, &[], Some(2)) };
    respond(&mut stream, &closing, &[b"ab"]);
    pair.turn();
    assert!(pair.session.is_leaving() && !pair.session.is_closed());
    respond(&mut other, &head(200, &[], Some(2)), &[b"cd"]);
    for _ in 0..4 {
        pair.turn();
    }
    assert!(pair.session.is_closed());
}

/// A reset drops what the crate has not written: whoever cuts a response waits for that.
#[test]
fn what_was_given_of_a_body_is_written_before_its_stream_is_reset() {
    let mut session = greeted();
    receive(&mut session, &get_frame(1), Duration::ZERO).unwrap();
    let (_, mut streams, _) = told(&mut session);
    let stream = &mut streams[0];
    stream
        .send(Part::Head { head: &head(200, &[], Some(20)), close: false, added: &added() }, &mut Vec::new());
    assert!(matches!(stream.io().write(b"0123456789"), IoProgress::Bytes(10)));
    assert!(!stream.io().is_written());
    let mut out = Vec::new();
    session.output(&mut out);
    assert!(stream.io().is_written());
    assert!(matches!(session.next_event(&Limits::default()), Some(StreamEvent::Room(1))));
    stream.io().cut();
    session.output(&mut out);
    let data = memchr::memmem::find(&out, b"0123456789").expect("the body");
    let reset = memchr::memmem::find(&out, &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 2]).expect("RST_STREAM");
    assert!(data < reset);
}

#[test]
fn a_flood_ends_the_session_with_a_word() {
    let mut session = Session::new(&SETTINGS);
    receive(&mut session, PREFACE, Duration::ZERO).unwrap();
    receive(&mut session, &[0, 0, 0, 4, 0, 0, 0, 0, 0], Duration::ZERO).unwrap();
    while session.next_event(&Limits::default()).is_some() {}
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8].repeat(2000);
    assert_eq!(receive(&mut session, &ping, Duration::ZERO), Err(Http2Violation::IdleFrames));
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
    receive(&mut session, PREFACE, Duration::ZERO).unwrap();
    receive(&mut session, &[0, 0, 0, 4, 0, 0, 0, 0, 0], Duration::ZERO).unwrap();
    // DATA on a stream that has not begun.
    receive(&mut session, &[0, 0, 1, 0, 0, 0, 0, 0, 1, 7], Duration::ZERO).unwrap();
    for _ in 0..4 {
        while session.next_event(&Limits::default()).is_some() {}
        session.output(&mut Vec::new());
    }
    assert!(session.is_closed());
    assert_eq!(session.take_fault(), Some(Http2Violation::Refused(Reason::PROTOCOL_ERROR)));
    assert_eq!(session.take_fault(), None);
}

#[test]
fn who_takes_nothing_is_read_no_further() {
    let mut session = Session::new(&SETTINGS);
    receive(&mut session, PREFACE, Duration::ZERO).unwrap();
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    receive(&mut session, &[0, 0, 0, 4, 0, 0, 0, 0, 0], Duration::ZERO).unwrap();
    let mut fed = 0;
    while session.wants_bytes() && fed < 100_000 {
        receive(&mut session, &ping, Duration::from_secs(1)).unwrap();
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
