//! The commands to a running portico: `portico status PID` and its like.
//!
//! They read the scoreboard, send a signal and wait for what comes of it. No process that serves has to do
//! anything for `status`; it works while every interpreter is held.

pub mod dev_cert;
mod replacement;
mod stacks;
mod status;
mod table;

use std::io;
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

use portico_config::ServerCommand;
use portico_supervisor::{Scoreboard, SupervisorField};

/// The text that a command prints.
#[derive(Debug, Default)]
pub struct Output {
    /// For standard output.
    pub output: String,
    /// For standard error: what went wrong, in a line.
    pub error: Option<String>,
}

/// Runs a command to its end.
///
/// # Errors
/// What a handler of a signal raises: Ctrl-C ends the wait.
pub fn run(py: Python<'_>, command: ServerCommand) -> PyResult<Output> {
    let (ServerCommand::Status(pid)
    | ServerCommand::Stacks(pid)
    | ServerCommand::Reload(pid)
    | ServerCommand::Upgrade(pid)) = command;
    let board = match Scoreboard::attach(pid) {
        Ok(board) => board,
        Err(error) => return Ok(Output::failure(unreadable(pid, &error))),
    };
    match command {
        ServerCommand::Status(_) => Ok(Output { output: status::tell(&board), error: None }),
        ServerCommand::Stacks(_) => stacks::tell(py, &board, pid),
        ServerCommand::Reload(_) => replacement::reload(py, &board, pid),
        ServerCommand::Upgrade(_) => replacement::upgrade(py, &board, pid),
    }
}

impl Output {
    fn failure(error: String) -> Self {
        Self { output: String::new(), error: Some(error) }
    }
}

fn unreadable(pid: u32, error: &io::Error) -> String {
    match error.kind() {
        // Also where the process itself is not there: /proc has no folder for it.
        io::ErrorKind::NotFound => format!("process {pid} is no portico that runs"),
        io::ErrorKind::PermissionDenied => {
            format!("process {pid} belongs to another user; ask as that one, or as root")
        }
        _ => format!("process {pid} cannot be asked: {error}"),
    }
}

/// The supervisor's process id, where the operator has named that or one of its workers; an error for a server
/// that has none. It gets signals that its scoreboard must not decide about: any worker writes there.
fn supervisor(board: &Scoreboard, pid: u32) -> Result<u32, String> {
    match board.get(SupervisorField::Pid) {
        0 => Err("it was started by portico.serve and has no supervisor to do that".to_owned()),
        _ => Ok(board.supervisor_of(pid)),
    }
}

/// How often a command looks for what it waits for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Lets some time pass, in which Ctrl-C ends the command.
fn pause(py: Python<'_>) -> PyResult<()> {
    py.detach(|| thread::sleep(LOOK_EVERY));
    py.check_signals()
}
