//! The processes that were forked: what the supervisor knows of each, and what it can do to one.

use std::io;
use std::os::fd::AsFd;

use rustix::net::{Shutdown, shutdown};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, set_child_subreaper, wait};

use crate::{Child, Control, Report};

/// A process that was forked and has not been reaped.
#[derive(Debug)]
pub(crate) struct Process {
    pub child: Child,
    /// `None` until a worker that a template forks has told it.
    pub pid: Option<Pid>,
    pub control: Control,
    /// It has closed its end of the line.
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
    pub pulse: Pulse,
}

/// Watches a heartbeat.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    last: u64,
    missed: u32,
}

/// A heartbeat that has not changed for so many looks has stopped. Looks are counted, not time: where the whole
/// machine is suspended the supervisor does not look either.
const LOOKS_MAX: u32 = 60;

impl Process {
    /// One that was just forked, or that a template will fork.
    pub fn new(child: Child, pid: Option<Pid>, control: Control) -> Self {
        Self {
            child,
            pid,
            control,
            hung_up: false,
            ready: false,
            boot_failed: false,
            dismissed: false,
            reason: None,
            sent: None,
            pulse: Pulse::default(),
        }
    }

    /// The process id, 0 if it is not known yet.
    pub fn pid_number(&self) -> u32 {
        self.pid.map_or(0, number)
    }

    /// Ends it, or at least what it says if its process id is not known.
    pub fn kill(&mut self, why: &'static str) {
        self.sent = Some(("SIGKILL", why));
        let sent = match self.pid {
            Some(pid) => kill_process(pid, Signal::KILL),
            None => shutdown(&self.control, Shutdown::Write),
        };
        if let Err(error) = sent {
            log::debug!("{:?} cannot be killed: {error}", self.child);
        }
    }

    /// The next thing that it says; an end of the line is noted.
    pub fn next_report(&mut self) -> Option<Report> {
        if self.hung_up {
            return None;
        }
        loop {
            match self.control.next_report() {
                Ok(report) => return report,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    log::error!("{:?}: {error}", self.child);
                }
                Err(_) => {
                    self.hung_up = true;
                    return None;
                }
            }
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.control.as_fd()
    }
}

impl Pulse {
    /// Takes a look. Whether the heart has stopped; it is told once.
    pub fn has_stopped(&mut self, heartbeat: u64) -> bool {
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
        let mut pulse = Pulse::default();
        assert!((0..1000).all(|_| !pulse.has_stopped(0)));
    }

    #[test]
    fn a_heart_that_stops_is_told_once_and_only_after_a_minute() {
        let mut pulse = Pulse::default();
        assert!((1..100).all(|beat| !pulse.has_stopped(beat)));
        assert!((0..59).all(|_| !pulse.has_stopped(99)));
        assert!(pulse.has_stopped(99));
        assert!(!pulse.has_stopped(99));
        assert!((0..59).all(|_| !pulse.has_stopped(100)), "begun anew");
    }

    #[test]
    fn a_line_that_ends_is_noted_after_what_was_said_on_it() {
        let (ours, theirs) = Control::pair().unwrap();
        theirs.report(&Report::Ready).unwrap();
        drop(theirs);
        let mut process = Process::new(Child::Worker(0), None, ours);
        assert_eq!((process.next_report(), process.hung_up), (Some(Report::Ready), false));
        assert_eq!((process.next_report(), process.hung_up), (None, true));
    }
}
