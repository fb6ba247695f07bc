//! The lent engine under real threads and sockets: nothing waits behind a slow call, nothing is lost, whatever the
//! mixture of short and long calls.
#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

#[expect(dead_code, reason = "each test uses its part")]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use portico_metrics::{Counter, Histogram};
use portico_server::{Application, Request, Responder};
use support::{Client, TestServer, head};

/// Answers `/MICROSECONDS/TEXT` with TEXT after that time; `/stream/…` in blocks with pauses between them.
#[derive(Default)]
struct Sleeper {
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Application for Sleeper {
    fn call(&self, request: Request, mut responder: Responder) {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let path = String::from_utf8(request.head().path().to_vec()).unwrap();
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let (first, text) = (parts.next().unwrap(), parts.next().unwrap_or_default());
        match first.parse() {
            Ok(0) => {}
            Ok(micros) => thread::sleep(Duration::from_micros(micros)),
            Err(_) => {
                assert_eq!(first, "stream");
                responder.start(&head(text.len() * 5), text.as_bytes()).unwrap();
                for _ in 0..4 {
                    thread::sleep(Duration::from_micros(300));
                    responder.send(text.as_bytes()).unwrap();
                }
                self.running.fetch_sub(1, Ordering::SeqCst);
                return responder.finish();
            }
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        responder.respond(&head(text.len()), text.as_bytes());
    }
}

/// A small generator of our own, so that a failing run can be had again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

fn exercise(server: &TestServer, clients: u64, requests: u64, micros: &'static [u64]) {
    thread::scope(|scope| {
        for client_number in 0..clients {
            scope.spawn(move || {
                let mut random = Random(client_number);
                let mut client = server.connect();
                for number in 0..requests {
                    match random.below(20) {
                        0 => client = server.connect(),
                        1 => thread::sleep(Duration::from_micros(random.below(3000))),
                        2 => {
                            let text = format!("{client_number}.{number}");
                            let expected = format!("HTTP/1.1 200 OK {}", text.repeat(5));
                            assert_eq!(client.get(&format!("/stream/{text}")), expected);
                        }
                        3 => pipeline(&mut client, number),
                        _ => {}
                    }
                    let micros = micros[random.below(micros.len() as u64) as usize];
                    let text = format!("{client_number}-{number}");
                    assert_eq!(client.get(&format!("/{micros}/{text}")), format!("HTTP/1.1 200 OK {text}"));
                }
            });
        }
    });
}

fn pipeline(client: &mut Client, number: u64) {
    let requests: String =
        (0..5).map(|i| format!("GET /0/p{number}.{i} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    client.send(requests.as_bytes());
    for i in 0..5 {
        assert_eq!(client.respond(), format!("HTTP/1.1 200 OK p{number}.{i}"));
    }
}

#[test]
fn every_request_is_answered_whatever_the_calls_take() {
    for threads in ["1", "2", "4"] {
        for micros in [&[0][..], &[0, 0, 0, 200], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 20_000], &[500, 2000]] {
            let sleeper = Sleeper::default();
            let most = Arc::clone(&sleeper.most);
            let server = TestServer::start(sleeper, &["--threads", threads]);
            exercise(&server, 12, 40, micros);
            server.stop();
            assert!(most.load(Ordering::SeqCst) <= threads.parse().unwrap(), "never more calls than threads");
        }
    }
}

#[test]
fn a_slow_call_stops_nobody_else() {
    let server = TestServer::start(Sleeper::default(), &["--threads", "2"]);
    for round in 0..20 {
        let mut slow = server.connect();
        slow.send(b"GET /400000/slow HTTP/1.1\r\nHost: x\r\n\r\n");
        thread::sleep(Duration::from_millis(round % 5));
        let began = Instant::now();
        let mut quick = server.connect();
        assert_eq!(quick.get("/0/quick"), "HTTP/1.1 200 OK quick");
        assert!(began.elapsed() < Duration::from_millis(200), "round {round}: {:?}", began.elapsed());
        assert_eq!(slow.respond(), "HTTP/1.1 200 OK slow");
        // Calls are short again: the next slow one is noticed by the watch and not by their average.
        (0..150).for_each(|_| drop(quick.get("/0/x")));
    }
    server.stop();
}

#[test]
fn no_quick_request_waits_while_a_thread_is_free_however_the_threads_met() {
    // Young servers, whose threads have just met: every order of their first steps comes up sooner or later.
    for round in 0..200 {
        let server = TestServer::start(Sleeper::default(), &["--threads", "3"]);
        let mut slow = [server.connect(), server.connect()];
        slow[0].send(b"GET /500000/slow HTTP/1.1\r\nHost: x\r\n\r\n");
        thread::sleep(Duration::from_micros([0, 100, 300, 1700][round % 4]));
        slow[1].send(b"GET /500000/slow HTTP/1.1\r\nHost: x\r\n\r\n");
        for _ in 0..3 {
            let began = Instant::now();
            assert_eq!(server.connect().get("/0/quick"), "HTTP/1.1 200 OK quick");
            assert!(began.elapsed() < Duration::from_millis(250), "round {round}: {:?}", began.elapsed());
        }
        server.abandon();
    }
}

#[test]
fn no_quick_request_waits_while_a_thread_is_free_in_the_long_run() {
    let server = TestServer::start(Sleeper::default(), &["--threads", "4"]);
    thread::scope(|scope| {
        for client_number in 0..4 {
            let server = &server;
            scope.spawn(move || {
                let mut random = Random(client_number);
                let mut client = server.connect();
                let end = Instant::now() + Duration::from_secs(5);
                while Instant::now() < end {
                    if random.below(60) == 0 {
                        assert_eq!(client.get("/400000/slow"), "HTTP/1.1 200 OK slow");
                    }
                    let began = Instant::now();
                    assert_eq!(client.get("/0/quick"), "HTTP/1.1 200 OK quick");
                    assert!(began.elapsed() < Duration::from_millis(250), "{:?}", began.elapsed());
                    if random.below(4) == 0 {
                        thread::sleep(Duration::from_micros(random.below(20_000)));
                    }
                }
            });
        }
    });
    server.stop();
}

#[test]
fn with_every_thread_in_a_call_the_standby_serves_the_network() {
    let server = TestServer::start(Sleeper::default(), &["--threads", "1", "--max-queue", "1"]);
    let mut slow = server.connect();
    slow.send(b"GET /400000/slow HTTP/1.1\r\nHost: x\r\n\r\n");
    thread::sleep(Duration::from_millis(50));
    let mut queued = server.connect();
    queued.send(b"GET /0/queued HTTP/1.1\r\nHost: x\r\n\r\n");
    thread::sleep(Duration::from_millis(50));
    let mut refused = server.connect();
    let began = Instant::now();
    assert!(refused.get("/0/refused").starts_with("HTTP/1.1 503 "));
    let mut broken = server.connect();
    broken.send(b"GET /\n");
    assert!(broken.rest().starts_with(b"HTTP/1.1 400 "));
    assert!(began.elapsed() < Duration::from_millis(200));
    assert_eq!(slow.respond(), "HTTP/1.1 200 OK slow");
    assert_eq!(queued.respond(), "HTTP/1.1 200 OK queued");
    let counters = server.stop();
    assert_eq!((counters.total(Counter::QueueFull), counters.total(Counter::Refused)), (1, 1));
}

#[test]
fn a_queued_request_whose_client_has_left_is_not_run() {
    let server = TestServer::start(Sleeper::default(), &["--threads", "1"]);
    let mut slow = server.connect();
    slow.send(b"GET /200000/slow HTTP/1.1\r\nHost: x\r\n\r\n");
    thread::sleep(Duration::from_millis(30));
    for _ in 0..3 {
        server.connect().send(b"GET /0/left HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    assert_eq!(slow.respond(), "HTTP/1.1 200 OK slow");
    assert_eq!(slow.get("/0/next"), "HTTP/1.1 200 OK next");
    let counters = server.stop();
    assert_eq!((counters.total(Counter::Abandoned), counters.total(Counter::Responses)), (3, 2));
    let (_, waits) = counters.durations_at(Histogram::QueueDuration, 0);
    assert_eq!((counters.total(Counter::Calls), waits.iter().sum::<u64>()), (2, 2));
}

#[test]
fn a_drain_lets_what_runs_and_what_is_queued_end_and_closes_what_is_idle() {
    let server = TestServer::start(Sleeper::default(), &["--threads", "1"]);
    let mut idle = server.connect();
    assert_eq!(idle.get("/0/idle"), "HTTP/1.1 200 OK idle");
    let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(b"GET /50000/x HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    thread::sleep(Duration::from_millis(20));
    let lending = Arc::clone(&server.lending);
    let stopper = thread::spawn(move || server.stop());
    let began = Instant::now();
    assert_eq!(idle.rest(), b"");
    assert!(began.elapsed() < Duration::from_millis(100));
    for client in &mut clients {
        let response = String::from_utf8(client.rest()).unwrap();
        assert!(
            response.starts_with("HTTP/1.1 200 OK") && response.contains("Connection: close"),
            "{response}"
        );
    }
    assert_eq!(stopper.join().unwrap().total(Counter::Responses), 5);
    assert!(lending.is_stopped());
}

#[test]
fn no_response_is_held_back_behind_a_slow_call() {
    let server = TestServer::start(Sleeper::default(), &["--threads", "1"]);
    // The standby waits for the network from here on, and looks at nothing by itself.
    let mut first = server.connect();
    first.send(b"GET /12000/first HTTP/1.1\r\nHost: x\r\n\r\n");
    thread::sleep(Duration::from_millis(6));
    let mut quick: Vec<Client> = (0..80).map(|_| server.connect()).collect();
    // So many that calls are short again when the last of them is answered.
    quick.iter_mut().for_each(|client| client.send(b"GET /0/quick HTTP/1.1\r\nHost: x\r\n\r\n"));
    let mut slow = server.connect();
    slow.send(b"GET /600000/slow HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(first.respond(), "HTTP/1.1 200 OK first");
    let began = Instant::now();
    let mut when = Vec::new();
    for client in &mut quick {
        assert_eq!(client.respond(), "HTTP/1.1 200 OK quick");
        when.push(began.elapsed().as_millis());
    }
    assert!(began.elapsed() < Duration::from_millis(300), "{:?} {when:?}", began.elapsed());
    assert_eq!(slow.respond(), "HTTP/1.1 200 OK slow");
    server.stop();
}

#[test]
fn an_upload_that_never_pauses_stops_nobody_else() {
    let server = TestServer::start(Sleeper::default(), &["--threads", "2"]);
    let mut other = server.connect();
    assert_eq!(other.get("/0/before"), "HTTP/1.1 200 OK before");
    let mut uploader = server.connect();
    let bytes = vec![0; 192 << 20];
    thread::scope(|scope| {
        let upload = scope.spawn(|| {
            uploader.send(
                format!("PUT /0/up HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", bytes.len())
                    .as_bytes(),
            );
            uploader.send(&bytes);
            assert_eq!(uploader.respond(), "HTTP/1.1 200 OK up");
        });
        // No bound on time: the machine's disk may stall both. One that had the loop to itself would leave
        // room for one response, or two.
        let mut responses = 0;
        while !upload.is_finished() {
            assert_eq!(other.get("/0/quick"), "HTTP/1.1 200 OK quick");
            responses += 1;
            thread::sleep(Duration::from_millis(1));
        }
        assert!(responses > 10, "{responses}");
    });
    server.stop();
}
