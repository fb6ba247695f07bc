//! Doing what the machine has decided.

use std::io;
use std::os::fd::AsFd;
use std::time::{SystemTime, UNIX_EPOCH};

use portico_config::Preload;
use portico_metrics::{Gauge, ReloadResult};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use super::Supervisor;
use crate::control::{ControlCommand, ControlSocket};
use crate::fork::{ChildContext, Fork, Forked};
use crate::host::ProcessRole;
use crate::notify::Notifier;
use crate::process::ChildProcess;
use crate::scoreboard::{EventKind, SlotField, SlotState, SupervisorField, SupervisorState, now_nanos};
use crate::stacks_file::StacksFile;
use crate::state::{Action, Child, SupervisorEvent};

/// How often it is looked whether a worker has told its stacks, and how long in between.
const STACKS_LOOKS: u32 = 30;
const STACKS_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

impl Supervisor {
    /// Does it. Returns what this process is from now on, if that is not the supervisor.
    pub(super) fn perform(&mut self, action: Action, fork: &mut dyn Fork) -> Option<ProcessRole> {
        match action {
            Action::StartTemplate { generation } => {
                return self.fork_child(Child::Template(generation), generation, fork);
            }
            Action::StartWorker { slot, generation, reason } => {
                self.start_reason = reason;
                return self.start_worker(slot, generation, fork);
            }
            Action::Retire { slot, why } => {
                let child = Child::Worker(slot);
                self.dismiss(child, &ControlCommand::Retire(self.config.graceful_timeout));
                if let Some(process) = self.processes.get_mut(&child) {
                    process.reason = Some(why);
                }
            }
            Action::Drain { slot, limit } => self.dismiss(Child::Worker(slot), &ControlCommand::Drain(limit)),
            Action::Stop(child) => self.stop(child),
            Action::AnnounceClose(slot) => self.send(Child::Worker(slot), &ControlCommand::AnnounceClose),
            Action::Kill { child, why } => self.kill(child, why),
            Action::TellStacks(child) => self.tell_stacks(child),
            Action::Serving => {
                self.scoreboard.set(SupervisorField::ServingNanos, now_nanos());
                self.scoreboard.set(SupervisorField::State, SupervisorState::Serving as u64);
                self.host.serving();
                self.notify(Notifier::ready);
            }
            Action::Stopping => {
                log::info!("Shutting down: Master");
                self.note_event(EventKind::Stop, "the server stops");
                self.scoreboard.set(SupervisorField::State, SupervisorState::Stopping as u64);
                self.notify(Notifier::stopping);
                self.give_up_upgrade();
            }
            Action::StopListening => self.host.stop_listening(),
            Action::ReloadEnded { count, failed } => self.end_reload(count, failed),
            Action::Log(level, message) => log::log!(level, "{message}"),
            Action::Exit(status) => return Some(ProcessRole::Exit(status)),
        }
        None
    }

    fn start_worker(&mut self, slot: u32, generation: u32, fork: &mut dyn Fork) -> Option<ProcessRole> {
        let child = Child::Worker(slot);
        if let Some(row) = self.scoreboard.slot(slot) {
            row.begin_worker();
            row.set(SlotField::Generation, u64::from(generation));
            row.set(SlotField::StartedNanos, now_nanos());
            row.set(SlotField::State, SlotState::Starting as u64);
        }
        if self.config.preload == Preload::Off {
            return self.fork_child(child, generation, fork);
        }
        if let Err(error) = self.ask_template(slot, generation) {
            self.fail_to_start(child, &error);
        }
        None
    }

    fn ask_template(&mut self, slot: u32, generation: u32) -> io::Result<()> {
        let template = self.processes.get(&Child::Template(generation)).ok_or(io::ErrorKind::NotFound)?;
        let (ours, theirs) = ControlSocket::pair()?;
        let control = theirs.into_descriptor();
        let file = StacksFile::of_worker(slot)?;
        let stacks = file.as_fd().try_clone_to_owned()?;
        template.control.send(&ControlCommand::Fork { slot, generation, control, stacks })?;
        let child = Child::Worker(slot);
        self.processes.insert(child, ChildProcess::new(child, None, ours, file, self.start_reason));
        Ok(())
    }

    fn fork_child(&mut self, child: Child, generation: u32, fork: &mut dyn Fork) -> Option<ProcessRole> {
        if let Child::Worker(slot) = child
            && !self.host.before_fork(slot)
        {
            self.fail_to_start(child, &io::Error::other("a hook forbids it"));
            return None;
        }
        let mut fork = || {
            let stacks = match child {
                Child::Worker(slot) => StacksFile::of_worker(slot)?,
                Child::Template(generation) => StacksFile::of_template(generation)?,
            };
            let (ours, theirs) = ControlSocket::pair()?;
            Ok((ours, theirs, stacks, fork.fork()?))
        };
        match fork() {
            Ok((_, control, stacks, Forked::Child)) => {
                Some(self.become_child(child, generation, control, stacks))
            }
            Ok((control, _, stacks, Forked::Parent(pid))) => {
                let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
                self.processes
                    .insert(child, ChildProcess::new(child, pid, control, stacks, self.start_reason));
                self.note_started(child);
                None
            }
            Err(error) => {
                self.fail_to_start(child, &error);
                None
            }
        }
    }

    /// This is the new process: it lets go of what is the supervisor's.
    fn become_child(
        &mut self,
        child: Child,
        generation: u32,
        control: ControlSocket,
        stacks: StacksFile,
    ) -> ProcessRole {
        self.signals.take().into_iter().for_each(crate::signals::SignalQueue::release);
        // The other control sockets would not come to their end with the supervisor.
        self.processes.clear();
        self.events.clear();
        self.upgrading = None;
        let scoreboard = self.scoreboard.clone();
        let (supervisor, stacks) = (self.pid, Some(stacks));
        let context = |slot| ChildContext { slot, generation, scoreboard, supervisor, control, stacks };
        match child {
            Child::Worker(slot) => ProcessRole::Worker(context(slot)),
            Child::Template(_) => ProcessRole::Template(context(u32::MAX)),
        }
    }

    fn fail_to_start(&mut self, child: Child, error: &io::Error) {
        log::error!("{child} cannot be started: {error}");
        if let Child::Worker(slot) = child
            && let Some(row) = self.scoreboard.slot(slot)
        {
            row.set(SlotField::State, SlotState::Empty as u64);
        }
        self.events.push_back(SupervisorEvent::Exited { child, status: 1 });
    }

    fn dismiss(&mut self, child: Child, command: &ControlCommand) {
        if let Some(process) = self.processes.get_mut(&child) {
            process.dismissed = true;
        }
        if let Child::Worker(slot) = child
            && let Some(row) = self.scoreboard.slot(slot)
        {
            row.set(SlotField::State, SlotState::Retiring as u64);
        }
        self.send(child, command);
    }

    /// Ends it at once, also where it does not read its control socket yet.
    fn stop(&mut self, child: Child) {
        self.dismiss(child, &ControlCommand::Stop);
        let process = self.processes.get(&child).filter(|process| !process.ready);
        if let Some(pid) = process.and_then(|process| process.pid)
            && let Err(error) = kill_process(pid, Signal::QUIT)
        {
            log::debug!("{child} cannot be told to end: {error}");
        }
    }

    /// Tells a process something. One that has died is noticed elsewhere.
    pub(super) fn send(&mut self, child: Child, command: &ControlCommand) {
        let Some(process) = self.processes.get(&child) else { return };
        match process.control.send(command) {
            Ok(()) => {}
            Err(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
            Err(error) => log::warn!("{child} cannot be told {command}: {error}"),
        }
    }

    /// Logs the stacks of a process that is about to be told to end, after which it has none. They come within
    /// milliseconds from a process that hangs.
    fn tell_stacks(&mut self, child: Child) {
        let Some(process) = self.processes.get(&child) else { return };
        let pid = process.pid_number();
        if !self.host.ask_stacks(pid, &process.stacks) {
            return;
        }
        for _ in 0..STACKS_LOOKS {
            // The end of its control socket ends the wait too.
            let _ = poll(&mut [PollFd::new(&process.control, PollFlags::empty())], Some(&STACKS_PAUSE));
            if let Some(stacks) = self.host.stacks(&process.stacks) {
                let name = match child {
                    Child::Worker(slot) => format!("the worker in slot {slot}"),
                    Child::Template(_) => "the template".to_owned(),
                };
                log::error!("Stacks of {name} (pid {pid}):\n{stacks}");
                return;
            }
        }
    }

    fn kill(&mut self, child: Child, why: &'static str) {
        let Some(process) = self.processes.get_mut(&child) else { return };
        process.kill(why);
        if process.pid.is_none()
            && let Child::Worker(slot) = child
        {
            // Its template has not forked it: it hangs.
            let generation =
                self.scoreboard.slot(slot).map_or(0, |row| row.get(SlotField::Generation) as u32);
            if let Some(template) = self.processes.get_mut(&Child::Template(generation)) {
                template.kill("it had not forked a worker in time");
            }
        }
    }

    pub(super) fn end_reload(&mut self, count: u32, failed: bool) {
        let result = if failed { ReloadResult::Failed } else { ReloadResult::Succeeded };
        self.scoreboard.metrics().add_reloads(result, count.into());
        self.note_event(
            EventKind::Reload,
            if failed { "the reload failed: the old code goes on serving" } else { "the new code serves" },
        );
        if !failed {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.scoreboard.metrics().set(Gauge::LastReload, now.as_secs());
        }
        if self.scoreboard.state() == SupervisorState::Serving {
            self.notify(Notifier::ready);
        }
    }
}
