//! Any bytes as an SCGI connection: the same request and the same error however they are cut.
#![no_main]

#[path = "../../crates/portico-proto/tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let limits = portico_proto::Limits::default();
    support::read_all_ways_as(portico_proto::Protocol::scgi, bytes, &limits, bytes.len() as u64);
});
