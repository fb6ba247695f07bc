//! Entries in shared memory that one process appends and others read: each a key, which never changes, and
//! numbers.
//!
//! The writer is a worker, and a worker can write anything: a reader takes what it finds for bytes and numbers,
//! and never reaches beyond the words that it was given. An entry that does not fit is counted, and not made.
//!
//! ```text
//!   words used | entries lost | entry: bytes of the key, owner, time, value, key... | entry | ...
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use super::thread::{load_text, store_text};

/// The words that hold entries. Copies are the same words.
#[derive(Clone, Copy, Debug)]
pub struct Entries<'a>(&'a [AtomicU64]);

/// One entry, as a reader finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place, by which its numbers are changed.
    pub place: EntryPlace,
    /// What it is about.
    pub key: Vec<u8>,
    /// Who has written it; the meaning is the user's.
    pub owner: u64,
    /// A time or a second number; the meaning is the user's.
    pub time: u64,
    /// Its number.
    pub value: u64,
}

/// The place of an entry among the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryPlace(u32);

/// The longest key. A longer one is refused as one that does not fit.
const KEY_BYTES_MAX: usize = 16 * 1024;

const USED: usize = 0;
const LOST: usize = 1;
/// Words before the first entry.
const ENTRIES_AT: usize = 2;

const LENGTH: usize = 0;
const OWNER: usize = 1;
const TIME: usize = 2;
const VALUE: usize = 3;
/// Words of an entry before its key.
const KEY_AT: usize = 4;

impl<'a> Entries<'a> {
    /// Those in `words`.
    pub(super) fn in_words(words: &'a [AtomicU64]) -> Self {
        Self(words)
    }

    /// Appends an entry. `None` if there is no room for it, which is counted. One thread at a time may append.
    pub fn append(self, key: &[u8], owner: u64, time: u64, value: u64) -> Option<EntryPlace> {
        let from = self.used();
        let words = KEY_AT + key.len().div_ceil(8);
        let entry = self.0.get(from..from.saturating_add(words)).filter(|_| key.len() <= KEY_BYTES_MAX);
        let Some(entry) = entry else {
            self.count_lost();
            return None;
        };
        store_text(&entry[KEY_AT..], key);
        let numbers = [(LENGTH, key.len() as u64), (OWNER, owner), (TIME, time), (VALUE, value)];
        numbers.iter().for_each(|(word, number)| entry[*word].store(*number, Ordering::Relaxed));
        // What stands below the number of used words is whole.
        if let Some(used) = self.0.get(USED) {
            used.store((from + words - ENTRIES_AT) as u64, Ordering::Release);
        }
        u32::try_from(from).ok().map(EntryPlace)
    }

    /// An entry was not made, or not looked for room for: it is counted.
    pub fn count_lost(self) {
        if let Some(lost) = self.0.get(LOST) {
            lost.store(lost.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Entries that were not made for want of room.
    pub fn lost(self) -> u64 {
        self.0.get(LOST).map_or(0, |lost| lost.load(Ordering::Relaxed))
    }

    /// Where the next entry begins.
    fn used(self) -> usize {
        let used = self.0.get(USED).map_or(0, |used| used.load(Ordering::Acquire));
        usize::try_from(used).unwrap_or(usize::MAX).saturating_add(ENTRIES_AT).min(self.0.len())
    }

    /// Forgets all entries. To be called by whoever appends.
    pub fn clear(self) {
        let head = self.0.get(..ENTRIES_AT).unwrap_or_default();
        head.iter().for_each(|word| word.store(0, Ordering::Release));
    }

    /// All entries, from the oldest on. Ends at the first one that no writer of ours can have made.
    pub fn iter(self) -> impl Iterator<Item = Entry> + 'a {
        let (words, mut from) = (&self.0[..self.used()], ENTRIES_AT);
        std::iter::from_fn(move || {
            let entry = words.get(from..).filter(|rest| rest.len() >= KEY_AT)?;
            let number = |word: usize| entry[word].load(Ordering::Relaxed);
            let bytes = usize::try_from(number(LENGTH)).ok().filter(|bytes| *bytes <= KEY_BYTES_MAX)?;
            let key = load_text(entry.get(KEY_AT..KEY_AT + bytes.div_ceil(8))?, bytes as u64);
            let place = EntryPlace(u32::try_from(from).ok()?);
            from += KEY_AT + bytes.div_ceil(8);
            Some(Entry { place, key, owner: number(OWNER), time: number(TIME), value: number(VALUE) })
        })
    }

    fn number(self, place: EntryPlace, word: usize) -> Option<&'a AtomicU64> {
        self.0.get((place.0 as usize).checked_add(word)?)
    }

    /// The number of an entry.
    #[inline]
    pub fn value(self, place: EntryPlace) -> u64 {
        self.number(place, VALUE).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Sets it. One thread at a time may change an entry.
    #[inline]
    pub fn set_value(self, place: EntryPlace, value: u64) {
        self.number(place, VALUE).into_iter().for_each(|word| word.store(value, Ordering::Relaxed));
    }

    /// Adds to it, as [`Entries::set_value`].
    #[inline]
    pub fn add_value(self, place: EntryPlace, value: u64) {
        self.set_value(place, self.value(place).saturating_add(value));
    }

    /// Whose the entry is.
    pub fn owner(self, place: EntryPlace) -> u64 {
        self.number(place, OWNER).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Sets whose the entry is.
    pub fn set_owner(self, place: EntryPlace, owner: u64) {
        self.number(place, OWNER).into_iter().for_each(|word| word.store(owner, Ordering::Relaxed));
    }

    /// Sets its time.
    #[inline]
    pub fn set_time(self, place: EntryPlace, time: u64) {
        self.number(place, TIME).into_iter().for_each(|word| word.store(time, Ordering::Relaxed));
    }

    /// Its time.
    pub fn time(self, place: EntryPlace) -> u64 {
        self.number(place, TIME).map_or(0, |word| word.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    fn keys(entries: Entries<'_>) -> Vec<(Vec<u8>, u64)> {
        entries.iter().map(|entry| (entry.key, entry.value)).collect()
    }

    #[test]
    fn what_is_appended_is_read_and_changed() {
        let words = words(100);
        let entries = Entries::in_words(&words);
        assert_eq!(keys(entries), []);
        let first = entries.append(b"requests", 7, 1, 3).unwrap();
        let other = entries.append(b"", 7, 1, 4).unwrap();
        entries.add_value(first, 2);
        entries.set_value(other, 9);
        entries.set_time(other, 5);
        entries.set_owner(other, 8);
        assert_eq!(keys(entries), [(b"requests".to_vec(), 5), (b"".to_vec(), 9)]);
        let last = entries.iter().last().unwrap();
        assert_eq!((last.place, last.owner, last.time), (other, 8, 5));
        assert_eq!((entries.value(other), entries.time(other)), (9, 5));
        entries.clear();
        assert_eq!(keys(entries), []);
    }

    #[test]
    fn what_does_not_fit_is_counted_and_the_rest_stays() {
        // Room for two entries of a word's key each, to the last word.
        let words = words(ENTRIES_AT + 2 * (KEY_AT + 1));
        let entries = Entries::in_words(&words);
        assert!(entries.append(b"12345678", 0, 0, 1).is_some());
        assert!(entries.append(b"123456789", 0, 0, 2).is_none(), "a word too long");
        assert!(entries.append(b"1", 0, 0, 3).is_some());
        assert!(entries.append(b"", 0, 0, 4).is_none());
        assert_eq!(keys(entries), [(b"12345678".to_vec(), 1), (b"1".to_vec(), 3)]);
        assert_eq!(entries.lost(), 2);
    }

    #[test]
    fn the_longest_key_fits_and_a_longer_one_does_not() {
        let words = words(10_000);
        let entries = Entries::in_words(&words);
        assert!(entries.append(&[b'x'; KEY_BYTES_MAX], 0, 0, 1).is_some());
        assert!(entries.append(&[b'x'; KEY_BYTES_MAX + 1], 0, 0, 1).is_none());
        assert_eq!(entries.iter().map(|entry| entry.key.len()).collect::<Vec<_>>(), [KEY_BYTES_MAX]);
    }

    #[test]
    fn no_words_are_room_for_nothing() {
        for count in 0..ENTRIES_AT {
            let words = words(count);
            let entries = Entries::in_words(&words);
            assert!(entries.append(b"x", 0, 0, 0).is_none());
            assert_eq!(entries.iter().count(), 0);
            entries.clear();
        }
    }

    proptest! {
        /// Whatever stands in the words, reading them ends, within them, and so does appending.
        #[test]
        fn a_hostile_writer_is_survived(
            content in proptest::collection::vec(prop_oneof![any::<u64>(), 0_u64..64], 0..200),
            key in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let words: Vec<AtomicU64> = content.iter().map(|word| AtomicU64::new(*word)).collect();
            let entries = Entries::in_words(&words);
            let found: Vec<Entry> = entries.iter().collect();
            prop_assert!(found.len() * KEY_AT <= words.len());
            for entry in &found {
                prop_assert_eq!(entries.value(entry.place), entry.value);
            }
            if let Some(place) = entries.append(&key, 1, 2, 3) {
                prop_assert_eq!(entries.value(place), 3);
            }
            prop_assert!(entries.iter().count() * KEY_AT <= words.len());
        }
    }
}
