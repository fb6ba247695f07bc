//! One client: its transport, its protocol's state, what has been read and not used, what waits to be written.
//!
//! A connection works only when the engine calls it, returns what is to happen next as a [`Step`], and tells what
//! readiness it wants ([`Connection::interest`]) and how long it may take ([`Connection::due`]). It registers
//! nothing itself.

mod accel;
mod backlog;
mod carrier;
mod context;
mod cut;
pub(crate) mod deadline;
mod exchange;
mod flow;
mod gateway;
mod guards;
mod health;
mod held;
mod hosts;
mod io_state;
mod ledger;
mod lent;
mod lingering;
mod login;
mod moving;
mod opening;
mod outbox;
mod rate;
mod receive;
mod reply;
mod reports;
mod request_head;
mod response;
mod response_headers;
mod response_rules;
mod response_spool;
mod router;
mod routes;
mod session;
mod spans;
mod static_files;
mod stream_io;
mod table;
mod timeout;
mod upload;
mod work;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use portico_log::{CLIENT_GONE, Reason};
use portico_net::{Event, Interest, Progress, Server, Transport};
use portico_proto::{Peer, Protocol};

pub(crate) use context::EngineContext;
pub use context::{Recording, error_summary};
pub(crate) use deadline::Deadline;
pub(crate) use exchange::{BegunCall, nanos};
pub(crate) use flow::{Flow, Room, WaitEnd};
pub(crate) use ledger::{Ledger, MemoryGauge, MemoryLeft, ResponseShare};
pub use reply::Reply;
pub(crate) use response::{Block, ResponsePart};
pub(crate) use response_rules::{FilteredStart, ResponseRules};
pub(crate) use response_spool::ResponseSpool;
pub(crate) use router::{Decision, HttpsRedirect};
pub use routes::Routes;
pub use table::RequestKey;
pub(crate) use table::{ConnectionId, ConnectionTable};
pub(crate) use work::{Poster, Resume, WorkResult};

use crate::client::Client;
use carrier::Carrier;
use exchange::RequestExchange;
use io_state::IoState;
use lingering::Lingering;
use moving::MovedRequest;
use timeout::first_deadline;

/// One client's connection, or one stream of it: whatever carries one exchange at a time.
///
/// It is made of the client, of what carries the bytes ([`Carrier`]), of the state of reading and writing
/// ([`IoState`]) and, while there is a request, of the exchange. An idle one holds this struct and no buffer.
#[derive(Debug)]
pub(crate) struct Connection {
    client: Arc<Client>,
    carrier: Carrier,
    io: IoState,
    protocol: Protocol,
    phase: Phase,
    /// The present request and its response.
    exchange: Option<Box<RequestExchange>>,
    due: Option<(Deadline, Instant)>,
    /// Responses given.
    served: u32,
    /// What has come along with a request that another worker has handed over, until its head has been read.
    moved: Option<Box<MovedRequest>>,
    /// How far the wait after the last response has got.
    lingering: Option<Box<Lingering>>,
    /// The peer's bytes have lost their framing.
    framing_lost: bool,
    /// It is counted for its client (`--connections-per-client`).
    counted: bool,
}

/// What a connection is at.
///
/// ```text
/// Receiving ──request complete──> Waiting ──a thread is free──> Calling ─response complete─> Flushing
///     ^                                                                                       │
///     │                                                   └─taken over──> Lent ──call ended────>┤
///     ├──────────────────────────── written, kept ────────────────────────────────────────────┤
///     │ refused: Flushing                              Lingering <── written, bytes unread ───┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The next request is awaited or arriving.
    Receiving,
    /// The request waits in the queue for a thread.
    Waiting,
    /// The application makes the response.
    Calling,
    /// The application goes on with the connection itself.
    Lent,
    /// The response is complete and being written.
    Flushing,
    /// The last response is out; what the peer still sends is read and dropped.
    Lingering,
}

/// A connection that carries no request, in the order in which they are closed when descriptors run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Idleness {
    /// Its client has sent nothing yet.
    Silent,
    /// It is kept after requests.
    Kept,
}

/// What the engine is to do with a connection after it has worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wait for the next event.
    Keep,
    /// Its request is complete: queue it.
    Ready,
    /// Its request is complete, and the server itself responds.
    Respond,
    /// It is between requests, and the worker retires.
    Leave,
    /// Its session has events, or something to write.
    Streams,
    /// What follows is not of its request alone: it is to become a stream, and another to carry it.
    PromoteToSession,
    /// There is more to do at once; others first.
    Again,
    /// It has ended.
    Close,
}

impl Connection {
    /// A client that has just been accepted.
    pub(crate) fn new(
        transport: Transport,
        peer: Peer,
        listener: Arc<Server>,
        context: &EngineContext,
    ) -> Self {
        let trusted = context.policy.trusts(peer);
        let client = Client { peer, trusted, tls: None, destination: None, listener };
        Self::of(Arc::new(client), transport, context)
    }

    /// The connection of `client` by `transport`, on which nothing has been sent.
    fn of(client: Arc<Client>, transport: Transport, context: &EngineContext) -> Self {
        let due = Some(first_deadline(&transport, context));
        Self { due, ..Self::carried_by(Carrier::of(transport), client) }
    }

    /// One of `client` of which nothing is awaited yet.
    fn carried_by(carrier: Carrier, client: Arc<Client>) -> Self {
        Self {
            protocol: gateway::protocol(&client.listener),
            client,
            carrier,
            io: IoState::default(),
            phase: Phase::Receiving,
            exchange: None,
            due: None,
            served: 0,
            moved: None,
            lingering: None,
            framing_lost: false,
            counted: false,
        }
    }

    /// Its socket; `None` for a stream.
    #[inline]
    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.carrier.socket()
    }

    /// The other end.
    #[inline]
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// How long the present wait may last.
    #[inline]
    pub(crate) fn due(&self) -> Option<(Deadline, Instant)> {
        self.due
    }

    /// What to be told of.
    #[inline]
    pub(crate) fn interest(&self) -> Interest {
        let writes = self.io.is_blocked() || self.carrier.is_owing() || self.phase == Phase::Lent;
        if writes { Interest::ReadWrite } else { Interest::Read }
    }

    /// What the reactor tells of its socket; `None` before that has been watched for anything.
    #[inline]
    pub(crate) fn watched(&self) -> Option<Interest> {
        self.carrier.socket_io().and_then(|socket| socket.watched)
    }

    /// From now on the reactor tells this of its socket; `None`: nothing.
    pub(crate) fn set_watched(&mut self, interest: Option<Interest>) {
        if let Some(socket) = self.carrier.socket_io_mut() {
            socket.watched = interest;
        }
    }

    /// Whether the reactor is to tell something else of its socket than it does.
    #[inline]
    pub(crate) fn wants_watching(&self) -> bool {
        let Some(socket) = self.carrier.socket_io() else { return false };
        socket.watched != Some(self.interest()) && !(socket.watched.is_none() && self.can_go_unwatched())
    }

    /// Whether its socket is there and not watched.
    #[inline]
    pub(crate) fn is_unwatched(&self) -> bool {
        self.carrier.socket_io().is_some_and(|socket| socket.watched.is_none())
    }

    /// Whether nothing is awaited of its socket until its request has been answered, but that the peer may leave.
    #[inline]
    fn can_go_unwatched(&self) -> bool {
        let is_answered = matches!(self.phase, Phase::Waiting | Phase::Calling)
            && !self.has_upload()
            && self.interest() == Interest::Read;
        is_answered || self.is_out_of_hand()
    }

    /// Whether it goes on reading while its request waits or is answered.
    #[inline]
    pub(crate) fn reads_ahead(&self) -> bool {
        self.protocol.reads_ahead()
    }

    /// Whether something has come behind its request that may be about that.
    #[inline]
    pub(crate) fn has_ahead(&self) -> bool {
        !self.io.inbox.is_empty() && self.reads_ahead()
    }

    /// Whether something comes before its first request: a header of the PROXY protocol, a handshake.
    #[inline]
    pub(crate) fn is_opening(&self) -> bool {
        self.carrier.is_opening()
    }

    /// Whether its request waits in the queue.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.phase == Phase::Waiting
    }

    /// Responses given: the number of the present request among its own.
    #[inline]
    pub(crate) fn served(&self) -> u32 {
        self.served
    }

    /// Whether it is kept, between requests, with nothing of a next one read.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Receiving
            && self.served > 0
            && self.io.inbox.is_empty()
            && !self.has_upload()
            && self.protocol.is_idle()
            && self.is_without_streams()
    }

    /// Whether it is known whose it is, and it is no stream of another.
    pub(crate) fn knows_client(&self) -> bool {
        self.carrier.transport().is_some_and(|transport| !transport.awaits_header())
    }

    /// Whether it is among the connections that are counted for its client.
    pub(crate) fn is_counted(&self) -> bool {
        self.counted
    }

    /// It is from now on, or is not.
    pub(crate) fn set_counted(&mut self, counted: bool) {
        self.counted = counted;
    }

    /// What it has to do with requests, if nothing of one is lost when it is closed; `None` if it is at one.
    pub(crate) fn idleness(&self) -> Option<Idleness> {
        if self.is_idle() {
            return Some(Idleness::Kept);
        }
        let is_new = self.served == 0
            && self.phase == Phase::Receiving
            && !self.has_upload()
            && self.session().is_none()
            && self.is_without_streams();
        // A part of a head is about to be a request, or its deadline passes.
        (is_new && self.is_untouched()).then_some(Idleness::Silent)
    }

    /// The request that the application is answering or is to answer, for the log: method and target.
    pub(crate) fn current(&self) -> Option<String> {
        let running = matches!(self.phase, Phase::Waiting | Phase::Calling | Phase::Lent);
        let head = &self.request().filter(|_| running)?.head;
        let (method, target) = (head.method().escape_ascii(), head.target().escape_ascii());
        Some(format!("{method} {target}"))
    }

    /// Keeps `event` for [`Connection::proceed`]; whether it is the first.
    pub(crate) fn note_event(&mut self, event: Event) -> bool {
        let Some(socket) = self.carrier.socket_io_mut() else { return false };
        let first = socket.noted.is_none();
        socket.noted = Some(socket.noted.map_or(event, |noted| noted.and(event)));
        first
    }

    /// The reactor tells of the socket.
    pub(crate) fn handle_event(&mut self, event: Event, context: &mut EngineContext) -> Step {
        if self.phase == Phase::Lent {
            return self.pass_on(context);
        }
        self.io.readable |= event.readable;
        self.io.peer_closed |= event.read_closed;
        if event.failed && self.phase != Phase::Receiving {
            self.io.set_failed();
            return Step::Close;
        }
        if event.writable && self.carrier.is_owing() && self.carrier.settle() == Progress::Closed {
            self.io.set_failed();
            return Step::Close;
        }
        if event.writable && self.io.is_blocked() {
            self.io.set_blocked(false);
            let step = self.flush(context);
            if step != Step::Keep {
                return step;
            }
        }
        self.receive(context)
    }

    /// Goes on where [`Step::Again`] was returned.
    pub(crate) fn proceed(&mut self, context: &mut EngineContext) -> Step {
        if let Some(event) = self.carrier.socket_io_mut().and_then(|socket| socket.noted.take()) {
            let step = self.handle_event(event, context);
            return if step == Step::Keep && self.has_reply() { Step::Respond } else { step };
        }
        if self.has_reply() {
            return Step::Respond;
        }
        if self.phase == Phase::Lent {
            return self.pass_on(context);
        }
        if !self.io.outbox.is_empty() || self.has_unframed() {
            let step = self.flush(context);
            if step != Step::Keep {
                return step;
            }
        }
        match self.receive(context) {
            // Its streams may have more to write though nothing has come.
            Step::Keep if self.is_session() => Step::Streams,
            step => step,
        }
    }

    /// The application reads a streamed body and has room for more.
    pub(crate) fn read_more(&mut self, context: &mut EngineContext) -> Step {
        self.resume_upload(context.now);
        match self.send_continue(context) {
            Step::Keep => {
                if self.has_upload() && self.due.is_none() {
                    self.due = Some((Deadline::Body, context.now + context.config.body_timeout));
                }
                self.receive(context)
            }
            step => step,
        }
    }

    /// The call is not waited for any longer, for this reason: responds in its stead where nothing of its response
    /// has gone out, and ends the connection.
    pub(crate) fn give_up(&mut self, reason: Reason, context: &mut EngineContext) -> Step {
        self.note_reason(reason);
        if self.protocol.head_sent() {
            return self.begin_cut(context);
        }
        if let Some(exchange) = &mut self.exchange {
            (exchange.is_last, exchange.upload) = (true, None);
        }
        let reply = if reason == Reason::Cancelled { Reply::Cancelled } else { Reply::ApplicationTimeout };
        self.respond(ResponsePart::Own(reply), false, context)
    }

    /// Whether the client of the request that is being answered has left: it has closed or reset the connection
    /// or, where that does not merely end the request, its sending side.
    pub(crate) fn is_client_gone(&self, context: &EngineContext) -> bool {
        self.io.is_failed() || self.carrier.is_peer_gone(!context.config.allow_half_close)
    }

    /// Answers the waiting request with `reply`, without a call.
    pub(crate) fn respond_unavailable(&mut self, reply: Reply, context: &mut EngineContext) -> Step {
        let exchange = self.exchange_or_new();
        exchange.outcome.status = Some(CLIENT_GONE);
        exchange.note_reason(Reason::QueueFull);
        exchange.begin(context);
        self.phase = Phase::Calling;
        self.respond(ResponsePart::Own(reply), false, context)
    }

    /// The engine closes the connection: tells whoever still works for it.
    pub(crate) fn close(&mut self, context: &mut EngineContext) {
        if self.is_unfinished() {
            self.carrier.reset(); // A response that ends with the connection would look whole.
            self.note_reason(Reason::ClientGone);
        } else {
            self.carrier.end();
        }
        if let Some(exchange) = &mut self.exchange {
            if exchange.outcome.status == Some(CLIENT_GONE) {
                exchange.note_reason(Reason::ClientGone);
            }
            if let Some(flow) = exchange.flow.take() {
                flow.set_gone();
            }
        }
        self.end_exchange(context);
        self.note_failed_handshake(context);
    }

    /// Whether a response has begun and its client cannot know yet whether it has all of it.
    fn is_unfinished(&self) -> bool {
        let Some(exchange) = &self.exchange else { return false };
        let has_end =
            self.protocol.response_complete() || exchange.is_cut && self.protocol.delimits_response();
        self.protocol.head_sent() && !(has_end && self.is_written())
    }
}

#[cfg(test)]
mod tests;
