//! The engine's end: begins spans, and gives them away when they have ended.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use portico_config::{TraceParents, TraceSampler, TraceSettings};
use portico_metrics::Metrics;
use portico_proto::TraceContext;

use crate::ids::Ids;
use crate::sampling::is_sampled;
use crate::sender::{SenderState, SpanSender};
use crate::span::{ServerSpan, SpanContext};

/// Where an engine has its spans from and where they go. Dropping it sends what is left, within a bound.
pub struct Tracer {
    ids: Ids,
    sampler: TraceSampler,
    parents: TraceParents,
    state: Arc<SenderState>,
    thread: Option<JoinHandle<()>>,
}

/// How long the end of a worker waits for the collector: its last spans are there by then, or are dropped.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// What the thread has beyond that to count what it drops.
const END_GRACE: Duration = Duration::from_millis(500);

impl Tracer {
    /// Starts the sender. To be called after the last fork: a thread does not survive one, and two processes with
    /// the same state would make the same ids.
    ///
    /// # Errors
    /// There is no certificate to trust, or the kernel has no thread.
    pub fn open(settings: &TraceSettings, metrics: Metrics<'static>) -> io::Result<Self> {
        let state = Arc::new(SenderState::default());
        let sender = SpanSender::new(settings, Arc::clone(&state), metrics)?;
        let thread = thread::Builder::new().name("portico-otlp".into()).spawn(move || sender.run())?;
        Ok(Self {
            ids: Ids::default(),
            sampler: settings.sampler,
            parents: settings.parents,
            state,
            thread: Some(thread),
        })
    }

    /// The place in a trace of a request that has come with this `traceparent`, from a peer that is trusted or
    /// not.
    pub fn begin(&mut self, traceparent: Option<&[u8]>, is_trusted: bool) -> SpanContext {
        let is_heard = is_trusted || self.parents == TraceParents::Any;
        let parent = traceparent.filter(|_| is_heard).and_then(TraceContext::parse);
        let span_id = self.ids.span_id();
        match parent {
            Some(parent) => {
                let is_sampled = is_sampled(self.sampler, Some(&parent), &parent.trace_id);
                SpanContext { own: parent.child(span_id, is_sampled), parent: Some(parent.span_id) }
            }
            None => {
                let trace_id = self.ids.trace_id();
                let is_sampled = is_sampled(self.sampler, None, &trace_id);
                SpanContext { own: TraceContext::root(trace_id, span_id, is_sampled), parent: None }
            }
        }
    }

    /// Gives a span away that has ended. It is dropped, and counted, if there is no room.
    pub fn push(&self, span: &ServerSpan<'_>) {
        let is_full = self.state.lock().push(span);
        if is_full || self.state.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        self.state.asleep.store(false, Ordering::SeqCst);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let begun = Instant::now();
        let _ = self.state.end.set(begun + FLUSH_TIMEOUT);
        self.wake();
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() && begun.elapsed() < FLUSH_TIMEOUT + END_GRACE {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("sampler", &self.sampler).finish_non_exhaustive()
    }
}
