//! Streams in the engine's table: what becomes of their calls and of their session's bytes.

use std::borrow::Cow;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use portico_proto::ResponseHead;
use portico_proto::http2::PREFACE;

use super::super::tests::{admit_client, engine_with_client, readable};
use super::*;
use crate::connection::{Answer, Block};
use crate::engine::{Call, Writing};

/// A request of this stream: `GET /` of `a`, complete.
fn get(stream: u8) -> Vec<u8> {
    [&[0, 0, 6, 1, 5, 0, 0, 0, stream][..], b"\x82\x84\x86\x41\x01a"].concat()
}

/// An engine with a session on which these streams have begun.
fn engine_with_streams(arguments: &[&str], streams: &[u8]) -> (Engine, ConnectionId, UnixStream) {
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

fn answer(engine: &mut Engine, call: &Call) -> bool {
    let head = ResponseHead { status: 200, length: Some(5), ..ResponseHead::default() };
    let (head, body) = (Cow::Owned(head), Block::Borrowed(b"hello"));
    engine.answer(call.key, Answer::Whole { head, body }, Writing::Batched)
}

#[test]
fn answers_of_one_session_are_written_together() {
    let (mut engine, _, mut client) = engine_with_streams(&[], &[1, 3, 5]);
    assert_eq!((engine.queue.len(), engine.table.len(), engine.streams), (3, 4, 3));
    assert!(!received(&mut client).is_empty(), "SETTINGS and its acknowledgement");
    for left in (0..3).rev() {
        let call = next_call(&mut engine);
        answer(&mut engine, &call);
        engine.advance();
        assert_eq!(received(&mut client).is_empty(), left > 0, "{left} are still to be answered");
    }
    assert_eq!((engine.table.len(), engine.streams), (1, 0));
    assert_eq!(engine.counters().answers, 3);
}

#[test]
fn one_that_is_held_for_too_long_is_written() {
    let (mut engine, _, mut client) = engine_with_streams(&[], &[1, 3]);
    received(&mut client);
    let call = next_call(&mut engine);
    answer(&mut engine, &call);
    assert!(received(&mut client).is_empty());
    engine.set_now(engine.now() + Duration::from_millis(1));
    engine.advance();
    assert!(!received(&mut client).is_empty());
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
    assert_eq!(engine.counters().abandoned, 1);
    assert!(!answer(&mut engine, &running));
    assert_eq!((engine.table.len(), engine.streams), (1, 0));
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
    answer(&mut engine, &call);
    assert!(!engine.is_stopped());
    drop(client);
    engine.handle_event(readable(id));
    engine.advance();
    assert!(engine.is_stopped());
}
