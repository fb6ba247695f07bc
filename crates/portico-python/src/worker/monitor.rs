//! The gateway as the engine calls it, with each call noted in its thread's record.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use portico_server::{Application, Request, Responder};

use crate::gateway::{Gateway, Streams};
use crate::interpreter;
use crate::thread_status::{ThreadStatuses, awaiting_client};

/// An application whose calls can be watched: the `Application` that the engine calls. It notes begin and end of
/// each call in the thread's record and leaves all else to the gateway.
pub(crate) struct Monitor {
    gateway: Gateway,
    records: Arc<ThreadStatuses>,
}

impl Monitor {
    /// Has the calls of `gateway` noted in `records`.
    pub(crate) fn new(gateway: Gateway, records: Arc<ThreadStatuses>) -> Self {
        Self { gateway, records }
    }
}

impl Monitor {
    /// The connections that the application has taken over.
    pub(crate) fn streams(&self) -> &Arc<Streams> {
        self.gateway.streams()
    }
}

impl Application for Monitor {
    fn call(&self, request: Request, responder: Responder) {
        // Dropped at the end of the call, also where that is a panic.
        let _in_call = self.records.begin(&request);
        self.gateway.call(request, responder);
    }

    fn busy_word(&self) -> Option<&'static AtomicU64> {
        self.records.busy_word()
    }

    fn blocking(&self, wait: &mut (dyn FnMut() + Send)) {
        self.gateway.blocking(&mut || awaiting_client(wait));
    }

    fn computes_in_parallel(&self) -> bool {
        interpreter::has_no_gil()
    }
}
