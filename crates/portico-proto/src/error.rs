//! What a peer can do wrong, and which status it is told.

use std::fmt;

/// A message that cannot be served. The connection is closed after the response: its framing is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// What was wrong.
    pub kind: ErrorKind,
    /// The status to answer; 0 where nothing is: the peer does not speak this protocol.
    pub status: u16,
}

/// The fault of a message. Each names the section that forbids it and the status that answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A CR without LF. RFC 9112, section 2.2: 400.
    BareCr,
    /// A LF without CR before it. RFC 9112, section 2.2 lets a server take it as a line end; those who did
    /// and those who did not have read the same bytes in two ways: 400.
    BareLf,
    /// A Content-Length above 0 in a request that has ended without a body. RFC 9113, section 8.1.1: 400.
    BodyMissing,
    /// The body is longer than `body_bytes_max`. RFC 9110, section 15.5.14: 413.
    BodyTooLarge,
    /// The bytes after a chunk are not CRLF. RFC 9112, section 7.1: 400.
    ChunkEnd,
    /// A chunk extension against its grammar. RFC 9112, section 7.1.1: 400.
    ChunkExtension,
    /// A chunk's size line is longer than `chunk_line_bytes_max`. RFC 9112, section 7.1.1: 400.
    ChunkLineTooLong,
    /// The extensions of all chunks together are too long.
    ChunkExtensionsTooLong,
    /// A chunk size that is no hexadecimal number, or none below 2^64. RFC 9112, section 7.1: 400.
    ChunkSize,
    /// The method CONNECT: an application server is no proxy. RFC 9110, sections 9.3.6 and 15.6.2: 501.
    Connect,
    /// A field that is of an HTTP/1 connection, in HTTP/2. RFC 9113, section 8.2.2: 400.
    ConnectionField,
    /// A Content-Length that is not one decimal number below 2^64. RFC 9112, section 6.3: 400.
    ContentLength,
    /// More than one Content-Length, were they equal or not. RFC 9112, section 6.3: 400.
    ContentLengthRepeated,
    /// A control byte other than HTAB in a head or in trailers. RFC 9110, section 5.5: 400.
    ControlByte,
    /// An expectation other than `100-continue`. RFC 9110, section 10.1.1: 417.
    Expectation,
    /// A field line without colon, or a field name that is no token (a space before the colon is the common
    /// case). RFC 9112, section 5.1: 400.
    FieldName,
    /// A field line is longer than `field_bytes_max`. RFC 6585, section 5: 431.
    FieldTooLong,
    /// A field line that continues the one before it (obs-fold). RFC 9112, section 5.2: 400.
    FoldedField,
    /// Both Transfer-Encoding and Content-Length. RFC 9112, section 6.1: 400.
    FramingConflict,
    /// The head, or the trailers, are longer than `head_bytes_max`. RFC 6585, section 5: 431.
    HeadTooLarge,
    /// A Host that is not `uri-host [ ":" port ]`. RFC 9112, section 3.2: 400.
    Host,
    /// HTTP/1.1 without Host. RFC 9112, section 3.2: 400.
    HostMissing,
    /// More than one Host. RFC 9112, section 3.2: 400.
    HostRepeated,
    /// A gateway passes on a chunked body and does not tell its length. RFC 9110, section 15.5.12: 411.
    LengthMissing,
    /// A packet, or a record, of a gateway's protocol against its form, or out of its order: no response.
    Packet,
    /// A stream that depends on itself. RFC 7540, section 5.3.1: 400.
    Priority,
    /// A pseudo-field that is missing, unknown, repeated, or out of its place. RFC 9113, section 8.3: 400.
    PseudoField,
    /// A request line that is not `method SP request-target SP HTTP-version`. RFC 9112, section 3: 400.
    RequestLine,
    /// The request line is longer than `request_line_bytes_max`. RFC 9112, section 3: 414.
    RequestLineTooLong,
    /// What follows on a FastCGI connection is not of one request alone: it goes on as a session.
    Shared,
    /// A field that must come once, and has come with two values: see `singletons`. RFC 9110, section 5.3: 400.
    SingletonRepeated,
    /// A request target that has none of the four forms. RFC 9112, section 3.2: 400.
    Target,
    /// A TLS handshake where plain HTTP is spoken: 400.
    Tls,
    /// More fields, or trailer fields, than `fields_max`. RFC 6585, section 5: 431.
    TooManyFields,
    /// A field that must not come as a trailer. RFC 9110, section 6.5.1: 400.
    Trailer,
    /// A transfer coding other than `chunked`. RFC 9112, section 6.1: 501.
    TransferCoding,
    /// A Transfer-Encoding that is no list of codings, or in which `chunked` is not last and alone. RFC 9112,
    /// section 6.3: 400.
    TransferEncoding,
    /// Transfer-Encoding in HTTP/1.0. RFC 9112, section 6.1: 400.
    TransferEncodingInHttp10,
    /// A packet of uwsgi for another modifier than 0: no response.
    UwsgiModifier,
    /// A gateway's variable that is missing (REQUEST_METHOD), or malformed: 400.
    Variable,
    /// A gateway's variable that must not come again: 400.
    VariableRepeated,
    /// A version of HTTP other than 1.x. RFC 9110, section 15.6.6: 505.
    Version,
}

impl ErrorKind {
    /// The status that tells a peer of this.
    pub fn status(self) -> u16 {
        match self {
            Self::Packet | Self::Shared | Self::UwsgiModifier => 0,
            Self::LengthMissing => 411,
            Self::BodyTooLarge => 413,
            Self::RequestLineTooLong => 414,
            Self::Expectation => 417,
            Self::FieldTooLong | Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::Connect | Self::TransferCoding => 501,
            Self::Version => 505,
            _ => 400,
        }
    }

    /// What a client and a log are told; quotes nothing that the peer has sent.
    fn sentence(self) -> &'static str {
        match self {
            Self::BareCr => "A CR is not followed by LF.",
            Self::BareLf => "A line ends in LF without CR.",
            Self::BodyMissing => "Content-Length announces a body, and none follows.",
            Self::BodyTooLarge => "The request body is larger than this server accepts.",
            Self::ChunkEnd => "A chunk is not followed by CRLF.",
            Self::ChunkExtension => "A chunk extension is malformed.",
            Self::ChunkLineTooLong => "The size line of a chunk is too long.",
            Self::ChunkExtensionsTooLong => "The extensions of the chunks are too long.",
            Self::ChunkSize => "A chunk size is not a hexadecimal number below 2^64.",
            Self::Connect => "The method CONNECT is not supported.",
            Self::ConnectionField => "A header field belongs to HTTP/1 and not to HTTP/2.",
            Self::ContentLength => "Content-Length is not a decimal number below 2^64.",
            Self::ContentLengthRepeated => "Content-Length is given more than once.",
            Self::ControlByte => "The request contains a control character.",
            Self::Expectation => "The only expectation supported is 100-continue.",
            Self::FieldName => "A header field has no colon or its name is not a token.",
            Self::FieldTooLong => "A header field is too long.",
            Self::FoldedField => "A header field is folded over several lines.",
            Self::FramingConflict => "Both Transfer-Encoding and Content-Length are given.",
            Self::HeadTooLarge => "The header section or the trailer section is too large.",
            Self::Host => "The Host field is not a valid host and port.",
            Self::HostMissing => "The Host field is missing.",
            Self::HostRepeated => "The Host field is given more than once.",
            Self::LengthMissing => "CONTENT_LENGTH is missing, and the client's body was chunked.",
            Self::Packet => "A packet or record is malformed, or out of order.",
            Self::Priority => "A stream depends on itself.",
            Self::PseudoField => "A pseudo-header field is missing, unknown, repeated or out of place.",
            Self::RequestLine => "The request line is malformed.",
            Self::RequestLineTooLong => "The request line is too long.",
            Self::Shared => "The connection is not one request's alone.",
            Self::SingletonRepeated => "A header field that must come once has two values.",
            Self::Target => "The request target is malformed.",
            Self::Tls => "This port speaks plain HTTP and received a TLS handshake.",
            Self::TooManyFields => "There are too many header fields.",
            Self::Trailer => "A field that is not allowed in trailers was sent as one.",
            Self::TransferCoding => "The only transfer coding supported is chunked.",
            Self::TransferEncoding => {
                "Transfer-Encoding is malformed, or chunked is not its only last coding."
            }
            Self::TransferEncodingInHttp10 => "Transfer-Encoding is not allowed in HTTP/1.0.",
            Self::UwsgiModifier => "A packet is not one of uwsgi with modifier 0.",
            Self::Variable => "A variable is malformed, or REQUEST_METHOD is missing.",
            Self::VariableRepeated => "A variable is given more than once.",
            Self::Version => "The only versions of HTTP supported here are 1.0 and 1.1.",
        }
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, status: kind.status() }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for Error {}
