//! Complete requests that wait for a thread, in the order in which they became complete.

use std::collections::VecDeque;

use crate::connection::ConnectionId;

/// A connection and which of its requests waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The connection.
    pub id: ConnectionId,
    /// Requests answered before this one.
    pub served: u32,
}

/// Bounded queue of connections whose request is complete.
///
/// The request itself stays with its connection, so that a client that leaves takes it along at once.
#[derive(Debug)]
pub struct Queue {
    waiting: VecDeque<Ticket>,
    /// Entries whose request has gone.
    stale: usize,
    max: usize,
}

impl Queue {
    /// A queue for `max` requests.
    pub fn new(max: usize) -> Self {
        Self { waiting: VecDeque::new(), stale: 0, max }
    }

    /// Number of requests that wait.
    pub fn len(&self) -> usize {
        self.waiting.len().saturating_sub(self.stale)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends; `false` if the queue is full.
    pub fn push(&mut self, ticket: Ticket, is_live: impl Fn(Ticket) -> bool) -> bool {
        if self.len() >= self.max {
            return false;
        }
        if self.stale > self.max {
            self.waiting.retain(|&ticket| is_live(ticket));
            self.stale = 0;
        }
        self.waiting.push_back(ticket);
        true
    }

    /// The next entry; its request may have gone, which `is_live` tells.
    pub fn pop(&mut self, is_live: impl Fn(Ticket) -> bool) -> Option<ConnectionId> {
        while let Some(ticket) = self.waiting.pop_front() {
            if is_live(ticket) {
                return Some(ticket.id);
            }
            self.stale = self.stale.saturating_sub(1);
        }
        None
    }

    /// All entries in their order, also those whose request has gone.
    pub fn iter(&self) -> impl Iterator<Item = Ticket> {
        self.waiting.iter().copied()
    }

    /// Notes that a waiting request has gone.
    pub fn abandon(&mut self) {
        self.stale += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(index: u32) -> Ticket {
        Ticket { id: ConnectionId { index, generation: 0 }, served: 0 }
    }

    #[test]
    fn takes_max_and_no_more_and_those_who_left_make_room() {
        let mut queue = Queue::new(2);
        assert!(queue.push(ticket(1), |_| true) && queue.push(ticket(2), |_| true));
        assert!(!queue.push(ticket(3), |_| true));
        queue.abandon();
        assert!(queue.push(ticket(3), |_| true));
        assert_eq!(queue.len(), 2);
        let live = |ticket: Ticket| ticket.id.index != 1;
        assert_eq!(queue.pop(live), Some(ticket(2).id));
        assert_eq!(queue.pop(live), Some(ticket(3).id));
        assert_eq!((queue.pop(live), queue.len()), (None, 0));
    }

    #[test]
    fn entries_of_clients_that_left_do_not_pile_up() {
        let mut queue = Queue::new(2);
        for index in 0..100 {
            assert!(queue.push(ticket(index), |_| false));
            queue.abandon();
            assert!(queue.waiting.len() <= 4);
        }
    }
}
