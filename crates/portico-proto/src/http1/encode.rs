//! Writes a response (RFC 9112, sections 4, 6 and 7).
//!
//! Owns the fields that belong to the connection rather than to the application: Content-Length,
//! Transfer-Encoding and Connection. What else is added to the application's, the server decides.

use crate::added::{AddedFields, SERVER};
use crate::content::{Content, announced_length, write_content_length};
use crate::event::Part;
use crate::message::{ResponseHead, Version};
use crate::status::reason;

/// The facts of a request that its response depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestInfo {
    pub(super) version: Version,
    pub(super) is_head: bool,
    pub(super) keep_alive: bool,
    /// Whether it waits for `100 Continue`.
    pub(super) waits: bool,
}

impl Default for RequestInfo {
    /// One that is told as little as possible: it has not asked yet.
    fn default() -> Self {
        Self { version: Version::Http10, is_head: false, keep_alive: false, waits: false }
    }
}

/// Writes one response, part by part, and knows how much of it is out. Parts out of their order write nothing.
#[derive(Debug, Default)]
pub(super) struct ResponseEncoder {
    pub(super) request: RequestInfo,
    content: Content,
    /// Whether the content goes in chunks: where its length is unknown to a peer that takes them (RFC 9112,
    /// section 6.3).
    chunked: bool,
    /// Whether the connection is not to be used after this response.
    close: bool,
    /// Whether a chunk was opened whose bytes the caller writes: its line end is still to be sent.
    chunk_is_open: bool,
}

impl ResponseEncoder {
    pub(super) fn send(&mut self, part: Part<'_>, out: &mut Vec<u8>) {
        match part {
            Part::Continue if !self.content.has_started() && self.request.waits => {
                self.request.waits = false;
                out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            Part::EarlyHints(fields)
                if !self.content.has_started() && self.request.version >= Version::Http11 =>
            {
                out.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\n");
                out.extend_from_slice(fields.lines());
                out.extend_from_slice(b"\r\n");
            }
            Part::Head { head, close, added } if !self.content.has_started() => {
                self.start(head, close);
                self.write_head(head, added, out);
            }
            Part::Body(block) => self.write_body(block, out),
            Part::End => self.end(out),
            // Interim responses that this peer cannot take, and parts out of their order.
            _ => {}
        }
    }

    /// Makes room in the body for `length` bytes that the caller writes: writes what comes before them and
    /// returns how many of them the response takes.
    pub(super) fn splice(&mut self, length: u64, out: &mut Vec<u8>) -> u64 {
        let taken = self.content.take(length);
        if taken > 0 && self.chunked {
            self.close_chunk(out);
            write_chunk_size(taken, out);
            self.chunk_is_open = true;
        }
        taken
    }

    pub(super) fn content(&self) -> &Content {
        &self.content
    }

    /// Whether something else than the end of the connection tells of its end.
    pub(super) fn is_delimited(&self) -> bool {
        self.chunked || !self.content.is_open()
    }

    /// Whether the connection outlives this response, by what is known so far.
    pub(super) fn can_keep_alive(&self) -> bool {
        match &self.content {
            content if !content.has_started() => self.request.keep_alive,
            content => !self.close && !content.is_incomplete(),
        }
    }

    /// Decides the framing. RFC 9112, section 6.3.
    fn start(&mut self, head: &ResponseHead, close: bool) {
        self.content.start(head, self.request.is_head);
        self.chunked = self.content.is_open() && self.request.version >= Version::Http11;
        let until_close = self.content.is_open() && !self.chunked;
        self.close = close || head.close || !self.request.keep_alive || until_close;
    }

    fn write_head(&self, head: &ResponseHead, added: &AddedFields, out: &mut Vec<u8>) {
        out.reserve(HEAD_BYTES_USUAL + head.reason.len() + head.fields.lines().len());
        write_status_line(head.status, &head.reason, out);
        out.extend_from_slice(head.fields.lines());
        write_added(added, out);
        if head.status == 426 && head.fields.get(b"upgrade").is_some() {
            self.write_connection_of_upgrade(out);
        } else if self.close {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if self.request.version < Version::Http11 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        if self.chunked {
            return out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        }
        match announced_length(head) {
            Some(length) => write_content_length(length, out),
            None => out.extend_from_slice(b"\r\n"),
        }
    }

    /// Who sends Upgrade names it in Connection (RFC 9110, section 7.8). A 426 tells by it what to upgrade to.
    #[cold]
    fn write_connection_of_upgrade(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.close {
            true => &b"Connection: close, Upgrade\r\n"[..],
            false if self.request.version < Version::Http11 => b"Connection: keep-alive, Upgrade\r\n",
            false => b"Connection: Upgrade\r\n",
        });
    }

    fn write_body(&mut self, block: &[u8], out: &mut Vec<u8>) {
        let taken = self.content.take(block.len() as u64) as usize;
        let block = &block[..taken];
        if !self.chunked {
            out.extend_from_slice(block);
        } else if !block.is_empty() {
            self.close_chunk(out);
            out.reserve(block.len() + CHUNK_BYTES_AROUND);
            write_chunk_size(block.len() as u64, out);
            out.extend_from_slice(block);
            out.extend_from_slice(b"\r\n");
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.chunked && self.content.is_started() {
            self.close_chunk(out);
            out.extend_from_slice(b"0\r\n\r\n");
        }
        self.content.end();
    }

    fn close_chunk(&mut self, out: &mut Vec<u8>) {
        if self.chunk_is_open {
            self.chunk_is_open = false;
            out.extend_from_slice(b"\r\n");
        }
    }
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

/// The status lines of nearly all responses, in one piece.
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

/// Writes the fields that the server adds.
pub(crate) fn write_added(added: &AddedFields, out: &mut Vec<u8>) {
    if let Some(date) = &added.date {
        // One copy for the whole line: this is on the path of nearly every response.
        let mut line = *b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
        line[6..35].copy_from_slice(date.as_bytes());
        out.extend_from_slice(&line);
    }
    match added.server {
        SERVER => out.extend_from_slice(b"Server: portico\r\n"),
        "" => {}
        server => {
            [b"Server: ", server.as_bytes(), b"\r\n"].iter().for_each(|part| out.extend_from_slice(part))
        }
    }
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
