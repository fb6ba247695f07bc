//! The phases of the server, from its first boot to its end.

use std::time::{Duration, Instant};

use log::Level;

use super::{Action, Child, KILL_GRACE, ProcessStage, STOP_GRACE, StateMachine, SupervisorEvent};

/// The phase of the server between its start and its end. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServicePhase {
    /// No worker has been ready yet: a failure is the server's.
    Booting,
    /// At least one worker has been ready.
    Serving,
    /// Told to stop: everything goes on, but answers announce it.
    Announcing { asked: Instant, until: Instant },
    /// The workers finish what they have. Those that have not by then are killed.
    Draining { asked: Instant, until: Instant },
    /// The workers end at once.
    Stopping { asked: Instant, until: Instant, status: i32 },
    /// No process is left.
    Ended,
}

/// A signal is often sent to the process and, by another, to its group: that is one wish.
pub(super) const SAME_WISH: Duration = Duration::from_millis(300);

/// How long connections are told that they will be closed once another supervisor serves: those that are in use
/// then move to it between two requests.
const SUCCESSION: Duration = Duration::from_secs(1);

/// A killed process that is not gone by then (it waits for a disk) is left behind.
const ABANDON: Duration = Duration::from_secs(5);

impl ServicePhase {
    pub(super) fn starts_workers(self) -> bool {
        matches!(self, Self::Booting | Self::Serving | Self::Announcing { .. })
    }

    pub(super) fn timeout(self) -> Option<Instant> {
        match self {
            Self::Announcing { until, .. } => Some(until),
            Self::Draining { until, .. } | Self::Stopping { until, .. } => Some(until + ABANDON),
            _ => None,
        }
    }

    /// When the last of the signals that brought it here came.
    fn asked(self) -> Option<Instant> {
        match self {
            Self::Announcing { asked, .. } | Self::Draining { asked, .. } | Self::Stopping { asked, .. } => {
                Some(asked)
            }
            _ => None,
        }
    }
}

impl StateMachine {
    pub(super) fn phase_on_worker_ready(&mut self, slot: u32, actions: &mut Vec<Action>) {
        match self.phase {
            ServicePhase::Booting => {
                self.phase = ServicePhase::Serving;
                actions.push(Action::Serving);
            }
            ServicePhase::Announcing { .. } => actions.push(Action::AnnounceClose(slot)),
            _ => {}
        }
    }

    pub(super) fn on_stop(&mut self, event: &SupervisorEvent, now: Instant, actions: &mut Vec<Action>) {
        let hasty = self.phase.asked().is_some_and(|asked| now < asked + SAME_WISH);
        match (event, self.phase) {
            (SupervisorEvent::Quit, ServicePhase::Stopping { .. }) => self.kill_all(now, actions),
            (SupervisorEvent::Quit, _) => self.stop_at_once(0, now, actions),
            (SupervisorEvent::Superseded, ServicePhase::Draining { .. } | ServicePhase::Stopping { .. }) => {}
            (SupervisorEvent::Superseded, ServicePhase::Serving) if !self.withdrawn => {
                self.announce(SUCCESSION, now, actions)
            }
            (SupervisorEvent::Superseded, _) => self.drain(now, actions),
            _ if hasty => {}
            (SupervisorEvent::Terminate, ServicePhase::Serving)
                if !self.plan.drain_delay.is_zero() && !self.withdrawn =>
            {
                self.announce(self.plan.drain_delay, now, actions);
            }
            (SupervisorEvent::Interrupt, _) if self.plan.development => self.stop_at_once(0, now, actions),
            (_, ServicePhase::Booting | ServicePhase::Serving | ServicePhase::Announcing { .. }) => {
                self.drain(now, actions)
            }
            (_, ServicePhase::Draining { .. }) => self.stop_at_once(0, now, actions),
            (_, ServicePhase::Stopping { .. }) => self.kill_all(now, actions),
            (_, ServicePhase::Ended) => {}
        }
    }

    /// WINCH: the workers go, the supervisor stays.
    pub(super) fn on_withdraw(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.phase != ServicePhase::Serving || self.withdrawn {
            return;
        }
        self.withdrawn = true;
        self.replacing = None;
        self.fail_reload("reload abandoned: the workers were told to stop", now, actions);
        self.drain_workers(self.plan.graceful_timeout, now, actions);
    }

    fn announce(&mut self, time: Duration, now: Instant, actions: &mut Vec<Action>) {
        self.leave_service(now, actions);
        self.phase = ServicePhase::Announcing { asked: now, until: now + time };
        let ready = self.workers().filter(|(_, process)| process.stage == ProcessStage::Ready);
        actions.extend(ready.map(|(slot, _)| Action::AnnounceClose(slot)));
    }

    fn drain(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.leave_service(now, actions);
        self.stop_listening(actions);
        // From the first signal on: whoever has sent it does not wait longer because of the delay.
        let announced = match self.phase {
            ServicePhase::Announcing { asked, .. } => now.saturating_duration_since(asked),
            _ => Duration::ZERO,
        };
        let limit = self.plan.graceful_timeout.saturating_sub(announced);
        self.phase = ServicePhase::Draining { asked: now, until: now + limit + KILL_GRACE };
        self.drain_workers(limit, now, actions);
        self.stop_templates(now, actions);
    }

    /// Ends everything now. A server that could not be started ends with the `status` of what failed.
    pub(super) fn stop_at_once(&mut self, status: i32, now: Instant, actions: &mut Vec<Action>) {
        self.leave_service(now, actions);
        self.stop_listening(actions);
        let until = now + KILL_GRACE;
        self.phase = ServicePhase::Stopping { asked: now, until, status };
        let children: Vec<_> = self.processes.keys().copied().collect();
        for child in children {
            let served = self.processes.get(&child).is_some_and(|process| process.ready.is_some());
            let until = now + if served { KILL_GRACE } else { STOP_GRACE };
            self.dismiss(child, until, Action::Stop(child), actions);
        }
    }

    /// Nothing is replaced or reloaded any more.
    fn leave_service(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if matches!(self.phase, ServicePhase::Booting | ServicePhase::Serving) {
            self.replacing = None;
            self.fail_reload("reload abandoned: the server is stopping", now, actions);
            actions.push(Action::Stopping);
        }
    }

    /// The server accepts nothing new from now on; told once.
    fn stop_listening(&mut self, actions: &mut Vec<Action>) {
        if self.phase.starts_workers() {
            actions.push(Action::StopListening);
        }
    }

    fn drain_workers(&mut self, limit: Duration, now: Instant, actions: &mut Vec<Action>) {
        let workers: Vec<_> =
            self.workers().map(|(slot, process)| (slot, process.ready.is_some(), process.failed)).collect();
        for (slot, served, failed) in workers {
            let until = now + if served { limit + KILL_GRACE } else { STOP_GRACE };
            if !failed {
                self.dismiss(Child::Worker(slot), until, Action::Drain { slot, limit }, actions);
            }
        }
    }

    fn stop_templates(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let children: Vec<_> = self.processes.keys().copied().collect();
        for child in children.into_iter().filter(|child| matches!(child, Child::Template(_))) {
            self.dismiss(child, now + STOP_GRACE, Action::Stop(child), actions);
        }
    }

    fn kill_all(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let children: Vec<_> = self.processes.keys().copied().collect();
        for child in children {
            self.kill(child, "the server had been told to stop at once", now, actions);
        }
    }

    /// Goes to the next phase when its time has come.
    pub(super) fn pass_phase(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.phase {
            ServicePhase::Announcing { until, .. } if until <= now => self.drain(now, actions),
            _ => {}
        }
        let status = match self.phase {
            ServicePhase::Draining { .. } => 0,
            ServicePhase::Stopping { status, .. } => status,
            _ => return,
        };
        let abandoned = self.phase.timeout().is_some_and(|until| until <= now);
        if self.processes.is_empty() || abandoned {
            if abandoned {
                let message = format!("{} killed processes do not end", self.processes.len());
                actions.push(Action::Log(Level::Error, message));
            }
            self.phase = ServicePhase::Ended;
            actions.push(Action::Exit(status));
        }
    }
}
