//! Each finding by itself, at its limit, and which of two is told.

use portico_supervisor::Scoreboard;

use super::*;
use crate::call_id::CallId;
use crate::durations::Durations;
use crate::rates::QuantileSeconds;
use crate::snapshot::ReadTime;

/// A server of two workers with four threads each, that serves and has nothing to do.
fn server() -> Snapshot {
    let board = Scoreboard::create(1, 1).unwrap();
    let mut now = Snapshot::read(&board, ReadTime { nanos: 1, unix_time: 1_000.0 });
    now.state = ServerState::Serving;
    now.workers_wanted = 2;
    now.slots = vec![slot(0), slot(1)];
    now.latency = Durations::default();
    now
}

fn slot(number: u32) -> SlotFacts {
    SlotFacts {
        slot: number,
        pid: 4711 + u64::from(number),
        state: WorkerState::Ready,
        generation: 1,
        uptime_seconds: 8.1,
        heartbeat_seconds: Some(0.1),
        threads: 4,
        busy: 0,
        idle: 4,
        lost: 0,
        queued: 0,
        connections: 0,
        requests_total: 0,
        resident_bytes: None,
        proportional_bytes: None,
    }
}

fn request(thread: u32, running: f64, path: &str) -> ShownRequest {
    ShownRequest {
        id: CallId { slot: 0, thread: thread as usize, sequence: 2 },
        slot: 0,
        thread: format!("portico-{}", thread + 1),
        phase: RequestPhase::Running,
        age_seconds: running + 0.5,
        queued_seconds: 0.5,
        peer: None,
        method: "GET".to_owned(),
        path: path.to_owned(),
        ident: 0,
    }
}

/// The same with all threads in calls, of which the youngest runs for `seconds`.
fn exhausted_for(seconds: f64) -> Snapshot {
    let mut now = server();
    now.slots.iter_mut().for_each(|slot| (slot.busy, slot.idle) = (4, 0));
    now.requests = (0..8).map(|thread| request(thread, seconds + f64::from(7 - thread), "/pay")).collect();
    now
}

fn death(now: &Snapshot, ago: f64) -> ServerEvent {
    ServerEvent {
        unix_time: now.unix_time - ago,
        kind: DEATH.to_owned(),
        slot: Some(3),
        pid: Some(9),
        text: "worker 9 was killed by SIGSEGV".to_owned(),
    }
}

fn rates(requests: f64, errors: f64) -> ServerRates {
    ServerRates {
        seconds: 10.0,
        requests_per_second: requests,
        errors_per_second: errors,
        latency: QuantileSeconds { p50: Some(0.003), p95: Some(0.0124), p99: None },
        ..ServerRates::default()
    }
}

fn check(now: &Snapshot, level: Level, text: &str) {
    assert_eq!(Sentence::of(now, None, None), Sentence { level, text: text.to_owned() });
}

#[test]
fn nothing_is_wrong() {
    let mut now = server();
    check(&now, Level::Calm, "All is calm: 0 of 8 threads busy, no request waits.");
    now.slots[0].busy = 2;
    let told = Sentence::of(&now, Some(&rates(131.6, 0.1)), None);
    let text =
        "All is calm: 2 of 8 threads busy, no request waits, 132 requests a second, 95 % within 12 ms.";
    assert_eq!((told.level, told.text.as_str()), (Level::Calm, text));
}

#[test]
fn all_threads_are_busy() {
    let mut now = exhausted_for(243.0);
    now.queue.length = 212;
    now.queue.oldest_seconds = Some(9.3);
    let frames = [
        "  File \"/srv/shop/wsgi.py\", line 12, in application\n    return app(environ)\n",
        "  File \"/srv/shop/views.py\", line 88, in pay\n",
        "  File \"/srv/venv/lib/python3.13/site-packages/psycopg/connection.py\", line 972, in wait\n",
    ];
    let stack = FrequentStack::of(&frames.concat(), 7);
    let told = Sentence::of(&now, None, Some(&stack));
    let text = "All 8 threads are busy, none has come free for 4 min; 212 requests wait, the oldest 9.3 s; \
                7 of 8 are in psycopg/connection wait (views.py:88).";
    assert_eq!((told.level, told.text.as_str()), (Level::Trouble, text));
}

#[test]
fn a_burst_is_no_trouble() {
    let mut now = exhausted_for(0.2);
    check(&now, Level::Busy, "All 8 threads are busy; no request waits yet.");
    now.queue.length = 1;
    check(&now, Level::Busy, "All 8 threads are busy; 1 request waits.");
    now.queue.oldest_seconds = Some(1.0);
    check(&now, Level::Trouble, "All 8 threads are busy; 1 request waits for 1.0 s.");
    let text = "All 8 threads are busy, none has come free for 10 s; no request waits yet.";
    check(&exhausted_for(10.0), Level::Trouble, text);
    let mut one = exhausted_for(0.2);
    one.slots.truncate(1);
    (one.slots[0].threads, one.slots[0].busy) = (1, 1);
    check(&one, Level::Busy, "The only thread is busy; no request waits yet.");
}

#[test]
fn threads_that_have_lost_their_call_do_not_count_as_busy() {
    let mut now = server();
    now.slots[0].lost = 2;
    now.requests = vec![request(5, 93.0, "/stuck")];
    now.requests[0].phase = RequestPhase::Lost;
    let text = "2 threads are written off, because their calls did not end in time; the oldest has run GET /stuck \
                for 1 min.";
    check(&now, Level::Busy, text);
}

#[test]
fn responses_fail() {
    let told = |requests, errors| Sentence::of(&server(), Some(&rates(requests, errors)), None);
    let text = "12 % of the responses of the last 10 s are 5xx, 11 a second.";
    assert_eq!(told(90.0, 10.8), Sentence { level: Level::Trouble, text: text.to_owned() });
    assert_eq!(told(90.0, 4.4).level, Level::Calm, "below one in twenty");
    assert_eq!(told(0.2, 0.2).level, Level::Calm, "two of two are no rate");
    assert_eq!(told(0.0, 0.0).level, Level::Calm);
}

#[test]
fn nobody_serves() {
    let mut now = server();
    now.slots.truncate(1);
    now.slots[0].state = WorkerState::Starting;
    check(&now, Level::Trouble, "No worker serves: slot 0 has been starting for 8.1 s.");
    now.slots[0].state = WorkerState::Retiring;
    check(&now, Level::Trouble, "No worker serves: all are ending.");
    now.slots.clear();
    check(&now, Level::Trouble, "No worker runs.");
    now.state = ServerState::Stopping;
    check(&now, Level::Busy, "The server is stopping: no request runs any more.");
    now.requests = vec![request(0, 8.8, "/")];
    check(&now, Level::Busy, "The server is stopping: 1 request still runs, the oldest for 9.3 s.");
}

#[test]
fn a_worker_is_missing_or_silent() {
    let mut now = server();
    now.slots[1].state = WorkerState::Starting;
    check(&now, Level::Busy, "1 of 2 workers serve: slot 1 has been starting for 8.1 s.");
    now.slots[1].state = WorkerState::Ready;
    now.slots[1].heartbeat_seconds = Some(SILENT_SECONDS);
    assert_eq!(Sentence::of(&now, None, None).level, Level::Calm, "at the limit");
    now.slots[1].heartbeat_seconds = Some(14.0);
    check(&now, Level::Trouble, "The worker in slot 1 (pid 4712) has been silent for 14 s.");
}

#[test]
fn workers_die() {
    let mut now = server();
    now.events = vec![death(&now, 12.0)];
    check(&now, Level::Busy, "A worker died 12 s ago: worker 9 was killed by SIGSEGV.");
    now.events = vec![death(&now, 61.0)];
    assert_eq!(Sentence::of(&now, None, None).level, Level::Calm, "it has been replaced");
    now.events = [250.0, 100.0, 90.0].map(|ago| death(&now, ago)).to_vec();
    let text = "3 workers have died in 4 min, the last 1 min ago: worker 9 was killed by SIGSEGV.";
    check(&now, Level::Trouble, text);
}

#[test]
fn requests_wait_although_threads_are_free() {
    let mut now = server();
    now.queue.length = 7;
    check(&now, Level::Busy, "7 requests wait for a thread; 0 of 8 threads are busy.");
    let waits = |p95| {
        let queue_wait = QuantileSeconds { p50: None, p95: Some(p95), p99: None };
        Sentence::of(&server(), Some(&ServerRates { queue_wait, ..rates(10.0, 0.0) }), None)
    };
    assert_eq!(waits(WAIT_P95_SECONDS).level, Level::Calm);
    let text = "One in twenty requests waits 230 ms or longer for a thread; 0 of 8 threads are busy.";
    assert_eq!(waits(0.23), Sentence { level: Level::Busy, text: text.to_owned() });
    assert_eq!(waits(1.1).level, Level::Trouble);
}

#[test]
fn one_request_runs_long() {
    let mut now = server();
    now.slots[0].busy = 1;
    now.requests = vec![request(0, LONG_SECONDS, "/export")];
    assert_eq!(Sentence::of(&now, None, None).level, Level::Calm, "at the limit");
    now.requests = vec![request(0, 93.0, "/export")];
    check(&now, Level::Busy, "1 request has run for 1 min: GET /export; 7 of 8 threads are free.");
    now.requests.push(request(1, 11.0, "/b"));
    let text =
        "2 requests have run for more than 10 s, the oldest for 1 min: GET /export; 7 of 8 threads are free.";
    check(&now, Level::Busy, text);
    now.requests.truncate(1);
    now.requests[0].phase = RequestPhase::AwaitingClient;
    assert_eq!(Sentence::of(&now, None, None).level, Level::Calm, "its client is slow");
    now.requests = vec![request(0, 93.0, &"é".repeat(61))];
    let told = Sentence::of(&now, None, None).text;
    assert!(told.contains(&format!("GET {}…;", "é".repeat(60))), "{told}");
}

#[test]
fn a_stack_is_named_by_its_last_frame_and_the_applications() {
    let place = |frames: &[&str]| FrequentStack::of(&frames.join("\n"), 2).place;
    assert_eq!(place(&["File \"/srv/a.py\", line 7, in f"]), "f (a.py:7)");
    assert_eq!(place(&["File \"a.py\", line 7 in f"]), "f (a.py:7)", "of the faulthandler");
    let sleep = "File \"/usr/lib/python3.11/threading.py\", line 327, in wait";
    assert_eq!(place(&["File \"/srv/a.py\", line 7, in f", sleep]), "threading wait (a.py:7)");
    assert_eq!(place(&[sleep]), "wait (threading.py:327)");
    assert_eq!(place(&["File \"<frozen importlib>\", line 1, in g"]), "g (<frozen importlib>:1)");
    assert_eq!(place(&["hostile", "", "File \"", "File \"x\", line"]), "code without Python frames");
}

#[test]
fn durations_have_two_figures() {
    for (seconds, text) in [
        (-1.0, "0 ms"),
        (0.012, "12 ms"),
        (0.9996, "1.0 s"),
        (9.3, "9.3 s"),
        (59.9, "59 s"),
        (243.0, "4 min"),
        (3_720.0, "1 h 2 min"),
        (90_000.0, "1 d 1 h"),
        (f64::NAN, "0 ms"),
    ] {
        assert_eq!(duration(seconds), text);
    }
}
