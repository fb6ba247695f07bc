//! Responses in each framing, whole and byte by byte, and what a bad collector sends instead.

use std::time::Duration;

use portico_config::{CollectorUrl, RootSampler, TraceParents, TraceSampler};
use proptest::prelude::*;

use super::*;

/// Gives its bytes in pieces of this size, and then fails or ends.
struct Pieces<'a>(&'a [u8], usize, Option<io::ErrorKind>);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(self.1).min(self.0.len());
        if let (0, Some(kind)) = (count, self.2) {
            return Err(kind.into());
        }
        let (piece, rest) = self.0.split_at(count);
        buffer[..count].copy_from_slice(piece);
        self.0 = rest;
        Ok(count)
    }
}

fn read(bytes: &[u8]) -> Result<Response, ResponseError> {
    let whole = read_response(&mut Pieces(bytes, usize::MAX, None));
    let by_one = read_response(&mut Pieces(bytes, 1, None));
    assert_eq!(whole.as_ref().ok(), by_one.as_ref().ok(), "however it arrives, it is read the same");
    whole
}

fn ok(bytes: &[u8]) -> Response {
    read(bytes).unwrap()
}

#[test]
fn a_request_has_what_the_specification_asks_for_and_the_operator_s_fields() {
    let settings = TraceSettings {
        collector: CollectorUrl { host: "::1".to_owned(), ..CollectorUrl::default() },
        headers: vec![("Authorization".to_owned(), "Basic x".to_owned())],
        timeout: Duration::from_secs(1),
        gzip: true,
        certificate: None,
        resource: Vec::new(),
        sampler: TraceSampler { is_parent_based: true, root: RootSampler::AlwaysOn },
        parents: TraceParents::Any,
    };
    let head = String::from_utf8(request_head(&settings, 12)).unwrap();
    let expected = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: [::1]:4318\r\nUser-Agent: {USER_AGENT}\r\n\
         Content-Type: application/x-protobuf\r\nContent-Length: 12\r\nContent-Encoding: gzip\r\n\
         Authorization: Basic x\r\n\r\n"
    );
    assert_eq!(head, expected);
}

#[test]
fn responses_are_read_in_each_framing() {
    let response =
        ok(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 2\r\n\r\n\x0a\x00");
    let body = b"\x0a\x00".to_vec();
    let expected = Response { status: 200, retry_after: None, is_protobuf: true, body, keeps_alive: true };
    assert_eq!(response, expected);
    let chunked = ok(b"HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\nRetry-After: Sun, 06\r\n\r\n\
        3;a=b\r\nabc\r\n1\r\nd\r\n0\r\nA: b\r\n\r\n");
    assert_eq!((chunked.body.as_slice(), chunked.keeps_alive), (&b"abcd"[..], true));
    assert_eq!(chunked.retry_after.as_deref(), Some("Sun, 06"));
    let closed = ok(b"HTTP/1.1 400\r\n\r\nabc");
    assert_eq!((closed.status, closed.body.as_slice(), closed.keeps_alive), (400, &b"abc"[..], false));
    let none = ok(b"HTTP/1.1 204 No Content\n\n");
    assert_eq!((none.status, none.keeps_alive), (204, true));
    let second = ok(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103\r\nLink: x\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((second.status, second.keeps_alive), (200, true));
}

#[test]
fn a_connection_is_kept_only_where_the_next_response_cannot_be_mistaken() {
    for (head, keeps_alive) in [
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", true),
        ("HTTP/1.0 200\r\nContent-Length: 0\r\n\r\n", false),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n", false),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\n", false),
        ("HTTP/1.1 200\r\nContent-Length: x\r\n\r\n", false),
        ("HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nabc", false),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false),
        ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", false),
        ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", false),
        ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", false),
    ] {
        let response = ok(head.as_bytes());
        assert_eq!((response.status, response.keeps_alive), (200, keeps_alive), "{head}");
    }
}

#[test]
fn what_has_come_with_a_response_and_is_none_of_it_ends_the_connection() {
    let bytes = b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200";
    assert!(!read_response(&mut Pieces(bytes, usize::MAX, None)).unwrap().keeps_alive);
}

#[test]
fn what_is_not_http_is_known_at_once() {
    // The preface of an HTTP/2 server, which is what gRPC has: its client would wait.
    for bytes in [
        &b"\0\0\x12\x04\0\0\0\0\0"[..],
        b"220 mail ready\r\n",
        b"\x15\x03\x03\0\x02\x02\x46",
        b"HTTP/2 200\r\n\r\n",
    ] {
        let waits = read_response(&mut Pieces(bytes, 1, Some(io::ErrorKind::TimedOut)));
        assert!(matches!(waits, Err(ResponseError::NotHttp)), "{bytes:?} {waits:?}");
    }
    for bytes in [
        &b"HTTP/1.1 2x0 OK\r\n\r\n"[..],
        b"HTTP/1.1 2000\r\n\r\n",
        b"HTTP/1.1 099\r\n\r\n",
        b"HTTP/1.1 200\r\nno colon\r\n\r\n",
        b"HT",
    ] {
        assert!(matches!(read(bytes), Err(ResponseError::NotHttp)), "{bytes:?}");
    }
    assert!(matches!(read(b""), Err(ResponseError::Closed)));
    assert!(matches!(read(b"HTTP/1.1 200 OK\r\nA: b"), Err(ResponseError::Io(_))));
}

#[test]
fn a_response_without_end_is_read_to_a_bound() {
    let head = "HTTP/1.1 200 OK\r\n";
    for (start, piece) in [
        ("", "A: b\r\n"),
        ("", "aaaaaaaaaaaa"),
        ("Transfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n", "A: b\r\n"),
        ("Content-Length: 18446744073709551615\r\n\r\n", "aaaaaaaaaa"),
        ("\r\n", "aaaaaaaaaaaa"),
    ] {
        let mut bytes = [head, start].concat().into_bytes();
        while bytes.len() < 300_000 {
            bytes.extend_from_slice(piece.as_bytes());
        }
        let mut pieces = Pieces(&bytes, usize::MAX, None);
        let read = read_response(&mut pieces);
        assert!(bytes.len() - pieces.0.len() <= HEAD_BYTES_MAX + BODY_BYTES_MAX, "{start:?}");
        match start {
            "" => assert!(matches!(read, Err(ResponseError::Io(_)))),
            _ => assert!(read.is_ok_and(|response| response.status == 200 && !response.keeps_alive)),
        }
    }
    let mut preliminary = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(20_000);
    preliminary.extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\n");
    assert!(read_response(&mut preliminary.as_slice()).is_err());
}

#[test]
fn a_status_counts_though_the_rest_never_comes() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab";
    let response = read_response(&mut Pieces(head, 1, Some(io::ErrorKind::TimedOut))).unwrap();
    assert_eq!((response.status, response.body.as_slice(), response.keeps_alive), (200, &b"ab"[..], false));
}

proptest! {
    #[test]
    fn no_bytes_make_it_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1usize..9) {
        let with_head = [b"HTTP/1.1 200 OK\r\n".as_slice(), &bytes].concat();
        let _ = read_response(&mut Pieces(&bytes, piece, None));
        let _ = read_response(&mut Pieces(&with_head, piece, None));
    }
}
