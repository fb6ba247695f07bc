//! Requests, bodies, trailers and responses that are as they should be.

use super::*;

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
