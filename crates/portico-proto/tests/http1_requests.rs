//! What the parser makes of single heads and bodies: tables of (bytes, verdict), each read in every way.

mod support;

use portico_proto::ErrorKind::{self, Version as UnknownVersion, *};
use portico_proto::http1::Connection;
use portico_proto::{Event, Limits, Span, Version};
use support::{NEXT, Request, Transcript, read_all_ways};

/// Reads `bytes` in every way, alone and with another request behind, and returns the only request.
fn accept(bytes: &[u8]) -> Request {
    accept_within(bytes, &Limits::default())
}

fn accept_within(bytes: &[u8], limits: &Limits) -> Request {
    let text = bytes.escape_ascii();
    let Transcript { requests, error, closed, idle } = read_all_ways(bytes, limits, 1);
    assert_eq!((requests.len(), error), (1, None), "{text}");
    assert!(requests[0].complete, "{text}");
    assert_eq!(idle, !closed, "{text}");

    let followed = read_all_ways(&[bytes, NEXT].concat(), limits, 2);
    assert_eq!(followed.requests[0], requests[0], "{text}");
    if requests[0].keep_alive {
        assert_eq!(followed.requests.len(), 2, "{text}");
        assert_eq!(followed.requests[1].target, b"/next", "{text}");
    }
    requests[0].clone()
}

/// Reads `bytes` in every way, alone and with another request behind: all must end in this error.
fn refuse(bytes: &[u8], kind: ErrorKind) {
    refuse_within(bytes, kind, &Limits::default());
}

fn refuse_within(bytes: &[u8], kind: ErrorKind, limits: &Limits) {
    for bytes in [bytes.to_vec(), [bytes, NEXT].concat()] {
        let transcript = read_all_ways(&bytes, limits, 3);
        assert_eq!(transcript.error.map(|error| error.kind), Some(kind), "{}", bytes.escape_ascii());
        assert!(transcript.requests.iter().all(|request| !request.complete), "{}", bytes.escape_ascii());
    }
}

fn with_line(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: a\r\n\r\n").into_bytes()
}

fn with_field(field: &[u8]) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nHost: a\r\n", field, b"\r\n\r\n"].concat()
}

fn with_chunks(body: &[u8]) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", body].concat()
}

#[test]
fn a_request_is_taken_apart() {
    let request = accept(
        b"POST /a/b?c=d HTTP/1.1\r\nHost: a.example:8000\r\nX-Empty:\r\nX-Blanks: \t a b\t \r\nx_y: 1\r\n\
          X-High: \xe4\xff\r\nContent-Length: 5\r\n\r\nhello",
    );
    assert_eq!(request.method, b"POST");
    assert_eq!(request.target, b"/a/b?c=d");
    assert_eq!((&request.path[..], &request.query[..]), (&b"/a/b"[..], &b"c=d"[..]));
    assert_eq!(request.authority.as_deref(), Some(&b"a.example:8000"[..]));
    assert_eq!(request.version, Version::Http11);
    let expected: [(&[u8], &[u8]); 5] = [
        (b"Host", b"a.example:8000"),
        (b"X-Empty", b""),
        (b"X-Blanks", b"a b"),
        (b"X-High", b"\xe4\xff"),
        (b"Content-Length", b"5"),
    ];
    assert!(request.fields.iter().map(|(n, v)| (&n[..], &v[..])).eq(expected), "{:?}", request.fields);
    assert_eq!(request.dropped, [b"x_y"]);
    assert_eq!(request.body, b"hello");
}

#[test]
fn a_head_is_asked_for_its_parts() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nx: 2\r\nX_Y: 3\r\n\r\n";
    let event = Connection::new().next_event(&mut &bytes[..], &Limits::default());
    let Ok(Some(Event::Head(head))) = event else { panic!("{event:?}") };
    assert_eq!(head.field(b"x"), Some(&b"1"[..]), "the first");
    assert_eq!(head.field(b"HOST"), Some(&b"a"[..]));
    assert_eq!(head.field(b"X_Y"), None, "dropped");
    assert_eq!(head.field_lines(), b"Host: a\r\nX: 1\r\nx: 2\r\nX_Y: 3\r\n");
    assert_eq!(head.size(), bytes.len() + 3 * size_of::<(Span, Span)>());
}

#[test]
fn request_lines() {
    for line in [
        "GET / HTTP/1.1",
        "get / HTTP/1.1",
        "M!#$%&'*+-.^_`|~0 / HTTP/1.1",
        "GET / HTTP/1.9",
        "OPTIONS * HTTP/1.1",
        "GET http://b.example/?q HTTP/1.1",
        "GET /%41?%|^\"{}`\\<>[] HTTP/1.1",
        "GET /|^\"{}`\\<>[] HTTP/1.1",
        "PRI / HTTP/1.0",
    ] {
        accept(&with_line(line));
    }
    for (line, kind) in [
        ("GET /", RequestLine),
        ("GET", RequestLine),
        ("GET / ", RequestLine),
        (" GET / HTTP/1.1", RequestLine),
        ("GET  / HTTP/1.1", RequestLine),
        ("GET /  HTTP/1.1", RequestLine),
        ("GET / HTTP/1.1 ", RequestLine),
        ("GET / a HTTP/1.1", RequestLine),
        ("GET\t/\tHTTP/1.1", RequestLine),
        ("G(T / HTTP/1.1", RequestLine),
        ("{ET / HTTP/1.1", RequestLine),
        ("GET / http/1.1", RequestLine),
        ("GET / HTTP/1", RequestLine),
        ("GET / HTTP/1.10", RequestLine),
        ("GET / HTTP/01.1", RequestLine),
        ("GET / HTTP/1,1", RequestLine),
        ("GET / HTTPS/1.1", RequestLine),
        ("GET / HTTP/0.9", UnknownVersion),
        ("GET / HTTP/2.0", UnknownVersion),
        ("PRI * HTTP/2.0", UnknownVersion),
        ("CONNECT a.example:443 HTTP/1.1", Connect),
        ("GET * HTTP/1.1", Target),
        ("GET a.example HTTP/1.1", Target),
        ("GET /a#b HTTP/1.1", Target),
        ("GET /% HTTP/1.1", Target),
        ("GET /%zz HTTP/1.1", Target),
        ("GET /\u{e4} HTTP/1.1", Target),
        ("GET /?\u{e4} HTTP/1.1", Target),
        ("GET /\ta HTTP/1.1", Target),
        ("GET http://u@b.example/ HTTP/1.1", Target),
        ("GET /\u{7f} HTTP/1.1", ControlByte),
        ("GET /\0 HTTP/1.1", ControlByte),
    ] {
        refuse(&with_line(line), kind);
    }
}

#[test]
fn what_is_not_http_is_refused_at_once() {
    for (bytes, kind) in [
        (&b"\x16"[..], Tls),
        (b"\n", BareLf),
        (b"\0", RequestLine),
        (b"\xff", RequestLine),
        (b"{", RequestLine),
        (b"GET /\n", BareLf),
        (b"GET /\rx", BareCr),
        (b"GET / HTTP/1.1\r\nA\0", ControlByte),
        (b"GET / HTTP/1.1\r\n ", FoldedField),
        (b"GET / HTTP/3.0\r\n", UnknownVersion),
        (b"GET / HTTP/1.1\r\nA b\r\n", FieldName),
    ] {
        refuse(bytes, kind);
    }
}

#[test]
fn hosts() {
    for (lines, authority) in [
        ("Host: a", Some("a")),
        ("hOsT:a:80", Some("a:80")),
        ("Host: [::1]:80", Some("[::1]:80")),
        ("Host:", None),
    ] {
        let request = accept(format!("GET / HTTP/1.1\r\n{lines}\r\n\r\n").as_bytes());
        assert_eq!(request.authority.as_deref(), authority.map(str::as_bytes), "{lines}");
    }
    for (lines, kind) in [
        ("X: y", HostMissing),
        ("Ho_st: a", HostMissing),
        ("Host: a\r\nHost: a", HostRepeated),
        ("Host: a\r\nhost:", HostRepeated),
        ("Host: a b", Host),
        ("Host: a/b", Host),
        ("Host: u@a", Host),
        ("Host: [::1", Host),
        ("Host: a:b", Host),
        ("Host: a, b", Host),
        ("Host: \u{e4}", Host),
    ] {
        refuse(format!("GET / HTTP/1.1\r\n{lines}\r\n\r\n").as_bytes(), kind);
    }
    accept(b"GET / HTTP/1.0\r\n\r\n");
    refuse(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", HostRepeated);
    let absolute = accept(b"GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(absolute.authority.as_deref(), Some(&b"b"[..]));
    assert_eq!((&absolute.path[..], &absolute.query[..]), (&b"/"[..], &b"q"[..]));
    refuse(b"GET http://b/ HTTP/1.1\r\n\r\n", HostMissing);
}

#[test]
fn field_lines() {
    for (field, kind) in [
        (&b"A"[..], FieldName),
        (b": b", FieldName),
        (b"A : b", FieldName),
        (b"A\t: b", FieldName),
        (b"A b: c", FieldName),
        (b"\xe4: b", FieldName),
        (b"A(: b", FieldName),
        (b" A: b", FoldedField),
        (b"A: b\r\n c", FoldedField),
        (b"A: b\r\n\tc", FoldedField),
        (b"A: b\nC: d", BareLf),
        (b"A: b\rC: d", BareCr),
        (b"A: b\r\rC: d", BareCr),
        (b"A: \0", ControlByte),
        (b"A: \x7f", ControlByte),
        (b"A: \x0b", ControlByte),
        (b"A\0: b", ControlByte),
    ] {
        refuse(&with_field(field), kind);
    }
}

#[test]
fn content_lengths() {
    for (value, body) in [("0", ""), ("3", "abc"), ("003", "abc"), (" \t3\t ", "abc")] {
        let bytes = [&with_field(format!("Content-Length:{value}").as_bytes())[..], body.as_bytes()].concat();
        assert_eq!(accept(&bytes).body, body.as_bytes());
    }
    for value in ["", "-1", "+1", "1 1", "0x1", "1_0", "1.0", "1,1", "18446744073709551616", "\u{661}"] {
        refuse(&with_field(format!("Content-Length: {value}").as_bytes()), ContentLength);
    }
    refuse(&with_field(b"Content-Length: 0\r\nContent-Length: 0"), ContentLengthRepeated);
    let dropped = accept(&with_field(b"Content_Length: 3\r\nTransfer_Encoding: chunked"));
    assert_eq!(dropped.body, b"");
    assert_eq!(dropped.dropped.len(), 2);
}

#[test]
fn transfer_encodings() {
    for value in ["chunked", "CHUNKED", "\tchunked "] {
        let head = with_field(format!("Transfer-Encoding: {value}").as_bytes());
        assert_eq!(accept(&[&head[..], b"0\r\n\r\n"].concat()).body, b"");
    }
    for (value, kind) in [
        ("", TransferEncoding),
        ("chunked,", TransferEncoding),
        (",chunked", TransferEncoding),
        ("chunked, chunked", TransferEncoding),
        ("chunked, gzip", TransferEncoding),
        ("chunked;a=b", TransferEncoding),
        ("\"chunked\"", TransferEncoding),
        ("chun ked", TransferEncoding),
        ("gzip", TransferCoding),
        ("identity", TransferCoding),
        ("xchunked", TransferCoding),
        ("gzip, chunked", TransferCoding),
        ("gzip;q=1, chunked", TransferCoding),
        ("chunked\r\nTransfer-Encoding: chunked", TransferEncoding),
        ("chunked\r\nTransfer-Encoding: gzip", TransferEncoding),
        ("chunked\r\nContent-Length: 0", FramingConflict),
        ("chunked\r\nContent-Length: 1, 1", ContentLength),
    ] {
        refuse(&with_field(format!("Transfer-Encoding: {value}").as_bytes()), kind);
    }
    refuse(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", TransferEncodingInHttp10);
}

#[test]
fn chunked_bodies() {
    for (chunks, body) in [
        (&b"0\r\n\r\n"[..], &b""[..]),
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"3\r\nabc\r\n1\r\nd\r\n000\r\n\r\n", b"abcd"),
        (b"0A\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n\r\n\r\n\r\n"),
        (b"1;a\r\nx\r\n0;b=c;d=\"\\\"\xe4 ;\" ; e\t=\tf\r\n\r\n", b"x"),
        (b"1 ; a\r\nx\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n", b"x"),
    ] {
        assert_eq!(accept(&with_chunks(chunks)).body, body, "{}", chunks.escape_ascii());
    }
    for (chunks, kind) in [
        (&b"\r\n"[..], ChunkSize),
        (b"g\r\n", ChunkSize),
        (b"-1\r\n", ChunkSize),
        (b"0x1\r\n", ChunkSize),
        (b" 1\r\n", ChunkSize),
        (b"1_0\r\n", ChunkSize),
        (b"10000000000000000\r\n", ChunkSize),
        (b"fffffffffffffffff\r\n", ChunkSize),
        (b"1\n", BareLf),
        (b"\n", BareLf),
        (b"1\rx", BareCr),
        (b"1 \r\n", ChunkExtension),
        (b"1;\r\n", ChunkExtension),
        (b"1;a=\r\n", ChunkExtension),
        (b"1;a\0\r\n", ChunkExtension),
        (b"1;a b\r\n", ChunkExtension),
        (b"1;a=\"b\r\n", ChunkExtension),
        (b"1;a=\"b\"c\r\n", ChunkExtension),
        (b"1;a\rb\r\n", BareCr),
        (b"1;a\nb\r\n", BareLf),
        (b"1\r\nxy", ChunkEnd),
        (b"1\r\nx\n", ChunkEnd),
        (b"1\r\nx\ry", ChunkEnd),
        (b"0\r\nX : y\r\n\r\n", FieldName),
        (b"0\r\n X: y\r\n\r\n", FoldedField),
        (b"0\r\nX: y\n\r\n", BareLf),
        (b"0\r\n\n", BareLf),
        (b"0\r\n\rx", BareCr),
        (b"0\r\nX: \0\r\n\r\n", ControlByte),
        (b"0\r\nContent-Length: 3\r\n\r\n", Trailer),
        (b"0\r\nhost: a\r\n\r\n", Trailer),
        (b"0\r\nTransfer-Encoding: chunked\r\n\r\n", Trailer),
        (b"0\r\nTrailer: a\r\n\r\n", Trailer),
        (b"0\r\nTE: a\r\n\r\n", Trailer),
    ] {
        refuse(&with_chunks(chunks), kind);
    }
}

#[test]
fn kept_connections() {
    for (version, lines, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: upgrade, CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Proxy-Connection: keep-alive\r\n", false),
    ] {
        let request = accept(format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n").as_bytes());
        assert_eq!(request.keep_alive, keep_alive, "{version} {lines}");
    }
}

#[test]
fn expectations() {
    for (version, lines, expects) in [
        ("1.1", "Expect: 100-continue\r\nContent-Length: 1\r\n", true),
        ("1.1", "Expect: 100-Continue\r\nContent-Length: 1\r\n", true),
        ("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n", false),
        ("1.1", "Expect: 100-continue\r\n", false),
        ("1.0", "Expect: 100-continue\r\nContent-Length: 1\r\n", false),
    ] {
        let body = if lines.contains('1') && lines.contains("Length: 1") { "x" } else { "" };
        let request = accept(format!("POST / HTTP/{version}\r\nHost: a\r\n{lines}\r\n{body}").as_bytes());
        assert_eq!(request.expect_continue, expects, "{version} {lines}");
    }
    refuse(&with_field(b"Expect: 200-ok"), Expectation);
    refuse(&with_field(b"Expect: 100-continue, x"), Expectation);
}

#[test]
fn empty_lines_before_a_request() {
    accept(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    refuse(b"\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine);
    refuse(b"\n", BareLf);
    refuse(b"\r\r", BareCr);
}

#[test]
fn incomplete_requests_wait() {
    let bytes = with_chunks(b"3\r\nabc\r\n0\r\nX: y\r\n\r\n");
    for length in 1..bytes.len() {
        let transcript = read_all_ways(&bytes[..length], &Limits::default(), 4);
        assert_eq!(transcript.error, None, "{length}");
        assert!(!transcript.idle && transcript.requests.iter().all(|request| !request.complete), "{length}");
    }
}

/// Every limit: what is exactly as large as it passes, one byte (or field) more does not.
#[test]
fn limits() {
    let get = |target: usize, fields: &str| {
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n{fields}\r\n", "a".repeat(target - 1))
    };
    let limits = Limits {
        request_line_bytes_max: 40,
        fields_max: 3,
        field_bytes_max: 20,
        head_bytes_max: 110,
        body_bytes_max: 5,
        chunk_line_bytes_max: 4,
    };
    let accepts = |bytes: &[u8]| drop(accept_within(bytes, &limits));
    let refuses = |bytes: &[u8], kind| refuse_within(bytes, kind, &limits);

    accepts(get(27, "").as_bytes());
    refuses(get(28, "").as_bytes(), RequestLineTooLong);
    accepts(get(1, &format!("A: {}\r\n", "b".repeat(17))).as_bytes());
    refuses(get(1, &format!("A: {}\r\n", "b".repeat(18))).as_bytes(), FieldTooLong);
    accepts(get(1, "A:\r\nB:\r\n").as_bytes());
    refuses(get(1, "A:\r\nB:\r\nC:\r\n").as_bytes(), TooManyFields);
    let roomy = Limits { field_bytes_max: 99, ..limits.clone() };
    let to_full = "b".repeat(limits.head_bytes_max - get(12, "A: \r\n").len());
    accept_within(get(12, &format!("A: {to_full}\r\n")).as_bytes(), &roomy);
    refuse_within(get(12, &format!("A: {to_full}b\r\n")).as_bytes(), HeadTooLarge, &roomy);

    let post = |body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{body}");
    accepts(post("Content-Length: 5\r\n\r\nabcde").as_bytes());
    refuses(post("Content-Length: 6\r\n\r\n").as_bytes(), BodyTooLarge);
    let chunked = |body: &str| post(&format!("Transfer-Encoding: chunked\r\n\r\n{body}"));
    let roomy = Limits { field_bytes_max: 30, ..limits.clone() };
    let accepts = |bytes: &[u8]| drop(accept_within(bytes, &roomy));
    let refuses = |bytes: &[u8], kind| refuse_within(bytes, kind, &roomy);
    accepts(chunked("5\r\nabcde\r\n0\r\n\r\n").as_bytes());
    refuses(chunked("6\r\n").as_bytes(), BodyTooLarge);
    refuses(chunked("5\r\nabcde\r\n1\r\n").as_bytes(), BodyTooLarge);
    refuses(chunked("FFFF\r\n").as_bytes(), BodyTooLarge);
    accepts(chunked("0001\r\na\r\n0;ab\r\n\r\n").as_bytes());
    refuses(chunked("00001").as_bytes(), ChunkLineTooLong);
    refuses(chunked("0;abc").as_bytes(), ChunkLineTooLong);
    accepts(chunked("0\r\nA:\r\nB:\r\nC:\r\n\r\n").as_bytes());
    refuses(chunked("0\r\nA:\r\nB:\r\nC:\r\nD:\r\n\r\n").as_bytes(), TooManyFields);
    refuses(chunked(&format!("0\r\nA: {}\r\n\r\n", "b".repeat(28))).as_bytes(), FieldTooLong);
}

/// More fields than are kept without an allocation.
#[test]
fn many_fields() {
    for count in [31, 32, 33, 99] {
        let lines: String = (0..count - 1).map(|n| format!("F{n}: {n}\r\n")).collect();
        let request = accept(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").as_bytes());
        assert_eq!(request.fields.len(), count);
        assert_eq!(request.fields[count - 1].1, (count - 2).to_string().into_bytes());
    }
}
