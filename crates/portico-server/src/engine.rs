//! The value that is lent: the sockets, connections and deadlines of one event loop.
//!
//! The only place that owns both the reactor's registrations and the connections. Never calls an application: it
//! hands out [`Call`]s and takes [`ResponsePart`]s. The clock is its driver's ([`Engine::set_now`]), but for how
//! long one turn lasts.
//!
//! One file because it is what the modules below work on: the fields, and the way of one connection through a
//! piece of work (`settle`).

mod accept;
mod clients;
mod lent;
mod memory;
mod sharing;
mod stopping;
mod streams;
mod turns;
mod watch;
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use portico_config::Config;
use portico_log::{Reason, RequestId};
use portico_metrics::{Counter, Gauge, Histogram, Metrics};
use portico_net::Reactor;

use crate::body::Body;
use crate::client::RequestContext;
use crate::connection::{
    BegunCall, Connection, ConnectionId, ConnectionTable, Deadline, EngineContext, Recording, Reply,
    RequestKey, ResponsePart, ResponseShare, Routes, Step, deadline::Deadlines, nanos,
};
use crate::handover::Sharing;
use crate::health::Health;
use crate::queue::{Admission, Queue, Ticket};
pub(crate) use accept::Accepting;
use clients::ClientCounts;
pub(crate) use sharing::SharingState;

/// The event loop's state: the one owner of reactor, connections, deadlines and queue. A value, so that one thread
/// at a time drives it; it never blocks and never calls the application.
///
/// One struct of many fields because all that one event loop owns moves with it from thread to thread; what has
/// rules of its own (table, deadlines, queue, listeners, clients, siblings) is a type of its own.
#[derive(Debug)]
pub(crate) struct Engine {
    reactor: Arc<Reactor>,
    context: EngineContext,
    table: ConnectionTable,
    deadlines: Deadlines,
    queue: Queue,
    accepting: Accepting,
    clients: ClientCounts,
    /// Where there are other workers.
    member: Option<Box<SharingState>>,
    /// Connections that have more to do than one turn allowed.
    again: Vec<ConnectionId>,
    /// Connections that came with their request, and are not watched while that is about to be answered.
    unwatched: Vec<ConnectionId>,
    /// Connections whose response is held back, to be written together.
    held: Vec<ConnectionId>,
    held_since: Instant,
    /// When blocks that are held back for the next of their response leave without it.
    join_until: Option<Instant>,
    /// Sessions whose streams have worked since the session was written.
    worked: Vec<streams::Worked>,
    /// Connections that are streams of another.
    streams: usize,
    /// Whoever reads the metrics has been told that requests wait.
    told_waiting: bool,
    /// One moment, as this process has it and as the machine has it.
    origin: (Instant, u64),
    drain_until: Option<Instant>,
    stopped: bool,
    /// Calls so far.
    calls: u64,
    /// When the network is to be looked at again, whatever there is to do.
    poll_due: Instant,
    /// When memory may be relieved again.
    relieved_at: Option<Instant>,
    /// When the heap may be trimmed again.
    trim_at: Option<Instant>,
    /// What [`Engine::changed_timeout`] and [`Engine::changed_work`] returned last.
    told_timeout: Option<Instant>,
    told_work: bool,
}

/// A request that a thread is to answer.
pub(crate) struct Call {
    /// Where the response goes.
    pub key: RequestKey,
    /// Its head, and who has sent it.
    pub context: Arc<RequestContext>,
    /// Its id.
    pub id: RequestId,
    /// Its body.
    pub body: Body,
    /// How long it waited in the queue, in nanoseconds: a few bytes less that are moved from hand to hand.
    pub queued_nanos: u64,
    /// What the response may hold.
    pub share: ResponseShare,
}

/// The time at which a response, or a block of one, is written: waking a client for each costs more than once for
/// several, but nothing may be held back for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// Now.
    AtOnce,
    /// A small one with the responses to the requests behind it, if there are any: waking the client's side once
    /// for a batch costs less than once for each response.
    Batched,
    /// A small block with the next ones of its response: it has come closely after the one before.
    Joined,
}

/// With requests waiting in its queue the engine looks at the network this often all the same.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Longest that a response is held back for the responses behind it, and a block for the next ones.
const HOLD_MAX: Duration = Duration::from_micros(500);

/// Requests of one client that routes respond to before others get their turn: it may send them faster than they
/// are responded to.
const REPLIES_MAX: usize = 16;

/// Deadlines that are handled in one turn.
const TIMEOUTS_MAX: usize = 256;

impl Engine {
    /// An engine that does not accept yet.
    pub(crate) fn new(
        config: Arc<Config>,
        reactor: Arc<Reactor>,
        recording: Recording,
        sharing: Option<Sharing>,
        now: Instant,
    ) -> Self {
        let threads = config.threads as usize;
        let origin = recording.origin;
        Self {
            reactor,
            member: sharing.map(|sharing| Box::new(SharingState::new(sharing, threads))),
            queue: Queue::new(config.max_queue),
            clients: ClientCounts::new(config.client_limits.connections_per_client),
            context: EngineContext::new(config, recording, now),
            table: ConnectionTable::default(),
            deadlines: Deadlines::default(),
            accepting: Accepting::default(),
            again: Vec::new(),
            unwatched: Vec::new(),
            held: Vec::new(),
            held_since: now,
            join_until: None,
            worked: Vec::new(),
            streams: 0,
            told_waiting: false,
            origin,
            drain_until: None,
            stopped: false,
            calls: 0,
            poll_due: now + POLL_INTERVAL,
            relieved_at: None,
            trim_at: None,
            told_timeout: None,
            told_work: false,
        }
    }

    /// From now on `routes` decide about requests.
    pub(crate) fn set_routes(&mut self, routes: Routes) {
        self.context.routes = Some(Box::new(routes));
    }

    /// From now on requests for the server's health are answered.
    pub(crate) fn set_health(&mut self, health: Health) {
        self.context.set_health(health);
    }

    /// Sets the present moment.
    #[inline]
    pub(crate) fn set_now(&mut self, now: Instant) {
        self.context.now = now;
    }

    /// The present moment, as it was set last.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        self.context.now
    }

    /// Sets the present moment, after a look at the network.
    #[inline]
    pub(crate) fn set_polled(&mut self, now: Instant) {
        self.context.now = now;
        self.poll_due = now + POLL_INTERVAL;
    }

    /// Whether the last look at the network is so old that it is time for another.
    #[inline]
    pub(crate) fn poll_is_due(&self) -> bool {
        self.context.now >= self.poll_due
    }

    /// Goes on with what was put off, and handles the deadlines that have passed.
    pub(crate) fn advance(&mut self) {
        if !self.again.is_empty() {
            self.continue_turns();
        }
        for _ in 0..TIMEOUTS_MAX {
            let Some((index, at)) = self.deadlines.next_due(self.context.now) else {
                break;
            };
            let now = self.context.now;
            let passed = self.deadlines.handle_timeout(self.table.timer(index), index, (at, now));
            if let (Some(deadline), Some(id)) = (passed, self.table.occupant(index)) {
                if deadline == Deadline::Queue {
                    self.context.metrics.add(Counter::QueueTimeouts, 1);
                    self.queue.abandon();
                }
                self.receive_on(id, |connection, context| connection.handle_timeout(deadline, context));
            }
        }
        if self.join_until.is_some_and(|until| until <= self.context.now) {
            self.flush_held();
        }
        self.write_unheld_sessions();
        self.relieve();
        self.resume_accepting();
        self.continue_accepting();
        self.advance_sharing();
        if self.drain_until.is_some_and(|until| until <= self.context.now) {
            self.stop();
        }
    }

    fn next_deadline(&self, passing: bool) -> Option<Instant> {
        let next = earlier(self.deadlines.next_timeout(), self.join_until);
        let sharing = self.member.as_ref().and_then(|member| member.next_deadline(passing));
        earlier(earlier(next, sharing), earlier(self.accepting.paused_until(), self.drain_until))
    }

    /// The next deadline, if it is another one than the last time. `passing`: nobody comes by before who would see
    /// whether a sibling has a thread for what waits here, so that is a deadline, too.
    pub(crate) fn changed_timeout(&mut self, passing: bool) -> Option<Option<Instant>> {
        let timeout = self.next_deadline(passing);
        let changed = timeout != self.told_timeout;
        self.told_timeout = timeout;
        changed.then_some(timeout)
    }

    /// Whether there is something to do if it is left lying, if that is not what it was the last time.
    pub(crate) fn changed_work(&mut self) -> Option<bool> {
        let work = self.has_work() || self.has_unwatched();
        let changed = work != self.told_work;
        self.told_work = work;
        changed.then_some(work)
    }

    /// Whether a complete request waits for a thread.
    #[inline]
    pub(crate) fn has_call(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether there is something to do without waiting for the network.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        self.has_call() || self.has_unfinished()
    }

    /// Whether a connection has more to do than one turn allowed.
    pub(crate) fn has_unfinished(&self) -> bool {
        !self.again.is_empty() || self.accepting.has_unfinished()
    }

    /// The next request to answer. `read_more` makes, for a connection, what the reader of its streamed body
    /// calls when there is room.
    pub(crate) fn next_call<R: Fn() + Send + Sync + 'static>(
        &mut self,
        read_more: impl Fn(ConnectionId) -> R,
    ) -> Option<Call> {
        while let Some(id) = self.queue.pop(|ticket| self.table.awaits_thread(ticket.id, ticket.served)) {
            let Some(mut connection) = self.table.take(id) else {
                continue;
            };
            if connection.is_abandoned(&self.context) {
                self.context.metrics.add(Counter::Abandoned, 1);
                self.discard(id, connection);
                continue;
            }
            let key = RequestKey { id, call: self.calls + 1 };
            let share = self.response_share(id, &connection);
            let begun = connection.begin_call(key.call, &mut self.context, read_more(id));
            self.settle(id, connection, Step::Keep);
            if let Some(BegunCall { context, id, body, queued }) = begun {
                self.calls = key.call;
                let queued_nanos = nanos(queued);
                self.context.metrics.add(Counter::Calls, 1);
                self.context.metrics.record(Histogram::QueueDuration, queued_nanos);
                return Some(Call { key, context, id, body, queued_nanos, share });
            }
        }
        None
    }

    /// Takes a part of the response of the call `key`; `false` if nobody awaits it any more.
    pub(crate) fn respond(&mut self, key: RequestKey, response: ResponsePart<'_>, writing: Writing) -> bool {
        let id = key.id;
        if !self.awaits(key) {
            return false;
        }
        // Of a stream the response goes to its session at once, which is what is held: that takes no copy more.
        let worth = |engine: &Self| {
            response.is_worth_holding()
                || (matches!(response, ResponsePart::Whole { .. }) && engine.is_stream(id))
        };
        let joins = writing == Writing::Joined && self.has_room_to_join(id, &response);
        let hold = joins || (writing == Writing::Batched && !self.queue.is_empty() && worth(self));
        if hold && self.held.is_empty() && self.worked.is_empty() {
            self.held_since = self.context.now;
        }
        let alone = hold && !self.is_stream(id);
        if alone && !(joins && self.held.contains(&id)) {
            self.held.push(id);
        }
        if joins {
            self.join_until = Some(self.held_since + HOLD_MAX);
        }
        let alive = self.work_on(id, |connection, context| connection.respond(response, alone, context));
        if !hold || self.context.now.saturating_duration_since(self.held_since) >= HOLD_MAX {
            self.flush_held();
        }
        alive
    }

    /// Whether a part of the response of connection `id` may wait there for the next one.
    fn has_room_to_join(&self, id: ConnectionId, response: &ResponsePart<'_>) -> bool {
        response.may_be_joined() && self.table.get(id).is_some_and(|connection| connection.has_room_to_join())
    }

    fn awaits(&self, key: RequestKey) -> bool {
        self.table.get(key.id).is_some_and(|connection| connection.awaits(key.call))
    }

    /// The call `key` is not waited for any longer, for this reason: its connection gets its response and is ended
    /// without it. An application that has taken the connection over finds its end.
    pub(crate) fn give_up(&mut self, key: RequestKey, reason: Reason) {
        if self.awaits(key) {
            self.work_on(key.id, |connection, context| connection.give_up(reason, context));
            self.write_sessions();
        } else if self.table.get(key.id).is_some_and(|connection| connection.is_lent_to(key.call)) {
            self.work_on(key.id, |connection, _| {
                connection.note_reason(reason);
                connection.tell_application_to_end();
                Step::Keep
            });
        }
    }

    /// The request that the call `key` answers.
    pub(crate) fn request_of(&self, key: RequestKey) -> Option<Arc<RequestContext>> {
        let connection = self.table.get(key.id).filter(|connection| connection.awaits(key.call))?;
        connection.request().cloned()
    }

    /// Whether the client of the call `key` has left before its response was complete.
    pub(crate) fn is_client_gone(&mut self, key: RequestKey) -> bool {
        self.look_at_session_of(key.id);
        self.table
            .get(key.id)
            .is_none_or(|connection| connection.awaits(key.call) && connection.is_client_gone(&self.context))
    }

    /// Writes the responses that were held back.
    #[inline]
    pub(crate) fn flush_held(&mut self) {
        if !self.held.is_empty() {
            self.flush_connections();
        }
        self.join_until = None;
        self.write_sessions();
    }

    fn flush_connections(&mut self) {
        for id in std::mem::take(&mut self.held) {
            self.work_on(id, Connection::flush);
        }
    }

    /// The reader of a streamed body has room for more.
    pub(crate) fn read_more(&mut self, id: ConnectionId) {
        self.receive_on(id, Connection::read_more);
        self.write_sessions();
    }

    /// A moment in nanoseconds of the machine's clock.
    fn machine_nanos(&self, moment: Instant) -> u64 {
        let (instant, machine) = self.origin;
        machine + nanos(moment.saturating_duration_since(instant))
    }

    /// What has happened so far.
    pub(crate) fn metrics(&self) -> Metrics<'static> {
        self.context.metrics
    }

    /// Has connection `id` work, which takes in nothing of size, and carries out what comes of it; `false` if the
    /// connection has ended.
    fn work_on(
        &mut self,
        id: ConnectionId,
        work: impl FnOnce(&mut Connection, &mut EngineContext) -> Step,
    ) -> bool {
        self.context.held = 0;
        self.have_work(id, work)
    }

    /// The same where it takes in what has come, for which there must be memory.
    fn receive_on(
        &mut self,
        id: ConnectionId,
        work: impl FnOnce(&mut Connection, &mut EngineContext) -> Step,
    ) -> bool {
        self.look_at_memory(id);
        self.have_work(id, work)
    }

    // What is moved into it, a response's part, would be moved once more.
    #[inline(always)]
    fn have_work(
        &mut self,
        id: ConnectionId,
        work: impl FnOnce(&mut Connection, &mut EngineContext) -> Step,
    ) -> bool {
        let Some(mut connection) = self.table.take(id) else {
            return false;
        };
        self.context.working = id;
        let step = self.guarded(&mut connection, work).unwrap_or(Step::Close);
        self.note_work(&connection);
        self.settle(id, connection, step)
    }

    /// Carries out what a connection's work has come to; `false` if the connection has ended.
    fn settle(&mut self, id: ConnectionId, mut connection: Box<Connection>, step: Step) -> bool {
        let mut step = step;
        let mut replies = 0;
        self.context.working = id; // Others may have worked since.
        // Each turn of this loop uses up something that has come.
        loop {
            step = match step {
                Step::Respond if replies < REPLIES_MAX => {
                    replies += 1;
                    connection.respond_by_route(&mut self.context)
                }
                Step::Ready if !self.enqueue(id, &connection) => {
                    self.report_full_queue();
                    connection.respond_unavailable(Reply::QueueFull, &mut self.context)
                }
                Step::Streams => self.serve_streams(id, &mut connection),
                Step::PromoteToSession => return self.promote_to_session(id, connection),
                _ => break,
            };
        }
        match step {
            Step::Close => {
                self.close(id, connection);
                return false;
            }
            Step::Again | Step::Respond => self.again.push(id),
            Step::Keep | Step::Ready | Step::Leave | Step::Streams | Step::PromoteToSession => {}
        }
        if self.clients.is_bounded() && !self.count_client(&mut connection) {
            self.close(id, connection);
            return false;
        }
        if connection.wants_watching()
            && let Err(error) = self.watch(id, &mut connection)
        {
            self.context.reports.unwatched("a connection", &error);
            self.close(id, connection);
            return false;
        }
        if !connection.holds_the_same() {
            self.count_memory(id, &connection);
        }
        let timer = self.table.timer(id.index);
        if timer.due() != connection.due() {
            match connection.due() {
                Some((deadline, at)) => self.deadlines.set(timer, id.index, deadline, at),
                None => timer.clear(),
            }
        }
        self.table.put_back(id, connection);
        if step == Step::Leave {
            self.leave(id);
        }
        true
    }

    /// Has the request of `connection` wait for a thread; `false` if the queue is full.
    #[inline]
    fn enqueue(&mut self, id: ConnectionId, connection: &Connection) -> bool {
        let session = connection.session().map(|(session, _)| session);
        let ticket = Ticket { id, served: connection.served(), session };
        match self.queue.push(ticket, |ticket| self.table.awaits_thread(ticket.id, ticket.served)) {
            Admission::Waits => {}
            Admission::Displaced(other) => self.displace(other.id),
            Admission::Refused => return false,
        }
        if connection.has_ahead() {
            self.again.push(id);
        }
        true
    }

    /// Answers the waiting request of connection `id`: its place in the queue has been given to another.
    #[cold]
    fn displace(&mut self, id: ConnectionId) {
        self.report_full_queue();
        self.work_on(id, |connection, context| connection.respond_unavailable(Reply::QueueFull, context));
    }

    fn report_full_queue(&mut self) {
        self.context.metrics.add(Counter::QueueFull, 1);
        let refused = self.context.metrics.since_start(Counter::QueueFull);
        if refused.is_power_of_two() {
            let waiting = self.queue.len();
            log::warn!(
                "{waiting} requests wait for a thread (--max-queue); answered 503 to {refused} so far"
            );
        }
    }

    fn close(&mut self, id: ConnectionId, connection: Box<Connection>) {
        if connection.is_waiting() {
            self.queue.abandon();
            // At the stop the client has not left: its request is cut, which the log tells by itself.
            self.context.metrics.add(Counter::Abandoned, u64::from(!self.stopped));
        }
        self.discard(id, connection);
    }

    fn discard(&mut self, id: ConnectionId, mut connection: Box<Connection>) {
        if connection.is_session() {
            self.close_streams(&mut connection);
        }
        connection.close(&mut self.context);
        self.note_end(&connection);
        self.forget_memory(id, &connection);
        self.forget_client(&connection);
        drop(connection);
        self.table.release(id);
        self.count_connections();
    }

    /// Tells whoever reads the metrics how many connections there are.
    fn count_connections(&self) {
        self.context.metrics.set(Gauge::Connections, (self.table.len() - self.streams) as u64);
    }
}

/// The earlier one of what there is: without a loop, for it is asked for with every laying down.
#[inline]
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests;
