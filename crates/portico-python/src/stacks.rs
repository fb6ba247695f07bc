//! The Python stacks of this process' threads: through the interpreter, or without it where C code holds it.
//!
//! Without it they come from Python's faulthandler, which writes them from within a signal's handler into a file
//! in memory. `portico stacks` reads that file too: what is told to it is written there. Its length cannot be
//! sealed, since the faulthandler appends to it; nobody maps it, and nobody reads more than [`DUMP_BYTES_MAX`].

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, ftruncate, memfd_create};
use rustix::io::pread;
use signal_hook::low_level;

use crate::raw;
use crate::record::{Record, Records};

/// Where the stacks of this process are written.
#[derive(Debug)]
pub struct Stacks {
    file: OwnedFd,
    /// The thread that was Python's main one.
    main_ident: u64,
}

/// One thread's stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadStack {
    /// `threading.get_ident()`
    pub ident: u64,
    /// Its name, where that is known.
    pub name: Option<String>,
    /// Its frames, the most recent one last, as Python prints them.
    pub frames: String,
}

/// The file's name, under which `portico stacks` finds it among the descriptors of a worker.
const FILE_NAME: &str = "portico-stacks";

/// More than that is not read: the faulthandler writes at most 100 threads of 100 frames.
const DUMP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The signal at which the faulthandler writes. Python's own `signal` module leaves the real-time ones alone, and
/// so do the profilers and application servers that are known (uWSGI, gunicorn, py-spy, gevent).
pub fn signal() -> i32 {
    libc::SIGRTMIN() + 6
}

impl Stacks {
    /// Prepares this process: from now on [`signal`] has it write its stacks. To be called in its main thread,
    /// after the last fork.
    ///
    /// # Errors
    /// The kernel's, when descriptors have run out; the faulthandler's.
    pub fn install(py: Python<'_>) -> PyResult<Self> {
        let file = memfd_create(FILE_NAME, MemfdFlags::CLOEXEC).map_err(io::Error::from)?;
        // What several write at the same time stays whole, and nobody has a position that a cut leaves behind.
        fcntl_setfl(&file, OFlags::APPEND).map_err(io::Error::from)?;
        let keywords = PyDict::new(py);
        keywords.set_item("file", file.as_raw_fd())?;
        keywords.set_item("all_threads", true)?;
        py.import("faulthandler")?.call_method("register", (signal(),), Some(&keywords))?;
        Ok(Self { file, main_ident: raw::thread_ident(py) })
    }

    /// Ends what [`Stacks::install`] has begun.
    pub fn uninstall(&self, py: Python<'_>) {
        let unregistered =
            py.import("faulthandler").and_then(|module| module.call_method1("unregister", (signal(),)));
        if let Err(error) = unregistered {
            log::debug!("the faulthandler: {error}");
        }
    }

    /// All stacks, without the interpreter.
    ///
    /// # Errors
    /// The kernel's; none is expected.
    pub fn dump(&self) -> io::Result<Vec<ThreadStack>> {
        self.clear()?;
        // To the calling thread: when this returns, the handler has run.
        low_level::raise(signal())?;
        let mut stacks = parse(&self.read()?);
        for stack in &mut stacks {
            if stack.ident == self.main_ident {
                stack.name = Some("MainThread".to_owned());
            }
        }
        Ok(stacks)
    }

    /// Writes `stacks` for `portico stacks` to read.
    ///
    /// # Errors
    /// The kernel's: no memory.
    pub fn publish(&self, stacks: &[ThreadStack]) -> io::Result<()> {
        self.clear()?;
        let text: String = stacks.iter().map(ThreadStack::to_string).collect();
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let count = rustix::io::write(&self.file, rest)?;
            rest = &rest[count..];
        }
        Ok(())
    }

    fn clear(&self) -> io::Result<()> {
        Ok(ftruncate(&self.file, 0)?)
    }

    fn read(&self) -> io::Result<String> {
        let mut text = Vec::new();
        let mut block = [0; 16 * 1024];
        while text.len() < DUMP_BYTES_MAX {
            let count = pread(&self.file, &mut block, text.len() as u64)?;
            if count == 0 {
                break;
            }
            text.extend_from_slice(&block[..count]);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

impl AsFd for Stacks {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl std::fmt::Display for ThreadStack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.name.as_deref().unwrap_or("-");
        write!(f, "Thread 0x{:016x} {name}\n{}", self.ident, self.frames)
    }
}

/// The stack of the thread or greenlet with this record; `None` if it has none, or has ended.
///
/// # Errors
/// What formatting it raises.
pub fn of(py: Python<'_>, record: &Record) -> PyResult<Option<String>> {
    let waiting = record.greenlet().and_then(|greenlet| greenlet.frame(py));
    let frame = match waiting {
        Some(frame) => Some(frame),
        None => current_frames(py)?.get_item(record.thread_ident())?,
    };
    frame.map(|frame| format(&frame)).transpose()
}

/// The stacks of all threads that Python knows, and of the greenlets with `records`.
///
/// # Errors
/// What formatting them raises.
pub fn all(py: Python<'_>, records: Option<&Records>) -> PyResult<Vec<ThreadStack>> {
    let names = names(py)?;
    let (mut stacks, mut running) = (Vec::new(), None);
    let greenlets = records.into_iter().flat_map(Records::iter).filter(|record| record.greenlet().is_some());
    for record in greenlets {
        let in_call = record.thread().running().is_some();
        let frame = record.greenlet().and_then(|greenlet| greenlet.frame(py)).filter(|_| in_call);
        let frames = match frame {
            Some(frame) => format(&frame)?,
            None if in_call => {
                running = Some(record);
                continue;
            }
            None => String::new(),
        };
        stacks.push(ThreadStack { ident: record.ident(), name: Some(record.thread_name()), frames });
    }
    for (ident, frame) in current_frames(py)? {
        let (ident, frames) = (ident.extract()?, format(&frame)?);
        let name = names.iter().find(|(known, _)| *known == ident).map(|(_, name)| name.clone());
        stacks.push(match running.filter(|record| record.thread_ident() == ident) {
            Some(record) => ThreadStack { ident: record.ident(), name: Some(record.thread_name()), frames },
            None => ThreadStack { ident, name, frames },
        });
    }
    Ok(stacks)
}

/// Logs the stacks of all threads: what SIGUSR2 asks a worker for.
pub fn log_all(py: Python<'_>, records: Option<&Records>) {
    match all(py, records) {
        Ok(stacks) => {
            let text: String = stacks.iter().map(ThreadStack::to_string).collect();
            log::info!("Stacks of all threads:\n{text}");
        }
        Err(error) => log::warn!("the stacks that were asked for could not be told: {error}"),
    }
}

fn current_frames(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    Ok(py.import("sys")?.call_method0(intern!(py, "_current_frames"))?.cast_into::<PyDict>()?)
}

fn names(py: Python<'_>) -> PyResult<Vec<(u64, String)>> {
    let threads = py.import("threading")?.call_method0("enumerate")?;
    let named = threads.try_iter()?.map(|thread| {
        let thread = thread?;
        Ok((thread.getattr("ident")?.extract()?, thread.getattr("name")?.extract()?))
    });
    named.collect()
}

fn format(frame: &Bound<'_, PyAny>) -> PyResult<String> {
    let lines = frame.py().import("traceback")?.call_method1("format_stack", (frame,))?;
    let mut entries = Vec::new();
    for line in lines.cast::<PyList>()? {
        entries.push(line.str()?.to_string_lossy().into_owned());
    }
    Ok(without_start(&entries))
}

/// What stands in the file of a process: what that has told, or what its faulthandler has written.
///
/// # Errors
/// `NotFound` if it has no such file; what else keeps it from being read.
pub fn told_by(pid: u32) -> io::Result<Vec<ThreadStack>> {
    let mut bytes = Vec::new();
    // How long it is, is up to the process.
    File::open(file_of(pid)?)?.take(DUMP_BYTES_MAX as u64).read_to_end(&mut bytes)?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

/// Empties the file of a process, and has that write its stacks there, without its interpreter and without any
/// thread of it in particular. `false` if it could not: it does not expect the signal, which would end it.
///
/// # Errors
/// As [`told_by`].
pub fn ask(pid: u32) -> io::Result<bool> {
    let file = file_of(pid)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    // proc_pid_status(5): the signals that have a handler, in hexadecimal.
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    if caught >> (signal() - 1) & 1 == 0 {
        return Ok(false);
    }
    File::options().write(true).open(file)?.set_len(0)?;
    raw::send_signal(pid, signal())?;
    Ok(true)
}

fn file_of(pid: u32) -> io::Result<PathBuf> {
    let wanted = format!("/memfd:{FILE_NAME}");
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        if fs::read_link(&path).is_ok_and(|link| link.to_string_lossy().starts_with(&wanted)) {
            return Ok(path);
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Reads stacks as they are [published](Stacks::publish) or as the faulthandler writes them, which has the most
/// recent frame first.
fn parse(text: &str) -> Vec<ThreadStack> {
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
fn without_start(frames: &[String]) -> String {
    let starts = |frame: &String| {
        let first = frame.lines().next().unwrap_or_default();
        first.contains("/threading.py\"") && (first.ends_with(" run") || first.contains(" _bootstrap"))
    };
    let kept = frames.iter().position(|frame| !starts(frame)).unwrap_or(frames.len());
    frames[kept..].concat()
}
