//! Ids of requests: taken from a trusted peer, or made, unlike any other of any process.
//!
//! The crate ulid (1.2) would write the digits and nothing else, since ids must not be guessed from each other:
//! 153 instructions an id in place of 46, because it writes the ten digits of the time anew each time.

use portico_proto::RequestHead;

use crate::random_blocks::RandomBlocks;

/// The id of one request, from which logs and the application take it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestId {
    /// It has none: nobody asks for one.
    #[default]
    None,
    /// Its own field `X-Request-Id`.
    Given,
    /// One of ours.
    Made(Digits),
}

/// An id of ours as it is told, a ULID: 48 bits of time and 80 that differ, in base 32.
pub(crate) type Digits = [u8; 26];

/// Makes ids. No system call, no lock: each engine has its own.
///
/// Of the 128 bits of a block 80 are taken, so that two of n ids of one millisecond are alike with a chance of
/// n²/2^81, in one engine as in several.
#[derive(Debug)]
pub struct RequestIds {
    /// The last one.
    digits: Digits,
    /// The time in it.
    millis: u64,
    blocks: RandomBlocks,
}

/// The field that carries an id.
pub const FIELD: &[u8] = b"x-request-id";

/// The longest id that is taken from a peer.
const GIVEN_BYTES_MAX: usize = 128;

/// Crockford's base 32: no letter that is taken for another, and sorted as the numbers are.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Two digits for each ten bits.
static PAIRS: [[u8; 2]; 1024] = {
    let mut pairs = [[0; 2]; 1024];
    let mut at = 0;
    while at < 1024 {
        pairs[at] = [DIGITS[at >> 5], DIGITS[at & 31]];
        at += 1;
    }
    pairs
};

impl RequestId {
    /// The id as it is told; `None` where there is none.
    #[inline]
    pub fn text<'a>(&'a self, head: &'a RequestHead) -> Option<&'a [u8]> {
        self.given(head).or_else(|| self.made())
    }

    /// The id as it is told, if it is the one of the request `head`.
    #[inline]
    pub fn given<'a>(&self, head: &'a RequestHead) -> Option<&'a [u8]> {
        match self {
            Self::Given => head.field(FIELD),
            Self::None | Self::Made(_) => None,
        }
    }

    /// The id as it is told, if it is one of ours.
    #[inline]
    pub fn made(&self) -> Option<&[u8]> {
        match self {
            Self::Made(digits) => Some(digits),
            Self::None | Self::Given => None,
        }
    }
}

impl Default for RequestIds {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestIds {
    /// Ids of an engine of this process. To be called after the last fork: two processes with one key would make
    /// the same ids.
    pub fn new() -> Self {
        Self::with_blocks(RandomBlocks::new())
    }

    fn with_blocks(blocks: RandomBlocks) -> Self {
        Self { digits: [b'0'; 26], millis: 0, blocks }
    }

    /// The id of the request `head` of a peer that is `trusted` or not, begun so many milliseconds after 1970.
    pub fn id_of(&mut self, head: &RequestHead, trusted: bool, unix_millis: u64) -> RequestId {
        // A name with an underscore, as edited heads may have, is another one.
        let given = if trusted && head.initials().has(FIELD) { head.field(FIELD) } else { None };
        match given {
            Some(given) if is_usable(given) => RequestId::Given,
            _ => RequestId::Made(self.next(unix_millis)),
        }
    }

    fn next(&mut self, unix_millis: u64) -> Digits {
        if self.millis != unix_millis {
            self.millis = unix_millis;
            write_digits(unix_millis, &mut self.digits[..10]);
        }
        let block = u128::from_le_bytes(self.blocks.next_block());
        write_digits(block as u64, &mut self.digits[10..18]);
        write_digits((block >> 64) as u64, &mut self.digits[18..]);
        self.digits
    }
}

/// Writes as many digits of `number` as there is room for, the last ones.
#[inline]
fn write_digits(mut number: u64, digits: &mut [u8]) {
    for pair in digits.rchunks_exact_mut(2) {
        pair.copy_from_slice(&PAIRS[(number & 1023) as usize]);
        number >>= 10;
    }
}

/// Whether it can stand in a log, a field and a URL: anything longer or odder is replaced by an id of ours.
fn is_usable(id: &[u8]) -> bool {
    let usual = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@~,;|".contains(byte);
    (1..=GIVEN_BYTES_MAX).contains(&id.len()) && id.iter().all(usual)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use portico_proto::{Event, Limits, http1};

    use super::*;

    fn head(id: &str) -> Box<RequestHead> {
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: {id}\r\n\r\n");
        match http1::Connection::new().next_event(&mut request.as_bytes(), &Limits::default()) {
            Ok(Some(Event::Head(head))) => head,
            other => panic!("{other:?}"),
        }
    }

    fn text(id: RequestId, head: &RequestHead) -> String {
        String::from_utf8(id.text(head).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn ids_differ_within_an_engine_and_between_two_and_sort_by_time() {
        let head = head("a b");
        let mut seen = HashSet::new();
        let mut last = String::new();
        let (mut one, mut other) = (RequestIds::new(), RequestIds::new());
        for millis in 1..=1000 {
            let first = text(one.id_of(&head, true, millis), &head);
            let second = text(other.id_of(&head, true, millis), &head);
            assert!(first > last && second > last, "{first} and {second} after {last}");
            assert!(first.len() == 26 && first.bytes().all(|byte| DIGITS.contains(&byte)));
            last = first.clone().max(second.clone());
            assert!(seen.insert(first) && seen.insert(second));
        }
    }

    /// `millis` and 80 bits in base 32.
    fn expected(millis: u64, bits: u128) -> Digits {
        let mut rest = u128::from(millis) << 80 | bits;
        let mut digits = [0; 26];
        for digit in digits.iter_mut().rev() {
            *digit = DIGITS[(rest & 31) as usize];
            rest >>= 5;
        }
        digits
    }

    #[test]
    fn an_id_is_the_time_and_an_encrypted_number_in_base_32() {
        // FIPS 197: of the key of zeroes, what 0 and 1 become.
        let blocks = [0x2e2b34ca59fa4c883b2c8aefd44be966, 0x5a45e7a4571d7f3661307efacefce258];
        let mut ids = RequestIds::with_blocks(RandomBlocks::with_key(&[0; 16]));
        let lower_40 = (1 << 40) - 1;
        for (millis, block) in [(7, blocks[0]), ((1 << 48) - 1, blocks[1])] {
            let bits = (block & lower_40) << 40 | (block >> 64 & lower_40);
            assert_eq!(ids.next(millis), expected(millis, bits));
        }
    }

    #[test]
    fn an_id_tells_nothing_of_its_neighbour() {
        let mut ids = RequestIds::new();
        let random = |id: Digits| -> [u8; 16] { std::array::from_fn(|at| id[10 + at]) };
        let count = 10_000;
        let mut last = random(ids.next(1));
        let mut alike = 0;
        for _ in 0..count {
            let id = random(ids.next(1));
            alike += id.iter().zip(last).filter(|(one, other)| **one == *other).count();
            last = id;
        }
        // Of digits that say nothing of each other one in 32 is alike: 5,000 here, give or take 70.
        assert!((4_500..5_500).contains(&alike), "{alike}");
    }

    #[test]
    fn the_id_of_a_trusted_peer_is_taken_if_it_is_usable() {
        let mut ids = RequestIds::new();
        let usable = head("6f9619ff-8b86-d011-b42d-00c04fc964ff");
        assert_eq!(ids.id_of(&usable, true, 0), RequestId::Given);
        assert_ne!(ids.id_of(&usable, false, 0), RequestId::Given);
        assert_eq!(text(RequestId::Given, &usable), "6f9619ff-8b86-d011-b42d-00c04fc964ff");
        for odd in ["", "a\"b", "a b", "a\\b", "\u{e9}", "a".repeat(129).as_str()] {
            assert_ne!(ids.id_of(&head(odd), true, 0), RequestId::Given, "{odd}");
        }
        assert_eq!(ids.id_of(&head(&"a".repeat(128)), true, 0), RequestId::Given);
    }
}
