//! Connections that the application takes over, as for WebSockets.

use std::io;
use std::os::fd::OwnedFd;

use portico_net::Interest;

use super::Engine;
use crate::connection::{Connection, ConnectionId, RequestKey, Step};

impl Engine {
    /// Gives the connection of the call `key`, which has answered nothing, to the application. Returns the
    /// application's end, which blocks.
    ///
    /// # Errors
    /// The client has left, or the call was given up; the kernel's, when descriptors have run out.
    pub(crate) fn lend_connection(&mut self, key: RequestKey) -> io::Result<OwnedFd> {
        let id = key.id;
        let connection = if self.awaits(key) { self.table.take(id) } else { None };
        let Some(mut connection) = connection else { return Err(io::ErrorKind::NotConnected.into()) };
        let lent = match connection.is_client_gone(&self.context) {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => connection.lend(&self.context),
        };
        if lent.is_ok() {
            self.watch_lent(id, &mut connection);
        }
        let step = if connection.is_lent() { Step::Again } else { Step::Keep };
        self.settle(id, connection, step);
        lent
    }

    /// The call `key`, which has taken its connection over, has ended, but the application has not closed its
    /// socket.
    pub(crate) fn end_lent_soon(&mut self, key: RequestKey) {
        if self.table.get(key.id).is_some_and(|connection| connection.is_lent_to(key.call)) {
            self.work_on(key.id, Connection::end_lent_soon);
        }
    }

    /// The call `key`, which has taken its connection over, has ended.
    pub(crate) fn end_lent(&mut self, key: RequestKey) {
        if self.table.get(key.id).is_some_and(|connection| connection.is_lent_to(key.call)) {
            self.work_on(key.id, Connection::end_lent);
        }
    }

    /// Has the reactor tell of what comes in either of the two sockets of `connection`, or in none where the
    /// application works on its only one.
    fn watch_lent(&self, id: ConnectionId, connection: &mut Connection) {
        let watched = match (connection.pair(), connection.socket()) {
            (Some(pair), _) => self.reactor.register(pair, id.token(), Interest::ReadWrite),
            (None, Some(socket)) if connection.watched().is_some() => self.reactor.deregister(socket),
            (None, _) => Ok(()),
        };
        if connection.pair().is_none() {
            connection.set_watched(None);
        }
        if let Err(error) = watched {
            self.context.reports.unwatched("a connection that the application has taken over", &error);
        }
    }
}
