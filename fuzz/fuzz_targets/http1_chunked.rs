//! Any bytes as a chunked body, within narrow limits: the same body and the same error however they are cut, and
//! never more of it than the limit.
#![no_main]

#[path = "../../crates/portico-proto/tests/support/mod.rs"]
mod support;

use portico_proto::Limits;

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let limits = Limits { body_bytes_max: 64, chunk_line_bytes_max: 16, fields_max: 4, ..Limits::default() };
    let transcript = support::read_all_ways(&[HEAD, body].concat(), &limits, body.len() as u64);
    assert!(transcript.requests.iter().all(|request| request.body.len() <= 64));
});
