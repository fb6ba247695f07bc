//! Windows, and what waits for them: how much is taken, and when more is.

use super::*;

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
