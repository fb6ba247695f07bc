//! Responses that end before their end: the application has failed within one, or given fewer bytes than it has
//! announced.
//!
//! What it has given goes out first, within the limits on slow clients. Then the connection ends so that the
//! client sees that it has not got all: by its end alone where the framing tells, else by a reset.

use std::time::Duration;

use portico_log::Reason;

use super::{Connection, Deadline, EngineContext, Phase, Step};

/// The shortest and the longest time between two looks at what the client has acknowledged. Nothing tells of it.
const LOOK_AFTER_MIN: Duration = Duration::from_millis(2);
const LOOK_AFTER_MAX: Duration = Duration::from_millis(500);

impl Connection {
    /// The response will not be complete: has what there is of it written, and the connection ended then.
    #[cold]
    pub(super) fn begin_cut(&mut self, context: &mut EngineContext) -> Step {
        if !self.protocol.head_sent() {
            return self.cut();
        }
        self.note_answered(context);
        self.end_incomplete();
        self.end_spool();
        self.flush(context)
    }

    /// Nothing follows what there is of the response.
    #[cold]
    pub(super) fn end_incomplete(&mut self) {
        self.phase = Phase::Flushing;
        let Some(exchange) = &mut self.exchange else { return };
        exchange.note_reason(Reason::Aborted);
        exchange.is_cut = true;
        if let Some(flow) = exchange.flow.take() {
            flow.set_gone();
        }
    }

    /// A file has become shorter than it was when it was announced: what follows it has no place any more.
    #[cold]
    pub(super) fn drop_behind_short_file(&mut self) {
        log::debug!("cut the response to {}: its file has become shorter", self.client.peer);
        self.io.outbox.clear();
        self.drop_spool();
        self.end_incomplete();
    }

    /// All that there is of a response that is not complete has been written.
    #[cold]
    pub(super) fn end_cut(&mut self, context: &mut EngineContext) -> Step {
        if !self.protocol.delimits_response() {
            return self.await_delivery(context);
        }
        self.begin_close(context)
    }

    /// Resets the connection, but not before the client has what was written: a reset takes away what is under
    /// way.
    fn await_delivery(&mut self, context: &mut EngineContext) -> Step {
        if self.carrier.has_delivered() {
            return self.cut();
        }
        let answered = self.exchange.as_ref().and_then(|exchange| exchange.moments.answered);
        let since = answered.unwrap_or(context.now);
        let pause = (context.now.saturating_duration_since(since) / 4).clamp(LOOK_AFTER_MIN, LOOK_AFTER_MAX);
        self.due = Some((Deadline::Delivery, self.await_write(context).min(context.now + pause)));
        Step::Keep
    }

    /// It is time to look at what the client has acknowledged.
    pub(super) fn handle_delivery_timeout(&mut self, context: &mut EngineContext) -> Step {
        let is_over = self.await_write(context) <= context.now && self.extend_write(context).is_none();
        if is_over { self.cut() } else { self.await_delivery(context) }
    }
}

#[cfg(test)]
mod tests;
