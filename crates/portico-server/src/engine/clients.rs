//! How many connections each client has, where `--connections-per-client` bounds them.

use std::collections::HashMap;
use std::net::IpAddr;

use portico_edge::limit::client_network;
use portico_proto::Peer;

use super::Engine;
use crate::connection::Connection;

/// The number of connections of each client of one worker, for the limit by client. The engine owns it: each
/// connection that was counted is taken off once, or its client would be shut out in the end.
#[derive(Debug)]
pub(super) struct ClientCounts {
    /// 0: nothing is counted.
    max: u32,
    /// Of those that have one at all.
    counts: HashMap<IpAddr, u32>,
    refused: u64,
}

impl ClientCounts {
    /// Nobody has a connection; `max` is `--connections-per-client`.
    pub(super) fn new(max: u32) -> Self {
        Self { max, counts: HashMap::new(), refused: 0 }
    }

    /// Whether there is a bound.
    #[inline]
    pub(super) fn is_bounded(&self) -> bool {
        self.max > 0
    }

    /// Counts a connection of `client`; `false`: it has as many as it may already.
    fn add(&mut self, client: IpAddr) -> bool {
        let count = self.counts.entry(client_network(client)).or_default();
        if *count < self.max {
            *count += 1;
            return true;
        }
        self.refused += 1;
        if self.refused.is_power_of_two() {
            let (times, max) = (self.refused, self.max);
            log::warn!(
                "closed a connection of {client}, which has {max} (--connections-per-client); {times} so far"
            );
        }
        false
    }

    /// All connections.
    #[cfg(test)]
    pub(super) fn count(&self) -> u32 {
        self.counts.values().sum()
    }

    /// Counts one that is there already, whatever the others are.
    fn add_moved(&mut self, client: IpAddr) {
        *self.counts.entry(client_network(client)).or_default() += 1;
    }

    fn remove(&mut self, client: IpAddr) {
        let network = client_network(client);
        if let Some(count) = self.counts.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&network);
            }
        }
    }
}

impl Engine {
    /// Counts `connection` for its client, once that is known; `false`: that has as many as it may. What a trusted
    /// proxy sends is of many clients.
    pub(super) fn count_client(&mut self, connection: &mut Connection) -> bool {
        let Peer::Inet(address) = connection.client().peer else { return true };
        if connection.is_counted() || !connection.knows_client() || connection.client().trusted {
            return true;
        }
        let counted = self.clients.add(address.ip());
        connection.set_counted(counted);
        counted
    }

    /// Counts a connection that another worker has admitted: it is not judged again, for a request may be on it.
    pub(super) fn count_moved(&mut self, connection: &mut Connection) {
        if let (true, Peer::Inet(address)) = (self.clients.is_bounded(), connection.client().peer)
            && !connection.client().trusted
        {
            self.clients.add_moved(address.ip());
            connection.set_counted(true);
        }
    }

    /// The same back: `connection` has ended, or goes to another worker.
    pub(super) fn forget_client(&mut self, connection: &Connection) {
        if let (true, Peer::Inet(address)) = (connection.is_counted(), connection.client().peer) {
            self.clients.remove(address.ip());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_a_network() {
        let mut counts = ClientCounts::new(2);
        let client = |text: &str| text.parse::<IpAddr>().unwrap();
        let one = ["2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:1::3"].map(client);
        assert_eq!(one.map(|address| counts.add(address)), [true, true, false]);
        assert!(counts.add(client("2001:db8:0:2::1")), "another network");
        assert_eq!(
            ["192.0.2.1", "192.0.2.1", "192.0.2.1"].map(|text| counts.add(client(text))),
            [true, true, false]
        );
        assert!(counts.add(client("192.0.2.2")) && counts.add(client("::1")));
        // As sockets for both kinds of addresses tell them.
        assert!(!counts.add(client("::ffff:192.0.2.1")) && counts.add(client("::ffff:192.0.2.3")));
        counts.remove(one[2]);
        assert!(counts.add(one[0]) && !counts.add(one[1]));
        for (text, times) in [("2001:db8:0:1::9", 2), ("2001:db8:0:2::1", 1), ("192.0.2.1", 2)] {
            (0..times).for_each(|_| counts.remove(client(text)));
        }
        assert_eq!(counts.counts.len(), 3, "who has none is not remembered");
    }
}
