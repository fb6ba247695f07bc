//! `portico stacks PID`: what each thread of the workers is at, with its Python stack.

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use portico_supervisor::{Running, Scoreboard, Slot, SlotField, ThreadState, now_nanos};

use super::table::time;
use super::{Told, pause};
use crate::record::{path_of, thread_name};
use crate::stacks::{self, ThreadStack};

/// How long a worker may take to tell: it waits for its interpreter for a second and then tells without it.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long its faulthandler may, which is a matter of milliseconds.
const SIGNAL_PATIENCE: Duration = Duration::from_millis(500);

/// A worker that was asked.
struct Asked<'a> {
    number: u32,
    slot: Slot<'a>,
    pid: u32,
    demand: u64,
}

/// Asks the workers of `board`, or the one that has process id `pid`, for the stacks of their threads.
pub fn tell(py: Python<'_>, board: &Scoreboard, pid: u32) -> PyResult<Told> {
    let pid_of = |slot: Slot<'_>| u32::try_from(slot.get(SlotField::Pid)).unwrap_or_default();
    let mut workers: Vec<_> = board.slots().filter(|(_, slot)| pid_of(*slot) != 0).collect();
    if workers.iter().any(|(_, slot)| pid_of(*slot) == pid) {
        workers.retain(|(_, slot)| pid_of(*slot) == pid);
    }
    let asked: Vec<_> = workers
        .into_iter()
        .map(|(number, slot)| {
            let demand = slot.add(SlotField::StacksAsked, 1) + 1;
            Asked { number, slot, pid: pid_of(slot), demand }
        })
        .collect();
    if asked.is_empty() {
        return Ok(Told::failure("it has no worker at this moment".to_owned()));
    }
    let end = Instant::now() + PATIENCE;
    while asked.iter().any(|worker| !worker.has_told()) && Instant::now() < end {
        pause(py)?;
    }
    let mut told = Told::default();
    for worker in &asked {
        let _ = writeln!(told.output, "Worker {} (pid {})\n", worker.number, worker.pid);
        match worker.stacks(py)? {
            Ok(stacks) => told.output.push_str(&worker.described(&stacks)),
            Err(error) => {
                let _ = writeln!(told.output, "Its stacks could not be had: {error}\n");
                told.error = Some(format!("worker {} could not tell its stacks", worker.number));
            }
        }
    }
    Ok(told)
}

impl Asked<'_> {
    fn has_told(&self) -> bool {
        self.slot.get(SlotField::StacksTold) >= self.demand
    }

    /// What it has told; where it has not, because it is still starting or its watch does not run, what its
    /// faulthandler writes.
    fn stacks(&self, py: Python<'_>) -> PyResult<io::Result<Vec<ThreadStack>>> {
        if self.has_told() {
            return Ok(stacks::told_by(self.pid));
        }
        match stacks::ask(self.pid) {
            Ok(true) => {}
            Ok(false) => return Ok(Err(io::Error::other("it has not begun yet, or is ending"))),
            Err(error) => return Ok(Err(error)),
        }
        let end = Instant::now() + SIGNAL_PATIENCE;
        while Instant::now() < end {
            pause(py)?;
        }
        let mut told = stacks::told_by(self.pid);
        // The faulthandler has the oldest thread last, and no names.
        if let Some(oldest) = told.as_mut().ok().and_then(|stacks| stacks.last_mut()) {
            oldest.name.get_or_insert_with(|| "MainThread".to_owned());
        }
        Ok(told)
    }

    fn described(&self, stacks: &[ThreadStack]) -> String {
        let now = now_nanos();
        let running: Vec<(usize, Running)> = self
            .slot
            .threads()
            .enumerate()
            .filter_map(|(index, thread)| Some((index, thread.running()?)))
            .collect();
        let mut text = String::new();
        // Threads of ours that are in no Python code are nobody's concern.
        let known = |stack: &&ThreadStack| stack.name.is_some() || !stack.frames.is_empty();
        for stack in stacks.iter().filter(known) {
            match running.iter().find(|(_, running)| running.ident == stack.ident) {
                Some((index, running)) => {
                    let _ = writeln!(text, "{}: {}", thread_name(*index), request(running, now));
                }
                None => {
                    let unnamed = format!("thread 0x{:x}", stack.ident);
                    let name = stack.name.as_deref().unwrap_or(&unnamed);
                    let idle = if stack.frames.is_empty() { ": idle" } else { "" };
                    let _ = writeln!(text, "{name}{idle}");
                }
            }
            let _ = writeln!(text, "{}", stack.frames);
        }
        text
    }
}

fn request(running: &Running, now: u64) -> String {
    let peer = running.peer.map(|peer| format!(" of {peer}")).unwrap_or_default();
    let state = match running.state {
        ThreadState::Lost => ", written off",
        ThreadState::AwaitingClient => ", waiting for its client",
        ThreadState::Idle | ThreadState::Running => "",
    };
    format!(
        "{} {}{peer}, running {}, queued {}{state}",
        running.method.escape_ascii(),
        path_of(&running.target).escape_ascii(),
        time(now.saturating_sub(running.begun_nanos)),
        time(running.queued_nanos),
    )
}
