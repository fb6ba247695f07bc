//! Any bytes as a FastCGI connection: the same requests and the same error however they are cut. And as a session
//! whose requests are answered, given up and forgotten at any time: nothing but whole records goes out, and a
//! closed one stays closed.
#![no_main]

#[path = "../../crates/portico-proto/tests/support/mod.rs"]
mod support;

use portico_proto::fastcgi::{Session, Settings, Stream};
use portico_proto::{AddedFields, Fields, HttpDate, Limits, IoProgress, Part, Protocol, ResponseHead, StreamEvent};

const SETTINGS: Settings = Settings { connections_max: 9, requests_max: 5 };

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    support::read_all_ways_as(Protocol::fastcgi, bytes, &limits, bytes.len() as u64);
    let (mut session, mut streams, mut out) = (Session::new(&SETTINGS), Vec::new(), Vec::new());
    for (turn, piece) in support::cut(bytes, bytes.len() as u64, 99).into_iter().enumerate() {
        let closed = session.is_closed();
        session.receive(piece);
        while let Ok(Some(event)) = session.next_event() {
            match event {
                StreamEvent::Opened(number, stream) => {
                    assert!(!closed);
                    streams.push((number, stream));
                }
                StreamEvent::Reset(number, _) => streams.retain(|(other, _)| *other != number),
                StreamEvent::Arriving(..) | StreamEvent::Body(_) | StreamEvent::Room(_) => {}
            }
        }
        assert!(streams.len() <= 5);
        if turn % 5 == 4 && !streams.is_empty() {
            let (number, stream) = streams.remove(turn % streams.len());
            serve(stream, piece.len(), &limits);
            session.forget(number);
        }
        session.output(&mut out);
        if session.is_closed() {
            streams.clear();
        }
    }
    let mut rest = &out[..];
    while let [1, _, _, _, high, low, padding, _, ..] = rest {
        rest = &rest[8 + usize::from(*high) * 256 + usize::from(*low) + usize::from(*padding)..];
    }
    assert!(rest.is_empty(), "whole records");
});

fn serve(mut stream: Stream, seed: usize, limits: &Limits) {
    let (mut buffer, mut inbox) = ([0; 64], Vec::new());
    while let IoProgress::Bytes(count) = stream.io.read(&mut buffer) {
        inbox.extend_from_slice(&buffer[..count]);
    }
    let mut input = &inbox[..];
    while let Ok(Some(_)) = stream.connection.next_event(&mut input, limits) {}
    let (added, mut out) = (AddedFields::new(HttpDate::from_unix(0)), Vec::new());
    let head = ResponseHead { status: 200, fields: Fields::new(), length: None, ..ResponseHead::default() };
    stream.connection.send(Part::Head { head: &head, close: false, added: &added }, &mut out);
    stream.connection.send(Part::Body(&buffer), &mut out);
    stream.connection.send(Part::End, &mut out);
    // All of it, or what is left of it when the call breaks off.
    let count = if seed % 3 == 0 { seed.min(out.len()) } else { out.len() };
    stream.io.write(&out[..count]);
}
