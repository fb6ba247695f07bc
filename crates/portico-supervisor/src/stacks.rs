//! The stacks of a process' threads as text: as it writes them into its [`StacksFile`], as Python's faulthandler
//! does, and how either is read; and how a process is asked for them.

use std::os::fd::OwnedFd;
use std::{fmt, fs, io};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use crate::stacks_file::StacksFile;

/// The stack of one thread, with its name and its request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadStack {
    /// `threading.get_ident()`
    pub ident: u64,
    /// Its name, where that is known.
    pub name: Option<String>,
    /// Its frames, the most recent one last, as Python prints them.
    pub frames: String,
}

/// The signal at which the faulthandler writes. Python's own `signal` module leaves the real-time ones alone, and
/// so do the profilers and application servers that are known (uWSGI, gunicorn, py-spy, gevent).
pub fn stacks_signal() -> i32 {
    libc::SIGRTMIN() + 6
}

impl fmt::Display for ThreadStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("-");
        write!(f, "Thread 0x{:016x} {name}\n{}", self.ident, self.frames)
    }
}

/// What stands in the file of a process: what that has told, or what its faulthandler has written.
///
/// # Errors
/// What keeps it from being read.
pub fn stacks_in(file: &StacksFile) -> io::Result<Vec<ThreadStack>> {
    Ok(parse_stacks(&file.read()?))
}

/// Empties `file`, the one of the process `pid`, and has that write its stacks there, without its interpreter and
/// without any thread of it in particular. `parent` has made the file: it is that process, or has started it.
/// `false` if it could not: it does not expect the signal, which would end it.
///
/// # Errors
/// There is no such process; it is another one's child, whose number the application may have named.
pub fn ask_stacks(pid: u32, file: &StacksFile, parent: u32) -> io::Result<bool> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let process = match pidfd_open(number, PidfdFlags::empty()) {
        Ok(process) => Some(process),
        Err(Errno::NOSYS | Errno::PERM) => None, // Before Linux 5.3, and in containers that know none of it.
        Err(error) => return Err(error.into()),
    };
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let is_its = |text: &str| text.parse() == Ok(parent);
    if pid != parent && !field("PPid:").is_some_and(is_its) {
        return Err(io::ErrorKind::NotFound.into());
    }
    // proc_pid_status(5): the signals that have a handler, in hexadecimal.
    let caught = field("SigCgt:").and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or_default();
    if caught >> (stacks_signal() - 1) & 1 == 0 {
        return Ok(false);
    }
    file.clear()?;
    send(number, process.as_ref())?;
    Ok(true)
}

/// Sends [`stacks_signal`] to the process that `process` (pidfd_open(2)) is, whoever has its number by now; else
/// to the one with this number.
fn send(number: Pid, process: Option<&OwnedFd>) -> io::Result<()> {
    // SAFETY: the number is sent and no more; that the C library may use some signals itself, for which rustix
    // wants it to be looked at, is a matter of handlers.
    let signal = unsafe { Signal::from_raw_unchecked(stacks_signal()) };
    match process {
        Some(process) => pidfd_send_signal(process, signal)?,
        None => kill_process(number, signal)?,
    }
    Ok(())
}

/// Reads stacks as they are published by `Display` or as the faulthandler writes them, which has the most
/// recent frame first.
pub fn parse_stacks(text: &str) -> Vec<ThreadStack> {
    let mut stacks: Vec<(&str, Vec<String>)> = Vec::new();
    for line in text.lines() {
        let heading = line.strip_prefix("Current thread 0x").or_else(|| line.strip_prefix("Thread 0x"));
        if let Some(heading) = heading {
            stacks.push((heading, Vec::new()));
        } else if let Some((_, frames)) = stacks.last_mut().filter(|_| !line.is_empty()) {
            frames.push(format!("{line}\n"));
        }
    }
    let stack = |(heading, mut frames): (&str, Vec<String>)| {
        let (digits, rest) = heading.split_once(' ').unwrap_or((heading, ""));
        let ident = u64::from_str_radix(digits, 16).unwrap_or_default();
        if rest.ends_with("(most recent call first):") {
            frames.reverse();
            // Threads of ours and of C libraries have none.
            frames.retain(|frame| frame.trim() != "<no Python frame>");
            return ThreadStack { ident, name: None, frames: without_start(&frames) };
        }
        let name = Some(rest.to_owned()).filter(|name| !name.is_empty() && name != "-");
        ThreadStack { ident, name, frames: frames.concat() }
    };
    stacks.into_iter().map(stack).collect()
}

/// The frames less those by which `threading` starts a thread.
pub fn without_start(frames: &[String]) -> String {
    let starts = |frame: &String| {
        let first = frame.lines().next().unwrap_or_default();
        first.contains("/threading.py\"") && (first.ends_with(" run") || first.contains(" _bootstrap"))
    };
    let kept = frames.iter().position(|frame| !starts(frame)).unwrap_or(frames.len());
    frames[kept..].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Python's faulthandler writes it: the most recent frame first, the thread that got the signal last.
    const FAULTHANDLER: &str = "\
Thread 0x00007f01 (most recent call first):
  <no Python frame>

Current thread 0x00007f00 (most recent call first):
  File \"shop/views.py\", line 7 in index
  File \"/usr/lib/python3.11/threading.py\", line 982 in run
  File \"/usr/lib/python3.11/threading.py\", line 1045 in _bootstrap_inner
";

    #[test]
    fn stacks_of_the_faulthandler_are_read() {
        let stacks = parse_stacks(FAULTHANDLER);
        assert_eq!(stacks.iter().map(|stack| stack.ident).collect::<Vec<_>>(), [0x7f01, 0x7f00]);
        assert_eq!(stacks[0].frames, "", "a thread of a C library has none");
        assert!(stacks[1].frames.ends_with("  File \"shop/views.py\", line 7 in index\n"), "{stacks:?}");
        assert_eq!(stacks[1].name, None);
    }

    #[test]
    fn what_is_published_is_read_back() {
        let stacks = [
            ThreadStack { ident: 7, name: Some("portico-1".to_owned()), frames: "  File \"a\"\n".to_owned() },
            ThreadStack { ident: 8, name: None, frames: String::new() },
        ];
        let text: String = stacks.iter().map(ThreadStack::to_string).collect();
        assert_eq!(parse_stacks(&text), stacks);
    }

    #[test]
    fn frames_that_start_a_thread_are_left_out() {
        let frames = ["File \"/lib/threading.py\", line 1, in _bootstrap\n", "File \"a.py\", line 2, in f\n"];
        assert_eq!(without_start(&frames.map(str::to_owned)), frames[1]);
        assert_eq!(without_start(&[frames[0].to_owned()]), "");
    }

    #[test]
    fn a_process_without_the_handler_is_not_signalled() {
        let file = StacksFile::of_worker(81).unwrap();
        let own = std::process::id();
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        assert!(!ask_stacks(child.id(), &file, own).unwrap(), "the signal would end it");
        assert_eq!(ask_stacks(child.id(), &file, 1).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(ask_stacks(0, &file, own).is_err());
    }
}
