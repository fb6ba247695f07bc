//! The lent event loop: the slot, who drives, who takes a lent engine.
//!
//! The engine is a value. The thread that has it drives; to call the application, or to wait for the network, it
//! lays the engine into the slot and takes it back afterwards. A thread in a call that has something to send takes
//! the engine for that moment. Whoever finds the slot empty leaves a letter in the mailbox, which the driver reads
//! before it lays the engine down and once more after.
//!
//! ```text
//!   application threads   drive ── lay down, call the application ── take back ──> drive
//!                           │                                          └─ gone: idle
//!                           └───── lay down, wait for the network ──── take back ──> drive
//!   idle                  calls are short: parked.  calls are long: waiting for the network, with the others
//!   standby               keeps the deadlines; takes an engine that nobody looks after; never calls
//! ```
//!
//! While calls are short one thread does everything and no other is ever woken. While they are long, idle threads
//! wait for the network together and the kernel wakes one per event: the thread that reads a request is the one
//! that runs it.

mod crew;
mod mailbox;
mod responder;
mod slot;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use portico_config::Config;

use crate::access_log::AccessLog;
use crate::application::{Application, Request};
use crate::connection::{Answer, ConnectionId, Counters, Flow};
use crate::engine::{Call, Engine, Writing};
use crate::listener::Listener;
use crate::reactor::{Event, Events, Reactor};
use crew::{Alarm, Crew, Pace};
use mailbox::Mailbox;
pub use responder::{Gone, Responder};
use slot::Slot;

/// One engine, its threads, and the application that they call.
pub struct Lending {
    slot: Slot<Engine>,
    mailbox: Mailbox<Letter>,
    reactor: Arc<Reactor>,
    crew: Crew,
    pace: Pace,
    alarm: Alarm,
    application: Arc<dyn Application>,
    response_buffer_bytes: usize,
    stopped: AtomicBool,
}

/// What a thread without the engine asks of the one that has it.
enum Letter {
    Answer(ConnectionId, Answer<'static>, Option<Arc<Flow>>),
    Drain(Instant),
    Events(Vec<Event>),
    ReadMore(ConnectionId),
    Stop,
}

/// How often the standby looks whether a lent engine has been taken back, while there is traffic. A call that
/// takes longer than one to two of these stops nobody else.
const WATCH_TICK: Duration = Duration::from_micros(1500);

/// Looks that find everything looked after before the standby sleeps until it is roused.
const QUIET_TICKS: u32 = 8;

/// With requests waiting in its queue the engine looks at the network this often all the same.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

impl Lending {
    /// An engine that accepts from `listeners` and has `application` called by the threads that will
    /// [`run`](Lending::run_thread).
    ///
    /// # Errors
    /// The kernel's, when descriptors have run out.
    pub fn new(
        config: Arc<Config>,
        listeners: Vec<Listener>,
        access_log: Option<AccessLog>,
        application: Arc<dyn Application>,
    ) -> std::io::Result<Arc<Self>> {
        let now = Instant::now();
        let reactor = Arc::new(Reactor::new()?);
        let response_buffer_bytes = config.response_buffer_bytes;
        let engine = Engine::new(config, Arc::clone(&reactor), listeners, access_log, now)?;
        let slot = Slot::new();
        slot.put(Box::new(engine));
        Ok(Arc::new(Self {
            slot,
            mailbox: Mailbox::new(),
            reactor,
            crew: Crew::default(),
            pace: Pace::default(),
            alarm: Alarm::new(now),
            application,
            response_buffer_bytes,
            stopped: AtomicBool::new(false),
        }))
    }

    /// Runs the calling thread as an application thread until the engine has stopped.
    pub fn run_thread(self: &Arc<Self>) {
        let mut events = Events::new();
        let mut engine = None;
        while !self.is_stopped() {
            // Without the engine it goes to rest first, where it sees whether it is wanted: taking a lent engine
            // that another thread looks after would only be to lay it down again, and so on without an end.
            engine = match engine {
                Some(engine) => self.drive(engine, &mut events),
                None => self.idle(&mut events),
            };
        }
        if let Some(engine) = engine {
            self.slot.put(engine);
        }
        self.crew.wake_all(&self.reactor);
    }

    /// Runs the calling thread as the standby until the engine has stopped.
    pub fn run_standby(&self) {
        self.crew.enlist_standby();
        let mut events = Events::new();
        let (mut seen, mut quiet) = (0, 0);
        while !self.is_stopped() {
            self.standby_sleep(quiet > QUIET_TICKS);
            let lends = self.crew.lends();
            let looked_after = self.crew.is_looked_after();
            let left_alone = lends == seen && !looked_after;
            let due = self.alarm.due().is_some_and(|due| due <= Instant::now());
            quiet = if lends == seen && looked_after { quiet + 1 } else { 0 };
            seen = lends;
            if (self.crew.was_standby_asked() || left_alone || due)
                && let Some(engine) = self.slot.take()
            {
                self.drive_as_standby(engine, &mut events);
            }
        }
    }

    /// Stops: lets what runs and what is queued come to its end, for `graceful` at most.
    pub fn drain(&self, graceful: Duration) {
        self.send(Letter::Drain(Instant::now() + graceful));
    }

    /// Stops at once.
    pub fn stop(&self) {
        self.send(Letter::Stop);
    }

    /// Whether the engine has stopped; threads that are not in a call end then.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Threads that are in a call.
    pub fn calls(&self) -> usize {
        self.crew.calls()
    }

    /// What has happened, once the threads have ended; writes the rest of the access log.
    pub fn close(&self) -> Option<Counters> {
        self.slot.take().map(|engine| engine.counters())
    }

    /// One step of an application thread that has the engine; returns it if the thread still has it.
    fn drive(self: &Arc<Self>, engine: Box<Engine>, events: &mut Events) -> Option<Box<Engine>> {
        let next = if self.crew.calls() > 0 {
            // Somebody else's call may want the interpreter: let go of it while this thread works for itself.
            let (mut engine, mut next) = (Some(engine), None);
            self.application.blocking(&mut || {
                if let Some(engine) = engine.take() {
                    next = self.next_call(engine, events, true);
                }
            });
            next
        } else {
            self.next_call(engine, events, false)
        };
        let (engine, call) = next?;
        self.run_call(engine, call)
    }

    /// Works the engine until there is a request to answer; `None` if another thread has the engine then, or it
    /// has stopped. `detached`: the thread holds nothing of the application's.
    fn next_call(
        self: &Arc<Self>,
        mut engine: Box<Engine>,
        events: &mut Events,
        detached: bool,
    ) -> Option<(Box<Engine>, Call)> {
        loop {
            self.deliver(&mut engine);
            engine.advance();
            if engine.is_stopped() {
                self.finish(engine);
                return None;
            }
            if !engine.poll_is_due(POLL_INTERVAL)
                && let Some(call) = self.take_call(&mut engine)
            {
                return Some((engine, call));
            }
            let idle = !engine.has_work();
            if idle {
                engine.flush_held();
            }
            // At saturation a look finds something, and the thread keeps the interpreter.
            if !idle || !detached {
                self.look(&mut engine, events);
            }
            if idle && events.is_empty() {
                engine = self.rest(engine, events, detached)?;
            }
            events.clear();
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
        self.wait(events, Some(Duration::ZERO));
        engine.set_polled(Instant::now());
        engine.handle_events(events);
    }

    /// Lays the engine down and waits for the network.
    fn rest(&self, engine: Box<Engine>, events: &mut Events, detached: bool) -> Option<Box<Engine>> {
        if self.crew.polling() > 0 && !self.pace.is_long() {
            // One is enough. `idle` sees to it that there is one.
            return self.lay_down(engine);
        }
        self.crew.begin_poll();
        if let Some(engine) = self.lay_down(engine) {
            self.crew.end_poll();
            return Some(engine);
        }
        if detached {
            self.wait(events, None);
        } else {
            self.application.blocking(&mut || self.wait(events, None));
        }
        self.crew.end_poll();
        self.reclaim(events)
    }

    /// Takes the engine after a wait, to handle `events`; if another thread has it, that one gets them.
    fn reclaim(&self, events: &mut Events) -> Option<Box<Engine>> {
        if let Some(mut engine) = self.slot.take() {
            engine.set_polled(Instant::now());
            engine.handle_events(events);
            return Some(engine);
        }
        if events.is_empty() {
            return None;
        }
        self.mailbox.post(Letter::Events(events.iter().collect()));
        events.clear();
        self.slot.take()
    }

    /// Calls the application, with the engine lent.
    fn run_call(self: &Arc<Self>, engine: Box<Engine>, call: Call) -> Option<Box<Engine>> {
        let contended = self.crew.begin_call();
        let started = engine.now();
        let Call { id, head, body, peer, server, queued } = call;
        let request = Request { head, body, peer, server, queued, contended };
        let responder = Responder::new(Arc::clone(self), id);
        self.lend(engine);
        let called = catch_unwind(AssertUnwindSafe(|| self.application.call(request, responder)));
        self.crew.end_call();
        if called.is_err() {
            log::error!("the server itself failed in a call (this is a bug in Portico); the request was cut");
        }
        let now = Instant::now();
        self.pace.record(now.saturating_duration_since(started));
        let mut engine = self.slot.take()?;
        engine.set_now(now);
        Some(engine)
    }

    /// Lays the engine down for a call, and has another thread look after it if calls are long.
    fn lend(&self, mut engine: Box<Engine>) {
        self.crew.count_lend();
        loop {
            let more = engine.has_work();
            match self.lay_down(engine) {
                Some(again) => engine = again,
                None => {
                    self.crew.rouse_standby();
                    if self.pace.is_long() && (more || !self.crew.is_polled()) {
                        self.crew.wake_one(&self.reactor);
                    }
                    return;
                }
            }
            self.deliver(&mut engine);
        }
    }

    /// Lays the engine into the slot; gives it back if a letter has come meanwhile.
    fn lay_down(&self, mut engine: Box<Engine>) -> Option<Box<Engine>> {
        if let Some(due) = engine.changed_timeout()
            && self.alarm.publish(due)
        {
            self.crew.unpark_standby();
        }
        if let Some(work) = engine.changed_work() {
            self.crew.set_work_waiting(work);
        }
        self.slot.put(engine);
        if self.mailbox.has_letters() { self.slot.take() } else { None }
    }

    /// Waits without the engine, until it is this thread's turn to drive.
    fn idle(&self, events: &mut Events) -> Option<Box<Engine>> {
        if self.pace.is_long() {
            self.crew.begin_poll();
            let mut engine = self.slot.take();
            if engine.is_none() && !self.is_stopped() {
                self.application.blocking(&mut || self.wait(events, None));
            }
            self.crew.end_poll();
            if engine.is_none() {
                engine = self.reclaim(events);
            }
            events.clear();
            return engine;
        }
        self.crew.announce_park();
        if let Some(engine) = self.last_look() {
            self.crew.revoke_park();
            return Some(engine);
        }
        if !self.is_stopped() {
            self.application.blocking(&mut || self.crew.park());
        }
        self.crew.revoke_park();
        self.slot.take()
    }

    /// What a thread does that has announced to park and not yet parked: sees to it that it does not leave a
    /// queued request or an engine that nobody looks after. Whoever lays the engine down later sees the thread.
    fn last_look(&self) -> Option<Box<Engine>> {
        loop {
            let engine = self.slot.take()?;
            if engine.has_work() || !self.crew.is_polled() {
                return Some(engine);
            }
            if let Some(engine) = self.lay_down(engine) {
                return Some(engine);
            }
            // One that ended its wait while this thread had the engine found none, and may have parked.
            if self.crew.is_polled() {
                return None;
            }
        }
    }

    fn standby_sleep(&self, deeply: bool) {
        let now = Instant::now();
        self.crew.set_standby_asleep(deeply);
        // Whoever lends and then finds nobody asleep is seen here: it does not poll any more.
        let deeply = deeply && self.crew.is_looked_after();
        let until = if deeply { self.alarm.due() } else { Some(now + WATCH_TICK) };
        // Roused between the decision and here, `park` returns at once.
        if !self.is_stopped() {
            match self.alarm.sleep_until(until, now) {
                Some(time) => thread::park_timeout(time),
                None => thread::park(),
            }
        }
        self.crew.set_standby_asleep(false);
    }

    /// Drives until an application thread can.
    fn drive_as_standby(&self, mut engine: Box<Engine>, events: &mut Events) {
        loop {
            engine.set_now(Instant::now());
            self.deliver(&mut engine);
            engine.advance();
            if engine.is_stopped() {
                return self.finish(engine);
            }
            let call = engine.has_call();
            let relieved = if call { self.crew.has_idle() } else { self.crew.polling() > 0 };
            engine.flush_held();
            if relieved {
                match self.lay_down(engine) {
                    Some(again) => engine = again,
                    None if call => return self.crew.wake_one(&self.reactor),
                    None => return,
                }
                continue;
            }
            let timeout = engine.next_timeout().map(|at| at.saturating_duration_since(engine.now()));
            self.crew.set_standby_polling(true);
            if let Some(again) = self.lay_down(engine) {
                self.crew.set_standby_polling(false);
                engine = again;
                continue;
            }
            if call {
                // For a thread whose call has ended since the look above.
                self.crew.wake_one(&self.reactor);
            }
            self.wait(events, timeout);
            self.crew.set_standby_polling(false);
            let reclaimed = self.reclaim(events);
            events.clear();
            match reclaimed {
                Some(reclaimed) => engine = reclaimed,
                None => return,
            }
        }
    }

    /// Hands a part of an answer to the engine: directly, if it lies in the slot. `false` if the client has gone.
    pub(crate) fn answer(&self, id: ConnectionId, answer: Answer<'_>, flow: Option<&Arc<Flow>>) -> bool {
        match self.slot.take() {
            Some(mut engine) => {
                engine.set_now(Instant::now());
                // What was posted before comes first: blocks of one answer keep their order.
                self.deliver(&mut engine);
                let writing = if self.pace.is_long() { Writing::AtOnce } else { Writing::Batched };
                let alive = engine.answer(id, answer, writing);
                self.give_back(engine);
                alive
            }
            None => {
                if let Some(flow) = flow {
                    flow.post(answer.len());
                }
                self.send(Letter::Answer(id, answer.into_owned(), flow.cloned()));
                true
            }
        }
    }

    /// The reader of a streamed body waits for more of it.
    fn read_more(&self, id: ConnectionId) {
        self.send(Letter::ReadMore(id));
        self.ensure_driven();
    }

    /// Leaves a letter, and delivers it if the engine lies in the slot.
    fn send(&self, letter: Letter) {
        self.mailbox.post(letter);
        if let Some(mut engine) = self.slot.take() {
            engine.set_now(Instant::now());
            self.deliver(&mut engine);
            self.give_back(engine);
        }
    }

    /// Lays the engine down after a moment's use within a call or from outside.
    fn give_back(&self, mut engine: Box<Engine>) {
        loop {
            if engine.is_stopped() {
                return self.finish(engine);
            }
            let more = engine.has_work();
            match self.lay_down(engine) {
                Some(again) => engine = again,
                None => {
                    self.crew.rouse_standby();
                    // Where nobody polls, a driver is in a call and comes back to it, or the standby will. Else it
                    // takes a thread: one that came to rest while this one had the engine has not seen it.
                    if more && self.crew.is_polled() {
                        self.crew.wake_one(&self.reactor);
                    }
                    return;
                }
            }
            self.deliver(&mut engine);
        }
    }

    /// Makes sure that somebody drives: the calling thread is about to wait for what only a driver brings.
    pub(crate) fn ensure_driven(&self) {
        if !self.crew.is_polled() {
            self.crew.ask_standby();
        }
    }

    /// Runs `wait`, for as long as it takes, within a call.
    pub(crate) fn blocking(&self, wait: &mut (dyn FnMut() + Send)) {
        self.application.blocking(wait);
    }

    /// `--response-buffer`
    pub(crate) fn response_buffer_bytes(&self) -> usize {
        self.response_buffer_bytes
    }

    fn deliver(&self, engine: &mut Engine) {
        for letter in self.mailbox.collect() {
            match letter {
                Letter::Answer(id, answer, flow) => {
                    let length = answer.len();
                    engine.answer(id, answer, Writing::AtOnce);
                    if let Some(flow) = flow {
                        flow.deliver(length);
                    }
                }
                Letter::Drain(until) => engine.drain(until),
                Letter::Events(events) => events.into_iter().for_each(|event| engine.handle_event(event)),
                Letter::ReadMore(id) => engine.read_more(id),
                Letter::Stop => engine.stop(),
            }
        }
    }

    fn wait(&self, events: &mut Events, timeout: Option<Duration>) {
        if let Err(error) = self.reactor.wait(events, timeout) {
            log::error!("waiting for the network failed: {error}");
            thread::sleep(POLL_INTERVAL); // Whatever it is, it must not become a busy loop.
        }
    }

    /// The engine has stopped: everybody may go.
    fn finish(&self, engine: Box<Engine>) {
        self.stopped.store(true, Ordering::SeqCst);
        self.slot.put(engine);
        self.crew.wake_all(&self.reactor);
    }
}
