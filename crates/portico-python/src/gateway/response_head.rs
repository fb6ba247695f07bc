//! What `start_response` accepts as status and headers, and why it refuses the rest (PEP 3333, "The
//! start_response() Callable"; RFC 9110, section 5).
//!
//! What breaks a rule of PEP 3333 and can be put right is put right, with a warning (`lapses`): applications that
//! do it run on other servers. `--strict-wsgi` has it refused.

use pyo3::exceptions::{PyAssertionError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};

use portico_proto::{ResponseHead, decimal, is_field_value, is_token};

use super::lapses::{Lapse, Lapses};

/// Fields that one response may have.
pub(crate) const FIELDS_MAX: usize = 1000;
/// Bytes that the field lines of one response may have.
pub(crate) const FIELD_BYTES_MAX: usize = 1024 * 1024;

/// The rule that status or headers break. It has the objects that it is about and has asked them nothing: what
/// they say of themselves is code of the application's, which must not run where a lock is held.
pub(crate) enum HeadRefusal<'py> {
    /// The status is no `str`.
    StatusClass(Bound<'py, PyAny>),
    /// The status breaks a rule.
    Status(Bound<'py, PyString>, &'static str),
    /// The headers are no `list`.
    HeadersClass(Bound<'py, PyAny>),
    /// A header is no tuple of two.
    Pair(Bound<'py, PyAny>),
    /// A header's name is no `str`.
    NameClass(Bound<'py, PyAny>),
    /// A header's name is no token.
    Name(Bound<'py, PyString>),
    /// The value of this header is no `str`.
    ValueClass(Bound<'py, PyString>, Bound<'py, PyAny>),
    /// This header breaks a rule.
    Header(Bound<'py, PyString>, &'static str),
    /// This header breaks a rule that is kept only with `--strict-wsgi`.
    Lapse(Bound<'py, PyString>, Lapse),
    /// The list has become shorter meanwhile.
    Raised(PyErr),
}

/// Characters of an object's `repr`, or of a header's name, that a message shows.
const SHOWN_CHARS_MAX: usize = 120;

/// The head of one response while it is read from what `start_response` was given.
pub(crate) struct Filling<'a> {
    head: &'a mut ResponseHead,
    /// What is put right otherwise is refused.
    is_strict: bool,
    lapses: Lapses,
}

/// Checks `status` and `headers` and puts them into `head`, whose former content is dropped. Calls nothing of the
/// application's. Returns what was put right.
///
/// # Errors
/// Status and names and values of headers must be `str`, and what can stand in a head; there must not be too much
/// of them; a Content-Length is a number. `is_strict`: nothing is put right.
pub(crate) fn fill<'py>(
    head: &mut ResponseHead,
    (status, headers): (&Bound<'py, PyAny>, &Bound<'py, PyAny>),
    is_strict: bool,
) -> Result<Lapses, HeadRefusal<'py>> {
    head.fields.clear();
    head.reason.clear();
    (head.length, head.close) = (None, false);
    let mut filling = Filling { head, is_strict, lapses: Lapses::default() };
    filling.take_status(status)?;
    if let Ok(headers) = headers.cast::<PyList>() {
        for index in 0..headers.len() {
            filling.take_header(&headers.get_item(index).map_err(HeadRefusal::Raised)?)?;
        }
    } else {
        let tuple = headers.cast::<PyTuple>().ok().filter(|_| !is_strict);
        let tuple = tuple.ok_or_else(|| HeadRefusal::HeadersClass(headers.clone()))?;
        filling.lapses.add(Lapse::HeadersClass);
        for header in tuple {
            filling.take_header(&header)?;
        }
    }
    Ok(filling.lapses)
}

impl Filling<'_> {
    fn take_status<'py>(&mut self, status: &Bound<'py, PyAny>) -> Result<(), HeadRefusal<'py>> {
        let text = status.cast::<PyString>().map_err(|_| HeadRefusal::StatusClass(status.clone()))?;
        let refuse = |rule| Err(HeadRefusal::Status(text.clone(), rule));
        let mut buffer = Vec::new();
        let Some(bytes) = latin1_bytes(text.to_str().unwrap_or("\u{fffd}"), &mut buffer) else {
            return refuse("only latin-1 characters can be sent");
        };
        let (code, reason) = match *bytes {
            [a, b, c, b' ', ref reason @ ..] => ([a, b, c], reason),
            [a, b, c] if !self.is_strict => {
                self.lapses.add(Lapse::StatusWithoutReason);
                ([a, b, c], &b""[..])
            }
            _ => return refuse("it must be three digits, a space and a reason"),
        };
        if !code.iter().all(u8::is_ascii_digit) {
            return refuse("it must be three digits, a space and a reason");
        }
        if !is_field_value(reason) {
            return refuse("control characters are not allowed");
        }
        let number = code.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
        if number < 200 {
            return refuse("interim (1xx) and lower statuses cannot be a response");
        }
        self.head.status = number;
        self.head.reason.extend_from_slice(reason);
        Ok(())
    }

    fn take_header<'py>(&mut self, item: &Bound<'py, PyAny>) -> Result<(), HeadRefusal<'py>> {
        let Some(pair) = item.cast::<PyTuple>().ok().filter(|pair| pair.len() == 2) else {
            return self.take_listed(item);
        };
        let part = |index| pair.get_borrowed_item(index).map_err(HeadRefusal::Raised);
        let (name, value) = (part(0)?, part(1)?);
        self.take_field(&name, &value)
    }

    /// Takes a header that is no tuple of two.
    #[cold]
    fn take_listed<'py>(&mut self, item: &Bound<'py, PyAny>) -> Result<(), HeadRefusal<'py>> {
        match item.cast::<PyList>() {
            Ok(pair) if pair.len() == 2 && !self.is_strict => {
                self.lapses.add(Lapse::HeaderClass);
                let part = |index| pair.get_item(index).map_err(HeadRefusal::Raised);
                self.take_field(&part(0)?, &part(1)?)
            }
            _ => Err(HeadRefusal::Pair(item.clone())),
        }
    }

    // The path of every header of every response.
    #[inline(always)]
    fn take_field<'py>(
        &mut self,
        name_object: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
    ) -> Result<(), HeadRefusal<'py>> {
        let name_object =
            name_object.cast::<PyString>().map_err(|_| HeadRefusal::NameClass(name_object.clone()))?;
        let name = name_object.to_str().unwrap_or("\u{fffd}");
        if !is_token(name.as_bytes()) {
            return Err(HeadRefusal::Name(name_object.clone()));
        }
        let value = value
            .cast::<PyString>()
            .map_err(|_| HeadRefusal::ValueClass(name_object.clone(), value.clone()))?;
        let refuse = |rule| Err(HeadRefusal::Header(name_object.clone(), rule));
        let mut buffer = Vec::new();
        let Some(value) = latin1_bytes(value.to_str().unwrap_or("\u{fffd}"), &mut buffer) else {
            return refuse("only latin-1 characters can be sent in its value");
        };
        if !is_field_value(value) {
            return refuse("control characters such as CR and LF are not allowed in its value");
        }
        match Rule::of(name) {
            Rule::None => {}
            Rule::Length => return set_length(self.head, value).or_else(refuse),
            Rule::Lapse(lapse) if self.is_strict => {
                return Err(HeadRefusal::Lapse(name_object.clone(), lapse));
            }
            Rule::Lapse(lapse) if !self.passes(lapse, value) => return Ok(()),
            Rule::Lapse(_) => {}
        }
        if self.head.fields.len() >= FIELDS_MAX
            || self.head.fields.lines().len() + name.len() + value.len() > FIELD_BYTES_MAX
        {
            return refuse("too much: at most 1,000 headers of 1 MiB in all can be sent");
        }
        self.head.fields.push(name.as_bytes(), value);
        Ok(())
    }

    /// Whether a header that is not the application's to set is sent all the same.
    #[cold]
    fn passes(&mut self, lapse: Lapse, value: &[u8]) -> bool {
        let (is_lawful, is_sent) = match lapse {
            // A 426 tells by it what to upgrade to, a 407 how to log in (RFC 9110, sections 15.5.22 and 15.5.8).
            Lapse::Upgrade => (self.head.status == 426, self.head.status == 426),
            Lapse::ProxyAuthenticate => (self.head.status == 407, self.head.status == 407),
            // What it announces will be missed by nobody: recipients may do without (RFC 9110, section 6.5).
            Lapse::Trailer => (false, true),
            Lapse::Connection => (self.take_connection(value), false),
            _ => (false, false),
        };
        if !is_lawful {
            self.lapses.add(lapse);
        }
        is_sent
    }

    /// Takes the options of a `Connection`; whether the server follows all of them.
    fn take_connection(&mut self, value: &[u8]) -> bool {
        let mut follows = true;
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            let is_close = option.eq_ignore_ascii_case(b"close");
            self.head.close |= is_close;
            // Of an upgrade it tells itself.
            follows &= is_close || self.head.status == 426 && option.eq_ignore_ascii_case(b"upgrade");
        }
        follows
    }
}

/// Takes `Content-Length`, which frames the response and therefore is no field like others (RFC 9110, section
/// 8.6).
fn set_length(head: &mut ResponseHead, value: &[u8]) -> Result<(), &'static str> {
    let Some(length) = decimal(value.trim_ascii()) else {
        return Err("its value must be a decimal number of bytes");
    };
    if head.length.is_some_and(|earlier| earlier != length) {
        return Err("it is given twice with different values");
    }
    head.length = Some(length);
    Ok(())
}

impl HeadRefusal<'_> {
    /// `TypeError` for what is not of the classes that PEP 3333 names, `ValueError` for what cannot stand in a
    /// head, `AssertionError` for hop-by-hop fields, as wsgiref raises it. Each names the field. Asks the objects
    /// for their `repr`.
    pub(crate) fn into_error(self) -> PyErr {
        match self {
            Self::StatusClass(status) => {
                PyTypeError::new_err(format!("the status must be a str, not {}", class_name(&status)))
            }
            Self::Status(status, rule) => PyValueError::new_err(format!("status {}: {rule}", shown(&status))),
            Self::HeadersClass(headers) => {
                PyTypeError::new_err(format!("response headers must be a list, not {}", class_name(&headers)))
            }
            Self::Pair(item) => PyTypeError::new_err(format!(
                "each response header must be a tuple (name, value), not {}",
                shown(&item)
            )),
            Self::NameClass(name) => PyTypeError::new_err(format!(
                "header name {}: it must be a str, not {}",
                shown(&name),
                class_name(&name)
            )),
            Self::Name(name) => PyValueError::new_err(format!(
                "header name {}: it is not a token (RFC 9110, section 5.1)",
                shown(&name)
            )),
            Self::ValueClass(name, value) => PyTypeError::new_err(format!(
                "header {}: its value must be a str, not {}",
                beginning(&name),
                class_name(&value)
            )),
            Self::Header(name, rule) => PyValueError::new_err(format!("header {}: {rule}", beginning(&name))),
            Self::Lapse(name, lapse) => {
                PyAssertionError::new_err(format!("header {}: {} (PEP 3333)", beginning(&name), lapse.rule()))
            }
            Self::Raised(error) => error,
        }
    }
}

/// The treatment of a field because of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    None,
    Length,
    /// It is not the application's to set.
    Lapse(Lapse),
}

impl Rule {
    /// By length first: most names are told apart without a comparison.
    #[inline]
    fn of(name: &str) -> Self {
        match name.len() {
            14 if is_content_length(name) => Self::Length,
            2 | 7 | 8 | 10 | 16..=19 => Self::of_lapse(name),
            _ => Self::None,
        }
    }

    fn of_lapse(name: &str) -> Self {
        let known: &[(&str, Lapse)] = match name.len() {
            2 => &[("te", Lapse::Te)],
            7 => &[("upgrade", Lapse::Upgrade), ("trailer", Lapse::Trailer)],
            8 => &[("trailers", Lapse::Trailers)],
            10 => &[("connection", Lapse::Connection), ("keep-alive", Lapse::KeepAlive)],
            16 => &[("proxy-connection", Lapse::ProxyConnection)],
            17 => &[("transfer-encoding", Lapse::TransferEncoding)],
            18 => &[("proxy-authenticate", Lapse::ProxyAuthenticate)],
            _ => &[("proxy-authorization", Lapse::ProxyAuthorization)],
        };
        let known = known.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
        known.map_or(Self::None, |(_, lapse)| Self::Lapse(*lapse))
    }
}

/// Whether a token is `Content-Length`. Of a token's bytes none but an upper-case letter becomes a lower-case one
/// by this bit, and none becomes a hyphen.
#[inline]
fn is_content_length(token: &str) -> bool {
    <[u8; 14]>::try_from(token.as_bytes())
        .is_ok_and(|bytes| bytes.map(|byte| byte | 0x20) == *b"content-length")
}

/// `text` as latin-1, in place where it is ASCII; `None` if a character does not fit.
fn latin1_bytes<'b>(text: &'b str, buffer: &'b mut Vec<u8>) -> Option<&'b [u8]> {
    if text.is_ascii() {
        return Some(text.as_bytes());
    }
    for character in text.chars() {
        buffer.push(u8::try_from(u32::from(character)).ok()?);
    }
    Some(buffer)
}

fn class_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map(|name| name.to_string()).unwrap_or_default()
}

/// The beginning of the text.
fn beginning(text: &Bound<'_, PyString>) -> String {
    text.to_string_lossy().chars().take(SHOWN_CHARS_MAX).collect()
}

/// The beginning of the object's `repr`, of which no more is made as far as that is Python's own to say: a list of
/// a million items is asked for its first ones.
fn shown(object: &Bound<'_, PyAny>) -> String {
    let shown = || -> PyResult<String> {
        let bounded = object.py().import("reprlib")?.getattr("Repr")?.call0()?;
        for limit in ["maxstring", "maxother", "maxlong"] {
            bounded.setattr(limit, SHOWN_CHARS_MAX)?;
        }
        Ok(bounded.call_method1("repr", (object,))?.cast::<PyString>()?.to_string_lossy().into_owned())
    };
    shown().unwrap_or_else(|_| class_name(object)).chars().take(SHOWN_CHARS_MAX).collect()
}
