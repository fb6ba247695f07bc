//! What was put in comes out of a decoder again, as soon as it was flushed.

use std::io::{Read, Write};

use flate2::read::MultiGzDecoder;
use proptest::prelude::*;

use super::*;

const CODINGS: [ContentCoding; 3] = ContentCoding::ALL;

/// What a decoder makes of `encoded`, which may have no end yet.
fn decoded(coding: ContentCoding, encoded: &[u8], is_whole: bool) -> Vec<u8> {
    let mut content = Vec::new();
    let result = match coding {
        ContentCoding::Gzip => MultiGzDecoder::new(encoded).read_to_end(&mut content).map(drop),
        ContentCoding::Zstd => zstd::stream::write::Decoder::new(&mut content)
            .and_then(|mut decoder| decoder.write_all(encoded).and_then(|()| decoder.flush())),
        ContentCoding::Brotli => brotli::Decompressor::new(encoded, 4096).read_to_end(&mut content).map(drop),
    };
    if is_whole {
        assert!(result.is_ok(), "{coding:?}, {} bytes: {result:?}", encoded.len());
    }
    content
}

fn text(length: usize) -> Vec<u8> {
    (0..).flat_map(|line| format!("line {line} of a text\n").into_bytes()).take(length).collect()
}

/// Bytes that cannot be made smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(&mut next).take(length).collect()
}

#[test]
fn every_length_and_padding_is_decoded() {
    for coding in CODINGS {
        for length in [0, 1, 1000, 65_536, 300_000, 3_000_000] {
            for (padding, content) in [(0, text(length)), (1, noise(length)), (PADDING_MAX, text(length))] {
                let mut encoded = Vec::new();
                let mut encoder = Encoder::new(coding, padding).expect("memory");
                encoder.encode(&content, Flush::Finish, &mut encoded).expect("it is well");
                assert!(decoded(coding, &encoded, true) == content, "{coding:?} {length} {padding}");
            }
        }
    }
}

#[test]
fn padding_makes_the_response_longer_by_as_much() {
    let lengths = |coding, padding| {
        let mut encoded = Vec::new();
        let mut encoder = Encoder::new(coding, padding).expect("memory");
        encoder.encode(&text(5000), Flush::Finish, &mut encoded).expect("it is well");
        encoded.len()
    };
    for coding in CODINGS {
        let (two, most) = (lengths(coding, 2), lengths(coding, PADDING_MAX));
        assert_eq!(most - two, PADDING_MAX - 2, "{coding:?}");
        assert_eq!(lengths(coding, PADDING_MAX + 1), most, "{coding:?}");
    }
}

#[test]
fn what_was_flushed_can_be_decoded_at_once() {
    for coding in CODINGS {
        let mut encoder = Encoder::new(coding, 7).expect("memory");
        let (mut encoded, mut content) = (Vec::new(), Vec::new());
        for number in 0..200 {
            let block = format!("event {number}\n").into_bytes();
            encoder.encode(&block, Flush::Sync, &mut encoded).expect("it is well");
            content.extend_from_slice(&block);
            assert!(decoded(coding, &encoded, false) == content, "{coding:?} {number}");
        }
        encoder.encode(b"", Flush::Finish, &mut encoded).expect("it is well");
        assert!(decoded(coding, &encoded, true) == content, "{coding:?}");
    }
}

/// An encoder that was let go of in the middle must not put the rest of its content into the next response.
#[test]
fn an_encoder_that_is_used_again_knows_nothing_of_before() {
    for coding in CODINGS {
        for _ in 0..=IDLE_MAX {
            let mut encoder = Encoder::new(coding, 3).expect("memory");
            encoder.encode(&text(200_000), Flush::None, &mut Vec::new()).expect("it is well");
        }
        let mut encoder = Encoder::new(coding, 0).expect("memory");
        let mut encoded = Vec::new();
        encoder.encode(b"next", Flush::Finish, &mut encoded).expect("it is well");
        assert_eq!(decoded(coding, &encoded, true), b"next", "{coding:?}");
    }
}

#[test]
fn no_more_than_so_many_are_kept() {
    let all: Vec<_> = (0..IDLE_MAX * 2).map(|_| Encoder::new(ContentCoding::Gzip, 0)).collect();
    drop(all);
    assert!(IDLE_GZIP.lock().expect("nobody panics").len() <= IDLE_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the blocks are, and wherever they are flushed.
    #[test]
    fn blocks_come_out_as_they_went_in(
        blocks in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..4000), any::<bool>()), 0..20),
    ) {
        for coding in CODINGS {
            let mut encoder = Encoder::new(coding, 5).expect("memory");
            let (mut encoded, mut content) = (Vec::new(), Vec::new());
            for (block, is_flushed) in &blocks {
                let flush = if *is_flushed { Flush::Sync } else { Flush::None };
                encoder.encode(block, flush, &mut encoded).expect("it is well");
                content.extend_from_slice(block);
            }
            encoder.encode(b"", Flush::Finish, &mut encoded).expect("it is well");
            prop_assert!(decoded(coding, &encoded, true) == content);
        }
    }
}
