//! Random words by which somebody is known, and their comparison.

use std::fmt;
use std::io;

use rustix::rand::{GetRandomFlags, getrandom};
use subtle::ConstantTimeEq;

/// A word that nobody can guess. It is shown where it is handed out, and nowhere else.
#[derive(Clone)]
pub(crate) struct Secret(String);

/// Random bytes of one: as many as a key of AES-256 has.
const BYTES: usize = 32;

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(crate) fn random() -> io::Result<Self> {
        let mut bytes = [0; BYTES];
        // So few are given whole, or not at all (getrandom(2)).
        if getrandom(&mut bytes, GetRandomFlags::empty())? != BYTES {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Whether `offered` is the same. How long that takes tells nothing of how much of it is right.
    pub(crate) fn is(&self, offered: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(offered).into()
    }

    /// The word itself, for the one whom it is given to.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_word_is_the_same() {
        let secret = Secret::random().unwrap();
        let word = secret.reveal().as_bytes().to_vec();
        assert_eq!(word.len(), 2 * BYTES);
        assert!(secret.is(&word));
        for at in [0, BYTES, word.len() - 1] {
            let mut other = word.clone();
            other[at] ^= 1;
            assert!(!secret.is(&other), "{at}");
        }
        assert!(!secret.is(&word[1..]) && !secret.is(b"") && !secret.is(&[&word[..], b"0"].concat()));
    }

    #[test]
    fn it_is_not_shown_by_accident() {
        let secret = Secret::random().unwrap();
        assert_eq!(format!("{secret:?}"), "Secret");
        assert_ne!(secret.reveal(), Secret::random().unwrap().reveal());
    }
}
