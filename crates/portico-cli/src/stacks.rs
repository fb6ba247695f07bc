//! `portico stacks PID`: what each thread of the workers is at, with its Python stack; with `--grouped`, each
//! stack once.

use std::fmt::Write as _;

use portico_insight::{ReadTime, ShownRequest, Snapshot, StackGroup, StackOfThread, group_stacks};
use portico_supervisor::{Running, Scoreboard, ThreadStack, ThreadState, WorkerSlot, now_nanos, thread_name};

use crate::asked_stacks::{ProcessStacks, ask};
use crate::output::Output;
use crate::pause::Pause;
use crate::table::{cut, time, time_of_seconds};
use crate::words::{phase_in_full, printable, request_line};

/// Requests that are told of each group.
const REQUESTS_OF_GROUP: usize = 4;

/// Characters of a request that are shown there.
const REQUEST_WIDTH: usize = 60;

/// The stacks of the workers of `board`, or of the one that has process id `pid`.
pub(crate) fn tell<E>(board: &Scoreboard, pid: u32, pause: Pause<'_, E>) -> Result<Output, E> {
    let processes = ask(board, pid, pause)?;
    if processes.is_empty() {
        return Ok(without_worker());
    }
    let mut told = Output::default();
    for process in &processes {
        let Some(number) = process.slot else {
            if let Ok(stacks) = &process.stacks {
                let _ = writeln!(told.output, "Template (pid {})\n", process.pid);
                stacks
                    .iter()
                    .for_each(|stack| told.output.push_str(&format!("{}\n", without_request(stack))));
            }
            continue;
        };
        let _ = writeln!(told.output, "Worker {number} (pid {})\n", process.pid);
        match (&process.stacks, board.slot(number)) {
            (Ok(stacks), Some(slot)) => told.output.push_str(&described(slot, stacks)),
            (Ok(_), None) => {}
            (Err(error), _) => {
                let _ = writeln!(told.output, "Its stacks could not be had: {error}\n");
                told.error = Some(untold(number));
            }
        }
    }
    Ok(told)
}

/// Each stack once, with how many threads have it, the most first.
pub(crate) fn tell_grouped<E>(board: &Scoreboard, pid: u32, pause: Pause<'_, E>) -> Result<Output, E> {
    let processes = ask(board, pid, pause)?;
    if processes.is_empty() {
        return Ok(without_worker());
    }
    let failed = processes.iter().filter(|process| process.stacks.is_err()).find_map(|process| process.slot);
    let requests = Snapshot::read(board, ReadTime::now()).requests;
    let groups = grouped(&processes, &requests);
    Ok(Output { output: grouped_text(&groups), error: failed.map(untold) })
}

/// The groups of what processes have told, with the requests that run at that moment.
pub(crate) fn grouped(processes: &[ProcessStacks], requests: &[ShownRequest]) -> Vec<StackGroup> {
    let threads = processes.iter().filter_map(|process| Some((process.slot?, process.stacks.as_ref().ok()?)));
    let threads = threads.flat_map(|(slot, stacks)| {
        stacks.iter().filter(is_known).map(move |stack| {
            let is_its = |request: &&ShownRequest| request.slot == slot && request.ident == stack.ident;
            StackOfThread {
                slot,
                name: name(stack),
                frames: stack.frames.clone(),
                request: requests.iter().find(is_its).cloned(),
            }
        })
    });
    group_stacks(threads)
}

/// The frames of the thread that is at `request`, as Python prints them.
pub(crate) fn of_request(processes: &[ProcessStacks], request: &ShownRequest) -> Option<String> {
    let process = processes.iter().find(|process| process.slot == Some(request.slot))?;
    let stacks = process.stacks.as_ref().ok()?;
    let stack = stacks.iter().find(|stack| stack.ident == request.ident)?;
    Some(match stack.frames.as_str() {
        "" => "Its thread is in no Python code at this moment.".to_owned(),
        frames => frames.to_owned(),
    })
}

/// Groups as text.
pub(crate) fn grouped_text(groups: &[StackGroup]) -> String {
    let all: usize = groups.iter().map(|group| group.count).sum();
    let mut text = String::new();
    for group in groups {
        let slots: Vec<String> = group.slots.iter().map(u32::to_string).collect();
        let (slots, workers) = (slots.join(", "), if group.slots.len() == 1 { "worker" } else { "workers" });
        let idle = match (group.frames.is_empty(), group.requests.is_empty()) {
            (true, true) => ", idle",
            (true, false) => ", some in no Python code, the others idle",
            (false, _) => "",
        };
        let _ = writeln!(text, "{} of {all} threads, {workers} {slots}{idle}", group.count);
        for request in group.requests.iter().take(REQUESTS_OF_GROUP) {
            let _ = writeln!(text, "  {}", in_group(request));
        }
        let others = group.requests.len().saturating_sub(REQUESTS_OF_GROUP);
        if others > 0 {
            let _ = writeln!(text, "  and {others} more request{}", if others == 1 { "" } else { "s" });
        }
        if !group.names.is_empty() && !group.frames.is_empty() {
            let names: Vec<String> = group.names.iter().map(|name| printable(name)).collect();
            let _ = writeln!(text, "  {}", names.join(", "));
        }
        let _ = writeln!(text, "{}", group.frames);
    }
    text
}

fn in_group(request: &ShownRequest) -> String {
    let age = time_of_seconds(request.age_seconds);
    format!(
        "{}  {age}  {}  {}",
        request.id,
        phase_in_full(request.phase),
        cut(&request_line(request), REQUEST_WIDTH)
    )
}

fn without_worker() -> Output {
    Output::failure("it has no worker at this moment".to_owned())
}

fn untold(number: u32) -> String {
    format!("worker {number} could not tell its stacks")
}

/// Threads of ours that are in no Python code are nobody's concern.
fn is_known(stack: &&ThreadStack) -> bool {
    stack.name.is_some() || !stack.frames.is_empty()
}

fn described(slot: WorkerSlot<'_>, stacks: &[ThreadStack]) -> String {
    let now = now_nanos();
    let running: Vec<(usize, Running)> =
        slot.threads().enumerate().filter_map(|(index, thread)| Some((index, thread.running()?))).collect();
    let mut text = String::new();
    for stack in stacks.iter().filter(is_known) {
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

fn name(stack: &ThreadStack) -> String {
    stack.name.clone().unwrap_or_else(|| format!("thread 0x{:x}", stack.ident))
}

fn without_request(stack: &ThreadStack) -> String {
    let idle = if stack.frames.is_empty() { ": idle" } else { "" };
    format!("{}{idle}\n{}", name(stack), stack.frames)
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

    use portico_supervisor::{Note, SlotField};

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
        let stacks = [
            stack(7, Some("Thread-1"), "  File \"pay.py\"\n"),
            stack(8, Some("MainThread"), ""),
            stack(9, None, ""),
        ];
        let text = described(slot, &stacks);
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
    fn equal_stacks_stand_once_with_their_requests() {
        let board = Scoreboard::create(2, 6).unwrap();
        let (in_wait, in_spin) =
            ("  File \"db.py\", line 9, in wait\n", "  File \"a.py\", line 1, in spin\n");
        let mut processes = Vec::new();
        for (number, slot) in board.slots() {
            slot.set(SlotField::Pid, 4711 + u64::from(number));
            let mut stacks = vec![stack(99, Some("MainThread"), ""), stack(98, None, "")];
            for (index, thread) in slot.threads().enumerate().take(3) {
                let ident = 1 + index as u64;
                thread.enlist(70, ident);
                let begun_nanos = now_nanos().saturating_sub((5 + ident) * 1_000_000_000);
                let target = if index == 0 && number == 1 { &b"/\x1b[2J?a=b"[..] } else { b"/" };
                let (method, peer) = (&b"GET"[..], None);
                thread.begin(&Note {
                    method,
                    target,
                    peer,
                    begun_nanos,
                    queued_nanos: 0,
                    route_timeout: None,
                });
                stacks.push(stack(ident, None, if index == 0 && number == 1 { in_spin } else { in_wait }));
            }
            processes.push(ProcessStacks { slot: Some(number), pid: 4711 + number, stacks: Ok(stacks) });
        }
        processes.push(ProcessStacks { slot: Some(7), pid: 1, stacks: Err(std::io::Error::other("no")) });
        let requests = Snapshot::read(&board, ReadTime::now()).requests;
        let text = grouped_text(&grouped(&processes, &requests));
        let expected = "\
5 of 8 threads, workers 0, 1
  0-3-2  8.0 s  running  GET /
  1-3-2  8.0 s  running  GET /
  0-2-2  7.0 s  running  GET /
  1-2-2  7.0 s  running  GET /
  and 1 more request
  File \"db.py\", line 9, in wait

1 of 8 threads, worker 1
  1-1-2  6.0 s  running  GET /\\u{1b}[2J
  File \"a.py\", line 1, in spin

2 of 8 threads, workers 0, 1, idle

";
        assert_eq!(text, expected);
    }
}
