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
    let end = (!config.boot_timeout.is_zero()).then(|| Instant::now() + config.boot_timeout);
    for warmup in &config.warmups {
        let begun = Instant::now();
        let named = format!("the warm-up {} {}", warmup.method, warmup.target);
        let host = config.allowed_hosts.example().unwrap_or_else(|| own_host(server));
        let status = send(warmup, &host, lending, server, end).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => WarmUpError(format!(
                "{named} was not answered within {} s",
                config.boot_timeout.as_secs_f64()
            )),
            _ => WarmUpError(format!("{named} failed: {error}")),
        })?;
        if status >= 500 {
            return Err(WarmUpError(format!("{named} was answered {status}")));
        }
        log::debug!("Answered {named} with {status} in {} ms", begun.elapsed().as_millis());
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
        client.set_read_timeout(end.map(time_left))?;
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
fn time_left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// The status of `HTTP/1.1 200 OK`.
fn status(response: &[u8]) -> Option<u16> {
    let code = response.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(code).ok()?.parse().ok()
}
