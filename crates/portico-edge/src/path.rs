//! The one path model: the path of a request as routes, files and redirects see it, and the spellings that are
//! refused because two programs could read them as two paths.
//!
//! A path is decoded once, duplicate slashes become one, dots are resolved. Beside that normal form a path keeps
//! its spelling, so that the router can see whether both lead to the same route. What responds gets the target as
//! it was sent; only decisions are made on the normal form.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// The path of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath<'p> {
    normal: Cow<'p, [u8]>,
    /// Where the client wrote it otherwise: with the slashes, the dots and the escapes of plain characters.
    spelling: Option<Vec<u8>>,
    ambiguous: bool,
    /// What it means to whoever takes a backslash for a slash, where it has one.
    folded: Option<Vec<u8>>,
}

/// Why a path is refused with 400, whatever its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// It does not begin with a slash.
    NoSlash,
    /// A `%` without two hexadecimal digits (RFC 3986, section 2.1).
    Escape,
    /// `%00`, which ends a path for programs in C.
    Nul,
    /// ASCII in more bytes than it needs (RFC 3629, section 3), which lenient decoders read as `/` or `.`.
    Overlong,
    /// `..` above the root.
    AboveRoot,
    /// Dots with parameters, `..;`: servers of Java take the parameters off and then resolve the dots.
    DotParameters,
}

impl<'p> RequestPath<'p> {
    /// Reads the path of a request target as it was sent. An empty one is that of `http://example.com`, and means
    /// `/` (RFC 9110, section 4.2.3).
    ///
    /// # Errors
    /// It is refused.
    pub fn parse(sent: &'p [u8]) -> Result<Self, PathError> {
        match sent.first() {
            None => return Ok(Self::plain(b"/")),
            Some(b'/') => {}
            Some(_) => return Err(PathError::NoSlash),
        }
        if is_plain(sent) {
            return Ok(Self::plain(sent));
        }
        let decoded = Decoded::of(sent)?;
        if is_overlong(&decoded.bytes) {
            return Err(PathError::Overlong);
        }
        let ResolvedPath { path, has_dots } = resolve(&decoded.bytes)?;
        // `/a;x/../b`: whoever takes the parameters off first may resolve the dots otherwise.
        let ambiguous = decoded.ambiguous || (has_dots && decoded.bytes.contains(&b';'));
        let spelling = (decoded.spelling != path).then_some(decoded.spelling);
        let folded = match memchr::memchr(b'\\', &decoded.bytes) {
            Some(_) => Some(resolve(&with_slashes(&decoded.bytes))?.path),
            None => None,
        };
        Ok(Self { normal: Cow::Owned(path), spelling, ambiguous, folded })
    }

    fn plain(path: &'p [u8]) -> Self {
        Self { normal: Cow::Borrowed(path), spelling: None, ambiguous: false, folded: None }
    }

    /// Decoded, without duplicate slashes and dots. It begins with `/`, and none of its segments is empty but
    /// perhaps the last.
    pub fn normal(&self) -> &[u8] {
        &self.normal
    }

    /// As the client wrote it, where that differs by more than the escapes that a path needs.
    pub fn spelling(&self) -> Option<&[u8]> {
        self.spelling.as_deref()
    }

    /// The normal form with each backslash a slash, as browsers and Windows read it; `None` if there is none.
    pub fn folded(&self) -> Option<&[u8]> {
        self.folded.as_deref()
    }

    /// Whether it has something that another program might take for a separator, or control characters. Such a
    /// path is the application's to understand; nothing else responds to it.
    pub fn is_ambiguous(&self) -> bool {
        self.ambiguous
    }
}

/// Whether `path` is its own normal form, at a glance: nothing of it is to be decoded, and no slash stands before
/// another one or a dot.
fn is_plain(path: &[u8]) -> bool {
    let mut after_slash = false;
    for &byte in path {
        let kind = KINDS[usize::from(byte)];
        if kind == ByteKind::Special || (after_slash && kind != ByteKind::Ordinary) {
            return false;
        }
        after_slash = kind == ByteKind::Slash;
    }
    true
}

/// What a byte is to [`is_plain`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum ByteKind {
    /// It stands for itself wherever it is.
    Ordinary,
    Slash,
    Dot,
    /// It is to be decoded, or to be looked at.
    Special,
}

/// One look for each byte of a path: every request of a server with routes has one.
const KINDS: [ByteKind; 256] = {
    let mut kinds = [ByteKind::Special; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        kinds[byte as usize] = match byte {
            b'%' | b'\\' => ByteKind::Special,
            b'/' => ByteKind::Slash,
            b'.' => ByteKind::Dot,
            _ => ByteKind::Ordinary,
        };
        byte += 1;
    }
    kinds
};

/// A path after its only decoding.
struct Decoded {
    bytes: Vec<u8>,
    /// The same without the escapes of unreserved characters and of separators being decoded: other spellings of
    /// what could have been written plainly (RFC 3986, section 6.2.2.2).
    spelling: Vec<u8>,
    ambiguous: bool,
}

impl Decoded {
    fn of(sent: &[u8]) -> Result<Self, PathError> {
        let (bytes, spelling) = (Vec::with_capacity(sent.len()), Vec::with_capacity(sent.len()));
        let mut decoded = Self { bytes, spelling, ambiguous: false };
        let mut rest = sent;
        while let [byte, after @ ..] = rest {
            rest = after;
            if *byte != b'%' {
                decoded.push(*byte, false)?;
                continue;
            }
            let [high, low, after @ ..] = rest else { return Err(PathError::Escape) };
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return Err(PathError::Escape) };
            decoded.push((high << 4 | low) as u8, true)?;
            rest = after;
        }
        Ok(decoded)
    }

    fn push(&mut self, byte: u8, escaped: bool) -> Result<(), PathError> {
        if byte == 0 {
            return Err(PathError::Nul);
        }
        let separates = byte == b'\\' || (escaped && byte == b'/');
        self.ambiguous |= separates || byte < b' ' || byte == 0x7f;
        self.bytes.push(byte);
        if escaped && (separates || is_unreserved(byte)) {
            self.spelling.extend_from_slice(&escape_of(byte));
        } else {
            self.spelling.push(byte);
        }
        Ok(())
    }
}

/// RFC 3986, section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn escape_of(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// Whether some character of ASCII is written in two to four bytes.
fn is_overlong(bytes: &[u8]) -> bool {
    let continues = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, 0x80..=0xbf));
    bytes.iter().enumerate().any(|(at, byte)| {
        let next = bytes.get(at + 1);
        match byte {
            0xc0 | 0xc1 => continues(next),
            0xe0 => next.is_some_and(|next| matches!(next, 0x80..=0x9f)) && continues(bytes.get(at + 2)),
            0xf0 => next.is_some_and(|next| matches!(next, 0x80..=0x8f)) && continues(bytes.get(at + 2)),
            _ => false,
        }
    })
}

fn with_slashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}

struct ResolvedPath {
    path: Vec<u8>,
    has_dots: bool,
}

/// Merges slashes and resolves dots (RFC 3986, section 5.2.4), but for those above the root.
fn resolve(decoded: &[u8]) -> Result<ResolvedPath, PathError> {
    let mut path = Vec::with_capacity(decoded.len());
    let mut has_dots = false;
    let mut segments = decoded.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"" | b"." => has_dots |= !segment.is_empty(),
            b".." => {
                has_dots = true;
                let parent = memchr::memrchr(b'/', &path).ok_or(PathError::AboveRoot)?;
                path.truncate(parent);
            }
            [b'.', b';', ..] | [b'.', b'.', b';', ..] => return Err(PathError::DotParameters),
            segment => {
                path.push(b'/');
                path.extend_from_slice(segment);
                continue;
            }
        }
        if is_last {
            path.push(b'/');
        }
    }
    Ok(ResolvedPath { path, has_dots })
}

/// What is escaped in a path: all but unreserved characters, the slash and what section 3.3 of RFC 3986 allows in
/// segments, without the apostrophe, which ends quotations.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b':')
    .remove(b'@')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=');

/// `path` as a URI has it. Nothing of it can end a header, a quotation or the path itself.
pub fn encode(path: &[u8]) -> String {
    percent_encode(path, ESCAPED).to_string()
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSlash => "the path does not begin with a slash",
            Self::Escape => "a % in the path is followed by something else than two hexadecimal digits",
            Self::Nul => "the path has a NUL",
            Self::Overlong => "the path has ASCII in overlong UTF-8",
            Self::AboveRoot => "the path leads above the root",
            Self::DotParameters => "the path has dots with parameters",
        })
    }
}

impl std::error::Error for PathError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(sent: &str) -> String {
        String::from_utf8_lossy(RequestPath::parse(sent.as_bytes()).unwrap().normal()).into_owned()
    }

    #[test]
    fn plain_paths_are_borrowed_as_they_are() {
        for sent in ["/", "/a", "/a/", "/a/b.c", "/a;x=1/b", "/a:b@c!", "/a..b", "/a/b..", "/...a"] {
            let path = RequestPath::parse(sent.as_bytes()).unwrap();
            assert_eq!((path.normal(), path.spelling(), path.is_ambiguous()), (sent.as_bytes(), None, false));
        }
        assert_eq!(normal(""), "/");
    }

    /// RFC 3986, sections 5.2.4 and 6.2.2.
    #[test]
    fn other_spellings_have_the_same_normal_form_and_are_known_as_such() {
        for (sent, expected) in [
            ("//", "/"),
            ("//admin", "/admin"),
            ("/%61dmin", "/admin"),
            ("/x/../admin", "/admin"),
            ("/x/..//admin", "/admin"),
            ("/./admin/.", "/admin/"),
            ("/admin/x/..", "/admin/"),
            ("/%2e/admin", "/admin"),
            ("/x/%2E%2e/admin", "/admin"),
            ("/admin//", "/admin/"),
            ("/%7Euser", "/~user"),
        ] {
            let path = RequestPath::parse(sent.as_bytes()).unwrap();
            assert_eq!(String::from_utf8_lossy(path.normal()), expected, "{sent}");
            assert!(path.spelling().is_some(), "{sent}");
            assert!(!path.is_ambiguous(), "{sent}");
        }
    }

    #[test]
    fn escapes_that_a_path_needs_are_no_other_spelling() {
        for (sent, expected) in
            [("/caf%C3%A9", "/café"), ("/caf%c3%a9", "/café"), ("/a%20b", "/a b"), ("/a%40b%252e", "/a@b%2e")]
        {
            let path = RequestPath::parse(sent.as_bytes()).unwrap();
            assert_eq!((path.normal(), path.spelling()), (expected.as_bytes(), None), "{sent}");
        }
        // Latin-1 is an application's own affair.
        assert_eq!(RequestPath::parse(b"/caf%E9").unwrap().normal(), b"/caf\xe9");
    }

    #[test]
    fn paths_that_are_never_meant_are_refused() {
        for (sent, expected) in [
            ("a", PathError::NoSlash),
            ("*", PathError::NoSlash),
            ("/%", PathError::Escape),
            ("/%2", PathError::Escape),
            ("/%zz", PathError::Escape),
            ("/a%00.png", PathError::Nul),
            ("/%c0%ae%c0%ae/etc", PathError::Overlong),
            ("/%c0%af", PathError::Overlong),
            ("/%e0%80%af", PathError::Overlong),
            ("/%f0%80%80%af", PathError::Overlong),
            ("/..", PathError::AboveRoot),
            ("/../etc/passwd", PathError::AboveRoot),
            ("/%2e%2e/etc", PathError::AboveRoot),
            ("/a/../../etc", PathError::AboveRoot),
            ("/..%2f..%2fetc", PathError::AboveRoot),
            ("/a/..;/admin", PathError::DotParameters),
            ("/a/..%3B/admin", PathError::DotParameters),
            ("/a/.;x/admin", PathError::DotParameters),
        ] {
            assert_eq!(RequestPath::parse(sent.as_bytes()), Err(expected), "{sent}");
            assert!(expected.to_string().contains("path"));
        }
    }

    #[test]
    fn what_others_may_take_for_a_separator_is_ambiguous() {
        for sent in ["/a%2Fb", "/%2fadmin", "/a%5Cb", "/a\\b", "/a%0d%0aSet-Cookie:x", "/a%7f", "/a;x/../b"] {
            assert!(RequestPath::parse(sent.as_bytes()).unwrap().is_ambiguous(), "{sent}");
        }
        assert_eq!(RequestPath::parse(b"/a%2fb").unwrap().spelling(), Some(&b"/a%2Fb"[..]));
    }

    #[test]
    fn a_backslash_that_is_read_as_a_slash() {
        let folded = |sent: &str| {
            let path = RequestPath::parse(sent.as_bytes())?;
            Ok(path.folded().map(|folded| String::from_utf8_lossy(folded).into_owned()))
        };
        for (sent, expected) in [
            ("/admin%5cx", Ok(Some("/admin/x"))),
            ("/%5Cadmin", Ok(Some("/admin"))),
            ("/\\\\admin\\", Ok(Some("/admin/"))),
            ("/x%5c..%5cadmin", Ok(Some("/admin"))),
            ("/x/..%5cadmin", Ok(Some("/admin"))),
            ("/%255cadmin", Ok(None)),
            ("/admin/x", Ok(None)),
            ("/..%5cx", Err(PathError::AboveRoot)),
            ("/a%5c..;%5cx", Err(PathError::DotParameters)),
        ] {
            assert_eq!(folded(sent), expected.map(|path| path.map(str::to_owned)), "{sent}");
        }
    }

    #[test]
    fn encoding_leaves_nothing_that_could_end_a_header_or_a_path() {
        assert_eq!(encode(b"/a b/\xc3\xa9"), "/a%20b/%C3%A9");
        assert_eq!(encode(b"/\r\nX: <\"'?#%\\"), "/%0D%0AX:%20%3C%22%27%3F%23%25%5C");
    }

    proptest! {
        /// Whatever is sent, nothing of the normal form leads upwards.
        #[test]
        fn a_path_never_leaves_its_root(sent in "/([a-z./\\\\;]|%2[eEfF]|%5[cC]|%252e|\\.\\./|é){0,24}") {
            if let Ok(path) = RequestPath::parse(sent.as_bytes()) {
                let normal = path.normal();
                prop_assert_eq!(normal.first(), Some(&b'/'));
                let segments: Vec<&[u8]> = normal.split(|byte| *byte == b'/').skip(1).collect();
                for (at, segment) in segments.iter().enumerate() {
                    prop_assert!(*segment != b"." && *segment != b"..");
                    prop_assert!(!segment.is_empty() || at + 1 == segments.len());
                }
                prop_assert!(!normal.contains(&0));
            }
        }

        /// A backslash means what a slash in its place would mean, or the path is refused as that would be.
        #[test]
        fn a_backslash_folds_to_what_a_slash_means(sent in "/([a-z./;]|\\\\|%5[cC]|%2[eE]|\\.\\.){0,24}") {
            let slashes = sent.replace("%5c", "/").replace("%5C", "/").replace('\\', "/");
            let meant = RequestPath::parse(slashes.as_bytes());
            if let Ok(path) = RequestPath::parse(sent.as_bytes()) {
                prop_assert_eq!(path.folded().is_some(), sent != slashes);
                if let Some(folded) = path.folded() {
                    prop_assert_eq!(Ok(folded), meant.as_ref().map(RequestPath::normal));
                    prop_assert!(!folded.contains(&b'\\'));
                }
            }
        }

        /// A normal form is its own, and the only one of all its spellings.
        #[test]
        fn the_normal_form_of_a_normal_form_is_itself(sent in prop::collection::vec(any::<u8>(), 0..32)) {
            let sent = [b"/".as_slice(), &sent].concat();
            if let Ok(path) = RequestPath::parse(&sent) {
                let again = encode(path.normal());
                let again = RequestPath::parse(again.as_bytes()).unwrap();
                prop_assert_eq!(again.normal(), path.normal());
                prop_assert!(path.is_ambiguous() || again.spelling().is_none());
            }
        }

        /// The short way says the same as the long one.
        #[test]
        fn a_plain_path_is_its_own_normal_form(sent in "/[ -~]{0,24}") {
            if is_plain(sent.as_bytes()) {
                let decoded = Decoded::of(sent.as_bytes()).unwrap();
                prop_assert!(!decoded.ambiguous);
                let resolved = resolve(&decoded.bytes).unwrap();
                prop_assert_eq!(resolved.path.as_slice(), sent.as_bytes());
                prop_assert!(!resolved.has_dots);
            }
        }
    }
}
