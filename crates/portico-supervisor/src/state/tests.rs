//! Single stories of the machine, told step by step.

use std::time::{Duration, Instant};

use portico_metrics::StartReason;

use super::{Action, Child, ProcessPlan, StateMachine, SupervisorEvent};

mod simulation;

struct Story {
    state: StateMachine,
    now: Instant,
    /// Why workers have been started.
    reasons: Vec<StartReason>,
}

impl Story {
    /// A server whose `workers` are all ready.
    fn serving(workers: u32, preload: bool) -> Self {
        let mut story = Self::booting(workers, preload);
        if preload {
            story.tell(SupervisorEvent::Ready(Child::Template(0)));
        }
        for slot in 0..workers {
            story.tell(SupervisorEvent::Ready(Child::Worker(slot)));
        }
        story
    }

    /// The same under --reload.
    fn developing(workers: u32) -> Self {
        let mut story = Self::serving(workers, false);
        story.state.plan.development = true;
        story
    }

    fn booting(workers: u32, preload: bool) -> Self {
        let plan = ProcessPlan {
            workers_min: workers,
            workers_max: workers,
            slots: 34,
            preload,
            boot_timeout: Duration::from_secs(60),
            graceful_timeout: Duration::from_secs(30),
            drain_delay: Duration::from_secs(5),
            development: false,
        };
        let mut story = Self { state: StateMachine::new(plan), now: Instant::now(), reasons: Vec::new() };
        story.tell(SupervisorEvent::Tick);
        story
    }

    /// What is done about it, but for what is logged.
    fn tell(&mut self, event: SupervisorEvent) -> Vec<Action> {
        let mut actions = Vec::new();
        self.state.handle(event, self.now, &mut actions);
        actions.retain(|action| !matches!(action, Action::Log(..)));
        for action in &mut actions {
            if let Action::StartWorker { reason, .. } = action {
                self.reasons.push(std::mem::take(reason));
            }
        }
        actions
    }

    /// Why workers have been started since this was asked last.
    fn reasons(&mut self) -> Vec<StartReason> {
        std::mem::take(&mut self.reasons)
    }

    fn after(&mut self, seconds: f64) -> Vec<Action> {
        self.now += Duration::from_secs_f64(seconds);
        self.tell(SupervisorEvent::Tick)
    }

    fn ready(&mut self, slot: u32) -> Vec<Action> {
        self.tell(SupervisorEvent::Ready(Child::Worker(slot)))
    }

    fn exited(&mut self, slot: u32, status: i32) -> Vec<Action> {
        self.tell(SupervisorEvent::Exited { child: Child::Worker(slot), status })
    }
}

fn changed(slot: u32) -> SupervisorEvent {
    SupervisorEvent::Changed { slot, file: "views.py".into() }
}

fn start(slot: u32, generation: u32) -> Action {
    Action::StartWorker { slot, generation, reason: StartReason::default() }
}

fn retire(slot: u32, why: &str) -> Action {
    Action::Retire { slot, why: why.into() }
}

fn drain(slot: u32, seconds: u64) -> Action {
    Action::Drain { slot, limit: Duration::from_secs(seconds) }
}

fn failed(slot: u32) -> SupervisorEvent {
    SupervisorEvent::BootFailed { child: Child::Worker(slot), status: 4, message: "ImportError".into() }
}

#[test]
fn a_reload_replaces_one_worker_after_the_other() {
    let mut story = Story::serving(2, false);
    assert_eq!(story.tell(SupervisorEvent::Reload), [start(2, 1)]);
    assert_eq!(story.ready(2), [retire(0, "reload")]);
    assert_eq!(story.after(20.0), []);
    assert_eq!(story.exited(0, 0), [start(0, 1)]);
    assert_eq!(story.ready(0), [retire(1, "reload")]);
    assert_eq!(story.exited(1, 0), [Action::ReloadEnded { count: 1, failed: false }]);
}

#[test]
fn changed_code_answers_nothing_any_more() {
    let mut story = Story::developing(2);
    let why = "views.py changed";
    assert_eq!(story.tell(changed(1)), [retire(0, why), retire(1, why), start(2, 1), start(3, 1)]);
    // The other worker has seen it as well.
    assert_eq!(story.tell(changed(0)), [Action::ReloadEnded { count: 1, failed: false }]);
    assert_eq!(story.exited(0, 0), []);
    assert_eq!((story.ready(2), story.ready(3)), (vec![], vec![]));
    assert_eq!(story.exited(1, 0), [Action::ReloadEnded { count: 1, failed: false }]);
}

#[test]
fn code_that_changes_while_it_is_imported_is_imported_anew() {
    let mut story = Story::developing(1);
    story.tell(changed(0));
    assert_eq!(story.tell(changed(1)), [Action::Stop(Child::Worker(1)), start(2, 2)]);
    assert_eq!((story.exited(1, 0), story.exited(0, 0)), (vec![], vec![]));
    assert_eq!(story.ready(2), [Action::ReloadEnded { count: 2, failed: false }]);
}

#[test]
fn in_development_an_interrupt_ends_at_once() {
    let mut story = Story::developing(1);
    let ending = [Action::Stopping, Action::StopListening, Action::Stop(Child::Worker(0))];
    assert_eq!(story.tell(SupervisorEvent::Interrupt), ending);
    assert_eq!(story.exited(0, 0), [Action::Exit(0)]);
}

#[test]
fn a_reload_that_does_not_boot_leaves_the_old_code() {
    let mut story = Story::serving(2, false);
    assert_eq!(story.tell(SupervisorEvent::Reload), [start(2, 1)]);
    assert_eq!(story.tell(failed(2)), [Action::ReloadEnded { count: 1, failed: true }]);
    assert_eq!(story.exited(2, 4), []);
    assert_eq!(story.after(100.0), []);
    // What is missing is tried again all the same, with what is there now.
    assert_eq!(story.exited(0, 139), [start(0, 1)]);
}

#[test]
fn a_reload_during_a_reload_begins_anew_and_both_end_together() {
    let mut story = Story::serving(1, false);
    assert_eq!(story.tell(SupervisorEvent::Reload), [start(1, 1)]);
    // The import of the first may hang, and the second be what mends that.
    assert_eq!(story.tell(SupervisorEvent::Reload), [drain(1, 30), start(2, 2)]);
    assert_eq!(story.exited(1, 0), []);
    assert_eq!(story.ready(2), [retire(0, "reload")]);
    assert_eq!(story.exited(0, 0), [Action::ReloadEnded { count: 2, failed: false }]);
}

#[test]
fn a_worker_that_is_to_be_replaced_before_it_is_ready_is_replaced_once_it_is() {
    let mut story = Story::serving(1, false);
    story.after(1.0);
    assert_eq!(story.exited(0, 139), [start(0, 0)]);
    assert_eq!(story.tell(SupervisorEvent::Replace { slot: 0, reason: "leaks".into() }), []);
    assert_eq!(story.ready(0), [start(1, 0)]);
    assert_eq!(story.ready(1), [retire(0, "leaks")]);
}

#[test]
fn a_reload_with_preload_keeps_the_old_template_until_the_new_one_has_a_worker() {
    let mut story = Story::serving(1, true);
    assert_eq!(story.tell(SupervisorEvent::Reload), [Action::StartTemplate { generation: 1 }]);
    story.after(1.0);
    assert_eq!(story.exited(0, 139), [start(0, 0)]);
    story.ready(0);
    assert_eq!(story.tell(SupervisorEvent::Ready(Child::Template(1))), [start(1, 1)]);
    assert_eq!(story.ready(1), [Action::Stop(Child::Template(0)), retire(0, "reload")]);
    story.tell(SupervisorEvent::Exited { child: Child::Template(0), status: 0 });
    assert_eq!(story.exited(0, 0), [Action::ReloadEnded { count: 1, failed: false }]);
}

#[test]
fn a_new_template_whose_worker_does_not_boot_is_given_up() {
    let mut story = Story::serving(1, true);
    story.tell(SupervisorEvent::Reload);
    assert_eq!(story.tell(SupervisorEvent::Ready(Child::Template(1))), [start(1, 1)]);
    let given_up = [Action::ReloadEnded { count: 1, failed: true }, Action::Stop(Child::Template(1))];
    assert_eq!(story.tell(failed(1)), given_up);
    story.exited(1, 4);
    story.after(1.0);
    assert_eq!(story.exited(0, 139), [start(0, 0)], "the old template still forks");
}

#[test]
fn an_old_worker_that_dies_before_its_successor_is_ready_needs_no_retirement() {
    let mut story = Story::serving(1, false);
    assert_eq!(story.tell(SupervisorEvent::Replace { slot: 0, reason: "memory".into() }), [start(1, 0)]);
    assert_eq!(story.exited(0, 137), []);
    assert_eq!(story.ready(1), []);
}

#[test]
fn a_successor_that_dies_right_after_it_was_ready_is_succeeded() {
    let mut story = Story::serving(1, false);
    story.tell(SupervisorEvent::Replace { slot: 0, reason: "memory".into() });
    assert_eq!(story.ready(1), [retire(0, "memory")]);
    assert_eq!(story.exited(1, 139), []);
    assert_eq!(story.after(0.1), [start(1, 0)]);
    assert_eq!(story.ready(1), []);
    assert_eq!(story.exited(0, 0), []);
}

#[test]
fn a_worker_that_has_lived_for_a_while_is_succeeded_at_once() {
    let mut story = Story::serving(1, false);
    for _ in 0..50 {
        story.after(1.5);
        assert_eq!(story.exited(0, 137), [start(0, 0)]);
        story.ready(0);
    }
}

#[test]
fn it_is_told_why_a_worker_is_started() {
    for preload in [false, true] {
        let mut story = Story::serving(2, preload);
        assert_eq!(story.reasons(), [StartReason::Boot, StartReason::Boot]);
        story.after(600.0);
        story.tell(SupervisorEvent::Grow);
        assert_eq!(story.reasons(), [StartReason::Scale]);
        story.ready(2);
        story.tell(SupervisorEvent::Replace { slot: 1, reason: "memory".into() });
        assert_eq!(story.reasons(), [StartReason::Replace]);
        story.ready(3);
        story.exited(1, 0);
        story.exited(0, 139);
        assert_eq!(story.reasons(), [StartReason::Death]);
        story.ready(0);
        story.after(600.0);
        story.tell(SupervisorEvent::Stalled(2));
        assert_eq!(story.reasons(), [StartReason::Death]);
    }
    for mut story in [Story::serving(2, false), Story::developing(2)] {
        story.reasons();
        story.tell(SupervisorEvent::Reload);
        story.ready(2);
        story.ready(3);
        story.exited(0, 0);
        assert_eq!(story.reasons(), [StartReason::Reload, StartReason::Reload]);
    }
}

#[test]
fn a_worker_that_floods_its_line_is_killed_once_and_replaced() {
    let mut story = Story::serving(2, false);
    let child = Child::Worker(1);
    assert_eq!(story.after(600.0), []);
    let killed = Action::Kill { child, why: super::FLOODED };
    assert_eq!(story.tell(SupervisorEvent::Flooded(child)), [killed, start(2, 0)]);
    assert_eq!(story.tell(SupervisorEvent::HungUp(child)), [], "the supervisor has shut the socket itself");
    assert_eq!(story.exited(1, 137), []);
}

#[test]
fn a_worker_that_does_not_retire_in_time_is_killed_and_the_next_one_follows() {
    let mut story = Story::serving(2, false);
    story.tell(SupervisorEvent::Reload);
    assert_eq!(story.ready(2), [retire(0, "reload")]);
    assert_eq!(story.after(31.9), []);
    let actions = story.after(0.1);
    assert!(matches!(
        actions[..],
        [Action::Kill { child: Child::Worker(0), .. }, Action::StartWorker { slot: 3, .. }]
    ));
}

#[test]
fn a_first_boot_that_fails_ends_the_server_with_its_status() {
    let mut story = Story::booting(2, false);
    let stop = [
        Action::Stopping,
        Action::StopListening,
        Action::Stop(Child::Worker(0)),
        Action::Stop(Child::Worker(1)),
    ];
    assert_eq!(story.tell(failed(1)), stop);
    assert_eq!(story.exited(1, 4), []);
    assert_eq!(story.exited(0, 0), [Action::Exit(4)]);
    let mut story = Story::booting(1, false);
    assert_eq!(
        story.exited(0, 0),
        [Action::Stopping, Action::StopListening, Action::Exit(3)],
        "it did not serve, whatever it says"
    );
}

#[test]
fn a_worker_that_boots_for_too_long_shows_its_stacks_and_is_killed() {
    let mut story = Story::serving(1, false);
    assert_eq!(story.tell(SupervisorEvent::Grow), [start(1, 0)]);
    assert_eq!(story.after(60.0), [Action::TellStacks(Child::Worker(1))]);
    let actions = story.after(1.0);
    assert!(matches!(actions[..], [Action::Kill { .. }, Action::StartWorker { .. }]), "{actions:?}");
}

#[test]
fn signals_make_a_stop_quicker_one_by_one() {
    let mut story = Story::serving(1, false);
    assert_eq!(story.tell(SupervisorEvent::Terminate), [Action::Stopping, Action::AnnounceClose(0)]);
    assert_eq!(story.tell(SupervisorEvent::Terminate), [], "the same, sent to the group as well");
    assert_eq!(story.after(1.0), []);
    assert_eq!(story.tell(SupervisorEvent::Terminate), [Action::StopListening, drain(0, 29)]);
    story.after(1.0);
    assert_eq!(story.tell(SupervisorEvent::Interrupt), [Action::Stop(Child::Worker(0))]);
    story.after(1.0);
    assert!(matches!(story.tell(SupervisorEvent::Quit)[..], [Action::Kill { .. }]));
    assert_eq!(story.exited(0, 137), [Action::Exit(0)]);
}

#[test]
fn a_stop_goes_on_by_itself() {
    let mut story = Story::serving(2, true);
    story.tell(SupervisorEvent::Terminate);
    let template = Action::Stop(Child::Template(0));
    let drain = [Action::StopListening, drain(0, 25), drain(1, 25), template];
    assert_eq!(story.after(5.0), drain);
    story.tell(SupervisorEvent::Exited { child: Child::Template(0), status: 0 });
    assert_eq!(story.exited(0, 139), [], "the last one may die as it likes");
    assert!(matches!(story.after(27.0)[..], [Action::Kill { child: Child::Worker(1), .. }]));
    assert_eq!(story.after(5.0), [Action::Exit(0)], "what cannot be killed is left behind");
}

#[test]
fn winch_ends_the_workers_and_hup_brings_them_back() {
    let mut story = Story::serving(2, false);
    assert_eq!(story.tell(SupervisorEvent::Withdraw), [drain(0, 30), drain(1, 30)]);
    assert_eq!((story.exited(0, 0), story.exited(1, 0)), (vec![], vec![]));
    assert_eq!(story.after(100.0), []);
    assert_eq!(story.tell(SupervisorEvent::Reload), [start(0, 1), start(1, 1)]);
}

#[test]
fn what_is_one_too_many_is_told_so() {
    let mut story = Story::serving(3, false);
    assert_eq!(story.tell(SupervisorEvent::Shrink), [retire(2, "scaled down to 2")]);
}

#[test]
fn a_drain_delay_that_leaves_nothing_of_the_time_to_end_is_cut_to_half_of_it() {
    let delay = |graceful_timeout: &str, drain_delay: &str| {
        let pairs = [("graceful_timeout", graceful_timeout), ("drain_delay", drain_delay)];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let resolved = portico_config::from_pairs(&pairs, &|_| None).unwrap();
        assert_eq!(resolved.warnings.len(), usize::from(graceful_timeout != "30"), "{:?}", resolved.warnings);
        ProcessPlan::new(&resolved.config).drain_delay
    };
    assert_eq!(delay("30", "20"), Duration::from_secs(20));
    assert_eq!(delay("4", "5"), Duration::from_secs(2));
    assert_eq!(delay("0", "5"), Duration::ZERO);
}

#[test]
fn another_plan_counts_as_far_as_there_is_room() {
    let mut story = Story::serving(2, false);
    let plan = |workers_min, workers_max| ProcessPlan {
        workers_min,
        workers_max,
        graceful_timeout: Duration::from_secs(7),
        ..Story::booting(1, true).state.plan
    };
    assert_eq!(story.state.replan(plan(3, 3)), None);
    assert_eq!(story.tell(SupervisorEvent::Reload), [start(2, 1)]);
    assert_eq!(story.ready(2), [start(3, 1)]);
    assert_eq!(story.ready(3), [retire(0, "reload")]);
    assert_eq!(story.state.replan(plan(2, 16)), None);
    assert_eq!(story.state.replan(plan(2, 40)), Some(16));
    assert_eq!((story.state.wanted(), story.state.plan.workers_max, story.state.plan.slots), (3, 16, 34));
    assert_eq!(story.state.plan.graceful_timeout, Duration::from_secs(7));
    assert!(!story.state.plan.preload);
}

#[test]
fn nobody_is_replaced_once_the_server_is_told_to_stop() {
    for preload in [false, true] {
        let mut story = Story::serving(2, preload);
        story.tell(SupervisorEvent::Terminate); // Connections are accepted for some seconds more.
        assert_eq!(story.tell(SupervisorEvent::Replace { slot: 1, reason: String::new() }), []);
    }
}

#[test]
fn a_worker_that_a_signal_ends_is_replaced_unless_the_server_gets_one_too() {
    for preload in [false, true] {
        let mut story = Story::serving(2, preload);
        assert_eq!(story.tell(SupervisorEvent::Signalled(0)), []);
        assert_eq!(story.after(0.29), []);
        assert_eq!(story.state.next_timeout(story.now), Some(story.now + Duration::from_millis(10)));
        assert_eq!(story.after(0.01), [start(2, 0)]);
        assert_eq!(story.ready(2), [retire(0, "it was told to end by a signal")]);
        let mut story = Story::serving(2, preload);
        story.tell(SupervisorEvent::Signalled(0));
        story.tell(SupervisorEvent::Signalled(1));
        story.tell(SupervisorEvent::Terminate);
        assert_eq!(story.after(1.0), []);
    }
}
