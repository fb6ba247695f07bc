//! A connection on its way to another worker: what goes along, and what is made of it there.

use std::sync::Arc;
use std::time::Instant;

use portico_net::{Server, Transport};
use portico_proto::Framing;

use super::carrier::SocketIo;
use super::{Connection, Deadline, EngineContext, Phase};
use crate::body::Body;
use crate::client::Client;
use crate::handover::{HandoverMessage, HandoverQueue, Metadata};

/// What comes with a waiting request and is not in its bytes.
#[derive(Debug)]
pub(super) struct MovedRequest {
    /// Since when it waits for a thread.
    pub(super) arrived: Instant,
    /// How often it has been handed over.
    pub(super) handover_count: u8,
}

/// Bytes that the next owner is to take for read.
type Pieces<'a> = [&'a [u8]; 3];

impl Connection {
    /// The bytes that go along with a connection on which nothing but the next request, or its rest, is awaited;
    /// `None` if it is at something else.
    pub(crate) fn pack_idle(&self) -> Option<Pieces<'_>> {
        let between = self.phase == Phase::Receiving
            && !self.has_upload()
            && self.is_sound()
            && self.protocol.keeps_nothing();
        between.then_some([&self.io.inbox, b"", b""])
    }

    /// The bytes that make up the request that waits for a thread, and what is behind it; `None` if it cannot be
    /// told again: its body is not in memory, or came in chunks.
    pub(crate) fn pack_request(&self) -> Option<Pieces<'_>> {
        let exchange = self.exchange.as_deref()?;
        let head = exchange.head().filter(|head| head.framing != Framing::Chunked)?;
        let whole = self.phase == Phase::Waiting
            && exchange.upload.is_none()
            && self.is_sound()
            && self.protocol.can_be_told_again();
        let body = exchange.body.as_ref().map_or(Some(&b""[..]), Body::in_memory).filter(|_| whole)?;
        Some([head.bytes(), body, &self.io.inbox])
    }

    fn is_sound(&self) -> bool {
        self.carrier.can_be_handed_over()
            && !self.is_session()
            && self.io.outbox.is_empty()
            && !(self.io.is_failed() || self.framing_lost || self.io.peer_closed)
    }

    /// What is to be told of it in `queue`; `None` if it is at something that does not go there.
    pub(crate) fn metadata(&self, queue: HandoverQueue, listener: u32) -> Option<Metadata> {
        // Every field: one that is added must travel, or have its place among those that need not.
        let Self {
            // What was judged of the client and counted of its requests goes along.
            carrier,
            client,
            served,
            due,
            // Of a request that waits: since when, and how often it has moved. The taker reads the rest once more,
            // and makes the same of it.
            exchange,
            phase: _,
            // Nothing is in these: `is_sound` and the two ways to pack see to that.
            protocol: _,
            io: _,
            moved: _,
            lingering: _,
            framing_lost: _,
            // This is this process' own.
            counted: _,
        } = self;
        // What else is told of a socket is between this process and the kernel.
        let SocketIo { transport, session: _, watched: _, noted: _, is_opening: _ } = carrier.socket_io()?;
        // Nothing else of a client can have been established where nothing of TLS has been spoken.
        let Client { peer, trusted, tls: _, destination, listener: _ } = &**client;
        let (handover_count, moment) = match (queue, exchange) {
            (HandoverQueue::Idle, _) => (0, due.map(|(_, at)| at)?),
            (HandoverQueue::Ready, Some(exchange)) => {
                (exchange.handover_count + 1, exchange.moments.arrived?)
            }
            (HandoverQueue::Ready, None) => return None,
        };
        Some(Metadata {
            peer: *peer,
            trusted: *trusted,
            is_unix: transport.is_unix(),
            destination: destination.as_deref().copied(),
            listener,
            served: *served,
            handover_count,
            moment,
        })
    }

    /// The connection that has come as `message`, through the listener of `server`. Its bytes are not used yet.
    pub(crate) fn unpack(
        queue: HandoverQueue,
        message: HandoverMessage<'_>,
        server: Arc<Server>,
        context: &EngineContext,
    ) -> Self {
        let HandoverMessage { socket, metadata, bytes } = message;
        let Metadata { peer, trusted, is_unix, destination, listener: _, served, handover_count, moment } =
            metadata;
        let destination = destination.map(Box::new);
        let client = Client { peer, trusted, tls: None, destination, listener: server };
        let transport = Transport::from_socket(socket, is_unix);
        let mut connection = Self { served, ..Self::of(Arc::new(client), transport, context) };
        connection.io.inbox = bytes.to_vec();
        match queue {
            HandoverQueue::Idle => {
                let between = served > 0 && bytes.is_empty();
                let deadline = if between { Deadline::KeepAlive } else { Deadline::Head };
                connection.due = Some((deadline, moment));
            }
            HandoverQueue::Ready => {
                connection.moved = Some(Box::new(MovedRequest { arrived: moment, handover_count }));
                // It may have left meanwhile; the reactor's word comes too late for the queue.
                connection.io.peer_closed = connection.carrier.is_peer_gone(true);
            }
        }
        connection
    }
}

#[cfg(test)]
mod tests;
