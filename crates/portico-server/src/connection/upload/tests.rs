//! Bodies on their way in, with the clock set by hand.

use std::fs::File;

use crate::connection::tests::{INPUT, POST, fixture, seconds, warm};
use crate::connection::{Deadline, ResponsePart, Step};

#[test]
fn bytes_of_a_body_buy_time_until_the_rate_has_fallen_too_low() {
    let mut fixture = fixture(&["--body-timeout", "30", "--body-min-rate", "100"]);
    assert_eq!(fixture.receive(POST), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Body, seconds(30))));
    fixture.wait(seconds(20));
    assert_eq!(fixture.receive(&[0; 4000]), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Body, seconds(30))), "40 seconds' worth came in 20");
    fixture.wait(seconds(29));
    assert_eq!(fixture.receive(b"x"), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Body, seconds(21))), "30 + 4001 / 100 - 49");
    assert_eq!(fixture.pass(Deadline::Body), Step::Again);
    assert!(fixture.sent().starts_with(b"HTTP/1.1 408 "));
}

#[test]
fn a_streamed_body_buys_its_request_no_time_in_the_queue() {
    let mut fixture = fixture(&["--queue-timeout", "3", "--stream-request-body"]);
    assert_eq!(fixture.receive(POST), Step::Ready);
    fixture.wait(seconds(1));
    assert_eq!(fixture.receive(b"some of the body"), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Queue, seconds(2))));
    assert_eq!(fixture.pass(Deadline::Queue), Step::Again);
    let response = fixture.sent();
    assert!(response.starts_with(b"HTTP/1.1 503 "), "{}", String::from_utf8_lossy(&response));
    assert_eq!(fixture.due(), Some((Deadline::Drain, seconds(2))), "the rest of the body is not read");
}

const STREAMED: [&str; 7] =
    ["--stream-request-body", "--request-buffer", "4k", "--body-timeout", "30", "--body-min-rate", "100"];

#[test]
fn a_streamed_upload_is_not_timed_while_the_application_does_not_read() {
    let mut fixture = fixture(&STREAMED);
    assert_eq!(fixture.receive(POST), Step::Ready);
    assert_eq!(fixture.due(), None, "no thread has been free yet");
    let mut body = fixture.begin_call();
    assert_eq!(fixture.receive(&[0; 5000]), Step::Keep);
    assert_eq!(fixture.due(), None, "the pipe is full");
    fixture.wait(seconds(3600));
    while body.read(&mut [0; 4096]).unwrap() == 4096 {}
    assert_eq!(fixture.connection.read_more(&mut fixture.context), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Body, seconds(30))), "the hour was not the client's");
    assert_eq!(fixture.pass(Deadline::Body), Step::Keep);
    assert!(body.read(&mut [0; 4096]).is_err());
}

#[test]
fn a_streamed_upload_that_waits_to_be_invited_is_not_timed() {
    let mut fixture = fixture(&STREAMED);
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(fixture.receive(head), Step::Ready);
    fixture.begin_call();
    assert_eq!(fixture.connection.handle_event(INPUT, &mut fixture.context), Step::Keep);
    assert_eq!((fixture.due(), fixture.sent()), (None, Vec::new()));
    assert_eq!(fixture.connection.read_more(&mut fixture.context), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Body, seconds(30))));
    assert_eq!(fixture.sent(), b"HTTP/1.1 100 Continue\r\n\r\n");
}

#[test]
fn a_client_that_sends_on_and_takes_nothing_is_cut_all_the_same() {
    let mut fixture = fixture(&STREAMED);
    assert_eq!(fixture.receive(POST), Step::Ready);
    fixture.begin_call();
    assert_eq!(fixture.start(None, &vec![0; 1_000_000]), Step::Keep);
    for left in [30, 20, 10] {
        assert_eq!(fixture.receive(&[0; 1000]), Step::Keep);
        assert_eq!(fixture.due(), Some((Deadline::Write, seconds(left))));
        fixture.wait(seconds(10));
    }
    assert_eq!(fixture.pass(Deadline::Write), Step::Close);
}

#[test]
fn the_end_of_an_upload_does_not_end_the_wait_for_a_client_that_takes_nothing() {
    let mut fixture = fixture(&STREAMED);
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(fixture.receive(head), Step::Ready);
    fixture.begin_call();
    assert_eq!(fixture.start(None, &vec![0; 1_000_000]), Step::Keep);
    assert_eq!(fixture.receive(b"abc"), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Write, seconds(30))));
}

#[test]
fn a_client_whose_file_has_been_sent_is_waited_on_for_the_rest_of_its_upload() {
    let mut fixture = fixture(&STREAMED);
    assert_eq!(fixture.receive(POST), Step::Ready);
    fixture.begin_call();
    assert_eq!(fixture.start(None, b""), Step::Keep);
    let file: File = tempfile::tempfile().unwrap();
    file.set_len(1_000_000).unwrap();
    fixture.respond(ResponsePart::File { file: warm(file), offset: 0, length: 1_000_000 });
    assert_eq!(fixture.connection.read_more(&mut fixture.context), Step::Keep);
    while !fixture.connection.io.outbox.is_empty() {
        fixture.sent();
        assert_ne!(fixture.connection.proceed(&mut fixture.context), Step::Close);
    }
    assert_eq!(fixture.due(), Some((Deadline::Body, seconds(30))));
}
