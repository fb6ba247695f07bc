//! The thread that sends spans: it alone speaks with the collector, and nobody waits for it.
//!
//! While there is no span it sleeps, and costs nothing. With the first one it lets others gather for a moment.
//! What a collector does not take is tried again, dropped and counted by the rules of `retry.rs`.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use portico_config::{CollectorUrl, TraceSettings};
use portico_log::{Occurrences, RandomBlocks};
use portico_metrics::{Counter, Metrics};

use crate::collector::Collector;
use crate::export::{Envelope, PartialSuccess, shown, status_message};
use crate::http::Response;
use crate::queue::{SpanBatch, SpanQueue};
use crate::retry::{ExportOutcome, RetryDecision, RetryState, outcome_of};

/// What the engine and the sender share.
#[derive(Debug, Default)]
pub(crate) struct SenderState {
    queue: Mutex<SpanQueue>,
    /// The sender sleeps until it is woken.
    pub asleep: AtomicBool,
    /// The worker ends, and everything is to be over by then.
    pub end: Arc<OnceLock<Instant>>,
}

/// The sender's thread.
pub(crate) struct SpanSender {
    state: Arc<SenderState>,
    url: CollectorUrl,
    gzip: bool,
    envelope: Envelope,
    collector: Collector,
    backoff: RetryState,
    random: RandomBlocks,
    metrics: Metrics<'static>,
    reports: FailureReports,
}

/// What has been told of failures, so that it is told within bounds.
#[derive(Debug, Default)]
struct FailureReports {
    failures: Occurrences,
    drops: Occurrences,
    rejections: Occurrences,
    warnings: Occurrences,
    /// Spans that were dropped and have not been told.
    untold: u64,
    /// Spans that were dropped since the collector began to fail.
    meanwhile: u64,
    /// The log's last word is that it fails.
    is_failing: bool,
}

/// How long spans gather after the first one.
const GATHER: Duration = Duration::from_secs(1);

/// How often, while a batch waits for its next attempt, spans that found no room are counted.
const COUNT_EACH: Duration = Duration::from_secs(1);

impl SenderState {
    /// The queue, for a moment.
    pub(crate) fn lock(&self) -> MutexGuard<'_, SpanQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ending(&self) -> bool {
        self.end.get().is_some()
    }
}

impl SpanSender {
    /// The sender to the collector of these settings.
    ///
    /// # Errors
    /// There is no certificate to trust.
    pub(crate) fn new(
        settings: &TraceSettings,
        state: Arc<SenderState>,
        metrics: Metrics<'static>,
    ) -> io::Result<Self> {
        let collector = Collector::new(settings.clone(), Arc::clone(&state.end))?;
        Ok(Self {
            state,
            url: settings.collector.clone(),
            gzip: settings.gzip,
            envelope: Envelope::new(&settings.resource),
            collector,
            backoff: RetryState::default(),
            random: RandomBlocks::new(),
            metrics,
            reports: FailureReports::default(),
        })
    }

    /// Sends until the worker ends.
    pub(crate) fn run(mut self) {
        loop {
            self.count_unroomed();
            let is_ending = self.state.is_ending();
            if !is_ending {
                self.gather();
            }
            let batch = self.state.lock().take();
            match batch {
                Some(batch) => self.deliver(batch),
                None if is_ending => break,
                None => {}
            }
        }
        self.count_unroomed();
        self.reports.tell_untold();
        self.collector.close();
    }

    /// Waits for the first span, and then for more.
    fn gather(&self) {
        self.state.asleep.store(true, Ordering::SeqCst);
        // What came before `asleep` was set has seen nobody asleep: look once more.
        while self.state.lock().is_empty() && !self.state.is_ending() {
            thread::park();
            self.state.asleep.store(true, Ordering::SeqCst);
        }
        self.state.asleep.store(false, Ordering::SeqCst);
        let until = Instant::now() + GATHER;
        self.wait(until, |state| state.lock().has_full());
    }

    /// Waits until then, for the worker's end, or until `is_over`.
    fn wait(&self, until: Instant, is_over: impl Fn(&SenderState) -> bool) {
        while !self.state.is_ending() && !is_over(&self.state) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::park_timeout(left);
        }
    }

    /// Sends `batch`, however often that takes, or drops it.
    fn deliver(&mut self, batch: SpanBatch) {
        let spans = batch.spans();
        let message = self.message(&batch);
        drop(batch);
        loop {
            let outcome = self.attempt(&message, spans);
            let [jitter, ..] = self.random.next_block();
            match self.backoff.handle(&outcome, jitter) {
                RetryDecision::Done => return,
                RetryDecision::Drop => {
                    self.drop_spans(spans);
                    return self.pause(Instant::now() + self.backoff.pause_after_drop());
                }
                RetryDecision::Wait(_) if self.state.is_ending() => {
                    self.drop_spans(spans);
                    return self.drop_rest();
                }
                RetryDecision::Wait(pause) => self.pause(Instant::now() + pause),
            }
        }
    }

    /// The message with the spans of `batch`, compressed if it is to be.
    fn message(&self, batch: &SpanBatch) -> Vec<u8> {
        let message = self.envelope.message(batch);
        if !self.gzip {
            return message;
        }
        // Spans are so much alike that the fastest level makes a tenth of them.
        let mut encoder = GzEncoder::new(Vec::with_capacity(message.len() / 4), Compression::fast());
        // Writing to memory does not fail.
        encoder.write_all(&message).and_then(|()| encoder.finish()).unwrap_or_default()
    }

    /// Waits, while others go on adding spans.
    fn pause(&mut self, until: Instant) {
        while Instant::now() < until && !self.state.is_ending() {
            self.wait(until.min(Instant::now() + COUNT_EACH), |_| false);
            self.count_unroomed();
        }
    }

    /// Sends the message once.
    fn attempt(&mut self, message: &[u8], spans: u64) -> ExportOutcome {
        match self.collector.post(message) {
            Ok(response) => self.handle_response(&response, spans),
            Err(error) => {
                self.tell_failure(&error.to_string());
                ExportOutcome::Later { after: None }
            }
        }
    }

    fn handle_response(&mut self, response: &Response, spans: u64) -> ExportOutcome {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let outcome = outcome_of(response.status, response.retry_after.as_deref(), now);
        if outcome != ExportOutcome::Delivered {
            let problem = problem_of(response);
            self.tell_failure(&problem);
            return outcome;
        }
        let said =
            PartialSuccess::read(&response.body).ok().filter(|_| response.is_protobuf).unwrap_or_default();
        // It cannot have rejected more than it was sent.
        let rejected = said.rejected.min(spans);
        self.metrics.add(Counter::SpansSent, spans - rejected);
        self.tell_recovery();
        if rejected > 0 {
            self.metrics.add(Counter::SpansDropped, rejected);
            if let Some(times) = self.reports.rejections.note() {
                log::warn!(
                    "traces: the collector at {} has rejected {rejected} of {spans} spans: {:?}{times}",
                    self.url,
                    said.message
                );
            }
        } else if !said.message.is_empty()
            && let Some(times) = self.reports.warnings.note()
        {
            log::warn!("traces: the collector at {} warns: {:?}{times}", self.url, said.message);
        }
        outcome
    }

    /// Counts the spans that have found no room in the queue.
    fn count_unroomed(&mut self) {
        let dropped = self.state.lock().take_dropped();
        if dropped > 0 {
            self.drop_spans(dropped);
        }
    }

    /// Counts what nobody will try again as the worker ends.
    fn drop_rest(&mut self) {
        loop {
            let Some(batch) = self.state.lock().take() else { return };
            self.drop_spans(batch.spans());
        }
    }

    fn drop_spans(&mut self, spans: u64) {
        self.metrics.add(Counter::SpansDropped, spans);
        self.reports.untold += spans;
        self.reports.meanwhile += spans;
        if self.reports.drops.note().is_some() {
            self.reports.tell_untold();
        }
    }

    fn tell_failure(&mut self, problem: &str) {
        let Some(times) = self.reports.failures.note() else { return };
        self.reports.is_failing = true;
        log::warn!("traces: the collector at {} {problem}{times}", self.url);
    }

    fn tell_recovery(&mut self) {
        if std::mem::take(&mut self.reports.is_failing) {
            let FailureReports { meanwhile, untold, .. } = &mut self.reports;
            let lost = std::mem::take(meanwhile);
            *untold = 0;
            log::info!("traces: the collector at {} takes spans; {lost} were dropped before", self.url);
        }
    }
}

impl FailureReports {
    /// Tells how many spans were dropped since that was told last.
    fn tell_untold(&mut self) {
        if self.untold > 0 {
            let spans = std::mem::take(&mut self.untold);
            log::warn!("traces: {spans} spans were dropped, because the collector did not take them");
        }
    }
}

/// What is wrong with a response, and what an operator may look at: the end of a sentence that begins with the
/// collector.
fn problem_of(response: &Response) -> String {
    let hint = match response.status {
        300..=399 => " (redirects are not followed; name the address that it leads to)",
        401 | 403 => " (its credentials are a header, in OTEL_EXPORTER_OTLP_HEADERS)",
        404 | 405 => " (OTLP over HTTP has the path /v1/traces as a rule)",
        413 => " (its limit on requests is below 1 MiB)",
        _ => "",
    };
    let text = if response.is_protobuf { status_message(&response.body) } else { None };
    let said = text.map(|text| format!(": {:?}", shown(text.as_bytes()))).unwrap_or_default();
    format!("has answered {}{said}{hint}", response.status)
}

#[cfg(test)]
mod tests;
