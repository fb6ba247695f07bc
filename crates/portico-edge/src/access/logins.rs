//! Which credentials were right a moment ago, so that a password is not hashed for each request.
//!
//! Not the credentials are kept but a MAC of them, under a key that this process has made for itself: what is
//! kept tells nobody else which passwords are right.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use aws_lc_rs::hmac::{HMAC_SHA256, Key};

use super::BasicCredentials;

/// Credentials for one file of users, as they are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CredentialsMac([u8; MAC_BYTES]);

const MAC_BYTES: usize = 32;

/// Bytes of the key.
pub const KEY_BYTES: usize = 32;

/// The credentials that were right.
#[derive(Debug)]
pub struct KnownLogins {
    key: Key,
    until: HashMap<CredentialsMac, Instant>,
    /// The same, the first to be forgotten first.
    order: VecDeque<CredentialsMac>,
}

/// How long credentials count that were right: as long as somebody whose password has been changed still comes in,
/// unless the server is reloaded.
const REMEMBERED: Duration = Duration::from_secs(300);

/// Credentials that are remembered: 400 KB. Beyond it the oldest are hashed again.
const LOGINS_MAX: usize = 4096;

impl KnownLogins {
    /// Nobody yet, under a `key` that is random and that nobody else has.
    pub fn new(key: [u8; KEY_BYTES]) -> Self {
        Self { key: Key::new(HMAC_SHA256, &key), until: HashMap::new(), order: VecDeque::new() }
    }

    /// What stands for `credentials` for the users of this number.
    pub fn mac_of(&self, users: u64, credentials: &BasicCredentials) -> CredentialsMac {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&users.to_be_bytes());
        context.update(credentials.user().as_bytes());
        // A name has no colon.
        context.update(b":");
        context.update(credentials.password());
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(context.sign().as_ref());
        CredentialsMac(mac)
    }

    /// Whether these credentials were right not long before `now`.
    pub fn knows(&self, mac: &CredentialsMac, now: Instant) -> bool {
        self.until.get(mac).is_some_and(|until| now < *until)
    }

    /// Remembers that these credentials are right.
    pub fn remember(&mut self, mac: CredentialsMac, now: Instant) {
        if self.until.insert(mac, now + REMEMBERED).is_some() {
            self.order.retain(|other| *other != mac);
        }
        self.order.push_back(mac);
        while self.order.len() > LOGINS_MAX || self.order.front().is_some_and(|first| !self.knows(first, now))
        {
            let Some(first) = self.order.pop_front() else { break };
            self.until.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    fn credentials(text: &str) -> BasicCredentials {
        BasicCredentials::parse(format!("Basic {}", STANDARD.encode(text)).as_bytes()).unwrap()
    }

    #[test]
    fn credentials_are_remembered_for_five_minutes() {
        let mut logins = KnownLogins::new([7; KEY_BYTES]);
        let now = Instant::now();
        let mac = logins.mac_of(1, &credentials("bob:secret"));
        assert!(!logins.knows(&mac, now));
        logins.remember(mac, now);
        assert!(logins.knows(&mac, now + REMEMBERED - Duration::from_nanos(1)));
        assert!(!logins.knows(&mac, now + REMEMBERED));
        logins.remember(mac, now + REMEMBERED);
        assert!(logins.knows(&mac, now + REMEMBERED * 2 - Duration::from_nanos(1)));
        assert_eq!((logins.order.len(), logins.until.len()), (1, 1));
    }

    #[test]
    fn other_credentials_other_users_and_other_processes_have_other_macs() {
        let logins = KnownLogins::new([7; KEY_BYTES]);
        let bob = logins.mac_of(1, &credentials("bob:secret"));
        assert_eq!(bob, logins.mac_of(1, &credentials("bob:secret")));
        for (users, text) in [(1, "bob:Secret"), (1, "bo:bsecret"), (1, "bob::secret"), (2, "bob:secret")] {
            assert_ne!(bob, logins.mac_of(users, &credentials(text)), "{users} {text}");
        }
        assert_ne!(bob, KnownLogins::new([8; KEY_BYTES]).mac_of(1, &credentials("bob:secret")));
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let mut logins = KnownLogins::new([7; KEY_BYTES]);
        let now = Instant::now();
        let macs: Vec<CredentialsMac> =
            (0..=LOGINS_MAX).map(|number| logins.mac_of(1, &credentials(&format!("u{number}:x")))).collect();
        macs.iter().for_each(|mac| logins.remember(*mac, now));
        assert!(!logins.knows(&macs[0], now) && logins.knows(&macs[1], now));
        assert_eq!((logins.order.len(), logins.until.len()), (LOGINS_MAX, LOGINS_MAX));
        // What is too old goes when others come.
        logins.remember(macs[0], now + REMEMBERED);
        assert_eq!((logins.order.len(), logins.until.len()), (1, 1));
    }
}
