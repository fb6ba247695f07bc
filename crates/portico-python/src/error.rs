//! What of ours becomes a Python exception, and how a Python exception is told in the log.

use std::borrow::Cow;

use pyo3::create_exception;
use pyo3::exceptions::{PyBaseException, PyConnectionError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::PyList;

use portico_server::BodyError;

create_exception!(
    portico,
    ClientDisconnected,
    PyConnectionError,
    "The client left before its request was read whole, or before its response was written. Raised by what reads \
     and writes, and with --on-disconnect raise in the thread of the request, wherever that is."
);

create_exception!(
    portico,
    RequestTimeout,
    PyBaseException,
    "The request has taken longer than --timeout. Raised in its thread, wherever that is; no Exception, so that \
     an application that catches those lets it through."
);

create_exception!(
    portico,
    RequestCancelled,
    PyBaseException,
    "An operator has ended the request with `portico cancel`. Raised in its thread, wherever that is; no \
     Exception, so that an application that catches those lets it through."
);

/// Whether the server has ended the call by raising `error`: it was cancelled, or has taken too long.
pub(crate) fn is_ending(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<RequestTimeout>(py) || error.is_instance_of::<RequestCancelled>(py)
}

/// The exception that a read of `wsgi.input` raises when the body ends before its end.
pub(crate) fn from_body_error(error: &BodyError) -> PyErr {
    match error {
        BodyError::Disconnected => ClientDisconnected::new_err(error.to_string()),
        BodyError::Io(io) => match io.raw_os_error() {
            Some(errno) => PyOSError::new_err((errno, error.to_string())),
            None => PyOSError::new_err(error.to_string()),
        },
    }
}

/// The exception as Python prints it, with causes and contexts, without the last line end.
pub(crate) fn traceback(py: Python<'_>, error: &PyErr) -> String {
    let formatted = || -> PyResult<String> {
        let format = py.import("traceback")?.getattr("format_exception")?;
        let lines = format.call1((error.get_type(py), error.value(py), error.traceback(py)))?;
        let mut text = String::new();
        for line in lines.cast::<PyList>()?.iter() {
            text.push_str(&line.str()?.to_string_lossy());
        }
        Ok(text.trim_end().to_owned())
    };
    let text = formatted().unwrap_or_else(|_| error.to_string());
    shortened(&text, TRACEBACK_CHARS_MAX).into_owned()
}

/// Characters of a traceback that are told. A deep recursion takes 20,000: Python itself leaves repeated lines
/// out.
const TRACEBACK_CHARS_MAX: usize = 64 * 1024;

/// Characters that are told of what an exception says.
const SAYING_CHARS_MAX: usize = 1024;

/// `text` without its middle if it has more characters than `max`: an exception may say whatever the application
/// has read, and what it is stands at the one end, where it was raised at the other.
fn shortened(text: &str, max: usize) -> Cow<'_, str> {
    let count = text.chars().count();
    if count <= max {
        return text.into();
    }
    let at = |character: usize| text.char_indices().nth(character).map_or(text.len(), |(at, _)| at);
    let (begin, end) = (&text[..at(max / 2)], &text[at(count - max / 2)..]);
    format!("{begin} [{} characters left out] {end}", count - max / 2 * 2).into()
}

/// What the exception says; `otherwise` where it says nothing, as one that was raised from another thread.
pub(crate) fn text_of(py: Python<'_>, error: &PyErr, otherwise: &str) -> String {
    let says = error.value(py).str().map(|says| says.to_string_lossy().into_owned()).unwrap_or_default();
    if says.is_empty() { otherwise.to_owned() } else { shortened(&says, SAYING_CHARS_MAX).into_owned() }
}

/// The exception in one line: its class and what it says.
pub(crate) fn one_line(py: Python<'_>, error: &PyErr) -> String {
    let class = error.get_type(py).name().map(|name| name.to_string()).unwrap_or_default();
    let says = error.value(py).str().map(|says| says.to_string_lossy().into_owned()).unwrap_or_default();
    let says = shortened(says.split('\n').next().unwrap_or_default(), SAYING_CHARS_MAX);
    if says.is_empty() { class } else { format!("{class}: {says}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_loses_its_middle() {
        assert_eq!(shortened("abcdef", 6), "abcdef");
        assert_eq!(shortened("abcdefg", 6), "abc [1 characters left out] efg");
        assert_eq!(shortened("äöüßéè", 4), "äö [2 characters left out] éè", "by characters, not bytes");
    }
}
