//! Whether the hub still switches between greenlets and, if not, which call prevents it. Meanwhile the timeouts of
//! all other calls stand still. One that computes costs its own timeout, and not those of all that wait beside it.
//!
//! Decides only: whoever owns it asks the hub and the interpreter, and says what they have answered.

use crate::escalation::TimeoutEscalation;

/// The knowledge about one hub: since when it is waited for, and whose call keeps it. The thread that watches
/// calls owns it and tells it the time; it asks nothing itself.
#[derive(Debug, Default)]
pub(crate) struct HubTurning {
    /// Since when it is waited for, if it is.
    awaited: Option<u64>,
    keeper: HubKeeper,
}

/// The call that keeps the hub from coming round, as far as that was asked for. It counts for one wait and is
/// unasked again when the hub comes round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HubKeeper {
    #[default]
    Unasked,
    Asked,
    /// The thread whose call it is; `None` where it is no call's greenlet.
    Known(Option<usize>),
}

/// The question that is to be asked next. Whoever does it must not wait for the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurningStep {
    /// The hub, for the time at which it comes round. What was asked before counts for nothing.
    AskHub,
    /// The interpreter, for the thread whose greenlet runs.
    AskKeeper,
}

/// How long the hub may take to come round, in nanoseconds.
const TURN_MAX: u64 = 50_000_000;

impl HubTurning {
    /// Looks whether the hub has come round, which it last did at `came_round`, and excuses the calls that had to
    /// wait for that. `keeper` is the interpreter's answer, once it is there. To be called while calls run.
    pub(crate) fn look(
        &mut self,
        now: u64,
        came_round: u64,
        keeper: Option<Option<usize>>,
        escalations: &mut [TimeoutEscalation],
    ) -> Option<TurningStep> {
        let since = match self.awaited {
            Some(since) if came_round < since => since,
            former => {
                if let Some(since) = former {
                    self.excuse(since, came_round, escalations);
                }
                *self = Self { awaited: Some(now), keeper: HubKeeper::Unasked };
                return Some(TurningStep::AskHub);
            }
        };
        if now.saturating_sub(since) < TURN_MAX {
            return None;
        }
        match (self.keeper, keeper) {
            (HubKeeper::Unasked, _) => {
                self.keeper = HubKeeper::Asked;
                return Some(TurningStep::AskKeeper);
            }
            (HubKeeper::Asked, Some(keeper)) => self.keeper = HubKeeper::Known(keeper),
            (HubKeeper::Asked | HubKeeper::Known(_), _) => {}
        }
        None
    }

    /// The thread whose call keeps the hub, where one is known to.
    pub(crate) fn keeper(&self) -> Option<usize> {
        match self.keeper {
            HubKeeper::Known(keeper) => keeper,
            HubKeeper::Unasked | HubKeeper::Asked => None,
        }
    }

    /// It has come round, for which it was waited `since` then.
    fn excuse(&self, since: u64, came_round: u64, escalations: &mut [TimeoutEscalation]) {
        let is_late = came_round.saturating_sub(since) >= TURN_MAX;
        let Some(keeper) = self.keeper().filter(|_| is_late) else { return };
        for (index, escalation) in escalations.iter_mut().enumerate() {
            if index != keeper {
                escalation.excuse(since, came_round);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use portico_supervisor::{Running, ThreadState};

    use super::*;
    use crate::escalation::{CallLimits, EscalationStep};

    const SECOND: u64 = 1_000_000_000;

    /// Two calls that began at 0 and may take a second.
    fn calls() -> [TimeoutEscalation; 2] {
        let mut calls = [TimeoutEscalation::default(), TimeoutEscalation::default()];
        for call in &mut calls {
            assert_eq!(step(call, 0), None);
        }
        calls
    }

    fn step(call: &mut TimeoutEscalation, now: u64) -> Option<EscalationStep> {
        let running = Running { sequence: 2, state: ThreadState::Running, ..Running::default() };
        call.look(&running, now, || CallLimits { slow: None, timeout: Some(SECOND), grace: SECOND })
    }

    #[test]
    fn a_hub_that_turns_is_asked_again() {
        let (mut turning, mut calls) = (HubTurning::default(), calls());
        for now in [1, 2, 3].map(|tick| tick * TURN_MAX) {
            // It came round just after it was asked.
            assert_eq!(turning.look(now, now - 1, None, &mut calls), Some(TurningStep::AskHub), "{now}");
            assert_eq!(turning.keeper(), None);
        }
        assert_eq!(step(&mut calls[0], SECOND), Some(EscalationStep::TimeOut), "nothing was excused");
    }

    #[test]
    fn the_keeper_is_asked_for_once() {
        let (mut turning, mut calls) = (HubTurning::default(), calls());
        assert_eq!(turning.look(SECOND, 0, None, &mut calls), Some(TurningStep::AskHub));
        assert_eq!(turning.look(SECOND + TURN_MAX - 1, 0, None, &mut calls), None, "it may take so long");
        assert_eq!(turning.look(SECOND + TURN_MAX, 0, None, &mut calls), Some(TurningStep::AskKeeper));
        assert_eq!(turning.look(SECOND + 2 * TURN_MAX, 0, None, &mut calls), None, "no answer yet");
        assert_eq!(turning.keeper(), None);
        assert_eq!(turning.look(SECOND + 3 * TURN_MAX, 0, Some(Some(1)), &mut calls), None);
        assert_eq!(turning.keeper(), Some(1));
        assert_eq!(turning.look(SECOND + 4 * TURN_MAX, 0, None, &mut calls), None);
        assert_eq!(turning.keeper(), Some(1), "until the hub comes round");
    }

    #[test]
    fn all_but_the_keeper_are_excused() {
        let (mut turning, mut calls) = (HubTurning::default(), calls());
        turning.look(0, 0, None, &mut calls);
        turning.look(SECOND / 2, 0, None, &mut calls);
        // Asked at 1, since a hub that came round at 0 has done so for the question of 0.
        let asked = SECOND / 2;
        turning.look(asked + TURN_MAX, 0, None, &mut calls);
        turning.look(asked + TURN_MAX, 0, Some(Some(0)), &mut calls);
        assert_eq!(turning.keeper(), Some(0));
        let back = asked + SECOND / 4;
        assert_eq!(turning.look(back, back, None, &mut calls), Some(TurningStep::AskHub));
        assert_eq!(step(&mut calls[0], SECOND), Some(EscalationStep::TimeOut), "its time went on");
        assert_eq!(step(&mut calls[1], SECOND + SECOND / 4 - 1), None, "it could not get on");
        assert_eq!(step(&mut calls[1], SECOND + SECOND / 4), Some(EscalationStep::TimeOut));
    }

    #[test]
    fn no_call_is_excused_for_a_greenlet_of_its_own() {
        let (mut turning, mut calls) = (HubTurning::default(), calls());
        turning.look(1, 0, None, &mut calls);
        turning.look(1 + TURN_MAX, 0, None, &mut calls);
        turning.look(1 + TURN_MAX, 0, Some(None), &mut calls);
        assert_eq!(turning.keeper(), None);
        turning.look(SECOND / 2, SECOND / 2, None, &mut calls);
        assert_eq!(step(&mut calls[1], SECOND), Some(EscalationStep::TimeOut));
    }
}
