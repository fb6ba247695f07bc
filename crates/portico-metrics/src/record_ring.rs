//! The last records of a kind in shared memory: one process writes them, others read them at any time.
//!
//! Whoever writes may be a worker, and a worker can write anything: a reader takes what it finds for numbers and
//! bytes, and never reaches beyond the words that it was given. A record that is being written, or was overwritten
//! meanwhile, is left out: its first word is its number in the row of all records while it is whole, and none
//! before.
//!
//! ```text
//!   records written | record: number, numbers..., bytes of the text, text... | record | ...
//! ```

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// The words of a ring of records, each of which has `NUMBERS` numbers and a text of at most `TEXT` words. Copies
/// are the same words.
#[derive(Clone, Copy, Debug)]
pub struct RecordRing<'a, const NUMBERS: usize, const TEXT: usize>(&'a [AtomicU64]);

/// A record, as a reader finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingRecord<const NUMBERS: usize> {
    /// Its numbers.
    pub numbers: [u64; NUMBERS],
    /// Its text, as far as there was room for it.
    pub text: Vec<u8>,
}

const WRITTEN: usize = 0;
/// Words before the first record.
const RECORDS_AT: usize = 1;
/// The first word of a record while it is being written.
const BEING_WRITTEN: u64 = 0;

impl<'a, const NUMBERS: usize, const TEXT: usize> RecordRing<'a, NUMBERS, TEXT> {
    /// Words of a record.
    const RECORD: usize = 1 + NUMBERS + 1 + TEXT;

    /// Words of a ring of so many records.
    pub const fn words(records: usize) -> usize {
        RECORDS_AT + records * Self::RECORD
    }

    /// Of as many records as `words` have room for.
    pub fn in_words(words: &'a [AtomicU64]) -> Self {
        Self(words)
    }

    fn capacity(self) -> u64 {
        (self.0.len().saturating_sub(RECORDS_AT) / Self::RECORD) as u64
    }

    /// The words of record number `number`, from 1.
    fn record(self, number: u64) -> Option<&'a [AtomicU64]> {
        let place = number.checked_sub(1)?.checked_rem(self.capacity())? as usize;
        self.0.get(RECORDS_AT + place * Self::RECORD..)?.get(..Self::RECORD)
    }

    fn written(self) -> u64 {
        self.0.get(WRITTEN).map_or(0, |written| written.load(Ordering::Acquire))
    }

    /// Adds a record in the place of the oldest one. One thread at a time may.
    pub fn push(self, numbers: [u64; NUMBERS], text: &[u8]) {
        let number = self.written().wrapping_add(1);
        let Some(record) = self.record(number) else { return };
        let text = &text[..text.len().min(TEXT * 8)];
        let [first, words @ ..] = record else { return };
        first.store(BEING_WRITTEN, Ordering::Relaxed);
        fence(Ordering::Release); // That is out before what follows.
        for (word, value) in words.iter().zip(numbers.into_iter().chain([text.len() as u64])) {
            word.store(value, Ordering::Relaxed);
        }
        for (word, bytes) in words[NUMBERS + 1..].iter().zip(text.chunks(8)) {
            let value = bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
            word.store(value, Ordering::Relaxed);
        }
        first.store(number, Ordering::Release);
        if let Some(written) = self.0.get(WRITTEN) {
            written.store(number, Ordering::Release);
        }
    }

    /// The records that there are, the oldest first.
    pub fn read(self) -> Vec<RingRecord<NUMBERS>> {
        let written = self.written();
        let first = written.saturating_sub(self.capacity()).saturating_add(1);
        (first..=written).filter_map(|number| self.read_record(number)).collect()
    }

    fn read_record(self, number: u64) -> Option<RingRecord<NUMBERS>> {
        let [first, words @ ..] = self.record(number)? else { return None };
        if first.load(Ordering::Acquire) != number {
            return None;
        }
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let numbers = std::array::from_fn(|index| words.get(index).map_or(0, load));
        let length = words.get(NUMBERS).map_or(0, load).min(TEXT as u64 * 8) as usize;
        let mut text: Vec<u8> = words.get(NUMBERS + 1..)?[..length.div_ceil(8)]
            .iter()
            .flat_map(|word| load(word).to_le_bytes())
            .collect();
        text.truncate(length);
        fence(Ordering::Acquire); // All of that before the second look at the number.
        (first.load(Ordering::Relaxed) == number).then_some(RingRecord { numbers, text })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    type Ring<'a> = RecordRing<'a, 2, 3>;

    fn words(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    fn texts(ring: Ring<'_>) -> Vec<String> {
        ring.read().into_iter().map(|record| String::from_utf8(record.text).unwrap()).collect()
    }

    #[test]
    fn the_last_records_are_kept() {
        let words = words(Ring::words(3));
        let ring = Ring::in_words(&words);
        assert_eq!(ring.read(), []);
        for number in 1..=4 {
            ring.push([number, 10 * number], format!("record {number}").as_bytes());
            assert_eq!(ring.read().len() as u64, number.min(3));
        }
        assert_eq!(texts(ring), ["record 2", "record 3", "record 4"]);
        assert_eq!(ring.read()[0].numbers, [2, 20]);
        assert_eq!(texts(Ring::in_words(&words)), texts(ring), "another process finds the same");
    }

    #[test]
    fn a_text_is_cut_at_its_room() {
        let words = words(Ring::words(2));
        let ring = Ring::in_words(&words);
        for length in [0, 1, 8, 23, 24, 25, 1_000] {
            ring.push([0, 0], &vec![b'x'; length]);
            assert_eq!(ring.read().last().unwrap().text.len(), length.min(24));
        }
    }

    #[test]
    fn nothing_fits_into_too_few_words() {
        for count in 0..Ring::words(1) {
            let words = words(count);
            let ring = Ring::in_words(&words);
            ring.push([1, 2], b"text");
            assert_eq!(ring.read(), []);
        }
    }

    #[test]
    fn whatever_stands_there_is_read_within_bounds() {
        for value in [1, 2, 3, 1 << 40, u64::MAX - 1, u64::MAX] {
            let words: Vec<_> = (0..Ring::words(3)).map(|_| AtomicU64::new(value)).collect();
            let ring = Ring::in_words(&words);
            assert!(ring.read().len() <= 3);
            ring.push([1, 2], b"text");
            assert!(ring.read().len() <= 3);
        }
    }

    #[test]
    fn a_half_written_record_is_left_out() {
        let words = words(Ring::words(2));
        let ring = Ring::in_words(&words);
        ring.push([1, 1], b"one");
        ring.push([2, 2], b"two");
        words[RECORDS_AT].store(BEING_WRITTEN, Ordering::Relaxed);
        assert_eq!(texts(ring), ["two"]);
    }

    #[test]
    fn readers_see_whole_records_while_others_are_written() {
        let words = words(Ring::words(4));
        let ring = Ring::in_words(&words);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..20_000_u64 {
                    ring.push([number, number], &[b'a' + (number % 26) as u8; 24]);
                }
                is_over.store(true, Ordering::Release);
            });
            while !is_over.load(Ordering::Acquire) {
                for record in ring.read() {
                    assert_eq!(record.numbers[0], record.numbers[1]);
                    let letter = b'a' + (record.numbers[0] % 26) as u8;
                    assert_eq!(record.text, [letter; 24]);
                }
            }
        });
        assert_eq!(ring.read().len(), 4);
    }
}
