//! `portico status PID`: the workers and the requests that they are answering, from the scoreboard alone.

use std::fmt::Write as _;

use portico_edge::limit::forgotten;
use portico_metrics::{Buckets, Counter, Gauge, Histogram, ReloadResult, ThreadUse, quantile_nanos};
use portico_supervisor::{
    Interpreter, Running, Scoreboard, SlotField, SlotState, SupervisorField, SupervisorState, ThreadState,
    WorkerSlot, thread_name,
};

use crate::table::{TextTable, cut, memory, time};

/// A worker that has not shown that it lives for so long is said to be silent.
const SILENT_AFTER: u64 = 3_000_000_000;

/// Characters of a request that are shown.
const REQUEST_WIDTH: usize = 48;

/// What `board` says at `now`, in nanoseconds of the machine's clock.
pub(crate) fn tell(board: &Scoreboard, now: u64) -> String {
    let mut text = heading(board, now);
    if let Some(line) = interpreters(board) {
        let _ = writeln!(text, "{line}");
    }
    if let Some(line) = limits(board) {
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

/// The server's state in a word.
pub(crate) fn supervisor_state(state: SupervisorState) -> &'static str {
    match state {
        SupervisorState::Booting => "starting",
        SupervisorState::Serving => "serving",
        SupervisorState::Stopping => "stopping",
    }
}

fn heading(board: &Scoreboard, now: u64) -> String {
    let state = supervisor_state(board.state());
    let up = time(now.saturating_sub(board.get(SupervisorField::StartedNanos)));
    let pid = match board.get(SupervisorField::Pid) {
        0 => "portico.serve".to_owned(),
        pid => format!("portico {pid}"),
    };
    let metrics = board.metrics();
    let (workers, threads) = (metrics.gauge(Gauge::WorkersWanted), metrics.gauge(Gauge::ThreadsPerWorker));
    let mut text = format!(
        "{pid}: {state}, up {up}; {workers} worker{} of {threads} thread{}",
        plural(workers),
        plural(threads)
    );
    let (reloads, failed) = (metrics.total(Counter::Reloads), metrics.reloads(ReloadResult::Failed));
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
pub(crate) fn interpreters(board: &Scoreboard) -> Option<String> {
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

/// That limits had to forget clients, if they had: the others then have less than they were promised.
fn limits(board: &Scoreboard) -> Option<String> {
    let forgotten = forgotten(board.limits());
    (forgotten > 0).then(|| {
        format!("limits have forgotten {forgotten} client{} for others (--limit-slots)", plural(forgotten))
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
    let threads = board.metrics().gauge(Gauge::ThreadsPerWorker);
    for (number, slot) in board.slots().filter(|(_, slot)| slot.get(SlotField::Pid) != 0) {
        let metrics = slot.metrics();
        let (rss, pss) = (metrics.gauge(Gauge::ResidentBytes), metrics.gauge(Gauge::ProportionalBytes));
        table.push(vec![
            number.to_string(),
            slot.get(SlotField::Pid).to_string(),
            match silent(slot, now) {
                Some(nanos) => format!("silent {}", time(nanos)),
                None => slot_state(slot.state()).to_owned(),
            },
            time(now.saturating_sub(slot.get(SlotField::StartedNanos))),
            metrics.since_start(Counter::Calls).to_string(),
            format!("{}/{threads}", busy(slot)),
            metrics.threads(ThreadUse::Lost).to_string(),
            metrics.gauge(Gauge::QueueLength).to_string(),
            metrics.gauge(Gauge::Connections).to_string(),
            wait_p99(&metrics.durations_since_start(Histogram::QueueDuration)),
            memory(if pss > 0 { pss } else { rss } / 1024),
        ]);
    }
    table
}

/// How long a worker that serves has not shown that it lives, if that is too long.
pub(crate) fn silent(slot: WorkerSlot<'_>, now: u64) -> Option<u64> {
    let beat = slot.get(SlotField::HeartbeatNanos);
    let silent = now.saturating_sub(beat);
    let serves = matches!(slot.state(), SlotState::Ready | SlotState::Retiring);
    (serves && beat > 0 && silent > SILENT_AFTER).then_some(silent)
}

/// A worker's state in a word.
pub(crate) fn slot_state(state: SlotState) -> &'static str {
    match state {
        SlotState::Empty => "gone",
        SlotState::Starting => "starting",
        SlotState::Ready => "ready",
        SlotState::Retiring => "retiring",
    }
}

/// What a thread is at in a word, while it has a request.
pub(crate) fn thread_state(state: ThreadState) -> &'static str {
    match state {
        ThreadState::Lost => "lost",
        ThreadState::AwaitingClient => "client",
        ThreadState::Stream => "websocket",
        ThreadState::Idle | ThreadState::Running => "running",
    }
}

/// Threads that are in a call. From their own records: those are never late.
fn busy(slot: WorkerSlot<'_>) -> usize {
    let in_call = |state| matches!(state, ThreadState::Running | ThreadState::AwaitingClient);
    slot.threads().filter(|thread| in_call(thread.state())).count()
}

/// What 99 of 100 requests waited less than.
fn wait_p99(waits: &Buckets) -> String {
    match quantile_nanos(waits, 99) {
        None => "-".to_owned(),
        Some(u64::MAX) => "long".to_owned(),
        Some(nanos) if nanos < 1_000_000 => format!("< {} us", nanos / 1_000),
        Some(nanos) => format!("< {}", time(nanos)),
    }
}

fn requests(board: &Scoreboard, now: u64) -> TextTable {
    const RIGHT: &[bool] = &[true, false, false, true, true, false, false];
    let heading = ["SLOT", "THREAD", "STATE", "RUNNING", "QUEUED", "REQUEST", "CLIENT"];
    let mut table = TextTable::new(&heading, RIGHT);
    let mut rows: Vec<(u64, Vec<String>)> = Vec::new();
    for (number, slot) in board.slots().filter(|(_, slot)| slot.get(SlotField::Pid) != 0) {
        for (index, thread) in slot.threads().enumerate() {
            let Some(running) = thread.running() else { continue };
            rows.push((
                running.begun_nanos,
                vec![
                    number.to_string(),
                    thread_name(index),
                    thread_state(running.state).to_owned(),
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::atomic::Ordering;

    use portico_supervisor::{Gil, Note};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Two workers of three threads that have been started at 100 s of the clock.
    fn board() -> Scoreboard {
        let board = Scoreboard::create(3, 3).unwrap();
        board.set(SupervisorField::Pid, 4710);
        board.set(SupervisorField::State, SupervisorState::Serving as u64);
        board.set(SupervisorField::StartedNanos, 100 * SECOND);
        board.metrics().set(Gauge::WorkersWanted, 2);
        board.metrics().set(Gauge::ThreadsPerWorker, 3);
        for number in 0..2 {
            let slot = board.slot(number).unwrap();
            slot.set(SlotField::Pid, 4711 + u64::from(number));
            slot.set(SlotField::State, SlotState::Ready as u64);
            slot.set(SlotField::StartedNanos, 101 * SECOND);
            slot.set(SlotField::HeartbeatNanos, 160 * SECOND);
        }
        board
    }

    fn begin(board: &Scoreboard, slot: u32, thread: usize, target: &[u8], begun_nanos: u64) {
        let peer = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
        let (method, queued_nanos) = (&b"GET"[..], 2_000_000);
        let note = Note { method, target, peer, begun_nanos, queued_nanos, route_timeout: None };
        board.slot(slot).unwrap().thread(thread).unwrap().begin(&note);
    }

    /// The cells of the line that begins with `first`, by the heading's words.
    fn row<'a>(text: &'a str, first: &str) -> Vec<&'a str> {
        let line = text.lines().find(|line| line.trim_start().starts_with(first));
        line.unwrap_or_else(|| panic!("{first}: {text}")).split_whitespace().collect()
    }

    #[test]
    fn an_idle_server_is_told_in_full() {
        let text = tell(&board(), 160 * SECOND);
        assert_eq!(text.lines().next(), Some("portico 4710: serving, up 1m 00s; 2 workers of 3 threads"));
        let worker = row(&text, "1  4712");
        assert_eq!(worker, ["1", "4712", "ready", "59.0", "s", "0", "0/3", "0", "0", "0", "-", "-"]);
        assert!(text.ends_with("\nNo request is running.\n"), "{text}");
        assert!(!text.contains("4713"), "the third slot is empty: {text}");
    }

    #[test]
    fn clients_that_limits_forgot_are_told() {
        let board = Scoreboard::with_limits(1, 1, 24).unwrap();
        assert!(!tell(&board, 0).contains("limits"));
        board.limits()[0].store(1, Ordering::Relaxed);
        assert!(tell(&board, 0).contains("limits have forgotten 1 client for others (--limit-slots)\n"));
        board.limits()[0].store(7, Ordering::Relaxed);
        assert!(tell(&board, 0).contains("limits have forgotten 7 clients for others"));
    }

    #[test]
    fn the_longest_request_comes_first_without_query() {
        let board = board();
        begin(&board, 0, 1, b"/young?secret=1", 159 * SECOND);
        begin(&board, 1, 0, b"/old", 150 * SECOND);
        let text = tell(&board, 160 * SECOND);
        let requests: Vec<_> = text.lines().filter(|line| line.contains("GET")).collect();
        assert_eq!(requests.len(), 2, "{text}");
        assert!(requests[0].contains("portico-1") && requests[0].contains("10.0 s"), "{text}");
        assert!(requests[0].contains("GET /old") && requests[0].ends_with("192.0.2.7"), "{text}");
        assert!(requests[1].contains("GET /young") && !text.contains("secret"), "{text}");
        assert_eq!(row(&text, "0  4711")[6], "1/3");
    }

    #[test]
    fn a_worker_without_heartbeat_is_silent() {
        let board = board();
        let at = |now| tell(&board, now);
        assert!(!at(160 * SECOND + SILENT_AFTER).contains("silent"));
        assert!(at(160 * SECOND + SILENT_AFTER + 1).contains("silent 3.0 s"));
        board.slot(0).unwrap().set(SlotField::HeartbeatNanos, 0);
        board.slot(1).unwrap().set(SlotField::State, SlotState::Starting as u64);
        assert!(!at(200 * SECOND).contains("silent"), "one that imports shows no heartbeat yet");
    }

    #[test]
    fn threads_are_told_by_their_state() {
        let board = board();
        for (thread, state) in
            [ThreadState::AwaitingClient, ThreadState::Stream, ThreadState::Lost].into_iter().enumerate()
        {
            begin(&board, 0, thread, b"/", (110 + thread as u64) * SECOND);
            board.slot(0).unwrap().thread(thread).unwrap().set_state(state);
        }
        let text = tell(&board, 160 * SECOND);
        let states: Vec<_> = text
            .lines()
            .filter(|line| line.contains("GET"))
            .map(|line| line.split_whitespace().nth(2).unwrap())
            .collect();
        assert_eq!(states, ["client", "websocket", "lost"]);
        assert_eq!(row(&text, "0  4711")[6], "1/3", "a WebSocket and a lost thread answer nothing");
    }

    #[test]
    fn reloads_are_told_with_those_that_failed() {
        let board = board();
        let heading = || tell(&board, 160 * SECOND).lines().next().unwrap().to_owned();
        board.set(SupervisorField::ReloadsAsked, 1);
        assert!(heading().ends_with("of 3 threads; a reload is under way"), "{}", heading());
        board.metrics().add_reloads(ReloadResult::Succeeded, 1);
        assert!(heading().ends_with("; 1 reload"), "{}", heading());
        board.metrics().add_reloads(ReloadResult::Failed, 1);
        assert!(heading().ends_with("; 2 reloads, 1 failed"), "{}", heading());
        board.set(SupervisorField::Pid, 0);
        assert!(heading().starts_with("portico.serve: serving"), "{}", heading());
    }

    #[test]
    fn the_gil_is_told_where_workers_differ() {
        let board = board();
        assert_eq!(interpreters(&board), None, "no worker has looked yet");
        let set = |number, gil| {
            let interpreter = Interpreter::new(0x030E_00F0, gil).to_number();
            board.slot(number).unwrap().set(SlotField::Interpreter, interpreter);
        };
        set(0, Gil::Off);
        set(1, Gil::Off);
        assert_eq!(interpreters(&board).unwrap(), "Python 3.14.0 free-threaded, GIL off");
        set(1, Gil::On);
        assert_eq!(interpreters(&board).unwrap(), "Python 3.14.0 free-threaded, GIL on in 1 of 2 workers");
        set(0, Gil::On);
        assert_eq!(interpreters(&board).unwrap(), "Python 3.14.0 free-threaded, GIL on");
    }

    #[test]
    fn the_wait_is_that_of_99_in_100() {
        let board = board();
        let metrics = board.slot(0).unwrap().metrics();
        let wait = || row(&tell(&board, 160 * SECOND), "0  4711")[10..].join(" ");
        let record = |count, nanos| (0..count).for_each(|_| metrics.record(Histogram::QueueDuration, nanos));
        record(1, 3_000_000);
        metrics.begin_worker();
        assert_eq!(wait(), "- -", "what the worker before it has counted is not its own");
        record(99, 7_100);
        record(1, 900_000_000);
        assert_eq!(wait(), "< 8 us -");
        record(1, 900_000_000);
        assert_eq!(wait(), "< 917 ms -");
        record(1_000, u64::MAX);
        assert_eq!(wait(), "long -");
    }
}
