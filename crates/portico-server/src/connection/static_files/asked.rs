//! What of a request's head counts for a file: its conditions, the range, and the codings that its client takes.

use portico_edge::files::Preconditions;
use portico_proto::{RequestHead, ResponseHead};

/// What of a request counts for a file.
#[derive(Debug, Default)]
pub(super) struct AskedFields<'h> {
    pub(super) conditions: Preconditions<'h>,
    pub(super) range: Option<&'h [u8]>,
    pub(super) accept_encoding: Option<&'h [u8]>,
    /// There is a condition or a range.
    pub(super) is_special: bool,
    /// A field that is a list has come in several lines.
    pub(super) has_divided_list: bool,
}

/// The fields that are lists, of a request that has some of them in several lines: these are one list (RFC 9110,
/// section 5.3).
#[derive(Debug)]
pub(super) struct JoinedLists {
    if_match: Option<Vec<u8>>,
    if_none_match: Option<Vec<u8>>,
    accept_encoding: Option<Vec<u8>>,
}

impl<'h> AskedFields<'h> {
    /// In one pass, for browsers send many fields.
    pub(super) fn of(head: &'h RequestHead) -> Self {
        let mut asked = Self::default();
        for (name, value) in head.fields() {
            let conditions = &mut asked.conditions;
            let (place, expected): (&mut Option<&[u8]>, &[u8]) = match name.len() {
                5 => (&mut asked.range, b"range"),
                8 if name[3..].eq_ignore_ascii_case(b"match") => (&mut conditions.if_match, b"if-match"),
                8 => (&mut conditions.if_range, b"if-range"),
                13 => (&mut conditions.if_none_match, b"if-none-match"),
                15 => (&mut asked.accept_encoding, b"accept-encoding"),
                17 => (&mut conditions.if_modified_since, b"if-modified-since"),
                19 => (&mut conditions.if_unmodified_since, b"if-unmodified-since"),
                _ => continue,
            };
            if !name.eq_ignore_ascii_case(expected) {
                continue;
            }
            if place.is_none() {
                *place = Some(value);
                asked.is_special |= name.len() != 15;
            } else {
                asked.has_divided_list |=
                    matches!(expected, b"if-match" | b"if-none-match" | b"accept-encoding");
            }
        }
        asked
    }

    /// The same with these lists.
    pub(super) fn with_lists(self, lists: &'h JoinedLists) -> Self {
        let mut conditions = self.conditions;
        conditions.if_match = lists.if_match.as_deref();
        conditions.if_none_match = lists.if_none_match.as_deref();
        Self { conditions, accept_encoding: lists.accept_encoding.as_deref(), ..self }
    }

    /// Whether nothing but If-None-Match is asked, and it is this tag, letter by letter.
    pub(super) fn is_only_tag(&self, not_modified: &ResponseHead) -> bool {
        let Preconditions { if_match, if_none_match, if_unmodified_since, .. } = self.conditions;
        if_match.is_none()
            && if_unmodified_since.is_none()
            && if_none_match.is_some_and(|tag| not_modified.fields.get(b"etag") == Some(tag))
    }
}

impl JoinedLists {
    #[cold]
    pub(super) fn of(head: &RequestHead) -> Self {
        let joined = |wanted: &[u8]| {
            let lines = head.fields().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            lines.map(|(_, value)| value.to_vec()).reduce(|list, value| [list, value].join(&b", "[..]))
        };
        Self {
            if_match: joined(b"if-match"),
            if_none_match: joined(b"if-none-match"),
            accept_encoding: joined(b"accept-encoding"),
        }
    }
}
