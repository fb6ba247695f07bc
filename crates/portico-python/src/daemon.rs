//! `--daemon`: the process leaves its terminal, and the one that was started stays until it is known whether the
//! daemon serves, to say so and to end with its status.
//!
//! Between both is a pipe: what went wrong, as text, and at the end a zero byte and the exit status.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use rustix::pipe::{PipeFlags, pipe_with};
use signal_hook::low_level;

use crate::fork::flush_output;

/// The way to the process that was started, while it waits.
static LINE: Mutex<Option<Line>> = Mutex::new(None);

struct Line {
    pipe: File,
    /// Whether standard error goes nowhere.
    mute: bool,
}

/// Goes on in a process that has no terminal, and whose parent is none of the shell's. Standard output and error
/// are kept with `inherit`, unless they are a terminal. The process must have one thread.
///
/// # Errors
/// The system's; in the process that was started, what a signal's handler raises while it waits.
pub fn detach(py: Python<'_>, inherit: bool) -> PyResult<()> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let os = py.import("os")?;
    flush_output(py); // Else it would be written twice.
    if os.call_method0("fork")?.extract::<u32>()? != 0 {
        drop(writer);
        return wait(py, File::from(reader));
    }
    drop(reader);
    os.call_method0("setsid")?;
    // The leader of a session could come to a terminal again.
    if os.call_method0("fork")?.extract::<u32>()? != 0 {
        low_level::exit(0);
    }
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null).map_err(io::Error::from)?;
    let mute = !inherit || io::stderr().is_terminal();
    if !inherit || io::stdout().is_terminal() {
        rustix::stdio::dup2_stdout(&null).map_err(io::Error::from)?;
    }
    if mute {
        rustix::stdio::dup2_stderr(&null).map_err(io::Error::from)?;
    }
    *line() = Some(Line { pipe: writer.into(), mute });
    Ok(())
}

/// Has the process that was started say this. `false` if none waits, or if it can be read on standard error
/// anyway.
pub fn tell(text: &str, on_stderr_too: bool) -> bool {
    match &mut *line() {
        // Nobody reads it any more: nothing is lost with it that matters.
        Some(Line { pipe, mute }) if *mute || !on_stderr_too => pipe.write_all(text.as_bytes()).is_ok(),
        _ => false,
    }
}

/// Has the process that was started end with this status; the second time nothing is left to do.
pub fn settle(status: i32) {
    if let Some(mut line) = line().take() {
        // It has ended already, if this fails.
        let _ = line.pipe.write_all(&[0, u8::try_from(status).unwrap_or(u8::MAX)]);
    }
}

/// In a process that this one has forked: the line is the parent's.
pub fn forget() {
    line().take();
}

fn line() -> MutexGuard<'static, Option<Line>> {
    LINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits in the process that was started, and ends it.
fn wait(py: Python<'_>, mut pipe: File) -> PyResult<()> {
    let mut buffer = [0; 4096];
    let mut told = Vec::new();
    loop {
        match py.detach(|| pipe.read(&mut buffer)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => py.check_signals()?,
            Ok(0) | Err(_) => {
                say(&told);
                say(b"portico: error: the daemon has died while it started\n");
                low_level::exit(1);
            }
            Ok(count) => told.extend_from_slice(&buffer[..count]),
        }
        if let Some(end) = told.iter().position(|byte| *byte == 0)
            && let Some(status) = told.get(end + 1)
        {
            say(&told[..end]);
            low_level::exit(i32::from(*status));
        }
    }
}

fn say(text: &[u8]) {
    // A closed standard error is no error of the server's.
    let _ = io::stderr().write_all(text);
}
