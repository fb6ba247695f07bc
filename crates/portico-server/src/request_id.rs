//! Ids of requests: taken from a trusted peer, or made, unlike any other of any process.

use portico_proto::RequestHead;

/// The id of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestId {
    /// It has none: nobody asks for one.
    #[default]
    None,
    /// Its own field `X-Request-Id`.
    Given,
    /// One of ours.
    Made([u8; 16]),
}

/// Makes ids. No system call, no lock: each engine has its own.
#[derive(Debug)]
pub struct RequestIds {
    seed: u64,
    count: u64,
    tail: u16,
}

/// Where [`RequestId::text`] puts an id of ours.
pub type IdBuffer = [u8; 26];

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
    pub fn text<'a>(&self, head: &'a RequestHead, buffer: &'a mut IdBuffer) -> Option<&'a [u8]> {
        self.given(head).or_else(|| self.made(buffer))
    }

    /// The id as it is told, if it is the one of the request `head`.
    pub fn given<'a>(&self, head: &'a RequestHead) -> Option<&'a [u8]> {
        match self {
            Self::Given => head.field(FIELD),
            Self::None | Self::Made(_) => None,
        }
    }

    /// The id as it is told, if it is one of ours.
    pub fn made<'a>(&self, buffer: &'a mut IdBuffer) -> Option<&'a [u8]> {
        let Self::Made(id) = self else { return None };
        write(id, buffer);
        Some(&buffer[..])
    }
}

/// Writes an id of ours.
pub fn write(id: &[u8; 16], buffer: &mut IdBuffer) {
    let number = u128::from_be_bytes(*id);
    // By twelve digits: words of 128 bits are slow.
    write_digits((number >> 120) as u64, &mut buffer[..2]);
    write_digits((number >> 60) as u64, &mut buffer[2..14]);
    write_digits(number as u64, &mut buffer[14..]);
}

#[inline]
fn write_digits(mut number: u64, digits: &mut [u8]) {
    for pair in digits.rchunks_exact_mut(2) {
        pair.copy_from_slice(&PAIRS[(number & 1023) as usize]);
        number >>= 10;
    }
}

impl RequestIds {
    /// Ids of an engine of this process. To be called after the last fork: two processes with one seed would make
    /// the same ids.
    pub fn new() -> Self {
        let mut bytes = [0; 10];
        if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).is_err() {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            bytes[..8].copy_from_slice(&(now.as_nanos() as u64).to_le_bytes());
            bytes[6..].copy_from_slice(&std::process::id().to_le_bytes());
        }
        let [a, b, c, d, e, f, g, h, i, j] = bytes;
        let seed = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Self { seed, count: 0, tail: u16::from_le_bytes([i, j]) }
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

    /// 48 bits of time and 80 that differ, as in a ULID.
    fn next(&mut self, unix_millis: u64) -> [u8; 16] {
        self.count = self.count.wrapping_add(1);
        let differing = u128::from(self.tail) << 64 | u128::from(mixed(self.seed.wrapping_add(self.count)));
        (u128::from(unix_millis) << 80 | differing).to_be_bytes()
    }
}

/// Whether it can stand in a log, a field and a URL: anything longer or odder is replaced by an id of ours.
fn is_usable(id: &[u8]) -> bool {
    let usual = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@~,;|".contains(byte);
    (1..=GIVEN_BYTES_MAX).contains(&id.len()) && id.iter().all(usual)
}

/// The finisher of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators): one to one, so
/// that no id comes twice before the count has gone round.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use portico_proto::{Event, Limits, http1};
    use proptest::prelude::*;

    use super::*;

    fn head(id: &str) -> Box<RequestHead> {
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: {id}\r\n\r\n");
        match http1::Connection::new().next_event(&mut request.as_bytes(), &Limits::default()) {
            Ok(Some(Event::Head(head))) => head,
            other => panic!("{other:?}"),
        }
    }

    fn text(id: RequestId, head: &RequestHead) -> String {
        let mut buffer = IdBuffer::default();
        String::from_utf8(id.text(head, &mut buffer).unwrap().to_vec()).unwrap()
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

    proptest! {
        #[test]
        fn digits_are_the_number_in_base_32(id: [u8; 16]) {
            let mut number = u128::from_be_bytes(id);
            let mut expected = IdBuffer::default();
            for digit in expected.iter_mut().rev() {
                *digit = DIGITS[(number & 31) as usize];
                number >>= 5;
            }
            let mut written = IdBuffer::default();
            write(&id, &mut written);
            prop_assert_eq!(written, expected);
        }
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
