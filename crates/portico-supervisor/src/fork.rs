//! What a process has from the supervisor that forked it.

use std::io;

use crate::{Control, Scoreboard, StacksFile};

/// A worker's place: its slot on the scoreboard and its line to the supervisor.
#[derive(Debug)]
pub struct Post {
    /// Number of the slot, from 0. No two living workers share one.
    pub slot: u32,
    /// Counts reloads: workers of one generation run the same code.
    pub generation: u32,
    /// Where it writes what it does.
    pub scoreboard: Scoreboard,
    /// Process id of the supervisor. Not from the scoreboard: any worker writes there.
    pub supervisor: u32,
    /// Its end of the line. It is at its end when the supervisor has died.
    pub control: Control,
    /// Where it writes the stacks of its threads, until that is taken.
    pub stacks: Option<StacksFile>,
}

/// How this process forks. Python's own `os.fork` is behind it, so that hooks run; signals are blocked meanwhile.
pub trait Fork {
    /// Forks.
    ///
    /// # Errors
    /// The kernel's, or what a hook raised.
    fn fork(&mut self) -> io::Result<Forked>;
}

/// Which of the two processes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The new one.
    Child,
    /// The old one, with the process id of the new one.
    Parent(u32),
}
