//! The fields of a response (RFC 9113, section 8.2).

use http::header::{CONTENT_LENGTH, DATE, SERVER};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::added::AddedFields;
use crate::grammar;
use crate::message::Fields;

/// `fields` for the wire, with those that the server adds, and with the body's length if it is to be told.
pub(super) fn fields(fields: &Fields, length: Option<u64>, added: &AddedFields) -> HeaderMap {
    let mut map = interim_fields(fields, 3);
    if let Some(date) = &added.date
        && let Ok(value) = HeaderValue::from_bytes(date.as_bytes())
    {
        map.insert(DATE, value);
    }
    if !added.server.is_empty()
        && let Ok(value) = HeaderValue::from_str(added.server)
    {
        map.insert(SERVER, value);
    }
    if let Some(length) = length {
        map.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    map
}

/// `fields` for the wire, with room for `more`. Those that belong to an HTTP/1 connection are left out (RFC 9113,
/// section 8.2.2), and those that no field can be here: a control byte has no place in a value.
pub(super) fn interim_fields(fields: &Fields, more: usize) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len() + more);
    for (name, value) in fields.iter() {
        if is_connection_specific(name) {
            continue;
        }
        let named = HeaderName::from_bytes(name);
        if let (Ok(name), Ok(value)) = (named, HeaderValue::from_bytes(grammar::trim(value))) {
            map.append(name, value);
        }
    }
    map
}

fn is_connection_specific(name: &[u8]) -> bool {
    // The length spares comparing nearly all names.
    let names: &[&[u8]] = match name.len() {
        7 => &[b"upgrade"],
        10 => &[b"connection", b"keep-alive"],
        16 => &[b"proxy-connection"],
        17 => &[b"transfer-encoding"],
        _ => return false,
    };
    names.iter().any(|other| name.eq_ignore_ascii_case(other))
}
