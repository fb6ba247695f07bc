//! Streams in the engine's table: what becomes of their calls and of their session's bytes.

use std::borrow::Cow;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use portico_proto::ResponseHead;
use portico_proto::http2::PREFACE;

use super::super::tests::{admit_client, engine_with_client, readable};
use portico_metrics::Counter;

use super::*;
use crate::body::BodyError;
use crate::connection::{Block, Flow, ResponsePart};
use crate::engine::{Call, Writing};

/// A request of this stream: `GET /` of `a`, complete.
fn get(stream: u32) -> Vec<u8> {
    [&[0, 0, 6, 1, 5][..], &stream.to_be_bytes(), b"\x82\x84\x86\x41\x01a"].concat()
}

/// An engine with a session on which these streams have begun.
fn engine_with_streams(arguments: &[&str], streams: &[u32]) -> (Engine, ConnectionId, UnixStream) {
    let (mut engine, id, mut client) = engine_with_client(arguments);
    client.set_nonblocking(true).unwrap();
    let mut bytes = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    streams.iter().for_each(|stream| bytes.extend_from_slice(&get(*stream)));
    client.write_all(&bytes).unwrap();
    engine.handle_event(readable(id));
    engine.advance();
    (engine, id, client)
}

fn received(client: &mut UnixStream) -> Vec<u8> {
    let mut received = Vec::new();
    let _ = client.read_to_end(&mut received);
    received
}

fn next_call(engine: &mut Engine) -> Call {
    engine.next_call(|_| || {}).expect("a request waits")
}

fn respond(engine: &mut Engine, call: &Call) -> bool {
    let head = ResponseHead { status: 200, length: Some(5), ..ResponseHead::default() };
    let (head, body) = (Cow::Owned(head), Block::Borrowed(b"hello"));
    engine.respond(call.key, ResponsePart::Whole { head, body }, Writing::Batched)
}

#[test]
fn responses_of_one_session_are_written_together() {
    let (mut engine, _, mut client) = engine_with_streams(&[], &[1, 3, 5]);
    assert_eq!((engine.queue.len(), engine.table.len(), engine.streams), (3, 4, 3));
    assert!(!received(&mut client).is_empty(), "SETTINGS and its acknowledgement");
    for left in (0..3).rev() {
        let call = next_call(&mut engine);
        respond(&mut engine, &call);
        engine.advance();
        assert_eq!(received(&mut client).is_empty(), left > 0, "{left} are still to be answered");
    }
    assert_eq!((engine.table.len(), engine.streams), (1, 0));
    assert_eq!(engine.metrics().total(Counter::Responses), 3);
}

#[test]
fn who_keeps_the_engine_busy_has_a_turn_and_then_others_have_theirs() {
    let (mut engine, one, mut client) = engine_with_streams(&[], &[1]);
    let (other, mut theirs) = admit_client(&mut engine);
    client.write_all(&get(3)).unwrap();
    theirs.write_all(&[PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], &get(1)].concat()).unwrap();
    // As if the first of them took so long.
    engine.set_now(engine.now() - Duration::from_secs(1));
    [one, other].into_iter().for_each(|id| engine.note_event(readable(id)));
    engine.advance();
    assert_eq!((engine.queue.len(), engine.has_unfinished()), (2, true));
    engine.advance();
    assert_eq!((engine.queue.len(), engine.has_unfinished()), (3, false));
}

/// Many sessions that have much to write are not all written before the network is looked at again.
#[test]
fn sessions_are_written_in_turns_too() {
    let (mut engine, _, mut client) = engine_with_streams(&[], &[1, 3]);
    let (other, mut theirs) = admit_client(&mut engine);
    theirs.set_nonblocking(true).unwrap();
    theirs.write_all(&[PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], &get(1)].concat()).unwrap();
    engine.handle_event(readable(other));
    engine.advance();
    [&mut client, &mut theirs].into_iter().for_each(|client| drop(received(client)));
    // A third request waits: both responses are held.
    for _ in 0..2 {
        let call = next_call(&mut engine);
        respond(&mut engine, &call);
    }
    // As if the first of them took so long.
    engine.set_now(engine.now() - Duration::from_secs(1));
    engine.write_sessions();
    assert!(!received(&mut client).is_empty() && received(&mut theirs).is_empty());
    assert!(engine.has_unfinished());
    engine.set_now(engine.now() + Duration::from_secs(1));
    engine.advance();
    assert!(!received(&mut theirs).is_empty());
}

/// The connection of each call, in the order in which they get a thread.
fn calls(engine: &mut Engine) -> Vec<ConnectionId> {
    let calls = std::iter::from_fn(|| engine.next_call(|_| || {}));
    calls.map(|call| call.key.id).collect()
}

#[test]
fn streams_of_one_connection_delay_another_by_one_request() {
    let (mut engine, session, _client) = engine_with_streams(&[], &[1, 3, 5, 7]);
    let (other, mut ordinary) = admit_client(&mut engine);
    let (session_of_one, mut alone) = admit_client(&mut engine);
    ordinary.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    alone.write_all(&[PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], &get(1)].concat()).unwrap();
    [other, session_of_one].into_iter().for_each(|id| engine.handle_event(readable(id)));
    engine.advance();
    let streams: Vec<_> = [1, 3, 5, 7].map(|number| engine.table.get(session)?.stream(number)).into();
    let of_one = engine.table.get(session_of_one).and_then(|session| session.stream(1));
    let expected = [streams[0], Some(other), of_one, streams[1], streams[2], streams[3]];
    assert_eq!(calls(&mut engine).into_iter().map(Some).collect::<Vec<_>>(), expected);
}

#[test]
fn a_full_queue_has_room_for_those_who_ask_for_little() {
    let (mut engine, session, mut client) = engine_with_streams(&["--max-queue", "3"], &[1, 3, 5]);
    received(&mut client);
    let last = engine.table.get(session).and_then(|session| session.stream(5)).unwrap();
    let (other, mut ordinary) = admit_client(&mut engine);
    ordinary.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    engine.handle_event(readable(other));
    engine.set_now(engine.now() + Duration::from_millis(1));
    engine.advance();
    assert!(engine.table.get(last).is_none(), "it has been answered 503");
    assert_eq!((engine.queue.len(), engine.metrics().total(Counter::QueueFull), engine.streams), (3, 1, 2));
    // A frame HEADERS with whatever flags.
    let of_last = |bytes: &[u8]| matches!(bytes, [1, _, 0, 0, 0, 5]);
    assert!(received(&mut client).windows(6).any(of_last), "it is answered");
    assert!(calls(&mut engine).contains(&other));
}

#[test]
fn one_that_is_held_for_too_long_is_written() {
    let (mut engine, _, mut client) = engine_with_streams(&[], &[1, 3]);
    received(&mut client);
    let call = next_call(&mut engine);
    respond(&mut engine, &call);
    assert!(received(&mut client).is_empty());
    engine.set_now(engine.now() + Duration::from_millis(1));
    engine.advance();
    assert!(!received(&mut client).is_empty());
}

#[test]
fn joined_blocks_of_a_stream_leave_together() {
    let (mut engine, _, mut client) = engine_with_streams(&[], &[1]);
    let call = next_call(&mut engine);
    let head = Cow::Owned(ResponseHead::default());
    let start = ResponsePart::Start { head, block: Block::Borrowed(b"first"), flow: Arc::default() };
    assert!(engine.respond(call.key, start, Writing::AtOnce));
    assert!(received(&mut client).ends_with(b"first"));
    for block in [b"second", b"third_"] {
        assert!(engine.respond(call.key, ResponsePart::Block(Block::Borrowed(block)), Writing::Joined));
        assert!(received(&mut client).is_empty());
    }
    engine.set_now(engine.now() + HOLD_MAX);
    engine.advance();
    let bytes = received(&mut client);
    assert!(bytes.ends_with(b"third_") && bytes.windows(6).any(|bytes| bytes == b"second"));
}

#[test]
fn a_stream_that_is_given_up_is_not_run_and_a_running_one_has_no_client() {
    let (mut engine, id, mut client) = engine_with_streams(&[], &[1, 3]);
    let running = next_call(&mut engine);
    assert!(!engine.is_client_gone(running.key));
    for stream in [1, 3] {
        client.write_all(&[0, 0, 4, 3, 0, 0, 0, 0, stream, 0, 0, 0, 8]).unwrap();
    }
    assert!(engine.is_client_gone(running.key), "it looks");
    engine.handle_event(readable(id));
    assert!(engine.queue.is_empty() && engine.next_call(|_| || {}).is_none());
    assert_eq!(engine.metrics().total(Counter::Abandoned), 1);
    assert!(!respond(&mut engine, &running));
    assert_eq!((engine.table.len(), engine.streams), (1, 0));
}

/// WINDOW_UPDATE that has us reset the stream: its window is beyond the most that it may be (CVE-2025-8671).
fn overflow(stream: u32) -> Vec<u8> {
    [&[0, 0, 4, 8, 0][..], &stream.to_be_bytes(), &[0x7f, 0xff, 0xff, 0xff]].concat()
}

#[test]
fn a_stream_that_we_reset_for_what_the_client_did_ends_as_if_the_client_had_reset_it() {
    let (mut engine, id, mut client) = engine_with_streams(&[], &[1, 3]);
    let running = next_call(&mut engine);
    assert!(!engine.is_client_gone(running.key));
    for stream in [1, 3] {
        client.write_all(&overflow(stream)).unwrap();
    }
    assert!(engine.is_client_gone(running.key), "it looks");
    engine.handle_event(readable(id));
    assert!(engine.queue.is_empty() && engine.next_call(|_| || {}).is_none());
    assert_eq!(engine.metrics().total(Counter::Abandoned), 1);
    assert!(!respond(&mut engine, &running));
    assert_eq!((engine.table.len(), engine.streams), (1, 0));
    let received = received(&mut client);
    let reset = |stream| [0, 0, 4, 3, 0, 0, 0, 0, stream, 0, 0, 0, 3];
    for stream in [1, 3] {
        assert!(received.windows(13).any(|frame| frame == reset(stream)), "FLOW_CONTROL_ERROR {stream}");
    }
}

#[test]
fn a_response_on_its_way_ends_with_its_stream() {
    let (mut engine, id, mut client) = engine_with_streams(&[], &[1]);
    let call = next_call(&mut engine);
    let flow = Arc::new(Flow::default());
    let (head, block) = (Cow::Owned(ResponseHead::default()), Block::Borrowed(b"x"));
    let start = ResponsePart::Start { head, block, flow: Arc::clone(&flow) };
    assert!(engine.respond(call.key, start, Writing::AtOnce) && !flow.is_gone());
    client.write_all(&overflow(1).repeat(2)).unwrap();
    engine.handle_event(readable(id));
    assert!(flow.is_gone(), "its thread goes on in vain no longer");
    assert!(!engine.respond(call.key, ResponsePart::Finish, Writing::AtOnce));
    assert_eq!((engine.table.len(), engine.streams), (1, 0));
}

#[test]
fn who_insists_while_there_is_no_memory_is_sent_away() {
    let (mut engine, id, mut client) = engine_with_streams(&["--client-memory", "16m"], &[]);
    received(&mut client);
    let elsewhere = 32 << 20;
    engine.context.ledger.change(0, elsewhere);
    let mut ask = |engine: &mut Engine, numbers: std::ops::Range<u32>| {
        for number in numbers {
            client.write_all(&get(1 + 2 * number)).unwrap();
            // Without `advance`, which would cut it.
            engine.handle_event(readable(id));
        }
        received(&mut client)
    };
    let goaway = |bytes: &[u8]| bytes.windows(4).any(|frame| frame[..3] == [0, 0, 8] && frame[3] == 7);
    assert!(!goaway(&ask(&mut engine, 0..8)), "it may ask again");
    engine.context.ledger.change(elsewhere, 0);
    assert!(!goaway(&ask(&mut engine, 8..9)));
    engine.context.ledger.change(0, elsewhere);
    assert!(!goaway(&ask(&mut engine, 9..17)), "there was memory in between");
    assert!(goaway(&ask(&mut engine, 17..18)));
    assert_eq!(engine.streams, 0);
}

#[test]
fn a_body_that_is_read_as_it_comes_ends_with_its_stream() {
    let post = [&[0, 0, 6, 1, 4, 0, 0, 0, 1][..], b"\x83\x84\x86\x41\x01a"].concat();
    let data = [&[0, 0, 4, 0, 0, 0, 0, 0, 1][..], b"some"].concat();
    let (mut engine, id, mut client) = engine_with_streams(&["--stream-request-body=always"], &[]);
    client.write_all(&[post, data].concat()).unwrap();
    engine.handle_event(readable(id));
    let mut call = next_call(&mut engine);
    assert_eq!(call.body.read(&mut [0; 9]).unwrap(), 4);
    client.write_all(&overflow(1)).unwrap();
    engine.handle_event(readable(id));
    assert_eq!(engine.streams, 0, "else reading would wait for ever");
    assert!(matches!(call.body.read(&mut [0; 9]), Err(BodyError::Disconnected)));
}

#[test]
fn a_client_that_has_us_reset_too_many_streams_is_sent_away_with_all_that_it_has() {
    let (mut engine, id, mut client) = engine_with_streams(&[], &[1, 3]);
    let running = next_call(&mut engine);
    for number in 2..202 {
        let stream = 1 + 2 * number;
        client.write_all(&[get(stream), overflow(stream)].concat()).unwrap();
        engine.handle_event(readable(id));
        assert_eq!(engine.queue.len(), 1, "none of them gets as far as the queue");
    }
    assert!(!engine.is_client_gone(running.key), "so many may be nobody's fault");
    received(&mut client);
    client.write_all(&[get(999), overflow(999)].concat()).unwrap();
    engine.handle_event(readable(id));
    assert!(received(&mut client).ends_with(&[0, 0, 0, 11]), "GOAWAY with ENHANCE_YOUR_CALM");
    assert!(engine.is_client_gone(running.key) && engine.queue.is_empty());
    assert_eq!(engine.streams, 0);
}

#[test]
fn the_end_of_the_connection_is_that_of_its_streams() {
    let (mut engine, id, client) = engine_with_streams(&[], &[1, 3]);
    let (_, _other) = admit_client(&mut engine);
    drop(client);
    engine.handle_event(readable(id));
    engine.advance();
    assert_eq!((engine.table.len(), engine.streams, engine.queue.len()), (1, 0, 0));
}

#[test]
fn a_drained_session_ends_with_its_streams() {
    let (mut engine, id, mut client) = engine_with_streams(&[], &[1]);
    received(&mut client);
    engine.drain(engine.now() + Duration::from_secs(30));
    let goaway = received(&mut client);
    assert!(goaway.windows(9).any(|frame| frame == [0, 0, 8, 7, 0, 0, 0, 0, 0]), "{goaway:?}");
    let ping =
        goaway.windows(17).find(|frame| frame.starts_with(&[0, 0, 8, 6, 0])).expect("a PING goes with it");
    let pong = [&[0, 0, 8, 6, 1][..], &ping[5..]].concat();
    client.write_all(&pong).unwrap();
    engine.handle_event(readable(id));
    let call = next_call(&mut engine);
    respond(&mut engine, &call);
    assert!(!engine.is_stopped());
    drop(client);
    engine.handle_event(readable(id));
    engine.advance();
    assert!(engine.is_stopped());
}
