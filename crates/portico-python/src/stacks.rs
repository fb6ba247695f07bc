//! The Python stacks of this process' threads: through the interpreter, or without it where C code holds it.
//! Without a GIL each thread writes its own (`by_signal.rs`).
//!
//! Without it they come from Python's faulthandler, which writes them from within a signal's handler into a file
//! in memory. The supervisor has made that; `portico stacks` reads it too: what is told to it is written there.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use portico_supervisor::{StacksFile, ThreadStack, parse_stacks, stacks_signal, without_start};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use signal_hook::low_level;

use crate::thread_status::{ThreadStatus, ThreadStatuses};
use crate::{interpreter, raw};

use by_signal::SingleStacks;
pub(crate) use by_signal::parts;

mod by_signal;

/// The files that the stacks of this process are written to.
#[derive(Debug)]
pub(crate) struct Stacks {
    file: StacksFile,
    /// The thread that was Python's main one.
    main_ident: u64,
    /// Of a free-threaded interpreter, whose faulthandler writes the stack of the thread that it runs in alone.
    single: Option<SingleStacks>,
}

impl Stacks {
    /// Prepares this process: from now on [`stacks_signal`] has it write its stacks into `file`. To be called in
    /// its main thread, after the last fork.
    ///
    /// # Errors
    /// The faulthandler's.
    pub(crate) fn install(py: Python<'_>, file: StacksFile) -> PyResult<Self> {
        let keywords = PyDict::new(py);
        keywords.set_item("file", file.as_fd().as_raw_fd())?;
        // Of a free-threaded interpreter: that of the thread that gets the signal.
        keywords.set_item("all_threads", true)?;
        py.import("faulthandler")?.call_method("register", (stacks_signal(),), Some(&keywords))?;
        let single = cfg!(Py_GIL_DISABLED).then(|| SingleStacks::install(py)).transpose()?;
        Ok(Self { file, main_ident: raw::thread_ident(py), single })
    }

    /// Ends what [`Stacks::install`] has begun.
    pub(crate) fn uninstall(&self, py: Python<'_>) {
        let unregistered = py
            .import("faulthandler")
            .and_then(|module| module.call_method1("unregister", (stacks_signal(),)));
        let single = self.single.iter().map(|single| single.uninstall(py));
        for error in [unregistered.map(drop)].into_iter().chain(single).filter_map(Result::err) {
            log::debug!("the faulthandler: {error}");
        }
    }

    /// All stacks, without the interpreter. Of a free-threaded one: those of the main thread and of `records`.
    ///
    /// # Errors
    /// The kernel's; none is expected.
    pub(crate) fn dump(&self, records: &ThreadStatuses) -> io::Result<Vec<ThreadStack>> {
        if let Some(single) = &self.single {
            return Ok(self.dump_each(single, records));
        }
        self.file.clear()?;
        // To the calling thread: when this returns, the handler has run.
        low_level::raise(stacks_signal())?;
        let mut stacks = parse_stacks(&self.file.read()?);
        for stack in &mut stacks {
            if stack.ident == self.main_ident {
                stack.name = Some("MainThread".to_owned());
            }
        }
        Ok(stacks)
    }

    fn dump_each(&self, single: &SingleStacks, records: &ThreadStatuses) -> Vec<ThreadStack> {
        let threads = records
            .iter()
            .map(|record| (record.thread_ident(), record.thread().native_id(), Some(record.thread_name())));
        let main = (self.main_ident, u64::from(std::process::id()), Some("MainThread".to_owned()));
        let threads = threads.filter(|(ident, ..)| *ident != 0).chain([main]);
        let written = threads.map(|(ident, thread, name)| {
            // One that has ended meanwhile has none.
            let frames = single.frames_of(thread).unwrap_or_default();
            ThreadStack { ident, name, frames: without_start(&frames) }
        });
        written.collect()
    }

    /// The frames of the thread with the kernel's number `thread`, the innermost last, as the faulthandler writes
    /// them; `None` where there is a GIL, so that `sys._current_frames()` has them. Needs no interpreter.
    pub(crate) fn frames_by_signal(&self, thread: u64) -> Option<Vec<String>> {
        let single = self.single.as_ref().filter(|_| interpreter::has_no_gil())?;
        // One that has ended meanwhile has none.
        Some(single.frames_of(thread).unwrap_or_default())
    }

    /// Where the threads write their own stacks because no other may look at them at this moment.
    fn single(&self, py: Python<'_>) -> PyResult<Option<&SingleStacks>> {
        let Some(single) = &self.single else { return Ok(None) };
        Ok(interpreter::look(py)?.has_no_gil().then_some(single))
    }

    /// Writes `stacks` for `portico stacks` to read.
    ///
    /// # Errors
    /// The kernel's: no memory.
    pub(crate) fn publish(&self, stacks: &[ThreadStack]) -> io::Result<()> {
        self.file.clear()?;
        let text: String = stacks.iter().map(ThreadStack::to_string).collect();
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let count = rustix::io::write(&self.file, rest)?;
            rest = &rest[count..];
        }
        Ok(())
    }
}

impl AsFd for Stacks {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The stack of the thread or greenlet with this record; `None` if it has none, or has ended.
///
/// # Errors
/// What formatting it raises.
pub(crate) fn of(py: Python<'_>, record: &ThreadStatus, stacks: &Stacks) -> PyResult<Option<String>> {
    let waiting = record.greenlet().and_then(|greenlet| greenlet.frame(py));
    if waiting.is_none()
        && let Some(single) = stacks.single(py)?
    {
        return written_by(py, single, record.thread().native_id()).map(Some);
    }
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
pub(crate) fn all(
    py: Python<'_>,
    records: Option<&ThreadStatuses>,
    own: Option<&Stacks>,
) -> PyResult<Vec<ThreadStack>> {
    if let Some(single) = own.map(|own| own.single(py)).transpose()?.flatten() {
        return all_single(py, single);
    }
    let names = names(py)?;
    let (mut stacks, mut running) = (Vec::new(), None);
    let greenlets =
        records.into_iter().flat_map(ThreadStatuses::iter).filter(|record| record.greenlet().is_some());
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

/// As [`all`], each written by its own thread.
fn all_single(py: Python<'_>, single: &SingleStacks) -> PyResult<Vec<ThreadStack>> {
    let mut stacks = Vec::new();
    for thread in py.import("threading")?.call_method0("enumerate")?.try_iter()? {
        let thread = thread?;
        let native_id: Option<u64> = thread.getattr("native_id")?.extract()?;
        let (Some(native_id), Some(ident)) = (native_id, thread.getattr("ident")?.extract()?) else {
            continue;
        };
        // One that has ended meanwhile has none.
        let frames = written_by(py, single, native_id).unwrap_or_default();
        stacks.push(ThreadStack { ident, name: Some(thread.getattr("name")?.extract()?), frames });
    }
    Ok(stacks)
}

/// What the thread with the kernel's number `thread` is at, as Python prints it.
fn written_by(py: Python<'_>, single: &SingleStacks, thread: u64) -> PyResult<String> {
    let frames = py.detach(|| single.frames_of(thread))?;
    by_signal::with_sources(py, &frames)
}

/// Logs the stacks of all threads: what SIGUSR2 asks a worker for.
pub(crate) fn log_all(py: Python<'_>, records: Option<&ThreadStatuses>, own: Option<&Stacks>) {
    match all(py, records, own) {
        Ok(stacks) => {
            let text: String = stacks.iter().map(ThreadStack::to_string).collect();
            log::info!("Stacks of all threads:\n{text}");
        }
        Err(error) => log::warn!("the stacks that were asked for could not be told: {error}"),
    }
}

/// The innermost frame of each thread that Python knows, by its identity.
///
/// # Errors
/// Out of memory only.
pub(crate) fn current_frames(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
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
