//! Where a worker accepts: from its fork, while probes may be answered in its stead, to the moment when it begins.

use std::io;
use std::sync::Arc;

use portico_config::Config;
use portico_net::Listener;
use portico_worker::{EarlyProbes, SlotHandle};
use pyo3::prelude::*;

use super::forked;
use super::start_error::{StartError, system};

/// The listeners of a worker that does not accept yet, and what answers probes there until it does.
pub(crate) struct Listening {
    listeners: Vec<Listener>,
    early_probes: Option<EarlyProbes>,
}

impl Listening {
    /// Has processes that the application forks let go of `listeners`, and probes answered there while it is
    /// imported, where that is the worker's to do.
    ///
    /// # Errors
    /// The kernel's, when descriptors or threads have run out.
    pub(crate) fn prepare(
        py: Python<'_>,
        config: &Arc<Config>,
        listeners: Vec<Listener>,
        place: &SlotHandle,
    ) -> Result<Self, StartError> {
        if !place.wants_early_probes(config) {
            forked::withhold(py, &listeners)?;
            return Ok(Self { listeners, early_probes: None });
        }
        let failed = |error| system("answering probes", &error);
        let shared: io::Result<Vec<Listener>> = listeners.iter().map(Listener::share).collect();
        let shared = shared.map_err(failed)?;
        forked::withhold(py, listeners.iter().chain(&shared))?;
        let early_probes = place.answer_probes(config, shared).map_err(failed)?;
        Ok(Self { listeners, early_probes })
    }

    /// The listeners.
    pub(crate) fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Where they are, for people.
    pub(crate) fn urls(&self) -> impl Iterator<Item = String> {
        self.listeners.iter().map(|listener| listener.url().to_owned())
    }

    /// The worker of `place` accepts from now on, and nobody answers probes in its stead: no request is refused
    /// that could be answered.
    pub(crate) fn begin(self, py: Python<'_>, place: &SlotHandle) -> Vec<Listener> {
        let Self { listeners, early_probes } = self;
        py.detach(|| {
            drop(early_probes);
            place.await_turn();
        });
        listeners
    }
}
