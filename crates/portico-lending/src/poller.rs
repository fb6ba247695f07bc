//! What threads wait for the network with, as far as those that wake them are concerned.

/// Ends the waits of threads that wait for the network. Whoever waits owns it.
pub trait Poller {
    /// Ends one application thread's wait, or the next one to come.
    fn wake(&self);

    /// Ends the standby's wait, or its next one.
    fn wake_aside(&self);
}
