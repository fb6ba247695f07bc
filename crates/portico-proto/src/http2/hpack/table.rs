//! The fields that header blocks refer to by a number (RFC 7541, section 2.3).
//!
//! Those that a connection has had lie one behind the other in one piece of memory, so that none takes more than
//! its bytes, and no frame stays in memory for the sake of a field that came with it.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use super::Malformed;

/// Those that everybody has, and behind them those of this connection, of which the newest come first.
pub(super) struct DynamicTable {
    /// Names and values of `entries` in their order, behind what is left of entries that have been dropped.
    bytes: Vec<u8>,
    /// The oldest first.
    entries: VecDeque<TableEntry>,
    /// As RFC 7541, section 4.1 counts.
    size: usize,
    size_max: usize,
}

/// The place of a field in the table's `bytes`, as offsets, so that an entry costs no allocation. The table owns
/// it; the offsets hold until the entry is evicted.
#[derive(Clone, Copy)]
struct TableEntry {
    start: u32,
    name_end: u32,
    end: u32,
}

/// The size that a table may have: SETTINGS_HEADER_TABLE_SIZE (RFC 9113, section 6.5.2), of which we say nothing.
const SIZE_MAX: usize = 4096;

/// What an entry counts beside its bytes.
const ENTRY_SIZE: usize = 32;

/// Bytes of dropped entries that stay where they are: moving the others for each would cost more than reading it.
const DROPPED_BYTES_MAX: usize = SIZE_MAX;

impl DynamicTable {
    /// Name and value of the entry with this index.
    pub(super) fn get(&self, index: u32) -> Result<(&[u8], &[u8]), Malformed> {
        let index = index as usize;
        match STATIC.get(index.wrapping_sub(1)) {
            Some(&field) => Ok(field),
            None => {
                let TableEntry { start, name_end, end } = self.entry(index)?;
                Ok((&self.bytes[range(start, name_end)], &self.bytes[range(name_end, end)]))
            }
        }
    }

    /// Adds an entry, for which the oldest make room. One that is larger than the table empties it.
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        if self.fits(name.len(), value.len()) {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(name);
            self.append(start, value);
        }
    }

    /// The same with the name of the entry `index`, which may be one that makes room.
    pub(super) fn insert_with_name_of(&mut self, index: u32, value: &[u8]) -> Result<(), Malformed> {
        if let Some((name, _)) = STATIC.get((index as usize).wrapping_sub(1)) {
            self.insert(name, value);
            return Ok(());
        }
        let entry = self.entry(index as usize)?;
        if self.fits((entry.name_end - entry.start) as usize, value.len()) {
            let start = self.bytes.len();
            self.bytes.extend_from_within(range(entry.start, entry.name_end));
            self.append(start, value);
        }
        Ok(())
    }

    /// The peer uses no more than this of its table from now on.
    pub(super) fn set_size_max(&mut self, size_max: u32) -> Result<(), Malformed> {
        let size_max = size_max as usize;
        if size_max > SIZE_MAX {
            return Err(Malformed);
        }
        self.size_max = size_max;
        self.evict();
        Ok(())
    }

    /// Gives memory back that no entry needs.
    pub(super) fn release(&mut self) {
        self.close_gap();
        self.bytes.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    /// The entry of this connection with this index, which is beyond [`STATIC`], or 0.
    fn entry(&self, index: usize) -> Result<TableEntry, Malformed> {
        let newer = index.checked_sub(STATIC.len() + 1).ok_or(Malformed)?;
        let place = self.entries.len().checked_sub(newer + 1).ok_or(Malformed)?;
        self.entries.get(place).copied().ok_or(Malformed)
    }

    /// Whether there can be an entry of these lengths; if not, the table is emptied (RFC 7541, section 4.4).
    fn fits(&mut self, name_bytes: usize, value_bytes: usize) -> bool {
        let fits = name_bytes + value_bytes + ENTRY_SIZE <= self.size_max;
        if !fits {
            (self.entries, self.size) = (VecDeque::new(), 0);
        }
        fits
    }

    /// Completes an entry whose name is in its place with its value.
    fn append(&mut self, start: usize, value: &[u8]) {
        let name_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        let entry =
            TableEntry { start: start as u32, name_end: name_end as u32, end: self.bytes.len() as u32 };
        self.size += entry.size();
        self.entries.push_back(entry);
        self.evict();
        if self.gap() > DROPPED_BYTES_MAX {
            self.close_gap();
        }
    }

    fn evict(&mut self) {
        while self.size > self.size_max
            && let Some(oldest) = self.entries.pop_front()
        {
            self.size -= oldest.size();
        }
    }

    /// Bytes before the first entry.
    fn gap(&self) -> usize {
        self.entries.front().map_or(self.bytes.len(), |first| first.start as usize)
    }

    fn close_gap(&mut self) {
        let gap = self.gap();
        self.bytes.drain(..gap);
        for entry in &mut self.entries {
            entry.start -= gap as u32;
            entry.name_end -= gap as u32;
            entry.end -= gap as u32;
        }
    }
}

impl Default for DynamicTable {
    fn default() -> Self {
        Self { bytes: Vec::new(), entries: VecDeque::new(), size: 0, size_max: SIZE_MAX }
    }
}

/// Without what the peer has sent.
impl fmt::Debug for DynamicTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("size", &self.size).finish_non_exhaustive()
    }
}

impl TableEntry {
    fn size(&self) -> usize {
        (self.end - self.start) as usize + ENTRY_SIZE
    }
}

fn range(start: u32, end: u32) -> Range<usize> {
    start as usize..end as usize
}

/// RFC 7541, appendix A.
static STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The entries of the connection, the newest first.
    fn entries(table: &DynamicTable) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let first = STATIC.len() as u32 + 1;
        (first..)
            .map_while(|index| table.get(index).ok())
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    #[test]
    fn what_everybody_has_is_at_its_place() {
        let table = DynamicTable::default();
        assert_eq!(table.get(1), Ok((&b":authority"[..], &b""[..])));
        assert_eq!(table.get(28), Ok((&b"content-length"[..], &b""[..])));
        assert_eq!(table.get(61), Ok((&b"www-authenticate"[..], &b""[..])));
        assert_eq!(table.get(0), Err(Malformed));
        assert_eq!(table.get(62), Err(Malformed));
        assert_eq!(table.get(u32::MAX), Err(Malformed));
    }

    #[test]
    fn the_oldest_make_room_also_for_one_that_has_their_name() {
        let mut table = DynamicTable::default();
        table.set_size_max(3 * 40).unwrap();
        for number in 1..=4 {
            table.insert(b"name", format!("val{number}").as_bytes());
        }
        let entry = |value: &str| ("name".to_owned(), value.to_owned());
        assert_eq!(entries(&table), [entry("val4"), entry("val3"), entry("val2")]);
        table.insert_with_name_of(64, b"val5").unwrap();
        assert_eq!(entries(&table), [entry("val5"), entry("val4"), entry("val3")]);
        table.insert_with_name_of(1, b"").unwrap();
        assert_eq!(entries(&table)[0], (":authority".to_owned(), String::new()));
        assert_eq!(table.insert_with_name_of(99, b""), Err(Malformed));
        assert_eq!(table.insert_with_name_of(0, b""), Err(Malformed));
        table.set_size_max(42).unwrap();
        assert_eq!(entries(&table), [(":authority".to_owned(), String::new())]);
        table.set_size_max(0).unwrap();
        assert!(entries(&table).is_empty());
    }

    #[test]
    fn its_size_has_a_limit() {
        let mut table = DynamicTable::default();
        assert_eq!(table.set_size_max(SIZE_MAX as u32 + 1), Err(Malformed));
        table.insert(b"a", &[b'v'; SIZE_MAX - ENTRY_SIZE - 1]);
        assert_eq!((table.entries.len(), table.size), (1, SIZE_MAX));
        table.insert(b"a", &[b'v'; SIZE_MAX - ENTRY_SIZE]);
        assert_eq!((table.entries.len(), table.size), (0, 0), "one byte more than there can be");
    }

    #[test]
    fn its_memory_keeps_to_its_bounds_and_its_entries_stay_what_they_are() {
        let mut table = DynamicTable::default();
        for number in 0..5000usize {
            let value = number.to_string().repeat(number % 300);
            table.insert(b"x-number", value.as_bytes());
            assert!(table.bytes.len() <= 2 * SIZE_MAX + DROPPED_BYTES_MAX && table.size <= SIZE_MAX);
            if number % 7 == 0 {
                table.release();
                assert_eq!(table.gap(), 0);
            }
            for (age, (_, value)) in entries(&table).iter().enumerate() {
                let number = number - age;
                assert_eq!(*value, number.to_string().repeat(number % 300));
            }
        }
    }
}
