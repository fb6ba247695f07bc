//! `--daemon`: the process leaves its terminal, and the one that was started stays until it is known whether the
//! daemon serves, to say so and to end with its status.
//!
//! Between both is a pipe, whose writing end is a [`StartPipe`].

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};

use portico_worker::StartPipe;
use pyo3::prelude::*;
use rustix::pipe::{PipeFlags, pipe_with};
use signal_hook::low_level;

use crate::fork::flush_output;

/// Goes on in a process that has no terminal, and whose parent is none of the shell's. Standard output and error
/// are kept with `inherit`, unless they are a terminal. The process must have one thread.
///
/// # Errors
/// The system's; in the process that was started, what a signal's handler raises while it waits.
pub(crate) fn detach(py: Python<'_>, inherit: bool) -> PyResult<()> {
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
    StartPipe::new(writer.into(), mute).keep();
    Ok(())
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
        if let Some((text, status)) = StartPipe::read(&told) {
            say(text);
            low_level::exit(status);
        }
    }
}

fn say(text: &[u8]) {
    // A closed standard error is no error of the server's.
    let _ = io::stderr().write_all(text);
}
