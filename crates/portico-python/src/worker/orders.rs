//! What a worker does at signals and at its supervisor's commands, and how it ends. It never needs the
//! interpreter, which code of the application may hold for long.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use std::{io, thread};

use portico_log::Reopener;
use portico_server::Lending;
use portico_supervisor::{ControlCommand, LogFiles, Report};
use portico_worker::{Ending, Inbox, LeaveStep, SlotHandle, Wake, WorkerSetup, logging, logs};

use super::context::WorkerContext;
use super::threads::Threads;

/// The engine, the threads and the logs of one worker, which signals and commands are about. Its main thread owns
/// this and acts when a wait ends; a handler of a signal never does.
pub(crate) struct Orders {
    setup: Arc<WorkerSetup>,
    lending: Arc<Lending>,
    threads: Arc<Threads>,
    context: Option<Arc<WorkerContext>>,
    place: SlotHandle,
    reopener: Option<Reopener>,
    ending: Mutex<Ending>,
    /// What ends the process while its main thread cannot. Dropped, they are called off.
    forced_exits: Mutex<Vec<mpsc::Sender<()>>>,
}

impl Orders {
    /// Of a worker with this engine and these threads; of its log, where it has one, `reopener` has the file.
    pub(crate) fn new(
        setup: Arc<WorkerSetup>,
        (lending, threads): (Arc<Lending>, Arc<Threads>),
        (context, place): (Option<Arc<WorkerContext>>, SlotHandle),
        reopener: Option<Reopener>,
    ) -> Self {
        let (ending, forced_exits) = (Mutex::default(), Mutex::default());
        Self { setup, lending, threads, context, place, reopener, ending, forced_exits }
    }

    pub(crate) fn ending(&self) -> MutexGuard<'_, Ending> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what signals and the supervisor want, until something happens that takes the interpreter; without
    /// it so far, for the application may keep it to itself.
    pub(crate) fn follow(&self, inbox: &Inbox) -> io::Result<Wake> {
        loop {
            let (has_begun, left, is_orphaned) = {
                let ending = self.ending();
                (ending.has_begun(), ending.left(Instant::now()), ending.is_orphaned())
            };
            let supervised = self.context.as_deref().filter(|_| !is_orphaned);
            match inbox.wait(supervised.map(WorkerContext::control), left)? {
                Wake::Stop(signal) if !has_begun => self.leave(signal, supervised),
                Wake::Stop(signal) | Wake::StopNow(signal) => {
                    log::info!("Handling signal: {signal}; stopping at once");
                    if let Some(context) = &self.context {
                        context.report(&Report::Replace(format!("it was told to stop at once ({signal})")));
                    }
                    self.stop();
                    return Ok(Wake::Interrupted);
                }
                Wake::Command(ControlCommand::Stop) => {
                    self.obey(ControlCommand::Stop);
                    return Ok(Wake::Interrupted);
                }
                Wake::Command(ControlCommand::ReopenLogs(files)) => {
                    self.take_logs(files);
                    return Ok(Wake::ReopenLogs);
                }
                Wake::ReopenLogs => {
                    self.reopen_logs();
                    return Ok(Wake::ReopenLogs);
                }
                Wake::Command(command) => self.obey(command),
                Wake::Orphaned => {
                    self.ending().note_orphaned();
                    let limit = self.setup.config.graceful_timeout;
                    log::error!(
                        "The supervisor has died; finishing what runs, {} s at most",
                        limit.as_secs_f64()
                    );
                    self.drain(limit);
                }
                Wake::Timeout if self.ending().is_delay_over(Instant::now()) => {
                    let config = &self.setup.config;
                    let limit = config.graceful_timeout.saturating_sub(config.drain_delay_within_end());
                    self.drain(limit);
                }
                // It takes the interpreter only where that is the end: a call that was given up may keep it.
                Wake::ExitNotified if !self.threads.all_ended(self.lending.is_stopped()) => {}
                wake @ (Wake::TellStacks
                | Wake::Interrupted
                | Wake::Handlers
                | Wake::ExitNotified
                | Wake::Timeout) => return Ok(wake),
            }
        }
    }

    /// Ends at a signal: when there is a successor, as all who leave; at the second time without one.
    fn leave(&self, signal: &str, supervised: Option<&WorkerContext>) {
        let step = self.ending().leave(supervised.is_some());
        if let Some(context) = supervised.filter(|_| step == LeaveStep::AskSuccessor) {
            log::info!("Handling signal: {signal}; leaving when another worker is ready");
            return context.report(&Report::Signalled);
        }
        let limit = self.setup.config.graceful_timeout;
        log::info!("Handling signal: {signal}; finishing what runs, {} s at most", limit.as_secs_f64());
        match self.context {
            Some(_) => self.retire(limit),
            None => self.stop_alone(limit),
        }
    }

    /// Ends without a supervisor, who would see to the delay: first of all probes are told, and connections are
    /// accepted until that is over.
    fn stop_alone(&self, limit: Duration) {
        self.place.stop_alone();
        let delay = self.setup.config.drain_delay_within_end();
        if self.ending().finish_after(Instant::now(), delay) {
            return self.lending.announce_close();
        }
        self.drain(limit);
    }

    /// Does what the supervisor wants.
    fn obey(&self, command: ControlCommand) {
        log::debug!("The supervisor tells this process {command}");
        match command {
            ControlCommand::Retire(limit) => self.retire(limit),
            ControlCommand::Drain(limit) => self.drain(limit),
            ControlCommand::AnnounceClose => self.lending.announce_close(),
            ControlCommand::Stop => self.stop(),
            ControlCommand::ReopenLogs(files) => self.take_logs(files),
            ControlCommand::Fork { .. } => {
                log::error!("a worker was told to fork another (this is a bug in Portico)")
            }
        }
    }

    /// The supervisor has opened the logs again.
    fn take_logs(&self, files: LogFiles) {
        logs::take(&self.setup, files);
        if let Some(reopener) = &self.reopener {
            reopener.reopen();
        }
    }

    /// As one that was told to by a signal of its own.
    fn reopen_logs(&self) {
        logs::reopen(&self.setup);
        if let Some(reopener) = &self.reopener {
            reopener.reopen();
        }
    }

    fn retire(&self, limit: Duration) {
        self.end_within(limit);
        self.lending.retire(limit);
    }

    fn drain(&self, limit: Duration) {
        self.end_within(limit);
        self.lending.drain(limit);
    }

    pub(crate) fn stop(&self) {
        self.end_within(Duration::ZERO);
        self.lending.stop();
    }

    /// Sees to it that the process ends after this time, or when it was to end already. First of all the siblings
    /// are told: none is to rely on this worker once its engine takes nothing any more.
    fn end_within(&self, limit: Duration) {
        if let Some(context) = &self.context {
            context.retiring();
        }
        let forced = self.ending().end_within(Instant::now(), limit);
        if let Some(forced) = forced {
            let exit = exit_in_any_case(&self.lending, forced);
            self.forced_exits.lock().unwrap_or_else(PoisonError::into_inner).push(exit);
        }
    }
}

/// Sees to it that the process ends at `end`, also if code of the application keeps the interpreter to
/// itself, so that the main thread cannot run. Dropping what this returns calls it off.
fn exit_in_any_case(lending: &Arc<Lending>, end: Instant) -> mpsc::Sender<()> {
    let lending = Arc::clone(lending);
    let (calling_off, called_off) = mpsc::channel();
    let exit = move || {
        let left = end.saturating_duration_since(Instant::now());
        if called_off.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout) {
            lending.stop();
            logging::end_diversion(Duration::ZERO);
            log::error!("the application keeps the interpreter to itself; leaving without it");
            logging::exit(0);
        }
    };
    if let Err(error) = thread::Builder::new().name("portico-exit".to_owned()).spawn(exit) {
        log::warn!("nothing will end the process if the application is stuck: {error}");
    }
    calling_off
}
