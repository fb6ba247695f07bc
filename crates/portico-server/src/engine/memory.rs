//! What is held in memory for clients: counting it after each piece of a connection's work, and what is done
//! when it comes to its limit.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Engine;
use crate::connection::{Connection, ConnectionId, Deadline, MemoryGauge, ResponseShare};
use crate::heap;
use crate::spool::Spools;

/// Clients that are cut in one turn.
const CUTS_MAX: usize = 256;

/// The same for want of files: each may have many.
const FILE_CUTS_MAX: usize = 4;

/// How long is waited after a look at all clients for the next: it takes time, and memory is held for long.
const RELIEF_INTERVAL: Duration = Duration::from_millis(50);

/// How long after the heap has been trimmed it is not again.
const TRIM_INTERVAL: Duration = Duration::from_millis(10);

impl Engine {
    /// The files of bodies and responses.
    pub(crate) fn spools(&self) -> &Arc<Spools> {
        &self.context.spools
    }

    /// Whether memory is scarce.
    pub(crate) fn memory_gauge(&self) -> &Arc<MemoryGauge> {
        self.context.ledger.gauge()
    }

    /// Notes what connection `id`, which is about to take something in, may add to what is held for it.
    #[inline]
    pub(super) fn look_at_memory(&mut self, id: ConnectionId) {
        let session = self.table.get(id).and_then(Connection::session).map(|(session, _)| session);
        let owner = session.map_or(id.index, |session| session.index);
        self.context.held = self.table.held_in_all(owner);
        self.context.may_spool = self.may_spool(owner);
        self.context.sharers = 1;
        if let Some(session) = session {
            let streams = self.table.get(session).map_or(0, Connection::streams_len);
            self.context.sharers = streams.max(1) as u64;
        }
    }

    fn may_spool(&self, owner: u32) -> bool {
        self.table.files_in_all(owner) < self.context.spools.files_per_connection()
    }

    /// What the response of connection `id` may hold.
    #[inline]
    pub(super) fn response_share(&self, id: ConnectionId, connection: &Connection) -> ResponseShare {
        let owner = owner(id, connection);
        let room = self.context.ledger.response_room(self.table.held_in_all(owner));
        let memory_bytes = u32::try_from(room).unwrap_or(u32::MAX);
        ResponseShare { memory_bytes, may_spool: self.may_spool(owner) }
    }

    /// Nothing is held for connection `id` any more.
    pub(super) fn forget_memory(&mut self, id: ConnectionId, connection: &Connection) {
        self.note_memory(id, connection, 0);
        self.table.note_files(id.index, owner(id, connection), 0);
    }

    /// Counts what is held for connection `id`, which has worked.
    #[inline]
    pub(super) fn count_memory(&mut self, id: ConnectionId, connection: &Connection) {
        let held = connection.memory_bytes();
        if self.table.held(id.index) != held {
            self.note_memory(id, connection, held);
            self.table.note_files(id.index, owner(id, connection), connection.files());
        }
    }

    /// Counts `bytes`, which are held for connection `id`.
    #[cold]
    fn note_memory(&mut self, id: ConnectionId, connection: &Connection, bytes: usize) {
        if let Some(before) = self.table.note_held(id.index, owner(id, connection), bytes) {
            self.context.ledger.change(before, bytes);
        }
    }

    /// Cuts clients that have stopped reading or sending, or are idle, if too much is held for all in memory or
    /// in files.
    #[inline]
    pub(super) fn relieve(&mut self) {
        let short = self.context.ledger.surplus() > 0 || self.context.spools.is_short();
        if short && self.relieved_at.is_none_or(|at| self.context.now >= at) {
            self.cut_holders();
        }
        if self.context.ledger.has_let_go_of_much() && self.trim_at.is_none_or(|at| self.context.now >= at) {
            self.trim_heap();
        }
    }

    #[cold]
    fn trim_heap(&mut self) {
        self.trim_at = Some(self.context.now + TRIM_INTERVAL);
        self.context.ledger.note_trimmed();
        heap::trim_apart();
    }

    /// Cuts those first for whom most is held that cannot leave memory, or who have most files; of those with as
    /// much, who has least time left. A connection is cut as a whole: its streams are one client's.
    #[cold]
    fn cut_holders(&mut self) {
        self.relieved_at = Some(self.context.now + RELIEF_INTERVAL);
        let mut holders = self.holders();
        let surplus = self.context.ledger.surplus();
        let mut cut = 0;
        if surplus > 0 {
            let enough = self.context.ledger.bytes() - surplus;
            holders.sort_unstable_by_key(|holder| (holder.is_idle, Reverse(holder.bytes), holder.due));
            for holder in holders.iter().take(CUTS_MAX) {
                if self.context.ledger.bytes() <= enough {
                    break;
                }
                cut += u64::from(self.cut(holder.id));
            }
        }
        if self.context.spools.is_short() {
            holders.retain(|holder| holder.files > 0);
            holders.sort_unstable_by_key(|holder| (Reverse(holder.files), holder.due));
            for holder in holders.iter().take(FILE_CUTS_MAX) {
                cut += u64::from(self.cut(holder.id));
            }
        }
        self.write_sessions();
        if cut > 0 {
            self.context.ledger.note_cut(cut, self.context.now);
        }
    }

    /// `false` if it has gone already.
    fn cut(&mut self, id: ConnectionId) -> bool {
        let is_there = self.table.get(id).is_some();
        self.work_on(id, Connection::cut_for_memory);
        is_there
    }

    /// The connections whose client has stopped, or is idle.
    fn holders(&self) -> Vec<Holder> {
        let mut holders: HashMap<u32, Holder> = HashMap::new();
        for id in self.table.ids() {
            let Some(connection) = self.table.get(id) else { continue };
            let session = connection.session().map(|(session, _)| session);
            let (owner, due) = (session.unwrap_or(id), connection.due());
            let stopped = match due.map(|(deadline, _)| deadline) {
                Some(Deadline::Handshake | Deadline::Head | Deadline::Body | Deadline::Write) => true,
                Some(Deadline::KeepAlive) => false,
                Some(Deadline::Queue | Deadline::Work | Deadline::Delivery | Deadline::Drain) | None
                    if session.is_none() && !connection.is_session() =>
                {
                    continue;
                }
                Some(Deadline::Queue | Deadline::Work | Deadline::Delivery | Deadline::Drain) | None => false,
            };
            let new = Holder { id: owner, bytes: 0, files: 0, due: None, is_idle: true };
            let holder = holders.entry(owner.index).or_insert(new);
            holder.bytes += self.table.held(id.index).saturating_sub(connection.response_bytes());
            holder.files = self.table.files_in_all(owner.index);
            holder.is_idle &= !stopped;
            if stopped || session.is_none() {
                holder.due = holder.due.into_iter().chain(due.map(|(_, at)| at)).min();
            }
        }
        // A session whose streams all wait for a thread, or are answered, has not stopped.
        holders.into_values().filter(|holder| holder.due.is_some()).collect()
    }
}

/// A connection that holds memory or files, as candidates are compared for being cut when there is too much. It is
/// made for one comparison and keeps no connection alive.
#[derive(Clone, Copy, Debug)]
struct Holder {
    id: ConnectionId,
    /// Of memory, for it and its streams, but for what could go to files.
    bytes: usize,
    files: u32,
    /// When the first of what it is waited for is over.
    due: Option<Instant>,
    /// It carries no request.
    is_idle: bool,
}

/// Where what is held for `connection`, whose id is `id`, is summed up.
#[inline]
fn owner(id: ConnectionId, connection: &Connection) -> u32 {
    connection.session().map_or(id.index, |(session, _)| session.index)
}
