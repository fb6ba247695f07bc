//! One request and one response of HTTP/1.1, as an exporter has them: pure, over anything that reads.
//!
//! Whatever a collector sends, no more than a few kilobytes of it are read. Once the status has come, what is
//! wrong with the rest of a response costs the connection and nothing else.

use std::fmt;
use std::io::{self, Read};

use portico_config::TraceSettings;

/// A collector's response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Response {
    /// Its status.
    pub status: u16,
    /// The field of that name.
    pub retry_after: Option<String>,
    /// Whether the body is protobuf.
    pub is_protobuf: bool,
    /// The body, or what of it has come.
    pub body: Vec<u8>,
    /// Whether another request can follow on the connection.
    pub keeps_alive: bool,
}

/// The reason why there is no response.
#[derive(Debug)]
pub(crate) enum ResponseError {
    /// The connection has failed, or the time was over.
    Io(io::Error),
    /// The collector closed the connection before it sent a byte. On a connection that has been used before, this
    /// is how it says that it has had enough of it.
    Closed,
    /// What it sends is not HTTP/1.
    NotHttp,
}

/// Most bytes of the heads of a response, those of preliminary ones included.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Most bytes of a body: a message of a few hundred bytes is what there is to say.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Bytes that are read at once.
const READ_BYTES: usize = 4096;

const USER_AGENT: &str = concat!("OTel-OTLP-Exporter-Portico/", env!("CARGO_PKG_VERSION"));

/// The head of a request with a body of so many bytes.
pub(crate) fn request_head(settings: &TraceSettings, length: usize) -> Vec<u8> {
    let TraceSettings { collector, headers, gzip, .. } = settings;
    let mut head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {USER_AGENT}\r\nContent-Type: application/x-protobuf\r\n\
         Content-Length: {length}\r\n",
        collector.target,
        collector.authority()
    );
    if *gzip {
        head.push_str("Content-Encoding: gzip\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// Reads a response, and preliminary ones before it.
///
/// # Errors
/// There is none, for one of the reasons.
pub(crate) fn read_response(stream: &mut impl Read) -> Result<Response, ResponseError> {
    let mut incoming = Incoming { stream, bytes: Vec::new(), at: 0, bytes_max: HEAD_BYTES_MAX };
    let (mut response, framing) = loop {
        let head = incoming.read_head()?;
        if head.0.status >= 200 {
            break head;
        }
    };
    incoming.bytes_max = incoming.at + BODY_BYTES_MAX;
    let is_whole = incoming.read_body(framing, &mut response.body).is_ok();
    // What has come beyond the response belongs to nothing.
    response.keeps_alive &= is_whole && incoming.at == incoming.bytes.len();
    Ok(response)
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseFraming {
    Length(usize),
    Chunked,
    /// At the connection's end.
    Close,
}

struct Incoming<'s, S> {
    stream: &'s mut S,
    bytes: Vec<u8>,
    /// What comes before has been read.
    at: usize,
    bytes_max: usize,
}

impl<S: Read> Incoming<'_, S> {
    fn read_head(&mut self) -> Result<(Response, ResponseFraming), ResponseError> {
        // Something else than HTTP may wait for more, and have no line.
        while self.bytes.len() < self.at + 7 && b"HTTP/1.".starts_with(&self.bytes[self.at..]) {
            if !self.fill()? {
                let is_silent = self.bytes.is_empty();
                return Err(if is_silent { ResponseError::Closed } else { ResponseError::NotHttp });
            }
        }
        if !self.bytes[self.at..].starts_with(b"HTTP/1.") {
            return Err(ResponseError::NotHttp);
        }
        let line = self.line()?;
        let (minor, status) = status_line(&line).ok_or(ResponseError::NotHttp)?;
        let mut response = Response { status, keeps_alive: minor >= b'1', ..Response::default() };
        let mut framing =
            if matches!(status, 204 | 304) { ResponseFraming::Length(0) } else { ResponseFraming::Close };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                response.keeps_alive &= framing != ResponseFraming::Close;
                return Ok((response, framing));
            }
            let Some(colon) = line.iter().position(|&byte| byte == b':') else {
                return Err(ResponseError::NotHttp);
            };
            let value = String::from_utf8_lossy(line[colon + 1..].trim_ascii()).to_ascii_lowercase();
            match line[..colon].to_ascii_lowercase().as_slice() {
                // It decides whatever Content-Length says (RFC 9112, section 6.3), and nothing follows on the
                // connection of a response that has both.
                b"transfer-encoding" => {
                    response.keeps_alive &= framing == ResponseFraming::Close;
                    framing = ResponseFraming::Chunked;
                }
                b"content-length" => match value.parse() {
                    Ok(length) if framing == ResponseFraming::Close => {
                        framing = ResponseFraming::Length(length)
                    }
                    Ok(length) if framing == ResponseFraming::Length(length) => {}
                    _ => response.keeps_alive = false,
                },
                b"connection" => response.keeps_alive &= !value.split(',').any(|item| item.trim() == "close"),
                b"content-type" => response.is_protobuf = value.starts_with("application/x-protobuf"),
                b"retry-after" => {
                    response.retry_after =
                        Some(String::from_utf8_lossy(line[colon + 1..].trim_ascii()).into())
                }
                _ => {}
            }
        }
    }

    /// Reads the body as far as it comes.
    fn read_body(&mut self, framing: ResponseFraming, body: &mut Vec<u8>) -> io::Result<()> {
        match framing {
            ResponseFraming::Length(length) => self.take(length, body),
            ResponseFraming::Close => {
                while self.fill()? {}
                self.take(self.bytes.len() - self.at, body)
            }
            ResponseFraming::Chunked => loop {
                let line = self.line()?;
                let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
                let size = std::str::from_utf8(digits)
                    .ok()
                    .and_then(|digits| usize::from_str_radix(digits, 16).ok());
                let size = size.ok_or(io::ErrorKind::InvalidData)?;
                if size == 0 {
                    // Trailers, up to the empty line.
                    while !self.line()?.is_empty() {}
                    return Ok(());
                }
                self.take(size, body)?;
                if !self.line()?.is_empty() {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            },
        }
    }

    /// Appends the next `length` bytes to `body`, and those that there are where there are fewer.
    fn take(&mut self, length: usize, body: &mut Vec<u8>) -> io::Result<()> {
        let mut missing = length;
        loop {
            let available = (self.bytes.len() - self.at).min(missing);
            body.extend_from_slice(&self.bytes[self.at..self.at + available]);
            (self.at, missing) = (self.at + available, missing - available);
            if missing == 0 {
                return Ok(());
            }
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The next line, without its end.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut searched = self.at;
        loop {
            if let Some(end) = self.bytes[searched..].iter().position(|&byte| byte == b'\n') {
                let line = &self.bytes[self.at..searched + end];
                let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
                self.at = searched + end + 1;
                return Ok(line);
            }
            searched = self.bytes.len();
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads more; whether there was more.
    fn fill(&mut self) -> io::Result<bool> {
        let room = self.bytes_max.saturating_sub(self.bytes.len()).min(READ_BYTES);
        if room == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its response is too long"));
        }
        let before = self.bytes.len();
        self.bytes.resize(before + room, 0);
        let read = self.stream.read(&mut self.bytes[before..]);
        self.bytes.truncate(before + *read.as_ref().unwrap_or(&0));
        read.map(|count| count > 0)
    }
}

/// The version's last digit and the status.
fn status_line(line: &[u8]) -> Option<(u8, u16)> {
    let [minor, b' ', digits @ ..] = line.strip_prefix(b"HTTP/1.")? else { return None };
    let (digits, rest) = digits.split_at_checked(3)?;
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    if !is_digit(minor) || !digits.iter().all(is_digit) || !(rest.is_empty() || rest.starts_with(b" ")) {
        return None;
    }
    let status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    (status >= 100).then_some((*minor, status))
}

impl From<io::Error> for ResponseError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for ResponseError {
    /// The end of a sentence that begins with the collector.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "has not answered: {error}"),
            Self::Closed => f.write_str("has closed the connection without a response"),
            Self::NotHttp => f.write_str(
                "does not speak HTTP/1.1; OTLP over gRPC, often at port 4317, is something else than OTLP \
                 over HTTP, often at port 4318",
            ),
        }
    }
}

#[cfg(test)]
mod tests;
