//! `portico reload PID` and `portico upgrade PID`: ask the supervisor, and wait until it has done it or not.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use portico_metrics::{Counter, ReloadResult};
use portico_supervisor::{Scoreboard, SupervisorField, SupervisorState, parent_of};

use crate::output::Output;
use crate::pause::{LOOK_EVERY, Pause};

/// A process that cannot be mistaken for another one: the supervisor, or a worker.
pub(crate) struct Process(OwnedFd);

impl Process {
    /// The supervisor.
    pub(crate) fn of(board: &Scoreboard, pid: u32) -> Result<Self, String> {
        Self::open(supervisor(board, pid)?)
    }

    /// The process that has made the scoreboard: the supervisor, or the one of `portico.serve`.
    pub(crate) fn first(board: &Scoreboard, pid: u32) -> Result<Self, String> {
        Self::open(board.supervisor_of(pid))
    }

    /// The worker with the process id `worker`, of which only the scoreboard tells: it must be a child of the
    /// supervisor.
    pub(crate) fn worker(board: &Scoreboard, pid: u32, worker: u32) -> Result<Self, String> {
        let supervisor = supervisor(board, pid)?;
        // First opened, then looked at: the number may become another process'.
        let process = Self::open(worker)?;
        match parent_of(worker) {
            Some(parent) if parent == supervisor => Ok(process),
            _ => Err(format!("process {worker} is not a worker of it any more")),
        }
    }

    fn open(pid: u32) -> Result<Self, String> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("its process id is none")?;
        let opened = pidfd_open(pid, PidfdFlags::empty());
        opened.map(Self).map_err(|error| format!("process {pid} cannot be reached: {error}"))
    }

    pub(crate) fn send(&self, signal: Signal) -> Result<(), String> {
        pidfd_send_signal(&self.0, signal).map_err(|error| format!("its process cannot be told: {error}"))
    }

    pub(crate) fn has_ended(&self) -> bool {
        let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
        matches!(poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
    }
}

/// Has the workers replaced by ones that import the application anew.
pub(crate) fn reload<E>(board: &Scoreboard, pid: u32, pause: Pause<'_, E>) -> Result<Output, E> {
    let process = match Process::of(board, pid) {
        Ok(process) => process,
        Err(error) => return Ok(Output::failure(error)),
    };
    let failed = board.metrics().reloads(ReloadResult::Failed);
    // One that is under way does not count: it may have read the old code.
    let asked = board.get(SupervisorField::ReloadsAsked);
    if let Err(error) = process.send(Signal::HUP) {
        return Ok(Output::failure(error));
    }
    while board.metrics().total(Counter::Reloads) <= asked {
        if process.has_ended() {
            return Ok(Output::failure("the server ended before the reload did".to_owned()));
        }
        pause(LOOK_EVERY)?;
    }
    Ok(match board.metrics().reloads(ReloadResult::Failed) > failed {
        true => Output::failure(
            "the reload failed; the old code keeps serving (its error log says why)".to_owned(),
        ),
        false => Output::of("Reloaded".to_owned()),
    })
}

/// Has a new supervisor started in the place of this one.
pub(crate) fn upgrade<E>(board: &Scoreboard, pid: u32, pause: Pause<'_, E>) -> Result<Output, E> {
    let process = match Process::of(board, pid) {
        Ok(process) => process,
        Err(error) => return Ok(Output::failure(error)),
    };
    let failed = board.metrics().total(Counter::UpgradesFailed);
    if board.state() != SupervisorState::Serving {
        return Ok(Output::failure("it is not serving: nothing is upgraded".to_owned()));
    }
    if let Err(error) = process.send(Signal::USR2) {
        return Ok(Output::failure(error));
    }
    loop {
        if board.metrics().total(Counter::UpgradesFailed) > failed {
            let error = "the upgrade failed; the old program keeps serving (its error log says why)";
            return Ok(Output::failure(error.to_owned()));
        }
        // The old one stops when the new one serves.
        if board.state() == SupervisorState::Stopping || process.has_ended() {
            return Ok(Output::of("Upgraded".to_owned()));
        }
        pause(LOOK_EVERY)?;
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

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    /// A scoreboard whose supervisor is a process that takes the signals of a supervisor, and does nothing.
    fn server() -> (Scoreboard, std::process::Child) {
        let board = Scoreboard::create(1, 1).unwrap();
        let script = "trap '' HUP USR2; echo ready; exec sleep 60";
        let mut child = Command::new("/bin/sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0; 6]).unwrap();
        board.set(SupervisorField::Pid, child.id().into());
        board.set(SupervisorField::State, SupervisorState::Serving as u64);
        (board, child)
    }

    fn end(mut child: std::process::Child) {
        let _ = child.kill();
        child.wait().unwrap();
    }

    #[test]
    fn a_reload_waits_for_its_own_end() {
        let (board, child) = server();
        // One is under way: it may have read the old code.
        board.set(SupervisorField::ReloadsAsked, 1);
        let mut pauses = 0;
        let mut time = |_| -> Result<(), ()> {
            pauses += 1;
            board.metrics().add_reloads(ReloadResult::Succeeded, 1);
            Ok(())
        };
        let told = reload(&board, child.id(), &mut time).unwrap();
        assert_eq!((told.output.as_str(), told.error, pauses), ("Reloaded", None, 2));
        end(child);
    }

    #[test]
    fn a_server_that_ends_is_reported() {
        let (board, child) = server();
        let pid = child.id();
        let mut child = Some(child);
        let mut time = |_| -> Result<(), ()> {
            child.take().into_iter().for_each(end);
            Ok(())
        };
        let told = reload(&board, pid, &mut time).unwrap();
        assert_eq!(told.error.as_deref(), Some("the server ended before the reload did"));
    }

    #[test]
    fn nothing_is_upgraded_while_the_server_starts() {
        let (board, child) = server();
        board.set(SupervisorField::State, SupervisorState::Booting as u64);
        let told = upgrade(&board, child.id(), &mut |_| -> Result<(), ()> { panic!("no wait") }).unwrap();
        assert!(told.error.unwrap().contains("not serving"));
        end(child);
    }

    #[test]
    fn a_failed_upgrade_is_reported() {
        let (board, child) = server();
        let mut time = |_| -> Result<(), ()> {
            board.metrics().add(Counter::UpgradesFailed, 1);
            Ok(())
        };
        let told = upgrade(&board, child.id(), &mut time).unwrap();
        assert!(told.error.unwrap().starts_with("the upgrade failed"));
        end(child);
    }

    #[test]
    fn a_process_that_is_no_child_of_the_supervisor_is_no_worker() {
        let (board, child) = server();
        let other = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let refused = Process::worker(&board, child.id(), other.id()).err().unwrap();
        assert!(refused.ends_with("is not a worker of it any more"), "{refused}");
        board.set(SupervisorField::Pid, std::process::id().into());
        assert!(Process::worker(&board, std::process::id(), other.id()).is_ok());
        assert!(Process::worker(&board, std::process::id(), 0).is_err());
        end(other);
        end(child);
    }

    #[test]
    fn a_server_without_supervisor_refuses() {
        let board = Scoreboard::create(1, 1).unwrap();
        let told = reload(&board, std::process::id(), &mut |_| Ok::<(), ()>(())).unwrap();
        assert!(told.error.unwrap().contains("portico.serve"));
    }
}
