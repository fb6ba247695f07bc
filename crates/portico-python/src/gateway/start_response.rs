//! One request's response as the application makes it, and what it can ask meanwhile: `start_response`, `write`,
//! `wsgi.early_hints`, `portico.client_disconnected` and `portico.deadline`.
//!
//! They are bound methods of one [`ResponseExchange`], made once per thread and used again for the next request
//! unless the application has kept one of them.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pyo3::exceptions::{PyAssertionError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTraceback, PyTuple};

use portico_config::Config;
use portico_proto::{Fields, ResponseHead};
use portico_server::{RequestKey, Responder};
use portico_supervisor::now_nanos;

use super::detached;
use super::lapses::Lapses;
use super::response_head::{self, FIELDS_MAX, HeadRefusal};
use super::response_writer::{ResponseWriter, WriteProgress};
use super::streams::{StreamOffer, Streams};
use crate::error::ClientDisconnected;
use crate::hub;
use crate::raw;
use crate::thread_status::{self, ThreadStatus};

/// Field memory that is kept for the next response.
const KEPT_FIELD_BYTES: usize = 16 * 1024;

/// The response to the request that runs, behind the callables that the application gets.
#[pyclass(frozen, name = "Exchange", module = "portico._portico")]
pub(crate) struct ResponseExchange {
    state: Mutex<ResponseWriter>,
    config: Arc<Config>,
}

/// A [`ResponseExchange`] with its bound methods, made once for a thread and used by call after call.
pub(crate) struct Callables {
    exchange: Py<ResponseExchange>,
    /// Tells them from others.
    pub(crate) number: u64,
    /// The `start_response` of PEP 3333.
    pub(crate) start_response: Py<PyAny>,
    /// Those of the environ, in the order of [`IN_ENVIRON`].
    in_environ: [Py<PyAny>; IN_ENVIRON.len()],
    /// How many references to each of them there are while the environ has one.
    references: [Option<isize>; IN_ENVIRON.len()],
}

/// A connection that the application has taken over.
pub(crate) struct TakenConnection {
    /// Its socket.
    pub(crate) socket: OwnedFd,
    /// The connection ends when nobody has this any more.
    pub(crate) responder: Option<Arc<Responder>>,
    /// The record of the thread that has the call.
    pub(crate) record: Option<Arc<ThreadStatus>>,
}

/// Keys of the environ and the methods that they stand for.
const IN_ENVIRON: [(&str, &str); 3] = [
    ("wsgi.early_hints", "early_hints"),
    ("portico.client_disconnected", "client_disconnected"),
    ("portico.deadline", "deadline"),
];

/// References to an exchange that nobody else has: here, and from each of its bound methods.
const EXCHANGE_REFERENCES: isize = 3 + IN_ENVIRON.len() as isize;

impl Callables {
    /// A new exchange, for no request yet. To be made in the thread that will have the requests.
    pub(crate) fn new(py: Python<'_>, config: &Arc<Config>) -> PyResult<Self> {
        static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);
        let state = Mutex::new(ResponseWriter::new(thread_status::own()));
        let exchange = Bound::new(py, ResponseExchange { state, config: Arc::clone(config) })?;
        let method = |name: &str| exchange.getattr(name).map(Bound::unbind);
        let [(_, first), (_, second), (_, third)] = IN_ENVIRON;
        exchange.get().lock(py).write = Some(method("write")?);
        Ok(Self {
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            start_response: method("start_response")?,
            in_environ: [method(first)?, method(second)?, method(third)?],
            references: [None; IN_ENVIRON.len()],
            exchange: exchange.unbind(),
        })
    }

    /// Puts those of the environ into `environ`.
    pub(crate) fn put_into(&self, environ: &Bound<'_, PyDict>) -> PyResult<()> {
        let mut entries = IN_ENVIRON.iter().zip(&self.in_environ);
        entries.try_for_each(|((key, _), callable)| {
            environ.set_item(PyString::intern(environ.py(), key), callable)
        })
    }

    /// Begins a request, whose environ is made.
    pub(crate) fn begin(&mut self, py: Python<'_>, responder: Responder, is_head: bool) {
        self.references = self.in_environ.each_ref().map(|callable| raw::known_references(py, callable));
        self.response(py).begin(responder, is_head);
    }

    /// The response under construction.
    pub(crate) fn response(&self, py: Python<'_>) -> MutexGuard<'_, ResponseWriter> {
        self.exchange.get().lock(py)
    }

    /// What the environ has as the socket of the request `key`.
    pub(crate) fn offer<'py>(
        &self,
        py: Python<'py>,
        key: RequestKey,
        streams: &Arc<Streams>,
    ) -> PyResult<Bound<'py, PyAny>> {
        StreamOffer::socket(py, &self.exchange, key, streams)
    }

    /// The call has ended: so does the connection, if the application has taken it over, once its socket is closed
    /// as well.
    pub(crate) fn end_stream(&self, py: Python<'_>) {
        let Some(lent) = self.response(py).lent.take() else { return };
        detached(py, true, || lent.end_call());
        drop(lent);
    }

    /// Ends the request. Returns whether the callables can serve the next one: nobody else holds one of them.
    /// Otherwise they are cut off for good and let go of.
    pub(crate) fn end(&self, py: Python<'_>) -> bool {
        let mut response = self.response(py);
        response.responder = None;
        response.given = false;
        if response.head.fields.lines().len() > KEPT_FIELD_BYTES {
            response.head.fields = Fields::new();
        }
        let mut in_environ = self.in_environ.iter().zip(self.references);
        let alone = raw::known_references(py, &self.exchange) == Some(EXCHANGE_REFERENCES)
            && raw::known_references(py, &self.start_response) == Some(1)
            && in_environ.all(|(callable, with_environ)| {
                let left = raw::known_references(py, callable);
                left.is_some() && left == with_environ.map(|count| count - 1)
            })
            && response.write.as_ref().is_some_and(|write| raw::known_references(py, write) == Some(1));
        if !alone {
            // Breaks the cycle of the exchange and its own bound method.
            let write = response.write.take();
            drop(response);
            drop(write);
        }
        alone
    }
}

impl ResponseExchange {
    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, ResponseWriter> {
        hub::lock(py, &self.state)
    }

    /// Gives the connection of the request `key` to the application: a socket, and what the connection lives as
    /// long as. Also the record of the thread that has its call.
    ///
    /// # Errors
    /// `OSError` where that is not possible any more.
    pub(crate) fn lend(&self, py: Python<'_>, key: RequestKey) -> PyResult<TakenConnection> {
        let mut response = self.lock(py);
        let socket = response.lend(py, key)?;
        Ok(TakenConnection { socket, responder: response.lent.clone(), record: response.record.clone() })
    }

    /// The items of `headers`, where they are neither list nor tuple and can be iterated over; not where that is
    /// refused.
    fn collected<'py>(&self, headers: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let is_sequence = headers.is_instance_of::<PyList>() || headers.is_instance_of::<PyTuple>();
        if is_sequence || self.config.strict_wsgi {
            return Ok(None);
        }
        // What cannot be iterated over is told as what it is.
        let Ok(items) = headers.try_iter() else { return Ok(None) };
        // One more than is taken: that there are too many is told as of a list.
        let items = items.take(FIELDS_MAX + 1).collect::<PyResult<Vec<_>>>()?;
        Ok(Some(PyTuple::new(headers.py(), items)?.into_any()))
    }

    /// Logs what of a response was put right, once for each kind.
    #[cold]
    fn tell(&self, py: Python<'_>, lapses: Lapses) {
        let mut untold = lapses.take_untold().peekable();
        if untold.peek().is_none() {
            return;
        }
        let record = self.lock(py).record.clone();
        let request =
            record.and_then(|record| record.thread().running()).map_or_else(String::new, |running| {
                let (method, path) = (running.method.escape_ascii(), running.path().escape_ascii());
                format!("{method} {path}: ")
            });
        detached(py, true, || {
            for lapse in untold {
                log::warn!("{request}{} (PEP 3333; said once)", lapse.warning());
            }
        });
    }
}

#[pymethods]
impl ResponseExchange {
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
        // Before the lock: to iterate is code of the application's.
        let is_list = headers.is_exact_instance_of::<PyList>();
        let collected = if is_list { None } else { self.collected(headers)? };
        let headers = collected.as_ref().unwrap_or(headers);
        let mut response = self.lock(py);
        let Some(write) = response.write.as_ref().map(|write| write.clone_ref(py)) else {
            return Err(PyAssertionError::new_err("start_response was called after its request had ended"));
        };
        if response.lent.is_some() {
            return Ok(write); // What the client gets is the application's affair.
        }
        if response.started {
            drop(response);
            return Err(match exc_info {
                Some(exc_info) => exception_of(exc_info)?,
                None => {
                    PyAssertionError::new_err("start_response was called after the headers had been sent")
                }
            });
        }
        if response.responder.is_none() {
            return Err(PyAssertionError::new_err("start_response was called after its request had ended"));
        }
        // Also where the first call has raised.
        if std::mem::replace(&mut response.called, true) && exc_info.is_none() {
            let rule = "start_response was called a second time without exc_info (PEP 3333)";
            return Err(PyAssertionError::new_err(rule));
        }
        let filled = response_head::fill(&mut response.head, (status, headers), self.config.strict_wsgi);
        response.given = filled.is_ok();
        // Before the objects are asked what they are: they may call this server, or switch to another greenlet.
        drop(response);
        let lapses = filled.map_err(HeadRefusal::into_error)?;
        if !lapses.is_empty() {
            self.tell(py, lapses);
        }
        Ok(write)
    }

    /// Sends a block of the body at once: for applications that cannot return an iterable (PEP 3333).
    #[pyo3(signature = (data, /))]
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = data.cast::<PyBytes>().map_err(|_| wrong_block(data))?;
        let mut response = self.lock(py);
        if response.responder.is_none() && !response.complete {
            return Err(PyAssertionError::new_err("write was called after its request had ended"));
        }
        response.notice_gone(py);
        match response.send(py, data.as_bytes())? {
            WriteProgress::Gone => {
                Err(ClientDisconnected::new_err("the client has left: nothing more can be written"))
            }
            WriteProgress::More | WriteProgress::Complete => Ok(()),
        }
    }

    /// Sends `103 Early Hints` with these headers, a list of (name, value); nothing if the response has begun.
    #[pyo3(signature = (headers, /))]
    fn early_hints(&self, py: Python<'_>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut hints = ResponseHead::default();
        let headers = headers.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let headers = PyList::new(py, headers)?;
        let status = PyString::new(py, "200 OK");
        let arguments = (status.as_any(), headers.as_any());
        let filled = response_head::fill(&mut hints, arguments, self.config.strict_wsgi);
        self.tell(py, filled.map_err(HeadRefusal::into_error)?);
        let mut response = self.lock(py);
        if response.started {
            return Ok(());
        }
        if let Some(responder) = &mut response.responder {
            // A client that has left is noticed when the response is sent.
            let _ = responder.early_hints(&hints.fields);
        }
        Ok(())
    }

    /// Whether the client is known to have left before its response was complete: nobody will read it. A
    /// computation that takes long may ask now and then. False once the request has ended.
    ///
    /// `callback` is called, without arguments and in a thread of Portico's, when the client leaves while the
    /// request runs, and at once if it has left. It is called once at most, and not after the request.
    #[pyo3(signature = (callback=None))]
    fn client_disconnected(&self, py: Python<'_>, callback: Option<Bound<'_, PyAny>>) -> PyResult<bool> {
        if callback.as_ref().is_some_and(|callback| !callback.is_callable()) {
            return Err(PyTypeError::new_err("the callback must be callable"));
        }
        let response = self.lock(py);
        if let Some(callback) = callback {
            // While the request runs: the call does not end before this lock is let go of.
            if let (Some(_), Some(record)) = (&response.write, &response.record) {
                record.add_callback(py, callback.unbind());
            }
        }
        Ok(response.client_has_left(py))
    }

    /// Seconds until `portico.RequestTimeout` is raised; they count anew from each block. None where there is no
    /// limit, and once the request has ended.
    fn deadline(&self, py: Python<'_>) -> Option<f64> {
        let response = self.lock(py);
        let running = match (&response.write, &response.record) {
            (Some(_), Some(record)) => record.thread().running()?,
            _ => return None,
        };
        let timeout = running.timeout(&self.config);
        let taken = Duration::from_nanos(now_nanos().saturating_sub(running.progress_nanos));
        (!timeout.is_zero()).then(|| timeout.saturating_sub(taken).as_secs_f64())
    }
}

/// The error for a body block that is not `bytes`.
pub(crate) fn wrong_block(block: &Bound<'_, PyAny>) -> PyErr {
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
