//! What the machine is told once: how many workers, and how long each step may take.

use std::time::Duration;

use portico_config::{Config, Preload};

/// The configuration of processes, for the machine: numbers and time limits. A reload replaces it as far as that
/// can be.
#[derive(Clone, Debug)]
pub(crate) struct ProcessPlan {
    /// Least number of workers, and the number at the start.
    pub workers_min: u32,
    /// Up to here autoscaling may go.
    pub workers_max: u32,
    /// Number of slots; beyond `workers_max` there is room for successors and for those that leave.
    pub slots: u32,
    /// Whether workers are forked by a template.
    pub preload: bool,
    /// Until a process must be ready; zero means without end.
    pub boot_timeout: Duration,
    /// How long a worker may take to end, and the server from the first signal on.
    pub graceful_timeout: Duration,
    /// How long connections are still accepted once told to stop: a part of `graceful_timeout`.
    pub drain_delay: Duration,
    /// `--reload`: old code answers nothing any more once it has changed, and nothing is worth a wait at the end.
    pub development: bool,
}

impl ProcessPlan {
    /// Most workers that TTIN may ask for where a number, not a range, was configured. Beyond it there is not room
    /// for all successors.
    const GROWN_MAX: u32 = 16;

    /// What the configuration says.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            workers_min: config.workers.min,
            workers_max: config.workers.max,
            slots: Self::slots_for(config.workers.max),
            preload: config.preload != Preload::Off,
            boot_timeout: config.boot_timeout,
            graceful_timeout: config.graceful_timeout,
            drain_delay: config.drain_delay_within_end(),
            development: config.reload,
        }
    }

    fn slots_for(workers_max: u32) -> u32 {
        2 * workers_max.max(Self::GROWN_MAX) + 2
    }

    /// The most workers that these slots have room for.
    pub(crate) fn workers_room(&self) -> u32 {
        (self.slots.saturating_sub(2) / 2).max(1)
    }

    /// Least and greatest number of workers that may be asked for.
    pub(super) fn range(&self) -> (u32, u32) {
        match self.workers_min == self.workers_max {
            true => (1, self.workers_max.max(Self::GROWN_MAX)),
            false => (self.workers_min, self.workers_max),
        }
    }
}
