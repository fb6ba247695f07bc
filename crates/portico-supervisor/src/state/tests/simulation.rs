//! Thousands of random lives of a server, under a clock of the test's own. After each event the rules that must
//! never be broken are checked from outside: from the actions, and from processes that the test plays.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::state::{Action, Child, ProcessPlan, ServicePhase, StateMachine, SupervisorEvent};

const GRACEFUL: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
enum Step {
    /// So many milliseconds pass.
    Wait(u64),
    /// To the next time that the machine has named.
    Expire,
    /// What the n-th of the processes does that can do so.
    Boot(usize),
    FailBoot(usize),
    HangUp(usize),
    Die(usize),
    Obey(usize),
    AskReplacement(usize),
    Stall(usize),
    Flood(usize),
    Tell(SupervisorEvent),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    Starting,
    Ready,
    /// Told to end, or about to by itself.
    Ending,
    Killed,
}

struct World {
    state: StateMachine,
    now: Instant,
    living: BTreeMap<Child, Life>,
    /// Workers that were told to retire.
    retiring: Vec<u32>,
    reloads_asked: u32,
    reloads_ended: u32,
    served: bool,
    deaf: bool,
    exited: Option<i32>,
}

impl World {
    fn new(min: u32, max: u32, preload: bool, drain_delay: u64) -> Self {
        let plan = ProcessPlan {
            workers_min: min,
            workers_max: max,
            slots: 2 * max.max(16) + 2,
            preload,
            boot_timeout: Duration::from_secs(20),
            graceful_timeout: GRACEFUL,
            drain_delay: Duration::from_secs(drain_delay),
            development: false,
        };
        let mut world = Self {
            state: StateMachine::new(plan),
            now: Instant::now(),
            living: BTreeMap::new(),
            retiring: Vec::new(),
            reloads_asked: 0,
            reloads_ended: 0,
            served: false,
            deaf: false,
            exited: None,
        };
        world.tell(SupervisorEvent::Tick);
        world
    }

    fn tell(&mut self, event: SupervisorEvent) {
        match &event {
            SupervisorEvent::Ready(child) => {
                // One that was told to end may not have read that yet.
                let life = self.living.get_mut(child).unwrap();
                *life = if *life == Life::Starting { Life::Ready } else { *life };
            }
            SupervisorEvent::BootFailed { child, .. } => drop(self.living.insert(*child, Life::Ending)),
            SupervisorEvent::Exited { child, .. } => drop(self.living.remove(child)),
            SupervisorEvent::Reload if self.exited.is_none() => self.reloads_asked += 1,
            _ => {}
        }
        if let SupervisorEvent::Exited { child: Child::Worker(slot), .. } = event {
            self.retiring.retain(|retiring| *retiring != slot);
        }
        let mut actions = Vec::new();
        self.state.handle(event, self.now, &mut actions);
        for action in actions {
            assert_eq!(self.exited, None, "{action:?} after the end");
            self.perform(&action);
        }
        self.check();
    }

    fn perform(&mut self, action: &Action) {
        match *action {
            Action::StartTemplate { generation } => self.start(Child::Template(generation)),
            Action::StartWorker { slot, generation, .. } => {
                if self.state.plan.preload {
                    let template = self.living.get(&Child::Template(generation));
                    assert_eq!(template, Some(&Life::Ready), "forked by a template that is not ready");
                }
                self.start(Child::Worker(slot));
                let most = self.state.wanted() as usize + 1;
                assert!(self.count(Life::Starting) + self.count(Life::Ready) <= most, "two replacements");
            }
            Action::Retire { slot, .. } => {
                assert_eq!(self.living.insert(Child::Worker(slot), Life::Ending), Some(Life::Ready));
                assert!(self.retiring.is_empty(), "{:?} retire already", self.retiring);
                self.retiring.push(slot);
                assert!(self.count(Life::Ready) >= self.state.wanted() as usize, "too few are left");
            }
            Action::Drain { slot, .. } => self.dismiss(Child::Worker(slot)),
            Action::Stop(child) => self.dismiss(child),
            Action::Kill { child, .. } => {
                self.retiring.retain(|retiring| child != Child::Worker(*retiring));
                let before = self.living.insert(child, Life::Killed);
                assert!(before.is_some_and(|life| life != Life::Killed), "nothing to kill: {child:?}");
            }
            Action::ReloadEnded { count, .. } => self.reloads_ended += count,
            Action::Serving => assert!(!std::mem::replace(&mut self.served, true)),
            Action::Exit(status) => self.exited = Some(status),
            Action::AnnounceClose(slot) => {
                assert_eq!(self.living.get(&Child::Worker(slot)), Some(&Life::Ready));
            }
            // It was too slow to boot, and is killed soon.
            Action::TellStacks(child) => {
                assert_eq!(self.living.insert(child, Life::Ending), Some(Life::Starting));
            }
            Action::StopListening => assert!(!std::mem::replace(&mut self.deaf, true)),
            Action::Stopping | Action::Log(..) => {}
        }
    }

    fn start(&mut self, child: Child) {
        assert_eq!(self.living.insert(child, Life::Starting), None, "two owners of {child:?}");
    }

    fn dismiss(&mut self, child: Child) {
        let before = self.living.insert(child, Life::Ending);
        assert!(before.is_some_and(|life| life != Life::Killed), "told to end: {before:?}");
    }

    fn check(&self) {
        let (least, most) = self.state.plan.range();
        assert!((least..=most).contains(&self.state.asked), "{} workers asked for", self.state.asked);
        assert!(self.reloads_ended <= self.reloads_asked);
        assert_eq!(self.state.reload.is_none(), self.reloads_ended == self.reloads_asked);
        if matches!(
            self.state.phase,
            ServicePhase::Booting | ServicePhase::Serving | ServicePhase::Announcing { .. }
        ) {
            let there = (self.count(Life::Starting) + self.count(Life::Ready)) as u32;
            let missing = self.state.wanted().saturating_sub(there);
            let has_room = self.state.workers().count() < self.state.plan.slots as usize;
            let can_start = has_room && self.state.source().is_some();
            assert!(
                !can_start || self.state.worker_backoff.allowed(missing, self.now) == 0,
                "{missing} missing"
            );
        }
    }

    fn count(&self, life: Life) -> usize {
        let is_worker = |child: &Child| matches!(child, Child::Worker(_));
        self.living.iter().filter(|(child, it)| is_worker(child) && **it == life).count()
    }

    /// The `index`-th process that is in one of these `lives`, counted in a circle.
    fn pick(&self, index: usize, lives: &[Life]) -> Option<Child> {
        let fits: Vec<_> = self.living.iter().filter(|(_, life)| lives.contains(life)).collect();
        fits.get(index.checked_rem(fits.len())?).map(|(child, _)| **child)
    }

    fn step(&mut self, step: Step) {
        use Life::{Ending, Killed, Ready, Starting};
        let worker = |child: Option<Child>| match child {
            Some(Child::Worker(slot)) => Some(slot),
            _ => None,
        };
        let event = match step {
            Step::Wait(milliseconds) => {
                self.now += Duration::from_millis(milliseconds);
                Some(SupervisorEvent::Tick)
            }
            Step::Expire => {
                self.now = self.state.next_timeout(self.now).map_or(self.now, |due| due.max(self.now));
                Some(SupervisorEvent::Tick)
            }
            Step::Boot(index) => self.pick(index, &[Starting]).map(SupervisorEvent::Ready),
            Step::FailBoot(index) => self.pick(index, &[Starting]).map(|child| SupervisorEvent::BootFailed {
                child,
                status: 3,
                message: "ImportError".into(),
            }),
            Step::HangUp(index) => self.pick(index, &[Starting, Ready, Ending]).map(SupervisorEvent::HungUp),
            Step::Die(index) => self
                .pick(index, &[Starting, Ready, Ending, Killed])
                .map(|child| SupervisorEvent::Exited { child, status: 139 }),
            Step::Obey(index) => {
                self.pick(index, &[Ending, Killed]).map(|child| SupervisorEvent::Exited { child, status: 0 })
            }
            Step::AskReplacement(index) => worker(self.pick(index, &[Ready]))
                .map(|slot| SupervisorEvent::Replace { slot, reason: "max-requests".into() }),
            Step::Stall(index) => worker(self.pick(index, &[Ready, Ending])).map(SupervisorEvent::Stalled),
            Step::Flood(index) => {
                self.pick(index, &[Starting, Ready, Ending, Killed]).map(SupervisorEvent::Flooded)
            }
            Step::Tell(event) => Some(event),
        };
        if let Some(event) = event {
            self.tell(event);
        }
    }

    /// From now on everything goes well: what starts becomes ready, what is told to end does.
    fn go_well(&mut self) {
        for _ in 0..2000 {
            if let Some(child) = self.pick(0, &[Life::Ending, Life::Killed]) {
                self.tell(SupervisorEvent::Exited { child, status: 0 });
            } else if let Some(child) = self.pick(0, &[Life::Starting]) {
                self.tell(SupervisorEvent::Ready(child));
            } else if self.exited.is_none() && self.state.next_timeout(self.now).is_some() {
                self.step(Step::Expire);
            } else {
                return;
            }
        }
        panic!("it does not come to rest: {:?}", self.state);
    }

    /// Nothing ends but what is killed. Returns how long the stop takes.
    fn stop_stubborn(&mut self) -> Duration {
        let begun = self.now;
        for _ in 0..1000 {
            if self.exited.is_some() {
                return self.now - begun;
            }
            match self.pick(0, &[Life::Killed]) {
                Some(child) => self.tell(SupervisorEvent::Exited { child, status: 137 }),
                None => self.step(Step::Expire),
            }
        }
        panic!("it does not end: {:?}", self.state);
    }
}

fn signal() -> impl Strategy<Value = SupervisorEvent> {
    prop_oneof![
        3 => Just(SupervisorEvent::Reload),
        2 => Just(SupervisorEvent::Grow),
        2 => Just(SupervisorEvent::Shrink),
        2 => (0..20u32).prop_map(SupervisorEvent::Scale),
        1 => Just(SupervisorEvent::Withdraw),
    ]
}

fn stop() -> impl Strategy<Value = SupervisorEvent> {
    prop_oneof![
        Just(SupervisorEvent::Terminate),
        Just(SupervisorEvent::Interrupt),
        Just(SupervisorEvent::Quit),
        Just(SupervisorEvent::Superseded),
    ]
}

fn steps(stopping: bool) -> impl Strategy<Value = Vec<Step>> {
    let index = 0..64usize;
    let step = prop_oneof![
        4 => (0..3000u64).prop_map(Step::Wait),
        2 => Just(Step::Expire),
        10 => index.clone().prop_map(Step::Boot),
        2 => index.clone().prop_map(Step::FailBoot),
        1 => index.clone().prop_map(Step::HangUp),
        3 => index.clone().prop_map(Step::Die),
        6 => index.clone().prop_map(Step::Obey),
        2 => index.clone().prop_map(Step::AskReplacement),
        1 => index.clone().prop_map(Step::Stall),
        1 => index.prop_map(Step::Flood),
        5 => signal().prop_map(Step::Tell),
        1 => (stop(), Just(stopping)).prop_map(|(event, stopping)| {
            Step::Tell(if stopping { event } else { SupervisorEvent::Tick })
        }),
    ];
    prop::collection::vec(step, 1..120)
}

fn world() -> impl Strategy<Value = World> {
    (1..4u32, 0..4u32, any::<bool>(), 0..2u64)
        .prop_map(|(min, more, preload, delay)| World::new(min, min + more, preload, delay))
}

fn booted(mut world: World) -> World {
    world.go_well();
    world
}

impl std::fmt::Debug for World {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.state.plan.fmt(formatter)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_server_that_is_left_in_peace_has_what_was_asked_for(world in world(), steps in steps(false)) {
        let mut world = booted(world);
        steps.into_iter().for_each(|step| world.step(step));
        world.go_well();
        prop_assert_eq!(world.exited, None);
        prop_assert_eq!(world.count(Life::Ready) as u32, world.state.wanted());
        let templates = world.living.len() - world.count(Life::Ready);
        prop_assert!(templates == usize::from(world.state.plan.preload) || world.state.withdrawn);
        prop_assert_eq!(world.reloads_asked, world.reloads_ended);
        // Nobody is left who should have been replaced.
        prop_assert!(world.state.workers().all(|(_, process)| process.outdated.is_none()));
    }

    #[test]
    fn no_order_of_events_breaks_a_rule_and_each_stop_ends(
        mut world in world(),
        before in steps(false),
        last in stop(),
        after in steps(true),
    ) {
        before.into_iter().for_each(|step| world.step(step));
        world.tell(last);
        after.into_iter().for_each(|step| world.step(step));
        let longest = GRACEFUL + Duration::from_secs(1 + 2 + 5);
        prop_assert!(world.stop_stubborn() <= longest);
        prop_assert!(world.living.is_empty() || world.exited.is_some());
        prop_assert_eq!(world.reloads_asked, world.reloads_ended);
    }

    #[test]
    fn failures_without_end_are_spaced_out(world in world(), ready_first in any::<bool>()) {
        let mut world = booted(world);
        let (wanted, begun) = (world.state.wanted() as usize, world.now);
        world.tell(SupervisorEvent::Tick);
        let mut starts = 0;
        while world.now < begun + Duration::from_secs(300) {
            match world.pick(0, &[Life::Starting]) {
                Some(child @ Child::Worker(_)) => {
                    starts += 1;
                    if ready_first {
                        world.tell(SupervisorEvent::Ready(child));
                    }
                    world.tell(SupervisorEvent::Exited { child, status: 139 });
                }
                _ => match world.pick(0, &[Life::Ready]) {
                    Some(child @ Child::Worker(_)) => world.tell(SupervisorEvent::Exited { child, status: 139 }),
                    _ => world.step(Step::Expire),
                },
            }
        }
        // 0.1, 0.2, 0.4, ... s, then every 10 s; or every second if it serves in between.
        let each = if ready_first { 4 + 300 } else { 7 + 30 };
        prop_assert!(starts <= wanted * each, "{} starts of {} workers", starts, wanted);
        prop_assert!(starts >= wanted * (each - 10), "{} starts of {} workers", starts, wanted);
    }
}
