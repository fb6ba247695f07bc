//! What several tests need: heads of requests.

use portico_proto::{Event, Limits, RequestHead, http1};

/// The head of a request whose lines these are, without the version and the last line end.
pub(crate) fn request_head(lines: &str) -> Box<RequestHead> {
    let (first, rest) = lines.split_once("\r\n").unwrap();
    let request = format!("{first} HTTP/1.1\r\n{rest}\r\n\r\n");
    let mut input = request.as_bytes();
    match http1::Connection::new().next_event(&mut input, &Limits::default()) {
        Ok(Some(Event::Head(head))) => head,
        other => panic!("{request:?} gave {other:?}"),
    }
}
