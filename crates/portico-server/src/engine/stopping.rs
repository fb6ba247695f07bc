//! How an engine comes to its end.

use std::time::Instant;

use super::Engine;
use crate::access_log::Reason;
use crate::connection::Connection;

impl Engine {
    /// From now on every answer says that it is its connection's last.
    pub fn announce_close(&mut self) {
        self.tools.announcing = true;
        self.shut_sessions_down();
    }

    /// Begins to stop: takes what the kernel has accepted already, closes the listeners and what is idle, lets the
    /// rest come to its end until `until`.
    pub fn drain(&mut self, until: Instant) {
        if self.tools.draining {
            return;
        }
        self.tools.draining = true;
        self.drain_until = Some(until);
        self.close_shared();
        for id in self.table.ids() {
            self.work_on(id, Connection::drain);
        }
        self.write_sessions();
    }

    /// Stops at once: cuts what is still open.
    pub fn stop(&mut self) {
        self.tools.draining = true;
        self.stopped = true;
        self.close_listeners();
        let mut everybody = self.table.ids();
        // Streams first: each is to end for this reason, and not because its session has ended.
        everybody.sort_by_key(|id| !self.is_stream(*id));
        for id in everybody {
            if let Some(mut connection) = self.table.take(id) {
                connection.note_reason(Reason::ServerStopped);
                if let Some(request) = connection.current() {
                    log::error!("cut {request}: not finished when the server had to stop");
                }
                self.close(id, connection);
            }
        }
    }

    /// Whether it has come to its end: nothing is open any more.
    pub fn is_stopped(&self) -> bool {
        self.stopped || ((self.tools.draining || self.tools.retiring) && self.table.len() == 0)
    }
}
