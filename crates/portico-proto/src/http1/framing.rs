//! Decides how a request's body is delimited and whether the connection is kept (RFC 9112, sections 6.3 and
//! 9.3).
//!
//! There is one way to frame a body: `Transfer-Encoding: chunked` or one Content-Length. Whatever a peer in
//! front of us could read otherwise is refused, never repaired.

use super::target;
use crate::error::{Error, ErrorKind};
use crate::grammar;
use crate::limits::Limits;
use crate::message::{Framing, Initials, Span, Version};
use crate::singletons::Singletons;

/// The fields that concern the message itself rather than the application: they decide framing and the connection.
/// Many booleans, because each notes that one field, or one option of it, has been seen.
#[derive(Default)]
pub(crate) struct Control {
    host: Option<Span>,
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    continue_expected: bool,
    websocket: bool,
    initials: Initials,
    repeats: bool,
}

impl Control {
    /// Reads it from `fields`, spans into `bytes`; the first field that is wrong decides the error.
    pub(crate) fn gather(bytes: &[u8], fields: &[(Span, Span)]) -> Result<Self, Error> {
        let mut control = Self::default();
        let mut singletons = Singletons::default();
        for &(name, value) in fields {
            let first = bytes.get(name.start as usize).copied().unwrap_or_default();
            control.initials.insert(first);
            // Looking at the length first spares comparing nearly all other names.
            let length = name.end - name.start;
            let names: &[u8] = match length {
                4 => b"host",
                5 | 8 | 12 | 13 | 19 | 21 => {
                    singletons.note(first, length);
                    continue;
                }
                6 => {
                    singletons.note(first, length);
                    b"expect"
                }
                7 => b"upgrade",
                10 => b"connection",
                14 => b"content-length",
                17 => {
                    singletons.note(first, length);
                    b"transfer-encoding"
                }
                _ => continue,
            };
            if !name.of(bytes).eq_ignore_ascii_case(names) {
                continue;
            }
            match names.len() {
                4 => control.take_host(bytes, value)?,
                6 => control.take_expect(value.of(bytes))?,
                7 => control.take_upgrade(value.of(bytes)),
                10 => control.take_connection(value.of(bytes)),
                14 => control.take_content_length(value.of(bytes))?,
                _ => control.take_transfer_encoding(value.of(bytes))?,
            }
        }
        control.repeats = singletons.check(bytes, fields)?;
        Ok(control)
    }

    /// Whether singletons are repeated, so that the fields are to be passed through
    /// [`keep_first`](crate::singletons::keep_first).
    pub(crate) fn has_repeats(&self) -> bool {
        self.repeats
    }

    /// Whether the peer asks to go on with a WebSocket. RFC 6455, section 4.2.1: by a GET of HTTP/1.1 without a
    /// body.
    pub(crate) fn asks_for_websocket(&self, method: &[u8], version: Version, framing: Framing) -> bool {
        self.websocket
            && method == b"GET"
            && version == Version::Http11
            && matches!(framing, Framing::None | Framing::Length(0))
    }

    /// How the body is delimited. RFC 9112, section 6.3.
    pub(crate) fn framing(&self, version: Version, limits: &Limits) -> Result<Framing, Error> {
        if self.chunked {
            if version < Version::Http11 {
                return Err(ErrorKind::TransferEncodingInHttp10.into());
            }
            if self.content_length.is_some() {
                return Err(ErrorKind::FramingConflict.into());
            }
            return Ok(Framing::Chunked);
        }
        match self.content_length {
            None => Ok(Framing::None),
            Some(length) if limits.body_bytes_max != 0 && length > limits.body_bytes_max => {
                Err(ErrorKind::BodyTooLarge.into())
            }
            Some(length) => Ok(Framing::Length(length)),
        }
    }

    /// The Host field's value. An empty one names no host: it says that the target has no authority (RFC
    /// 9112, section 3.2).
    pub(crate) fn host(&self, version: Version) -> Result<Option<Span>, Error> {
        if self.host.is_none() && version >= Version::Http11 {
            return Err(ErrorKind::HostMissing.into());
        }
        Ok(self.host.filter(|host| host.start < host.end))
    }

    /// With which letters the names of the fields begin.
    pub(crate) fn initials(&self) -> Initials {
        self.initials
    }

    /// Whether the peer wants the connection kept. RFC 9112, section 9.3.
    pub(crate) fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version >= Version::Http11 || self.keep_alive)
    }

    /// Whether the peer waits for `100 Continue`. An HTTP/1.0 proxy may have passed the field on without
    /// knowing it, so there it is ignored; without a body there is nothing to wait with (RFC 9110, section
    /// 10.1.1).
    pub(crate) fn expect_continue(&self, version: Version, framing: Framing) -> bool {
        let has_body = !matches!(framing, Framing::None | Framing::Length(0));
        self.continue_expected && has_body && version >= Version::Http11
    }

    fn take_host(&mut self, bytes: &[u8], value: Span) -> Result<(), Error> {
        if self.host.is_some() {
            return Err(ErrorKind::HostRepeated.into());
        }
        if value.start < value.end && !target::is_authority(value.of(bytes)) {
            return Err(ErrorKind::Host.into());
        }
        self.host = Some(value);
        Ok(())
    }

    fn take_expect(&mut self, value: &[u8]) -> Result<(), Error> {
        for expectation in grammar::list(value) {
            if !expectation.eq_ignore_ascii_case(b"100-continue") {
                return Err(ErrorKind::Expectation.into());
            }
            self.continue_expected = true;
        }
        Ok(())
    }

    fn take_upgrade(&mut self, value: &[u8]) {
        self.websocket |= grammar::list(value).any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
    }

    fn take_connection(&mut self, value: &[u8]) {
        for option in grammar::list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// `Content-Length = 1*DIGIT`. RFC 9112, section 6.3 allows a list of equal numbers to be taken as one
    /// number, or refused.
    fn take_content_length(&mut self, value: &[u8]) -> Result<(), Error> {
        if self.content_length.is_some() {
            return Err(ErrorKind::ContentLengthRepeated.into());
        }
        self.content_length = Some(grammar::decimal(value).ok_or(ErrorKind::ContentLength)?);
        Ok(())
    }

    /// A coding that we do not know is told as such (501) only where the framing would have been sound: the
    /// value is a list of tokens in which `chunked` comes once at most, and last (RFC 9112, section 6.1).
    fn take_transfer_encoding(&mut self, value: &[u8]) -> Result<(), Error> {
        if !self.chunked && value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        let mut codings = value.split(|&byte| byte == b',').map(grammar::trim).peekable();
        let mut sound = !self.chunked;
        while let Some(coding) = codings.next() {
            let is_last = codings.peek().is_none();
            let name_end = memchr::memchr(b';', coding).unwrap_or(coding.len());
            let (name, parameters) = coding.split_at(name_end);
            sound &= grammar::is_token(grammar::trim(name));
            if grammar::trim(name).eq_ignore_ascii_case(b"chunked") {
                sound &= is_last && parameters.is_empty();
            }
        }
        Err(if sound { ErrorKind::TransferCoding } else { ErrorKind::TransferEncoding }.into())
    }
}
