//! What ends a worker that does not come to its end by itself, since code of the application keeps the interpreter
//! or has closed what the worker needs; and which reason it is replaced for, once.
//!
//! Decides only: the thread "portico-watch" says what it sees, and ends the process.

use std::fmt;
use std::time::Duration;

use portico_config::Config;

use crate::recycling::RecycleReason;

/// The watch over the process of one worker as a whole: its supervisor, its descriptors, its interpreter. The
/// thread that watches calls owns it and tells it the time; it decides, and touches nothing.
#[derive(Debug)]
pub struct ProcessWatch {
    graceful_timeout: Duration,
    /// Since when the supervisor has gone.
    orphaned: Option<u64>,
    /// Since when nothing but calls that were given up keeps the process.
    kept_since: Option<u64>,
    /// When the descriptors that it needs were last looked at.
    descriptors_seen: u64,
    /// When all stacks were last logged because the interpreter was not to be had.
    held_told: Option<u64>,
    replacing: bool,
}

/// The step that is due where nothing but calls that were given up keeps the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptStep {
    /// Have the main thread end the process in order, if it can have the interpreter.
    Ring,
    /// End the process without the interpreter.
    Leave,
}

/// The reason for which a worker asks to be replaced, as it is reported to the supervisor and logged. The first
/// counts; there is one report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplaceReason {
    /// It has served long enough.
    Recycled(RecycleReason),
    /// One of its threads is stuck in a request.
    Stuck {
        /// The request's method.
        method: Vec<u8>,
        /// Its path.
        path: Vec<u8>,
    },
}

/// How often it is looked whether the descriptors that the worker needs are still its own.
const DESCRIPTORS_EVERY: u64 = 1_000_000_000;

/// How long the main thread waits for the interpreter once nothing but calls that were given up is left.
const KEPT_PATIENCE: u64 = 500_000_000;

/// What a worker that has lost its supervisor has beyond --graceful-timeout.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);

/// How often all stacks are logged because the interpreter is not to be had.
const HELD_EVERY: u64 = 10_000_000_000;

impl ProcessWatch {
    /// With these settings.
    pub fn new(config: &Config) -> Self {
        Self {
            graceful_timeout: config.graceful_timeout,
            orphaned: None,
            kept_since: None,
            descriptors_seen: 0,
            held_told: None,
            replacing: false,
        }
    }

    /// Whether the process is to be ended since the supervisor died so long ago that it should have ended: it has
    /// not noticed, since C code holds the interpreter.
    pub fn is_left_over(&mut self, now: u64, is_orphan: bool) -> bool {
        if !is_orphan {
            return false;
        }
        let since = *self.orphaned.get_or_insert(now);
        u128::from(now.saturating_sub(since)) >= (self.graceful_timeout + ORPHAN_GRACE).as_nanos()
    }

    /// What is to be done about a process that is to end, and has responded to all it had, where calls that were
    /// given up keep the interpreter (`is_kept`): what is left of --graceful-timeout would be theirs alone. First
    /// it is told where they are: not while stacks are `pending`.
    pub fn look_at_kept(&mut self, now: u64, is_kept: bool, pending: bool) -> Option<KeptStep> {
        if !is_kept {
            self.kept_since = None;
            return None;
        }
        let Some(since) = self.kept_since else {
            self.kept_since = Some(now);
            return Some(KeptStep::Ring);
        };
        (!pending && now.saturating_sub(since) >= KEPT_PATIENCE).then_some(KeptStep::Leave)
    }

    /// Whether it is time to look at the descriptors, which is done then.
    pub fn are_descriptors_due(&mut self, now: u64) -> bool {
        let are_due = now.saturating_sub(self.descriptors_seen) >= DESCRIPTORS_EVERY;
        if are_due {
            self.descriptors_seen = now;
        }
        are_due
    }

    /// Whether all stacks are to be logged because the interpreter is not to be had, which is done then.
    pub fn is_held_report_due(&mut self, now: u64) -> bool {
        let is_due = self.held_told.is_none_or(|told| now.saturating_sub(told) >= HELD_EVERY);
        if is_due {
            self.held_told = Some(now);
        }
        is_due
    }

    /// Whether a replacement is to be asked for: it has not been yet, and is now.
    pub fn ask_replacement(&mut self) -> bool {
        !std::mem::replace(&mut self.replacing, true)
    }
}

impl fmt::Display for ReplaceReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recycled(reason) => reason.fmt(f),
            Self::Stuck { method, path } => {
                write!(f, "a thread is stuck in {} {}", method.escape_ascii(), path.escape_ascii())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn watch() -> ProcessWatch {
        ProcessWatch::new(&Config { graceful_timeout: Duration::from_secs(30), ..Config::default() })
    }

    #[test]
    fn an_orphan_has_its_graceful_timeout() {
        let mut watch = watch();
        assert!(!watch.is_left_over(1000 * SECOND, false));
        assert!(!watch.is_left_over(1001 * SECOND, true), "it has just been seen");
        assert!(!watch.is_left_over(1033 * SECOND - 1, true));
        assert!(watch.is_left_over(1033 * SECOND, true));
    }

    #[test]
    fn the_main_thread_is_rung_before_the_end() {
        let mut watch = watch();
        assert_eq!(watch.look_at_kept(SECOND, true, false), Some(KeptStep::Ring));
        assert_eq!(watch.look_at_kept(SECOND + KEPT_PATIENCE - 1, true, false), None);
        assert_eq!(
            watch.look_at_kept(SECOND + KEPT_PATIENCE, true, true),
            None,
            "stacks are to be logged first"
        );
        assert_eq!(watch.look_at_kept(SECOND + KEPT_PATIENCE, true, false), Some(KeptStep::Leave));
    }

    #[test]
    fn a_call_that_comes_back_keeps_nothing() {
        let mut watch = watch();
        assert_eq!(watch.look_at_kept(SECOND, true, false), Some(KeptStep::Ring));
        assert_eq!(watch.look_at_kept(2 * SECOND, false, false), None);
        assert_eq!(watch.look_at_kept(3 * SECOND, true, false), Some(KeptStep::Ring), "its time begins anew");
    }

    #[test]
    fn descriptors_are_looked_at_each_second() {
        let mut watch = watch();
        let due: Vec<u64> = (10..40).filter(|tenth| watch.are_descriptors_due(tenth * SECOND / 10)).collect();
        assert_eq!(due, [10, 20, 30]);
    }

    #[test]
    fn held_stacks_are_told_every_ten_seconds() {
        let mut watch = watch();
        let told: Vec<u64> = (0..25).filter(|second| watch.is_held_report_due(second * SECOND)).collect();
        assert_eq!(told, [0, 10, 20]);
    }

    #[test]
    fn a_replacement_is_asked_for_once() {
        let mut watch = watch();
        assert!(watch.ask_replacement() && !watch.ask_replacement());
    }

    #[test]
    fn reasons_are_told_to_the_operator() {
        let stuck = ReplaceReason::Stuck { method: b"GET".to_vec(), path: b"/a\x1b".to_vec() };
        assert_eq!(stuck.to_string(), r"a thread is stuck in GET /a\x1b");
        let recycled = ReplaceReason::Recycled(RecycleReason::Lifetime { seconds: 60 });
        assert_eq!(recycled.to_string(), "it has lived for 60 s (--max-lifetime)");
    }
}
