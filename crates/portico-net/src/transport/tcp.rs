//! TCP sockets.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use portico_os::above_standard;
use portico_proto::Peer;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with, connect_unspec};

use super::Transport;

pub(super) fn accept(listener: BorrowedFd<'_>) -> Result<(Transport, Peer), Errno> {
    // TCP_NODELAY is set on the listener and inherited: one system call less per connection.
    let (socket, address) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let address = address.and_then(|address| SocketAddr::try_from(address).ok()).ok_or(Errno::CONNABORTED)?;
    Ok((Transport::Tcp(above_standard(socket)?), Peer::Inet(canonical(address))))
}

/// An IPv4 peer of a dual-stack listener is told as IPv4, not as `::ffff:a.b.c.d`.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Sends a reset and drops what has not been sent.
pub(super) fn reset(socket: BorrowedFd<'_>) {
    // To dissolve the connection (connect(2), AF_UNSPEC) is a reset at once. The close of a socket that does not
    // linger is one as well, but only the last close: a process that the application has forked may never make it.
    if connect_unspec(socket).is_err() {
        let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
    }
}
