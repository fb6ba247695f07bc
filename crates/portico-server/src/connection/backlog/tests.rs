//! Clients that take their response slowly, with the clock set by hand.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use crate::connection::tests::{GET, INPUT, ROOM, fixture, seconds, tcp_fixture, warm};
use crate::connection::{Deadline, Phase, ResponsePart, ResponseSpool, Step};

#[test]
fn a_client_that_takes_nothing_is_cut_and_one_that_takes_a_little_is_not() {
    let mut fixture = fixture(&["--write-timeout", "30"]);
    assert_eq!(fixture.receive(GET), Step::Ready);
    fixture.begin_call();
    assert_eq!(fixture.start(Some(4_000_000), &vec![0; 4_000_000]), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Write, seconds(30))));
    fixture.wait(seconds(29));
    assert!(!fixture.sent().is_empty());
    assert_eq!(fixture.connection.handle_event(ROOM, &mut fixture.context), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Write, seconds(1))), "it is looked at when its time is over");
    assert_eq!(fixture.pass(Deadline::Write), Step::Keep, "it has earned more");
    assert_eq!(fixture.due(), Some((Deadline::Write, seconds(120))), "and no more than that");
    fixture.wait(seconds(10));
    assert_eq!(fixture.connection.handle_event(ROOM, &mut fixture.context), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Write, seconds(110))), "it has taken nothing since");
    assert_eq!(fixture.pass(Deadline::Write), Step::Close);
}

#[test]
fn a_client_that_takes_a_byte_now_and_then_is_cut() {
    let mut fixture = fixture(&["--write-timeout", "30"]);
    assert_eq!(fixture.receive(GET), Step::Ready);
    fixture.begin_call();
    assert_eq!(fixture.start(Some(4_000_000), &vec![0; 4_000_000]), Step::Keep);
    for _ in 0..2 {
        fixture.wait(seconds(14));
        fixture.client.read_exact(&mut [0]).unwrap();
        assert_eq!(fixture.connection.handle_event(ROOM, &mut fixture.context), Step::Keep);
    }
    assert_eq!(fixture.pass(Deadline::Write), Step::Close);
}

#[test]
fn what_waits_in_a_file_is_framed_and_ends_the_response() {
    for chunked in [false, true] {
        let mut fixture = fixture(&[]);
        assert_eq!(fixture.receive(GET), Step::Ready);
        fixture.begin_call();
        let content: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
        let spool = Arc::new(ResponseSpool::new(&fixture.context.spools, 1 << 30, 0).unwrap());
        assert_eq!(fixture.start((!chunked).then_some(3_000_000), &content[..1_000_000]), Step::Keep);
        for (number, block) in content[1_000_000..].chunks(100_000).enumerate() {
            assert_eq!(spool.append(block).unwrap(), number == 0, "the engine is told once");
        }
        fixture.respond(ResponsePart::Spooled(Arc::clone(&spool)));
        fixture.respond(ResponsePart::Finish);
        let mut received = Vec::new();
        while fixture.connection.phase == Phase::Flushing {
            received.append(&mut fixture.sent());
            fixture.connection.handle_event(ROOM, &mut fixture.context);
            fixture.connection.proceed(&mut fixture.context);
            let held = fixture.connection.memory_bytes();
            assert!(held < 1_500_000, "{held} bytes of memory are held, which is more than the first block");
        }
        received.append(&mut fixture.sent());
        drop(spool);
        assert_eq!((fixture.context.spools.bytes(), fixture.context.spools.files()), (0, 0));
        let head_end = memchr::memmem::find(&received, b"\r\n\r\n").unwrap() + 4;
        let body = if chunked { unchunked(&received[head_end..]) } else { received[head_end..].to_vec() };
        assert!(body == content, "{} bytes, chunked: {chunked}", body.len());
    }
}

/// The content of a chunked body that is whole.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let line_end = memchr::memmem::find(body, b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&body[..line_end]).unwrap(), 16).unwrap();
        content.extend_from_slice(&body[line_end + 2..][..length]);
        body = &body[line_end + 2 + length..];
        assert_eq!(&body[..2], b"\r\n");
        body = &body[2..];
        if length == 0 {
            assert!(body.is_empty());
            return content;
        }
    }
}

#[test]
fn a_file_that_never_finds_the_socket_full_is_not_cut_however_long_it_takes() {
    let mut fixture = tcp_fixture();
    let file = tempfile::tempfile().unwrap();
    let length = 4 * 1024 * 1024;
    file.set_len(length).unwrap();
    fixture.client.write_all(GET).unwrap();
    while fixture.connection.handle_event(INPUT, &mut fixture.context) != Step::Ready {}
    fixture.begin_call();
    fixture.start(Some(length), b"");
    let mut left = read_head(&mut fixture.client, length);
    let mut step = fixture.respond(ResponsePart::File { file: warm(file), offset: 0, length });
    while left > 0 {
        if step == Step::Again {
            let (deadline, after) = fixture.due().expect("the file is being written");
            assert_eq!(deadline, Deadline::Write);
            if after.is_zero() {
                assert_eq!(fixture.pass(Deadline::Write), Step::Keep);
            }
        }
        let turn = left.min(256 * 1024);
        left -= turn;
        fixture.client.read_exact(&mut vec![0; turn as usize]).unwrap();
        fixture.wait(seconds(10));
        step = match step {
            Step::Again => fixture.connection.proceed(&mut fixture.context),
            _ => fixture.connection.handle_event(ROOM, &mut fixture.context),
        };
    }
    assert_eq!((step, fixture.connection.due()), (Step::Keep, None));
}

fn read_head(client: &mut TcpStream, length: u64) -> u64 {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    length
}
