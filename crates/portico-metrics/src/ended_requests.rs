//! Requests that have ended and were slow or failed: the last ones of each slot, in shared memory.
//!
//! The worker's engine writes one at the end of such an exchange, and others pay for a comparison. They outlive
//! the worker. The query is not among what is written: it may hold secrets.

use std::sync::atomic::AtomicU64;

use crate::record_ring::{RecordRing, RingRecord};

/// The last requests of a slot that were slow or failed. Copies are the same words.
#[derive(Clone, Copy, Debug)]
pub struct EndedRequests<'a>(EndedRing<'a>);

type EndedRing<'a> = RecordRing<'a, NUMBERS, TEXT_WORDS>;

/// A request that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndedExchange {
    /// When it ended, in nanoseconds since 1970.
    pub unix_nanos: u64,
    /// The status of its response; 499 if its client left before there was one.
    pub status: u16,
    /// Its wait for a thread.
    pub queue_nanos: u64,
    /// How long the application took.
    pub application_nanos: u64,
    /// How long its response took to be written.
    pub write_nanos: u64,
    /// The trace that it belongs to; 0 if none is known.
    pub trace_id: u128,
    /// Its method.
    pub method: Vec<u8>,
    /// Why it ended otherwise than with the whole response of the application, in the access log's word; `-` if it
    /// did not.
    pub reason: Vec<u8>,
    /// The path of its target, without the query; cut where there is no room.
    pub path: Vec<u8>,
}

/// Kept of each slot: as many as are shown of all slots, so that one slot can have them all.
const ENDED_REQUESTS: usize = 100;

/// Words of a slot for them.
pub const ENDED_WORDS: usize = EndedRing::words(ENDED_REQUESTS);

const NUMBERS: usize = 7;
/// For a method, a reason, and a path as long as that which a thread notes of a request.
const TEXT_WORDS: usize = 36;

impl<'a> EndedRequests<'a> {
    /// Those in `words`, of which there are [`ENDED_WORDS`].
    pub fn in_words(words: &'a [AtomicU64]) -> Self {
        Self(EndedRing::in_words(words))
    }

    /// Adds one in the place of the oldest.
    pub fn push(self, ended: &EndedExchange) {
        let EndedExchange { unix_nanos, status, queue_nanos, application_nanos, write_nanos, .. } = *ended;
        let trace = [(ended.trace_id >> 64) as u64, ended.trace_id as u64];
        let status = u64::from(status);
        let numbers = [unix_nanos, status, queue_nanos, application_nanos, write_nanos, trace[0], trace[1]];
        // No method has a blank in it (RFC 9110, section 9.1), and no reason.
        self.0.push(numbers, &[&ended.method[..], &ended.reason, &ended.path].join(&b' '));
    }

    /// All that are kept, the oldest first.
    pub fn read(self) -> Vec<EndedExchange> {
        self.0.read().into_iter().map(EndedExchange::from).collect()
    }
}

impl From<RingRecord<NUMBERS>> for EndedExchange {
    fn from(record: RingRecord<NUMBERS>) -> Self {
        let RingRecord { numbers, text } = record;
        let [unix_nanos, status, queue_nanos, application_nanos, write_nanos, high, low] = numbers;
        let mut parts = text.splitn(3, |byte| *byte == b' ').map(<[u8]>::to_vec);
        Self {
            unix_nanos,
            status: status as u16,
            queue_nanos,
            application_nanos,
            write_nanos,
            trace_id: u128::from(high) << 64 | u128::from(low),
            method: parts.next().unwrap_or_default(),
            reason: parts.next().unwrap_or_default(),
            path: parts.next().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Vec<AtomicU64> {
        (0..ENDED_WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let words = words();
        let ended = EndedExchange {
            unix_nanos: 1_800_000_000_000_000_000,
            status: 504,
            queue_nanos: 1,
            application_nanos: 2,
            write_nanos: 3,
            trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
            method: b"GET".to_vec(),
            reason: b"timeout".to_vec(),
            path: b"/a b\xff".to_vec(),
        };
        EndedRequests::in_words(&words).push(&ended);
        assert_eq!(EndedRequests::in_words(&words).read(), [ended]);
    }

    #[test]
    fn the_last_hundred_are_kept() {
        let words = words();
        let requests = EndedRequests::in_words(&words);
        for number in 0..=ENDED_REQUESTS as u64 {
            requests.push(&EndedExchange { unix_nanos: number, ..EndedExchange::default() });
        }
        let times: Vec<u64> = requests.read().iter().map(|ended| ended.unix_nanos).collect();
        assert_eq!(times, (1..=ENDED_REQUESTS as u64).collect::<Vec<_>>());
    }
}
