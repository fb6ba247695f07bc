//! Which sockets the reactor watches: all but those of requests that are about to be answered.

use std::io;

use super::Engine;
use crate::connection::{Connection, ConnectionId};

impl Engine {
    /// Has the reactor tell of what `connection` wants to be told of.
    pub(super) fn watch(&self, id: ConnectionId, connection: &mut Connection) -> io::Result<()> {
        let interest = connection.interest();
        if let Some(socket) = connection.socket() {
            match connection.watched() {
                Some(_) => self.reactor.reregister(socket, id.token(), interest)?,
                None => self.reactor.register(socket, id.token(), interest)?,
            }
        }
        connection.set_watched(Some(interest));
        Ok(())
    }

    /// Whether a connection may be unwatched whose request came with it.
    pub(crate) fn has_unwatched(&self) -> bool {
        !self.unwatched.is_empty()
    }

    /// Watches all connections. One that is answered and closed before spares the kernel both ends of the watch.
    pub(crate) fn watch_all(&mut self) {
        for id in std::mem::take(&mut self.unwatched) {
            if let Some(mut connection) = self.table.take(id) {
                if connection.is_unwatched()
                    && !connection.is_lent()
                    && let Err(error) = self.watch(id, &mut connection)
                {
                    self.context.reports.unwatched("a connection", &error);
                    self.close(id, connection);
                    continue;
                }
                self.table.put_back(id, connection);
            }
        }
    }
}
