//! Writes the response to a gateway.
//!
//! Owns Content-Length. The fields of the connection to the client are the gateway's.

use crate::added::AddedFields;
use crate::content::{announced_length, write_content_length};
use crate::http1::{write_added, write_status_line};
use crate::message::ResponseHead;
use crate::status::reason;

/// The first line of a response: HTTP/1's or CGI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// With a status line.
    Http,
    /// With the field Status (RFC 3875, section 6.3.3).
    Cgi,
}

/// Appends the head of a response.
pub(crate) fn write_head(head: &ResponseHead, form: Form, added: &AddedFields, out: &mut Vec<u8>) {
    out.reserve(HEAD_BYTES_USUAL + head.reason.len() + head.fields.lines().len());
    write_status(head.status, &head.reason, form, out);
    // A field of this name would stand for the status line in CGI.
    if form == Form::Cgi && head.fields.get(b"status").is_some() {
        for (name, value) in head.fields.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(b"status")) {
            [name, b": ", value, b"\r\n"].iter().for_each(|piece| out.extend_from_slice(piece));
        }
    } else {
        out.extend_from_slice(head.fields.lines());
    }
    write_added(added, out);
    match announced_length(head) {
        Some(length) => write_content_length(length, out),
        None => out.extend_from_slice(b"\r\n"),
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

/// Bytes of a head beside the application's fields.
const HEAD_BYTES_USUAL: usize = 96;
