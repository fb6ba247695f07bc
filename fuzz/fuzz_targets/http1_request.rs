//! Any bytes as a connection: the same requests and the same error however they are cut.
#![no_main]

#[path = "../../crates/portico-proto/tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    support::read_all_ways(bytes, &portico_proto::Limits::default(), bytes.len() as u64);
});
