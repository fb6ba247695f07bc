//! What the scoreboard says, for programs: `portico status PID --json` and `portico metrics PID`.
//!
//! Both go through the table of metrics and name none of its rows. Names and meanings are those of
//! docs/reference/metrics.md.

use portico_insight::{ReadTime, Snapshot};
use portico_metrics::{Number, TextFormat};
use portico_supervisor::{Scoreboard, reading};
use serde_json::{Map, Value as Json, json};

use crate::application_metrics::appended;
use crate::words::{phase, server_state};

/// All metrics as text, at `now`, in nanoseconds of the machine's clock.
pub(crate) fn metrics(board: &Scoreboard, format: TextFormat, now: u64) -> String {
    appended(board, &reading(board, now).text(format), format)
}

/// The server, its workers and the requests that they are answering, as `board` has them at `now`.
pub(crate) fn status(board: &Scoreboard, now: ReadTime) -> String {
    let snapshot = Snapshot::read(board, now);
    let reading = reading(board, now.nanos);
    let workers = snapshot.slots.iter().map(|slot| {
        let metrics = by_name(&reading.numbers_of_worker(slot.slot));
        json!({
            "slot": slot.slot,
            "pid": slot.pid,
            "state": slot.state,
            "silent": slot.silent_seconds().is_some(),
            "generation": slot.generation,
            "uptime_seconds": slot.uptime_seconds,
            "heartbeat_seconds": slot.heartbeat_seconds,
            "metrics": metrics,
        })
    });
    let requests = snapshot.requests.iter().map(|request| {
        json!({
            "id": request.id,
            "slot": request.slot,
            "thread": request.thread,
            "state": phase(request.phase),
            "method": request.method,
            "path": request.path,
            "client": request.peer,
            "running_seconds": request.running_seconds(),
            "queued_seconds": request.queued_seconds,
        })
    });
    let told = json!({
        "pid": snapshot.pid,
        "state": server_state(snapshot.state),
        "uptime_seconds": snapshot.uptime_seconds,
        "reload_under_way": snapshot.reload.under_way,
        "interpreter": snapshot.python,
        "metrics": by_name(&reading.numbers(false)),
        "workers": workers.collect::<Vec<_>>(),
        "requests": requests.collect::<Vec<_>>(),
    });
    format!("{told:#}\n")
}

/// An object of the names; below each its number, or an object of its labels' values, one below the other.
fn by_name(numbers: &[Number]) -> Json {
    let mut all = Map::new();
    for number in numbers {
        let name = number.metric.exposed_name();
        let mut path = [&*name].into_iter().chain(number.labels.iter().map(|label| &*label.1)).peekable();
        let mut at = &mut all;
        while let Some(key) = path.next() {
            if path.peek().is_none() {
                let value = number.seconds().map_or_else(|| number.value.into(), Json::from);
                at.insert(key.to_owned(), value);
                break;
            }
            let below = at.entry(key).or_insert_with(|| Json::Object(Map::new()));
            match below {
                Json::Object(below) => at = below,
                _ => break, // All series of a metric have the same labels.
            }
        }
    }
    Json::Object(all)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use portico_metrics::{Counter, Gauge, ReloadResult};
    use portico_supervisor::{Note, SlotField, SlotState, SupervisorField, SupervisorState};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(second: u64) -> ReadTime {
        ReadTime { nanos: second * SECOND, unix_time: 0.0 }
    }

    fn board() -> Scoreboard {
        let board = Scoreboard::create(3, 2).unwrap();
        board.set(SupervisorField::Pid, 4710);
        board.set(SupervisorField::State, SupervisorState::Serving as u64);
        board.set(SupervisorField::StartedNanos, 100 * SECOND);
        board.metrics().set(Gauge::ThreadsPerWorker, 3);
        for number in 0..2 {
            let slot = board.slot(number).unwrap();
            slot.metrics().add(Counter::Calls, 5);
            slot.begin_worker();
            slot.metrics().add(Counter::Calls, 2);
        }
        let slot = board.slot(0).unwrap();
        slot.set(SlotField::Pid, 4711);
        slot.set(SlotField::State, SlotState::Ready as u64);
        slot.set(SlotField::StartedNanos, 150 * SECOND);
        let peer = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
        let (method, target) = (&b"GET"[..], &b"/a\"\xff?secret=1"[..]);
        let begun_nanos = 158 * SECOND;
        slot.thread(1).unwrap().begin(&Note {
            method,
            target,
            peer,
            begun_nanos,
            queued_nanos: SECOND / 4,
            route_timeout: None,
        });
        board
    }

    #[test]
    fn status_has_every_number_once_by_its_name() {
        let told: Json = serde_json::from_str(&status(&board(), at(160))).unwrap();
        assert_eq!(
            (&told["pid"], &told["state"], &told["uptime_seconds"]),
            (&json!(4710), &json!("serving"), &json!(60.0))
        );
        assert_eq!(told["metrics"]["portico_calls_total"], 14);
        assert_eq!(told["metrics"]["portico_workers"], json!({"starting": 0, "ready": 1, "retiring": 0}));
        let threads = json!({"idle": 2, "running": 1, "awaiting_client": 0, "websocket": 0, "lost": 0});
        assert_eq!(told["metrics"]["portico_threads"], threads);
        assert_eq!(told["metrics"]["portico_queue_oldest_seconds"], 0.0);
        let [worker] = &told["workers"].as_array().unwrap()[..] else { panic!("{told}") };
        assert_eq!(
            (&worker["slot"], &worker["pid"], &worker["state"]),
            (&json!(0), &json!(4711), &json!("ready"))
        );
        assert_eq!(worker["silent"], false);
        assert_eq!((&worker["uptime_seconds"], &worker["heartbeat_seconds"]), (&json!(10.0), &Json::Null));
        assert_eq!(worker["metrics"]["portico_calls_total"], 2, "its own");
        assert_eq!(worker["metrics"]["portico_workers"], Json::Null, "that is the server's");
    }

    #[test]
    fn status_tells_requests_without_their_query() {
        let text = status(&board(), at(160));
        let told: Json = serde_json::from_str(&text).unwrap();
        let request = json!({
            "id": "0-2-2", "slot": 0, "thread": "portico-2", "state": "running", "method": "GET",
            "path": "/a\"\u{fffd}", "client": "192.0.2.7", "running_seconds": 2.0, "queued_seconds": 0.25,
        });
        assert_eq!(told["requests"], json!([request]));
        assert!(!text.contains("secret"));
    }

    #[test]
    fn reloads_are_under_way_until_they_have_ended() {
        let board = board();
        let under_way = || {
            let told: Json = serde_json::from_str(&status(&board, at(160))).unwrap();
            told["reload_under_way"].as_bool().unwrap()
        };
        assert!(!under_way());
        board.set(SupervisorField::ReloadsAsked, 1);
        assert!(under_way());
        board.metrics().add_reloads(ReloadResult::Failed, 1);
        assert!(!under_way());
    }

    #[test]
    fn metrics_of_slots_without_a_worker_are_totals_alone() {
        let text = metrics(&board(), TextFormat::OpenMetrics, 160 * SECOND);
        assert!(
            text.contains("portico_calls_total{slot=\"0\"} 7\nportico_calls_total{slot=\"1\"} 7\n#"),
            "{text}"
        );
        assert!(text.contains("portico_queue_length{slot=\"0\"} 0\n#"), "{text}");
    }
}
