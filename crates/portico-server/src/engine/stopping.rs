//! How an engine comes to its end.

use std::time::Instant;

use portico_log::Reason;

use super::Engine;
use crate::connection::Connection;

/// Requests that are cut at the end and told one by one: there may be as many as clients like.
const CUT_TOLD_MAX: u32 = 32;

impl Engine {
    /// From now on every response says that it is its connection's last.
    pub(crate) fn announce_close(&mut self) {
        self.context.announcing = true;
        self.shut_sessions_down();
    }

    /// Begins to stop: takes what the kernel has accepted already, closes the listeners and what is idle, lets the
    /// rest come to its end until `until`.
    pub(crate) fn drain(&mut self, until: Instant) {
        if self.context.draining {
            return;
        }
        self.context.draining = true;
        self.drain_until = Some(until);
        self.close_shared();
        for id in self.table.ids() {
            self.work_on(id, Connection::drain);
        }
        self.write_sessions();
    }

    /// Stops at once: cuts what is still open.
    pub(crate) fn stop(&mut self) {
        // What the applications have given by now is written before their responses are cut.
        self.flush_held();
        self.context.draining = true;
        self.stopped = true;
        self.close_listeners();
        let mut everybody = self.table.ids();
        // Streams first: each is to end for this reason, and not because its session has ended.
        everybody.sort_by_key(|id| !self.is_stream(*id));
        let mut cut = 0;
        for id in everybody {
            if let Some(mut connection) = self.table.take(id) {
                connection.note_reason(Reason::ServerStopped);
                if let Some(request) = connection.current() {
                    cut += 1;
                    if cut <= CUT_TOLD_MAX {
                        log::error!("cut {request}: not finished when the server had to stop");
                    }
                }
                self.close(id, connection);
            }
        }
        if let Some(more) = cut.checked_sub(CUT_TOLD_MAX).filter(|more| *more > 0) {
            log::error!("cut {more} more requests: not finished when the server had to stop");
        }
    }

    /// Whether it has come to its end: nothing is open any more.
    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped || ((self.context.draining || self.context.retiring) && self.table.len() == 0)
    }
}
