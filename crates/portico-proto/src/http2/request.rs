//! Makes a request head of the fields of a header block (RFC 9113, section 8).
//!
//! What HTTP/2 calls malformed ends its stream, whatever it asks for. The rest is held against what HTTP/1 is held
//! against, and answered with the same status.

use super::fields::DecodedFields;
use crate::assemble::HeadParts;
use crate::error::{Error, ErrorKind};
use crate::limits::Limits;
use crate::message::{Framing, RequestHead, Version};
use crate::{grammar, http1};

/// The request that a header block asks for.
#[derive(Debug)]
pub(super) struct ParsedRequest {
    /// The head, or which status is to be answered.
    pub(super) head: Result<Box<RequestHead>, Error>,
    /// Its method is HEAD.
    pub(super) is_head: bool,
}

const COOKIE: &[u8] = b"cookie";

impl ParsedRequest {
    /// The length that it tells of its body.
    pub(super) fn length(&self) -> Option<u64> {
        match self.head.as_ref().ok()?.framing {
            Framing::Length(length) => Some(length),
            Framing::None | Framing::Chunked => None,
        }
    }
}

/// Pseudo-fields of requests, each at most once (RFC 9113, section 8.3.1).
#[derive(Default)]
struct Pseudo<'a> {
    method: Option<&'a [u8]>,
    scheme: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
}

/// The request that begins with these fields, and has no more than them if it `ends`.
///
/// # Errors
/// What makes it malformed (RFC 9113, section 8.1.1).
pub(super) fn head(list: &DecodedFields, ends: bool, limits: &Limits) -> Result<ParsedRequest, ErrorKind> {
    let (pseudo, count) = Pseudo::take(list)?;
    let fields = list.iter().skip(count);
    let method = pseudo.method.unwrap_or_default();
    let is_head = method == b"HEAD";
    if list.is_too_large() {
        // What is too much has not been kept, so that nothing more can be said of it.
        return Ok(ParsedRequest { head: Err(ErrorKind::HeadTooLarge.into()), is_head });
    }
    pseudo.check()?;
    let mut crumbs = 0;
    for (name, value) in fields.clone() {
        check_field(name, value)?;
        crumbs += usize::from(name == COOKIE);
    }
    let parts = HeadParts {
        version: Version::Http2,
        method,
        target: pseudo.path.unwrap_or(b"/"),
        authority: pseudo.authority,
        ends,
    };
    let cookie;
    let head = if crumbs < 2 {
        RequestHead::assemble(&parts, fields, limits)
    } else {
        // A cookie may come in crumbs, each a field of its own: they are one (RFC 9113, section 8.2.3).
        let all = fields.clone().filter(|(name, _)| *name == COOKIE).map(|(_, value)| value);
        cookie = all.collect::<Vec<_>>().join(&b"; "[..]);
        let others = fields.filter(|(name, _)| *name != COOKIE);
        RequestHead::assemble(&parts, others.chain([(COOKIE, &cookie[..])]), limits)
    };
    match head {
        Err(error) if is_malformed(error.kind, list) => Err(error.kind),
        head => Ok(ParsedRequest { head, is_head }),
    }
}

/// Checks fields that come behind a body; nobody asks for them.
///
/// # Errors
/// What makes the request malformed.
pub(super) fn check_trailers(list: &DecodedFields) -> Result<(), ErrorKind> {
    if list.is_too_large() {
        return Err(ErrorKind::HeadTooLarge);
    }
    for (name, value) in list.iter() {
        if name.starts_with(b":") {
            return Err(ErrorKind::PseudoField);
        }
        if !grammar::is_token(name) {
            return Err(ErrorKind::FieldName);
        }
        check_field(name, value)?;
        if grammar::find_control(value, 0).is_some() {
            return Err(ErrorKind::ControlByte);
        }
        if http1::is_forbidden_trailer(name) {
            return Err(ErrorKind::Trailer);
        }
    }
    Ok(())
}

/// What HTTP/2 asks of a field beyond what all versions do: RFC 9113, sections 8.2.1 and 8.2.2. White space around
/// a value is left out, as it is in HTTP/1, though section 8.2.1 calls it malformed: clients send it, for which
/// Apache takes it too.
fn check_field(name: &[u8], value: &[u8]) -> Result<(), ErrorKind> {
    if name.iter().any(u8::is_ascii_uppercase) {
        return Err(ErrorKind::FieldName);
    }
    // The length spares comparing nearly all names.
    let is_connection_field = match name.len() {
        2 => name == b"te" && value != b"trailers",
        7 => name == b"upgrade",
        10 => name == b"connection" || name == b"keep-alive",
        16 => name == b"proxy-connection",
        17 => name == b"transfer-encoding",
        _ => false,
    };
    if is_connection_field { Err(ErrorKind::ConnectionField) } else { Ok(()) }
}

/// Whether what has been found wrong with a request is what HTTP/2 calls malformed.
fn is_malformed(kind: ErrorKind, list: &DecodedFields) -> bool {
    match kind {
        ErrorKind::BodyMissing | ErrorKind::FieldName | ErrorKind::RequestLine => true,
        // Other control bytes are no more welcome, but may be answered.
        ErrorKind::ControlByte => {
            list.iter().any(|(_, value)| memchr::memchr3(0, b'\r', b'\n', value).is_some())
        }
        _ => false,
    }
}

impl<'a> Pseudo<'a> {
    /// Takes the pseudo-fields from the front of `list`; returns how many there are as well.
    fn take(list: &'a DecodedFields) -> Result<(Self, usize), ErrorKind> {
        let mut pseudo = Self::default();
        let mut count = 0;
        for (name, value) in list.iter() {
            let place = match name {
                b":method" => &mut pseudo.method,
                b":scheme" => &mut pseudo.scheme,
                b":path" => &mut pseudo.path,
                b":authority" => &mut pseudo.authority,
                [b':', ..] => return Err(ErrorKind::PseudoField),
                _ => break,
            };
            if place.replace(value).is_some() {
                return Err(ErrorKind::PseudoField);
            }
            count += 1;
        }
        if list.iter().skip(count).any(|(name, _)| name.starts_with(b":")) {
            return Err(ErrorKind::PseudoField);
        }
        Ok((pseudo, count))
    }

    /// Whether all are there that there must be, and no others. RFC 9113, sections 8.3.1 and 8.5.
    fn check(&self) -> Result<(), ErrorKind> {
        let is_sound = match self.method {
            Some(b"CONNECT") => self.scheme.is_none() && self.path.is_none() && self.authority.is_some(),
            Some(_) => self.scheme.is_some_and(is_scheme) && self.path.is_some_and(|path| !path.is_empty()),
            None => false,
        };
        if is_sound { Ok(()) } else { Err(ErrorKind::PseudoField) }
    }
}

/// ```abnf
/// scheme = ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )              ; RFC 3986, section 3.1
/// ```
fn is_scheme(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}
