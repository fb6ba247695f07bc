//! All connections of one engine, each in a numbered place.
//!
//! slotmap (1.1) has such keys, but looks up by whole keys alone: deadlines, and the sums of what is held, name a
//! place by its index. Its generation takes all 32 bits, of which the reactor's token needs one for other sources.

use super::Connection;
use super::deadline::Timer;

/// Names one connection for as long as the process lives: its place, and how many held the place before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId {
    /// Place in the table.
    pub index: u32,
    /// Below 2^31, so that a token leaves its highest bit to other sources.
    pub generation: u32,
}

impl ConnectionId {
    /// The reactor's token for this connection.
    pub(crate) fn token(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The connection that `token` was made from.
    #[inline]
    pub(crate) fn from_token(token: u64) -> Self {
        Self { index: token as u32, generation: (token >> 32) as u32 }
    }
}

/// Names one call of the application: the request that it answers, and no other one of the same connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    pub(crate) id: ConnectionId,
    /// Which of the engine's calls, from 1 on.
    pub(crate) call: u64,
}

/// The connections. Whoever works on one takes it out and puts it back, so that the rest of the engine stays at
/// hand meanwhile.
#[derive(Debug, Default)]
pub(crate) struct ConnectionTable {
    places: Vec<TableSlot>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct TableSlot {
    generation: u32,
    /// Bytes of memory that are held for the connection itself, and for it with its streams.
    held: u32,
    held_in_all: u32,
    occupied: bool,
    /// Temporary files, counted likewise.
    files: u8,
    files_in_all: u16,
    timer: Timer,
    connection: Option<Box<Connection>>,
}

impl ConnectionTable {
    /// Number of connections.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Sets a place aside for a new connection; [`ConnectionTable::put_back`] fills it.
    pub(crate) fn reserve(&mut self) -> ConnectionId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(TableSlot::default());
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[index as usize];
        place.occupied = true;
        ConnectionId { index, generation: place.generation }
    }

    /// Takes a connection out to work on it; `None` if it has been closed.
    pub(crate) fn take(&mut self, id: ConnectionId) -> Option<Box<Connection>> {
        let place = self.places.get_mut(id.index as usize)?;
        if place.generation == id.generation { place.connection.take() } else { None }
    }

    /// Puts a connection back into its place.
    pub(crate) fn put_back(&mut self, id: ConnectionId, connection: Box<Connection>) {
        self.places[id.index as usize].connection = Some(connection);
    }

    /// Looks at a connection.
    #[inline]
    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        let place = self.places.get(id.index as usize)?;
        if place.generation == id.generation { place.connection.as_deref() } else { None }
    }

    /// Whether the request that waited when the connection had answered `served` others still waits.
    #[inline]
    pub(crate) fn awaits_thread(&self, id: ConnectionId, served: u32) -> bool {
        self.get(id).is_some_and(|connection| connection.is_waiting() && connection.served() == served)
    }

    /// Gives the place of a connection that was taken out, or never put in, to the next one.
    pub(crate) fn release(&mut self, id: ConnectionId) {
        let place = &mut self.places[id.index as usize];
        debug_assert!(place.occupied && place.generation == id.generation);
        place.connection = None;
        place.occupied = false;
        place.generation = (place.generation + 1) & (u32::MAX >> 1);
        place.timer.clear();
        self.free.push(id.index);
    }

    /// Notes that `bytes` are held for the connection at `index`, which is one of those of the connection at
    /// `owner`: of itself, or of who carries it. Returns what was noted before, if it is something else.
    #[inline]
    pub(crate) fn note_held(&mut self, index: u32, owner: u32, bytes: usize) -> Option<usize> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut self.places[index as usize].held, bytes);
        if before == bytes {
            return None;
        }
        let in_all = &mut self.places[owner as usize].held_in_all;
        *in_all = in_all.saturating_add(bytes).saturating_sub(before);
        Some(before as usize)
    }

    /// Notes that `count` temporary files are kept for the connection at `index`, as in
    /// [`ConnectionTable::note_held`].
    pub(crate) fn note_files(&mut self, index: u32, owner: u32, count: u8) {
        let before = std::mem::replace(&mut self.places[index as usize].files, count);
        let in_all = &mut self.places[owner as usize].files_in_all;
        *in_all = in_all.saturating_add(count.into()).saturating_sub(before.into());
    }

    /// Temporary files that are kept for the connection at `index` and its streams.
    #[inline]
    pub(crate) fn files_in_all(&self, index: u32) -> u32 {
        self.places.get(index as usize).map_or(0, |place| place.files_in_all.into())
    }

    /// What is held for the connection at `from` is from now on held for the one at `to`, which carries it.
    pub(crate) fn move_held(&mut self, from: u32, to: u32) {
        let moved = std::mem::take(&mut self.places[from as usize].held_in_all);
        self.places[to as usize].held_in_all += moved;
        let moved = std::mem::take(&mut self.places[from as usize].files_in_all);
        self.places[to as usize].files_in_all += moved;
    }

    /// Bytes held for the connection at `index` and its streams.
    #[inline]
    pub(crate) fn held_in_all(&self, index: u32) -> usize {
        self.places.get(index as usize).map_or(0, |place| place.held_in_all as usize)
    }

    /// Bytes held for the connection at `index` itself.
    #[inline]
    pub(crate) fn held(&self, index: u32) -> usize {
        self.places.get(index as usize).map_or(0, |place| place.held as usize)
    }

    /// The timer of a place.
    #[inline]
    pub(crate) fn timer(&mut self, index: u32) -> &mut Timer {
        &mut self.places[index as usize].timer
    }

    /// Who sits at `index`, if anybody.
    pub(crate) fn occupant(&self, index: u32) -> Option<ConnectionId> {
        let place = self.places.get(index as usize)?;
        place.occupied.then_some(ConnectionId { index, generation: place.generation })
    }

    /// Everybody.
    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        (0..self.places.len() as u32).filter_map(|index| self.occupant(index)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_for_streams_is_held_for_who_carries_them() {
        let mut table = ConnectionTable::default();
        let (session, stream) = (table.reserve().index, table.reserve().index);
        assert_eq!(table.note_held(session, session, 100), Some(0));
        assert_eq!(table.note_held(session, session, 100), None);
        assert_eq!(table.note_held(stream, session, 50), Some(0));
        assert_eq!(table.note_held(stream, session, 20), Some(50));
        assert_eq!((table.held_in_all(session), table.held(session), table.held(stream)), (120, 100, 20));
        assert_eq!(table.held_in_all(stream), 0);
        table.move_held(session, stream);
        assert_eq!((table.held_in_all(session), table.held_in_all(stream)), (0, 120));
    }

    #[test]
    fn a_place_is_used_again_under_another_name() {
        let mut table = ConnectionTable::default();
        let first = table.reserve();
        table.release(first);
        let second = table.reserve();
        assert_eq!((first.index, table.len()), (second.index, 1));
        assert_ne!(first, second);
        assert!(table.take(first).is_none());
        assert_eq!(table.occupant(second.index), Some(second));
        assert_eq!(ConnectionId::from_token(second.token()), second);
    }
}
