//! `exact` paths with captures, and the templates that captures are filled into.

use std::fmt;
use std::ops::Range;

use crate::path::encode;

/// One segment of an exact path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    /// These bytes.
    Literal(Box<[u8]>),
    /// A capture of at least one byte between these two.
    Capture { before: Box<[u8]>, name: String, after: Box<[u8]> },
    /// All that is left of the path.
    Rest { name: String },
}

/// What was captured: a name, and where in the normal path its value stands.
pub(crate) type Captures = Vec<(String, Range<usize>)>;

/// The segments of an exact path, which the configuration has checked.
pub(crate) fn segments(exact: &str) -> Vec<Segment> {
    let one = |segment: &str| {
        let Some((before, name, after)) = capture(segment) else {
            return Segment::Literal(segment.as_bytes().into());
        };
        match name.strip_suffix('…') {
            Some(name) => Segment::Rest { name: name.to_owned() },
            None => Segment::Capture {
                before: before.as_bytes().into(),
                name: name.to_owned(),
                after: after.as_bytes().into(),
            },
        }
    };
    exact.split('/').skip(1).map(one).collect()
}

fn capture(segment: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = segment.split_once('{')?;
    let (name, after) = rest.split_once('}')?;
    Some((before, name, after))
}

impl Segment {
    /// Where in `segment` the capture stands, if it matches.
    pub(crate) fn captured(&self, segment: &[u8]) -> Option<Range<usize>> {
        let Self::Capture { before, after, .. } = self else { return None };
        let inner = segment.strip_prefix(&**before)?.strip_suffix(&**after)?;
        (!inner.is_empty()).then(|| before.len()..before.len() + inner.len())
    }

    /// Among segments of different kinds, and among captures by what stands around them: the more specific has the
    /// higher rank.
    pub(crate) fn rank(&self) -> usize {
        match self {
            Self::Literal(_) => usize::MAX,
            Self::Capture { before, after, .. } => 1 + before.len() + after.len(),
            Self::Rest { .. } => 0,
        }
    }

    /// Whether both match the same segments, whatever their captures are called.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Capture { before, after, .. },
                Self::Capture { before: other_before, after: other_after, .. },
            ) => before == other_before && after == other_after,
            (Self::Rest { .. }, Self::Rest { .. }) => true,
            _ => self == other,
        }
    }

    /// Whether some segment matches both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Literal(left), Self::Literal(right)) => left == right,
            (Self::Literal(literal), capture) | (capture, Self::Literal(literal)) => {
                matches!(capture, Self::Rest { .. }) || capture.captured(literal).is_some()
            }
            (
                Self::Capture { before, after, .. },
                Self::Capture { before: other_before, after: other_after, .. },
            ) => {
                (before.starts_with(other_before) || other_before.starts_with(before))
                    && (after.ends_with(other_after) || other_after.ends_with(after))
            }
            (Self::Rest { .. }, _) | (_, Self::Rest { .. }) => true,
        }
    }
}

/// A path or URI in which captures are filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathTemplate {
    pieces: Vec<TemplatePiece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePiece {
    Literal(String),
    /// The whole path.
    Path,
    Capture(String),
}

impl PathTemplate {
    /// Reads a template, which the configuration has checked.
    pub(crate) fn parse(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, name, after)) = capture(rest) {
            pieces.push(TemplatePiece::Literal(before.to_owned()));
            pieces.push(match name {
                "path" => TemplatePiece::Path,
                name => TemplatePiece::Capture(name.to_owned()),
            });
            rest = after;
        }
        pieces.push(TemplatePiece::Literal(rest.to_owned()));
        Self { pieces }
    }

    /// As a part of a URI: what is filled in is percent-encoded.
    pub(crate) fn encoded(&self, path: &[u8], captures: &Captures) -> String {
        let pieces = self.pieces.iter().map(|piece| match piece {
            TemplatePiece::Literal(text) => text.clone(),
            piece => encode(piece.value(path, captures)),
        });
        pieces.collect()
    }

    /// As a decoded path.
    pub(crate) fn decoded(&self, path: &[u8], captures: &Captures) -> Vec<u8> {
        let pieces = self.pieces.iter().map(|piece| match piece {
            TemplatePiece::Literal(text) => text.as_bytes(),
            piece => piece.value(path, captures),
        });
        pieces.collect::<Vec<_>>().concat()
    }
}

impl TemplatePiece {
    fn value<'p>(&self, path: &'p [u8], captures: &Captures) -> &'p [u8] {
        match self {
            Self::Literal(_) => b"",
            Self::Path => path,
            Self::Capture(name) => {
                let range =
                    captures.iter().find(|(captured, _)| captured == name).map(|(_, range)| range.clone());
                range.and_then(|range| path.get(range)).unwrap_or_default()
            }
        }
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| match piece {
            TemplatePiece::Literal(text) => f.write_str(text),
            TemplatePiece::Path => f.write_str("{path}"),
            TemplatePiece::Capture(name) => write!(f, "{{{name}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_capture_between_what_stands_around() {
        let found = segments("/blog/{year}/{slug}.html/{rest…}");
        assert_eq!(found.len(), 4);
        assert_eq!(found[2].captured(b"hello.html"), Some(0..5));
        assert_eq!(found[2].captured(b".html"), None, "a capture is never empty");
        assert_eq!(found[2].captured(b"hello.htm"), None);
        assert!(found[0].rank() > found[2].rank() && found[2].rank() > found[1].rank());
        assert!(found[1].rank() > found[3].rank());
    }

    #[test]
    fn overlaps_are_segments_that_match_both() {
        let one = |text: &str| segments(&format!("/{text}")).remove(0);
        for (left, right, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a", "{x}", true),
            ("{x}.html", "a.html", true),
            ("{x}.html", "a.txt", false),
            ("{x}.html", "post-{y}", true),
            ("{x}.html", "{y}.txt", false),
            ("a{x}", "b{y}", false),
            ("a", "{rest…}", true),
        ] {
            assert_eq!(one(left).overlaps(&one(right)), expected, "{left} {right}");
            assert_eq!(one(right).overlaps(&one(left)), expected, "{right} {left}");
        }
        assert!(one("{x}.html").is_same(&one("{y}.html")) && !one("{x}").is_same(&one("a{x}")));
    }

    #[test]
    fn templates_are_filled_encoded_and_decoded() {
        let template = PathTemplate::parse("/posts/{slug}-{path}?a");
        assert_eq!(template.to_string(), "/posts/{slug}-{path}?a");
        let captures = vec![("slug".to_owned(), 1..4)];
        assert_eq!(template.encoded(b"/a b", &captures), "/posts/a%20b-/a%20b?a");
        assert_eq!(template.decoded(b"/a b", &captures), b"/posts/a b-/a b?a");
        assert_eq!(PathTemplate::parse("/{x}").encoded(b"/a", &Vec::new()), "/");
    }
}
