//! The lent event loop: the slot, who drives, who takes a lent engine.
//!
//! The engine is a value. The thread that has it drives; to call the application, or to wait for the network, it
//! lays the engine into the slot and takes it back afterwards. A thread in a call that has something to send takes
//! the engine for that moment. Whoever finds the slot empty leaves a message in the mailbox, which the driver
//! reads before it releases the engine and once more after.
//!
//! ```text
//!   application threads   drive ── release, call the application ─── take back ──> drive
//!                           │                                          └─ gone: idle
//!                           └───── release, wait for the network ───── take back ──> drive
//!   idle                  calls compute: parked.  calls wait: waiting for the network, with the others
//!   standby               keeps the deadlines; takes an engine that nobody looks after; never calls
//! ```
//!
//! While calls are short or compute, one thread does everything and no other is woken: it could only queue for the
//! interpreter. While they wait ([`CallDurationAverage::waits`]), idle threads wait for the network together and
//! the kernel wakes one per event: the thread that reads a request is the one that runs it.
//!
//! One file because each step hands the engine to the next: a reader follows it from take to release.

mod application;
mod call_duration;
mod control;
mod message;
mod output_filter;
mod poller;
mod responder;
mod standby;
mod waits;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use portico_config::Config;
use portico_lending::{ActiveCall, ActiveCalls, Exchange, NextDeadline};
use portico_log::Occurrences;
use portico_metrics::Metrics;
use portico_net::{Events, Reactor};

use crate::connection::{
    ConnectionId, Flow, MemoryGauge, Poster, Recording, RequestKey, ResponsePart, ResponseRules,
    ResponseSpool, Room, Routes, WaitEnd, nanos,
};
use crate::engine::{Call, Engine, POLL_INTERVAL, Writing};
use crate::handover::Sharing;
use crate::health::Health;
use crate::spool::{SpoolError, Spools};
pub use application::{Application, InterpreterWait, Request};
use call_duration::CallDurationAverage;
use message::EngineMessage;
use poller::ReactorPoller;
pub use responder::{Gone, Responder};
use waits::{Need, Outlook, Waits};

/// One engine, its threads, and the application that they call.
pub struct Lending {
    exchange: Exchange<Engine, EngineMessage>,
    reactor: Arc<Reactor>,
    active_calls: ActiveCalls,
    call_durations: CallDurationAverage,
    next_deadline: NextDeadline,
    application: Arc<dyn Application>,
    waits: Arc<Waits>,
    spools: Arc<Spools>,
    memory: Arc<MemoryGauge>,
    config: Arc<Config>,
    sharing: Option<Sharing>,
    stopped: AtomicBool,
    /// Why the network cannot be waited for any more.
    failure: OnceLock<String>,
}

static FAILED_CALLS: Occurrences = Occurrences::new();

/// Where no call runs beside it, one of so many waits for the interpreter is measured.
const LONE_WAITS: u64 = 8;

/// A call for which the engine has been lent.
struct Begun {
    call: Call,
    at: Instant,
    interpreter_wait: Option<InterpreterWait>,
}

/// Takes results of work that is done off the engine to whoever has it. Those that come after the end go nowhere.
fn poster(lending: Weak<Lending>) -> Poster {
    Arc::new(move |result| {
        if let Some(lending) = lending.upgrade() {
            lending.send(EngineMessage::WorkDone(result));
            lending.ensure_driven();
        }
    })
}

/// The call was given up meanwhile, and the thread with it.
struct GivenUp;

/// A call has ended, of which [`Application::busy_word`] says that it runs.
#[inline]
fn end_busy(word: &AtomicU64, nanos: u64) {
    let before = word.load(Ordering::Relaxed);
    if before & 1 == 1 {
        word.store((before >> 1).wrapping_add(nanos) << 1, Ordering::Release);
    }
}

impl Lending {
    /// An engine that has `application` called by the threads that will [`run`](Lending::run_thread), and accepts
    /// once it is to [`listen`](Lending::listen). `routes`, if there are any, decide about requests before that;
    /// `health` tells probes how it stands; `sharing` is for a worker that is one of several.
    ///
    /// # Errors
    /// The kernel's, when descriptors have run out.
    pub fn new(
        config: Arc<Config>,
        recording: Recording,
        application: Arc<dyn Application>,
        routes: Option<Routes>,
        health: Option<Health>,
        sharing: Option<Sharing>,
    ) -> std::io::Result<Arc<Self>> {
        let now = Instant::now();
        let reactor = Arc::new(Reactor::new()?);
        let mut engine =
            Engine::new(Arc::clone(&config), Arc::clone(&reactor), recording, sharing.clone(), now);
        if let Some(routes) = routes {
            engine.set_routes(routes);
        }
        if let Some(health) = health {
            engine.set_health(health);
        }
        Ok(Arc::new_cyclic(|lending: &Weak<Self>| {
            engine.set_poster(poster(lending.clone()));
            Self {
                waits: Arc::new(Waits::new(config.threads as usize)),
                spools: Arc::clone(engine.spools()),
                memory: Arc::clone(engine.memory_gauge()),
                exchange: Exchange::new(Box::new(engine)),
                reactor,
                active_calls: ActiveCalls::default(),
                call_durations: CallDurationAverage::default(),
                next_deadline: NextDeadline::new(now),
                application,
                config,
                sharing,
                stopped: AtomicBool::new(false),
                failure: OnceLock::new(),
            }
        }))
    }

    /// Runs the calling thread as an application thread until the engine has stopped, or until a call of the
    /// thread that was [given up](Lending::give_up) comes to its end after all.
    pub fn run_thread(self: &Arc<Self>) {
        let mut events = Events::new();
        let mut engine = None;
        let active_call = self.active_calls.take();
        let (busy, mut turns, mut weight) = (self.application.busy_word(), 0, 0);
        while !self.is_stopped() {
            let (mut call, mut looked) = (None, false);
            // With nobody else in a call the thread works on as it is while it finds work. Else it lets go of the
            // interpreter first, and takes it again only when the engine is lent.
            if self.exchange.thread_states().calls() == 0
                && let Some(mine) = engine.take()
            {
                (call, engine) = self.look_for_call(mine, &mut events);
                looked = true;
            }
            if call.is_none() {
                self.application.blocking(&mut || {
                    call = self.await_call(engine.take(), looked, &mut events);
                    weight = self.interpreter_weight(&mut turns);
                    if let Some(begun) = &mut call
                        && weight > 0
                    {
                        begun.at = Instant::now();
                    }
                });
                if let Some(begun) = &mut call {
                    // Waiting for the interpreter is not part of the call.
                    let wanted = std::mem::replace(&mut begun.at, Instant::now());
                    let wait = match weight {
                        0 => Duration::ZERO,
                        _ => begun.at.saturating_duration_since(wanted),
                    };
                    begun.interpreter_wait = (weight > 0).then_some(InterpreterWait { wait, weight });
                    if self.call_durations.waits() {
                        self.call_durations.record_interpreter(wait);
                    }
                }
            }
            if let Some(begun) = call {
                engine = match self.run_call(begun, &active_call, busy) {
                    Ok(engine) => engine,
                    Err(GivenUp) => return,
                };
            }
        }
        self.active_calls.leave(&active_call);
        if let Some(engine) = engine {
            self.exchange.lay_to_rest(engine);
        }
        self.exchange.thread_states().wake_all(&self.poller());
    }

    /// For how many waits for the interpreter the next one stands, if it is measured at all, which takes a look
    /// at the clock: each where calls run beside each other, else one of several. `turns` are those of the
    /// thread.
    #[inline]
    fn interpreter_weight(&self, turns: &mut u64) -> u64 {
        if self.exchange.thread_states().calls() > 1 || self.call_durations.waits() {
            return 1;
        }
        *turns += 1;
        if turns.is_multiple_of(LONE_WAITS) { LONE_WAITS } else { 0 }
    }

    /// Whether the engine has stopped; threads that are not in a call end then.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Threads that are in a call.
    pub fn calls(&self) -> usize {
        self.exchange.thread_states().calls()
    }

    /// What has happened, once the threads have ended; writes the rest of the access log.
    pub fn close(&self) -> Option<Metrics<'static>> {
        self.exchange.take().map(|engine| engine.metrics())
    }

    /// Looks for a request to answer without waiting; if there is one, the engine is lent.
    fn look_for_call(
        self: &Arc<Self>,
        mut engine: Box<Engine>,
        events: &mut Events,
    ) -> (Option<Begun>, Option<Box<Engine>>) {
        for looked in [false, true] {
            if !self.advance(&mut engine) {
                return (None, Some(engine));
            }
            if !engine.poll_is_due()
                && let Some(call) = self.take_call(&mut engine)
            {
                return (Some(self.begin(call, engine)), None);
            }
            if !looked {
                if !engine.has_work() {
                    engine.flush_held();
                }
                self.look(&mut engine, events);
            }
        }
        (None, Some(engine))
    }

    /// Waits for a request to answer, and for the engine where the thread does not have it; the engine is lent
    /// then. `None` when the engine has stopped. `looked`: the thread has just looked for a request in vain.
    fn await_call(
        self: &Arc<Self>,
        engine: Option<Box<Engine>>,
        looked: bool,
        events: &mut Events,
    ) -> Option<Begun> {
        let (mut mine, mut looked) = (engine, looked);
        loop {
            let Some(mut engine) = mine.take() else {
                if self.is_stopped() {
                    return None;
                }
                mine = self.idle(events);
                continue;
            };
            if !std::mem::take(&mut looked) {
                self.advance(&mut engine);
            }
            if engine.is_stopped() {
                self.finish(engine);
                return None;
            }
            if engine.poll_is_due() && engine.has_work() {
                self.look(&mut engine, events);
            }
            if let Some(call) = self.take_call(&mut engine) {
                return Some(self.begin(call, engine));
            }
            if !engine.has_work() {
                engine.flush_held();
            }
            // A response that has been written may have brought a pipelined request up.
            if engine.has_work() {
                engine.set_now(Instant::now());
                mine = Some(engine);
            } else {
                mine = self.rest(engine, events);
            }
        }
    }

    /// Lends the engine for `call`.
    fn begin(&self, call: Call, engine: Box<Engine>) -> Begun {
        let at = engine.now();
        self.exchange.thread_states().begin_call();
        self.lend(engine);
        Begun { call, at, interpreter_wait: None }
    }

    /// Does what is due; `false` if the engine has stopped.
    fn advance(&self, engine: &mut Engine) -> bool {
        self.drain_mailbox(engine);
        self.tell_calls(engine);
        engine.advance();
        !engine.is_stopped()
    }

    /// Tells the engine of a worker that is one of several how many threads are in calls.
    fn tell_calls(&self, engine: &mut Engine) {
        if self.sharing.is_some() {
            engine.set_calls(self.exchange.thread_states().calls(), self.call_durations.is_long());
        }
    }

    fn take_call(self: &Arc<Self>, engine: &mut Engine) -> Option<Call> {
        engine.next_call(|id| {
            let lending = Arc::clone(self);
            move || lending.read_more(id)
        })
    }

    /// Handles what the network has brought by now.
    fn look(&self, engine: &mut Engine, events: &mut Events) {
        engine.watch_all();
        if let Err(error) = self.reactor.wait(events, Some(Duration::ZERO)) {
            self.report_failed_wait(&error);
        }
        engine.set_polled(Instant::now());
        self.tell_calls(engine);
        engine.handle_events(events);
        events.clear();
    }

    /// Lays the engine down and waits for the network.
    fn rest(&self, engine: Box<Engine>, events: &mut Events) -> Option<Box<Engine>> {
        if self.exchange.thread_states().polling() > 0 && !self.call_durations.waits() {
            // One is enough. `idle` sees to it that there is one.
            return self.release(engine);
        }
        self.exchange.thread_states().begin_poll();
        if let Some(engine) = self.release(engine) {
            self.exchange.thread_states().end_poll();
            return Some(engine);
        }
        self.wait(events);
        self.exchange.thread_states().end_poll();
        self.reclaim(events)
    }

    /// Takes the engine after a wait, to handle `events`; if another thread has it, that one gets them.
    fn reclaim(&self, events: &mut Events) -> Option<Box<Engine>> {
        let engine = match self.exchange.take() {
            Some(mut engine) => {
                engine.set_polled(Instant::now());
                self.tell_calls(&mut engine);
                engine.handle_events(events);
                Some(engine)
            }
            None if events.is_empty() => None,
            None => self.exchange.post(EngineMessage::Events(events.iter().collect())),
        };
        events.clear();
        engine
    }

    /// Calls the application; the engine is lent. Returns the engine if it is still there afterwards.
    fn run_call(
        self: &Arc<Self>,
        begun: Begun,
        active_call: &ActiveCall,
        busy: Option<&AtomicU64>,
    ) -> Result<Option<Box<Engine>>, GivenUp> {
        let Begun { call, at, interpreter_wait } = begun;
        let Call { key, context, id, body, queued_nanos, share } = call;
        let rules = ResponseRules::of(&context);
        let request = Request { key, context, id, body, queued_nanos, begun: at, interpreter_wait };
        let responder = Responder::new(Arc::clone(self), key, share, rules);
        active_call.begin(key.call);
        let sample = self.call_durations.begin();
        let called = catch_unwind(AssertUnwindSafe(|| self.application.call(request, responder)));
        if called.is_err()
            && let Some(times) = FAILED_CALLS.note()
        {
            log::error!("the server itself failed in a call, which was cut (a bug in Portico){times}");
        }
        if !active_call.end(key.call) {
            return Err(GivenUp);
        }
        self.exchange.thread_states().end_call();
        let now = Instant::now();
        let wall = now.saturating_duration_since(at);
        if let Some(busy) = busy {
            end_busy(busy, nanos(wall));
        }
        self.call_durations.record(wall, sample, || self.application.computes_in_parallel());
        let mut engine = self.exchange.take();
        match &mut engine {
            Some(engine) => engine.set_now(now),
            // Whoever has it may have told the siblings of this call as running.
            None if self.sharing.is_some() => self.send(EngineMessage::TellLoad),
            None => {}
        }
        Ok(engine)
    }

    /// Lays the engine down for a call, and has another thread look after it if calls wait.
    fn lend(&self, mut engine: Box<Engine>) {
        self.exchange.thread_states().count_lend();
        if self.exchange.thread_states().is_polled() {
            // Whoever waits for the network looks at nothing by itself: they would wait for the end of this call.
            engine.flush_held();
        }
        loop {
            let more = engine.has_work();
            match self.release(engine) {
                Some(again) => engine = again,
                None => {
                    self.exchange.thread_states().rouse_standby(&self.poller());
                    let unpolled = self.call_durations.waits() && !self.exchange.thread_states().is_polled();
                    if unpolled || self.needs_another(more) {
                        self.exchange.thread_states().wake_one(&self.poller());
                    }
                    return;
                }
            }
            self.drain_mailbox(&mut engine);
        }
    }

    /// Lays the engine into the slot; gives it back if a message has come meanwhile. The siblings are told first.
    fn release(&self, mut engine: Box<Engine>) -> Option<Box<Engine>> {
        self.tell_calls(&mut engine);
        engine.tell_load();
        self.release_untold(engine)
    }

    /// As [`Lending::release`], where nothing has changed for the siblings.
    fn release_untold(&self, mut engine: Box<Engine>) -> Option<Box<Engine>> {
        // A call that takes no time needs no watch of its client's. If it does take time, the standby looks.
        if engine.has_unwatched()
            && (self.call_durations.is_long() || self.exchange.thread_states().is_polled())
        {
            engine.watch_all();
        }
        // While calls come back, whoever comes back sees what may be passed on: nobody is woken for that.
        if let Some(due) = engine.changed_timeout(self.exchange.thread_states().is_standby_polling())
            && self.next_deadline.publish(due)
        {
            self.exchange.thread_states().wake_standby(&self.poller());
        }
        if let Some(work) = engine.changed_work() {
            self.exchange.thread_states().set_work_waiting(work);
        }
        self.waits.set_need(match self.exchange.thread_states().calls() >= self.config.threads as usize {
            false => Need::None,
            true if engine.has_call() => Need::Now,
            true => Need::Soon,
        });
        self.exchange.release(engine)
    }

    /// Waits without the engine, until it is this thread's turn to drive.
    fn idle(&self, events: &mut Events) -> Option<Box<Engine>> {
        if self.call_durations.waits() {
            self.exchange.thread_states().begin_poll();
            let engine = self.exchange.take();
            if engine.is_none() && !self.is_stopped() {
                self.wait(events);
            }
            self.exchange.thread_states().end_poll();
            return engine.or_else(|| self.reclaim(events));
        }
        self.exchange.thread_states().announce_park();
        if let Some(engine) = self.exchange.last_look(|engine| engine.has_work()) {
            self.exchange.thread_states().revoke_park();
            return Some(engine);
        }
        if !self.is_stopped() {
            self.exchange.thread_states().park();
        }
        self.exchange.thread_states().revoke_park();
        self.exchange.take()
    }

    /// Hands a part of a response to the engine: directly, if it lies in the slot. `false` if the client has gone.
    /// `joins`: it may wait for the next part.
    pub(crate) fn respond(
        &self,
        key: RequestKey,
        response: ResponsePart<'_>,
        flow: Option<&Arc<Flow>>,
        (now, joins): (Instant, bool),
    ) -> bool {
        match self.exchange.take() {
            Some(mut engine) => {
                engine.set_now(now);
                // What was posted before comes first: blocks of one response keep their order.
                self.drain_mailbox(&mut engine);
                let quiet = !self.call_durations.is_long() && !self.exchange.thread_states().is_polled();
                let writing = match () {
                    () if joins => Writing::Joined,
                    () if quiet => Writing::Batched,
                    () => Writing::AtOnce,
                };
                let alive = engine.respond(key, response, writing);
                self.give_back(engine);
                alive
            }
            None => {
                if let Some(flow) = flow {
                    flow.post(response.copied_bytes());
                }
                self.send(EngineMessage::ResponsePart(key, response.into_owned(), flow.cloned()));
                true
            }
        }
    }

    /// The reader of a streamed body waits for more of it.
    fn read_more(&self, id: ConnectionId) {
        self.send(EngineMessage::ReadMore(id));
        self.ensure_driven();
    }

    /// Lays the engine down after a moment's use within a call or from outside.
    fn give_back(&self, mut engine: Box<Engine>) {
        loop {
            if engine.is_stopped() {
                return self.finish(engine);
            }
            let more = engine.has_work();
            // With nothing to do in it, the thread that drives tells them soon enough.
            let laid_down = if more { self.release(engine) } else { self.release_untold(engine) };
            match laid_down {
                Some(again) => engine = again,
                None => {
                    self.exchange.thread_states().rouse_standby(&self.poller());
                    if self.needs_another(more) {
                        self.exchange.thread_states().wake_one(&self.poller());
                    }
                    return;
                }
            }
            self.drain_mailbox(&mut engine);
        }
    }

    /// Whether the engine that has been released with work in it needs another thread at once. While calls do not
    /// wait its driver is back before that one can do anything; if not, the standby sees that work waits. But a
    /// standby that itself waits for the network sees only what comes from there.
    fn needs_another(&self, work: bool) -> bool {
        work && (self.call_durations.waits() || self.exchange.thread_states().is_standby_polling())
    }

    /// Makes sure that somebody drives: the calling thread is about to wait for what only a driver brings.
    pub(crate) fn ensure_driven(&self) {
        if !self.exchange.thread_states().is_polled() {
            self.exchange.thread_states().ask_standby(&self.poller());
        }
    }

    /// Waits within a call until `room` is there, for as long as the thread is not needed: see [`Waits`].
    fn wait_for_client(&self, flow: &Arc<Flow>, room: Room, outlook: Outlook) -> WaitEnd {
        self.ensure_driven();
        let end = Arc::new(OnceLock::new());
        let (waits, flow, ended) = (Arc::clone(&self.waits), Arc::clone(flow), Arc::clone(&end));
        self.application.await_client(Box::new(move || {
            ended.get_or_init(|| waits.wait(&flow, room, outlook));
        }));
        // One that the application has broken off has no end yet: nothing more is to be sent.
        end.get().copied().unwrap_or(WaitEnd::Gone)
    }

    /// Whether a thread goes on with a response of which much waits: see [`Waits::may_go_on`].
    fn may_go_on(&self, flow: &Arc<Flow>, outlook: Outlook) -> bool {
        self.waits.may_go_on(flow, outlook)
    }

    /// Such a response is done.
    fn end_going_on(&self, flow: &Arc<Flow>) {
        self.waits.end(flow);
    }

    /// A file for what a slow client has not taken of a response, of which `announced` bytes are known to come.
    pub(crate) fn new_spool(&self, announced: u64) -> Result<ResponseSpool, SpoolError> {
        ResponseSpool::new(&self.spools, self.config.client_limits.response_spool_bytes, announced)
    }

    /// Runs `work` within a call, which blocks for a moment at most: a disk's work.
    pub(crate) fn blocking(&self, work: &mut (dyn FnMut() + Send)) {
        self.application.blocking(work);
    }

    /// Whether what is held for clients is to leave memory.
    pub(crate) fn is_memory_tight(&self) -> bool {
        self.memory.is_tight()
    }

    /// `--response-buffer`
    pub(crate) fn response_buffer_bytes(&self) -> usize {
        self.config.response_buffer_bytes
    }

    /// Waits for the network. While calls wait each thread takes one event, so that the kernel wakes a thread for
    /// each of those that come together; else one thread takes them all.
    fn wait(&self, events: &mut Events) {
        let waited = match self.call_durations.waits() {
            true => self.reactor.wait_for_one(events, None),
            false => self.reactor.wait(events, None),
        };
        if let Err(error) = waited {
            self.report_failed_wait(&error);
        }
    }

    /// Whoever looks after the process is to end it.
    fn report_failed_wait(&self, error: &std::io::Error) {
        self.failure.get_or_init(|| format!("waiting for the network failed: {error}"));
        thread::sleep(POLL_INTERVAL); // Whatever it is, it must not become a busy loop.
    }

    /// What wakes the threads that wait for the network.
    fn poller(&self) -> ReactorPoller<'_> {
        ReactorPoller(&self.reactor)
    }

    /// The engine has stopped: everybody may go.
    fn finish(&self, engine: Box<Engine>) {
        self.stopped.store(true, Ordering::SeqCst);
        engine.close_work();
        self.exchange.lay_to_rest(engine);
        self.exchange.thread_states().wake_all(&self.poller());
    }
}
