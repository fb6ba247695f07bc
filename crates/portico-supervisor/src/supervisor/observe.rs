//! What comes from the processes: their reports, and their ends.

use std::time::Instant;

use log::Level;
use portico_metrics::{CountedExchange, Method};
use rustix::process::{Pid, Signal, WaitStatus};

use super::Supervisor;
use crate::control::Report;
use crate::host::InterruptedRequest;
use crate::process::{ChildProcess, exit_status, is_child, number, reap};
use crate::report;
use crate::scoreboard::{EventKind, SlotField, SlotState, ThreadState, now_nanos};
use crate::state::ENDED_BY_SIGNAL;
use crate::state::{Child, SupervisorEvent};

/// The access log's reason for requests that have died with their worker.
const WORKER_DIED: &str = "worker_died";

/// How the names of configuration files end that `--reload` watches. Of others that do so none is imported.
const CONFIGURATION_END: &str = ".toml";

impl Supervisor {
    /// Takes in what the processes say.
    pub(super) fn observe(&mut self) {
        let children: Vec<_> = self.processes.keys().copied().collect();
        children.into_iter().for_each(|child| self.listen_to(child));
    }

    /// Takes in what a process has said; the end of its control socket comes last.
    fn listen_to(&mut self, child: Child) {
        let Some(process) = self.processes.get_mut(&child).filter(|process| process.is_heard()) else {
            return;
        };
        let was_flooding = process.flooding;
        let reports = process.next_reports(Instant::now());
        let hung_up = process.hung_up;
        if process.flooding && !was_flooding {
            self.events.push_back(SupervisorEvent::Flooded(child));
        }
        reports.into_iter().for_each(|(report, sender)| self.on_report(child, report, sender));
        if !hung_up {
            return;
        }
        match self.processes.get(&child).and_then(|process| process.pid) {
            Some(_) => self.events.push_back(SupervisorEvent::HungUp(child)),
            // Its template, or what should have become it, has ended before it had a process id.
            None => self.on_reaped(child, None),
        }
    }

    fn on_report(&mut self, child: Child, report: Report, sender: Option<Pid>) {
        let Some(process) = self.processes.get_mut(&child) else { return };
        match report {
            Report::Started if process.pid.is_none() => self.identify(child, sender),
            Report::Started => {}
            Report::Ready => {
                process.ready = true;
                let dismissed = process.dismissed;
                if let Some(slot) = slot_of(child).and_then(|slot| self.scoreboard.slot(slot)) {
                    slot.set(SlotField::ReadyNanos, now_nanos());
                    if !dismissed {
                        slot.set(SlotField::State, SlotState::Ready as u64);
                    }
                }
                self.note_worker_event(EventKind::Ready, child, |pid| format!("worker {pid} serves"));
                self.events.push_back(SupervisorEvent::Ready(child));
                self.note_complete();
            }
            Report::BootFailed { status, message } => {
                process.boot_failed = true;
                self.events.push_back(SupervisorEvent::BootFailed { child, status, message });
            }
            Report::Changed(_) if !self.config.reload => {} // Nobody has asked it.
            Report::Changed(file) => {
                if let Some(slot) = slot_of(child) {
                    self.note_reload();
                    if file.ends_with(CONFIGURATION_END)
                        && let Err(why) = self.take_configuration()
                    {
                        log::error!("the old configuration counts on, {file} has a mistake: {why}");
                    }
                    self.events.push_back(SupervisorEvent::Changed { slot, file });
                }
            }
            Report::Replace(reason) => {
                if !process.dismissed {
                    process.reason = Some(reason.clone());
                }
                self.events.extend(slot_of(child).map(|slot| SupervisorEvent::Replace { slot, reason }));
            }
            Report::Signalled => {
                if !process.dismissed {
                    process.reason = Some(ENDED_BY_SIGNAL.to_owned());
                }
                self.events.extend(slot_of(child).map(SupervisorEvent::Signalled));
            }
        }
    }

    /// A worker that a template has forked lives. Which process it is, the kernel says: the application has run in
    /// it already, and whatever it said could name a process of somebody else's, which would be killed later.
    fn identify(&mut self, child: Child, sender: Option<Pid>) {
        let is_known = |pid: Pid| self.processes.values().any(|process| process.pid == Some(pid));
        let pid = sender.filter(|pid| is_child(*pid) && !is_known(*pid));
        let Some(process) = self.processes.get_mut(&child) else { return };
        if pid.is_some() {
            process.pid = pid;
            self.note_started(child);
        } else if let Child::Worker(slot) = child
            && !std::mem::replace(&mut process.impersonated, true)
        {
            let sender = sender.map_or(0, number);
            log::warn!("process {sender} reports in place of the worker in slot {slot} and is not believed");
        }
    }

    /// The process id of a process is known.
    pub(super) fn note_started(&mut self, child: Child) {
        let Some(process) = self.processes.get(&child) else { return };
        let (pid, reason) = (process.pid_number(), process.start_reason);
        match child {
            Child::Worker(slot) => {
                if let Some(row) = self.scoreboard.slot(slot) {
                    row.set(SlotField::Pid, u64::from(pid));
                }
                self.scoreboard.metrics().add_worker_start(reason);
                log::log!(self.routine(), "Booting worker with pid: {pid} (slot {slot})");
                self.note_worker_event(EventKind::Start, child, |pid| format!("worker {pid} starts"));
                self.host.started(slot, pid);
            }
            Child::Template(_) => log::info!("Booting template with pid: {pid}"),
        }
    }

    /// Notes what has happened to a worker, in a sentence that is told its process id.
    fn note_worker_event(&self, kind: EventKind, child: Child, text: impl FnOnce(u32) -> String) {
        let Some((slot, process)) = slot_of(child).zip(self.processes.get(&child)) else { return };
        let pid = process.pid_number();
        self.scoreboard.events().note(kind, Some(slot), Some(pid), &text(pid));
    }

    /// How much what belongs to every start of a worker is worth: under --reload there is one with each save.
    fn routine(&self) -> Level {
        if self.config.reload { Level::Debug } else { Level::Info }
    }

    /// The workers that are ready, or were.
    pub(super) fn ready_pids(&self) -> Vec<u32> {
        let is_ready = |process: &&ChildProcess| process.ready && matches!(process.child, Child::Worker(_));
        self.processes.values().filter(is_ready).map(ChildProcess::pid_number).collect()
    }

    fn note_complete(&mut self) {
        let ready = self.ready_pids();
        if !self.complete && ready.len() >= self.state.wanted() as usize {
            self.complete = true;
            self.host.complete(&ready);
        }
    }

    /// Reaps all processes that have ended.
    pub(super) fn reap(&mut self) {
        while let Some((pid, status)) = reap() {
            // What it has said before its end comes first; a worker that a template has forked may be known by
            // that alone.
            self.observe();
            let ended = self.processes.values().find(|process| process.pid == Some(pid));
            match ended.map(|process| process.child) {
                Some(child) => self.on_reaped(child, Some(status)),
                None => log::debug!("Reaped orphan {}", number(pid)),
            }
        }
    }

    /// A process is no more.
    fn on_reaped(&mut self, child: Child, status: Option<WaitStatus>) {
        let Some(process) = self.processes.remove(&child) else { return };
        if let Some(status) = status {
            self.tell_end(&process, status);
            if matches!(child, Child::Worker(_)) {
                self.host.ended(process.pid_number());
            }
        }
        if let Some(slot) = slot_of(child).and_then(|slot| self.scoreboard.slot(slot)) {
            slot.end_calls(now_nanos());
            slot.set(SlotField::State, SlotState::Empty as u64);
            slot.set(SlotField::Pid, 0);
            self.host.worker_ended();
        }
        self.events.push_back(SupervisorEvent::Exited { child, status: status.map_or(1, exit_status) });
    }

    /// Says in the log how a process has ended, if that is worth it, and puts the requests that it took with it
    /// into the access log.
    fn tell_end(&mut self, process: &ChildProcess, status: WaitStatus) {
        let pid = process.pid_number();
        let announced = process.dismissed || process.reason.is_some();
        let by_itself = status.exit_status() == Some(0) && announced;
        // One that was still starting has nothing to lose, and what it had to say it has said.
        let in_vain = !process.ready && (process.boot_failed || process.dismissed);
        let mut oom_kills = || {
            let is_killed =
                status.terminating_signal() == Some(Signal::KILL.as_raw()) && process.sent.is_none();
            is_killed.then(|| self.ticks.oom_kills_since()).flatten()
        };
        let why = process.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let Child::Worker(slot) = process.child else {
            if by_itself || in_vain {
                log::info!("Template exiting (pid: {pid}, status: {}){why}", exit_status(status));
            } else {
                let cause = report::cause(status, process.sent, oom_kills(), 0);
                log::error!("the template (pid {pid}) died: {cause}");
                let text = format!("the template {pid} died: {cause}");
                self.scoreboard.events().note(EventKind::Death, None, Some(pid), &text);
            }
            return;
        };
        if by_itself || in_vain {
            log::log!(self.routine(), "Worker exiting (pid: {pid}){why}");
            let text = format!("worker {pid} has ended{why}");
            self.scoreboard.events().note(EventKind::Exit, Some(slot), Some(pid), &text);
        } else {
            let oom_kills = oom_kills();
            let death = report::death(slot, pid, status, process.sent, &self.scoreboard, oom_kills);
            log::error!("{death}");
            // Its first line, less what gunicorn says: the others are its requests, with what clients have sent.
            let line = death.lines().next().unwrap_or_default();
            let text = line.find("worker ").map_or(line, |from| &line[from..]).trim_end_matches(':');
            self.scoreboard.events().note(EventKind::Death, Some(slot), Some(pid), text);
            let reason = report::death_reason(process.ready, status, process.sent, oom_kills);
            self.scoreboard.metrics().add_worker_death(reason);
        }
        self.tell_lost_requests(slot, pid);
    }

    fn tell_lost_requests(&mut self, slot: u32, pid: u32) {
        let Some(row) = self.scoreboard.slot(slot) else { return };
        let now = now_nanos();
        for running in row.threads().filter_map(|thread| thread.running()) {
            if running.state == ThreadState::Lost {
                continue; // It has had its answer.
            }
            let timeout = running.timeout(&self.config);
            let late = running.state == ThreadState::Running
                && !timeout.is_zero()
                && u128::from(now.saturating_sub(running.progress_nanos)) >= timeout.as_nanos();
            let (status, took_nanos) =
                (if late { 504 } else { 502 }, now.saturating_sub(running.begun_nanos));
            let (method, whole) =
                (Method::of(&running.method), running.queued_nanos.saturating_add(took_nanos));
            let call = Some((took_nanos, 0));
            let ended = CountedExchange { method, code: status, whole, call };
            self.scoreboard.metrics().record_exchange(&ended);
            self.scoreboard.metrics().add_ended(WORKER_DIED);
            self.host.lost_request(&InterruptedRequest { running: &running, slot, pid, status, took_nanos });
        }
    }
}

fn slot_of(child: Child) -> Option<u32> {
    match child {
        Child::Worker(slot) => Some(slot),
        Child::Template(_) => None,
    }
}
