//! The seam: what the engine hands to an application and what it asks of one.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use portico_log::RequestId;
use portico_proto::RequestHead;

use super::responder::Responder;
use crate::body::Body;
use crate::client::RequestContext;
use crate::connection::RequestKey;

/// A program that answers requests. The gateway to Python implements it; tests and benches implement it in Rust.
pub trait Application: Send + Sync + 'static {
    /// Answers one request through `responder`, on the calling thread. Called on at most `threads` threads at
    /// once, always the same ones. A panic costs the request, not the process.
    fn call(&self, request: Request, responder: Responder);

    /// Runs `wait`, which may block or does work that is not the application's: the place to let go of what the
    /// thread holds for the application (Python's interpreter). Called on the threads that call `call`, both
    /// between calls and, by the [`Responder`] and the [`Body`], within one.
    fn blocking(&self, wait: &mut (dyn FnMut() + Send)) {
        wait();
    }

    /// Whether several calls can compute at the same moment. With Python's global lock only one does.
    fn computes_in_parallel(&self) -> bool {
        false
    }

    /// Where the time of the calling thread's calls is counted; asked once, when the thread begins. Bit 0 is set
    /// by the application while a call runs, and taken back by the lending, which adds the call's nanoseconds to
    /// the other bits. Of a call that was given up it does neither.
    fn busy_word(&self) -> Option<&'static AtomicU64> {
        None
    }

    /// As [`Application::blocking`], for a wait for the client within a call: `wait` may run on another thread,
    /// while the calling one does other work of the application's.
    fn await_client(&self, wait: Box<dyn FnOnce() + Send>) {
        let mut wait = Some(wait);
        self.blocking(&mut || wait.take().into_iter().for_each(|wait| wait()));
    }
}

/// A complete request: its head and sender, and its body buffered (or, where streaming is set, arriving).
pub struct Request {
    /// Names it, among all that the server ever hands out.
    pub key: RequestKey,
    /// Its head, and who has sent it.
    pub context: Arc<RequestContext>,
    /// Its id.
    pub id: RequestId,
    /// The body.
    pub body: Body,
    /// How long it has waited for a thread, in nanoseconds.
    pub queued_nanos: u64,
    /// When the thread began with it.
    pub begun: Instant,
    /// How long the thread has then waited for the interpreter; `None` where it has not let go of it, or that
    /// was not measured.
    pub interpreter_wait: Option<InterpreterWait>,
}

/// A wait for the interpreter that was measured.
#[derive(Clone, Copy, Debug)]
pub struct InterpreterWait {
    /// How long it was.
    pub wait: Duration,
    /// For how many it stands.
    pub weight: u64,
}

impl Request {
    /// The head.
    #[inline]
    pub fn head(&self) -> &RequestHead {
        &self.context.head
    }
}
