//! The processes that were forked: what the supervisor knows of each, and what it can do to one.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use portico_metrics::StartReason;
use rustix::net::{Shutdown, shutdown};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, kill_process, set_child_subreaper, wait,
    waitid,
};

use crate::control::{ControlSocket, Report};
use crate::stacks_file::StacksFile;
use crate::state::Child;

/// The supervisor's side of a process that was forked and has not been reaped: its process id, its control socket
/// and its file for stacks. It decides nothing; [`crate::state::StateMachine`] does.
#[derive(Debug)]
pub(crate) struct ChildProcess {
    pub child: Child,
    /// What has made it necessary.
    pub start_reason: StartReason,
    /// `None` until a worker that a template forks has reported.
    pub pid: Option<Pid>,
    pub control: ControlSocket,
    /// Where it writes the stacks of its threads.
    pub stacks: StacksFile,
    /// Another process has reported in its place, which was said.
    pub impersonated: bool,
    /// It has closed its end of the control socket.
    pub hung_up: bool,
    pub ready: bool,
    /// It has said that its boot failed, and why.
    pub boot_failed: bool,
    /// It was told to end.
    pub dismissed: bool,
    /// Why it ends, as far as that is known before it does.
    pub reason: Option<String>,
    /// The signal that it was sent, and why.
    pub sent: Option<(&'static str, &'static str)>,
    pub heartbeat: Heartbeat,
    /// It has said more than it is listened to.
    pub flooding: bool,
    talk: ReportRate,
}

/// Counts what a process reports, so that one that floods its control socket is noticed.
#[derive(Debug)]
pub(crate) struct ReportRate {
    since: Instant,
    reports: u32,
    /// A report of a kind that is not known has been told.
    unknown_told: bool,
}

/// Reports of one process that are taken in one turn: then others have theirs.
pub(crate) const REPORTS_PER_TURN_MAX: usize = 16;

/// Reports of one process that are taken within [`TALK_PERIOD`]. A worker has a handful to tell in its life, and
/// with --reload one for each file that is saved.
pub(crate) const REPORTS_MAX: u32 = 256;

pub(crate) const TALK_PERIOD: Duration = Duration::from_secs(1);

/// Notices that a worker's heartbeat on the scoreboard has stopped.
#[derive(Debug, Default)]
pub(crate) struct Heartbeat {
    last: u64,
    missed: u32,
}

/// A heartbeat that has not changed for so many looks has stopped. Looks are counted, not time: where the whole
/// machine is suspended the supervisor does not look either.
const LOOKS_MAX: u32 = 60;

impl ChildProcess {
    /// One that was just forked, or that a template will fork.
    pub(crate) fn new(
        child: Child,
        pid: Option<Pid>,
        control: ControlSocket,
        stacks: StacksFile,
        start_reason: StartReason,
    ) -> Self {
        Self {
            child,
            start_reason,
            pid,
            control,
            stacks,
            impersonated: false,
            hung_up: false,
            ready: false,
            boot_failed: false,
            dismissed: false,
            reason: None,
            sent: None,
            heartbeat: Heartbeat::default(),
            flooding: false,
            talk: ReportRate { since: Instant::now(), reports: 0, unknown_told: false },
        }
    }

    /// The process id, 0 if it is not known yet.
    pub(crate) fn pid_number(&self) -> u32 {
        self.pid.map_or(0, number)
    }

    /// Ends it, or at least what it is told, and can say, if its process id is not known.
    pub(crate) fn kill(&mut self, why: &'static str) {
        self.sent = Some(("SIGKILL", why));
        let sent = match self.pid {
            Some(pid) => kill_process(pid, Signal::KILL),
            None if self.flooding => shutdown(&self.control, Shutdown::Both),
            None => shutdown(&self.control, Shutdown::Write),
        };
        if let Err(error) = sent {
            log::debug!("{} cannot be killed: {error}", self.child);
        }
    }

    /// Whether it is listened to. One that floods is about to be killed; where that cannot be, the end of its
    /// control socket is the only sign of its end.
    pub(crate) fn is_heard(&self) -> bool {
        let is_killed = self.flooding && self.pid.is_some();
        !(self.hung_up || is_killed)
    }

    /// What it says, and which process has said it: at most [`REPORTS_PER_TURN_MAX`]; the rest stays for the
    /// next turn. The end of its control socket is noted, and whether it says too much: nothing counts of that
    /// any more.
    pub(crate) fn next_reports(&mut self, now: Instant) -> Vec<(Report, Option<Pid>)> {
        let mut reports = Vec::new();
        for _ in 0..REPORTS_PER_TURN_MAX {
            if !self.is_heard() {
                break;
            }
            match self.control.next_report() {
                Ok(None) => break,
                Ok(Some(report)) => reports.push(report),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    if !std::mem::replace(&mut self.talk.unknown_told, true) {
                        log::error!("{}: {error} (said once)", self.child);
                    }
                }
                Err(_) => {
                    self.hung_up = true;
                    break;
                }
            }
            self.flooding |= self.talk.is_too_much(now);
        }
        if self.flooding {
            reports.clear();
        }
        reports
    }
}

impl AsFd for ChildProcess {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.control.as_fd()
    }
}

impl ReportRate {
    /// Counts a report. Whether there have been too many.
    fn is_too_much(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= TALK_PERIOD {
            (self.since, self.reports) = (now, 0);
        }
        self.reports += 1;
        self.reports > REPORTS_MAX
    }
}

impl Heartbeat {
    /// Takes the value of this second. Whether the heartbeat has stopped, which is returned once.
    pub(crate) fn has_stopped(&mut self, heartbeat: u64) -> bool {
        self.missed = if heartbeat == self.last { self.missed.saturating_add(1) } else { 0 };
        self.last = heartbeat;
        // Zero: it has not begun to beat.
        heartbeat != 0 && self.missed == LOOKS_MAX
    }
}

/// Makes orphans of descendants, such as the workers of a template, children of this process.
///
/// # Errors
/// The kernel's.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Whether it is a child of this process that has not been reaped. Until then its id is no other process'.
pub(crate) fn is_child(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::Pid(pid), options) {
            Err(rustix::io::Errno::INTR) => {}
            known => return known.is_ok(),
        }
    }
}

/// A process that has ended, if there is one; its own child or an orphan.
pub(crate) fn reap() -> Option<(Pid, WaitStatus)> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(ended) => return ended,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None, // There is no child.
        }
    }
}

/// As a shell tells it.
pub(crate) fn exit_status(status: WaitStatus) -> i32 {
    let signaled = status.terminating_signal().map(|signal| 128 + signal);
    signaled.or(status.exit_status()).unwrap_or_default()
}

/// A process id as a number.
pub(crate) fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heart_that_has_not_begun_to_beat_has_not_stopped() {
        let mut heartbeat = Heartbeat::default();
        assert!((0..1000).all(|_| !heartbeat.has_stopped(0)));
    }

    #[test]
    fn a_heart_that_stops_is_told_once_and_only_after_a_minute() {
        let mut heartbeat = Heartbeat::default();
        assert!((1..100).all(|beat| !heartbeat.has_stopped(beat)));
        assert!((0..59).all(|_| !heartbeat.has_stopped(99)));
        assert!(heartbeat.has_stopped(99));
        assert!(!heartbeat.has_stopped(99));
        assert!((0..59).all(|_| !heartbeat.has_stopped(100)), "begun anew");
    }

    #[test]
    fn a_line_that_ends_is_noted_after_what_was_said_on_it() {
        let (ours, theirs) = ControlSocket::pair().unwrap();
        theirs.report(&Report::Ready).unwrap();
        drop(theirs);
        let mut process = ChildProcess::new(Child::Worker(0), None, ours, stacks(), StartReason::Boot);
        assert_eq!(
            (process.next_reports(Instant::now()), process.hung_up),
            (vec![(Report::Ready, Some(rustix::process::getpid()))], true)
        );
        assert_eq!(process.next_reports(Instant::now()), []);
    }

    fn stacks() -> StacksFile {
        StacksFile::of_worker(0).unwrap()
    }

    /// Has a process say `count` things, and returns how many of them were taken in and in how many turns.
    fn say(process: &mut ChildProcess, theirs: &ControlSocket, count: u32, now: Instant) -> (usize, usize) {
        let (mut taken, mut turns) = (0, 0);
        for _ in 0..count {
            let _ = theirs.report(&Report::Ready); // Once the socket is shut it fails.
            let reports = process.next_reports(now);
            (taken, turns) = (taken + reports.len(), turns + 1);
        }
        (taken, turns)
    }

    #[test]
    fn one_turn_takes_a_bounded_number_of_reports_and_loses_none() {
        let (ours, theirs) = ControlSocket::pair().unwrap();
        let mut process = ChildProcess::new(Child::Worker(0), None, ours, stacks(), StartReason::Boot);
        let count = REPORTS_PER_TURN_MAX + 5;
        (0..count).for_each(|_| theirs.report(&Report::Ready).unwrap());
        assert_eq!(process.next_reports(Instant::now()).len(), REPORTS_PER_TURN_MAX);
        assert_eq!(process.next_reports(Instant::now()).len(), 5);
        assert!(!process.flooding && !process.hung_up);
    }

    #[test]
    fn as_much_as_the_limit_a_second_is_listened_to_for_ever() {
        let (ours, theirs) = ControlSocket::pair().unwrap();
        let mut process = ChildProcess::new(Child::Worker(0), None, ours, stacks(), StartReason::Boot);
        let start = Instant::now();
        for second in 0..5 {
            let now = start + second * TALK_PERIOD;
            assert_eq!(say(&mut process, &theirs, REPORTS_MAX, now).0, REPORTS_MAX as usize);
        }
        assert!(!process.flooding);
    }

    #[test]
    fn a_process_that_says_more_is_not_listened_to_any_more() {
        let (ours, theirs) = ControlSocket::pair().unwrap();
        let mut process =
            ChildProcess::new(Child::Worker(0), Pid::from_raw(1), ours, stacks(), StartReason::Boot);
        let now = Instant::now();
        assert_eq!(say(&mut process, &theirs, REPORTS_MAX, now).0, REPORTS_MAX as usize);
        assert!(process.is_heard());
        assert_eq!(say(&mut process, &theirs, 3, now + TALK_PERIOD / 2), (0, 3));
        assert!(process.flooding && !process.is_heard() && !process.hung_up);
        drop(theirs);
        assert_eq!(process.next_reports(now + TALK_PERIOD), []);
    }

    #[test]
    fn of_one_that_cannot_be_killed_what_is_left_is_dropped_in_bounded_turns_and_it_says_no_more() {
        let (ours, theirs) = ControlSocket::pair().unwrap();
        let mut process = ChildProcess::new(Child::Worker(0), None, ours, stacks(), StartReason::Boot);
        let waiting = (0..1_000_000).take_while(|_| theirs.report(&Report::Ready).is_ok()).count();
        process.talk.reports = REPORTS_MAX;
        let now = process.talk.since;
        assert_eq!(process.next_reports(now), []);
        process.kill("a test");
        assert_eq!(theirs.report(&Report::Ready).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let turns = (0..waiting).take_while(|_| {
            assert_eq!(process.next_reports(now), []);
            !process.hung_up
        });
        assert!(turns.count() <= waiting / REPORTS_PER_TURN_MAX + 1);
        assert!(process.flooding && process.hung_up);
    }

    #[test]
    fn a_child_is_one_until_it_is_reaped() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = Pid::from_child(&child);
        assert!(is_child(pid));
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        assert!(is_child(pid), "ended, and its id is still its own");
        child.wait().unwrap();
        assert!(!is_child(pid));
        assert!(!is_child(Pid::INIT) && !is_child(rustix::process::getpid()));
    }
}
