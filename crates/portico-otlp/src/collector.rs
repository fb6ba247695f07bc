//! The connection to the collector: one request at a time, within a time, on a socket that blocks.
//!
//! Each wait is cut into slices, between which the end of the worker is noticed. The time of a request is that of
//! all its parts together: a collector that sends a byte now and then gains nothing by it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use portico_config::TraceSettings;
use portico_os::above_standard;
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustls::{ClientConnection, StreamOwned};

use crate::http::{Response, ResponseError, read_response, request_head};
use crate::trust::CollectorTls;

/// A collector, and the connection to it if there is one. The sender's thread alone has it.
pub(crate) struct Collector {
    settings: TraceSettings,
    tls: Option<CollectorTls>,
    connection: Option<Connection>,
    /// When everything is to be over, once the worker ends.
    end: Arc<OnceLock<Instant>>,
}

/// The reason why a collector has not taken a message.
#[derive(Debug)]
pub(crate) enum ExportError {
    /// There is no connection to it.
    Unreachable(io::Error),
    /// There is no response of it.
    NoResponse(ResponseError),
    /// The time of the request was over.
    Timeout(Duration),
}

/// An open connection.
struct Connection {
    stream: Stream,
    /// Device and inode of its socket.
    identity: (u64, u64),
    used_at: Instant,
}

enum Stream {
    Plain(TimedSocket),
    Tls(Box<StreamOwned<ClientConnection, TimedSocket>>),
}

/// A socket whose every wait ends at one time.
struct TimedSocket {
    socket: TcpStream,
    until: Instant,
    end: Arc<OnceLock<Instant>>,
}

/// Longest wait for an address of the collector's.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Longest wait without a look at whether the worker ends.
const SLICE: Duration = Duration::from_millis(100);

/// A connection that was not used for this long is made anew: collectors and what is between close idle ones, and
/// some do not say so.
const IDLE_MAX: Duration = Duration::from_secs(30);

impl Collector {
    /// That of these settings; nothing is sent yet. After `end`, once it is set, nothing is waited for.
    ///
    /// # Errors
    /// There is no certificate to trust.
    pub(crate) fn new(settings: TraceSettings, end: Arc<OnceLock<Instant>>) -> io::Result<Self> {
        let tls = CollectorTls::new(&settings)?;
        Ok(Self { settings, tls, connection: None, end })
    }

    /// Sends a message and reads the response.
    ///
    /// # Errors
    /// There is no response.
    pub(crate) fn post(&mut self, message: &[u8]) -> Result<Response, ExportError> {
        let timeout = self.settings.timeout;
        let until = Instant::now() + timeout;
        loop {
            let (mut connection, is_new) = match self.reusable() {
                Some(connection) => (connection, false),
                None => (self.connect(until).map_err(|error| unreachable(error, timeout))?, true),
            };
            match connection.exchange(&self.settings, message, until) {
                Ok(response) => {
                    if response.keeps_alive {
                        connection.used_at = Instant::now();
                        self.connection = Some(connection);
                    } else {
                        connection.close();
                    }
                    return Ok(response);
                }
                // The collector may have closed it before this request came: it is sent again, once.
                Err(error) if !is_new && is_stale(&error) => connection.close(),
                Err(error) => {
                    connection.close();
                    return Err(match error {
                        ResponseError::Io(error) if is_timeout(&error) => ExportError::Timeout(timeout),
                        error => ExportError::NoResponse(error),
                    });
                }
            }
        }
    }

    /// Ends the connection.
    pub(crate) fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close();
        }
    }

    /// The connection of the last request, if it can be used.
    fn reusable(&mut self) -> Option<Connection> {
        let connection = self.connection.take()?;
        if !connection.is_intact() {
            connection.forget();
            return None;
        }
        if connection.used_at.elapsed() > IDLE_MAX || !connection.is_quiet() {
            connection.close();
            return None;
        }
        Some(connection)
    }

    fn connect(&self, until: Instant) -> io::Result<Connection> {
        let address = (self.settings.collector.host.as_str(), self.settings.collector.port);
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
        for address in address.to_socket_addrs()?.take(ADDRESSES_MAX) {
            let left = left(until, &self.end)?;
            match TcpStream::connect_timeout(&address, left.min(CONNECT_TIMEOUT)) {
                Ok(socket) => return self.begin(socket, until),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn begin(&self, socket: TcpStream, until: Instant) -> io::Result<Connection> {
        let socket = TcpStream::from(above_standard(OwnedFd::from(socket))?);
        // One write is one message: nothing is to wait for more.
        socket.set_nodelay(true)?;
        let identity = identity(&socket)?;
        let socket = TimedSocket { socket, until, end: Arc::clone(&self.end) };
        let stream = match &self.tls {
            None => Stream::Plain(socket),
            Some(CollectorTls { config, name }) => {
                let session =
                    ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
                Stream::Tls(Box::new(StreamOwned::new(session, socket)))
            }
        };
        Ok(Connection { stream, identity, used_at: Instant::now() })
    }
}

impl Connection {
    fn exchange(
        &mut self,
        settings: &TraceSettings,
        message: &[u8],
        until: Instant,
    ) -> Result<Response, ResponseError> {
        self.stream.socket_mut().until = until;
        let mut head = request_head(settings, message.len());
        head.extend_from_slice(message);
        self.stream.write_all(&head)?;
        self.stream.flush()?;
        read_response(&mut self.stream)
    }

    /// Whether its descriptor is still its own: an application that closes others' may have closed it, and a
    /// client may have the number by now.
    fn is_intact(&self) -> bool {
        identity(&self.stream.socket().socket).is_ok_and(|identity| identity == self.identity)
    }

    /// Whether nothing has come since the last response: not its end, nor bytes that would be taken for the next
    /// one.
    fn is_quiet(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(recv(&self.stream.socket().socket, &mut [0u8; 1][..], flags), Err(Errno::AGAIN))
    }

    /// Ends it, also where a process that the application has forked has it too.
    fn close(self) {
        if self.is_intact() {
            let _ = self.stream.socket().socket.shutdown(Shutdown::Both);
        } else {
            self.forget();
        }
    }

    /// Leaves its descriptor to whoever has it now.
    fn forget(self) {
        let socket = match self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.into_parts().1,
        };
        let _ = socket.socket.into_raw_fd();
    }
}

impl Stream {
    fn socket(&self) -> &TimedSocket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref(),
        }
    }

    fn socket_mut(&mut self) -> &mut TimedSocket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_mut(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => match stream.read(buffer) {
                // Collectors that do not say goodbye: what is cut short is known by its framing.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                read => read,
            },
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl TimedSocket {
    /// Has `work` done again until it is done or the time is over.
    fn within<T>(&mut self, work: impl Fn(&mut TcpStream) -> io::Result<T>) -> io::Result<T> {
        loop {
            let slice = left(self.until, &self.end)?.min(SLICE);
            self.socket.set_read_timeout(Some(slice))?;
            self.socket.set_write_timeout(Some(slice))?;
            match work(&mut self.socket) {
                Err(error) if is_timeout(&error) || error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl Read for TimedSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let buffer = std::cell::RefCell::new(buffer);
        self.within(|socket| socket.read(&mut buffer.borrow_mut()))
    }
}

impl Write for TimedSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.within(|socket| socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// What is left until `until`, or until the worker's end.
fn left(until: Instant, end: &OnceLock<Instant>) -> io::Result<Duration> {
    let until = end.get().map_or(until, |end| until.min(*end));
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn is_timeout(error: &io::Error) -> bool {
    // What a socket says whose time is over depends on the system.
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

/// Whether a connection that has been used before fails so because its other end has closed it meanwhile.
fn is_stale(error: &ResponseError) -> bool {
    match error {
        ResponseError::Closed => true,
        ResponseError::Io(error) => {
            matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
        }
        ResponseError::NotHttp => false,
    }
}

fn unreachable(error: io::Error, timeout: Duration) -> ExportError {
    // An address that has not answered in its share of the time is not the request's time.
    if is_timeout(&error) && timeout <= CONNECT_TIMEOUT {
        ExportError::Timeout(timeout)
    } else {
        ExportError::Unreachable(error)
    }
}

fn identity(socket: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = fstat(socket)?;
    Ok((stat.st_dev, stat.st_ino))
}

impl fmt::Display for ExportError {
    /// The end of a sentence that begins with the collector.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "cannot be reached: {error}"),
            Self::NoResponse(ResponseError::Io(error))
                if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) =>
            {
                write!(
                    f,
                    "has failed the TLS handshake: {error} (if it speaks no TLS, write http://; if it has an \
                     authority of your own, name that in OTEL_EXPORTER_OTLP_CERTIFICATE)"
                )
            }
            Self::NoResponse(error) => error.fmt(f),
            Self::Timeout(timeout) => {
                write!(f, "has not answered within {} s (OTEL_EXPORTER_OTLP_TIMEOUT)", timeout.as_secs_f64())
            }
        }
    }
}
