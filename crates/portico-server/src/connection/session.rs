//! A connection that carries several requests at once: each of its streams is a connection of its own in the
//! engine's table, this one owns the socket and the protocol's session.
//!
//! The engine passes the session's events on to the streams, and has the session written once they have worked.

use std::time::Instant;

use portico_config::WireProtocol;
use portico_proto::{ErrorKind, NewStream, ProtocolViolation, SessionEvent, StreamIo, fastcgi, http2};

use super::timeout::DRAIN_GRACE;
use super::{Connection, ConnectionId, Deadline, Phase, Step, Tools};
use crate::access_log::{CLIENT_GONE, Reason};
use crate::transport::Transport;

/// How a connection belongs to others.
#[derive(Debug)]
pub enum Link {
    /// Not at all.
    Alone,
    /// It carries streams.
    Session(Box<Session>),
    /// It is a stream of the connection `carrier`, and has this number there.
    Stream {
        /// Who has the session.
        carrier: ConnectionId,
        /// Its number.
        number: u32,
    },
}

/// What a connection that carries streams has beside its socket.
#[derive(Debug)]
pub struct Session {
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
}

/// Streams of one session that are refused for want of memory, one after the other, before it is ended: there is
/// none for it, and each refusal costs as much as a request.
const REFUSED_MAX: u8 = 8;

impl Connection {
    /// The stream `number` of the connection `carrier`, whose id is `id`.
    pub fn carried(carrier: &Self, id: ConnectionId, number: u32, stream: NewStream, tools: &Tools) -> Self {
        let transport = Transport::Stream(stream.io);
        let server = carrier.server.clone();
        Self {
            protocol: stream.protocol,
            link: Link::Stream { carrier: id, number },
            due: None,
            tls: carrier.tls.clone(),
            destination: carrier.destination.clone(),
            ..Self::with_trust(transport, carrier.peer, carrier.trusted, server, tools)
        }
    }

    /// The connection that carries this one, if it is a stream, and its number there.
    #[inline]
    pub fn carrier(&self) -> Option<(ConnectionId, u32)> {
        match self.link {
            Link::Stream { carrier, number } => Some((carrier, number)),
            Link::Alone | Link::Session(_) => None,
        }
    }

    /// Takes in the head of a stream that has just begun, and what of the body is there.
    pub fn begin_stream(&mut self, tools: &mut Tools) -> Step {
        let (_, step) = self.digest(&[], tools);
        if step == Step::Keep { self.receive_more(tools) } else { step }
    }

    /// There may be more of a stream's body.
    pub fn receive_more(&mut self, tools: &mut Tools) -> Step {
        self.readable = true;
        self.receive(tools)
    }

    /// There may be room for more of a stream's answer.
    pub fn write_more(&mut self, tools: &mut Tools) -> Step {
        self.blocked = false;
        self.flush(tools)
    }

    /// The peer has given this stream up, or its session has ended: the request is not answered any more.
    pub fn leave_stream(&mut self) -> Step {
        if self.phase == Phase::Waiting {
            self.status = Some(CLIENT_GONE);
        }
        if self.status == Some(CLIENT_GONE) {
            self.note_reason(Reason::ClientGone);
        }
        self.failed = true;
        Step::Close
    }

    /// Whether HTTP/2 has been agreed on in the TLS handshake: nothing else is spoken then, and it is not spoken
    /// where it was not agreed on (RFC 9113, section 3.3).
    pub(super) fn has_agreed_on_http2(&self) -> bool {
        let agreed = self.tls.as_ref().and_then(|tls| tls.application_protocol) == Some("h2");
        agreed && self.server.protocol == WireProtocol::Http
    }

    /// Whether what a new connection without TLS begins with is HTTP/2.
    pub(super) fn speaks_http2(&self, input: &[u8], tools: &Tools) -> bool {
        let first = self.served == 0 && matches!(self.link, Link::Alone) && !input.is_empty();
        first
            && self.server.protocol == WireProtocol::Http
            && self.tls.is_none()
            && tools.config.http2.offered
            && tools.config.http2.cleartext
            && (input.starts_with(http2::PREFACE) || http2::PREFACE.starts_with(input))
    }

    /// Goes on in HTTP/2, of which nothing has been read yet.
    pub(super) fn begin_http2(&mut self, tools: &Tools) {
        let wire = portico_proto::Session::Http2(Box::new(http2::Session::new(&tools.http2)));
        self.begin_session(wire, tools);
    }

    fn begin_session(&mut self, mut wire: portico_proto::Session, tools: &Tools) {
        if tools.draining || tools.retiring || tools.announcing {
            wire.shut_down();
        }
        let (streams, received) = (Vec::new(), tools.now);
        let awaited = self.due;
        let session = Session { wire, streams, received, idle_since: None, awaited, refused: 0 };
        self.link = Link::Session(Box::new(session));
    }

    /// `input` begins with what a FastCGI connection that carries one request cannot go on with. Where it carries
    /// none it is a session from here on.
    #[cold]
    pub(super) fn share<'b>(&mut self, input: &'b [u8], tools: &mut Tools) -> (&'b [u8], Step) {
        if self.protocol.as_fastcgi().is_some_and(|state| state.is_in_request()) {
            return (input, Step::Divide);
        }
        let wire = fastcgi::Session::new(&tools.fastcgi);
        self.begin_session(portico_proto::Session::Fastcgi(wire), tools);
        (&[], self.feed_session(input, tools))
    }

    /// Becomes the stream of its request, whose id is `id`. Returns who carries it from now on, at `place`: the
    /// rest of what it was.
    pub fn divide(&mut self, id: ConnectionId, place: ConnectionId, tools: &Tools) -> Option<Self> {
        let mut wire = fastcgi::Session::new(&tools.fastcgi);
        let (number, io) = wire.adopt(self.protocol.as_fastcgi()?);
        let io = Transport::Stream(StreamIo::Fastcgi(io));
        let transport = std::mem::replace(&mut self.transport, io);
        let mut carrier = Self {
            tls: self.tls.clone(),
            destination: self.destination.clone(),
            // What has been written of the answer goes out before anything else.
            outbox: std::mem::take(&mut self.outbox),
            inbox: std::mem::take(&mut self.inbox),
            served: self.served,
            due: None,
            watched: self.watched,
            readable: true,
            blocked: self.blocked,
            peer_closed: self.peer_closed,
            counted: std::mem::take(&mut self.counted),
            ..Self::with_trust(transport, self.peer, self.trusted, self.server.clone(), tools)
        };
        carrier.begin_session(portico_proto::Session::Fastcgi(wire), tools);
        carrier.add_stream(number, id);
        self.link = Link::Stream { carrier: place, number };
        (self.readable, self.blocked, self.peer_closed) = (false, false, false);
        if self.due.is_some_and(|(deadline, _)| deadline == Deadline::Write) {
            self.due = None;
        }
        // What it takes is counted otherwise from now on.
        self.reset_write_clock();
        if let Some(flow) = &self.flow {
            flow.set_buffered(0, tools.config.response_buffer_bytes / 2);
        }
        self.await_more(true, tools);
        Some(carrier)
    }

    /// Goes on with what has come for the session that it has become.
    pub fn begin_to_carry(&mut self, tools: &mut Tools) -> Step {
        let inbox = std::mem::take(&mut self.inbox);
        self.feed_session(&inbox, tools);
        if self.flush(tools) == Step::Close { Step::Close } else { Step::Streams }
    }

    /// Whether it is a stream of FastCGI.
    pub(super) fn is_stream_of_records(&self) -> bool {
        matches!(self.link, Link::Stream { .. }) && self.protocol.reads_ahead()
    }

    /// Takes in bytes of a session.
    pub(super) fn feed_session(&mut self, bytes: &[u8], tools: &mut Tools) -> Step {
        let Link::Session(session) = &mut self.link else { return Step::Keep };
        let elapsed = tools.now.saturating_duration_since(session.received);
        session.received = tools.now;
        if let Err(violation) = session.wire.receive(bytes, elapsed, &tools.limits) {
            self.tell_violation(violation, tools);
        }
        Step::Streams
    }

    #[cold]
    fn tell_violation(&self, violation: ProtocolViolation, tools: &mut Tools) {
        tools.counters.refused += 1;
        match violation {
            ProtocolViolation::Http2(violation) => match violation.is_flood() {
                true => tools.reports.flood(self.peer, violation),
                false => log::debug!("closed the HTTP/2 connection of {}: {violation}", self.peer),
            },
            ProtocolViolation::Fastcgi(error) => {
                tools.reports.malformed_packet(self.peer, self.server.protocol.scheme(), error);
            }
        }
    }

    /// A request has been refused by resetting its stream.
    #[cold]
    pub fn note_malformed(&self, kind: ErrorKind, tools: &mut Tools) {
        tools.counters.refused += 1;
        log::debug!("reset a stream of {}: {kind}", self.peer);
    }

    /// Whether the session has a place for more bytes; `true` where there is none.
    #[inline]
    pub(super) fn session_wants_bytes(&self) -> bool {
        match &self.link {
            Link::Session(session) => session.wire.wants_bytes(),
            Link::Alone | Link::Stream { .. } => true,
        }
    }

    /// The session's next event.
    pub fn next_stream_event(&mut self, tools: &mut Tools) -> Option<SessionEvent> {
        let Link::Session(session) = &mut self.link else { return None };
        match session.wire.next_event(&tools.limits) {
            Ok(event) => event,
            Err(violation) => {
                self.tell_violation(violation, tools);
                None
            }
        }
    }

    /// Notes where stream `number` is.
    pub fn add_stream(&mut self, number: u32, id: ConnectionId) {
        if let Link::Session(session) = &mut self.link {
            session.streams.push((number, id));
            session.awaited = None;
        }
    }

    /// Where stream `number` is.
    pub fn stream(&self, number: u32) -> Option<ConnectionId> {
        match &self.link {
            Link::Session(session) => {
                let mut streams = session.streams.iter();
                streams.find(|(other, _)| *other == number).map(|(_, id)| *id)
            }
            Link::Alone | Link::Stream { .. } => None,
        }
    }

    /// Stream `number` has ended; `answered` to its end or not.
    pub fn forget_stream(&mut self, number: u32, answered: bool) {
        if let Link::Session(session) = &mut self.link {
            session.streams.retain(|(other, _)| *other != number);
            session.wire.forget(number, answered);
            self.served = self.served.saturating_add(answered.into());
        }
    }

    /// Takes out where all streams are.
    pub fn take_streams(&mut self) -> Vec<ConnectionId> {
        match &mut self.link {
            Link::Session(session) => session.streams.drain(..).map(|(_, id)| id).collect(),
            Link::Alone | Link::Stream { .. } => Vec::new(),
        }
    }

    /// Streams that it carries.
    pub fn streams_len(&self) -> usize {
        match &self.link {
            Link::Session(session) => session.streams.len(),
            Link::Alone | Link::Stream { .. } => 0,
        }
    }

    /// Whether it carries streams, or would if there were any.
    pub fn is_session(&self) -> bool {
        matches!(self.link, Link::Session(_))
    }

    /// Whether it carries no stream now.
    pub(super) fn is_without_streams(&self) -> bool {
        match &self.link {
            Link::Session(session) => session.streams.is_empty(),
            Link::Alone | Link::Stream { .. } => true,
        }
    }

    /// Has the peer begin no more streams; the session ends with those that there are.
    pub fn shut_session_down(&mut self) -> Step {
        match &mut self.link {
            Link::Session(session) => {
                session.wire.shut_down();
                Step::Streams
            }
            Link::Alone | Link::Stream { .. } => Step::Keep,
        }
    }

    /// Writes what the streams have brought up, as far as the peer takes it. [`Step::Streams`]: writing has made
    /// room for more.
    pub fn flush_session(&mut self, tools: &mut Tools) -> Step {
        // Also where there is nothing to write: streams may have waited to hear that nothing is left.
        let mut asked = false;
        let mut out = std::mem::take(&mut tools.out);
        while self.is_written() && !self.failed {
            out.clear();
            let Link::Session(session) = &mut self.link else { break };
            session.wire.output(&mut out);
            asked = true;
            if out.is_empty() {
                break;
            }
            self.write_or_keep(&out);
        }
        out.shrink_to(super::response::OUT_CAPACITY_KEPT);
        tools.out = out;
        if self.failed {
            return Step::Close;
        }
        let Link::Session(session) = &self.link else { return Step::Keep };
        if asked && session.wire.has_more() {
            return Step::Streams;
        }
        if session.streams.is_empty() && session.wire.is_at_rest() && self.is_written() {
            return self.resume_alone(tools);
        }
        self.set_session_due(tools)
    }

    /// The session carries nothing any more: what comes next is read as on any connection that is kept.
    fn resume_alone(&mut self, tools: &mut Tools) -> Step {
        let Link::Session(session) = std::mem::replace(&mut self.link, Link::Alone) else {
            return Step::Keep;
        };
        // A peer that only asks earns no time by it.
        let due = session.awaited.unwrap_or((Deadline::KeepAlive, tools.now + tools.config.keep_alive));
        self.await_next(due, tools)
    }

    /// Whether the session has said its last word.
    pub fn is_session_over(&self) -> bool {
        matches!(&self.link, Link::Session(session) if session.wire.is_closed()) && self.is_written()
    }

    /// Ends the connection after its session, which no longer has streams. The peer may not have heard yet.
    pub fn end_session(&mut self, tools: &mut Tools) -> Step {
        if let Link::Session(mut session) = std::mem::replace(&mut self.link, Link::Alone)
            && let Some(violation) = session.wire.take_fault()
        {
            self.tell_violation(violation, tools);
        }
        self.misunderstood = true;
        let step = self.begin_close(tools);
        self.due = Some((Deadline::Drain, tools.now + DRAIN_GRACE));
        step
    }

    /// Whether the session can go on reading at once.
    pub fn has_unread(&self) -> bool {
        self.readable && self.session_wants_bytes()
    }

    /// Goes on writing what the socket did not take before.
    pub(super) fn resume_session(&mut self, tools: &mut Tools) -> Step {
        if !self.is_written() {
            self.write_outbox();
        }
        match (self.failed, self.blocked) {
            (true, _) => Step::Close,
            (false, true) => self.set_session_due(tools),
            (false, false) => Step::Streams,
        }
    }

    /// What is waited for now, and how long.
    fn set_session_due(&mut self, tools: &Tools) -> Step {
        if !self.is_written() {
            if self.due.is_none_or(|(present, _)| present != Deadline::Write) {
                self.due = Some((Deadline::Write, self.await_write(tools)));
                self.release_session();
            }
            return Step::Keep;
        }
        if self.backlog.is_some() {
            self.pause_backlog(tools.now);
        }
        let Link::Session(session) = &mut self.link else { return Step::Keep };
        let config = &tools.config;
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
            let since = if idle { *session.idle_since.get_or_insert(tools.now) } else { tools.now };
            self.due = Some((deadline, since + patience));
            session.wire.release();
        }
        Step::Keep
    }

    /// Gives the memory of the session's empty buffers back.
    fn release_session(&mut self) {
        if let Link::Session(session) = &mut self.link {
            session.wire.release();
        }
    }

    /// Memory that the session takes beside its streams.
    pub(super) fn session_memory_bytes(&self) -> usize {
        match &self.link {
            Link::Session(session) => {
                let streams = session.streams.capacity() * size_of::<(u32, ConnectionId)>();
                size_of::<Session>() + streams + session.wire.memory_bytes()
            }
            Link::Alone | Link::Stream { .. } => 0,
        }
    }

    /// Notes whether the stream that has just begun was refused for want of memory; whether that were too many.
    pub fn note_stream_refused(&mut self, is_refused: bool) -> bool {
        let Link::Session(session) = &mut self.link else { return false };
        session.refused = if is_refused { session.refused.saturating_add(1) } else { 0 };
        session.refused > REFUSED_MAX
    }

    /// Ends the session at once: its peer has us hold too much.
    pub fn end_session_calm(&mut self) {
        if let Link::Session(session) = &mut self.link {
            session.wire.end_calm();
        }
    }

    /// The session's deadline has passed.
    pub(super) fn handle_session_timeout(&mut self, deadline: Deadline, tools: &Tools) -> Step {
        if deadline == Deadline::Write {
            return self.handle_write_timeout(tools);
        }
        let Link::Session(session) = &mut self.link else { return Step::Close };
        match deadline {
            // A request may be under way to us: the peer is told first.
            Deadline::KeepAlive => session.wire.shut_down(),
            Deadline::Head => {
                log::debug!("closed the connection of {}: the rest did not come in time", self.peer);
                session.wire.end();
            }
            Deadline::Handshake
            | Deadline::Body
            | Deadline::Queue
            | Deadline::Write
            | Deadline::Delivery
            | Deadline::Drain => session.wire.end(),
        }
        Step::Streams
    }
}
