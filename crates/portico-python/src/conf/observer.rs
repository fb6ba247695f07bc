//! Who in Python wants to know of each request: the hooks around it, and the access log of a Python logger.

use std::time::Duration;

use portico_log::Occurrences;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use portico_proto::{RequestHead, Version};

use crate::error::traceback;
use crate::raw::latin1;

/// An observer of requests that passes them to `Requests` of `portico._gunicorn.server`, where hooks see them.
pub(crate) struct Observer(Py<PyAny>);

/// A request that it has been told of.
pub(crate) struct Observed<'py>(Bound<'py, PyAny>);

/// The response as hooks and loggers are shown it.
pub(crate) struct Outcome<'a> {
    /// Its status and reason.
    pub(crate) status: String,
    /// Its fields.
    pub(crate) fields: Vec<(&'a [u8], &'a [u8])>,
    /// Bytes of its body.
    pub(crate) sent: u64,
    /// Whether it has begun.
    pub(crate) began: bool,
}

impl Observer {
    /// Tells `requests`.
    pub(crate) fn new(requests: Py<PyAny>) -> Self {
        Self(requests)
    }

    /// A request begins.
    ///
    /// # Errors
    /// Out of memory only.
    pub(crate) fn begin<'py>(
        &self,
        py: Python<'py>,
        head: &RequestHead,
        environ: &Bound<'py, PyDict>,
    ) -> PyResult<Observed<'py>> {
        let version = number(head.version);
        let (method, uri) = (latin1(py, head.method())?, latin1(py, head.target())?);
        let fields = pairs(py, head.fields())?;
        let request = self.0.bind(py).call_method1("begin", (method, uri, version, fields, environ));
        request.map(Observed)
    }

    /// Calls `pre_request`.
    ///
    /// # Errors
    /// What that raises.
    pub(crate) fn before_call(&self, request: &Observed<'_>) -> PyResult<()> {
        let py = request.0.py();
        self.0.bind(py).call_method1("call_pre_request", (&request.0,)).map(drop)
    }

    /// The request has ended; with `None` the application was not called. What is not `logged` has its line in
    /// the access log already.
    pub(crate) fn end<'py>(
        &self,
        request: &Observed<'py>,
        environ: &Bound<'py, PyDict>,
        outcome: Option<Outcome<'_>>,
        took: Duration,
        logged: bool,
    ) {
        let py = request.0.py();
        let told = outcome
            .map(|it| -> PyResult<_> {
                let status = PyString::new(py, &it.status);
                Ok((status, pairs(py, it.fields.into_iter())?, it.sent, it.began))
            })
            .transpose()
            .and_then(|response| {
                let arguments = (&request.0, environ, response, took.as_secs_f64(), logged);
                self.0.bind(py).call_method1("end", arguments)
            });
        if let Err(error) = told
            && let Some(times) = FAILED.note()
        {
            let traceback = traceback(py, &error);
            py.detach(|| log::error!("what was to follow a request raised{times}\n{traceback}"));
        }
    }
}

static FAILED: Occurrences = Occurrences::new();

/// A version as gunicorn's request has it.
pub(crate) fn number(version: Version) -> (u8, u8) {
    match version {
        Version::Http10 => (1, 0),
        Version::Http11 => (1, 1),
        Version::Http2 => (2, 0),
        Version::Http3 => (3, 0),
    }
}

/// Names and values as Python has them.
fn pairs<'py, 'a>(
    py: Python<'py>,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for (name, value) in fields {
        list.append((latin1(py, name)?, latin1(py, value)?))?;
    }
    Ok(list)
}
