//! What lines in several formats have in common: the client, its user, the request and the parts of its target.
//!
//! Everything that a peer has sent is escaped, so that no request can forge a line or a field.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use portico_proto::{Peer, Version};

use super::batch::LogLine;
use super::escape::{address, plain};
use super::plan::{METHOD, TARGET};

/// Writes the client's address, `-` where it has none.
pub(super) fn write_client(line: &LogLine<'_>, out: &mut Vec<u8>) {
    match line.entry.peer {
        Peer::Inet(peer) => address(peer.ip(), out),
        Peer::Unix => out.push(b'-'),
    }
}

/// Writes method, target and protocol, `-` for what was no request.
pub(super) fn write_request_line(line: &LogLine<'_>, out: &mut Vec<u8>) {
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
pub(super) fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
        Version::Http2 => b"HTTP/2.0",
        Version::Http3 => b"HTTP/3.0",
    }
}

/// Writes the user name of Basic authentication (RFC 7617), `-` where there is none.
pub(super) fn write_user(authorization: Option<&[u8]>, out: &mut Vec<u8>) {
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
pub(super) fn user_of(credentials: &[u8]) -> Option<Vec<u8>> {
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
pub(super) fn split_target(target: &[u8]) -> (&[u8], &[u8]) {
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
    use super::*;

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
