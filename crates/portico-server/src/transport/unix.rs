//! UNIX stream sockets.

use std::os::fd::BorrowedFd;

use portico_os::above_standard;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::Transport;
use crate::peer::Peer;

pub(super) fn accept(listener: BorrowedFd<'_>) -> Result<(Transport, Peer), Errno> {
    let socket = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    Ok((Transport::Unix(above_standard(socket)?), Peer::Unix))
}
