//! Makes a request head of what a protocol tells in parts rather than in the lines of HTTP/1.

use crate::error::{Error, ErrorKind};
use crate::http1::Control;
use crate::limits::Limits;
use crate::message::{Framing, RequestHead, Span, Version};
use crate::{grammar, http1, singletons};

/// The parts of a head that a protocol without a request line tells one by one.
#[derive(Clone, Copy, Debug)]
pub struct HeadParts<'a> {
    /// Version that the peer speaks.
    pub version: Version,
    /// Method.
    pub method: &'a [u8],
    /// Request target: origin-form, or `*`. What has a scheme and an authority tells them apart.
    pub target: &'a [u8],
    /// Host and port asked for, where they are told apart from the fields (`:authority`). A Host among the
    /// fields must then be alike, and the head gets a Host of this value.
    pub authority: Option<&'a [u8]>,
    /// Nothing follows the head.
    pub ends: bool,
}

impl RequestHead {
    /// The head of these `parts` and `fields`, held against the grammar and `limits` as one of HTTP/1 is. Its
    /// [`RequestHead::bytes`] are in the form of HTTP/1. A body whose length is not told is
    /// [`Framing::Chunked`]: its end is marked in the stream.
    ///
    /// Names must be in lower case and no `Connection` or `Transfer-Encoding` among them where the protocol has
    /// it so: that is the caller's to check.
    ///
    /// # Errors
    /// Which status is to be answered.
    pub fn assemble<'a>(
        parts: &HeadParts<'_>,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        limits: &Limits,
    ) -> Result<Box<Self>, Error> {
        let method = parts.method;
        if !grammar::is_token(method) {
            return Err(ErrorKind::RequestLine.into());
        }
        if method == b"CONNECT" {
            return Err(ErrorKind::Connect.into());
        }
        let target = http1::parse_target(method, parts.target);
        let target = target.filter(|target| target.authority.is_none()).ok_or(ErrorKind::Target)?;
        let (mut draft, target_at) = HeadDraft::begin(parts, limits)?;
        let lines_start = draft.bytes.len();
        if let Some(authority) = parts.authority {
            draft.push(b"host", authority, limits)?;
        }
        let mut has_host = false;
        for (name, value) in fields {
            if let Some(authority) = parts.authority
                && name.eq_ignore_ascii_case(b"host")
            {
                if std::mem::replace(&mut has_host, true) {
                    return Err(ErrorKind::HostRepeated.into());
                }
                if !value.eq_ignore_ascii_case(authority) {
                    return Err(ErrorKind::Host.into());
                }
                continue;
            }
            draft.push(name, value, limits)?;
        }
        let lines_end = draft.bytes.len();
        let control = draft.end()?;
        let framing = match control.framing(parts.version, limits)? {
            Framing::None if !parts.ends => Framing::Chunked,
            Framing::Chunked => return Err(ErrorKind::TransferEncoding.into()),
            Framing::Length(length) if parts.ends && length > 0 => {
                return Err(ErrorKind::BodyMissing.into());
            }
            framing => framing,
        };
        let host = control.host(parts.version)?;
        let shifted =
            |part: Span| Span { start: part.start + target_at.start, end: part.end + target_at.start };
        Ok(Box::new(Self {
            method: Span { start: 0, end: method.len() as u32 },
            target: target_at,
            path: shifted(target.path),
            query: shifted(target.query),
            authority: host,
            field_lines: span(lines_start, lines_end),
            sent_bytes: draft.bytes.len() as u32,
            bytes: draft.bytes.into(),
            fields: draft.fields,
            dropped: draft.dropped,
            initials: control.initials(),
            edited: false,
            gateway: None,
            version: parts.version,
            framing,
            keep_alive: true,
            expect_continue: control.expect_continue(parts.version, framing),
            websocket: false,
        }))
    }
}

/// A head while it is put together. It becomes a `RequestHead` only when every field has been checked.
#[derive(Default)]
struct HeadDraft {
    bytes: Vec<u8>,
    fields: Vec<(Span, Span)>,
    dropped: Vec<(Span, Span)>,
}

impl HeadDraft {
    /// The request line, and where in it the target is.
    fn begin(parts: &HeadParts<'_>, limits: &Limits) -> Result<(Self, Span), ErrorKind> {
        let version: &[u8] = match parts.version {
            Version::Http10 => b"HTTP/1.0",
            Version::Http11 => b"HTTP/1.1",
            Version::Http2 => b"HTTP/2.0",
            Version::Http3 => b"HTTP/3.0",
        };
        let bytes = [parts.method, b" ", parts.target, b" ", version, b"\r\n"].concat();
        if bytes.len() > limits.request_line_bytes_max.saturating_add(2) {
            return Err(ErrorKind::RequestLineTooLong);
        }
        let target_start = parts.method.len() + 1;
        let target = span(target_start, target_start + parts.target.len());
        Ok((Self { bytes, ..Self::default() }, target))
    }

    /// Ends the lines, and reads what they say of the message itself.
    fn end(&mut self) -> Result<Control, Error> {
        self.bytes.extend_from_slice(b"\r\n");
        let control = Control::gather(&self.bytes, &self.fields)?;
        if control.has_repeats() {
            singletons::keep_first(&self.bytes, &mut self.fields);
        }
        Ok(control)
    }

    fn push(&mut self, name: &[u8], value: &[u8], limits: &Limits) -> Result<(), ErrorKind> {
        let value = grammar::trim(value);
        if !grammar::is_token(name) {
            return Err(ErrorKind::FieldName);
        }
        if grammar::find_control(value, 0).is_some() {
            return Err(ErrorKind::ControlByte);
        }
        if self.fields.len() + self.dropped.len() >= limits.fields_max {
            return Err(ErrorKind::TooManyFields);
        }
        let line_bytes = name.len() + value.len() + 2;
        if line_bytes > limits.field_bytes_max {
            return Err(ErrorKind::FieldTooLong);
        }
        if self.bytes.len() + line_bytes + 4 > limits.head_bytes_max.min(u32::MAX as usize) {
            return Err(ErrorKind::HeadTooLarge);
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(b": ");
        let value_start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        let place = (span(start, start + name.len()), span(value_start, self.bytes.len()));
        self.bytes.extend_from_slice(b"\r\n");
        if name.contains(&b'_') {
            self.dropped.push(place)
        } else {
            self.fields.push(place)
        }
        Ok(())
    }
}

fn span(start: usize, end: usize) -> Span {
    Span { start: start as u32, end: end as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields<'a> = &'a [(&'a str, &'a str)];

    fn assemble(
        parts: HeadParts<'_>,
        fields: Fields<'_>,
        limits: &Limits,
    ) -> Result<Box<RequestHead>, ErrorKind> {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        RequestHead::assemble(&parts, fields, limits).map_err(|error| error.kind)
    }

    const GET: HeadParts<'_> = HeadParts {
        version: Version::Http2,
        method: b"GET",
        target: b"/a%20b?c=d",
        authority: Some(b"a.example:8"),
        ends: true,
    };

    #[test]
    fn parts_become_a_head_that_reads_as_one_of_http1() {
        let fields = [("accept", "*/*"), ("host", "A.example:8"), ("x_y", "1"), ("cookie", " a=b\t")];
        let head = assemble(GET, &fields, &Limits::default()).unwrap();
        assert_eq!((head.method(), head.target()), (&b"GET"[..], &b"/a%20b?c=d"[..]));
        assert_eq!((head.path(), head.query()), (&b"/a%20b"[..], &b"c=d"[..]));
        assert_eq!(head.authority(), Some(&b"a.example:8"[..]));
        assert_eq!(head.field(b"Host"), Some(&b"a.example:8"[..]));
        assert_eq!(head.field(b"cookie"), Some(&b"a=b"[..]));
        assert_eq!(head.dropped().collect::<Vec<_>>(), [b"x_y"]);
        assert_eq!(head.fields().len(), 3);
        assert_eq!(
            head.bytes(),
            b"GET /a%20b?c=d HTTP/2.0\r\nhost: a.example:8\r\naccept: */*\r\nx_y: 1\r\ncookie: a=b\r\n\r\n"
        );
        assert!(head.bytes().ends_with(&[head.field_lines(), b"\r\n"].concat()));
        assert!(head.framing == Framing::None && head.keep_alive && !head.expect_continue);
        assert!(head.initials().has(b"cookie") && !head.is_gateway());
    }

    #[test]
    fn a_body_is_framed_by_its_length_or_by_the_stream() {
        let post = HeadParts { method: b"POST", ends: false, ..GET };
        let framing = |parts, fields| assemble(parts, fields, &Limits::default()).map(|head| head.framing);
        assert_eq!(framing(post, &[]), Ok(Framing::Chunked));
        assert_eq!(framing(post, &[("content-length", "3")]), Ok(Framing::Length(3)));
        assert_eq!(framing(GET, &[("content-length", "0")]), Ok(Framing::Length(0)));
        assert_eq!(framing(GET, &[("content-length", "3")]), Err(ErrorKind::BodyMissing));
        assert_eq!(framing(GET, &[("content-length", "+3")]), Err(ErrorKind::ContentLength));
        assert_eq!(framing(post, &[("transfer-encoding", "chunked")]), Err(ErrorKind::TransferEncoding));
        let head = assemble(post, &[("expect", "100-continue")], &Limits::default()).unwrap();
        assert!(head.expect_continue);
    }

    #[test]
    fn what_http1_would_refuse_is_refused() {
        for (parts, fields, expected) in [
            (HeadParts { method: b"G T", ..GET }, &[][..], ErrorKind::RequestLine),
            (HeadParts { method: b"CONNECT", ..GET }, &[], ErrorKind::Connect),
            (HeadParts { target: b"/a b", ..GET }, &[], ErrorKind::Target),
            (HeadParts { target: b"", ..GET }, &[], ErrorKind::Target),
            (HeadParts { target: b"*", ..GET }, &[], ErrorKind::Target),
            (HeadParts { target: b"/a#b", ..GET }, &[], ErrorKind::Target),
            (HeadParts { target: b"http://a.example:8/", ..GET }, &[], ErrorKind::Target),
            (HeadParts { authority: Some(b"u@h"), ..GET }, &[], ErrorKind::Host),
            (HeadParts { authority: None, ..GET }, &[], ErrorKind::HostMissing),
            (GET, &[("host", "b")], ErrorKind::Host),
            (GET, &[("host", "a.example:8"), ("host", "a.example:8")], ErrorKind::HostRepeated),
            (GET, &[("a b", "c")], ErrorKind::FieldName),
            (GET, &[("a", "c\r\nd: e")], ErrorKind::ControlByte),
            (GET, &[("content-length", "1"), ("content-length", "1")], ErrorKind::ContentLengthRepeated),
        ] {
            let refused = assemble(parts, fields, &Limits::default()).map(|_| ());
            assert_eq!(refused, Err(expected), "{parts:?} {fields:?}");
        }
    }

    #[test]
    fn each_limit_holds() {
        let limits =
            Limits { fields_max: 2, field_bytes_max: 17, request_line_bytes_max: 23, ..Limits::default() };
        let two = [("abcd", "01234567890")];
        assert!(assemble(GET, &two, &limits).is_ok(), "17 bytes, two with the host");
        assert_eq!(
            assemble(GET, &[("abcd", "012345678901")], &limits).map(|_| ()),
            Err(ErrorKind::FieldTooLong)
        );
        assert_eq!(
            assemble(GET, &[("a", ""), ("b", "")], &limits).map(|_| ()),
            Err(ErrorKind::TooManyFields)
        );
        let longer = HeadParts { target: b"/a%20b?c=de", ..GET };
        assert_eq!(assemble(longer, &[], &limits).map(|_| ()), Err(ErrorKind::RequestLineTooLong));
        let bytes = assemble(GET, &[], &limits).unwrap().bytes().len();
        for (head_bytes_max, fits) in [(bytes, true), (bytes - 1, false)] {
            let limits = Limits { head_bytes_max, ..limits.clone() };
            let expected = if fits { Ok(()) } else { Err(ErrorKind::HeadTooLarge) };
            assert_eq!(assemble(GET, &[], &limits).map(|_| ()), expected);
        }
    }
}
