//! Who may have what a route guards: passwords, and addresses.
//!
//! To verify a password takes tens of milliseconds on purpose. It is a function here; that it runs beside the
//! engine and that successes are remembered is up to whoever calls it.

mod basic;
mod bcrypt;
mod logins;
mod password;
mod users;

use std::net::IpAddr;

use ipnet::IpNet;

pub use basic::{BasicCredentials, challenge};
pub use logins::{CredentialsMac, KEY_BYTES as LOGINS_KEY_BYTES, KnownLogins};
pub use password::{SALT_BYTES, hash_password};
pub use users::Users;

/// Whether a client of this address is served: it must be among those that are allowed, where any are named, and
/// not among those that are denied.
pub fn admits(allow: Option<&[IpNet]>, deny: &[IpNet], client: IpAddr) -> bool {
    // An IPv4 address that came over an IPv6 socket is one of IPv4.
    let client = client.to_canonical();
    let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&client));
    allow.is_none_or(is_in) && !is_in(deny)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_admitted_by_their_addresses() {
        let networks =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let (inside, one) = (networks(&["10.0.0.0/8", "2001:db8::/32"]), networks(&["10.0.0.5/32"]));
        let admitted = |allow: Option<&[IpNet]>, deny: &[IpNet], client: &str| {
            admits(allow, deny, client.parse().unwrap())
        };
        assert!(admitted(None, &[], "192.0.2.1"));
        assert!(admitted(Some(&inside), &[], "10.1.2.3"));
        assert!(admitted(Some(&inside), &[], "::ffff:10.1.2.3"));
        assert!(admitted(Some(&inside), &[], "2001:db8::1"));
        assert!(!admitted(Some(&inside), &[], "192.0.2.1"));
        assert!(!admitted(Some(&inside), &one, "10.0.0.5"), "denied counts beside allowed");
        assert!(!admitted(None, &one, "::ffff:10.0.0.5"));
        assert!(!admitted(Some(&[]), &[], "10.0.0.5"), "an empty list is nobody");
    }
}
