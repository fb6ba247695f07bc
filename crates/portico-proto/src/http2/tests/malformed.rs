//! What is malformed, late or of another stream, and what it costs whom.

use super::*;

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
