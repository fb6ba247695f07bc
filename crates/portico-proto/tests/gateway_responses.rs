//! Responses to gateways: what is written, and what never is.

use portico_proto::{AddedFields, Event, Fields, Limits, Part, Protocol, ResponseHead};
use proptest::prelude::*;

const SCGI: &[u8] = b"47:CONTENT_LENGTH\x000\0SCGI\x001\0REQUEST_METHOD\0GET\0,";

/// A protocol that has taken in a request with this method.
fn asked(protocol: fn() -> Protocol, method: &str) -> Protocol {
    let mut state = protocol();
    let is_uwsgi = format!("{state:?}").contains("Uwsgi");
    let name = b"REQUEST_METHOD";
    let bytes = match (&state, is_uwsgi) {
        (Protocol::Gateway(_), true) => {
            let size = (4 + name.len() + method.len()) as u8;
            [&[0, size, 0, 0, 14, 0], &name[..], &[method.len() as u8, 0], method.as_bytes()].concat()
        }
        (Protocol::Gateway(_), false) => {
            let block =
                [b"CONTENT_LENGTH\x000\0SCGI\x001\0REQUEST_METHOD\0", method.as_bytes(), b"\0"].concat();
            [block.len().to_string().as_bytes(), b":", &block, b","].concat()
        }
        _ => {
            let size = (2 + name.len() + method.len()) as u8;
            let begin = [1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0];
            let params = [1, 4, 0, 1, 0, size, 0, 0, 14, method.len() as u8];
            let ends = [1, 4, 0, 1, 0, 0, 0, 0, 1, 5, 0, 1, 0, 0, 0, 0];
            [&begin[..], &params, name, method.as_bytes(), &ends].concat()
        }
    };
    let mut input = &bytes[..];
    let mut ended = false;
    while let Some(event) = state.next_event(&mut input, &Limits::default()).expect("it is sound") {
        ended |= matches!(event, Event::End);
    }
    assert!(ended && input.is_empty());
    state
}

fn head(status: u16, length: Option<u64>) -> ResponseHead {
    let mut fields = Fields::new();
    fields.push(b"A", b"b");
    ResponseHead { status, fields, length, ..ResponseHead::default() }
}

/// What is written of a response, and the state after it.
fn answered(mut state: Protocol, head: &ResponseHead, body: &[&[u8]]) -> (Vec<u8>, Protocol) {
    let mut out = Vec::new();
    state.send(Part::Continue, &mut out);
    state.send(Part::EarlyHints(&head.fields), &mut out);
    assert!(out.is_empty() && !state.head_sent(), "there are no interim responses");
    state.send(Part::Head { head, close: false, added: &AddedFields::NONE }, &mut out);
    for block in body {
        state.send(Part::Body(block), &mut out);
    }
    state.send(Part::End, &mut out);
    (out, state)
}

/// The content of STDOUT; and whether END_REQUEST has come, after which nothing does.
fn stdout(mut records: &[u8]) -> (Vec<u8>, bool) {
    let (mut content, mut ended) = (Vec::new(), false);
    while let Some((&[1, kind, 0, 1, high, low, padding, _], rest)) = records.split_first_chunk::<8>() {
        assert!(!ended);
        let size = usize::from(u16::from_be_bytes([high, low]));
        match kind {
            6 => content.extend_from_slice(&rest[..size]),
            3 => ended = rest[..size] == [0; 8],
            other => panic!("a record of type {other}"),
        }
        records = &rest[size + usize::from(padding)..];
    }
    assert!(records.is_empty());
    (content, ended)
}

#[test]
fn heads_are_those_of_each_protocol() {
    let told = head(200, Some(3));
    let (out, state) = answered(asked(Protocol::uwsgi, "GET"), &told, &[b"ab", b"cd"]);
    assert_eq!(out, b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 3\r\n\r\nabc");
    assert!(state.response_complete() && state.response_surplus() && !state.can_keep_alive());
    let (out, _) = answered(asked(Protocol::scgi, "GET"), &told, &[b"abc"]);
    assert_eq!(out, b"Status: 200 OK\r\nA: b\r\nContent-Length: 3\r\n\r\nabc");
    let (out, state) = answered(asked(Protocol::fastcgi, "GET"), &told, &[b"abc"]);
    assert_eq!(stdout(&out), (b"Status: 200 OK\r\nA: b\r\nContent-Length: 3\r\n\r\nabc".to_vec(), true));
    assert!(state.can_keep_alive());
}

#[test]
fn a_field_called_status_does_not_stand_for_the_status() {
    let mut told = head(404, None);
    told.fields.push(b"Status", b"200 OK");
    let (out, _) = answered(asked(Protocol::scgi, "GET"), &told, &[]);
    assert_eq!(out, b"Status: 404 Not Found\r\nA: b\r\n\r\n");
}

#[test]
fn no_body_follows_head_204_and_304() {
    for (method, status, length) in [("HEAD", 200, true), ("GET", 304, true), ("GET", 204, false)] {
        for protocol in [Protocol::uwsgi, Protocol::scgi, Protocol::fastcgi] {
            let (out, state) = answered(asked(protocol, method), &head(status, Some(3)), &[b"abc"]);
            let text = if matches!(state, Protocol::Fastcgi(_)) { stdout(&out).0 } else { out };
            assert!(text.ends_with(b"\r\n\r\n"), "{status}");
            let told = memchr::memmem::find(&text, b"Content-Length: 3").is_some();
            assert!(told == length && state.response_complete(), "{status}");
        }
    }
}

#[test]
fn a_response_that_is_too_short_never_looks_whole() {
    for protocol in [Protocol::uwsgi, Protocol::scgi, Protocol::fastcgi] {
        let (out, state) = answered(asked(protocol, "GET"), &head(200, Some(4)), &[b"abc"]);
        assert!(!state.response_complete() && state.head_sent());
        if matches!(state, Protocol::Fastcgi(_)) {
            assert!(!stdout(&out).1, "no END_REQUEST");
        }
    }
}

#[test]
fn nothing_is_sent_before_a_request_of_fastcgi() {
    let (out, state) = answered(Protocol::fastcgi(), &head(408, Some(4)), &[b"late"]);
    assert!(out.is_empty() && !state.response_complete(), "there is no request to answer");
}

#[test]
fn what_the_server_adds_is_sent_to_a_gateway_as_well() {
    let added = AddedFields { date: None, server: "x" };
    let (mut state, mut out) = (asked(Protocol::scgi, "GET"), Vec::new());
    state.send(Part::Head { head: &head(204, None), close: false, added: &added }, &mut out);
    assert_eq!(out, b"Status: 204 No Content\r\nA: b\r\nServer: x\r\n\r\n");
}

#[test]
fn parsed_again_a_packet_is_the_same_request() {
    let bytes = [&b"66:"[..], &SCGI[3..SCGI.len() - 1], b"HTTP_X_Y_Z\0value\0CD\0\0,"].concat();
    let bytes = bytes
        .strip_prefix(b"66:")
        .map(|block| [(block.len() - 1).to_string().as_bytes(), b":", block].concat());
    let read = |bytes: &[u8]| match Protocol::scgi().next_event(&mut &bytes[..], &Limits::default()) {
        Ok(Some(Event::Head(head))) => head,
        other => panic!("{other:?}"),
    };
    let first = read(&bytes.expect("it begins so"));
    let second = read(first.bytes());
    let all = |head: &portico_proto::RequestHead| {
        format!("{:?} {:?}", head.fields().collect::<Vec<_>>(), head.variables().collect::<Vec<_>>())
    };
    assert_eq!(all(&first), all(&second));
    assert_eq!(first.field(b"x-y-z"), Some(&b"value"[..]));
}

proptest! {
    /// Whatever is sent in whatever order, records are whole and their content is the response's.
    #[test]
    fn records_are_sound(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200_000), 0..4),
        spliced in 0u64..200_000,
        length in prop::option::of(0u64..300_000),
    ) {
        let mut state = asked(Protocol::fastcgi, "GET");
        let mut out = Vec::new();
        state.send(Part::Head { head: &head(200, length), close: false, added: &AddedFields::NONE }, &mut out);
        for block in &blocks {
            state.send(Part::Body(block), &mut out);
        }
        let mut left = spliced;
        while left > 0 {
            let taken = state.splice(left, &mut out);
            if taken == 0 {
                break;
            }
            prop_assert!(taken <= left);
            out.resize(out.len() + taken as usize, b's');
            left -= taken;
        }
        state.send(Part::End, &mut out);
        let (content, ended) = stdout(&out);
        let given = blocks.iter().map(|block| block.len() as u64).sum::<u64>() + spliced;
        let body_start = memchr::memmem::find(&content, b"\r\n\r\n").map_or(0, |at| at + 4);
        prop_assert_eq!((content.len() - body_start) as u64, length.map_or(given, |length| length.min(given)));
        prop_assert_eq!(ended, state.response_complete());
        prop_assert_eq!(ended, length.is_none_or(|length| length <= given));
    }
}
