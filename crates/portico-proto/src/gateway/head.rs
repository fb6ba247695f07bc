//! From a gateway's variables to a request head.
//!
//! What a client has sent as fields comes as `HTTP_*` (RFC 3875, section 4.1.18) and becomes fields again, with
//! hyphens for underscores, so that nothing above sees another kind of request. What the gateway itself tells
//! stays with the head as variables. The gateway has read the client's request; what it passes on is held
//! against the same limits and the same grammar all the same. Two things are taken that HTTP/1 refuses, because
//! the gateway has judged them: bytes beyond ASCII in a target, and a request without Host.

use crate::error::{Error, ErrorKind};
use crate::limits::Limits;
use crate::message::GatewayVariables;
use crate::message::{Framing, Initials, RequestHead, Span, Version};
use crate::singletons::{self, Singletons};
use crate::{grammar, http1};

/// The meaning of a variable that comes again. Fields may come again, as they may in HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// It has its last value.
    LastCounts,
    /// It must not.
    Refused,
}

/// The variables of a packet, on their way to a head.
#[derive(Debug)]
pub(crate) struct VariablesHead {
    bytes: Vec<u8>,
    repeats: Repeats,
    fields: Vec<(Span, Span)>,
    variables: Vec<(Span, Span)>,
    initials: Initials,
    singletons: Singletons,
    host: Option<Span>,
    content_length: Option<Span>,
    content_type: Option<Span>,
    transfer_encoding: bool,
}

/// The span from `start` to `end`. Packets are limited to 32 bits.
pub(crate) fn span(start: usize, end: usize) -> Span {
    Span { start: start as u32, end: end as u32 }
}

/// Variables that are no fields: nginx sends some 15, Apache with `SSLOptions +StdEnvVars` some 60.
pub(crate) const VARIABLES_MAX: usize = 256;

/// Begins the names of variables that are fields.
const FIELD_PREFIX: &[u8] = b"HTTP_";

/// Keys of environ that no gateway has a word about.
const OWN_PREFIXES: [&[u8]; 2] = [b"wsgi.", b"portico."];

/// Fields of the connection between client and gateway (RFC 9110, section 7.6.1), and those that CGI has under
/// another name. With hyphens, in capitals.
const FIELDS_LEFT_OUT: [&[u8]; 9] = [
    b"CONNECTION",
    b"CONTENT-LENGTH",
    b"CONTENT-TYPE",
    b"KEEP-ALIVE",
    b"PROXY-CONNECTION",
    b"TE",
    b"TRAILER",
    b"TRANSFER-ENCODING",
    b"UPGRADE",
];

impl VariablesHead {
    /// Nothing yet of the packet `bytes`.
    pub(crate) fn new(bytes: Vec<u8>, repeats: Repeats) -> Self {
        Self {
            bytes,
            repeats,
            fields: Vec::with_capacity(FIELDS_USUAL),
            variables: Vec::with_capacity(VARIABLES_USUAL),
            initials: Initials::default(),
            singletons: Singletons::default(),
            host: None,
            content_length: None,
            content_type: None,
            transfer_encoding: false,
        }
    }

    /// The packet.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes a variable: where its name and its value are.
    pub(crate) fn push(&mut self, name: Span, value: Span, limits: &Limits) -> Result<(), ErrorKind> {
        let name_bytes = name.of(&self.bytes);
        if name_bytes.is_empty() || !name_bytes.iter().all(u8::is_ascii_graphic) {
            return Err(ErrorKind::Variable);
        }
        if name_bytes.starts_with(FIELD_PREFIX) {
            let name = Span { start: name.start + FIELD_PREFIX.len() as u32, end: name.end };
            return self.push_field(name, value, limits);
        }
        match name_bytes {
            b"CONTENT_LENGTH" => return self.set_content_length(value),
            b"CONTENT_TYPE" => {
                self.check_line(name, value, limits)?;
                let earlier = self.content_type.replace(value);
                return self.check_repeated(earlier.is_some());
            }
            _ if OWN_PREFIXES.iter().any(|prefix| name_bytes.starts_with(prefix)) => return Ok(()),
            _ => {}
        }
        if self.variables.len() >= VARIABLES_MAX {
            return Err(ErrorKind::TooManyFields);
        }
        let earlier = self.variables.iter().position(|(other, _)| other.of(&self.bytes) == name_bytes);
        match earlier {
            Some(at) => {
                self.variables[at].1 = value;
                self.check_repeated(true)
            }
            None => {
                self.variables.push((name, value));
                Ok(())
            }
        }
    }

    fn check_repeated(&self, is_repeated: bool) -> Result<(), ErrorKind> {
        if is_repeated && self.repeats == Repeats::Refused {
            Err(ErrorKind::VariableRepeated)
        } else {
            Ok(())
        }
    }

    /// One that comes again must be the same, whatever else may: bodies have one length.
    fn set_content_length(&mut self, value: Span) -> Result<(), ErrorKind> {
        let earlier = self.content_length.replace(value);
        let same = earlier.is_none_or(|earlier| earlier.of(&self.bytes) == value.of(&self.bytes));
        if !same {
            return Err(ErrorKind::ContentLengthRepeated);
        }
        self.check_repeated(earlier.is_some())
    }

    fn check_line(&self, name: Span, value: Span, limits: &Limits) -> Result<(), ErrorKind> {
        let line_bytes = (name.end - name.start + value.end - value.start) as usize + 2;
        if line_bytes > limits.field_bytes_max {
            return Err(ErrorKind::FieldTooLong);
        }
        match grammar::find_control(value.of(&self.bytes), 0) {
            Some(_) => Err(ErrorKind::ControlByte),
            None => Ok(()),
        }
    }

    fn push_field(&mut self, name: Span, value: Span, limits: &Limits) -> Result<(), ErrorKind> {
        let name_bytes = &mut self.bytes[name.start as usize..name.end as usize];
        name_bytes.iter_mut().filter(|byte| **byte == b'_').for_each(|byte| *byte = b'-');
        let name_bytes = &*name_bytes;
        if !grammar::is_token(name_bytes) {
            return Err(ErrorKind::FieldName);
        }
        if FIELDS_LEFT_OUT.iter().any(|left_out| name_bytes.eq_ignore_ascii_case(left_out)) {
            self.transfer_encoding |= name_bytes.eq_ignore_ascii_case(b"TRANSFER-ENCODING");
            return Ok(());
        }
        if self.fields.len() >= limits.fields_max {
            return Err(ErrorKind::TooManyFields);
        }
        self.check_line(name, value, limits)?;
        let value = self.trimmed(value);
        let name_bytes = name.of(&self.bytes);
        if name_bytes.eq_ignore_ascii_case(b"HOST") {
            let host = value.of(&self.bytes);
            if self.host.is_some() {
                return Err(ErrorKind::HostRepeated);
            }
            if !host.is_empty() && !http1::is_authority(host) {
                return Err(ErrorKind::Host);
            }
            self.host = Some(value);
        }
        self.initials.insert(name_bytes[0]);
        self.singletons.note(name_bytes[0], name.end - name.start);
        self.fields.push((name, value));
        Ok(())
    }

    fn trimmed(&self, value: Span) -> Span {
        let bytes = value.of(&self.bytes);
        let trimmed = grammar::trim(bytes);
        let start = bytes.iter().position(|&byte| !grammar::is_blank(byte)).unwrap_or_default() as u32;
        Span { start: value.start + start, end: value.start + start + trimmed.len() as u32 }
    }

    fn variable(&self, name: &[u8]) -> Option<Span> {
        self.variables.iter().find(|(other, _)| other.of(&self.bytes) == name).map(|(_, value)| *value)
    }

    /// Whether the request is a HEAD.
    pub(crate) fn is_head(&self) -> bool {
        self.variable(b"REQUEST_METHOD").is_some_and(|method| method.of(&self.bytes) == b"HEAD")
    }

    /// Whether CONTENT_LENGTH is told and not empty.
    pub(crate) fn has_length(&self) -> bool {
        self.content_length.is_some_and(|value| value.start < value.end)
    }

    /// Whether the client has sent a body of a length that is not told.
    pub(crate) fn lacks_length(&self) -> bool {
        self.transfer_encoding && !self.has_length()
    }

    /// The head, if the variables make one.
    pub(crate) fn finish(mut self, limits: &Limits) -> Result<Box<RequestHead>, Error> {
        let packet_bytes = self.bytes.len() as u32;
        let method = self.variable(b"REQUEST_METHOD").unwrap_or_default();
        let method_bytes = method.of(&self.bytes);
        if !grammar::is_token(method_bytes) {
            return Err(ErrorKind::Variable.into());
        }
        if method_bytes == b"CONNECT" {
            return Err(ErrorKind::Connect.into());
        }
        let framing = self.framing(limits)?;
        if self.singletons.check(&self.bytes, &self.fields)? {
            singletons::keep_first(&self.bytes, &mut self.fields);
        }
        let told = self.variable(b"REQUEST_URI").filter(|target| target.start < target.end);
        let target = told.unwrap_or_else(|| self.append_target());
        let line_bytes = method.end - method.start + target.end - target.start + LINE_BYTES_AROUND;
        if line_bytes as usize > limits.request_line_bytes_max {
            return Err(ErrorKind::RequestLineTooLong.into());
        }
        let told_query = self.variable(b"QUERY_STRING");
        if told_query.is_some_and(|query| !http1::is_passed_on(query.of(&self.bytes))) {
            return Err(ErrorKind::Target.into());
        }
        let method_bytes = method.of(&self.bytes);
        let parts =
            http1::parse_passed_on_target(method_bytes, target.of(&self.bytes)).ok_or(ErrorKind::Target)?;
        let shifted = |part: Span| Span { start: part.start + target.start, end: part.end + target.start };
        let version = self.variable(b"SERVER_PROTOCOL").unwrap_or_default();
        let version = match version.of(&self.bytes) {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/2.0" | b"HTTP/2" => Version::Http2,
            b"HTTP/3.0" | b"HTTP/3" => Version::Http3,
            _ => Version::Http10,
        };
        if let Some(value) = self.content_type.filter(|value| value.start < value.end) {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(b"Content-Type");
            self.initials.insert(b'C');
            self.fields.push((span(start, self.bytes.len()), self.trimmed(value)));
        }
        Ok(Box::new(RequestHead {
            bytes: self.bytes.into(),
            method,
            target,
            path: shifted(parts.path),
            query: told_query.unwrap_or_else(|| shifted(parts.query)),
            authority: self.host.filter(|host| host.start < host.end),
            field_lines: Span::default(),
            fields: self.fields,
            dropped: Vec::new(),
            initials: self.initials,
            edited: false,
            sent_bytes: packet_bytes,
            gateway: Some(Box::new(GatewayVariables { variables: self.variables })),
            version,
            framing,
            keep_alive: false,
            expect_continue: false,
            websocket: false,
        }))
    }

    fn framing(&self, limits: &Limits) -> Result<Framing, ErrorKind> {
        let Some(value) = self.content_length.filter(|value| value.start < value.end) else {
            return Ok(Framing::None);
        };
        let length = grammar::decimal(value.of(&self.bytes)).ok_or(ErrorKind::ContentLength)?;
        if limits.body_bytes_max != 0 && length > limits.body_bytes_max {
            return Err(ErrorKind::BodyTooLarge);
        }
        Ok(Framing::Length(length))
    }

    /// Makes a target of SCRIPT_NAME, PATH_INFO and QUERY_STRING, for a gateway that tells no REQUEST_URI.
    fn append_target(&mut self) -> Span {
        let value = |name: &[u8]| self.variable(name).unwrap_or_default().of(&self.bytes);
        let mut target = Vec::new();
        for &byte in value(b"SCRIPT_NAME").iter().chain(value(b"PATH_INFO")) {
            if grammar::is(byte, grammar::REG_NAME) || matches!(byte, b'/' | b':' | b'@') {
                target.push(byte);
            } else {
                let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value & 0xf)];
                target.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte)]);
            }
        }
        if target.is_empty() {
            target.push(b'/');
        }
        let query = value(b"QUERY_STRING");
        if !query.is_empty() {
            target.push(b'?');
            target.extend_from_slice(query);
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&target);
        span(start, self.bytes.len())
    }
}

/// Room for the fields and variables that most requests have.
const FIELDS_USUAL: usize = 16;
const VARIABLES_USUAL: usize = 24;

/// Bytes of a request line beside method and target.
const LINE_BYTES_AROUND: u32 = 10;
