//! What the access log is told of a request.

use std::time::Instant;

use portico_log::{AccessRecord, Reason, RequestId, Times};

use super::{Connection, EngineContext};

impl Connection {
    /// Notes the beginning of the present request's call, for the access log.
    pub(super) fn begin_record(&mut self, context: &mut EngineContext) {
        self.begun = Some(context.now);
        if let Some(head) = &self.head {
            self.id = context.id_of(head, self.trusted || head.is_gateway());
        }
    }

    /// Notes why the present exchange ends otherwise than with the application's whole response: the first reason
    /// counts.
    pub(crate) fn note_reason(&mut self, reason: Reason) {
        self.reason.get_or_insert(reason);
    }

    /// Notes the end of the present request in the access log.
    pub(super) fn finish_record(&mut self, context: &mut EngineContext) {
        if context.access_log.is_some()
            && let Some(status) = self.status
        {
            self.log(status, context);
        }
        (self.head, self.head_bytes, self.id, self.forwarded) = (None, 0, RequestId::None, None);
        (self.status, self.reason, self.begun, self.answered) = (None, None, None, None);
    }

    fn log(&mut self, status: u16, context: &mut EngineContext) {
        let client = self.forwarded.as_ref().and_then(|forwarded| forwarded.client());
        let moment = context.moment();
        let Some(log) = &context.access_log else { return };
        let times = self.begun.filter(|_| log.needs_times()).map(|begun| {
            let nanos = |from: Instant, to: Instant| to.saturating_duration_since(from).as_nanos() as u64;
            let answered = self.answered.unwrap_or(context.now);
            // As a rule no time goes there.
            Times {
                queue: if self.arrived == begun { 0 } else { nanos(self.arrived, begun) },
                application: nanos(begun, answered),
                write: if answered == context.now { 0 } else { nanos(answered, context.now) },
            }
        });
        log.push(&AccessRecord {
            head: self.head.as_deref(),
            peer: client.as_ref().unwrap_or(&self.peer),
            server_name: &self.server.name,
            server_port: &self.server.port,
            moment,
            status,
            body_bytes: self.body_bytes.saturating_sub(self.outbox.unsent_bytes()),
            id: &self.id,
            times,
            reason: self.reason,
            response_fields: &self.response_fields,
        });
        self.response_fields.clear();
    }
}
