//! How soon a thread that computes gives the interpreter to others: Python's switch interval, 5 ms by default.
//!
//! A request needs the interpreter several times. Each time it waits for one whole interval if another call
//! computes. While a call runs for long and the interpreter is hard to get, the interval is made short, and all
//! others go on nearly as before; calls that are short are not cut into pieces for nothing.
//!
//! Decides only: whoever owns it sets the interval.

use std::time::Duration;

/// From when on a call is a long one.
const LONG: Duration = Duration::from_millis(50);

/// The interval meanwhile, in seconds as Python has it. A switch takes some 10 us: a twentieth of this.
pub const SHORT_INTERVAL: f64 = 0.0002;

/// The switch interval of one worker's interpreter, and who has changed it.
#[derive(Debug, Default)]
pub struct Switching {
    state: IntervalState,
}

/// The state of the switch interval: whose it is, and what it was before it was made short. Only what was made
/// short here is set back.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum IntervalState {
    /// As Python or the application has set it.
    #[default]
    Theirs,
    /// It is being tried how long the interpreter takes to get.
    Trying,
    /// Made short; this was the interval before.
    Short(f64),
}

/// The step that is due for the interval; `portico-python` takes it, since it needs the interpreter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SwitchStep {
    /// Make it short if the interpreter [is hard to get](is_hard_to_get).
    Shorten,
    /// Set it to what it was, unless the application has set it meanwhile.
    Restore(f64),
}

impl Switching {
    /// Takes note that the longest call has been running for `longest`. `shortened` is what came of
    /// [`SwitchStep::Shorten`], once it is there: the former interval, if it was made short.
    pub fn look(&mut self, longest: Duration, shortened: Option<Option<f64>>) -> Option<SwitchStep> {
        let is_long = is_long(longest);
        let (state, step) = match (self.state, shortened) {
            (IntervalState::Theirs, _) if is_long => (IntervalState::Trying, Some(SwitchStep::Shorten)),
            (IntervalState::Trying, Some(Some(former))) => (IntervalState::Short(former), None),
            (IntervalState::Trying, Some(None)) => (IntervalState::Theirs, None),
            (IntervalState::Short(former), _) if !is_long => {
                (IntervalState::Theirs, Some(SwitchStep::Restore(former)))
            }
            (state, _) => (state, None),
        };
        self.state = state;
        step
    }
}

/// Whether a call that has been running for `longest` is a long one.
pub fn is_long(longest: Duration) -> bool {
    longest >= LONG
}

/// Whether a thread that has waited so long for the interpreter had to because of this interval, in seconds.
pub fn is_hard_to_get(interval: f64, waited: Duration) -> bool {
    interval > SHORT_INTERVAL && waited.as_secs_f64() >= interval / 2.0
}

/// Whether the interval is still the short one. Python keeps whole microseconds.
pub fn is_short(interval: f64) -> bool {
    (interval - SHORT_INTERVAL).abs() < 1e-6
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRIEF: Duration = Duration::from_millis(49);

    #[test]
    fn the_interval_is_short_while_a_long_call_runs() {
        let mut switching = Switching::default();
        assert_eq!(switching.look(BRIEF, None), None);
        assert_eq!(switching.look(LONG, None), Some(SwitchStep::Shorten));
        assert_eq!(switching.look(LONG, None), None, "it is asked for once");
        assert_eq!(switching.look(LONG, Some(Some(0.005))), None);
        assert_eq!(switching.look(LONG, None), None);
        assert_eq!(switching.look(BRIEF, None), Some(SwitchStep::Restore(0.005)));
        assert_eq!(switching.look(BRIEF, None), None);
    }

    #[test]
    fn an_interpreter_that_is_free_is_tried_again() {
        let mut switching = Switching::default();
        switching.look(LONG, None);
        assert_eq!(switching.look(LONG, Some(None)), None);
        assert_eq!(switching.look(LONG, None), Some(SwitchStep::Shorten));
    }

    #[test]
    fn a_late_answer_is_restored_all_the_same() {
        let mut switching = Switching::default();
        switching.look(LONG, None);
        assert_eq!(switching.look(BRIEF, None), None, "the answer is not there yet");
        assert_eq!(switching.look(BRIEF, Some(Some(0.005))), None);
        assert_eq!(switching.look(BRIEF, None), Some(SwitchStep::Restore(0.005)));
    }

    #[test]
    fn the_interpreter_is_hard_to_get_from_half_the_interval() {
        assert!(is_hard_to_get(0.005, Duration::from_micros(2500)));
        assert!(!is_hard_to_get(0.005, Duration::from_micros(2499)));
        assert!(!is_hard_to_get(SHORT_INTERVAL, Duration::from_secs(1)), "the application wants it shorter");
        assert!(is_short(SHORT_INTERVAL) && is_short(0.0002004) && !is_short(0.0003));
    }
}
