//! The span of one request: what is said of it, and its encoding (opentelemetry-proto, `trace/v1/trace.proto`).
//!
//! The attributes are those of OpenTelemetry's semantic conventions for HTTP servers. Left out is what they leave
//! to the operator and what may be secret: the query and all header fields but `User-Agent`. A text is valid
//! UTF-8 and of bounded length whatever a client has sent: one wrong byte would have the collector refuse all
//! spans of its message.

use std::borrow::Cow;
use std::net::IpAddr;

use portico_proto::{TraceContext, Version};

use crate::protobuf::{MessageWriter, bytes_len, varint_field_len};

/// The place of a request in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// With the id of the request's own span: what its application continues.
    pub own: TraceContext,
    /// The span of whoever called; `None` where the trace begins with this request.
    pub parent: Option<[u8; 8]>,
}

/// What is said of one request, borrowed from it for the moment in which it is encoded.
#[derive(Clone, Copy, Debug)]
pub struct ServerSpan<'a> {
    /// Its place in the trace.
    pub context: &'a SpanContext,
    /// When, in nanoseconds since 1970.
    pub times: SpanTimes,
    /// Its method; `None` where what came was no request.
    pub method: Option<&'a [u8]>,
    /// What its path is an instance of, as the application says: `/users/<id>`.
    pub route: Option<&'a str>,
    /// Its path, as it came.
    pub path: Option<&'a [u8]>,
    /// Whether the client has asked by https.
    pub is_https: bool,
    /// The host that was asked for, with its port if that was named.
    pub host: Option<&'a [u8]>,
    /// The port where none was named.
    pub default_port: u16,
    /// The client; `None` for a UNIX socket.
    pub client: Option<IpAddr>,
    /// The version of HTTP.
    pub version: Option<Version>,
    /// The field of that name.
    pub user_agent: Option<&'a [u8]>,
    /// Status of the response; `None` if there was none.
    pub status: Option<u16>,
    /// Why it ended otherwise than with the application's whole response, as the access log has it.
    pub reason: Option<&'static str>,
    /// What happened meanwhile.
    pub event: Option<SpanEvent>,
    /// How long it has waited for a thread, in nanoseconds; `None` if nothing was awaited for it.
    pub queue: Option<u64>,
    /// How long it has waited before it came here, as a proxy in front says, in nanoseconds.
    pub upstream_queue: Option<u64>,
}

/// The moments of a span, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanTimes {
    /// The request had come.
    pub start: u64,
    /// Its response was written.
    pub end: u64,
}

/// Something that happened within a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanEvent {
    /// What.
    pub name: &'static str,
    /// When, in nanoseconds since 1970.
    pub at: u64,
}

/// `SPAN_KIND_SERVER`
const KIND_SERVER: u64 = 2;

/// `STATUS_CODE_ERROR`
const STATUS_ERROR: u64 = 2;

/// The parent's id is known, and it is another process's (`SpanFlags`).
const FLAGS_HAS_REMOTE: u64 = 0x100;
/// See [`FLAGS_HAS_REMOTE`].
const FLAGS_IS_REMOTE: u64 = 0x200;

/// The longest texts that are sent, in bytes. A DNS name has at most 255.
const PATH_BYTES_MAX: usize = 1024;
const ROUTE_BYTES_MAX: usize = 256;
const HOST_BYTES_MAX: usize = 255;
const USER_AGENT_BYTES_MAX: usize = 256;
const METHOD_BYTES_MAX: usize = 64;

/// The longest span is shorter than this: the texts, each byte of which may become three, and the rest.
#[cfg(test)]
pub(crate) const SPAN_BYTES_MAX: usize = 3
    * (PATH_BYTES_MAX + 2 * ROUTE_BYTES_MAX + HOST_BYTES_MAX + USER_AGENT_BYTES_MAX + METHOD_BYTES_MAX)
    + 1024;

/// The methods that the conventions know: those of RFC 9110, and PATCH.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

impl ServerSpan<'_> {
    /// Appends the message `Span`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let SpanContext { own, parent } = self.context;
        let mut message = MessageWriter(out);
        message.bytes(1, &own.trace_id);
        message.bytes(2, &own.span_id);
        if let Some(parent) = parent {
            message.bytes(4, parent);
        }
        let method = self.known_method();
        self.encode_name(method, &mut message);
        message.varint(6, KIND_SERVER);
        message.fixed64(7, self.times.start);
        message.fixed64(8, self.times.end.max(self.times.start));
        self.encode_attributes(method, &mut Attributes(&mut message));
        if let Some(event) = self.event {
            message.head(11, 9 + bytes_len(2, event.name.len()));
            message.fixed64(1, event.at);
            message.bytes(2, event.name.as_bytes());
        }
        if self.is_error() {
            message.bytes(15, &[3 << 3, STATUS_ERROR as u8]);
        }
        let remote = if parent.is_some() { FLAGS_HAS_REMOTE | FLAGS_IS_REMOTE } else { FLAGS_HAS_REMOTE };
        // A field of four bytes, by its tag.
        message.0.extend_from_slice(&[0x85, 0x01]);
        message.0.extend_from_slice(&((u64::from(own.flags) | remote) as u32).to_le_bytes());
    }

    fn known_method(&self) -> Option<&'static str> {
        let method = self.method?;
        METHODS.into_iter().find(|known| known.as_bytes() == method)
    }

    /// The method, and the route if one is known: never the path, of which there are too many.
    fn encode_name(&self, method: Option<&str>, message: &mut MessageWriter<'_>) {
        let method = method.unwrap_or("HTTP");
        match self.route {
            None => message.bytes(5, method.as_bytes()),
            Some(route) => {
                let route = bounded(route.as_bytes(), ROUTE_BYTES_MAX);
                message.head(5, method.len() + 1 + route.len());
                [method, " ", &route].iter().for_each(|part| message.0.extend_from_slice(part.as_bytes()));
            }
        }
    }

    fn encode_attributes(&self, method: Option<&str>, attributes: &mut Attributes<'_, '_>) {
        attributes.text("http.request.method", method.unwrap_or("_OTHER"));
        if let (None, Some(original)) = (method, self.method) {
            attributes.text("http.request.method_original", &bounded(original, METHOD_BYTES_MAX));
        }
        if let Some(route) = self.route {
            attributes.text("http.route", &bounded(route.as_bytes(), ROUTE_BYTES_MAX));
        }
        if let Some(path) = self.path {
            attributes.text("url.path", &bounded(path, PATH_BYTES_MAX));
        }
        attributes.text("url.scheme", if self.is_https { "https" } else { "http" });
        if let Some(host) = self.host {
            let (host, port) = host_and_port(host);
            attributes.text("server.address", &bounded(host, HOST_BYTES_MAX));
            attributes.number("server.port", port.unwrap_or(self.default_port).into());
        }
        if let Some(client) = self.client {
            with_text(client, |text| attributes.text("client.address", text));
        }
        if let Some(version) = self.version {
            attributes.text("network.protocol.version", version_text(version));
        }
        if let Some(user_agent) = self.user_agent {
            attributes.text("user_agent.original", &bounded(user_agent, USER_AGENT_BYTES_MAX));
        }
        if let Some(status) = self.status {
            attributes.number("http.response.status_code", status.into());
        }
        if self.is_error() {
            let digits = self.status.unwrap_or_default().to_string();
            attributes.text("error.type", self.reason.unwrap_or(&digits));
        }
        if let Some(reason) = self.reason {
            attributes.text("portico.reason", reason);
        }
        if let Some(nanos) = self.queue {
            attributes.seconds("portico.queue_time", nanos);
        }
        if let Some(nanos) = self.upstream_queue {
            attributes.seconds("portico.upstream_queue_time", nanos);
        }
    }

    /// Whether the server has failed. What is the client's fault is no error of the server's span.
    fn is_error(&self) -> bool {
        self.status.is_some_and(|status| status >= 500)
    }
}

/// The attributes of a span, field 9: pairs of a name and a value.
struct Attributes<'w, 'a>(&'w mut MessageWriter<'a>);

impl Attributes<'_, '_> {
    fn text(&mut self, name: &str, value: &str) {
        self.begin(name, bytes_len(1, value.len()));
        self.0.bytes(1, value.as_bytes());
    }

    fn number(&mut self, name: &str, value: u64) {
        self.begin(name, varint_field_len(3, value));
        self.0.varint(3, value);
    }

    fn seconds(&mut self, name: &str, nanos: u64) {
        self.begin(name, 9);
        self.0.fixed64(4, (nanos as f64 / 1e9).to_bits());
    }

    /// What comes before a value (`AnyValue`) of so many bytes.
    #[inline]
    fn begin(&mut self, name: &str, length: usize) {
        let whole = bytes_len(1, name.len()) + bytes_len(2, length);
        if whole >= 0x80 {
            self.0.head(9, whole);
            self.0.bytes(1, name.as_bytes());
            return self.0.head(2, length);
        }
        // As a rule each length is one byte: twice as quick as byte after byte.
        let out = &mut *self.0.0;
        out.extend_from_slice(&[9 << 3 | 2, whole as u8, 1 << 3 | 2, name.len() as u8]);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&[2 << 3 | 2, length as u8]);
    }
}

/// Appends a resource's or scope's attribute: field `field`, with a text for its value.
pub(crate) fn encode_attribute(field: u32, name: &str, value: &str, out: &mut Vec<u8>) {
    let value_len = bytes_len(1, value.len());
    let mut message = MessageWriter(out);
    message.head(field, bytes_len(1, name.len()) + bytes_len(2, value_len));
    message.bytes(1, name.as_bytes());
    message.head(2, value_len);
    message.bytes(1, value.as_bytes());
}

fn version_text(version: Version) -> &'static str {
    match version {
        Version::Http10 => "1.0",
        Version::Http11 => "1.1",
        Version::Http2 => "2",
        Version::Http3 => "3",
    }
}

/// At most so many bytes of `text`, as UTF-8: what is none becomes U+FFFD.
fn bounded(text: &[u8], bytes_max: usize) -> Cow<'_, str> {
    let mut end = text.len().min(bytes_max);
    // No character is cut in two.
    while end < text.len() && end > 0 && text[end] & 0xc0 == 0x80 && bytes_max - end < 4 {
        end -= 1;
    }
    String::from_utf8_lossy(&text[..end])
}

/// Has `tell` take an address as text. Most are of IPv4, which `Display` takes 600 instructions for.
fn with_text(address: IpAddr, tell: impl FnOnce(&str)) {
    let IpAddr::V4(address) = address.to_canonical() else {
        return tell(&address.to_string());
    };
    let (mut text, mut length) = ([0; 15], 0);
    for (index, octet) in address.octets().into_iter().enumerate() {
        let mut push = |byte| {
            text[length] = byte;
            length += 1;
        };
        if index > 0 {
            push(b'.');
        }
        if octet >= 100 {
            push(b'0' + octet / 100);
        }
        if octet >= 10 {
            push(b'0' + octet / 10 % 10);
        }
        push(b'0' + octet % 10);
    }
    tell(std::str::from_utf8(&text[..length]).unwrap_or_default());
}

/// Host and port of an authority. Brackets of an address are not a part of it.
fn host_and_port(authority: &[u8]) -> (&[u8], Option<u16>) {
    let after_bracket = authority.iter().rposition(|&byte| byte == b']').map_or(0, |at| at + 1);
    let colon = authority[after_bracket..].iter().position(|&byte| byte == b':').map(|at| at + after_bracket);
    let (host, port) = colon.map_or((authority, None), |at| (&authority[..at], Some(&authority[at + 1..])));
    let port = port.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    (host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host), port)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::protobuf::{FieldValue, MessageReader};

    pub(crate) const CONTEXT: SpanContext = SpanContext {
        own: TraceContext { trace_id: [0xab; 16], span_id: [0xcd; 8], flags: 1 },
        parent: Some([0xef; 8]),
    };

    pub(crate) fn span() -> ServerSpan<'static> {
        ServerSpan {
            context: &CONTEXT,
            times: SpanTimes { start: 1_000, end: 3_000 },
            method: Some(b"GET"),
            route: None,
            path: Some(b"/a"),
            is_https: false,
            host: Some(b"shop.example:8000"),
            default_port: 80,
            client: Some(IpAddr::from([192, 0, 2, 7])),
            version: Some(Version::Http11),
            user_agent: Some(b"curl"),
            status: Some(200),
            reason: None,
            event: None,
            queue: Some(1_500_000_000),
            upstream_queue: None,
        }
    }

    fn fields(message: &[u8]) -> Vec<(u32, FieldValue<'_>)> {
        let mut reader = MessageReader::new(message);
        std::iter::from_fn(|| reader.next_field().unwrap()).collect()
    }

    fn encoded(span: &ServerSpan<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        span.encode(&mut out);
        out
    }

    /// Name and attributes, as text.
    fn told(span: &ServerSpan<'_>) -> (String, Vec<String>) {
        let out = encoded(span);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut name = String::new();
        let mut attributes = Vec::new();
        for (field, value) in fields(&out) {
            match (field, value) {
                (5, FieldValue::Bytes(bytes)) => name = text(bytes),
                (9, FieldValue::Bytes(pair)) => {
                    let [(1, FieldValue::Bytes(key)), (2, FieldValue::Bytes(value))] = fields(pair)[..]
                    else {
                        panic!("{pair:?}")
                    };
                    attributes.push(match fields(value)[..] {
                        [(1, FieldValue::Bytes(value))] => format!("{}={}", text(key), text(value)),
                        [(3, FieldValue::Varint(value))] => format!("{}={value}", text(key)),
                        [(4, FieldValue::Fixed64(bits))] => format!("{}={}", text(key), f64::from_bits(bits)),
                        _ => panic!("{value:?}"),
                    });
                }
                _ => {}
            }
        }
        (name, attributes)
    }

    #[test]
    fn a_request_is_told_by_the_conventions_names() {
        let (name, attributes) = told(&span());
        assert_eq!(name, "GET");
        let expected = [
            "http.request.method=GET",
            "url.path=/a",
            "url.scheme=http",
            "server.address=shop.example",
            "server.port=8000",
            "client.address=192.0.2.7",
            "network.protocol.version=1.1",
            "user_agent.original=curl",
            "http.response.status_code=200",
            "portico.queue_time=1.5",
        ];
        assert_eq!(attributes, expected);
    }

    #[test]
    fn methods_and_paths_that_clients_invent_are_no_names() {
        let (name, attributes) = told(&ServerSpan { method: Some(b"BREW"), ..span() });
        assert_eq!((name.as_str(), attributes[0].as_str()), ("HTTP", "http.request.method=_OTHER"));
        assert_eq!(attributes[1], "http.request.method_original=BREW");
        let (name, attributes) = told(&ServerSpan { route: Some("/users/<id>"), ..span() });
        assert_eq!((name.as_str(), attributes[1].as_str()), ("GET /users/<id>", "http.route=/users/<id>"));
        let none =
            ServerSpan { method: None, path: None, host: None, version: None, user_agent: None, ..span() };
        let (name, attributes) =
            told(&ServerSpan { status: Some(400), reason: Some("refused"), queue: None, ..none });
        assert_eq!(name, "HTTP");
        let expected = [
            "http.request.method=_OTHER",
            "url.scheme=http",
            "client.address=192.0.2.7",
            "http.response.status_code=400",
            "portico.reason=refused",
        ];
        assert_eq!(attributes, expected);
    }

    #[test]
    fn failures_of_the_server_are_errors_and_no_others() {
        let status = |span: &ServerSpan<'_>| {
            let out = encoded(span);
            fields(&out).contains(&(15, FieldValue::Bytes(&[0x18, 2])))
        };
        let error =
            |span: &ServerSpan<'_>| told(span).1.into_iter().find(|text| text.starts_with("error.type="));
        for (code, reason, expected) in [
            (Some(200), None, None),
            (Some(404), None, None),
            (None, Some("client_gone"), None),
            (Some(500), None, Some("error.type=500")),
            (Some(503), Some("timeout"), Some("error.type=timeout")),
        ] {
            let span = ServerSpan { status: code, reason, ..span() };
            assert_eq!(error(&span).as_deref(), expected);
            assert_eq!(status(&span), expected.is_some());
        }
    }

    #[test]
    fn an_event_has_its_name_and_its_time() {
        let out = encoded(&ServerSpan { event: Some(SpanEvent { name: "timeout", at: 2_000 }), ..span() });
        let event = fields(&out).into_iter().find(|(field, _)| *field == 11);
        let Some((_, FieldValue::Bytes(event))) = event else { panic!("no event") };
        assert_eq!(fields(event), [(1, FieldValue::Fixed64(2_000)), (2, FieldValue::Bytes(b"timeout"))]);
    }

    #[test]
    fn flags_say_whether_the_parent_is_of_another_process() {
        let flags = |context: &SpanContext| {
            let out = encoded(&ServerSpan { context, ..span() });
            let found = fields(&out).into_iter().find(|(field, _)| *field == 16);
            let Some((_, FieldValue::Fixed32(flags))) = found else { panic!("no flags") };
            flags
        };
        assert_eq!(flags(&CONTEXT), 0x301);
        assert_eq!(flags(&SpanContext { parent: None, ..CONTEXT }), 0x101);
    }

    #[test]
    fn addresses_are_as_everywhere() {
        for text in ["0.0.0.0", "9.10.99.100", "255.255.255.255", "127.0.0.1", "::1", "2001:db8::ff00:42"] {
            with_text(text.parse().unwrap(), |told| assert_eq!(told, text));
        }
        with_text("::ffff:192.0.2.7".parse().unwrap(), |told| assert_eq!(told, "192.0.2.7"));
    }

    #[test]
    fn hosts_are_apart_from_their_ports() {
        for (authority, host, port) in [
            ("a", "a", None),
            ("a:80", "a", Some(80)),
            ("a:", "a", None),
            ("a:x", "a", None),
            ("a:99999", "a", None),
            ("[::1]:80", "::1", Some(80)),
            ("[::1]", "::1", None),
            ("]", "]", None),
            ("", "", None),
        ] {
            assert_eq!(host_and_port(authority.as_bytes()), (host.as_bytes(), port), "{authority}");
        }
    }

    #[test]
    fn a_text_at_its_limit_is_whole_and_no_character_is_cut() {
        assert_eq!(bounded(b"abcd", 4), "abcd");
        assert_eq!(bounded(b"abcde", 4), "abcd");
        assert_eq!(bounded("ab\u{20ac}".as_bytes(), 5), "ab\u{20ac}");
        assert_eq!(bounded("ab\u{20ac}".as_bytes(), 4), "ab");
        assert_eq!(bounded("ab\u{20ac}c".as_bytes(), 3), "ab");
        assert_eq!(bounded(b"a\xff", 4), "a\u{fffd}");
    }

    proptest! {
        #[test]
        fn whatever_clients_send_a_span_is_valid_and_bounded(
            texts in vec(proptest::option::of(vec(any::<u8>(), 0..3000)), 4),
            route in proptest::option::of("\\PC{0,400}"),
        ) {
            let text = |at: usize| texts[at].as_deref();
            let span = ServerSpan {
                method: text(0), path: text(1), host: text(2), user_agent: text(3), route: route.as_deref(),
                status: Some(500), reason: Some("timeout"), upstream_queue: Some(u64::MAX),
                event: Some(SpanEvent { name: "timeout", at: u64::MAX }), ..span()
            };
            let (_, attributes) = told(&span); // All texts are UTF-8, or this fails.
            prop_assert!(attributes.len() <= 15);
            prop_assert!(encoded(&span).len() <= SPAN_BYTES_MAX);
        }
    }
}
