//! The steps of a start that a lone process, the supervisor and `portico check` have in common: the folder, the
//! log, the environment, where modules are found, and the addresses. Each calls them in its own order.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portico_net::Listener;
use pyo3::prelude::*;

use portico_config::{Config, Resolved};
use portico_files::Owner;
use portico_os::Folder;
use portico_worker::{WorkerSetup, going_to, logging, no_upload_folder, opening, plain, telemetry};

use super::environment;
use super::start_error::{StartError, system};
use crate::{import_path, interpreter};

/// Goes to the folder, opens the log and fills the environment. `start` is the folder that a program of its own
/// was started in.
pub(crate) fn set_up(
    py: Python<'_>,
    resolved: &Resolved,
    start: Option<&Folder>,
) -> Result<WorkerSetup, StartError> {
    let config = resolved.config.clone();
    // Before the logs are opened, whose paths are relative to it; a failure is told once there is a log.
    let folder = enter_folder(&config, start);
    logging::install(&config.error_log, config.log_level, config.capture_output)
        .map_err(|error| system(&opening("error log", &config.error_log), &error))?;
    telemetry::observe_log(&config);
    for warning in &resolved.warnings {
        log::warn!("{warning}");
    }
    for note in &resolved.notes {
        log::info!("{note}");
    }
    settle(py, config, folder?)
}

pub(crate) fn put_on_path(py: Python<'_>, config: &Config, folder: &Path) -> PyResult<()> {
    import_path::put_first(py, folder)?;
    config.pythonpath.iter().rev().try_for_each(|path| import_path::put_first(py, &folder.join(path)))
}

pub(crate) fn settle(py: Python<'_>, mut config: Config, folder: Folder) -> Result<WorkerSetup, StartError> {
    if let Some(path) = &mut config.tmp_upload_dir {
        // The application may change to another folder.
        *path = folder.path().join(&*path);
        if !path.is_dir() {
            return Err(StartError::System(no_upload_folder(path)));
        }
    }
    let former = environment::fill(py, &config)?;
    Ok(WorkerSetup { config: Arc::new(config), folder, former, access_log: None, read_from: Vec::new() })
}

/// Says that the server starts, and what runs it.
pub(crate) fn tell_start(py: Python<'_>) -> PyResult<()> {
    log::info!("Starting portico {} ({})", env!("CARGO_PKG_VERSION"), interpreter::look(py)?);
    Ok(())
}

/// With `--require-free-threading`: refuses an interpreter that has a GIL before anything is imported with it.
pub(crate) fn require_interpreter(py: Python<'_>, config: &Config) -> Result<(), StartError> {
    match config.require_free_threading {
        true => interpreter::require_free_threading(py)?.map_err(StartError::System),
        false => Ok(()),
    }
}

/// How soon a signal is noticed while an address is busy.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// Binds what the configuration names, or takes it from `inherited`. An address that is busy or not there yet is
/// tried again, until a signal ends that.
pub(crate) fn listen_in_time(
    py: Python<'_>,
    config: &Config,
    inherited: Vec<(String, OwnedFd)>,
) -> Result<Vec<Listener>, StartError> {
    let mut interruption = None;
    let mut pause = |time: Duration| {
        let end = Instant::now() + time;
        while interruption.is_none() && Instant::now() < end {
            py.detach(|| std::thread::sleep(SIGNAL_INTERVAL));
            interruption = py.check_signals().err();
        }
        interruption.is_none()
    };
    let bound = Listener::take_over_in_time(config, inherited, &mut pause);
    match interruption {
        Some(error) => Err(StartError::Raised(error)),
        None => bound.map_err(|error| StartError::Listen(error.to_string())),
    }
}

/// Goes to `--chdir`, from the folder that the program was started in: a configuration in Python may have gone
/// elsewhere, which counts for gunicorn neither. Returns the current folder.
pub(crate) fn enter_folder(config: &Config, start: Option<&Folder>) -> Result<Folder, StartError> {
    let finding = |error| system("finding the current folder", &error);
    if let Some(start) = start {
        start.enter().map_err(|error| system(&going_to(start.path()), &error))?;
    }
    let Some(chdir) = &config.chdir else {
        return start.map_or_else(|| Folder::current().map_err(finding), |start| Ok(start.clone()));
    };
    std::env::set_current_dir(chdir).map_err(|error| system(&going_to(chdir), &error))?;
    let named = match start {
        Some(start) => plain(&start.path().join(chdir)),
        None => std::env::current_dir().map_err(finding)?,
    };
    Folder::named(named).map_err(finding)
}

/// Has what runs in the supervisor, hooks and classes of loggers, be found in the folders that the application is
/// found in, as gunicorn does. Where the workers are a lesser user's, only in those that root alone can change.
pub(crate) fn add_supervisors_folders(
    py: Python<'_>,
    config: &Config,
    folder: &Path,
    workers: Option<Owner>,
) -> PyResult<()> {
    let guarded = workers.is_some_and(|workers| workers.is_lesser());
    let folders = config.pythonpath.iter().map(|path| folder.join(path)).chain([folder.to_owned()]);
    for folder in folders.collect::<Vec<_>>().iter().rev() {
        if let Some(reason) = import_path::add(py, folder, guarded)? {
            log::info!("Hooks and loggers are not imported from {}, since {reason}", folder.display());
        }
    }
    Ok(())
}
