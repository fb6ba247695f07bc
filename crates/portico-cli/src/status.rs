//! `portico status PID`: the workers and the requests that they are answering, from the scoreboard alone.

use std::fmt::Write as _;

use portico_edge::limit::forgotten;
use portico_insight::{ReadTime, Snapshot};
use portico_metrics::{Buckets, Counter, Gauge, Histogram, quantile_nanos};
use portico_supervisor::{Scoreboard, SlotField};

use crate::table::{TextTable, cut, memory, time, time_of_seconds};
use crate::words::{phase, request_line, server_state, worker_state};

/// Characters of a request that are shown.
const REQUEST_WIDTH: usize = 48;

/// What `board` says at `now`.
pub(crate) fn tell(board: &Scoreboard, now: ReadTime) -> String {
    let snapshot = Snapshot::read(board, now);
    let mut text = heading(&snapshot);
    for line in [snapshot.python.clone(), limits(board), after_responses(board)].into_iter().flatten() {
        let _ = writeln!(text, "{line}");
    }
    let workers = workers(board, &snapshot);
    if !workers.is_empty() {
        let _ = write!(text, "\n{workers}");
    }
    let requests = requests(&snapshot);
    match requests.is_empty() {
        true => text.push_str("\nNo request is running.\n"),
        false => {
            let _ = write!(text, "\n{requests}");
        }
    }
    text
}

fn heading(snapshot: &Snapshot) -> String {
    let (state, up) = (server_state(snapshot.state), time_of_seconds(snapshot.uptime_seconds));
    let pid = match snapshot.pid {
        None => "portico.serve".to_owned(),
        Some(pid) => format!("portico {pid}"),
    };
    let (workers, threads) = (snapshot.workers_wanted, snapshot.threads_per_worker);
    let mut text = format!(
        "{pid}: {state}, up {up}; {workers} worker{} of {threads} thread{}",
        plural(workers),
        plural(threads)
    );
    let failed = snapshot.reload.failed;
    let reloads = snapshot.reload.succeeded.saturating_add(failed);
    if reloads > 0 {
        let _ = write!(text, "; {reloads} reload{}", plural(reloads));
        if failed > 0 {
            let _ = write!(text, ", {failed} failed");
        }
    }
    if snapshot.reload.under_way {
        text.push_str("; a reload is under way");
    }
    text.push('\n');
    text
}

/// That limits had to forget clients, if they had: the others then have less than they were promised.
fn limits(board: &Scoreboard) -> Option<String> {
    let forgotten = forgotten(board.limits());
    (forgotten > 0).then(|| {
        format!("limits have forgotten {forgotten} client{} for others (--limit-slots)", plural(forgotten))
    })
}

/// What applications have left to be done after responses, where they have.
fn after_responses(board: &Scoreboard) -> Option<String> {
    let living = || board.slots().filter(|(_, slot)| slot.get(SlotField::Pid) != 0);
    let now = |gauge| living().fold(0, |sum: u64, (_, slot)| sum.saturating_add(slot.metrics().gauge(gauge)));
    let total = |counter| {
        board.slots().fold(0, |sum: u64, (_, slot)| sum.saturating_add(slot.metrics().total(counter)))
    };
    let (running, queued) = (now(Gauge::AfterResponseRunning), now(Gauge::AfterResponseQueued));
    let ended = [
        (total(Counter::AfterResponseDone), "done"),
        (total(Counter::AfterResponseFailed), "failed"),
        (total(Counter::AfterResponseDropped), "dropped"),
        (total(Counter::AfterResponseRefused), "refused"),
    ];
    let ended = ended.into_iter().filter(|(count, _)| *count > 0);
    let ended: String = ended.map(|(count, what)| format!(", {count} {what}")).collect();
    let is_used = running + queued > 0 || !ended.is_empty();
    is_used.then(|| format!("after responses: {running} running, {queued} waiting{ended}"))
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn workers(board: &Scoreboard, snapshot: &Snapshot) -> TextTable {
    const RIGHT: &[bool] = &[true, true, false, true, true, true, true, true, true, true, true];
    let heading =
        ["SLOT", "PID", "STATE", "UP", "REQUESTS", "BUSY", "LOST", "QUEUED", "CONNS", "WAIT P99", "MEMORY"];
    let mut table = TextTable::new(&heading, RIGHT);
    for slot in &snapshot.slots {
        let Some(metrics) = board.slot(slot.slot).map(|row| row.metrics()) else { continue };
        let bytes = slot.proportional_bytes.or(slot.resident_bytes).unwrap_or_default();
        table.push(vec![
            slot.slot.to_string(),
            slot.pid.to_string(),
            match slot.silent_seconds() {
                Some(seconds) => format!("silent {}", time_of_seconds(seconds)),
                None => worker_state(slot.state).to_owned(),
            },
            time_of_seconds(slot.uptime_seconds),
            metrics.since_start(Counter::Calls).to_string(),
            format!("{}/{}", slot.busy, slot.threads),
            slot.lost.to_string(),
            slot.queued.to_string(),
            slot.connections.to_string(),
            wait_p99(&metrics.durations_since_start(Histogram::QueueDuration)),
            memory(bytes / 1024),
        ]);
    }
    table
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

fn requests(snapshot: &Snapshot) -> TextTable {
    const RIGHT: &[bool] = &[true, false, false, true, true, false, false];
    let heading = ["SLOT", "THREAD", "STATE", "RUNNING", "QUEUED", "REQUEST", "CLIENT"];
    let mut table = TextTable::new(&heading, RIGHT);
    // The oldest come first.
    for request in &snapshot.requests {
        table.push(vec![
            request.slot.to_string(),
            request.thread.clone(),
            phase(request.phase).to_owned(),
            time_of_seconds(request.running_seconds()),
            time_of_seconds(request.queued_seconds),
            cut(&request_line(request), REQUEST_WIDTH),
            request.peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string()),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::atomic::Ordering;

    use portico_metrics::ReloadResult;
    use portico_supervisor::{Note, SlotField, SlotState, SupervisorField, SupervisorState, ThreadState};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(nanos: u64) -> ReadTime {
        ReadTime { nanos, unix_time: 0.0 }
    }

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
        let text = tell(&board(), at(160 * SECOND));
        assert_eq!(text.lines().next(), Some("portico 4710: serving, up 1m 00s; 2 workers of 3 threads"));
        let worker = row(&text, "1  4712");
        assert_eq!(worker, ["1", "4712", "ready", "59.0", "s", "0", "0/3", "0", "0", "0", "-", "-"]);
        assert!(text.ends_with("\nNo request is running.\n"), "{text}");
        assert!(!text.contains("4713"), "the third slot is empty: {text}");
    }

    #[test]
    fn clients_that_limits_forgot_are_told() {
        let board = Scoreboard::with_limits(1, 1, 24).unwrap();
        assert!(!tell(&board, at(0)).contains("limits"));
        board.limits()[0].store(1, Ordering::Relaxed);
        assert!(tell(&board, at(0)).contains("limits have forgotten 1 client for others (--limit-slots)\n"));
        board.limits()[0].store(7, Ordering::Relaxed);
        assert!(tell(&board, at(0)).contains("limits have forgotten 7 clients for others"));
    }

    #[test]
    fn the_longest_request_comes_first_without_query() {
        let board = board();
        begin(&board, 0, 1, b"/young?secret=1", 159 * SECOND);
        begin(&board, 1, 0, b"/old", 150 * SECOND);
        let text = tell(&board, at(160 * SECOND));
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
        let told = |now| tell(&board, at(now));
        assert!(!told(163 * SECOND).contains("silent"));
        assert!(told(163 * SECOND + 1_000).contains("silent 3.0 s"));
        board.slot(0).unwrap().set(SlotField::HeartbeatNanos, 0);
        board.slot(1).unwrap().set(SlotField::State, SlotState::Starting as u64);
        assert!(!told(200 * SECOND).contains("silent"), "one that imports shows no heartbeat yet");
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
        let text = tell(&board, at(160 * SECOND));
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
        let heading = || tell(&board, at(160 * SECOND)).lines().next().unwrap().to_owned();
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
    fn the_wait_is_that_of_99_in_100() {
        let board = board();
        let metrics = board.slot(0).unwrap().metrics();
        let wait = || row(&tell(&board, at(160 * SECOND)), "0  4711")[10..].join(" ");
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

    #[test]
    fn what_is_left_after_responses_is_told_where_there_is_some() {
        let board = Scoreboard::create(2, 1).unwrap();
        assert_eq!(after_responses(&board), None);
        for number in 0..2 {
            let slot = board.slot(number).unwrap();
            slot.set(SlotField::Pid, 7);
            slot.metrics().set(Gauge::AfterResponseRunning, 1);
            slot.metrics().set(Gauge::AfterResponseQueued, 4);
            slot.metrics().add(Counter::AfterResponseDone, 10);
        }
        board.slot(0).unwrap().metrics().add(Counter::AfterResponseDropped, 1);
        let told = "after responses: 2 running, 8 waiting, 20 done, 1 dropped";
        assert_eq!(after_responses(&board).as_deref(), Some(told));
    }
}
