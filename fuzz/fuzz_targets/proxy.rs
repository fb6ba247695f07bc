//! Any bytes as a PROXY header: what is one is one however its bytes arrive, and no longer than they are.
#![no_main]

use portico_proto::{ProxyHeader, ProxyVersions};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for versions in [ProxyVersions::V1, ProxyVersions::V2, ProxyVersions::Auto] {
        let whole = ProxyHeader::parse(bytes, versions);
        if let Ok(Some(header)) = whole {
            assert!(header.length <= bytes.len() && header.length <= ProxyHeader::BYTES_MAX);
            assert_eq!(ProxyHeader::parse(&bytes[..header.length], versions), whole);
            assert_eq!(ProxyHeader::parse(&bytes[..header.length - 1], versions), Ok(None));
        }
    }
});
