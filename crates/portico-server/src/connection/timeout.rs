//! How long a client is waited for, and what becomes of it when it, or the server, is at its end.

use std::time::{Duration, Instant};

use portico_log::Reason;
use portico_net::Transport;

use super::{Connection, Deadline, EngineContext, Phase, Reply, Step};

/// How long a client that has connected and sent nothing is still listened to while the server stops.
pub(super) const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// How long a kept client that cannot be handed over is still listened to while the worker retires.
const RETIRE_GRACE: Duration = Duration::from_secs(5);

impl Connection {
    /// The deadline has passed.
    pub(crate) fn handle_timeout(&mut self, deadline: Deadline, context: &mut EngineContext) -> Step {
        self.due = None;
        if self.is_session() {
            return self.handle_session_timeout(deadline, context);
        }
        if self.is_lent() {
            return self.end_lent(context);
        }
        match deadline {
            // Bytes that came in just before are served: closing now would reset them.
            Deadline::KeepAlive | Deadline::Head | Deadline::Drain if self.is_untouched() => {
                self.io.readable = true;
                let step = self.receive(context);
                let nothing_came = step == Step::Keep && self.is_untouched();
                if nothing_came { Step::Close } else { step }
            }
            Deadline::Head | Deadline::Body | Deadline::KeepAlive => {
                self.refuse(408, "the request did not arrive in time", context)
            }
            Deadline::Write => self.handle_write_timeout(context),
            Deadline::Delivery => self.handle_delivery_timeout(context),
            Deadline::Queue => {
                self.note_reason(Reason::QueueTimeout);
                self.respond_unavailable(Reply::QueueTimeout, context)
            }
            Deadline::Work => self.handle_work_timeout(context),
            Deadline::Drain | Deadline::Handshake => Step::Close,
        }
    }

    /// The client has not taken what waits for it in the time that it had, if it has not earned more meanwhile.
    pub(super) fn handle_write_timeout(&mut self, context: &EngineContext) -> Step {
        if let Some(due) = self.extend_write(context) {
            self.due = Some((Deadline::Write, due));
            return Step::Keep;
        }
        log::debug!("cut the response to {}: it takes it too slowly", self.client.peer);
        self.note_reason(Reason::WriteTimeout);
        self.cut()
    }

    /// There is no memory left, and this client has done nothing for longest.
    pub(crate) fn cut_for_memory(&mut self, context: &mut EngineContext) -> Step {
        if self.is_idle() {
            return self.handle_timeout(Deadline::KeepAlive, context);
        }
        self.note_reason(Reason::ClientMemory);
        self.cut()
    }

    /// The server stops: closes what is idle at once, bounds what is not.
    pub(crate) fn drain(&mut self, context: &mut EngineContext) -> Step {
        if self.is_session() {
            return self.shut_session_down();
        }
        if self.phase == Phase::Lent {
            self.tell_application_to_end();
            return Step::Keep;
        }
        if self.phase != Phase::Receiving || self.has_upload() {
            return Step::Keep;
        }
        self.io.readable = true;
        let step = self.receive(context);
        if step != Step::Keep || !self.is_untouched() {
            return step;
        }
        if self.served > 0 {
            if !context.retiring || context.draining || self.carrier.can_be_handed_over() {
                return Step::Close;
            }
            // Nobody else can go on with it: its next request is its last. One that comes at this moment would be
            // lost.
            self.due = Some((Deadline::Drain, context.now + RETIRE_GRACE));
            return Step::Keep;
        }
        // A client whose connection has just been made is about to send its request. Before that may be a few ways
        // there and back.
        let grace = if self.carrier.is_opening() { RETIRE_GRACE } else { DRAIN_GRACE };
        self.due = Some((Deadline::Drain, context.now + grace));
        Step::Keep
    }

    /// Nothing of a (next) request has come.
    pub(super) fn is_untouched(&self) -> bool {
        self.phase == Phase::Receiving && self.io.inbox.is_empty() && self.protocol.is_idle()
    }
}

/// What is awaited of a client next, after a header of the PROXY protocol or a handshake.
pub(super) fn next_deadline(transport: &Transport, context: &EngineContext) -> (Deadline, Instant) {
    match (context.draining || context.retiring, transport.is_handshaking()) {
        (false, _) => first_deadline(transport, context),
        (true, true) => (Deadline::Drain, context.now + RETIRE_GRACE),
        (true, false) => (Deadline::Drain, context.now + DRAIN_GRACE),
    }
}

/// What is awaited first of a client: the end of the handshake, or the head of a request. The PROXY protocol has
/// as long as a head.
pub(super) fn first_deadline(transport: &Transport, context: &EngineContext) -> (Deadline, Instant) {
    let (deadline, time) = match transport.is_handshaking() {
        true if transport.awaits_header() => (Deadline::Handshake, context.config.head_timeout),
        true => (Deadline::Handshake, context.config.tls.handshake_timeout),
        false => (Deadline::Head, context.config.head_timeout),
    };
    (deadline, context.now + time)
}

#[cfg(test)]
mod tests;
