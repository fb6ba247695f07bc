//! Accesses of which the gateway knows nothing, for the access log of a Python logger.

use portico_log::{AccessObserver, Occurrences, ServerResponse};
use portico_proto::Peer;
use pyo3::prelude::*;

use super::observer::number;
use crate::hub;
use crate::raw::latin1;

/// Has `told`, a `Server` or a `Worker` of `portico._gunicorn.server`, told of requests that the server has
/// answered; `None` where accesses are not logged through Python.
pub(crate) fn access_observer(py: Python<'_>, told: &Py<PyAny>) -> Option<AccessObserver> {
    let logs = told.bind(py).getattr("logs_access").and_then(|logs| logs.is_truthy());
    if !logs.unwrap_or_default() {
        return None;
    }
    let told = told.clone_ref(py);
    Some(AccessObserver::new(move |request| {
        hub::attach(|py| {
            if let Err(error) = tell(told.bind(py), request)
                && let Some(times) = FAILED.note()
            {
                log::error!("an access could not be logged: {error}{times}");
            }
        });
    }))
}

static FAILED: Occurrences = Occurrences::new();

fn tell(told: &Bound<'_, PyAny>, request: &ServerResponse<'_>) -> PyResult<()> {
    let py = told.py();
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| latin1(py, bytes)).transpose();
    let version = request.version.map(number);
    let address = match request.peer {
        Peer::Inet(address) => Some((address.ip().to_string(), address.port())),
        Peer::Unix => None,
    };
    let seconds = request.nanos as f64 / 1e9;
    let (method, target, fields) =
        (text(request.method)?, text(request.target)?, latin1(py, request.fields)?);
    let arguments = (method, target, version, fields, address, request.status, request.body_bytes, seconds);
    told.call_method1("answered", arguments).map(drop)
}
