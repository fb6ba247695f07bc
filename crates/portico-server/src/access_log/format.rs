//! Lines of the access log in the Common and the Combined Log Format.
//!
//! Everything that a peer has sent is escaped: printable ASCII stays, `"` and `\` get a backslash, other bytes
//! become `\xHH`, so that no request can forge a line or a field.

use std::io::Write as _;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use portico_config::AccessLogFormat;
use portico_proto::Version;

use super::batch::Line;

/// Appends `line`, with its line end, to `out`.
pub fn format(line: &Line<'_>, format: AccessLogFormat, clock: &mut Clock, out: &mut Vec<u8>) {
    let [method, target, authorization, referer, user_agent] = line.texts;
    let _ = write!(out, "{} - ", line.peer);
    write_user(authorization, out);
    out.push(b' ');
    out.extend_from_slice(clock.stamp(line.second).as_bytes());
    out.extend_from_slice(b" \"");
    escape(method.unwrap_or(b"-"), out);
    if let Some(target) = target {
        out.push(b' ');
        escape(target, out);
    }
    out.extend_from_slice(match line.version {
        Some(Version::Http10) => b" HTTP/1.0",
        Some(Version::Http11) => b" HTTP/1.1",
        None => b"",
    });
    out.extend_from_slice(b"\" ");
    out.extend_from_slice(itoa::Buffer::new().format(line.status).as_bytes());
    out.push(b' ');
    match line.body_bytes {
        0 => out.push(b'-'),
        count => out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes()),
    }
    if format == AccessLogFormat::Combined {
        for text in [referer, user_agent] {
            out.extend_from_slice(b" \"");
            escape(text.unwrap_or(b"-"), out);
            out.push(b'"');
        }
    }
    out.push(b'\n');
}

fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = bytes;
    while let Some(at) =
        rest.iter().position(|&byte| !(b' '..=b'~').contains(&byte) || b"\"\\".contains(&byte))
    {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            byte => {
                out.extend_from_slice(&[
                    b'\\',
                    b'x',
                    HEX[usize::from(byte >> 4)],
                    HEX[usize::from(byte & 15)],
                ]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Writes the user name of Basic authentication (RFC 7617), `-` where there is none.
fn write_user(authorization: Option<&[u8]>, out: &mut Vec<u8>) {
    let name = authorization.and_then(user_of).filter(|name| !name.is_empty());
    let Some(name) = name else {
        return out.push(b'-');
    };
    for part in name.split_inclusive(|&byte| byte == b' ') {
        // A blank would shift the fields behind it.
        let (part, blank) = part.strip_suffix(b" ").map_or((part, &b""[..]), |part| (part, b"\\x20"));
        escape(part, out);
        out.extend_from_slice(blank);
    }
}

fn user_of(credentials: &[u8]) -> Option<Vec<u8>> {
    let (scheme, token) = credentials.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut decoded = BASE64_STANDARD.decode(token.trim_ascii()).ok()?;
    let end = decoded.iter().position(|&byte| byte == b':')?;
    decoded.truncate(end);
    Some(decoded)
}

/// Makes the time stamp `[18/Oct/2026:13:55:36 +0000]` (always UTC), once for all lines of a second.
#[derive(Debug, Default)]
pub struct Clock {
    second: Option<u64>,
    stamp: String,
}

impl Clock {
    fn stamp(&mut self, second: u64) -> &str {
        if self.second != Some(second) {
            // From `Sun, 06 Nov 1994 08:49:37 GMT`.
            let date = portico_proto::HttpDate::from_unix(second);
            let text = String::from_utf8_lossy(date.as_bytes()).into_owned();
            let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
            let (day, month, year) = (part(5..7), part(8..11), part(12..16));
            self.stamp = format!("[{day}/{month}/{year}:{} +0000]", part(17..25));
            self.second = Some(second);
        }
        &self.stamp
    }
}

#[cfg(test)]
mod tests {
    use portico_proto::{Event, Limits, http1};

    use super::super::{Record, batch::Batch};
    use super::*;
    use crate::application::Peer;

    fn line(request: &[u8], format: AccessLogFormat) -> String {
        let mut input = request;
        let head = match http1::Connection::new().next_event(&mut input, &Limits::default()) {
            Ok(Some(Event::Head(head))) => Some(head),
            _ => None,
        };
        let peer = Peer::Inet(([192, 0, 2, 7], 5000).into());
        let head = head.as_deref();
        let mut batch = Batch::default();
        batch.push(&Record { head, peer, second: 784111777, status: 200, body_bytes: 12 });
        let mut out = Vec::new();
        let mut clock = Clock::default();
        batch.lines().for_each(|line| super::format(&line, format, &mut clock, &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn common_and_combined_lines() {
        let request = b"GET /a?b=\"c\" HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWxpY2U6c2VjcmV0\r\n\
            User-Agent: a\"b\\c\td\xff\r\n\r\n";
        let common = r#"192.0.2.7 - alice [06/Nov/1994:08:49:37 +0000] "GET /a?b=\"c\" HTTP/1.1" 200 12"#;
        assert_eq!(line(request, AccessLogFormat::Common), format!("{common}\n"));
        let expected = format!("{common} \"-\" {}\n", r#""a\"b\\c\x09d\xff""#);
        assert_eq!(line(request, AccessLogFormat::Combined), expected);
    }

    #[test]
    fn what_was_no_request_gets_a_line_too() {
        let expected = "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"-\" 200 12\n";
        assert_eq!(line(b"\x16\x03\x01", AccessLogFormat::Common), expected);
    }
}
