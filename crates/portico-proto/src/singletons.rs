//! Fields that a request has once at most, though a peer can send them twice.
//!
//! If a field comes twice, a filter in front may check one value while the application reads the other, or reads
//! both as a list. So those that decide how a request or its body is read are refused where they come twice with
//! different values, and are one field where the values are the same. [`TABLE`] lists them. Host, Content-Length
//! and Transfer-Encoding, on which the framing and the routing depend, must not even be repeated: `framing`
//! refuses them.
//!
//! Singletons that only describe (Content-Location, Date, From, Referer, User-Agent) are not among them. They, and
//! all fields that are lists, are handed on, joined as RFC 9110, section 5.3 has it.

use crate::error::ErrorKind;
use crate::message::Span;

/// The singletons that decide how a request or its body is read, in lower case, with the section that defines
/// each.
const TABLE: [(&[u8], &str); 12] = [
    (b"authorization", "RFC 9110, 11.6.2"),
    (b"content-range", "RFC 9110, 14.4"),
    (b"content-type", "RFC 9110, 8.3"),
    (b"if-modified-since", "RFC 9110, 13.1.3"),
    (b"if-range", "RFC 9110, 13.1.5"),
    (b"if-unmodified-since", "RFC 9110, 13.1.4"),
    (b"max-forwards", "RFC 9110, 7.6.2"),
    (b"origin", "RFC 6454, 7.3"),
    (b"proxy-authorization", "RFC 9110, 11.7.2"),
    (b"range", "RFC 9110, 14.2"),
    (b"sec-websocket-key", "RFC 6455, 11.3.1"),
    (b"sec-websocket-version", "RFC 6455, 11.3.5"),
];

/// Notes which of them a request may have twice, without comparing a name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Singletons {
    /// One bit for each length and first letter of a name.
    seen: u64,
    may_repeat: bool,
}

impl Singletons {
    /// Notes a field whose name begins with `first` and has `length` bytes. Names of a length that none of them
    /// has need not be noted.
    #[inline]
    pub(crate) fn note(&mut self, first: u8, length: u32) {
        // Seven letters apart, so that no two names that usually come together share a bit.
        let bit = 1 << ((u32::from(first & 0x1f) + 7 * length) & 63);
        self.may_repeat |= self.seen & bit != 0;
        self.seen |= bit;
    }

    /// Whether `fields`, all of which have been noted, are to be passed through [`keep_first`].
    ///
    /// # Errors
    /// One of them has two values.
    #[inline]
    pub(crate) fn check(self, bytes: &[u8], fields: &[(Span, Span)]) -> Result<bool, ErrorKind> {
        if self.may_repeat { compare(bytes, fields) } else { Ok(false) }
    }
}

/// Whether a singleton is repeated.
#[cold]
fn compare(bytes: &[u8], fields: &[(Span, Span)]) -> Result<bool, ErrorKind> {
    let mut values: [Option<&[u8]>; TABLE.len()] = [None; TABLE.len()];
    let mut repeated = false;
    for (name, value) in fields {
        let Some(index) = find(name.of(bytes)) else { continue };
        let value = value.of(bytes);
        match values[index] {
            Some(first) if first != value => return Err(ErrorKind::SingletonRepeated),
            first => {
                repeated |= first.is_some();
                values[index] = Some(value);
            }
        }
    }
    Ok(repeated)
}

/// Removes the singletons that repeat an earlier one.
#[cold]
pub(crate) fn keep_first(bytes: &[u8], fields: &mut Vec<(Span, Span)>) {
    let mut seen = [false; TABLE.len()];
    fields.retain(|(name, _)| {
        find(name.of(bytes)).is_none_or(|index| !std::mem::replace(&mut seen[index], true))
    });
}

fn find(name: &[u8]) -> Option<usize> {
    TABLE.iter().position(|(singleton, _)| name.eq_ignore_ascii_case(singleton))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::HeadParts;
    use crate::event::Event;
    use crate::http1::Connection;
    use crate::limits::Limits;
    use crate::message::{RequestHead, Version};

    type Fields<'a> = [(&'a str, &'a str)];

    /// The fields that are left of these in a request of HTTP/1 and of HTTP/2, which must not differ.
    fn taken(fields: &Fields<'_>) -> Result<Vec<(String, String)>, ErrorKind> {
        let mut message = "GET / HTTP/1.1\r\nhost: a\r\n".to_owned();
        fields.iter().for_each(|(name, value)| message += &format!("{name}: {value}\r\n"));
        message += "\r\n";
        let mut input = message.as_bytes();
        let one = match Connection::new().next_event(&mut input, &Limits::default()) {
            Ok(Some(Event::Head(head))) => Ok(head),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.kind),
        };
        let parts = HeadParts {
            version: Version::Http2,
            method: b"GET",
            target: b"/",
            authority: Some(b"a"),
            ends: true,
        };
        let pairs = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let two = RequestHead::assemble(&parts, pairs, &Limits::default()).map_err(|error| error.kind);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let fields = |head: Box<RequestHead>| -> Vec<_> {
            head.fields().map(|(name, value)| (text(name), text(value))).skip(1).collect()
        };
        let (one, two) = (one.map(fields), two.map(fields));
        assert_eq!(one, two);
        one
    }

    #[test]
    fn each_is_refused_with_two_values_and_is_one_with_the_same_value_twice() {
        for (name, section) in TABLE {
            let name = str::from_utf8(name).unwrap();
            let upper = name.to_ascii_uppercase();
            let differing = [(name, "1"), ("x-between", "y"), (&*upper, "2")];
            assert_eq!(taken(&differing), Err(ErrorKind::SingletonRepeated), "{name}: {section}");
            let third = [(name, "1"), (name, "1"), (name, "1, 2")];
            assert_eq!(taken(&third), Err(ErrorKind::SingletonRepeated), "{name}: {section}");
            let same = [(name, "1"), ("x-between", "y"), (&*upper, " 1\t")];
            let expected = [(name, "1"), ("x-between", "y")].map(|(n, v)| (n.to_owned(), v.to_owned()));
            assert_eq!(taken(&same).as_deref(), Ok(&expected[..]), "{name}: {section}");
        }
    }

    #[test]
    fn others_are_handed_on_as_they_are() {
        for name in [
            "accept",
            "cache-control",
            "content-encoding",
            "content-location",
            "cookie",
            "date",
            "from",
            "if-match",
            "if-none-match",
            "referer",
            "user-agent",
            "via",
            "x-forwarded-proto",
        ] {
            assert_eq!(taken(&[(name, "1"), (name, "2")]).unwrap().len(), 2, "{name}");
            assert_eq!(taken(&[(name, "1"), (name, "1")]).unwrap().len(), 2, "{name}");
        }
        // Names of the length and with the first letter of a singleton.
        assert_eq!(taken(&[("content-type", "1"), ("cf-ipcountry", "2")]).unwrap().len(), 2);
        assert_eq!(taken(&[("content-range", "1"), ("cache-control", "2")]).unwrap().len(), 2);
    }

    #[test]
    fn what_a_browser_sends_is_not_compared() {
        let mut singletons = Singletons::default();
        for name in [
            "accept",
            "authorization",
            "cache-control",
            "content-type",
            "cookie",
            "expect",
            "if-modified-since",
            "if-none-match",
            "if-range",
            "origin",
            "pragma",
            "priority",
            "range",
            "sec-websocket-key",
            "sec-websocket-version",
            "x-forwarded-proto",
        ] {
            singletons.note(name.as_bytes()[0], name.len() as u32);
            assert!(!singletons.may_repeat, "{name}");
        }
    }
}
