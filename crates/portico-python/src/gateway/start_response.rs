//! One request's answer as the application makes it: `start_response`, `write` and `wsgi.early_hints`.
//!
//! The three are bound methods of one [`Exchange`], made once per thread and used again for the next request
//! unless the application has kept one of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyAssertionError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyBytes, PyList, PyString, PyTraceback, PyTuple};

use portico_proto::{Fields, ResponseHead};
use portico_server::{Gone, Responder};

use super::detached;
use super::file_wrapper::FileRange;
use super::response_head;
use crate::error::ClientDisconnected;
use crate::raw;

/// Blocks from this size on are handed to the engine with the interpreter let go: copying them takes longer
/// than that.
const DETACH_BYTES: usize = 64 * 1024;

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
        // The exchange is held here and by its three bound methods, each of those by one owner.
        let alone = raw::reference_count(py, &self.exchange) == 4
            && raw::reference_count(py, &self.start_response) == 1
            && raw::reference_count(py, &self.early_hints) == 1
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
    #[pyo3(signature = (status, headers, exc_info=None, /))]
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
}

/// What remains to be done after a block has been handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The answer wants further blocks.
    More,
    /// The client has everything that it is to get.
    Complete,
    /// The client has left.
    Gone,
}

/// The state of one answer: which part of it has been given and sent.
#[derive(Default)]
pub struct Answer {
    /// Present while the request runs and its answer is not complete.
    responder: Option<Responder>,
    head: ResponseHead,
    /// Whether `head` was given by the application.
    given: bool,
    /// Whether the head has been handed to the engine.
    started: bool,
    /// Whether the whole answer has been handed to the engine.
    complete: bool,
    /// Whether the client has left.
    gone: bool,
    /// Whether the request's method is HEAD.
    is_head: bool,
    /// Whether another call runs at the same time.
    contended: bool,
    /// Bytes of the body that have been sent.
    sent: u64,
    /// Bytes that were dropped because they exceed Content-Length.
    surplus: u64,
    /// The bound method that `start_response` returns.
    write: Option<Py<PyAny>>,
}

impl Answer {
    /// Makes ready for a request.
    pub fn begin(&mut self, responder: Responder, is_head: bool, contended: bool) {
        self.responder = Some(responder);
        self.given = false;
        self.started = false;
        self.complete = false;
        self.gone = false;
        self.is_head = is_head;
        self.contended = contended;
        self.sent = 0;
        self.surplus = 0;
    }

    /// Sends a block of the body, with the head before the first one. An empty block sends nothing.
    ///
    /// # Errors
    /// `AssertionError` if the application has not called `start_response`.
    pub fn send(&mut self, py: Python<'_>, block: &[u8]) -> PyResult<Progress> {
        if block.is_empty() {
            return Ok(self.progress());
        }
        if !self.given {
            return Err(no_start_response());
        }
        let rest = self.head.length.map(|length| length - self.sent);
        let block = self.cut(block, rest);
        if self.responder.is_none() || (self.started && block.is_empty()) {
            return Ok(self.progress());
        }
        let is_whole = rest == Some(block.len() as u64) || self.bodiless();
        if is_whole && !self.started {
            self.answer(py, block);
            return Ok(self.progress());
        }
        let Some(responder) = self.responder.as_mut() else { return Ok(self.progress()) };
        let head = (!self.started).then_some(&self.head);
        let result = detached(py, self.contended || block.len() >= DETACH_BYTES, || match head {
            Some(head) => responder.start(head, block),
            None => responder.send(block),
        });
        self.started = true;
        self.sent += block.len() as u64;
        if result == Err(Gone) {
            self.gone = true;
        } else if rest == Some(block.len() as u64) {
            self.finish_responder();
        }
        Ok(self.progress())
    }

    /// Sends what is known to be the whole body (or all of it that `write` has not sent) and ends the answer.
    ///
    /// # Errors
    /// As [`Answer::send`].
    pub fn send_last(&mut self, py: Python<'_>, block: &[u8]) -> PyResult<()> {
        if !self.given {
            return Err(no_start_response());
        }
        if !self.started && self.head.length.is_none() && self.may_infer(block) {
            self.head.length = Some(block.len() as u64);
        }
        self.send(py, block)?;
        self.finish(py)
    }

    /// The application has no further block.
    ///
    /// # Errors
    /// As [`Answer::send`].
    pub fn finish(&mut self, py: Python<'_>) -> PyResult<()> {
        if !self.given {
            return Err(no_start_response());
        }
        if self.complete || self.gone || self.responder.is_none() {
            return Ok(());
        }
        if !self.started && self.head.length.is_none() && self.may_infer(b"") {
            self.head.length = Some(0);
        }
        let missing = self.missing();
        if missing > 0 {
            if !self.started {
                self.start_only(py);
            }
            self.abort();
        } else if self.started {
            self.finish_responder();
        } else {
            self.answer(py, b"");
        }
        Ok(())
    }

    /// Sends the range of a file as the body (after what `write` has sent) and ends the answer.
    ///
    /// # Errors
    /// As [`Answer::send`].
    pub fn send_file(&mut self, py: Python<'_>, range: FileRange) -> PyResult<()> {
        if !self.given {
            return Err(no_start_response());
        }
        if !self.started && self.head.length.is_none() && !self.no_content() {
            self.head.length = Some(range.length);
        }
        let promised = self.head.length.map_or(range.length, |length| length - self.sent);
        let length = promised.min(range.length);
        if self.bodiless() || length == 0 {
            return self.finish(py);
        }
        self.surplus += range.length - length;
        let Some(responder) = self.responder.as_mut() else { return Ok(()) };
        let head = (!self.started).then_some(&self.head);
        let result = detached(py, true, || {
            if let Some(head) = head {
                responder.start(head, b"")?;
            }
            responder.send_file(range.file, range.offset, length)
        });
        self.started = true;
        self.sent += length;
        self.gone = result == Err(Gone);
        self.finish(py)
    }

    /// Says how long the whole body is, if the application has not said it itself.
    pub fn expect_length(&mut self, length: u64) {
        if self.given && !self.started && !self.no_content() {
            self.head.length.get_or_insert(length);
        }
    }

    /// Whether the answer cannot be mended any more: its head is out.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Whether the application has sent all that it promised, or the client has left: no block is wanted.
    pub fn progress(&self) -> Progress {
        match () {
            () if self.gone => Progress::Gone,
            () if self.complete => Progress::Complete,
            () => Progress::More,
        }
    }

    /// Asks whether the client has left in the meantime.
    pub fn notice_gone(&mut self) {
        self.gone |= self.responder.as_ref().is_some_and(Responder::is_gone);
    }

    /// Bytes of the body that the application promised and has not sent.
    pub fn missing(&self) -> u64 {
        if self.bodiless() {
            return 0;
        }
        self.head.length.map_or(0, |length| length - self.sent)
    }

    /// Bytes that the application sent beyond its Content-Length.
    pub fn surplus(&self) -> u64 {
        self.surplus
    }

    /// The Content-Length that the application gave.
    pub fn length(&self) -> Option<u64> {
        self.head.length
    }

    /// Whether a body is to be produced at all: HEAD wants only the head.
    pub fn is_head(&self) -> bool {
        self.is_head
    }

    /// Takes the responder out, to answer in the application's place.
    pub fn take_responder(&mut self) -> Option<Responder> {
        self.complete = true;
        self.responder.take()
    }

    /// HEAD, 204 and 304 are answered without a body (RFC 9110, sections 9.3.2, 15.3.5, 15.4.5).
    fn bodiless(&self) -> bool {
        self.is_head || self.no_content()
    }

    fn no_content(&self) -> bool {
        matches!(self.head.status, 204 | 304)
    }

    /// Whether Content-Length may be inferred from the whole body. To HEAD an application may well return an
    /// empty body although GET has one: zero would be wrong there.
    fn may_infer(&self, block: &[u8]) -> bool {
        !(self.no_content() || self.is_head && block.is_empty())
    }

    /// The part of `block` that Content-Length allows; the rest is counted and dropped.
    fn cut<'b>(&mut self, block: &'b [u8], rest: Option<u64>) -> &'b [u8] {
        let Some(rest) = rest else { return block };
        let allowed = usize::try_from(rest).unwrap_or(usize::MAX).min(block.len());
        if !self.bodiless() {
            self.surplus += (block.len() - allowed) as u64;
        }
        &block[..allowed]
    }

    fn answer(&mut self, py: Python<'_>, block: &[u8]) {
        let Some(responder) = self.responder.take() else { return };
        let block = if self.bodiless() { b"" } else { block };
        let head = &self.head;
        detached(py, self.contended || block.len() >= DETACH_BYTES, || responder.answer(head, block));
        self.started = true;
        self.complete = true;
        self.sent += block.len() as u64;
    }

    fn start_only(&mut self, py: Python<'_>) {
        let Some(responder) = self.responder.as_mut() else { return };
        let head = &self.head;
        let _ = detached(py, self.contended, || responder.start(head, b""));
        self.started = true;
    }

    fn finish_responder(&mut self) {
        self.complete = true;
        if let Some(responder) = self.responder.take() {
            responder.finish();
        }
    }

    fn abort(&mut self) {
        self.complete = true;
        if let Some(responder) = self.responder.take() {
            responder.abort();
        }
    }
}

/// The error for a body block that is not `bytes`.
pub fn wrong_block(block: &Bound<'_, PyAny>) -> PyErr {
    let class = block.get_type().name().map(|name| name.to_string()).unwrap_or_default();
    PyTypeError::new_err(format!("blocks of the body must be bytes, not {class} (PEP 3333)"))
}

fn no_start_response() -> PyErr {
    PyAssertionError::new_err(
        "the application has not called start_response before its first block (PEP 3333)",
    )
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
