//! What carries the bytes of a connection: a socket of its own, or a stream of the session that another connection
//! carries. Matched here, and nowhere else.
//!
//! What only a socket has (a handshake, a place in the reactor, a session) is in [`SocketIo`]: a stream has none
//! of it, and need not pretend any.

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use portico_net::{Event, Interest, Progress, Transport, write_in_turn};
use portico_proto::StreamIo;

use super::ConnectionId;
use super::session::Session;
use super::stream_io as stream;

/// What carries a connection's bytes.
#[derive(Debug)]
pub(super) enum Carrier {
    /// Its own socket.
    Socket(SocketIo),
    /// A stream of a session.
    Stream(SessionStream),
}

/// A socket, and what the engine has been told of it.
#[derive(Debug)]
pub(super) struct SocketIo {
    pub(super) transport: Transport,
    /// The session whose streams it carries, where it does.
    pub(super) session: Option<Box<Session>>,
    /// What the reactor tells of it; `None` before it has been watched for anything.
    pub(super) watched: Option<Interest>,
    /// What another thread has been told of it, still to be handled.
    pub(super) noted: Option<Event>,
    /// A header of the PROXY protocol or a handshake is still to come: nothing of a request can have.
    pub(super) is_opening: bool,
}

/// A stream of the session of another connection.
#[derive(Debug)]
pub(super) struct SessionStream {
    pub(super) io: StreamIo,
    /// Who carries it.
    pub(super) session: ConnectionId,
    /// Its number there.
    pub(super) number: u32,
}

impl Carrier {
    /// A socket of which nothing has been told.
    pub(super) fn of(transport: Transport) -> Self {
        let is_opening = transport.is_handshaking();
        Self::Socket(SocketIo { transport, session: None, watched: None, noted: None, is_opening })
    }

    /// The socket's part; `None` for a stream.
    #[inline]
    pub(super) fn socket_io(&self) -> Option<&SocketIo> {
        match self {
            Self::Socket(socket) => Some(socket),
            Self::Stream(_) => None,
        }
    }

    /// The same, to work on.
    #[inline]
    pub(super) fn socket_io_mut(&mut self) -> Option<&mut SocketIo> {
        match self {
            Self::Socket(socket) => Some(socket),
            Self::Stream(_) => None,
        }
    }

    /// The transport; `None` for a stream.
    #[inline]
    pub(super) fn transport(&self) -> Option<&Transport> {
        self.socket_io().map(|socket| &socket.transport)
    }

    /// The session that it carries.
    #[inline]
    pub(super) fn session(&self) -> Option<&Session> {
        self.socket_io().and_then(|socket| socket.session.as_deref())
    }

    /// The same, to work on.
    #[inline]
    pub(super) fn session_mut(&mut self) -> Option<&mut Session> {
        self.socket_io_mut().and_then(|socket| socket.session.as_deref_mut())
    }

    /// The stream's part; `None` for a socket.
    #[inline]
    pub(super) fn stream(&self) -> Option<&SessionStream> {
        match self {
            Self::Socket(_) => None,
            Self::Stream(stream) => Some(stream),
        }
    }

    /// The descriptor to be watched; none of a stream.
    #[inline]
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.transport().and_then(Transport::socket)
    }

    /// As [`Transport::can_be_handed_over`].
    #[inline]
    pub(super) fn can_be_handed_over(&self) -> bool {
        self.transport().is_some_and(Transport::can_be_handed_over)
    }

    /// Whether something comes before its first request: a header of the PROXY protocol, a handshake.
    #[inline]
    pub(super) fn is_opening(&self) -> bool {
        self.socket_io().is_some_and(|socket| socket.is_opening)
    }

    /// As [`Transport::is_emptied_by_short_read`].
    #[inline]
    pub(super) fn is_emptied_by_short_read(&self) -> bool {
        self.transport().is_some_and(Transport::is_emptied_by_short_read)
    }

    /// As [`Transport::is_owing`].
    #[inline]
    pub(super) fn is_owing(&self) -> bool {
        self.transport().is_some_and(Transport::is_owing)
    }

    /// As [`Transport::settle`].
    #[inline]
    pub(super) fn settle(&mut self) -> Progress {
        match self {
            Self::Socket(socket) => socket.transport.settle(),
            Self::Stream(_) => Progress::Bytes(0),
        }
    }

    /// Reads into `buffer` what is there. `Bytes(0)` only at the end of a stream's body.
    #[inline]
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Progress {
        match self {
            Self::Socket(socket) => socket.transport.read(buffer),
            Self::Stream(stream) => stream::read(&stream.io, buffer),
        }
    }

    /// Writes what is taken of `bytes`.
    #[inline]
    pub(super) fn write(&mut self, bytes: &[u8]) -> Progress {
        match self {
            Self::Socket(socket) => socket.transport.write(bytes),
            Self::Stream(stream) => stream::write(&stream.io, bytes),
        }
    }

    /// Writes what is taken of several pieces, in their order.
    #[inline]
    pub(super) fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> Progress {
        match self {
            Self::Socket(socket) => socket.transport.write_vectored(pieces),
            Self::Stream(stream) => write_in_turn(pieces, |piece| stream::write(&stream.io, piece)),
        }
    }

    /// Sends up to `count` bytes of `file` from `offset` on; `Closed` also where the file is shorter.
    pub(super) fn send_file(&mut self, file: &File, offset: u64, count: usize) -> Progress {
        match self {
            Self::Socket(socket) => socket.transport.send_file(file, offset, count),
            Self::Stream(stream) => stream::send_file(&stream.io, file, offset, count),
        }
    }

    /// As [`Transport::acknowledged`]. Of a stream it is what all streams of its session have been able to write:
    /// they share the peer's window.
    pub(super) fn acknowledged(&self, written: u64) -> i64 {
        match self {
            Self::Socket(socket) => socket.transport.acknowledged(written),
            Self::Stream(stream) => stream.io.session_bytes() as i64,
        }
    }

    /// As [`Transport::has_delivered`]; of a stream of HTTP/2: whether its session has it among what is to be
    /// written next.
    pub(super) fn has_delivered(&self) -> bool {
        match self {
            Self::Socket(socket) => socket.transport.has_delivered(),
            Self::Stream(stream) => stream.io.is_written(),
        }
    }

    /// Neither TLS nor a session, which have buffers of their own.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        match self {
            Self::Socket(socket) => {
                matches!(socket.transport, Transport::Tcp(_) | Transport::Unix(_)) && socket.session.is_none()
            }
            Self::Stream(_) => true,
        }
    }

    /// Memory that it takes beside itself, its session's included.
    pub(super) fn memory_bytes(&self) -> usize {
        self.socket_io().map_or(0, |socket| {
            socket.transport.memory_bytes()
                + socket.session.as_ref().map_or(0, |session| session.memory_bytes())
        })
    }

    /// Bytes that have come on a stream and not been read.
    pub(super) fn unread_bytes(&self) -> usize {
        self.stream().map_or(0, |stream| stream.io.unread_bytes())
    }

    /// As [`Transport::is_peer_gone`]; of a stream: whether it has been reset, or its session has ended.
    pub(super) fn is_peer_gone(&self, fin_counts: bool) -> bool {
        match self {
            Self::Socket(socket) => socket.transport.is_peer_gone(fin_counts),
            Self::Stream(stream) => stream.io.is_gone(),
        }
    }

    /// Ends it so that the peer cannot take a cut response for a whole one.
    pub(super) fn reset(&self) {
        match self {
            Self::Socket(socket) => socket.transport.reset(),
            Self::Stream(stream) => stream.io.cut(),
        }
    }

    /// Ends the connection as it should end, for it is about to be closed. A stream has ended with its response.
    pub(super) fn end(&mut self) {
        if let Self::Socket(socket) = self {
            socket.transport.send_close_notify();
            socket.transport.shut_down();
        }
    }

    /// As [`Transport::shutdown_write`].
    pub(super) fn shutdown_write(&mut self) {
        if let Self::Socket(socket) = self {
            socket.transport.shutdown_write();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use portico_proto::fastcgi;

    use super::*;

    #[test]
    fn a_stream_has_nothing_that_only_sockets_have() {
        let mut alone = fastcgi::Connection::default();
        let (number, io) = fastcgi::Session::new(&fastcgi::Settings { connections_max: 1, requests_max: 1 })
            .adopt(&mut alone);
        let session = ConnectionId { index: 3, generation: 4 };
        let mut stream = Carrier::Stream(SessionStream { io: StreamIo::Fastcgi(io), session, number });
        assert!(stream.socket_io().is_none() && stream.socket().is_none() && stream.session().is_none());
        assert!(!stream.is_opening() && !stream.is_owing() && !stream.can_be_handed_over());
        assert!(stream.is_plain(), "what its session holds is counted there");
        assert_eq!(stream.stream().map(|stream| stream.session), Some(session));
        stream.end(); // Ends nothing: the session goes on.
        assert!(!stream.is_peer_gone(true));
    }

    #[test]
    fn a_socket_is_no_stream() {
        let (ours, _client) = UnixStream::pair().unwrap();
        let socket = Carrier::of(Transport::Unix(ours.into()));
        assert!(socket.stream().is_none() && socket.socket().is_some() && socket.session().is_none());
        assert!(socket.socket_io().is_some_and(|socket| socket.watched.is_none() && socket.noted.is_none()));
        assert_eq!(socket.unread_bytes(), 0);
    }
}
