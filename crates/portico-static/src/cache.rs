//! The files that a worker keeps in memory, within a bound.
//!
//! What is evicted is found by a clock's hand: it passes over what has been used since it came by last. So files
//! that are asked for once push out each other, and not those that are asked for all the time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::stored_file::StoredFile;

/// Files by site and path, with the sum of the memory that they take.
#[derive(Debug)]
pub struct FileCache {
    bytes_max: usize,
    bytes: usize,
    /// One map for each site: a path is looked up as it is, without a key that would have to be made.
    places: Vec<HashMap<Box<[u8]>, usize, RandomState>>,
    slots: Vec<KeptSlot>,
    hand: usize,
}

#[derive(Debug)]
struct KeptSlot {
    site: usize,
    path: Box<[u8]>,
    file: Arc<StoredFile>,
    bytes: usize,
    /// When it was last looked at on the disk.
    checked: Instant,
    /// It has been used since the hand came by.
    is_used: bool,
}

/// What is kept of a path.
#[derive(Debug)]
pub enum KeptFile {
    /// Nothing.
    Nothing,
    /// A file that was looked at within the last second.
    Fresh(Arc<StoredFile>),
    /// One that is to be looked at again.
    Stale(Arc<StoredFile>),
}

/// How long what was seen of a file counts.
const FRESH: Duration = Duration::from_secs(1);

impl FileCache {
    /// An empty one for so many sites, which takes no more than so many bytes.
    pub fn new(sites: usize, bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            places: (0..sites).map(|_| HashMap::default()).collect(),
            slots: Vec::new(),
            hand: 0,
        }
    }

    /// Memory that its files take.
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// What is kept of `path`.
    #[inline]
    pub fn find(&mut self, site: usize, path: &[u8], now: Instant) -> KeptFile {
        let Some(slot) = self.places.get(site).and_then(|paths| paths.get(path)) else {
            return KeptFile::Nothing;
        };
        let Some(slot) = self.slots.get_mut(*slot) else { return KeptFile::Nothing };
        slot.is_used = true;
        let file = Arc::clone(&slot.file);
        if now.saturating_duration_since(slot.checked) < FRESH {
            KeptFile::Fresh(file)
        } else {
            KeptFile::Stale(file)
        }
    }

    /// The file of `path` has been looked at, and is what it was.
    pub fn note_checked(&mut self, site: usize, path: &[u8], now: Instant) {
        if let Some(slot) = self.places.get(site).and_then(|paths| paths.get(path)) {
            self.slots[*slot].checked = now;
        }
    }

    /// Keeps `file`, in place of what is kept of `path`; one that is too large, or that may change unnoticed, not.
    pub fn keep(&mut self, site: usize, path: &[u8], file: &Arc<StoredFile>, now: Instant) {
        self.drop_path(site, path);
        let bytes = file.memory_bytes() + path.len();
        if !file.is_lasting() || bytes > self.bytes_max || site >= self.places.len() {
            return;
        }
        while self.bytes + bytes > self.bytes_max {
            self.evict();
        }
        self.bytes += bytes;
        let slot = KeptSlot {
            site,
            path: path.into(),
            file: Arc::clone(file),
            bytes,
            checked: now,
            // It has to be asked for once more, or it is among the next to go.
            is_used: false,
        };
        self.places[site].insert(path.into(), self.slots.len());
        self.slots.push(slot);
    }

    /// Keeps `newer`, which is `file` with more variants, if `file` is still what is kept.
    pub fn complete(&mut self, site: usize, path: &[u8], file: &Arc<StoredFile>, newer: &Arc<StoredFile>) {
        let Some(&slot) = self.places.get(site).and_then(|paths| paths.get(path)) else { return };
        if Arc::ptr_eq(&self.slots[slot].file, file) {
            let (checked, is_used) = (self.slots[slot].checked, self.slots[slot].is_used);
            self.keep(site, path, newer, checked);
            if let Some(slot) = self.places[site].get(path) {
                self.slots[*slot].is_used = is_used;
            }
        }
    }

    /// Keeps nothing of `path` any more.
    pub fn drop_path(&mut self, site: usize, path: &[u8]) {
        if let Some(slot) = self.places.get_mut(site).and_then(|paths| paths.remove(path)) {
            self.free(slot);
        }
    }

    /// Drops the first file that the hand comes to and that has not been used.
    fn evict(&mut self) {
        for _ in 0..=2 * self.slots.len() {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let Some(slot) = self.slots.get_mut(self.hand) else { return };
            if !std::mem::take(&mut slot.is_used) {
                let (site, path) = (slot.site, std::mem::take(&mut slot.path));
                self.places[site].remove(&path);
                return self.free(self.hand);
            }
            self.hand += 1;
        }
    }

    /// Gives a place up, which the last one takes.
    fn free(&mut self, slot: usize) {
        let gone = self.slots.swap_remove(slot);
        self.bytes -= gone.bytes;
        if let Some(moved) = self.slots.get(slot)
            && let Some(place) = self.places[moved.site].get_mut(&moved.path)
        {
            *place = slot;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored_file::tests_support::stored;

    fn path(number: usize) -> Vec<u8> {
        format!("/{number}").into_bytes()
    }

    #[test]
    fn a_file_is_fresh_for_a_second_and_then_looked_at() {
        let now = Instant::now();
        let mut cache = FileCache::new(2, 1 << 20);
        let file = Arc::new(stored(100, true));
        cache.keep(1, b"/a", &file, now);
        assert!(matches!(cache.find(0, b"/a", now), KeptFile::Nothing), "another site's");
        assert!(matches!(cache.find(1, b"/a", now + FRESH / 2), KeptFile::Fresh(_)));
        assert!(matches!(cache.find(1, b"/a", now + FRESH), KeptFile::Stale(_)));
        cache.note_checked(1, b"/a", now + FRESH);
        assert!(matches!(cache.find(1, b"/a", now + FRESH), KeptFile::Fresh(_)));
        cache.drop_path(1, b"/a");
        assert!(matches!(cache.find(1, b"/a", now), KeptFile::Nothing));
        assert_eq!(cache.memory_bytes(), 0);
    }

    #[test]
    fn what_may_change_unnoticed_or_is_too_large_is_not_kept() {
        let now = Instant::now();
        let mut cache = FileCache::new(1, 10_000);
        cache.keep(0, b"/racy", &Arc::new(stored(1, false)), now);
        cache.keep(0, b"/large", &Arc::new(stored(10_000, true)), now);
        assert_eq!(cache.memory_bytes(), 0);
        let mut none = FileCache::new(1, 0);
        none.keep(0, b"/a", &Arc::new(stored(1, true)), now);
        assert_eq!(none.memory_bytes(), 0);
    }

    #[test]
    fn it_stays_within_its_bound_and_keeps_what_is_asked_for() {
        let now = Instant::now();
        let bytes_max = 1 << 20;
        let mut cache = FileCache::new(1, bytes_max);
        cache.keep(0, b"/often", &Arc::new(stored(1000, true)), now);
        for number in 0..10_000 {
            assert!(matches!(cache.find(0, b"/often", now), KeptFile::Fresh(_)), "after {number}");
            cache.keep(0, &path(number), &Arc::new(stored(number % 5000, true)), now);
            assert!(cache.memory_bytes() <= bytes_max, "after {number}");
        }
        let kept =
            (0..10_000).filter(|number| !matches!(cache.find(0, &path(*number), now), KeptFile::Nothing));
        let kept = kept.count();
        assert!(kept > 100, "{kept}");
        assert_eq!(cache.slots.len(), kept + 1);
        assert_eq!(cache.bytes, cache.slots.iter().map(|slot| slot.bytes).sum::<usize>());
    }

    #[test]
    fn a_file_is_completed_if_it_is_still_the_same() {
        let now = Instant::now();
        let mut cache = FileCache::new(1, 1 << 20);
        let (file, newer, other) =
            (Arc::new(stored(1, true)), Arc::new(stored(2, true)), Arc::new(stored(3, true)));
        let size = |cache: &mut FileCache| match cache.find(0, b"/a", now) {
            KeptFile::Fresh(file) => file.variants[0].size,
            kept => panic!("{kept:?}"),
        };
        cache.keep(0, b"/a", &file, now);
        cache.complete(0, b"/a", &file, &newer);
        assert_eq!(size(&mut cache), 2);
        cache.complete(0, b"/a", &file, &other);
        assert_eq!(size(&mut cache), 2, "it has been replaced meanwhile");
        cache.complete(0, b"/b", &file, &other);
        assert!(matches!(cache.find(0, b"/b", now), KeptFile::Nothing));
    }
}
