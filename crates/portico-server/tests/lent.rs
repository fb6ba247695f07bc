//! Connections that an application has taken over: what goes through them, and how they end.
#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

#[expect(dead_code, reason = "each test uses its part")]
mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use portico_metrics::Counter;
use portico_server::{Application, Lending, Request, Responder};
use support::{Client, TestServer, head};

/// Takes over what asks for a WebSocket, and sends back what comes until the end of the input; `/deaf` reads
/// nothing before it is told to. Others are answered.
struct Echo {
    lending: Arc<std::sync::OnceLock<Arc<Lending>>>,
    /// Bytes that have come, with each end.
    ended: Sender<usize>,
    gate: std::sync::Mutex<Receiver<()>>,
}

impl Application for Echo {
    fn call(&self, request: Request, mut responder: Responder) {
        if !request.head().websocket {
            return responder.respond(&head(2), b"ok");
        }
        let mut socket = TcpStream::from(responder.take_connection().unwrap());
        assert!(responder.take_connection().is_err(), "it is taken once");
        assert!(self.lending.get().unwrap().release_thread(request.key));
        if request.head().path() == b"/deaf" {
            self.gate.lock().unwrap().recv().unwrap();
        }
        let (mut total, mut buffer) = (0, [0; 4096]);
        while let Ok(count @ 1..) = socket.read(&mut buffer) {
            total += count;
            if request.head().path() == b"/" && socket.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        self.ended.send(total).unwrap();
    }
}

struct Running {
    server: TestServer,
    ended: Receiver<usize>,
    gate: Sender<()>,
}

fn start(arguments: &[&str]) -> Running {
    let (ended, told) = channel();
    let (gate, opened) = channel();
    let lending = Arc::default();
    let echo = Echo { lending: Arc::clone(&lending), ended, gate: opened.into() };
    let server = TestServer::start(echo, arguments);
    lending.get_or_init(|| Arc::clone(&server.lending));
    Running { server, ended: told, gate }
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c, WebSocket\r\n\r\n";

/// What a client sends with its request: nothing, or what has the engine pass bytes on.
const AHEAD: [&str; 2] = ["", "ahead"];

fn read(client: &mut Client, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    client.stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn bytes_pass_both_ways_and_the_end_does() {
    let mut running = start(&["--threads", "1"]);
    for ahead in AHEAD {
        let mut client = running.server.connect();
        client.send(format!("{UPGRADE}{ahead}").as_bytes());
        assert_eq!(read(&mut client, ahead.len()), ahead.as_bytes());
        client.send(b"more");
        assert_eq!(read(&mut client, 4), b"more");
        // The only thread is in that call; another one has its place.
        running.server.add_thread();
        assert_eq!(running.server.connect().get("/"), "HTTP/1.1 200 OK ok");
        let large: Vec<u8> = (0..3 << 20).map(|number| (number % 251) as u8).collect();
        let (mut sender, sent) = (client.stream.try_clone().unwrap(), large.clone());
        let sending = thread::spawn(move || sender.write_all(&sent));
        assert_eq!(read(&mut client, large.len()), large);
        sending.join().unwrap().unwrap();
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.rest(), b"");
        let total = running.ended.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(total, ahead.len() + 4 + large.len());
    }
    let counters = running.server.stop();
    assert_eq!(counters.total(Counter::Responses), 4);
}

#[test]
fn what_the_application_does_not_read_waits_with_the_client() {
    let running = start(&["--threads", "1"]);
    for ahead in AHEAD {
        let mut client = running.server.connect();
        client.send(format!("{}{ahead}", UPGRADE.replace("GET /", "GET /deaf")).as_bytes());
        client.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let (piece, mut total) = ([b'x'; 1 << 16], ahead.len());
        while let Ok(count) = client.stream.write(&piece) {
            total += count;
            assert!(total < 64 << 20, "somebody keeps it all");
        }
        client.stream.shutdown(Shutdown::Write).unwrap();
        running.gate.send(()).unwrap();
        assert_eq!(running.ended.recv_timeout(Duration::from_secs(10)).unwrap(), total);
        assert_eq!(client.rest(), b"");
        let lending = Arc::clone(&running.server.lending);
        thread::spawn(move || lending.run_thread());
    }
    running.server.lending.stop();
}

#[test]
fn a_stop_ends_the_input_and_then_tells_the_client() {
    for ahead in AHEAD {
        let running = start(&["--threads", "2"]);
        let mut client = running.server.connect();
        client.send(format!("{UPGRADE}{ahead}").as_bytes());
        client.send(b"more");
        assert_eq!(read(&mut client, ahead.len() + 4), [ahead.as_bytes(), b"more"].concat());
        let started = Instant::now();
        running.server.lending.drain(Duration::from_secs(10));
        assert_eq!(client.rest(), [0x88, 0x02, 0x03, 0xe9]);
        drop(client);
        assert_eq!(running.server.join().total(Counter::Responses), 1);
        assert!(started.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn a_stop_that_has_taken_long_enough_cuts() {
    for ahead in AHEAD {
        let running = start(&["--threads", "1"]);
        let mut client = running.server.connect();
        client.send(format!("{}{ahead}", UPGRADE.replace("GET /", "GET /deaf")).as_bytes());
        thread::sleep(Duration::from_millis(100));
        running.server.lending.drain(Duration::from_millis(100));
        assert_eq!(client.rest(), b"");
        running.gate.send(()).unwrap();
        assert!(running.ended.recv_timeout(Duration::from_secs(10)).unwrap() <= ahead.len());
    }
}

#[test]
fn a_client_that_resets_ends_the_input() {
    for ahead in AHEAD {
        let running = start(&["--threads", "1"]);
        let mut client = running.server.connect();
        client.send(format!("{UPGRADE}{ahead}").as_bytes());
        client.send(b"x");
        read(&mut client, ahead.len() + 1);
        rustix::net::sockopt::set_socket_linger(&client.stream, Some(Duration::ZERO)).unwrap();
        drop(client);
        assert_eq!(running.ended.recv_timeout(Duration::from_secs(10)).unwrap(), ahead.len() + 1);
        running.server.lending.stop();
    }
}
