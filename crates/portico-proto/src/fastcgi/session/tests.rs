//! What a session makes of its requests' records, both ways.

use super::*;
use crate::Event as Received;
use crate::added::AddedFields;
use crate::date::HttpDate;
use crate::event::Part;
use crate::limits::Limits;
use crate::message::{Fields, ResponseHead};
use crate::streams::IoProgress;

fn session(requests_max: u32) -> Session {
    Session::new(&Settings { connections_max: 7, requests_max })
}

fn record(kind: u8, id: u8, content: &[u8]) -> Vec<u8> {
    [&[1, kind, 0, id, (content.len() >> 8) as u8, content.len() as u8, 0, 0][..], content].concat()
}

fn begin(id: u8, keep: bool) -> Vec<u8> {
    record(1, id, &[0, 1, keep.into(), 0, 0, 0, 0, 0])
}

fn opened(session: &mut Session) -> (u32, Stream) {
    match session.next_event() {
        Ok(Some(StreamEvent::Opened(number, stream))) => (number, stream),
        other => panic!("{other:?}"),
    }
}

fn output(session: &mut Session) -> Vec<u8> {
    let mut out = Vec::new();
    session.output(&mut out);
    out
}

fn end(id: u8, status: u8) -> Vec<u8> {
    record(3, id, &[0, 0, 0, 0, status, 0, 0, 0])
}

#[test]
fn records_go_to_their_requests_and_only_whole_ones_come_from_them() {
    let mut session = session(9);
    session.receive(&[begin(1, true), begin(2, true), record(5, 2, b"two"), record(5, 1, b"one")].concat());
    let (first, one) = opened(&mut session);
    let (second, two) = opened(&mut session);
    assert!(matches!(session.next_event(), Ok(Some(StreamEvent::Body(number))) if number == second));
    assert!(matches!(session.next_event(), Ok(Some(StreamEvent::Body(number))) if number == first));
    assert!(matches!(session.next_event(), Ok(None)));
    let mut buffer = [0; 100];
    assert_eq!(one.io.read(&mut buffer), IoProgress::Bytes(11));
    assert_eq!(&buffer[..11], record(5, 1, b"one"));
    assert_eq!(one.io.read(&mut buffer), IoProgress::Blocked);
    assert_eq!(two.io.read(&mut buffer), IoProgress::Bytes(11));
    let (half, rest) = (&record(6, 1, b"answer")[..9], &record(6, 1, b"answer")[9..]);
    assert_eq!(one.io.write(half), IoProgress::Bytes(9));
    assert_eq!(two.io.write(&record(6, 2, b"other")), IoProgress::Bytes(13));
    assert_eq!(output(&mut session), record(6, 2, b"other"));
    assert_eq!(one.io.write(&[rest, &end(1, 0), &record(6, 1, b"behind")].concat()), IoProgress::Bytes(35));
    assert_eq!(output(&mut session), [record(6, 1, b"answer"), end(1, 0)].concat());
    assert!(one.io.is_gone() && !two.io.is_gone() && !session.is_at_rest());
    assert_eq!(one.io.write(b"x"), IoProgress::Failed);
    two.io.write(&end(2, 0));
    session.forget(first);
    session.forget(second);
    assert_eq!(output(&mut session), end(2, 0));
    assert!(session.is_at_rest() && !session.is_closed());
}

#[test]
fn one_that_writes_much_waits_for_room_and_lets_others_in_between() {
    let mut session = session(9);
    session.receive(&[begin(1, true), begin(2, true)].concat());
    let ((first, one), (_, two)) = (opened(&mut session), opened(&mut session));
    let large = record(6, 1, &[b'x'; 65_528]);
    let block = [&large[..], &large, &large].concat();
    assert_eq!(one.io.write(&block), IoProgress::Bytes(2 * large.len()));
    assert_eq!(one.io.write(&block), IoProgress::Blocked);
    assert_eq!((one.io.room(5), two.io.room(5)), (0, 5));
    two.io.write(&record(6, 2, b"small"));
    let out = output(&mut session);
    assert_eq!(out, [&large[..], &record(6, 2, b"small"), &large].concat());
    assert!(session.has_more());
    assert!(matches!(session.next_event(), Ok(Some(StreamEvent::Room(number))) if number == first));
    assert!(!session.has_more() && one.io.room(5) == 5);
}

#[test]
fn one_that_is_given_up_is_ended_and_what_it_has_written_is_dropped() {
    let mut session = session(9);
    session.receive(&begin(1, true));
    let (number, one) = opened(&mut session);
    one.io.write(&[record(6, 1, b"some"), record(6, 1, b"more")].concat());
    session.receive(&[record(2, 1, b""), record(5, 1, b"late"), record(2, 1, b"")].concat());
    assert!(matches!(session.next_event(), Ok(Some(StreamEvent::Reset(reset, None))) if reset == number));
    assert!(matches!(session.next_event(), Ok(None)));
    assert_eq!(one.io.read(&mut [0; 9]), IoProgress::Failed);
    session.forget(number);
    assert_eq!(output(&mut session), end(1, 0));
    assert!(session.is_at_rest());
    session.receive(&[begin(1, false), record(2, 1, b"")].concat());
    assert_ne!(opened(&mut session).0, number, "the number is another one, though the id is not");
    assert!(matches!(session.next_event(), Ok(Some(StreamEvent::Reset(..)))));
    assert!(!session.is_closed());
    assert_eq!(output(&mut session), end(1, 0));
    assert!(session.is_closed(), "it had no keep-conn");
}

#[test]
fn a_response_that_breaks_off_is_not_ended_and_the_others_are() {
    let mut session = session(9);
    session.receive(&[begin(1, true), begin(2, true)].concat());
    let ((first, one), (second, two)) = (opened(&mut session), opened(&mut session));
    one.io.write(&[&record(6, 1, b"some")[..], &record(6, 1, b"cut")[..9]].concat());
    session.forget(first);
    assert_eq!(output(&mut session), record(6, 1, b"some"));
    session.receive(&begin(3, true));
    assert!(matches!(session.next_event(), Ok(None)) && !session.is_closed());
    two.io.write(&end(2, 0));
    session.forget(second);
    assert_eq!(output(&mut session), [end(3, 2), end(2, 0)].concat());
    assert!(session.is_closed());
}

#[test]
fn no_more_are_taken_than_there_may_be_nor_any_after_a_shut_down() {
    let mut session = session(2);
    session.receive(&[begin(1, true), begin(2, true), begin(3, true)].concat());
    let _kept = (opened(&mut session), opened(&mut session));
    assert!(matches!(session.next_event(), Ok(None)));
    assert_eq!(output(&mut session), end(3, 2));
    session.receive(&record(2, 1, b""));
    assert!(matches!(session.next_event(), Ok(Some(StreamEvent::Reset(..)))));
    session.shut_down();
    session.receive(&begin(3, true));
    assert!(matches!(session.next_event(), Ok(None)) && session.is_leaving());
    assert_eq!(output(&mut session), [end(1, 0), end(3, 2)].concat());
}

#[test]
fn replies_that_nobody_fetches_are_limited() {
    let mut session = session(2);
    let unknown = record(77, 0, b"").repeat(8192);
    session.receive(&unknown);
    assert!(matches!(session.next_event(), Ok(None)));
    assert!(!session.wants_bytes() && !session.is_at_rest());
    assert_eq!(output(&mut session).len(), 2 * unknown.len());
    assert!(session.wants_bytes() && session.is_at_rest());
}

#[test]
fn what_was_alone_goes_on_as_one_of_several() {
    let (mut alone, limits) = (Connection::new(), Limits::default());
    let variables = b"\x0e\x04REQUEST_METHODPOST\x0b\x02REQUEST_URI/a\x0e\x01CONTENT_LENGTH4";
    let mut bytes =
        [begin(1, true), record(4, 1, variables), record(4, 1, b""), record(5, 1, b"ab")].concat();
    bytes.extend(begin(2, true));
    let mut input = &bytes[..];
    assert!(matches!(alone.next_event(&mut input, &limits), Ok(Some(Received::Head(_)))));
    assert!(matches!(alone.next_event(&mut input, &limits), Ok(Some(Received::Body(b"ab")))));
    for _ in 0..2 {
        let error = alone.next_event(&mut input, &limits).unwrap_err();
        assert_eq!((error.kind, input), (ErrorKind::Shared, &begin(2, true)[..]));
    }
    let mut session = session(2);
    let (number, io) = session.adopt(&mut alone);
    session.receive(input);
    session.receive(&[record(5, 1, b"cd"), record(5, 1, b"")].concat());
    assert_ne!(opened(&mut session).0, number);
    assert!(matches!(session.next_event(), Ok(Some(StreamEvent::Body(touched))) if touched == number));
    let mut buffer = [0; 99];
    let IoProgress::Bytes(count) = io.read(&mut buffer) else { panic!("its body") };
    let mut input = &buffer[..count];
    assert!(matches!(alone.next_event(&mut input, &limits), Ok(Some(Received::Body(b"cd")))));
    assert!(matches!(alone.next_event(&mut input, &limits), Ok(Some(Received::End))));
    assert!(!alone.can_keep_alive(), "the session keeps the connection");
}

#[test]
fn what_is_left_of_a_body_after_the_response_belongs_to_no_request() {
    let variables = b"\x0e\x04REQUEST_METHODPOST";
    let limits = Limits::default();
    let asked = [begin(1, true), record(4, 1, variables), record(4, 1, b"")].concat();
    let bytes =
        [&asked, &record(5, 1, b"abcd")[..10], b"cd", &record(5, 1, b"ef"), &record(5, 1, b""), &asked]
            .concat();
    let mut alone = Connection::new();
    let (mut input, rest) = bytes.split_at(asked.len() + 10);
    assert!(matches!(alone.next_event(&mut input, &limits), Ok(Some(Received::Head(_)))));
    assert!(matches!(alone.next_event(&mut input, &limits), Ok(Some(Received::Body(b"ab")))));
    let (added, mut out) = (AddedFields::new(HttpDate::from_unix(0)), Vec::new());
    let head = ResponseHead { status: 204, fields: Fields::new(), length: None, ..ResponseHead::default() };
    alone.send(Part::Head { head: &head, close: false, added: &added }, &mut out);
    alone.send(Part::End, &mut out);
    assert!(alone.can_keep_alive());
    alone.next_request();
    assert!(!alone.is_idle(), "within a record");
    let mut input = rest;
    assert!(matches!(alone.next_event(&mut input, &limits), Ok(None)));
    assert!(input.is_empty() && alone.is_in_request());
    let mut input = &record(5, 1, b"g")[..];
    assert!(matches!(alone.next_event(&mut input, &limits), Ok(Some(Received::Head(_)))));
    assert!(matches!(alone.next_event(&mut input, &limits), Ok(Some(Received::Body(b"g")))));
}
