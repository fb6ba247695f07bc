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

/// Divides `path`, still percent-encoded, where [`path_info`] does: what `root_path` takes off, and the rest. The
/// first is empty where the path is outside of it.
pub fn split_root_path<'p>(path: &'p [u8], root_path: &[u8]) -> (&'p [u8], &'p [u8]) {
    let whole = (&path[..0], path);
    let mut rest = path;
    for wanted in root_path {
        let Some((byte, after)) = first_decoded(rest) else { return whole };
        if byte != *wanted {
            return whole;
        }
        rest = after;
    }
    match first_decoded(rest) {
        None | Some((b'/', _)) => path.split_at(path.len() - rest.len()),
        Some(_) => whole,
    }
}

/// The first character of `path`, decoded, and what follows it.
fn first_decoded(path: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    if let [b'%', high, low, rest @ ..] = path
        && let (Some(high), Some(low)) = (digit(high), digit(low))
    {
        return Some(((high << 4 | low) as u8, rest));
    }
    path.split_first().map(|(byte, rest)| (*byte, rest))
}

/// Decodes `%XX`. A `%` without two hexadecimal digits stays, as in `urllib.parse.unquote`.
pub fn percent_decode(path: &[u8]) -> Cow<'_, [u8]> {
    percent_encoding::percent_decode(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_percent_sign_with_two_digits_is_decoded() {
        for (path, decoded) in [
            ("/a/b", "/a/b"),
            ("/%41%6a%6A", "/Ajj"),
            ("/%2525", "/%25"),
            ("/%", "/%"),
            ("/%4", "/%4"),
            ("/%4g%41", "/%4gA"),
            ("/%%41", "/%A"),
            ("/a+b", "/a+b"),
        ] {
            assert_eq!(percent_decode(path.as_bytes()), decoded.as_bytes(), "{path}");
        }
        assert_eq!(percent_decode(b"/%00%FF\xff"), &b"/\x00\xff\xff"[..]);
    }

    #[test]
    fn a_path_is_divided_where_its_application_has_it() {
        for (path, before, rest) in [
            ("/app", "/app", ""),
            ("/app/a", "/app", "/a"),
            ("/%61pp/a%20b", "/%61pp", "/a%20b"),
            ("/app%2Fa", "/app", "%2Fa"),
            ("/apple", "", "/apple"),
            ("/ap", "", "/ap"),
            ("/%6", "", "/%6"),
            ("/x/../app", "", "/x/../app"),
        ] {
            let divided = split_root_path(path.as_bytes(), b"/app");
            assert_eq!(divided, (before.as_bytes(), rest.as_bytes()), "{path}");
            assert_eq!(path_info(path.as_bytes(), b"/app"), percent_decode(rest.as_bytes()), "{path}");
        }
        assert_eq!(split_root_path(b"/a", b""), (&b""[..], &b"/a"[..]));
    }

    #[test]
    fn a_path_outside_the_prefix_is_passed_whole() {
        for (path, inside) in [
            ("/app", ""),
            ("/app/a", "/a"),
            ("/%61pp/a%20b", "/a b"),
            ("/apple", "/apple"),
            ("/other%20one", "/other one"),
        ] {
            assert_eq!(path_info(path.as_bytes(), b"/app"), inside.as_bytes(), "{path}");
        }
    }
}
