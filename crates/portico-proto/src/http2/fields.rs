//! The fields of one header block, one behind the other in memory that the next block uses again.

/// The pseudo-fields and fields that a header block lists, in their order.
#[derive(Debug)]
pub(super) struct DecodedFields {
    /// Names and values.
    bytes: Vec<u8>,
    /// Where each name, and its value, ends.
    ends: Vec<(u32, u32)>,
    /// As RFC 9113, section 6.5.2 counts.
    size: usize,
    size_max: usize,
}

/// What a field counts beside its bytes. RFC 9113, section 6.5.2.
const FIELD_SIZE: usize = 32;

/// Capacity that an empty list keeps: that of a browser's request.
const BYTES_KEPT: usize = 1024;
const FIELDS_KEPT: usize = 32;

impl DecodedFields {
    /// An empty list that takes in no more than `size_max`.
    pub(super) fn new(size_max: usize) -> Self {
        Self { bytes: Vec::new(), ends: Vec::new(), size: 0, size_max: size_max.min(u32::MAX as usize) }
    }

    /// Empties it for the next block.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(BYTES_KEPT);
        self.ends.clear();
        self.ends.shrink_to(FIELDS_KEPT);
        self.size = 0;
    }

    /// Adds a field. Those that are too much are counted and not kept.
    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) {
        self.size = self.size.saturating_add(name.len() + value.len() + FIELD_SIZE);
        if self.is_too_large() {
            return;
        }
        self.bytes.extend_from_slice(name);
        let name_end = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.ends.push((name_end, self.bytes.len() as u32));
    }

    /// Whether there was more than it takes.
    pub(super) fn is_too_large(&self) -> bool {
        self.size > self.size_max
    }

    /// Names and values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        starts.zip(&self.ends).map(|(start, (name_end, end))| {
            let (start, name_end, end) = (start as usize, *name_end as usize, *end as usize);
            (&self.bytes[start..name_end], &self.bytes[name_end..end])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_in_what_it_may_and_counts_the_rest() {
        let mut list = DecodedFields::new(2 * (32 + 6));
        list.push(b"ab", b"cdef");
        list.push(b"abcdef", b"");
        assert!(!list.is_too_large());
        list.push(b"", b"");
        assert!(list.is_too_large());
        let fields = [(&b"ab"[..], &b"cdef"[..]), (b"abcdef", b"")];
        assert_eq!(list.iter().collect::<Vec<_>>(), fields);
        list.clear();
        assert!(!list.is_too_large() && list.iter().next().is_none());
        list.push(b"a", &[b'v'; 43]);
        assert!(!list.is_too_large());
        list.push(b"", b"");
        assert!(list.is_too_large());
    }
}
