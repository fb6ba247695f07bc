//! The id of a call, by which an operator names a request that runs.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Which call of which thread: `0-2-48` is that with sequence number 48 in the thread `portico-2` of slot 0. No
/// other call of the server ever has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    /// The slot of its worker.
    pub slot: u32,
    /// The index of its thread's record, one less than the number in the thread's name.
    pub thread: usize,
    /// Its number in that record.
    pub sequence: u64,
}

/// A text that is no id of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCallId;

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.slot, self.thread.saturating_add(1), self.sequence)
    }
}

impl FromStr for CallId {
    type Err = NoCallId;

    fn from_str(text: &str) -> Result<Self, NoCallId> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let parts: Vec<&str> = text.split('-').collect();
        let [slot, thread, sequence] = parts[..] else { return Err(NoCallId) };
        let thread: usize = thread.parse()?;
        let id = Self {
            slot: slot.parse()?,
            thread: thread.checked_sub(1).ok_or(NoCallId)?,
            sequence: sequence.parse()?,
        };
        Some(id).filter(|_| is_plain).ok_or(NoCallId)
    }
}

impl From<ParseIntError> for NoCallId {
    fn from(_: ParseIntError) -> Self {
        Self
    }
}

impl Serialize for CallId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back() {
        for (slot, thread, sequence) in [(0, 0, 2), (31, 63, u64::MAX), (u32::MAX, 7, 0)] {
            let id = CallId { slot, thread, sequence };
            assert_eq!(id.to_string().parse(), Ok(id), "{id}");
        }
        assert_eq!(CallId { slot: 0, thread: 1, sequence: 48 }.to_string(), "0-2-48", "as in portico-2");
    }

    #[test]
    fn other_texts_are_none() {
        let beyond = ["4294967296-1-2", "0-1-18446744073709551616"];
        for text in ["", "0", "0-1", "0-1-2-3", "0-0-2", "a-1-2", "+0-1-2", " 0-1-2", "0--1-2"] {
            assert_eq!(text.parse::<CallId>(), Err(NoCallId), "{text}");
        }
        assert!(beyond.iter().all(|text| text.parse::<CallId>().is_err()));
    }
}
