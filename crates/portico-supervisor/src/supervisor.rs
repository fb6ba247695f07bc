//! The loop of the supervisor: it waits for signals, reports and the time, asks [`StateMachine`] what follows,
//! does it.
//!
//! `observe.rs` turns what comes from processes into events, `perform.rs` does the actions, `tick.rs` has what is
//! done every second, `upgrading.rs` the start of a new supervisor.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portico_config::{Config, Preload};
use portico_metrics::{Gauge, StartReason};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::control::ControlCommand;
use crate::fork::Fork;
use crate::host::{Host, ProcessRole, ReloadError};
use crate::notify::Notifier;
use crate::process::{ChildProcess, adopt_orphans};
use crate::scoreboard::{
    EventKind, Scoreboard, SlotState, SupervisorField, SupervisorState, now_nanos, thread_count,
};
use crate::signals::{Signal, SignalQueue};
use crate::state::{Child, ProcessPlan, StateMachine, SupervisorEvent};
use tick::TickState;
use upgrading::Upgrading;

mod observe;
mod perform;
mod tick;
mod upgrading;

/// The parent of all workers: it owns the scoreboard and the control sockets, forks, signals and reaps. It runs no
/// application code, has one thread, and never waits for a worker.
pub struct Supervisor {
    config: Arc<Config>,
    /// This process, in those that it forks too.
    pid: u32,
    scoreboard: Scoreboard,
    host: Box<dyn Host>,
    state: StateMachine,
    processes: BTreeMap<Child, ChildProcess>,
    /// What the machine has not been told yet.
    events: VecDeque<SupervisorEvent>,
    signals: Option<SignalQueue>,
    /// `None` once another supervisor has taken over, whose service it is then.
    notifier: Option<Notifier>,
    upgrading: Option<Upgrading>,
    ticks: TickState,
    /// What systemd was last told of the workers: how many are ready, of how many that were asked for.
    status: (usize, u32),
    /// Workers that live, as the host was last told.
    living: usize,
    /// Whether as many workers as were asked for have been ready at once.
    complete: bool,
    /// What makes the worker necessary that is started at this moment.
    start_reason: StartReason,
}

impl Supervisor {
    /// A supervisor without any process yet. The listeners are bound already: workers inherit them. The limits of
    /// routes need `limit_words` words of what workers share.
    ///
    /// # Errors
    /// The kernel has no memory or descriptor for the scoreboard.
    pub fn new(config: Arc<Config>, host: Box<dyn Host>, limit_words: usize) -> io::Result<Self> {
        let plan = ProcessPlan::new(&config);
        let scoreboard = Scoreboard::with_limits(plan.slots as usize, thread_count(&config), limit_words)?;
        let pid = std::process::id();
        scoreboard.set(SupervisorField::Pid, u64::from(pid));
        scoreboard.set(SupervisorField::StartedNanos, now_nanos());
        scoreboard.metrics().set(Gauge::ThreadsPerWorker, u64::from(config.threads));
        scoreboard.metrics().set(Gauge::WorkersWanted, u64::from(config.workers.min));
        Ok(Self {
            ticks: TickState::new(&config),
            config,
            pid,
            scoreboard,
            host,
            state: StateMachine::new(plan),
            processes: BTreeMap::new(),
            events: VecDeque::new(),
            signals: None,
            notifier: Some(Notifier::from_env()),
            upgrading: None,
            status: (0, 0),
            living: 0,
            complete: false,
            start_reason: StartReason::default(),
        })
    }

    /// The memory that it shares with its workers.
    pub fn scoreboard(&self) -> &Scoreboard {
        &self.scoreboard
    }

    /// Starts the workers and looks after them until a signal ends the server. In a process that it forks it
    /// returns there as well, with that process' part; the supervisor is of no use there any more.
    pub fn run(&mut self, fork: &mut dyn Fork) -> ProcessRole {
        if let Err(error) = self.begin() {
            log::error!("The supervisor cannot begin: {error}");
            return ProcessRole::Exit(1);
        }
        self.events.push_back(SupervisorEvent::Tick);
        loop {
            self.scoreboard.set(SupervisorField::HeartbeatNanos, now_nanos());
            if let Some(role) = self.settle(fork) {
                return role;
            }
            self.wait();
            // First: a signal to the whole process group has reached this process before a child can have said
            // that it was told to end. Nothing is to be started in its place.
            self.handle_signals();
            self.observe();
            self.tick(Instant::now());
            self.follow_upgrade(Instant::now());
            if self.events.is_empty() {
                self.events.push_back(SupervisorEvent::Tick);
            }
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        self.signals = Some(SignalQueue::install()?);
        if self.config.preload != Preload::Off {
            adopt_orphans()?;
        }
        Ok(())
    }

    /// Tells the machine what has happened and does what follows, until nothing is left.
    fn settle(&mut self, fork: &mut dyn Fork) -> Option<ProcessRole> {
        while let Some(event) = self.events.pop_front() {
            let mut actions = Vec::new();
            self.state.handle(event, Instant::now(), &mut actions);
            let wanted = u64::from(self.state.wanted());
            if wanted != self.scoreboard.metrics().gauge(Gauge::WorkersWanted) {
                let word = if wanted == 1 { "worker is" } else { "workers are" };
                self.note_event(EventKind::Scale, &format!("{wanted} {word} wanted"));
                self.scoreboard.metrics().set(Gauge::WorkersWanted, wanted);
                self.host.scaled(self.state.wanted());
            }
            self.scoreboard.metrics().set(Gauge::Generation, u64::from(self.state.generation()));
            for action in actions {
                if let Some(role) = self.perform(action, fork) {
                    return Some(role);
                }
            }
        }
        self.tell_status();
        None
    }

    /// For `systemctl status`, and for the host.
    fn tell_status(&mut self) {
        let living = self.processes.keys().filter(|child| matches!(child, Child::Worker(_))).count();
        if self.living != living {
            self.living = living;
            self.host.workers(living);
        }
        let ready = self.scoreboard.slots().filter(|(_, slot)| slot.state() == SlotState::Ready).count();
        let status = (ready, self.state.wanted());
        if self.status != status {
            self.status = status;
            self.notify(|notifier| notifier.status(&format!("{} of {} workers ready", status.0, status.1)));
        }
    }

    /// Waits until something has happened, or is due.
    fn wait(&mut self) {
        let now = Instant::now();
        let upgrade = self.upgrading.as_ref().and_then(Upgrading::next_timeout);
        let due = [self.state.next_timeout(now), Some(self.ticks.next_timeout()), upgrade];
        let limit =
            due.into_iter().flatten().min().map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
        // Whole milliseconds, rounded up: not to wake just before.
        let limit = Duration::from_millis(limit.as_millis() as u64 + 1);
        let timeout = Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        let sockets = self.processes.values().filter(|process| process.is_heard());
        let mut polled: Vec<_> = sockets.map(|process| PollFd::new(process, PollFlags::IN)).collect();
        polled.extend(self.signals.as_ref().map(|signals| PollFd::new(signals, PollFlags::IN)));
        polled.extend(self.upgrading.as_ref().map(|upgrading| PollFd::new(upgrading, PollFlags::IN)));
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                log::error!("The supervisor cannot wait: {error}");
                std::thread::sleep(limit.min(Duration::from_millis(100)));
            }
        }
    }

    fn handle_signals(&mut self) {
        while let Some(signal) = self.signals.as_ref().and_then(SignalQueue::next) {
            if signal == Signal::Winch && has_terminal() {
                continue; // Its window has another size.
            }
            if matches!(signal, Signal::Term | Signal::Int | Signal::Quit) {
                // First of all probes are told, whatever hooks and logs take.
                self.scoreboard.set(SupervisorField::State, SupervisorState::Stopping as u64);
            }
            if signal != Signal::Chld {
                log::info!("Handling signal: {}", signal.name());
            }
            let event = match signal {
                Signal::Term => SupervisorEvent::Terminate,
                Signal::Int => {
                    self.host.interrupting(&self.ready_pids());
                    SupervisorEvent::Interrupt
                }
                Signal::Quit => SupervisorEvent::Quit,
                Signal::Hup => {
                    self.note_reload();
                    if !self.read_configuration() {
                        continue;
                    }
                    SupervisorEvent::Reload
                }
                Signal::Ttin => SupervisorEvent::Grow,
                Signal::Ttou => SupervisorEvent::Shrink,
                Signal::Winch => SupervisorEvent::Withdraw,
                Signal::Usr1 => {
                    self.reopen_logs();
                    continue;
                }
                Signal::Usr2 => {
                    self.begin_upgrade(Instant::now());
                    continue;
                }
                Signal::Chld => {
                    self.reap();
                    continue;
                }
            };
            self.events.push_back(event);
        }
    }

    /// A reload is asked for, which [`Supervisor::end_reload`] will be told the end of.
    fn note_reload(&mut self) {
        let asked = self.scoreboard.get(SupervisorField::ReloadsAsked);
        self.scoreboard.set(SupervisorField::ReloadsAsked, asked + 1);
        self.note_event(EventKind::Reload, "a reload was asked for");
        if self.scoreboard.state() == SupervisorState::Serving {
            self.notify(Notifier::reloading);
        }
    }

    /// Reads the configuration again. `false`: it cannot be used, and nothing is reloaded.
    fn read_configuration(&mut self) -> bool {
        if self.scoreboard.state() == SupervisorState::Stopping {
            return true; // The machine says that it is too late.
        }
        match self.take_configuration() {
            Ok(()) => true,
            Err(why) => {
                log::error!("reload failed; the old configuration and code keep serving: {why}");
                self.end_reload(1, true);
                false
            }
        }
    }

    /// Goes by the configuration as it is now, if that can be used.
    fn take_configuration(&mut self) -> Result<(), ReloadError> {
        match self.host.reload()? {
            None => {}
            Some(config) => {
                if let Some(most) = self.state.replan(ProcessPlan::new(&config)) {
                    log::warn!(
                        "a reload cannot make room for {} workers: {most} are the most; start the server anew, or \
                         upgrade it (SIGUSR2)",
                        config.workers.max
                    );
                }
                self.ticks.follow(&config);
                self.config = config;
            }
        }
        Ok(())
    }

    /// Notes what has happened to the server as a whole.
    fn note_event(&self, kind: EventKind, text: &str) {
        self.scoreboard.events().note(kind, None, None, text);
    }

    /// Tells systemd.
    fn notify(&self, tell: impl FnOnce(&Notifier)) {
        if let Some(notifier) = &self.notifier {
            tell(notifier);
        }
    }

    fn reopen_logs(&mut self) {
        let command = ControlCommand::ReopenLogs(self.host.reopen_logs());
        let children: Vec<_> = self.processes.keys().copied().collect();
        for child in children {
            self.send(child, &command);
        }
    }
}

/// Whether this process has a controlling terminal: it was not daemonised.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}
