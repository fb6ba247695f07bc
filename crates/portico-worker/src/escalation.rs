//! What a call that takes long is due for, step by step: its stack into the log, an exception, being given up.
//!
//! Decides only; knows no clock, no thread and no interpreter.

use portico_supervisor::{Running, ThreadState};

/// The stage that a thread's call has reached: logged, interrupted, given up.
#[derive(Clone, Debug, Default)]
pub(crate) struct TimeoutEscalation {
    /// Number of the call.
    call: u64,
    limits: CallLimits,
    /// When the call last got on, in nanoseconds of the machine's clock, as all times here.
    progress: u64,
    /// Time since then that is not the call's: it could not get on, for no fault of its own.
    excused: u64,
    /// Time without progress after which the stack is logged next.
    slow_after: u64,
    timed_out: Option<u64>,
    /// When an operator's wish to have it cancelled was seen. That it gets on changes nothing then.
    cancelled: Option<u64>,
    given_up: bool,
}

/// The time that a call may take without getting on, in nanoseconds; `None` is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallLimits {
    /// Until its stack is logged, for the first time.
    pub(crate) slow: Option<u64>,
    /// Until an exception is raised in it.
    pub(crate) timeout: Option<u64>,
    /// From then until it is given up.
    pub(crate) grace: u64,
}

/// The measure that a call is due for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EscalationStep {
    /// Log its stack.
    Slow,
    /// Log its stack and raise the exception.
    TimeOut,
    /// Log its stack and raise the exception of a call that an operator has cancelled.
    Cancel,
    /// Answer in its stead and write its thread off.
    GiveUp,
    /// The same, for it was cancelled.
    GiveUpCancelled,
}

impl TimeoutEscalation {
    /// Looks at the call that a thread is in. `limits` says what is allowed to a call that is seen for the first
    /// time.
    pub(crate) fn look(
        &mut self,
        running: &Running,
        now: u64,
        limits: impl FnOnce() -> CallLimits,
    ) -> Option<EscalationStep> {
        self.observe(running, limits);
        if self.given_up || running.state == ThreadState::Lost {
            return None;
        }
        if running.is_cancel_asked && self.cancelled.is_none() {
            self.cancelled = Some(now);
            return Some(EscalationStep::Cancel);
        }
        if let Some(since) = self.cancelled {
            self.given_up = now.saturating_sub(since) >= self.limits.grace;
            return self.given_up.then_some(EscalationStep::GiveUpCancelled);
        }
        if running.state != ThreadState::Running {
            return None;
        }
        if let Some(since) = self.timed_out {
            self.given_up = now.saturating_sub(since) >= self.limits.grace;
            return self.given_up.then_some(EscalationStep::GiveUp);
        }
        let elapsed = now.saturating_sub(self.progress).saturating_sub(self.excused);
        if self.limits.timeout.is_some_and(|timeout| elapsed >= timeout) {
            self.timed_out = Some(now);
            return Some(EscalationStep::TimeOut);
        }
        if self.limits.slow.is_some() && elapsed >= self.slow_after {
            // At once, twice and four times that time, and so on: it is told that it goes on, not how often.
            while self.slow_after <= elapsed {
                self.slow_after = self.slow_after.saturating_mul(2).max(1);
            }
            return Some(EscalationStep::Slow);
        }
        None
    }

    /// As [`TimeoutEscalation::look`], for a call that is due for nothing now, since it cannot get on.
    pub(crate) fn observe(&mut self, running: &Running, limits: impl FnOnce() -> CallLimits) {
        if running.sequence != self.call {
            *self = Self { call: running.sequence, limits: limits(), ..Self::default() };
            self.count_anew(running);
        }
        if running.progress_nanos != self.progress {
            // A new block, or the client has taken one.
            self.count_anew(running);
        }
    }

    fn count_anew(&mut self, running: &Running) {
        self.progress = running.progress_nanos;
        self.excused = 0;
        self.slow_after = self.limits.slow.unwrap_or_default();
        self.timed_out = None;
    }

    /// When the call that was looked at is due for its next step, if it does not get on until then.
    pub(crate) fn due(&self) -> Option<u64> {
        if self.given_up {
            return None;
        }
        if let Some(since) = self.cancelled.or(self.timed_out) {
            return Some(since.saturating_add(self.limits.grace));
        }
        let slow = self.limits.slow.map(|_| self.slow_after);
        let least = [slow, self.limits.timeout].into_iter().flatten().min()?;
        Some(self.progress.saturating_add(self.excused).saturating_add(least))
    }

    /// The call could not get on from `since` until `until`, for no fault of its own.
    pub(crate) fn excuse(&mut self, since: u64, until: u64) {
        // What lies before its begin, or its last block, was not its time.
        let nanos = |own: u64| until.saturating_sub(since.max(own));
        for raised in [&mut self.cancelled, &mut self.timed_out].into_iter().flatten() {
            *raised = raised.saturating_add(nanos(*raised));
        }
        if self.timed_out.is_none() {
            self.excused = self.excused.saturating_add(nanos(self.progress));
        }
    }

    /// Whether the call has been given up.
    pub(crate) fn has_given_up(&self) -> bool {
        self.given_up
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const LIMITS: CallLimits =
        CallLimits { slow: Some(5 * SECOND), timeout: Some(30 * SECOND), grace: 2 * SECOND };

    /// A call that began at 100 s.
    fn call() -> Running {
        let begun = 100 * SECOND;
        let (begun_nanos, progress_nanos) = (begun, begun);
        Running {
            sequence: 2,
            state: ThreadState::Running,
            begun_nanos,
            progress_nanos,
            ..Running::default()
        }
    }

    /// The steps that are due at these seconds after the call's begin.
    fn steps(
        escalation: &mut TimeoutEscalation,
        call: &Running,
        seconds: &[u64],
    ) -> Vec<(u64, EscalationStep)> {
        let at = |second: &u64| Some((*second, escalation.look(call, (100 + second) * SECOND, || LIMITS)?));
        seconds.iter().filter_map(at).collect()
    }

    #[test]
    fn a_call_is_logged_interrupted_and_given_up() {
        let mut escalation = TimeoutEscalation::default();
        let all: Vec<u64> = (0..60).collect();
        let expected = [
            (5, EscalationStep::Slow),
            (10, EscalationStep::Slow),
            (20, EscalationStep::Slow),
            (30, EscalationStep::TimeOut),
            (32, EscalationStep::GiveUp),
        ];
        assert_eq!(steps(&mut escalation, &call(), &all), expected);
        assert!(escalation.has_given_up());
        assert_eq!(escalation.due(), None);
    }

    #[test]
    fn each_step_comes_at_its_nanosecond() {
        let mut escalation = TimeoutEscalation::default();
        let call = call();
        let mut look = |now| escalation.look(&call, now, || LIMITS);
        assert_eq!(look(105 * SECOND - 1), None);
        assert_eq!(look(105 * SECOND), Some(EscalationStep::Slow));
        assert_eq!(look(130 * SECOND - 1), Some(EscalationStep::Slow), "that of 110 s, late");
        assert_eq!(look(130 * SECOND), Some(EscalationStep::TimeOut));
        assert_eq!(look(132 * SECOND - 1), None);
        assert_eq!(look(132 * SECOND), Some(EscalationStep::GiveUp));
    }

    #[test]
    fn the_time_counts_anew_with_each_block() {
        let mut escalation = TimeoutEscalation::default();
        let mut call = call();
        assert_eq!(steps(&mut escalation, &call, &[29]), [(29, EscalationStep::Slow)]);
        call.progress_nanos = 129 * SECOND;
        assert_eq!(steps(&mut escalation, &call, &[31, 33]), []);
        assert_eq!(
            steps(&mut escalation, &call, &[34, 59]),
            [(34, EscalationStep::Slow), (59, EscalationStep::TimeOut)]
        );
        // It has noticed the exception, and writes.
        call.progress_nanos = 160 * SECOND;
        assert_eq!(steps(&mut escalation, &call, &[62, 64]), []);
    }

    #[test]
    fn nothing_is_due_while_the_client_is_awaited() {
        let mut escalation = TimeoutEscalation::default();
        let mut call = call();
        for state in [ThreadState::AwaitingClient, ThreadState::Stream, ThreadState::Lost] {
            call.state = state;
            assert_eq!(steps(&mut escalation, &call, &[5, 50, 500]), [], "{state:?}");
        }
    }

    #[test]
    fn the_next_call_begins_at_the_bottom() {
        let mut escalation = TimeoutEscalation::default();
        assert_eq!(steps(&mut escalation, &call(), &[31, 33]).len(), 2);
        let next = Running { sequence: 4, progress_nanos: 133 * SECOND, ..call() };
        assert_eq!(steps(&mut escalation, &next, &[34, 37]), []);
        assert!(!escalation.has_given_up());
        assert_eq!(escalation.due(), Some(138 * SECOND));
    }

    #[test]
    fn limits_are_asked_for_once_in_a_call() {
        let mut escalation = TimeoutEscalation::default();
        let mut asked = 0;
        for second in 0..3 {
            let limits = || {
                asked += 1;
                CallLimits::default()
            };
            assert_eq!(escalation.look(&call(), (200 + second) * SECOND, limits), None, "no limit at all");
        }
        assert_eq!((asked, escalation.due()), (1, None));
    }

    #[test]
    fn excused_time_is_not_the_call_s() {
        let mut escalation = TimeoutEscalation::default();
        steps(&mut escalation, &call(), &[0]);
        escalation.excuse(50 * SECOND, 60 * SECOND);
        assert_eq!(escalation.due(), Some(105 * SECOND), "that was before its begin");
        escalation.excuse(95 * SECOND, 110 * SECOND);
        assert_eq!(escalation.due(), Some(115 * SECOND));
        assert_eq!(steps(&mut escalation, &call(), &[14, 15, 39]).first(), Some(&(15, EscalationStep::Slow)));
        assert_eq!(steps(&mut escalation, &call(), &[40]), [(40, EscalationStep::TimeOut)]);
        escalation.excuse(130 * SECOND, 143 * SECOND);
        assert_eq!(escalation.due(), Some(145 * SECOND), "its grace as well");
        assert_eq!(steps(&mut escalation, &call(), &[44, 45]), [(45, EscalationStep::GiveUp)]);
    }

    #[test]
    fn a_cancelled_call_is_interrupted_at_once_and_given_up_after_its_grace() {
        let mut escalation = TimeoutEscalation::default();
        let mut call = call();
        assert_eq!(steps(&mut escalation, &call, &[0, 3]), []);
        call.is_cancel_asked = true;
        assert_eq!(steps(&mut escalation, &call, &[4, 5]), [(4, EscalationStep::Cancel)]);
        assert_eq!(escalation.due(), Some(106 * SECOND));
        // It has caught the exception, and writes.
        call.progress_nanos = 105 * SECOND;
        assert_eq!(steps(&mut escalation, &call, &[6, 7]), [(6, EscalationStep::GiveUpCancelled)]);
        assert_eq!((escalation.due(), escalation.has_given_up()), (None, true));
    }

    #[test]
    fn a_call_is_cancelled_whatever_it_waits_for() {
        for state in [ThreadState::Running, ThreadState::AwaitingClient, ThreadState::Stream] {
            let mut escalation = TimeoutEscalation::default();
            let call = Running { state, is_cancel_asked: true, ..call() };
            let expected = [(0, EscalationStep::Cancel), (2, EscalationStep::GiveUpCancelled)];
            assert_eq!(steps(&mut escalation, &call, &[0, 1, 2, 3]), expected, "{state:?}");
        }
        let lost = Running { state: ThreadState::Lost, is_cancel_asked: true, ..call() };
        assert_eq!(steps(&mut TimeoutEscalation::default(), &lost, &[0, 9]), [], "it has been given up");
    }

    #[test]
    fn a_call_without_limits_can_be_cancelled() {
        let mut escalation = TimeoutEscalation::default();
        let call = Running { is_cancel_asked: true, ..call() };
        let limits = || CallLimits { grace: SECOND, ..CallLimits::default() };
        assert_eq!(escalation.look(&call, 200 * SECOND, limits), Some(EscalationStep::Cancel));
        assert_eq!(escalation.look(&call, 201 * SECOND - 1, limits), None);
        assert_eq!(escalation.look(&call, 201 * SECOND, limits), Some(EscalationStep::GiveUpCancelled));
    }

    #[test]
    fn one_that_has_timed_out_is_given_up_as_cancelled() {
        let mut escalation = TimeoutEscalation::default();
        let mut call = call();
        assert_eq!(steps(&mut escalation, &call, &[30]), [(30, EscalationStep::TimeOut)]);
        call.is_cancel_asked = true;
        let expected = [(31, EscalationStep::Cancel), (33, EscalationStep::GiveUpCancelled)];
        assert_eq!(steps(&mut escalation, &call, &[31, 32, 33]), expected);
    }

    #[test]
    fn no_grace_gives_up_at_the_next_look() {
        let mut escalation = TimeoutEscalation::default();
        let limits = || CallLimits { slow: None, timeout: Some(SECOND), grace: 0 };
        assert_eq!(escalation.look(&call(), 101 * SECOND, limits), Some(EscalationStep::TimeOut));
        assert_eq!(escalation.look(&call(), 101 * SECOND, limits), Some(EscalationStep::GiveUp));
    }

    /// What happens between two looks.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Wait(u64),
        Progress,
        Excuse(u64),
        State(ThreadState),
        NextCall,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let state = prop_oneof![Just(ThreadState::Running), Just(ThreadState::AwaitingClient)];
        let event = prop_oneof![
            6 => (0..40u64).prop_map(Event::Wait),
            1 => Just(Event::Progress),
            1 => (0..10u64).prop_map(Event::Excuse),
            1 => state.prop_map(Event::State),
            1 => Just(Event::NextCall),
        ];
        proptest::collection::vec(event, 0..80)
    }

    /// What happens between two looks, where calls are cancelled.
    #[derive(Clone, Copy, Debug)]
    enum CancelEvent {
        Wait(u64),
        Progress,
        State(ThreadState),
        NextCall,
        /// For the present call, or for one so many calls later, or earlier.
        Ask(i64),
    }

    fn cancels() -> impl Strategy<Value = Vec<CancelEvent>> {
        let state = prop_oneof![
            Just(ThreadState::Running),
            Just(ThreadState::AwaitingClient),
            Just(ThreadState::Stream)
        ];
        let event = prop_oneof![
            4 => (0..15u64).prop_map(CancelEvent::Wait),
            1 => Just(CancelEvent::Progress),
            1 => state.prop_map(CancelEvent::State),
            2 => Just(CancelEvent::NextCall),
            2 => (-2..3i64).prop_map(CancelEvent::Ask),
        ];
        proptest::collection::vec(event, 0..80)
    }

    fn limits() -> impl Strategy<Value = CallLimits> {
        let limit = || proptest::option::of(1..60u64);
        (limit(), limit(), 0..20u64).prop_map(|(slow, timeout, grace)| CallLimits { slow, timeout, grace })
    }

    proptest! {
        /// Whatever a call does: no step before its deadline, each once and in order, and none at all after the
        /// last one; at the moment that `due` names a step is due.
        #[test]
        fn steps_keep_their_deadlines_and_order(limits in limits(), events in events()) {
            let mut escalation = TimeoutEscalation::default();
            let mut running = Running { sequence: 2, state: ThreadState::Running, ..Running::default() };
            // When the call last got on, time excused since, when it was interrupted, whether it was given up.
            let (mut now, mut excused, mut interrupted, mut given_up) = (0, 0, None::<u64>, false);
            for event in events {
                match event {
                    Event::Wait(time) => now += time,
                    Event::Progress if running.progress_nanos != now => {
                        (running.progress_nanos, excused, interrupted) = (now, 0, None);
                    }
                    Event::Progress => {}
                    Event::Excuse(time) => {
                        let since = now.saturating_sub(time);
                        escalation.observe(&running, || limits);
                        escalation.excuse(since, now);
                        match &mut interrupted {
                            Some(own) => *own += now - since.max(*own),
                            None => excused += now - since.max(running.progress_nanos),
                        }
                    }
                    Event::State(state) => running.state = state,
                    Event::NextCall => {
                        running.sequence += 2;
                        (running.progress_nanos, excused, interrupted, given_up) = (now, 0, None, false);
                    }
                }
                let step = escalation.look(&running, now, || limits);
                if running.state != ThreadState::Running || given_up {
                    prop_assert_eq!(step, None);
                    continue;
                }
                let elapsed = now.saturating_sub(running.progress_nanos).saturating_sub(excused);
                match step {
                    Some(EscalationStep::Slow) => {
                        prop_assert!(elapsed >= limits.slow.unwrap() && interrupted.is_none());
                        prop_assert!(limits.timeout.is_none_or(|timeout| elapsed < timeout));
                    }
                    Some(EscalationStep::TimeOut) => {
                        prop_assert!(elapsed >= limits.timeout.unwrap() && interrupted.is_none());
                        interrupted = Some(now);
                    }
                    Some(EscalationStep::GiveUp) => {
                        prop_assert!(now >= interrupted.unwrap() + limits.grace);
                        given_up = true;
                    }
                    Some(EscalationStep::Cancel | EscalationStep::GiveUpCancelled) => {
                        prop_assert!(false, "nobody has asked for that");
                    }
                    None => match interrupted {
                        Some(since) => prop_assert!(now < since + limits.grace),
                        None => prop_assert!(limits.timeout.is_none_or(|timeout| elapsed < timeout)),
                    },
                }
                match escalation.due() {
                    Some(due) => {
                        let mut later = escalation.clone();
                        prop_assert!(due > now && later.look(&running, due - 1, || limits).is_none()
                            || limits.grace == 0, "due at {} at {}", due, now);
                        prop_assert!(later.look(&running, due.max(now), || limits).is_some());
                    }
                    None => prop_assert!(given_up || limits.slow.is_none() && limits.timeout.is_none()),
                }
            }
        }

        /// Whoever asks for whichever call at whatever time, late ones included: exactly the calls that were asked
        /// for while they ran are interrupted, at the next look, and given up after their grace if they still run.
        #[test]
        fn a_wish_to_cancel_hits_the_call_that_is_meant(limits in limits(), events in cancels()) {
            let mut escalation = TimeoutEscalation::default();
            let mut running = Running { sequence: 100, state: ThreadState::Running, ..Running::default() };
            // The word on the scoreboard; when the present call was interrupted, and whether it was given up.
            let (mut now, mut asked, mut cancelled, mut given_up) = (0, 0, None::<u64>, false);
            for event in events {
                match event {
                    CancelEvent::Wait(time) => now += time,
                    CancelEvent::Progress => running.progress_nanos = now,
                    CancelEvent::State(state) => running.state = state,
                    CancelEvent::Ask(other) => asked = running.sequence.wrapping_add_signed(2 * other),
                    CancelEvent::NextCall => {
                        running.sequence += 2;
                        (running.progress_nanos, cancelled, given_up) = (now, None, false);
                    }
                }
                running.is_cancel_asked = asked == running.sequence;
                let step = escalation.look(&running, now, || limits);
                match step {
                    Some(EscalationStep::Cancel) => {
                        prop_assert!(running.is_cancel_asked && cancelled.is_none() && !given_up);
                        cancelled = Some(now);
                    }
                    Some(EscalationStep::GiveUpCancelled) => {
                        prop_assert!(now >= cancelled.unwrap() + limits.grace && !given_up);
                        given_up = true;
                    }
                    Some(EscalationStep::GiveUp) => {
                        prop_assert!(cancelled.is_none() && !given_up);
                        given_up = true;
                    }
                    Some(EscalationStep::Slow | EscalationStep::TimeOut) => prop_assert!(cancelled.is_none()),
                    None => {
                        prop_assert!(!running.is_cancel_asked || cancelled.is_some() || given_up);
                        prop_assert!(cancelled.is_none_or(|since| given_up || now < since + limits.grace));
                    }
                }
            }
        }

        /// A call that never gets on is given up: after its timeout and grace, whatever the looks in between.
        #[test]
        fn a_call_that_hangs_is_given_up(
            timeout in 1..60u64,
            grace in 0..20u64,
            looks in proptest::collection::vec(1..15u64, 1..40),
        ) {
            let mut escalation = TimeoutEscalation::default();
            let running = Running { sequence: 2, state: ThreadState::Running, ..Running::default() };
            let limits = CallLimits { slow: Some(7), timeout: Some(timeout), grace };
            let (mut now, mut steps) = (0, Vec::new());
            for wait in looks.into_iter().chain([60, 20, 0]) {
                now += wait;
                steps.extend(escalation.look(&running, now, || limits));
            }
            steps.retain(|step| *step != EscalationStep::Slow);
            prop_assert_eq!(steps, [EscalationStep::TimeOut, EscalationStep::GiveUp]);
        }
    }
}
