//! What is held in memory for clients: counting it after each piece of a connection's work, and what is done
//! when it comes to its limit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Engine;
use crate::connection::{Connection, ConnectionId, Deadline, MemoryGauge};
use crate::spool::Spools;

/// What is held for a client that goes on reading and sending is seldom more; cutting a client for less gains
/// nothing.
const HEAVY_BYTES: usize = 4 * 1024;

/// Clients that are cut in one turn.
const CUTS_MAX: usize = 256;

/// How long is waited after a look at all clients for the next: it takes time, and memory is held for long.
const RELIEF_INTERVAL: Duration = Duration::from_millis(50);

impl Engine {
    /// The files of bodies and responses.
    pub fn spools(&self) -> &Arc<Spools> {
        &self.tools.spools
    }

    /// Whether memory is scarce.
    pub fn memory_gauge(&self) -> &Arc<MemoryGauge> {
        self.tools.ledger.gauge()
    }

    /// Notes what connection `id`, which is about to work, may add to what is held for it.
    #[inline]
    pub(super) fn look_at_memory(&mut self, id: ConnectionId) {
        let owner = self.table.get(id).map_or(id.index, |connection| owner(id, connection));
        self.tools.held = self.table.held_in_all(owner);
    }

    /// Bytes that the response of connection `id` may hold.
    #[inline]
    pub(super) fn response_room(&self, id: ConnectionId, connection: &Connection) -> u32 {
        let room = self.tools.ledger.response_room(self.table.held_in_all(owner(id, connection)));
        u32::try_from(room).unwrap_or(u32::MAX)
    }

    /// Nothing is held for connection `id` any more.
    pub(super) fn forget_memory(&mut self, id: ConnectionId, connection: &Connection) {
        self.note_memory(id, connection, 0);
    }

    /// Counts what is held for connection `id`, which has worked.
    #[inline]
    pub(super) fn count_memory(&mut self, id: ConnectionId, connection: &Connection) {
        let held = connection.memory_bytes();
        if self.table.held(id.index) != held {
            self.note_memory(id, connection, held);
        }
    }

    /// Counts `bytes`, which are held for connection `id`.
    #[cold]
    fn note_memory(&mut self, id: ConnectionId, connection: &Connection, bytes: usize) {
        if let Some(before) = self.table.note_held(id.index, owner(id, connection), bytes) {
            self.tools.ledger.change(before, bytes);
        }
    }

    /// Cuts clients that are idle or have stopped reading or sending, if too much is held for all: those first
    /// whose time is over first, which have done nothing for longest.
    #[inline]
    pub(super) fn relieve_memory(&mut self) {
        if self.tools.ledger.surplus() > 0 && self.relieved_at.is_none_or(|at| self.tools.now >= at) {
            self.cut_for_memory();
        }
    }

    #[cold]
    fn cut_for_memory(&mut self) {
        self.relieved_at = Some(self.tools.now + RELIEF_INTERVAL);
        let mut stopped: Vec<(Instant, ConnectionId)> = Vec::new();
        for id in self.table.ids() {
            let Some((deadline, due)) = self.table.get(id).and_then(Connection::due) else { continue };
            let gains = match deadline {
                // Of those there may be many more than of others.
                Deadline::KeepAlive => true,
                Deadline::Handshake | Deadline::Head | Deadline::Body | Deadline::Write => {
                    self.table.held(id.index) >= HEAVY_BYTES
                }
                Deadline::Queue | Deadline::Drain => false,
            };
            if gains {
                stopped.push((due, id));
            }
        }
        stopped.sort_unstable();
        let (enough, mut cut) = (self.tools.ledger.bytes() - self.tools.ledger.surplus(), 0);
        for (_, id) in stopped.into_iter().take(CUTS_MAX) {
            if self.tools.ledger.bytes() <= enough {
                break;
            }
            self.work_on(id, |connection, _| connection.cut_for_memory());
            cut += 1;
        }
        self.write_sessions();
        if cut > 0 {
            self.tools.ledger.note_cut(cut, self.tools.now);
        }
    }
}

/// Where what is held for `connection`, whose id is `id`, is summed up.
#[inline]
fn owner(id: ConnectionId, connection: &Connection) -> u32 {
    connection.carrier().map_or(id.index, |(carrier, _)| carrier.index)
}
