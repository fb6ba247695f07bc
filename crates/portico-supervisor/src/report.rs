//! Why a worker died, in words for whoever reads the log: who ended it, and what it was doing.

use std::path::Path;
use std::time::Duration;

use portico_metrics::{DeathReason, Gauge};
use rustix::process::WaitStatus;
use signal_hook::consts as number;

use crate::memory::MemoryGroup;
use crate::scoreboard::{Running, Scoreboard, SlotField, ThreadState, WorkerSlot, now_nanos};
use crate::state::STALLED;

/// Requests in flight that are listed one by one.
const REQUESTS_MAX: usize = 16;

/// Tells why the worker `pid` in `slot`, whose records must still be on the board, ended with `status`: a line,
/// and a further one for each request that it was answering.
///
/// `sent` is the last signal that the supervisor itself has sent it, by its name, and the reason: `("SIGKILL",
/// "it did not end within 30 s of SIGTERM")`. `oom_kills` is [`MemoryGroup::oom_kills`] as it was when the worker
/// was known to live and as it is now.
pub(crate) fn death(
    slot: u32,
    pid: u32,
    status: WaitStatus,
    sent: Option<(&str, &str)>,
    board: &Scoreboard,
    oom_kills: Option<(u64, u64)>,
) -> String {
    let row = board.slot(slot);
    let now_nanos = now_nanos();
    let started = row.map_or(0, |row| row.get(SlotField::StartedNanos));
    let age = match started {
        0 => String::new(),
        started => format!(" after {}", span(Duration::from_nanos(now_nanos.saturating_sub(started)))),
    };
    let cause =
        cause(status, sent, oom_kills, row.map_or(0, |row| row.metrics().gauge(Gauge::ResidentBytes) / 1024));
    let requests = row.map(|row| in_flight(row, now_nanos)).unwrap_or_default();
    let known = as_gunicorn_has_it(pid, ProcessEnd::of(status), sent);
    format!("{known}worker {slot} (pid {pid}) died{age}: {cause}{requests}")
}

/// What gunicorn says of the same, word for word: what watches logs looks for it.
fn as_gunicorn_has_it(pid: u32, end: ProcessEnd, sent: Option<(&str, &str)>) -> String {
    match (end, sent) {
        (_, Some(("SIGKILL", STALLED))) => format!("WORKER TIMEOUT (pid:{pid}): "),
        (_, Some(("SIGKILL", _))) => String::new(),
        (ProcessEnd::Signaled { signal: number::SIGKILL, .. }, _) => {
            format!("Worker (pid:{pid}) was sent SIGKILL! Perhaps out of memory? ")
        }
        _ => String::new(),
    }
}

/// Why a process ended, without its name: "SIGKILL by the supervisor: ...". As [`death`]; `rss_kib` is the last
/// that is known of its memory, 0 if nothing is.
pub(crate) fn cause(
    status: WaitStatus,
    sent: Option<(&str, &str)>,
    oom_kills: Option<(u64, u64)>,
    rss_kib: u64,
) -> String {
    let limit_kib = MemoryGroup::own(Path::new("/")).and_then(|group| group.limit_kib());
    ProcessEnd::of(status).cause(sent, &MemoryFacts { oom_kills, limit_kib, rss_kib })
}

/// The same for the metrics: why a worker died that was ready or not.
pub(crate) fn death_reason(
    was_ready: bool,
    status: WaitStatus,
    sent: Option<(&str, &str)>,
    oom_kills: Option<(u64, u64)>,
) -> DeathReason {
    match (ProcessEnd::of(status), sent) {
        (ProcessEnd::Signaled { signal: number::SIGKILL, .. }, Some((_, STALLED))) => DeathReason::Stalled,
        (ProcessEnd::Signaled { signal: number::SIGKILL, .. }, Some(_)) => DeathReason::Killed,
        _ if !was_ready => DeathReason::Boot,
        (ProcessEnd::Signaled { signal: number::SIGKILL, .. }, None) => match oom_kills {
            Some((before, after)) if after > before => DeathReason::OutOfMemory,
            _ => DeathReason::Sigkill,
        },
        (ProcessEnd::Signaled { .. }, _) => DeathReason::Signal,
        (ProcessEnd::Exited(_), _) => DeathReason::Exit,
    }
}

/// The end of a process, as wait(2) tells it, for the line in the log that says why.
#[derive(Clone, Copy, Debug)]
enum ProcessEnd {
    Exited(i32),
    Signaled { signal: i32, core: bool },
}

/// The facts about memory that the kernel and the scoreboard tell.
#[derive(Clone, Copy, Debug, Default)]
struct MemoryFacts {
    /// Before and after.
    oom_kills: Option<(u64, u64)>,
    limit_kib: Option<u64>,
    /// 0 if it was never measured.
    rss_kib: u64,
}

impl ProcessEnd {
    fn of(status: WaitStatus) -> Self {
        match status.terminating_signal() {
            // The bit that wait(2) calls WCOREDUMP.
            Some(signal) => Self::Signaled { signal, core: status.as_raw() & 0x80 != 0 },
            None => Self::Exited(status.exit_status().unwrap_or_default()),
        }
    }

    fn cause(self, sent: Option<(&str, &str)>, memory: &MemoryFacts) -> String {
        let cause = match self {
            Self::Exited(status) => exit(status),
            Self::Signaled { signal, .. } if sent.is_some_and(|(name, _)| name == signal_name(signal)) => {
                let (name, reason) = sent.unwrap_or_default();
                return format!("{name} by the supervisor: {reason}");
            }
            Self::Signaled { signal: number::SIGKILL, .. } => killed(memory),
            Self::Signaled { signal, core } => {
                let core = if core { ", core dumped" } else { "" };
                format!("{}{core}: {}", signal_name(signal), meaning(signal))
            }
        };
        match sent {
            Some((name, reason)) => format!("{cause}; the supervisor had sent it {name}: {reason}"),
            None => cause,
        }
    }
}

/// A SIGKILL that is not the supervisor's.
fn killed(memory: &MemoryFacts) -> String {
    let rss = match memory.rss_kib {
        0 => String::new(),
        kib => format!(", last RSS {} MiB", kib / 1024),
    };
    match (memory.oom_kills, memory.limit_kib) {
        (Some((before, after)), Some(limit)) if after > before => {
            format!("SIGKILL, cgroup out of memory: limit {} MiB{rss}", limit / 1024)
        }
        (Some((before, after)), None) if after > before => {
            format!("SIGKILL, the machine is out of memory: the cgroup has no limit{rss}")
        }
        (Some(_), _) => format!(
            "SIGKILL from outside: not by Portico and not by the cgroup's OOM killer{rss}; the kernel's log \
             (dmesg) has more if it was the kernel"
        ),
        (None, _) => format!(
            "SIGKILL from outside, not by Portico{rss}; whether memory was short cannot be told here (the \
             cgroup's counter is not readable): see the kernel's log (dmesg)"
        ),
    }
}

fn exit(status: i32) -> String {
    let meaning = match status {
        0 => "unasked; the application, or a library, has called os._exit(0)",
        1 => "os._exit(1), or an error that ended the worker: see above in this log",
        120 => "Python could not write out what was left in its standard output or error",
        126 | 127 => {
            "as of a program that could not be started; a library has called os._exit() after a failed exec"
        }
        128.. => "as a shell tells of a signal; the application, or a library, has called os._exit()",
        _ => {
            "the application, or a library, has called os._exit(); sys.exit() in a request does not end a worker"
        }
    };
    format!("exit status {status}: {meaning}")
}

/// What a signal that nobody here has sent says.
fn meaning(signal: i32) -> &'static str {
    match signal {
        number::SIGSEGV | number::SIGBUS => {
            "a crash in C code (an extension module or the interpreter: a wrong address); with \
             PYTHONFAULTHANDLER=1 in the environment the log has its Python stack"
        }
        number::SIGILL => {
            "a crash in C code: an instruction that this CPU does not have, such as an extension module built for \
             another one"
        }
        number::SIGFPE => "a crash in C code: an integer divided by zero",
        number::SIGABRT => {
            "C code has called abort(): a failed assertion, a damaged heap or a fatal error of Python, which \
             stands above in this log"
        }
        number::SIGSYS => "a system call that the sandbox (seccomp) forbids",
        number::SIGXCPU => "the limit of CPU time (RLIMIT_CPU) is used up",
        number::SIGXFSZ => "a file has grown beyond the limit (RLIMIT_FSIZE)",
        number::SIGPIPE => {
            "it wrote into a pipe that nobody reads, with Python's protection from that turned off"
        }
        number::SIGALRM | number::SIGVTALRM | number::SIGPROF => {
            "a timer that the application has set (signal.alarm, signal.setitimer) without a handler"
        }
        number::SIGTRAP => "a debugger's stop, or an assertion of C code",
        _ => "sent from outside, not by Portico",
    }
}

fn signal_name(signal: i32) -> String {
    match signal_hook::low_level::signal_name(signal) {
        Some(name) => name.into(),
        None => format!("signal {signal}"),
    }
}

/// A line for each request that the worker's threads were answering. Those of lost threads have been answered.
fn in_flight(slot: WorkerSlot<'_>, now_nanos: u64) -> String {
    let running: Vec<Running> = slot
        .threads()
        .filter_map(|thread| thread.running())
        .filter(|running| running.state != ThreadState::Lost)
        .collect();
    let mut lines: String =
        running.iter().take(REQUESTS_MAX).map(|running| request(running, now_nanos)).collect();
    if running.len() > REQUESTS_MAX {
        lines += &format!("\n  in flight: {} more", running.len() - REQUESTS_MAX);
    }
    lines
}

fn request(running: &Running, now_nanos: u64) -> String {
    let peer = running.peer.map(|peer| format!(" of {peer}")).unwrap_or_default();
    let waits = match running.state {
        ThreadState::AwaitingClient => ", waiting for the client",
        ThreadState::Stream => ", a WebSocket",
        ThreadState::Idle | ThreadState::Running | ThreadState::Lost => "",
    };
    let seconds = Duration::from_nanos(now_nanos.saturating_sub(running.begun_nanos)).as_secs_f64();
    // As everywhere in the error log: a query may hold what is nobody else's business.
    let path = running.target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let (method, path) = (running.method.escape_ascii(), path.escape_ascii());
    format!("\n  in flight: {method} {path}{peer}, {seconds:.1} s{waits}")
}

/// In the two largest units: `12.3 s`, `2 min 5 s`, `3 h 20 min`, `4 d 1 h`.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use rustix::process::{Pid, WaitOptions, waitpid};

    use super::*;
    use crate::scoreboard::Note;

    const KILL: ProcessEnd = ProcessEnd::Signaled { signal: number::SIGKILL, core: false };

    fn ended(script: &str) -> WaitStatus {
        let mut command = Command::new("sh");
        // Without a file for the core: this is run in the source's folder.
        command.args(["-c", &format!("ulimit -c 0; {script}")]).process_group(0);
        #[expect(clippy::zombie_processes, reason = "the next line waits for it")]
        let child = command.spawn().unwrap();
        waitpid(Some(Pid::from_child(&child)), WaitOptions::empty()).unwrap().unwrap().1
    }

    #[test]
    fn a_death_is_told_with_the_worker_and_what_it_was_doing() {
        let board = Scoreboard::create(4, 3).unwrap();
        let slot = board.slot(2).unwrap();
        slot.set(SlotField::StartedNanos, now_nanos());
        let begin = |thread: usize, target: &str, state| {
            let thread = slot.thread(thread).unwrap();
            let begun_nanos = now_nanos();
            let peer = (target == "/x").then(|| "192.0.2.7".parse().unwrap());
            let (method, target) = (b"GET", target.as_bytes());
            thread.begin(&Note { method, target, peer, begun_nanos, queued_nanos: 0, route_timeout: None });
            thread.set_state(state);
        };
        begin(0, "/x", ThreadState::Running);
        begin(1, "/written-off", ThreadState::Lost);
        begin(2, "/y\n\u{e9}?token=1", ThreadState::AwaitingClient);
        let text = death(2, 4711, ended("kill -SEGV $$"), None, &board, Some((0, 0)));
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("worker 2 (pid 4711) died after 0.0 s: SIGSEGV: a crash in C code"),
            "{text}"
        );
        assert_eq!(lines[1], "  in flight: GET /x of 192.0.2.7, 0.0 s");
        assert_eq!(lines[2], "  in flight: GET /y\\n\\xc3\\xa9, 0.0 s, waiting for the client");
        assert_eq!(lines.len(), 3, "{text}");
    }

    #[test]
    fn a_long_list_of_requests_is_cut() {
        let board = Scoreboard::create(1, REQUESTS_MAX + 2).unwrap();
        let slot = board.slot(0).unwrap();
        for thread in slot.threads() {
            let (method, target) = (&b"GET"[..], &b"/"[..]);
            let note =
                Note { method, target, peer: None, begun_nanos: 1, queued_nanos: 0, route_timeout: None };
            thread.begin(&note);
            thread.set_state(ThreadState::Running);
        }
        let text = death(0, 1, ended("exit 3"), None, &board, None);
        assert!(text.starts_with("worker 0 (pid 1) died: exit status 3: the application"), "{text}");
        assert_eq!(text.lines().count(), 1 + REQUESTS_MAX + 1);
        assert!(text.ends_with("\n  in flight: 2 more"), "{text}");
    }

    #[test]
    fn what_the_supervisor_did_it_says() {
        let board = Scoreboard::create(1, 1).unwrap();
        let sent = Some(("SIGKILL", "it did not end within 30 s of SIGTERM"));
        // MemoryFacts was short at that time as well: that is not why.
        let text = death(0, 5, ended("kill -KILL $$"), sent, &board, Some((1, 2)));
        assert_eq!(
            text,
            "worker 0 (pid 5) died: SIGKILL by the supervisor: it did not end within 30 s of SIGTERM"
        );
        let text = death(0, 5, ended("kill -KILL $$"), Some(("SIGKILL", STALLED)), &board, None);
        assert_eq!(
            text,
            "WORKER TIMEOUT (pid:5): worker 0 (pid 5) died: SIGKILL by the supervisor: its heartbeat had stopped"
        );
        let sent = Some(("SIGTERM", "it is to be replaced"));
        let text = death(0, 5, ended("kill -KILL $$"), sent, &board, None);
        let known =
            "Worker (pid:5) was sent SIGKILL! Perhaps out of memory? worker 0 (pid 5) died: SIGKILL from";
        assert!(text.starts_with(known), "{text}");
        let text =
            ProcessEnd::Signaled { signal: number::SIGABRT, core: true }.cause(sent, &MemoryFacts::default());
        assert!(text.starts_with("SIGABRT, core dumped: C code has called abort()"), "{text}");
        assert!(text.ends_with("; the supervisor had sent it SIGTERM: it is to be replaced"), "{text}");
    }

    #[test]
    fn a_foreign_kill_is_memory_only_if_the_kernel_says_so() {
        let limit_kib = Some(512 * 1024);
        let rss_kib = 498 * 1024 + 3;
        for (memory, expected) in [
            (
                MemoryFacts { oom_kills: Some((4, 5)), limit_kib, rss_kib },
                "SIGKILL, cgroup out of memory: limit 512 MiB, last RSS 498 MiB",
            ),
            (
                MemoryFacts { oom_kills: Some((4, 5)), limit_kib: None, rss_kib: 0 },
                "SIGKILL, the machine is out of memory: the cgroup has no limit",
            ),
            (
                MemoryFacts { oom_kills: Some((5, 5)), limit_kib, rss_kib },
                "SIGKILL from outside: not by Portico and not by the cgroup's OOM killer, last RSS 498 MiB; the \
                 kernel's log (dmesg) has more if it was the kernel",
            ),
            (
                MemoryFacts { oom_kills: None, limit_kib, rss_kib: 0 },
                "SIGKILL from outside, not by Portico; whether memory was short cannot be told here (the cgroup's \
                 counter is not readable): see the kernel's log (dmesg)",
            ),
        ] {
            assert_eq!(KILL.cause(None, &memory), expected);
        }
    }

    #[test]
    fn every_signal_has_a_name_and_a_meaning() {
        for signal in 1..=64 {
            let text = ProcessEnd::Signaled { signal, core: false }.cause(None, &MemoryFacts::default());
            let (name, meaning) = text.split_once([':', ' ']).unwrap();
            assert!(name.starts_with("SIG") || name == "signal", "{text}");
            assert!(meaning.len() > 10, "{text}");
        }
    }

    #[test]
    fn spans_are_in_their_two_largest_units() {
        for (seconds, text) in [
            (0.04, "0.0 s"),
            (59.9, "59.9 s"),
            (61.0, "1 min 1 s"),
            (7_384.0, "2 h 3 min"),
            (200_000.0, "2 d 7 h"),
        ] {
            assert_eq!(span(Duration::from_secs_f64(seconds)), text);
        }
    }
}
