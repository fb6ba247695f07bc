//! Properties that hold for any input, for the property tests and the fuzz targets alike.

use portico_proto::http1::Connection;
use portico_proto::{AddedFields, Event, Fields, HttpDate, Limits, Part, RequestHead, ResponseHead};

use super::client::ReceivedResponse;

/// Whatever head we take from the front of `bytes`, httparse takes too, and reads the same in it.
pub fn check_head_against_httparse(bytes: &[u8]) {
    let mut input = bytes;
    let Ok(Some(Event::Head(head))) = Connection::new().next_event(&mut input, &Limits::default()) else {
        return;
    };
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        // It knows no other minor version; RFC 9110, section 2.5 has us serve them.
        Err(httparse::Error::Version) => return,
        result => assert_eq!(result, Ok(httparse::Status::Complete(bytes.len() - input.len()))),
    }
    assert_eq!(request.method.map(str::as_bytes), Some(head.method()));
    assert_eq!(request.path.map(str::as_bytes), Some(head.target()));
    assert_eq!(request.version, Some(head.version as u8));
    let kept: Vec<_> = request.headers.iter().filter(|field| !field.name.contains('_')).collect();
    let mut ours = head.fields().peekable();
    let mut repeated = 0;
    for (index, field) in kept.iter().enumerate() {
        if ours.next_if_eq(&(field.name.as_bytes(), field.value)).is_none() {
            // A singleton that repeats an earlier one is left out.
            let same = |other: &&httparse::Header<'_>| {
                other.name.eq_ignore_ascii_case(field.name) && other.value == field.value
            };
            assert!(kept[..index].iter().any(same), "{field:?}");
            repeated += 1;
        }
    }
    assert_eq!(ours.next(), None);
    check_parts(&head, repeated);
}

/// The parts of a head, which leaves out `repeated` fields, are made of its bytes.
fn check_parts(head: &RequestHead, repeated: usize) {
    let mut end = head.path().to_vec();
    if head.target().contains(&b'?') {
        end.push(b'?');
    }
    end.extend_from_slice(head.query());
    // Where absolute-form has no path, its `/` is not in the target.
    assert!(head.target().ends_with(&end) || end[0] == b'/' && head.target().ends_with(&end[1..]));
    let lines = head.field_lines();
    assert!(lines.is_empty() || lines.ends_with(b"\r\n"));
    let fields = head.fields().len() + head.dropped().len() + repeated;
    assert_eq!(lines.split(|&byte| byte == b'\n').count() - 1, fields);
}

/// A response to be sent, and to whom.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which of [`ASKERS`] asks.
    pub asker: usize,
    /// 200 to 599.
    pub status: u16,
    pub length: Option<u64>,
    pub blocks: Vec<Vec<u8>>,
    pub close: bool,
}

/// Requests of all kinds that responses depend on.
pub const ASKERS: [&str; 6] = [
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
];

/// What the encoder makes of `plan`, a client reads as it was meant: never more than was announced, complete if
/// and only if the encoder says so, and the end of the connection announced where it comes.
pub fn check_round_trip(plan: &Plan) {
    let asker = ASKERS[plan.asker % ASKERS.len()];
    let mut connection = Connection::new();
    let mut input = asker.as_bytes();
    while let Ok(Some(_)) = connection.next_event(&mut input, &Limits::default()) {}

    let mut fields = Fields::new();
    fields.push(b"Content-Type", b"text/plain");
    let head = ResponseHead { status: plan.status, fields, length: plan.length, ..ResponseHead::default() };
    let added = AddedFields::new(HttpDate::from_unix(0));
    let mut out = Vec::new();
    connection.send(Part::Head { head: &head, close: plan.close, added: &added }, &mut out);
    for block in &plan.blocks {
        connection.send(Part::Body(block), &mut out);
    }
    connection.send(Part::End, &mut out);

    let to_head = asker.starts_with("HEAD");
    let response = ReceivedResponse::read(&out, to_head);
    assert_eq!(response.status, plan.status);
    assert_eq!(response.field("Content-Type"), Some(&b"text/plain"[..]));
    assert!(response.field("Date").is_some() && response.field("Server").is_some());
    assert_eq!(response.complete, connection.response_complete(), "{plan:?}");
    assert_eq!(response.rest, b"", "{plan:?}");
    let sent = plan.blocks.concat();
    let has_body = !to_head && !matches!(plan.status, 204 | 205 | 304);
    let body_bytes_max = if has_body { plan.length.unwrap_or(u64::MAX) } else { 0 };
    assert_eq!(response.body, sent[..sent.len().min(body_bytes_max.try_into().unwrap_or(usize::MAX))]);
    let says_close = response.field("Connection") == Some(b"close");
    assert_eq!(connection.can_keep_alive(), response.complete && !says_close, "{plan:?}");
    if asker.contains("HTTP/1.0") {
        assert_eq!(response.field("Transfer-Encoding"), None, "a client that does not know it");
        assert_eq!(response.field("Connection") == Some(b"keep-alive"), !says_close);
    }
}
