//! Decodes strings in HPACK's Huffman code (RFC 7541, section 5.2 and appendix B).
//!
//! The code is canonical: codes of one length are consecutive numbers in the order of their symbols, and follow
//! those that are shorter. So the lengths alone are the code, and all tables are computed from them.

use super::Malformed;

/// Appends what `coded` stands for to `out`.
///
/// # Errors
/// A code that is none, the end-of-string symbol, or padding other than fewer than eight ones.
pub(super) fn decode(mut coded: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    // Bits that are still to be decoded, from the top.
    let (mut bits, mut count) = (0u64, 0u32);
    loop {
        while count <= 56
            && let Some((&byte, rest)) = coded.split_first()
        {
            bits |= u64::from(byte) << (56 - count);
            count += 8;
            coded = rest;
        }
        let (symbol, length) = match SHORT[(bits >> (64 - SHORT_BITS)) as usize] {
            (_, 0) => long_code(bits),
            (symbol, length) => (u16::from(symbol), u32::from(length)),
        };
        if length > count {
            // What is left is no whole code.
            let is_padding = count < 8 && bits >> (64 - 8) == (0xff00 >> count) & 0xff;
            return if is_padding { Ok(()) } else { Err(Malformed) };
        }
        out.push(u8::try_from(symbol).map_err(|_| Malformed)?);
        bits <<= length;
        count -= length;
    }
}

/// Symbol and length of the code at the top of `bits`, which is longer than [`SHORT_BITS`].
fn long_code(bits: u64) -> (u16, u32) {
    let mut length = SHORT_BITS + 1;
    // Every sequence of the greatest length is a code.
    while length < LENGTH_MAX && bits >> (64 - length) >= u64::from(ENDS[length as usize].code) {
        length += 1;
    }
    let End { code, place } = ENDS[length as usize];
    let behind = u64::from(code) - (bits >> (64 - length));
    (SYMBOLS[place as usize - behind as usize], length)
}

/// How many symbols there are: bytes and the end of the string.
const SYMBOL_COUNT: usize = 257;

const LENGTH_MAX: u32 = 30;

/// Codes up to this length are looked up. These are what fields are made of: all letters, digits and most signs.
const SHORT_BITS: u32 = 10;

/// The end of the codes of one length.
#[derive(Clone, Copy)]
struct End {
    /// The number behind the last one.
    code: u32,
    /// The place behind it in [`SYMBOLS`].
    place: u16,
}

/// Symbol and length of the code that begins so; 0 as the length where it is longer.
static SHORT: [(u8, u8); 1 << SHORT_BITS] = short_codes();
/// Where the codes of each length end.
static ENDS: [End; LENGTH_MAX as usize + 1] = ends();
/// The symbols in the order of their codes.
static SYMBOLS: [u16; SYMBOL_COUNT] = symbols();

const fn symbols() -> [u16; SYMBOL_COUNT] {
    let mut symbols = [0; SYMBOL_COUNT];
    let (mut length, mut place) = (1, 0);
    while length <= LENGTH_MAX {
        let mut symbol = 0;
        while symbol < SYMBOL_COUNT {
            if LENGTHS[symbol] as u32 == length {
                symbols[place] = symbol as u16;
                place += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    symbols
}

const fn ends() -> [End; LENGTH_MAX as usize + 1] {
    let mut ends = [End { code: 0, place: 0 }; LENGTH_MAX as usize + 1];
    let symbols = symbols();
    let (mut length, mut place, mut code) = (1, 0, 0);
    while length <= LENGTH_MAX {
        code <<= 1;
        while place < SYMBOL_COUNT && LENGTHS[symbols[place] as usize] as u32 == length {
            code += 1;
            place += 1;
        }
        ends[length as usize] = End { code, place: place as u16 };
        length += 1;
    }
    ends
}

const fn short_codes() -> [(u8, u8); 1 << SHORT_BITS] {
    let mut table = [(0, 0); 1 << SHORT_BITS];
    let symbols = symbols();
    let (mut place, mut filled) = (0, 0);
    while LENGTHS[symbols[place] as usize] as u32 <= SHORT_BITS {
        let length = LENGTHS[symbols[place] as usize];
        let end = filled + (1 << (SHORT_BITS - length as u32));
        while filled < end {
            table[filled] = (symbols[place] as u8, length);
            filled += 1;
        }
        place += 1;
    }
    table
}

/// Bits of each symbol's code; the last is the end of the string.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOL_COUNT] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of each symbol, one bit after the other, as appendix B has them.
    fn codes() -> Vec<(u32, u32)> {
        let (mut codes, mut next) = (vec![(0, 0); SYMBOL_COUNT], 0);
        for length in 1..=LENGTH_MAX {
            next <<= 1;
            for symbol in (0..SYMBOL_COUNT).filter(|symbol| u32::from(LENGTHS[*symbol]) == length) {
                codes[symbol] = (next, length);
                next += 1;
            }
        }
        codes
    }

    fn encode(symbols: &[u16]) -> Vec<u8> {
        let codes = codes();
        let mut bits = String::new();
        for &symbol in symbols {
            let (code, length) = codes[usize::from(symbol)];
            bits.extend(format!("{code:0width$b}", width = length as usize).chars());
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        bits.as_bytes()
            .chunks(8)
            .map(|byte| byte.iter().fold(0, |all, bit| all << 1 | (bit - b'0')))
            .collect()
    }

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(coded, &mut out).ok().map(|()| out)
    }

    #[test]
    fn codes_are_those_of_the_rfc() {
        let codes = codes();
        for (symbol, code, length) in [
            (0, 0x1ff8, 13),
            (9, 0xff_ffea, 24),
            (b' '.into(), 0x14, 6),
            (b'0'.into(), 0x0, 5),
            (b'z'.into(), 0x7b, 7),
            (b'\\'.into(), 0x7fff0, 19),
            (127, 0xfff_fffc, 28),
            (255, 0x3ff_ffee, 26),
            (256, 0x3fff_ffff, 30),
        ] {
            assert_eq!(codes[symbol], (code, length), "{symbol}");
        }
    }

    #[test]
    fn every_symbol_is_decoded_wherever_it_stands() {
        for symbol in 0..256 {
            for around in [&[][..], &[b'a'.into()], &[b'a'.into(), 0], &[b'&'.into(), b'z'.into(), 22]] {
                let all = [around, &[symbol], around].concat();
                let expected: Vec<u8> = all.iter().map(|symbol| *symbol as u8).collect();
                assert_eq!(decoded(&encode(&all)), Some(expected));
            }
        }
        assert_eq!(decoded(b""), Some(Vec::new()));
        assert_eq!(decoded(&[0xf2, 0xb2, 0x4a, 0x84, 0xff]), decoded(&[0xf2, 0xb2, 0x4a, 0x84, 0xff]));
        let www = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&www), Some(b"www.example.com".to_vec()), "RFC 7541, appendix C.4.1");
    }

    #[test]
    fn padding_is_fewer_than_eight_ones_and_the_end_has_no_code() {
        for bad in [
            &[0xff][..],
            &[0xff, 0xff],
            &[0x00],                         // "0" and three zeros.
            &[0x1f, 0xff],                   // "a" and eleven ones.
            &[0x18],                         // "a" and three zeros.
            &[0xff, 0xff, 0xff, 0xff],       // The end of the string.
            &[0xff, 0xff, 0xff, 0xff, 0xff], // And more.
            &[0x1f, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(decoded(bad), None, "{bad:x?}");
        }
        assert_eq!(decoded(&[0x1f]), Some(b"a".to_vec()));
        for ones in 1..8 {
            // As many codes of five bits as leave room for so many ones.
            let count = (0..8).find(|count| (8 - count * 5 % 8) % 8 == ones).unwrap();
            let coded = encode(&vec![u16::from(b'a'); count]);
            assert_eq!(decoded(&coded), Some(vec![b'a'; count]));
            for bit in 0..ones {
                let mut spoilt = coded.clone();
                *spoilt.last_mut().unwrap() ^= 1 << bit;
                assert_ne!(decoded(&spoilt), Some(vec![b'a'; count]));
            }
        }
    }
}
