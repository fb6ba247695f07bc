//! The reactor as the states of the threads know it.

use portico_lending::Poller;
use portico_net::Reactor;

/// The reactor, in whose waits threads are woken.
pub(super) struct ReactorPoller<'a>(pub(super) &'a Reactor);

impl Poller for ReactorPoller<'_> {
    fn wake(&self) {
        self.0.wake();
    }

    fn wake_aside(&self) {
        self.0.wake_aside();
    }
}
