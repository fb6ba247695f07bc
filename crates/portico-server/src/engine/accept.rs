//! Taking connections from the listeners, and what happens when descriptors run out.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portico_metrics::Counter;
use portico_net::{Acceptor, Interest, Listener, Reactor, Server, Transport};
use portico_proto::Peer;

use super::Engine;
use crate::connection::{Connection, ConnectionId, Idleness, Step};

/// The listeners of one engine, and when it accepts again after it has run out of descriptors. The engine owns it
/// and is alone in accepting from them; it never takes a descriptor that is the application's.
#[derive(Debug, Default)]
pub(crate) struct Accepting {
    listeners: Vec<Listener>,
    paused_until: Option<Instant>,
    /// Pauses so far.
    pauses: u64,
    /// Tokens of listeners that were left before they were empty.
    unfinished: Vec<u64>,
    /// What requests are told of each listener, also after these are closed.
    servers: Vec<Arc<Server>>,
    /// Descriptors from this number on are left to the application.
    descriptor_ceiling: i32,
}

/// Marks a token as a listener's; a connection's generation stays below this bit.
pub(super) const LISTENER: u64 = 1 << 63;

/// Marks such a token further, as that of a queue through which other workers hand connections over.
pub(super) const HANDOVER: u64 = 1 << 62;

/// Connections taken from one listener before others get their turn.
const ACCEPTS_MAX: usize = 64;

/// The same where there are other workers to take the rest.
const SHARED_ACCEPTS_MAX: usize = 4;

/// How long accepting pauses when descriptors have run out and no connection could be closed.
const PAUSE: Duration = Duration::from_millis(100);

/// Idle connections closed at once when descriptors run out.
const EVICTIONS_MAX: usize = 16;

impl Accepting {
    /// Has `reactor` watch `listeners`. Of what it tells before the engine has them none is lost: the engine
    /// looks at each when it gets it.
    ///
    /// # Errors
    /// The kernel's, when memory or the user's watches have run out.
    pub(crate) fn watch(listeners: &[Listener], reactor: &Reactor, interest: Interest) -> io::Result<()> {
        let mut numbered = listeners.iter().enumerate();
        numbered
            .try_for_each(|(index, listener)| reactor.register(listener, LISTENER | index as u64, interest))
    }

    pub(super) fn is_listening(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// The number of the listener that told of itself by `server`.
    pub(super) fn number_of(&self, server: &Arc<Server>) -> Option<u32> {
        let number = self.servers.iter().position(|other| Arc::ptr_eq(other, server))?;
        u32::try_from(number).ok()
    }

    /// What the listener with this number tells of itself.
    pub(super) fn server(&self, number: u32) -> Option<Arc<Server>> {
        self.servers.get(number as usize).cloned()
    }

    pub(super) fn listener(&self, index: usize) -> Option<&Listener> {
        self.listeners.get(index)
    }

    pub(super) fn descriptor_ceiling(&self) -> i32 {
        self.descriptor_ceiling
    }

    #[inline]
    pub(super) fn owns(token: u64) -> bool {
        token & LISTENER != 0
    }

    /// Has [`Engine::continue_accepting`] look at this listener.
    pub(super) fn note(&mut self, token: u64) {
        if !self.unfinished.contains(&token) {
            self.unfinished.push(token);
        }
    }

    #[inline]
    pub(super) fn has_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    #[inline]
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }
}

/// The descriptors that connections may use: the soft limit, less a tenth (8 to 64) for the application's files
/// and database connections.
fn descriptor_ceiling() -> i32 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.unwrap_or(i32::MAX as u64).min(i32::MAX as u64) as i32;
    limit - (limit / 10).clamp(8, 64)
}

impl Engine {
    /// Accepts from `listeners`, which its reactor watches, from now on; at once closed if the engine has stopped.
    pub(crate) fn listen(&mut self, listeners: Vec<Listener>) {
        if self.is_ending() {
            return listeners.iter().for_each(|listener| self.reactor.vital().remove(listener));
        }
        self.accepting.descriptor_ceiling = descriptor_ceiling();
        self.context.fastcgi.connections_max = self.accepting.descriptor_ceiling.max(1).unsigned_abs();
        (0..listeners.len() as u64).for_each(|index| self.accepting.note(LISTENER | index));
        self.accepting.servers = listeners.iter().map(|listener| Arc::clone(listener.server())).collect();
        let certificates = listeners.iter().find_map(Listener::certificates);
        self.context.tls = certificates
            .map(|certificates| Arc::new(Acceptor::new(certificates.clone(), &self.context.config)));
        self.context.https_redirect.port =
            listeners.iter().find(|it| it.server().tls).map(|it| it.server().port.clone());
        self.accepting.listeners = listeners;
        self.note_handover_queues();
    }

    /// Serves a client that has not come through a listener.
    pub(crate) fn adopt(&mut self, stream: UnixStream, server: Arc<Server>) {
        if !self.is_ending() {
            self.admit(Transport::Unix(stream.into()), Peer::Unix, server);
        }
    }

    /// Gives a new connection its place; `None` if it has ended.
    pub(super) fn admit(
        &mut self,
        transport: Transport,
        peer: Peer,
        server: Arc<Server>,
    ) -> Option<ConnectionId> {
        self.add_connection(Connection::new(transport, peer, server, &self.context))
    }

    /// Gives `connection` its place, and has it work on what has come; `None` if it has ended.
    pub(super) fn add_connection(&mut self, mut connection: Connection) -> Option<ConnectionId> {
        let id = self.table.reserve();
        self.count_connections();
        self.context.working = id;
        // Most clients have sent their request by now. What is read before the socket is watched makes no event.
        let step = match connection.is_opening() {
            true => Step::Keep,
            false => self.guarded(&mut connection, Connection::receive_more).unwrap_or(Step::Close),
        };
        if !self.settle(id, Box::new(connection), step) {
            return None;
        }
        if self.table.get(id).is_some_and(Connection::is_unwatched) {
            self.unwatched.push(id);
        }
        Some(id)
    }

    pub(super) fn is_ending(&self) -> bool {
        self.context.draining || self.context.retiring
    }

    /// Accepts what waits on the listener with this token, or takes what does in this handover queue.
    pub(super) fn accept(&mut self, token: u64) {
        if token & HANDOVER != 0 {
            return self.take_handed_over(token);
        }
        if self.accepting.paused_until.is_some() || self.leaves(token) {
            return; // The event is from before the pause.
        }
        let index = (token & !LISTENER) as usize;
        let shared = self.has_sibling();
        let max = if shared { SHARED_ACCEPTS_MAX } else { ACCEPTS_MAX };
        // What has come with one is read at once, and may take long.
        let (mut accepted, mut is_over) = (0, false);
        while accepted < max && !is_over && self.accept_one(index) {
            accepted += 1;
            is_over = self.is_turn_over();
        }
        if shared && accepted > 0 {
            self.step_back(index, token);
        } else if accepted == max || is_over {
            self.accepting.note(token);
        }
    }

    /// Goes on with the listeners on which more connections wait than one turn takes.
    #[inline]
    pub(super) fn continue_accepting(&mut self) {
        if !self.accepting.unfinished.is_empty() {
            self.accept_unfinished();
        }
    }

    fn accept_unfinished(&mut self) {
        for token in std::mem::take(&mut self.accepting.unfinished) {
            self.accept(token);
        }
    }

    /// Accepts one connection; `false` if none waits or there is no descriptor for it.
    fn accept_one(&mut self, index: usize) -> bool {
        let Some(listener) = self.accepting.listeners.get(index) else {
            return false;
        };
        let server = Arc::clone(listener.server());
        match Transport::accept(listener.as_fd(), listener.is_unix()) {
            Ok(None) => false,
            Ok(Some((transport, peer))) if !self.context.is_allowed(peer, &server) => {
                transport.shut_down();
                true
            }
            Ok(Some((transport, peer))) => {
                let ceiling = self.accepting.descriptor_ceiling;
                let scarce = transport.socket().is_some_and(|socket| socket.as_raw_fd() >= ceiling);
                let Some(transport) = self.context.wrap_transport(transport, peer, &server) else {
                    return true;
                };
                self.context.metrics.add(Counter::Accepts, 1);
                let newest = self.admit(transport, peer, server);
                !scarce || self.make_room("they are nearly used up", newest)
            }
            Err(error) => {
                let out_of_descriptors = matches!(
                    rustix::io::Errno::from_io_error(&error),
                    Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)
                );
                if out_of_descriptors {
                    return self.make_room(&error.to_string(), None);
                }
                self.pause(&format!("connections cannot be accepted: {error}"));
                false
            }
        }
    }

    /// Closes connections that are at nothing: those first whose client has never had a request answered, then
    /// those that have been idle longest. Where there are none, pauses accepting and returns `false`. What waits
    /// in the kernel's backlog waits on. `newest` has just come, and is about to send its first request.
    pub(super) fn make_room(&mut self, reason: &str, newest: Option<ConnectionId>) -> bool {
        let mut idle: Vec<(Idleness, Instant, ConnectionId)> = Vec::new();
        for id in self.table.ids() {
            if Some(id) != newest
                && let Some(connection) = self.table.get(id)
                && let Some(idleness) = connection.idleness()
                && let Some((_, due)) = connection.due()
            {
                idle.push((idleness, due, id));
            }
        }
        idle.sort_unstable();
        // Not those who were served as long as there are others.
        let first = idle.first().map(|(idleness, ..)| *idleness);
        idle.retain(|(idleness, ..)| Some(*idleness) == first);
        idle.truncate(EVICTIONS_MAX);
        let evicted = idle.len();
        for (_, _, id) in idle {
            if let Some(connection) = self.table.take(id) {
                self.close(id, connection);
            }
        }
        self.context.metrics.add(Counter::Evicted, evicted as u64);
        if evicted > 0 {
            return true;
        }
        self.pause(&format!("no descriptors for new connections ({reason}); raise `ulimit -n`"));
        false
    }

    /// Stops accepting for a moment. Told the first, the second, the fourth time and so on.
    pub(super) fn pause(&mut self, reason: &str) {
        if self.accepting.paused_until.is_some() {
            return;
        }
        self.accepting.pauses += 1;
        let times = self.accepting.pauses;
        if times.is_power_of_two() {
            log::warn!("accepting pauses: {reason} ({times} so far)");
        }
        self.watch_listeners(false);
        self.accepting.paused_until = Some(self.context.now + PAUSE);
    }

    /// Ends a pause that is over.
    pub(super) fn resume_accepting(&mut self) {
        if self.accepting.paused_until.is_some_and(|until| until <= self.context.now) {
            self.accepting.paused_until = None;
            self.watch_listeners(true);
        }
    }

    fn watch_listeners(&self, watched: bool) {
        let interest = if self.member.is_some() { Interest::Shared } else { Interest::Accept };
        for (index, listener) in self.accepting.listeners.iter().enumerate() {
            let result = match watched {
                true => self.reactor.register(listener, LISTENER | index as u64, interest),
                false => self.reactor.deregister(listener),
            };
            if let Err(error) = result {
                self.context.reports.unwatched(listener.url(), &error);
            }
        }
    }

    /// Takes every connection that the kernel has accepted, then closes the listeners.
    pub(super) fn close_listeners(&mut self) {
        self.unwatch_listeners();
        for index in 0..self.accepting.listeners.len() {
            while self.accept_one(index) {}
        }
        self.forget_listeners();
    }

    /// Closes the listeners, and leaves what waits there to the other processes that have them.
    pub(crate) fn unlisten(&mut self) {
        self.unwatch_listeners();
        self.forget_listeners();
    }

    fn unwatch_listeners(&mut self) {
        // Closing our descriptor alone would not end the watch: other processes have the socket too.
        if self.accepting.paused_until.take().is_none() {
            self.watch_listeners(false);
        }
    }

    fn forget_listeners(&mut self) {
        self.accepting.listeners.iter().for_each(|listener| self.reactor.vital().remove(listener));
        self.accepting.listeners.clear();
    }
}
