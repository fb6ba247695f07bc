//! The log files of all processes: opened by the one that may, written by all.
//!
//! Under a supervisor that opens them, at the start and at SIGUSR1, and each process has its descriptors: the
//! workers' user need not be able to open them, and root opens nothing at a worker's word.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use portico_config::{Config, LogTarget};
use portico_files::open_log;
use portico_log::Destination;
use portico_supervisor::LogFiles;
use rustix::fs::{FileType, fstat};

use crate::error::SystemError;
use crate::setup::{WorkerSetup, opening};
use crate::{logging, raw};

/// Where the access log goes in a process that opens it itself.
pub fn destination(target: &LogTarget) -> Destination {
    path_of(target).map_or(Destination::Stdout, Destination::File)
}

/// Opens the access log for all processes; `None` where its lines go to no file, or to a logger of Python.
///
/// # Errors
/// It cannot be opened.
pub fn open_access_log(config: &Config) -> Result<Option<Arc<File>>, SystemError> {
    let target = config.access_log.as_ref().filter(|_| !config.python_logging.is_in_force());
    let Some((target, path)) = target.and_then(|target| Some((target, path_of(target)?))) else {
        return Ok(None);
    };
    let file = open_log(&path, logging::owner());
    let file = file.map_err(|error| SystemError::new(&opening("access log", target), &error))?;
    Ok(Some(Arc::new(file)))
}

/// The log files have been moved away: opens them again, and returns them for other processes. Where that fails,
/// the former one goes on being written.
pub fn reopen(setup: &WorkerSetup) -> LogFiles {
    LogFiles { error: logging::reopen(), access: reopen_access_log(setup) }
}

/// The supervisor has opened them again: writes to these from now on.
pub fn take(setup: &WorkerSetup, files: LogFiles) {
    if let Some(file) = files.error {
        logging::replace(file);
    }
    if let (Some(file), Some(opened)) = (&setup.access_log, &files.access)
        && let Err(error) = replace(file, opened)
    {
        log::error!("the access log that was opened again cannot be taken: {error}");
    }
}

/// Makes `file` the file that was opened again; not where an application has closed its descriptor, and a client
/// has that by now.
fn replace(file: &File, opened: &OwnedFd) -> io::Result<()> {
    let kind =
        |descriptor: BorrowedFd<'_>| fstat(descriptor).map(|status| FileType::from_raw_mode(status.st_mode));
    if kind(file.as_fd())? != kind(opened.as_fd())? {
        return Err(io::Error::other("the application has closed its descriptor"));
    }
    raw::replace_file(file, opened)
}

fn reopen_access_log(setup: &WorkerSetup) -> Option<OwnedFd> {
    let file = setup.access_log.as_ref()?;
    let path = setup.config.access_log.as_ref().and_then(path_of)?;
    let opened = open_log(&path, logging::owner()).map(OwnedFd::from);
    match opened.and_then(|opened| replace(file, &opened).map(|()| opened)) {
        Ok(opened) => Some(opened),
        Err(error) => {
            log::error!("opening the access log {} again failed: {error}", path.display());
            None
        }
    }
}

/// The file of the access log; `None` where that is standard output.
pub fn path_of(target: &LogTarget) -> Option<PathBuf> {
    match target {
        LogTarget::Stdout => None,
        LogTarget::Stderr => Some("/dev/stderr".into()),
        // The application may change to another folder before the file is opened again.
        LogTarget::File(path) => Some(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
    }
}
