//! The byte pipe to one peer. What carries the bytes (tcp, unix; later tls) is matched here and nowhere else.

mod tcp;
mod unix;

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

use crate::application::Peer;

/// An accepted, non-blocking stream socket.
#[derive(Debug)]
pub enum Transport {
    /// TCP over IPv4 or IPv6.
    Tcp(OwnedFd),
    /// UNIX stream socket.
    Unix(OwnedFd),
}

/// What came of reading or writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This many bytes, at least one.
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
        }
    }

    /// Reads into `buffer` what is there.
    pub fn read(&self, buffer: &mut [u8]) -> Progress {
        loop {
            return match rustix::net::recv(self, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => Progress::Closed,
                Ok((count, _)) => Progress::Bytes(count),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Progress::Blocked,
                Err(_) => Progress::Closed,
            };
        }
    }

    /// Writes what the kernel takes of `bytes`.
    pub fn write(&self, bytes: &[u8]) -> Progress {
        loop {
            return match rustix::net::send(self, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => Progress::Bytes(count),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Progress::Blocked,
                Err(_) => Progress::Closed,
            };
        }
    }

    /// Writes what the kernel takes of several pieces, in their order.
    pub fn write_vectored(&self, pieces: &[IoSlice<'_>]) -> Progress {
        loop {
            let mut control = SendAncillaryBuffer::default();
            return match rustix::net::sendmsg(self, pieces, &mut control, SendFlags::NOSIGNAL) {
                Ok(count) => Progress::Bytes(count),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Progress::Blocked,
                Err(_) => Progress::Closed,
            };
        }
    }

    /// Sends up to `count` bytes of `file` from `offset` on; `Closed` also where the file is shorter.
    pub fn send_file(&self, file: &File, offset: u64, count: usize) -> Progress {
        let mut offset = offset;
        loop {
            return match rustix::fs::sendfile(self, file, Some(&mut offset), count) {
                Ok(0) => Progress::Closed,
                Ok(sent) => Progress::Bytes(sent),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Progress::Blocked,
                Err(_) => Progress::Closed,
            };
        }
    }

    /// Tells the peer that nothing more will come, and goes on reading.
    pub fn shutdown_write(&self) {
        // Fails only where the peer has gone already.
        let _ = rustix::net::shutdown(self, Shutdown::Write);
    }

    /// Whether the peer has gone: it has closed or reset the connection or, with `fin_counts`, sent its last byte.
    pub fn is_peer_gone(&self, fin_counts: bool) -> bool {
        let gone = PollFlags::HUP | PollFlags::ERR;
        let gone = if fin_counts { gone | PollFlags::RDHUP } else { gone };
        let mut fds = [PollFd::new(self, PollFlags::RDHUP)];
        let polled = rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        polled.is_ok() && fds[0].revents().intersects(gone)
    }

    /// Makes the close that follows a reset, so that the peer cannot take a cut answer for a whole one.
    pub fn set_reset_on_close(&self) {
        if let Self::Tcp(socket) = self {
            tcp::set_reset_on_close(socket.as_fd());
        }
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) | Self::Unix(socket) => socket.as_fd(),
        }
    }
}
