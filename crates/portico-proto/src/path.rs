//! The path of a request as an application has it: decoded, and below the prefix that it is mounted at.

use std::borrow::Cow;

/// PATH_INFO of a request for `path`, still percent-encoded: decoded, and below `root_path`. A path outside it is
/// passed whole: the proxy in front has then taken the prefix off already, and its users expect the application to
/// be called all the same.
pub fn path_info<'p>(path: &'p [u8], root_path: &[u8]) -> Cow<'p, [u8]> {
    let inside = |path: &[u8]| match path.strip_prefix(root_path) {
        Some(rest) if rest.is_empty() || rest.starts_with(b"/") => path.len() - rest.len(),
        _ => 0,
    };
    match percent_decode(path) {
        Cow::Borrowed(path) => Cow::Borrowed(&path[inside(path)..]),
        Cow::Owned(mut path) => {
            path.drain(..inside(&path));
            Cow::Owned(path)
        }
    }
}

/// Decodes `%XX`. A `%` without two hexadecimal digits stays, as in `urllib.parse.unquote`.
pub fn percent_decode(path: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'%', path) else { return Cow::Borrowed(path) };
    let mut decoded = Vec::with_capacity(path.len());
    decoded.extend_from_slice(&path[..first]);
    let mut rest = &path[first..];
    while let [byte, after @ ..] = rest {
        rest = after;
        match (byte, after) {
            (b'%', [high, low, after @ ..]) => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = after;
                }
                _ => decoded.push(b'%'),
            },
            _ => decoded.push(*byte),
        }
    }
    Cow::Owned(decoded)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}
