//! A server at one moment, as plain values: read from its scoreboard, written as JSON.
//!
//! The names and units of the JSON are those of the fields: `snake_case`, times in seconds, ages instead of
//! instants. They only ever grow: programs read them.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use portico_metrics::{Buckets, Counter, Gauge, Histogram, ReloadResult};
use portico_supervisor::{
    Interpreter, KernelQueue, Running, Scoreboard, SlotField, SlotState, SupervisorField, SupervisorState,
    ThreadRecord, ThreadState, WorkerSlot, busy_nanos, kernel_queues, now_nanos, thread_name,
};
use serde::Serialize;

use crate::call_id::CallId;
use crate::durations::Durations;
use crate::history::{self, EndedRequest, ServerEvent};
use crate::reading::{add, occupied, seconds, used};
use crate::responses::{self, ResponseCounts};

/// The time at which a scoreboard is read, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadTime {
    /// Nanoseconds of the monotonic clock, in which the scoreboard reckons.
    pub nanos: u64,
    /// Seconds since 1970.
    pub unix_time: f64,
}

impl ReadTime {
    /// The present.
    pub fn now() -> Self {
        let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { nanos: now_nanos(), unix_time: unix_time.as_secs_f64() }
    }
}

/// A server at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// When that was, in seconds since 1970.
    pub unix_time: f64,
    /// The supervisor; `None` for `portico.serve`, which has none.
    pub pid: Option<u64>,
    /// The version of Portico that has read it.
    pub version: &'static str,
    /// How far it is between start and end.
    pub state: ServerState,
    /// Since its start.
    pub uptime_seconds: f64,
    /// Of the code that new workers get; grows with each reload.
    pub generation: u64,
    /// What runs the application, once a worker has told it.
    pub python: Option<String>,
    /// Workers that there should be.
    pub workers_wanted: u64,
    /// Threads of each that run calls.
    pub threads_per_worker: u64,
    /// Reloads.
    pub reload: ReloadFacts,
    /// Requests that have ended, those included that the server has responded to itself.
    pub requests_total: u64,
    /// The same by the class of the response: `2xx` and so on. A client that left before it counts as 499.
    pub responses: ResponseCounts,
    /// From a complete request until its response was written.
    pub latency: Durations,
    /// How long complete requests have waited for a thread.
    pub queue_wait: Durations,
    /// Time that threads have spent in calls.
    pub busy_seconds_total: f64,
    /// Requests that wait for a thread.
    pub queue: QueueFacts,
    /// Connections that the kernel has established and no worker has accepted.
    pub backlog: Vec<ListenQueue>,
    /// The workers, by slot.
    pub slots: Vec<SlotFacts>,
    /// The calls that run, the oldest request first.
    pub requests: Vec<ShownRequest>,
    /// What has happened to the server lately, the latest last.
    pub events: Vec<ServerEvent>,
    /// Slow and failed requests that have ended lately, the latest last.
    pub recent: Vec<EndedRequest>,
}

/// The progress of a server between start and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// No worker has been ready yet.
    Booting,
    /// At least one has been.
    Serving,
    /// It is told to end.
    Stopping,
}

/// How many reloads there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReloadFacts {
    /// Whether one is being done.
    pub under_way: bool,
    /// After which the new code served.
    pub succeeded: u64,
    /// After which the old code went on serving.
    pub failed: u64,
}

/// The requests that wait for a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct QueueFacts {
    /// How many.
    pub length: u64,
    /// How long the oldest has waited; `None` if none does.
    pub oldest_seconds: Option<f64>,
}

/// The connections to one address that wait in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListenQueue {
    /// The address.
    pub listener: String,
    /// How many.
    pub length: u64,
    /// How many there may be.
    pub limit: u64,
}

impl From<KernelQueue> for ListenQueue {
    fn from(queue: KernelQueue) -> Self {
        let KernelQueue { listener, length, limit } = queue;
        Self { listener, length, limit }
    }
}

/// A slot with its worker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlotFacts {
    /// Its number.
    pub slot: u32,
    /// Its worker.
    pub pid: u64,
    /// What that is at.
    pub state: WorkerState,
    /// Of its code.
    pub generation: u64,
    /// Since it was forked.
    pub uptime_seconds: f64,
    /// Since it last showed that it lives; `None` before it first did.
    pub heartbeat_seconds: Option<f64>,
    /// Threads that run calls.
    pub threads: u64,
    /// Those of them that are in one.
    pub busy: u64,
    /// Those that could begin one.
    pub idle: u64,
    /// Others, that were written off: their call did not end in time.
    pub lost: u64,
    /// Requests that wait for a thread.
    pub queued: u64,
    /// Connections.
    pub connections: u64,
    /// Requests that have ended in this slot, those of former workers included, so that it never falls.
    pub requests_total: u64,
    /// Resident memory, once it has been measured.
    pub resident_bytes: Option<u64>,
    /// The same with its share of what it has in common with others, if that is measured.
    pub proportional_bytes: Option<u64>,
}

/// The progress of a worker between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// It ends.
    Gone,
    /// It imports the application.
    Starting,
    /// It serves.
    Ready,
    /// It finishes what it has.
    Retiring,
}

/// A request whose call runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownRequest {
    /// The call, as `portico cancel` is told it.
    pub id: CallId,
    /// The slot of its worker.
    pub slot: u32,
    /// The name of its thread.
    pub thread: String,
    /// What it is at.
    pub phase: RequestPhase,
    /// Since it was complete: its wait for a thread, and the call.
    pub age_seconds: f64,
    /// Its wait for a thread.
    pub queued_seconds: f64,
    /// Who sent it; `None` for a UNIX socket.
    pub peer: Option<IpAddr>,
    /// Its method, as far as there was room.
    pub method: String,
    /// The path of its target, as far as there was room: without the query, which may hold secrets. It is the
    /// client's text, of whatever bytes; what is no UTF-8 is replaced.
    pub path: String,
    /// `threading.get_ident()` of its thread, by which its stack is found.
    #[serde(skip)]
    pub ident: u64,
}

/// What a call is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestPhase {
    /// The application works on it.
    Running,
    /// It waits for the client to take more of the response, or to send more of the body.
    AwaitingClient,
    /// The application has taken over its connection, and serves a WebSocket.
    Websocket,
    /// It did not end in time: the client has had its response, and the thread is written off.
    Lost,
}

impl Snapshot {
    /// What `board` says at `now`. Its numbers are read one by one while the server goes on, so they are of almost
    /// the same moment. Any worker can write anything there: it is shown, and nothing else is made of it.
    pub fn read(board: &Scoreboard, now: ReadTime) -> Self {
        let metrics = board.metrics();
        let threads_per_worker = metrics.gauge(Gauge::ThreadsPerWorker);
        let slots: Vec<SlotFacts> = occupied(board)
            .map(|(number, slot)| SlotFacts::read(number, slot, threads_per_worker, now.nanos))
            .collect();
        let (responses, latency) = responses::read(board);
        let pid = board.get(SupervisorField::Pid);
        Self {
            unix_time: now.unix_time,
            pid: (pid != 0).then_some(pid),
            version: env!("CARGO_PKG_VERSION"),
            state: board.state().into(),
            uptime_seconds: seconds(now.nanos.saturating_sub(board.get(SupervisorField::StartedNanos))),
            generation: metrics.gauge(Gauge::Generation),
            python: interpreters(board),
            workers_wanted: metrics.gauge(Gauge::WorkersWanted),
            threads_per_worker,
            reload: ReloadFacts::read(board),
            requests_total: responses.count(),
            responses,
            latency: Durations::of(&latency),
            queue_wait: Durations::of(&queue_waits(board)),
            busy_seconds_total: seconds(busy_nanos(board, now.nanos)),
            queue: QueueFacts {
                length: slots.iter().fold(0, |sum, slot| slot.queued.saturating_add(sum)),
                oldest_seconds: oldest_wait(board, now.nanos),
            },
            backlog: Vec::new(),
            slots,
            requests: requests(board, now.nanos),
            events: history::events(board),
            recent: history::recent(board),
        }
    }

    /// What stands on `board` at this moment, and how many connections wait in the kernel to be accepted, which
    /// takes longer to find out.
    pub fn of_running(board: &Scoreboard) -> Self {
        let backlog = kernel_queues(board).into_iter().map(ListenQueue::from).collect();
        Self { backlog, ..Self::read(board, ReadTime::now()) }
    }

    /// Threads that run calls, of all workers.
    pub fn threads(&self) -> u64 {
        self.slots.iter().fold(0, |sum, slot| slot.threads.saturating_add(sum))
    }

    /// Those of them that are in one.
    pub fn busy(&self) -> u64 {
        self.slots.iter().fold(0, |sum, slot| slot.busy.saturating_add(sum))
    }
}

/// How long the request has waited that waits for a thread longest.
fn oldest_wait(board: &Scoreboard, now: u64) -> Option<f64> {
    let since = occupied(board).map(|(_, slot)| slot.metrics().gauge(Gauge::QueueSince));
    since.filter(|since| *since > 0).min().map(|since| seconds(now.saturating_sub(since)))
}

fn queue_waits(board: &Scoreboard) -> Buckets {
    let mut sum = [0; _];
    for slot in used(board) {
        add(&mut sum, &slot.metrics().durations_at(Histogram::QueueDuration, 0).1);
    }
    sum
}

/// What runs the application; with how many of the workers have had their GIL turned on, where others have not.
fn interpreters(board: &Scoreboard) -> Option<String> {
    let known: Vec<Interpreter> = occupied(board)
        .filter_map(|(_, slot)| Interpreter::from_number(slot.get(SlotField::Interpreter)))
        .collect();
    let on = known.iter().filter(|interpreter| interpreter.has_gil_turned_on()).count();
    let first = known.first()?;
    Some(match on {
        0 => first.to_string(),
        _ if on == known.len() => first.to_string(),
        _ => format!("{} in {on} of {} workers", first.with_gil_turned_on(), known.len()),
    })
}

impl ReloadFacts {
    fn read(board: &Scoreboard) -> Self {
        let metrics = board.metrics();
        Self {
            under_way: board.get(SupervisorField::ReloadsAsked) > metrics.total(Counter::Reloads),
            succeeded: metrics.reloads(ReloadResult::Succeeded),
            failed: metrics.reloads(ReloadResult::Failed),
        }
    }
}

impl SlotFacts {
    fn read(number: u32, slot: WorkerSlot<'_>, threads: u64, now: u64) -> Self {
        let count = |states: &[ThreadState]| {
            slot.threads().filter(|thread| states.contains(&thread.state())).count() as u64
        };
        let metrics = slot.metrics();
        let measured = |gauge| Some(metrics.gauge(gauge)).filter(|bytes| *bytes > 0);
        let heartbeat = slot.get(SlotField::HeartbeatNanos);
        // From the threads' own records: those are never late.
        let busy = count(&[ThreadState::Running, ThreadState::AwaitingClient]);
        Self {
            slot: number,
            pid: slot.get(SlotField::Pid),
            state: slot.state().into(),
            generation: slot.get(SlotField::Generation),
            uptime_seconds: seconds(now.saturating_sub(slot.get(SlotField::StartedNanos))),
            heartbeat_seconds: (heartbeat > 0).then(|| seconds(now.saturating_sub(heartbeat))),
            threads,
            busy,
            idle: threads.saturating_sub(busy),
            lost: count(&[ThreadState::Lost]),
            queued: metrics.gauge(Gauge::QueueLength),
            connections: metrics.gauge(Gauge::Connections),
            requests_total: metrics.total(Counter::Exchanges),
            resident_bytes: measured(Gauge::ResidentBytes),
            proportional_bytes: measured(Gauge::ProportionalBytes),
        }
    }
}

/// A worker that has not shown that it lives for so long is said to be silent.
const SILENT_AFTER_SECONDS: f64 = 3.0;

impl SlotFacts {
    /// How long a worker that serves has not shown that it lives, if that is too long.
    pub fn silent_seconds(&self) -> Option<f64> {
        let serves = matches!(self.state, WorkerState::Ready | WorkerState::Retiring);
        self.heartbeat_seconds.filter(|since| serves && *since > SILENT_AFTER_SECONDS)
    }
}

fn requests(board: &Scoreboard, now: u64) -> Vec<ShownRequest> {
    let mut found = Vec::new();
    for (slot, row) in occupied(board) {
        let running = |(thread, record): (usize, ThreadRecord<'_>)| {
            Some(ShownRequest::of((slot, thread), &record.running()?, now))
        };
        found.extend(row.threads().enumerate().filter_map(running));
    }
    found.sort_by(|one, other| other.age_seconds.total_cmp(&one.age_seconds).then(one.id.cmp(&other.id)));
    found
}

impl ShownRequest {
    fn of((slot, thread): (u32, usize), running: &Running, now: u64) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let begun = now.saturating_sub(running.begun_nanos);
        Self {
            id: CallId { slot, thread, sequence: running.sequence },
            slot,
            thread: thread_name(thread),
            phase: running.state.into(),
            age_seconds: seconds(begun.saturating_add(running.queued_nanos)),
            queued_seconds: seconds(running.queued_nanos),
            peer: running.peer,
            method: text(&running.method),
            path: text(running.path()),
            ident: running.ident,
        }
    }

    /// How long its call has been running.
    pub fn running_seconds(&self) -> f64 {
        (self.age_seconds - self.queued_seconds).max(0.0)
    }
}

impl From<SupervisorState> for ServerState {
    fn from(state: SupervisorState) -> Self {
        match state {
            SupervisorState::Booting => Self::Booting,
            SupervisorState::Serving => Self::Serving,
            SupervisorState::Stopping => Self::Stopping,
        }
    }
}

impl From<SlotState> for WorkerState {
    fn from(state: SlotState) -> Self {
        match state {
            SlotState::Empty => Self::Gone,
            SlotState::Starting => Self::Starting,
            SlotState::Ready => Self::Ready,
            SlotState::Retiring => Self::Retiring,
        }
    }
}

impl From<ThreadState> for RequestPhase {
    fn from(state: ThreadState) -> Self {
        match state {
            ThreadState::Idle | ThreadState::Running => Self::Running,
            ThreadState::AwaitingClient => Self::AwaitingClient,
            ThreadState::Stream => Self::Websocket,
            ThreadState::Lost => Self::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use portico_metrics::{CountedExchange, Method};
    use portico_supervisor::{Gil, Note};
    use serde_json::{Value as Json, json};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A server of two workers with three threads that began at 100 s of the clock.
    fn board() -> Scoreboard {
        let board = Scoreboard::create(3, 6).unwrap();
        board.set(SupervisorField::Pid, 4710);
        board.set(SupervisorField::State, SupervisorState::Serving as u64);
        board.set(SupervisorField::StartedNanos, 100 * SECOND);
        board.metrics().set(Gauge::WorkersWanted, 2);
        board.metrics().set(Gauge::ThreadsPerWorker, 3);
        board.metrics().set(Gauge::Generation, 1);
        for number in 0..2 {
            let slot = board.slot(number).unwrap();
            slot.metrics().record_exchange(&CountedExchange::without_call(
                Method::of(b"GET"),
                200,
                1_000_000,
            ));
            slot.begin_worker();
            slot.set(SlotField::Pid, 4711 + u64::from(number));
            slot.set(SlotField::State, SlotState::Ready as u64);
            slot.set(SlotField::StartedNanos, 150 * SECOND);
        }
        board
    }

    fn read(board: &Scoreboard) -> Snapshot {
        Snapshot::read(board, ReadTime { nanos: 160 * SECOND, unix_time: 1_796_000_000.5 })
    }

    fn begin(board: &Scoreboard, (slot, thread): (u32, usize), target: &[u8], begun: u64, queued: u64) {
        let peer = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
        let (begun_nanos, queued_nanos) = (begun * SECOND, queued * SECOND);
        let note = Note { method: b"GET", target, peer, begun_nanos, queued_nanos, route_timeout: None };
        board.slot(slot).unwrap().thread(thread).unwrap().begin(&note);
    }

    #[test]
    fn the_json_has_the_names_that_programs_read() {
        let board = board();
        begin(&board, (1, 0), b"/a?secret=1", 158, 1);
        board.slot(0).unwrap().set(SlotField::HeartbeatNanos, 159 * SECOND);
        board.slot(0).unwrap().metrics().set(Gauge::ResidentBytes, 4096);
        let mut told = serde_json::to_value(read(&board)).unwrap();
        for histogram in ["latency", "queue_wait"] {
            let durations = told.as_object_mut().unwrap().remove(histogram).unwrap();
            let lengths = ["upper_seconds", "counts"].map(|key| durations[key].as_array().unwrap().len());
            assert_eq!(lengths[0], lengths[1], "{histogram}");
        }
        let slot = |number: u32, heartbeat: Json, busy: u64, resident: Json| {
            json!({
                "slot": number, "pid": 4711 + number, "state": "ready", "generation": 0, "uptime_seconds": 10.0,
                "heartbeat_seconds": heartbeat, "threads": 3, "busy": busy, "idle": 3 - busy, "lost": 0,
                "queued": 0, "connections": 0, "requests_total": 1, "resident_bytes": resident,
                "proportional_bytes": null,
            })
        };
        let request = json!({
            "id": "1-1-2", "slot": 1, "thread": "portico-1", "phase": "running", "age_seconds": 3.0,
            "queued_seconds": 1.0, "peer": "192.0.2.7", "method": "GET", "path": "/a",
        });
        let expected = json!({
            "unix_time": 1_796_000_000.5, "pid": 4710, "version": env!("CARGO_PKG_VERSION"), "state": "serving",
            "uptime_seconds": 60.0, "generation": 1, "python": null, "workers_wanted": 2,
            "threads_per_worker": 3, "reload": {"under_way": false, "succeeded": 0, "failed": 0},
            "requests_total": 2, "responses": {"1xx": 0, "2xx": 2, "3xx": 0, "4xx": 0, "5xx": 0},
            "busy_seconds_total": 0.0, "queue": {"length": 0, "oldest_seconds": null}, "backlog": [],
            "slots": [slot(0, json!(1.0), 0, json!(4096)), slot(1, Json::Null, 1, Json::Null)],
            "requests": [request], "events": [], "recent": [],
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn the_oldest_request_comes_first() {
        let board = board();
        begin(&board, (0, 0), b"/young", 159, 0);
        begin(&board, (0, 1), b"/queued-for-long", 158, 40);
        begin(&board, (1, 0), b"/old", 130, 0);
        let requests = read(&board).requests;
        let told: Vec<_> = requests.iter().map(|it| (it.path.as_str(), it.age_seconds)).collect();
        assert_eq!(told, [("/queued-for-long", 42.0), ("/old", 30.0), ("/young", 1.0)]);
        assert_eq!(requests[0].running_seconds(), 2.0);
    }

    #[test]
    fn the_oldest_wait_is_that_of_all_workers() {
        let board = board();
        assert_eq!(read(&board).queue.oldest_seconds, None);
        for (slot, since) in [(0, 158), (1, 151), (2, 100)] {
            board.slot(slot).unwrap().metrics().set(Gauge::QueueSince, since * SECOND);
        }
        assert_eq!(read(&board).queue.oldest_seconds, Some(9.0), "the third slot has no worker");
    }

    #[test]
    fn threads_are_counted_by_what_they_are_at() {
        let board = board();
        let states = [
            (ThreadState::Running, RequestPhase::Running),
            (ThreadState::AwaitingClient, RequestPhase::AwaitingClient),
            (ThreadState::Stream, RequestPhase::Websocket),
            (ThreadState::Lost, RequestPhase::Lost),
        ];
        for (thread, (state, _)) in states.into_iter().enumerate() {
            begin(&board, (0, thread), b"/", 110 + thread as u64, 0);
            board.slot(0).unwrap().thread(thread).unwrap().set_state(state);
        }
        let told = read(&board);
        let slot = &told.slots[0];
        assert_eq!((slot.threads, slot.busy, slot.idle, slot.lost), (3, 2, 1, 1));
        assert_eq!((told.threads(), told.busy()), (6, 2));
        let phases: Vec<_> = told.requests.iter().map(|request| request.phase).collect();
        assert_eq!(phases, states.map(|(_, phase)| phase));
    }

    #[test]
    fn what_clients_send_is_text_without_query() {
        let board = board();
        begin(&board, (0, 0), b"/\x1b[2J\xff?token=7", 150, 0);
        let told = read(&board);
        assert_eq!(told.requests[0].path, "/\u{1b}[2J\u{fffd}");
        assert!(!serde_json::to_string(&told).unwrap().contains("token"));
    }

    #[test]
    fn a_server_without_supervisor_has_no_process_id() {
        let board = Scoreboard::create(1, 1).unwrap();
        let told = read(&board);
        assert_eq!((told.pid, told.state, told.slots.len()), (None, ServerState::Booting, 0));
    }

    #[test]
    fn reloads_are_under_way_until_they_have_ended() {
        let board = board();
        board.set(SupervisorField::ReloadsAsked, 1);
        assert!(read(&board).reload.under_way);
        board.metrics().add_reloads(ReloadResult::Failed, 1);
        assert_eq!(read(&board).reload, ReloadFacts { under_way: false, succeeded: 0, failed: 1 });
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

    /// A worker can write what it likes into its slot.
    #[test]
    fn nonsense_on_the_scoreboard_is_shown_and_makes_no_panic() {
        let board = board();
        begin(&board, (0, 0), b"/", u64::MAX / SECOND, u64::MAX / SECOND);
        for field in
            [SlotField::State, SlotField::StartedNanos, SlotField::HeartbeatNanos, SlotField::Interpreter]
        {
            board.slot(0).unwrap().set(field, u64::MAX);
        }
        for (_, slot) in board.slots() {
            slot.metrics().set(Gauge::QueueLength, u64::MAX);
        }
        let told = read(&board);
        assert_eq!(told.queue.length, u64::MAX);
        assert!(serde_json::to_string(&told).is_ok());
    }
}
