//! Which call each application thread is in, so that a call is ended once: by its thread, or by being given up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The seats of the application threads.
#[derive(Debug, Default)]
pub struct Seats(Mutex<Vec<Arc<Seat>>>);

/// One thread's: the number of its call, or [`FREE`].
#[derive(Debug)]
pub struct Seat(AtomicU64);

const FREE: u64 = 0;

impl Seats {
    /// A seat for the calling thread.
    pub fn take(&self) -> Arc<Seat> {
        let seat = Arc::new(Seat(AtomicU64::new(FREE)));
        self.lock().push(Arc::clone(&seat));
        seat
    }

    /// Gives up `call`, and with it the thread that is in it; `false` if it has ended or was given up before.
    pub fn give_up(&self, call: u64) -> bool {
        let mut seats = self.lock();
        let Some(index) = seats.iter().position(|seat| seat.end(call)) else {
            return false;
        };
        seats.swap_remove(index);
        true
    }

    /// A thread goes.
    pub fn leave(&self, seat: &Arc<Seat>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, seat));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Seat>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// The thread begins `call`.
    pub fn begin(&self, call: u64) {
        self.0.store(call, Ordering::SeqCst);
    }

    /// Ends `call`; `false` if that has happened already.
    pub fn end(&self, call: u64) -> bool {
        self.0.compare_exchange(call, FREE, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_call_ends_once_and_one_that_is_over_is_not_given_up() {
        let seats = Seats::default();
        let (one, two) = (seats.take(), seats.take());
        one.begin(7);
        two.begin(8);
        assert!(one.end(7));
        assert!(!seats.give_up(7), "its thread has ended it");
        one.begin(9);
        assert!(!seats.give_up(7), "nor the thread's next one in its place");
        assert!(seats.give_up(9) && !seats.give_up(9));
        assert!(!one.end(9), "the thread learns that it is not wanted");
        assert!(two.end(8));
        seats.leave(&two);
        assert!(seats.lock().is_empty());
    }
}
