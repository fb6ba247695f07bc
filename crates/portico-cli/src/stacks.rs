//! `portico stacks PID`: what each thread of the workers is at, with its Python stack.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use portico_supervisor::{
    Running, Scoreboard, SlotField, StacksFile, ThreadStack, ThreadState, WorkerSlot, ask_stacks, now_nanos,
    stacks_in, thread_name,
};

use crate::output::Output;
use crate::pause::{LOOK_EVERY, Pause};
use crate::table::time;

/// How long a worker may take to tell: it waits for its interpreter for a second and then tells without it.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long its faulthandler may, which is a matter of milliseconds.
const SIGNAL_PATIENCE: Duration = Duration::from_millis(500);

/// A worker that was asked for its stacks, and the number of that demand.
struct Asked<'a> {
    /// Who has its file: its supervisor, or itself where it has none.
    holder: u32,
    number: u32,
    slot: WorkerSlot<'a>,
    pid: u32,
    demand: u64,
}

/// Asks the workers of `board`, or the one that has process id `pid`, for the stacks of their threads.
pub(crate) fn tell<E>(board: &Scoreboard, pid: u32, pause: Pause<'_, E>) -> Result<Output, E> {
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
    if asked.is_empty() && template.is_none() {
        return Ok(Output::failure("it has no worker at this moment".to_owned()));
    }
    let end = Instant::now() + PATIENCE;
    while asked.iter().any(|worker| worker.is_watched() && !worker.has_told()) && Instant::now() < end {
        pause(LOOK_EVERY)?;
    }
    let mut told = Output::default();
    if let Some((pid, file)) = template
        && let Ok(stacks) = dumped(pid, &file, holder, pause)?
    {
        let _ = writeln!(told.output, "Template (pid {pid})\n");
        stacks.iter().for_each(|stack| told.output.push_str(&format!("{}\n", without_request(stack))));
    }
    for worker in &asked {
        let _ = writeln!(told.output, "Worker {} (pid {})\n", worker.number, worker.pid);
        match worker.stacks(pause)? {
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
                    let _ = writeln!(text, "{}", without_request(stack));
                    continue;
                }
            }
            let _ = writeln!(text, "{}", stack.frames);
        }
        text
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

fn without_request(stack: &ThreadStack) -> String {
    let unnamed = format!("thread 0x{:x}", stack.ident);
    let name = stack.name.as_deref().unwrap_or(&unnamed);
    let idle = if stack.frames.is_empty() { ": idle" } else { "" };
    format!("{name}{idle}\n{}", stack.frames)
}

fn request(running: &Running, now: u64) -> String {
    let peer = running.peer.map(|peer| format!(" of {peer}")).unwrap_or_default();
    let state = match running.state {
        ThreadState::Lost => ", written off",
        ThreadState::AwaitingClient => ", waiting for its client",
        ThreadState::Stream => ", a WebSocket",
        ThreadState::Idle | ThreadState::Running => "",
    };
    format!(
        "{} {}{peer}, running {}, queued {}{state}",
        running.method.escape_ascii(),
        running.path().escape_ascii(),
        time(now.saturating_sub(running.begun_nanos)),
        time(running.queued_nanos),
    )
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::{IpAddr, Ipv6Addr};

    use portico_supervisor::Note;

    use super::*;

    fn stack(ident: u64, name: Option<&str>, frames: &str) -> ThreadStack {
        ThreadStack { ident, name: name.map(str::to_owned), frames: frames.to_owned() }
    }

    #[test]
    fn a_stack_stands_below_its_request() {
        let board = Scoreboard::create(1, 2).unwrap();
        let slot = board.slot(0).unwrap();
        let thread = slot.thread(1).unwrap();
        thread.enlist(70, 7);
        let peer = Some(IpAddr::V6(Ipv6Addr::LOCALHOST));
        let begun_nanos = now_nanos().saturating_sub(90_500_000_000);
        thread.begin(&Note {
            method: b"POST",
            target: b"/pay?card=1",
            peer,
            begun_nanos,
            queued_nanos: 1_000_000,
            route_timeout: None,
        });
        thread.set_state(ThreadState::AwaitingClient);
        let worker = Asked { holder: 1, number: 0, slot, pid: 2, demand: 1 };
        let text = worker.described(&[
            stack(7, Some("Thread-1"), "  File \"pay.py\"\n"),
            stack(8, Some("MainThread"), ""),
            stack(9, None, ""),
        ]);
        let expected = "portico-2: POST /pay of ::1, running 1m 30s, queued 1 ms, waiting for its client\n  \
                        File \"pay.py\"\n\nMainThread: idle\n\n";
        assert_eq!(text, expected, "a thread that is in no Python code is left out");
    }

    #[test]
    fn a_server_without_worker_is_said_so() {
        let board = Scoreboard::create(1, 1).unwrap();
        let mut never = |_| -> Result<(), Infallible> { panic!("there is nothing to wait for") };
        let told = tell(&board, std::process::id(), &mut never).unwrap();
        assert_eq!(told.error.as_deref(), Some("it has no worker at this moment"));
    }

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
        assert_eq!(tell(&board, std::process::id(), &mut interrupted).unwrap_err(), "Ctrl-C");
        assert_eq!((pauses, slot.get(SlotField::StacksAsked)), (3, 1));
    }
}
