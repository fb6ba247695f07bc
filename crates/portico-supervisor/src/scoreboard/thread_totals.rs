//! What a thread's record counts for ever: the time of its calls, and its waits for the interpreter. The next
//! thread with the record goes on adding, also that of the slot's next worker.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::thread::ThreadRecord;

/// The totals of one thread's record. Its thread writes them, and whoever ends a call in its stead: the watch over
/// calls when it writes the thread off, the supervisor after the death of the worker.
///
/// The time of calls is one word, so that no reader meets it half written: bit 0 says whether a call runs, the
/// others are the time of the calls that have ended, in nanoseconds. When the present one began, the record
/// says.
#[derive(Clone, Copy, Debug)]
pub struct ThreadTotals<'a>(pub(super) &'a [AtomicU64]);

#[derive(Clone, Copy)]
enum Total {
    Busy,
    InterpreterNanos,
    InterpreterWaits,
}

/// Words that they take.
pub(super) const TOTAL_WORDS: usize = 3;

/// A call that runs counts up to this long ago: its thread reads its clock before it says that the call has ended,
/// and may be kept from the processor in between. What was shown is never to fall.
const CLOCK_LAG_NANOS: u64 = 1_000_000_000;

impl<'a> ThreadTotals<'a> {
    #[inline]
    fn word(self, total: Total) -> &'a AtomicU64 {
        &self.0[total as usize]
    }

    /// A call begins, of which the record knows.
    #[inline]
    pub fn begin_call(self) {
        let word = self.word(Total::Busy);
        word.store(word.load(Ordering::Relaxed) | 1, Ordering::Release);
    }

    /// The call has ended after this time, if it has not ended before.
    #[inline]
    pub fn end_call(self, nanos: u64) {
        let word = self.word(Total::Busy);
        let before = word.load(Ordering::Relaxed);
        if before & 1 == 1 {
            word.store((before >> 1).wrapping_add(nanos) << 1, Ordering::Release);
        }
    }

    /// The word that has the time of calls, for whoever ends them as [`ThreadTotals::end_call`] does.
    pub fn busy_word(self) -> &'a AtomicU64 {
        self.word(Total::Busy)
    }

    /// Counts up to `now` the call that runs and will not end, if there is one. `record` is the thread's.
    pub fn cut_call(self, record: ThreadRecord<'_>, now_nanos: u64) {
        self.end_call(now_nanos.saturating_sub(record.begun_nanos()));
    }

    /// The thread has waited for the interpreter so often and, all in all, so long.
    #[inline]
    pub fn add_interpreter_wait(self, nanos: u64, times: u64) {
        let add = |total, value| {
            let word = self.word(total);
            word.store(word.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
        };
        add(Total::InterpreterNanos, nanos);
        add(Total::InterpreterWaits, times);
    }

    /// How long threads with this record have waited for the interpreter, in nanoseconds, and how often.
    pub fn interpreter_waits(self) -> (u64, u64) {
        let get = |total| self.word(total).load(Ordering::Relaxed);
        (get(Total::InterpreterNanos), get(Total::InterpreterWaits))
    }

    /// The time of all calls by `now`, in nanoseconds, also of the one that runs. `record` is the thread's.
    pub fn busy_nanos(self, record: ThreadRecord<'_>, now_nanos: u64) -> u64 {
        let mut word = self.word(Total::Busy).load(Ordering::Acquire);
        // A few looks: a call may end and another begin meanwhile.
        for _ in 0..8 {
            if word & 1 == 0 {
                break;
            }
            let begun = record.begun_nanos();
            fence(Ordering::Acquire); // That before the second look at the word.
            let again = self.word(Total::Busy).load(Ordering::Relaxed);
            if again == word {
                let running = now_nanos.saturating_sub(CLOCK_LAG_NANOS).saturating_sub(begun);
                return (word >> 1).saturating_add(running);
            }
            word = again;
        }
        word >> 1
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::super::{Note, Scoreboard, WorkerSlot, now_nanos};
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn begin(slot: WorkerSlot<'_>, begun_nanos: u64) {
        let thread = slot.thread(0).unwrap();
        let (method, target) = (&b"GET"[..], &b"/"[..]);
        thread.begin(&Note { method, target, peer: None, begun_nanos, queued_nanos: 0, route_timeout: None });
        thread.totals().begin_call();
    }

    fn busy(slot: WorkerSlot<'_>, now: u64) -> u64 {
        let thread = slot.thread(0).unwrap();
        thread.totals().busy_nanos(thread, now)
    }

    #[test]
    fn the_time_of_calls_grows_while_they_run_and_stays_when_they_have_ended() {
        let board = Scoreboard::create(1, 1).unwrap();
        let slot = board.slot(0).unwrap();
        let end = |nanos| slot.thread(0).unwrap().totals().end_call(nanos);
        assert_eq!(busy(slot, 10 * SECOND), 0);
        begin(slot, 10 * SECOND);
        assert_eq!(busy(slot, 10 * SECOND), 0);
        assert_eq!(busy(slot, 11 * SECOND), 0);
        assert_eq!(busy(slot, 12 * SECOND), SECOND);
        end(3 * SECOND);
        assert_eq!(busy(slot, 40 * SECOND), 3 * SECOND);
        end(50 * SECOND);
        assert_eq!(busy(slot, 60 * SECOND), 3 * SECOND, "it had ended");
        begin(slot, 100 * SECOND);
        assert_eq!(busy(slot, 100 * SECOND), 3 * SECOND);
        assert_eq!(busy(slot, 103 * SECOND), 5 * SECOND);
    }

    #[test]
    fn they_outlive_the_worker_whose_last_call_ends_with_it() {
        let board = Scoreboard::create(1, 2).unwrap();
        let slot = board.slot(0).unwrap();
        begin(slot, 5 * SECOND);
        slot.thread(0).unwrap().totals().add_interpreter_wait(7, 1);
        slot.thread(1).unwrap().totals().add_interpreter_wait(8, 1);
        slot.end_calls(6 * SECOND);
        slot.begin_worker();
        assert_eq!(slot.thread(0).unwrap().running(), None);
        assert_eq!(busy(slot, 90 * SECOND), SECOND);
        let waits = [0, 1].map(|index| slot.thread(index).unwrap().totals().interpreter_waits());
        assert_eq!(waits, [(7, 1), (8, 1)]);
    }

    #[test]
    fn nothing_that_was_shown_falls() {
        let board = Scoreboard::create(1, 1).unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let slot = board.slot(0).unwrap();
                for _ in 0..200_000 {
                    let begun = now_nanos();
                    begin(slot, begun);
                    slot.thread(0).unwrap().totals().end_call(now_nanos() - begun);
                }
                stop.store(true, Ordering::SeqCst);
            });
            let slot = board.slot(0).unwrap();
            let mut shown = 0;
            while !stop.load(Ordering::SeqCst) {
                let now = busy(slot, now_nanos());
                assert!(now >= shown, "{now} after {shown}");
                shown = now;
            }
        });
    }

    #[test]
    fn nonsense_makes_no_panic() {
        let board = Scoreboard::create(1, 1).unwrap();
        let slot = board.slot(0).unwrap();
        let totals = slot.thread(0).unwrap().totals();
        totals.0.iter().for_each(|word| word.store(u64::MAX, Ordering::Relaxed));
        busy(slot, 1);
        totals.add_interpreter_wait(u64::MAX, u64::MAX);
        totals.begin_call();
        totals.end_call(u64::MAX);
        totals.cut_call(slot.thread(0).unwrap(), 0);
    }
}
