//! Calls the application and sends what it returns (PEP 3333, "Specification Details").
//!
//! Owns the one place where an application's failure is caught: it is told in the log and answered with 500, or
//! 504 where it was the request's timeout; where the head is out already, with a cut connection. `close()` is
//! called in every case, once.

use std::fmt;
use std::time::Instant;

use portico_log::{Occurrences, Ration, Reason};
use pyo3::exceptions::{PyConnectionError, PyStopIteration, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator, PyList, PyTuple};

use portico_proto::RequestHead;
use portico_server::Reply;

use super::detached;
use super::file_wrapper::FileWrapper;
use super::response_writer::WriteProgress;
use super::start_response::{Callables, wrong_block};
use crate::conf::{Observer, Outcome};
use crate::error::{self, ClientDisconnected, RequestCancelled, RequestTimeout};
use crate::forked_children;
use crate::thread_status::is_written_off;

/// One call of the application, from `application(environ, start_response)` to `close()`.
pub(crate) struct WsgiCall<'a, 'py> {
    /// The interpreter.
    pub(crate) py: Python<'py>,
    /// What the request asks for; named in the log.
    pub(crate) head: &'a RequestHead,
    /// The callables that the application gets, and the response behind them.
    pub(crate) callables: &'a Callables,
    /// Whether regular files are sent by the engine.
    pub(crate) sendfile: bool,
}

impl<'py> WsgiCall<'_, 'py> {
    /// Runs `application` and answers, whatever it does. Returns the status of what is answered in its stead.
    pub(crate) fn run(&self, application: &Py<PyAny>, environ: &Bound<'py, PyDict>) -> Option<&'static str> {
        let arguments = (environ, &self.callables.start_response);
        let called = application.bind(self.py).call1(arguments);
        forked_children::end(self.py, called.as_ref().err(), IN_REQUEST);
        let result = called.and_then(|app_iter| {
            let result = self.respond(&app_iter);
            self.close(&app_iter).and(result)
        });
        self.report_length();
        result.err().map(|error| self.fail(&error))
    }

    /// As [`WsgiCall::run`], with `observer` told before and after it. What its hook raises before is the
    /// request's failure.
    ///
    /// # Errors
    /// Out of memory only.
    pub(crate) fn run_observed(
        &self,
        application: &Py<PyAny>,
        environ: &Bound<'py, PyDict>,
        observer: &Observer,
        begun: Instant,
    ) -> PyResult<()> {
        let request = observer.begin(self.py, self.head, environ)?;
        let (called, instead) = match observer.before_call(&request) {
            Ok(()) => (true, self.run(application, environ)),
            Err(error) => (false, Some(self.fail(&error))),
        };
        // A copy: hooks may take long, and the application's own thread may still look at the response.
        let (head, sent, began) = self.callables.response(self.py).outcome();
        let mut length = itoa::Buffer::new();
        let outcome = called.then(|| {
            let mut fields: Vec<_> = head.fields.iter().collect();
            fields.extend(
                head.length.map(|length_of| (&b"Content-Length"[..], length.format(length_of).as_bytes())),
            );
            let own = || format!("{} {}", head.status, head.reason.escape_ascii());
            let status = instead.filter(|_| !began).map_or_else(own, str::to_owned);
            Outcome { status, fields, sent, began }
        });
        // The server has answered for a call that it has given up, and told so.
        observer.end(&request, environ, outcome, begun.elapsed(), !is_written_off());
        Ok(())
    }

    fn respond(&self, app_iter: &Bound<'py, PyAny>) -> PyResult<()> {
        if let Ok(blocks) = app_iter.cast_exact::<PyList>() {
            return match blocks.len() {
                1 => self.send_last(&blocks.get_item(0)?),
                _ => self.send_blocks(&blocks.to_tuple()),
            };
        }
        if let Ok(blocks) = app_iter.cast_exact::<PyTuple>() {
            return match blocks.len() {
                1 => self.send_last(&blocks.get_item(0)?),
                _ => self.send_blocks(blocks),
            };
        }
        if let (true, Ok(wrapper)) = (self.sendfile, app_iter.cast_exact::<FileWrapper>())
            && let Some(range) = wrapper.get().regular_file(self.py)
        {
            return self.callables.response(self.py).send_file(self.py, range);
        }
        self.send_each(app_iter)
    }

    fn send_last(&self, block: &Bound<'py, PyAny>) -> PyResult<()> {
        let bytes = block.cast::<PyBytes>().map_err(|_| wrong_block(block))?;
        self.callables.response(self.py).send_last_whole(bytes)
    }

    /// Sends a body of which all blocks are there: together, with its length known, if it is small.
    fn send_blocks(&self, blocks: &Bound<'py, PyTuple>) -> PyResult<()> {
        let mut total = 0usize;
        for block in blocks {
            total += block.cast::<PyBytes>().map_err(|_| wrong_block(&block))?.as_bytes().len();
        }
        if total <= JOINED_BYTES_MAX {
            let mut body = Vec::with_capacity(total);
            for block in blocks {
                body.extend_from_slice(block.cast::<PyBytes>()?.as_bytes());
            }
            return self.callables.response(self.py).send_last(self.py, &body);
        }
        self.callables.response(self.py).expect_length(total as u64);
        for block in blocks {
            let block = block.cast::<PyBytes>()?;
            if self.callables.response(self.py).send_whole(block)? == WriteProgress::Gone {
                return Ok(());
            }
        }
        self.callables.response(self.py).finish(self.py)
    }

    /// Sends each block as it comes: the client has it before the application computes the next.
    fn send_each(&self, app_iter: &Bound<'py, PyAny>) -> PyResult<()> {
        let is_file = app_iter.is_exact_instance_of::<FileWrapper>();
        for block in iterate(app_iter)? {
            forked_children::end(self.py, block.as_ref().err(), IN_REQUEST);
            let block = block?;
            let bytes = block.cast::<PyBytes>().map_err(|_| wrong_item(app_iter, &block))?.as_bytes();
            let mut response = self.callables.response(self.py);
            // An empty one is nothing but a question whether somebody still listens. The first of others is sent
            // without: most responses are no more.
            if bytes.is_empty() || response.started() {
                response.notice_gone(self.py);
            }
            // A file is sent until Content-Length is reached: the rest of it is no fault.
            let bytes = if is_file { response.within_length(bytes) } else { bytes };
            if is_file && bytes.is_empty() {
                break;
            }
            match response.send(self.py, bytes)? {
                // What comes behind Content-Length is not asked for (PEP 3333), nor what HEAD has no use for.
                WriteProgress::Gone | WriteProgress::Complete => return Ok(()),
                WriteProgress::More => {}
            }
        }
        forked_children::end(self.py, None, IN_REQUEST);
        self.callables.response(self.py).finish(self.py)
    }

    /// Calls `close()`, if there is one. What it raises is the application's error, but does not spoil the
    /// response.
    ///
    /// # Errors
    /// `RequestTimeout` and `RequestCancelled` alone.
    fn close(&self, app_iter: &Bound<'py, PyAny>) -> PyResult<()> {
        if app_iter.is_exact_instance_of::<PyList>() || app_iter.is_exact_instance_of::<PyTuple>() {
            return Ok(());
        }
        self.callables.response(self.py).note_closing(self.py);
        let close = app_iter.getattr_opt(intern!(self.py, "close"));
        let closed = close.and_then(|close| close.map(|close| close.call0()).transpose());
        forked_children::end(self.py, closed.as_ref().err(), IN_REQUEST);
        match closed {
            Ok(_) => Ok(()),
            Err(error) if error::is_ending(self.py, &error) => Err(error),
            Err(error) => {
                let request = self.request();
                self.tell_failure(|| {
                    format!(
                        "{request}: close() of the response raised\n{}",
                        error::traceback(self.py, &error)
                    )
                });
                Ok(())
            }
        }
    }

    /// Tells when Content-Length was not kept: the client has a response that is cut short or off.
    fn report_length(&self) {
        let response = self.callables.response(self.py);
        let (surplus, missing) = (response.surplus(), response.missing());
        let length = response.length().unwrap_or_default();
        let whole = response.started() && response.progress() == WriteProgress::Complete;
        drop(response);
        let request = self.request();
        if surplus > 0 {
            self.tell_failure(|| {
                format!(
                    "{request}: the application sent {surplus} bytes more than its Content-Length of {length}; \
                     they were dropped"
                )
            });
        }
        if missing > 0 && whole {
            self.tell_failure(|| {
                format!(
                    "{request}: the application sent {missing} bytes less than its Content-Length of {length}; \
                     the connection was cut"
                )
            });
        }
    }

    /// Returns the status that the client gets instead, if the head is not out yet.
    fn fail(&self, error: &PyErr) -> &'static str {
        let request = self.request();
        if self.callables.response(self.py).lent.is_some() && self.ends_stream(error) {
            return "101 Switching Protocols";
        }
        if error.is_instance_of::<RequestTimeout>(self.py) {
            // Its stack has been logged as it was when the time was over.
            log::info!("{request}: ended by portico.RequestTimeout");
            self.callables.response(self.py).end_without(self.py, Reply::ApplicationTimeout, Reason::Timeout);
            return "504 Gateway Timeout";
        }
        if error.is_instance_of::<RequestCancelled>(self.py) {
            log::info!("{request}: ended by portico.RequestCancelled");
            self.callables.response(self.py).end_without(self.py, Reply::Cancelled, Reason::Cancelled);
            return "503 Service Unavailable";
        }
        if error.is_instance_of::<ClientDisconnected>(self.py) {
            if let Some(times) = LEFT.note() {
                let told = error::text_of(self.py, error, "the client has left");
                log::info!("{request}: {told}{times}");
            }
            let mut response = self.callables.response(self.py);
            if response.client_has_left(self.py) {
                response.cut_off(self.py);
                return "499 Client Closed Request";
            }
        } else {
            self.tell_failure(|| {
                format!("{request}: the application failed\n{}", error::traceback(self.py, error))
            });
        }
        // Dropped, the responder has the engine send its page for 500, or cut the connection if the head is
        // out.
        let responder = self.callables.response(self.py).take_responder();
        detached(self.py, true, || drop(responder));
        "500 Internal Server Error"
    }

    /// Whether `error` is no failure of an application that has taken its connection over: what gunicorn has such
    /// applications raise at their end, or that its client has left.
    fn ends_stream(&self, error: &PyErr) -> bool {
        if error.is_instance_of::<PyStopIteration>(self.py) {
            return true;
        }
        let has_left = error.is_instance_of::<PyConnectionError>(self.py);
        if has_left && let Some(times) = LEFT.note() {
            log::info!("{}: the client of a WebSocket has left{times}", self.request());
        }
        has_left
    }

    /// Logs what the application has done wrong. Clients may bring it about as often as they like: beyond the
    /// ration it is counted.
    fn tell_failure(&self, message: impl FnOnce() -> String) {
        let Some(left_out) = FAILURES.take(Instant::now()) else { return };
        let message = message();
        detached(self.py, true, || {
            log::error!("{message}");
            if left_out > 0 {
                log::error!(
                    "{left_out} further failures of the application were not logged: at most \
                     {FAILURES_PER_SECOND_MAX} a second are"
                );
            }
        });
    }

    fn request(&self) -> RequestName<'_> {
        RequestName(self.head)
    }
}

/// Failures of the application that are logged each second, with their tracebacks.
const FAILURES_PER_SECOND_MAX: u32 = 100;

static FAILURES: Ration = Ration::new(FAILURES_PER_SECOND_MAX);
static LEFT: Occurrences = Occurrences::new();

/// Where a process is forked that comes back from a call.
const IN_REQUEST: &str = "a request";

/// Blocks of a list are joined up to this size: copying them costs less than sending them one by one.
const JOINED_BYTES_MAX: usize = 64 * 1024;

fn iterate<'py>(app_iter: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyIterator>> {
    app_iter.try_iter().map_err(|error| {
        if !error.is_instance_of::<PyTypeError>(app_iter.py()) || app_iter.hasattr("__iter__").unwrap_or(true)
        {
            return error;
        }
        let class = app_iter.get_type().name().map(|name| name.to_string()).unwrap_or_default();
        PyTypeError::new_err(format!("the application returned {class}, not an iterable of bytes (PEP 3333)"))
    })
}

/// The error for an item that is no `bytes`: of a whole body returned by itself, the items are not what the
/// application's author thinks of.
fn wrong_item(app_iter: &Bound<'_, PyAny>, item: &Bound<'_, PyAny>) -> PyErr {
    match app_iter.is_instance_of::<PyBytes>() {
        true => {
            PyTypeError::new_err("the application returned bytes, not an iterable of bytes: return [body]")
        }
        false => wrong_block(item),
    }
}

/// A request as the log names it: `GET /path`. Without the query, which may hold secrets.
struct RequestName<'a>(&'a RequestHead);

impl fmt::Display for RequestName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.method().escape_ascii(), self.0.path().escape_ascii())
    }
}
