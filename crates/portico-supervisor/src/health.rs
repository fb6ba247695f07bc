//! How it stands with a server, read from its scoreboard: whether it lives, is ready, has started.
//!
//! Pure, from what stands on the scoreboard and a time; any process that has the scoreboard can ask. What a
//! probe gets of it, and how, is decided where probes are answered.

use std::time::Duration;

use portico_metrics::Gauge;

use crate::scoreboard::{
    QueueHealth, Scoreboard, SlotField, SlotState, SupervisorField, SupervisorState, WorkerSlot,
};

/// One condition of health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCondition {
    /// What it is about, one word.
    pub name: &'static str,
    /// Whether it is met.
    pub is_met: bool,
    /// How it stands with it; one line.
    pub text: String,
}

/// A supervisor or a worker that has not shown for so long that it works has stopped. The supervisor's loop
/// comes round every second, a worker's watch too; both may have to wait for a machine that is overloaded.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(10);

/// Workers that are told one by one while they start.
const TOLD_MAX: usize = 4;

impl HealthCondition {
    fn new(name: &'static str, is_met: bool, text: impl Into<String>) -> Self {
        Self { name, is_met, text: text.into() }
    }
}

/// Whether the server works: its supervisor does, if it has one, and some worker. One that is busy, drains, or
/// has a full queue works: a restart would not help against that.
pub fn liveness(board: &Scoreboard, now: u64) -> Vec<HealthCondition> {
    vec![supervisor_condition(board, now), workers_live(board, now)]
}

fn supervisor_condition(board: &Scoreboard, now: u64) -> HealthCondition {
    if board.get(SupervisorField::Pid) == 0 {
        return HealthCondition::new("supervisor", true, "there is none");
    }
    let beat = board.get(SupervisorField::HeartbeatNanos).max(board.get(SupervisorField::StartedNanos));
    let is_met = is_fresh(beat, now);
    let text = match is_met {
        true => format!("heartbeat {} s ago", age(beat, now)),
        false => format!("no heartbeat for {} s", age(beat, now)),
    };
    HealthCondition::new("supervisor", is_met, text)
}

fn workers_live(board: &Scoreboard, now: u64) -> HealthCondition {
    let (mut living, mut all) = (0, 0);
    for slot in board.slots().map(|(_, slot)| slot).filter(|slot| slot.state() != SlotState::Empty) {
        all += 1;
        living += u32::from(lives(slot, now));
    }
    // With --preload there is none before the import has ended.
    let is_booting = board.state() == SupervisorState::Booting;
    let is_met = living > 0 || (is_booting && all == 0);
    HealthCondition::new("workers", is_met, format!("{living} of {all} work"))
}

/// Whether requests are best sent here: the server serves and is not told to stop, and at least `ready_min`
/// workers are ready, or all that are wanted.
pub fn readiness(board: &Scoreboard, ready_min: u32, now: u64) -> Vec<HealthCondition> {
    let stopping = board.state() == SupervisorState::Stopping;
    if stopping && board.get(SupervisorField::Superseded) != 0 {
        // Whoever asks comes back to that one's workers.
        return vec![HealthCondition::new("server", true, "another supervisor has taken over")];
    }
    let server = match stopping {
        true => HealthCondition::new("server", false, "it is stopping"),
        false => HealthCondition::new("server", true, "it is not stopping"),
    };
    let ready = board.slots().filter(|(_, slot)| is_ready(*slot) && lives(*slot, now)).count() as u64;
    let wanted = board.metrics().gauge(Gauge::WorkersWanted);
    let needed = u64::from(ready_min).min(wanted).max(1);
    let text = match needed {
        1 => format!("{ready} of {wanted} ready"),
        _ => format!("{ready} of {wanted} ready, {needed} needed"),
    };
    let mut conditions = vec![server, HealthCondition::new("workers", ready >= needed, text)];
    let queue = board.queue_health();
    if queue != QueueHealth::Unwatched {
        let longest = longest_wait(board, now).as_secs_f64();
        let text = match queue {
            QueueHealth::Late => format!("requests wait for too long; now the longest for {longest:.1} s"),
            _ => format!("the longest wait is {longest:.1} s"),
        };
        conditions.push(HealthCondition::new("queue", queue != QueueHealth::Late, text));
    }
    conditions
}

/// Whether a worker has ever been ready; else what the workers are at, which import `application`.
pub fn startup(board: &Scoreboard, application: &str, now: u64) -> Vec<HealthCondition> {
    let serving = board.get(SupervisorField::ServingNanos);
    let started = board.get(SupervisorField::StartedNanos);
    if serving != 0 {
        let text = format!("ready after {} s", age(started, serving));
        return vec![HealthCondition::new("startup", true, text)];
    }
    if board.slots().any(|(_, slot)| is_ready(slot)) {
        return vec![HealthCondition::new("startup", true, "ready")];
    }
    let starting = || board.slots().filter(|(_, slot)| slot.state() == SlotState::Starting);
    let mut told: Vec<String> = starting()
        .take(TOLD_MAX)
        .map(|(number, slot)| match slot.get(SlotField::LoadedNanos) {
            0 => {
                let since = age(slot.get(SlotField::StartedNanos), now);
                format!("slot {number} imports {application} for {since} s")
            }
            loaded => format!("slot {number} warms up for {} s", age(loaded, now)),
        })
        .collect();
    match starting().count() {
        0 => told.push(format!("{application} is imported for {} s", age(started, now))),
        count if count > TOLD_MAX => told.push(format!("and {} more", count - TOLD_MAX)),
        _ => {}
    }
    vec![HealthCondition::new("startup", false, told.join("; "))]
}

/// The longest that a request waits for a thread of a ready worker.
pub(crate) fn longest_wait(board: &Scoreboard, now: u64) -> Duration {
    let ready = board.slots().filter(|(_, slot)| is_ready(*slot));
    let since =
        ready.map(|(_, slot)| slot.metrics().gauge(Gauge::QueueSince)).filter(|since| *since != 0).min();
    since.map_or(Duration::ZERO, |since| Duration::from_nanos(now.saturating_sub(since)))
}

/// What follows from the `longest` wait where `limit` is the limit, zero for none. Once it is too long it must
/// fall to half of the limit, so that one that is about the limit does not change anything every second.
pub(crate) fn queue_health(former: QueueHealth, longest: Duration, limit: Duration) -> QueueHealth {
    if limit.is_zero() {
        return QueueHealth::Unwatched;
    }
    let bound = if former == QueueHealth::Late { limit / 2 } else { limit };
    if longest >= bound { QueueHealth::Late } else { QueueHealth::Brisk }
}

fn is_ready(slot: WorkerSlot<'_>) -> bool {
    slot.state() == SlotState::Ready
}

/// Whether a worker works, as far as it has shown. One that has not begun to show imports the application.
fn lives(slot: WorkerSlot<'_>, now: u64) -> bool {
    let beat = slot.get(SlotField::HeartbeatNanos);
    beat == 0 || is_fresh(beat, now)
}

fn is_fresh(beat: u64, now: u64) -> bool {
    u128::from(now.saturating_sub(beat)) < HEARTBEAT_MAX.as_nanos()
}

/// Seconds, with one decimal.
fn age(since: u64, now: u64) -> String {
    format!("{:.1}", Duration::from_nanos(now.saturating_sub(since)).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// One with a supervisor that has started at 100 s, and `wanted` workers wanted, in the first slots.
    fn board(wanted: u64) -> Scoreboard {
        let board = Scoreboard::create(6, 1).unwrap();
        board.set(SupervisorField::Pid, 7);
        board.set(SupervisorField::StartedNanos, 100 * SECOND);
        board.metrics().set(Gauge::WorkersWanted, wanted);
        board
    }

    fn worker(board: &Scoreboard, number: u32, state: SlotState, beat: u64) {
        let slot = board.slot(number).unwrap();
        slot.set(SlotField::StartedNanos, 101 * SECOND);
        slot.set(SlotField::HeartbeatNanos, beat * SECOND);
        slot.set(SlotField::State, state as u64);
    }

    fn told(conditions: &[HealthCondition]) -> Vec<(bool, &str)> {
        conditions.iter().map(|condition| (condition.is_met, condition.text.as_str())).collect()
    }

    fn passes(conditions: &[HealthCondition]) -> bool {
        conditions.iter().all(|condition| condition.is_met)
    }

    #[test]
    fn a_supervisor_that_stops_its_rounds_is_dead_after_ten_seconds() {
        let board = board(1);
        worker(&board, 0, SlotState::Ready, 200);
        board.set(SupervisorField::HeartbeatNanos, 190 * SECOND);
        assert_eq!(told(&liveness(&board, 200 * SECOND - 1))[0], (true, "heartbeat 10.0 s ago"));
        assert_eq!(told(&liveness(&board, 200 * SECOND))[0], (false, "no heartbeat for 10.0 s"));
        board.set(SupervisorField::HeartbeatNanos, 200 * SECOND);
        assert!(passes(&liveness(&board, 200 * SECOND)));
        board.set(SupervisorField::State, SupervisorState::Stopping as u64);
        assert!(passes(&liveness(&board, 200 * SECOND)), "a restart helps against no stop");
    }

    #[test]
    fn a_process_without_a_supervisor_waits_for_none() {
        let board = Scoreboard::create(1, 1).unwrap();
        worker(&board, 0, SlotState::Ready, 900);
        assert!(passes(&liveness(&board, 901 * SECOND)));
    }

    #[test]
    fn one_worker_that_works_is_enough_to_live_and_none_is_not() {
        let board = board(2);
        board.set(SupervisorField::HeartbeatNanos, 200 * SECOND);
        let live = |now| told(&liveness(&board, now * SECOND))[1].0;
        assert!(live(200), "none has been forked yet");
        worker(&board, 0, SlotState::Starting, 0);
        assert!(live(200), "it imports");
        worker(&board, 0, SlotState::Ready, 150);
        worker(&board, 1, SlotState::Retiring, 195);
        assert!(live(200) && live(204) && !live(205));
        board.set(SupervisorField::State, SupervisorState::Serving as u64);
        worker(&board, 0, SlotState::Empty, 205);
        worker(&board, 1, SlotState::Empty, 205);
        assert!(!live(205), "all have died");
    }

    #[test]
    fn readiness_asks_for_the_workers_that_are_needed_and_no_stop() {
        let board = board(2);
        let ready = |min| passes(&readiness(&board, min, 200 * SECOND));
        assert!(!ready(1));
        worker(&board, 0, SlotState::Ready, 0);
        assert!(ready(1) && !ready(2), "its worker may be ready before the supervisor knows");
        board.set(SupervisorField::State, SupervisorState::Serving as u64);
        assert_eq!(
            told(&readiness(&board, 2, 200 * SECOND)),
            [(true, "it is not stopping"), (false, "1 of 2 ready, 2 needed")]
        );
        worker(&board, 1, SlotState::Ready, 195);
        assert!(ready(2) && ready(3), "more are not wanted");
        worker(&board, 1, SlotState::Ready, 190);
        assert!(!ready(2), "it does not work any more");
        worker(&board, 1, SlotState::Retiring, 195);
        assert!(!ready(2) && ready(1));
        worker(&board, 0, SlotState::Empty, 195);
        assert!(!ready(1), "all workers have died");
        board.metrics().set(Gauge::WorkersWanted, 0);
        assert!(!ready(1), "none is wanted, and none is there");
        worker(&board, 0, SlotState::Ready, 195);
        board.set(SupervisorField::State, SupervisorState::Stopping as u64);
        assert_eq!(told(&readiness(&board, 1, 200 * SECOND))[0], (false, "it is stopping"));
        board.set(SupervisorField::Superseded, 1);
        assert!(ready(1), "nobody is refused during an upgrade");
    }

    #[test]
    fn a_queue_that_has_been_late_must_fall_to_half_of_the_limit() {
        let limit = Duration::from_secs(2);
        let mut health = QueueHealth::Unwatched;
        for (millis, expected) in [
            (0, QueueHealth::Brisk),
            (1999, QueueHealth::Brisk),
            (2000, QueueHealth::Late),
            (1999, QueueHealth::Late),
            (1000, QueueHealth::Late),
            (999, QueueHealth::Brisk),
            (1500, QueueHealth::Brisk),
        ] {
            health = queue_health(health, Duration::from_millis(millis), limit);
            assert_eq!(health, expected, "{millis}");
        }
        assert_eq!(queue_health(QueueHealth::Late, limit, Duration::ZERO), QueueHealth::Unwatched);
    }

    #[test]
    fn the_longest_wait_of_ready_workers_counts() {
        let board = board(2);
        for (number, state, since) in
            [(0, SlotState::Ready, 198), (1, SlotState::Ready, 0), (2, SlotState::Retiring, 150)]
        {
            worker(&board, number, state, 200);
            board.slot(number).unwrap().metrics().set(Gauge::QueueSince, since * SECOND);
        }
        assert_eq!(longest_wait(&board, 200 * SECOND), Duration::from_secs(2));
        board.set(SupervisorField::QueueHealth, QueueHealth::Late as u64);
        assert_eq!(
            told(&readiness(&board, 1, 200 * SECOND))[2],
            (false, "requests wait for too long; now the longest for 2.0 s")
        );
        board.set(SupervisorField::QueueHealth, QueueHealth::Brisk as u64);
        assert_eq!(told(&readiness(&board, 1, 200 * SECOND))[2], (true, "the longest wait is 2.0 s"));
    }

    #[test]
    fn a_start_says_what_it_waits_for_and_stays_passed() {
        let board = board(1);
        let told = |now| {
            told(&startup(&board, "mysite.wsgi", now * SECOND))
                .into_iter()
                .map(|(met, text)| (met, text.to_owned()))
                .collect::<Vec<_>>()
        };
        let is = |met: bool, text: &str| vec![(met, text.to_owned())];
        assert_eq!(told(103), is(false, "mysite.wsgi is imported for 3.0 s"), "by a template");
        worker(&board, 0, SlotState::Starting, 0);
        assert_eq!(told(109), is(false, "slot 0 imports mysite.wsgi for 8.0 s"));
        board.slot(0).unwrap().set(SlotField::LoadedNanos, 110 * SECOND);
        for number in 1..6 {
            worker(&board, number, SlotState::Starting, 0);
        }
        let text = told(111).remove(0).1;
        assert!(
            text.starts_with("slot 0 warms up for 1.0 s; slot 1 imports mysite.wsgi for 10.0 s; "),
            "{text}"
        );
        assert!(text.ends_with("; and 2 more"), "{text}");
        worker(&board, 3, SlotState::Ready, 0);
        assert_eq!(told(111), is(true, "ready"));
        board.set(SupervisorField::ServingNanos, 112 * SECOND);
        worker(&board, 3, SlotState::Empty, 0);
        board.set(SupervisorField::State, SupervisorState::Stopping as u64);
        assert_eq!(told(200), is(true, "ready after 12.0 s"));
    }
}
