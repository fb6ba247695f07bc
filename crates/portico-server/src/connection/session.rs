//! A connection that carries several requests at once: each of its streams is a connection of its own in the
//! engine's table, this one owns the socket and the protocol's session.
//!
//! The engine passes the session's events on to the streams, and has the session written once they have worked.

use std::sync::Arc;
use std::time::Instant;

use portico_config::WireProtocol;
use portico_log::{CLIENT_GONE, Reason};
use portico_metrics::Counter;
use portico_proto::{ErrorKind, NewStream, ProtocolViolation, SessionEvent, StreamIo, fastcgi, http2};

use super::backlog::Backlog;
use super::carrier::{Carrier, SessionStream};
use super::timeout::DRAIN_GRACE;
use super::{Connection, ConnectionId, Deadline, EngineContext, Phase, Step};

/// The state of a connection that carries streams: the protocol's session, and where its streams are.
#[derive(Debug)]
pub(super) struct Session {
    wire: portico_proto::Session,
    /// Numbers of the streams, and where they are: few enough to be looked through.
    streams: Vec<(u32, ConnectionId)>,
    /// When bytes came last.
    received: Instant,
    /// Since when it has had no stream.
    idle_since: Option<Instant>,
    /// What was awaited when it began, as long as it has had no stream.
    awaited: Option<(Deadline, Instant)>,
    /// Streams refused for want of memory, one after the other.
    refused: u8,
    /// What its client does not take at once.
    pub(super) backlog: Option<Box<Backlog>>,
}

impl Session {
    /// Memory that it takes beside its streams.
    pub(super) fn memory_bytes(&self) -> usize {
        let streams = self.streams.capacity() * size_of::<(u32, ConnectionId)>();
        size_of::<Self>() + streams + self.wire.memory_bytes()
    }
}

/// Streams of one session that are refused for want of memory, one after the other, before it is ended: there is
/// none for it, and each refusal costs as much as a request.
const REFUSED_MAX: u8 = 8;

impl Connection {
    /// The stream `number` of the connection `session`, whose id is `id`.
    pub(crate) fn carried(session: &Self, id: ConnectionId, number: u32, stream: NewStream) -> Self {
        let carrier = Carrier::Stream(SessionStream { io: stream.io, session: id, number });
        let client = Arc::clone(&session.client);
        Self { protocol: stream.protocol, ..Self::carried_by(carrier, client) }
    }

    /// The connection that carries this one, if it is a stream, and its number there.
    #[inline]
    pub(crate) fn session(&self) -> Option<(ConnectionId, u32)> {
        self.carrier.stream().map(|stream| (stream.session, stream.number))
    }

    /// Takes in the head of a stream that has just begun, and what of the body is there.
    pub(crate) fn begin_stream(&mut self, context: &mut EngineContext) -> Step {
        let (_, step) = self.digest(&[], context);
        if step == Step::Keep { self.receive_more(context) } else { step }
    }

    /// There may be more of a stream's body.
    pub(crate) fn receive_more(&mut self, context: &mut EngineContext) -> Step {
        self.io.readable = true;
        self.receive(context)
    }

    /// There may be room for more of a stream's response.
    pub(crate) fn write_more(&mut self, context: &mut EngineContext) -> Step {
        self.io.set_blocked(false);
        self.flush(context)
    }

    /// The peer has given this stream up, or its session has ended: the request is not answered any more.
    pub(crate) fn leave_stream(&mut self) -> Step {
        if let Some(exchange) = &mut self.exchange {
            if self.phase == Phase::Waiting {
                exchange.outcome.status = Some(CLIENT_GONE);
            }
            if exchange.outcome.status == Some(CLIENT_GONE) {
                exchange.note_reason(Reason::ClientGone);
            }
        }
        self.io.set_failed();
        Step::Close
    }

    /// Whether HTTP/2 has been agreed on in the TLS handshake: nothing else is spoken then, and it is not spoken
    /// where it was not agreed on (RFC 9113, section 3.3).
    pub(super) fn has_agreed_on_http2(&self) -> bool {
        let agreed = self.client.tls.as_ref().and_then(|tls| tls.application_protocol) == Some("h2");
        agreed && self.client.listener.protocol == WireProtocol::Http
    }

    /// Whether what a new connection without TLS begins with is HTTP/2.
    pub(super) fn speaks_http2(&self, input: &[u8], context: &EngineContext) -> bool {
        let first = self.served == 0 && self.is_without_session() && !input.is_empty();
        first
            && self.client.listener.protocol == WireProtocol::Http
            && self.client.tls.is_none()
            && context.config.http2.offered
            && context.config.http2.cleartext
            && (input.starts_with(http2::PREFACE) || http2::PREFACE.starts_with(input))
    }

    /// Goes on in HTTP/2, of which nothing has been read yet.
    pub(super) fn begin_http2(&mut self, context: &EngineContext) {
        let wire = portico_proto::Session::Http2(Box::new(http2::Session::new(&context.http2)));
        self.begin_session(wire, context);
    }

    fn begin_session(&mut self, mut wire: portico_proto::Session, context: &EngineContext) {
        if context.draining || context.retiring || context.announcing {
            wire.shut_down();
        }
        let (streams, received) = (Vec::new(), context.now);
        let awaited = self.due;
        let session =
            Session { wire, streams, received, idle_since: None, awaited, refused: 0, backlog: None };
        if let Some(socket) = self.carrier.socket_io_mut() {
            socket.session = Some(Box::new(session));
        }
    }

    /// `input` begins with what a FastCGI connection that carries one request cannot go on with. Where it carries
    /// none it is a session from here on.
    #[cold]
    pub(super) fn share<'b>(&mut self, input: &'b [u8], context: &mut EngineContext) -> (&'b [u8], Step) {
        if self.protocol.as_fastcgi().is_some_and(|state| state.is_in_request()) {
            return (input, Step::PromoteToSession);
        }
        let wire = fastcgi::Session::new(&context.fastcgi);
        self.begin_session(portico_proto::Session::Fastcgi(wire), context);
        (&[], self.feed_session(input, context))
    }

    /// Becomes the stream of its request, whose id is `id`. Returns who carries it from now on, at `place`: the
    /// rest of what it was.
    pub(crate) fn promote_to_session(
        &mut self,
        id: ConnectionId,
        place: ConnectionId,
        context: &EngineContext,
    ) -> Option<Self> {
        let mut wire = fastcgi::Session::new(&context.fastcgi);
        let (number, io) = wire.adopt(self.protocol.as_fastcgi()?);
        let stream = SessionStream { io: StreamIo::Fastcgi(io), session: place, number };
        let carrier = std::mem::replace(&mut self.carrier, Carrier::Stream(stream));
        let mut session = Self {
            // What has been written of the response goes out before anything else, and edges tell of the socket.
            io: std::mem::take(&mut self.io),
            served: self.served,
            counted: std::mem::take(&mut self.counted),
            ..Self::carried_by(carrier, Arc::clone(&self.client))
        };
        session.io.readable = true;
        session.io.outbox.trust_pages(); // A session has no exchange that could wait for them.
        session.begin_session(portico_proto::Session::Fastcgi(wire), context);
        session.add_stream(number, id);
        if self.due.is_some_and(|(deadline, _)| deadline == Deadline::Write) {
            self.due = None;
        }
        // What it takes is counted otherwise from now on.
        self.reset_write_clock();
        if let Some(flow) = self.exchange.as_ref().and_then(|exchange| exchange.flow.as_ref()) {
            flow.set_buffered(0, context.config.response_buffer_bytes / 2);
        }
        self.await_more(true, context);
        Some(session)
    }

    /// Goes on with what has come for the session that it has become.
    pub(crate) fn begin_to_carry(&mut self, context: &mut EngineContext) -> Step {
        let inbox = std::mem::take(&mut self.io.inbox);
        self.feed_session(&inbox, context);
        if self.flush(context) == Step::Close { Step::Close } else { Step::Streams }
    }

    /// Whether it is a stream of FastCGI.
    pub(super) fn is_stream_of_records(&self) -> bool {
        self.carrier.stream().is_some() && self.protocol.reads_ahead()
    }

    /// Takes in bytes of a session.
    pub(super) fn feed_session(&mut self, bytes: &[u8], context: &mut EngineContext) -> Step {
        let Some(session) = self.carrier.session_mut() else { return Step::Keep };
        let elapsed = context.now.saturating_duration_since(session.received);
        session.received = context.now;
        if let Err(violation) = session.wire.receive(bytes, elapsed, &context.limits) {
            self.tell_violation(violation, context);
        }
        Step::Streams
    }

    #[cold]
    fn tell_violation(&self, violation: ProtocolViolation, context: &mut EngineContext) {
        context.metrics.add(Counter::Refused, 1);
        match violation {
            ProtocolViolation::Http2(violation) => match violation.is_flood() {
                true => context.reports.flood(self.client.peer, violation),
                false => log::debug!("closed the HTTP/2 connection of {}: {violation}", self.client.peer),
            },
            ProtocolViolation::Fastcgi(error) => {
                let protocol = self.client.listener.protocol.scheme();
                context.reports.malformed_packet(self.client.peer, protocol, error);
            }
        }
    }

    /// A request has been refused by resetting its stream.
    #[cold]
    pub(crate) fn note_malformed(&self, kind: ErrorKind, context: &mut EngineContext) {
        context.metrics.add(Counter::Refused, 1);
        log::debug!("reset a stream of {}: {kind}", self.client.peer);
    }

    /// Whether the session has a place for more bytes; `true` where there is none.
    #[inline]
    pub(super) fn session_wants_bytes(&self) -> bool {
        match self.carrier.session() {
            Some(session) => session.wire.wants_bytes(),
            None => true,
        }
    }

    /// The session's next event.
    pub(crate) fn next_stream_event(&mut self, context: &mut EngineContext) -> Option<SessionEvent> {
        let session = self.carrier.session_mut()?;
        match session.wire.next_event(&context.limits) {
            Ok(event) => event,
            Err(violation) => {
                self.tell_violation(violation, context);
                None
            }
        }
    }

    /// Notes where stream `number` is.
    pub(crate) fn add_stream(&mut self, number: u32, id: ConnectionId) {
        if let Some(session) = self.carrier.session_mut() {
            session.streams.push((number, id));
            session.awaited = None;
        }
    }

    /// Where stream `number` is.
    pub(crate) fn stream(&self, number: u32) -> Option<ConnectionId> {
        match self.carrier.session() {
            Some(session) => {
                let mut streams = session.streams.iter();
                streams.find(|(other, _)| *other == number).map(|(_, id)| *id)
            }
            None => None,
        }
    }

    /// Stream `number` has ended; `answered` to its end or not.
    pub(crate) fn forget_stream(&mut self, number: u32, answered: bool) {
        if let Some(session) = self.carrier.session_mut() {
            session.streams.retain(|(other, _)| *other != number);
            session.wire.forget(number, answered);
            self.served = self.served.saturating_add(answered.into());
        }
    }

    /// Takes out where all streams are.
    pub(crate) fn take_streams(&mut self) -> Vec<ConnectionId> {
        match self.carrier.session_mut() {
            Some(session) => session.streams.drain(..).map(|(_, id)| id).collect(),
            None => Vec::new(),
        }
    }

    /// Streams that it carries.
    pub(crate) fn streams_len(&self) -> usize {
        match self.carrier.session() {
            Some(session) => session.streams.len(),
            None => 0,
        }
    }

    /// The session ends, or has nothing more to carry.
    fn take_session(&mut self) -> Option<Box<Session>> {
        self.carrier.socket_io_mut().and_then(|socket| socket.session.take())
    }

    /// Whether it neither carries streams nor is one.
    fn is_without_session(&self) -> bool {
        self.carrier.socket_io().is_some_and(|socket| socket.session.is_none())
    }

    /// Whether it carries streams, or would if there were any.
    pub(crate) fn is_session(&self) -> bool {
        self.carrier.session().is_some()
    }

    /// Whether it carries no stream now.
    pub(super) fn is_without_streams(&self) -> bool {
        match self.carrier.session() {
            Some(session) => session.streams.is_empty(),
            None => true,
        }
    }

    /// Has the peer begin no more streams; the session ends with those that there are.
    pub(crate) fn shut_session_down(&mut self) -> Step {
        match self.carrier.session_mut() {
            Some(session) => {
                session.wire.shut_down();
                Step::Streams
            }
            None => Step::Keep,
        }
    }

    /// Writes what the streams have brought up, as far as the peer takes it. [`Step::Streams`]: writing has made
    /// room for more.
    pub(crate) fn flush_session(&mut self, context: &mut EngineContext) -> Step {
        // Also where there is nothing to write: streams may have waited to hear that nothing is left.
        let mut asked = false;
        let mut out = std::mem::take(&mut context.out);
        while self.is_written() && !self.io.is_failed() {
            out.clear();
            let Some(session) = self.carrier.session_mut() else { break };
            session.wire.output(&mut out);
            asked = true;
            if out.is_empty() {
                break;
            }
            self.write_or_keep(&out);
        }
        out.shrink_to(super::response::OUT_CAPACITY_KEPT);
        context.out = out;
        if self.io.is_failed() {
            return Step::Close;
        }
        let Some(session) = self.carrier.session() else { return Step::Keep };
        if asked && session.wire.has_more() {
            return Step::Streams;
        }
        if session.streams.is_empty() && session.wire.is_at_rest() && self.is_written() {
            return self.resume_alone(context);
        }
        self.set_session_due(context)
    }

    /// The session carries nothing any more: what comes next is read as on any connection that is kept.
    fn resume_alone(&mut self, context: &mut EngineContext) -> Step {
        let Some(session) = self.take_session() else { return Step::Keep };
        // A peer that only asks earns no time by it.
        let due = session.awaited.unwrap_or((Deadline::KeepAlive, context.now + context.config.keep_alive));
        self.await_next(due, context)
    }

    /// Whether the session has said its last word.
    pub(crate) fn is_session_over(&self) -> bool {
        self.carrier.session().is_some_and(|session| session.wire.is_closed()) && self.is_written()
    }

    /// Ends the connection after its session, which no longer has streams. The peer may not have heard yet.
    pub(crate) fn end_session(&mut self, context: &mut EngineContext) -> Step {
        if let Some(mut session) = self.take_session()
            && let Some(violation) = session.wire.take_fault()
        {
            self.tell_violation(violation, context);
        }
        self.framing_lost = true;
        let step = self.begin_close(context);
        self.due = Some((Deadline::Drain, context.now + DRAIN_GRACE));
        step
    }

    /// Whether the session can go on reading at once.
    pub(crate) fn has_unread(&self) -> bool {
        self.io.readable && self.session_wants_bytes()
    }

    /// Goes on writing what the socket did not take before.
    pub(super) fn resume_session(&mut self, context: &mut EngineContext) -> Step {
        if !self.is_written() {
            self.write_outbox();
        }
        match (self.io.is_failed(), self.io.is_blocked()) {
            (true, _) => Step::Close,
            (false, true) => self.set_session_due(context),
            (false, false) => Step::Streams,
        }
    }

    /// What is waited for now, and how long.
    fn set_session_due(&mut self, context: &EngineContext) -> Step {
        if !self.is_written() {
            if self.due.is_none_or(|(present, _)| present != Deadline::Write) {
                self.due = Some((Deadline::Write, self.await_write(context)));
                self.release_session();
            }
            return Step::Keep;
        }
        if self.backlog().is_some() {
            self.pause_backlog(context.now);
        }
        let Some(session) = self.carrier.session_mut() else { return Step::Keep };
        let config = &context.config;
        let (deadline, patience) =
            if session.wire.is_partial() && !(session.wire.is_leaving() && session.wire.is_untouched()) {
                (Deadline::Head, config.head_timeout)
            } else if !session.streams.is_empty() {
                session.idle_since = None;
                self.due = None;
                return Step::Keep;
            } else if session.wire.is_leaving() {
                (Deadline::Drain, DRAIN_GRACE)
            } else if config.keep_alive.is_zero() && self.served > 0 {
                return self.shut_session_down();
            } else {
                (Deadline::KeepAlive, config.keep_alive.max(DRAIN_GRACE))
            };
        if self.due.is_none_or(|(present, _)| present != deadline) {
            // Frames that are no requests, such as pings, earn an idle session no time.
            let idle = session.streams.is_empty() && deadline == Deadline::KeepAlive;
            let since = if idle { *session.idle_since.get_or_insert(context.now) } else { context.now };
            self.due = Some((deadline, since + patience));
            session.wire.release();
        }
        Step::Keep
    }

    /// Gives the memory of the session's empty buffers back.
    fn release_session(&mut self) {
        if let Some(session) = self.carrier.session_mut() {
            session.wire.release();
        }
    }

    /// Notes whether the stream that has just begun was refused for want of memory; whether that were too many.
    pub(crate) fn note_stream_refused(&mut self, is_refused: bool) -> bool {
        let Some(session) = self.carrier.session_mut() else { return false };
        session.refused = if is_refused { session.refused.saturating_add(1) } else { 0 };
        session.refused > REFUSED_MAX
    }

    /// Ends the session at once: its peer has us hold too much.
    pub(crate) fn end_session_calm(&mut self) {
        if let Some(session) = self.carrier.session_mut() {
            session.wire.end_calm();
        }
    }

    /// The session's deadline has passed.
    pub(super) fn handle_session_timeout(&mut self, deadline: Deadline, context: &EngineContext) -> Step {
        if deadline == Deadline::Write {
            return self.handle_write_timeout(context);
        }
        let Some(session) = self.carrier.session_mut() else { return Step::Close };
        match deadline {
            // A request may be under way to us: the peer is told first.
            Deadline::KeepAlive => session.wire.shut_down(),
            Deadline::Head => {
                log::debug!("closed the connection of {}: the rest did not come in time", self.client.peer);
                session.wire.end();
            }
            Deadline::Handshake
            | Deadline::Body
            | Deadline::Queue
            | Deadline::Write
            | Deadline::Work
            | Deadline::Delivery
            | Deadline::Drain => session.wire.end(),
        }
        Step::Streams
    }
}
