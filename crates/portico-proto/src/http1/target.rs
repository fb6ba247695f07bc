//! The request target and the authority (RFC 9112, section 3.2; RFC 3986).

use crate::grammar;
use crate::message::Span;

/// A request target taken apart. Spans count from the target's first byte.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target {
    pub(crate) path: Span,
    pub(crate) query: Span,
    pub(crate) authority: Option<Span>,
}

/// Takes `target` apart; `None` where it has none of the forms that `method` allows. CONNECT, the only method
/// with authority-form, is refused before.
///
/// ```abnf
/// request-target = origin-form / absolute-form / asterisk-form
/// origin-form    = absolute-path [ "?" query ]
/// absolute-form  = ( "http" / "https" ) "://" authority path-abempty [ "?" query ]
/// asterisk-form  = "*"                                             ; OPTIONS only
/// ```
///
/// RFC 3986 allows fewer bytes in path and query than are taken here. Browsers (WHATWG URL) send `|`, `[`,
/// `]`, `^` in paths and `\`, `` ` ``, `{`, `}` in queries as they are, older ones and scripts also `"`, `<`,
/// `>`; none of these ends anything in a request line, so every visible ASCII byte is taken in both. Not `#`:
/// what follows it is not meant for a server. A `%` must begin an escape in the path, which is decoded for
/// the application and on which access is decided (nginx and Apache refuse it too), but not in the query,
/// which is handed on as it is and in which browsers send what was typed.
pub(crate) fn parse(method: &[u8], target: &[u8]) -> Option<Target> {
    if grammar::is_visible_without_fragment(target) { take_apart(method, target) } else { None }
}

/// The same of a target that a gateway passes on, in which bytes beyond ASCII may be: nginx takes what clients
/// write, and tells by other variables how it has read it.
pub(crate) fn parse_passed_on(method: &[u8], target: &[u8]) -> Option<Target> {
    if is_passed_on(target) { take_apart(method, target) } else { None }
}

/// Whether none of `bytes` ends a target, a line or a word in a log.
pub(crate) fn is_passed_on(bytes: &[u8]) -> bool {
    !bytes.iter().any(|&byte| byte <= b' ' || byte == 0x7f || byte == b'#')
}

fn take_apart(method: &[u8], target: &[u8]) -> Option<Target> {
    match target.first()? {
        b'/' => path_and_query(target, 0, None),
        b'*' => (method == b"OPTIONS" && target.len() == 1)
            .then(|| Target { path: Span { start: 0, end: 1 }, ..Target::default() }),
        _ => absolute(target),
    }
}

fn absolute(target: &[u8]) -> Option<Target> {
    let start = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|t| t.eq_ignore_ascii_case(scheme)))?
        .len();
    let rest = &target[start..];
    let end = start + rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    if start == end || !is_authority(&target[start..end]) {
        return None;
    }
    path_and_query(target, end, Some(Span { start: start as u32, end: end as u32 }))
}

fn path_and_query(target: &[u8], path_start: usize, authority: Option<Span>) -> Option<Target> {
    let length = target.len();
    let path_end = memchr::memchr(b'?', &target[path_start..]).map_or(length, |offset| path_start + offset);
    if !grammar::is_percent_encoded(&target[path_start..path_end]) {
        return None;
    }
    Some(Target {
        path: Span { start: path_start as u32, end: path_end as u32 },
        query: Span { start: length.min(path_end + 1) as u32, end: length as u32 },
        authority,
    })
}

/// Whether `bytes` are `uri-host [ ":" port ]` with a host that is not empty. User information is not among
/// it: RFC 9110, section 4.2.4 has it refused.
///
/// ```abnf
/// uri-host = "[" IPv6address [ "%" zone ] "]" / IPv4address / reg-name
/// zone     = 1*( unreserved / pct-encoded )
/// port     = *DIGIT                                                ; at most 65535
/// ```
pub fn is_authority(bytes: &[u8]) -> bool {
    let (host_is_valid, after_host) = if let Some(literal) = bytes.strip_prefix(b"[") {
        let Some(end) = memchr::memchr(b']', literal) else { return false };
        (is_ipv6_host(&literal[..end]), &literal[end + 1..])
    } else {
        let end = reg_name_length(bytes);
        (end > 0, &bytes[end..])
    };
    host_is_valid && after_host.strip_prefix(b":").map_or(after_host.is_empty(), is_port)
}

/// Length of the `reg-name` at the front of `bytes`.
fn reg_name_length(bytes: &[u8]) -> usize {
    let mut length = 0;
    while let Some(&byte) = bytes.get(length) {
        length += match byte {
            _ if grammar::is(byte, grammar::REG_NAME) => 1,
            b'%' if grammar::is_percent_encoded(bytes.get(length..length + 3).unwrap_or(b"%")) => 3,
            _ => break,
        };
    }
    length
}

/// An address, perhaps with the zone by which its client reaches it: after `%25` (RFC 6874) or, as older clients
/// write it, `%` alone. No IPvFuture has been defined.
fn is_ipv6_host(bytes: &[u8]) -> bool {
    let address_end = memchr::memchr(b'%', bytes).unwrap_or(bytes.len());
    let zone_is_valid = bytes.get(address_end + 1..).is_none_or(is_zone);
    let address = str::from_utf8(&bytes[..address_end]);
    zone_is_valid && address.is_ok_and(|text| text.parse::<core::net::Ipv6Addr>().is_ok())
}

/// Whether `bytes` name a zone. The `25` of an encoded `%` is one as well as the beginning of another.
fn is_zone(bytes: &[u8]) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
    !bytes.is_empty() && bytes.iter().all(|&byte| is_plain(byte)) && grammar::is_percent_encoded(bytes)
}

fn is_port(digits: &[u8]) -> bool {
    digits.is_empty() || grammar::decimal(digits).is_some_and(|port| port <= u64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        for good in [
            "a",
            "a:",
            "a:0",
            "a:65535",
            "a.example:00080",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:8000",
            "a_b",
            "%41",
            "[::ffff:1.2.3.4]",
            "a,b",
            "[fe80::1%25eth0]",
            "[fe80::1%eth0]:8000",
            "[fe80::1%2]",
            "[fe80::1%25en%201]",
        ] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:65536",
            "a:8 0",
            "a:-1",
            "a:b",
            "u@a",
            "[::1",
            "::1",
            "[::1]8000",
            "[::1]:8000:1",
            "[fe80::1%]",
            "[fe80::1%%65]]",
            "[fe80::1%eth0%]",
            "[fe80::1%eth/0]",
            "[fe80::1%eth0",
            "[fe80::1%eth 0]",
            "[1.2.3.4%eth0]",
            "[%25eth0]",
            "fe80::1%25eth0",
            "[v1.a]",
            "[]",
            "a/b",
            "a b",
            "%4",
            "a\\b",
            "a#b",
            "\u{e4}",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    /// Path, query and authority of a GET target.
    fn parts(target: &str) -> Option<(&str, &str, Option<&str>)> {
        let parsed = parse(b"GET", target.as_bytes())?;
        let text = |span: Span| &target[span.start as usize..span.end as usize];
        Some((text(parsed.path), text(parsed.query), parsed.authority.map(text)))
    }

    #[test]
    fn forms() {
        assert_eq!(parts("/"), Some(("/", "", None)));
        assert_eq!(parts("/a?b?c"), Some(("/a", "b?c", None)));
        assert_eq!(parts("/a?"), Some(("/a", "", None)));
        assert_eq!(parts("//a/b"), Some(("//a/b", "", None)));
        assert_eq!(parts("/a?%"), Some(("/a", "%", None)));
        assert_eq!(parts("http://h"), Some(("", "", Some("h"))));
        assert_eq!(parts("HTTPS://h:1/p?q"), Some(("/p", "q", Some("h:1"))));
        assert_eq!(parts("http://h?q"), Some(("", "q", Some("h"))));
        for bad in [
            "",
            "*",
            "a",
            "a:80",
            "http:/h",
            "http://",
            "http:///p",
            "ftp://h/",
            "http://u@h/",
            "/a#b",
            "/%",
            "/a b",
            "/\u{e4}",
            "?q",
        ] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }

    #[test]
    fn asterisk_is_for_options() {
        assert!(parse(b"OPTIONS", b"*").is_some());
        assert!(parse(b"options", b"*").is_none());
        assert!(parse(b"OPTIONS", b"**").is_none());
    }
}
