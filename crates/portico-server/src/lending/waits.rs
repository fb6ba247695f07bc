//! Application threads that wait for a client to take its response.
//!
//! They may while other threads are free. When requests wait for a thread, those that can put their response
//! into a file are asked to; of those that cannot, at most half of the threads go on waiting, and those that
//! have waited longest are dismissed: their clients are cut. A thread that makes a response without a known end,
//! of which there is much in the file, counts with them: it may never be done.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::connection::{Flow, Room, WaitEnd};

/// The threads that wait, in the order in which they began to.
#[derive(Debug)]
pub(super) struct Waits {
    waiting: Mutex<Vec<Waiting>>,
    /// Their number, to be looked at without the lock.
    count: AtomicUsize,
    /// Requests wait for a thread.
    pressed: AtomicBool,
    /// Application threads.
    threads: usize,
}

#[derive(Debug)]
struct Waiting {
    flow: Arc<Flow>,
    outlook: Outlook,
    dismissed: bool,
}

/// What becomes of a thread when it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// The rest of its response goes to a file.
    Spills,
    /// It does so, and may never end.
    Endless,
    /// Its response has no room in a file.
    Stuck,
}

impl Waits {
    pub(super) fn new(threads: usize) -> Self {
        let (count, pressed) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { waiting: Mutex::default(), count, pressed, threads }
    }

    /// Blocks until there is room or the thread is asked for.
    pub(super) fn wait(&self, flow: &Arc<Flow>, room: Room, outlook: Outlook) -> WaitEnd {
        self.end(flow);
        // Somebody may have asked after the former wait had ended.
        flow.forget_asked();
        self.lock().push(Waiting { flow: Arc::clone(flow), outlook, dismissed: false });
        self.count.fetch_add(1, Ordering::SeqCst);
        // Who has begun to press since does not know of this thread, or has seen it in the list.
        if self.pressed.load(Ordering::SeqCst) {
            self.press();
        }
        let end = flow.wait(room);
        self.end(flow);
        end
    }

    /// Notes that the thread which makes the response of `flow` may never be done, and is to go on all the same;
    /// `false` if it has been dismissed.
    pub(super) fn go_on(&self, flow: &Arc<Flow>) -> bool {
        let mut waiting = self.lock();
        if !waiting.iter().any(|waiting| Arc::ptr_eq(&waiting.flow, flow)) {
            flow.forget_asked();
            waiting.push(Waiting { flow: Arc::clone(flow), outlook: Outlook::Endless, dismissed: false });
            self.count.fetch_add(1, Ordering::SeqCst);
        }
        drop(waiting);
        if self.pressed.load(Ordering::SeqCst) {
            self.press();
        }
        !flow.is_dismissed()
    }

    /// The thread of `flow` is done after all.
    pub(super) fn end(&self, flow: &Arc<Flow>) {
        let mut waiting = self.lock();
        let before = waiting.len();
        waiting.retain(|waiting| !Arc::ptr_eq(&waiting.flow, flow));
        self.count.fetch_sub(before - waiting.len(), Ordering::SeqCst);
    }

    /// Says whether requests wait while all threads are in calls.
    #[inline]
    pub(super) fn set_pressed(&self, pressed: bool) {
        if pressed || self.pressed.load(Ordering::Relaxed) {
            self.pressed.store(pressed, Ordering::SeqCst);
            if pressed && self.count.load(Ordering::SeqCst) > 0 {
                self.press();
            }
        }
    }

    /// Whether requests wait while all threads are in calls.
    pub(super) fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::Relaxed)
    }

    #[cold]
    fn press(&self) {
        let mut waiting = self.lock();
        let is_held = |waiting: &Waiting| waiting.outlook != Outlook::Spills && !waiting.dismissed;
        let held = waiting.iter().filter(|waiting| is_held(waiting)).count();
        // An only thread goes on with what may end after all, as long as there is room in the file.
        let goes_on = waiting.iter().any(|waiting| waiting.outlook == Outlook::Endless);
        let mut surplus = held.saturating_sub((self.threads / 2).max(goes_on.into()));
        for waiting in waiting.iter_mut() {
            if surplus > 0 && is_held(waiting) {
                surplus -= 1;
                waiting.dismissed = true;
                waiting.flow.ask(WaitEnd::Dismissed);
            } else if waiting.outlook != Outlook::Stuck && !waiting.dismissed {
                waiting.flow.ask(WaitEnd::Hurried);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// A thread that waits for `flow`, once it is among those who do.
    fn begin(waits: &Arc<Waits>, outlook: Outlook) -> (Arc<Flow>, Receiver<WaitEnd>) {
        let (flow, (tell, told)) = (Arc::new(Flow::default()), channel());
        flow.set_buffered(100, 0);
        let before = waits.lock().len();
        let (list, waiter) = (Arc::clone(waits), Arc::clone(&flow));
        thread::spawn(move || {
            let room = Room { low_water: 10, drained: None, patience: None };
            tell.send(list.wait(&waiter, room, outlook)).unwrap();
        });
        while waits.lock().len() == before {
            thread::yield_now();
        }
        (flow, told)
    }

    fn end(told: &Receiver<WaitEnd>) -> Option<WaitEnd> {
        told.recv_timeout(Duration::from_secs(10)).ok()
    }

    #[test]
    fn threads_are_asked_for_only_while_requests_wait() {
        let waits = Arc::new(Waits::new(4));
        let (flow, told) = begin(&waits, Outlook::Spills);
        waits.set_pressed(false);
        flow.set_buffered(10, 10);
        assert_eq!(end(&told), Some(WaitEnd::Room));
        let (_, told) = begin(&waits, Outlook::Spills);
        waits.set_pressed(true);
        assert_eq!(end(&told), Some(WaitEnd::Hurried));
        // One that begins to wait while requests do does not sleep.
        let flow = Arc::new(Flow::default());
        flow.set_buffered(100, 0);
        let room = Room { low_water: 10, drained: None, patience: None };
        assert_eq!(waits.wait(&flow, room, Outlook::Spills), WaitEnd::Hurried);
        waits.set_pressed(false);
        assert!(waits.lock().is_empty());
    }

    #[test]
    fn half_of_the_threads_may_be_stuck_and_the_oldest_go() {
        let waits = Arc::new(Waits::new(4));
        let stuck: Vec<_> = (0..4).map(|_| begin(&waits, Outlook::Stuck)).collect();
        waits.set_pressed(true);
        waits.set_pressed(true);
        let ends: Vec<_> = stuck[..2].iter().map(|(_, told)| end(told)).collect();
        assert_eq!(ends, [Some(WaitEnd::Dismissed); 2]);
        assert_eq!(waits.lock().len(), 2);
        for (flow, told) in &stuck[2..] {
            flow.set_gone();
            assert_eq!(end(told), Some(WaitEnd::Gone));
        }
    }

    #[test]
    fn threads_that_may_never_be_done_count_with_those_that_are_stuck() {
        let waits = Waits::new(4);
        let flows: Vec<_> = (0..4).map(|_| Arc::new(Flow::default())).collect();
        assert!(flows.iter().all(|flow| waits.go_on(flow) && waits.go_on(flow)), "nobody waits for them");
        assert_eq!((waits.lock().len(), waits.count.load(Ordering::SeqCst)), (4, 4));
        waits.end(&flows[0]);
        waits.set_pressed(true);
        assert_eq!([1, 2, 3].map(|index: usize| waits.go_on(&flows[index])), [false, true, true]);
        flows.iter().for_each(|flow| waits.end(flow));
        assert_eq!((waits.lock().len(), waits.count.load(Ordering::SeqCst)), (0, 0));
        assert!(waits.go_on(&flows[1]), "what was asked of it is past");
    }

    #[test]
    fn of_those_that_may_never_end_half_of_the_threads_go_on_and_the_oldest_go() {
        let waits = Arc::new(Waits::new(4));
        let endless: Vec<_> = (0..3).map(|_| begin(&waits, Outlook::Endless)).collect();
        waits.set_pressed(true);
        let ends: Vec<_> = endless.iter().map(|(_, told)| end(told)).collect();
        assert_eq!(ends, [Some(WaitEnd::Dismissed), Some(WaitEnd::Hurried), Some(WaitEnd::Hurried)]);
    }

    #[test]
    fn an_only_thread_is_never_held() {
        let waits = Arc::new(Waits::new(1));
        let (_, told) = begin(&waits, Outlook::Stuck);
        waits.set_pressed(true);
        assert_eq!(end(&told), Some(WaitEnd::Dismissed));
        waits.set_pressed(false);
        let (_, told) = begin(&waits, Outlook::Endless);
        waits.set_pressed(true);
        assert_eq!(end(&told), Some(WaitEnd::Hurried), "it may end after all");
    }
}
