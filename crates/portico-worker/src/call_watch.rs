//! What the calls of a worker are due for at each look at them, and when to look again.
//!
//! Decides only: the thread "portico-watch" looks at the scoreboard and at the clock, and does what is due.

use std::fmt;
use std::time::Duration;

use portico_config::Config;
use portico_supervisor::{Running, ThreadState, thread_name};

use crate::escalation::{CallLimits, EscalationStep, TimeoutEscalation};
use crate::hub_turning::{HubTurning, TurningStep};

/// The calls of one worker, by the numbers of their threads.
#[derive(Debug)]
pub struct CallWatch {
    escalations: Vec<TimeoutEscalation>,
    /// Where the application's threads are greenlets: whether their hub turns.
    turning: Option<HubTurning>,
}

/// The findings of one look at the calls: which are due for a step, and when the next one is. The thread that
/// watches calls owns it and does the steps; looking changes no call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallLook {
    /// The calls that are due for something: their places among those that were looked at, and for what.
    pub steps: Vec<(usize, EscalationStep)>,
    /// When the next one is due, in nanoseconds of the machine's clock; `u64::MAX` is never.
    pub next_due: u64,
    /// How long the longest has been running, waits for clients aside.
    pub longest: Duration,
}

/// Longest time between two looks.
pub const TICK_MAX: Duration = Duration::from_millis(100);

/// Shortest.
const TICK_MIN: Duration = Duration::from_millis(10);

/// Bytes of a request's id that are told.
const ID_BYTES_MAX: usize = 128;

impl CallWatch {
    /// For `threads` threads, which are greenlets of a hub if there `is_hub`.
    pub fn new(threads: usize, is_hub: bool) -> Self {
        let escalations = (0..threads).map(|_| TimeoutEscalation::default()).collect();
        Self { escalations, turning: is_hub.then(HubTurning::default) }
    }

    /// Looks whether the hub turns, if there is one; and excuses calls that waited for it: it last did at
    /// `came_round`, and `keeper` is the interpreter's answer, once it is there. To be called while calls run.
    pub fn look_at_hub(
        &mut self,
        now: u64,
        came_round: u64,
        keeper: Option<Option<usize>>,
    ) -> Option<TurningStep> {
        self.turning.as_mut()?.look(now, came_round, keeper, &mut self.escalations)
    }

    /// Looks at the calls that run at `now`, each with the number of its thread.
    pub fn look(&mut self, config: &Config, calls: &[(usize, Running)], now: u64) -> CallLook {
        let keeper = self.keeper();
        let mut found = CallLook { steps: Vec::new(), next_due: u64::MAX, longest: Duration::ZERO };
        for (place, (thread, running)) in calls.iter().enumerate() {
            if !matches!(running.state, ThreadState::AwaitingClient | ThreadState::Stream) {
                let time = Duration::from_nanos(now.saturating_sub(running.begun_nanos));
                found.longest = found.longest.max(time);
            }
            let Some(escalation) = self.escalations.get_mut(*thread) else { continue };
            let limits = || call_limits(config, running);
            if keeper.is_some_and(|keeper| keeper != *thread) {
                escalation.observe(running, limits);
                continue; // Its time is excused when the hub comes round.
            }
            let step = escalation.look(running, now, limits);
            found.next_due = found.next_due.min(escalation.due().unwrap_or(u64::MAX));
            found.steps.extend(step.map(|step| (place, step)));
        }
        found
    }

    /// The thread whose call keeps the hub from turning, until that call is given up.
    fn keeper(&self) -> Option<usize> {
        let keeper = self.turning.as_ref()?.keeper()?;
        let is_given_up = self.escalations.get(keeper).is_some_and(TimeoutEscalation::has_given_up);
        (!is_given_up).then_some(keeper)
    }
}

/// Longest time between two looks with these settings: no step of the escalation is to come much late.
pub fn tick(config: &Config) -> Duration {
    let times = [config.timeout, config.slow_request].into_iter();
    let times = times.chain(config.path_timeouts.iter().map(|path| path.timeout));
    let times = times.chain(config.edge.routes.iter().filter_map(|route| route.timeout));
    let least = times.filter(|time| !time.is_zero()).min().unwrap_or(TICK_MAX);
    (least / 8).clamp(TICK_MIN, TICK_MAX)
}

/// How long to wait until the next look, `tick` at most: until something is `due`, or as short as it may be where
/// an answer `is_awaited`.
pub fn pause(tick: Duration, now: u64, due: u64, is_awaited: bool) -> Duration {
    let until = if is_awaited { 0 } else { due.saturating_sub(now) };
    Duration::from_nanos(until).clamp(TICK_MIN, tick)
}

/// The time that a call may take.
fn call_limits(config: &Config, running: &Running) -> CallLimits {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let limit = |time: Duration| (!time.is_zero()).then(|| nanos(time));
    CallLimits {
        slow: limit(config.slow_request),
        timeout: limit(running.timeout(config)),
        grace: nanos(config.timeout_grace),
    }
}

/// A call for the log: `GET /x of 192.0.2.7, request id 7f3a, running 30.0 s, queued 0.1 s, thread portico-3`.
#[derive(Clone, Copy, Debug)]
pub struct CallDescription<'a> {
    /// The number of its thread.
    pub thread: usize,
    /// The call.
    pub running: &'a Running,
    /// What its request calls itself.
    pub id: Option<&'a [u8]>,
    /// The time.
    pub now: u64,
}

impl fmt::Display for CallDescription<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.running;
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        write!(f, "{} {}", running.method.escape_ascii(), running.path().escape_ascii())?;
        if let Some(peer) = running.peer {
            write!(f, " of {peer}")?;
        }
        if let Some(id) = self.id.filter(|id| !id.is_empty()) {
            write!(f, ", request id {}", id[..id.len().min(ID_BYTES_MAX)].escape_ascii())?;
        }
        write!(f, ", running {:.1} s", seconds(self.now.saturating_sub(running.begun_nanos)))?;
        if running.progress_nanos != running.begun_nanos {
            let since = seconds(self.now.saturating_sub(running.progress_nanos));
            write!(f, " (its last block {since:.1} s ago)")?;
        }
        let (queued, thread) = (seconds(running.queued_nanos), thread_name(self.thread));
        write!(f, ", queued {queued:.1} s, thread {thread}")
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use portico_config::from_pairs;
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn config() -> Config {
        let (timeout, timeout_grace) = (Duration::from_secs(30), Duration::from_secs(2));
        Config { timeout, timeout_grace, ..Config::default() }
    }

    fn running(sequence: u64, begun: u64) -> Running {
        let (begun_nanos, progress_nanos) = (begun * SECOND, begun * SECOND);
        Running { sequence, state: ThreadState::Running, begun_nanos, progress_nanos, ..Running::default() }
    }

    #[test]
    fn each_call_is_due_by_itself() {
        let mut watch = CallWatch::new(3, false);
        let calls = [(0, running(2, 100)), (2, running(2, 110))];
        let mut look = |second: u64| watch.look(&config(), &calls, second * SECOND);
        assert_eq!(
            look(129),
            CallLook { steps: vec![], next_due: 130 * SECOND, longest: Duration::from_secs(29) }
        );
        assert_eq!(look(130).steps, [(0, EscalationStep::TimeOut)]);
        assert_eq!(look(131).next_due, 132 * SECOND);
        assert_eq!(look(132).steps, [(0, EscalationStep::GiveUp)]);
        assert_eq!(look(140).steps, [(1, EscalationStep::TimeOut)], "by its place among those looked at");
    }

    #[test]
    fn a_path_has_its_own_timeout() {
        let pairs = [
            ("timeout", "30s"),
            ("timeout_grace", "2s"),
            ("slow_request", "5s"),
            ("timeout_path", "/reports=0"),
        ];
        let pairs = pairs.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let config = from_pairs(&pairs, &|_| None).unwrap().config;
        let nanos = |seconds: u64| Some(seconds * SECOND);
        let limits = |target: &str, route_timeout| {
            let target = target.as_bytes().to_vec();
            call_limits(&config, &Running { target, route_timeout, ..running(2, 0) })
        };
        let (all, reports) = (limits("/", None), limits("/reports/year?a=b", None));
        assert_eq!(all, CallLimits { slow: nanos(5), timeout: nanos(30), grace: 2 * SECOND });
        assert_eq!(reports, CallLimits { slow: nanos(5), timeout: None, grace: 2 * SECOND });
        assert_eq!(
            limits("/reports", Some(Duration::from_secs(9))).timeout,
            nanos(9),
            "that of a route counts"
        );
        assert_eq!(limits("/", Some(Duration::ZERO)).timeout, None);
    }

    #[test]
    fn waits_for_clients_make_no_long_call() {
        let mut watch = CallWatch::new(2, false);
        let mut waiting = running(2, 0);
        waiting.state = ThreadState::AwaitingClient;
        let found = watch.look(&config(), &[(0, waiting), (1, running(2, 99))], 100 * SECOND);
        assert_eq!((found.longest, found.steps), (Duration::from_secs(1), vec![]));
    }

    #[test]
    fn only_the_keeper_of_a_hub_times_out() {
        let mut watch = CallWatch::new(2, true);
        let calls = [(0, running(2, 0)), (1, running(2, 0))];
        assert_eq!(watch.look_at_hub(SECOND, 0, None), Some(TurningStep::AskHub));
        assert_eq!(watch.look_at_hub(2 * SECOND, 0, None), Some(TurningStep::AskKeeper));
        assert_eq!(watch.look_at_hub(2 * SECOND, 0, Some(Some(1))), None);
        assert_eq!(watch.look(&config(), &calls, 31 * SECOND).steps, [(1, EscalationStep::TimeOut)]);
        assert_eq!(watch.look(&config(), &calls, 34 * SECOND).steps, [(1, EscalationStep::GiveUp)]);
        let steps = watch.look(&config(), &calls, 35 * SECOND).steps;
        assert_eq!(steps, [(0, EscalationStep::TimeOut)], "the hub does not come back: the rest is due");
    }

    #[test]
    fn a_call_that_begins_while_the_hub_stands_is_excused() {
        let mut watch = CallWatch::new(2, true);
        watch.look_at_hub(SECOND, 0, None);
        watch.look_at_hub(2 * SECOND, 0, None);
        watch.look_at_hub(2 * SECOND, 0, Some(Some(1)));
        let calls = [(0, running(2, 5)), (1, running(2, 0))];
        assert_eq!(watch.look(&config(), &calls, 6 * SECOND).steps, []);
        watch.look_at_hub(25 * SECOND, 25 * SECOND, None);
        let mut look = |second: u64| watch.look(&config(), &calls[..1], second * SECOND).steps;
        assert_eq!(look(54), [], "it could get on from 25 s on");
        assert_eq!(look(55), [(0, EscalationStep::TimeOut)]);
    }

    #[test]
    fn there_is_no_hub_where_threads_are_threads() {
        assert_eq!(CallWatch::new(2, false).look_at_hub(SECOND, 0, None), None);
    }

    #[test]
    fn looks_come_often_enough_for_the_shortest_limit() {
        assert_eq!(tick(&Config::default()), TICK_MAX / 8, "no limit at all");
        let of =
            |timeout: u64| tick(&Config { timeout: Duration::from_millis(timeout), ..Config::default() });
        assert_eq!(of(30_000), TICK_MAX);
        assert_eq!(of(400), Duration::from_millis(50));
        assert_eq!(of(1), TICK_MIN);
        let slow = Config { slow_request: Duration::from_millis(400), ..config() };
        assert_eq!(tick(&slow), Duration::from_millis(50));
        let pairs = [("route".to_owned(), "{ path = '/a', timeout = 0.4 }".to_owned())];
        assert_eq!(tick(&from_pairs(&pairs, &|_| None).unwrap().config), Duration::from_millis(50));
    }

    #[test]
    fn the_next_look_is_when_something_is_due() {
        let of = |due: u64, is_awaited| pause(TICK_MAX, SECOND, due, is_awaited);
        assert_eq!(of(u64::MAX, false), TICK_MAX);
        assert_eq!(of(SECOND + 50_000_000, false), Duration::from_millis(50));
        assert_eq!(of(0, false), TICK_MIN, "it is overdue");
        assert_eq!(of(u64::MAX, true), TICK_MIN);
    }

    #[test]
    fn a_call_is_described_in_a_line() {
        let peer = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
        let (method, target) = (b"GET".to_vec(), b"/x\n?token=1".to_vec());
        let mut running = Running { method, target, peer, queued_nanos: 120_000_000, ..running(2, 100) };
        let long = [b'7'; ID_BYTES_MAX + 1];
        let text = |running: &Running, id: Option<&[u8]>| {
            CallDescription { thread: 2, running, id, now: 130 * SECOND }.to_string()
        };
        assert_eq!(
            text(&running, Some(b"7f3a")),
            "GET /x\\n of 192.0.2.7, request id 7f3a, running 30.0 s, queued 0.1 s, thread portico-3"
        );
        assert!(text(&running, Some(&long)).contains(&format!("id {}, ", "7".repeat(ID_BYTES_MAX))));
        running.progress_nanos = 128 * SECOND;
        running.peer = None;
        let blocks = "GET /x\\n, running 30.0 s (its last block 2.0 s ago), queued 0.1 s, thread portico-3";
        assert_eq!((text(&running, None).as_str(), text(&running, Some(b"")).as_str()), (blocks, blocks));
    }

    proptest! {
        /// Calls begin and end as they like: what is found at a look is about calls that run then, and no call is
        /// interrupted before it has run for its timeout.
        #[test]
        fn a_call_that_ended_is_never_escalated(
            lasts in proptest::collection::vec(0..50u64, 1..20),
            gap in 0..5u64,
        ) {
            let mut watch = CallWatch::new(1, false);
            let mut now = 0;
            for (number, last) in lasts.into_iter().enumerate() {
                let call = running(2 * (number as u64 + 1), now);
                let mut steps = Vec::new();
                for second in 0..=last {
                    let found = watch.look(&config(), &[(0, call.clone())], (now + second) * SECOND);
                    steps.extend(found.steps.into_iter().map(|(_, step)| (second, step)));
                }
                let due = [(30, EscalationStep::TimeOut), (32, EscalationStep::GiveUp)];
                let expected: Vec<_> = due.into_iter().filter(|(second, _)| *second <= last).collect();
                prop_assert_eq!(steps, expected);
                now += last + gap;
                prop_assert_eq!(watch.look(&config(), &[], now * SECOND).steps, []);
            }
        }
    }
}
