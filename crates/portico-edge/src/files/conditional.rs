//! Conditional requests: RFC 9110, section 13.2.2, in the order that it prescribes.

use std::time::{Duration, SystemTime};

use httpdate::parse_http_date;

use super::tag::{EntityTag, TagList};

/// What is known of the file as it is.
#[derive(Clone, Debug)]
pub struct Validators {
    /// `None` where it has none.
    pub tag: Option<EntityTag>,
    /// As Last-Modified has it: whole seconds.
    pub modified: Option<SystemTime>,
}

/// The conditions of a request: values of its headers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Preconditions<'q> {
    /// If-Match
    pub if_match: Option<&'q [u8]>,
    /// If-None-Match
    pub if_none_match: Option<&'q [u8]>,
    /// If-Modified-Since
    pub if_modified_since: Option<&'q [u8]>,
    /// If-Unmodified-Since
    pub if_unmodified_since: Option<&'q [u8]>,
    /// If-Range
    pub if_range: Option<&'q [u8]>,
}

/// What the conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// The request is served.
    Proceed,
    /// 304
    NotModified,
    /// 412
    Failed,
}

impl Preconditions<'_> {
    /// Evaluates all but If-Range, for GET and HEAD.
    pub fn evaluate(&self, own: &Validators) -> Precondition {
        // Steps 1 and 2: the dates count only where the tags do not.
        if let Some(value) = self.if_match {
            if !TagList::parse(value).has(own.tag.as_ref(), EntityTag::is_strongly) {
                return Precondition::Failed;
            }
        } else if let (Some(date), Some(modified)) = (date(self.if_unmodified_since), own.modified)
            && modified > date
        {
            return Precondition::Failed;
        }
        // Steps 3 and 4.
        if let Some(value) = self.if_none_match {
            if TagList::parse(value).has(own.tag.as_ref(), EntityTag::is_weakly) {
                return Precondition::NotModified;
            }
        } else if let (Some(date), Some(modified)) = (date(self.if_modified_since), own.modified)
            && modified <= date
        {
            return Precondition::NotModified;
        }
        Precondition::Proceed
    }

    /// Step 5: whether Range counts. The client has a part of what the file is now, and nothing else would fit it.
    pub fn range_applies(&self, own: &Validators, now: SystemTime) -> bool {
        let Some(value) = self.if_range else { return true };
        let text = String::from_utf8_lossy(value);
        if let Some(tag) = EntityTag::parse(&text) {
            return own.tag.as_ref().is_some_and(|own| own.is_strongly(&tag));
        }
        // Section 8.8.2.2: within its own second a date does not say which of two contents it is of.
        let is_strong = |modified: &SystemTime| now.duration_since(*modified).is_ok_and(|age| age > SECOND);
        own.modified.filter(is_strong).is_some_and(|modified| date(Some(value)) == Some(modified))
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// A date that is none counts for nothing (sections 13.1.3 and 13.1.4).
fn date(value: Option<&[u8]>) -> Option<SystemTime> {
    parse_http_date(str::from_utf8(value?).ok()?.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIER: &[u8] = b"Sun, 06 Nov 1994 08:49:36 GMT";
    const MODIFIED: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &[u8] = b"Sun, 06 Nov 1994 08:49:38 GMT";

    fn own() -> Validators {
        let content = EntityTag::parse("\"a\"");
        Validators { tag: content, modified: date(Some(MODIFIED)) }
    }

    fn with(change: impl Fn(&mut Preconditions<'static>)) -> Precondition {
        let mut conditions = Preconditions::default();
        change(&mut conditions);
        conditions.evaluate(&own())
    }

    use Precondition::{Failed, NotModified, Proceed};

    /// RFC 9110, section 13.1.1.
    #[test]
    fn if_match() {
        for (value, expected) in [
            (&b"*"[..], Proceed),
            (b"\"a\"", Proceed),
            (b"\"b\", \"a\"", Proceed),
            (b"W/\"a\"", Failed),
            (b"\"b\"", Failed),
            (b"rubbish", Failed),
        ] {
            assert_eq!(with(|it| it.if_match = Some(value)), expected, "{}", value.escape_ascii());
        }
    }

    /// RFC 9110, section 13.1.2.
    #[test]
    fn if_none_match() {
        for (value, expected) in [
            (&b"*"[..], NotModified),
            (b"\"a\"", NotModified),
            (b"W/\"a\"", NotModified),
            (b"\"b\", W/\"a\"", NotModified),
            (b"\"b\"", Proceed),
            (b"rubbish", Proceed),
        ] {
            assert_eq!(with(|it| it.if_none_match = Some(value)), expected, "{}", value.escape_ascii());
        }
    }

    /// RFC 9110, sections 13.1.3 and 13.1.4.
    #[test]
    fn dates() {
        for (value, since, unmodified) in [
            (EARLIER, Proceed, Failed),
            (MODIFIED, NotModified, Proceed),
            (LATER, NotModified, Proceed),
            (b"yesterday", Proceed, Proceed),
        ] {
            assert_eq!(with(|it| it.if_modified_since = Some(value)), since);
            assert_eq!(with(|it| it.if_unmodified_since = Some(value)), unmodified);
        }
        // The obsolete forms (section 5.6.7).
        assert_eq!(with(|it| it.if_modified_since = Some(b"Sunday, 06-Nov-94 08:49:37 GMT")), NotModified);
        assert_eq!(with(|it| it.if_modified_since = Some(b"Sun Nov  6 08:49:37 1994")), NotModified);
    }

    /// RFC 9110, section 13.2.2: where there are tags, dates count for nothing.
    #[test]
    fn the_order_of_section_13_2_2() {
        let both = |matches: Option<&'static [u8]>, none: Option<&'static [u8]>, date| {
            with(|it| {
                (it.if_match, it.if_none_match) = (matches, none);
                (it.if_modified_since, it.if_unmodified_since) = (Some(date), Some(date));
            })
        };
        assert_eq!(both(Some(b"\"a\""), None, EARLIER), Proceed);
        assert_eq!(both(None, Some(b"\"b\""), LATER), Proceed);
        assert_eq!(both(Some(b"\"b\""), Some(b"\"a\""), LATER), Failed);
        assert_eq!(both(Some(b"\"a\""), Some(b"\"a\""), EARLIER), NotModified);
        let nothing = Validators { tag: None, modified: None };
        let conditions = Preconditions { if_none_match: Some(b"\"a\""), ..Preconditions::default() };
        assert_eq!(conditions.evaluate(&nothing), Proceed);
        let conditions = Preconditions { if_modified_since: Some(LATER), ..Preconditions::default() };
        assert_eq!(conditions.evaluate(&nothing), Proceed);
    }

    /// RFC 9110, section 13.1.5.
    #[test]
    fn if_range() {
        let now = date(Some(MODIFIED)).unwrap() + Duration::from_secs(10);
        let applies = |value: &'static [u8], now| {
            Preconditions { if_range: Some(value), ..Preconditions::default() }.range_applies(&own(), now)
        };
        for (value, expected) in [
            (&b"\"a\""[..], true),
            (b"W/\"a\"", false),
            (b"\"b\"", false),
            (MODIFIED, true),
            (EARLIER, false),
            (LATER, false),
            (b"rubbish", false),
        ] {
            assert_eq!(applies(value, now), expected, "{}", value.escape_ascii());
        }
        assert!(!applies(MODIFIED, date(Some(MODIFIED)).unwrap()), "it may change in the same second");
        assert!(Preconditions::default().range_applies(&own(), now));
    }
}
