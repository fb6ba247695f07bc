//! Reloads, the generations of workers that they make, and with preload the templates that these are forked from.

use std::ops::Range;
use std::time::Instant;

use log::Level;

use super::{Action, Child, KILL_GRACE, ProcessPlan, ProcessStage, STOP_GRACE, ServicePhase, StateMachine};

/// A reload that has begun and not ended: until a worker of its generation is ready, the old code is what
/// serves.
#[derive(Debug)]
pub(super) struct Reload {
    /// The generation that it makes.
    pub generation: u32,
    /// Demands that it answers: one that comes while it runs makes it begin anew.
    count: u32,
    /// Whether a worker of it has become ready.
    proven: bool,
}

/// Under --reload: the new code ends its process.
pub(super) const NOT_MENDED: &str = "reload failed; requests wait until the code is mended";

impl StateMachine {
    pub(super) fn on_reload(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !matches!(self.phase, ServicePhase::Booting | ServicePhase::Serving) {
            actions.push(Action::Log(Level::Warn, "Not reloading: the server is stopping".into()));
            actions.push(Action::ReloadEnded { count: 1, failed: true });
            return;
        }
        self.withdrawn = false;
        self.generation_last += 1;
        let generation = self.generation_last;
        let count = self.reload.take().map_or(0, |reload| reload.count) + 1;
        self.reload = Some(Reload { generation, count, proven: false });
        if !self.plan.preload {
            // Each worker imports what is there now. One that is still at what was there before may hang in it,
            // and would keep what has been mended from being imported. If it serves by now, it finishes what it
            // has.
            self.generation = generation;
            let limit = self.plan.graceful_timeout;
            self.dismiss_starting(0..generation, |slot| Action::Drain { slot, limit }, now, actions);
        }
        // What kept workers from booting may just have been mended.
        self.worker_backoff.clear();
        self.template_backoff.clear();
    }

    /// With `--reload`: from now on the old code answers nothing; what comes waits for the new one.
    pub(super) fn on_changed(&mut self, slot: u32, file: &str, now: Instant, actions: &mut Vec<Action>) {
        let process = self.processes.get(&Child::Worker(slot));
        if process.is_none_or(|process| process.generation != self.generation || process.dismissed) {
            actions.push(Action::ReloadEnded { count: 1, failed: false }); // Another worker has told it.
            return;
        }
        if !matches!(self.phase, ServicePhase::Booting | ServicePhase::Serving) {
            actions.push(Action::ReloadEnded { count: 1, failed: true });
            return;
        }
        actions.push(Action::Log(Level::Info, format!("Reloading: {file} changed")));
        let old: Vec<_> = self.workers().map(|(slot, process)| (slot, process.ready.is_some())).collect();
        for (slot, served) in old {
            let (child, why) = (Child::Worker(slot), format!("{file} changed"));
            let (until, order) = match served {
                true => (now + self.plan.graceful_timeout + KILL_GRACE, Action::Retire { slot, why }),
                false => (now + STOP_GRACE, Action::Stop(child)),
            };
            if self.processes.get(&child).is_some_and(|process| !process.dismissed) {
                self.dismiss(child, until, order, actions);
            }
        }
        self.on_reload(now, actions);
    }

    /// Goes by another plan, as far as that can be: slots stay as many as they are. Returns the most workers that
    /// they have room for, where the plan asks for more.
    pub(crate) fn replan(&mut self, plan: ProcessPlan) -> Option<u32> {
        let most = self.plan.workers_room();
        let (min, max) = (plan.workers_min.min(most), plan.workers_max.min(most));
        if (min, max) != (self.plan.workers_min, self.plan.workers_max) {
            (self.plan.workers_min, self.plan.workers_max) = (min, max);
            self.asked = if min == max { max } else { self.asked.clamp(min, max) };
        }
        self.plan.boot_timeout = plan.boot_timeout;
        self.plan.graceful_timeout = plan.graceful_timeout;
        self.plan.drain_delay = plan.drain_delay;
        (plan.workers_max > most).then_some(most)
    }

    /// A worker of this generation is ready.
    pub(super) fn prove(&mut self, generation: u32) {
        if let Some(reload) = self.reload.as_mut().filter(|reload| reload.generation == generation) {
            reload.proven = true;
            self.generation = generation;
        }
    }

    /// Whether all workers are of the new generation.
    pub(super) fn end_reload(&mut self, actions: &mut Vec<Action>) {
        let Some(reload) = &self.reload else { return };
        if reload.proven && self.workers().all(|(_, process)| process.generation >= reload.generation) {
            let message = format!("Reloaded: all workers are of generation {}", reload.generation);
            // Under --reload there is one line for each.
            let level = if self.plan.development { Level::Debug } else { Level::Info };
            actions.push(Action::Log(level, message));
            actions.push(Action::ReloadEnded { count: reload.count, failed: false });
            self.reload = None;
        }
    }

    pub(super) fn fail_reload(&mut self, message: &str, now: Instant, actions: &mut Vec<Action>) {
        let Some(reload) = self.reload.take() else { return };
        // Under --reload there is hardly an end that comes not just after a save.
        let expected = self.plan.development && message != NOT_MENDED;
        let level = if expected { Level::Debug } else { Level::Error };
        actions.push(Action::Log(level, message.to_string()));
        actions.push(Action::ReloadEnded { count: reload.count, failed: true });
        if !self.plan.preload || reload.proven {
            return;
        }
        // What its template has forked must not get to serve.
        let generations = reload.generation..reload.generation + 1;
        self.dismiss_starting(generations, |slot| Action::Stop(Child::Worker(slot)), now, actions);
    }

    /// Ends the workers of these generations that do not serve yet. Not at the first boot, of which none may end.
    fn dismiss_starting(
        &mut self,
        generations: Range<u32>,
        order: impl Fn(u32) -> Action,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        if self.phase == ServicePhase::Booting {
            return;
        }
        let starting = self.workers().filter(|(_, process)| {
            process.stage == ProcessStage::Starting && generations.contains(&process.generation)
        });
        let slots: Vec<_> = starting.map(|(slot, _)| slot).collect();
        for slot in slots {
            self.dismiss(Child::Worker(slot), now + STOP_GRACE, order(slot), actions);
        }
    }

    /// Whether a worker of this generation, the last or that of the reload, has been ready.
    pub(super) fn is_proven(&self, generation: u32) -> bool {
        let unproven = self.reload.as_ref().filter(|reload| !reload.proven);
        self.phase != ServicePhase::Booting && unproven.is_none_or(|reload| reload.generation != generation)
    }

    /// The generation that a worker can be started in now, if any.
    pub(super) fn source(&self) -> Option<u32> {
        if !self.plan.preload {
            return Some(self.generation);
        }
        let newest = self.reload.as_ref().map(|reload| reload.generation);
        let is_ready = |generation: &u32| {
            let template = self.processes.get(&Child::Template(*generation));
            template.is_some_and(|template| template.stage == ProcessStage::Ready)
        };
        newest.into_iter().chain([self.generation]).find(is_ready)
    }

    /// Starts the template that is missing and ends those that are not needed any more.
    pub(super) fn settle_templates(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !self.plan.preload {
            return;
        }
        let newest = self.reload.as_ref().map(|reload| reload.generation);
        let is_needed = |generation| generation == self.generation || newest == Some(generation);
        let superfluous: Vec<_> = self
            .processes
            .iter()
            .filter_map(|(child, process)| match child {
                Child::Template(generation) if !process.dismissed && !is_needed(*generation) => Some(*child),
                _ => None,
            })
            .collect();
        for child in superfluous {
            self.dismiss(child, now + KILL_GRACE, Action::Stop(child), actions);
        }
        // While a reload makes a new one, the old one is not made again.
        let generation = newest.unwrap_or(self.generation);
        let child = Child::Template(generation);
        let is_there = self.processes.contains_key(&child);
        if !is_there && !self.withdrawn && self.template_backoff.allowed(1, now) == 1 {
            let failures = self.template_backoff.take(now);
            self.insert(child, generation, failures, now);
            actions.push(Action::StartTemplate { generation });
        }
    }
}
