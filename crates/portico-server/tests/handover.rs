//! Several engines that share their listeners and a handover, as worker processes do.
#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

#[expect(dead_code, reason = "each test uses its part")]
mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use portico_metrics::{Counter, Metrics};
use portico_net::Listener;
use portico_server::{Application, Handover, Lending, Load, Request, Responder, Sharing, Siblings};
use support::{Client, TestServer, config, head};

/// What the workers of one test know of each other.
struct Board {
    loads: Vec<Mutex<Load>>,
    ready: Vec<AtomicBool>,
}

/// One worker's view of it.
struct Seen(Arc<Board>, usize);

impl Seen {
    fn others(&self) -> impl Iterator<Item = usize> {
        (0..self.0.loads.len()).filter(|&other| other != self.1 && self.0.ready[other].load(Ordering::SeqCst))
    }
}

impl Siblings for Seen {
    fn publish(&self, load: Load) {
        *self.0.loads[self.1].lock().unwrap() = load;
    }

    fn idle_threads(&self) -> u32 {
        self.others().map(|other| self.0.loads[other].lock().unwrap().idle).sum()
    }

    fn has_ready(&self) -> bool {
        self.others().next().is_some()
    }
}

/// `/MILLISECONDS/TEXT` is answered after that time with the worker's number, TEXT and the body, `/queued` with
/// the milliseconds that it has waited.
struct Sleeper {
    worker: usize,
    calls: Arc<Vec<AtomicUsize>>,
    waits: Arc<Mutex<Vec<Duration>>>,
}

impl Application for Sleeper {
    fn call(&self, mut request: Request, responder: Responder) {
        self.calls[self.worker].fetch_add(1, Ordering::SeqCst);
        self.waits.lock().unwrap().push(Duration::from_nanos(request.queued_nanos));
        let path = String::from_utf8(request.head().path().to_vec()).unwrap();
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let time = parts.next().unwrap();
        let response = match time.parse() {
            Ok(millis) => {
                thread::sleep(Duration::from_millis(millis));
                let mut body = [0; 100];
                let count = request.body.read(&mut body).unwrap();
                let body = String::from_utf8_lossy(&body[..count]);
                format!("{}:{}{body}", self.worker, parts.next().unwrap_or_default())
            }
            Err(_) => format!("{}", request.queued_nanos / 1_000_000),
        };
        responder.respond(&head(response.len()), response.as_bytes());
    }
}

struct Workers {
    address: SocketAddr,
    board: Arc<Board>,
    listeners: Vec<Listener>,
    servers: Vec<Option<TestServer>>,
    calls: Arc<Vec<AtomicUsize>>,
    waits: Arc<Mutex<Vec<Duration>>>,
}

impl Workers {
    /// `count` workers that do not listen yet.
    fn start(count: usize, arguments: &[&str]) -> Self {
        let config = config(arguments);
        let listeners = Listener::bind_all(&config).unwrap();
        let board = Arc::new(Board {
            loads: (0..count).map(|_| Mutex::default()).collect(),
            ready: (0..count).map(|_| AtomicBool::new(false)).collect(),
        });
        let handover = Handover::new().unwrap();
        let calls: Arc<Vec<_>> = Arc::new((0..count).map(|_| AtomicUsize::new(0)).collect());
        let waits = Arc::default();
        let servers = (0..count)
            .map(|worker| {
                let siblings = Arc::new(Seen(Arc::clone(&board), worker));
                let sharing = Sharing { handover: handover.clone(), siblings };
                let application = Sleeper { worker, calls: Arc::clone(&calls), waits: Arc::clone(&waits) };
                let setup = (Arc::clone(&config), Some(sharing));
                Some(TestServer::start_silent(application, setup, &listeners, |run| run()))
            })
            .collect::<Vec<_>>();
        let address = servers[0].as_ref().unwrap().address;
        Self { address, board, listeners, servers, calls, waits }
    }

    fn start_all(count: usize, arguments: &[&str]) -> Self {
        let workers = Self::start(count, arguments);
        (0..count).for_each(|worker| workers.listen(worker));
        workers
    }

    fn listen(&self, worker: usize) {
        let shared = self.listeners.iter().map(|listener| listener.share().unwrap()).collect();
        self.lending(worker).listen(shared).unwrap();
        self.board.ready[worker].store(true, Ordering::SeqCst);
    }

    fn lending(&self, worker: usize) -> &Arc<Lending> {
        &self.servers[worker].as_ref().unwrap().lending
    }

    /// Retires a worker and returns when it has ended.
    fn retire(&mut self, worker: usize) -> Metrics<'static> {
        self.board.ready[worker].store(false, Ordering::SeqCst);
        self.lending(worker).retire(Duration::from_secs(10));
        *self.board.loads[worker].lock().unwrap() = Load::default();
        self.servers[worker].take().unwrap().join()
    }

    fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    fn calls(&self) -> Vec<usize> {
        self.calls.iter().map(|calls| calls.load(Ordering::SeqCst)).collect()
    }

    fn stop(self) -> Vec<Metrics<'static>> {
        let servers: Vec<_> = self.servers.into_iter().flatten().collect();
        servers.iter().for_each(|server| server.lending.drain(Duration::from_secs(10)));
        servers.into_iter().map(TestServer::join).collect()
    }
}

#[test]
fn a_retiring_worker_hands_its_connections_on_and_no_client_notices() {
    let mut workers = Workers::start(2, &["--threads", "2"]);
    workers.listen(0);
    let mut idle = workers.connect();
    assert_eq!(idle.get("/0/a"), "HTTP/1.1 200 OK 0:a");
    let mut fresh = workers.connect();
    let mut begun = workers.connect();
    begun.send(b"GET /0/beg");
    let mut running = workers.connect();
    running.send(b"GET /200/running HTTP/1.1\r\nHost: x\r\n\r\nGET /0/behind HTTP/1.1\r\nHost: x\r\n\r\n");
    thread::sleep(Duration::from_millis(50));
    workers.listen(1);
    let counters = workers.retire(0);
    assert_eq!((counters.total(Counter::HandedOn), counters.total(Counter::Responses)), (4, 2));
    assert_eq!(idle.get("/0/b"), "HTTP/1.1 200 OK 1:b");
    assert_eq!(fresh.get("/0/c"), "HTTP/1.1 200 OK 1:c");
    begun.send(b"un HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(begun.respond(), "HTTP/1.1 200 OK 1:begun");
    assert_eq!(running.respond(), "HTTP/1.1 200 OK 0:running");
    assert_eq!(running.respond(), "HTTP/1.1 200 OK 1:behind");
    assert_eq!(running.get("/0/d"), "HTTP/1.1 200 OK 1:d");
    assert_eq!(workers.stop()[0].total(Counter::TakenOver), 4);
}

#[test]
fn many_more_idle_connections_than_the_lane_holds_are_all_handed_on() {
    let mut workers = Workers::start(2, &["--threads", "1"]);
    workers.listen(0);
    let mut clients: Vec<_> = (0..400).map(|_| workers.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/0/x"), "HTTP/1.1 200 OK 0:x"));
    workers.listen(1);
    let counters = workers.retire(0);
    assert_eq!(counters.total(Counter::HandedOn), 400);
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/0/y"), "HTTP/1.1 200 OK 1:y"));
    workers.stop();
}

#[test]
fn without_a_ready_sibling_retiring_is_draining() {
    let mut workers = Workers::start(2, &["--threads", "1"]);
    workers.listen(0);
    let mut idle = workers.connect();
    assert_eq!(idle.get("/0/a"), "HTTP/1.1 200 OK 0:a");
    let mut running = workers.connect();
    running.send(b"GET /100/x HTTP/1.1\r\nHost: x\r\n\r\n");
    thread::sleep(Duration::from_millis(30));
    assert_eq!(workers.retire(0).total(Counter::HandedOn), 0);
    assert!(idle.is_closed());
    assert!(String::from_utf8(running.rest()).unwrap().contains("\r\nConnection: close\r\n"));
    workers.stop();
}

#[test]
fn a_request_behind_a_slow_one_goes_to_a_sibling_whole_and_with_its_waiting_time() {
    let workers = Workers::start(2, &["--threads", "1"]);
    workers.listen(0);
    let mut clients: Vec<_> = (0..3).map(|_| workers.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/0/x"), "HTTP/1.1 200 OK 0:x"));
    let mut slow = workers.connect();
    slow.send(b"GET /500/slow HTTP/1.1\r\nHost: x\r\n\r\n");
    thread::sleep(Duration::from_millis(50));
    let post = b"POST /0/p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n body";
    clients[0].send(&[&post[..], b"GET /0/behind HTTP/1.1\r\nHost: x\r\n\r\n"].concat());
    clients[1].send(b"GET /queued HTTP/1.1\r\nHost: x\r\n\r\n");
    clients[2].send(b"GET /queued HTTP/1.1\r\nHost: x\r\n\r\n");
    thread::sleep(Duration::from_millis(50));
    let began = Instant::now();
    workers.listen(1);
    assert_eq!(clients[0].respond(), "HTTP/1.1 200 OK 1:p body");
    assert_eq!(clients[0].respond(), "HTTP/1.1 200 OK 1:behind");
    for client in &mut clients[1..] {
        let queued: u64 = client.respond().rsplit(' ').next().unwrap().parse().unwrap();
        assert!((50..400).contains(&queued), "{queued}");
    }
    assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(slow.respond(), "HTTP/1.1 200 OK 0:slow");
    // They stay where they are.
    assert_eq!(clients[1].get("/0/z"), "HTTP/1.1 200 OK 1:z");
    let counters = workers.stop();
    assert_eq!((counters[0].total(Counter::PassedOn), counters[1].total(Counter::TakenOver)), (3, 3));
}

#[test]
fn a_sibling_that_says_it_is_free_and_takes_nothing_costs_a_moment() {
    let workers = Workers::start(2, &["--threads", "1"]);
    workers.listen(0);
    // As one that has been killed: it is still on the board.
    workers.board.loads[1].lock().unwrap().idle = 1;
    workers.board.ready[1].store(true, Ordering::SeqCst);
    let mut clients: Vec<_> = (0..3).map(|_| workers.connect()).collect();
    let mut slow = workers.connect();
    slow.send(b"GET /200/slow HTTP/1.1\r\nHost: x\r\n\r\n");
    thread::sleep(Duration::from_millis(20));
    let began = Instant::now();
    for client in &mut clients {
        client.send(b"GET /0/x HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    let mut late = workers.connect();
    late.send(b"GET /0/late HTTP/1.1\r\nHost: x\r\n\r\n");
    for client in &mut clients {
        assert_eq!(client.respond(), "HTTP/1.1 200 OK 0:x");
    }
    assert_eq!(late.respond(), "HTTP/1.1 200 OK 0:late");
    assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
    let counters = workers.stop();
    assert!(
        counters[0].total(Counter::PassedOn) > 0
            && counters[0].total(Counter::PassedOn) == counters[0].total(Counter::TakenOver),
        "{counters:?}"
    );
}

#[test]
fn what_cannot_be_told_again_waits_where_it_is() {
    let workers = Workers::start_all(2, &["--threads", "1", "--request-buffer", "1000"]);
    let mut clients: Vec<_> = (0..4).map(|_| workers.connect()).collect();
    // Whoever gets it: on the same worker as the slow one the other requests wait.
    clients[0].send(b"GET /300/slow HTTP/1.1\r\nHost: x\r\n\r\n");
    thread::sleep(Duration::from_millis(30));
    let chunked = b"POST /0/c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    clients[1].send(chunked);
    clients[2].send(
        format!("POST /0/b HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n{}", "y".repeat(5000))
            .as_bytes(),
    );
    clients[3].send(b"GET /0/g HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(clients[1].respond().ends_with(":cab"));
    assert!(clients[2].respond().ends_with(&"y".repeat(100)));
    assert!(clients[3].respond().ends_with(":g"));
    assert!(clients[0].respond().ends_with(":slow"));
    workers.stop();
}

#[test]
fn no_new_client_waits_behind_a_slow_call_while_a_sibling_is_free() {
    let workers = Workers::start_all(2, &["--threads", "1"]);
    for round in 0..20 {
        let mut slow = workers.connect();
        slow.send(b"GET /150/slow HTTP/1.1\r\nHost: x\r\n\r\n");
        thread::sleep(Duration::from_millis(round % 4));
        for _ in 0..5 {
            let began = Instant::now();
            assert!(workers.connect().get("/0/quick").ends_with(":quick"));
            assert!(began.elapsed() < Duration::from_millis(100), "round {round}: {:?}", began.elapsed());
        }
        assert!(slow.respond().ends_with(":slow"));
    }
    workers.stop();
}

#[test]
fn workers_get_even_shares_of_new_connections() {
    let workers = Workers::start_all(4, &["--threads", "2"]);
    let shares = || {
        let before = workers.calls();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1250).for_each(|_| drop(workers.connect().get("/0/x"))));
            }
        });
        let shares: Vec<_> =
            workers.calls().iter().zip(before).map(|(after, before)| after - before).collect();
        assert_eq!(shares.iter().sum::<usize>(), 5000);
        shares
    };
    // Another program that wants the processors makes some rounds uneven, not all.
    let mut rounds = Vec::new();
    let is_even = (0..5).any(|_| {
        rounds.push(shares());
        rounds.last().is_some_and(|shares| shares.iter().all(|&share| share <= 1500))
    });
    assert!(is_even, "{rounds:?}");
    workers.stop();
}

#[test]
fn every_request_is_answered_while_workers_come_and_go() {
    let mut workers = Workers::start(6, &["--threads", "2"]);
    workers.listen(0);
    workers.listen(1);
    let address = workers.address;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..16)
            .map(|number: u64| {
                let ended = &ended;
                scope.spawn(move || {
                    let mut client = Client::connect(address);
                    let mut round = number;
                    while !ended.load(Ordering::SeqCst) {
                        round += 1;
                        let millis = if round.is_multiple_of(13) { 40 } else { round % 2 };
                        let text = format!("{number}-{round}");
                        let response = client.get(&format!("/{millis}/{text}"));
                        assert!(response.ends_with(&format!(":{text}")), "{response}");
                        if round.is_multiple_of(29) {
                            client = Client::connect(address);
                        }
                    }
                })
            })
            .collect();
        for successor in 2..6 {
            thread::sleep(Duration::from_millis(300));
            workers.listen(successor);
            thread::sleep(Duration::from_millis(50));
            workers.retire(successor - 2);
        }
        ended.store(true, Ordering::SeqCst);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    workers.stop();
}

/// The waits of 32 clients that ask for 1 ms and, one time in twenty, for 200 ms, at 70 % of what eight threads
/// can do; 99 of 100 are shorter than what is returned.
fn high_wait(workers: &Workers) -> Duration {
    let address = workers.address;
    thread::scope(|scope| {
        for number in 0..32u64 {
            scope.spawn(move || {
                let mut random = number * 7919 + 1;
                let mut next = move || {
                    random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (random >> 33) as f64 / (1u64 << 31) as f64
                };
                let mut client = Client::connect(address);
                let end = Instant::now() + Duration::from_secs(8);
                while Instant::now() < end {
                    let millis = if next() < 0.05 { 200 } else { 1 };
                    assert!(client.get(&format!("/{millis}/x")).ends_with(":x"));
                    // 32 clients, each 1 / (11 ms + 46 ms): 560 requests a second, of 10.95 ms each.
                    thread::sleep(Duration::from_secs_f64(-0.046 * (1.0 - next()).ln()));
                }
            });
        }
    });
    let mut waits = std::mem::take(&mut *workers.waits.lock().unwrap());
    waits.sort_unstable();
    eprintln!(
        "{} requests, waits: half {:?}, nine of ten {:?}, 99 of 100 {:?}, longest {:?}",
        waits.len(),
        waits[waits.len() / 2],
        waits[waits.len() * 9 / 10],
        waits[waits.len() * 99 / 100],
        waits[waits.len() - 1]
    );
    waits[waits.len() * 99 / 100]
}

#[test]
fn four_workers_of_two_threads_are_nearly_as_good_as_one_of_eight() {
    let one = Workers::start_all(1, &["--threads", "8"]);
    let best = high_wait(&one);
    one.stop();
    let four = Workers::start_all(4, &["--threads", "2"]);
    let wait = high_wait(&four);
    eprintln!("{:?}", four.stop());
    assert!(wait < best * 3 / 2 + Duration::from_millis(10), "{wait:?} where one queue has {best:?}");
}
