//! One request is read in one way, whatever it comes in: what HTTP/1 refuses, HTTP/2 and the gateways' protocols
//! refuse as well, and what is taken says the same.

use std::time::Duration;

use portico_proto::http2::{PREFACE, Session, Settings};
use portico_proto::{Event, Limits, Protocol, StreamEvent};

/// A request as it is meant.
struct Asked<'a> {
    method: &'a [u8],
    target: &'a [u8],
    host: Option<&'a [u8]>,
    fields: &'a [(&'a [u8], &'a [u8])],
}

const GET: Asked<'_> = Asked { method: b"GET", target: b"/", host: Some(b"a"), fields: &[] };

/// What a head says; names of fields in lower case, hyphens for underscores.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    method: String,
    target: String,
    path: String,
    query: String,
    authority: String,
    fields: Vec<(String, String)>,
}

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Http1,
    Http2,
    Uwsgi,
    Scgi,
    Fastcgi,
}

const ALL: [By; 5] = [By::Http1, By::Http2, By::Uwsgi, By::Scgi, By::Fastcgi];
const GATEWAYS: [By; 3] = [By::Uwsgi, By::Scgi, By::Fastcgi];

impl By {
    fn read(self, asked: &Asked<'_>) -> Option<Reading> {
        match self {
            Self::Http1 => read_head(Protocol::default(), &http1(asked)),
            Self::Http2 => read_stream(&http2(asked)),
            Self::Uwsgi => read_head(Protocol::uwsgi(), &uwsgi(asked)),
            Self::Scgi => read_head(Protocol::scgi(), &scgi(asked)),
            Self::Fastcgi => read_head(Protocol::fastcgi(), &fastcgi(asked)),
        }
    }
}

fn http1(asked: &Asked<'_>) -> Vec<u8> {
    let mut bytes = [asked.method, b" ", asked.target, b" HTTP/1.1\r\n"].concat();
    let host = asked.host.map(|host| (&b"Host"[..], host));
    for (name, value) in host.iter().chain(asked.fields) {
        bytes.extend_from_slice(&[*name, b": ", value, b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn http2(asked: &Asked<'_>) -> Vec<u8> {
    let pseudo = [(&b":method"[..], asked.method), (b":scheme", b"http"), (b":path", asked.target)];
    let authority = asked.host.map(|host| (&b":authority"[..], host));
    let fields = pseudo.iter().chain(&authority).chain(asked.fields);
    let mut block = Vec::new();
    for (name, value) in fields {
        block.extend_from_slice(&[&[0, name.len() as u8], *name, &[value.len() as u8], value].concat());
    }
    let head = [0, (block.len() >> 8) as u8, block.len() as u8, 1, 5, 0, 0, 0, 1];
    [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], &head, &block].concat()
}

/// As a gateway tells them.
fn variables(asked: &Asked<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut variables = vec![
        (b"REQUEST_METHOD".to_vec(), asked.method.to_vec()),
        (b"REQUEST_URI".to_vec(), asked.target.to_vec()),
        (b"SERVER_PROTOCOL".to_vec(), b"HTTP/1.1".to_vec()),
    ];
    let host = asked.host.map(|host| (&b"host"[..], host));
    for (name, value) in host.iter().chain(asked.fields) {
        let name = name.to_ascii_uppercase();
        let prefix: &[u8] = if name == b"CONTENT-LENGTH" { b"" } else { b"HTTP_" };
        let name: Vec<u8> = name.iter().map(|byte| if *byte == b'-' { b'_' } else { *byte }).collect();
        variables.push(([prefix, &name].concat(), value.to_vec()));
    }
    variables
}

fn uwsgi(asked: &Asked<'_>) -> Vec<u8> {
    let mut packet = Vec::new();
    for text in variables(asked).iter().flat_map(|(name, value)| [name, value]) {
        packet.extend_from_slice(&(text.len() as u16).to_le_bytes());
        packet.extend_from_slice(text);
    }
    [&[0][..], &(packet.len() as u16).to_le_bytes(), &[0], &packet].concat()
}

fn scgi(asked: &Asked<'_>) -> Vec<u8> {
    let mut variables = variables(asked);
    let length = match variables.iter().position(|(name, _)| name == b"CONTENT_LENGTH") {
        Some(at) => variables.remove(at),
        None => (b"CONTENT_LENGTH".to_vec(), b"0".to_vec()),
    };
    let first = [length, (b"SCGI".to_vec(), b"1".to_vec())];
    let packet: Vec<u8> = first
        .iter()
        .chain(&variables)
        .flat_map(|(name, value)| [&name[..], &[0], value, &[0]].concat())
        .collect();
    [packet.len().to_string().as_bytes(), b":", &packet, b","].concat()
}

fn fastcgi(asked: &Asked<'_>) -> Vec<u8> {
    let record = |kind: u8, content: &[u8]| {
        [&[1, kind, 0, 1, (content.len() >> 8) as u8, content.len() as u8, 0, 0], content].concat()
    };
    let mut params = Vec::new();
    for (name, value) in variables(asked) {
        params.extend_from_slice(&[&[name.len() as u8, value.len() as u8], &name[..], &value].concat());
    }
    [record(1, &[0, 1, 0, 0, 0, 0, 0, 0]), record(4, &params), record(4, b""), record(5, b"")].concat()
}

/// The head of the first request in `bytes`; `None` where it is refused.
fn read_head(mut protocol: Protocol, mut bytes: &[u8]) -> Option<Reading> {
    match protocol.next_event(&mut bytes, &Limits::default()) {
        Ok(Some(Event::Head(head))) => Some(reading(&head)),
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    }
}

/// The same of stream 1, which may be refused by a status or by resetting it.
fn read_stream(bytes: &[u8]) -> Option<Reading> {
    let settings = Settings {
        concurrent_streams_max: 5,
        window_bytes: 65_535,
        frame_bytes_max: 16_384,
        header_list_bytes_max: 65_536,
    };
    let mut session = Session::new(&settings);
    assert_eq!(session.receive(bytes, Duration::ZERO, &Limits::default()), Ok(()));
    match session.next_event(&Limits::default()) {
        Some(StreamEvent::Opened(1, mut stream)) => {
            match stream.next_event(&mut &[][..], &Limits::default()) {
                Ok(Some(Event::Head(head))) => Some(reading(&head)),
                Ok(other) => panic!("{other:?}"),
                Err(_) => None,
            }
        }
        Some(StreamEvent::Reset(1, Some(_))) => None,
        other => panic!("{other:?}"),
    }
}

fn reading(head: &portico_proto::RequestHead) -> Reading {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let mut fields: Vec<_> =
        head.fields().map(|(name, value)| (text(&name.to_ascii_lowercase()), text(value))).collect();
    fields.retain(|(name, _)| name != "content-length"); // No field of a gateway's.
    fields.sort();
    Reading {
        method: text(head.method()),
        target: text(head.target()),
        path: text(head.path()),
        query: text(head.query()),
        authority: text(head.authority().unwrap_or_default()),
        fields,
    }
}

/// All take it, and read the same; or none does, but for `others`.
fn expect(asked: &Asked<'_>, taken: bool, others: &[By]) {
    let show = format!(
        "{} {} {:?} {:?}",
        asked.method.escape_ascii(),
        asked.target.escape_ascii(),
        asked.host.map(|host| host.escape_ascii().to_string()),
        asked.fields,
    );
    let first = ALL.iter().find_map(|by| by.read(asked));
    for by in ALL {
        let read = by.read(asked);
        assert_eq!(read.is_some(), taken != others.contains(&by), "{by:?}: {show}");
        assert!(read.is_none() || read == first, "{by:?}: {show}: {read:?} {first:?}");
    }
}

#[test]
fn targets() {
    for target in
        ["/", "/a%20b?c=d", "//a", "/a?b?c", "/a?%", "/a?%zz", "/|[]{}\\^`\"<>", "/a;b=c", "/%00", "/?"]
    {
        expect(&Asked { target: target.as_bytes(), ..GET }, true, &[]);
    }
    for target in [
        &b"/a#b"[..],
        b"/#",
        b"/a?b#c",
        b"#",
        b"/a%23b#",
        b"a",
        b"*",
        b"**",
        b"/%",
        b"/%2",
        b"/%zz",
        b"/%2%30",
        b"/a b",
        b"/a\tb",
        b"/a\0",
        b"/a\x1b",
        b"/a\x7f",
        b"?q",
        b"/a\rb",
        b"/a\nb",
        b"http:/h",
        b"http://",
        b"http:///p",
        b"ftp://h/",
        b"http://u@h/",
        b"http://h:99999/",
        b"http://h/%zz",
        b"http://h/#",
        b"a:80",
    ] {
        expect(&Asked { target, ..GET }, false, &[]);
    }
    // An empty REQUEST_URI is one that is not told; HTTP/2 has a place of its own for scheme and authority (RFC
    // 9113, section 8.3.1); and a gateway has judged bytes beyond ASCII, which HTTP/1 and HTTP/2 do not allow.
    expect(&Asked { target: b"", ..GET }, false, &GATEWAYS);
    expect(&Asked { target: b"/\xc3\xa4?\xc3\xa4", ..GET }, false, &GATEWAYS);
    assert_eq!(By::Http2.read(&Asked { target: b"http://a/p?q", ..GET }), None);
    for by in [By::Http1, By::Uwsgi, By::Scgi, By::Fastcgi] {
        let read = by.read(&Asked { target: b"http://a/p?q", ..GET });
        let read = read.as_ref().map(|read| (&read.path[..], &read.query[..], &read.authority[..]));
        assert_eq!(read, Some(("/p", "q", "a")), "{by:?}");
    }
}

#[test]
fn methods() {
    for method in ["GET", "get", "PROPFIND", "M-SEARCH", "!#$%&'*+-.^_`|~"] {
        expect(&Asked { method: method.as_bytes(), ..GET }, true, &[]);
    }
    for method in [&b""[..], b"G T", b"GET/", b"G\x01T", b"G\tT", b"G:", b"(GET)", b"G\xc3", b"CONNECT"] {
        expect(&Asked { method, ..GET }, false, &[]);
    }
    expect(&Asked { method: b"OPTIONS", target: b"*", ..GET }, true, &[]);
    expect(&Asked { method: b"options", target: b"*", ..GET }, false, &[]);
    expect(&Asked { method: b"OPTIONS", target: b"*?a", ..GET }, false, &[]);
}

#[test]
fn hosts() {
    for host in [
        "a",
        "a:80",
        "a:",
        "a.example:00080",
        "[::1]:80",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "a_b",
        "a,b",
        "%41",
        "",
    ] {
        expect(&Asked { host: Some(host.as_bytes()), ..GET }, true, &[]);
    }
    for host in [
        &b"u@a"[..],
        b"a/b",
        b"a b",
        b"a:65536",
        b"a:b",
        b":80",
        b"[::1",
        b"[::1]80",
        b"a#b",
        b"a?b",
        b"a\\b",
        b"%4",
        b"a\0",
        b"a\x7f",
        b"\xc3\xa4",
        b"a\rb",
        b"a\nb",
        b"[fe80::1%]",
        b"http://a",
    ] {
        expect(&Asked { host: Some(host), ..GET }, false, &[]);
    }
    // Those that speak for others need not say what they were asked for.
    expect(&Asked { host: None, ..GET }, false, &GATEWAYS);
    expect(&Asked { fields: &[(b"host", b"b")], ..GET }, false, &[]);
    expect(&Asked { fields: &[(b"host", b"a"), (b"host", b"a")], ..GET }, false, &[]);
    // In HTTP/2 the one beside the authority may say the same (RFC 9113, section 8.3.1).
    expect(&Asked { fields: &[(b"host", b"a")], ..GET }, false, &[By::Http2]);
}

#[test]
fn fields() {
    for (name, value) in [
        (&b"x"[..], &b"a"[..]),
        (b"x", b""),
        (b"x", b"a\tb  c"),
        (b"x", b"\xc3\xa4\xff"),
        (b"x-1", b"a,b;c=\"d\""),
        (b"!#$%&'*+.^`|~", b"a"),
        (b"content-length", b"0"),
        (b"cookie", b"a=b; c"),
        (b"x", b":"),
        (b"x", b" \ta \t"),
        (b"x", b" "),
    ] {
        expect(&Asked { fields: &[(name, value)], ..GET }, true, &[]);
    }
    for (name, value) in [
        (&b"x y"[..], &b"a"[..]),
        (b"", b"a"),
        (b"(x)", b"a"),
        (b"x\x01", b"a"),
        (b"x\xc3", b"a"),
        (b"x/", b"a"),
        (b"x=", b"a"),
        (b"x", b"a\0b"),
        (b"x", b"a\x01b"),
        (b"x", b"a\x1b"),
        (b"x", b"a\x7fb"),
        (b"x", b"a\rb"),
        (b"x", b"a\nb"),
        (b"content-length", b"+1"),
        (b"content-length", b"1 2"),
        (b"content-length", b"0x1"),
        (b"content-length", b"18446744073709551616"),
        (b"content-length", b"1,1"),
    ] {
        expect(&Asked { fields: &[(name, value)], ..GET }, false, &[]);
    }
    // Of gateways, nginx among them, a value comes twice where its own configuration says it twice.
    let twice = [(&b"content-length"[..], &b"0"[..]); 2];
    expect(&Asked { fields: &twice, ..GET }, false, &[By::Uwsgi, By::Fastcgi]);
    expect(&Asked { fields: &[(b"content-length", b"0"), (b"content-length", b"1")], ..GET }, false, &[]);
    // The gateway has met the expectation.
    expect(&Asked { fields: &[(b"expect", b"200-ok")], ..GET }, false, &GATEWAYS);
}
