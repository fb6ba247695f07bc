//! The byte pipe to one peer. What carries the bytes (tcp, unix, tls) is matched here and nowhere else.

mod proxied;
mod tcp;
mod tls;
mod unix;
mod unsent;

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use portico_proto::{Peer, ProxyVersions};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

use crate::tls::{Acceptor, TlsClient};
use proxied::Proxied;
pub(crate) use proxied::ProxyResult;
use tls::Tls;

/// An accepted, non-blocking stream socket, with the layers that the listener asks for. Its connection owns it and
/// closes it by dropping it. It moves bytes: it never waits, and knows no protocol above TLS.
#[derive(Debug)]
pub enum Transport {
    /// TCP over IPv4 or IPv6.
    Tcp(OwnedFd),
    /// UNIX stream socket.
    Unix(OwnedFd),
    /// TLS over either.
    Tls(Box<Tls>),
    /// Any of these, once the peer has said whom it speaks for.
    Proxied(Box<Proxied>),
}

/// The outcome of one read or write, which never waits. Errors of the socket are `Closed`: nobody above tells them
/// apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This many bytes, at least one; none only at the end of the body on a stream of HTTP/2 or FastCGI.
    Bytes(usize),
    /// Nothing now: wait for readiness.
    Blocked,
    /// The peer has ended its side, or the connection has failed.
    Closed,
}

impl Transport {
    /// Accepts the next connection that waits on `listener`; `None` if none waits.
    ///
    /// # Errors
    /// The kernel's, among them `EMFILE` and `ENFILE`.
    pub fn accept(listener: BorrowedFd<'_>, is_unix: bool) -> io::Result<Option<(Self, Peer)>> {
        loop {
            let accepted = if is_unix { unix::accept(listener) } else { tcp::accept(listener) };
            match accepted {
                Ok(accepted) => return Ok(Some(accepted)),
                // The peer has gone while it waited: the next one, please.
                Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The socket of a connection that another process has accepted.
    pub fn from_socket(socket: OwnedFd, is_unix: bool) -> Self {
        if is_unix { Self::Unix(socket) } else { Self::Tcp(socket) }
    }

    /// Whether its bytes go over a UNIX socket, whomever the peer speaks for.
    #[inline]
    pub fn is_unix(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(_) | Self::Tls(_) => false,
            Self::Proxied(proxied) => proxied.inner().is_some_and(Self::is_unix),
        }
    }

    /// The same with TLS on top, of which nothing has been spoken yet.
    pub fn secure(self, acceptor: Arc<Acceptor>) -> Self {
        match self {
            Self::Tcp(socket) | Self::Unix(socket) => Self::Tls(Box::new(Tls::new(socket, acceptor))),
            Self::Tls(_) | Self::Proxied(_) => self,
        }
    }

    /// The same, of which nothing can be read before a header of the PROXY protocol.
    pub fn await_header(self, versions: ProxyVersions) -> Self {
        Self::Proxied(Box::new(Proxied::new(self, versions)))
    }

    /// Whether a header of the PROXY protocol is still to come.
    #[inline]
    pub fn awaits_header(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Tls(_) => false,
            Self::Proxied(proxied) => proxied.inner().is_none(),
        }
    }

    /// What the peer has said of whom it speaks for: once, and only where that is awaited.
    #[inline]
    pub fn take_header(&mut self) -> Option<ProxyResult> {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Tls(_) => None,
            Self::Proxied(proxied) => proxied.take_found(),
        }
    }

    /// Whether another process could go on with it: its state is all in the kernel.
    #[inline]
    pub fn can_be_handed_over(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => true,
            Self::Tls(_) => false,
            Self::Proxied(proxied) => proxied.inner().is_some_and(Self::can_be_handed_over),
        }
    }

    /// Whether nothing can be read before a handshake is done.
    #[inline]
    pub fn is_handshaking(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Tls(tls) => tls.client().is_none() && !tls.is_plain_http(),
            Self::Proxied(proxied) => proxied.inner().is_none_or(Self::is_handshaking),
        }
    }

    /// Whether the peer was to speak TLS and does not: what it is told, it is told in the clear.
    #[inline]
    pub fn is_plain_http(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Tls(tls) => tls.is_plain_http(),
            Self::Proxied(proxied) => proxied.inner().is_some_and(Self::is_plain_http),
        }
    }

    /// Whether a handshake was begun by the peer and is not done, or what it has sent began none.
    pub fn has_broken_handshake(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Tls(tls) => tls.client().is_none() && tls.has_begun(),
            Self::Proxied(proxied) => proxied.inner().is_some_and(Self::has_broken_handshake),
        }
    }

    /// The client of a handshake that is done.
    #[inline]
    pub fn tls_client(&self) -> Option<&Arc<TlsClient>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::Tls(tls) => tls.client(),
            Self::Proxied(proxied) => proxied.inner().and_then(Self::tls_client),
        }
    }

    /// The descriptor to be watched.
    #[inline]
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tcp(socket) | Self::Unix(socket) => Some(socket.as_fd()),
            Self::Tls(tls) => Some(tls.as_fd()),
            Self::Proxied(proxied) => proxied.socket(),
        }
    }

    /// Whether a read that got fewer bytes than there was room for has left nothing behind: an edge will tell of
    /// more.
    #[inline]
    pub fn is_emptied_by_short_read(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => true,
            Self::Tls(tls) => tls.is_drained(),
            Self::Proxied(proxied) => proxied.inner().is_some_and(Self::is_emptied_by_short_read),
        }
    }

    /// Whether it has taken bytes that are still to be written: readiness is to be waited for, and then
    /// [`Transport::settle`] called.
    #[inline]
    pub fn is_owing(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Tls(tls) => tls.is_owing(),
            Self::Proxied(proxied) => proxied.inner().is_some_and(Self::is_owing),
        }
    }

    /// Writes what it owes: `Bytes(0)` when that is all written.
    #[inline]
    pub fn settle(&mut self) -> Progress {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Progress::Bytes(0),
            Self::Tls(tls) => tls.settle(),
            Self::Proxied(proxied) => proxied.inner_mut().map_or(Progress::Bytes(0), Self::settle),
        }
    }

    /// Reads into `buffer` what is there.
    #[inline]
    pub fn read(&mut self, buffer: &mut [u8]) -> Progress {
        match self {
            Self::Tcp(socket) | Self::Unix(socket) => read(socket.as_fd(), buffer),
            Self::Tls(tls) => tls.read(buffer),
            Self::Proxied(proxied) => proxied.read(buffer),
        }
    }

    /// Writes what the kernel takes of `bytes`. TLS may take more of them than are written: see
    /// [`Transport::is_owing`].
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Progress {
        match self {
            Self::Tcp(socket) | Self::Unix(socket) => write(socket.as_fd(), bytes),
            Self::Tls(tls) => tls.write(bytes),
            Self::Proxied(proxied) => {
                proxied.inner_mut().map_or(Progress::Closed, |inner| inner.write(bytes))
            }
        }
    }

    /// Writes what the kernel takes of several pieces, in their order.
    #[inline]
    pub fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> Progress {
        match self {
            Self::Tcp(socket) | Self::Unix(socket) => write_vectored(socket.as_fd(), pieces),
            Self::Tls(tls) => write_in_turn(pieces, |piece| tls.write(piece)),
            Self::Proxied(proxied) => {
                proxied.inner_mut().map_or(Progress::Closed, |inner| inner.write_vectored(pieces))
            }
        }
    }

    /// Sends up to `count` bytes of `file` from `offset` on; `Closed` also where the file is shorter.
    pub fn send_file(&mut self, file: &File, offset: u64, count: usize) -> Progress {
        match self {
            Self::Tcp(socket) | Self::Unix(socket) => send_file(socket.as_fd(), file, offset, count),
            Self::Tls(tls) => tls.send_file(file, offset, count),
            Self::Proxied(proxied) => {
                proxied.inner_mut().map_or(Progress::Closed, |inner| inner.send_file(file, offset, count))
            }
        }
    }

    /// How much the peer has acknowledged, where it has been given `written` bytes since some moment. Only
    /// differences count.
    #[inline]
    pub fn acknowledged(&self, written: u64) -> i64 {
        let unsent = self.socket().map_or(0, unsent::unsent) + self.pending_bytes() as u64;
        written as i64 - unsent as i64
    }

    /// Whether the peer has acknowledged all that was written, so that a reset takes nothing of it away.
    #[inline]
    pub fn has_delivered(&self) -> bool {
        match self {
            // What a UNIX socket has taken its peer can read, and there is no reset.
            Self::Unix(_) => true,
            Self::Tcp(socket) => unsent::unsent(socket.as_fd()) == 0,
            Self::Tls(tls) => !tls.is_owing() && unsent::unsent(tls.as_fd()) == 0,
            Self::Proxied(proxied) => proxied.inner().is_none_or(Self::has_delivered),
        }
    }

    /// Bytes that it has taken and not written.
    fn pending_bytes(&self) -> usize {
        match self {
            Self::Tcp(_) | Self::Unix(_) => 0,
            Self::Tls(tls) => tls.pending_bytes(),
            Self::Proxied(proxied) => proxied.inner().map_or(0, Self::pending_bytes),
        }
    }

    /// Memory that it takes beside itself.
    #[inline]
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Tcp(_) | Self::Unix(_) => 0,
            Self::Tls(tls) => tls.memory_bytes(),
            Self::Proxied(proxied) => proxied.inner().map_or(0, Self::memory_bytes),
        }
    }

    /// Tells the peer that the connection ends as it should, where there is a word for it.
    pub fn send_close_notify(&mut self) {
        match self {
            Self::Tcp(_) | Self::Unix(_) => {}
            Self::Tls(tls) => tls.send_close_notify(),
            Self::Proxied(proxied) => proxied.inner_mut().map_or((), Self::send_close_notify),
        }
    }

    /// Tells the peer that nothing more will come, and goes on reading.
    pub fn shutdown_write(&mut self) {
        self.send_close_notify();
        if let Some(socket) = self.socket() {
            // Fails only where the peer has gone already.
            let _ = rustix::net::shutdown(socket, Shutdown::Write);
        }
    }

    /// Whether the peer has gone: it has closed or reset the connection or, with `fin_counts`, sent its last byte.
    pub fn is_peer_gone(&self, fin_counts: bool) -> bool {
        let Some(socket) = self.socket() else { return true };
        let gone = PollFlags::HUP | PollFlags::ERR;
        let gone = if fin_counts { gone | PollFlags::RDHUP } else { gone };
        let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::RDHUP)];
        let polled = rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        polled.is_ok() && fds[0].revents().intersects(gone)
    }

    /// Resets the connection, so that the peer cannot take a cut response for a whole one. UNIX sockets have no
    /// reset: their peer learns of a close that something is wrong only where it left bytes unread.
    pub fn reset(&self) {
        match self {
            Self::Tcp(socket) => tcp::reset(socket.as_fd()),
            Self::Unix(socket) => shut_down(socket.as_fd()),
            Self::Tls(tls) => tcp::reset(tls.as_fd()),
            Self::Proxied(proxied) => proxied.inner().map_or((), Self::reset),
        }
    }

    /// Ends the connection both ways once what has been written is sent, for it is about to be closed: that alone
    /// would end nothing where the application has forked a process, which has the socket as well.
    pub fn shut_down(&self) {
        if let Some(socket) = self.socket() {
            shut_down(socket);
        }
    }
}

fn shut_down(socket: BorrowedFd<'_>) {
    // Fails only where the peer has gone already.
    let _ = rustix::net::shutdown(socket, Shutdown::Both);
}

/// Reads what is there. Without waiting, also where an application that has taken the connection over waits.
#[inline]
pub fn read(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Progress {
    receive(socket, buffer, RecvFlags::DONTWAIT)
}

fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], flags: RecvFlags) -> Progress {
    loop {
        return match rustix::net::recv(socket, &mut *buffer, flags) {
            Ok((0, _)) => Progress::Closed,
            Ok((count, _)) => Progress::Bytes(count),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Progress::Blocked,
            Err(_) => Progress::Closed,
        };
    }
}

/// Writes what the kernel takes, likewise.
#[inline]
pub fn write(socket: BorrowedFd<'_>, bytes: &[u8]) -> Progress {
    loop {
        return match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(count) => Progress::Bytes(count),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Progress::Blocked,
            Err(_) => Progress::Closed,
        };
    }
}

fn write_vectored(socket: BorrowedFd<'_>, pieces: &[IoSlice<'_>]) -> Progress {
    loop {
        let mut control = SendAncillaryBuffer::default();
        return match rustix::net::sendmsg(
            socket,
            pieces,
            &mut control,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        ) {
            Ok(count) => Progress::Bytes(count),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Progress::Blocked,
            Err(_) => Progress::Closed,
        };
    }
}

/// Writes `pieces` one by one, where they cannot go together.
pub fn write_in_turn(pieces: &[IoSlice<'_>], mut write: impl FnMut(&[u8]) -> Progress) -> Progress {
    let mut written = 0;
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        match write(piece) {
            Progress::Bytes(count) => {
                written += count;
                if count < piece.len() {
                    break;
                }
            }
            stopped if written == 0 => return stopped,
            _ => break,
        }
    }
    Progress::Bytes(written)
}

fn send_file(socket: BorrowedFd<'_>, file: &File, offset: u64, count: usize) -> Progress {
    let mut offset = offset;
    loop {
        return match rustix::fs::sendfile(socket, file, Some(&mut offset), count) {
            Ok(0) => Progress::Closed,
            Ok(sent) => Progress::Bytes(sent),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Progress::Blocked,
            Err(_) => Progress::Closed,
        };
    }
}
