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
use portico_server::Lending;
use portico_supervisor::{Running, SlotField, ThreadStack, ThreadState, now_nanos};
use portico_worker::{CallLimits, EscalationStep, Recycling, TimeoutEscalation, end_crippled, logging};
use rustix::process::{Pid, getppid};

use super::disconnects::Disconnects;
use super::inspector::Inspector;
use super::switching::Switching;
use super::threads::Threads;
use super::turning::Turning;
use crate::error::RequestTimeout;
use crate::hub::Hub;
use crate::interpreter;
use crate::stacks::{self, Stacks};
use crate::thread_status::{ThreadStatus, ThreadStatuses};

/// What is watched, and who is told.
pub struct Watching {
    /// The settings.
    pub config: Arc<Config>,
    /// The threads' records.
    pub records: Arc<ThreadStatuses>,
    /// The engine.
    pub lending: Arc<Lending>,
    /// The threads.
    pub threads: Arc<Threads>,
    /// Where the application's threads are greenlets: their hub.
    pub hub: Option<Arc<Hub>>,
    /// Where stacks come from.
    pub stacks: Arc<Stacks>,
    /// Asks for the worker to be replaced, for a reason; called at most once. `None` where nobody can replace it.
    pub replace: Option<Box<dyn Fn(String) + Send>>,
    /// Is told, in Python, that a thread is stuck.
    pub stuck: Option<Stuck>,
}

/// What is told in Python that a thread is stuck.
pub type Stuck = Arc<dyn Fn(Python<'_>) + Send + Sync>;

/// The thread. Dropping this ends it, and waits for that: not to be done with the interpreter in hand.
pub struct CallWatch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread.
///
/// # Errors
/// The system has no thread left.
pub fn start(watching: Watching) -> io::Result<CallWatch> {
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
    Ok(CallWatch { stop: Some(stop), thread: Some(thread) })
}

impl Drop for CallWatch {
    fn drop(&mut self) {
        drop(mem::take(&mut self.stop));
        if let Some(thread) = mem::take(&mut self.thread) {
            let _ = thread.join(); // Its panics are caught.
        }
    }
}

/// Longest time between two looks.
const TICK_MAX: Duration = Duration::from_millis(100);

/// Shortest.
const TICK_MIN: Duration = Duration::from_millis(10);

/// How long the interpreter is waited for until stacks are taken without it.
const INTERPRETER_PATIENCE: u64 = 1_000_000_000;

/// Bytes of a request's id that are told.
const ID_BYTES_MAX: usize = 128;

/// How often all stacks are logged because the interpreter is not to be had.
const HELD_EVERY: u64 = 10_000_000_000;

/// How often it is looked whether the descriptors that the worker needs are still its own.
const DESCRIPTORS_EVERY: u64 = 1_000_000_000;

/// How long the main thread waits for the interpreter once nothing but calls that were given up is left.
const KEPT_PATIENCE: u64 = 500_000_000;

/// What a worker that has lost its supervisor has beyond --graceful-timeout.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);

/// The state of the thread that watches calls; nothing but that thread has it.
struct CallWatcher {
    watching: Watching,
    inspector: Inspector,
    recycling: Recycling,
    switching: Switching,
    disconnects: Disconnects,
    escalations: Vec<TimeoutEscalation>,
    /// Where the application's threads are greenlets: whether their hub turns.
    turning: Option<Turning>,
    pending_stacks: Vec<PendingStack>,
    demand: Option<Demand>,
    /// Longest time between two looks: no step of the ladder is to come much late.
    tick: Duration,
    replacing: bool,
    /// When all stacks were last logged because the interpreter was not to be had.
    held_told: Option<u64>,
    /// When the descriptors that it needs were last looked at.
    descriptors_seen: u64,
    /// The supervisor, and since when it has gone.
    parent: Option<Pid>,
    orphaned: Option<u64>,
    /// Since when nothing but calls that were given up keeps the process.
    kept_since: Option<u64>,
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

/// All stacks, for `portico stacks`.
struct Demand {
    answer: Receiver<PyResult<Vec<ThreadStack>>>,
    asked: u64,
    /// Number of the demand.
    number: u64,
}

impl CallWatcher {
    fn new(watching: Watching) -> io::Result<Self> {
        let config = &watching.config;
        let times = [config.timeout, config.slow_request].into_iter();
        let times = times.chain(config.path_timeouts.iter().map(|path| path.timeout));
        let least = times.filter(|time| !time.is_zero()).min().unwrap_or(TICK_MAX);
        Ok(Self {
            inspector: Inspector::start("portico-stacks")?,
            recycling: Recycling::new(config, now_nanos()),
            switching: Switching::default(),
            disconnects: Disconnects::new(
                config.on_disconnect == OnDisconnect::Raise,
                watching.records.iter().count(),
                watching.hub.clone(),
            ),
            escalations: watching.records.iter().map(|_| TimeoutEscalation::default()).collect(),
            turning: watching.hub.clone().map(|hub| Turning::new(hub, Arc::clone(&watching.records))),
            pending_stacks: Vec::new(),
            demand: None,
            tick: (least / 8).clamp(TICK_MIN, TICK_MAX),
            replacing: false,
            held_told: None,
            descriptors_seen: 0,
            parent: watching.replace.as_ref().and_then(|_| getppid()),
            orphaned: None,
            kept_since: None,
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
            if let Some(reason) = self.recycling.check(slot, now) {
                if self.recycling.has_served_enough(slot)
                    && self.watching.replace.is_some()
                    && !self.replacing
                {
                    log::info!("Autorestarting worker after current request."); // gunicorn's words.
                }
                self.replace(reason);
            }
            let due = self.look_at_calls(now);
            self.settle_stacks(now);
            self.see_to_demand(now);
            self.end_an_orphan(now);
            self.end_a_cripple(now);
            self.end_beside_given_up_calls(now);
            let waiting = !self.pending_stacks.is_empty() || self.demand.is_some();
            let until = if waiting { 0 } else { due.saturating_sub(now_nanos()) };
            let wait = Duration::from_nanos(until).clamp(TICK_MIN, self.tick);
            if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// Ends the process if the supervisor died so long ago that it should have ended: it has not noticed, since
    /// C code holds the interpreter.
    fn end_an_orphan(&mut self, now: u64) {
        if self.parent.is_none() || getppid() == self.parent {
            return;
        }
        let limit = self.watching.config.graceful_timeout + ORPHAN_GRACE;
        if u128::from(now - *self.orphaned.get_or_insert(now)) >= limit.as_nanos() {
            log::error!(
                "The supervisor has died, and the application keeps the interpreter; leaving without it"
            );
            logging::exit(1);
        }
    }

    /// Ends a process that is to end and has answered all it had, where calls that were given up keep the
    /// interpreter: what is left of --graceful-timeout would be theirs alone. First it is told where they are.
    fn end_beside_given_up_calls(&mut self, now: u64) {
        let Watching { lending, threads, .. } = &self.watching;
        if !(lending.is_stopped() && lending.calls() == 0 && threads.are_some_stuck()) {
            self.kept_since = None;
            return;
        }
        let since = *self.kept_since.get_or_insert_with(|| {
            threads.ring(); // Where the interpreter is to be had, the main thread ends the process in order.
            now
        });
        if self.pending_stacks.is_empty() && now.saturating_sub(since) >= KEPT_PATIENCE {
            log::warn!(
                "all requests have their responses, and a call that was given up keeps the interpreter; leaving \
                 without it"
            );
            logging::end_diversion(Duration::ZERO);
            close(lending);
            logging::exit(0);
        }
    }

    /// Ends what cannot do its work any more.
    fn end_a_cripple(&mut self, now: u64) {
        let lending = &self.watching.lending;
        let mut reason = lending.failure().map(str::to_owned);
        if reason.is_none() && now.saturating_sub(self.descriptors_seen) >= DESCRIPTORS_EVERY {
            self.descriptors_seen = now;
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

    /// Takes each call as far on the ladder as it is due. Returns when the next one is.
    fn look_at_calls(&mut self, now: u64) -> u64 {
        let (mut next, mut longest) = (u64::MAX, 0);
        let records = Arc::clone(&self.watching.records);
        let reloader = self.find_keeper(now);
        for (index, record) in records.iter().enumerate() {
            let Some(running) = record.thread().running() else { continue };
            if !matches!(running.state, ThreadState::AwaitingClient | ThreadState::Stream) {
                longest = longest.max(now.saturating_sub(running.begun_nanos));
            }
            let call = (record, &running);
            self.disconnects.look(index, call, &self.watching.lending, &self.inspector);
            let Some(escalation) = self.escalations.get_mut(index) else { continue };
            if reloader.is_some_and(|reloader| reloader != index) {
                continue; // Its time is excused when the hub comes round.
            }
            let config = &self.watching.config;
            let step = escalation.look(&running, now, || limits(config, running.path()));
            next = next.min(escalation.due().unwrap_or(u64::MAX));
            match step {
                Some(EscalationStep::GiveUp) => self.give_up(index, record, &running, now),
                Some(step) => self.inquire(step, record, &running, now),
                None => {}
            }
        }
        self.switching.look(Duration::from_nanos(longest), &self.inspector);
        next
    }

    /// The thread whose call keeps the application's hub from turning, until that call is given up.
    fn find_keeper(&mut self, now: u64) -> Option<usize> {
        let turning = self.turning.as_mut()?;
        if self.watching.records.iter().all(|record| record.thread().running().is_none()) {
            return None;
        }
        let reloader = turning.look(now, &mut self.escalations, &self.inspector)?;
        let is_given_up = self.escalations.get(reloader).is_some_and(TimeoutEscalation::has_given_up);
        (!is_given_up).then_some(reloader)
    }

    /// Asks for the stack of a call, and raises the exception in it where it is time to.
    fn inquire(&mut self, step: EscalationStep, record: &Arc<ThreadStatus>, running: &Running, now: u64) {
        let word = if step == EscalationStep::TimeOut { "timeout" } else { "slow request" };
        let line = format!("{word}: {}", self.describe(record, running, now));
        let ident = record.thread_ident();
        let (record, number, own) = (Arc::clone(record), running.sequence, Arc::clone(&self.watching.stacks));
        let answer = self.inspector.ask(move |py| {
            record.request(number)?;
            let stack = stacks::of(py, &record, &own);
            if step == EscalationStep::TimeOut {
                record.raise(py, number, py.get_type::<RequestTimeout>().as_any());
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
        if self.held_told.is_none_or(|told| now.saturating_sub(told) >= HELD_EVERY) {
            self.held_told = Some(now);
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
    fn give_up(&mut self, index: usize, record: &Arc<ThreadStatus>, running: &Running, now: u64) {
        let Some(request) = record.request(running.sequence) else { return };
        let told = self.describe(record, running, now); // While the engine knows it.
        if !self.watching.lending.give_up(request) {
            return;
        }
        record.write_off(running.sequence);
        self.watching.threads.write_off(index);
        self.watching.records.place().slot().add(SlotField::LostThreads, 1);
        let begun = running.progress_nanos != running.begun_nanos;
        let outcome = if begun { "its response is cut" } else { "it is answered 504" };
        log::error!(
            "WORKER TIMEOUT (pid:{}): timeout: {told} did not end when portico.RequestTimeout was raised; \
             {outcome}, another thread takes the place of its thread",
            std::process::id()
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
        self.replace(format!("a thread is stuck in {} {}", name(&running.method), name(running.path())));
    }

    /// A call for the log. The engine is asked for what its request calls itself, so that no request has to
    /// note that down.
    fn describe(&self, record: &ThreadStatus, running: &Running, now: u64) -> String {
        let request = record.request(running.sequence);
        let request = request.and_then(|request| self.watching.lending.request_of(request));
        describe(
            request.as_ref().and_then(|request| request.head.field(b"X-Request-Id")),
            record,
            running,
            now,
        )
    }

    fn replace(&mut self, reason: String) {
        if self.replacing {
            return;
        }
        self.replacing = true;
        match &self.watching.replace {
            Some(replace) => replace(reason),
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
            EscalationStep::Slow => log::warn!("{line}\n{stack}"),
            EscalationStep::TimeOut | EscalationStep::GiveUp => log::error!("{line}\n{stack}"),
        }
    }
}

/// Writes the rest of the access log, and tells what went wrong with requests.
pub fn close(lending: &Lending) {
    if let Some(error_summary) = lending.close().and_then(|counters| counters.error_summary()) {
        log::info!("Since the start: {error_summary}");
    }
}

fn limits(config: &Config, path: &[u8]) -> CallLimits {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let limit = |time: Duration| (!time.is_zero()).then(|| nanos(time));
    CallLimits {
        slow: limit(config.slow_request),
        timeout: limit(config.timeout_for(path)),
        grace: nanos(config.timeout_grace),
    }
}

/// `GET /x of 192.0.2.7, request id 7f3a, running 30.0 s, queued 0.1 s, thread portico-3`
fn describe(id: Option<&[u8]>, record: &ThreadStatus, running: &Running, now: u64) -> String {
    let (method, path) = (name(&running.method), name(running.path()));
    let peer = running.peer.map(|peer| format!(" of {peer}")).unwrap_or_default();
    let id = id.filter(|id| !id.is_empty()).map(|id| &id[..id.len().min(ID_BYTES_MAX)]);
    let id = id.map(|id| format!(", request id {}", name(id))).unwrap_or_default();
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    let ran = seconds(now.saturating_sub(running.begun_nanos));
    let last = match running.progress_nanos == running.begun_nanos {
        true => String::new(),
        false => {
            format!(" (its last block {:.1} s ago)", seconds(now.saturating_sub(running.progress_nanos)))
        }
    };
    let (queued, thread) = (seconds(running.queued_nanos), record.thread_name());
    format!("{method} {path}{peer}{id}, running {ran:.1} s{last}, queued {queued:.1} s, thread {thread}")
}

fn name(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
