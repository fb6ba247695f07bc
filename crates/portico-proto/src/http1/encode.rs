//! Writes an answer (RFC 9112, sections 4, 6 and 7).
//!
//! Owns the fields that belong to the connection rather than to the application: Content-Length,
//! Transfer-Encoding, Connection, and Date and Server where the application gave none. Whatever it is told to
//! send, the framing on the wire stays sound: bytes beyond the announced length are not written, and an
//! answer that ends before it does not count as complete.

use crate::{Fields, HttpDate, Part, ResponseHead, Version, reason};

/// What an answer needs to know of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) version: Version,
    pub(super) is_head: bool,
    pub(super) keep_alive: bool,
    /// Whether it waits for `100 Continue`.
    pub(super) waits: bool,
}

impl Default for Asker {
    /// One that is told as little as possible: it has not asked yet.
    fn default() -> Self {
        Self { version: Version::Http10, is_head: false, keep_alive: false, waits: false }
    }
}

/// How much of an answer has been written.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Bytes that may still be written, where `coding` is `Length`.
    left: u64,
    coding: Coding,
    stage: Stage,
    /// Whether the connection is not to be used after this answer.
    close: bool,
    /// Whether body bytes beyond the announced length have been dropped.
    surplus: bool,
    /// Whether a chunk was opened whose bytes the caller writes: its line end is still to be sent.
    chunk_is_open: bool,
}

/// How the body of an answer is delimited. RFC 9112, section 6.3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Coding {
    /// There is no body, whatever the application says.
    #[default]
    None,
    Length,
    Chunked,
    UntilClose,
}

/// `Waiting` → `Started` → `Complete` or `Incomplete`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Waiting,
    Started,
    Complete,
    /// It has ended before its announced end: the peer must see the connection break.
    Incomplete,
}

impl Answer {
    pub(super) fn send(&mut self, part: Part<'_>, asker: &mut Asker, date: &HttpDate, out: &mut Vec<u8>) {
        match part {
            Part::Continue if self.stage == Stage::Waiting && asker.waits => {
                asker.waits = false;
                out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            Part::EarlyHints(fields) if self.stage == Stage::Waiting && asker.version >= Version::Http11 => {
                out.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\n");
                out.extend_from_slice(fields.lines());
                out.extend_from_slice(b"\r\n");
            }
            Part::Head { head, close } if self.stage == Stage::Waiting => {
                self.start(head, close, asker);
                self.write_head(head, asker, date, out);
            }
            Part::Body(block) if self.stage == Stage::Started => self.write_body(block, out),
            Part::End => self.end(out),
            // Interim answers that this peer cannot take, and parts out of their order.
            _ => {}
        }
    }

    /// Makes room in the body for `length` bytes that the caller writes: writes what comes before them and
    /// returns how many of them the answer takes.
    pub(super) fn splice(&mut self, length: u64, out: &mut Vec<u8>) -> u64 {
        if self.stage != Stage::Started {
            return 0;
        }
        let taken = self.take(length);
        if taken > 0 && self.coding == Coding::Chunked {
            self.close_chunk(out);
            write_chunk_size(taken, out);
            self.chunk_is_open = true;
        }
        taken
    }

    pub(super) fn has_started(&self) -> bool {
        self.stage != Stage::Waiting
    }

    pub(super) fn is_complete(&self) -> bool {
        self.stage == Stage::Complete
    }

    pub(super) fn had_surplus(&self) -> bool {
        self.surplus
    }

    /// Whether the connection outlives this answer, by what is known so far.
    pub(super) fn can_keep_alive(&self, asker: &Asker) -> bool {
        match self.stage {
            Stage::Waiting => asker.keep_alive,
            Stage::Started | Stage::Complete => !self.close,
            Stage::Incomplete => false,
        }
    }

    /// Decides the framing. RFC 9112, section 6.3.
    fn start(&mut self, head: &ResponseHead, close: bool, asker: &Asker) {
        self.stage = Stage::Started;
        self.left = 0;
        self.coding = if asker.is_head || has_no_body(head.status) {
            Coding::None
        } else if let Some(length) = length_to_send(head) {
            self.left = length;
            Coding::Length
        } else if asker.version >= Version::Http11 {
            Coding::Chunked
        } else {
            Coding::UntilClose
        };
        self.close = close || !asker.keep_alive || self.coding == Coding::UntilClose;
    }

    fn write_head(&self, head: &ResponseHead, asker: &Asker, date: &HttpDate, out: &mut Vec<u8>) {
        out.reserve(HEAD_BYTES_USUAL + head.reason.len() + head.fields.lines().len());
        write_status_line(head.status, &head.reason, out);
        out.extend_from_slice(head.fields.lines());
        write_origin(&head.fields, date, out);
        if self.close {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if asker.version < Version::Http11 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        match self.coding {
            Coding::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n"),
            // A length is told for HEAD and 304 too, where it is the length that a GET would have got, but
            // never with 1xx and 204 (RFC 9110, section 8.6).
            _ => match length_to_send(head).filter(|_| head.status == 304 || !has_no_body(head.status)) {
                Some(length) => write_content_length(length, out),
                None => out.extend_from_slice(b"\r\n"),
            },
        }
    }

    fn write_body(&mut self, block: &[u8], out: &mut Vec<u8>) {
        let taken = self.take(block.len() as u64) as usize;
        let block = &block[..taken];
        if self.coding != Coding::Chunked {
            out.extend_from_slice(block);
        } else if !block.is_empty() {
            self.close_chunk(out);
            out.reserve(block.len() + CHUNK_BYTES_AROUND);
            write_chunk_size(block.len() as u64, out);
            out.extend_from_slice(block);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// How many of `length` further bytes belong to the body.
    fn take(&mut self, length: u64) -> u64 {
        match self.coding {
            Coding::None => 0,
            Coding::Length => {
                let taken = length.min(self.left);
                self.surplus |= taken < length;
                self.left -= taken;
                taken
            }
            Coding::Chunked | Coding::UntilClose => length,
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.stage == Stage::Started && self.coding == Coding::Chunked {
            self.close_chunk(out);
            out.extend_from_slice(b"0\r\n\r\n");
        }
        self.stage = match self.stage {
            Stage::Started | Stage::Complete if self.left == 0 => Stage::Complete,
            _ => Stage::Incomplete,
        };
    }

    fn close_chunk(&mut self, out: &mut Vec<u8>) {
        if self.chunk_is_open {
            self.chunk_is_open = false;
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Appends the whole answer that ends a connection, as `Connection::refuse` says it.
pub(super) fn write_refusal(status: u16, text: &str, asker: &Asker, date: &HttpDate, out: &mut Vec<u8>) {
    write_status_line(status, b"", out);
    out.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\n");
    write_origin(&Fields::new(), date, out);
    out.extend_from_slice(b"Connection: close\r\n");
    write_content_length(text.len() as u64 + 1, out);
    if !asker.is_head {
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    }
}

/// Whether answers with this status never have a body. RFC 9110, sections 15.2, 15.3.5 and 15.4.5.
fn has_no_body(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

/// The length of the body, if it is known. A 205 has an empty one: RFC 9110, section 15.3.6.
fn length_to_send(head: &ResponseHead) -> Option<u64> {
    if head.status == 205 { Some(0) } else { head.length }
}

/// `status-line = HTTP-version SP status-code SP [ reason-phrase ] CRLF`, with the standard phrase for none.
pub(crate) fn write_status_line(status: u16, phrase: &[u8], out: &mut Vec<u8>) {
    if let Some(line) = common_status_line(status) {
        let standard = &line[STATUS_LINE_PHRASE..line.len() - 2];
        if phrase.is_empty() || phrase == standard {
            return out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(if phrase.is_empty() { reason(status).as_bytes() } else { phrase });
    out.extend_from_slice(b"\r\n");
}

/// The status lines of nearly all answers, in one piece.
fn common_status_line(status: u16) -> Option<&'static [u8]> {
    Some(match status {
        200 => b"HTTP/1.1 200 OK\r\n",
        201 => b"HTTP/1.1 201 Created\r\n",
        204 => b"HTTP/1.1 204 No Content\r\n",
        206 => b"HTTP/1.1 206 Partial Content\r\n",
        301 => b"HTTP/1.1 301 Moved Permanently\r\n",
        302 => b"HTTP/1.1 302 Found\r\n",
        304 => b"HTTP/1.1 304 Not Modified\r\n",
        400 => b"HTTP/1.1 400 Bad Request\r\n",
        403 => b"HTTP/1.1 403 Forbidden\r\n",
        404 => b"HTTP/1.1 404 Not Found\r\n",
        500 => b"HTTP/1.1 500 Internal Server Error\r\n",
        _ => return None,
    })
}

/// Writes Date (RFC 9110, section 6.6.1) and Server (section 10.2.4) unless the application gave them.
fn write_origin(fields: &Fields, date: &HttpDate, out: &mut Vec<u8>) {
    if !fields.has_date() {
        // One copy for the whole line: this is on the path of every answer.
        let mut line = *b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
        line[6..35].copy_from_slice(date.as_bytes());
        out.extend_from_slice(&line);
    }
    if !fields.has_server() {
        out.extend_from_slice(b"Server: portico\r\n");
    }
}

/// Writes Content-Length and the end of the head.
fn write_content_length(length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// `chunk-size CRLF`, the size in as few hexadecimal digits as it takes.
fn write_chunk_size(size: u64, out: &mut Vec<u8>) {
    let digits = (u64::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(size >> (4 * place)) as usize & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Where the reason phrase begins in a status line.
const STATUS_LINE_PHRASE: usize = "HTTP/1.1 200 ".len();
/// Bytes of a head with all fields that are written here, and a bit to spare.
const HEAD_BYTES_USUAL: usize = 192;
/// Bytes around the data of a chunk: 16 digits and two line ends.
const CHUNK_BYTES_AROUND: usize = 20;
