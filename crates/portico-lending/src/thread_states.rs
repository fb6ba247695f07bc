//! The threads of one engine: who is in a call, who waits for the network, who is parked; and who is woken.
//!
//! Everything here is counted with sequentially consistent atomics, in the order "say what I do, then look into
//! the slot" on one side and "lay the engine down, then look who is there" on the other, so that no engine is left
//! lying with work in it while a thread goes to sleep.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard};
#[cfg(loom)]
use loom::thread::{self, Thread};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
#[cfg(not(loom))]
use std::sync::{Mutex, MutexGuard};
use std::sync::{OnceLock, PoisonError};
#[cfg(not(loom))]
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::poller::Poller;

/// The states of an engine's threads: in calls, waiting for the network, parked, standby. Counted only; no thread
/// waits for another here.
#[derive(Debug, Default)]
pub struct ThreadStates {
    parked: Mutex<Vec<Thread>>,
    polling: AtomicUsize,
    calls: AtomicUsize,
    lends: AtomicU64,
    work_waiting: AtomicBool,
    standby: OnceLock<Thread>,
    standby_asleep: AtomicBool,
    standby_polling: AtomicBool,
    standby_asked: AtomicBool,
}

impl ThreadStates {
    /// A thread begins a call.
    #[inline]
    pub fn begin_call(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
    }

    /// A thread's call has ended.
    #[inline]
    pub fn end_call(&self) {
        self.calls.fetch_sub(1, Ordering::SeqCst);
    }

    /// Threads that are in a call.
    #[inline]
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Application threads that wait for the network.
    #[inline]
    pub fn polling(&self) -> usize {
        self.polling.load(Ordering::SeqCst)
    }

    /// Whether any thread waits for the network.
    #[inline]
    pub fn is_polled(&self) -> bool {
        self.polling() > 0 || self.is_standby_polling()
    }

    /// Whether the standby waits for the network.
    #[inline]
    pub fn is_standby_polling(&self) -> bool {
        self.standby_polling.load(Ordering::SeqCst)
    }

    /// Whether the engine that lies in the slot needs nobody: its sockets are waited on and it has no work.
    #[inline]
    pub fn is_looked_after(&self) -> bool {
        self.is_polled() && !self.work_waiting.load(Ordering::SeqCst)
    }

    /// The engine is being released with (`true`) or without work in it.
    #[inline]
    pub fn set_work_waiting(&self, waiting: bool) {
        self.work_waiting.store(waiting, Ordering::SeqCst);
    }

    /// The calling application thread begins to wait for the network.
    #[inline]
    pub fn begin_poll(&self) {
        self.polling.fetch_add(1, Ordering::SeqCst);
    }

    /// It has ended its wait.
    #[inline]
    pub fn end_poll(&self) {
        self.polling.fetch_sub(1, Ordering::SeqCst);
    }

    /// The standby begins or ends to wait for the network.
    #[inline]
    pub fn set_standby_polling(&self, polling: bool) {
        self.standby_polling.store(polling, Ordering::SeqCst);
    }

    /// Whether an application thread has nothing to do.
    #[inline]
    pub fn has_idle(&self) -> bool {
        self.polling() > 0 || !self.parked().is_empty()
    }

    /// Says that the calling thread is about to park.
    #[inline]
    pub fn announce_park(&self) {
        self.parked().push(thread::current());
    }

    /// Takes that back, if nobody has woken the thread in between.
    #[inline]
    pub fn revoke_park(&self) {
        let me = thread::current().id();
        self.parked().retain(|thread| thread.id() != me);
    }

    /// Parks the calling thread until it is woken.
    #[inline]
    pub fn park(&self) {
        thread::park();
    }

    /// Wakes one application thread that has nothing to do, if there is one.
    #[inline]
    pub fn wake_one(&self, poller: &impl Poller) {
        let parked = self.parked().pop();
        if let Some(thread) = parked {
            thread.unpark();
        } else if self.polling() > 0 {
            poller.wake();
        }
    }

    /// Wakes everybody, to end. Threads that poll pass the wake-up on.
    pub fn wake_all(&self, poller: &impl Poller) {
        self.parked().drain(..).for_each(|thread| thread.unpark());
        self.wake_standby(poller);
        poller.wake();
    }

    /// The engine is being lent to call the application. Only its driver calls this.
    #[inline]
    pub fn count_lend(&self) {
        self.lends.store(self.lends.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Number of lendings so far.
    #[inline]
    pub fn lends(&self) -> u64 {
        self.lends.load(Ordering::Relaxed)
    }

    /// Names the calling thread the standby.
    pub fn enlist_standby(&self) {
        self.standby.get_or_init(thread::current);
    }

    /// The standby sleeps deeply (`true`) or looks after lent engines by itself.
    #[inline]
    pub fn set_standby_asleep(&self, asleep: bool) {
        // A swap, as in `rouse_standby`: of two swaps the later one sees all that came before the earlier one.
        self.standby_asleep.swap(asleep, Ordering::SeqCst);
    }

    /// Has the standby look after the engine from now on, if it does not already.
    #[inline]
    pub fn rouse_standby(&self, poller: &impl Poller) {
        if self.standby_asleep.swap(false, Ordering::SeqCst) {
            self.wake_standby(poller);
        }
    }

    /// Has the standby drive the engine at once: the calling thread is about to wait for something that only a
    /// driver brings.
    pub fn ask_standby(&self, poller: &impl Poller) {
        self.standby_asked.store(true, Ordering::SeqCst);
        self.wake_standby(poller);
    }

    /// Whether somebody has asked since the last look.
    #[inline]
    pub fn was_standby_asked(&self) -> bool {
        self.standby_asked.swap(false, Ordering::SeqCst)
    }

    /// Wakes the standby, however it sleeps.
    #[inline]
    pub fn wake_standby(&self, poller: &impl Poller) {
        if self.standby_polling.load(Ordering::SeqCst) {
            poller.wake_aside();
        }
        if let Some(standby) = self.standby.get() {
            standby.unpark();
        }
    }

    fn parked(&self) -> MutexGuard<'_, Vec<Thread>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The moment of the engine's next deadline, told to the standby, which keeps the time while it sleeps.
#[derive(Debug)]
pub struct NextDeadline {
    base: Instant,
    due_nanos: AtomicU64,
    standby_until_nanos: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl NextDeadline {
    /// No deadline.
    #[inline]
    pub fn new(base: Instant) -> Self {
        Self { base, due_nanos: AtomicU64::new(NEVER), standby_until_nanos: AtomicU64::new(0) }
    }

    /// Publishes the next deadline; whether the standby must be woken because it would sleep past it.
    #[inline]
    pub fn publish(&self, due: Option<Instant>) -> bool {
        let due = due.map_or(NEVER, |due| self.nanos(due));
        self.due_nanos.store(due, Ordering::SeqCst);
        due < self.standby_until_nanos.load(Ordering::SeqCst)
    }

    /// The standby sleeps until `until`; returns how long it may, given the deadline that is published now.
    #[inline]
    pub fn sleep_until(&self, until: Option<Instant>, now: Instant) -> Option<Duration> {
        let until = until.map_or(NEVER, |until| self.nanos(until));
        self.standby_until_nanos.store(until, Ordering::SeqCst);
        match until.min(self.due_nanos.load(Ordering::SeqCst)) {
            NEVER => None,
            nanos => Some(Duration::from_nanos(nanos.saturating_sub(self.nanos(now)))),
        }
    }

    /// The published deadline.
    #[inline]
    pub fn due(&self) -> Option<Instant> {
        match self.due_nanos.load(Ordering::SeqCst) {
            NEVER => None,
            nanos => Some(self.base + Duration::from_nanos(nanos)),
        }
    }

    fn nanos(&self, moment: Instant) -> u64 {
        moment.saturating_duration_since(self.base).as_nanos().min(u128::from(NEVER - 1)) as u64
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_deadline_wakes_the_standby_and_a_later_one_does_not() {
        let base = Instant::now();
        let next_deadline = NextDeadline::new(base);
        let at = |seconds| base + Duration::from_secs(seconds);
        assert_eq!(next_deadline.sleep_until(None, base), None);
        assert!(next_deadline.publish(Some(at(30))));
        assert_eq!(next_deadline.sleep_until(None, at(1)), Some(Duration::from_secs(29)));
        assert_eq!(next_deadline.sleep_until(next_deadline.due(), at(1)), Some(Duration::from_secs(29)));
        assert!(!next_deadline.publish(Some(at(75))));
        assert!(next_deadline.publish(Some(at(10))));
        assert_eq!(next_deadline.due(), Some(at(10)));
    }
}
