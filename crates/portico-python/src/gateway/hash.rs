//! A fast hash for field names and field lines.
//!
//! Not keyed: both tables that use it are bounded and compare the whole key, so that colliding input costs a
//! miss and nothing else.

use std::hash::{BuildHasherDefault, Hasher};

/// Folded multiplication, 16 bytes a step: about 40 ns for a browser's 500 bytes of field lines.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut state = bytes.len() as u64 ^ SEED;
    let mut blocks = bytes.chunks_exact(16);
    for block in &mut blocks {
        state = fold(word(&block[..8]) ^ state, word(&block[8..]) ^ STEP);
    }
    let rest = blocks.remainder();
    if rest.len() > 8 {
        state = fold(word(&rest[..8]) ^ state, word(&rest[8..]) ^ STEP);
    } else if !rest.is_empty() {
        state = fold(word(rest) ^ state, STEP);
    }
    fold(state, SEED)
}

/// For `HashMap`s with byte strings as keys.
pub type BuildHash = BuildHasherDefault<BytesHasher>;

/// [`hash`] as a `Hasher`.
#[derive(Default)]
pub struct BytesHasher(u64);

impl Hasher for BytesHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = fold(self.0 ^ STEP, hash(bytes));
    }

    fn write_usize(&mut self, length: usize) {
        self.0 ^= length as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

// Odd numbers with about as many ones as zeros: the fractions of pi and of e.
const SEED: u64 = 0x243F_6A88_85A3_08D3;
const STEP: u64 = 0xB7E1_5162_8AED_2A6B;

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Up to eight bytes as a number.
fn word(bytes: &[u8]) -> u64 {
    match bytes.try_into() {
        Ok(eight) => u64::from_le_bytes(eight),
        Err(_) => bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}
