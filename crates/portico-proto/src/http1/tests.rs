//! Tests of what cannot be seen from outside.

use super::*;

#[test]
fn a_connection_is_small() {
    assert!(size_of::<Connection>() <= 64, "{}", size_of::<Connection>());
}

/// Bytes that come one at a time are looked at once each until the head is complete: what is left to scan is never
/// more than the newest byte and, where it may begin a line end, a CR before it.
#[test]
fn a_head_is_scanned_on_from_where_the_last_bytes_ended() {
    let head = format!("GET /{} HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "a".repeat(500), "b".repeat(500));
    let mut connection = Connection::new();
    for length in 1..head.len() {
        let mut input = &head.as_bytes()[..length];
        assert!(matches!(connection.next_event(&mut input, &Limits::default()), Ok(None)));
        let Receive::Head { scan, .. } = &connection.receive else { panic!("still in the head") };
        assert!(length - scan.scanned() <= 1, "{length}: {scan:?}");
    }
}
