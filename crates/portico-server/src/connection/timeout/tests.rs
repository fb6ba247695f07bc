//! Deadlines of heads, of idle connections and of the queue, with the clock set by hand.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::*;
use crate::connection::tests::{Fixture, GET, INPUT, fixture, seconds};
use crate::connection::{Block, Connection, Deadline, ResponsePart, Step};
use crate::handover::{HandoverMessage, HandoverQueue};

#[test]
fn a_client_that_sends_nothing_is_closed_without_a_word() {
    let mut fixture = fixture(&["--head-timeout", "20"]);
    assert_eq!(fixture.due(), Some((Deadline::Head, seconds(20))));
    assert_eq!(fixture.pass(Deadline::Head), Step::Close);
    assert_eq!(fixture.sent(), b"");
}

#[test]
fn a_head_is_not_bought_time_by_more_of_it_and_ends_in_408_and_lingering() {
    let mut fixture = fixture(&["--head-timeout", "20"]);
    for left in [20, 15, 10] {
        assert_eq!(fixture.due(), Some((Deadline::Head, seconds(left))));
        assert_eq!(fixture.receive(b"G"), Step::Keep);
        fixture.wait(seconds(5));
    }
    assert_eq!(fixture.pass(Deadline::Head), Step::Again);
    assert!(fixture.sent().starts_with(b"HTTP/1.1 408 "));
    assert_eq!(fixture.connection.proceed(&mut fixture.context), Step::Keep);
    assert_eq!(fixture.receive(b"more that nobody reads"), Step::Keep);
    assert_eq!(fixture.pass(Deadline::Drain), Step::Close);
}

#[test]
fn a_complete_request_has_its_time_in_the_queue_until_a_thread_takes_it() {
    let mut fixture = fixture(&["--queue-timeout", "3"]);
    assert_eq!(fixture.receive(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"), Step::Keep);
    fixture.wait(seconds(1));
    assert_eq!(fixture.receive(b"body"), Step::Ready);
    assert_eq!(fixture.due(), Some((Deadline::Queue, seconds(3))), "an upload takes what it takes");
    fixture.begin_call();
    assert_eq!(fixture.due(), None);
    fixture.start(Some(0), b"");
    assert_eq!(fixture.respond(ResponsePart::Finish), Step::Keep);
    assert_eq!(fixture.receive(GET), Step::Ready);
    fixture.sent();
    assert_eq!(fixture.pass(Deadline::Queue), Step::Keep);
    assert!(fixture.sent().starts_with(b"HTTP/1.1 503 "));
    assert!(fixture.connection.is_idle(), "and kept");
}

#[test]
fn an_idle_connection_is_kept_for_its_time_and_bytes_just_before_the_end_are_served() {
    let mut fixture = fixture(&["--keep-alive", "75"]);
    fixture.exchange();
    assert_eq!(fixture.due(), Some((Deadline::KeepAlive, seconds(75))));
    // They are in the socket, and no event has told of them yet.
    fixture.client.write_all(GET).unwrap();
    assert_eq!(fixture.pass(Deadline::KeepAlive), Step::Ready);
    assert_eq!(fixture.due(), None, "nothing is awaited of a client whose request waits");
    fixture.begin_call();
    assert_eq!(fixture.start(Some(0), b""), Step::Keep);
    assert_eq!(fixture.respond(ResponsePart::Finish), Step::Keep);
    assert_eq!(fixture.pass(Deadline::KeepAlive), Step::Close);
}

#[test]
fn a_part_of_a_head_just_before_the_end_has_the_time_that_heads_have() {
    let mut fixture = fixture(&["--keep-alive", "75", "--head-timeout", "20"]);
    fixture.exchange();
    fixture.client.write_all(b"GET /").unwrap();
    assert_eq!(fixture.pass(Deadline::KeepAlive), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Head, seconds(20))));
    assert_eq!(fixture.receive(&GET[5..]), Step::Ready);
}

#[test]
fn a_drain_closes_what_is_idle_and_serves_what_has_come() {
    let mut idle = fixture(&[]);
    idle.exchange();
    idle.context.draining = true;
    assert_eq!(idle.connection.drain(&mut idle.context), Step::Close);

    let mut busy = fixture(&[]);
    busy.exchange();
    busy.context.draining = true;
    busy.client.write_all(GET).unwrap();
    assert_eq!(busy.connection.drain(&mut busy.context), Step::Ready);
}

#[test]
fn a_fresh_connection_has_half_a_second_in_a_drain_and_is_looked_at_once_more() {
    let mut silent = fixture(&[]);
    silent.context.draining = true;
    assert_eq!(silent.connection.drain(&mut silent.context), Step::Keep);
    assert_eq!(silent.due(), Some((Deadline::Drain, DRAIN_GRACE)));
    assert_eq!(silent.pass(Deadline::Drain), Step::Close);

    let mut late = fixture(&[]);
    late.context.draining = true;
    assert_eq!(late.connection.drain(&mut late.context), Step::Keep);
    late.client.write_all(GET).unwrap();
    assert_eq!(late.pass(Deadline::Drain), Step::Ready);
}

#[test]
fn a_response_begun_before_a_drain_ends_its_connection_also_after_an_edge_without_bytes() {
    let mut fixture = fixture(&[]);
    assert_eq!(fixture.receive(GET), Step::Ready);
    fixture.begin_call();
    fixture.start(Some(2), b"o");
    // The edge of bytes that were read with those before them.
    assert_eq!(fixture.connection.handle_event(INPUT, &mut fixture.context), Step::Keep);
    fixture.context.draining = true;
    assert_eq!(fixture.connection.drain(&mut fixture.context), Step::Keep);
    assert_eq!(fixture.respond(ResponsePart::Block(Block::Borrowed(b"k"))), Step::Keep);
    assert_eq!(fixture.respond(ResponsePart::Finish), Step::Close);
}

/// The connection of `fixture` as it arrives in another worker.
fn moved(
    fixture: &Fixture<UnixStream>,
    queue: HandoverQueue,
    arguments: &[&str],
) -> (Fixture<UnixStream>, Step) {
    let mut there = self::fixture(arguments);
    there.context.now = fixture.context.now;
    // With a client of its own.
    let socket = there.connection.socket().unwrap().try_clone_to_owned().unwrap();
    let pieces = match queue {
        HandoverQueue::Idle => fixture.connection.pack_idle(),
        HandoverQueue::Ready => fixture.connection.pack_request(),
    };
    let bytes = pieces.expect("it can go").concat();
    let message =
        HandoverMessage { socket, metadata: fixture.connection.metadata(queue, 0).unwrap(), bytes: &bytes };
    let server = Arc::clone(&fixture.connection.client().listener);
    there.connection = Connection::unpack(queue, message, server, &there.context);
    let step = there.connection.receive(&mut there.context);
    (there, step)
}

#[test]
fn a_move_to_another_worker_buys_no_time() {
    let arguments = ["--keep-alive", "75", "--head-timeout", "20", "--queue-timeout", "8"];
    let mut here = fixture(&arguments);
    here.exchange();
    here.wait(seconds(30));
    let (idle, step) = moved(&here, HandoverQueue::Idle, &arguments);
    assert_eq!((step, idle.due()), (Step::Keep, Some((Deadline::KeepAlive, seconds(45)))));
    assert!(idle.connection.is_idle());
    assert_eq!(here.receive(&GET[..9]), Step::Keep);
    here.wait(seconds(5));
    let (mut begun, step) = moved(&here, HandoverQueue::Idle, &arguments);
    assert_eq!((step, begun.due()), (Step::Keep, Some((Deadline::Head, seconds(15)))));
    assert_eq!(begun.receive(&GET[9..]), Step::Ready);
    assert_eq!(here.receive(&[&GET[9..], GET].concat()), Step::Ready);
    here.wait(seconds(3));
    let (mut waiting, step) = moved(&here, HandoverQueue::Ready, &arguments);
    assert_eq!((step, waiting.due()), (Step::Ready, Some((Deadline::Queue, seconds(5)))));
    waiting.begin_call();
    waiting.start(Some(0), b"");
    assert_eq!(waiting.respond(ResponsePart::Finish), Step::Ready, "what was behind it has come along");
    assert_eq!(waiting.due(), Some((Deadline::Queue, seconds(8))));
}
