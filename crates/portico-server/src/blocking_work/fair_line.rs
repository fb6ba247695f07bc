//! A bounded line in which clients have their turns, and the connections of each client theirs: however many jobs
//! one of them has, they delay another's by one.
//!
//! A full line takes a job of one who has fewer in it than another by two at least, in place of the other's last.
//! So a client that asks for thousands of files fills what others do not use, and no more.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;

/// Whose a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct JobOwner {
    pub client: JobClient,
    /// The number of the connection; that of the one that carries it, if it is a stream.
    pub connection: u64,
}

/// Who asks, as far as an address tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum JobClient {
    /// The network of a client.
    Network(IpAddr),
    /// Of whom no address is known: this connection.
    Unnamed(u64),
    /// Nobody: the server itself.
    Server,
}

impl JobOwner {
    /// The server itself.
    pub(crate) const SERVER: Self = Self { client: JobClient::Server, connection: 0 };
}

/// The line.
#[derive(Debug)]
pub(crate) struct FairLine<T> {
    max: usize,
    clients: Turns<JobClient, Turns<u64, VecDeque<T>>>,
}

/// A job that has not been added: there is no place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LineFull<T>(pub T);

impl<T> FairLine<T> {
    /// An empty one for so many jobs.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, clients: Turns::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a job. Returns the one in whose place it waits, if the line was full.
    ///
    /// # Errors
    /// It is full, and nobody has more in it than the owner of this job would have.
    pub(crate) fn push(&mut self, owner: JobOwner, job: T) -> Result<Option<T>, LineFull<T>> {
        let displaced = if self.len() < self.max { None } else { self.displace(owner) };
        if displaced.is_none() && self.len() >= self.max {
            return Err(LineFull(job));
        }
        self.clients.with(owner.client, |client| client.with(owner.connection, |jobs| jobs.push_back(job)));
        Ok(displaced)
    }

    /// The next job: of the client whose turn it is, of that one's connection whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.clients.pop()
    }

    /// Takes out all.
    pub(crate) fn clear(&mut self) {
        self.clients = Turns::default();
    }

    /// Takes the last job from whoever has most: another client, or another connection of the same one.
    #[cold]
    fn displace(&mut self, owner: JobOwner) -> Option<T> {
        let own = self.clients.lines.get(&owner.client);
        let (of_client, of_connection) = own.map_or((0, 0), |client| {
            (client.len(), client.lines.get(&owner.connection).map_or(0, VecDeque::len))
        });
        let longest = self.clients.longest()?;
        let (client, exceeds) = match self.clients.lines.get(&longest)?.len() > of_client + 1 {
            true => (longest, true),
            false => (owner.client, false),
        };
        let connections = self.clients.lines.get(&client)?;
        let connection = connections.longest()?;
        if !exceeds && connections.lines.get(&connection)?.len() <= of_connection + 1 {
            return None;
        }
        self.clients.with(client, |client| client.with(connection, VecDeque::pop_back))
    }
}

/// Lines that have their turns, one item at a time.
#[derive(Debug)]
struct Turns<K, L> {
    /// Those that have something, the next one first.
    order: VecDeque<K>,
    lines: HashMap<K, L>,
    /// The items of all.
    items: usize,
}

/// What has turns: items in their order, or lines that have turns themselves.
trait Line: Default {
    type Item;

    fn pop(&mut self) -> Option<Self::Item>;
    fn len(&self) -> usize;
}

impl<T> Line for VecDeque<T> {
    type Item = T;

    fn pop(&mut self) -> Option<T> {
        self.pop_front()
    }

    fn len(&self) -> usize {
        self.len()
    }
}

impl<K: Copy + Eq + Hash, L: Line> Line for Turns<K, L> {
    type Item = L::Item;

    /// The next item of the line whose turn it is, which goes behind the others.
    fn pop(&mut self) -> Option<L::Item> {
        let key = self.order.pop_front()?;
        let line = self.lines.get_mut(&key)?;
        let item = line.pop();
        self.items -= usize::from(item.is_some());
        match line.len() {
            0 => _ = self.lines.remove(&key),
            _ => self.order.push_back(key),
        }
        item
    }

    fn len(&self) -> usize {
        self.items
    }
}

impl<K: Copy + Eq + Hash, L: Line> Turns<K, L> {
    /// Changes the line of `key`; a new one has its turn after the others, and one that is empty then has none.
    fn with<R>(&mut self, key: K, change: impl FnOnce(&mut L) -> R) -> R {
        let line = self.lines.entry(key).or_default();
        let before = line.len();
        let result = change(line);
        let after = line.len();
        self.items = self.items + after - before;
        match (before, after) {
            (0, 0) => _ = self.lines.remove(&key),
            (0, _) => self.order.push_back(key),
            (_, 0) => {
                self.lines.remove(&key);
                self.order.retain(|other| *other != key);
            }
            _ => {}
        }
        result
    }

    fn longest(&self) -> Option<K> {
        self.lines.iter().max_by_key(|(_, line)| line.len()).map(|(key, _)| *key)
    }
}

impl<K, L> Default for Turns<K, L> {
    fn default() -> Self {
        Self { order: VecDeque::new(), lines: HashMap::new(), items: 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owner(client: u8, connection: u64) -> JobOwner {
        JobOwner { client: JobClient::Network([10, 0, 0, client].into()), connection }
    }

    fn all<T>(line: &mut FairLine<T>) -> Vec<T> {
        std::iter::from_fn(|| line.pop()).collect()
    }

    #[test]
    fn clients_have_turns_and_so_have_their_connections() {
        let mut line = FairLine::new(100);
        for job in ["a1", "a2", "a3"] {
            line.push(owner(1, 1), job).unwrap();
        }
        line.push(owner(1, 2), "b1").unwrap();
        line.push(owner(2, 3), "c1").unwrap();
        line.push(owner(2, 3), "c2").unwrap();
        line.push(JobOwner::SERVER, "s").unwrap();
        assert_eq!(line.len(), 7);
        assert_eq!(all(&mut line), ["a1", "c1", "s", "b1", "c2", "a2", "a3"]);
        assert!(line.is_empty() && line.clients.lines.is_empty() && line.clients.order.is_empty());
    }

    #[test]
    fn a_full_line_takes_who_has_less_in_place_of_who_has_most() {
        let mut line = FairLine::new(4);
        for job in 0..4 {
            assert_eq!(line.push(owner(1, 1), job), Ok(None));
        }
        assert_eq!(line.push(owner(1, 1), 4), Err(LineFull(4)), "the same connection");
        assert_eq!(line.push(owner(1, 2), 5), Ok(Some(3)), "another one of the same client");
        assert_eq!(line.push(owner(2, 3), 6), Ok(Some(2)), "another client");
        assert_eq!(line.push(owner(3, 4), 7), Ok(Some(1)));
        assert!(matches!(line.push(owner(4, 5), 8), Ok(Some(0 | 5))), "one of the two of the first client");
        assert_eq!(line.push(owner(5, 6), 9), Err(LineFull(9)), "nobody has two more than it would");
        assert_eq!(line.push(owner(2, 3), 9), Err(LineFull(9)));
        assert_eq!(all(&mut line)[1..], [6, 7, 8]);
        line.push(owner(1, 1), 1).unwrap();
        line.clear();
        assert!(line.is_empty() && line.pop().is_none());
    }

    proptest! {
        /// Nothing is lost or taken twice, the bound holds, and between two jobs of one client each other that
        /// waits gets one.
        #[test]
        fn is_fair(acts in proptest::collection::vec(prop_oneof![
            3 => (0..4u8, 0..3u64).prop_map(Some),
            1 => Just(None),
        ], 0..200)) {
            const MAX: usize = 12;
            let mut line = FairLine::new(MAX);
            let mut waiting: Vec<(usize, JobOwner)> = Vec::new();
            let mut last: HashMap<JobClient, usize> = HashMap::new();
            for (number, act) in acts.into_iter().enumerate() {
                match act {
                    Some((client, connection)) => match line.push(owner(client, connection), number) {
                        Ok(displaced) => {
                            if let Some(displaced) = displaced {
                                let at = waiting.iter().position(|(job, _)| *job == displaced).unwrap();
                                waiting.remove(at);
                            }
                            waiting.push((number, owner(client, connection)));
                        }
                        Err(LineFull(job)) => {
                            prop_assert_eq!(job, number);
                            prop_assert_eq!(waiting.len(), MAX);
                        }
                    },
                    None => {
                        let popped = line.pop();
                        prop_assert_eq!(popped.is_none(), waiting.is_empty());
                        let Some(job) = popped else { continue };
                        let at = waiting.iter().position(|(waits, _)| *waits == job).unwrap();
                        let (_, taken) = waiting.remove(at);
                        for (client, turns) in &mut last {
                            let waits = waiting.iter().any(|(_, owner)| owner.client == *client);
                            *turns = if waits && *client != taken.client { *turns + 1 } else { 0 };
                            prop_assert!(*turns <= 4, "{client:?} has waited for {turns}");
                        }
                        last.entry(taken.client).or_insert(0);
                    }
                }
                prop_assert_eq!(line.len(), waiting.len());
                prop_assert!(line.len() <= MAX);
            }
        }
    }
}
