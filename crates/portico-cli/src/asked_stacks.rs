//! The stacks of a server's threads: workers are asked for them by the scoreboard, and without their help where
//! they do not tell.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use portico_supervisor::{Scoreboard, SlotField, StacksFile, ThreadStack, WorkerSlot, ask_stacks, stacks_in};

use crate::pause::{LOOK_EVERY, Pause};

/// How long a worker may take to tell: it waits for its interpreter for a second and then tells without it.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long its faulthandler may, which is a matter of milliseconds.
const SIGNAL_PATIENCE: Duration = Duration::from_millis(500);

/// The stacks of one process.
#[derive(Debug)]
pub(crate) struct ProcessStacks {
    /// The worker's slot; `None` for the template.
    pub(crate) slot: Option<u32>,
    pub(crate) pid: u32,
    /// They, or why they are not to be had.
    pub(crate) stacks: io::Result<Vec<ThreadStack>>,
}

/// A worker that was asked for its stacks, and the number of that demand.
struct Asked<'a> {
    /// Who has its file: its supervisor, or itself where it has none.
    holder: u32,
    number: u32,
    slot: WorkerSlot<'a>,
    pid: u32,
    demand: u64,
}

/// Asks the workers of `board`, or the one that has process id `pid`, for the stacks of their threads. Nothing if
/// there is no process at this moment that could be asked.
pub(crate) fn ask<E>(board: &Scoreboard, pid: u32, pause: Pause<'_, E>) -> Result<Vec<ProcessStacks>, E> {
    let holder = board.supervisor_of(pid);
    let pid_of = |slot: WorkerSlot<'_>| u32::try_from(slot.get(SlotField::Pid)).unwrap_or_default();
    let mut workers: Vec<_> = board.slots().filter(|(_, slot)| pid_of(*slot) != 0).collect();
    if workers.iter().any(|(_, slot)| pid_of(*slot) == pid) {
        workers.retain(|(_, slot)| pid_of(*slot) == pid);
    }
    let asked: Vec<_> = workers
        .into_iter()
        .map(|(number, slot)| {
            let demand = slot.add(SlotField::StacksAsked, 1) + 1;
            Asked { holder, number, slot, pid: pid_of(slot), demand }
        })
        .collect();
    let template = if pid == holder { template(board, holder) } else { None };
    let end = Instant::now() + PATIENCE;
    while asked.iter().any(|worker| worker.is_watched() && !worker.has_told()) && Instant::now() < end {
        pause(LOOK_EVERY)?;
    }
    let mut found = Vec::new();
    if let Some((pid, file)) = template {
        found.push(ProcessStacks { slot: None, pid, stacks: dumped(pid, &file, holder, pause)? });
    }
    for worker in &asked {
        let (slot, pid) = (Some(worker.number), worker.pid);
        found.push(ProcessStacks { slot, pid, stacks: worker.stacks(pause)? });
    }
    Ok(found)
}

impl Asked<'_> {
    /// Whether it is past its import, so that somebody sees the demand.
    fn is_watched(&self) -> bool {
        self.slot.get(SlotField::HeartbeatNanos) != 0
    }

    fn has_told(&self) -> bool {
        self.slot.get(SlotField::StacksTold) >= self.demand
    }

    /// What it has told; where it has not, because it is still starting or its watch does not run, what its
    /// faulthandler writes.
    fn stacks<E>(&self, pause: Pause<'_, E>) -> Result<io::Result<Vec<ThreadStack>>, E> {
        let file = match StacksFile::find(self.holder, self.number) {
            Ok(file) => file,
            Err(error) => return Ok(Err(error)),
        };
        if self.has_told() {
            return Ok(stacks_in(&file));
        }
        dumped(self.pid, &file, self.holder, pause)
    }
}

/// The process that imports the application for the workers, as long as it does, and its file.
fn template(board: &Scoreboard, supervisor: u32) -> Option<(u32, StacksFile)> {
    let files = StacksFile::find_templates(supervisor).ok()?;
    let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).ok()?;
    let is_worker =
        |child: &u32| board.slots().any(|(_, slot)| slot.get(SlotField::Pid) == u64::from(*child));
    let children = children.split_ascii_whitespace().filter_map(|child| child.parse().ok());
    let others: Vec<u32> = children.filter(|child| !is_worker(child)).collect();
    let writes =
        |file: StacksFile| Some((others.iter().copied().find(|child| file.is_open_in(*child))?, file));
    files.into_iter().find_map(writes)
}

/// What the faulthandler of process `pid` writes into `file`, which `holder` has made.
fn dumped<E>(
    pid: u32,
    file: &StacksFile,
    holder: u32,
    pause: Pause<'_, E>,
) -> Result<io::Result<Vec<ThreadStack>>, E> {
    match ask_stacks(pid, file, holder) {
        Ok(true) => {}
        Ok(false) => return Ok(Err(io::Error::other("it has not begun yet, or is ending"))),
        Err(error) => return Ok(Err(error)),
    }
    let end = Instant::now() + SIGNAL_PATIENCE;
    while Instant::now() < end {
        pause(LOOK_EVERY)?;
    }
    let mut told = stacks_in(file);
    // The faulthandler has the oldest thread last, and no names.
    if let Some(oldest) = told.as_mut().ok().and_then(|stacks| stacks.last_mut()) {
        oldest.name.get_or_insert_with(|| "MainThread".to_owned());
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_ends_the_wait() {
        let board = Scoreboard::create(1, 1).unwrap();
        let slot = board.slot(0).unwrap();
        slot.set(SlotField::Pid, u64::from(std::process::id()));
        slot.set(SlotField::HeartbeatNanos, 1);
        let mut pauses = 0;
        let mut interrupted = |_| {
            pauses += 1;
            if pauses < 3 { Ok(()) } else { Err("Ctrl-C") }
        };
        assert_eq!(ask(&board, std::process::id(), &mut interrupted).unwrap_err(), "Ctrl-C");
        assert_eq!((pauses, slot.get(SlotField::StacksAsked)), (3, 1));
    }
}
