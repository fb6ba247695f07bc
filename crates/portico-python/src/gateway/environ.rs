//! The environ: from a request's head to the dict of PEP 3333 and RFC 3875 (CGI).
//!
//! Built by copying a template, of which there is one per listener and one per repeated set of field lines,
//! so that what is the same from request to request is made once. The template has all keys that each request
//! sets: setting them never makes the copy grow. What nearly all requests have in common, it has as well: only
//! what differs is set.

mod cgi;
mod forwarded;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use portico_net::Server;
use portico_otlp::SpanContext;
use portico_proto::{Framing, Peer, RequestHead, Version, path_info};
use portico_server::RequestContext;

use super::GatewaySettings;
use super::field_names::FieldNames;
use super::file_wrapper::FileWrapper;
use super::start_response::Callables;
use super::template_cache::{Address, Addresses, FieldsReading, Lines, Lookup, Template, TemplateCache};
use super::wsgi_input::Input;
use crate::raw::latin1;

/// The templates and names that one thread keeps to build environs.
pub(crate) struct Environs {
    names: FieldNames,
    servers: Vec<(Arc<Server>, Template)>,
    templates: TemplateCache,
    addresses: Addresses,
}

/// The parts of a request that the environ is made of.
pub(super) struct Parts<'a, 'py> {
    /// Its head, and who has sent it.
    pub request: &'a RequestContext,
    /// Its id, if it has one.
    pub id: Option<&'a [u8]>,
    /// Bytes of the body; `None` while they are not known.
    pub(crate) body_length: Option<u64>,
    /// `wsgi.input`, where there is something to read.
    pub(crate) input: Option<&'a Bound<'py, Input>>,
    /// What it can call.
    pub(crate) callables: &'a Callables,
}

impl<'a> Parts<'a, '_> {
    /// The head.
    fn head(&self) -> &'a RequestHead {
        &self.request.head
    }

    /// The listener.
    fn server(&self) -> &'a Arc<Server> {
        &self.request.client.listener
    }

    /// The other end of the connection.
    fn peer(&self) -> Peer {
        self.request.client.peer
    }
}

/// Listeners whose templates are kept.
const SERVERS_MAX: usize = 16;

impl Environs {
    /// Nothing kept yet.
    pub(crate) fn new(py: Python<'_>) -> Self {
        Self {
            names: FieldNames::new(py),
            servers: Vec::new(),
            templates: TemplateCache::new(),
            addresses: Addresses::new(),
        }
    }

    /// A new environ for one request.
    ///
    /// # Errors
    /// Out of memory only.
    pub(crate) fn build<'py>(
        &mut self,
        py: Python<'py>,
        settings: &GatewaySettings,
        parts: &Parts<'_, 'py>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let environ = match parts.head().is_gateway() {
            true => self.build_from_variables(py, settings, parts)?,
            false => self.build_from_fields(py, settings, parts)?,
        };
        if let Some(user) = parts.request.user.as_deref() {
            set_user(&environ, user)?;
        }
        if let Some(trace) = &parts.request.trace {
            set_trace(&environ, trace, parts.head())?;
        }
        Ok(environ)
    }

    /// The same for a request of HTTP.
    fn build_from_fields<'py>(
        &mut self,
        py: Python<'py>,
        settings: &GatewaySettings,
        parts: &Parts<'_, 'py>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let environ = self.with_fields(py, settings, parts)?;
        set_target(py, &environ, settings, parts.head())?;
        if parts.head().method() != b"GET" {
            environ.set_item(intern!(py, "REQUEST_METHOD"), method(py, parts.head().method())?)?;
        }
        if parts.head().version != Version::Http11 {
            let protocol = match parts.head().version {
                Version::Http10 => intern!(py, "HTTP/1.0"),
                Version::Http11 => intern!(py, "HTTP/1.1"),
                Version::Http2 => intern!(py, "HTTP/2.0"),
                Version::Http3 => intern!(py, "HTTP/3.0"),
            };
            environ.set_item(intern!(py, "SERVER_PROTOCOL"), protocol)?;
        }
        if let Some(input) = parts.input {
            environ.set_item(intern!(py, "wsgi.input"), input)?;
        }
        set_peer(py, &environ, parts)?;
        if parts.head().framing == Framing::Chunked {
            set_length(py, &environ, parts.body_length)?;
        }
        if let Some(client) = parts.request.client.tls.as_deref() {
            tls::apply(&environ, client)?;
        }
        if let Some(destination) = parts.request.client.destination.as_deref() {
            set_destination(py, &environ, *destination)?;
        }
        if let Some(forwarded) = parts.request.forwarded.as_deref() {
            forwarded::apply(&environ, &settings.root_path, parts, forwarded)?;
        }
        if let Some(mounted) = parts.request.mounted() {
            set_mount(py, &environ, &mounted.path)?;
        }
        Ok(environ)
    }

    /// The same for a request of which a gateway tells.
    fn build_from_variables<'py>(
        &mut self,
        py: Python<'py>,
        settings: &GatewaySettings,
        parts: &Parts<'_, 'py>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let at = self.server_template(py, settings, parts)?;
        let template = &mut self.servers[at].1;
        template.meet(py, address(parts.peer()), &mut self.addresses)?;
        let environ = template.copy(py, parts.callables)?;
        if parts.peer() == Peer::Unix {
            set_server_from_host(py, &environ, parts)?;
        }
        add_fields(&environ, &mut self.names, settings, parts.head())?;
        cgi::apply(&environ, &settings.root_path, &mut self.names, parts)?;
        if let Some(input) = parts.input {
            environ.set_item(intern!(py, "wsgi.input"), input)?;
        }
        if let Some(id) = parts.id {
            environ.set_item(intern!(py, "portico.request_id"), latin1(py, id)?)?;
        }
        if parts.head().framing == Framing::Chunked {
            set_length(py, &environ, parts.body_length)?;
        }
        if let Some(destination) = parts.request.client.destination.as_deref() {
            set_destination(py, &environ, *destination)?;
        }
        Ok(environ)
    }

    /// The constants of the listener and the header entries.
    fn with_fields<'py>(
        &mut self,
        py: Python<'py>,
        settings: &GatewaySettings,
        parts: &Parts<'_, 'py>,
    ) -> PyResult<Bound<'py, PyDict>> {
        // Of equal lines there are up to three readings.
        let reading = match (parts.head().is_edited(), parts.request.trusted) {
            (false, _) => FieldsReading::Whole,
            (true, true) => FieldsReading::OfBelieved,
            (true, false) => FieldsReading::OfOthers,
        };
        let lines = Lines { bytes: parts.head().field_lines(), reading, server: parts.server() };
        // What routes do to fields is another reading for each of them.
        let looked_up = match parts.request.is_edited_by_route() {
            false => self.templates.lookup(lines),
            true => Lookup::Miss,
        };
        let store = match looked_up {
            Lookup::Hit(template) => {
                template.meet(py, address(parts.peer()), &mut self.addresses)?;
                if let Some(id) = parts.id {
                    template.meet_id(py, id)?;
                }
                return template.copy(py, parts.callables);
            }
            Lookup::Store(hash) => Some(hash),
            Lookup::Miss => None,
        };
        let at = self.server_template(py, settings, parts)?;
        let template = &mut self.servers[at].1;
        template.meet(py, address(parts.peer()), &mut self.addresses)?;
        if let Some(id) = parts.id {
            template.meet_id(py, id)?;
        }
        let environ = template.copy(py, parts.callables)?;
        add_fields(&environ, &mut self.names, settings, parts.head())?;
        if let Some(hash) = store {
            let template = Template::new(&environ.copy()?, parts.callables)?;
            self.templates.store(hash, lines, template);
        }
        Ok(environ)
    }

    /// The place of the listener's template.
    fn server_template(
        &mut self,
        py: Python<'_>,
        settings: &GatewaySettings,
        parts: &Parts<'_, '_>,
    ) -> PyResult<usize> {
        let server = parts.server();
        if let Some(at) = self.servers.iter().position(|(known, _)| Arc::ptr_eq(known, server)) {
            return Ok(at);
        }
        if self.servers.len() >= SERVERS_MAX {
            self.servers.clear();
        }
        let template = Template::new(&server_template(py, settings, server)?, parts.callables)?;
        self.servers.push((Arc::clone(server), template));
        Ok(self.servers.len() - 1)
    }
}

fn address(peer: Peer) -> Address {
    match peer {
        Peer::Inet(address) => Address::Ip(address.ip()),
        Peer::Unix => Address::Unix,
    }
}

/// What of the peer is another's from connection to connection; its address is the template's.
fn set_peer(py: Python<'_>, environ: &Bound<'_, PyDict>, parts: &Parts<'_, '_>) -> PyResult<()> {
    match parts.peer() {
        Peer::Inet(address) => {
            let mut digits = itoa::Buffer::new();
            let port = PyString::new(py, digits.format(address.port()));
            environ.set_item(intern!(py, "REMOTE_PORT"), port)
        }
        // A UNIX socket has no ports either: ours is the one that the client asked for.
        Peer::Unix => {
            environ.del_item(intern!(py, "REMOTE_PORT"))?;
            set_server_from_host(py, environ, parts)
        }
    }
}

/// The user whose password the server has verified (RFC 3875, sections 4.1.1 and 4.1.11). A gateway's word for it
/// is replaced. The application does not get the password.
#[cold]
fn set_user(environ: &Bound<'_, PyDict>, user: &str) -> PyResult<()> {
    let py = environ.py();
    environ.set_item(intern!(py, "REMOTE_USER"), latin1(py, user.as_bytes())?)?;
    environ.set_item(intern!(py, "AUTH_TYPE"), intern!(py, "Basic"))?;
    let credentials = intern!(py, "HTTP_AUTHORIZATION");
    if environ.contains(credentials)? { environ.del_item(credentials) } else { Ok(()) }
}

/// The span of this server is the parent of the application's. What of another trace is no part of this one does
/// not reach it (W3C Trace Context, section 4.3). `baggage` is of no trace.
fn set_trace(environ: &Bound<'_, PyDict>, trace: &SpanContext, head: &RequestHead) -> PyResult<()> {
    let py = environ.py();
    environ.set_item(intern!(py, "HTTP_TRACEPARENT"), latin1(py, trace.own.text().value())?)?;
    if trace.parent.is_some() || !head.initials().has(b"tracestate") {
        return Ok(());
    }
    let state = intern!(py, "HTTP_TRACESTATE");
    if environ.contains(state)? { environ.del_item(state) } else { Ok(()) }
}

/// What a PROXY header tells beside the client's address, by the names that gunicorn gives it.
#[cold]
fn set_destination(py: Python<'_>, environ: &Bound<'_, PyDict>, destination: SocketAddr) -> PyResult<()> {
    // Both ends of a connection are of one family.
    let family = if destination.is_ipv4() { intern!(py, "TCP4") } else { intern!(py, "TCP6") };
    environ.set_item(intern!(py, "PROXY_PROTOCOL"), family)?;
    environ.set_item(intern!(py, "PROXY_ADDR"), forwarded::address_text(py, destination.ip()))?;
    environ.set_item(intern!(py, "PROXY_PORT"), forwarded::decimal(py, destination.port()))
}

/// The entries that are the same for all requests of one listener, or for most, and the keys of those that are
/// not.
fn server_template<'py>(
    py: Python<'py>,
    settings: &GatewaySettings,
    server: &Server,
) -> PyResult<Bound<'py, PyDict>> {
    let template = PyDict::new(py);
    for key in
        ["PATH_INFO", "QUERY_STRING", "RAW_URI", "REQUEST_URI", "REMOTE_ADDR", "REMOTE_PORT", "portico.peer"]
    {
        template.set_item(PyString::intern(py, key), py.None())?;
    }
    let text = |text: &str| PyString::new(py, text);
    template.set_item(intern!(py, "REQUEST_METHOD"), intern!(py, "GET"))?;
    template.set_item(intern!(py, "SERVER_PROTOCOL"), intern!(py, "HTTP/1.1"))?;
    template.set_item(intern!(py, "SCRIPT_NAME"), latin1(py, settings.root_path.as_bytes())?)?;
    template.set_item(intern!(py, "SERVER_NAME"), text(&server.name))?;
    template.set_item(intern!(py, "SERVER_PORT"), text(&server.port))?;
    template.set_item(intern!(py, "SERVER_SOFTWARE"), concat!("portico/", env!("CARGO_PKG_VERSION")))?;
    template.set_item(intern!(py, "GATEWAY_INTERFACE"), "CGI/1.1")?;
    template.set_item(intern!(py, "wsgi.version"), (1, 0))?;
    template.set_item(intern!(py, "wsgi.url_scheme"), if server.tls { "https" } else { "http" })?;
    if server.tls {
        tls::prepare(&template)?;
    }
    template.set_item(intern!(py, "wsgi.input"), &settings.empty_input)?;
    template.set_item(intern!(py, "wsgi.errors"), &settings.errors)?;
    template.set_item(intern!(py, "wsgi.multithread"), settings.multithread)?;
    template.set_item(intern!(py, "wsgi.multiprocess"), settings.multiprocess)?;
    template.set_item(intern!(py, "wsgi.run_once"), false)?;
    template.set_item(intern!(py, "wsgi.input_terminated"), true)?;
    template.set_item(intern!(py, "wsgi.file_wrapper"), py.get_type::<FileWrapper>())?;
    if settings.traces {
        template.set_item(intern!(py, "HTTP_TRACEPARENT"), py.None())?;
    }
    template.set_item(intern!(py, "portico.after_response"), &settings.after_response)?;
    template.set_item(intern!(py, "portico.route"), wrap_pyfunction!(super::route::route, py)?)?;
    Ok(template)
}

/// Adds the header entries. Fields of one name are joined as RFC 9110, section 5.3 and RFC 6265, section 5.4
/// have it. Those that must not have two values come once: see `singletons` in the protocol.
fn add_fields(
    environ: &Bound<'_, PyDict>,
    names: &mut FieldNames,
    settings: &GatewaySettings,
    head: &RequestHead,
) -> PyResult<()> {
    let py = environ.py();
    for (name, value) in head.fields() {
        let key = match name.len() {
            12 if name.eq_ignore_ascii_case(b"content-type") => intern!(py, "CONTENT_TYPE").clone(),
            // Not the client's: see `set_trace`.
            11 if settings.traces && name.eq_ignore_ascii_case(b"traceparent") => continue,
            // Set from the framing below, and never twice.
            14 if name.eq_ignore_ascii_case(b"content-length") => continue,
            // Decoded already: see `set_length`.
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => continue,
            _ => names.key(py, name),
        };
        let value = latin1(py, value)?;
        match environ.get_item(&key)? {
            None => environ.set_item(key, value)?,
            Some(earlier) => {
                let separator = if name.eq_ignore_ascii_case(b"cookie") { "; " } else { "," };
                let earlier = earlier.cast_into::<PyString>()?;
                environ.set_item(key, earlier.add(separator)?.add(value)?)?;
            }
        }
    }
    if let Framing::Length(length) = head.framing {
        let mut digits = itoa::Buffer::new();
        environ.set_item(intern!(py, "CONTENT_LENGTH"), PyString::new(py, digits.format(length)))?;
    }
    Ok(())
}

/// A body that came without a length and is buffered has one by now, and gets it: Django reads nothing without.
/// One that is still arriving has none; that it can be read to its end wsgi.input_terminated tells. Its transfer
/// coding is not told: it has been decoded, and some applications would do so once more.
fn set_length(py: Python<'_>, environ: &Bound<'_, PyDict>, body_length: Option<u64>) -> PyResult<()> {
    let Some(length) = body_length else { return Ok(()) };
    let mut digits = itoa::Buffer::new();
    environ.set_item(intern!(py, "CONTENT_LENGTH"), PyString::new(py, digits.format(length)))
}

/// SERVER_NAME and SERVER_PORT as the client has them, where the listener has none of its own.
fn set_server_from_host(py: Python<'_>, environ: &Bound<'_, PyDict>, parts: &Parts<'_, '_>) -> PyResult<()> {
    let (name, port) = host_and_port(parts.head().authority().unwrap_or_default());
    let name = if name.is_empty() { b"localhost" } else { name };
    environ.set_item(intern!(py, "SERVER_NAME"), latin1(py, name)?)?;
    environ.set_item(
        intern!(py, "SERVER_PORT"),
        latin1(py, port.unwrap_or(if parts.server().tls { b"443" } else { b"80" }))?,
    )
}

/// The parts of an authority; an empty port is none.
fn host_and_port(host: &[u8]) -> (&[u8], Option<&[u8]>) {
    let after_bracket = host.iter().rposition(|&byte| byte == b']').map_or(0, |at| at + 1);
    let colon = host[after_bracket..].iter().position(|&byte| byte == b':').map(|at| at + after_bracket);
    match colon {
        Some(at) => (&host[..at], Some(&host[at + 1..]).filter(|port| !port.is_empty())),
        None => (host, None),
    }
}

/// Everything that comes from the request target.
fn set_target(
    py: Python<'_>,
    environ: &Bound<'_, PyDict>,
    settings: &GatewaySettings,
    head: &RequestHead,
) -> PyResult<()> {
    let target = head.target();
    let raw = latin1(py, target)?;
    let inside = path_info(head.path(), settings.root_path.as_bytes());
    match *inside == *target {
        true => environ.set_item(intern!(py, "PATH_INFO"), &raw)?,
        false => environ.set_item(intern!(py, "PATH_INFO"), latin1(py, &inside)?)?,
    }
    environ.set_item(intern!(py, "QUERY_STRING"), latin1(py, head.query())?)?;
    environ.set_item(intern!(py, "RAW_URI"), &raw)?;
    environ.set_item(intern!(py, "REQUEST_URI"), &raw)?;
    if let (false, Some(authority)) = (matches!(target.first(), Some(b'/' | b'*')), head.authority()) {
        // RFC 9112, section 3.2.2: the authority of an absolute-form target stands in for Host.
        environ.set_item(intern!(py, "HTTP_HOST"), latin1(py, authority)?)?;
    }
    Ok(())
}

/// Divides the path anew, for an application that is mounted at `mount`. A path that was rewritten and does not
/// lead there stays as it is.
#[cold]
fn set_mount(py: Python<'_>, environ: &Bound<'_, PyDict>, mount: &str) -> PyResult<()> {
    let entry = |key| -> PyResult<String> {
        environ.get_item(key)?.map_or_else(|| Ok(String::new()), |text| text.extract())
    };
    // As environ has it, a character for each byte.
    let mount: String = mount.bytes().map(char::from).collect();
    let path_info = entry(intern!(py, "PATH_INFO"))?;
    let rest = path_info.strip_prefix(&mount).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let Some(rest) = rest else { return Ok(()) };
    let script_name = entry(intern!(py, "SCRIPT_NAME"))? + &mount;
    environ.set_item(intern!(py, "SCRIPT_NAME"), script_name)?;
    environ.set_item(intern!(py, "PATH_INFO"), rest)
}

fn method<'py>(py: Python<'py>, method: &[u8]) -> PyResult<Bound<'py, PyString>> {
    Ok(match method {
        b"POST" => intern!(py, "POST").clone(),
        b"HEAD" => intern!(py, "HEAD").clone(),
        b"PUT" => intern!(py, "PUT").clone(),
        b"PATCH" => intern!(py, "PATCH").clone(),
        b"DELETE" => intern!(py, "DELETE").clone(),
        b"OPTIONS" => intern!(py, "OPTIONS").clone(),
        other => latin1(py, other)?,
    })
}
