//! What a request and a response are, whatever protocol carried them.
//!
//! Owns no parsing: `http1` (and later protocols) fill these in.

/// A range of bytes inside the buffer of the message that it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes that this span names in `buffer`; empty where the span does not lie within it.
    #[inline]
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        buffer.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// A set of letters with which names of fields begin, whatever their case: tells of most names at once that
/// they are not among a request's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Initials(u32);

impl Initials {
    /// Adds the first letter of a name.
    #[inline]
    pub fn insert(&mut self, first: u8) {
        // Small and large letters have the same low five bits; what is no letter shares one's bit.
        self.0 |= 1 << (first & 0x1f);
    }
    /// Whether the first letter of `name` is in the set.
    #[inline]
    pub fn has(self, name: &[u8]) -> bool {
        name.first().is_some_and(|first| self.0 & 1 << (first & 0x1f) != 0)
    }
    /// Whether a letter is in both sets.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// HTTP version of a message. RFC 9110, section 2.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
    /// HTTP/3; only gateways tell of it.
    Http3,
}

/// The delimiting of a request's body. RFC 9112, section 6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// Exactly this many bytes (`Content-Length`); may be 0.
    Length(u64),
    /// By marks in the stream: `Transfer-Encoding: chunked`, or the end of a stream whose length was not told.
    Chunked,
}

/// A parsed request head: one owned buffer and spans into it.
///
/// Every invariant of RFC 9112 that the strict parser checks holds: the method is a token, the target has one
/// of the four forms, names are tokens, values have no control bytes but HTAB, framing is unambiguous.
///
/// Many fields, because a head has as many parts: each is found once, by the parser, and read without another
/// search.
#[derive(Clone, Debug)]
pub struct RequestHead {
    pub(crate) bytes: Box<[u8]>,
    pub(crate) method: Span,
    pub(crate) target: Span,
    pub(crate) path: Span,
    pub(crate) query: Span,
    pub(crate) authority: Option<Span>,
    pub(crate) field_lines: Span,
    pub(crate) fields: Vec<(Span, Span)>,
    pub(crate) dropped: Vec<(Span, Span)>,
    pub(crate) initials: Initials,
    pub(crate) edited: bool,
    /// Bytes that were sent. What is behind them in the buffer the server has added.
    pub(crate) sent_bytes: u32,
    pub(crate) gateway: Option<Box<GatewayVariables>>,
    /// Version that the peer speaks.
    pub version: Version,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the peer wants the connection kept (RFC 9112, section 9.3).
    pub keep_alive: bool,
    /// Whether the peer waits for `100 Continue` before it sends the body (RFC 9110, section 10.1.1).
    pub expect_continue: bool,
    /// Whether the peer asks to go on with a WebSocket on this connection (RFC 6455, section 4.2.1).
    pub websocket: bool,
}

/// The parts of a head that came through a gateway: variables, after the manner of CGI (RFC 3875).
#[derive(Clone, Debug)]
pub(crate) struct GatewayVariables {
    /// Names and values that are no fields.
    pub(crate) variables: Vec<(Span, Span)>,
}

impl RequestHead {
    /// Memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        let spans = self.fields.capacity() + self.dropped.capacity();
        size_of::<Self>() + self.bytes.len() + spans * size_of::<(Span, Span)>()
    }

    /// The whole head as it came: for HTTP/1 from the request line to the empty line that ends it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.sent_bytes as usize]
    }
    /// Whether it came through a gateway (uwsgi, SCGI, FastCGI), which tells of its client in
    /// [`RequestHead::variables`].
    #[inline]
    pub fn is_gateway(&self) -> bool {
        self.gateway.is_some()
    }
    /// The gateway's variables that are no fields, such as SCRIPT_NAME, REMOTE_ADDR and HTTPS: names, each once,
    /// and values. There are none where the request did not come through a gateway.
    pub fn variables(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        let variables = self.gateway.as_deref().map_or(&[][..], |gateway| &gateway.variables);
        variables.iter().map(|(name, value)| (name.of(&self.bytes), value.of(&self.bytes)))
    }
    /// The gateway's variable with this name.
    pub fn variable(&self, name: &[u8]) -> Option<&[u8]> {
        self.variables().find(|(other, _)| *other == name).map(|(_, value)| value)
    }
    /// Method, as sent.
    #[inline]
    pub fn method(&self) -> &[u8] {
        self.method.of(&self.bytes)
    }
    /// Request target, as sent.
    #[inline]
    pub fn target(&self) -> &[u8] {
        self.target.of(&self.bytes)
    }
    /// Path part of the target, still percent-encoded. `*` in asterisk-form, `/` where absolute-form has
    /// none.
    pub fn path(&self) -> &[u8] {
        let path = self.path.of(&self.bytes);
        if path.is_empty() { b"/" } else { path }
    }
    /// Query part of the target without the `?`; empty if there is none.
    pub fn query(&self) -> &[u8] {
        self.query.of(&self.bytes)
    }
    /// Host and port asked for: the authority of an absolute-form target, else the Host field (RFC 9112,
    /// section 3.2.2: the field is then to be ignored). `None` where neither names a host.
    pub fn authority(&self) -> Option<&[u8]> {
        self.authority.map(|span| span.of(&self.bytes))
    }
    /// All field lines as they came, line ends included: equal bytes mean equal fields.
    pub fn field_lines(&self) -> &[u8] {
        self.field_lines.of(&self.bytes)
    }
    /// Names and values in order of arrival; values without surrounding white space. Names that were dropped
    /// (see [`RequestHead::dropped`]) are not among them.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(name, value)| (name.of(&self.bytes), value.of(&self.bytes)))
    }
    /// First value of the field with this name, compared without regard to case.
    pub fn field(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
    /// The value of the field of that name; `None` if it is there more than once.
    pub fn sole_field(&self, name: &[u8]) -> Option<&[u8]> {
        if !self.initials().has(name) {
            return None;
        }
        let mut named = self.fields().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        named.next().filter(|_| named.next().is_none()).map(|(_, value)| value)
    }

    /// Names that were dropped because they hold an underscore, so that `X_Y` cannot pose as `X-Y`.
    pub fn dropped(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.dropped.iter().map(|(name, _)| name.of(&self.bytes))
    }
    /// With which letters the names of fields begin that are not dropped.
    pub fn initials(&self) -> Initials {
        self.initials
    }
    /// Removes the fields of which `keep`, given name and value, says no.
    pub fn retain_fields(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let before = self.fields.len();
        let bytes = &self.bytes;
        self.fields.retain(|(name, value)| keep(name.of(bytes), value.of(bytes)));
        self.edited |= self.fields.len() != before;
    }
    /// Adds fields behind the others. The caller has checked names (tokens) and values (no CR, LF, NUL).
    pub fn add_fields<'f>(&mut self, fields: impl Iterator<Item = (&'f str, &'f str)>) {
        let mut bytes = std::mem::take(&mut self.bytes).into_vec();
        let mut append = |text: &str| {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(text.as_bytes());
            Span { start, end: bytes.len() as u32 }
        };
        for (name, value) in fields {
            self.fields.push((append(name), append(value)));
            name.bytes().take(1).for_each(|first| self.initials.insert(first));
            self.edited = true;
        }
        self.bytes = bytes.into_boxed_slice();
    }
    /// Has this path, percent-encoded, stand in for that of the target, which stays as it was sent.
    pub fn set_path(&mut self, path: &str) {
        self.path = self.append(path.as_bytes());
    }
    /// Sets a variable of the gateway that the request came through.
    pub fn set_variable(&mut self, name: &[u8], value: &[u8]) {
        if self.gateway.is_none() {
            return;
        }
        let (name_span, value) = (self.append(name), self.append(value));
        let bytes = &self.bytes;
        let Some(gateway) = &mut self.gateway else { return };
        gateway.variables.retain(|(other, _)| other.of(bytes) != name);
        gateway.variables.push((name_span, value));
    }
    /// Adds bytes that were not sent.
    fn append(&mut self, added: &[u8]) -> Span {
        let mut bytes = std::mem::take(&mut self.bytes).into_vec();
        let start = bytes.len() as u32;
        bytes.extend_from_slice(added);
        self.bytes = bytes.into_boxed_slice();
        Span { start, end: self.bytes.len() as u32 }
    }
    /// Puts those dropped fields of whose names `restore` says yes behind the others after all.
    pub fn restore_dropped(&mut self, mut restore: impl FnMut(&[u8]) -> bool) {
        let bytes = &self.bytes;
        let (restored, dropped): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.dropped).into_iter().partition(|(name, _)| restore(name.of(bytes)));
        self.edited |= !restored.is_empty();
        self.fields.extend(restored);
        self.dropped = dropped;
    }
    /// Whether fields have been removed or restored: [`RequestHead::field_lines`] tell another tale.
    pub fn is_edited(&self) -> bool {
        self.edited
    }
    /// Memory that this head holds, in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.fields.len() * size_of::<(Span, Span)>()
    }
}

/// Field lines of a response, kept in the form in which HTTP/1 sends them (`name: value CRLF`).
#[derive(Clone, Debug, Default)]
pub struct Fields {
    lines: Vec<u8>,
    spans: Vec<(Span, Span)>,
    has_date: bool,
    has_server: bool,
}

impl Fields {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }
    /// Adds a field. The caller has checked name (a token) and value (no CR, LF, NUL).
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        match name.len() {
            4 => self.has_date |= name.eq_ignore_ascii_case(b"date"),
            6 => self.has_server |= name.eq_ignore_ascii_case(b"server"),
            _ => {}
        }
        if self.spans.is_empty() {
            self.lines.reserve(LINES_BYTES_USUAL);
            self.spans.reserve(FIELDS_USUAL);
        }
        self.lines.reserve(name.len() + value.len() + 4);
        let start = self.lines.len();
        self.lines.extend_from_slice(name);
        self.lines.extend_from_slice(b": ");
        self.lines.extend_from_slice(value);
        self.lines.extend_from_slice(b"\r\n");
        let name_end = start + name.len();
        let value_start = name_end + 2;
        let value_end = value_start + value.len();
        self.spans.push((
            Span { start: start as u32, end: name_end as u32 },
            Span { start: value_start as u32, end: value_end as u32 },
        ));
    }
    /// Names and values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.spans.iter().map(|(name, value)| (name.of(&self.lines), value.of(&self.lines)))
    }
    /// First value of the field with this name, compared without regard to case.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
    /// The lines as HTTP/1 sends them.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }
    /// Forgets all fields and keeps the memory.
    pub fn clear(&mut self) {
        self.lines.clear();
        self.spans.clear();
        (self.has_date, self.has_server) = (false, false);
    }
    /// Whether Date is among them. Noted as it is added: every response asks.
    pub(crate) fn has_date(&self) -> bool {
        self.has_date
    }
    /// Whether Server is among them. Noted as it is added: every response asks.
    pub(crate) fn has_server(&self) -> bool {
        self.has_server
    }
    /// Number of fields.
    pub fn len(&self) -> usize {
        self.spans.len()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}

/// Head of a response as the application gave it. `Content-Length` is not among `fields`: it is `length`.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// Status code, 200 to 999 (interim responses have parts of their own).
    pub status: u16,
    /// Reason phrase; may be empty.
    pub reason: Vec<u8>,
    /// Fields, `Content-Length`, `Transfer-Encoding` and `Connection` left out.
    pub fields: Fields,
    /// Length of the body in bytes where it is known before the body is sent.
    pub length: Option<u64>,
    /// Whether the application wants the client's connection closed after it (`Connection: close`). Gateways keep
    /// theirs: it is none of a client's.
    pub close: bool,
}

/// Room for the field lines that most responses have, so that adding them one by one allocates once.
const LINES_BYTES_USUAL: usize = 256;
/// Likewise, their number.
const FIELDS_USUAL: usize = 8;
