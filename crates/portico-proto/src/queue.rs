//! A queue of bytes: a `Vec` with, beside it, how many of its first bytes have been taken.

/// Bytes that may have been taken before what waits is moved to the front.
const TAKEN_BYTES_MAX: usize = 16 * 1024;

/// Lets go of the first `taken` bytes, once they are no fewer than those that wait, so that each byte is moved
/// once at most. Without that, a queue that never runs empty would keep all that ever went through it.
#[inline]
pub fn forget_taken(bytes: &mut Vec<u8>, taken: &mut usize) {
    if *taken > TAKEN_BYTES_MAX && *taken >= bytes.len() / 2 {
        bytes.drain(..std::mem::take(taken));
        bytes.shrink_to(2 * bytes.len().max(TAKEN_BYTES_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_stays_and_what_was_taken_goes() {
        let (mut bytes, mut taken) = (Vec::new(), 0);
        let (mut next, mut expected) = (0u32, 0u32);
        for turn in 0..10_000 {
            (0..1000).for_each(|_| {
                bytes.extend_from_slice(&next.to_le_bytes());
                next += 1;
            });
            // There are always some left.
            for _ in 0..if turn < 5 { 900 } else { 1000 } {
                assert_eq!(bytes[taken..taken + 4], expected.to_le_bytes());
                (taken, expected) = (taken + 4, expected + 1);
            }
            forget_taken(&mut bytes, &mut taken);
            assert!(bytes.capacity() < 100_000, "{} bytes are kept", bytes.capacity());
        }
    }
}
