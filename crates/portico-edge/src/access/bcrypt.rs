//! bcrypt, as htpasswd -B and most programs write it: `$2y$10$` with 22 characters of salt and 31 of the hash.

use std::ops::RangeInclusive;

use base64::Engine;
use base64::alphabet::BCRYPT;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig, general_purpose::NO_PAD};
use blowfish::Blowfish;
use subtle::ConstantTimeEq;

/// A hash of bcrypt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BcryptHash {
    cost: u32,
    salt: [u8; SALT_BYTES],
    hash: [u8; HASH_BYTES],
}

pub(super) const SALT_BYTES: usize = 16;

/// Of 24 bytes, the last is left out, as in all implementations.
const HASH_BYTES: usize = 23;

/// Bytes of a password that count, as in all implementations; the terminating NUL is one of them.
const PASSWORD_BYTES_MAX: usize = 72;

/// Powers of two of rounds. Below 4 the format has none; 16 takes seconds of a core for each password.
const COSTS: RangeInclusive<u32> = 4..=16;

/// Its own alphabet. Others write bits in the last character that belong to no byte.
const ENCODING: GeneralPurpose =
    GeneralPurpose::new(&BCRYPT, GeneralPurposeConfig::with_decode_allow_trailing_bits(NO_PAD, true));

impl BcryptHash {
    /// Reads a hash; `None` where it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let rest = ["$2y$", "$2b$", "$2a$"].into_iter().find_map(|prefix| text.strip_prefix(prefix))?;
        let (cost, rest) = rest.split_once('$')?;
        let is_number = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
        let cost = cost.parse().ok().filter(|cost| is_number && COSTS.contains(cost))?;
        if rest.len() != 53 || !rest.is_ascii() {
            return None;
        }
        let (salt, hash) = rest.split_at(22);
        let salt = ENCODING.decode(salt).ok()?.try_into().ok()?;
        let hash = ENCODING.decode(hash).ok()?.try_into().ok()?;
        Some(Self { cost, salt, hash })
    }

    /// Whether `password` has this hash.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        compute(self.cost, &self.salt, password).ct_eq(&self.hash).into()
    }
}

/// The text of the hash of `password`.
pub(super) fn encode(cost: u32, salt: [u8; SALT_BYTES], password: &[u8]) -> String {
    let hash = compute(cost, &salt, password);
    format!("$2y${cost:02}${}{}", ENCODING.encode(salt), ENCODING.encode(hash))
}

fn compute(cost: u32, salt: &[u8; SALT_BYTES], password: &[u8]) -> [u8; HASH_BYTES] {
    let mut key = password[..password.len().min(PASSWORD_BYTES_MAX)].to_vec();
    if key.len() < PASSWORD_BYTES_MAX {
        key.push(0);
    }
    let mut state: Blowfish = Blowfish::bc_init_state();
    state.salted_expand_key(salt, &key);
    for _ in 0..1_u32 << cost {
        state.bc_expand_key(&key);
        state.bc_expand_key(salt);
    }
    let mut hash = [0; HASH_BYTES + 1];
    for (block, plain) in hash.chunks_exact_mut(8).zip(b"OrpheanBeholderScryDoubt".chunks_exact(8)) {
        let word = |bytes: &[u8]| bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        let mut pair = [word(&plain[..4]), word(&plain[4..])];
        for _ in 0..64 {
            pair = state.bc_encrypt(pair);
        }
        block[..4].copy_from_slice(&pair[0].to_be_bytes());
        block[4..].copy_from_slice(&pair[1].to_be_bytes());
    }
    let mut shortened = [0; HASH_BYTES];
    shortened.copy_from_slice(&hash[..HASH_BYTES]);
    shortened
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the tests of Openwall's crypt_blowfish and of jBCrypt.
    #[test]
    fn known_hashes() {
        for (password, text) in [
            ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
            ("U*U*", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"),
            ("", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"),
            ("a", "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe"),
        ] {
            let hash = BcryptHash::parse(text).unwrap();
            assert!(hash.verify(password.as_bytes()), "{text}");
            assert!(!hash.verify(format!("{password}x").as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_made_is_verified() {
        let text = encode(4, *b"0123456789abcdef", b"secret");
        assert!(text.starts_with("$2y$04$") && text.len() == 60, "{text}");
        assert!(BcryptHash::parse(&text).unwrap().verify(b"secret"));
        // 72 bytes of a password count.
        let long = encode(4, *b"0123456789abcdef", &[b'x'; 72]);
        assert!(BcryptHash::parse(&long).unwrap().verify(&[b'x'; 80]));
        assert!(!BcryptHash::parse(&long).unwrap().verify(&[b'x'; 71]));
    }

    #[test]
    fn what_is_no_hash_is_none() {
        let good = "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe";
        for text in [
            "",
            &good[..59],
            &format!("{good}x"),
            &good.replace("$06$", "$03$"),
            &good.replace("$06$", "$17$"),
            &good.replace("$06$", "$+6$"),
            &good.replace("$2a$", "$2x$"),
            &good.replace("m0C", "m!C"),
        ] {
            assert_eq!(BcryptHash::parse(text), None, "{text}");
        }
    }
}
