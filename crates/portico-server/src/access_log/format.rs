//! Lines of the access log in the Common and the Combined Log Format.
//!
//! Everything that a peer has sent is escaped: printable ASCII stays, `"` and `\` get a backslash, other bytes
//! become `\xHH`, so that no request can forge a line or a field.

use std::io::Write as _;
use std::time::UNIX_EPOCH;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use portico_config::AccessLogFormat;
use portico_proto::{RequestHead, Version};

use super::Record;

/// Appends the line of `record`, with its line end, to `out`.
pub fn format(record: &Record, format: AccessLogFormat, clock: &mut Clock, out: &mut Vec<u8>) {
    let head = record.head.as_deref();
    let _ = write!(out, "{} - {} ", record.peer, User(head));
    out.extend_from_slice(clock.stamp(record).as_bytes());
    out.extend_from_slice(b" \"");
    match head {
        Some(head) => {
            escape(head.method(), out);
            out.push(b' ');
            escape(head.target(), out);
            out.extend_from_slice(match head.version {
                Version::Http10 => b" HTTP/1.0",
                Version::Http11 => b" HTTP/1.1",
            });
        }
        None => out.push(b'-'),
    }
    let _ = write!(out, "\" {} ", record.status);
    match record.body_bytes {
        0 => out.push(b'-'),
        count => out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes()),
    }
    if format == AccessLogFormat::Combined {
        for name in [b"referer".as_slice(), b"user-agent"] {
            out.extend_from_slice(b" \"");
            match head.and_then(|head| head.field(name)) {
                Some(value) => escape(value, out),
                None => out.push(b'-'),
            }
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

/// The user name of Basic authentication (RFC 7617), `-` where there is none.
struct User<'a>(Option<&'a RequestHead>);

impl std::fmt::Display for User<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let credentials = self.0.and_then(|head| head.field(b"authorization"));
        let name = credentials.and_then(user_of).filter(|name| !name.is_empty());
        let Some(name) = name else {
            return f.write_str("-");
        };
        let mut escaped = Vec::new();
        escape(&name, &mut escaped);
        // A blank would shift the fields behind it.
        f.write_str(&String::from_utf8_lossy(&escaped).replace(' ', "\\x20"))
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
    fn stamp(&mut self, record: &Record) -> &str {
        let second = record.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
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
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use portico_proto::{Event, Limits, http1};

    use super::*;
    use crate::application::Peer;

    fn line(request: &[u8], format: AccessLogFormat) -> String {
        let mut input = request;
        let head = match http1::Connection::new().next_event(&mut input, &Limits::default()) {
            Ok(Some(Event::Head(head))) => Some(Arc::from(head)),
            _ => None,
        };
        let mut record = Record::new(head, Peer::Inet(([192, 0, 2, 7], 5000).into()), Duration::ZERO);
        record.at = SystemTime::UNIX_EPOCH + Duration::from_secs(784111777);
        record.status = 200;
        record.body_bytes = 12;
        let mut out = Vec::new();
        super::format(&record, format, &mut Clock::default(), &mut out);
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
