//! The byte pipe to one peer. What carries the bytes (tcp, unix; later tls) is matched here and nowhere else.

mod stream;
mod tcp;
mod unix;

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use portico_proto::http2::Port;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

use crate::application::Peer;

/// An accepted, non-blocking stream socket, or what stands for one.
#[derive(Debug)]
pub enum Transport {
    /// TCP over IPv4 or IPv6.
    Tcp(OwnedFd),
    /// UNIX stream socket.
    Unix(OwnedFd),
    /// A stream of a session that another connection carries.
    Stream(Port),
}

/// What came of reading or writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This many bytes, at least one; none only at the end of the body on a stream of a session.
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

    /// The socket of a connection to `peer` that another process has accepted.
    pub fn from_socket(socket: OwnedFd, peer: Peer) -> Self {
        match peer {
            Peer::Inet(_) => Self::Tcp(socket),
            Peer::Unix => Self::Unix(socket),
        }
    }

    /// Whether another process could go on with it: its state is all in the kernel.
    pub fn can_be_handed_over(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => true,
            Self::Stream(_) => false,
        }
    }

    /// The descriptor to be watched; none where another connection's socket carries the bytes.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tcp(socket) | Self::Unix(socket) => Some(socket.as_fd()),
            Self::Stream(_) => None,
        }
    }

    /// Whether a read that got fewer bytes than there was room for has left nothing behind: an edge will tell of
    /// more.
    #[inline]
    pub fn is_emptied_by_short_read(&self) -> bool {
        self.socket().is_some()
    }

    /// Reads into `buffer` what is there.
    #[inline]
    pub fn read(&self, buffer: &mut [u8]) -> Progress {
        match self {
            Self::Tcp(socket) | Self::Unix(socket) => read(socket.as_fd(), buffer),
            Self::Stream(port) => stream::read(port, buffer),
        }
    }

    /// Writes what the kernel takes of `bytes`.
    #[inline]
    pub fn write(&self, bytes: &[u8]) -> Progress {
        match self {
            Self::Tcp(socket) | Self::Unix(socket) => write(socket.as_fd(), bytes),
            Self::Stream(port) => stream::write(port, bytes),
        }
    }

    /// Writes what the kernel takes of several pieces, in their order.
    pub fn write_vectored(&self, pieces: &[IoSlice<'_>]) -> Progress {
        match self {
            Self::Tcp(socket) | Self::Unix(socket) => write_vectored(socket.as_fd(), pieces),
            Self::Stream(port) => stream::write_pieces(port, pieces.iter().map(|piece| &**piece)),
        }
    }

    /// Sends up to `count` bytes of `file` from `offset` on; `Closed` also where the file is shorter.
    pub fn send_file(&self, file: &File, offset: u64, count: usize) -> Progress {
        match self {
            Self::Tcp(socket) | Self::Unix(socket) => send_file(socket.as_fd(), file, offset, count),
            Self::Stream(port) => stream::send_file(port, file, offset, count),
        }
    }

    /// Tells the peer that nothing more will come, and goes on reading.
    pub fn shutdown_write(&self) {
        if let Some(socket) = self.socket() {
            // Fails only where the peer has gone already.
            let _ = rustix::net::shutdown(socket, Shutdown::Write);
        }
    }

    /// Whether the peer has gone: it has closed or reset the connection or, with `fin_counts`, sent its last byte.
    pub fn is_peer_gone(&self, fin_counts: bool) -> bool {
        let socket = match self {
            Self::Tcp(socket) | Self::Unix(socket) => socket,
            Self::Stream(port) => return port.is_gone(),
        };
        let gone = PollFlags::HUP | PollFlags::ERR;
        let gone = if fin_counts { gone | PollFlags::RDHUP } else { gone };
        let mut fds = [PollFd::new(socket, PollFlags::RDHUP)];
        let polled = rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        polled.is_ok() && fds[0].revents().intersects(gone)
    }

    /// Makes the close that follows a reset, so that the peer cannot take a cut answer for a whole one.
    pub fn set_reset_on_close(&self) {
        match self {
            Self::Tcp(socket) => tcp::set_reset_on_close(socket.as_fd()),
            Self::Unix(_) => {}
            Self::Stream(port) => port.cut(),
        }
    }
}

fn read(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Progress {
    loop {
        return match rustix::net::recv(socket, &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) => Progress::Closed,
            Ok((count, _)) => Progress::Bytes(count),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Progress::Blocked,
            Err(_) => Progress::Closed,
        };
    }
}

fn write(socket: BorrowedFd<'_>, bytes: &[u8]) -> Progress {
    loop {
        return match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
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
        return match rustix::net::sendmsg(socket, pieces, &mut control, SendFlags::NOSIGNAL) {
            Ok(count) => Progress::Bytes(count),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Progress::Blocked,
            Err(_) => Progress::Closed,
        };
    }
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
