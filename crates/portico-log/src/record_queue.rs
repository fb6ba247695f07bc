//! Records of a log that wait to be written, in their order and bounded. What does not fit is dropped and counted.

use std::collections::VecDeque;
use std::io;

use crate::log_sink::LogSink;

/// The rank of a record where a log has a slow reader: whether it may be dropped first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// It is dropped first.
    Ordinary,
    /// A part of the room is kept for such.
    Important,
}

/// Records that wait for a slow reader of the log. [`crate::log_output::LogOutput`] owns it under its lock; it
/// never grows beyond [`BYTES_MAX`] but for one record.
#[derive(Debug, Default)]
pub(crate) struct RecordQueue {
    records: VecDeque<QueuedRecord>,
    /// Bytes of all of them.
    bytes: usize,
    /// Records that were dropped since the last notice.
    dropped: u64,
}

/// A record in the queue, and how much of it has been written.
#[derive(Debug)]
pub(crate) struct QueuedRecord {
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

impl RecordQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Adds a record, or counts it as dropped.
    pub(crate) fn push(&mut self, record: String, weight: Weight) {
        let limit = match weight {
            Weight::Ordinary => BYTES_MAX - RESERVE_BYTES,
            Weight::Important => BYTES_MAX,
        };
        if !self.is_empty() && self.bytes + record.len() > limit {
            self.dropped += 1;
        } else if !record.is_empty() {
            self.bytes += record.len();
            self.records.push_back(QueuedRecord { text: record, sent: 0, stands_for: 1 });
        }
    }

    /// Takes the first record.
    pub(crate) fn pop(&mut self) -> Option<QueuedRecord> {
        let record = self.records.pop_front()?;
        self.bytes -= record.text.len();
        Some(record)
    }

    /// A record that was taken could not be written.
    pub(crate) fn note_lost(&mut self, record: &QueuedRecord) {
        self.dropped += record.stands_for;
    }

    /// Once everything has been written: adds what tells how many records have been dropped, if some were.
    pub(crate) fn push_notice(&mut self, notice: impl FnOnce(u64) -> String) {
        if self.is_empty() && self.dropped > 0 {
            let stands_for = std::mem::take(&mut self.dropped);
            let text = notice(stands_for);
            self.bytes += text.len();
            self.records.push_back(QueuedRecord { text, sent: 0, stands_for });
        }
    }

    /// Writes as much as `sink` takes now, each record by itself, so that those of several processes do not mix.
    pub(crate) fn write_to(&mut self, sink: &LogSink) {
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

    fn records(queue: &mut RecordQueue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop()).map(|record| record.text).collect()
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_told_once_all_else_is_written() {
        let mut queue = RecordQueue::default();
        let record = "x".repeat(1024);
        (0..2000).for_each(|_| queue.push(record.clone(), Weight::Ordinary));
        let kept = (BYTES_MAX - RESERVE_BYTES) / 1024;
        queue.push_notice(|_| panic!("there is something to write before it"));
        assert_eq!(records(&mut queue).len(), kept);
        queue.push_notice(|dropped| format!("{dropped}"));
        assert_eq!(records(&mut queue), [(2000 - kept).to_string()]);
        queue.push_notice(|_| panic!("it has been told"));
    }

    #[test]
    fn a_notice_that_is_lost_is_told_with_the_next_one() {
        let mut queue = RecordQueue::default();
        for expected in ["1", "2", "3"] {
            queue.push("x".to_owned(), Weight::Ordinary);
            let record = queue.pop().unwrap();
            queue.note_lost(&record);
            queue.push_notice(|dropped| dropped.to_string());
            let notice = queue.pop().unwrap();
            assert_eq!(notice.text, expected);
            queue.note_lost(&notice);
        }
    }

    #[test]
    fn important_records_have_room_where_ordinary_ones_have_none() {
        let mut queue = RecordQueue::default();
        queue.push("x".repeat(BYTES_MAX - RESERVE_BYTES), Weight::Ordinary);
        queue.push("ordinary".to_owned(), Weight::Ordinary);
        queue.push("y".repeat(RESERVE_BYTES - 1), Weight::Important);
        queue.push("zz".to_owned(), Weight::Important);
        queue.push("z".to_owned(), Weight::Important);
        assert_eq!((queue.bytes, queue.dropped), (BYTES_MAX, 2));
        assert_eq!(records(&mut queue).last().map(String::as_str), Some("z"));
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn a_record_that_is_longer_than_all_the_room_is_taken_alone() {
        let mut queue = RecordQueue::default();
        for _ in 0..2 {
            queue.push("x".repeat(2 * BYTES_MAX), Weight::Ordinary);
        }
        assert_eq!((queue.records.len(), queue.dropped), (1, 1));
    }
}
