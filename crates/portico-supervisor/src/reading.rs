//! The metrics of a running server as whoever asks finds them: what its processes have counted on the scoreboard,
//! and what is worked out at that moment, of the threads' records, the clock and the kernel's tables. Nothing of
//! that costs the server anything.

use std::borrow::Cow;
use std::path::Path;

use portico_metrics::{Gauge, Number, Observed, Reading, SlotReading};

use crate::backlog::listen_overflows;
use crate::interpreter::{Gil, Interpreter};
use crate::listen_queues::{KernelQueue, listen_queues};
use crate::scoreboard::{
    Scoreboard, SlotField, SlotState, SupervisorField, ThreadState, WorkerSlot, unpacked_version,
};

/// All that there is to read at `now`, in nanoseconds of the machine's clock.
pub fn reading(board: &Scoreboard, now: u64) -> Reading<'_> {
    let slots = board.slots().map(|(slot, row)| SlotReading {
        slot,
        metrics: row.metrics(),
        is_occupied: row.get(SlotField::Pid) != 0,
    });
    let mut observed = Vec::new();
    for (number, slot) in board.slots() {
        observe_totals(&mut observed, number, slot, now);
        if slot.get(SlotField::Pid) != 0 {
            observe_worker(&mut observed, (number, slot), board, now);
        }
    }
    observe_server(&mut observed, board);
    Reading::new(board.metrics(), slots, observed)
}

/// What stays when the worker is gone.
fn observe_totals(observed: &mut Vec<Number>, number: u32, slot: WorkerSlot<'_>, now: u64) {
    let (mut busy, mut wait, mut waits) = (0_u64, 0_u64, 0_u64);
    for thread in slot.threads() {
        let (nanos, count) = thread.totals().interpreter_waits();
        busy = busy.saturating_add(thread.totals().busy_nanos(thread, now));
        (wait, waits) = (wait.saturating_add(nanos), waits.saturating_add(count));
    }
    let totals =
        [(Observed::BusyTime, busy), (Observed::InterpreterWait, wait), (Observed::InterpreterWaits, waits)];
    // Not of slots that nobody has used yet.
    let is_known = slot.get(SlotField::Pid) != 0 || totals.iter().any(|(_, value)| *value > 0);
    let numbers = totals.map(|(metric, value)| Number::observed(metric, Some(number), [], value));
    observed.extend(numbers.into_iter().filter(|_| is_known));
}

fn observe_worker(
    observed: &mut Vec<Number>,
    (number, slot): (u32, WorkerSlot<'_>),
    board: &Scoreboard,
    now: u64,
) {
    let mut push = |metric, value| observed.push(Number::observed(metric, Some(number), [], value));
    if let Some(took) = slot.get(SlotField::ReadyNanos).checked_sub(slot.get(SlotField::StartedNanos)) {
        push(Observed::WorkerReady, took);
    }
    let since = slot.metrics().gauge(Gauge::QueueSince);
    push(Observed::QueueOldest, if since == 0 { 0 } else { now.saturating_sub(since) });
    let (held, active) = connections(slot);
    for (state, count) in [("idle", held.saturating_sub(active)), ("active", active)] {
        observed.push(Number::observed(Observed::ConnectionStates, Some(number), [state.into()], count));
    }
    let count = |wanted| slot.threads().filter(|thread| thread.state() == wanted).count() as u64;
    let (running, awaiting) = (count(ThreadState::Running), count(ThreadState::AwaitingClient));
    let serves = matches!(slot.state(), SlotState::Ready | SlotState::Retiring);
    let threads = if serves { board.metrics().gauge(Gauge::ThreadsPerWorker) } else { 0 };
    for (state, count) in [
        ("idle", threads.saturating_sub(running + awaiting)),
        ("running", running),
        ("awaiting_client", awaiting),
        ("websocket", count(ThreadState::Stream)),
        ("lost", count(ThreadState::Lost)),
    ] {
        observed.push(Number::observed(Observed::ThreadStates, Some(number), [state.into()], count));
    }
}

/// Connections of a worker, and those of them that have a request: each request has a connection of its own, or
/// is a stream of one that carries many.
fn connections(slot: WorkerSlot<'_>) -> (u64, u64) {
    let [held, requests, streams, sessions] =
        [Gauge::Connections, Gauge::ActiveRequests, Gauge::Streams, Gauge::Sessions]
            .map(|gauge| slot.metrics().gauge(gauge));
    (held, requests.saturating_sub(streams).saturating_add(sessions).min(held))
}

fn observe_server(observed: &mut Vec<Number>, board: &Scoreboard) {
    let states =
        board.slots().filter(|(_, slot)| slot.get(SlotField::Pid) != 0).map(|(_, slot)| slot.state());
    let states: Vec<SlotState> = states.collect();
    for (name, state) in
        [("starting", SlotState::Starting), ("ready", SlotState::Ready), ("retiring", SlotState::Retiring)]
    {
        let count = states.iter().filter(|other| **other == state).count() as u64;
        observed.push(Number::observed(Observed::Workers, None, [name.into()], count));
    }
    for (name, until) in board.certificates().all() {
        observed.push(Number::observed(Observed::CertificateExpiry, None, [name.into()], until));
    }
    if let Some(pid) = listening_process(board) {
        for queue in kernel_queues(board) {
            let listener = Cow::from(queue.listener);
            let length = Number::observed(Observed::ListenQueue, None, [listener.clone()], queue.length);
            observed.push(length);
            observed.push(Number::observed(Observed::ListenQueueLimit, None, [listener], queue.limit));
        }
        let overflows = listen_overflows(Path::new(&format!("/proc/{pid}/net/netstat")));
        observed.extend(overflows.map(|count| Number::observed(Observed::ListenOverflows, None, [], count)));
    }
    observed.push(build(board));
}

/// The connections that wait in the kernel to be accepted, for each address that the server listens on. Empty
/// where the kernel does not tell: the server is in another network namespace, or belongs to another user.
pub fn kernel_queues(board: &Scoreboard) -> Vec<KernelQueue> {
    listening_process(board).map(listen_queues).unwrap_or_default()
}

/// Time that threads of all workers have spent in calls, those of workers that are gone included, at `now`; both
/// in nanoseconds.
pub fn busy_nanos(board: &Scoreboard, now: u64) -> u64 {
    let threads = board.slots().flat_map(|(_, slot)| slot.threads());
    threads.fold(0, |sum, thread| thread.totals().busy_nanos(thread, now).saturating_add(sum))
}

/// Who has the listeners: the supervisor or, where there is none, the one process.
fn listening_process(board: &Scoreboard) -> Option<u32> {
    let of_slot = || board.slot(0).map(|slot| slot.get(SlotField::Pid));
    let pid = Some(board.get(SupervisorField::Pid)).filter(|pid| *pid != 0).or_else(of_slot)?;
    u32::try_from(pid).ok().filter(|pid| *pid != 0)
}

fn build(board: &Scoreboard) -> Number {
    let known =
        board.slots().find_map(|(_, slot)| Interpreter::from_number(slot.get(SlotField::Interpreter)));
    let gil = match known.map(Interpreter::gil) {
        Some(Gil::Off) => "off",
        Some(Gil::On | Gil::BuiltIn) => "on",
        None => "unknown",
    };
    let python = known.map_or_else(|| "unknown".to_owned(), Interpreter::version);
    let version = unpacked_version(board.get(SupervisorField::Version));
    Number::observed(Observed::Build, None, [version.into(), python.into(), "cpython".into(), gil.into()], 1)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use portico_metrics::{CountedExchange, Method, TextFormat};

    use super::*;
    use crate::scoreboard::{Note, now_nanos};

    const SECOND: u64 = 1_000_000_000;

    fn note(begun_nanos: u64) -> Note<'static> {
        Note { method: b"GET", target: b"/", peer: None, begun_nanos, queued_nanos: 0, route_timeout: None }
    }

    #[test]
    fn what_nobody_counts_is_worked_out() {
        let board = Scoreboard::create(2, 6).unwrap();
        board.metrics().set(Gauge::ThreadsPerWorker, 3);
        board.certificates().set([("a.pem", 77)]);
        let slot = board.slot(0).unwrap();
        slot.set(SlotField::Pid, u64::from(std::process::id()));
        slot.set(SlotField::State, SlotState::Ready as u64);
        slot.set(SlotField::StartedNanos, 100 * SECOND);
        slot.set(SlotField::ReadyNanos, 102 * SECOND);
        slot.set(SlotField::Interpreter, Interpreter::new(0x030E_00F0, Gil::Off).to_number());
        slot.metrics().set(Gauge::QueueSince, 105 * SECOND);
        slot.metrics().set(Gauge::Connections, 6);
        slot.metrics().add_streams(3, 1);
        (0..4).for_each(|_| slot.metrics().begin_request(Method::of(b"GET")));
        for (index, state) in [
            (0, ThreadState::Running),
            (1, ThreadState::AwaitingClient),
            (2, ThreadState::Lost),
            (4, ThreadState::Stream),
        ] {
            let thread = slot.thread(index).unwrap();
            thread.begin(&note(104 * SECOND));
            thread.set_state(state);
        }
        slot.thread(0).unwrap().totals().begin_call();
        slot.thread(0).unwrap().totals().add_interpreter_wait(SECOND / 2, 1);
        let text = reading(&board, 110 * SECOND).text(TextFormat::OpenMetrics);
        for line in [
            "portico_threads{slot=\"0\",state=\"idle\"} 1\n",
            "portico_threads{slot=\"0\",state=\"running\"} 1\n",
            "portico_threads{slot=\"0\",state=\"awaiting_client\"} 1\n",
            "portico_threads{slot=\"0\",state=\"websocket\"} 1\n",
            "portico_threads{slot=\"0\",state=\"lost\"} 1\n",
            "portico_connections{slot=\"0\",state=\"idle\"} 4\n",
            "portico_connections{slot=\"0\",state=\"active\"} 2\n",
            "http_server_active_requests{http_request_method=\"GET\"} 4\n",
            "portico_queue_oldest_seconds{slot=\"0\"} 5.0\n",
            "portico_worker_ready_seconds{slot=\"0\"} 2.0\n",
            "portico_workers{state=\"starting\"} 0\nportico_workers{state=\"ready\"} 1\n",
            "portico_busy_seconds_total{slot=\"0\"} 5.0\n",
            "portico_interpreter_wait_seconds_total{slot=\"0\"} 0.5\n",
            "portico_interpreter_waits_total{slot=\"0\"} 1\n",
            "portico_tls_certificate_not_after_seconds{name=\"a.pem\"} 77\n",
            "python=\"3.14.0\",implementation=\"cpython\",gil=\"off\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let version = format!("portico_build_info{{version=\"{}\"", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&version), "{text}");
        assert!(text.contains("\nportico_listen_overflows_total "), "{text}");
        assert!(!text.contains("slot=\"1\""), "nobody has used it: {text}");
    }

    #[test]
    fn totals_stay_when_the_worker_is_gone() {
        let board = Scoreboard::create(1, 1).unwrap();
        let slot = board.slot(0).unwrap();
        slot.thread(0).unwrap().begin(&note(SECOND));
        slot.thread(0).unwrap().totals().begin_call();
        slot.end_calls(3 * SECOND);
        let text = reading(&board, 60 * SECOND).text(TextFormat::Prometheus);
        assert!(text.contains("portico_busy_seconds_total{slot=\"0\"} 2.0\n"), "{text}");
        assert!(!text.contains("portico_threads{"), "{text}");
    }

    /// A scrape of many full slots is done within 5 ms. The best of several: other programs run beside this.
    #[test]
    fn a_scrape_of_32_slots_takes_no_time() {
        let board = Scoreboard::create(32, 128).unwrap();
        for (_, slot) in board.slots() {
            slot.set(SlotField::Pid, u64::from(std::process::id()));
            slot.set(SlotField::State, SlotState::Ready as u64);
            for (number, method) in [&b"GET"[..], b"POST", b"PUT", b"PATCH", b"HEAD"].into_iter().enumerate()
            {
                for code in [200, 204, 302, 404, 500] {
                    let (method, whole) = (Method::of(method), 1 << (12 + number));
                    slot.metrics().record_exchange(&CountedExchange {
                        method,
                        code,
                        whole,
                        call: Some((whole, 0)),
                    });
                }
            }
        }
        let scrape = || {
            let begun = Instant::now();
            let text = reading(&board, now_nanos()).text(TextFormat::OpenMetrics);
            assert!(text.len() > 10_000);
            begun.elapsed()
        };
        let best = (0..20).map(|_| scrape()).min().unwrap();
        // Without optimization the same takes ten times as long.
        let limit = Duration::from_millis(if cfg!(debug_assertions) { 50 } else { 5 });
        assert!(best < limit, "{best:?}");
    }
}
