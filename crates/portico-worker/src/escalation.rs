//! What a call that takes long is due for, step by step: its stack into the log, an exception, being given up.
//!
//! Decides only; knows no clock, no thread and no interpreter.

use portico_supervisor::{Running, ThreadState};

/// The stage that a thread's call has reached: logged, interrupted, given up. Decides only; it has no clock.
#[derive(Debug, Default)]
pub struct TimeoutEscalation {
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
    given_up: bool,
}

/// The time that a call may take without getting on, in nanoseconds; `None` is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallLimits {
    /// Until its stack is logged, for the first time.
    pub slow: Option<u64>,
    /// Until an exception is raised in it.
    pub timeout: Option<u64>,
    /// From then until it is given up.
    pub grace: u64,
}

/// The measure that a call is due for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EscalationStep {
    /// Log its stack.
    Slow,
    /// Log its stack and raise the exception.
    TimeOut,
    /// Answer in its stead and write its thread off.
    GiveUp,
}

impl TimeoutEscalation {
    /// Looks at the call that a thread is in. `limits` says what is allowed to a call that is seen for the first
    /// time.
    pub fn look(
        &mut self,
        running: &Running,
        now: u64,
        limits: impl FnOnce() -> CallLimits,
    ) -> Option<EscalationStep> {
        if running.sequence != self.call {
            *self = Self { call: running.sequence, limits: limits(), ..Self::default() };
        }
        if running.progress_nanos != self.progress {
            // A new block, or the client has taken one: the time counts anew.
            self.progress = running.progress_nanos;
            self.excused = 0;
            self.slow_after = self.limits.slow.unwrap_or_default();
            self.timed_out = None;
        }
        if running.state != ThreadState::Running || self.given_up {
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

    /// When the call that was looked at is due for its next step, if it does not get on until then.
    pub fn due(&self) -> Option<u64> {
        if self.given_up {
            return None;
        }
        if let Some(since) = self.timed_out {
            return Some(since.saturating_add(self.limits.grace));
        }
        let slow = self.limits.slow.map(|_| self.slow_after);
        let least = [slow, self.limits.timeout].into_iter().flatten().min()?;
        Some(self.progress.saturating_add(self.excused).saturating_add(least))
    }

    /// The call could not get on for so long, for no fault of its own.
    pub fn excuse(&mut self, nanos: u64) {
        match &mut self.timed_out {
            Some(since) => *since = since.saturating_add(nanos),
            None => self.excused = self.excused.saturating_add(nanos),
        }
    }

    /// Whether the call has been given up.
    pub fn has_given_up(&self) -> bool {
        self.given_up
    }
}
