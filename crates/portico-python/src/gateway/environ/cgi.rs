//! The environ of a request that came through a gateway (uwsgi, SCGI, FastCGI): what the gateway tells, as it
//! tells it, with what PEP 3333 wants beside it.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use portico_proto::{RequestHead, ScriptPath};
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
    let mut place = ScriptPath::of(parts.head(), root_path.as_bytes());
    if let Some(mounted) = parts.request.mounted() {
        place.mount(mounted.path.as_bytes());
    }
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
