//! Session tickets (RFC 5077, RFC 8446 section 4.6.1): sealed with keys that all workers share.
//!
//! There are three keys: the next one, so that every worker has it before any uses it; the present one; the former
//! one, whose tickets are still taken. A ticket is valid for at least one rotation period. Its key stays one more
//! period as the former key and is then erased everywhere.

use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;

/// How long a key is the present one.
pub(super) const ROTATION: Duration = Duration::from_secs(6 * 3600);

/// Bytes of one key: its name, which tickets begin with, and the secret.
pub(super) const KEY_BYTES: usize = NAME_BYTES + SECRET_BYTES;

const NAME_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// Longer ones than we make are none of ours: a chain of clients' certificates is part of a ticket.
const TICKET_BYTES_MAX: usize = 64 * 1024;

/// The next key, the present one, the former one.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct TicketKeys([[u8; KEY_BYTES]; 3]);

impl TicketKeys {
    /// Three new ones.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(super) fn new() -> Result<Self, String> {
        Ok(Self([random()?, random()?, random()?]))
    }

    /// The next one becomes the present one, and so on.
    ///
    /// # Errors
    /// The system has no random numbers: they stay.
    pub(super) fn rotate(&mut self) -> Result<(), String> {
        let [next, present, _] = self.0;
        self.0 = [random()?, next, present];
        Ok(())
    }

    /// Bytes for [`TicketKeys::read`].
    pub(super) fn bytes(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|key| &key[..])
    }

    /// Those of which `bytes` came; `None` if they are of another length.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut keys = [[0; KEY_BYTES]; 3];
        if bytes.len() != KEY_BYTES * keys.len() {
            return None;
        }
        for (key, bytes) in keys.iter_mut().zip(bytes.chunks_exact(KEY_BYTES)) {
            key.copy_from_slice(bytes);
        }
        Some(Self(keys))
    }
}

impl std::fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketKeys") // They are secret.
    }
}

fn random() -> Result<[u8; KEY_BYTES], String> {
    let mut bytes = [0; KEY_BYTES];
    rand::fill(&mut bytes).map_err(|_| "the system has no random numbers".to_owned())?;
    Ok(bytes)
}

/// Seals and opens the tickets of one worker.
pub(super) struct Ticketer {
    keys: Vec<([u8; NAME_BYTES], LessSafeKey)>,
    /// What a session must have been begun under to go on: who may be a client.
    terms: Vec<u8>,
}

/// Which of them seals.
const PRESENT: usize = 1;

impl Ticketer {
    /// One that takes only tickets of sessions that were begun under the same `terms`.
    pub(super) fn new(keys: &TicketKeys, terms: Vec<u8>) -> Option<Self> {
        let key = |bytes: &[u8; KEY_BYTES]| {
            let (name, secret) = bytes.split_first_chunk::<NAME_BYTES>()?;
            Some((*name, LessSafeKey::new(UnboundKey::new(&AES_256_GCM, secret).ok()?)))
        };
        Some(Self { keys: keys.0.iter().map(key).collect::<Option<_>>()?, terms })
    }

    fn terms(&self, name: &[u8; NAME_BYTES]) -> Aad<Vec<u8>> {
        Aad::from([&name[..], &self.terms].concat())
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        ROTATION.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let (name, key) = self.keys.get(PRESENT)?;
        let mut nonce = [0; NONCE_BYTES];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        key.seal_in_place_append_tag(Nonce::from(&nonce), self.terms(name), &mut sealed).ok()?;
        Some([&name[..], &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let (_, key) = self.keys.iter().find(|(known, _)| known == name)?;
        let mut opened = sealed.to_vec();
        let length = key.open_in_place(Nonce::from(nonce), self.terms(name), &mut opened).ok()?.len();
        opened.truncate(length);
        Some(opened)
    }
}

impl std::fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticketer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticketer(keys: &TicketKeys, terms: &[u8]) -> Ticketer {
        Ticketer::new(keys, terms.to_vec()).unwrap()
    }

    #[test]
    fn another_worker_opens_a_ticket_until_its_key_has_been_replaced_twice() {
        let mut keys = TicketKeys::new().unwrap();
        let ticket = ticketer(&keys, b"").encrypt(b"session").unwrap();
        for _ in 0..2 {
            let bytes = keys.bytes().collect::<Vec<_>>().concat();
            let theirs = TicketKeys::read(&bytes).unwrap();
            assert_eq!(ticketer(&theirs, b"").decrypt(&ticket).unwrap(), b"session");
            keys.rotate().unwrap();
        }
        assert_eq!(ticketer(&keys, b"").decrypt(&ticket), None);
    }

    #[test]
    fn a_worker_that_rotates_later_opens_the_tickets_of_one_that_has() {
        let behind = TicketKeys::new().unwrap();
        let mut ahead = behind.clone();
        ahead.rotate().unwrap();
        let ticket = ticketer(&ahead, b"").encrypt(b"session").unwrap();
        assert_eq!(ticketer(&behind, b"").decrypt(&ticket).unwrap(), b"session");
    }

    #[test]
    fn what_is_not_ours_whole_and_of_these_terms_is_not_opened() {
        let keys = TicketKeys::new().unwrap();
        let ours = ticketer(&keys, b"terms");
        let ticket = ours.encrypt(b"session").unwrap();
        assert_eq!(ticketer(&keys, b"others").decrypt(&ticket), None);
        assert_eq!(ticketer(&TicketKeys::new().unwrap(), b"terms").decrypt(&ticket), None);
        for length in 0..ticket.len() {
            assert_eq!(ours.decrypt(&ticket[..length]), None);
        }
        for at in 0..ticket.len() {
            let mut other = ticket.clone();
            other[at] ^= 1;
            assert_eq!(ours.decrypt(&other), None);
        }
        assert_eq!(ours.decrypt(&vec![0; TICKET_BYTES_MAX + 1]), None);
        assert_eq!(TicketKeys::read(&[0; 3 * KEY_BYTES - 1]), None);
    }
}
