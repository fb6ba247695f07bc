//! `environ["portico.route"]`: by it the application tells which of its routes a request has, `/users/<id>` for
//! `/users/7`, for metrics and profiles.
//!
//! One function for all requests, so that it costs nothing until it is called: it is for the request that the
//! calling thread runs, or its greenlet, and does nothing elsewhere.

use pyo3::prelude::*;

use crate::thread_status;

/// Tells the name of the route of the request that runs.
///
/// # Errors
/// Python's: it is no `str`.
#[pyfunction]
pub(super) fn route(name: &str) {
    if let Some(record) = thread_status::own() {
        record.set_route(name);
    }
}
