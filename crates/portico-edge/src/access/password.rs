//! Hashes of passwords: which kinds are taken, and how one is verified and made.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha_crypt::{PasswordVerifier, ShaCrypt};
use subtle::ConstantTimeEq;

use super::bcrypt::{self, BcryptHash};

/// The hash of one password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PasswordHash {
    Bcrypt(BcryptHash),
    Argon2id(Argon2idHash),
    /// As crypt(3) writes it; it has been tried once.
    Sha512Crypt(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Argon2idHash {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

/// Bytes of salt that [`hash_password`] wants.
pub const SALT_BYTES: usize = bcrypt::SALT_BYTES;

/// 2^10 rounds, about 50 ms of a core: the least that OWASP's cheat sheet takes for bcrypt.
const BCRYPT_COST: u32 = 10;

/// What one verification may take of the machine: 256 MiB and 16 passes. More than that in a file is a mistake
/// that would show as an outage.
const ARGON2_MEMORY_KIB_MAX: u32 = 256 << 10;
const ARGON2_PASSES_MAX: u32 = 16;

/// Rounds of sha512-crypt that are taken; its default is 5,000.
const SHA512_ROUNDS_MAX: u32 = 1_000_000;

/// A line's hash for `password`, which each server takes that knows bcrypt. `salt` is random.
pub fn hash_password(password: &[u8], salt: [u8; SALT_BYTES]) -> String {
    bcrypt::encode(BCRYPT_COST, salt, password)
}

impl PasswordHash {
    /// Reads a hash.
    ///
    /// # Errors
    /// It is none that is taken, and why; without the hash itself.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let bcrypt = || BcryptHash::parse(text).map(Self::Bcrypt);
        let argon2 = || Argon2idHash::parse(text).map(Self::Argon2id);
        match text {
            _ if text.starts_with("$2") => {
                bcrypt().ok_or("the hash of bcrypt is damaged, or its cost is not 4 to 16")
            }
            _ if text.starts_with("$argon2id$") => {
                argon2().ok_or("the hash of argon2id is damaged, or asks for more than 256 MiB or 16 passes")
            }
            _ if text.starts_with("$6$") => sha512_crypt(text).ok_or("the hash of sha512-crypt is damaged"),
            _ if text.starts_with("$apr1$") || text.starts_with("$1$") => Err(
                "hashes of MD5 are guessed too fast to be taken; make it anew with `portico hash-password`",
            ),
            _ if text.starts_with("{SHA}") || text.starts_with("{SSHA}") => Err(
                "hashes of SHA-1 are guessed too fast to be taken; make it anew with `portico hash-password`",
            ),
            _ => Err(NO_HASH),
        }
    }

    /// Whether `password` has this hash. It takes tens of milliseconds.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt(hash) => hash.verify(password),
            Self::Argon2id(hash) => hash.verify(password),
            Self::Sha512Crypt(hash) => ShaCrypt::default().verify_password(password, hash.as_str()).is_ok(),
        }
    }
}

/// What is said of a hash of no known kind, a plain password for example.
const NO_HASH: &str = "this is no hash of bcrypt, argon2id or sha512-crypt; make it with `portico \
                       hash-password`, or htpasswd -B";

fn sha512_crypt(text: &str) -> Option<PasswordHash> {
    let rest = text.strip_prefix("$6$")?;
    if let Some(rounds) = rest.strip_prefix("rounds=") {
        let rounds: u32 = rounds.split_once('$')?.0.parse().ok()?;
        if rounds > SHA512_ROUNDS_MAX {
            return None;
        }
    }
    let hash = text.rsplit('$').next()?;
    let is_crypt = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    (hash.len() == 86 && hash.bytes().all(is_crypt)).then(|| PasswordHash::Sha512Crypt(text.to_owned()))
}

impl Argon2idHash {
    /// `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`
    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('$').collect();
        let ["", "argon2id", "v=19", costs, salt, hash] = parts[..] else { return None };
        let mut costs = costs.split(',');
        let mut cost = |name: &str| costs.next()?.strip_prefix(name)?.parse::<u32>().ok();
        let (memory_kib, passes, lanes) = (cost("m=")?, cost("t=")?, cost("p=")?);
        let (salt, hash) = (STANDARD_NO_PAD.decode(salt).ok()?, STANDARD_NO_PAD.decode(hash).ok()?);
        let parsed = Self { memory_kib, passes, lanes, salt, hash };
        let fits = memory_kib <= ARGON2_MEMORY_KIB_MAX && passes <= ARGON2_PASSES_MAX;
        let sound = (16..=64).contains(&parsed.hash.len()) && (8..=64).contains(&parsed.salt.len());
        (fits && sound && parsed.params().is_some()).then_some(parsed)
    }

    fn params(&self) -> Option<Params> {
        Params::new(self.memory_kib, self.passes, self.lanes, Some(self.hash.len())).ok()
    }

    fn verify(&self, password: &[u8]) -> bool {
        let Some(params) = self.params() else { return false };
        let mut computed = vec![0; self.hash.len()];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(password, &self.salt, &mut computed).is_ok()
            && bool::from(computed.ct_eq(&self.hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifies(text: &str, password: &str) -> bool {
        PasswordHash::parse(text).unwrap().verify(password.as_bytes())
    }

    /// From the README of the reference implementation of argon2, and the specification of sha512-crypt.
    #[test]
    fn known_hashes() {
        let sha = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQ\
                   JuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";
        assert!(verifies(sha, "Hello world!") && !verifies(sha, "Hello world"));
        let argon2 = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(verifies(argon2, "password") && !verifies(argon2, "Password"));
    }

    #[test]
    fn what_is_made_is_taken() {
        let text = hash_password(b"secret", [7; SALT_BYTES]);
        assert!(verifies(&text, "secret") && !verifies(&text, "Secret"));
    }

    #[test]
    fn other_hashes_are_refused_with_the_reason() {
        for (text, expected) in [
            ("secret", "this is no hash"),
            ("", "this is no hash"),
            ("$2y$10$short", "is damaged"),
            ("$apr1$x$y", "hashes of MD5"),
            ("{SHA}x", "hashes of SHA-1"),
            ("$6$salt$short", "is damaged"),
            ("$argon2id$v=19$m=65536,t=2$x$y", "is damaged"),
            (
                "$argon2id$v=19$m=9999999,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                "256 MiB",
            ),
            (
                "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                "no hash",
            ),
        ] {
            assert!(PasswordHash::parse(text).unwrap_err().contains(expected), "{text}");
        }
    }
}
