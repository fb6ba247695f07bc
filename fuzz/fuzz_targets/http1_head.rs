//! Any bytes as a request head: what is taken, httparse takes too and reads alike.
#![no_main]

#[path = "../../crates/portico-proto/tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| support::oracle::check_head_against_httparse(bytes));
