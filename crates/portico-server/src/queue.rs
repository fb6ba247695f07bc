//! Complete requests that wait for a thread: first come, first served, but one connection's many do not all
//! come before another's one.
//!
//! The queue serves one round after the other, and the round in service takes no newcomers. A request goes into
//! the next one, or later: a connection that carries several (HTTP/2, FastCGI) has at most one in each round. So
//! a hundred streams of one connection delay everybody else by one request, while connections that carry one
//! request at a time are served in the order in which they have come.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::connection::ConnectionId;

/// A connection and which of its requests waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// The connection.
    pub id: ConnectionId,
    /// Requests answered before this one.
    pub served: u32,
    /// The connection that carries it together with others, if it is a stream.
    pub session: Option<ConnectionId>,
}

/// Bounded queue of connections whose request is complete.
///
/// The request itself stays with its connection, so that a client that leaves takes it along at once.
#[derive(Debug)]
pub(crate) struct Queue {
    /// Number of the round in service.
    serving: u64,
    current: VecDeque<Ticket>,
    next: VecDeque<Ticket>,
    /// The rounds after the next: of connections that have several requests waiting.
    later: BTreeMap<u64, VecDeque<Ticket>>,
    /// The last round in which a connection that carries several requests has one.
    last_rounds: HashMap<ConnectionId, u64>,
    /// Entries in all rounds.
    entries: usize,
    /// Those whose request has gone.
    stale: usize,
    max: usize,
}

/// The outcome of adding a request to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It waits.
    Waits,
    /// It waits in place of this one, whose connection has others that wait before it.
    Displaced(Ticket),
    /// The queue is full.
    Refused,
}

impl Queue {
    /// A queue for `max` requests.
    pub(crate) fn new(max: usize) -> Self {
        let (current, next, later) = (VecDeque::new(), VecDeque::new(), BTreeMap::new());
        Self { serving: 0, current, next, later, last_rounds: HashMap::new(), entries: 0, stale: 0, max }
    }

    /// Number of requests that wait.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entries.saturating_sub(self.stale)
    }

    /// Whether none waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a request. A full queue takes it only in place of one that would be served in a later round.
    pub(crate) fn push(&mut self, ticket: Ticket, is_live: impl Fn(Ticket) -> bool) -> Admission {
        let mut admission = Admission::Waits;
        if self.len() >= self.max {
            match self.displace(self.round_for(ticket), &is_live) {
                Some(displaced) => admission = Admission::Displaced(displaced),
                None => return Admission::Refused,
            }
        }
        if self.stale > self.max {
            self.remove_stale(&is_live);
        }
        self.entries += 1;
        match ticket.session {
            // With nobody else there a round would begin by this one and end.
            None if self.entries == 1 => self.current.push_back(ticket),
            None => self.next.push_back(ticket),
            Some(session) => self.push_stream(session, ticket),
        }
        admission
    }

    fn push_stream(&mut self, session: ConnectionId, ticket: Ticket) {
        let round = self.round_for(ticket);
        self.last_rounds.insert(session, round);
        if round == self.serving + 1 {
            self.next.push_back(ticket);
        } else {
            self.later.entry(round).or_default().push_back(ticket);
        }
    }

    /// The round into which a request goes.
    fn round_for(&self, ticket: Ticket) -> u64 {
        let last = ticket.session.and_then(|session| self.last_rounds.get(&session));
        last.map_or(0, |last| last + 1).max(self.serving + 1)
    }

    /// Takes out the request that would be served last, if that is after `round`.
    #[cold]
    fn displace(&mut self, round: u64, is_live: impl Fn(Ticket) -> bool) -> Option<Ticket> {
        loop {
            let mut entry = self.later.last_entry().filter(|entry| *entry.key() > round)?;
            let Some(ticket) = entry.get_mut().pop_back() else {
                entry.remove();
                continue;
            };
            self.entries -= 1;
            if let Some(session) = ticket.session {
                self.forget_last(session);
            }
            if is_live(ticket) {
                return Some(ticket);
            }
            self.stale = self.stale.saturating_sub(1);
        }
    }

    /// The last request of connection `session` has been taken out.
    fn forget_last(&mut self, session: ConnectionId) {
        let last = self
            .rounds()
            .rev()
            .find(|(_, tickets)| tickets.iter().any(|ticket| ticket.session == Some(session)));
        match last.map(|(round, _)| round) {
            Some(round) => self.last_rounds.insert(session, round),
            None => self.last_rounds.remove(&session),
        };
    }

    /// The rounds and their numbers.
    fn rounds(&self) -> impl DoubleEndedIterator<Item = (u64, &VecDeque<Ticket>)> {
        let later = self.later.iter().map(|(&round, tickets)| (round, tickets));
        [(self.serving, &self.current), (self.serving + 1, &self.next)].into_iter().chain(later)
    }

    /// The next entry; its request may have gone, which `is_live` tells.
    #[inline]
    pub(crate) fn pop(&mut self, is_live: impl Fn(Ticket) -> bool) -> Option<ConnectionId> {
        if self.entries == 0 { None } else { self.pop_entry(is_live) }
    }

    fn pop_entry(&mut self, is_live: impl Fn(Ticket) -> bool) -> Option<ConnectionId> {
        loop {
            while let Some(ticket) = self.current.pop_front() {
                self.entries -= 1;
                if let Some(session) = ticket.session {
                    self.leave_round(session);
                }
                if is_live(ticket) {
                    return Some(ticket.id);
                }
                self.stale = self.stale.saturating_sub(1);
            }
            if self.entries == 0 {
                return None;
            }
            self.begin_round();
        }
    }

    /// Begins to serve the next round. The one in service is empty.
    fn begin_round(&mut self) {
        std::mem::swap(&mut self.current, &mut self.next);
        self.serving += 1;
        if !self.later.is_empty()
            && let Some(round) = self.later.remove(&(self.serving + 1))
        {
            self.next = round;
        }
    }

    /// A request of connection `session` has left the round in service.
    fn leave_round(&mut self, session: ConnectionId) {
        if self.last_rounds.get(&session).is_some_and(|last| *last <= self.serving) {
            self.last_rounds.remove(&session);
        }
    }

    /// The first entry of each round.
    pub(crate) fn firsts(&self) -> impl Iterator<Item = Ticket> {
        self.rounds().filter_map(|(_, tickets)| tickets.front().copied())
    }

    /// All entries in their order, also those whose request has gone.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Ticket> {
        self.rounds().flat_map(|(_, tickets)| tickets).copied()
    }

    /// Notes that a waiting request has gone.
    pub(crate) fn abandon(&mut self) {
        self.stale += 1;
    }

    #[cold]
    fn remove_stale(&mut self, is_live: impl Fn(Ticket) -> bool) {
        let rounds = [&mut self.current, &mut self.next].into_iter().chain(self.later.values_mut());
        rounds.for_each(|round| round.retain(|&ticket| is_live(ticket)));
        self.later.retain(|_, round| !round.is_empty());
        self.entries = self.iter().count();
        self.stale = 0;
        let carriers = self.rounds().flat_map(|(round, tickets)| {
            tickets.iter().filter_map(move |ticket| Some((ticket.session?, round)))
        });
        self.last_rounds = carriers.collect();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(index: u32) -> ConnectionId {
        ConnectionId { index, generation: 0 }
    }

    fn ticket(index: u32) -> Ticket {
        Ticket { id: id(index), served: 0, session: None }
    }

    /// Stream `index` of connection `session`.
    fn stream(session: u32, index: u32) -> Ticket {
        Ticket { session: Some(id(session)), ..ticket(index) }
    }

    fn order(queue: &mut Queue) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop(|_| true)).map(|id| id.index).collect()
    }

    #[test]
    fn takes_max_and_no_more_and_those_who_left_make_room() {
        let mut queue = Queue::new(2);
        assert_eq!([1, 2].map(|index| queue.push(ticket(index), |_| true)), [Admission::Waits; 2]);
        assert_eq!(queue.push(ticket(3), |_| true), Admission::Refused);
        queue.abandon();
        assert_eq!(queue.push(ticket(3), |_| true), Admission::Waits);
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
            let ticket = if index % 2 == 0 { ticket(index) } else { stream(1000, index) };
            assert_eq!(queue.push(ticket, |_| false), Admission::Waits);
            queue.abandon();
            assert!(queue.entries <= 4 && queue.iter().count() == queue.entries);
            assert!(queue.last_rounds.len() <= 1);
        }
    }

    #[test]
    fn streams_of_one_connection_delay_another_by_one_request() {
        let mut queue = Queue::new(1000);
        for index in 0..100 {
            queue.push(stream(1000, index), |_| true);
        }
        assert_eq!(queue.pop(|_| true), Some(id(0)));
        queue.push(ticket(500), |_| true);
        queue.push(stream(1001, 501), |_| true);
        assert_eq!(order(&mut queue)[..4], [1, 500, 501, 2]);
        assert!(queue.last_rounds.is_empty(), "who waits for nothing has no past");
    }

    #[test]
    fn a_full_queue_takes_who_comes_before_those_that_have_others_waiting() {
        let mut queue = Queue::new(4);
        for index in 0..4 {
            queue.push(stream(1000, index), |_| true);
        }
        assert_eq!(queue.push(stream(1000, 4), |_| true), Admission::Refused);
        assert_eq!(queue.push(ticket(500), |_| true), Admission::Displaced(stream(1000, 3)));
        assert_eq!(queue.push(stream(1001, 501), |_| true), Admission::Displaced(stream(1000, 2)));
        assert_eq!(queue.push(stream(1000, 5), |_| true), Admission::Refused);
        queue.push(ticket(502), |_| true);
        assert_eq!(queue.push(ticket(503), |_| true), Admission::Refused, "each has one");
        assert_eq!((queue.len(), order(&mut queue)), (4, vec![0, 500, 501, 502]));
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        /// A request of the connection; see `SEVERAL`.
        Push(u32),
        Pop,
        /// The request that waits at this place in the queue's order goes away.
        Abandon(usize),
    }

    /// Connections below this number carry several requests.
    const SEVERAL: u32 = 4;

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => (0..8u32).prop_map(Act::Push),
            4 => Just(Act::Pop),
            1 => (0..50usize).prop_map(Act::Abandon),
        ]
    }

    /// A request that was added, and what has been served since.
    struct Added {
        connection: u32,
        number: u32,
        /// Requests of the same connection before it.
        ahead: usize,
        is_live: bool,
        /// How many requests of each other connection were served before it.
        passed_by: HashMap<u32, usize>,
    }

    proptest! {
        /// Requests of one connection keep their order, and so do those on connections that carry one at a time.
        /// Of each connection that carries several, others wait for one request for each of their own, and for
        /// one more in the round in service. The first request of a connection is passed by no ordinary one.
        #[test]
        fn is_fair_and_starves_nobody(acts in proptest::collection::vec(act(), 0..300)) {
            let mut queue = Queue::new(usize::MAX);
            let mut added: Vec<Added> = Vec::new();
            for (act, number) in acts.into_iter().zip(0..) {
                match act {
                    Act::Push(connection) => {
                        let ahead = added.iter().filter(|other| other.connection == connection).count();
                        let several = connection < SEVERAL;
                        let entry = if several { stream(connection, number) } else { ticket(number) };
                        prop_assert_eq!(queue.push(entry, |_| true), Admission::Waits);
                        let passed_by = HashMap::new();
                        added.push(Added { connection, number, ahead, is_live: true, passed_by });
                    }
                    Act::Abandon(place) => {
                        if let Some(gone) = added.get_mut(place).filter(|it| it.is_live) {
                            gone.is_live = false;
                            queue.abandon();
                        }
                    }
                    Act::Pop => {
                        let live = |number| added.iter().any(|it| it.is_live && it.number == number);
                        let Some(popped) = queue.pop(|ticket| live(ticket.id.index)) else {
                            prop_assert!(!added.iter().any(|it| it.is_live));
                            added.clear();
                            continue;
                        };
                        let place = added.iter().position(|it| it.number == popped.index).unwrap();
                        let served = added.remove(place);
                        for earlier in added[..place].iter_mut().filter(|it| it.is_live) {
                            prop_assert!(earlier.connection != served.connection);
                            prop_assert!(earlier.connection < SEVERAL || served.connection < SEVERAL);
                            prop_assert!(earlier.ahead > 0 || served.connection < SEVERAL);
                        }
                        for other in added.iter_mut().filter(|_| served.connection < SEVERAL) {
                            *other.passed_by.entry(served.connection).or_default() += 1;
                        }
                        let most = served.passed_by.values().max().copied().unwrap_or(0);
                        prop_assert!(most <= served.ahead + 2, "waited for {most}");
                        let (connection, number) = (served.connection, served.number);
                        added.retain(|it| it.is_live || it.connection != connection || it.number > number);
                    }
                }
                prop_assert_eq!(queue.len(), added.iter().filter(|it| it.is_live).count());
            }
        }
    }
}
