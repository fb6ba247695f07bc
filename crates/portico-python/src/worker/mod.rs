//! From a configuration to a process that serves: alone (`portico.serve`), or as one of several under a
//! supervisor (the command).

mod app;
mod check;
mod configuration;
mod context;
mod development;
mod disconnects;
mod discovery;
pub(crate) mod entry;
mod environment;
mod error_page;
mod fork_safety;
mod forked;
mod greenlets;
mod host;
mod identity;
mod inspector;
mod monitor;
mod mounts;
mod orders;
mod paste;
mod serving;
mod signals;
mod static_folders;
mod switching;
mod template;
mod threads;
mod title;
mod tree;
mod turning;
mod watch;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portico_net::{CertificateReloader, Listener};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

use portico_config::{Config, Resolved};
use portico_files::Owner;
use portico_os::{Folder, fill_standard};
use portico_worker::{
    Master, SystemError, WarmUpError, WorkerSetup, going_to, logging, no_upload_folder, opening, plain,
    raise_descriptor_limit, telemetry,
};

use crate::gateway::error_stream;
use crate::{conf, forked_children, import_path, interpreter};
use app::{BOOT_FAILED, LoadError, Loaded};
use serving::WorkerRun;
use signals::Signals;

/// The source of the application: a target, a callable, or one that the process which forked this has imported.
pub(crate) enum Source {
    /// `Config::app`, or discovery.
    Target,
    /// A WSGI callable.
    Callable(Py<PyAny>),
    /// It is there already: the process that forked this one has imported it.
    Loaded(Loaded),
}

/// The reason for which a worker does not serve.
#[derive(Debug)]
pub(crate) enum StartError {
    /// An address that cannot be listened on.
    Listen(String),
    /// There is no application.
    Load(LoadError),
    /// A hook raised in a worker.
    Hook(String),
    /// Python code that is not the application raised.
    Raised(PyErr),
    /// The system refuses something: a log file, a folder, a descriptor.
    System(String),
    /// What is to be forked does not survive it.
    Unforkable(String),
    /// A request of `--warmup` was not answered well.
    WarmUp(String),
}

impl StartError {
    /// For the operator: one line, and the traceback if there is one.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Hook(message)
            | Self::Listen(message)
            | Self::System(message)
            | Self::Unforkable(message)
            | Self::WarmUp(message) => message.clone(),
            Self::Load(LoadError { message, traceback: Some(traceback), .. }) => {
                format!("{message}\n{traceback}")
            }
            Self::Load(LoadError { message, .. }) => message.clone(),
            Self::Raised(error) => error.to_string(),
        }
    }

    /// Whether a signal ended the import of the application, or what comes before and after it.
    fn is_interruption(&self, py: Python<'_>) -> bool {
        match self {
            Self::Load(error) => error.interrupted,
            Self::Raised(error) => error.is_instance_of::<PyKeyboardInterrupt>(py),
            _ => false,
        }
    }

    /// The process' exit status, gunicorn's where it has one: 3 and 4 for the application (see `LoadError`; 3 if
    /// it does not warm up or cannot be forked), 1 for all else.
    pub(crate) fn exit_status(&self) -> i32 {
        match self {
            Self::Load(error) => error.exit_status,
            Self::Hook(_) | Self::Unforkable(_) | Self::WarmUp(_) => BOOT_FAILED,
            Self::Listen(_) | Self::Raised(_) | Self::System(_) => 1,
        }
    }
}

impl From<PyErr> for StartError {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<SystemError> for StartError {
    fn from(error: SystemError) -> Self {
        Self::System(error.to_string())
    }
}

impl From<WarmUpError> for StartError {
    fn from(error: WarmUpError) -> Self {
        Self::WarmUp(error.to_string())
    }
}

impl From<LoadError> for StartError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

/// Serves in this process until a signal stops it.
///
/// # Errors
/// See [`StartError`]; once it serves, nothing but a Python signal handler's exception.
pub(crate) fn run(py: Python<'_>, resolved: &Resolved, source: Source) -> Result<(), StartError> {
    let setup = set_up(py, resolved, None)?;
    put_on_path(py, &setup.config, setup.folder.path())?;
    conf::install_loggers(py, &setup.config, error_stream(py)?)?;
    let mut signals = Signals::interrupting(py, Master::Own)?;
    let result = match setup.config.only_checks() {
        true => check::import(py, source, &setup),
        false => {
            logging::allow_thread();
            serve(py, source, setup, &mut signals)
        }
    };
    py.detach(logging::end_thread);
    signals.release(py)?;
    match result {
        Err(error) if error.is_interruption(py) => {
            log::info!("Stopped while the application was imported");
            Ok(())
        }
        result => result,
    }
}

/// Goes to the folder, opens the log and fills the environment. `start` is the folder that a program of its own
/// was started in.
fn set_up(py: Python<'_>, resolved: &Resolved, start: Option<&Folder>) -> Result<WorkerSetup, StartError> {
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

fn put_on_path(py: Python<'_>, config: &Config, folder: &Path) -> PyResult<()> {
    import_path::put_first(py, folder)?;
    config.pythonpath.iter().rev().try_for_each(|path| import_path::put_first(py, &folder.join(path)))
}

fn settle(py: Python<'_>, mut config: Config, folder: Folder) -> Result<WorkerSetup, StartError> {
    if let Some(path) = &mut config.tmp_upload_dir {
        // The application may change to another folder.
        *path = folder.path().join(&*path);
        if !path.is_dir() {
            return Err(StartError::System(no_upload_folder(path)));
        }
    }
    let former = environment::fill(py, &config)?;
    Ok(WorkerSetup { config: Arc::new(config), folder, former, access_log: None })
}

fn serve(
    py: Python<'_>,
    source: Source,
    setup: WorkerSetup,
    signals: &mut Signals,
) -> Result<(), StartError> {
    require_interpreter(py, &setup.config)?;
    tell_start(py)?;
    raise_descriptor_limit();
    // Before the application is imported: an address that is taken shows at once, and a client that comes
    // early waits in the backlog.
    let mut listeners = listen_in_time(py, &setup.config, Vec::new())?;
    if let Some(reloader) = CertificateReloader::open(&setup.config, &[], None).map_err(StartError::System)? {
        Listener::secure(&mut listeners, &reloader.into());
    }
    WorkerRun { setup, listeners, context: None, stacks: None }.run(py, source, signals)?;
    log::info!("Stopped");
    Ok(())
}

/// Says that the server starts, and what runs it.
fn tell_start(py: Python<'_>) -> PyResult<()> {
    log::info!("Starting portico {} ({})", env!("CARGO_PKG_VERSION"), interpreter::look(py)?);
    Ok(())
}

/// With `--require-free-threading`: refuses an interpreter that has a GIL before anything is imported with it.
fn require_interpreter(py: Python<'_>, config: &Config) -> Result<(), StartError> {
    match config.require_free_threading {
        true => interpreter::require_free_threading(py)?.map_err(StartError::System),
        false => Ok(()),
    }
}

/// How soon a signal is noticed while an address is busy.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// Binds what the configuration names, or takes it from `inherited`. An address that is busy or not there yet is
/// tried again, until a signal ends that.
fn listen_in_time(
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
fn enter_folder(config: &Config, start: Option<&Folder>) -> Result<Folder, StartError> {
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

/// Characters of a callable's `repr` that are told of it.
const TARGET_CHARS_MAX: usize = 200;

fn find(py: Python<'_>, source: Source, config: &Config, folder: &Path) -> Result<Loaded, LoadError> {
    development::forget_hidden(py, config);
    let is_named = config.app.is_some() || config.paste.is_some();
    let found = match source {
        Source::Loaded(loaded) => Ok(loaded),
        Source::Callable(application) => mounts::load(py, config, true, || {
            let target = application.bind(py).repr().map(|text| text.to_string_lossy().into_owned());
            let target = target.unwrap_or_default().chars().take(TARGET_CHARS_MAX).collect();
            Ok(Loaded { application, target, mounted: Vec::new() })
        }),
        Source::Target => mounts::load(py, config, is_named, || match (&config.paste, &config.app) {
            (Some(paste), _) => paste::load(py, paste, config),
            (None, Some(target)) => app::load(py, target),
            (None, None) => discovery::discover(py, folder),
        }),
    };
    forked_children::end(py, found.as_ref().err().and_then(|error| error.cause.as_ref()), "its import");
    // It may have closed some, and the engine is about to open its own.
    if let Err(error) = fill_standard() {
        log::debug!("/dev/null cannot be opened: {error}");
    }
    let found = found?;
    // The import may have turned the GIL on.
    if config.require_free_threading {
        interpreter::require_free_threading(py)
            .unwrap_or_else(|error| Err(error.to_string()))
            .map_err(LoadError::missing)?;
    }
    Ok(found)
}

/// Has what runs in the supervisor, hooks and classes of loggers, be found in the folders that the application is
/// found in, as gunicorn does. Where the workers are a lesser user's, only in those that root alone can change.
fn add_supervisors_folders(
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

fn system(doing: &str, error: &io::Error) -> StartError {
    SystemError::new(doing, error).into()
}
