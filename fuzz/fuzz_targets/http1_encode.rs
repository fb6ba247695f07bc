//! Any answer to any kind of request: a client reads it as it was meant.
#![no_main]

#[path = "../../crates/portico-proto/tests/support/mod.rs"]
mod support;

use support::oracle::{Plan, check_round_trip};

libfuzzer_sys::fuzz_target!(|input: (usize, u16, Option<u16>, Vec<Vec<u8>>, bool)| {
    let (asker, status, length, blocks, close) = input;
    let (status, length) = (200 + status % 400, length.map(u64::from));
    check_round_trip(&Plan { asker, status, length, blocks, close });
});
