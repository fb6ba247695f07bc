//! The gateway: a request becomes a call of the WSGI application, and what that gives becomes the response (PEP
//! 3333).
//!
//! Touches no socket: the body and the responder of a request lead to the engine.

mod environ;
mod field_names;
mod file_wrapper;
mod lapses;
mod response;
mod response_head;
mod response_writer;
mod route;
mod start_response;
mod streams;
mod template_cache;
mod wsgi_errors;
mod wsgi_input;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use portico_log::{Occurrences, RequestId};
use portico_proto::RequestHead;
use pyo3::intern;
use pyo3::prelude::*;

use portico_config::Config;
use portico_server::{Application, Reply, Request, RequestContext, Responder};

use environ::{Environs, Parts};
use response::WsgiCall;
use start_response::Callables;
use wsgi_errors::ErrorStream;
use wsgi_input::Input;

use crate::after_response;
use crate::conf::Observer;
use crate::thread_status::note_interpreter_wait;

pub(crate) use file_wrapper::FileWrapper;
pub(crate) use streams::{Replace, Streams};

/// A request as the log names what it has left to be done: without the query, which may hold secrets.
#[cold]
fn name_of(head: &RequestHead, id: &RequestId) -> String {
    let (method, path) = (head.method().escape_ascii(), head.path().escape_ascii());
    match id.text(head) {
        Some(id) => format!("{method} {path} (request {})", id.escape_ascii()),
        None => format!("{method} {path}"),
    }
}

/// A stream into the error log, as `wsgi.errors` is one.
///
/// # Errors
/// Out of memory only.
pub(crate) fn error_stream(py: Python<'_>) -> PyResult<Py<PyAny>> {
    Ok(Py::new(py, ErrorStream::default())?.into_any())
}

/// The gateway to WSGI applications: it builds environs, calls, and passes on what comes back.
pub(crate) struct Gateway {
    application: Py<PyAny>,
    /// Those that routes choose, by their numbers.
    mounted: Vec<Py<PyAny>>,
    settings: GatewaySettings,
    config: Arc<Config>,
    /// Who in Python wants to know of each request.
    observer: Option<Observer>,
    /// The connections that the application has taken over.
    streams: Arc<Streams>,
    /// Tells this gateway's thread-local memory from another's.
    id: u64,
}

/// The part of the configuration that the gateway needs, shared by all requests.
struct GatewaySettings {
    root_path: String,
    multithread: bool,
    multiprocess: bool,
    sendfile: bool,
    /// Whether each request has a span, which environ names.
    traces: bool,
    /// The input of all requests without a body.
    empty_input: Py<Input>,
    errors: Py<ErrorStream>,
    /// What calls functions after responses: the same for all requests, of whose threads it knows.
    after_response: Py<PyAny>,
}

impl Gateway {
    /// A gateway to `application`, a WSGI callable, and those that are `mounted` beside it.
    ///
    /// # Errors
    /// Out of memory only.
    pub(crate) fn new(
        py: Python<'_>,
        application: Py<PyAny>,
        mounted: Vec<Py<PyAny>>,
        config: &Arc<Config>,
        observer: Option<Observer>,
    ) -> PyResult<Self> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        register_streams(py)?;
        Ok(Self {
            application,
            mounted,
            settings: GatewaySettings {
                root_path: config.root_path.clone(),
                multithread: config.threads > 1,
                multiprocess: config.workers.max > 1,
                sendfile: config.sendfile,
                traces: config.telemetry.traces.is_some(),
                empty_input: Py::new(py, Input::empty())?,
                errors: Py::new(py, ErrorStream::default())?,
                after_response: wrap_pyfunction!(after_response::after_response, py)?.into_any().unbind(),
            },
            config: Arc::clone(config),
            observer,
            streams: Arc::new(Streams::new(config.max_streams)),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        })
    }

    fn call_attached(
        &self,
        py: Python<'_>,
        kept: &mut Option<Box<Kept>>,
        request: Request,
        responder: Responder,
    ) -> PyResult<()> {
        let stream = match request.head().websocket && self.streams.are_wanted() {
            false => None,
            true => match self.streams.enter() {
                Some(stream) => Some(stream),
                None => {
                    detached(py, true, || responder.reply(Reply::StreamsFull));
                    return Ok(());
                }
            },
        };
        let mut own = match kept.take() {
            Some(kept) if kept.gateway == self.id => kept,
            _ => Box::new(Kept {
                gateway: self.id,
                environs: Environs::new(py),
                callables: Callables::new(py, &self.config)?,
            }),
        };
        let Request { key, context, id, body, begun, .. } = request;
        let head = &context.head;
        let body_length = body.len();
        let input = match body.is_empty() {
            true => None,
            false => Some(Bound::new(py, Input::new(body))?),
        };
        let parts = Parts {
            request: &context,
            id: id.text(head),
            body_length,
            input: input.as_ref(),
            callables: &own.callables,
        };
        let environ = own.environs.build(py, &self.settings, &parts)?;
        own.callables.begin(py, responder, head.method() == b"HEAD");
        if stream.is_some() {
            environ.set_item(intern!(py, "gunicorn.socket"), own.callables.offer(py, key, &self.streams)?)?;
        }
        let call = WsgiCall { py, head, callables: &own.callables, sendfile: self.settings.sendfile };
        let application = self.application_of(&context);
        match &self.observer {
            None => drop(call.run(application, &environ)),
            Some(observer) => call.run_observed(application, &environ, observer, begun)?,
        }
        drop(environ);
        if stream.is_some() {
            own.callables.end_stream(py);
        }
        if let Some(input) = input {
            input.get().end(py);
        }
        self.settings.errors.get().end_request(py);
        if after_response::are_pending() {
            after_response::begin(py, || name_of(head, &id));
        }
        if !own.callables.end(py) {
            own.callables = Callables::new(py, &self.config)?;
        }
        *kept = Some(own);
        Ok(())
    }
}

impl Gateway {
    /// The application that a request is for. The page that stands in for one that cannot be imported stands for
    /// all.
    #[inline]
    fn application_of(&self, request: &RequestContext) -> &Py<PyAny> {
        let mounted = request.mounted().and_then(|mounted| self.mounted.get(mounted.number));
        mounted.unwrap_or(&self.application)
    }

    /// The connections that the application has taken over.
    pub(crate) fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    /// As [`Application::call`], with what is kept from one request to the next by somebody else than the thread.
    pub(crate) fn call_keeping(&self, kept: &mut Option<Box<Kept>>, request: Request, responder: Responder) {
        // The engine may have let go of the interpreter for itself, through `blocking`.
        let was_detached = DETACHED.replace(false);
        Python::attach(|py| {
            if let Err(error) = self.call_attached(py, kept, request, responder) {
                // The responder, dropped unanswered, has told the client.
                if let Some(times) = NOT_HANDED_OVER.note() {
                    log::error!("a request could not be handed to the application: {error}{times}");
                }
            }
        });
        DETACHED.set(was_detached);
    }
}

impl Application for Gateway {
    fn call(&self, request: Request, responder: Responder) {
        let mut kept = KEPT.take();
        self.call_keeping(&mut kept, request, responder);
        KEPT.set(kept);
    }

    fn blocking(&self, wait: &mut (dyn FnMut() + Send)) {
        if DETACHED.get() {
            return wait();
        }
        // Between calls the engine counts the wait for the interpreter itself.
        Python::attach(|py| let_go(py, wait));
    }
}

static NOT_HANDED_OVER: Occurrences = Occurrences::new();

/// The objects that a thread, or a greenlet, keeps from request to request.
pub(crate) struct Kept {
    gateway: u64,
    environs: Environs,
    callables: Callables,
}

thread_local! {
    /// Empty while a call runs on the thread.
    static KEPT: Cell<Option<Box<Kept>>> = const { Cell::new(None) };
    /// Whether [`detached`] has let go of the interpreter.
    static DETACHED: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread has let go of the interpreter for the work of a request.
pub(crate) fn is_detached() -> bool {
    DETACHED.get()
}

/// Has `isinstance(stream, io.BufferedIOBase)` and its like say yes of the streams that applications are given:
/// they have what it has.
fn register_streams(py: Python<'_>) -> PyResult<()> {
    let io = py.import("io")?;
    let register = |base: &str, class| io.getattr(base)?.call_method1("register", (class,));
    register("BufferedIOBase", py.get_type::<Input>())?;
    register("BufferedIOBase", py.get_type::<FileWrapper>())?;
    register("TextIOBase", py.get_type::<ErrorStream>())?;
    Ok(())
}

mod io {
    pyo3::import_exception!(io, UnsupportedOperation);
}

/// What a method of the `io` module raises that a stream cannot perform.
fn unsupported(method: &str) -> PyErr {
    io::UnsupportedOperation::new_err(method.to_owned())
}

/// Runs `work`, with the interpreter let go if `worth_it`: where another call waits for it, or the work takes
/// long. What it then takes to get it again is counted.
fn detached<T: Send>(py: Python<'_>, worth_it: bool, work: impl FnOnce() -> T + Send) -> T {
    if !worth_it {
        return work();
    }
    let (result, wanted) = let_go(py, || (work(), Instant::now()));
    note_interpreter_wait(wanted.elapsed());
    result
}

/// Runs `work` without the interpreter.
fn let_go<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    py.detach(|| {
        /// Takes the mark back, also when `work` panics.
        struct Attaching;
        impl Drop for Attaching {
            fn drop(&mut self) {
                DETACHED.set(false);
            }
        }
        DETACHED.set(true);
        let _attaching = Attaching;
        work()
    })
}
