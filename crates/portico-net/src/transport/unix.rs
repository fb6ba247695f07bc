//! UNIX stream sockets.

use std::os::fd::BorrowedFd;

use portico_os::above_standard;
use portico_proto::Peer;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::Transport;

pub(super) fn accept(listener: BorrowedFd<'_>) -> Result<(Transport, Peer), Errno> {
    let socket = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    Ok((Transport::Unix(above_standard(socket)?), Peer::Unix))
}
