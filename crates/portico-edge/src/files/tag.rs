//! Entity tags (RFC 9110, section 8.8.3): how they are made, read and compared.

use std::fmt;

use aws_lc_rs::digest::{Context, Digest, SHA256, digest};

use super::encoding::ContentCoding;

/// An entity tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag {
    weak: bool,
    /// What is between the quotes.
    opaque: String,
}

/// Bytes of a content's hash that are in its tag: 96 bits, with which no two files of a site meet by chance.
const HASH_BYTES: usize = 12;

impl EntityTag {
    /// The tag of a content: the same on every replica, and another one whenever a byte differs, also where all
    /// files have the same time, as in reproducible images.
    pub fn of_content(content: &[u8]) -> Self {
        Self::of_digest(&digest(&SHA256, content))
    }

    /// The tag of a content that comes in pieces: `read` passes on one after the other.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn of_pieces<E>(read: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), E>) -> Result<Self, E> {
        let mut context = Context::new(&SHA256);
        read(&mut |piece| context.update(piece))?;
        Ok(Self::of_digest(&context.finish()))
    }

    fn of_digest(hash: &Digest) -> Self {
        let opaque = hash.as_ref().iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
        Self { weak: false, opaque }
    }

    /// The tag of a file that is too large to be read for it: nanoseconds since the epoch, and bytes.
    pub fn of_time_and_size(modified_nanos: i128, size: u64) -> Self {
        Self { weak: false, opaque: format!("{modified_nanos:x}-{size:x}") }
    }

    /// The tag of a file that is too large to be read for it and whose time says nothing: when anything of it was
    /// last changed, in nanoseconds since the epoch, its number on its device, and bytes.
    pub fn of_identity(changed_nanos: u64, number: u64, size: u64) -> Self {
        Self { weak: false, opaque: format!("{changed_nanos:x}-{number:x}-{size:x}") }
    }

    /// The tag of the same in a coding, which is another sequence of bytes.
    #[must_use]
    pub fn coded(&self, coding: ContentCoding) -> Self {
        Self { weak: self.weak, opaque: format!("{}-{}", self.opaque, coding.name()) }
    }

    /// Reads one tag from the front of `text`; returns what follows it.
    fn read(text: &str) -> Option<(Self, &str)> {
        let (weak, rest) = match text.strip_prefix("W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (opaque, rest) = rest.strip_prefix('"')?.split_once('"')?;
        let is_tag_char = |char: char| char == '!' || matches!(char, '#'..='~') || !char.is_ascii();
        opaque.chars().all(is_tag_char).then(|| (Self { weak, opaque: opaque.to_owned() }, rest))
    }

    /// Reads the value of a header that has one tag.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::read(text.trim()).filter(|(_, rest)| rest.is_empty()).map(|(tag, _)| tag)
    }

    /// Section 8.8.3.2: both are strong and the same.
    pub(super) fn is_strongly(&self, other: &Self) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// The same section: their opaque parts are the same.
    pub(super) fn is_weakly(&self, other: &Self) -> bool {
        self.opaque == other.opaque
    }
}

/// The value of If-Match or If-None-Match: tags, or `*` for any.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TagList {
    Any,
    Tags(Vec<EntityTag>),
}

impl TagList {
    /// Reads a list; what is wrong in it ends it.
    pub(super) fn parse(value: &[u8]) -> Self {
        let text = String::from_utf8_lossy(value);
        let mut rest = text.trim();
        if rest == "*" {
            return Self::Any;
        }
        let mut tags = Vec::new();
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let Some((tag, after)) = EntityTag::read(rest) else { break };
            tags.push(tag);
            rest = after.trim_start_matches([' ', '\t']);
            // Between two tags there is a comma (RFC 9110, section 5.6.1).
            if !rest.is_empty() && !rest.starts_with(',') {
                break;
            }
        }
        Self::Tags(tags)
    }

    /// Whether one of them is `own`, compared by `is_same`.
    pub(super) fn has(&self, own: Option<&EntityTag>, is_same: fn(&EntityTag, &EntityTag) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => own.is_some_and(|own| tags.iter().any(|tag| is_same(tag, own))),
        }
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\"{}\"", if self.weak { "W/" } else { "" }, self.opaque)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> EntityTag {
        EntityTag::parse(text).unwrap()
    }

    #[test]
    fn tags_of_contents_and_of_times() {
        let empty = EntityTag::of_content(b"");
        assert_eq!(empty.to_string(), "\"e3b0c44298fc1c149afbf4c8\"");
        assert_ne!(EntityTag::of_content(b"a"), empty);
        let pieces = EntityTag::of_pieces::<()>(|push| {
            [&b"a"[..], b"", b"b"].into_iter().for_each(push);
            Ok(())
        });
        assert_eq!(pieces, Ok(EntityTag::of_content(b"ab")));
        assert_eq!(empty.coded(ContentCoding::Brotli).to_string(), "\"e3b0c44298fc1c149afbf4c8-br\"");
        assert_eq!(EntityTag::of_time_and_size(255, 16).to_string(), "\"ff-10\"");
        assert_eq!(EntityTag::of_identity(255, 17, 16).to_string(), "\"ff-11-10\"");
        assert_eq!(tag(&empty.to_string()), empty);
    }

    /// RFC 9110, section 8.8.3.2, the table of examples.
    #[test]
    fn tags_are_compared_strongly_and_weakly() {
        for (left, right, strong, weak) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
        ] {
            assert_eq!(tag(left).is_strongly(&tag(right)), strong, "{left} {right}");
            assert_eq!(tag(left).is_weakly(&tag(right)), weak, "{left} {right}");
        }
    }

    #[test]
    fn lists_are_read_as_far_as_they_are_right() {
        let count = |text: &str| match TagList::parse(text.as_bytes()) {
            TagList::Any => usize::MAX,
            TagList::Tags(tags) => tags.len(),
        };
        for (text, expected) in [
            ("*", usize::MAX),
            (" * ", usize::MAX),
            ("\"a\"", 1),
            ("\"a\", W/\"b,c\" ,\"d\"", 3),
            (", ,\"a\",", 1),
            ("a, \"b\"", 0),
            ("\"a\" \"b\"", 1),
            ("\"a", 0),
            ("w/\"a\"", 0),
            ("\"a b\"", 0),
            ("", 0),
        ] {
            assert_eq!(count(text), expected, "{text}");
        }
        assert_eq!(EntityTag::parse("\"a\"x"), None);
    }
}
