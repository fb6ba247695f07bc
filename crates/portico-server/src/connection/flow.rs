//! How far a streamed answer has got: shared by the thread that makes it and the engine that writes it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// Bytes of one answer that have left the application and not yet the process.
#[derive(Debug, Default)]
pub struct Flow {
    /// On their way to the engine through its mailbox.
    posted: AtomicUsize,
    /// In the connection's outbox.
    buffered: AtomicUsize,
    gone: AtomicBool,
    waiting: Mutex<bool>,
    changed: Condvar,
}

impl Flow {
    /// Notes `count` bytes put into the mailbox.
    pub fn post(&self, count: usize) {
        self.posted.fetch_add(count, Ordering::SeqCst);
    }

    /// Notes that they have been taken out of it, and wakes the application: it may have looked after the outbox
    /// was written and before this.
    pub fn deliver(&self, count: usize) {
        self.posted.fetch_sub(count, Ordering::SeqCst);
        self.notify();
    }

    /// Notes what the outbox holds now, and wakes the application if that is little enough.
    pub fn set_buffered(&self, count: usize, low_water: usize) {
        self.buffered.store(count, Ordering::SeqCst);
        if count <= low_water {
            self.notify();
        }
    }

    /// Notes that nothing more can be sent.
    pub fn set_gone(&self) {
        self.gone.store(true, Ordering::SeqCst);
        self.notify();
    }

    /// Whether nothing more can be sent.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// Whether more than `high_water` bytes wait for the peer.
    pub fn is_over(&self, high_water: usize) -> bool {
        let bytes = self.posted.load(Ordering::SeqCst) + self.buffered.load(Ordering::SeqCst);
        bytes > high_water && !self.is_gone()
    }

    /// Blocks until no more than `low_water` bytes wait, or the peer has gone.
    pub fn wait(&self, low_water: usize) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = true;
        while self.is_over(low_water) {
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        *waiting = false;
    }

    fn notify(&self) {
        if *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) {
            self.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn the_application_waits_above_the_mark_and_goes_on_below_it_or_when_the_peer_is_gone() {
        let flow = Arc::new(Flow::default());
        flow.post(60);
        flow.set_buffered(50, 50);
        assert!(flow.is_over(100));
        let waiter = Arc::clone(&flow);
        let thread = thread::spawn(move || waiter.wait(50));
        flow.deliver(60);
        flow.set_buffered(110, 50);
        assert!(flow.is_over(100));
        flow.set_buffered(50, 50);
        thread.join().unwrap();
        flow.set_buffered(1000, 50);
        flow.set_gone();
        flow.wait(50);
    }

    #[test]
    fn a_delivery_wakes_an_application_that_counted_the_bytes_as_posted() {
        let flow = Arc::new(Flow::default());
        flow.post(200);
        let waiter = Arc::clone(&flow);
        let (woken, wakes) = std::sync::mpsc::channel();
        thread::spawn(move || {
            waiter.wait(50);
            woken.send(()).unwrap();
        });
        while !*flow.waiting.lock().unwrap() {
            thread::yield_now();
        }
        // As the engine does: all is written before the bytes count as delivered.
        flow.set_buffered(0, 50);
        assert!(wakes.recv_timeout(std::time::Duration::from_millis(50)).is_err(), "they still count");
        flow.deliver(200);
        wakes.recv_timeout(std::time::Duration::from_secs(5)).expect("woken by the delivery");
    }
}
