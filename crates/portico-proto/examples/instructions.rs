//! Parses and answers one request many times, for an instruction count:
//!
//! ```text
//! cargo build --release -p portico-proto --example instructions
//! valgrind --tool=callgrind target/release/examples/instructions browser 10000
//! ```
//!
//! The first argument is `bare` (Host alone), `browser` (a browser's fields), `chunked` (these and a body of
//! twenty chunks) or `split` (a browser's fields, in three pieces); the second is how often. Run it with two
//! counts and divide the difference, to leave the start of the process out.

use std::hint::black_box;

use portico_proto::http1::Connection;
use portico_proto::{AddedFields, Event, Fields, HttpDate, Limits, Part, ResponseHead};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let shape = arguments.next().unwrap_or_else(|| "browser".into());
    let count: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(10_000);

    let browser = format!("GET /shop/list?page=2&sort=price HTTP/1.1\r\n{BROWSER_FIELDS}\r\n").into_bytes();
    let chunk = ["100\r\n", &"x".repeat(256), "\r\n"].concat();
    let chunked = format!(
        "POST /upload HTTP/1.1\r\n{BROWSER_FIELDS}Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunk.repeat(20)
    );
    let arrivals: Vec<&[u8]> = match shape.as_str() {
        "bare" => vec![b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"],
        "browser" => vec![&browser],
        "chunked" => vec![chunked.as_bytes()],
        "split" => vec![&browser[..200], &browser[..500], &browser],
        other => panic!("no such shape: {other}"),
    };

    let added = AddedFields::new(HttpDate::from_unix(784_111_777));
    let mut connection = Connection::new();
    let mut out = Vec::with_capacity(4096);
    for _ in 0..count {
        out.clear();
        receive(&mut connection, black_box(&arrivals));
        respond(&mut connection, black_box(&added), &mut out);
        black_box(&out);
        assert!(connection.can_keep_alive());
        connection.next_request();
    }
}

/// Takes in one request. Each of `arrivals` is all that has come so far.
fn receive(connection: &mut Connection, arrivals: &[&[u8]]) {
    let limits = Limits::default();
    for arrival in arrivals {
        let mut input = *arrival;
        while let Ok(Some(event)) = connection.next_event(&mut input, &limits) {
            if let Event::Head(head) = &event {
                assert!(head.keep_alive);
            }
            black_box(&event);
        }
    }
}

/// Answers as an application that says hello does.
fn respond(connection: &mut Connection, added: &AddedFields, out: &mut Vec<u8>) {
    let mut fields = Fields::new();
    fields.push(b"Content-Type", b"text/plain; charset=utf-8");
    let head = ResponseHead { status: 200, fields, length: Some(13), ..ResponseHead::default() };
    connection.send(Part::Head { head: black_box(&head), close: false, added }, out);
    connection.send(Part::Body(b"Hello, world!"), out);
    connection.send(Part::End, out);
}

const BROWSER_FIELDS: &str = "Host: shop.example:8000\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/126.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: http://shop.example:8000/shop/list\r\n\
    Connection: keep-alive\r\n\
    Cookie: sessionid=0123456789abcdef0123456789abcdef; csrftoken=abcdefghijklmnopqrstuvwxyz012345\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-User: ?1\r\n\
    Cache-Control: max-age=0\r\n";
