//! `portico web PID`: a page that shows the server and acts on it, without any listener in the server.
//!
//! The command has the operator's rights, which are those of the kernel: it attaches to the scoreboard and sends
//! signals. Who opens the page has the same, so it is served on loopback and to one browser. It ends with the
//! terminal, with its standard input, and with the server.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use portico_config::{PageOrder, ProfileFormat, ProfileOrder};
use portico_insight::Snapshot;
use portico_supervisor::{Scoreboard, SettingsFile, SlotField, SupervisorField};
use portico_web::{Done, GroupedStacks, PageAction, PageServer, ShownServer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::asked_stacks::ask;
use crate::cancel::cancel;
use crate::output::Output;
use crate::pause::Pause;
use crate::profile;
use crate::replacement::{Process, reload};
use crate::stacks::grouped;

/// How often the command looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// For how long the page profiles, and how often in a second.
const PROFILE_TIME: Duration = Duration::from_secs(10);
const PROFILE_RATE: u64 = 100;

/// Serves the page as `order` says until the operator or the server ends it.
pub(crate) fn serve<E>(
    board: Scoreboard,
    pid: u32,
    order: PageOrder,
    pause: Pause<'_, E>,
) -> Result<Output, E> {
    let process = match Process::first(&board, pid) {
        Ok(process) => process,
        Err(error) => return Ok(Output::failure(error)),
    };
    let serving = match PageServer::start(Arc::new(AttachedServer { board, pid }), order) {
        Ok(serving) => serving,
        Err(error) => return Ok(Output::failure(format!("web: the page cannot be served: {error}"))),
    };
    let told = format!(
        "{}\n\nThe address lets one browser in. Ctrl-C ends the page; the server goes on.\n",
        serving.url()
    );
    let mut stdout = io::stdout();
    if let Err(error) = stdout.write_all(told.as_bytes()).and_then(|()| stdout.flush()) {
        return Ok(Output::failure(format!("web: the address cannot be printed: {error}")));
    }
    loop {
        if process.has_ended() {
            return Ok(Output::of("The server has ended".to_owned()));
        }
        if let Some(failure) = serving.failure() {
            return Ok(Output::failure(format!("web: the page cannot be served any more: {failure}")));
        }
        if has_hung_up() {
            return Ok(Output::default());
        }
        pause(LOOK_EVERY)?;
    }
}

/// Whether the other end of standard input has gone, as that of ssh without a terminal has when the line breaks.
fn has_hung_up() -> bool {
    let stdin = io::stdin();
    let mut polled = [PollFd::new(&stdin, PollFlags::empty())];
    let looked = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    looked.is_ok() && polled[0].revents().contains(PollFlags::HUP)
}

/// A server that is reached by its scoreboard and by signals.
struct AttachedServer {
    board: Scoreboard,
    pid: u32,
}

impl AttachedServer {
    fn signal(&self, signal: Signal, told: &str) -> Result<Done, String> {
        Process::of(&self.board, self.pid)?.send(signal)?;
        Ok(done(told.to_owned()))
    }

    /// The stacks of the calls that run in the next seconds.
    fn profile(&self) -> Result<Done, String> {
        let order = ProfileOrder {
            pid: self.pid,
            duration: PROFILE_TIME,
            rate: PROFILE_RATE,
            of_cpu: false,
            file: None,
            format: Some(ProfileFormat::Collapsed),
            slot: None,
            is_external: false,
        };
        let Ok(Output { output, error }) = profile::tell(&self.board, &order, &mut sleep);
        match error {
            Some(error) if output.is_empty() => Err(error),
            _ => {
                let told =
                    format!("The calls of {} s, {PROFILE_RATE} looks a second.", PROFILE_TIME.as_secs());
                Ok(Done { told, collapsed: Some(output) })
            }
        }
    }

    /// Has the worker in this slot leave as soon as another one can take its place.
    fn replace(&self, slot: u32) -> Result<Done, String> {
        let row = self.board.slot(slot).ok_or("there is no such slot")?;
        let worker = u32::try_from(row.get(SlotField::Pid)).ok().filter(|pid| *pid != 0);
        let worker = worker.ok_or("there is no worker in this slot")?;
        Process::worker(&self.board, self.pid, worker)?.send(Signal::TERM)?;
        Ok(done(format!("Worker {worker} in slot {slot} leaves as soon as another one can take its place.")))
    }
}

fn done(told: String) -> Done {
    Done { told, collapsed: None }
}

/// Waits on a thread that nobody interrupts.
fn sleep(time: Duration) -> Result<(), Infallible> {
    thread::sleep(time);
    Ok(())
}

impl ShownServer for AttachedServer {
    fn snapshot(&self) -> Snapshot {
        Snapshot::of_running(&self.board)
    }

    fn stacks(&self) -> Result<GroupedStacks, String> {
        let Ok(processes) = ask(&self.board, self.pid, &mut sleep);
        let untold =
            processes.iter().filter_map(|process| Some((process.slot?, process.stacks.as_ref().err()?)));
        let missing = untold.map(|(slot, error)| format!("worker {slot} could not tell its stacks: {error}"));
        let missing = missing.collect();
        Ok(GroupedStacks { groups: grouped(&processes, &self.snapshot().requests), missing })
    }

    fn settings(&self) -> Option<String> {
        SettingsFile::read_of(self.board.supervisor_of(self.pid)).ok()
    }

    fn actions(&self) -> &'static [&'static str] {
        match self.board.get(SupervisorField::Pid) {
            0 => &["cancel", "profile"], // portico.serve has nobody to do the others.
            _ => &["reload", "add", "remove", "reopen", "replace", "cancel", "profile"],
        }
    }

    fn perform(&self, action: PageAction) -> Result<Done, String> {
        match action {
            PageAction::Reload => {
                let Ok(Output { output, error }) = reload(&self.board, self.pid, &mut sleep);
                error.map_or_else(|| Ok(done(format!("{output}."))), Err)
            }
            PageAction::AddWorker => self.signal(Signal::TTIN, "One worker more starts."),
            PageAction::RemoveWorker => {
                self.signal(Signal::TTOU, "One worker finishes what it has and ends.")
            }
            PageAction::ReopenLogs => self.signal(Signal::USR1, "The log files are opened anew."),
            PageAction::Replace(slot) => self.replace(slot),
            PageAction::Cancel(id) => {
                let Ok(Output { output, error }) = cancel(&self.board, &id.to_string(), &mut sleep);
                error.map_or_else(|| Ok(done(format!("{}.", output.trim_end()))), Err)
            }
            PageAction::Profile => self.profile(),
        }
    }
}
