//! Which call each application thread is in, so that a call is ended once: by its thread, or by being given up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The calls that run, one entry for each application thread. It decides who ends a call, which happens once.
#[derive(Debug, Default)]
pub struct ActiveCalls(Mutex<Vec<Arc<ActiveCall>>>);

/// One thread's: the number of its call, or `FREE`.
#[derive(Debug)]
pub struct ActiveCall(AtomicU64);

const FREE: u64 = 0;

impl ActiveCalls {
    /// An entry for the calling thread.
    pub fn take(&self) -> Arc<ActiveCall> {
        let active_call = Arc::new(ActiveCall(AtomicU64::new(FREE)));
        self.lock().push(Arc::clone(&active_call));
        active_call
    }

    /// Gives up `call`, and with it the thread that is in it; `false` if it has ended or was given up before.
    pub fn give_up(&self, call: u64) -> bool {
        let mut active_calls = self.lock();
        let Some(index) = active_calls.iter().position(|active_call| active_call.end(call)) else {
            return false;
        };
        active_calls.swap_remove(index);
        true
    }

    /// A thread goes.
    pub fn leave(&self, active_call: &Arc<ActiveCall>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, active_call));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<ActiveCall>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ActiveCall {
    /// The thread begins `call`.
    #[inline]
    pub fn begin(&self, call: u64) {
        self.0.store(call, Ordering::SeqCst);
    }

    /// Ends `call`; `false` if that has happened already.
    #[inline]
    pub fn end(&self, call: u64) -> bool {
        self.0.compare_exchange(call, FREE, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_call_ends_once_and_one_that_is_over_is_not_given_up() {
        let active_calls = ActiveCalls::default();
        let (one, two) = (active_calls.take(), active_calls.take());
        one.begin(7);
        two.begin(8);
        assert!(one.end(7));
        assert!(!active_calls.give_up(7), "its thread has ended it");
        one.begin(9);
        assert!(!active_calls.give_up(7), "nor the thread's next one in its place");
        assert!(active_calls.give_up(9) && !active_calls.give_up(9));
        assert!(!one.end(9), "the thread learns that it is not wanted");
        assert!(two.end(8));
        active_calls.leave(&two);
        assert!(active_calls.lock().is_empty());
    }
}
