//! Records of a log that wait to be written, in their order and bounded. What does not fit is dropped and counted.

use std::collections::VecDeque;
use std::io;

use crate::Sink;

/// How much a record matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// It is dropped first.
    Ordinary,
    /// A part of the room is kept for such.
    Important,
}

/// Records that wait.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    records: VecDeque<Waiting>,
    /// Bytes of all of them.
    bytes: usize,
    /// Records that were dropped since the last notice.
    dropped: u64,
}

/// A record that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub text: String,
    /// Bytes of it that have been written.
    pub sent: usize,
    /// How many records are lost if it is: it may be the one that tells of others.
    stands_for: u64,
}

/// Bytes that wait at most. A record beyond them waits if it is alone: it is in memory already.
pub(crate) const BYTES_MAX: usize = 1024 * 1024;

/// Of these, bytes that only important records may have.
pub(crate) const RESERVE_BYTES: usize = 256 * 1024;

impl Backlog {
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Adds a record, or counts it as dropped.
    pub fn push(&mut self, record: String, weight: Weight) {
        let limit = match weight {
            Weight::Ordinary => BYTES_MAX - RESERVE_BYTES,
            Weight::Important => BYTES_MAX,
        };
        if !self.is_empty() && self.bytes + record.len() > limit {
            self.dropped += 1;
        } else if !record.is_empty() {
            self.bytes += record.len();
            self.records.push_back(Waiting { text: record, sent: 0, stands_for: 1 });
        }
    }

    /// Takes the first record.
    pub fn pop(&mut self) -> Option<Waiting> {
        let record = self.records.pop_front()?;
        self.bytes -= record.text.len();
        Some(record)
    }

    /// A record that was taken could not be written.
    pub fn note_lost(&mut self, record: &Waiting) {
        self.dropped += record.stands_for;
    }

    /// Once everything has been written: adds what tells how many records have been dropped, if some were.
    pub fn push_notice(&mut self, notice: impl FnOnce(u64) -> String) {
        if self.is_empty() && self.dropped > 0 {
            let stands_for = std::mem::take(&mut self.dropped);
            let text = notice(stands_for);
            self.bytes += text.len();
            self.records.push_back(Waiting { text, sent: 0, stands_for });
        }
    }

    /// Writes as much as `sink` takes now, each record by itself, so that those of several processes do not mix.
    pub fn write_to(&mut self, sink: &Sink) {
        while let Some(record) = self.records.front_mut() {
            match sink.write(&record.text.as_bytes()[record.sent..]) {
                Ok(count) if record.sent + count < record.text.len() => record.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                written => {
                    self.dropped += if written.is_err() { record.stands_for } else { 0 };
                    self.pop();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(backlog: &mut Backlog) -> Vec<String> {
        std::iter::from_fn(|| backlog.pop()).map(|record| record.text).collect()
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_told_once_all_else_is_written() {
        let mut backlog = Backlog::default();
        let record = "x".repeat(1024);
        (0..2000).for_each(|_| backlog.push(record.clone(), Weight::Ordinary));
        let kept = (BYTES_MAX - RESERVE_BYTES) / 1024;
        backlog.push_notice(|_| panic!("there is something to write before it"));
        assert_eq!(records(&mut backlog).len(), kept);
        backlog.push_notice(|dropped| format!("{dropped}"));
        assert_eq!(records(&mut backlog), [(2000 - kept).to_string()]);
        backlog.push_notice(|_| panic!("it has been told"));
    }

    #[test]
    fn a_notice_that_is_lost_is_told_with_the_next_one() {
        let mut backlog = Backlog::default();
        for expected in ["1", "2", "3"] {
            backlog.push("x".to_owned(), Weight::Ordinary);
            let record = backlog.pop().unwrap();
            backlog.note_lost(&record);
            backlog.push_notice(|dropped| dropped.to_string());
            let notice = backlog.pop().unwrap();
            assert_eq!(notice.text, expected);
            backlog.note_lost(&notice);
        }
    }

    #[test]
    fn important_records_have_room_where_ordinary_ones_have_none() {
        let mut backlog = Backlog::default();
        backlog.push("x".repeat(BYTES_MAX - RESERVE_BYTES), Weight::Ordinary);
        backlog.push("ordinary".to_owned(), Weight::Ordinary);
        backlog.push("y".repeat(RESERVE_BYTES - 1), Weight::Important);
        backlog.push("zz".to_owned(), Weight::Important);
        backlog.push("z".to_owned(), Weight::Important);
        assert_eq!((backlog.bytes, backlog.dropped), (BYTES_MAX, 2));
        assert_eq!(records(&mut backlog).last().map(String::as_str), Some("z"));
        assert_eq!(backlog.bytes, 0);
    }

    #[test]
    fn a_record_that_is_longer_than_all_the_room_is_taken_alone() {
        let mut backlog = Backlog::default();
        for _ in 0..2 {
            backlog.push("x".repeat(2 * BYTES_MAX), Weight::Ordinary);
        }
        assert_eq!((backlog.records.len(), backlog.dropped), (1, 1));
    }
}
