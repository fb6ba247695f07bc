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
    Made(Digits),
}

/// An id of ours as it is told, a ULID: 48 bits of time and 80 that differ, in base 32.
pub type Digits = [u8; 26];

/// Makes ids. No system call, no lock: each engine has its own.
///
/// What differs is a number that begins at random and counts up, so that of an id as a rule the last four digits
/// have to be written, and in each millisecond those of the time.
#[derive(Debug)]
pub struct RequestIds {
    /// The last one.
    digits: Digits,
    /// The time in it.
    millis: u64,
    /// The upper 60 bits of the number.
    upper: u64,
    /// The lower 20.
    lower: u32,
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

/// Numbers below this are the lower part of one.
const LOWER_END: u32 = 1 << 20;

impl RequestId {
    /// The id as it is told; `None` where there is none.
    pub fn text<'a>(&'a self, head: &'a RequestHead) -> Option<&'a [u8]> {
        self.given(head).or_else(|| self.made())
    }

    /// The id as it is told, if it is the one of the request `head`.
    pub fn given<'a>(&self, head: &'a RequestHead) -> Option<&'a [u8]> {
        match self {
            Self::Given => head.field(FIELD),
            Self::None | Self::Made(_) => None,
        }
    }

    /// The id as it is told, if it is one of ours.
    pub fn made(&self) -> Option<&[u8]> {
        match self {
            Self::Made(digits) => Some(digits),
            Self::None | Self::Given => None,
        }
    }
}

impl RequestIds {
    /// Ids of an engine of this process. To be called after the last fork: two processes that begin with one
    /// number would make the same ids.
    pub fn new() -> Self {
        let mut bytes = [0; 12];
        if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).is_err() {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            bytes[..8].copy_from_slice(&(now.as_nanos() as u64).to_le_bytes());
            bytes[4..8].copy_from_slice(&std::process::id().to_le_bytes());
        }
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        let upper = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Self::from_number(upper, u32::from_le_bytes([i, j, k, l]) % LOWER_END)
    }

    fn from_number(upper: u64, lower: u32) -> Self {
        let mut ids = Self { digits: [b'0'; 26], millis: 0, upper, lower };
        write_digits(upper, &mut ids.digits[10..22]);
        ids
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
        self.lower += 1;
        if self.lower == LOWER_END {
            self.lower = 0;
            self.upper = self.upper.wrapping_add(1);
            write_digits(self.upper, &mut self.digits[10..22]);
        }
        if self.millis != unix_millis {
            self.millis = unix_millis;
            write_digits(unix_millis, &mut self.digits[..10]);
        }
        write_digits(self.lower.into(), &mut self.digits[22..]);
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

    proptest! {
        #[test]
        fn digits_are_time_and_number_in_base_32(
            upper in 0..1u64 << 60,
            lower in prop_oneof![Just(0), Just(LOWER_END - 2), Just(LOWER_END - 1), 0..LOWER_END],
            times in prop::collection::vec(prop_oneof![Just(7), Just(8), 0..1u64 << 48], 1..5),
        ) {
            let mut ids = RequestIds::from_number(upper, lower);
            let mut number = u128::from(upper) << 20 | u128::from(lower);
            for millis in times {
                number = (number + 1) % (1 << 80);
                let mut rest = u128::from(millis) << 80 | number;
                let mut expected = [0; 26];
                for digit in expected.iter_mut().rev() {
                    *digit = DIGITS[(rest & 31) as usize];
                    rest >>= 5;
                }
                prop_assert_eq!(ids.next(millis), expected);
            }
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
