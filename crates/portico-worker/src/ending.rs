//! How and when a worker ends: in order, if it can, and in any case by a time.
//!
//! Decides only: whoever owns it retires or drains the engine, and ends the process.

use std::time::{Duration, Instant};

/// The way in which a worker ends: its status, whether it has a supervisor still, and its last moment. The
/// worker's main thread owns it; once it is set, the end comes in any case, whatever threads do.
#[derive(Debug, Default)]
pub struct Ending {
    /// The exit status, if the process has to end without its threads.
    status: i32,
    /// The supervisor has died.
    orphaned: bool,
    /// When the process ends in any case, once it is to end.
    end: Option<Instant>,
    /// It was told by a signal to end, and has asked for a successor.
    leaving: bool,
    /// Until when it goes on, once it is to finish after a delay.
    goes_on_until: Option<Instant>,
}

/// The step that a worker takes at a signal that tells it to end. One that can be followed asks for a successor
/// first, so that there is never one fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaveStep {
    /// Asks its supervisor for a successor, and goes on until that is ready.
    AskSuccessor,
    /// Finishes what runs.
    Finish,
}

/// How long threads that have nothing to do any more may take to end.
pub const LEAVING: Duration = Duration::from_millis(500);

impl Ending {
    /// The exit status, if the process has to end without its threads.
    pub fn status(&self) -> i32 {
        self.status
    }

    /// It has failed to start, with this exit status.
    pub fn fail(&mut self, status: i32) {
        self.status = status;
    }

    /// Whether the supervisor has died.
    pub fn is_orphaned(&self) -> bool {
        self.orphaned
    }

    /// The supervisor has died.
    pub fn note_orphaned(&mut self) {
        self.orphaned = true;
    }

    /// Whether it is to end.
    pub fn has_begun(&self) -> bool {
        self.end.is_some()
    }

    /// The time that is left until its main thread has something to do: finish after a delay, or end the process.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let next = self.goes_on_until.into_iter().chain(self.end).min();
        next.map(|next| next.saturating_duration_since(now))
    }

    /// It is to finish after `delay`; `false` if it is to do so at once: there is no delay, or it was told before.
    pub fn finish_after(&mut self, now: Instant, delay: Duration) -> bool {
        let is_told = self.goes_on_until.take().is_some() || self.has_begun();
        if is_told || delay.is_zero() {
            return false;
        }
        self.goes_on_until = Some(now + delay);
        true
    }

    /// Whether the delay is over after which it finishes; `true` once.
    pub fn is_delay_over(&mut self, now: Instant) -> bool {
        self.goes_on_until.take_if(|until| *until <= now).is_some()
    }

    /// A signal tells it to end: as all who leave when there is a successor; at the second time without one.
    /// `supervised`: there is a supervisor, who has not died.
    pub fn leave(&mut self, supervised: bool) -> LeaveStep {
        let leaving = std::mem::replace(&mut self.leaving, true);
        if supervised && !leaving { LeaveStep::AskSuccessor } else { LeaveStep::Finish }
    }

    /// It is to end within `limit`, or when it was to end already. Returns when the process ends in any case, also
    /// if its main thread cannot run, where that is sooner than before.
    pub fn end_within(&mut self, now: Instant, limit: Duration) -> Option<Instant> {
        let end = now + limit + LEAVING;
        self.end.is_none_or(|former| end < former).then(|| {
            self.end = Some(end);
            end + LEAVING
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_first_signal_asks_for_a_successor() {
        let mut ending = Ending::default();
        assert_eq!(ending.leave(true), LeaveStep::AskSuccessor);
        assert_eq!(ending.leave(true), LeaveStep::Finish, "nobody waits longer than for a second signal");
        assert_eq!(Ending::default().leave(false), LeaveStep::Finish, "there is nobody to ask");
    }

    #[test]
    fn it_goes_on_for_the_delay_and_a_second_signal_skips_the_rest() {
        let (mut ending, now) = (Ending::default(), Instant::now());
        assert!(!ending.finish_after(now, Duration::ZERO), "there is no delay");
        assert!(ending.finish_after(now, MINUTE));
        assert_eq!((ending.left(now), ending.has_begun()), (Some(MINUTE), false));
        assert!(!ending.is_delay_over(now + MINUTE / 2) && ending.is_delay_over(now + MINUTE));
        assert!(!ending.is_delay_over(now + MINUTE), "once");
        assert!(ending.finish_after(now, MINUTE) && !ending.finish_after(now, MINUTE));
        assert_eq!(ending.left(now), None, "whoever asked finishes at once");
    }

    #[test]
    fn an_end_has_its_time() {
        let (mut ending, now) = (Ending::default(), Instant::now());
        assert_eq!((ending.has_begun(), ending.left(now)), (false, None), "it waits without end");
        assert_eq!(ending.end_within(now, MINUTE), Some(now + MINUTE + 2 * LEAVING));
        assert_eq!(ending.left(now + MINUTE), Some(LEAVING));
        assert_eq!(ending.left(now + 2 * MINUTE), Some(Duration::ZERO));
    }

    #[test]
    fn an_end_only_comes_sooner() {
        let (mut ending, now) = (Ending::default(), Instant::now());
        ending.end_within(now, MINUTE);
        assert_eq!(ending.end_within(now + MINUTE / 2, MINUTE), None, "told again, it has no more time");
        assert_eq!(ending.end_within(now, Duration::ZERO), Some(now + 2 * LEAVING), "stop at once");
        assert_eq!(ending.left(now), Some(LEAVING));
    }

    proptest! {
        /// However often it is told: the process ends at the soonest of all times, and each end that is returned
        /// is sooner than those before.
        #[test]
        fn the_soonest_end_holds(told in proptest::collection::vec((0..50u64, 0..100u64), 1..20)) {
            let (mut ending, start, mut passed) = (Ending::default(), Instant::now(), 0);
            let (mut soonest, mut returned) = (None::<u64>, None::<Instant>);
            for (wait, limit) in told {
                passed += wait;
                let end = ending.end_within(start + Duration::from_secs(passed), Duration::from_secs(limit));
                prop_assert_eq!(end.is_some(), soonest.is_none_or(|soonest| passed + limit < soonest));
                prop_assert!(end.is_none() || returned.is_none_or(|returned| end < Some(returned)));
                returned = end.or(returned);
                soonest = Some(soonest.unwrap_or(u64::MAX).min(passed + limit));
            }
            let left = ending.left(start).unwrap();
            prop_assert_eq!(left, Duration::from_secs(soonest.unwrap()) + LEAVING);
        }
    }
}
