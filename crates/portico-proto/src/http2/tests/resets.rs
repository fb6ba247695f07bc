//! Streams that either side resets, and how they are counted.

use super::*;

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
