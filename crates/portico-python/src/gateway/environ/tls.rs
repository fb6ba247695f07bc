//! What the environ of a request that came by TLS has beside the others: HTTPS, and the variables of Apache's
//! mod_ssl. Fields of a request become HTTP_*, so that no client can pose as one that has shown a certificate.

use portico_net::TlsClient;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::raw::latin1;

/// What nearly all clients speak: it is in the environ from the beginning, and set where it is another.
const USUAL_PROTOCOL: &str = "TLSv1.3";
const USUAL_CIPHER: &str = "TLS_AES_256_GCM_SHA384";

/// Sets what all requests of such a listener have, or most of them.
pub(super) fn prepare(template: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = template.py();
    template.set_item(intern!(py, "HTTPS"), intern!(py, "on"))?;
    template.set_item(intern!(py, "SSL_PROTOCOL"), USUAL_PROTOCOL)?;
    template.set_item(intern!(py, "SSL_CIPHER"), USUAL_CIPHER)
}

/// Sets what the handshake has told of the client.
pub(super) fn apply(environ: &Bound<'_, PyDict>, client: &TlsClient) -> PyResult<()> {
    let py = environ.py();
    if client.protocol != USUAL_PROTOCOL {
        environ.set_item(intern!(py, "SSL_PROTOCOL"), PyString::intern(py, client.protocol))?;
    }
    if client.cipher != USUAL_CIPHER {
        environ.set_item(intern!(py, "SSL_CIPHER"), PyString::intern(py, client.cipher))?;
    }
    if let Some(name) = &client.server_name {
        environ.set_item(intern!(py, "SSL_SERVER_NAME"), PyString::new(py, name))?;
    }
    for (name, value) in &client.certificate {
        environ.set_item(PyString::intern(py, name), latin1(py, value.as_bytes())?)?;
    }
    Ok(())
}
