//! Letters: what a thread that does not have the engine asks of the one that has it, and how it is answered.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use portico_proto::RequestHead;

use super::Lending;
use crate::application::Server;
use crate::connection::{Answer, ConnectionId, Flow, RequestKey};
use crate::engine::{Engine, Writing};
use crate::listener::Listener;
use crate::reactor::Event;

/// What a thread without the engine asks of the one that has it.
pub(super) enum Letter {
    Adopt(UnixStream, Arc<Server>),
    AnnounceClose,
    Answer(RequestKey, Answer<'static>, Option<Arc<Flow>>),
    Drain(Instant),
    EndLent(RequestKey),
    EndLentSoon(RequestKey),
    Events(Vec<Event>),
    GiveUp(RequestKey),
    HeadOf(RequestKey, Arc<Inquiry<Option<Arc<RequestHead>>>>),
    IsClientGone(RequestKey, Arc<Inquiry<bool>>),
    LendConnection(RequestKey, Arc<Inquiry<io::Result<OwnedFd>>>),
    Listen(Vec<Listener>),
    ReadMore(ConnectionId),
    Retire(Instant),
    Stop,
    /// To be read is enough: the load is told with each laying down.
    TellLoad,
}

/// A question to whoever has the engine.
#[derive(Debug)]
pub(super) struct Inquiry<T> {
    answer: Mutex<Option<T>>,
    answered: Condvar,
}

/// How long an answer is waited for. Whoever has the engine reads its letters in microseconds, unless the
/// system lets it wait.
const INQUIRY_MAX: Duration = Duration::from_millis(10);

/// The same where the caller cannot go on without it.
const PATIENT_INQUIRY_MAX: Duration = Duration::from_secs(60);

impl Lending {
    /// Leaves a letter, and delivers it if the engine lies in the slot.
    pub(super) fn send(&self, letter: Letter) {
        if let Some(mut engine) = self.exchange.post(letter) {
            engine.set_now(Instant::now());
            self.deliver(&mut engine);
            self.give_back(engine);
        }
    }

    /// Asks, and waits for the answer; but not long.
    pub(super) fn inquire<T>(&self, letter: impl FnOnce(Arc<Inquiry<T>>) -> Letter) -> Option<T> {
        self.inquire_for(INQUIRY_MAX, letter)
    }

    /// Asks, and waits for the answer for as long as it may take.
    pub(super) fn inquire_patiently<T>(&self, letter: impl FnOnce(Arc<Inquiry<T>>) -> Letter) -> Option<T> {
        self.inquire_for(PATIENT_INQUIRY_MAX, letter)
    }

    fn inquire_for<T>(&self, max: Duration, letter: impl FnOnce(Arc<Inquiry<T>>) -> Letter) -> Option<T> {
        let inquiry = Arc::new(Inquiry { answer: Mutex::new(None), answered: Condvar::new() });
        self.send(letter(Arc::clone(&inquiry)));
        inquiry.wait(max)
    }

    /// Does what the letters that have come ask for.
    #[inline]
    pub(super) fn deliver(&self, engine: &mut Engine) {
        if self.exchange.has_letters() {
            self.deliver_all(engine);
        }
    }

    #[cold]
    fn deliver_all(&self, engine: &mut Engine) {
        for letter in self.exchange.collect() {
            match letter {
                Letter::Adopt(stream, server) => engine.adopt(stream, server),
                Letter::AnnounceClose => engine.announce_close(),
                Letter::Answer(key, answer, flow) => {
                    if engine.tells_times() {
                        engine.set_now(Instant::now());
                    }
                    let length = answer.copied_bytes();
                    let alive = engine.answer(key, answer, Writing::AtOnce);
                    if let Some(flow) = flow {
                        flow.deliver(length);
                        if !alive {
                            flow.set_gone(); // The connection may have ended before it knew of the flow.
                        }
                    }
                }
                Letter::Drain(until) => engine.drain(until),
                Letter::EndLent(key) => engine.end_lent(key),
                Letter::EndLentSoon(key) => engine.end_lent_soon(key),
                Letter::Events(events) => events.into_iter().for_each(|event| engine.note_event(event)),
                Letter::GiveUp(key) => engine.give_up(key),
                Letter::HeadOf(key, inquiry) => inquiry.answer(engine.head_of(key)),
                Letter::IsClientGone(key, inquiry) => inquiry.answer(engine.is_client_gone(key)),
                Letter::LendConnection(key, inquiry) => inquiry.answer(engine.lend_connection(key)),
                Letter::Listen(listeners) => engine.listen(listeners),
                Letter::ReadMore(id) => engine.read_more(id),
                Letter::Retire(until) => engine.retire(until),
                Letter::Stop => engine.stop(),
                Letter::TellLoad => {}
            }
        }
    }
}

impl<T> Inquiry<T> {
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
