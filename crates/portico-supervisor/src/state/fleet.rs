//! How many workers there are: starting those that are missing, retiring those that are too many, replacing one by
//! one.

use std::time::Instant;

use log::Level;
use portico_metrics::StartReason;

use super::{Action, Child, KILL_GRACE, ProcessStage, ProcessState, ServicePhase, StateMachine};

impl StateMachine {
    /// Brings what there is closer to what there should be.
    pub(super) fn reconcile(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !self.phase.starts_workers() {
            return;
        }
        self.worker_backoff.forget(now);
        self.template_backoff.forget(now);
        self.end_reload(actions);
        self.settle_templates(now, actions);
        if self.phase == ServicePhase::Serving && !self.withdrawn {
            self.retire_surplus(now, actions);
            self.begin_replacement(now);
        }
        self.start_missing(now, actions);
    }

    pub(super) fn scale_to(&mut self, count: u32, actions: &mut Vec<Action>) {
        let (least, most) = self.plan.range();
        let count = count.clamp(least, most);
        if count != self.asked && self.phase.starts_workers() {
            self.asked = count;
            actions.push(Action::Log(Level::Info, format!("{count} workers asked for")));
        }
    }

    /// At most one worker leaves at a time.
    fn retire_surplus(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.is_one_leaving() || self.count(ProcessStage::Ready) <= self.wanted() {
            return;
        }
        let ready = self.workers().filter(|(_, process)| process.stage == ProcessStage::Ready);
        let key = |slot: u32, process: &ProcessState| {
            (self.replacing == Some(slot), self.is_outdated(process), slot) // The highest slot of the rest.
        };
        let Some((slot, process)) = ready.max_by_key(|(slot, process)| key(*slot, process)) else { return };
        let why = match &process.outdated {
            Some(reason) => reason.clone(),
            None if self.is_outdated(process) => "reload".to_owned(),
            None => format!("scaled down to {}", self.wanted()),
        };
        self.replacing = self.replacing.filter(|replacing| *replacing != slot);
        let until = now + self.plan.graceful_timeout + KILL_GRACE;
        self.dismiss(Child::Worker(slot), until, Action::Retire { slot, why }, actions);
    }

    /// Allows one more worker in favour of one that is to be replaced, while all are there.
    fn begin_replacement(&mut self, now: Instant) {
        let complete =
            self.count(ProcessStage::Ready) == self.wanted() && self.count(ProcessStage::Starting) == 0;
        let possible = complete && self.replacing.is_none() && !self.is_one_leaving();
        if possible && self.worker_backoff.allowed(1, now) == 1 && self.source().is_some() {
            let outdated =
                |process: &ProcessState| process.stage == ProcessStage::Ready && self.is_outdated(process);
            let first = self.workers().find(|(_, process)| outdated(process)).map(|(slot, _)| slot);
            self.replacing = first;
        }
    }

    fn start_missing(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let there = self.count(ProcessStage::Ready) + self.count(ProcessStage::Starting);
        let goal = self.wanted() + u32::from(self.replacing.is_some());
        if there >= goal {
            self.vacancies = 0;
        }
        for _ in 0..self.worker_backoff.allowed(goal.saturating_sub(there), now) {
            let free = (0..self.plan.slots).find(|slot| !self.processes.contains_key(&Child::Worker(*slot)));
            let (Some(slot), Some(generation)) = (free, self.source()) else { return };
            let failures = self.worker_backoff.take(now);
            self.insert(Child::Worker(slot), generation, failures, now);
            let reason = self.start_reason(generation);
            actions.push(Action::StartWorker { slot, generation, reason });
        }
    }

    /// What makes a further worker of this generation necessary.
    fn start_reason(&mut self, generation: u32) -> StartReason {
        if self.phase == ServicePhase::Booting {
            return StartReason::Boot;
        }
        if self.vacancies > 0 {
            self.vacancies -= 1;
            return StartReason::Death;
        }
        match self.replacing {
            _ if self.reload.as_ref().is_some_and(|reload| reload.generation == generation) => {
                StartReason::Reload
            }
            Some(_) => StartReason::Replace,
            None => StartReason::Scale,
        }
    }

    /// Whether a worker that has served is at its end.
    fn is_one_leaving(&self) -> bool {
        self.workers().any(|(_, process)| process.stage == ProcessStage::Leaving && process.ready.is_some())
    }

    fn is_outdated(&self, process: &ProcessState) -> bool {
        let newest =
            self.reload.as_ref().and_then(|reload| self.source().filter(|it| *it == reload.generation));
        process.outdated.is_some() || newest.is_some_and(|newest| process.generation < newest)
    }
}
