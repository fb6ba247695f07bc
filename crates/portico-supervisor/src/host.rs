//! What the supervisor needs of the program that it runs in.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use portico_config::Config;

use crate::control::LogFiles;
use crate::fork::ChildContext;
use crate::scoreboard::{Running, Scoreboard};
use crate::stacks_file::StacksFile;
use crate::upgrade::CommandLine;

/// The program around the supervisor, which owns the listeners, the logs and the hooks. It is called from the
/// supervisor's one thread and must never wait: workers are not looked after meanwhile.
pub trait Host {
    /// The first worker is ready: requests are answered from now on. Called once.
    fn serving(&mut self) {}

    /// This process is about to fork the worker of this slot. `false`: it must not.
    fn before_fork(&mut self, slot: u32) -> bool {
        let _ = slot;
        true
    }

    /// The worker of this slot has its process id.
    fn started(&mut self, slot: u32, pid: u32) {
        let _ = (slot, pid);
    }

    /// A worker was reaped.
    fn ended(&mut self, pid: u32) {
        let _ = pid;
    }

    /// So many workers are asked for from now on.
    fn scaled(&mut self, workers: u32) {
        let _ = workers;
    }

    /// A reload was asked for: reads the configuration again. Returns the new one, if it can be another.
    ///
    /// # Errors
    /// It cannot be used, for this reason: nothing is reloaded.
    fn reload(&mut self) -> Result<Option<Arc<Config>>, ReloadError> {
        Ok(None)
    }

    /// A new supervisor is about to be started.
    fn upgrading(&mut self) {}

    /// SIGINT: these workers are about to be told to end.
    fn interrupting(&mut self, workers: &[u32]) {
        let _ = workers;
    }

    /// As many workers are ready as were asked for, with these process ids. Called once.
    fn complete(&mut self, workers: &[u32]) {
        let _ = workers;
    }

    /// The workers end, and none follows them: closes the listeners, so that they are closed for good once the
    /// workers have taken what waits there. Called once, when the first worker is told to drain or to stop.
    fn stop_listening(&mut self) {}

    /// A worker died while one of its threads was answering this request: it belongs into the access log.
    fn lost_request(&mut self, lost: &InterruptedRequest<'_>);

    /// A worker has ended, by whatever way.
    fn worker_ended(&mut self) {}

    /// So many workers live now.
    fn workers(&mut self, count: usize) {
        let _ = count;
    }

    /// So many requests wait for a thread, all workers together. Called every second.
    fn waiting(&mut self, requests: u64) {
        let _ = requests;
    }

    /// Opens the log files again: they have been moved away. Returns them, for all other processes.
    fn reopen_logs(&mut self) -> LogFiles;

    /// Has the process write down the stacks of its threads in `file`, for [`Host::stacks`] a moment later. Its
    /// interpreter may be held. `false` if it cannot be asked.
    fn ask_stacks(&mut self, pid: u32, file: &StacksFile) -> bool {
        let _ = (pid, file);
        false
    }

    /// What the process has written down in `file`.
    fn stacks(&mut self, file: &StacksFile) -> Option<String> {
        let _ = file;
        None
    }

    /// How this program was started, for an upgrade; `None` if it cannot be started again.
    fn command_line(&self) -> Option<&CommandLine> {
        None
    }

    /// Another second has passed. The host tells `board` what it owns.
    fn tick(&mut self, board: &Scoreboard) {
        let _ = board;
    }

    /// Another supervisor has the listeners from now on: what belongs to them, such as files, is its own. Called
    /// once, before [`Host::stop_listening`].
    fn superseded(&mut self) {}

    /// The bound listeners, each with its name, for a supervisor that is to take over.
    fn listeners(&self) -> Vec<(BorrowedFd<'_>, String)>;

    /// What such a supervisor is to go on with and nobody else to know: the keys of sessions.
    fn secret(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// The reason for which a configuration that was read for a reload cannot be used: one line for the operator. The
/// server goes on with the former one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadError(String);

impl From<String> for ReloadError {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ReloadError {}

/// A request that a worker was answering when it died, for the access log. It borrows from the scoreboard's
/// records and lives for one call of [`Host::lost_request`].
#[derive(Clone, Copy, Debug)]
pub struct InterruptedRequest<'a> {
    /// The request.
    pub running: &'a Running,
    /// The worker's slot.
    pub slot: u32,
    /// Its process id.
    pub pid: u32,
    /// The status that stands for what the client saw: 504 if it was beyond its time, else 502.
    pub status: u16,
    /// How long it had been running, in nanoseconds.
    pub took_nanos: u64,
}

/// The role of this process once [`crate::supervisor::Supervisor::run`] has returned: the call returns in each
/// process that was forked below it, and what is the supervisor's own must not be used there any more.
#[derive(Debug)]
pub enum ProcessRole {
    /// A worker that was just forked.
    Worker(ChildContext),
    /// A template that was just forked. It has no slot: the `slot` of its context means nothing.
    Template(ChildContext),
    /// The supervisor, at its end; with the exit status.
    Exit(i32),
}
