//! The numbers of a worker's threads: which are taken, which threads are done with, and how many may take the
//! place of such as are stuck in the application.
//!
//! Decides only: whoever owns it starts the threads, and says what becomes of them.

/// The threads of one worker by their numbers, from 0.
#[derive(Debug)]
pub struct ThreadNumbers {
    states: Vec<PoolThreadState>,
    /// How many there may be at once.
    most: usize,
    /// How many of those that are written off may be replaced.
    replaced_max: usize,
}

/// The state of the thread of one number. A number is given anew only when its thread has ended: two threads must
/// never write to one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PoolThreadState {
    Running,
    /// In a call that has taken its connection over. Another thread answers requests in its stead.
    Streaming,
    /// That call has ended, and the thread with it: its number is free.
    Free,
    Ended,
    WrittenOff,
    /// Written off, and come out of the application after all.
    Returned,
}

impl ThreadNumbers {
    /// None is taken yet; `most` may be, and `replaced_max` of those that are written off may be replaced.
    pub fn new(most: usize, replaced_max: usize) -> Self {
        Self { states: Vec::new(), most, replaced_max }
    }

    /// The first number that is free, for a thread that is to be started; `None` if there is none.
    pub fn take(&mut self) -> Option<usize> {
        if let Some(free) = self.states.iter().position(|state| *state == PoolThreadState::Free) {
            self.states[free] = PoolThreadState::Running;
            return Some(free);
        }
        (self.states.len() < self.most).then(|| {
            self.states.push(PoolThreadState::Running);
            self.states.len() - 1
        })
    }

    /// Whether one more thread that has been written off may be replaced: it counts already.
    pub fn may_replace(&self) -> bool {
        let is_gone = |state: &&PoolThreadState| {
            matches!(state, PoolThreadState::WrittenOff | PoolThreadState::Returned)
        };
        self.states.iter().filter(is_gone).count() <= self.replaced_max
    }

    /// The thread with this number could not be started.
    pub fn fail(&mut self, index: usize) {
        if let Some(state) = self.states.get_mut(index) {
            *state = PoolThreadState::Ended;
        }
    }

    /// Its call has taken its connection over, and another thread answers requests in its stead.
    pub fn stream(&mut self, index: usize) {
        if let Some(state) = self.states.get_mut(index)
            && *state == PoolThreadState::Running
        {
            *state = PoolThreadState::Streaming;
        }
    }

    /// It has ended.
    pub fn end(&mut self, index: usize) {
        if let Some(state) = self.states.get_mut(index) {
            *state = match *state {
                PoolThreadState::Running => PoolThreadState::Ended,
                PoolThreadState::WrittenOff => PoolThreadState::Returned,
                PoolThreadState::Streaming => PoolThreadState::Free,
                former => former,
            };
        }
    }

    /// It is stuck in the application, and counts no more. One that streams is in nobody's way.
    pub fn write_off(&mut self, index: usize) {
        if let Some(state) = self.states.get_mut(index)
            && *state == PoolThreadState::Running
        {
            *state = PoolThreadState::WrittenOff;
        }
    }

    /// Whether every thread that has not been written off is done with the engine. They are so once that has
    /// `stopped`; before it, that the last one has been written off is no end: another is about to take its place.
    pub fn all_ended(&self, stopped: bool) -> bool {
        (stopped || self.has(PoolThreadState::Ended)) && !self.has(PoolThreadState::Running)
    }

    /// Whether some that are not waited for are still in the application.
    pub fn are_some_stuck(&self) -> bool {
        self.has(PoolThreadState::WrittenOff) || self.has(PoolThreadState::Streaming)
    }

    /// Whether it has ended, and may be waited for: what it still does then is short.
    pub fn may_join(&self, index: usize) -> bool {
        matches!(self.states.get(index), Some(PoolThreadState::Ended | PoolThreadState::Free))
    }

    fn has(&self, state: PoolThreadState) -> bool {
        self.states.contains(&state)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Two threads that answer requests, in a worker with room for five.
    fn two() -> ThreadNumbers {
        let mut numbers = ThreadNumbers::new(5, 2);
        assert_eq!((numbers.take(), numbers.take()), (Some(0), Some(1)));
        numbers
    }

    #[test]
    fn all_have_ended_when_the_last_one_has() {
        let mut numbers = two();
        assert!(!numbers.all_ended(false) && !numbers.all_ended(true));
        numbers.end(0);
        assert!(!numbers.all_ended(true) && numbers.may_join(0) && !numbers.may_join(1));
        numbers.end(1);
        assert!(numbers.all_ended(false) && !numbers.are_some_stuck());
    }

    #[test]
    fn the_last_thread_written_off_is_no_end() {
        let mut numbers = two();
        numbers.write_off(0);
        numbers.write_off(1);
        assert!(!numbers.all_ended(false), "others are about to take their places");
        assert!(numbers.all_ended(true), "none is waited for at the end");
        assert!(numbers.are_some_stuck() && !numbers.may_join(0));
    }

    #[test]
    fn a_thread_that_returns_is_not_waited_for() {
        let mut numbers = two();
        numbers.write_off(0);
        numbers.end(0);
        assert!(!numbers.are_some_stuck() && !numbers.may_join(0));
        numbers.write_off(0);
        assert!(!numbers.are_some_stuck(), "it has come back");
    }

    #[test]
    fn as_many_are_replaced_as_there_were() {
        let mut numbers = two();
        for replaced in 0..2 {
            numbers.write_off(replaced);
            assert!(numbers.may_replace(), "{replaced}");
            assert_eq!(numbers.take(), Some(2 + replaced));
        }
        numbers.write_off(2);
        assert!(!numbers.may_replace());
        numbers.end(2);
        assert!(!numbers.may_replace(), "that it has come back frees no place");
    }

    #[test]
    fn the_number_of_a_stream_is_free_after_it() {
        let mut numbers = two();
        numbers.stream(0);
        assert_eq!(numbers.take(), Some(2));
        numbers.write_off(0);
        assert!(numbers.are_some_stuck(), "it streams on");
        numbers.end(0);
        assert!(!numbers.are_some_stuck());
        assert_eq!(numbers.take(), Some(0));
        assert_eq!((numbers.take(), numbers.take(), numbers.take()), (Some(3), Some(4), None));
    }

    #[test]
    fn a_thread_that_does_not_start_has_ended() {
        let mut numbers = two();
        numbers.end(0);
        numbers.fail(1);
        assert!(numbers.all_ended(false));
    }

    proptest! {
        /// Whatever happens to them: no more threads than there may be, and each number is one thread's.
        #[test]
        fn a_number_is_taken_by_one_thread(actions in proptest::collection::vec((0..5u8, 0..6usize), 0..200)) {
            let mut numbers = ThreadNumbers::new(5, 2);
            let mut living = [false; 6];
            for (action, index) in actions {
                match action {
                    0 => if let Some(taken) = numbers.take() {
                        prop_assert!(taken < 5 && !living[taken]);
                        living[taken] = true;
                    },
                    // A thread ends once.
                    1 if living[index] => {
                        numbers.end(index);
                        living[index] = false;
                    }
                    2 if living[index] => numbers.write_off(index),
                    3 if living[index] => numbers.stream(index),
                    _ => {}
                }
                let ready = (0..5).filter(|index| living[*index]).count();
                prop_assert!(ready > 0 || !numbers.are_some_stuck());
                prop_assert!(living.iter().enumerate().all(|(index, lives)| !(*lives && numbers.may_join(index))));
            }
        }
    }
}
