//! How a session ends: told to, by a flood, by a violation.

use super::*;

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
