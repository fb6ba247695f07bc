//! The control plane: the supervisor process, which binds, forks, signals and reaps, and never runs application
//! code; and what it shares with its workers.
//!
//! Knows no Python: how a process is forked is told to it ([`Fork`]).
#![deny(unreachable_pub)]

mod autoscale;
mod backlog;
mod capacity;
mod control;
mod descriptors;
mod fork;
pub mod health;
mod host;
mod interpreter;
mod listen_queues;
mod memory;
mod notify;
mod pidfile;
mod process;
mod reading;
mod report;
mod scoreboard;
mod settings_file;
mod signals;
mod stacks;
mod stacks_file;
mod state;
mod supervisor;
#[cfg(test)]
mod testing;
pub mod upgrade;

pub use capacity::Capacity;
pub use control::{ControlCommand, ControlSocket, LogFiles, Report};
pub use descriptors::parent_of;
pub use fork::{ChildContext, Fork, Forked};
pub use host::{Host, InterruptedRequest, ProcessRole, ReloadError};
pub use interpreter::{Gil, Interpreter};
pub use listen_queues::KernelQueue;
pub use memory::{Footprint, resident_kib};
pub use pidfile::Pidfile;
pub use reading::{busy_nanos, kernel_queues, reading};
pub use scoreboard::{
    CONCURRENCY_WORDS, Entries, Entry, EntryPlace, Event, EventKind, Inspection, InspectionKind,
    InspectionLease, InspectionNumber, InspectionOrder, InspectionOutcome, Note, ROUTE_NUMBERS, ROUTES_MAX,
    RouteNumber, Running, Scoreboard, SlotField, SlotState, SupervisorField, SupervisorState, ThreadRecord,
    ThreadState, WorkerSlot, now_nanos, thread_count, thread_name,
};
pub use settings_file::SettingsFile;
pub use stacks::{ThreadStack, ask_stacks, parse_stacks, stacks_in, stacks_signal, without_start};
pub use stacks_file::StacksFile;
pub use supervisor::Supervisor;
