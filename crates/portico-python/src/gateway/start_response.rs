//! One request's answer as the application makes it: `start_response`, `write`, `wsgi.early_hints` and
//! `portico.client_disconnected`.
//!
//! The four are bound methods of one [`Exchange`], made once per thread and used again for the next request
//! unless the application has kept one of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyAssertionError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyBytes, PyList, PyString, PyTraceback, PyTuple};

use portico_proto::{Fields, ResponseHead};

use super::answer::{Answer, Progress};
use super::response_head;
use crate::error::ClientDisconnected;
use crate::raw;

/// Field memory that is kept for the next answer.
const KEPT_FIELD_BYTES: usize = 16 * 1024;

/// The answer to the request that runs, behind the callables that the application gets.
#[pyclass(frozen, name = "Exchange", module = "portico._portico")]
pub struct Exchange {
    state: Mutex<Answer>,
}

/// An [`Exchange`] with its bound methods.
pub struct Callables {
    exchange: Py<Exchange>,
    /// The `start_response` of PEP 3333.
    pub start_response: Py<PyAny>,
    /// `environ["wsgi.early_hints"]`.
    pub early_hints: Py<PyAny>,
    /// `environ["portico.client_disconnected"]`.
    pub client_disconnected: Py<PyAny>,
}

impl Callables {
    /// A new exchange, for no request yet.
    pub fn new(py: Python<'_>) -> PyResult<Self> {
        let exchange = Bound::new(py, Exchange { state: Mutex::new(Answer::default()) })?;
        let write = exchange.getattr(intern!(py, "write"))?.unbind();
        exchange.get().lock(py).write = Some(write);
        Ok(Self {
            start_response: exchange.getattr(intern!(py, "start_response"))?.unbind(),
            early_hints: exchange.getattr(intern!(py, "early_hints"))?.unbind(),
            client_disconnected: exchange.getattr(intern!(py, "client_disconnected"))?.unbind(),
            exchange: exchange.unbind(),
        })
    }

    /// The answer under construction.
    pub fn answer(&self, py: Python<'_>) -> MutexGuard<'_, Answer> {
        self.exchange.get().lock(py)
    }

    /// Ends the request. Returns whether the callables can serve the next one: nobody else holds one of them.
    /// Otherwise they are cut off for good and let go of.
    pub fn end(&self, py: Python<'_>) -> bool {
        let mut answer = self.answer(py);
        answer.responder = None;
        answer.given = false;
        if answer.head.fields.lines().len() > KEPT_FIELD_BYTES {
            answer.head.fields = Fields::new();
        }
        // The exchange is held here and by its four bound methods, each of those by one owner.
        let alone = raw::reference_count(py, &self.exchange) == 5
            && raw::reference_count(py, &self.start_response) == 1
            && raw::reference_count(py, &self.early_hints) == 1
            && raw::reference_count(py, &self.client_disconnected) == 1
            && answer.write.as_ref().is_some_and(|write| raw::reference_count(py, write) == 1);
        if !alone {
            // Breaks the cycle of the exchange and its own bound method.
            let write = answer.write.take();
            drop(answer);
            drop(write);
        }
        alone
    }
}

impl Exchange {
    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, Answer> {
        self.state.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Exchange {
    /// Sets status and headers; they go out with the first block of the body. Returns `write`.
    ///
    /// PEP 3333 has the arguments passed by position. By name is taken too: applications do it, and other servers
    /// let them.
    #[pyo3(signature = (status, headers, exc_info=None))]
    fn start_response(
        &self,
        py: Python<'_>,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        exc_info: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let mut answer = self.lock(py);
        let Some(write) = answer.write.as_ref().map(|write| write.clone_ref(py)) else {
            return Err(PyAssertionError::new_err("start_response was called after its request had ended"));
        };
        if answer.started {
            return Err(match exc_info {
                Some(exc_info) => exception_of(exc_info)?,
                None => {
                    PyAssertionError::new_err("start_response was called after the headers had been sent")
                }
            });
        }
        if answer.responder.is_none() {
            return Err(PyAssertionError::new_err("start_response was called after its request had ended"));
        }
        if answer.given && exc_info.is_none() {
            let rule = "start_response was called a second time without exc_info (PEP 3333)";
            return Err(PyAssertionError::new_err(rule));
        }
        answer.given = false;
        response_head::fill(&mut answer.head, status, headers)?;
        answer.given = true;
        Ok(write)
    }

    /// Sends a block of the body at once: for applications that cannot return an iterable (PEP 3333).
    #[pyo3(signature = (data, /))]
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = data.cast::<PyBytes>().map_err(|_| wrong_block(data))?;
        let mut answer = self.lock(py);
        if answer.responder.is_none() && !answer.complete {
            return Err(PyAssertionError::new_err("write was called after its request had ended"));
        }
        match answer.send(py, data.as_bytes())? {
            Progress::Gone => {
                Err(ClientDisconnected::new_err("the client has left: nothing more can be written"))
            }
            Progress::More | Progress::Complete => Ok(()),
        }
    }

    /// Sends `103 Early Hints` with these headers, a list of (name, value); nothing if the answer has begun.
    #[pyo3(signature = (headers, /))]
    fn early_hints(&self, py: Python<'_>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut hints = ResponseHead::default();
        let headers = headers.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let headers = PyList::new(py, headers)?;
        response_head::fill(&mut hints, PyString::new(py, "200 OK").as_any(), headers.as_any())?;
        let mut answer = self.lock(py);
        if answer.started {
            return Ok(());
        }
        if let Some(responder) = &mut answer.responder {
            // A client that has left is noticed when the answer is sent.
            let _ = responder.early_hints(&hints.fields);
        }
        Ok(())
    }

    /// Whether the client is known to have left before its answer was complete: nobody will read it. A
    /// computation that takes long may ask now and then. False once the request has ended.
    fn client_disconnected(&self, py: Python<'_>) -> bool {
        self.lock(py).client_has_left(py)
    }
}

/// The error for a body block that is not `bytes`.
pub fn wrong_block(block: &Bound<'_, PyAny>) -> PyErr {
    let class = block.get_type().name().map(|name| name.to_string()).unwrap_or_default();
    PyTypeError::new_err(format!("blocks of the body must be bytes, not {class} (PEP 3333)"))
}

/// The exception that `exc_info` carries, to be raised again with its traceback.
fn exception_of(exc_info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let wrong = || PyTypeError::new_err("exc_info must be the tuple that sys.exc_info() returns");
    let tuple = exc_info.cast::<PyTuple>().map_err(|_| wrong())?;
    if tuple.len() != 3 {
        return Err(wrong());
    }
    let error = PyErr::from_value(tuple.get_item(1)?);
    if let Ok(traceback) = tuple.get_item(2)?.cast_into::<PyTraceback>() {
        error.set_traceback(exc_info.py(), Some(traceback));
    }
    Ok(error)
}
