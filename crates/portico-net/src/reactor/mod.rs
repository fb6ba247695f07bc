//! Readiness of descriptors: the only folder that names the poller.
//!
//! Knows descriptors, tokens and readiness, not connections. [`Reactor::wait`] takes `&self`: several threads may
//! wait at once and the kernel wakes one of them per event, which is what makes a thread that waits for the
//! network cost no second thread's wake-up (see `lending`). That is why this is epoll by itself and not mio, whose
//! `Poll::poll` wants the poller exclusively.

mod poll;
mod wake;

pub use poll::{Event, Events, Interest, Reactor};
