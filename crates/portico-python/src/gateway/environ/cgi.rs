//! The environ of a request that came through a gateway (uwsgi, SCGI, FastCGI): what the gateway tells, as it
//! tells it, with what PEP 3333 wants beside it.

use std::borrow::Cow;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use portico_proto::{RequestHead, path_info, percent_decode};
use portico_server::{Forwarded, Scheme};

use super::super::field_names::FieldNames;
use super::{Parts, forwarded as proxies};
use crate::raw::latin1;

/// Sets what the gateway's variables say. All of them get into `environ`, which has the fields already.
pub(super) fn apply(
    environ: &Bound<'_, PyDict>,
    root_path: &str,
    names: &mut FieldNames,
    parts: &Parts<'_, '_>,
) -> PyResult<()> {
    let py = environ.py();
    for (name, value) in parts.head().variables() {
        environ.set_item(names.variable(py, name), latin1(py, value)?)?;
    }
    let target = latin1(py, parts.head().target())?;
    environ.set_item(intern!(py, "RAW_URI"), &target)?;
    environ.set_item(intern!(py, "REQUEST_URI"), target)?;
    environ.set_item(intern!(py, "QUERY_STRING"), latin1(py, parts.head().query())?)?;
    let place = ScriptPath::of(parts.head(), root_path.as_bytes());
    environ.set_item(intern!(py, "SCRIPT_NAME"), latin1(py, &place.script_name)?)?;
    environ.set_item(intern!(py, "PATH_INFO"), latin1(py, &place.path_info)?)?;
    set_client(environ, parts)
}

/// REMOTE_ADDR and what goes with it.
fn set_client(environ: &Bound<'_, PyDict>, parts: &Parts<'_, '_>) -> PyResult<()> {
    let py = environ.py();
    if parts.head().variable(b"REMOTE_ADDR").is_none() {
        environ.set_item(intern!(py, "REMOTE_ADDR"), intern!(py, ""))?;
    }
    if parts.head().variable(b"REMOTE_PORT").is_none() {
        environ.del_item(intern!(py, "REMOTE_PORT"))?;
    }
    let Some(forwarded) = parts.request.forwarded.as_deref() else { return Ok(()) };
    if forwarded.scheme == Some(Scheme::Https) {
        environ.set_item(intern!(py, "wsgi.url_scheme"), intern!(py, "https"))?;
    }
    // The gateway's own client is a proxy that is believed, and says who its is.
    if parts.request.trusted && !is_as_told(forwarded, parts.head()) {
        proxies::apply_behind_gateway(environ, parts, forwarded)?;
    }
    Ok(())
}

/// Whether the client is the one of REMOTE_ADDR.
fn is_as_told(forwarded: &Forwarded, head: &RequestHead) -> bool {
    let told = head.variable(b"REMOTE_ADDR").and_then(|text| str::from_utf8(text).ok());
    let told = told.and_then(|text| text.trim_matches(['[', ']']).parse::<std::net::IpAddr>().ok());
    let same_client = forwarded.address == told.map(|address| address.to_canonical());
    same_client && forwarded.host.is_none() && forwarded.server_port.is_none()
}

/// SCRIPT_NAME and PATH_INFO of a request, as CGI divides its path.
struct ScriptPath<'a> {
    script_name: Cow<'a, [u8]>,
    path_info: Cow<'a, [u8]>,
}

impl<'a> ScriptPath<'a> {
    /// SCRIPT_NAME and PATH_INFO of variables that gateways set in several ways:
    ///
    /// * both, one behind the other, as CGI has it: taken as they are.
    /// * PATH_INFO with the whole path, and SCRIPT_NAME with the beginning of it (nginx: `include uwsgi_params`
    ///   and a SCRIPT_NAME): the beginning is taken off, as uWSGI's `manage-script-name` does.
    /// * No PATH_INFO: it is what REQUEST_URI has below SCRIPT_NAME.
    /// * No PATH_INFO, and the whole path as SCRIPT_NAME as if it were a file (nginx: `include fastcgi_params`;
    ///   Apache's mod_proxy_fcgi): that is the path.
    /// * No SCRIPT_NAME: `root_path` stands in for it.
    fn of(head: &'a RequestHead, root_path: &'a [u8]) -> Self {
        let script_variable = head.variable(b"SCRIPT_NAME").unwrap_or_default();
        let script_name = without_end_slash(script_variable);
        let told = head.variable(b"PATH_INFO");
        if script_name.is_empty() {
            let path_info = match told {
                Some(path) => below(Cow::Borrowed(path), root_path),
                None => path_info(head.path(), root_path),
            };
            return Self { script_name: Cow::Borrowed(root_path), path_info };
        }
        let script_name = Cow::Borrowed(script_name);
        let path_info = match told {
            Some(told) if is_whole_path(told, &script_name, head) => below(Cow::Borrowed(told), &script_name),
            Some(told) if !told.is_empty() || !is_file_like(&script_name, head) => Cow::Borrowed(told),
            None if !is_file_like(&script_name, head) => path_info(head.path(), &script_name),
            _ => {
                // It is the whole path, of which the slash at the end is a part.
                let path_info = below(Cow::Borrowed(script_variable), root_path);
                return Self { script_name: Cow::Borrowed(root_path), path_info };
            }
        };
        Self { script_name, path_info }
    }
}

/// A SCRIPT_NAME never ends in a slash: that is where PATH_INFO begins.
fn without_end_slash(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    &path[..end]
}

/// `path`, decoded, without `script_name` where it begins with that.
fn below<'a>(path: Cow<'a, [u8]>, script_name: &[u8]) -> Cow<'a, [u8]> {
    let inside = match path.strip_prefix(script_name) {
        Some(rest) if rest.is_empty() || rest.starts_with(b"/") => script_name.len(),
        _ => 0,
    };
    match path {
        Cow::Borrowed(path) => Cow::Borrowed(&path[inside..]),
        Cow::Owned(mut path) => {
            path.drain(..inside);
            Cow::Owned(path)
        }
    }
}

/// Whether SCRIPT_NAME names the whole path, as if it were a file's: nginx tells the same as DOCUMENT_URI, Apache
/// a SCRIPT_FILENAME that is none.
fn is_file_like(script_name: &[u8], head: &RequestHead) -> bool {
    head.variable(b"DOCUMENT_URI").is_some_and(|uri| without_end_slash(uri) == script_name)
        || head.variable(b"SCRIPT_FILENAME").is_some_and(|name| name.starts_with(b"proxy:"))
}

/// Whether PATH_INFO has the whole path, with SCRIPT_NAME at its beginning. Gateways clean paths before they
/// decide on them, so clean ones are compared: what was asked for may have a dot or a slash too many.
fn is_whole_path(path_info: &[u8], script_name: &[u8], head: &RequestHead) -> bool {
    if below(Cow::Borrowed(path_info), script_name).len() == path_info.len() {
        return false;
    }
    let asked = percent_decode(head.path());
    let asked = clean(&asked);
    asked != clean(&[script_name, path_info].concat()) && asked == clean(path_info)
}

/// `path` without empty segments, `.` and `..`.
fn clean(path: &[u8]) -> Vec<&[u8]> {
    let mut segments = Vec::new();
    for segment in path.split(|&byte| byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    segments
}
