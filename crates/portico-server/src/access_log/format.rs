//! Lines of the access log in the Common and the Combined Log Format, and what they share with templates.
//!
//! Everything that a peer has sent is escaped, so that no request can forge a line or a field.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use portico_proto::Version;

use super::batch::{Batch, Line};
use super::clock::Clock;
use super::escape::{address, number, plain};
use super::plan::{AUTHORIZATION, Layout, METHOD, Plan, REFERER, TARGET, USER_AGENT};
use super::repeat::{Marks, Written};
use super::{structured, template};
use crate::application::Peer;

/// So many bytes of lines are passed on at once: few enough to stay in the nearest caches.
const PASSED_BYTES: usize = 64 * 1024;

/// Formats the lines of `batch`, each with its line end, and passes them on, many at a time. `out` is where they
/// are formatted; it is left empty.
pub fn format(
    batch: &Batch,
    plan: &Plan,
    clock: &mut Clock,
    out: &mut Vec<u8>,
    mut pass_on: impl FnMut(&[u8]),
) {
    let mut last: Option<Written<'_>> = None;
    for line in batch.lines(plan) {
        if !last.as_ref().is_some_and(|last| last.repeat(line.entry, plan, out)) {
            let start = out.len();
            let marks = write(&line, plan, clock, out);
            last = Some(Written { entry: line.entry, range: start..out.len(), marks });
        }
        if out.len() >= PASSED_BYTES {
            pass_on(out);
            out.clear();
            last = None;
        }
    }
    if !out.is_empty() {
        pass_on(out);
        out.clear();
    }
}

/// Appends `line`, with its line end, to `out`.
fn write(line: &Line<'_>, plan: &Plan, clock: &mut Clock, out: &mut Vec<u8>) -> Marks {
    let mut marks = Marks::at(out.len());
    match &plan.layout {
        Layout::Common => common(line, clock, out),
        Layout::Combined => {
            common(line, clock, out);
            for at in [REFERER, USER_AGENT] {
                out.extend_from_slice(b" \"");
                plain(line.text(at).unwrap_or(b"-"), out);
                out.push(b'"');
            }
        }
        Layout::Json => structured::json(line, plan, clock, &mut marks, out),
        Layout::Logfmt => structured::logfmt(line, plan, clock, &mut marks, out),
        Layout::Template(parts) => template::line(line, parts, plan, clock, out),
    }
    out.push(b'\n');
    marks
}

fn common(line: &Line<'_>, clock: &mut Clock, out: &mut Vec<u8>) {
    write_client(line, out);
    out.extend_from_slice(b" - ");
    write_user(line.text(AUTHORIZATION), out);
    out.push(b' ');
    out.extend_from_slice(clock.common(line.entry.moment.second));
    out.extend_from_slice(b" \"");
    write_request_line(line, out);
    out.extend_from_slice(b"\" ");
    number(line.entry.status.into(), out);
    out.push(b' ');
    match line.entry.body_bytes {
        0 => out.push(b'-'),
        count => number(count, out),
    }
}

/// Writes the client's address, `-` where it has none.
pub fn write_client(line: &Line<'_>, out: &mut Vec<u8>) {
    match line.entry.peer {
        Peer::Inet(peer) => address(peer.ip(), out),
        Peer::Unix => out.push(b'-'),
    }
}

/// Writes method, target and protocol, `-` for what was no request.
pub fn write_request_line(line: &Line<'_>, out: &mut Vec<u8>) {
    plain(line.text(METHOD).unwrap_or(b"-"), out);
    if let Some(target) = line.text(TARGET) {
        out.push(b' ');
        plain(target, out);
    }
    if let Some(version) = line.entry.version {
        out.push(b' ');
        out.extend_from_slice(protocol(version));
    }
}

/// As SERVER_PROTOCOL has it.
pub fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
        Version::Http2 => b"HTTP/2.0",
        Version::Http3 => b"HTTP/3.0",
    }
}

/// Writes the user name of Basic authentication (RFC 7617), `-` where there is none.
pub fn write_user(authorization: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(name) = authorization.and_then(user_of) else {
        return out.push(b'-');
    };
    for part in name.split_inclusive(|&byte| byte == b' ') {
        // A blank would shift the fields behind it.
        let (part, blank) = part.strip_suffix(b" ").map_or((part, &b""[..]), |part| (part, b"\\x20"));
        plain(part, out);
        out.extend_from_slice(blank);
    }
}

/// The user name of Basic authentication, if there is one.
pub fn user_of(credentials: &[u8]) -> Option<Vec<u8>> {
    let (scheme, token) = credentials.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut decoded = BASE64_STANDARD.decode(token.trim_ascii()).ok()?;
    let end = decoded.iter().position(|&byte| byte == b':')?;
    decoded.truncate(end);
    Some(decoded).filter(|name| !name.is_empty())
}

/// Path and query of a request target.
pub fn split_target(target: &[u8]) -> (&[u8], &[u8]) {
    let mut path = target;
    if !matches!(target.first(), Some(b'/' | b'*')) {
        // Absolute form: the path begins behind the authority.
        let scheme = target.windows(3).position(|bytes| bytes == b"://").map_or(0, |at| at + 3);
        let authority = target[scheme..].iter().position(|byte| b"/?".contains(byte));
        path = authority.map_or(&b""[..], |at| &target[scheme + at..]);
    }
    let end = path.iter().position(|&byte| byte == b'?').unwrap_or(path.len());
    let query = path.get(end + 1..).unwrap_or_default();
    (if end == 0 { b"/" } else { &path[..end] }, query)
}

#[cfg(test)]
mod tests {
    use portico_config::AccessLogFormat;

    use super::super::testing::{Sample, line};
    use super::*;

    #[test]
    fn common_and_combined_lines() {
        let request = b"GET /a?b=\"c\" HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWxpY2U6c2VjcmV0\r\n\
            User-Agent: a\"b\\c\td\xff\r\n\r\n";
        let common = r#"192.0.2.7 - alice [06/Nov/1994:08:49:37 +0000] "GET /a?b=\"c\" HTTP/1.1" 200 12"#;
        assert_eq!(line(&Sample::of(request), &AccessLogFormat::Common), format!("{common}\n"));
        let expected = format!("{common} \"-\" {}\n", r#""a\"b\\c\x09d\xff""#);
        assert_eq!(line(&Sample::of(request), &AccessLogFormat::Combined), expected);
    }

    #[test]
    fn what_was_no_request_gets_a_line_too() {
        let expected = "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"-\" 200 12\n";
        assert_eq!(line(&Sample::of(b"\x16\x03\x01"), &AccessLogFormat::Common), expected);
    }

    #[test]
    fn targets_are_split_in_each_form() {
        for (target, path, query) in [
            ("/", "/", ""),
            ("/a/b?c=d?e", "/a/b", "c=d?e"),
            ("/a?", "/a", ""),
            ("?a", "/", "a"),
            ("*", "*", ""),
            ("http://x:80/a?b", "/a", "b"),
            ("http://x", "/", ""),
            ("http://x?a/b", "/", "a/b"),
            ("x:443", "/", ""),
            ("", "/", ""),
        ] {
            assert_eq!(split_target(target.as_bytes()), (path.as_bytes(), query.as_bytes()), "{target}");
        }
    }
}
