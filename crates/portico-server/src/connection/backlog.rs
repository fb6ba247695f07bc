//! What there is of a response beyond what its client takes at once: a spool file, and how long the client has
//! to take it. Most exchanges never have one; a session has one for all its streams.

use std::sync::Arc;
use std::time::Instant;

use portico_proto::Part;

use super::rate::{RateClock, RateLimits};
use super::{Connection, EngineContext, Phase, ResponseSpool};

/// The part of a response, or of all that a session sends, that its client takes slowly.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Bytes that the transport has taken since there is this backlog.
    written: u64,
    clock: Option<RateClock>,
    spool: Option<Arc<ResponseSpool>>,
    /// The response is complete with what the spool has.
    ends: bool,
}

/// Streams of one connection that its client is to take at the minimum rate each; with more it is the same: a
/// browser that asks for a hundred things over a slow line is not to be cut.
const SHARERS_MAX: u64 = 8;

/// Bytes that are framed at once of what waits in a file.
const FRAMED_BYTES_MAX: u64 = 512 * 1024;

impl Connection {
    /// Whether a part of the response waits in a file, or its end behind that.
    #[inline]
    pub(super) fn has_spooled(&self) -> bool {
        self.backlog().is_some_and(|backlog| backlog.spool.is_some())
    }

    /// What the client does not take at once of the present response or, of a session, of all its streams.
    #[inline]
    pub(super) fn backlog(&self) -> Option<&Backlog> {
        match &self.exchange {
            Some(exchange) => exchange.backlog.as_deref(),
            None => self.carrier.session()?.backlog.as_deref(),
        }
    }

    #[inline]
    fn backlog_mut(&mut self) -> Option<&mut Backlog> {
        match &mut self.exchange {
            Some(exchange) => exchange.backlog.as_deref_mut(),
            None => self.carrier.session_mut()?.backlog.as_deref_mut(),
        }
    }

    /// The backlog, which begins here if there is none. `None` where nothing is sent to the client any more.
    fn backlog_or_new(&mut self) -> Option<&mut Backlog> {
        let place = match &mut self.exchange {
            Some(exchange) => Some(&mut exchange.backlog),
            None => self.carrier.session_mut().map(|session| &mut session.backlog),
        };
        place.map(|place| &mut **place.get_or_insert_default())
    }

    /// The application has stored a part of its response in `spool`.
    pub(super) fn set_spool(&mut self, spool: Arc<ResponseSpool>) {
        if let Some(backlog) = self.backlog_or_new() {
            backlog.spool = Some(spool);
        }
    }

    /// The response ends with what its spool has.
    pub(super) fn end_after_spool(&mut self, context: &EngineContext) {
        self.note_answered(context);
        self.phase = Phase::Flushing;
        if let Some(backlog) = self.backlog_mut() {
            backlog.ends = true;
        }
    }

    /// What the spool has is the last of the response, where there is one.
    pub(super) fn end_spool(&mut self) {
        if let Some(backlog) = self.backlog_mut().filter(|backlog| backlog.spool.is_some()) {
            backlog.ends = true;
        }
    }

    /// Nothing more is taken of the spool.
    pub(super) fn drop_spool(&mut self) {
        if let Some(backlog) = self.backlog_mut() {
            (backlog.spool, backlog.ends) = (None, false);
        }
    }

    /// Frames the next bytes of the spool, if all before them is written.
    pub(super) fn draw_from_spool(&mut self) {
        while self.io.outbox.is_empty()
            && let Some(exchange) = &mut self.exchange
            && let Some(backlog) = &mut exchange.backlog
            && let Some(spool) = &backlog.spool
        {
            let Some((offset, count)) = spool.available(FRAMED_BYTES_MAX) else {
                if !std::mem::take(&mut backlog.ends) {
                    break;
                }
                backlog.spool = None;
                if exchange.is_cut {
                    break;
                }
                self.protocol.send(Part::End, self.io.outbox.buffer());
                if !self.protocol.response_complete() {
                    self.end_incomplete();
                }
                break;
            };
            let taken = self.protocol.splice(count, self.io.outbox.buffer());
            if taken > 0 {
                self.io.outbox.push_spooled(Arc::clone(spool), offset, taken);
            }
            // Of what is beyond the announced length nothing is sent.
            spool.take(if taken > 0 { taken } else { count });
            exchange.outcome.body_bytes += taken;
        }
    }

    /// Writes what waits, and the next part of the spool behind it.
    #[cold]
    pub(super) fn write_spooled(&mut self) {
        // Twice, so that the end of a response does not wait for another turn.
        for _ in 0..2 {
            self.draw_from_spool();
            if !self.is_written() && !self.io.is_failed() {
                self.write_outbox();
            }
            if !self.is_written() || !self.has_unframed() {
                break;
            }
        }
    }

    /// Whether there is more in the spool to be framed at once.
    pub(super) fn has_unframed(&self) -> bool {
        // Asked so, and not whether it is drained: where there is nothing, the application is to tell of more.
        let spool = self.backlog().and_then(|backlog| Some((backlog.spool.as_ref()?, backlog.ends)));
        spool.is_some_and(|(spool, ends)| ends || spool.available(1).is_some())
    }

    /// The transport has taken `count` bytes.
    #[inline]
    pub(super) fn note_written(&mut self, count: u64) {
        if let Some(backlog) = self.backlog_mut() {
            backlog.written += count;
        }
    }

    /// Bytes wait for the client: until when they may.
    pub(super) fn await_write(&mut self, context: &EngineContext) -> Instant {
        let acknowledged = self.acknowledged();
        let Some(backlog) = self.backlog_or_new() else { return context.now + context.config.write_timeout };
        let new = || RateClock::new(acknowledged, context.now, limits(context));
        backlog.clock.get_or_insert_with(new).resume(context.now)
    }

    /// Nothing waits for the client but what is still in the spool, if that is so.
    #[cold]
    pub(super) fn pause_backlog(&mut self, now: Instant) -> bool {
        if self.has_unframed() {
            return true;
        }
        if let Some(clock) = self.backlog_mut().and_then(|backlog| backlog.clock.as_mut()) {
            clock.pause(now);
        }
        false
    }

    /// The client's time to take what waits for it may be over: until when it has more.
    pub(super) fn extend_write(&mut self, context: &EngineContext) -> Option<Instant> {
        let acknowledged = self.acknowledged();
        let clock = self.backlog_mut()?.clock.as_mut()?;
        clock.extend(acknowledged, context.now, limits(context))
    }

    /// What the client acknowledges is measured in another way from now on.
    pub(super) fn reset_write_clock(&mut self) {
        if let Some(backlog) = self.backlog_mut() {
            backlog.clock = None;
        }
    }

    /// What the client has acknowledged; only differences count.
    fn acknowledged(&self) -> i64 {
        let written = self.backlog().map_or(0, |backlog| backlog.written);
        self.carrier.acknowledged(written)
    }
}

fn limits(context: &EngineContext) -> RateLimits {
    // Streams of one connection earn by what all of them take; a few more are to be worth more.
    let rate_min = context.config.response_rate_min * context.sharers.clamp(1, SHARERS_MAX);
    RateLimits { timeout: context.config.write_timeout, rate_min }
}

#[cfg(test)]
mod tests;
