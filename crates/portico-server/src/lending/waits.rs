//! Application threads that wait for a client to take its response.
//!
//! They may while other threads are free. When they are needed, those whose response goes to a file are asked to
//! go on, one after the other: they share the interpreter; if all went on at once, all would finish as late as the
//! last. That begins when every thread is in a call and half of them wait, so that the next request finds one.
//!
//! Of those that can put their response nowhere, at most half of the threads go on waiting when requests do, and
//! those that have waited longest are dismissed: their clients are cut. A thread that makes a response without a
//! known end, of which there is much in the file, counts with them: it may never be done.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::connection::{Flow, Room, WaitEnd};

/// How long one that has been hurried has before the next is: it may be one that waits for something else.
const HURRY_INTERVAL: Duration = Duration::from_millis(5);

/// The threads that wait, in the order in which they began to, and those that go on because they are needed.
#[derive(Debug)]
pub(super) struct Waits {
    list: Mutex<List>,
    /// The length of the list, to be looked at without the lock.
    count: AtomicUsize,
    /// A [`Need`].
    need: AtomicU8,
    /// Application threads.
    threads: usize,
}

/// The need for threads: whether requests wait for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// Some are free.
    None,
    /// All are in calls.
    Soon,
    /// And requests wait for one.
    Now,
}

/// The calls that wait for their clients, with the time at which one was last hurried. All threads of a worker
/// share it, behind the lock of the waits.
#[derive(Debug, Default)]
struct List {
    threads: Vec<WaitingCall>,
    /// When a thread was last hurried.
    hurried_at: Option<Instant>,
}

/// A call that waits for its client to read, and what becomes of it if its thread is needed. It is in the list
/// while it waits, and it takes itself off.
#[derive(Debug)]
struct WaitingCall {
    flow: Arc<Flow>,
    outlook: Outlook,
    state: WaitState,
}

/// The state of a call in that list, so that each is hurried once and dismissed once at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitState {
    /// It waits.
    Waits,
    /// It goes on making its response, into a file.
    Hurried,
    /// Its client is cut.
    Dismissed,
}

/// The fate of a thread when threads are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// The rest of its response goes to a file.
    Spills,
    /// It may never end. It goes to the file as well where there is no other thread.
    Endless,
    /// Its response has no room in a file.
    Stuck,
}

impl Waits {
    pub(super) fn new(threads: usize) -> Self {
        let (list, count, need) = (Mutex::default(), AtomicUsize::new(0), AtomicU8::new(Need::None as u8));
        Self { list, count, need, threads }
    }

    /// Blocks until there is room or the thread is asked for. One that has been hurried
    /// [may go on](Waits::may_go_on) until it waits again, or until its [end](Waits::end).
    pub(super) fn wait(&self, flow: &Arc<Flow>, room: Room, outlook: Outlook) -> WaitEnd {
        self.end(flow);
        // Somebody may have asked after the former wait had ended.
        flow.forget_asked();
        self.lock().threads.push(WaitingCall { flow: Arc::clone(flow), outlook, state: WaitState::Waits });
        self.count.fetch_add(1, Ordering::SeqCst);
        let until = room.patience.map(|patience| Instant::now() + patience);
        loop {
            let now = Instant::now();
            let mut patience = until.map(|until| until.saturating_duration_since(now));
            // Whoever has set the need since does not know of this thread, or has seen it in the list.
            let need = self.need();
            if need != Need::None {
                self.press(need, now);
            }
            if need == Need::Now {
                // Whoever presses may not look again before this thread's turn comes.
                patience = Some(patience.unwrap_or(HURRY_INTERVAL).min(HURRY_INTERVAL));
            }
            let end = flow.wait(Room { patience, ..room.clone() });
            if end == WaitEnd::Hurried && self.is_hurried(flow) {
                return end;
            }
            if end != WaitEnd::Hurried || until.is_some_and(|until| Instant::now() >= until) {
                self.end(flow);
                return end;
            }
        }
    }

    fn is_hurried(&self, flow: &Arc<Flow>) -> bool {
        let is_it =
            |waiting: &WaitingCall| Arc::ptr_eq(&waiting.flow, flow) && waiting.state == WaitState::Hurried;
        self.lock().threads.iter().any(is_it)
    }

    /// Whether a thread that has been hurried goes on making its response: it is needed still.
    pub(super) fn may_go_on(&self, flow: &Arc<Flow>, outlook: Outlook) -> bool {
        let goes_on = match outlook {
            Outlook::Endless => self.threads == 1 && self.need() == Need::Now,
            Outlook::Spills | Outlook::Stuck => self.need() != Need::None,
        };
        goes_on && self.is_hurried(flow)
    }

    /// The thread of `flow` neither waits nor goes on any more.
    pub(super) fn end(&self, flow: &Arc<Flow>) {
        let mut list = self.lock();
        let before = list.threads.len();
        list.threads.retain(|waiting| !Arc::ptr_eq(&waiting.flow, flow));
        self.count.fetch_sub(before - list.threads.len(), Ordering::SeqCst);
    }

    /// Says whether threads are needed. One thread at a time does.
    #[inline]
    pub(super) fn set_need(&self, need: Need) {
        if self.need.load(Ordering::Relaxed) != need as u8 {
            self.need.store(need as u8, Ordering::SeqCst);
        }
        if need != Need::None && self.count.load(Ordering::SeqCst) > 0 {
            self.press(need, Instant::now());
        }
    }

    fn need(&self) -> Need {
        let need = self.need.load(Ordering::SeqCst);
        [Need::None, Need::Soon].into_iter().find(|known| *known as u8 == need).unwrap_or(Need::Now)
    }

    /// When to say again [that requests wait](Waits::set_need), if they still do.
    pub(super) fn press_at(&self) -> Option<Instant> {
        if self.need() != Need::Now || self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut list = self.lock();
        list.next_to_hurry(self.threads)?;
        Some(list.hurried_at? + HURRY_INTERVAL)
    }

    #[cold]
    fn press(&self, need: Need, now: Instant) {
        let mut list = self.lock();
        if need == Need::Now {
            list.dismiss(self.threads);
            list.hurry(self.threads, now);
        } else if 2 * list.threads.len() >= self.threads && !list.has_hurried() {
            list.hurry(self.threads, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    /// Requests wait, and all of `threads` are in calls: more than half do not stay there for clients.
    fn dismiss(&mut self, threads: usize) {
        let is_held = |waiting: &WaitingCall| {
            waiting.outlook != Outlook::Spills && waiting.state != WaitState::Dismissed
        };
        let held = self.threads.iter().filter(|waiting| is_held(waiting)).count();
        // An only thread goes on with what may end after all, as long as there is room in the file.
        let goes_on = self.threads.iter().any(|waiting| waiting.outlook == Outlook::Endless);
        let surplus = held.saturating_sub((threads / 2).max(goes_on.into()));
        for waiting in self.threads.iter_mut().filter(|waiting| is_held(waiting)).take(surplus) {
            waiting.state = WaitState::Dismissed;
            waiting.flow.ask(WaitEnd::Dismissed);
        }
    }

    /// Has one more thread go on, unless another one has just been asked to.
    fn hurry(&mut self, threads: usize, now: Instant) {
        let recently = self.hurried_at.is_some_and(|at| now.saturating_duration_since(at) < HURRY_INTERVAL);
        if recently && self.has_hurried() {
            return;
        }
        if let Some(waiting) = self.next_to_hurry(threads) {
            waiting.state = WaitState::Hurried;
            waiting.flow.ask(WaitEnd::Hurried);
            self.hurried_at = Some(now);
        }
    }

    fn has_hurried(&self) -> bool {
        self.threads.iter().any(|waiting| waiting.state == WaitState::Hurried)
    }

    fn next_to_hurry(&mut self, threads: usize) -> Option<&mut WaitingCall> {
        self.threads.iter_mut().find(|waiting| {
            let goes_on = match waiting.outlook {
                Outlook::Spills => true,
                Outlook::Endless => threads == 1,
                Outlook::Stuck => false,
            };
            goes_on && waiting.state == WaitState::Waits
        })
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
        let before = waits.lock().threads.len();
        let (list, waiter) = (Arc::clone(waits), Arc::clone(&flow));
        thread::spawn(move || {
            let room = Room { low_water: 10, drained: None, patience: None };
            tell.send(list.wait(&waiter, room, outlook)).unwrap();
        });
        while waits.lock().threads.len() == before {
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
        waits.set_need(Need::None);
        flow.set_buffered(10, 10);
        assert_eq!(end(&told), Some(WaitEnd::Room));
        let (flow, told) = begin(&waits, Outlook::Spills);
        waits.set_need(Need::Now);
        assert_eq!(end(&told), Some(WaitEnd::Hurried));
        waits.end(&flow);
        // One that begins to wait while requests do does not sleep.
        let flow = Arc::new(Flow::default());
        flow.set_buffered(100, 0);
        let room = Room { low_water: 10, drained: None, patience: None };
        assert_eq!(waits.wait(&flow, room.clone(), Outlook::Spills), WaitEnd::Hurried);
        // Nor does one that begins to wait while another is hurried, for longer than that one has.
        let other = Arc::new(Flow::default());
        other.set_buffered(100, 0);
        assert_eq!(waits.wait(&other, room, Outlook::Spills), WaitEnd::Hurried);
        waits.set_need(Need::None);
        [flow, other].iter().for_each(|flow| waits.end(flow));
        assert!(waits.lock().threads.is_empty());
    }

    #[test]
    fn half_of_the_threads_may_be_stuck_and_the_oldest_go() {
        let waits = Arc::new(Waits::new(4));
        let stuck: Vec<_> = (0..4).map(|_| begin(&waits, Outlook::Stuck)).collect();
        waits.set_need(Need::Now);
        waits.set_need(Need::Now);
        let ends: Vec<_> = stuck[..2].iter().map(|(_, told)| end(told)).collect();
        assert_eq!(ends, [Some(WaitEnd::Dismissed); 2]);
        assert_eq!(waits.lock().threads.len(), 2);
        for (flow, told) in &stuck[2..] {
            flow.set_gone();
            assert_eq!(end(told), Some(WaitEnd::Gone));
        }
    }

    fn hurried(waits: &Waits) -> Vec<bool> {
        waits.lock().threads.iter().map(|waiting| waiting.state == WaitState::Hurried).collect()
    }

    #[test]
    fn threads_are_hurried_one_after_the_other() {
        let waits = Arc::new(Waits::new(4));
        let (_, endless) = begin(&waits, Outlook::Endless);
        let spilling: Vec<_> = (0..3).map(|_| begin(&waits, Outlook::Spills)).collect();
        let begun = Instant::now();
        waits.need.store(Need::Now as u8, Ordering::SeqCst);
        waits.press(Need::Now, begun);
        waits.press(Need::Now, begun + HURRY_INTERVAL / 2);
        assert_eq!(hurried(&waits), [false, true, false, false]);
        assert_eq!(waits.press_at(), Some(begun + HURRY_INTERVAL));
        // Its response is done, and others still wait.
        assert_eq!(end(&spilling[0].1), Some(WaitEnd::Hurried));
        assert!(waits.may_go_on(&spilling[0].0, Outlook::Spills));
        waits.end(&spilling[0].0);
        waits.press(Need::Now, begun + HURRY_INTERVAL / 2);
        assert_eq!(hurried(&waits), [false, true, false]);
        // It is not done soon: nobody knows what it waits for.
        waits.press(Need::Now, begun + HURRY_INTERVAL * 2);
        waits.press(Need::Now, begun + HURRY_INTERVAL * 3);
        assert_eq!(hurried(&waits), [false, true, true]);
        assert_eq!(waits.press_at(), None, "there is nobody else");
        assert!(endless.try_recv().is_err(), "half of the threads may wait");
    }

    #[test]
    fn one_thread_is_kept_free_where_half_of_them_wait() {
        let waits = Arc::new(Waits::new(4));
        let (first, told) = begin(&waits, Outlook::Spills);
        waits.set_need(Need::Soon);
        assert_eq!(hurried(&waits), [false]);
        let (second, _) = begin(&waits, Outlook::Spills);
        // The second one asks itself, a moment after it is in the list.
        assert_eq!((end(&told), hurried(&waits)), (Some(WaitEnd::Hurried), vec![true, false]));
        thread::sleep(HURRY_INTERVAL);
        waits.set_need(Need::Soon);
        assert_eq!(hurried(&waits), [true, false], "one, however long it takes");
        assert!(waits.may_go_on(&first, Outlook::Spills));
        assert!(!waits.may_go_on(&first, Outlook::Endless), "not for that");
        assert!(!waits.may_go_on(&second, Outlook::Spills));
        waits.set_need(Need::None);
        assert!(!waits.may_go_on(&first, Outlook::Spills));
        [first, second].iter().for_each(|flow| waits.end(flow));
    }

    #[test]
    fn of_those_that_may_never_end_half_of_the_threads_wait_and_the_oldest_go() {
        let waits = Arc::new(Waits::new(4));
        let endless: Vec<_> = (0..3).map(|_| begin(&waits, Outlook::Endless)).collect();
        waits.set_need(Need::Soon);
        assert!(endless.iter().all(|(_, told)| told.try_recv().is_err()));
        waits.set_need(Need::Now);
        assert_eq!(end(&endless[0].1), Some(WaitEnd::Dismissed));
        assert!(endless[1..].iter().all(|(_, told)| told.try_recv().is_err()));
        assert_eq!(waits.lock().threads.len(), 2);
    }

    #[test]
    fn an_only_thread_is_never_held() {
        let waits = Arc::new(Waits::new(1));
        let (_, told) = begin(&waits, Outlook::Stuck);
        waits.set_need(Need::Now);
        assert_eq!(end(&told), Some(WaitEnd::Dismissed));
        waits.set_need(Need::None);
        let (_, told) = begin(&waits, Outlook::Endless);
        waits.set_need(Need::Now);
        assert_eq!(end(&told), Some(WaitEnd::Hurried), "it may end after all");
    }
}
