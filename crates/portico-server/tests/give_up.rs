//! Calls that do not end are given up; calls are told that their client has left.
#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

#[expect(dead_code, reason = "each test uses its part")]
mod support;

use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use portico_log::Reason;
use portico_metrics::Counter;
use portico_server::{Application, Gone, Lending, Request, RequestKey, Responder};
use support::{TestServer, head};

/// `/stuck` waits at the gate before its response, `/begun` in the middle of it, `/finished` after it; all else is
/// answered at once with its path.
struct Gated {
    entered: Mutex<Sender<RequestKey>>,
    gate: Arc<Gate>,
    left: Mutex<Sender<Result<(), Gone>>>,
}

#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        drop(self.opened.wait_while(self.open.lock().unwrap(), |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Application for Gated {
    fn call(&self, request: Request, mut responder: Responder) {
        let stop = || {
            self.entered.lock().unwrap().send(request.key).unwrap();
            self.gate.pass();
        };
        match request.head().path() {
            b"/stuck" => {
                stop();
                let _ = responder.start(&head(5), b"st");
            }
            b"/begun" => {
                responder.start(&head(5), b"st").unwrap();
                stop();
            }
            b"/finished" => {
                responder.respond(&head(8), b"finished");
                return stop();
            }
            path => return responder.respond(&head(path.len()), path),
        }
        // Where another thread has the engine, the first word of an end comes with the next block.
        let mut result = Ok(());
        for block in [&b"u"[..], b"c", b"k"] {
            thread::sleep(Duration::from_millis(20));
            result = result.and_then(|()| responder.send(block));
        }
        responder.finish();
        let _ = self.left.lock().unwrap().send(result);
    }
}

struct Fixture {
    server: TestServer,
    entered: Receiver<RequestKey>,
    gate: Arc<Gate>,
    left: Receiver<Result<(), Gone>>,
}

fn start(arguments: &[&str]) -> Fixture {
    let ((enter, entered), (leave, left)) = (channel(), channel());
    let gate = Arc::new(Gate::default());
    let application = Gated { entered: Mutex::new(enter), gate: Arc::clone(&gate), left: Mutex::new(leave) };
    Fixture { server: TestServer::start(application, arguments), entered, gate, left }
}

#[test]
fn the_client_gets_504_and_the_lost_thread_is_heard_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access");
    let mut fixture = start(&["--threads", "1", "--access-logfile", log.to_str().unwrap()]);
    let mut stuck = fixture.server.connect();
    stuck.send(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n");
    let key = fixture.entered.recv().unwrap();
    assert!(fixture.server.lending.give_up(key, Reason::Timeout));
    assert!(!fixture.server.lending.give_up(key, Reason::Timeout), "once");
    let response = String::from_utf8(stuck.rest()).unwrap();
    assert!(
        response.starts_with("HTTP/1.1 504 ") && response.contains("\r\nConnection: close\r\n"),
        "{response}"
    );
    assert_eq!(fixture.server.lending.calls(), 0);
    fixture.server.add_thread();
    // In the place of the connection that has ended.
    let mut others: Vec<_> = (0..3).map(|_| fixture.server.connect()).collect();
    for other in &mut others {
        assert_eq!(other.get("/other"), "HTTP/1.1 200 OK /other");
        other.send(b"GET /ano");
    }
    fixture.gate.open();
    assert_eq!(fixture.left.recv().unwrap(), Err(Gone));
    for other in &mut others {
        other.send(b"ther HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(other.respond(), "HTTP/1.1 200 OK /another");
    }
    // Each call ends a moment after its response; the late one's end does not count.
    let end = Instant::now() + Duration::from_secs(5);
    while fixture.server.lending.calls() != 0 {
        assert!(Instant::now() < end, "{} calls", fixture.server.lending.calls());
    }
    assert_eq!(fixture.server.stop().total(Counter::Responses), 7);
    let lines = std::fs::read_to_string(log).unwrap();
    assert!(lines.contains("\"GET /stuck HTTP/1.1\" 504 "), "{lines}");
}

#[test]
fn the_client_of_a_cancelled_call_gets_503_and_the_thread_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access");
    let options = ["--threads", "1", "--access-logfile", log.to_str().unwrap(), "--access-logformat", "json"];
    let fixture = start(&options);
    for path in ["stuck", "begun"] {
        let mut client = fixture.server.connect();
        client.send(format!("GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        let key = fixture.entered.recv().unwrap();
        fixture.server.lending.cancel(key);
        fixture.server.lending.cancel(key);
        let response = String::from_utf8(client.rest()).unwrap();
        match path {
            "stuck" => assert!(response.starts_with("HTTP/1.1 503 ") && !response.contains("Retry-After")),
            _ => assert!(response.is_empty() || response.ends_with("\r\n\r\nst"), "{response}"),
        }
        assert_eq!(fixture.server.lending.calls(), 1, "it is counted until it ends");
        let mut next = fixture.server.connect();
        next.send(b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
        fixture.gate.open();
        assert_eq!(fixture.left.recv().unwrap(), Err(Gone));
        assert_eq!(next.respond(), "HTTP/1.1 200 OK /next", "by the same thread");
        fixture.server.lending.cancel(key);
        assert_eq!(next.get("/late"), "HTTP/1.1 200 OK /late");
        *fixture.gate.open.lock().unwrap() = false;
    }
    fixture.gate.open();
    fixture.server.stop();
    let lines = std::fs::read_to_string(log).unwrap();
    let cancelled: Vec<_> =
        lines.lines().filter(|line| line.contains(r#""portico.reason":"cancelled""#)).collect();
    assert_eq!(cancelled.len(), 2, "{lines}");
    assert!(cancelled[0].contains("/stuck") && cancelled[0].contains(":503,"), "{lines}");
}

#[test]
fn a_response_that_has_begun_is_cut() {
    let mut fixture = start(&["--threads", "1"]);
    let mut begun = fixture.server.connect();
    begun.send(b"GET /begun HTTP/1.1\r\nHost: x\r\n\r\n");
    let key = fixture.entered.recv().unwrap();
    assert!(fixture.server.lending.give_up(key, Reason::Timeout));
    let response = String::from_utf8(begun.rest()).unwrap();
    assert!(response.is_empty() || response.ends_with("\r\n\r\nst"), "{response}");
    fixture.gate.open();
    assert_eq!(fixture.left.recv().unwrap(), Err(Gone));
    fixture.server.add_thread();
    fixture.server.stop();
}

#[test]
fn a_call_that_is_stuck_after_its_response_costs_its_client_nothing() {
    let mut fixture = start(&["--threads", "1"]);
    let mut client = fixture.server.connect();
    assert_eq!(client.get("/finished"), "HTTP/1.1 200 OK finished");
    let key = fixture.entered.recv().unwrap();
    client.send(b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(fixture.server.lending.give_up(key, Reason::Timeout));
    fixture.server.add_thread();
    assert_eq!(client.respond(), "HTTP/1.1 200 OK /next");
    fixture.gate.open();
    fixture.server.stop();
}

#[test]
fn the_server_drains_and_ends_without_a_lost_thread() {
    let fixture = start(&["--threads", "2"]);
    let mut clients = [fixture.server.connect(), fixture.server.connect()];
    for client in &mut clients {
        client.send(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n");
        let key = fixture.entered.recv().unwrap();
        assert!(fixture.server.lending.give_up(key, Reason::Timeout));
    }
    fixture.server.lending.drain(Duration::from_secs(60));
    let end = Instant::now() + Duration::from_secs(5);
    while !fixture.server.lending.is_stopped() {
        assert!(Instant::now() < end, "the drain waits for the lost threads");
        thread::sleep(Duration::from_millis(5));
    }
    fixture.gate.open();
    fixture.server.stop();
}

#[test]
fn a_late_word_about_an_ended_call_hits_nobody() {
    let fixture = start(&["--threads", "1"]);
    fixture.gate.open();
    let mut client = fixture.server.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/stuck"), "HTTP/1.1 200 OK stuck");
        let key = fixture.entered.recv().unwrap();
        // The thread is in its next call, or has been: the one before is over.
        assert_eq!(client.get("/x"), "HTTP/1.1 200 OK /x");
        assert!(!fixture.server.lending.give_up(key, Reason::Timeout));
    }
    fixture.server.stop();
}

/// `/lost` waits at the gate; of the other calls it is noted how many run at once.
struct Counting {
    entered: Mutex<Sender<RequestKey>>,
    gate: Arc<Gate>,
    running: AtomicUsize,
    most: Arc<AtomicUsize>,
}

impl Application for Counting {
    fn call(&self, request: Request, responder: Responder) {
        if request.head().path() == b"/lost" {
            self.entered.lock().unwrap().send(request.key).unwrap();
            return self.gate.pass();
        }
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(2));
        self.running.fetch_sub(1, Ordering::SeqCst);
        responder.respond(&head(2), b"ok");
    }
}

#[test]
fn a_lost_thread_that_comes_back_is_one_too_many_and_leaves() {
    let (enter, entered) = channel();
    let (gate, most) = (Arc::new(Gate::default()), Arc::new(AtomicUsize::new(0)));
    let application = Counting {
        entered: Mutex::new(enter),
        gate: Arc::clone(&gate),
        running: AtomicUsize::new(0),
        most: Arc::clone(&most),
    };
    let mut server = TestServer::start(application, &["--threads", "2"]);
    let mut lost = server.connect();
    lost.send(b"GET /lost HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(server.lending.give_up(entered.recv().unwrap(), Reason::Timeout));
    server.add_thread();
    let load = || {
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let mut client = server.connect();
                    (0..30).for_each(|_| assert_eq!(client.get("/x"), "HTTP/1.1 200 OK ok"));
                });
            }
        });
    };
    load();
    assert_eq!(most.load(Ordering::SeqCst), 2, "capacity is back");
    gate.open();
    load();
    assert_eq!(most.load(Ordering::SeqCst), 2, "and does not grow");
    server.stop();
}

/// Waits in its call until its client has left, for two seconds at most, and tells whether it has.
struct Watcher {
    lending: Arc<Mutex<Option<Arc<Lending>>>>,
    found: Mutex<Sender<bool>>,
}

impl Application for Watcher {
    fn call(&self, request: Request, responder: Responder) {
        let lending = self.lending.lock().unwrap().clone().unwrap();
        let until = Instant::now() + Duration::from_millis(500);
        let mut gone = false;
        while !gone && Instant::now() < until {
            gone = lending.is_client_gone(request.key);
            thread::sleep(Duration::from_millis(1));
        }
        let _ = self.found.lock().unwrap().send(gone);
        responder.respond(&head(4), b"done");
        assert!(!lending.is_client_gone(request.key) || gone);
    }
}

#[test]
fn a_call_learns_that_its_client_has_left_whoever_drives() {
    for (threads, half_close, leave, expected) in [
        ("1", false, true, true),
        ("3", false, true, true),
        ("3", true, false, false),
        ("3", false, false, true),
    ] {
        let (send, found) = channel();
        let lending = Arc::new(Mutex::new(None));
        let watcher = Watcher { lending: Arc::clone(&lending), found: Mutex::new(send) };
        let mut arguments = vec!["--threads", threads];
        arguments.extend(half_close.then_some("--allow-half-close"));
        let server = TestServer::start(watcher, &arguments);
        *lending.lock().unwrap() = Some(Arc::clone(&server.lending));
        let mut client = server.connect();
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(found.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
        match leave {
            true => drop(client),
            false => client.stream.shutdown(Shutdown::Write).unwrap(),
        }
        assert_eq!(found.recv().unwrap(), expected, "{threads} {half_close} {leave}");
        lending.lock().unwrap().take();
        server.stop();
    }
}
