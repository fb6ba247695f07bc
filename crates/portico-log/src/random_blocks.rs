//! Numbers that nobody can guess from each other, for ids: no system call, no lock.

use std::fmt;

use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use rustix::rand::{GetRandomFlags, getrandom};

/// A source of blocks that differ. Each engine has its own.
///
/// A block is a number that counts up, encrypted with a key of the source's own: nobody who knows one can tell
/// another. Encrypting some together makes an id 5 ns dearer than counting; one by one it would be 40.
pub struct RandomBlocks {
    /// `None` if the library refuses the key, which it has no reason to.
    cipher: Option<EncryptingKey>,
    /// The next number to be encrypted.
    number: u128,
    /// Encrypted numbers; those from `used` on have been used up.
    blocks: Vec<u8>,
    used: usize,
}

/// Bytes of an encrypted number.
const BLOCK_BYTES: usize = 16;

/// Numbers that are encrypted together.
const BLOCKS: usize = 64;

impl Default for RandomBlocks {
    fn default() -> Self {
        Self::new()
    }
}

impl RandomBlocks {
    /// A source of this process. To be called after the last fork: two processes with one key would have the same
    /// blocks.
    pub fn new() -> Self {
        let mut key = [0; BLOCK_BYTES];
        if getrandom(&mut key, GetRandomFlags::empty()).is_err() {
            // Linux has no reason to refuse it.
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            key = (now.as_nanos() ^ u128::from(std::process::id()) << 96).to_le_bytes();
        }
        Self::with_key(&key)
    }

    /// One whose blocks this key determines.
    pub(crate) fn with_key(key: &[u8; BLOCK_BYTES]) -> Self {
        let cipher = UnboundCipherKey::new(&AES_128, key).and_then(EncryptingKey::ctr).ok();
        Self { cipher, number: 0, blocks: Vec::new(), used: 0 }
    }

    /// The next block.
    #[inline]
    pub fn next_block(&mut self) -> [u8; BLOCK_BYTES] {
        if self.used == self.blocks.len() {
            self.encrypt_more();
        }
        let block = self.blocks[self.used..].first_chunk().copied().unwrap_or_default();
        self.used += BLOCK_BYTES;
        block
    }

    /// Encrypts the next numbers: in counter mode, what zeroes become is the encrypted counter.
    #[cold]
    fn encrypt_more(&mut self) {
        self.blocks.clear();
        self.blocks.resize(BLOCKS * BLOCK_BYTES, 0);
        self.used = 0;
        let counter = EncryptionContext::Iv128(FixedLength::from(self.number.to_be_bytes()));
        self.number += BLOCKS as u128;
        let cipher = self.cipher.as_ref();
        if cipher.and_then(|cipher| cipher.less_safe_encrypt(&mut self.blocks, counter).ok()).is_none() {
            // What no block can be told from either, at the price of a system call.
            let _ = getrandom(&mut self.blocks, GetRandomFlags::empty());
        }
    }
}

impl fmt::Debug for RandomBlocks {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RandomBlocks").field("number", &self.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_are_encrypted_one_after_the_other_whatever_is_encrypted_together() {
        let mut blocks = RandomBlocks::with_key(&[7; BLOCK_BYTES]);
        let seen: HashSet<[u8; BLOCK_BYTES]> = (0..5 * BLOCKS + 1).map(|_| blocks.next_block()).collect();
        assert_eq!(seen.len(), 5 * BLOCKS + 1);
        let mut others = RandomBlocks::with_key(&[7; BLOCK_BYTES]);
        others.number = 3 * BLOCKS as u128;
        assert!(seen.contains(&others.next_block()));
    }
}
