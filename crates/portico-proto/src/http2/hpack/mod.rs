//! Reads header blocks (HPACK, RFC 7541).
//!
//! The h2 crate reads them too, but tells of what is wrong with a field only by ending the connection, and of
//! some things not at all. So blocks are read here, and what the crate gets in their place has nothing in it that
//! it could refuse. A block of a peer's changes the table for all that follow: it is read to its end whatever is
//! in it, and only what is wrong with the compression itself ends the connection.

mod huffman;
mod table;

use std::ops::Range;

use super::fields::DecodedFields;
use table::DynamicTable;

/// A block that cannot be read; those that follow could not be either (RFC 9113, section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads the blocks of one connection, in their order.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    table: DynamicTable,
    /// Strings out of Huffman's code: of the present field, its name before its value.
    decoded: Vec<u8>,
}

/// The name of a field, by its place in the tables or as a string.
enum Name<'b> {
    Told(Text<'b>),
    /// That of the entry with this index.
    OfEntry(u32),
}

/// A string of a header block, with Huffman coding or without.
enum Text<'b> {
    /// As it stands in the block.
    Plain(&'b [u8]),
    /// In what has been decoded of the present field.
    Decoded(Range<usize>),
}

/// Field forms by their first bits (RFC 7541, section 6).
const INDEXED: u8 = 0x80;
const WITH_INDEXING: u8 = 0x40;
const SIZE_UPDATE: u8 = 0x20;

/// Capacity that is kept for strings out of Huffman's code.
const DECODED_CAPACITY_KEPT: usize = 512;

impl Decoder {
    /// Reads a whole block; its fields are added to `list`.
    pub(super) fn decode(&mut self, mut block: &[u8], list: &mut DecodedFields) -> Result<(), Malformed> {
        let block = &mut block;
        // The size of the table may change before the first field alone (RFC 7541, section 4.2).
        while block.first().is_some_and(|first| first & 0xe0 == SIZE_UPDATE) {
            self.table.set_size_max(take_integer(block, 5)?)?;
        }
        while let Some(&first) = block.first() {
            if first & INDEXED != 0 {
                let (name, value) = self.table.get(take_integer(block, 7)?)?;
                list.push(name, value);
            } else if first & WITH_INDEXING != 0 {
                self.take_literal(block, 6, true, list)?;
            } else if first & SIZE_UPDATE == 0 {
                // Without indexing, or never with it: that is for those who pass fields on in HPACK.
                self.take_literal(block, 4, false, list)?;
            } else {
                return Err(Malformed);
            }
        }
        self.decoded.clear();
        self.decoded.shrink_to(DECODED_CAPACITY_KEPT);
        Ok(())
    }

    /// Gives memory back that no block needs.
    pub(super) fn release(&mut self) {
        self.table.release();
    }

    /// A field whose value stands in the block, and its name unless an entry has it.
    fn take_literal(
        &mut self,
        block: &mut &[u8],
        index_bits: u32,
        indexed: bool,
        list: &mut DecodedFields,
    ) -> Result<(), Malformed> {
        self.decoded.clear();
        let name = match take_integer(block, index_bits)? {
            0 => Name::Told(self.take_text(block)?),
            index => Name::OfEntry(index),
        };
        let value = self.take_text(block)?;
        let value = value.bytes(&self.decoded);
        match name {
            Name::Told(name) => {
                let name = name.bytes(&self.decoded);
                list.push(name, value);
                if indexed {
                    self.table.insert(name, value);
                }
            }
            Name::OfEntry(index) => {
                list.push(self.table.get(index)?.0, value);
                if indexed {
                    self.table.insert_with_name_of(index, value)?;
                }
            }
        }
        Ok(())
    }

    /// `H (1), Length (7+), String` (RFC 7541, section 5.2)
    fn take_text<'b>(&mut self, block: &mut &'b [u8]) -> Result<Text<'b>, Malformed> {
        let is_huffman = block.first().is_some_and(|first| first & 0x80 != 0);
        let length = take_integer(block, 7)? as usize;
        let (text, rest) = block.split_at_checked(length).ok_or(Malformed)?;
        *block = rest;
        if !is_huffman {
            return Ok(Text::Plain(text));
        }
        let start = self.decoded.len();
        huffman::decode(text, &mut self.decoded)?;
        Ok(Text::Decoded(start..self.decoded.len()))
    }
}

impl<'b> Text<'b> {
    fn bytes(self, decoded: &'b [u8]) -> &'b [u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Decoded(range) => &decoded[range],
        }
    }
}

/// An integer whose first `bits` are the last ones of a byte (RFC 7541, section 5.1). No block is so long that it
/// could have one of 28 bits.
fn take_integer(block: &mut &[u8], bits: u32) -> Result<u32, Malformed> {
    let (&first, mut rest) = block.split_first().ok_or(Malformed)?;
    let mask = (1u32 << bits) - 1;
    let mut value = u32::from(first) & mask;
    if value == mask {
        for shift in [0, 7, 14, 21] {
            let (&byte, more) = rest.split_first().ok_or(Malformed)?;
            rest = more;
            value += u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *block = rest;
                return Ok(value);
            }
        }
        return Err(Malformed);
    }
    *block = rest;
    Ok(value)
}

#[cfg(test)]
mod tests;
