//! Which responses are compressed, with which coding: pure.

use crate::files::{AcceptedCodings, ContentCoding};

/// What of a response's head decides.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseFacts {
    /// Its status.
    pub status: u16,
    /// The length of its content, if that is known.
    pub length: Option<u64>,
    /// Its type is one of those that become smaller.
    is_of_type: bool,
    /// Something in it vouches for the bytes as they are.
    is_fixed: bool,
}

/// What becomes of a response on a route that compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compressible {
    /// It is none of those that are compressed, whoever asks.
    No,
    /// It stays as it is for this client; for another it would not.
    NotForClient,
    /// It is compressed.
    With(ContentCoding),
    /// It has no content, but is about one that may be compressed (304).
    Unchanged,
}

/// The smallest content that is compressed: below it, the head and the packets weigh more than what is saved.
const LENGTH_MIN: u64 = 1024;

/// The most bytes by which a compressed response is made longer, by chance: an attacker who has the response say
/// the same thing over and over, and reads the secret beside it from the lengths (BREACH), has to ask more often.
pub const PADDING_MAX: usize = 64;

/// In the order of preference where a client does not care: how much each makes of a millisecond.
const PREFERENCE: [ContentCoding; 3] = [ContentCoding::Zstd, ContentCoding::Brotli, ContentCoding::Gzip];

impl ResponseFacts {
    /// Of a response with this status, length and these fields; Content-Length is not among them.
    pub fn of<'f>(
        status: u16,
        length: Option<u64>,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
    ) -> Self {
        let mut facts = Self { status, length, ..Self::default() };
        for (name, value) in fields {
            let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
            match name.len() {
                12 if is("content-type") => facts.is_of_type = is_compressible_type(value),
                13 if is("cache-control") => facts.is_fixed |= says_no_transform(value),
                // A range is one of bytes. A digest is of the content in its coding (RFC 9530).
                16 if is("content-encoding") => facts.is_fixed = true,
                13 if is("content-range") => facts.is_fixed = true,
                14 if is("content-digest") => facts.is_fixed = true,
                11 if is("repr-digest") || is("content-md5") => facts.is_fixed = true,
                6 if is("digest") => facts.is_fixed = true,
                _ => {}
            }
        }
        facts
    }

    /// What becomes of it for a client that takes `accepted`.
    pub fn compressible(&self, accepted: &AcceptedCodings) -> Compressible {
        let coding = accepted.preferred(PREFERENCE);
        match self.status {
            304 => return Compressible::Unchanged,
            ..200 | 204..=206 => return Compressible::No,
            _ if self.is_fixed || !self.is_of_type => return Compressible::No,
            _ => {}
        }
        let is_small = self.length.is_some_and(|length| length < LENGTH_MIN);
        match coding {
            // Whoever refuses the content as it is gets the little there is compressed.
            Some(coding) if !is_small || (!accepted.takes_identity() && self.length != Some(0)) => {
                Compressible::With(coding)
            }
            _ if is_small => Compressible::No,
            _ => Compressible::NotForClient,
        }
    }
}

fn says_no_transform(value: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

/// Types beside `text/*` and those that end in `+json` and `+xml`, sorted.
const TYPES: [&str; 16] = [
    "application/ecmascript",
    "application/javascript",
    "application/json",
    "application/json5",
    "application/jsonlines",
    "application/rtf",
    "application/toml",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/x-javascript",
    "application/x-ndjson",
    "application/xml",
    "application/yaml",
    "font/otf",
    "font/ttf",
    "image/bmp",
];

/// Whether content of this type becomes smaller. Never a stream of events, which nothing may hold back.
pub fn is_compressible_type(content_type: &[u8]) -> bool {
    let end = content_type.iter().position(|&byte| byte == b';').unwrap_or(content_type.len());
    let Ok(name) = str::from_utf8(&content_type[..end]) else { return false };
    let name = name.trim().to_ascii_lowercase();
    if name == "text/event-stream" {
        return false;
    }
    name.starts_with("text/")
        || name.ends_with("+json")
        || name.ends_with("+xml")
        || TYPES.binary_search(&name.as_str()).is_ok()
}

/// The tag of the compressed content, whose bytes are not those that a strong `tag` is for; `None` if it is weak.
pub fn weak_tag(tag: &[u8]) -> Option<Vec<u8>> {
    tag.starts_with(b"\"").then(|| [b"W/", tag].concat())
}

#[cfg(test)]
mod tests {
    use super::Compressible::{No, NotForClient, Unchanged, With};
    use super::ContentCoding::{Brotli, Gzip, Zstd};
    use super::*;

    const HTML: (&str, &str) = ("Content-Type", "text/html; charset=utf-8");

    fn judge(status: u16, length: Option<u64>, fields: &[(&str, &str)], accepted: &str) -> Compressible {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let facts = ResponseFacts::of(status, length, fields);
        facts.compressible(&AcceptedCodings::parse(Some(accepted.as_bytes())))
    }

    #[test]
    fn a_response_is_compressed_as_its_head_says() {
        for (status, length, field, expected) in [
            (200, None, None, With(Zstd)),
            (200, Some(LENGTH_MIN), None, With(Zstd)),
            (200, Some(LENGTH_MIN - 1), None, No),
            (404, Some(5000), None, With(Zstd)),
            (500, None, None, With(Zstd)),
            (204, None, None, No),
            (205, None, None, No),
            (206, None, None, No),
            (304, None, None, Unchanged),
            (200, None, Some(("content-encoding", "gzip")), No),
            (200, None, Some(("Content-Encoding", "identity")), No),
            (200, None, Some(("Cache-Control", "private, No-Transform")), No),
            (200, None, Some(("Cache-Control", "private")), With(Zstd)),
            (200, None, Some(("Content-Range", "bytes 0-1/2")), No),
            (200, None, Some(("Content-Digest", "sha-256=:x:")), No),
            (200, None, Some(("Content-MD5", "x")), No),
        ] {
            let fields: Vec<_> = [HTML].into_iter().chain(field).collect();
            assert_eq!(judge(status, length, &fields, "gzip, br, zstd"), expected, "{status} {field:?}");
        }
        assert_eq!(judge(200, None, &[], "gzip"), No, "nobody knows what it is");
    }

    #[test]
    fn the_client_decides_which_coding_it_gets() {
        for (accepted, expected) in [
            ("gzip, br, zstd", With(Zstd)),
            ("gzip, br", With(Brotli)),
            ("gzip", With(Gzip)),
            ("*", With(Zstd)),
            ("gzip, br;q=0.9, zstd;q=0.5", With(Gzip)),
            ("zstd;q=0, br;q=0, *", With(Gzip)),
            ("gzip;q=0", NotForClient),
            ("", NotForClient),
            ("identity, gzip;q=0.5", NotForClient),
            ("identity;q=0.5, gzip;q=0.5", With(Gzip)),
            ("deflate", NotForClient),
        ] {
            assert_eq!(judge(200, None, &[HTML], accepted), expected, "{accepted}");
        }
        assert_eq!(judge(200, Some(9), &[HTML], "gzip, identity;q=0"), With(Gzip), "it takes nothing else");
        assert_eq!(judge(200, Some(0), &[HTML], "gzip, identity;q=0"), No);
    }

    #[test]
    fn types_that_become_smaller_are_known() {
        assert!(TYPES.is_sorted());
        for name in [
            "text/html",
            "TEXT/CSS",
            "text/plain;charset=utf-8",
            "application/json",
            "application/problem+json ; a=b",
            "application/rss+xml",
            "application/xhtml+xml",
            "image/svg+xml",
            "application/wasm",
        ] {
            assert!(is_compressible_type(name.as_bytes()), "{name}");
        }
        for name in [
            "text/event-stream",
            "Text/Event-Stream; charset=utf-8",
            "image/png",
            "video/mp4",
            "application/octet-stream",
            "application/zip",
            "font/woff2",
            "multipart/form-data",
            "",
        ] {
            assert!(!is_compressible_type(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_strong_tag_becomes_weak() {
        assert_eq!(weak_tag(b"\"a\""), Some(b"W/\"a\"".to_vec()));
        assert_eq!(weak_tag(b"W/\"a\""), None);
        assert_eq!(weak_tag(b"a"), None);
    }
}
