//! The engine as one of several: what it tells its siblings, and what it leaves or hands to them.
//!
//! Four ways lead to a thread that is free in another worker. New connections are left in the listeners' backlog
//! while all threads are busy here and one is free there. Requests that wait here are passed on through the ready
//! queue of the [`Handover`](crate::handover::Handover). When this worker retires, connections between requests go
//! through its idle queue. And after each connection that it has accepted the engine goes to the end of the queue
//! in which the kernel keeps the pollers of a listener.
//!
//! No wake-up is lost by leaving something alone. Shared sources are watched exclusively: the kernel wakes one
//! poller that has a thread waiting in it and notes the event for all that it passes by. A thread waits in the
//! poller only while it is in no call; so whoever is woken takes, and whoever has only a note of the event (all
//! its threads are in calls, its standby watches from aside) may leave it, and looks again a moment later in any
//! case.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use portico_log::Occurrences;
use portico_metrics::{Counter, Gauge};
use portico_net::{Interest, Reactor, Transport};

use super::accept::{HANDOVER, LISTENER};
use super::{Engine, earlier};
use crate::connection::{Connection, ConnectionId};
use crate::handover::{BYTES_MAX, Dispatch, HandoverQueue, Load, MESSAGE_BYTES_MAX, Sharing};
use crate::queue::Ticket;

/// The state of an engine as one of several workers: what it shares, and what it has last told the others.
#[derive(Debug)]
pub(crate) struct SharingState {
    sharing: Sharing,
    threads: usize,
    /// Threads in calls, when last told.
    calls: usize,
    /// Whether calls are long.
    unhurried: bool,
    /// What the siblings know.
    published: Option<Load>,
    /// When to see again whether waiting requests can be passed on.
    pass_at: Option<Instant>,
    /// Sources that were left to the siblings, when to look at them again, and how often that has been put off.
    left: Vec<u64>,
    look_at: Option<Instant>,
    looks: u32,
    /// Connections that are to go to a sibling, and when to try.
    leaving: Vec<ConnectionId>,
    leave_at: Option<Instant>,
    /// Where messages are read to, once there have been some.
    buffer: Vec<u8>,
}

/// The outcome of handing a connection over to another worker. Only after `Gone` is it no longer ours; in all
/// other cases it must be served here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendOutcome {
    Gone,
    /// It can go later.
    Full,
    /// It cannot go as it is.
    Stays,
}

/// How long a request waits before it is passed on while calls are short: it would be run here before it arrives.
const PASS_AFTER: Duration = Duration::from_millis(2);

/// How soon is looked again whether a sibling has a thread for the requests that wait.
const PASS_INTERVAL: Duration = Duration::from_millis(1);

/// Waiting requests that are looked at in one turn.
const PASS_SCAN_MAX: usize = 64;

/// How often one request is handed over at most.
const HANDOVERS_MAX: u8 = 3;

/// How soon a source that was left to the siblings is looked at again.
const LEFT_INTERVAL: Duration = Duration::from_millis(5);

/// How often that is put off: a sibling that says it has a free thread and takes nothing is not relied on.
const LOOKS_MAX: u32 = 4;

/// Connections taken from a handover queue before others get their turn.
const TAKES_MAX: usize = 64;

/// How soon a full handover queue is tried again.
const FULL_INTERVAL: Duration = Duration::from_millis(1);

/// Connections from listeners that this worker has not.
static FOREIGN: Occurrences = Occurrences::new();

const HANDOVER_QUEUES: [HandoverQueue; 2] = [HandoverQueue::Idle, HandoverQueue::Ready];

impl SharingState {
    /// A member whose siblings know nothing of it yet.
    pub(crate) fn new(sharing: Sharing, threads: usize) -> Self {
        Self {
            sharing,
            threads,
            calls: 0,
            unhurried: false,
            published: None,
            pass_at: None,
            left: Vec::new(),
            look_at: None,
            looks: 0,
            leaving: Vec::new(),
            leave_at: None,
            buffer: Vec::new(),
        }
    }

    /// Has `reactor` watch what siblings hand over.
    ///
    /// # Errors
    /// The kernel's, when memory or the user's watches have run out.
    pub(crate) fn watch(sharing: &Sharing, reactor: &Reactor) -> std::io::Result<()> {
        let mut queues = HANDOVER_QUEUES.into_iter();
        queues.try_for_each(|queue| {
            reactor.vital().add("a socket to other workers", sharing.handover.receiver(queue));
            reactor.register(sharing.handover.receiver(queue), token(queue), Interest::Shared)
        })
    }

    /// `passing`: with the moment to look again whether a sibling has a thread for what waits here.
    #[inline]
    pub(super) fn next_deadline(&self, passing: bool) -> Option<Instant> {
        earlier(self.pass_at.filter(|_| passing), earlier(self.look_at, self.leave_at))
    }

    #[inline]
    fn free_threads(&self) -> usize {
        self.threads.saturating_sub(self.calls)
    }

    /// Whether what has come for all workers is better left to the others.
    fn yields(&self) -> bool {
        self.free_threads() == 0 && self.looks < LOOKS_MAX && self.sharing.siblings.idle_threads() > 0
    }
}

fn token(queue: HandoverQueue) -> u64 {
    LISTENER | HANDOVER | queue as u64
}

impl Engine {
    /// Tells how many threads are in calls, and whether calls are long.
    pub(crate) fn set_calls(&mut self, calls: usize, unhurried: bool) {
        if let Some(member) = &mut self.member {
            (member.calls, member.unhurried) = (calls, unhurried);
        }
    }

    /// Tells the siblings, and whoever reads the metrics, what has changed since they were told last.
    pub(crate) fn tell_load(&mut self) {
        if !self.queue.is_empty() || self.told_waiting {
            self.tell_waiting();
        }
        let ending = self.is_ending();
        let Some(member) = &mut self.member else { return };
        if self.queue.len() > member.free_threads() && !ending && member.pass_at.is_none() {
            if member.unhurried {
                self.pass_on();
            } else {
                member.pass_at = Some(self.context.now + PASS_AFTER);
            }
        }
        let queued = self.queue.len();
        let Some(member) = &mut self.member else { return };
        let load = Load {
            busy: member.calls as u32,
            // Requests that wait have the first claim to the threads.
            idle: if ending { 0 } else { member.free_threads().saturating_sub(queued) as u32 },
        };
        if member.published != Some(load) {
            member.published = Some(load);
            member.sharing.siblings.publish(load);
        }
    }

    /// Tells whoever reads the metrics how many requests wait, and since when.
    fn tell_waiting(&mut self) {
        let metrics = self.context.metrics;
        self.told_waiting = !self.queue.is_empty();
        metrics.set(Gauge::QueueLength, self.queue.len() as u64);
        metrics.set(Gauge::QueueSince, self.longest_wait().map_or(0, |since| self.machine_nanos(since)));
    }

    /// Since when the request waits that has waited longest, as far as the next of each round tell.
    fn longest_wait(&self) -> Option<Instant> {
        let waiting = self.queue.firsts().filter(|ticket| self.waits(*ticket));
        waiting.filter_map(|ticket: Ticket| self.table.get(ticket.id)?.arrived()).min()
    }

    /// Does what is due towards the siblings.
    pub(super) fn advance_sharing(&mut self) {
        let now = self.context.now;
        let Some(member) = &mut self.member else { return };
        if member.pass_at.is_some_and(|at| at <= now) {
            member.pass_at = None;
            self.pass_on();
        }
        let Some(member) = &mut self.member else { return };
        if member.look_at.is_some_and(|at| at <= now) {
            (member.look_at, member.looks) = (None, member.looks + 1);
            std::mem::take(&mut member.left).into_iter().for_each(|token| self.accept(token));
        }
        let Some(member) = &mut self.member else { return };
        if member.leave_at.is_some_and(|at| at <= now) {
            member.leave_at = None;
            self.hand_on();
        }
    }

    /// Looks at the handover queues: what they were told of before there were listeners was passed over.
    pub(super) fn note_handover_queues(&mut self) {
        if self.member.is_some() {
            HANDOVER_QUEUES.into_iter().for_each(|queue| self.accepting.note(token(queue)));
        }
    }

    /// Whether the source with this token, from which all workers take, is left to the siblings for now.
    pub(super) fn leaves(&mut self, token: u64) -> bool {
        let Some(member) = &mut self.member else { return false };
        if !member.yields() {
            member.looks = 0;
            return false;
        }
        self.put_off(token);
        true
    }

    fn put_off(&mut self, token: u64) {
        let Some(member) = &mut self.member else { return };
        if !member.left.contains(&token) {
            member.left.push(token);
        }
        member.look_at.get_or_insert(self.context.now + LEFT_INTERVAL);
    }

    /// Passes the requests that wait longest, and for which there is no thread here, to siblings that have one.
    fn pass_on(&mut self) {
        // Who has given up these queues must not use them: what nobody takes, the sender takes back.
        let ending = self.is_ending();
        let Some(member) = &mut self.member else { return };
        let free = member.free_threads();
        if ending || self.queue.len() <= free {
            return;
        }
        let interval = if member.unhurried { PASS_INTERVAL } else { PASS_AFTER };
        member.pass_at = Some(self.context.now + interval);
        if !member.sharing.handover.is_empty(HandoverQueue::Ready) {
            // What is in the queue already has the first claim to their threads. If it stays there, as when a
            // worker is killed that was to take it, this one takes it.
            return self.put_off(token(HandoverQueue::Ready));
        }
        let idle = member.sharing.siblings.idle_threads() as usize;
        let (after, now) = (if member.unhurried { Duration::ZERO } else { PASS_AFTER }, self.context.now);
        let surplus = self.queue.len() - free;
        let mut passed = 0;
        let waiting: Vec<_> = self.queue.iter().skip(free).take(PASS_SCAN_MAX).collect();
        for ticket in waiting {
            if passed == idle.min(surplus) || !self.waits(ticket) {
                continue;
            }
            let ready = self.table.get(ticket.id).is_some_and(|connection| {
                connection.handover_count() < HANDOVERS_MAX
                    && connection.waited(now) >= after
                    && !connection.is_abandoned(&self.context)
            });
            if ready && self.send(HandoverQueue::Ready, ticket.id) == SendOutcome::Gone {
                passed += 1;
                self.queue.abandon();
                self.context.metrics.add(Counter::PassedOn, 1);
            }
        }
    }

    /// Sends connection `id` off if that is possible; it is no longer ours then.
    fn send(&mut self, queue: HandoverQueue, id: ConnectionId) -> SendOutcome {
        let Some(member) = &self.member else { return SendOutcome::Stays };
        let Some(mut connection) = self.table.take(id) else { return SendOutcome::Stays };
        let sent = {
            let listener = self.accepting.number_of(&connection.client().listener);
            let pieces = match queue {
                HandoverQueue::Idle => connection.pack_idle(),
                HandoverQueue::Ready => connection.pack_request(),
            };
            let length = |pieces: &[&[u8]; 3]| pieces.iter().map(|piece| piece.len()).sum::<usize>();
            let pieces = pieces.filter(|pieces| length(pieces) <= BYTES_MAX);
            let metadata = listener.and_then(|listener| connection.metadata(queue, listener));
            match (metadata, pieces, connection.socket()) {
                (Some(metadata), Some(pieces), Some(socket)) => {
                    let now = self.context.now;
                    match member.sharing.handover.send(queue, (socket, &metadata), pieces, now) {
                        Dispatch::Done => SendOutcome::Gone,
                        Dispatch::Full => SendOutcome::Full,
                        Dispatch::Refused => SendOutcome::Stays,
                    }
                }
                _ => SendOutcome::Stays,
            }
        };
        if sent != SendOutcome::Gone {
            self.table.put_back(id, connection);
            return sent;
        }
        // Closing our descriptor alone would not end the watch: the socket lives on.
        if connection.watched().is_some()
            && let Some(socket) = connection.socket()
            && let Err(error) = self.reactor.deregister(socket)
        {
            self.context.reports.unwatched("a connection that was handed over", &error);
        }
        // Here it counts for nobody any more.
        connection.leave_to_another(&mut self.context);
        self.forget_memory(id, &connection);
        self.forget_client(&connection);
        drop(connection);
        self.table.release(id);
        self.count_connections();
        SendOutcome::Gone
    }

    /// Takes what siblings have handed over in the handover queue with this token, if there is room for it here.
    pub(super) fn take_handed_over(&mut self, queue_token: u64) {
        let queue = if queue_token == token(HandoverQueue::Idle) {
            HandoverQueue::Idle
        } else {
            HandoverQueue::Ready
        };
        if self.accepting.paused_until().is_some() {
            self.put_off(queue_token); // Without a descriptor for it the kernel would close what comes.
        } else if queue == HandoverQueue::Idle || !self.leaves(queue_token) {
            self.take_messages(queue);
        }
    }

    fn take_messages(&mut self, queue: HandoverQueue) {
        if !self.accepting.is_listening() {
            return; // It is looked at again when the engine begins to listen.
        }
        let Some(member) = &mut self.member else { return };
        let mut buffer = std::mem::take(&mut member.buffer);
        buffer.resize(MESSAGE_BYTES_MAX, 0);
        let mut taken = 0;
        while taken < TAKES_MAX && self.take_message(queue, &mut buffer) {
            taken += 1;
        }
        if let Some(member) = &mut self.member {
            member.buffer = buffer;
        }
        if taken == TAKES_MAX {
            self.accepting.note(token(queue));
        }
    }

    /// Takes one; `false` if there is none.
    fn take_message(&mut self, queue: HandoverQueue, buffer: &mut [u8]) -> bool {
        let Some(member) = &self.member else { return false };
        let Some(message) = member.sharing.handover.take(queue, buffer, self.context.now) else {
            return false;
        };
        let Some(server) = self.accepting.server(message.metadata.listener) else {
            if let Some(times) = FOREIGN.note() {
                let (peer, listener) = (message.metadata.peer, message.metadata.listener);
                log::error!(
                    "closed a connection of {peer} from listener {listener}, which is not ours{times}"
                );
            }
            Transport::from_socket(message.socket, message.metadata.is_unix).shut_down();
            return true;
        };
        let scarce = message.socket.as_raw_fd() >= self.accepting.descriptor_ceiling();
        let mut connection = Connection::unpack(queue, message, server, &self.context);
        self.count_moved(&mut connection);
        self.context.metrics.add(Counter::TakenOver, 1);
        let newest = self.add_connection(connection);
        if scarce {
            self.make_room("they are nearly used up", newest);
        }
        true
    }

    /// Begins to stop in favour of the siblings; where there is none, as [`Engine::drain`]. Connections between
    /// requests go to siblings, the others after their response.
    pub(crate) fn retire(&mut self, until: Instant) {
        if self.context.draining || self.context.retiring {
            return;
        }
        if !self.has_sibling() {
            return self.drain(until);
        }
        self.drain_until = Some(until);
        self.close_shared();
        self.context.retiring = true;
        self.leave_waiting();
        let everybody = self.table.ids();
        if let Some(member) = &mut self.member {
            member.leaving = everybody;
        }
        self.hand_on();
    }

    /// Sends the requests that wait here to the siblings, if they are to take these too.
    fn leave_waiting(&mut self) {
        if self.member.as_ref().is_some_and(|member| member.sharing.siblings.take_waiting()) {
            let waiting: Vec<_> = self.queue.iter().collect();
            for ticket in waiting {
                if self.waits(ticket) && self.send(HandoverQueue::Ready, ticket.id) == SendOutcome::Gone {
                    self.queue.abandon();
                    self.context.metrics.add(Counter::PassedOn, 1);
                }
            }
        }
    }

    /// Whether another worker serves beside this one.
    pub(super) fn has_sibling(&self) -> bool {
        self.member.as_ref().is_some_and(|member| member.sharing.siblings.has_ready())
    }

    /// Closes listeners and handover queues. What had come for all workers and was told to this one is taken.
    pub(super) fn close_shared(&mut self) {
        if let Some(member) = &mut self.member
            && self.accepting.is_listening()
        {
            for queue in HANDOVER_QUEUES {
                self.reactor.vital().remove(member.sharing.handover.receiver(queue));
                if let Err(error) = self.reactor.deregister(member.sharing.handover.receiver(queue)) {
                    self.context.reports.unwatched("what siblings hand over", &error);
                }
            }
            (member.left, member.look_at) = (Vec::new(), None);
            for queue in HANDOVER_QUEUES {
                self.take_messages(queue);
            }
        }
        self.close_listeners();
    }

    /// Hands connections that are between requests to siblings, as many as the queue takes now.
    fn hand_on(&mut self) {
        if !self.has_sibling() {
            return self.drain_instead();
        }
        let Some(member) = &mut self.member else { return };
        let mut leaving = std::mem::take(&mut member.leaving);
        while let Some(id) = leaving.pop() {
            match self.send(HandoverQueue::Idle, id) {
                SendOutcome::Gone => self.context.metrics.add(Counter::HandedOn, 1),
                // One that never can go is closed where it is idle; the others come to the end of their request.
                SendOutcome::Stays => drop(self.work_on(id, Connection::drain)),
                SendOutcome::Full => {
                    leaving.push(id);
                    if let Some(member) = &mut self.member {
                        member.leave_at = Some(self.context.now + FULL_INTERVAL);
                    }
                    break;
                }
            }
        }
        if let Some(member) = &mut self.member {
            member.leaving.append(&mut leaving);
        }
    }

    /// There is no sibling to go to any more.
    fn drain_instead(&mut self) {
        if let Some(until) = self.drain_until {
            self.context.retiring = false;
            self.drain(until);
        }
    }

    /// A connection has come to the end of a request while the engine retires; it is in its place.
    pub(super) fn leave(&mut self, id: ConnectionId) {
        if let Some(member) = &mut self.member {
            member.leaving.push(id);
            if member.leave_at.is_none() {
                self.hand_on();
            }
        }
        // Where it has stayed: bytes may wait that no event will tell of.
        if self.table.get(id).is_some() {
            self.again.push(id);
        }
    }

    /// Puts the engine at the end of the pollers of the listener with this token. What waits there is told anew.
    pub(super) fn step_back(&mut self, index: usize, token: u64) {
        let Some(listener) = self.accepting.listener(index) else { return };
        let removed = self.reactor.deregister(listener);
        if let Err(error) = removed.and_then(|()| self.reactor.register(listener, token, Interest::Shared)) {
            self.pause(&format!("a listener cannot be watched: {error}"));
        }
    }

    fn waits(&self, ticket: Ticket) -> bool {
        self.table.awaits_thread(ticket.id, ticket.served)
    }
}

impl std::fmt::Debug for Sharing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sharing").field("handover", &self.handover).finish_non_exhaustive()
    }
}
