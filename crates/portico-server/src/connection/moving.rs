//! A connection on its way to another worker: what goes along, and what is made of it there.

use std::sync::Arc;
use std::time::Instant;

use portico_proto::Framing;

use super::{Connection, Deadline, Phase};
use crate::body::Body;
use crate::handover::{Label, Lane};

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
        let (hops, moment) = match lane {
            Lane::Idle => (0, self.due.map_or(self.arrived, |(_, at)| at)),
            Lane::Ready => (self.hops + 1, self.arrived),
        };
        let destination = self.destination.as_deref().copied();
        Label { peer: self.peer, destination, listener, served: self.served, hops, moment }
    }

    /// Makes of a new connection the one that has come with this label and these bytes, which are still to be
    /// used.
    pub fn unpack(&mut self, lane: Lane, label: &Label, bytes: &[u8]) {
        self.inbox = bytes.to_vec();
        self.served = label.served;
        self.destination = label.destination.map(Arc::new);
        match lane {
            Lane::Idle => {
                let between = label.served > 0 && bytes.is_empty();
                let deadline = if between { Deadline::KeepAlive } else { Deadline::Head };
                self.due = Some((deadline, label.moment));
            }
            Lane::Ready => {
                (self.hops, self.arrived, self.carried) = (label.hops, label.moment, true);
                // It may have left meanwhile; the reactor's word comes too late for the queue.
                self.peer_closed = self.transport.is_peer_gone(true);
            }
        }
    }
}
