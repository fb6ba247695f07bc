//! The control plane: the supervisor process, which binds, forks, signals and reaps, and never runs application
//! code; and what it shares with its workers.
//!
//! Knows no Python: how a process is forked is told to it ([`Fork`]).

mod autoscale;
mod backlog;
mod capacity;
mod control;
mod descriptors;
mod host;
mod memory;
mod notify;
mod pidfile;
mod post;
mod process;
pub mod report;
mod scoreboard;
mod signals;
mod stacks_file;
mod state;
mod supervisor;
#[cfg(test)]
mod testing;
pub mod upgrade;

pub use backlog::{ListenOverflows, listen_overflows};
pub use capacity::Capacity;
pub use control::{Command, Control, LogFiles, Report};
pub use host::{Host, Lost, Role};
pub use memory::{Footprint, MemoryGroup, resident_kib};
pub use notify::Notifier;
pub use pidfile::Pidfile;
pub use post::{Fork, Forked, Post};
pub use scoreboard::{
    Note, Running, Scoreboard, Slot, SlotField, SlotState, SupervisorField, SupervisorState, Thread,
    ThreadState, now_nanos, thread_count,
};
pub use signals::{Signal, Signals};
pub use stacks_file::StacksFile;
pub use state::{Action, Child, Event, Plan, State};
pub use supervisor::Supervisor;
