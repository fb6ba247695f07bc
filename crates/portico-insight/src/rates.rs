//! What follows from two snapshots of a server: what it did between them.

use serde::Serialize;

use crate::durations::Durations;
use crate::snapshot::Snapshot;

/// What a server did between two moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServerRates {
    /// From the one to the other.
    pub seconds: f64,
    /// Requests that ended in a second.
    pub requests_per_second: f64,
    /// Those of them with a response of 5xx.
    pub errors_per_second: f64,
    /// From a complete request until its response was written.
    pub latency: QuantileSeconds,
    /// How long requests waited for a thread.
    pub queue_wait: QuantileSeconds,
    /// The part of the threads' time that was spent in calls, from 0 to 1; `None` if there is no thread. Where
    /// that time is not measured: the part of the threads that are in a call at the end.
    pub busy_ratio: Option<f64>,
    /// Those of each slot, in the order of the second snapshot.
    pub slots: Vec<SlotRates>,
}

/// What half, 95 and 99 in a hundred durations were shorter than; `None` if there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct QuantileSeconds {
    /// The half.
    pub p50: Option<f64>,
    /// 95 in a hundred.
    pub p95: Option<f64>,
    /// 99 in a hundred.
    pub p99: Option<f64>,
}

/// What a slot did between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct SlotRates {
    /// Its number.
    pub slot: u32,
    /// Requests that ended there in a second.
    pub requests_per_second: f64,
}

impl ServerRates {
    /// From `before` to `after`; `None` if these are not of one server, in this order.
    pub fn between(before: &Snapshot, after: &Snapshot) -> Option<Self> {
        // Both are of the monotonic clock: an unix time may be set back.
        let seconds = after.uptime_seconds - before.uptime_seconds;
        if before.pid != after.pid || seconds <= 0.0 || after.requests_total < before.requests_total {
            return None;
        }
        let per_second = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        let slots = after.slots.iter().map(|slot| {
            let former = before.slots.iter().find(|former| former.slot == slot.slot);
            // A slot that had no worker has begun with what its last one has left: that is not known here.
            let former = former.map_or(slot.requests_total, |former| former.requests_total);
            SlotRates { slot: slot.slot, requests_per_second: per_second(former, slot.requests_total) }
        });
        Some(Self {
            seconds,
            requests_per_second: per_second(before.requests_total, after.requests_total),
            errors_per_second: per_second(before.responses.of("5xx"), after.responses.of("5xx")),
            latency: QuantileSeconds::of(&after.latency.since(&before.latency)),
            queue_wait: QuantileSeconds::of(&after.queue_wait.since(&before.queue_wait)),
            busy_ratio: busy_ratio(before, after, seconds),
            slots: slots.collect(),
        })
    }
}

impl QuantileSeconds {
    fn of(durations: &Durations) -> Self {
        Self {
            p50: durations.quantile_seconds(0.5),
            p95: durations.quantile_seconds(0.95),
            p99: durations.quantile_seconds(0.99),
        }
    }
}

fn busy_ratio(before: &Snapshot, after: &Snapshot, seconds: f64) -> Option<f64> {
    let threads = after.threads();
    let busy = (after.busy_seconds_total - before.busy_seconds_total) / seconds;
    (threads > 0).then(|| (busy / threads as f64).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use portico_metrics::{CountedExchange, Gauge, Histogram, Method};
    use portico_supervisor::{Note, Scoreboard, SlotField, SlotState, SupervisorField};

    use super::*;
    use crate::snapshot::ReadTime;

    const SECOND: u64 = 1_000_000_000;

    fn board() -> Scoreboard {
        let board = Scoreboard::create(2, 4).unwrap();
        board.set(SupervisorField::Pid, 4710);
        board.set(SupervisorField::StartedNanos, 100 * SECOND);
        board.metrics().set(Gauge::ThreadsPerWorker, 2);
        for (number, slot) in board.slots() {
            slot.set(SlotField::Pid, 4711 + u64::from(number));
            slot.set(SlotField::State, SlotState::Ready as u64);
        }
        board
    }

    fn read(board: &Scoreboard, second: u64) -> Snapshot {
        Snapshot::read(board, ReadTime { nanos: second * SECOND, unix_time: 1.0 })
    }

    #[test]
    fn rates_are_those_of_the_time_between() {
        let board = board();
        let record = |slot: u32, code, times| {
            let metrics = board.slot(slot).unwrap().metrics();
            for _ in 0..times {
                metrics.record_exchange(&CountedExchange::without_call(Method::of(b"GET"), code, 3_000_000));
                metrics.record(Histogram::QueueDuration, 40_000);
            }
        };
        record(0, 200, 1_000);
        let before = read(&board, 110);
        record(0, 200, 30);
        record(1, 503, 10);
        let after = read(&board, 120);
        let rates = ServerRates::between(&before, &after).unwrap();
        assert_eq!((rates.seconds, rates.requests_per_second, rates.errors_per_second), (10.0, 4.0, 1.0));
        let slots = rates.slots.iter().map(|slot| (slot.slot, slot.requests_per_second));
        assert_eq!(slots.collect::<Vec<_>>(), [(0, 3.0), (1, 1.0)]);
        let p99 = rates.latency.p99.unwrap();
        assert!((0.0025..0.0035).contains(&p99), "{p99}");
        assert!(rates.queue_wait.p50.unwrap() < 0.000_05);
        let idle = ServerRates::between(&after, &read(&board, 130)).unwrap();
        assert_eq!((idle.requests_per_second, idle.latency), (0.0, QuantileSeconds::default()));
    }

    #[test]
    fn a_recycled_worker_makes_no_rate_fall() {
        let board = board();
        let slot = board.slot(1).unwrap();
        slot.metrics().record_exchange(&CountedExchange::without_call(Method::of(b"GET"), 200, 1));
        let before = read(&board, 110);
        slot.begin_worker();
        let without = read(&board, 111);
        assert_eq!(ServerRates::between(&before, &without).unwrap().requests_per_second, 0.0);
        slot.set(SlotField::Pid, 4720);
        slot.metrics().record_exchange(&CountedExchange::without_call(Method::of(b"GET"), 200, 1));
        let after = read(&board, 112);
        assert_eq!(ServerRates::between(&before, &after).unwrap().requests_per_second, 0.5);
        let of_new = ServerRates::between(&without, &after).unwrap().slots[1].requests_per_second;
        assert_eq!(of_new, 0.0, "not all that the slot has ever counted");
    }

    #[test]
    fn the_busy_ratio_is_of_all_threads() {
        let board = board();
        let before = read(&board, 110);
        assert_eq!(ServerRates::between(&before, &read(&board, 111)).unwrap().busy_ratio, Some(0.0));
        let (method, target) = (&b"GET"[..], &b"/"[..]);
        let note = Note { method, target, peer: None, begun_nanos: 1, queued_nanos: 0, route_timeout: None };
        let thread = board.slot(0).unwrap().thread(0).unwrap();
        thread.begin(&note);
        thread.totals().begin_call();
        let (before, mut after) = (read(&board, 110), read(&board, 120));
        let ratio = ServerRates::between(&before, &after).unwrap().busy_ratio;
        assert_eq!(ratio, Some(0.25), "10 s of 4 x 10 s");
        after.slots.clear();
        assert_eq!(ServerRates::between(&before, &after).unwrap().busy_ratio, None);
    }

    #[test]
    fn snapshots_of_other_servers_or_times_have_no_difference() {
        let board = board();
        let (before, after) = (read(&board, 110), read(&board, 120));
        assert!(ServerRates::between(&after, &before).is_none());
        assert!(ServerRates::between(&before, &before).is_none());
        board.set(SupervisorField::Pid, 4800);
        assert!(ServerRates::between(&before, &read(&board, 130)).is_none());
    }
}
