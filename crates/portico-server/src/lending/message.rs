//! Messages: what a thread that does not have the engine asks of the one that has it, and how it is answered.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use portico_log::Reason;
use portico_net::{Event, Listener, Server};

use super::Lending;
use crate::client::RequestContext;
use crate::connection::{ConnectionId, Flow, RequestKey, ResponsePart, WorkResult};
use crate::engine::{Engine, Writing};

/// A request of a thread without the engine to the thread that has it.
pub(super) enum EngineMessage {
    Adopt(UnixStream, Arc<Server>),
    AnnounceClose,
    ResponsePart(RequestKey, ResponsePart<'static>, Option<Arc<Flow>>),
    Drain(Instant),
    EndLent(RequestKey),
    EndLentSoon(RequestKey),
    Events(Vec<Event>),
    GiveUp(RequestKey, Reason),
    RequestOf(RequestKey, Arc<Query<Option<Arc<RequestContext>>>>),
    IsClientGone(RequestKey, Arc<Query<bool>>),
    LendConnection(RequestKey, Arc<Query<io::Result<OwnedFd>>>),
    Listen(Vec<Listener>),
    ReadMore(ConnectionId),
    Retire(Instant),
    Stop,
    Unlisten(Arc<Query<()>>),
    /// To be read is enough: the load is told with each laying down.
    TellLoad,
    WorkDone(WorkResult),
}

/// A question to whoever has the engine, with the place for its result. The thread that asks waits for it, but
/// never beyond the query's limit.
#[derive(Debug)]
pub(super) struct Query<T> {
    answer: Mutex<Option<T>>,
    answered: Condvar,
}

/// How long an answer is waited for. Whoever has the engine reads its messages in microseconds, unless the
/// system lets it wait.
const QUERY_MAX: Duration = Duration::from_millis(10);

/// The same where the caller cannot go on without it.
const PATIENT_QUERY_MAX: Duration = Duration::from_secs(60);

impl Lending {
    /// Leaves a message, and delivers it if the engine lies in the slot.
    pub(super) fn send(&self, message: EngineMessage) {
        if let Some(mut engine) = self.exchange.post(message) {
            engine.set_now(Instant::now());
            self.drain_mailbox(&mut engine);
            self.give_back(engine);
        }
    }

    /// Asks, and waits for the answer; but not long.
    pub(super) fn query<T>(&self, message: impl FnOnce(Arc<Query<T>>) -> EngineMessage) -> Option<T> {
        self.query_for(QUERY_MAX, message)
    }

    /// Asks, and waits for the answer for as long as it may take.
    pub(super) fn query_patiently<T>(
        &self,
        message: impl FnOnce(Arc<Query<T>>) -> EngineMessage,
    ) -> Option<T> {
        self.query_for(PATIENT_QUERY_MAX, message)
    }

    fn query_for<T>(&self, max: Duration, message: impl FnOnce(Arc<Query<T>>) -> EngineMessage) -> Option<T> {
        let query = Arc::new(Query { answer: Mutex::new(None), answered: Condvar::new() });
        self.send(message(Arc::clone(&query)));
        query.wait(max)
    }

    /// Does what the messages that have come ask for.
    #[inline]
    pub(super) fn drain_mailbox(&self, engine: &mut Engine) {
        if self.exchange.has_messages() {
            self.drain_messages(engine);
        }
    }

    #[cold]
    fn drain_messages(&self, engine: &mut Engine) {
        for message in self.exchange.collect() {
            match message {
                EngineMessage::Adopt(stream, server) => engine.adopt(stream, server),
                EngineMessage::AnnounceClose => engine.announce_close(),
                EngineMessage::ResponsePart(key, part, flow) => {
                    engine.set_now(Instant::now()); // The exchange may end with it.
                    let length = part.copied_bytes();
                    let alive = engine.respond(key, part, Writing::AtOnce);
                    if let Some(flow) = flow {
                        flow.deliver(length);
                        if !alive {
                            flow.set_gone(); // The connection may have ended before it knew of the flow.
                        }
                    }
                }
                EngineMessage::Drain(until) => engine.drain(until),
                EngineMessage::EndLent(key) => engine.end_lent(key),
                EngineMessage::EndLentSoon(key) => engine.end_lent_soon(key),
                EngineMessage::Events(events) => {
                    events.into_iter().for_each(|event| engine.note_event(event))
                }
                EngineMessage::GiveUp(key, reason) => engine.give_up(key, reason),
                EngineMessage::RequestOf(key, query) => query.answer(engine.request_of(key)),
                EngineMessage::IsClientGone(key, query) => query.answer(engine.is_client_gone(key)),
                EngineMessage::LendConnection(key, query) => query.answer(engine.lend_connection(key)),
                EngineMessage::Listen(listeners) => engine.listen(listeners),
                EngineMessage::ReadMore(id) => engine.read_more(id),
                EngineMessage::Retire(until) => engine.retire(until),
                EngineMessage::Stop => engine.stop(),
                EngineMessage::TellLoad => {}
                EngineMessage::Unlisten(query) => {
                    engine.unlisten();
                    query.answer(());
                }
                EngineMessage::WorkDone(result) => engine.take_result(result),
            }
        }
    }
}

impl<T> Query<T> {
    /// Answers.
    fn answer(&self, answer: T) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        self.answered.notify_one();
    }

    fn wait(&self, max: Duration) -> Option<T> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.answered.wait_timeout_while(answer, max, |answer| answer.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }
}
