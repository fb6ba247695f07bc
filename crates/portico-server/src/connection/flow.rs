//! How far a streamed response has got: shared by the thread that makes it and the engine that writes it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ResponseSpool;

/// Bytes of one response that have left the application and not yet the process.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// On their way to the engine through its mailbox.
    posted: AtomicUsize,
    /// In the connection's outbox.
    buffered: AtomicUsize,
    gone: AtomicBool,
    waiting: Mutex<FlowWait>,
    changed: Condvar,
}

/// The thread that makes the response, where it waits for its client.
#[derive(Debug, Default)]
struct FlowWait {
    now: bool,
    asked: Option<WaitEnd>,
}

/// What an application thread waits for.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    /// No more than so many bytes are in memory.
    pub low_water: usize,
    /// And this file has been taken to its end.
    pub drained: Option<Arc<ResponseSpool>>,
    /// It does not wait longer than this.
    pub patience: Option<Duration>,
}

/// How a wait for a client has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    /// There is room.
    Room,
    /// The client has left.
    Gone,
    /// It has lasted long enough, or requests wait for the thread.
    Hurried,
    /// Requests wait, and this response has held a thread for too long.
    Dismissed,
}

impl Flow {
    /// Notes `count` bytes put into the mailbox.
    pub(crate) fn post(&self, count: usize) {
        self.posted.fetch_add(count, Ordering::SeqCst);
    }

    /// Notes that they have been taken out of it, and wakes the application: it may have looked after the outbox
    /// was written and before this.
    pub(crate) fn deliver(&self, count: usize) {
        self.posted.fetch_sub(count, Ordering::SeqCst);
        self.notify();
    }

    /// Notes what the outbox holds now, and wakes the application if that is little enough.
    pub(crate) fn set_buffered(&self, count: usize, low_water: usize) {
        self.buffered.store(count, Ordering::SeqCst);
        if count <= low_water {
            self.notify();
        }
    }

    /// Notes that nothing more can be sent.
    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::SeqCst);
        self.notify();
    }

    /// Whether nothing more can be sent.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// Whether more than `high_water` bytes wait for the peer.
    pub(crate) fn is_over(&self, high_water: usize) -> bool {
        let bytes = self.posted.load(Ordering::SeqCst) + self.buffered.load(Ordering::SeqCst);
        bytes > high_water && !self.is_gone()
    }

    /// Blocks until there is room, the client has left, or somebody [asks](Flow::ask) for the thread.
    pub(crate) fn wait(&self, room: Room) -> WaitEnd {
        let until = room.patience.map(|patience| Instant::now() + patience);
        let mut waiting = self.lock();
        waiting.now = true;
        let end = loop {
            if self.is_gone() {
                break WaitEnd::Gone;
            }
            if !self.is_over(room.low_water) && room.drained.as_deref().is_none_or(ResponseSpool::is_drained)
            {
                break WaitEnd::Room;
            }
            if let Some(end) = waiting.asked {
                break end;
            }
            waiting = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => break WaitEnd::Hurried,
                Some(left) => {
                    self.changed.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        };
        *waiting = FlowWait::default();
        end
    }

    /// Ends the wait of the application's thread, now or when it begins, with `end`.
    pub(crate) fn ask(&self, end: WaitEnd) {
        self.lock().asked = Some(end);
        self.notify();
    }

    /// Forgets what was asked between two waits.
    pub(crate) fn forget_asked(&self) {
        self.lock().asked = None;
    }

    fn notify(&self) {
        if self.lock().now {
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, FlowWait> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    fn room(low_water: usize) -> Room {
        Room { low_water, drained: None, patience: None }
    }

    #[test]
    fn a_wait_ends_when_it_is_asked_to_or_has_lasted_long_enough() {
        let flow = Flow::default();
        flow.set_buffered(100, 50);
        flow.ask(WaitEnd::Hurried);
        assert_eq!(flow.wait(room(50)), WaitEnd::Hurried);
        let patience = Some(Duration::from_millis(1));
        assert_eq!(flow.wait(Room { patience, ..room(50) }), WaitEnd::Hurried);
        flow.ask(WaitEnd::Dismissed);
        assert_eq!(flow.wait(room(100)), WaitEnd::Room, "nobody is dismissed who has room");
    }

    #[test]
    fn the_application_waits_above_the_mark_and_goes_on_below_it_or_when_the_peer_is_gone() {
        let flow = Arc::new(Flow::default());
        flow.post(60);
        flow.set_buffered(50, 50);
        assert!(flow.is_over(100));
        let waiter = Arc::clone(&flow);
        let thread = thread::spawn(move || waiter.wait(room(50)));
        flow.deliver(60);
        flow.set_buffered(110, 50);
        assert!(flow.is_over(100));
        flow.set_buffered(50, 50);
        thread.join().unwrap();
        flow.set_buffered(1000, 50);
        flow.set_gone();
        assert_eq!(flow.wait(room(50)), WaitEnd::Gone);
    }

    #[test]
    fn a_delivery_wakes_an_application_that_counted_the_bytes_as_posted() {
        let flow = Arc::new(Flow::default());
        flow.post(200);
        let waiter = Arc::clone(&flow);
        let (woken, wakes) = std::sync::mpsc::channel();
        thread::spawn(move || {
            waiter.wait(room(50));
            woken.send(()).unwrap();
        });
        while !flow.lock().now {
            thread::yield_now();
        }
        // As the engine does: all is written before the bytes count as delivered.
        flow.set_buffered(0, 50);
        assert!(wakes.recv_timeout(std::time::Duration::from_millis(50)).is_err(), "they still count");
        flow.deliver(200);
        wakes.recv_timeout(std::time::Duration::from_secs(5)).expect("woken by the delivery");
    }
}
