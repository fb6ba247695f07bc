//! A connection on its way to another worker: what goes along, and what is made of it there.

use std::sync::Arc;
use std::time::Instant;

use portico_proto::Framing;

use super::{Connection, Deadline, Phase, Tools};
use crate::application::Server;
use crate::body::Body;
use crate::handover::{Label, Lane, Parcel};
use crate::transport::Transport;

/// Bytes that the next owner is to take for read.
type Pieces<'a> = [&'a [u8]; 3];

impl Connection {
    /// How often the present request has been handed over.
    pub fn hops(&self) -> u8 {
        self.hops
    }

    /// Since when the present request waits, or has waited, for a thread.
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// The bytes that go along with a connection on which nothing but the next request, or its rest, is awaited;
    /// `None` if it is at something else.
    pub fn pack_idle(&self) -> Option<Pieces<'_>> {
        let between = self.phase == Phase::Receiving
            && self.upload.is_none()
            && self.is_sound()
            && self.protocol.keeps_nothing();
        between.then_some([&self.inbox, b"", b""])
    }

    /// The bytes that make up the request that waits for a thread, and what is behind it; `None` if it cannot be
    /// told again: its body is not in memory, or came in chunks.
    pub fn pack_request(&self) -> Option<Pieces<'_>> {
        let head = self.head.as_ref().filter(|head| head.framing != Framing::Chunked)?;
        let whole = self.phase == Phase::Waiting
            && self.upload.is_none()
            && self.is_sound()
            && self.protocol.can_be_told_again();
        let body = self.body.as_ref().map_or(Some(&b""[..]), Body::in_memory).filter(|_| whole)?;
        Some([head.bytes(), body, &self.inbox])
    }

    fn is_sound(&self) -> bool {
        self.transport.can_be_handed_over()
            && !self.is_session()
            && self.outbox.is_empty()
            && !(self.failed || self.misunderstood || self.peer_closed)
    }

    /// What is to be told of it in `lane`.
    pub fn label(&self, lane: Lane, listener: u32) -> Label {
        // Every field: one that is added must travel, or have its place among those that need not.
        let Self {
            // What was judged of the client and counted of its requests goes along.
            transport,
            peer,
            trusted,
            destination,
            served,
            hops,
            arrived,
            due,
            // So does the listener, by its number.
            server: _,
            // The taker reads what has been read once more, and makes the same of it.
            inbox: _,
            head: _,
            head_bytes: _,
            forwarded: _,
            body: _,
            phase: _,
            // Nothing is in these: `is_sound` and the two ways to pack see to that.
            tls: _,
            protocol: _,
            link: _,
            outbox: _,
            backlog: _,
            lent: _,
            upload: _,
            blocked: _,
            peer_closed: _,
            failed: _,
            misunderstood: _,
            closing: _,
            is_cut: _,
            opening: _,
            discarded: _,
            // A call that has not begun yet, or one that has ended, is in these.
            flow: _,
            status: _,
            reason: _,
            id: _,
            answer_fields: _,
            begun: _,
            answered: _,
            call: _,
            body_bytes: _,
            // These are this process' own, or between it and the kernel.
            counted: _,
            carried: _,
            watched: _,
            noted: _,
            readable: _,
        } = self;
        let (hops, moment) = match lane {
            Lane::Idle => (0, due.map_or(*arrived, |(_, at)| at)),
            Lane::Ready => (hops + 1, *arrived),
        };
        Label {
            peer: *peer,
            trusted: *trusted,
            is_unix: transport.is_unix(),
            destination: destination.as_deref().copied(),
            listener,
            served: *served,
            hops,
            moment,
        }
    }

    /// The connection that has come as `parcel`, through the listener of `server`. Its bytes are still to be used.
    pub fn unpack(lane: Lane, parcel: Parcel<'_>, server: Arc<Server>, tools: &Tools) -> Self {
        let Parcel { socket, label, bytes } = parcel;
        let Label { peer, trusted, is_unix, destination, listener: _, served, hops, moment } = label;
        let transport = Transport::from_socket(socket, is_unix);
        let mut connection = Self {
            destination: destination.map(Arc::new),
            inbox: bytes.to_vec(),
            served,
            ..Self::with_trust(transport, peer, trusted, server, tools)
        };
        match lane {
            Lane::Idle => {
                let between = served > 0 && bytes.is_empty();
                let deadline = if between { Deadline::KeepAlive } else { Deadline::Head };
                connection.due = Some((deadline, moment));
            }
            Lane::Ready => {
                (connection.hops, connection.arrived, connection.carried) = (hops, moment, true);
                // It may have left meanwhile; the reactor's word comes too late for the queue.
                connection.peer_closed = connection.transport.is_peer_gone(true);
            }
        }
        connection
    }
}

#[cfg(test)]
mod tests;
