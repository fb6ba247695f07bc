//! Whose requests count together.

use std::net::{IpAddr, Ipv6Addr};

/// Whose requests count together under one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LimitSubject<'v> {
    limit: u64,
    who: Who<'v>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who<'v> {
    Client(IpAddr),
    Header(&'v [u8]),
    Unnamed,
    FailedLogins(Option<IpAddr>),
}

/// Bits of an IPv6 address that a provider gives to one customer at the least (RFC 6177); the rest is the
/// customer's to choose from.
const IPV6_PREFIX_BITS: u32 = 64;

impl<'v> LimitSubject<'v> {
    /// The client of this address, under the limit of this number.
    pub fn client(limit: u64, address: IpAddr) -> Self {
        Self { limit, who: Who::Client(client_network(address)) }
    }

    /// The client of this address, if one is known, as one who gives wrong passwords: for all routes together.
    pub fn failed_logins(address: Option<IpAddr>) -> Self {
        Self { limit: 0, who: Who::FailedLogins(address.map(client_network)) }
    }

    /// All of whom no address is known, together: what comes through a UNIX socket and says nothing of its client.
    pub fn unnamed(limit: u64) -> Self {
        Self { limit, who: Who::Unnamed }
    }

    /// Whoever sends this value of the header that the limit goes by.
    pub fn header(limit: u64, value: &'v [u8]) -> Self {
        Self { limit, who: Who::Header(value) }
    }
}

/// What of an address is the client's: an IPv4 address, or the 64 bits of an IPv6 one that a line usually gets.
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = u128::from(address) >> (128 - IPV6_PREFIX_BITS) << (128 - IPV6_PREFIX_BITS);
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_client_is_its_first_64_bits() {
        let client = |limit, text: &str| LimitSubject::client(limit, text.parse().unwrap());
        assert_eq!(client(1, "2001:db8:0:1::1"), client(1, "2001:db8:0:1:ffff::2"));
        assert_ne!(client(1, "2001:db8:0:1::1"), client(1, "2001:db8:0:2::1"));
        assert_ne!(client(1, "10.0.0.1"), client(1, "10.0.0.2"));
        assert_eq!(client(1, "10.0.0.1"), client(1, "::ffff:10.0.0.1"));
        assert_ne!(client(1, "10.0.0.1"), client(2, "10.0.0.1"));
        assert_ne!(LimitSubject::header(1, b"a"), LimitSubject::header(1, b"b"));
    }
}
