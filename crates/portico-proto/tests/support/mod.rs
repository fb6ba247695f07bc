//! Drives a connection over given bytes, cut in given ways, and writes down what it made of them.
#![allow(dead_code, reason = "each test target uses a part")]

pub mod client;
pub mod oracle;
pub mod shared;

use portico_proto::{
    AddedFields, Error, ErrorKind, Event, Fields, HttpDate, Limits, Part, Protocol, RequestHead,
    ResponseHead, Version,
};

/// A request as the connection reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub path: Vec<u8>,
    pub query: Vec<u8>,
    pub authority: Option<Vec<u8>>,
    pub version: Version,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub dropped: Vec<Vec<u8>>,
    pub variables: Vec<(Vec<u8>, Vec<u8>)>,
    pub keep_alive: bool,
    pub expect_continue: bool,
    pub body: Vec<u8>,
    /// Whether `End` came.
    pub complete: bool,
}

/// All that came of a peer's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    pub requests: Vec<Request>,
    pub error: Option<Error>,
    /// Whether the last request ended the connection.
    pub closed: bool,
    /// Whether the peer stopped between requests.
    pub idle: bool,
}

impl Request {
    fn new(head: &RequestHead) -> Self {
        Self {
            method: head.method().into(),
            target: head.target().into(),
            path: head.path().into(),
            query: head.query().into(),
            authority: head.authority().map(Into::into),
            version: head.version,
            fields: head.fields().map(|(name, value)| (name.into(), value.into())).collect(),
            dropped: head.dropped().map(Into::into).collect(),
            variables: head.variables().map(|(name, value)| (name.into(), value.into())).collect(),
            keep_alive: head.keep_alive,
            expect_continue: head.expect_continue,
            body: Vec::new(),
            complete: false,
        }
    }
}

impl Transcript {
    fn last_request(&mut self) -> &mut Request {
        self.requests.last_mut().expect("Head comes before Body and End")
    }
}

/// Answers every request with 204 and writes down what comes until the connection ends or the bytes do.
pub fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> Transcript {
    read_as(Protocol::default, pieces, limits)
}

/// The same in another protocol.
pub fn read_as<'a>(
    protocol: fn() -> Protocol,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: &Limits,
) -> Transcript {
    let mut connection = protocol();
    let mut shared: Option<shared::Shared> = None;
    let mut transcript = Transcript { idle: true, ..Transcript::default() };
    let mut buffer = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            if let Some(session) = &mut shared {
                session.take_events(&std::mem::take(&mut buffer), limits, &mut transcript);
                if !session.is_at_rest() || transcript.error.is_some() {
                    break;
                }
                (shared, connection) = (None, protocol());
            }
            let mut input = &buffer[..];
            take_events(&mut connection, &mut input, limits, &mut transcript);
            let used = buffer.len() - input.len();
            buffer.drain(..used);
            if transcript.error.is_none_or(|error| error.kind != ErrorKind::Shared) {
                break;
            }
            transcript.error = None;
            let connection = std::mem::take(&mut connection);
            shared = Some(shared::Shared::new(connection, &transcript));
        }
        if transcript.error.is_some() || transcript.closed {
            break;
        }
    }
    transcript.idle = shared.map_or_else(|| connection.is_idle(), |session| session.is_idle());
    transcript
}

fn take_events(connection: &mut Protocol, input: &mut &[u8], limits: &Limits, transcript: &mut Transcript) {
    loop {
        match connection.next_event(input, limits) {
            Ok(None) => return,
            Ok(Some(Event::Head(head))) => transcript.requests.push(Request::new(&head)),
            Ok(Some(Event::Body(bytes))) => {
                assert!(!bytes.is_empty(), "an empty Body");
                transcript.last_request().body.extend_from_slice(bytes);
            }
            Ok(Some(Event::End)) => {
                transcript.last_request().complete = true;
                assert!(!connection.is_idle());
                if !respond(connection) {
                    transcript.closed = true;
                    return;
                }
            }
            Err(error) if error.kind == ErrorKind::Shared => {
                transcript.error = Some(error);
                return;
            }
            Err(error) => {
                let again = connection.next_event(&mut &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], limits);
                assert_eq!(again.err(), Some(error), "the same error comes again");
                assert!(!connection.can_keep_alive());
                transcript.error = Some(error);
                return;
            }
        }
    }
}

/// Answers 204 and begins the next request, if the connection may have one.
fn respond(connection: &mut Protocol) -> bool {
    encode_response(connection);
    let kept = connection.can_keep_alive();
    connection.next_request();
    assert_eq!(connection.is_idle(), kept, "next_request does nothing on a connection that ends");
    kept
}

/// The bytes of such a response.
fn encode_response(connection: &mut Protocol) -> Vec<u8> {
    let head = ResponseHead { status: 204, fields: Fields::new(), length: None, ..ResponseHead::default() };
    let added = AddedFields::new(HttpDate::from_unix(0));
    let mut out = Vec::new();
    connection.send(Part::Head { head: &head, close: false, added: &added }, &mut out);
    connection.send(Part::End, &mut out);
    out
}

/// `bytes` read in four ways: whole, one byte at a time, and cut at places that follow from `seed` into large
/// and into small pieces. The verdict must be the same; it is returned.
pub fn read_all_ways(bytes: &[u8], limits: &Limits, seed: u64) -> Transcript {
    read_all_ways_as(Protocol::default, bytes, limits, seed)
}

/// The same in another protocol.
pub fn read_all_ways_as(protocol: fn() -> Protocol, bytes: &[u8], limits: &Limits, seed: u64) -> Transcript {
    let whole = read_as(protocol, [bytes], limits);
    assert_eq!(read_as(protocol, bytes.chunks(1), limits), whole, "one byte at a time");
    for piece_bytes_max in [7, 64] {
        assert_eq!(read_as(protocol, cut(bytes, seed, piece_bytes_max), limits), whole, "cut, seed {seed}");
    }
    whole
}

/// `bytes` cut into pieces of 1 to `piece_bytes_max` bytes, as `seed` will have it.
pub fn cut(mut bytes: &[u8], seed: u64, piece_bytes_max: usize) -> Vec<&[u8]> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        // xorshift64: enough to spread the cuts, and the same on every machine.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let (piece, rest) = bytes.split_at((1 + state as usize % piece_bytes_max).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// A request to append to others: it must come out intact.
pub const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: next.example\r\n\r\n";
