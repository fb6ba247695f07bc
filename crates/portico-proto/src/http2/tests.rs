//! A session against the h2 crate's own client, over buffers: both ends, and frames made by hand. The tests are in
//! files by subject.

mod end;
mod flow;
mod malformed;
mod messages;
mod resets;

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

/// A frame byte by byte.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
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

/// A field that is not compressed.
fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0, name.len() as u8], name, &[value.len() as u8], value].concat()
}

/// A header block of these fields.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name.as_bytes(), value.as_bytes())).collect()
}

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

/// The head of a GET, and its end.
fn get_frame(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x82\x84\x86\x41\x01a")
}
