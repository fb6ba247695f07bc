//! `portico status PID`: the workers and the requests that they are answering, from the scoreboard alone.

use std::fmt::Write as _;

use portico_supervisor::{
    Interpreter, Running, Scoreboard, SlotField, SlotState, SupervisorField, SupervisorState, ThreadState,
    WorkerSlot, now_nanos, thread_name,
};

use crate::table::{TextTable, cut, memory, time};

/// A worker that has not shown that it lives for so long is said to be silent.
const SILENT_AFTER: u64 = 3_000_000_000;

/// Characters of a request that are shown.
const REQUEST_WIDTH: usize = 48;

/// What `board` says.
pub(crate) fn tell(board: &Scoreboard) -> String {
    let now = now_nanos();
    let mut text = heading(board, now);
    if let Some(line) = interpreters(board) {
        let _ = writeln!(text, "{line}");
    }
    let workers = workers(board, now);
    if !workers.is_empty() {
        let _ = write!(text, "\n{workers}");
    }
    let requests = requests(board, now);
    match requests.is_empty() {
        true => text.push_str("\nNo request is running.\n"),
        false => {
            let _ = write!(text, "\n{requests}");
        }
    }
    text
}

fn heading(board: &Scoreboard, now: u64) -> String {
    let state = match board.state() {
        SupervisorState::Booting => "starting",
        SupervisorState::Serving => "serving",
        SupervisorState::Stopping => "stopping",
    };
    let up = time(now.saturating_sub(board.get(SupervisorField::StartedNanos)));
    let pid = match board.get(SupervisorField::Pid) {
        0 => "portico.serve".to_owned(),
        pid => format!("portico {pid}"),
    };
    let (workers, threads) =
        (board.get(SupervisorField::WorkersAsked), board.get(SupervisorField::ThreadsAsked));
    let mut text = format!(
        "{pid}: {state}, up {up}; {workers} worker{} of {threads} thread{}",
        plural(workers),
        plural(threads)
    );
    let (reloads, failed) =
        (board.get(SupervisorField::ReloadsEnded), board.get(SupervisorField::ReloadsFailed));
    if reloads > 0 {
        let _ = write!(text, "; {reloads} reload{}", plural(reloads));
        if failed > 0 {
            let _ = write!(text, ", {failed} failed");
        }
    }
    if board.get(SupervisorField::ReloadsAsked) > reloads {
        text.push_str("; a reload is under way");
    }
    text.push('\n');
    text
}

/// What runs the application; with how many of the workers have had their GIL turned on, where others have not.
fn interpreters(board: &Scoreboard) -> Option<String> {
    let workers = board.slots().filter(|(_, slot)| slot.get(SlotField::Pid) != 0);
    let known: Vec<Interpreter> =
        workers.filter_map(|(_, slot)| Interpreter::from_number(slot.get(SlotField::Interpreter))).collect();
    let on = known.iter().filter(|interpreter| interpreter.has_gil_turned_on()).count();
    let first = known.first()?;
    Some(match on {
        0 => first.to_string(),
        _ if on == known.len() => first.to_string(),
        _ => format!("{} in {on} of {} workers", first.with_gil_turned_on(), known.len()),
    })
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn workers(board: &Scoreboard, now: u64) -> TextTable {
    const RIGHT: &[bool] = &[true, true, false, true, true, true, true, true, true, true, true];
    let heading =
        ["SLOT", "PID", "STATE", "UP", "REQUESTS", "BUSY", "LOST", "QUEUED", "CONNS", "WAIT P99", "MEMORY"];
    let mut table = TextTable::new(&heading, RIGHT);
    let threads = board.get(SupervisorField::ThreadsAsked);
    for (number, slot) in board.slots().filter(|(_, slot)| slot.get(SlotField::Pid) != 0) {
        let (rss, pss) = (slot.get(SlotField::RssKib), slot.get(SlotField::PssKib));
        table.push(vec![
            number.to_string(),
            slot.get(SlotField::Pid).to_string(),
            state(slot, now),
            time(now.saturating_sub(slot.get(SlotField::StartedNanos))),
            slot.get(SlotField::Requests).to_string(),
            format!("{}/{threads}", busy(slot)),
            slot.get(SlotField::LostThreads).to_string(),
            slot.get(SlotField::Queued).to_string(),
            slot.get(SlotField::Connections).to_string(),
            wait_p99(&slot.waits()),
            memory(if pss > 0 { pss } else { rss }),
        ]);
    }
    table
}

fn state(slot: WorkerSlot<'_>, now: u64) -> String {
    let beat = slot.get(SlotField::HeartbeatNanos);
    let silent = now.saturating_sub(beat);
    match slot.state() {
        SlotState::Ready | SlotState::Retiring if beat > 0 && silent > SILENT_AFTER => {
            format!("silent {}", time(silent))
        }
        SlotState::Empty => "gone".to_owned(),
        SlotState::Starting => "starting".to_owned(),
        SlotState::Ready => "ready".to_owned(),
        SlotState::Retiring => "retiring".to_owned(),
    }
}

/// Threads that are in a call. From their own records: those are never late.
fn busy(slot: WorkerSlot<'_>) -> usize {
    let in_call = |state| matches!(state, ThreadState::Running | ThreadState::AwaitingClient);
    slot.threads().filter(|thread| in_call(thread.state())).count()
}

/// What 99 of 100 requests waited less than. Bucket `n` counts those below 2^n microseconds.
fn wait_p99(waits: &[u64]) -> String {
    let total: u64 = waits.iter().sum();
    if total == 0 {
        return "-".to_owned();
    }
    let mut seen = 0;
    for (bucket, count) in waits.iter().enumerate() {
        seen += count;
        if seen * 100 >= total * 99 {
            let micros = 1u64 << bucket;
            return match micros {
                0..1_000 => format!("< {micros} us"),
                _ => format!("< {}", time(micros * 1_000)),
            };
        }
    }
    "-".to_owned()
}

fn requests(board: &Scoreboard, now: u64) -> TextTable {
    const RIGHT: &[bool] = &[true, false, false, true, true, false, false];
    let heading = ["SLOT", "THREAD", "STATE", "RUNNING", "QUEUED", "REQUEST", "CLIENT"];
    let mut table = TextTable::new(&heading, RIGHT);
    let mut rows: Vec<(u64, Vec<String>)> = Vec::new();
    for (number, slot) in board.slots().filter(|(_, slot)| slot.get(SlotField::Pid) != 0) {
        for (index, thread) in slot.threads().enumerate() {
            let Some(running) = thread.running() else { continue };
            let state = match running.state {
                ThreadState::Lost => "lost",
                ThreadState::AwaitingClient => "client",
                ThreadState::Stream => "websocket",
                ThreadState::Idle | ThreadState::Running => "running",
            };
            rows.push((
                running.begun_nanos,
                vec![
                    number.to_string(),
                    thread_name(index),
                    state.to_owned(),
                    time(now.saturating_sub(running.begun_nanos)),
                    time(running.queued_nanos),
                    cut(&request(&running), REQUEST_WIDTH),
                    running.peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string()),
                ],
            ));
        }
    }
    // Those that run longest come first.
    rows.sort_by_key(|(begun, _)| *begun);
    rows.into_iter().for_each(|(_, row)| table.push(row));
    table
}

fn request(running: &Running) -> String {
    format!("{} {}", running.method.escape_ascii(), running.path().escape_ascii())
}
