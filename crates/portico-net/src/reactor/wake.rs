//! A descriptor that becomes ready when another thread asks for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use portico_os::above_standard;
use rustix::event::EventfdFlags;

/// An eventfd. Watched edge-triggered it need not be consumed: every write is a new edge.
#[derive(Debug)]
pub(super) struct Waker {
    eventfd: OwnedFd,
}

impl Waker {
    /// A wake-up that nobody has asked for yet.
    pub(super) fn new() -> io::Result<Self> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        Ok(Self { eventfd: above_standard(rustix::event::eventfd(0, flags)?)? })
    }

    /// Makes the descriptor ready. After 2^64 - 2 calls the counter is full; it is emptied then.
    pub(super) fn wake(&self) {
        if rustix::io::write(&self.eventfd, &1u64.to_ne_bytes()).is_err() {
            self.consume();
            let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
        }
    }

    /// Makes the descriptor unready.
    pub(super) fn consume(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.eventfd, &mut count);
    }
}

#[cfg(test)]
impl Waker {
    pub(super) fn descriptor(&mut self) -> &mut OwnedFd {
        &mut self.eventfd
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}
