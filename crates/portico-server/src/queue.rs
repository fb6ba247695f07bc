//! Complete requests that wait for a thread, in the order in which they became complete.

use std::collections::VecDeque;

use crate::connection::ConnectionId;

/// Bounded queue of connections whose request is complete.
///
/// The request itself stays with its connection, so that a client that leaves takes it along at once.
#[derive(Debug)]
pub struct Queue {
    waiting: VecDeque<ConnectionId>,
    /// Entries whose connection has gone.
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
        self.waiting.len() - self.stale
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends; `false` if the queue is full.
    pub fn push(&mut self, id: ConnectionId, exists: impl Fn(ConnectionId) -> bool) -> bool {
        if self.len() >= self.max {
            return false;
        }
        if self.stale > self.max {
            self.waiting.retain(|&id| exists(id));
            self.stale = 0;
        }
        self.waiting.push_back(id);
        true
    }

    /// The next entry; its connection may have gone, which `is_live` tells.
    pub fn pop(&mut self, is_live: impl Fn(ConnectionId) -> bool) -> Option<ConnectionId> {
        while let Some(id) = self.waiting.pop_front() {
            if is_live(id) {
                return Some(id);
            }
            self.stale = self.stale.saturating_sub(1);
        }
        None
    }

    /// Notes that a connection with a waiting request has gone.
    pub fn abandon(&mut self) {
        self.stale += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u32) -> ConnectionId {
        ConnectionId { index, generation: 0 }
    }

    #[test]
    fn takes_max_and_no_more_and_those_who_left_make_room() {
        let mut queue = Queue::new(2);
        assert!(queue.push(id(1), |_| true) && queue.push(id(2), |_| true));
        assert!(!queue.push(id(3), |_| true));
        queue.abandon();
        assert!(queue.push(id(3), |_| true));
        assert_eq!(queue.len(), 2);
        let live = |id: ConnectionId| id.index != 1;
        assert_eq!(queue.pop(live), Some(id(2)));
        assert_eq!(queue.pop(live), Some(id(3)));
        assert_eq!((queue.pop(live), queue.len()), (None, 0));
    }

    #[test]
    fn entries_of_clients_that_left_do_not_pile_up() {
        let mut queue = Queue::new(2);
        for index in 0..100 {
            assert!(queue.push(id(index), |_| false));
            queue.abandon();
            assert!(queue.waiting.len() <= 4);
        }
    }
}
