//! Messages to syslog, in the form that Python's `SysLogHandler` and so gunicorn gives them. Nothing waits for it:
//! what it does not take is lost.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portico_config::{Endpoint, SyslogSettings, SyslogTransport};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::statsd::{address, udp_socket};

/// A sender of messages to syslog, owned by one thread. It never waits for the receiver.
#[derive(Debug)]
pub struct Syslog {
    way: Way,
    facility: u8,
    tag: String,
    message: Vec<u8>,
}

/// The severity of a message (RFC 3164, section 4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it all")]
pub enum Severity {
    Error = 3,
    Warning = 4,
    Info = 6,
    Debug = 7,
}

/// The socket that messages are sent by, and what it takes to connect it again. Owned by one sender; a receiver
/// that does not read loses messages and must never hold up a thread.
#[derive(Debug)]
enum Way {
    Udp(UdpSocket, SocketAddr),
    /// `true` while it is not known whether the socket is not one for streams.
    UnixDatagram(UnixDatagram, PathBuf, bool),
    Stream(SyslogStream),
}

/// Messages one after the other, over a connection that is made, and made again, without waiting for it.
#[derive(Debug)]
struct SyslogStream {
    peer: SockAddr,
    socket: Option<Socket>,
    /// Messages that wait; of the first, `sent` bytes are gone.
    waiting: VecDeque<Vec<u8>>,
    sent: usize,
    bytes: usize,
    retry_at: Option<Instant>,
    /// The process that has made the connection: one that it has forked makes its own.
    owner: u32,
}

/// Longest text of one message; what is longer is cut.
const TEXT_BYTES_MAX: usize = 32 * 1024;

/// Bytes that wait for a connection.
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// Between two attempts to connect.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

impl Syslog {
    /// A sender of the log called `log`: `access` or `error`; `None` where the settings turn it off. Looks a
    /// host's name up, which may take a while.
    ///
    /// # Errors
    /// The name has no address, or the kernel no socket.
    pub fn open(settings: &SyslogSettings, app: Option<&str>, log: &str) -> io::Result<Option<Self>> {
        if !settings.on {
            return Ok(None);
        }
        let stream = settings.transport == Some(SyslogTransport::Stream);
        let way = match &settings.endpoint {
            Endpoint::Inet { host, port } => {
                let address = address(host, *port)?;
                match stream {
                    true => Way::Stream(SyslogStream::new(address.into())),
                    false => Way::Udp(udp_socket(&address)?, address),
                }
            }
            Endpoint::Unix(path) if stream => Way::Stream(SyslogStream::new(SockAddr::unix(path)?)),
            Endpoint::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                Way::UnixDatagram(socket, path.clone(), settings.transport.is_none())
            }
        };
        let name = match &settings.prefix {
            Some(prefix) => prefix.clone(),
            None => app.unwrap_or("portico").replace(':', "."),
        };
        let tag = format!("gunicorn.{name}.{log}");
        Ok(Some(Self { way, facility: settings.facility, tag, message: Vec::new() }))
    }

    /// Sends `text`, of the process `pid`.
    pub fn send(&mut self, severity: Severity, pid: u32, text: &[u8]) {
        let text = &text[..text.len().min(TEXT_BYTES_MAX)];
        self.message.clear();
        let priority = self.facility << 3 | severity as u8;
        let _ = write!(self.message, "<{priority}>{}: [{pid}] ", self.tag);
        self.message.extend_from_slice(text);
        if let Way::UnixDatagram(socket, path, undecided @ true) = &mut self.way {
            match socket.connect(&path) {
                Err(error) if error.raw_os_error() == Some(WRONG_TYPE) => {
                    let Ok(peer) = SockAddr::unix(&path) else { return };
                    self.way = Way::Stream(SyslogStream::new(peer));
                }
                connected => *undecided = connected.is_err(),
            }
        }
        match &mut self.way {
            Way::Udp(socket, address) => {
                self.message.push(0);
                let _ = socket.send_to(&self.message, *address);
            }
            Way::UnixDatagram(socket, path, _) => {
                self.message.push(0);
                let _ = send_to(socket, &self.message, path);
            }
            Way::Stream(stream) => stream.send(&self.message, pid),
        }
    }

    /// Goes on with what could not be sent.
    pub fn proceed(&mut self) {
        if let Way::Stream(stream) = &mut self.way {
            stream.proceed();
        }
    }

    /// Whether something waits to be sent.
    pub fn is_waiting(&self) -> bool {
        matches!(&self.way, Way::Stream(stream) if !stream.waiting.is_empty())
    }
}

/// What connecting a socket for datagrams to one for streams gives.
const WRONG_TYPE: i32 = rustix::io::Errno::PROTOTYPE.raw_os_error();

/// A socket that was connected once may have lost its peer to another one of the same name.
fn send_to(socket: &UnixDatagram, message: &[u8], path: &Path) -> io::Result<usize> {
    match socket.send_to(message, path) {
        Err(error)
            if error.kind() == ErrorKind::ConnectionRefused || error.kind() == ErrorKind::NotConnected =>
        {
            socket.connect(path)?;
            socket.send(message)
        }
        sent => sent,
    }
}

impl SyslogStream {
    fn new(peer: SockAddr) -> Self {
        Self {
            peer,
            socket: None,
            waiting: VecDeque::new(),
            sent: 0,
            bytes: 0,
            retry_at: None,
            owner: std::process::id(),
        }
    }

    fn send(&mut self, message: &[u8], pid: u32) {
        if self.owner != pid {
            *self = Self::new(self.peer.clone());
        }
        if self.bytes + message.len() > WAITING_BYTES_MAX {
            return self.proceed();
        }
        // A line end ends a message: those within it go as rsyslog writes them.
        let mut line = Vec::with_capacity(message.len() + 1);
        for (index, part) in message.split(|byte| *byte == b'\n').enumerate() {
            line.extend_from_slice(if index > 0 { b"#012" } else { b"" });
            line.extend_from_slice(part);
        }
        line.push(b'\n');
        self.bytes += line.len();
        self.waiting.push_back(line);
        self.proceed();
    }

    fn proceed(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        if self.socket.is_none() {
            let now = Instant::now();
            if self.retry_at.is_some_and(|at| now < at) {
                return;
            }
            self.retry_at = Some(now + RETRY_INTERVAL);
            self.socket = self.connect().ok();
        }
        let Some(socket) = &mut self.socket else { return };
        while let Some(line) = self.waiting.front() {
            match socket.write(&line[self.sent..]) {
                Ok(count) if self.sent + count == line.len() => {
                    (self.sent, self.bytes) = (0, self.bytes - line.len());
                    self.waiting.pop_front();
                }
                Ok(count) => self.sent += count,
                // NotConnected: it is being made.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    // What had gone of the first message is lost with the connection: it goes again.
                    (self.socket, self.sent) = (None, 0);
                    return;
                }
            }
        }
    }

    fn connect(&self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::from(i32::from(self.peer.family())), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&self.peer) {
            Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => Ok(socket),
            connected => connected.map(|()| socket),
        }
    }
}

/// The connection is being made.
const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn settings(endpoint: Endpoint, transport: Option<SyslogTransport>) -> SyslogSettings {
        SyslogSettings { on: true, endpoint, transport, facility: 19, ..SyslogSettings::default() }
    }

    fn inet(port: u16) -> Endpoint {
        Endpoint::Inet { host: "127.0.0.1".to_owned(), port }
    }

    #[test]
    fn a_message_is_a_datagram_as_gunicorns() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let settings = settings(inet(receiver.local_addr().unwrap().port()), Some(SyslogTransport::Datagram));
        let mut syslog = Syslog::open(&settings, Some("shop.wsgi:app"), "access").unwrap().unwrap();
        syslog.send(Severity::Info, 7, b"line\nbehind");
        let mut buffer = [0; 256];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"<158>gunicorn.shop.wsgi.app.access: [7] line\nbehind\0");
        syslog.send(Severity::Error, 7, &[b'a'; 100_000]);
        let mut buffer = vec![0; 200_000];
        assert!(receiver.recv(&mut buffer).unwrap() < 33_000);
        assert!(Syslog::open(&SyslogSettings::default(), None, "error").unwrap().is_none());
    }

    #[test]
    fn a_stream_is_made_again_and_keeps_what_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let settings = settings(inet(listener.local_addr().unwrap().port()), Some(SyslogTransport::Stream));
        let mut syslog = Syslog::open(&settings, None, "error").unwrap().unwrap();
        let pid = std::process::id();
        syslog.send(Severity::Warning, pid, b"one\ntwo");
        let (mut peer, _) = listener.accept().unwrap();
        while syslog.is_waiting() {
            syslog.proceed();
        }
        let expected = format!("<156>gunicorn.portico.error: [{pid}] one#012two\n");
        let mut received = vec![0; expected.len()];
        peer.read_exact(&mut received).unwrap();
        assert_eq!(String::from_utf8(received).unwrap(), expected);
        drop(peer);
        listener.set_nonblocking(true).unwrap();
        let next = loop {
            // The first one after the end may still seem to go.
            syslog.send(Severity::Warning, pid, b"three");
            std::thread::sleep(Duration::from_millis(20));
            if let Ok((next, _)) = listener.accept() {
                break next;
            }
        };
        next.set_nonblocking(false).unwrap();
        let mut received = vec![0; 6];
        (&next).read_exact(&mut received).unwrap();
        assert_eq!(received, b"<156>g");
    }

    #[test]
    fn a_unix_socket_is_tried_as_both_kinds() {
        let folder = tempfile::tempdir().unwrap();
        let (datagrams, streams) = (folder.path().join("datagrams"), folder.path().join("streams"));
        let mut early =
            Syslog::open(&settings(Endpoint::Unix(datagrams.clone()), None), None, "a").unwrap().unwrap();
        early.send(Severity::Debug, 1, b"nobody is there");
        let receiver = UnixDatagram::bind(&datagrams).unwrap();
        early.send(Severity::Debug, 1, b"b");
        let mut buffer = [0; 256];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"<159>gunicorn.portico.a: [1] b\0");
        drop(receiver);
        std::fs::remove_file(&datagrams).unwrap();
        let receiver = UnixDatagram::bind(&datagrams).unwrap();
        early.send(Severity::Debug, 1, b"c");
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"<159>gunicorn.portico.a: [1] c\0");

        let listener = UnixListener::bind(&streams).unwrap();
        let mut syslog = Syslog::open(&settings(Endpoint::Unix(streams), None), None, "a").unwrap().unwrap();
        syslog.send(Severity::Info, std::process::id(), b"b");
        let (mut peer, _) = listener.accept().unwrap();
        assert!(!syslog.is_waiting());
        let length = peer.read(&mut buffer).unwrap();
        assert!(buffer[..length].ends_with(b" b\n"));
    }

    #[test]
    fn what_waits_for_a_stream_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::Unix(folder.path().join("none"));
        let settings = settings(endpoint, Some(SyslogTransport::Stream));
        let mut syslog = Syslog::open(&settings, None, "error").unwrap().unwrap();
        (0..1000).for_each(|_| syslog.send(Severity::Info, std::process::id(), &[b'a'; 1000]));
        let Way::Stream(stream) = &syslog.way else { panic!("it is a stream") };
        assert!(stream.bytes <= WAITING_BYTES_MAX && stream.bytes > WAITING_BYTES_MAX - 2000);
    }
}
