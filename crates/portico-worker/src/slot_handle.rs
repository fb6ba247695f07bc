//! A worker's slot on a scoreboard, its own or its supervisor's.

use std::hash::RandomState;
use std::io;
use std::sync::Arc;

use portico_config::Config;
use portico_metrics::{EndedRequests, Gauge, Metrics};
use portico_net::Listener;
use portico_server::{Health, SharedLimits};
use portico_supervisor::{
    Scoreboard, SlotField, SlotState, SupervisorField, SupervisorState, WorkerSlot, now_nanos, thread_count,
};

use crate::early_probes::{self, EarlyProbes};
use crate::health::health;
use crate::limit_memory::{limit_words, shared_limits};

/// A worker's place: one slot of a scoreboard, which stays mapped for the rest of the process' life. Each request
/// asks for it, so that nothing of it is worked out then.
#[derive(Clone, Debug)]
pub struct SlotHandle {
    scoreboard: &'static Scoreboard,
    number: u32,
    slot: WorkerSlot<'static>,
}

impl SlotHandle {
    /// Slot `number` of `scoreboard`; `None` if it has no such slot.
    pub fn new(scoreboard: &Scoreboard, number: u32) -> Option<Self> {
        let scoreboard = scoreboard.leaked();
        Some(Self { scoreboard, number, slot: scoreboard.slot(number)? })
    }

    /// A scoreboard of its own, for a worker that has no supervisor.
    ///
    /// # Errors
    /// The kernel's: no memory, no descriptor.
    pub fn alone(config: &Config) -> io::Result<Self> {
        let scoreboard = Scoreboard::with_limits(1, thread_count(config), limit_words(config))?;
        scoreboard.set(SupervisorField::StartedNanos, now_nanos());
        scoreboard.metrics().set(Gauge::ThreadsPerWorker, config.threads.into());
        scoreboard.metrics().set(Gauge::WorkersWanted, 1);
        let place = Self::new(&scoreboard, 0).ok_or(io::ErrorKind::InvalidInput)?;
        place.slot().set(SlotField::StartedNanos, now_nanos());
        place.slot().set(SlotField::State, SlotState::Starting as u64);
        place.slot().set(SlotField::Pid, std::process::id().into());
        Ok(place)
    }

    /// The worker, which has no supervisor, serves from now on.
    pub fn serve_alone(&self) {
        self.slot().set(SlotField::ReadyNanos, now_nanos());
        self.slot().set(SlotField::State, SlotState::Ready as u64);
        self.scoreboard.set(SupervisorField::ServingNanos, now_nanos());
        self.scoreboard.set(SupervisorField::State, SupervisorState::Serving as u64);
    }

    /// The worker, which has no supervisor, is told to stop.
    pub fn stop_alone(&self) {
        self.scoreboard.set(SupervisorField::State, SupervisorState::Stopping as u64);
    }

    /// What probes are told of the server, where `config` has them told.
    pub fn health(&self, config: &Config) -> Option<Health> {
        health(config, self.scoreboard.clone())
    }

    /// Whether the worker is to answer probes while it imports the application.
    pub fn wants_early_probes(&self, config: &Config) -> bool {
        self.number == 0 && early_probes::are_wanted(config, self.scoreboard)
    }

    /// Answers probes on `listeners`, of which the caller keeps others, until what this returns is dropped; `None`
    /// if another worker accepts already, or probes are not answered.
    ///
    /// # Errors
    /// The kernel's, when memory, descriptors or threads have run out.
    pub fn answer_probes(
        &self,
        config: &Arc<Config>,
        listeners: Vec<Listener>,
    ) -> io::Result<Option<EarlyProbes>> {
        let Some(health) = self.health(config) else { return Ok(None) };
        EarlyProbes::begin(config, listeners, health, (self.scoreboard.clone(), Some(self.number)))
    }

    /// The application is there. Returns when the worker may accept: no other one answers probes any more.
    pub fn await_turn(&self) {
        early_probes::await_turn(self.scoreboard, self.number);
    }

    /// Where this process counts, for the rest of its life.
    pub fn metrics(&self) -> Metrics<'static> {
        self.slot.metrics()
    }

    /// Where this process notes requests that were slow or failed, for the rest of its life.
    pub fn ended_requests(&self) -> EndedRequests<'static> {
        self.slot.ended_requests()
    }

    /// What the worker counts for the limits of routes, with `keys` that all workers of the scoreboard have.
    pub fn limits(&self, keys: RandomState) -> SharedLimits {
        shared_limits(self.scoreboard.clone(), self.number, keys)
    }

    /// The scoreboard that has it.
    pub fn scoreboard(&self) -> &Scoreboard {
        self.scoreboard
    }

    /// Gives the memory back in which this worker has told what it found.
    pub fn give_back_found(&self) {
        self.scoreboard.give_back_found(self.number);
    }

    /// The slot.
    #[inline]
    pub fn slot(&self) -> WorkerSlot<'static> {
        self.slot
    }
}
