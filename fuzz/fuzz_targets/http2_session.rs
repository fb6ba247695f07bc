//! Any frames as an HTTP/2 connection, with every request read and answered: nothing panics, nothing runs for
//! ever, what is to be written keeps to its bounds, and a closed session stays closed.
#![no_main]

use std::time::Duration;

use portico_proto::http2::{PREFACE, Session, Settings, Stream};
use portico_proto::{AddedFields, Event, Fields, HttpDate, Limits, IoProgress, Part, ResponseHead, StreamEvent};

const SETTINGS: Settings = Settings {
    concurrent_streams_max: 8,
    window_bytes: 65_535,
    frame_bytes_max: 16_384,
    header_list_bytes_max: 4096,
};

/// `:method: GET`, `:path: /`, `:scheme: http`, `:authority: a`.
const GET: &[u8] = b"\x82\x84\x86\x41\x01a";

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes;
    let mut session = Session::new(&SETTINGS);
    let mut streams = Vec::new();
    receive(&mut session, PREFACE, &mut streams);
    receive(&mut session, &[0, 0, 0, 4, 0, 0, 0, 0, 0], &mut streams);
    while let [kind, flags, stream, length, rest @ ..] = bytes {
        let (payload, rest) = rest.split_at(rest.len().min((*length).into()));
        bytes = rest;
        let head = if *kind == 1 && flags & 0x80 != 0 { GET } else { b"" };
        let count = (head.len() + payload.len()) as u16;
        let mut frame = vec![0, (count >> 8) as u8, count as u8, *kind, flags & 0x7f, 0, 0, 0, *stream];
        frame.extend_from_slice(head);
        frame.extend_from_slice(payload);
        let cut = usize::from(*length).min(frame.len());
        receive(&mut session, &frame[..cut], &mut streams);
        receive(&mut session, &frame[cut..], &mut streams);
        match stream & 0xc0 {
            0x40 => session.shut_down(),
            0x80 => streams.clear(),
            _ => {}
        }
    }
    streams.clear();
    session.end();
    receive(&mut session, b"", &mut streams);
});

fn receive(session: &mut Session, bytes: &[u8], streams: &mut Vec<(u32, Box<Stream>)>) {
    let (closed, limits) = (session.is_closed(), Limits::default());
    let _ = session.receive(bytes, Duration::from_millis(1), &limits);
    for _ in 0..10_000 {
        let Some(event) = session.next_event(&limits) else { break };
        assert!(!closed);
        match event {
            StreamEvent::Opened(number, stream) => streams.push((number, stream)),
            StreamEvent::Reset(number, _) => streams.retain(|(other, _)| *other != number),
            StreamEvent::Arriving(..) | StreamEvent::Body(_) | StreamEvent::Room(_) => {}
        }
    }
    for (number, stream) in streams.iter_mut() {
        serve(*number, stream, &limits);
    }
    let mut out = Vec::new();
    session.output(&mut out);
    assert!(out.len() <= 512 * 1024);
    if session.is_closed() {
        streams.clear();
    }
}

fn serve(number: u32, stream: &mut Stream, limits: &Limits) {
    let (added, mut buffer, mut out) = (AddedFields::new(HttpDate::from_unix(0)), [0; 100], Vec::new());
    loop {
        let count = match stream.io().read(&mut buffer) {
            IoProgress::Bytes(count) => count,
            IoProgress::Blocked | IoProgress::Ended | IoProgress::Failed => 0,
        };
        let mut input = &buffer[..count];
        loop {
            match stream.next_event(&mut input, limits) {
                Ok(Some(Event::Head(head))) => assert!(head.bytes().ends_with(b"\r\n\r\n")),
                Ok(Some(Event::Body(body))) => assert!(!body.is_empty()),
                Ok(Some(Event::End)) => {
                    let length = (number % 3 != 0).then_some(3);
                    let head = ResponseHead {
                        status: 200,
                        fields: Fields::new(),
                        length,
                        ..ResponseHead::default()
                    };
                    stream.send(Part::Head { head: &head, close: false, added: &added }, &mut out);
                    stream.send(Part::Body(b"abc"), &mut out);
                    let _ = stream.io().write(&out);
                    stream.send(Part::End, &mut out);
                }
                Ok(None) => break,
                Err(error) => {
                    let head = ResponseHead { status: error.status, length: Some(2), ..ResponseHead::default() };
                    stream.send(Part::Head { head: &head, close: true, added: &added }, &mut out);
                    stream.send(Part::Body(b"no"), &mut out);
                    let _ = stream.io().write(&out);
                    return;
                }
            }
        }
        if count == 0 {
            return;
        }
    }
}
