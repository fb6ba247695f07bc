//! An application with a lock like CPython's: threads hold it but for their blocking waits. Whatever a call does
//! with the lock, the engine goes on.
#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

#[expect(dead_code, reason = "each test uses its part")]
mod support;

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use portico_server::{Application, Request, Responder};
use support::{TestServer, head};

#[derive(Clone, Default)]
struct Interpreter {
    taken: Arc<(Mutex<bool>, Condvar)>,
}

impl Interpreter {
    fn attach(&self) {
        let (taken, freed) = &*self.taken;
        let mut taken = freed.wait_while(taken.lock().unwrap(), |taken| *taken).unwrap();
        *taken = true;
    }

    fn detach(&self) {
        *self.taken.0.lock().unwrap() = false;
        self.taken.1.notify_one();
    }
}

impl Application for Interpreter {
    /// `/hold/MS` sleeps with the lock, `/wait/MS` without.
    fn call(&self, request: Request, responder: Responder) {
        let path = String::from_utf8(request.head().path().to_vec()).unwrap();
        let time = Duration::from_millis(path.rsplit('/').next().unwrap().parse().unwrap());
        match path.starts_with("/hold") {
            true => thread::sleep(time),
            false => self.blocking(&mut || thread::sleep(time)),
        }
        responder.respond(&head(2), b"ok");
    }

    fn blocking(&self, wait: &mut (dyn FnMut() + Send)) {
        self.detach();
        wait();
        self.attach();
    }
}

fn start(interpreter: &Interpreter, arguments: &[&str]) -> TestServer {
    let threads_interpreter = interpreter.clone();
    TestServer::start_around(interpreter.clone(), arguments, move |run| {
        threads_interpreter.attach();
        run();
        threads_interpreter.detach();
    })
}

/// A request that the engine answers by itself.
fn assert_engine_answers(server: &TestServer) {
    let began = Instant::now();
    let mut client = server.connect();
    client.send(b"GET / HTTP/1.1\r\n\r\n");
    assert!(client.rest().starts_with(b"HTTP/1.1 400 "));
    assert!(began.elapsed() < Duration::from_millis(150), "{:?}", began.elapsed());
}

#[test]
fn a_call_that_holds_the_lock_stops_calls_and_nothing_else() {
    let server = start(&Interpreter::default(), &["--threads", "3"]);
    for round in 0..6 {
        let mut holder = server.connect();
        holder.send(b"GET /hold/400 HTTP/1.1\r\nHost: x\r\n\r\n");
        thread::sleep(Duration::from_millis(round));
        let mut others = [server.connect(), server.connect(), server.connect()];
        for other in &mut others {
            other.send(b"GET /wait/0 HTTP/1.1\r\nHost: x\r\n\r\n");
            thread::sleep(Duration::from_millis(5));
            assert_engine_answers(&server);
        }
        assert_eq!(holder.respond(), "HTTP/1.1 200 OK ok");
        for other in &mut others {
            assert_eq!(other.respond(), "HTTP/1.1 200 OK ok");
        }
    }
    server.stop();
}

#[test]
fn idle_threads_and_closed_connections_leave_the_lock_alone() {
    let interpreter = Interpreter::default();
    let server = start(&interpreter, &["--threads", "4", "--keep-alive", "0.1"]);
    for _ in 0..20 {
        let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.send(b"GET /wait/1 HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        clients.iter_mut().for_each(|client| assert_eq!(client.respond(), "HTTP/1.1 200 OK ok"));
        clients.truncate(4);
        assert_eq!(clients[0].rest(), b"", "closed after the keep-alive time");
        // The lock is free: nobody holds it while there is nothing to call.
        let began = Instant::now();
        interpreter.attach();
        assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
        interpreter.detach();
    }
    server.stop();
}
