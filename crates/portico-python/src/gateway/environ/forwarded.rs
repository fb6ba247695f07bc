//! What a believed proxy says of the client, laid over the environ.

use std::net::IpAddr;

use portico_proto::{Peer, path_info, percent_decode};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use portico_server::{Forwarded, Scheme};

use super::{Parts, host_and_port};
use crate::raw::latin1;

/// Sets the entries that tell of the client as `forwarded` has it. The proxy's own fields stay in it.
pub(super) fn apply(
    environ: &Bound<'_, PyDict>,
    root_path: &str,
    parts: &Parts<'_, '_>,
    forwarded: &Forwarded,
) -> PyResult<()> {
    let py = environ.py();
    set_client(environ, forwarded)?;
    match forwarded.scheme {
        Some(Scheme::Https) => environ.set_item(intern!(py, "wsgi.url_scheme"), intern!(py, "https"))?,
        Some(Scheme::Http) if parts.server().tls => {
            environ.set_item(intern!(py, "wsgi.url_scheme"), intern!(py, "http"))?;
            environ.del_item(intern!(py, "HTTPS"))?;
        }
        Some(Scheme::Http) | None => {}
    }
    set_server(environ, parts, forwarded)?;
    set_script_name(environ, root_path, parts, forwarded)
}

/// The same for the client of a gateway's client, which is a proxy that is believed: `environ` has that one.
pub(super) fn apply_behind_gateway(
    environ: &Bound<'_, PyDict>,
    parts: &Parts<'_, '_>,
    forwarded: &Forwarded,
) -> PyResult<()> {
    set_client(environ, forwarded)?;
    if forwarded.host.is_some() || forwarded.server_port.is_some() {
        set_server(environ, parts, forwarded)?;
    }
    Ok(())
}

fn set_client(environ: &Bound<'_, PyDict>, forwarded: &Forwarded) -> PyResult<()> {
    let py = environ.py();
    let Some(address) = forwarded.address else { return Ok(()) };
    environ.set_item(intern!(py, "REMOTE_ADDR"), address_text(py, address))?;
    match forwarded.port {
        Some(port) => environ.set_item(intern!(py, "REMOTE_PORT"), decimal(py, port)),
        // The proxy's own beside the client's address would be nobody's. A UNIX socket has none.
        None if environ.contains(intern!(py, "REMOTE_PORT"))? => environ.del_item(intern!(py, "REMOTE_PORT")),
        None => Ok(()),
    }
}

/// The port that a URL of this scheme need not name.
fn usual_port(parts: &Parts<'_, '_>, forwarded: &Forwarded) -> u16 {
    match forwarded.scheme {
        Some(Scheme::Https) => 443,
        None if parts.server().tls => 443,
        Some(Scheme::Http) | None => 80,
    }
}

fn set_server(environ: &Bound<'_, PyDict>, parts: &Parts<'_, '_>, forwarded: &Forwarded) -> PyResult<()> {
    let py = environ.py();
    let usual = usual_port(parts, forwarded);
    let authority = match forwarded.host.as_deref() {
        Some(host) => Some(host),
        // A UNIX socket has no name and port of its own.
        None if parts.peer() == Peer::Unix => parts.head().authority(),
        None => None,
    };
    let (name, port) = authority.map_or((&b""[..], None), host_and_port);
    if let Some(host) = forwarded.host.as_deref() {
        let whole = match forwarded.server_port.filter(|told| port.is_none() && *told != usual) {
            Some(told) => [name, b":", told.to_string().as_bytes()].concat(),
            None => host.to_vec(),
        };
        environ.set_item(intern!(py, "HTTP_HOST"), latin1(py, &whole)?)?;
        environ.set_item(intern!(py, "SERVER_NAME"), latin1(py, name)?)?;
    }
    match (forwarded.server_port, port) {
        (Some(told), _) => environ.set_item(intern!(py, "SERVER_PORT"), decimal(py, told)),
        (None, Some(port)) => environ.set_item(intern!(py, "SERVER_PORT"), latin1(py, port)?),
        (None, None) if authority.is_some() => {
            environ.set_item(intern!(py, "SERVER_PORT"), decimal(py, usual))
        }
        (None, None) => Ok(()),
    }
}

/// SCRIPT_NAME is what the proxy has taken off before what `--root-path` does, or what the proxy says in its
/// stead; of the path only the latter two are taken off here.
fn set_script_name(
    environ: &Bound<'_, PyDict>,
    root_path: &str,
    parts: &Parts<'_, '_>,
    forwarded: &Forwarded,
) -> PyResult<()> {
    let py = environ.py();
    if forwarded.prefix.is_none() && forwarded.script_name.is_none() {
        return Ok(());
    }
    let told = forwarded.script_name.as_deref().map(percent_decode);
    let mounted = told.as_deref().unwrap_or(root_path.as_bytes());
    // Said twice, it counts once.
    let prefix = forwarded.prefix.as_deref().map(percent_decode).filter(|prefix| **prefix != *mounted);
    let script_name = [prefix.as_deref().unwrap_or_default(), mounted].concat();
    environ.set_item(intern!(py, "SCRIPT_NAME"), latin1(py, &script_name)?)?;
    environ.set_item(intern!(py, "PATH_INFO"), latin1(py, &path_info(parts.head().path(), mounted))?)
}

/// `address` as text. IPv4, which most are, without `Display`, which can also pad.
pub(super) fn address_text(py: Python<'_>, address: IpAddr) -> Bound<'_, PyString> {
    let IpAddr::V4(address) = address else { return PyString::new(py, &address.to_string()) };
    let mut text = String::with_capacity(15);
    let mut digits = itoa::Buffer::new();
    for (at, octet) in address.octets().into_iter().enumerate() {
        if at > 0 {
            text.push('.');
        }
        text.push_str(digits.format(octet));
    }
    PyString::new(py, &text)
}

/// `number` as text.
pub(super) fn decimal(py: Python<'_>, number: u16) -> Bound<'_, PyString> {
    PyString::new(py, itoa::Buffer::new().format(number))
}
