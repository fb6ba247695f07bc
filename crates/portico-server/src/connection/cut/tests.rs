//! Responses that end before their end: what their clients get of them, and how they end.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use portico_log::Reason;

use crate::connection::tests::{Fixture, GET, INPUT, ROOM, fixture, seconds, tcp_fixture, warm};
use crate::connection::{Deadline, ResponsePart, ResponseSpool, Step};

#[test]
fn a_response_that_ends_early_in_its_file_is_cut() {
    let mut fixture = fixture(&[]);
    assert_eq!(fixture.receive(GET), Step::Ready);
    fixture.begin_call();
    fixture.start(Some(10), b"123");
    let spool = Arc::new(ResponseSpool::new(&fixture.context.spools, 1 << 30, 0).unwrap());
    assert!(spool.append(b"45").unwrap());
    assert_eq!(fixture.respond(ResponsePart::Spooled(Arc::clone(&spool))), Step::Keep);
    assert!(spool.append(b"6").unwrap(), "who has found nothing is told of more");
    assert_eq!(fixture.respond(ResponsePart::Spooled(Arc::clone(&spool))), Step::Keep);
    assert!(spool.is_drained());
    assert_eq!(fixture.respond(ResponsePart::Finish), Step::Close);
}

/// All that comes to a client, which reads it only now, and how it ends.
fn drained(mut fixture: Fixture<TcpStream>, mut step: Step) -> (Vec<u8>, Option<ErrorKind>) {
    let Fixture { connection, context, client, .. } = &mut fixture;
    client.set_nonblocking(true).unwrap();
    let (mut received, begun) = (Vec::new(), Instant::now());
    loop {
        match client.read_to_end(&mut received).map_err(|error| error.kind()) {
            Ok(_) => return (received, None),
            Err(ErrorKind::WouldBlock) => {}
            Err(kind) => return (received, Some(kind)),
        }
        assert!(begun.elapsed() < seconds(20), "{step:?} after {} bytes", received.len());
        step = match (step, connection.due()) {
            (Step::Close, _) => {
                connection.close(context);
                Step::Close
            }
            (Step::Again, _) => connection.proceed(context),
            (_, Some((Deadline::Delivery, at))) => {
                context.now = context.now.max(at);
                connection.handle_timeout(Deadline::Delivery, context)
            }
            _ => connection.handle_event(ROOM, context),
        };
    }
}

/// What has been given goes out before the end, which the client sees as one that came too early.
#[test]
fn what_was_given_of_a_response_is_delivered_before_it_is_cut() {
    let block = vec![7; 8_000_000];
    let requests: [(&[u8], Option<u64>, Option<ErrorKind>); 4] = [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", None, None),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Some(9_000_000), None),
        (b"GET / HTTP/1.0\r\n\r\n", Some(9_000_000), None),
        (b"GET / HTTP/1.0\r\n\r\n", None, Some(ErrorKind::ConnectionReset)),
    ];
    for (request, length, end) in requests {
        for last in [ResponsePart::Abort(Reason::Aborted), ResponsePart::Finish] {
            if length.is_none() && matches!(last, ResponsePart::Finish) {
                continue; // That is whole.
            }
            let mut fixture = tcp_fixture();
            fixture.client.write_all(request).unwrap();
            while fixture.connection.handle_event(INPUT, &mut fixture.context) != Step::Ready {}
            fixture.begin_call();
            assert_eq!(fixture.start(length, &block), Step::Keep);
            let flow = fixture.connection.exchange.as_ref().unwrap().flow.clone().unwrap();
            let step = fixture.respond(last);
            assert_ne!(step, Step::Close, "it waits for the client");
            assert!(flow.is_gone(), "nothing more is taken");
            let (received, ended) = drained(fixture, step);
            let body = received.iter().filter(|byte| **byte == 7).count();
            assert_eq!((body, ended), (block.len(), end), "{length:?}");
            assert!(!received.ends_with(b"0\r\n\r\n"));
        }
    }
}

#[test]
fn a_client_that_takes_nothing_of_a_cut_response_has_no_more_time_than_of_others() {
    let mut fixture = tcp_fixture();
    fixture.client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    while fixture.connection.handle_event(INPUT, &mut fixture.context) != Step::Ready {}
    fixture.begin_call();
    assert_eq!(fixture.start(None, &vec![0; 8_000_000]), Step::Keep);
    assert_eq!(fixture.respond(ResponsePart::Abort(Reason::Aborted)), Step::Keep);
    assert_eq!(fixture.due().map(|(deadline, _)| deadline), Some(Deadline::Write));
    // What the kernel has taken meanwhile has earned it some time.
    let mut step = Step::Keep;
    for _ in 0..5 {
        if step == Step::Keep {
            step = fixture.pass(Deadline::Write);
        }
    }
    assert_eq!(step, Step::Close);
}

#[test]
fn what_is_written_is_looked_after_until_it_is_acknowledged_or_the_time_is_over() {
    let mut fixture = tcp_fixture();
    let small = rustix::net::sockopt::set_socket_recv_buffer_size;
    small(&fixture.client, 4096).unwrap();
    fixture.client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    while fixture.connection.handle_event(INPUT, &mut fixture.context) != Step::Ready {}
    fixture.begin_call();
    // More than the client has room for, and less than the kernel takes.
    assert_eq!(fixture.start(None, &vec![0; 1_000_000]), Step::Keep);
    assert_eq!(fixture.respond(ResponsePart::Abort(Reason::Aborted)), Step::Keep);
    let begun = fixture.context.now;
    let mut looks = 0;
    while fixture.pass(Deadline::Delivery) == Step::Keep {
        looks += 1;
        assert!(looks < 1000);
    }
    let waited = fixture.context.now - begun;
    assert!((seconds(30)..seconds(151)).contains(&waited), "{waited:?}");
    assert!((50..400).contains(&looks), "{looks}");
}

#[test]
fn a_response_is_cut_at_once_where_its_client_has_been_too_slow_or_has_left() {
    for reason in [Reason::WriteTimeout, Reason::ClientGone] {
        let mut fixture = tcp_fixture();
        fixture.client.write_all(GET).unwrap();
        while fixture.connection.handle_event(INPUT, &mut fixture.context) != Step::Ready {}
        fixture.begin_call();
        assert_eq!(fixture.start(None, &vec![0; 8_000_000]), Step::Keep);
        assert_eq!(fixture.respond(ResponsePart::Abort(reason)), Step::Close);
    }
}

#[test]
fn a_file_that_became_shorter_is_sent_to_its_end() {
    let mut fixture = tcp_fixture();
    fixture.client.write_all(GET).unwrap();
    while fixture.connection.handle_event(INPUT, &mut fixture.context) != Step::Ready {}
    fixture.begin_call();
    assert_eq!(fixture.start(Some(20_000_000), b""), Step::Keep);
    let file = tempfile::tempfile().unwrap();
    file.set_len(20_000_000).unwrap();
    let step = fixture.respond(ResponsePart::File {
        file: warm(file.try_clone().unwrap()),
        offset: 0,
        length: 20_000_000,
    });
    assert_ne!(step, Step::Close);
    file.set_len(15_000_000).unwrap();
    let (received, end) = drained(fixture, step);
    assert_eq!((received.iter().filter(|byte| **byte == 0).count(), end), (15_000_000, None));
}

#[test]
fn a_response_that_ends_with_the_connection_is_not_made_to_look_whole() {
    let mut fixture = tcp_fixture();
    fixture.client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    while fixture.connection.handle_event(INPUT, &mut fixture.context) != Step::Ready {}
    fixture.begin_call();
    assert_eq!(fixture.start(None, b"the first half"), Step::Keep);
    fixture.connection.close(&mut fixture.context);
    drop(fixture.connection);
    let error = fixture.client.read_to_end(&mut Vec::new()).expect_err("not the end of the response");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}
