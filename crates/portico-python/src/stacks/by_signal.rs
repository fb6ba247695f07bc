//! Stacks that each thread writes by itself, at a signal: for an interpreter without a GIL.
//!
//! There a thread's frames may be looked at by that thread alone: they come and go while another one looks. Python
//! stops all threads for `sys._current_frames()`, but they run again while what that gives is read; and it waits
//! for C code that does not let go of the interpreter, and all threads with it. So each thread is interrupted, and
//! Python's faulthandler writes in it; one that waits in a system call goes on waiting.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use portico_supervisor::{StacksFile, stacks_signal, without_start};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::raw;

/// The file in which threads write their stacks, one at a time. `portico stacks` reads another file, which this
/// must not empty.
#[derive(Debug)]
pub(crate) struct SingleStacks(Mutex<StacksFile>);

/// The signal at which they do.
fn signal() -> i32 {
    stacks_signal() + 1
}

/// How long a thread may take to write: it is a matter of microseconds, where it gets a CPU.
const PATIENCE: Duration = Duration::from_millis(250);

/// How often it is looked whether it has.
const PAUSE: Duration = Duration::from_micros(200);

impl SingleStacks {
    /// Prepares this process, as `Stacks::install` does.
    ///
    /// # Errors
    /// The process has no descriptor left; the faulthandler's.
    pub(crate) fn install(py: Python<'_>) -> PyResult<Self> {
        let file = StacksFile::of_single_threads()?;
        let keywords = PyDict::new(py);
        keywords.set_item("file", file.as_fd().as_raw_fd())?;
        py.import("faulthandler")?.call_method("register", (signal(),), Some(&keywords))?;
        Ok(Self(Mutex::new(file)))
    }

    /// Ends that.
    ///
    /// # Errors
    /// The faulthandler's.
    pub(crate) fn uninstall(&self, py: Python<'_>) -> PyResult<()> {
        py.import("faulthandler")?.call_method1("unregister", (signal(),)).map(drop)
    }

    /// The frames of the thread with the kernel's number `thread`, the most recent one last, each as the
    /// faulthandler writes it; none if it has nothing to do with Python, or does not get to it in time. To be
    /// called without the interpreter: it may be that for which the thread waits.
    ///
    /// # Errors
    /// The kernel's: there is no such thread.
    pub(crate) fn frames_of(&self, thread: u64) -> io::Result<Vec<String>> {
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = written(thread, &file)?;
        for _ in 1..ATTEMPTS {
            // It was just entering or leaving a function.
            if !UNFINISHED.iter().any(|mark| text.contains(mark)) {
                break;
            }
            thread::sleep(PAUSE);
            text = written(thread, &file)?;
        }
        // Where the GIL has been turned on it writes those of all threads.
        let own = text.lines().skip_while(|line| !line.starts_with("Current thread ")).skip(1);
        let own = own.take_while(|line| line.starts_with("  "));
        let own = own.filter(|line| !["<no Python frame>", "<invalid frame>"].contains(&line.trim()));
        let mut frames: Vec<String> = own.map(|line| format!("{line}\n")).collect();
        frames.reverse();
        Ok(frames)
    }
}

/// What the faulthandler writes of a frame that it cannot read because it is being made, or has just ended.
const UNFINISHED: [&str; 2] = ["<invalid frame>", "line ???"];

/// How often a thread is asked that is found so.
const ATTEMPTS: u32 = 10;

/// What the thread writes into `file`.
fn written(thread: u64, file: &StacksFile) -> io::Result<String> {
    file.clear()?;
    raw::send_signal_to_thread(thread, signal())?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        // In this order: once something is written the handler runs, until the thread says that it does not.
        if !file.read()?.is_empty() && !is_in_handler(thread)? {
            break;
        }
        thread::sleep(PAUSE);
    }
    file.read()
}

/// Whether the signal waits for the thread, or is blocked in it, as it is while its handler runs
/// (proc_pid_status(5)).
fn is_in_handler(thread: u64) -> io::Result<bool> {
    let status = fs::read_to_string(format!("/proc/self/task/{thread}/status"))?;
    let is_set = |field: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(field)).map(str::trim);
        let mask = mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or_default();
        mask >> (signal() - 1) & 1 != 0
    };
    Ok(is_set("SigPnd:") || is_set("SigBlk:"))
}

/// As Python prints them: each with its line of the source.
///
/// # Errors
/// What formatting them raises.
pub(crate) fn with_sources(py: Python<'_>, frames: &[String]) -> PyResult<String> {
    let format = py.import("traceback")?.getattr("format_list")?;
    let mut entries = Vec::new();
    for frame in frames {
        match parts(frame) {
            Some((file, line, name)) => {
                let entry = (file, line, name, None::<&str>);
                entries.push(format.call1(([entry],))?.get_item(0)?.str()?.to_string_lossy().into_owned());
            }
            None => entries.push(frame.clone()),
        }
    }
    Ok(without_start(&entries))
}

/// The file, the line and the function of `  File "shop/views.py", line 7 in index`.
pub(crate) fn parts(frame: &str) -> Option<(&str, u32, &str)> {
    let (file, rest) = frame.trim().strip_prefix("File \"")?.rsplit_once("\", line ")?;
    let (line, name) = rest.split_once(" in ")?;
    Some((file, line.parse().ok()?, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_the_faulthandler_has_three_parts() {
        assert_eq!(parts("  File \"shop/views.py\", line 7 in index\n"), Some(("shop/views.py", 7, "index")));
        let odd = "  File \"a\", line 1 in b.py\", line 7 in f in g\n";
        assert_eq!(parts(odd), Some(("a\", line 1 in b.py", 7, "f in g")), "the last line number counts");
        for other in ["  <invalid frame>\n", "  File \"a.py\", line ??? in f\n", ""] {
            assert_eq!(parts(other), None, "{other}");
        }
    }
}
