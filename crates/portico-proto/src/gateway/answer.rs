//! Writes the answer to a gateway.
//!
//! Owns Content-Length. The fields of the connection to the client, and Date and Server where the application gave
//! none, are the gateway's.

use crate::http1::write_status_line;
use crate::{ResponseHead, reason};

/// How an answer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// With a status line.
    Http,
    /// With the field Status (RFC 3875, section 6.3.3).
    Cgi,
}

/// How much of an answer has been written.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Bytes that may still be written, where `coding` is `Length`.
    left: u64,
    coding: Coding,
    stage: Stage,
    /// Whether body bytes beyond the announced length have been dropped.
    surplus: bool,
}

/// How the body of an answer is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Coding {
    /// There is no body, whatever the application says.
    #[default]
    None,
    Length,
    /// By the end of the connection, or by FastCGI's own marks.
    UntilEnd,
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
    /// Decides the framing.
    pub(crate) fn start(&mut self, head: &ResponseHead, is_head: bool) {
        self.stage = Stage::Started;
        self.left = 0;
        self.coding = if is_head || has_no_body(head.status) {
            Coding::None
        } else if let Some(length) = length_to_send(head) {
            self.left = length;
            Coding::Length
        } else {
            Coding::UntilEnd
        };
    }

    /// Appends the head that [`Answer::start`] was given.
    pub(crate) fn write_head(&self, head: &ResponseHead, form: Form, out: &mut Vec<u8>) {
        out.reserve(HEAD_BYTES_USUAL + head.reason.len() + head.fields.lines().len());
        write_status(head.status, &head.reason, form, out);
        // A field of this name would stand for the status line in CGI.
        if form == Form::Cgi && head.fields.get(b"status").is_some() {
            for (name, value) in head.fields.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(b"status"))
            {
                [name, b": ", value, b"\r\n"].iter().for_each(|piece| out.extend_from_slice(piece));
            }
        } else {
            out.extend_from_slice(head.fields.lines());
        }
        // A length is told for HEAD and 304 too, but never with 1xx and 204 (RFC 9110, section 8.6).
        match length_to_send(head).filter(|_| head.status == 304 || !has_no_body(head.status)) {
            Some(length) => write_content_length(length, out),
            None => out.extend_from_slice(b"\r\n"),
        }
    }

    /// How many of `length` further bytes belong to the body.
    pub(crate) fn take(&mut self, length: u64) -> u64 {
        if self.stage != Stage::Started {
            return 0;
        }
        match self.coding {
            Coding::None => 0,
            Coding::Length => {
                let taken = length.min(self.left);
                self.surplus |= taken < length;
                self.left -= taken;
                taken
            }
            Coding::UntilEnd => length,
        }
    }

    /// The application has given all of it.
    pub(crate) fn end(&mut self) {
        self.stage = match self.stage {
            Stage::Started | Stage::Complete if self.left == 0 => Stage::Complete,
            _ => Stage::Incomplete,
        };
    }

    pub(crate) fn has_started(&self) -> bool {
        self.stage != Stage::Waiting
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.stage == Stage::Complete
    }

    pub(crate) fn had_surplus(&self) -> bool {
        self.surplus
    }
}

/// Appends a whole short answer with `text` and a line end as its body, left out for a HEAD.
pub(crate) fn write_refusal(status: u16, text: &str, (form, is_head): (Form, bool), out: &mut Vec<u8>) {
    write_status(status, b"", form, out);
    out.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\n");
    write_content_length(text.len() as u64 + 1, out);
    if !is_head {
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    }
}

fn write_status(status: u16, phrase: &[u8], form: Form, out: &mut Vec<u8>) {
    if form == Form::Http {
        return write_status_line(status, phrase, out);
    }
    out.extend_from_slice(b"Status: ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(if phrase.is_empty() { reason(status).as_bytes() } else { phrase });
    out.extend_from_slice(b"\r\n");
}

fn write_content_length(length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// Whether answers with this status never have a body. RFC 9110, sections 15.2, 15.3.5 and 15.4.5.
fn has_no_body(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

/// The length of the body, if it is known. A 205 has an empty one: RFC 9110, section 15.3.6.
fn length_to_send(head: &ResponseHead) -> Option<u64> {
    if head.status == 205 { Some(0) } else { head.length }
}

/// Bytes of a head beside the application's fields.
const HEAD_BYTES_USUAL: usize = 96;
