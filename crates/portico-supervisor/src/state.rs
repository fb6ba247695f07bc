//! What the supervisor decides: a pure machine of events and actions, without a process, a clock or a log.
//!
//! The life of a worker in its slot:
//!
//! ```text
//!            StartWorker                Ready
//!   (empty) -------------> Starting ------------> Ready
//!      ^                    |    |                  |  Retire: a successor is ready, or it is one too many
//!      |      BootFailed,   |    |  it dies         |  Drain: the server stops
//!      |      boot-timeout  |    |                  v
//!      |                    +----|------------> Leaving
//!      |                         |                  |  graceful-timeout + 2 s, or it hangs
//!      |        Exited           v                  v
//!      +---------------------------------------- Killed
//! ```
//!
//! A slot belongs to one process until that has been reaped; a successor takes the lowest free one. After each
//! event [`StateMachine`] compares what there is with what there should be, in this order: has a reload come to
//! its end; which templates are needed; is a ready worker one too many (retire one, then wait for its end); is
//! one to be replaced (allow one more); are there too few (start them, as far as the back-off allows). A
//! replacement is therefore nothing but one worker more that is allowed, and once it is ready, one too many.
//! That is why no worker is ever taken away before its successor is ready.
//!
//! `event.rs` has the events and the actions, `plan.rs` what holds throughout; `backoff.rs` when a slot that
//! failed is tried again, `fleet.rs` the number of workers and their replacement, `reload.rs` generations and
//! templates, `stop.rs` the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use log::Level;

use backoff::Backoff;
pub(crate) use event::{Action, Child, SupervisorEvent};
pub(crate) use plan::ProcessPlan;
use reload::Reload;
use stop::{SAME_WISH, ServicePhase};

mod backoff;
mod event;
mod fleet;
mod plan;
mod reload;
mod stop;

#[cfg(test)]
mod tests;

/// The supervisor's knowledge of its processes, and what follows from each event. The supervisor owns it and
/// does what it returns; it touches no process, clock or log itself.
#[derive(Debug)]
pub(crate) struct StateMachine {
    plan: ProcessPlan,
    phase: ServicePhase,
    /// Workers asked for.
    asked: u32,
    /// WINCH: as if none were asked for.
    withdrawn: bool,
    /// Of a worker that is started now, unless a reload has a template of its own ready.
    generation: u32,
    /// The last one given to anything.
    generation_last: u32,
    processes: BTreeMap<Child, ProcessState>,
    /// The ready worker for which there may be one more.
    replacing: Option<u32>,
    /// Workers that nobody has told to end, and in whose places there is no other yet.
    vacancies: u32,
    reload: Option<Reload>,
    worker_backoff: Backoff,
    template_backoff: Backoff,
}

/// The machine's knowledge of one process, from its fork until it has been reaped.
#[derive(Debug)]
struct ProcessState {
    stage: ProcessStage,
    generation: u32,
    started: Instant,
    ready: Option<Instant>,
    /// When it has to have reached its next stage, and why it is killed otherwise.
    due: Option<(Instant, &'static str)>,
    /// Failures in its slot before it.
    failures: u32,
    /// Its boot has been told to have failed.
    failed: bool,
    /// It ends because it was told to.
    dismissed: bool,
    /// Its loss has been noted.
    lost: bool,
    /// It was told to finish what it has first.
    draining: bool,
    /// It has closed its control socket.
    hung_up: bool,
    /// It asked to be replaced, for this reason.
    outdated: Option<String>,
    /// It was told to end by a signal, and is to be replaced from then on.
    signalled: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProcessStage {
    Starting,
    Ready,
    Leaving,
    Killed,
}

/// Beyond its own time limit a worker has this long before it is killed.
pub(crate) const KILL_GRACE: Duration = Duration::from_secs(2);

/// For a process that has nothing to finish.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// Exit status of a server whose first worker ended in its boot without saying why; gunicorn's.
const BOOT_FAILED: i32 = 3;

const TOO_SLOW_TO_BOOT: &str = "it was not ready within --boot-timeout";
const TOO_SLOW_TO_END: &str = "it had not ended within --graceful-timeout";
const NOT_ENDED: &str = "it had not ended when told to";
const HUNG_UP: &str = "it had closed its control socket";
const FLOODED: &str = "it flooded its control socket";
/// Why a process ends that the supervisor has not told to.
pub(crate) const ENDED_BY_SIGNAL: &str = "it was told to end by a signal";
/// Why a worker is killed that does nothing any more.
pub(crate) const STALLED: &str = "its heartbeat had stopped";

impl StateMachine {
    /// Nothing runs yet: the first event, a [`SupervisorEvent::Tick`], starts the first processes.
    pub(crate) fn new(plan: ProcessPlan) -> Self {
        Self {
            asked: plan.workers_min,
            plan,
            phase: ServicePhase::Booting,
            withdrawn: false,
            generation: 0,
            generation_last: 0,
            processes: BTreeMap::new(),
            replacing: None,
            vacancies: 0,
            reload: None,
            worker_backoff: Backoff::default(),
            template_backoff: Backoff::default(),
        }
    }

    /// Workers that there should be.
    pub(crate) fn wanted(&self) -> u32 {
        if self.withdrawn { 0 } else { self.asked }
    }

    /// The generation of a worker that is started now.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// When [`SupervisorEvent::Tick`] is due, if nothing else happens.
    pub(crate) fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let due = self.processes.values().filter_map(|process| Some(process.due?.0));
        let processes = due.chain(self.processes.values().filter_map(|process| process.signalled));
        let backoffs = [&self.worker_backoff, &self.template_backoff].into_iter();
        let backoffs = backoffs.filter(|_| self.phase.starts_workers()).filter_map(|it| it.next_timeout(now));
        processes.chain(backoffs).chain(self.phase.timeout()).min()
    }

    /// Takes in what has happened and adds to `actions` what follows from it.
    pub(crate) fn handle(&mut self, event: SupervisorEvent, now: Instant, actions: &mut Vec<Action>) {
        if self.phase == ServicePhase::Ended {
            return;
        }
        self.note(event, now, actions);
        self.expire(now, actions);
        self.reconcile(now, actions);
        self.pass_phase(now, actions);
    }

    fn note(&mut self, event: SupervisorEvent, now: Instant, actions: &mut Vec<Action>) {
        match event {
            SupervisorEvent::Ready(child) => self.on_ready(child, now, actions),
            SupervisorEvent::BootFailed { child, status, message } => {
                self.on_boot_failed(child, status, message, now, actions);
            }
            SupervisorEvent::Exited { child, status } => self.on_exited(child, status, now, actions),
            SupervisorEvent::HungUp(child) => self.on_hung_up(child, now),
            SupervisorEvent::Replace { slot, reason } => self.on_replace(slot, reason, actions),
            SupervisorEvent::Signalled(slot) => {
                // Whoever has sent it to the whole process group has sent it to the server as well.
                let process = self.processes.get_mut(&Child::Worker(slot));
                process.into_iter().for_each(|process| process.signalled = Some(now + SAME_WISH));
            }
            SupervisorEvent::Changed { slot, file } => self.on_changed(slot, &file, now, actions),
            SupervisorEvent::Stalled(slot) => self.kill(Child::Worker(slot), STALLED, now, actions),
            SupervisorEvent::Flooded(child) => self.kill(child, FLOODED, now, actions),
            SupervisorEvent::Terminate
            | SupervisorEvent::Interrupt
            | SupervisorEvent::Quit
            | SupervisorEvent::Superseded => {
                self.on_stop(&event, now, actions);
            }
            SupervisorEvent::Reload => self.on_reload(now, actions),
            SupervisorEvent::Grow => self.scale_to(self.asked.saturating_add(1), actions),
            SupervisorEvent::Shrink => self.scale_to(self.asked.saturating_sub(1), actions),
            SupervisorEvent::Scale(count) => self.scale_to(count, actions),
            SupervisorEvent::Withdraw => self.on_withdraw(now, actions),
            SupervisorEvent::Tick => {}
        }
    }

    fn on_ready(&mut self, child: Child, now: Instant, actions: &mut Vec<Action>) {
        let Some(process) = self.processes.get_mut(&child) else { return };
        if process.ready.is_some() || process.failed {
            return;
        }
        match process.stage {
            ProcessStage::Starting => (process.stage, process.due) = (ProcessStage::Ready, None),
            // It was told to end before it had said this: it may have taken requests since.
            ProcessStage::Leaving if process.draining => {
                let until = match self.phase {
                    ServicePhase::Draining { until, .. } => until,
                    _ => now + self.plan.graceful_timeout + KILL_GRACE,
                };
                process.due = Some((until, TOO_SLOW_TO_END));
            }
            _ => return,
        }
        process.ready = Some(now);
        let (generation, stage) = (process.generation, process.stage);
        if let (Child::Worker(slot), ProcessStage::Ready) = (child, stage) {
            self.phase_on_worker_ready(slot, actions);
            self.prove(generation);
        }
    }

    /// A process will not become ready.
    fn on_boot_failed(
        &mut self,
        child: Child,
        status: i32,
        message: String,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(process) = self.processes.get_mut(&child) else { return };
        if process.ready.is_some() || process.failed || process.dismissed {
            return;
        }
        process.failed = true;
        if process.stage == ProcessStage::Starting {
            process.stage = ProcessStage::Leaving;
            process.due = Some((now + KILL_GRACE, NOT_ENDED));
        }
        let generation = process.generation;
        self.note_loss(child, now);
        actions.push(Action::Log(Level::Error, message));
        self.on_boot_failure(generation, status, now, actions);
    }

    fn on_exited(&mut self, child: Child, status: i32, now: Instant, actions: &mut Vec<Action>) {
        self.note_loss(child, now);
        let Some(process) = self.processes.remove(&child) else { return };
        if process.ready.is_none() || self.replacing.is_some_and(|slot| child == Child::Worker(slot)) {
            // What had been begun is over: the next look decides anew.
            self.replacing = None;
        }
        if process.dismissed {
            return;
        }
        // A template of which no worker has become ready has failed as well.
        let in_vain = match child {
            Child::Worker(_) => process.ready.is_none(),
            Child::Template(generation) => process.ready.is_none() || !self.is_proven(generation),
        };
        if in_vain && !process.failed {
            self.on_boot_failure(process.generation, status, now, actions);
        }
    }

    /// The place of a process is empty, or will be soon; which is held against it if nobody has asked for that.
    fn note_loss(&mut self, child: Child, now: Instant) {
        let Some(process) = self.processes.get_mut(&child) else { return };
        if process.dismissed || std::mem::replace(&mut process.lost, true) {
            return;
        }
        let backoff = match child {
            Child::Worker(_) => &mut self.worker_backoff,
            Child::Template(_) => &mut self.template_backoff,
        };
        self.vacancies += u32::from(matches!(child, Child::Worker(_)));
        match process.ready {
            None => backoff.note_failed_boot(process.failures, now),
            Some(ready) => backoff.note_death(process.failures, process.started, ready, now),
        }
    }

    /// What follows from the failure of a process of this generation.
    fn on_boot_failure(&mut self, generation: u32, status: i32, now: Instant, actions: &mut Vec<Action>) {
        if self.phase == ServicePhase::Booting {
            self.stop_at_once(if status == 0 { BOOT_FAILED } else { status }, now, actions);
        } else if self.reload.as_ref().is_some_and(|reload| reload.generation == generation) {
            let left = match self.plan.development {
                true => reload::NOT_MENDED,
                false => "reload failed; the old code keeps serving",
            };
            self.fail_reload(left, now, actions);
        }
    }

    fn on_hung_up(&mut self, child: Child, now: Instant) {
        let Some(process) = self.processes.get_mut(&child) else { return };
        process.hung_up = true;
        if process.stage != ProcessStage::Killed {
            let until = now + KILL_GRACE;
            process.due = process.due.filter(|due| due.0 < until).or(Some((until, HUNG_UP)));
        }
    }

    fn on_replace(&mut self, slot: u32, reason: String, actions: &mut Vec<Action>) {
        if !matches!(self.phase, ServicePhase::Booting | ServicePhase::Serving) {
            return; // They all end, this one with the others.
        }
        let Some(process) = self.processes.get_mut(&Child::Worker(slot)) else { return };
        // One that still warms up may have enough of it already; it is asked for no second time.
        if matches!(process.stage, ProcessStage::Starting | ProcessStage::Ready) && process.outdated.is_none()
        {
            let message = format!("The worker in slot {slot} is to be replaced: {reason}");
            process.outdated = Some(reason);
            actions.push(Action::Log(Level::Info, message));
        }
    }

    /// Goes on with what should have happened by now.
    fn expire(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let due: Vec<_> = self
            .processes
            .iter()
            .filter_map(|(child, process)| Some((*child, process.due.filter(|due| due.0 <= now)?.1)))
            .collect();
        let signalled: Vec<u32> = self
            .workers()
            .filter(|(_, process)| process.signalled.is_some_and(|due| due <= now))
            .map(|(slot, _)| slot)
            .collect();
        for slot in signalled {
            let process = self.processes.get_mut(&Child::Worker(slot));
            process.into_iter().for_each(|process| process.signalled = None);
            self.on_replace(slot, ENDED_BY_SIGNAL.to_owned(), actions);
        }
        for (child, why) in due {
            let Some(process) = self.processes.get_mut(&child) else { continue };
            if process.stage != ProcessStage::Starting || process.hung_up {
                self.kill(child, why, now, actions);
                continue;
            }
            actions.push(Action::TellStacks(child));
            let name = match child {
                Child::Worker(slot) => format!("The worker in slot {slot}"),
                Child::Template(_) => "The template".to_string(),
            };
            process.stage = ProcessStage::Leaving;
            process.due = Some((now + STOP_GRACE, why));
            let message = format!("{name} is not ready after {} s", self.plan.boot_timeout.as_secs_f64());
            self.on_boot_failed(child, BOOT_FAILED, message, now, actions);
        }
    }

    fn kill(&mut self, child: Child, why: &'static str, now: Instant, actions: &mut Vec<Action>) {
        self.note_loss(child, now);
        let Some(process) = self.processes.get_mut(&child) else { return };
        if process.stage != ProcessStage::Killed {
            (process.stage, process.due) = (ProcessStage::Killed, None);
            actions.push(Action::Kill { child, why });
        }
    }

    /// Tells it to end; if it has not by `until`, it is killed.
    fn dismiss(&mut self, child: Child, until: Instant, order: Action, actions: &mut Vec<Action>) {
        let Some(process) = self.processes.get_mut(&child) else { return };
        if process.stage == ProcessStage::Killed {
            return;
        }
        let why = if process.ready.is_some() { TOO_SLOW_TO_END } else { NOT_ENDED };
        let ends_already = process.stage == ProcessStage::Leaving || process.hung_up;
        process.due = process.due.filter(|due| ends_already && due.0 <= until).or(Some((until, why)));
        (process.stage, process.dismissed) = (ProcessStage::Leaving, true);
        process.draining = matches!(order, Action::Drain { .. });
        actions.push(order);
    }

    fn insert(&mut self, child: Child, generation: u32, failures: u32, now: Instant) {
        let limit = self.plan.boot_timeout;
        let process = ProcessState {
            stage: ProcessStage::Starting,
            generation,
            started: now,
            ready: None,
            due: (!limit.is_zero()).then(|| (now + limit, TOO_SLOW_TO_BOOT)),
            failures,
            failed: false,
            dismissed: false,
            lost: false,
            draining: false,
            hung_up: false,
            outdated: None,
            signalled: None,
        };
        let before = self.processes.insert(child, process);
        debug_assert!(before.is_none(), "{child:?} has two owners");
    }

    /// All workers with their slots.
    fn workers(&self) -> impl Iterator<Item = (u32, &ProcessState)> {
        self.processes.iter().filter_map(|(child, process)| match child {
            Child::Worker(slot) => Some((*slot, process)),
            Child::Template(_) => None,
        })
    }

    fn count(&self, stage: ProcessStage) -> u32 {
        self.workers().filter(|(_, process)| process.stage == stage).count() as u32
    }
}
