//! `wsgi.input`: the request's body with the semantics of a binary file (PEP 3333, "Input and Error
//! Streams").
//!
//! A body in memory is handed over without a copy of its own; a spooled or arriving one is read ahead in
//! blocks, with the interpreter let go. A body that ends before its end raises, it never looks like the end
//! of the file.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PySlice, PyTuple};

use portico_server::Body;

use super::{detached, unsupported};
use crate::error::from_body_error;
use crate::hub::{self, Hub};
use crate::thread_status::awaiting_client;

/// The file-like object that `environ["wsgi.input"]` holds. Usable while its request lasts.
#[pyclass(frozen, name = "Input", module = "portico._portico")]
pub(crate) struct Input {
    reader: Mutex<Reader>,
}

impl Input {
    /// The body of one request.
    pub(crate) fn new(body: Body) -> Self {
        Self { reader: Mutex::new(Reader { source: InputSource::Body(body), ahead: Vec::new(), taken: 0 }) }
    }

    /// An input at whose end one already is. One object serves all requests that have no body.
    pub(crate) fn empty() -> Self {
        Self { reader: Mutex::new(Reader { source: InputSource::Empty, ahead: Vec::new(), taken: 0 }) }
    }

    /// The request is over: the body is given back, reads raise `ValueError` from now on.
    pub(crate) fn end(&self, py: Python<'_>) {
        let mut reader = self.lock(py);
        reader.source = InputSource::Ended;
        reader.ahead = Vec::new();
        reader.taken = 0;
    }

    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, Reader> {
        hub::lock(py, &self.reader)
    }
}

#[pymethods]
impl Input {
    /// Reads `size` bytes, fewer only at the end; all that is left if `size` is negative or None.
    #[pyo3(signature = (size=None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.lock(py).read(py, limit(size))
    }

    /// Reads what is at hand, at most `size` bytes; waits only if nothing is.
    #[pyo3(signature = (size=None, /))]
    fn read1<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.lock(py).read_at_hand(py, limit(size))
    }

    /// Fills `buffer` and returns how many bytes it got: its length, less only at the end.
    fn readinto(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        fill_buffer(buffer, |length| self.lock(py).read(py, length))
    }

    /// As `readinto`, with what is at hand; waits only if nothing is.
    fn readinto1(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        fill_buffer(buffer, |length| self.lock(py).read_at_hand(py, length))
    }

    /// Reads to the end of the line, which is kept, but not more than `size` bytes.
    #[pyo3(signature = (size=None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.lock(py).read_line(py, limit(size))
    }

    /// Reads lines until `hint` bytes are passed; all lines if `hint` is None, zero or negative.
    #[pyo3(signature = (hint=None, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<isize>) -> PyResult<Bound<'py, PyList>> {
        let enough = hint.and_then(|hint| usize::try_from(hint).ok()).filter(|&hint| hint > 0);
        let lines = PyList::empty(py);
        let mut total = 0;
        loop {
            let line = self.lock(py).read_line(py, usize::MAX)?;
            let length = line.as_bytes().len();
            if length == 0 {
                return Ok(lines);
            }
            lines.append(line)?;
            total += length;
            if enough.is_some_and(|enough| total >= enough) {
                return Ok(lines);
            }
        }
    }

    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.lock(py).read_line(py, usize::MAX)?;
        Ok(Some(line).filter(|line| !line.as_bytes().is_empty()))
    }

    /// True: it can be read.
    fn readable(&self) -> bool {
        true
    }

    /// False: what was read is gone.
    fn seekable(&self) -> bool {
        false
    }

    /// False: it cannot be written.
    fn writable(&self) -> bool {
        false
    }

    /// False: it is no terminal.
    fn isatty(&self) -> bool {
        false
    }

    /// Does nothing: nothing is written.
    fn flush(&self) {}

    /// Does nothing: the input belongs to the server (PEP 3333).
    fn close(&self) {}

    fn __enter__(this: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        match this.get().closed(this.py()) {
            true => Err(PyValueError::new_err("wsgi.input cannot be read: its request is over")),
            false => Ok(this),
        }
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, _exc_info: &Bound<'_, PyTuple>) {}

    /// Raises `io.UnsupportedOperation`: what was read is gone.
    #[pyo3(signature = (*_arguments))]
    fn seek(&self, _arguments: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(unsupported("seek"))
    }

    /// Raises `io.UnsupportedOperation`.
    fn tell(&self) -> PyResult<()> {
        Err(unsupported("tell"))
    }

    /// Raises `io.UnsupportedOperation`: the socket is the server's.
    fn fileno(&self) -> PyResult<()> {
        Err(unsupported("fileno"))
    }

    /// Raises `io.UnsupportedOperation`: there is no stream below.
    fn detach(&self) -> PyResult<()> {
        Err(unsupported("detach"))
    }

    /// Raises `io.UnsupportedOperation`.
    #[pyo3(signature = (*_arguments))]
    fn truncate(&self, _arguments: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(unsupported("truncate"))
    }

    /// Raises `io.UnsupportedOperation`.
    #[pyo3(signature = (*_arguments))]
    fn write(&self, _arguments: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(unsupported("write"))
    }

    /// Raises `io.UnsupportedOperation`.
    #[pyo3(signature = (*_arguments))]
    fn writelines(&self, _arguments: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(unsupported("writelines"))
    }

    /// Whether the request is over.
    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        matches!(self.lock(py).source, InputSource::Ended)
    }
}

/// Writes into `buffer` what `read` gives for its length; returns how much that is.
///
/// # Errors
/// Those of `read`; `buffer` is no buffer that can be written to, or `read` has given more than it has room for.
pub(crate) fn fill_buffer<'py>(
    buffer: &Bound<'py, PyAny>,
    read: impl FnOnce(usize) -> PyResult<Bound<'py, PyBytes>>,
) -> PyResult<usize> {
    let view = PyMemoryView::from(buffer)?.call_method1("cast", ("B",))?;
    let data = read(view.len()?)?;
    let count = data.as_bytes().len();
    view.set_item(PySlice::new(buffer.py(), 0, count as isize, 1), data)?;
    Ok(count)
}

/// Bytes that one read may return at most.
fn limit(size: Option<isize>) -> usize {
    size.map_or(usize::MAX, |size| usize::try_from(size).unwrap_or(usize::MAX))
}

/// The source of the bytes of `wsgi.input`. The reader of one request owns it; when the request is over it is
/// `Ended`, so that an application which has kept the object reads nothing of the next.
enum InputSource {
    Empty,
    Body(Body),
    /// A read of it was broken off, and has it.
    Lost,
    Ended,
}

/// The body and what was read ahead of it.
struct Reader {
    source: InputSource,
    /// Bytes read ahead; those before `taken` are used up. Empty for bodies in memory.
    ahead: Vec<u8>,
    taken: usize,
}

/// Bytes that are read ahead at once.
const AHEAD_BYTES: usize = 64 * 1024;

/// Memory reserved for the result of one read before its bytes have come: the length that a peer announces
/// for a body that is still arriving is a promise only.
const RESERVED_BYTES_MAX: usize = 1024 * 1024;

impl Reader {
    fn read<'py>(&mut self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyBytes>> {
        if let Some(bytes) = self.at_hand()? {
            let count = bytes.len().min(limit);
            let data = PyBytes::new(py, &bytes[..count]);
            self.consume(count);
            return Ok(data);
        }
        let expected = limit.min(self.remaining().unwrap_or(AHEAD_BYTES));
        PyBytes::new_with_writer(py, expected.min(RESERVED_BYTES_MAX), |writer| {
            let mut left = limit;
            while left > 0 {
                if self.ahead().is_empty() && self.fill(py)? == 0 {
                    break;
                }
                let count = self.ahead().len().min(left);
                writer.write_bytes(&self.ahead()[..count])?;
                self.taken += count;
                left -= count;
            }
            Ok(())
        })
    }

    fn read_at_hand<'py>(&mut self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyBytes>> {
        if self.at_hand()?.is_none() && self.ahead().is_empty() && limit > 0 {
            self.fill(py)?;
        }
        let bytes = self.at_hand()?.unwrap_or_else(|| self.ahead());
        let count = bytes.len().min(limit);
        let data = PyBytes::new(py, &bytes[..count]);
        self.consume(count);
        Ok(data)
    }

    fn read_line<'py>(&mut self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyBytes>> {
        if let Some(bytes) = self.at_hand()? {
            let count = line_length(bytes, limit).unwrap_or(bytes.len());
            let line = PyBytes::new(py, &bytes[..count]);
            self.consume(count);
            return Ok(line);
        }
        let mut line = Vec::new();
        loop {
            let left = limit - line.len();
            if left == 0 || (self.ahead().is_empty() && self.fill(py)? == 0) {
                return Ok(PyBytes::new(py, &line));
            }
            let end = line_length(self.ahead(), left);
            let count = end.unwrap_or(self.ahead().len());
            if end.is_some() && line.is_empty() {
                let data = PyBytes::new(py, &self.ahead()[..count]);
                self.taken += count;
                return Ok(data);
            }
            line.extend_from_slice(&self.ahead()[..count]);
            self.taken += count;
            if end.is_some() {
                return Ok(PyBytes::new(py, &line));
            }
        }
    }

    /// All that is left, where it lies in memory; `None` where it has to be read.
    fn at_hand(&self) -> PyResult<Option<&[u8]>> {
        match &self.source {
            InputSource::Empty => Ok(Some(&[])),
            InputSource::Body(body) => Ok(body.in_memory()),
            InputSource::Lost => {
                Err(PyOSError::new_err("wsgi.input cannot be read: a read of it was broken off"))
            }
            InputSource::Ended => {
                Err(PyValueError::new_err("wsgi.input cannot be read: its request is over"))
            }
        }
    }

    fn consume(&mut self, count: usize) {
        match &mut self.source {
            InputSource::Body(body) if body.in_memory().is_some() => body.consume(count),
            _ => self.taken += count.min(self.ahead().len()),
        }
    }

    /// Bytes of the whole body where that is known: what is left is never more.
    fn remaining(&self) -> Option<usize> {
        match &self.source {
            InputSource::Body(body) => body.len().map(|length| usize::try_from(length).unwrap_or(usize::MAX)),
            InputSource::Empty | InputSource::Lost | InputSource::Ended => Some(0),
        }
    }

    fn ahead(&self) -> &[u8] {
        self.ahead.get(self.taken..).unwrap_or_default()
    }

    /// Reads the next bytes ahead, with the interpreter let go; 0 at the end of the body.
    fn fill(&mut self, py: Python<'_>) -> PyResult<usize> {
        let InputSource::Body(body) = &mut self.source else { return Ok(0) };
        if body.is_streamed()
            && let Some(hub) = hub::here()
        {
            return self.fill_outside(&hub);
        }
        let ahead = &mut self.ahead;
        ahead.resize(AHEAD_BYTES, 0);
        self.taken = 0;
        let mut result = Ok(0);
        detached(py, true, || awaiting_client(&mut || result = body.read(ahead)));
        ahead.truncate(*result.as_ref().unwrap_or(&0));
        result.map_err(|error| from_body_error(&error))
    }
}

impl Reader {
    /// As [`Reader::fill`], in a greenlet: a thread of its own waits for the client, and has the body meanwhile.
    fn fill_outside(&mut self, hub: &Arc<Hub>) -> PyResult<usize> {
        let InputSource::Body(mut body) = mem::replace(&mut self.source, InputSource::Lost) else {
            return Ok(0);
        };
        let mut ahead = mem::take(&mut self.ahead);
        self.taken = 0;
        let mut read = Some(move || {
            ahead.resize(AHEAD_BYTES, 0);
            let result = body.read(&mut ahead);
            (body, ahead, result)
        });
        let mut outcome = None;
        awaiting_client(&mut || {
            outcome = read.take().map(|read| Python::attach(|py| hub.offload(py, read)?.wait(py)));
        });
        let Some(outcome) = outcome else { return Ok(0) };
        let (body, mut ahead, result) = outcome?;
        ahead.truncate(*result.as_ref().unwrap_or(&0));
        (self.source, self.ahead) = (InputSource::Body(body), ahead);
        result.map_err(|error| from_body_error(&error))
    }
}

/// Length of the first line in `bytes`, its end included, if it ends there or reaches `limit`.
fn line_length(bytes: &[u8], limit: usize) -> Option<usize> {
    let within = &bytes[..bytes.len().min(limit)];
    let end = memchr::memchr(b'\n', within).map(|at| at + 1);
    end.or_else(|| (within.len() == limit).then_some(limit))
}
