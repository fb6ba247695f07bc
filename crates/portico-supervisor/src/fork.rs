//! Forking: how it is done, and what the new process has from the supervisor.

use std::io;

use crate::control::ControlSocket;
use crate::scoreboard::Scoreboard;
use crate::stacks_file::StacksFile;

/// The ends that a worker or a template has from the supervisor that forked it: its slot on the scoreboard and its
/// control socket. The process owns it to its end, and nothing of it may reach a program that it starts.
#[derive(Debug)]
pub struct ChildContext {
    /// Number of the slot, from 0. No two living workers share one.
    pub slot: u32,
    /// Counts reloads: workers of one generation run the same code.
    pub generation: u32,
    /// Where it writes what it does.
    pub scoreboard: Scoreboard,
    /// Process id of the supervisor. Not from the scoreboard: any worker writes there.
    pub supervisor: u32,
    /// Its end of the control socket, which is at its end when the supervisor has died.
    pub control: ControlSocket,
    /// Where it writes the stacks of its threads, until that is taken.
    pub stacks: Option<StacksFile>,
}

/// The function by which this process forks. Python's own `os.fork` is behind it, so that hooks run; signals are
/// blocked meanwhile.
pub trait Fork {
    /// Forks.
    ///
    /// # Errors
    /// The kernel's, or what a hook raised.
    fn fork(&mut self) -> io::Result<Forked>;
}

/// The two processes after a fork, and which of them this one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The new one.
    Child,
    /// The old one, with the process id of the new one.
    Parent(u32),
}
