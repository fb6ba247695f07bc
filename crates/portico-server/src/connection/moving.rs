//! A connection on its way to another worker: what goes along, and what is made of it there.

use std::sync::Arc;
use std::time::Instant;

use portico_net::{Server, Transport};
use portico_proto::Framing;

use super::{Connection, Deadline, EngineContext, Phase};
use crate::body::Body;
use crate::handover::{HandoverMessage, HandoverQueue, Metadata};

/// Bytes that the next owner is to take for read.
type Pieces<'a> = [&'a [u8]; 3];

impl Connection {
    /// How often the present request has been handed over.
    pub(crate) fn handover_count(&self) -> u8 {
        self.handover_count
    }

    /// Since when the present request waits, or has waited, for a thread.
    pub(crate) fn arrived(&self) -> Instant {
        self.arrived
    }

    /// The bytes that go along with a connection on which nothing but the next request, or its rest, is awaited;
    /// `None` if it is at something else.
    pub(crate) fn pack_idle(&self) -> Option<Pieces<'_>> {
        let between = self.phase == Phase::Receiving
            && self.upload.is_none()
            && self.is_sound()
            && self.protocol.keeps_nothing();
        between.then_some([&self.inbox, b"", b""])
    }

    /// The bytes that make up the request that waits for a thread, and what is behind it; `None` if it cannot be
    /// told again: its body is not in memory, or came in chunks.
    pub(crate) fn pack_request(&self) -> Option<Pieces<'_>> {
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
            && !(self.failed || self.framing_lost || self.peer_closed)
    }

    /// What is to be told of it in `lane`.
    pub(crate) fn metadata(&self, lane: HandoverQueue, listener: u32) -> Metadata {
        // Every field: one that is added must travel, or have its place among those that need not.
        let Self {
            // What was judged of the client and counted of its requests goes along.
            transport,
            peer,
            trusted,
            destination,
            served,
            handover_count,
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
            framing_lost: _,
            closing: _,
            is_cut: _,
            opening: _,
            discarded: _,
            // A call that has not begun yet, or one that has ended, is in these.
            flow: _,
            status: _,
            reason: _,
            id: _,
            response_fields: _,
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
        let (handover_count, moment) = match lane {
            HandoverQueue::Idle => (0, due.map_or(*arrived, |(_, at)| at)),
            HandoverQueue::Ready => (handover_count + 1, *arrived),
        };
        Metadata {
            peer: *peer,
            trusted: *trusted,
            is_unix: transport.is_unix(),
            destination: destination.as_deref().copied(),
            listener,
            served: *served,
            handover_count,
            moment,
        }
    }

    /// The connection that has come as `parcel`, through the listener of `server`. Its bytes are still to be used.
    pub(crate) fn unpack(
        lane: HandoverQueue,
        message: HandoverMessage<'_>,
        server: Arc<Server>,
        context: &EngineContext,
    ) -> Self {
        let HandoverMessage { socket, metadata, bytes } = message;
        let Metadata { peer, trusted, is_unix, destination, listener: _, served, handover_count, moment } =
            metadata;
        let transport = Transport::from_socket(socket, is_unix);
        let mut connection = Self {
            destination: destination.map(Arc::new),
            inbox: bytes.to_vec(),
            served,
            ..Self::with_trust(transport, peer, trusted, server, context)
        };
        match lane {
            HandoverQueue::Idle => {
                let between = served > 0 && bytes.is_empty();
                let deadline = if between { Deadline::KeepAlive } else { Deadline::Head };
                connection.due = Some((deadline, moment));
            }
            HandoverQueue::Ready => {
                (connection.handover_count, connection.arrived, connection.carried) =
                    (handover_count, moment, true);
                // It may have left meanwhile; the reactor's word comes too late for the queue.
                connection.peer_closed = connection.transport.is_peer_gone(true);
            }
        }
        connection
    }
}

#[cfg(test)]
mod tests;
