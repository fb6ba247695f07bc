//! Connections that the application takes over: `environ["gunicorn.socket"]`, for WebSockets.
//!
//! A request that asks for a WebSocket gets an object under that key which is a socket once it is used, and so
//! costs nothing where it is not. Using it takes the connection from the engine, and the thread from those that
//! answer requests: another one has its place. The connection ends with the call, once the application has closed
//! the socket: a thread of its own may still be about to send the last of it.

use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use portico_log::Occurrences;
use pyo3::intern;
use pyo3::prelude::*;

use portico_server::{RequestKey, Responder};

use super::start_response::{ResponseExchange, TakenConnection};

/// Puts another thread in the place of the one with this number, which is in the call of this request.
pub(crate) type Replace = Box<dyn Fn(Python<'_>, usize, RequestKey) + Send + Sync>;

/// The count of connections that the application has taken over, or may be about to.
pub(crate) struct Streams {
    open: AtomicU32,
    max: u32,
    /// Unset where none can be taken over.
    replace: OnceLock<Replace>,
}

/// One of the connections that are counted; given back when dropped.
pub(crate) struct OpenedStream<'a>(&'a Streams);

static REFUSED: Occurrences = Occurrences::new();

impl Streams {
    /// None, of `max` at most.
    pub(crate) fn new(max: u32) -> Self {
        Self { open: AtomicU32::new(0), max, replace: OnceLock::new() }
    }

    /// From now on connections can be taken over. To be called once.
    pub(crate) fn begin(&self, replace: Replace) {
        drop(self.replace.set(replace));
    }

    /// Whether connections can be taken over.
    pub(crate) fn are_wanted(&self) -> bool {
        self.max > 0 && self.replace.get().is_some()
    }

    /// Counts one more; `None` where there are as many as there may be.
    pub(crate) fn enter(&self) -> Option<OpenedStream<'_>> {
        let more = |open: u32| (open < self.max).then_some(open + 1);
        if self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok() {
            return Some(OpenedStream(self));
        }
        if let Some(times) = REFUSED.note() {
            log::warn!("{} WebSockets are open (--max-streams); a request is answered 503{times}", self.max);
        }
        None
    }
}

impl Drop for OpenedStream<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The offer to take the connection of one request over.
#[pyclass(frozen, name = "StreamOffer", module = "portico._portico")]
pub(crate) struct StreamOffer {
    exchange: Py<ResponseExchange>,
    key: RequestKey,
    streams: Arc<Streams>,
    /// The connection, from the moment on at which the application has it. It lives as long as this, which the
    /// socket has until it is closed.
    lent: OnceLock<Arc<Responder>>,
}

impl StreamOffer {
    /// The object for the environ of the request `key`, whose response `exchange` makes.
    pub(crate) fn socket<'py>(
        py: Python<'py>,
        exchange: &Py<ResponseExchange>,
        key: RequestKey,
        streams: &Arc<Streams>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let offer = Self {
            exchange: exchange.clone_ref(py),
            key,
            streams: Arc::clone(streams),
            lent: OnceLock::new(),
        };
        let module = py.import(intern!(py, "portico._offered_socket"))?;
        module.call_method1(intern!(py, "offered"), (Bound::new(py, offer)?,))
    }
}

#[pymethods]
impl StreamOffer {
    /// Takes the connection over; returns the descriptor of a socket, which blocks.
    fn __call__(&self, py: Python<'_>) -> PyResult<i32> {
        let TakenConnection { socket, responder, record } = self.exchange.get().lend(py, self.key)?;
        responder.map(|responder| self.lent.set(responder).is_ok());
        if let (Some(record), Some(replace)) = (record, self.streams.replace.get()) {
            record.note_stream();
            replace(py, record.index(), self.key);
        }
        Ok(socket.into_raw_fd())
    }
}
