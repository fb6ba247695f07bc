//! What the encoder writes: the exact bytes, by request and response.

use std::sync::LazyLock;

use portico_proto::http1::Connection;
use portico_proto::{AddedFields, Event, Fields, HttpDate, Limits, Part, ResponseHead};

static ADDED: LazyLock<AddedFields> = LazyLock::new(|| AddedFields::new(HttpDate::from_unix(784_111_777)));

/// The part with which a response begins, with the added fields that a server gives it.
fn part(head: &ResponseHead, close: bool) -> Part<'_> {
    Part::Head { head, close, added: &ADDED }
}

/// A connection that has taken in all of `request`.
fn asked(request: &str) -> Connection {
    let mut connection = Connection::new();
    let mut input = request.as_bytes();
    while let Ok(Some(_)) = connection.next_event(&mut input, &Limits::default()) {}
    assert!(input.is_empty(), "{request:?}");
    connection
}

fn send(connection: &mut Connection, parts: &[Part<'_>]) -> String {
    let mut out = Vec::new();
    for part in parts {
        connection.send(*part, &mut out);
    }
    String::from_utf8(out).expect("these responses are text")
}

fn head(status: u16, fields: &[(&str, &str)], length: Option<u64>) -> ResponseHead {
    let mut lines = Fields::new();
    for (name, value) in fields {
        lines.push(name.as_bytes(), value.as_bytes());
    }
    ResponseHead { status, fields: lines, length, ..ResponseHead::default() }
}

/// Answers `request` with `head` and `blocks`: what is written, without Date and Server, and whether the
/// connection can serve another request.
fn respond(request: &str, head: &ResponseHead, blocks: &[&str]) -> (String, bool) {
    let mut connection = asked(request);
    let mut text = send(&mut connection, &[part(head, false)]);
    assert!(connection.head_sent());
    for block in blocks {
        text += &send(&mut connection, &[Part::Body(block.as_bytes())]);
    }
    text += &send(&mut connection, &[Part::End]);
    let kept = connection.can_keep_alive();
    connection.next_request();
    assert_eq!(connection.is_idle(), kept);
    (text.replace(ORIGIN, ""), kept)
}

const ORIGIN: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: portico\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
const GET_AND_CLOSE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const GET_1_0: &str = "GET / HTTP/1.0\r\n\r\n";
const GET_1_0_AND_KEEP: &str = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";

/// Framing by request, status, length and blocks: what follows the status line and Date and Server, and
/// whether the connection is kept.
#[test]
fn framing() {
    #[rustfmt::skip]
    let cases = [
        (GET, 200, Some(2), &["ab"][..], "Content-Length: 2\r\n\r\nab", true),
        (GET, 200, Some(2), &["a", "", "b"], "Content-Length: 2\r\n\r\nab", true),
        (GET, 200, Some(0), &[], "Content-Length: 0\r\n\r\n", true),
        (GET, 200, Some(2), &["abc"], "Content-Length: 2\r\n\r\nab", true),
        (GET, 200, Some(2), &["ab", "c"], "Content-Length: 2\r\n\r\nab", true),
        (GET, 200, Some(0), &["a"], "Content-Length: 0\r\n\r\n", true),
        (GET, 200, Some(3), &["ab"], "Content-Length: 3\r\n\r\nab", false),
        (
            GET,
            200,
            None,
            &["a", "", "bc"],
            "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
            true,
        ),
        (GET, 200, None, &[], "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true),
        (GET, 204, None, &[], "\r\n", true),
        (GET, 204, Some(0), &[], "\r\n", true),
        (GET, 204, Some(1), &["a"], "\r\n", true),
        (GET, 205, None, &["a"], "Content-Length: 0\r\n\r\n", true),
        (GET, 304, None, &["a"], "\r\n", true),
        (GET, 304, Some(9), &[], "Content-Length: 9\r\n\r\n", true),
        (HEAD, 200, Some(9), &["a"], "Content-Length: 9\r\n\r\n", true),
        (HEAD, 200, None, &["a"], "\r\n", true),
        (HEAD, 204, Some(9), &["a"], "\r\n", true),
        (GET_AND_CLOSE, 200, Some(1), &["a"], "Connection: close\r\nContent-Length: 1\r\n\r\na", false),
        (
            GET_AND_CLOSE,
            200,
            None,
            &[],
            "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            false,
        ),
        (GET_1_0, 200, Some(1), &["a"], "Connection: close\r\nContent-Length: 1\r\n\r\na", false),
        (GET_1_0, 200, None, &["a", "b"], "Connection: close\r\n\r\nab", false),
        (
            GET_1_0_AND_KEEP,
            200,
            Some(1),
            &["a"],
            "Connection: keep-alive\r\nContent-Length: 1\r\n\r\na",
            true,
        ),
        (GET_1_0_AND_KEEP, 200, None, &["ab"], "Connection: close\r\n\r\nab", false),
    ];
    for (request, status, length, blocks, expected, kept) in cases {
        let (text, can_keep_alive) = respond(request, &head(status, &[], length), blocks);
        let line = format!("HTTP/1.1 {status} {}\r\n", standard_phrase(status));
        assert_eq!(text, line + expected, "{request:?} {status} {length:?} {blocks:?}");
        assert_eq!(can_keep_alive, kept, "{request:?} {status} {length:?} {blocks:?}");
    }
}

#[test]
fn status_lines() {
    for (status, phrase, line) in [
        (200, "", "HTTP/1.1 200 OK\r\n"),
        (200, "OK", "HTTP/1.1 200 OK\r\n"),
        (200, "Fine", "HTTP/1.1 200 Fine\r\n"),
        (301, "", "HTTP/1.1 301 Moved Permanently\r\n"),
        (301, "Moved Permanently", "HTTP/1.1 301 Moved Permanently\r\n"),
        (299, "", "HTTP/1.1 299 \r\n"),
        (299, "Custom Reason", "HTTP/1.1 299 Custom Reason\r\n"),
        (418, "", "HTTP/1.1 418 I'm a teapot\r\n"),
        (999, "x", "HTTP/1.1 999 x\r\n"),
    ] {
        let head = ResponseHead { reason: phrase.into(), ..head(status, &[], Some(0)) };
        assert_eq!(respond(GET, &head, &[]).0, format!("{line}Content-Length: 0\r\n\r\n"));
    }
}

/// The phrase of the http crate, which has older names for three codes.
fn standard_phrase(status: u16) -> &'static str {
    match status {
        203 => "Non-Authoritative Information",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        _ => http::StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or_default(),
    }
}

#[test]
fn standard_phrases_are_those_of_rfc_9110() {
    for status in (100..=599).filter(|status| !matches!(status, 100..=199 | 204 | 304)) {
        let line = format!("HTTP/1.1 {status} {}\r\n", standard_phrase(status));
        let text = respond(GET, &head(status, &[], Some(0)), &[]).0;
        assert_eq!(text, format!("{line}Content-Length: 0\r\n\r\n"));
    }
}

#[test]
fn fields_come_as_they_are_and_before_ours() {
    let fields = [("Content-Type", "a/b"), ("Set-Cookie", "a"), ("set-cookie", "b")];
    let (text, _) = respond(GET, &head(200, &fields, Some(0)), &[]);
    assert_eq!(
        text,
        "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn what_is_added_follows_the_fields() {
    let (fields, date) = ([("A", "b")], ADDED.date);
    for (added, expected) in [
        (AddedFields::NONE, ""),
        (*ADDED, ORIGIN),
        (AddedFields { date, server: "" }, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
        (AddedFields { date: None, server: "s" }, "Server: s\r\n"),
    ] {
        let part = Part::Head { head: &head(200, &fields, Some(0)), close: false, added: &added };
        let text = send(&mut asked(GET), &[part]);
        assert_eq!(text, format!("HTTP/1.1 200 OK\r\nA: b\r\n{expected}Content-Length: 0\r\n\r\n"));
    }
}

#[test]
fn a_caller_may_close() {
    let mut connection = asked(GET);
    let text = send(&mut connection, &[part(&head(200, &[], Some(0)), true), Part::End]);
    assert!(text.ends_with("Connection: close\r\nContent-Length: 0\r\n\r\n"), "{text}");
    assert!(connection.response_complete() && !connection.can_keep_alive());
}

#[test]
fn continue_is_sent_once_and_only_to_who_waits() {
    let waiting = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    let mut connection = asked(waiting);
    assert_eq!(send(&mut connection, &[Part::Continue, Part::Continue]), "HTTP/1.1 100 Continue\r\n\r\n");
    // The next request is another matter.
    let mut input = &b"x"[..];
    while let Ok(Some(_)) = connection.next_event(&mut input, &Limits::default()) {}
    send(&mut connection, &[part(&head(200, &[], Some(0)), false), Part::End]);
    connection.next_request();
    let mut input = waiting.as_bytes();
    assert!(matches!(connection.next_event(&mut input, &Limits::default()), Ok(Some(Event::Head(_)))));
    assert_eq!(send(&mut connection, &[Part::Continue]), "HTTP/1.1 100 Continue\r\n\r\n");

    let empty = head(200, &[], Some(0));
    let answered = part(&empty, true);
    let mut connection = asked(waiting);
    send(&mut connection, &[answered]);
    assert_eq!(send(&mut connection, &[Part::Continue]), "", "after the response's head");
    for request in [GET, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", &format!("{waiting}x")] {
        assert_eq!(send(&mut asked(request), &[Part::Continue]), "", "{request:?}");
    }
    assert_eq!(send(&mut Connection::new(), &[Part::Continue]), "", "before a request");
}

#[test]
fn early_hints_go_to_http_1_1_before_the_head() {
    let mut fields = Fields::new();
    fields.push(b"Link", b"</a>; rel=preload");
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n";
    let mut connection = asked(GET);
    assert_eq!(
        send(&mut connection, &[Part::EarlyHints(&fields), Part::EarlyHints(&fields)]),
        hints.repeat(2)
    );
    assert!(!connection.head_sent());
    send(&mut connection, &[part(&head(200, &[], Some(0)), false)]);
    assert_eq!(send(&mut connection, &[Part::EarlyHints(&fields)]), "");
    assert_eq!(send(&mut asked(GET_1_0), &[Part::EarlyHints(&fields)]), "");
}

#[test]
fn parts_out_of_order_write_nothing() {
    let first = head(200, &[], Some(1));
    let second = head(500, &[], Some(0));
    let mut connection = asked(GET);
    assert_eq!(send(&mut connection, &[Part::Body(b"x")]), "");
    let text = send(&mut connection, &[part(&first, false)]);
    assert!(text.starts_with("HTTP/1.1 200"));
    assert_eq!(send(&mut connection, &[part(&second, false)]), "");
    assert_eq!(send(&mut connection, &[Part::Body(b"x"), Part::End, Part::Body(b"y"), Part::End]), "x");
    assert!(connection.response_complete());

    let mut connection = asked(GET);
    assert_eq!(send(&mut connection, &[Part::End]), "");
    assert!(!connection.response_complete() && !connection.can_keep_alive(), "an end without a head");
}

#[test]
fn completeness_and_surplus_are_told() {
    for (length, blocks, complete, surplus) in [
        (Some(2), &["ab"][..], true, false),
        (Some(2), &["abc"], true, true),
        (Some(2), &["a"], false, false),
        (None, &["a"], true, false),
    ] {
        let head = head(200, &[], length);
        let mut connection = asked(GET);
        send(&mut connection, &[part(&head, false)]);
        blocks.iter().for_each(|block| drop(send(&mut connection, &[Part::Body(block.as_bytes())])));
        assert!(!connection.response_complete());
        send(&mut connection, &[Part::End]);
        assert_eq!(connection.response_complete(), complete, "{length:?} {blocks:?}");
        assert_eq!(connection.response_surplus(), surplus, "{length:?} {blocks:?}");
        assert_eq!(connection.can_keep_alive(), complete);
    }
}

/// The caller writes bytes itself: what the encoder writes around them makes a sound body with them.
#[test]
fn spliced_bodies() {
    let cases: [(&str, Option<u64>, u64, &str, &str); 6] = [
        (GET, Some(5), 5, "[5]", ""),
        (GET, Some(3), 3, "[3]", ""),
        (GET, Some(9), 5, "[5]", "last"),
        (GET, None, 5, "5\r\n[5]", "\r\n4\r\nlast\r\n0\r\n\r\n"),
        (GET_1_0, None, 5, "[5]", "last"),
        (HEAD, Some(5), 0, "[0]", ""),
    ];
    for (request, length, taken, before, after) in cases {
        let mut connection = asked(request);
        send(&mut connection, &[part(&head(200, &[], length), false)]);
        let mut out = Vec::new();
        assert_eq!(connection.splice(5, &mut out), taken, "{request:?} {length:?}");
        assert_eq!(String::from_utf8_lossy(&out).into_owned() + &format!("[{taken}]"), before);
        assert_eq!(send(&mut connection, &[Part::Body(b"last"), Part::End]), after, "{request:?} {length:?}");
        assert!(connection.response_complete(), "{request:?} {length:?}");
    }
    let mut out = Vec::new();
    assert_eq!(asked(GET).splice(5, &mut out), 0, "before the head");
    let mut connection = asked(GET);
    send(&mut connection, &[part(&head(200, &[], None), false)]);
    assert_eq!(connection.splice(0xabcde, &mut out), 0xabcde);
    assert_eq!(connection.splice(1, &mut out), 1);
    assert_eq!(out, b"abcde\r\n\r\n1\r\n");
    assert_eq!(send(&mut connection, &[Part::End]), "\r\n0\r\n\r\n");
}

#[test]
fn a_request_is_to_be_taken_in_before_the_next_begins() {
    let mut connection = asked("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
    send(&mut connection, &[part(&head(200, &[], Some(0)), false), Part::End]);
    assert!(connection.response_complete() && !connection.can_keep_alive());
    connection.next_request();
    assert!(!connection.is_idle());
    let mut input = &b"xy"[..];
    assert!(matches!(connection.next_event(&mut input, &Limits::default()), Ok(Some(Event::Body(b"xy")))));
    assert!(matches!(connection.next_event(&mut input, &Limits::default()), Ok(Some(Event::End))));
    assert!(connection.can_keep_alive());
    connection.next_request();
    assert!(connection.is_idle());
}

/// What is sent to refuse a request, whether or not it is complete.
fn refuse(connection: &mut Connection, status: u16, text: &str) -> String {
    let text = format!("{text}\n");
    let refusal = head(status, &[("Content-Type", "text/plain; charset=utf-8")], Some(text.len() as u64));
    send(connection, &[part(&refusal, true), Part::Body(text.as_bytes()), Part::End])
}

#[test]
fn refusals() {
    let mut input: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
    let mut connection = Connection::new();
    let error = connection.next_event(&mut input, &Limits::default()).unwrap_err();
    assert_eq!(
        refuse(&mut connection, error.status, &error.to_string()),
        format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n{ORIGIN}\
             Connection: close\r\nContent-Length: 27\r\n\r\nThe Host field is missing.\n"
        )
    );
}

/// Whatever has arrived of the request, if its method has.
#[test]
fn refusals_of_head_have_no_body() {
    let requests: [&[u8]; 6] = [
        b"HEAD / HTTP/1.1\r\n\r\n",
        b"\r\nHEAD \r\n",
        b"HEAD ",
        b"HEAD / HTTP/1.1\r\nHost: a\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno size",
    ];
    for request in requests {
        assert_eq!(refusal_body(request), "", "{:?}", request.escape_ascii().to_string());
    }
    for request in [&b""[..], b"HEAD", b"head / HTTP/1.1\r\n\r\n", b"HEADER / HTTP/1.1\r\n\r\n"] {
        assert_eq!(refusal_body(request), "Too slow.\n", "{:?}", request.escape_ascii().to_string());
    }
}

/// What follows the head of a refusal when `request` has come, one byte at a time.
fn refusal_body(request: &[u8]) -> String {
    let mut connection = Connection::new();
    let mut buffer = Vec::new();
    for byte in request {
        buffer.push(*byte);
        let mut input = &buffer[..];
        // An error is what the refusal would be for; one that comes too late is refused all the same.
        while let Ok(Some(_)) = connection.next_event(&mut input, &Limits::default()) {}
        let used = buffer.len() - input.len();
        buffer.drain(..used);
    }
    let text = refuse(&mut connection, 408, "Too slow.");
    let (head, body) = text.split_once("\r\n\r\n").expect("the end of the head");
    assert!(head.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{head}");
    assert!(head.ends_with("\r\nContent-Length: 10"), "{head}");
    body.to_owned()
}

/// What the application asks for, and what goes with an upgrade (RFC 9110, section 7.8).
#[test]
fn connection() {
    let ended = |close, fields| ResponseHead { close, ..head(426, fields, Some(0)) };
    let upgrade = &[("Upgrade", "TLS/1.3")][..];
    let cases = [
        (GET, ended(false, &[]), "", true),
        (GET, ended(true, &[]), "Connection: close\r\n", false),
        (GET_1_0_AND_KEEP, ended(true, &[]), "Connection: close\r\n", false),
        (GET, ended(false, upgrade), "Upgrade: TLS/1.3\r\nConnection: Upgrade\r\n", true),
        (GET, ended(true, upgrade), "Upgrade: TLS/1.3\r\nConnection: close, Upgrade\r\n", false),
        (
            GET_1_0_AND_KEEP,
            ended(false, upgrade),
            "Upgrade: TLS/1.3\r\nConnection: keep-alive, Upgrade\r\n",
            true,
        ),
    ];
    for (request, head, fields, kept) in cases {
        let expected = format!("HTTP/1.1 426 Upgrade Required\r\n{fields}Content-Length: 0\r\n\r\n");
        let (text, is_kept) = respond(request, &head, &[]);
        assert_eq!((sorted(&text), is_kept), (sorted(&expected), kept), "{request}");
    }
}

/// The lines of a head, in an order that does not matter.
fn sorted(head: &str) -> Vec<&str> {
    let mut lines: Vec<_> = head.split("\r\n").collect();
    lines.sort_unstable();
    lines
}
