//! Warming up: requests that a worker answers before it counts as ready. They go through the engine and the
//! gateway like any other, over a pair of sockets in place of a client's connection.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portico_config::{Config, Warmup};
use portico_net::Server;
use portico_server::Lending;

use crate::error::WarmUpError;

/// The longest status line that is read.
const STATUS_LINE_BYTES_MAX: usize = 4096;

/// Has each of `--warmup` answered, in their order, as if its client had connected to `server`. The threads
/// run already; the caller must not hold the interpreter.
///
/// # Errors
/// One is answered by 500 or above, or not within what is left of `--boot-timeout`.
pub fn warm_up(config: &Config, lending: &Lending, server: &Arc<Server>) -> Result<(), WarmUpError> {
    send_each(config, server, Instant::now, |warmup, host, end| send(warmup, host, lending, server, end))
}

/// As [`warm_up`]. `send` sends a request for a host, and returns its status; an error of the kind `TimedOut` if
/// there is none by the time that it is given.
fn send_each(
    config: &Config,
    server: &Server,
    now: impl Fn() -> Instant,
    mut send: impl FnMut(&Warmup, &str, Option<Instant>) -> io::Result<u16>,
) -> Result<(), WarmUpError> {
    let end = (!config.boot_timeout.is_zero()).then(|| now() + config.boot_timeout);
    for warmup in &config.warmups {
        let begun = now();
        let named = format!("the warm-up {} {}", warmup.method, warmup.target);
        let host = config.allowed_hosts.example().unwrap_or_else(|| own_host(server));
        let status = send(warmup, &host, end).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => WarmUpError(format!(
                "{named} was not answered within {} s",
                config.boot_timeout.as_secs_f64()
            )),
            _ => WarmUpError(format!("{named} failed: {error}")),
        })?;
        if status >= 500 {
            return Err(WarmUpError(format!("{named} was answered {status}")));
        }
        log::debug!(
            "Answered {named} with {status} in {} ms",
            now().saturating_duration_since(begun).as_millis()
        );
    }
    Ok(())
}

/// The host of the listener.
fn own_host(server: &Server) -> String {
    match &*server.port {
        "" => "localhost".to_owned(),
        port => format!("{}:{port}", server.name),
    }
}

/// Sends one for `host` and returns its status, once the response is complete.
fn send(
    warmup: &Warmup,
    host: &str,
    lending: &Lending,
    server: &Arc<Server>,
    end: Option<Instant>,
) -> io::Result<u16> {
    let (mut client, served) = UnixStream::pair()?;
    write!(
        client,
        "{} {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: portico-warmup\r\nConnection: close\r\n\r\n",
        warmup.method, warmup.target
    )?;
    lending.adopt(served, Arc::clone(server))?;
    let mut line = Vec::new();
    let mut block = [0; 16 * 1024];
    loop {
        client.set_read_timeout(end.map(|end| time_left(end, Instant::now())))?;
        match client.read(&mut block) {
            Ok(0) => break,
            Ok(count) => {
                let room = STATUS_LINE_BYTES_MAX.saturating_sub(line.len());
                line.extend_from_slice(&block[..count.min(room)]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    status(&line).ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "its response was cut"))
}

/// At least a moment: zero would mean no limit.
fn time_left(end: Instant, now: Instant) -> Duration {
    end.saturating_duration_since(now).max(Duration::from_millis(1))
}

/// The status of `HTTP/1.1 200 OK`.
fn status(response: &[u8]) -> Option<u16> {
    let code = response.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(code).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::thread;

    use portico_config::{WireProtocol, from_pairs};
    use portico_server::{Application, Recording, Request, Responder};

    use super::*;

    fn config(boot_timeout: u64, targets: &[&str]) -> Config {
        let warmups =
            targets.iter().map(|target| Warmup { method: "GET".to_owned(), target: (*target).to_owned() });
        let boot_timeout = Duration::from_secs(boot_timeout);
        Config { boot_timeout, warmups: warmups.collect(), threads: 1, ..Config::default() }
    }

    /// The target of a request, and the seconds that were left for it.
    type Sent = (String, Option<u64>);

    fn server(port: &str) -> Server {
        Server {
            name: "127.0.0.1".to_owned(),
            port: port.to_owned(),
            protocol: WireProtocol::Http,
            tls: false,
            proxy: None,
        }
    }

    /// Runs warm-ups that take these times and are answered so, on a clock of their own. Returns what came of it,
    /// and for each request that was sent the time left.
    fn run(config: &Config, answers: &[(u64, io::Result<u16>)]) -> (Result<(), WarmUpError>, Vec<Sent>) {
        let (start, passed, sent) = (Instant::now(), Cell::new(0), RefCell::new(Vec::new()));
        let now = || start + Duration::from_secs(passed.get());
        let mut answers = answers.iter();
        let result = send_each(config, &server("8000"), now, |warmup, host, end| {
            assert_eq!(host, "127.0.0.1:8000");
            let left = end.map(|end| time_left(end, now()).as_secs());
            sent.borrow_mut().push((warmup.target.clone(), left));
            let (time, answer) = answers.next().expect("no more is sent");
            passed.set(passed.get() + time);
            answer.as_ref().map(|status| *status).map_err(|error| error.kind().into())
        });
        (result, sent.into_inner())
    }

    fn message(result: Result<(), WarmUpError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn all_are_sent_in_order_within_one_time() {
        let (result, sent) =
            run(&config(30, &["/a", "/b", "/c"]), &[(10, Ok(200)), (5, Ok(404)), (0, Ok(302))]);
        assert_eq!(result, Ok(()));
        let expected =
            [("/a", 30), ("/b", 20), ("/c", 15)].map(|(target, left)| (target.to_owned(), Some(left)));
        assert_eq!(sent, expected);
    }

    #[test]
    fn a_server_error_ends_the_start() {
        let (result, sent) = run(&config(30, &["/a", "/b"]), &[(0, Ok(500))]);
        assert_eq!(message(result), "the warm-up GET /a was answered 500");
        assert_eq!(sent.len(), 1);
        assert_eq!(run(&config(30, &["/a"]), &[(0, Ok(499))]).0, Ok(()));
    }

    #[test]
    fn time_that_is_over_is_said_so() {
        for kind in [io::ErrorKind::TimedOut, io::ErrorKind::WouldBlock] {
            let (result, _) = run(&config(30, &["/a"]), &[(30, Err(kind.into()))]);
            assert_eq!(message(result), "the warm-up GET /a was not answered within 30 s");
        }
        let (result, _) = run(&config(30, &["/a"]), &[(0, Err(io::ErrorKind::ConnectionReset.into()))]);
        assert_eq!(message(result), "the warm-up GET /a failed: connection reset");
    }

    #[test]
    fn no_boot_timeout_is_no_limit() {
        let (result, sent) = run(&config(0, &["/a"]), &[(3600, Ok(200))]);
        assert_eq!((result, &*sent), (Ok(()), &[("/a".to_owned(), None)][..]));
    }

    #[test]
    fn a_read_always_has_a_moment() {
        let now = Instant::now();
        assert_eq!(time_left(now, now), Duration::from_millis(1), "zero would mean no limit");
        assert_eq!(time_left(now + Duration::from_secs(2), now), Duration::from_secs(2));
    }

    #[test]
    fn a_status_is_read_from_its_line_alone() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n\r\n"), Some(204));
        for cut in [&b"HTTP/1.1 20"[..], b"HTTP/1.0 200 OK", b"", b"HTTP/1.1 2x4 "] {
            assert_eq!(status(cut), None, "{}", cut.escape_ascii());
        }
    }

    #[test]
    fn a_socket_file_is_localhost() {
        assert_eq!(own_host(&server("")), "localhost");
        assert_eq!(own_host(&server("8000")), "127.0.0.1:8000");
    }

    struct Recorded(std::sync::Mutex<Vec<String>>);

    impl Application for Recorded {
        fn call(&self, request: Request, responder: Responder) {
            let host = request.head().field(b"Host").unwrap_or_default();
            let line = format!("{} of {}", request.head().path().escape_ascii(), host.escape_ascii());
            self.0.lock().unwrap().push(line);
            drop(responder); // Answered 500.
        }
    }

    #[test]
    fn a_warm_up_goes_through_the_engine() {
        let pairs =
            [("warmup", "/a"), ("threads", "1")].map(|(name, text)| (name.to_owned(), text.to_owned()));
        let config = Arc::new(from_pairs(&pairs, &|_| None).unwrap().config);
        let application = Arc::new(Recorded(std::sync::Mutex::default()));
        let lending = Lending::new(
            Arc::clone(&config),
            Recording::private(),
            Arc::clone(&application) as Arc<dyn Application>,
            None,
            None,
            None,
        );
        let lending = lending.unwrap();
        thread::scope(|scope| {
            scope.spawn(|| lending.run_thread());
            scope.spawn(|| lending.run_standby());
            let result = warm_up(&config, &lending, &Arc::new(server("8000")));
            lending.stop();
            assert_eq!(message(result), "the warm-up GET /a was answered 500");
        });
        assert_eq!(*application.0.lock().unwrap(), ["/a of 127.0.0.1:8000"]);
    }
}
