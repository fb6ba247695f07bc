//! Sessions and their streams: each stream is a connection in the table and works like any other; what it
//! has sent goes out when its session is written, once for all streams that have worked meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind};

use portico_proto::{NewStream, SessionEvent};

use super::turns::TURN_MAX;
use super::{Engine, HOLD_MAX};
use crate::connection::{Connection, ConnectionId, EngineContext, Step};

/// The note that a stream has worked, for the session that carries it. It names the session and keeps nothing of
/// the stream, which may be gone.
#[derive(Debug)]
pub(super) struct Worked {
    /// Who carries it.
    session: ConnectionId,
    ended: Option<Ended>,
}

/// The note that a stream has worked for the last time, by which its session forgets it and resets it if it was
/// not answered.
#[derive(Clone, Copy, Debug)]
struct Ended {
    number: u32,
    /// Its request has been answered.
    answered: bool,
}

/// Streams of one session that begin in one turn: each head may be tens of kilobytes for a few bytes sent.
const BEGUN_MAX: usize = 8;

/// How often in one turn a session is written when that has made room for more.
const WRITES_MAX: usize = 16;

impl Engine {
    /// Passes on to its streams what has come of the session of connection `id`, which is taken out of the table,
    /// and has the session written.
    pub(super) fn serve_streams(&mut self, id: ConnectionId, connection: &mut Connection) -> Step {
        self.context.may_have_taken_long = true;
        let mut begun = 0;
        for _ in 0..WRITES_MAX {
            while begun < BEGUN_MAX {
                match self.guarded(connection, |connection, context| connection.next_stream_event(context)) {
                    Some(Some(event)) => {
                        begun += usize::from(matches!(event, SessionEvent::Opened(..)));
                        self.pass_on_event(id, connection, event);
                    }
                    Some(None) => break,
                    None => return Step::Close,
                }
            }
            self.forget_ended(id, connection);
            let step = self.guarded(connection, Connection::flush_session).unwrap_or(Step::Close);
            if connection.is_session_over() {
                self.close_streams(connection);
                return connection.end_session(&mut self.context);
            }
            match step {
                Step::Streams if begun < BEGUN_MAX && self.context.now.elapsed() < TURN_MAX => {}
                Step::Streams => return Step::Again,
                Step::Keep if begun == BEGUN_MAX || connection.has_unread() => return Step::Again,
                step => return step,
            }
        }
        Step::Again
    }

    fn pass_on_event(&mut self, id: ConnectionId, connection: &mut Connection, event: SessionEvent) {
        match event {
            SessionEvent::Opened(number, stream) => self.open_stream(id, connection, number, stream),
            SessionEvent::Arriving(number, bytes) => {
                if let Some(stream) = connection.stream(number) {
                    self.work_on(stream, |stream, context| stream.note_arriving(bytes, context));
                }
            }
            SessionEvent::Body(number) => {
                if let Some(stream) = connection.stream(number) {
                    self.receive_on(stream, Connection::receive_more);
                }
            }
            SessionEvent::Room(number) => {
                if let Some(stream) = connection.stream(number) {
                    self.work_on(stream, Connection::write_more);
                }
            }
            SessionEvent::Reset(number, fault) => {
                if let Some(kind) = fault {
                    connection.note_malformed(kind, &mut self.context);
                }
                if let Some(stream) = connection.stream(number) {
                    self.work_on(stream, |stream, _| stream.leave_stream());
                }
            }
        }
    }

    /// Connection `id` carries a request and is to carry more: it becomes the stream of that request, and a new
    /// connection gets its socket. `false` if the request has ended.
    pub(super) fn promote_to_session(&mut self, id: ConnectionId, mut connection: Box<Connection>) -> bool {
        let place = self.table.reserve();
        let Some(session) = connection.promote_to_session(id, place, &self.context) else {
            self.table.release(place);
            return self.settle(id, connection, Step::Close);
        };
        let mut session = Box::new(session);
        self.streams += 1;
        self.context.metrics.add_streams(1, 1);
        self.table.move_held(id.index, place.index);
        self.settle(id, connection, Step::Keep);
        let watched = match (session.watched(), session.socket()) {
            (Some(interest), Some(socket)) => self.reactor.reregister(socket, place.token(), interest),
            _ => Ok(()),
        };
        let step = match watched {
            Ok(()) => self.guarded(&mut session, Connection::begin_to_carry).unwrap_or(Step::Close),
            Err(error) => {
                self.context.reports.unwatched("a connection", &error);
                Step::Close
            }
        };
        self.settle(place, session, step);
        self.table.get(id).is_some()
    }

    fn open_stream(&mut self, id: ConnectionId, session: &mut Connection, number: u32, stream: NewStream) {
        let place = self.table.reserve();
        let connection = Connection::carried(session, id, number, stream);
        session.add_stream(number, place);
        self.context.metrics.add_streams(1, i64::from(session.streams_len() == 1));
        self.streams += 1;
        self.table.put_back(place, Box::new(connection));
        let refusals = self.context.ledger.refusals();
        self.receive_on(place, Connection::begin_stream);
        let is_refused = self.context.ledger.refusals() > refusals;
        let is_insistent = session.note_stream_refused(is_refused);
        if is_insistent || self.context.ledger.is_overdrawn(self.table.held_in_all(id.index)) {
            self.context.ledger.note_cut(1, self.context.now);
            session.end_session_calm();
        }
    }

    /// Notes that `connection` has worked, if it is a stream: its session is to be written.
    #[inline]
    pub(super) fn note_work(&mut self, connection: &Connection) {
        if let Some((session, _)) = connection.session()
            && self.worked.last().is_none_or(|last| last.session != session)
        {
            self.worked.push(Worked { session, ended: None });
        }
    }

    /// Notes that `connection` has ended, if it is a stream.
    #[inline]
    pub(super) fn note_end(&mut self, connection: &Connection) {
        if let Some((session, number)) = connection.session() {
            self.streams -= 1;
            self.context.metrics.add_streams(-1, 0);
            let answered = connection.served() > 0;
            self.worked.push(Worked { session, ended: Some(Ended { number, answered }) });
        }
    }

    /// Writes the sessions whose streams have worked.
    #[inline]
    pub(super) fn write_sessions(&mut self) {
        if !self.worked.is_empty() {
            self.write_worked();
        }
    }

    /// The same, unless responses are held back for those behind them.
    #[inline]
    pub(super) fn write_unheld_sessions(&mut self) {
        let held =
            !self.queue.is_empty() && self.context.now.saturating_duration_since(self.held_since) < HOLD_MAX;
        if !held {
            self.write_sessions();
        }
    }

    fn write_worked(&mut self) {
        while let Some(first) = self.worked.first() {
            let id = first.session;
            match self.table.take(id) {
                Some(mut connection) => {
                    self.forget_ended(id, &mut connection);
                    self.settle(id, connection, Step::Streams);
                }
                None => self.worked.retain(|worked| worked.session != id),
            }
            if self.is_turn_over() {
                return self.put_off_worked();
            }
        }
    }

    /// Has the sessions that are still to be written wait for the next turn: many of them, each with hundreds of
    /// kilobytes to be sealed, would keep everybody else waiting.
    #[cold]
    fn put_off_worked(&mut self) {
        // One that is known to be unfinished brings about that turn.
        if self.again.is_empty()
            && let Some(first) = self.worked.first()
        {
            self.again.push(first.session);
        }
    }

    /// Takes what has been noted of the streams of `connection`, whose id is `id`.
    fn forget_ended(&mut self, id: ConnectionId, connection: &mut Connection) {
        let had_streams = connection.streams_len() > 0;
        self.worked.retain(|worked| {
            if worked.session != id {
                return true;
            }
            if let Some(Ended { number, answered }) = worked.ended {
                connection.forget_stream(number, answered);
            }
            false
        });
        if had_streams && connection.streams_len() == 0 {
            self.context.metrics.add_streams(0, -1);
        }
    }

    /// The session of `connection` has ended, and its streams with it.
    pub(super) fn close_streams(&mut self, connection: &mut Connection) {
        if connection.streams_len() > 0 {
            self.context.metrics.add_streams(0, -1);
        }
        for id in connection.take_streams() {
            if let Some(mut stream) = self.table.take(id) {
                stream.leave_stream();
                self.close(id, stream);
            }
        }
    }

    /// Has all sessions begin no more streams.
    pub(super) fn shut_sessions_down(&mut self) {
        for id in self.table.ids() {
            if self.table.get(id).is_some_and(Connection::is_session) {
                self.work_on(id, |connection, _| connection.shut_session_down());
            }
        }
    }

    /// Reads what has come that may be about the request of connection `id`: for the session that carries it, or
    /// for itself.
    pub(super) fn look_at_session_of(&mut self, id: ConnectionId) {
        let Some(connection) = self.table.get(id) else { return };
        let reader = match connection.session() {
            Some((session, _)) => session,
            None if connection.reads_ahead() => id,
            None => return,
        };
        self.receive_on(reader, Connection::receive_more);
        self.write_sessions();
    }

    /// Whether connection `id` is a stream.
    #[inline]
    pub(super) fn is_stream(&self, id: ConnectionId) -> bool {
        self.table.get(id).is_some_and(|connection| connection.session().is_some())
    }

    /// Has `connection` work. A panic costs this one connection: its state may be anything, so it is cut.
    pub(super) fn guarded<T>(
        &mut self,
        connection: &mut Connection,
        work: impl FnOnce(&mut Connection, &mut EngineContext) -> T,
    ) -> Option<T> {
        let context = &mut self.context;
        let worked = catch_unwind(AssertUnwindSafe(|| work(connection, context)));
        if worked.is_err() {
            self.context.reports.failed(connection.client().peer);
            self.context.restore();
            connection.cut();
        }
        worked.ok()
    }
}

#[cfg(test)]
mod tests;
