//! `wsgi.errors`: a text stream into the error log, in whole lines (PEP 3333, "Input and Error Streams").

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::unsupported;
use crate::hub::{self, Lane};
use portico_worker::logging;

/// The stream that `environ["wsgi.errors"]` holds; one for all threads.
///
/// Lines are written as they are, without the log's prefix: what comes here (Flask's logger,
/// `traceback.print_exc`) has a form of its own. A line without an end waits, apart for each thread, until
/// its end, a flush, or the end of the request, so that lines of several threads (or greenlets) never mix.
#[pyclass(frozen, name = "ErrorStream", module = "portico._portico")]
#[derive(Default)]
pub(crate) struct ErrorStream {
    unfinished: Mutex<Vec<(Lane, String)>>,
    /// Whether `unfinished` holds anything: spares the lock at the end of each request.
    waiting: AtomicBool,
}

/// Bytes of a line that wait for its end; a longer one is broken.
const LINE_BYTES_MAX: usize = 16 * 1024;

impl ErrorStream {
    /// Writes out what the calling thread has left without a line end.
    pub(crate) fn end_request(&self, py: Python<'_>) {
        if self.waiting.load(Ordering::Relaxed) {
            self.flush(py);
        }
    }

    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, Vec<(Lane, String)>> {
        hub::lock(py, &self.unfinished)
    }

    /// Takes what the calling thread has left without a line end.
    fn take(&self, py: Python<'_>) -> String {
        let here = hub::lane(py);
        let mut unfinished = self.lock(py);
        let at = unfinished.iter().position(|(lane, _)| *lane == here);
        let line = at.map(|at| unfinished.swap_remove(at).1).unwrap_or_default();
        self.waiting.store(!unfinished.is_empty(), Ordering::Relaxed);
        line
    }

    fn push(&self, py: Python<'_>, text: &str) {
        let mut lines = self.take(py);
        lines.push_str(text);
        let rest = match lines.rfind('\n') {
            _ if lines.len() > LINE_BYTES_MAX && !lines.ends_with('\n') => {
                lines.push('\n');
                String::new()
            }
            Some(end) => lines.split_off(end + 1),
            None => std::mem::take(&mut lines),
        };
        if !rest.is_empty() {
            let here = hub::lane(py);
            self.lock(py).push((here, rest));
            self.waiting.store(true, Ordering::Relaxed);
        }
        if !lines.is_empty() {
            py.detach(|| logging::write_lines(lines));
        }
    }
}

#[pymethods]
impl ErrorStream {
    /// Writes `text` and returns its length in characters.
    #[pyo3(signature = (text, /))]
    fn write(&self, py: Python<'_>, text: &Bound<'_, PyString>) -> PyResult<usize> {
        self.push(py, &text.to_string_lossy());
        text.len()
    }

    /// Writes every string of `lines`.
    #[pyo3(signature = (lines, /))]
    fn writelines(&self, py: Python<'_>, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        for line in lines.try_iter()? {
            self.push(py, &line?.cast::<PyString>()?.to_string_lossy());
        }
        Ok(())
    }

    /// Writes out a line that has no end yet, and ends it.
    fn flush(&self, py: Python<'_>) {
        let mut line = self.take(py);
        if !line.is_empty() {
            line.push('\n');
            py.detach(|| logging::write_lines(line));
        }
    }

    /// True, as of any text stream that one writes to.
    fn writable(&self) -> bool {
        true
    }

    /// False: a log is no terminal.
    fn isatty(&self) -> bool {
        false
    }

    /// Does nothing: the log belongs to the server.
    fn close(&self) {}

    /// False: the log outlives every request.
    #[getter]
    fn closed(&self) -> bool {
        false
    }

    /// The encoding of the log.
    #[getter]
    fn encoding(&self) -> &'static str {
        "utf-8"
    }

    /// What becomes of a character that it does not have.
    #[getter]
    fn errors(&self) -> &'static str {
        "replace"
    }

    /// None: line ends are written as they come.
    #[getter]
    fn newlines(&self) -> Option<&'static str> {
        None
    }

    /// False: it cannot be read.
    fn readable(&self) -> bool {
        false
    }

    /// False: what is written is out.
    fn seekable(&self) -> bool {
        false
    }

    fn __enter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) {
        self.flush(py);
    }

    fn __iter__(&self) -> PyResult<()> {
        Err(unsupported("read"))
    }

    /// Raises `io.UnsupportedOperation`, as the following.
    #[pyo3(signature = (*_arguments))]
    fn read(&self, _arguments: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(unsupported("read"))
    }

    #[pyo3(signature = (*_arguments))]
    fn readline(&self, _arguments: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(unsupported("readline"))
    }

    #[pyo3(signature = (*_arguments))]
    fn readlines(&self, _arguments: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(unsupported("readlines"))
    }

    #[pyo3(signature = (*_arguments))]
    fn seek(&self, _arguments: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(unsupported("seek"))
    }

    fn tell(&self) -> PyResult<()> {
        Err(unsupported("tell"))
    }

    #[pyo3(signature = (*_arguments))]
    fn truncate(&self, _arguments: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(unsupported("truncate"))
    }

    fn detach(&self) -> PyResult<()> {
        Err(unsupported("detach"))
    }

    fn fileno(&self) -> PyResult<()> {
        Err(unsupported("fileno"))
    }
}
