//! The thread "portico-watch": shows that the worker lives, sees to calls that take too long or whose client has
//! left, and that long ones slow no others, says when the worker is to be replaced, and tells stacks on demand.
//!
//! It never waits for the interpreter: what needs it is done by the [`Inspector`], whose answer it looks for with
//! each look at the calls.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, mem};

use pyo3::prelude::*;

use portico_config::{Config, OnDisconnect};
use portico_log::Reason;
use portico_metrics::{Metrics, ThreadUse};
use portico_server::{Lending, error_summary};
use portico_supervisor::{Running, SlotField, ThreadStack, ThreadState, now_nanos};
use portico_worker::{
    CallDescription, CallWatch, Disconnects, EscalationStep, KeptStep, OwnUsage, ProcessWatch, RecycleReason,
    Recycling, ReplaceReason, TICK_MAX, end_crippled, logging, pause, tick,
};
use rustix::process::{Pid, getppid};

use super::disconnects::DisconnectCallbacks;
use super::inspections::Inspections;
use super::inspector::Inspector;
use super::switching::SwitchInterval;
use super::threads::Threads;
use super::turning::HubQuestions;
use crate::error::{RequestCancelled, RequestTimeout};
use crate::hub::Hub;
use crate::interpreter;
use crate::stacks::{self, Stacks};
use crate::thread_status::{ThreadStatus, ThreadStatuses};

/// The worker's parts that the watch over calls looks at, and those whom it tells. The watch owns it and never
/// waits for the interpreter.
pub(crate) struct Watching {
    /// The settings.
    pub(crate) config: Arc<Config>,
    /// The threads' records.
    pub(crate) records: Arc<ThreadStatuses>,
    /// The engine.
    pub(crate) lending: Arc<Lending>,
    /// The threads.
    pub(crate) threads: Arc<Threads>,
    /// Where the application's threads are greenlets: their hub.
    pub(crate) hub: Option<Arc<Hub>>,
    /// Where stacks come from.
    pub(crate) stacks: Arc<Stacks>,
    /// Asks for the worker to be replaced, for a reason; called at most once. `None` where nobody can replace it.
    pub(crate) replace: Option<Box<dyn Fn(String) + Send>>,
    /// Is told, in Python, that a thread is stuck.
    pub(crate) stuck: Option<Stuck>,
}

/// The message to Python that a thread is stuck.
pub(crate) type Stuck = Arc<dyn Fn(Python<'_>) + Send + Sync>;

/// The thread. Dropping this ends it, and waits for that: not to be done with the interpreter in hand.
pub(crate) struct WatchThread {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread.
///
/// # Errors
/// The system has no thread left.
pub(crate) fn start(watching: Watching) -> io::Result<WatchThread> {
    let (stop, stopped) = channel();
    let mut watcher = CallWatcher::new(watching)?;
    let work = move || {
        while catch_unwind(AssertUnwindSafe(|| watcher.run(&stopped))).is_err() {
            log::error!(
                "the watch over the application's calls failed (this is a bug in Portico); it goes on"
            );
            watcher.begin_anew();
            thread::sleep(TICK_MAX);
        }
    };
    let thread = thread::Builder::new().name("portico-watch".to_owned()).spawn(work)?;
    Ok(WatchThread { stop: Some(stop), thread: Some(thread) })
}

impl Drop for WatchThread {
    fn drop(&mut self) {
        drop(mem::take(&mut self.stop));
        if let Some(thread) = mem::take(&mut self.thread) {
            let _ = thread.join(); // Its panics are caught.
        }
    }
}

/// How long the interpreter is waited for until stacks are taken without it.
const INTERPRETER_PATIENCE: u64 = 1_000_000_000;

/// The state of the thread that watches calls; nothing but that thread has it.
struct CallWatcher {
    watching: Watching,
    inspector: Inspector,
    calls: CallWatch,
    process: ProcessWatch,
    recycling: Recycling,
    disconnects: Disconnects,
    callbacks: DisconnectCallbacks,
    switching: SwitchInterval,
    /// Where the worker counts.
    metrics: Metrics<'static>,
    /// Where the application's threads are greenlets.
    hub: Option<HubQuestions>,
    pending_stacks: Vec<PendingStack>,
    demand: Option<Demand>,
    inspections: Inspections,
    /// Longest time between two looks.
    tick: Duration,
    /// The supervisor.
    parent: Option<Pid>,
}

/// A stack that was asked for, to be logged.
struct PendingStack {
    answer: Receiver<Option<String>>,
    asked: u64,
    /// The identity of its thread as the interpreter knows it.
    ident: u64,
    step: EscalationStep,
    /// The line above the stack.
    line: String,
}

/// A demand for all stacks, of `portico stacks`.
struct Demand {
    answer: Receiver<PyResult<Vec<ThreadStack>>>,
    asked: u64,
    /// Number of the demand.
    number: u64,
}

impl CallWatcher {
    fn new(watching: Watching) -> io::Result<Self> {
        let config = &watching.config;
        let threads = watching.records.iter().count();
        Ok(Self {
            inspector: Inspector::start("portico-stacks")?,
            calls: CallWatch::new(threads, watching.hub.is_some()),
            process: ProcessWatch::new(config),
            recycling: Recycling::new(config, now_nanos()),
            disconnects: Disconnects::new(config.on_disconnect == OnDisconnect::Raise, threads),
            callbacks: DisconnectCallbacks::new(threads, watching.hub.clone()),
            switching: SwitchInterval::default(),
            metrics: watching.records.place().metrics(),
            hub: watching.hub.clone().map(|hub| HubQuestions::new(hub, Arc::clone(&watching.records))),
            pending_stacks: Vec::new(),
            demand: None,
            inspections: Inspections::new(&watching.records, &watching.stacks),
            tick: tick(config),
            parent: watching.replace.as_ref().and_then(|_| getppid()),
            watching,
        })
    }

    /// After a failure: whatever it was about is left alone.
    fn begin_anew(&mut self) {
        self.pending_stacks.clear();
        self.demand = None;
    }

    fn run(&mut self, stopped: &Receiver<()>) {
        loop {
            let now = now_nanos();
            let slot = self.watching.records.place().slot();
            slot.set(SlotField::HeartbeatNanos, now);
            slot.set(SlotField::Interpreter, interpreter::number());
            if let Some(reason) = self.recycling.check(&mut OwnUsage(slot), now) {
                self.replace(ReplaceReason::Recycled(reason));
            }
            let due = self.look_at_calls(now);
            self.settle_stacks(now);
            self.see_to_demand(now);
            self.inspections.look(now);
            self.end_an_orphan(now);
            self.end_a_cripple(now);
            self.end_beside_given_up_calls(now);
            let waiting = !self.pending_stacks.is_empty() || self.demand.is_some();
            let pause = pause(self.tick, now_nanos(), due, waiting);
            if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// Ends the process if it should have ended with its supervisor long ago.
    fn end_an_orphan(&mut self, now: u64) {
        let is_orphan = self.parent.is_some() && getppid() != self.parent;
        if self.process.is_left_over(now, is_orphan) {
            log::error!(
                "The supervisor has died, and the application keeps the interpreter; leaving without it"
            );
            logging::exit(1);
        }
    }

    /// Ends a process that nothing keeps but calls that were given up.
    fn end_beside_given_up_calls(&mut self, now: u64) {
        let Watching { lending, threads, .. } = &self.watching;
        let is_kept = lending.is_stopped() && lending.calls() == 0 && threads.are_some_stuck();
        match self.process.look_at_kept(now, is_kept, !self.pending_stacks.is_empty()) {
            Some(KeptStep::Ring) => threads.ring(),
            Some(KeptStep::Leave) => {
                log::warn!(
                    "all requests have their responses, and a call that was given up keeps the interpreter; \
                     leaving without it"
                );
                logging::end_diversion(Duration::ZERO);
                close(lending);
                logging::exit(0);
            }
            None => {}
        }
    }

    /// Ends what cannot do its work any more.
    fn end_a_cripple(&mut self, now: u64) {
        let lending = &self.watching.lending;
        let mut reason = lending.failure().map(str::to_owned);
        if reason.is_none() && self.process.are_descriptors_due(now) {
            let lost = lending.vital().lost();
            reason = (!lost.is_empty()).then(|| format!("it has lost {}", lost.join(", ")));
        }
        if let Some(reason) = reason.filter(|_| !lending.is_stopped()) {
            match self.parent {
                Some(_) => end_crippled(&reason),
                None => lending.fail(reason),
            }
        }
    }

    /// Does for each call what it is due for. Returns when the next one is due.
    fn look_at_calls(&mut self, now: u64) -> u64 {
        let records = Arc::clone(&self.watching.records);
        let running =
            |(index, record): (usize, &Arc<ThreadStatus>)| Some((index, record.thread().running()?));
        let calls: Vec<(usize, Running)> = records.iter().enumerate().filter_map(running).collect();
        if let Some(hub) = self.hub.as_mut().filter(|_| !calls.is_empty()) {
            hub.look(now, &mut self.calls, &self.inspector);
        }
        for (index, running) in &calls {
            let Some(record) = records.get(*index) else { continue };
            self.look_at_client(*index, record, running);
        }
        let found = self.calls.look(&self.watching.config, &calls, now);
        for (place, step) in found.steps {
            let Some((index, running)) = calls.get(place) else { continue };
            let Some(record) = records.get(*index) else { continue };
            match step {
                EscalationStep::GiveUp => self.give_up(*index, record, running, Reason::Timeout),
                EscalationStep::GiveUpCancelled => self.give_up(*index, record, running, Reason::Cancelled),
                step => self.inquire(step, record, running, now),
            }
        }
        self.switching.look(found.longest, &self.inspector, self.metrics);
        found.next_due
    }

    /// Does what is due for a call whose client has left.
    fn look_at_client(&mut self, index: usize, record: &Arc<ThreadStatus>, running: &Running) {
        let number = running.sequence;
        let calls_back = self.callbacks.are_ended(index) && record.has_callbacks(number);
        let lending = &self.watching.lending;
        let is_gone = || record.request(number).is_some_and(|request| lending.is_client_gone(request));
        let step = self.disconnects.look(index, running, record.standing(), calls_back, is_gone);
        if let Some(step) = step {
            self.callbacks.perform(step, (index, record, number), &self.inspector);
        }
    }

    /// Asks for the stack of a call, and raises the exception in it where it is time to.
    fn inquire(&mut self, step: EscalationStep, record: &Arc<ThreadStatus>, running: &Running, now: u64) {
        let word = match step {
            EscalationStep::Cancel => "cancelled",
            EscalationStep::TimeOut => "timeout",
            _ => "slow request",
        };
        // What waits for its client is in no Python code that an exception could end: its client is let go.
        let waits = matches!(running.state, ThreadState::AwaitingClient | ThreadState::Stream);
        if step == EscalationStep::Cancel && waits {
            record.request(running.sequence).into_iter().for_each(|it| self.watching.lending.cancel(it));
        }
        let line = format!("{word}: {}", self.describe(record, running, now));
        let ident = record.thread_ident();
        let (record, number, own) = (Arc::clone(record), running.sequence, Arc::clone(&self.watching.stacks));
        let answer = self.inspector.ask(move |py| {
            record.request(number)?;
            let stack = stacks::of(py, &record, &own);
            match step {
                EscalationStep::TimeOut => {
                    record.raise(py, number, py.get_type::<RequestTimeout>().as_any());
                }
                EscalationStep::Cancel => {
                    record.raise(py, number, py.get_type::<RequestCancelled>().as_any());
                }
                _ => {}
            }
            stack.unwrap_or_else(|error| Some(format!("no stack: {error}")))
        });
        self.pending_stacks.push(PendingStack { answer, asked: now, ident, step, line });
    }

    /// Logs the stacks that have come, and takes those without the interpreter that have not in time.
    fn settle_stacks(&mut self, now: u64) {
        for pending in mem::take(&mut self.pending_stacks) {
            match pending.answer.try_recv() {
                Ok(Some(stack)) => pending.log(&stack),
                Ok(None) => pending.log("it has ended meanwhile"),
                Err(TryRecvError::Empty) if now.saturating_sub(pending.asked) < INTERPRETER_PATIENCE => {
                    self.pending_stacks.push(pending);
                }
                Err(TryRecvError::Empty) => self.log_without_interpreter(&pending, now),
                Err(TryRecvError::Disconnected) => pending.log("its stack could not be had"),
            }
        }
    }

    fn log_without_interpreter(&mut self, pending: &PendingStack, now: u64) {
        let stacks = match self.watching.stacks.dump(&self.watching.records) {
            Ok(stacks) => self.named(stacks),
            Err(error) => return pending.log(&format!("no stack: {error}")),
        };
        let own = stacks.iter().find(|stack| stack.ident == pending.ident);
        pending.log(own.map_or("it has no Python stack", |stack| stack.frames.as_str()));
        if self.process.is_held_report_due(now) {
            let text: String = stacks.iter().map(ThreadStack::to_string).collect();
            log::warn!(
                "C code holds the interpreter, so that no thread gets on in Python; all stacks:\n{text}"
            );
        }
    }

    /// Adds the names of the threads that this worker has started.
    fn named(&self, mut stacks: Vec<ThreadStack>) -> Vec<ThreadStack> {
        for stack in stacks.iter_mut().filter(|stack| stack.name.is_none()) {
            let mut records = self.watching.records.iter();
            stack.name =
                records.find(|record| record.ident() == stack.ident).map(|record| record.thread_name());
        }
        stacks
    }

    /// The call has not ended for the exception: answers in its stead, and puts another thread in its thread's
    /// place.
    fn give_up(&mut self, index: usize, record: &Arc<ThreadStatus>, running: &Running, reason: Reason) {
        let Some(request) = record.request(running.sequence) else { return };
        let told = self.describe(record, running, now_nanos()); // While the engine knows it.
        if !self.watching.lending.give_up(request, reason) {
            return;
        }
        record.write_off(running.sequence);
        self.watching.threads.write_off(index);
        self.metrics.set_threads(ThreadUse::Lost, self.metrics.threads(ThreadUse::Lost).saturating_add(1));
        let begun = running.progress_nanos != running.begun_nanos;
        let (known, word, raised, status) = match reason {
            // What watches logs for gunicorn's words is not to take an operator's wish for a fault.
            Reason::Cancelled => (String::new(), "cancelled", "portico.RequestCancelled", 503),
            _ => {
                let known = format!("WORKER TIMEOUT (pid:{}): ", std::process::id());
                (known, "timeout", "portico.RequestTimeout", 504)
            }
        };
        let outcome = if begun { "its response is cut" } else { &format!("it is answered {status}") };
        log::error!(
            "{known}{word}: {told} did not end when {raised} was raised; {outcome}, another thread takes the \
             place of its thread"
        );
        let (threads, stuck) = (Arc::clone(&self.watching.threads), self.watching.stuck.clone());
        drop(self.inspector.ask(move |py| {
            match threads.start_another(py) {
                Ok(true) => {}
                Ok(false) => {
                    log::error!("as many threads are stuck as there may be: none takes this one's place")
                }
                Err(error) => log::error!("no thread takes the place of the one that is stuck: {error}"),
            }
            stuck.into_iter().for_each(|stuck| stuck(py));
        }));
        let (method, path) = (running.method.clone(), running.path().to_owned());
        self.replace(ReplaceReason::Stuck { method, path });
    }

    /// A call for the log. The engine is asked for what its request calls itself, so that no request has to
    /// note that down.
    fn describe(&self, record: &ThreadStatus, running: &Running, now: u64) -> String {
        let request = record.request(running.sequence);
        let request = request.and_then(|request| self.watching.lending.request_of(request));
        let id = request.as_ref().and_then(|request| request.head.field(b"X-Request-Id"));
        CallDescription { thread: record.index(), running, id, now }.to_string()
    }

    fn replace(&mut self, reason: ReplaceReason) {
        if !self.process.ask_replacement() {
            return;
        }
        match &self.watching.replace {
            Some(replace) => {
                if matches!(reason, ReplaceReason::Recycled(RecycleReason::Requests { .. })) {
                    log::info!("Autorestarting worker after current request."); // gunicorn's words.
                }
                replace(reason.to_string());
            }
            None => log::warn!("this process should be replaced, and has no supervisor to do it: {reason}"),
        }
    }

    /// Tells all stacks if they have been asked for since.
    fn see_to_demand(&mut self, now: u64) {
        let slot = self.watching.records.place().slot();
        let number = slot.get(SlotField::StacksAsked);
        if self.demand.is_none() && number != slot.get(SlotField::StacksTold) {
            let (records, own) = (Arc::clone(&self.watching.records), Arc::clone(&self.watching.stacks));
            let answer = self.inspector.ask(move |py| stacks::all(py, Some(&records), Some(&own)));
            self.demand = Some(Demand { answer, asked: now, number });
        }
        let Some(demand) = self.demand.take() else { return };
        let stacks = match demand.answer.try_recv() {
            Err(TryRecvError::Empty) if now.saturating_sub(demand.asked) < INTERPRETER_PATIENCE => {
                self.demand = Some(demand);
                return;
            }
            Ok(Ok(stacks)) => Ok(stacks),
            Ok(Err(_)) | Err(_) => {
                self.watching.stacks.dump(&self.watching.records).map(|stacks| self.named(stacks))
            }
        };
        if let Err(error) = stacks.and_then(|stacks| self.watching.stacks.publish(&stacks)) {
            log::warn!("the stacks that were asked for could not be told: {error}");
        }
        slot.set(SlotField::StacksTold, demand.number);
    }
}

impl PendingStack {
    fn log(&self, stack: &str) {
        let (line, stack) = (&self.line, stack.trim_end());
        match self.step {
            EscalationStep::Slow | EscalationStep::Cancel => log::warn!("{line}\n{stack}"),
            _ => log::error!("{line}\n{stack}"),
        }
    }
}

/// Writes the rest of the access log, and tells what went wrong with requests.
pub(crate) fn close(lending: &Lending) {
    if let Some(error_summary) = lending.close().and_then(error_summary) {
        log::info!("Since the start: {error_summary}");
    }
}
