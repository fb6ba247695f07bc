//! The life of a worker process: listen, import the application, start the engine and its threads, wait for a
//! signal, stop.

mod app;
mod discovery;
pub mod entry;
mod signals;
mod threads;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use portico_config::{Config, LogTarget, Resolved};
use portico_server::{AccessLog, Destination, Lending, Listener};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::low_level;

use crate::gateway::Gateway;
use crate::logging;
use app::{LoadError, Loaded};
use signals::{Signals, Wake};
use threads::Threads;

/// Where the application comes from.
pub enum Source {
    /// `Config::app`, or discovery.
    Target,
    /// A WSGI callable.
    Callable(Py<PyAny>),
}

/// Why a worker does not serve.
#[derive(Debug)]
pub enum StartError {
    /// An address that cannot be listened on.
    Listen(String),
    /// There is no application.
    Load(LoadError),
    /// Python code that is not the application raised.
    Raised(PyErr),
    /// The system refuses something: a log file, a folder, a descriptor.
    System(String),
}

impl StartError {
    /// For the operator: one line, and the traceback if there is one.
    pub fn told(&self) -> String {
        match self {
            Self::Listen(message) | Self::System(message) => message.clone(),
            Self::Load(LoadError { message, traceback: Some(traceback), .. }) => {
                format!("{message}\n{traceback}")
            }
            Self::Load(LoadError { message, .. }) => message.clone(),
            Self::Raised(error) => error.to_string(),
        }
    }

    /// The process' exit status: 2 and 3 for the application (see `LoadError`), 1 for all else.
    pub fn exit_status(&self) -> i32 {
        match self {
            Self::Load(error) => error.exit_status(),
            Self::Listen(_) | Self::Raised(_) | Self::System(_) => 1,
        }
    }
}

impl From<PyErr> for StartError {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<LoadError> for StartError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

/// How long threads that have nothing to do any more may take to end.
const LEAVING: Duration = Duration::from_millis(500);

/// Serves until a signal stops it.
///
/// # Errors
/// See [`StartError`]; once it serves, nothing but a Python signal handler's exception.
pub fn run(py: Python<'_>, resolved: &Resolved, source: Source) -> Result<(), StartError> {
    let config = Arc::new(resolved.config.clone());
    // Before the logs are opened, whose paths are relative to it; a failure is told once there is a log.
    let folder = enter_folder(py, &config);
    logging::install(&config.error_log, config.log_level)
        .map_err(|error| system(&opening("error log", &config.error_log), &error))?;
    for warning in &resolved.warnings {
        log::warn!("{warning}");
    }
    let folder = folder?;
    let mut signals = Signals::interrupting(py)?;
    let result = match config.check_config {
        true => find(py, source, &config, &folder).map_err(StartError::from).map(|loaded| {
            log::info!("The configuration is good; the application is {}", loaded.target);
        }),
        false => serve(py, &config, source, &folder, &mut signals),
    };
    signals.release(py)?;
    match result {
        Err(StartError::Load(LoadError { interrupted: true, .. })) => {
            log::info!("Stopped while the application was imported");
            Ok(())
        }
        result => result,
    }
}

fn serve(
    py: Python<'_>,
    config: &Arc<Config>,
    source: Source,
    folder: &Path,
    signals: &mut Signals,
) -> Result<(), StartError> {
    log::info!("Starting portico {}", env!("CARGO_PKG_VERSION"));
    raise_descriptor_limit();
    // Before the application is imported: an address that is taken shows at once, and a client that comes
    // early waits in the backlog.
    let listeners = Listener::bind_all(config).map_err(|error| StartError::Listen(error.to_string()))?;
    let urls: Vec<String> = listeners.iter().map(|listener| listener.url().to_owned()).collect();
    let access_log = open_access_log(config)?;
    let Loaded { application, target } = find(py, source, config, folder)?;
    let gateway = Arc::new(Gateway::new(py, application, config)?);
    let lending = Lending::new(Arc::clone(config), access_log, gateway, None)
        .map_err(|error| system("starting the engine", &error))?;
    signals.catch(py)?;
    let threads = start_threads(py, config, &lending, signals)?;
    lending.listen(listeners).map_err(|error| system("listening", &error))?;
    announce(config, &target, &urls);
    let result = wait_for_end(py, config, &lending, signals, threads);
    // Without the interpreter: this writes the rest of the access log.
    py.detach(|| {
        close(&lending);
        drop(lending);
    });
    log::info!("Stopped");
    result
}

/// Goes to `--chdir`, and puts the folder and `--pythonpath` first on `sys.path`, as gunicorn does.
fn enter_folder(py: Python<'_>, config: &Config) -> Result<PathBuf, StartError> {
    if let Some(folder) = &config.chdir {
        let doing = format!("changing to {}", folder.display());
        std::env::set_current_dir(folder).map_err(|error| system(&doing, &error))?;
    }
    let folder = std::env::current_dir().map_err(|error| system("finding the current folder", &error))?;
    app::put_first_on_path(py, &folder)?;
    for path in config.pythonpath.iter().rev() {
        app::put_first_on_path(py, &folder.join(path))?;
    }
    Ok(folder)
}

fn find(py: Python<'_>, source: Source, config: &Config, folder: &Path) -> Result<Loaded, LoadError> {
    match (source, &config.app) {
        (Source::Callable(application), _) => {
            let target = application.bind(py).repr().map(|text| text.to_string_lossy().into_owned());
            Ok(Loaded { application, target: target.unwrap_or_default() })
        }
        (Source::Target, Some(target)) => app::load(py, target),
        (Source::Target, None) => discovery::discover(py, folder),
    }
}

fn open_access_log(config: &Config) -> Result<Option<AccessLog>, StartError> {
    let Some(target) = &config.access_log else { return Ok(None) };
    let destination = match target {
        LogTarget::Stdout => Destination::Stdout,
        LogTarget::Stderr => Destination::File("/dev/stderr".into()),
        LogTarget::File(path) => Destination::File(path.clone()),
    };
    let opened = AccessLog::open(destination, config.access_log_format);
    opened.map(Some).map_err(|error| system(&opening("access log", target), &error))
}

fn start_threads(
    py: Python<'_>,
    config: &Config,
    lending: &Arc<Lending>,
    signals: &Signals,
) -> Result<Threads, StartError> {
    let bell = signals.bell().map_err(|error| system("starting threads", &error))?;
    let standby = Arc::clone(lending);
    thread::Builder::new()
        .name("portico-standby".to_owned())
        .spawn(move || standby.run_standby())
        .map_err(|error| system("starting threads", &error))?;
    let each = Arc::clone(lending);
    Ok(Threads::start(py, config.threads, bell, move || each.run_thread())?)
}

fn announce(config: &Config, target: &str, urls: &[String]) {
    let (threads, pid) = (config.threads, std::process::id());
    log::info!("Serving {target} with {threads} thread{} (pid {pid})", if threads == 1 { "" } else { "s" });
    for url in urls {
        log::info!("Listening at: {url} ({pid})");
    }
}

/// Waits for the signal to stop, and then until everything has stopped; ends the process itself if a thread
/// is stuck in the application beyond the time that it has.
fn wait_for_end(
    py: Python<'_>,
    config: &Config,
    lending: &Arc<Lending>,
    signals: &mut Signals,
    threads: Threads,
) -> Result<(), StartError> {
    let mut end: Option<Instant> = None;
    let mut forced_exits = Vec::new();
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let wake = signals.wait(py, left)?;
        match wake {
            Wake::Stop(signal) if end.is_none() => {
                log::info!(
                    "Handling signal: {signal}; finishing what runs, {:?} at most",
                    config.graceful_timeout
                );
                py.detach(|| lending.drain(config.graceful_timeout));
                end = Some(Instant::now() + config.graceful_timeout + LEAVING);
            }
            Wake::Stop(signal) | Wake::StopNow(signal) => {
                log::info!("Handling signal: {signal}; stopping at once");
                py.detach(|| lending.stop());
                end = Some(Instant::now() + LEAVING);
            }
            Wake::Bell if threads.all_ended() => {
                threads.join(py)?;
                return Ok(());
            }
            Wake::Bell => continue,
            Wake::Timeout => exit_without_threads(py, lending),
        }
        forced_exits.extend(end.map(|end| exit_in_any_case(lending, end + LEAVING)));
    }
}

/// Writes the rest of the access log, and tells what went wrong with requests.
fn close(lending: &Lending) {
    if let Some(troubles) = lending.close().and_then(|counters| counters.troubles()) {
        log::info!("Since the start: {troubles}");
    }
}

/// Ends the process although threads are still in the application: Python's own end would wait for locks that
/// they may hold.
fn exit_without_threads(py: Python<'_>, lending: &Lending) -> ! {
    // Cuts what is still open, and names it in the log.
    py.detach(|| lending.stop());
    log::error!("{} of the application's calls did not end; leaving without them", lending.calls());
    for stream in ["stdout", "stderr"] {
        // Lost output is all that can come of an error here.
        let _ = py.import("sys").and_then(|sys| sys.getattr(stream)?.call_method0("flush"));
    }
    py.detach(|| {
        close(lending);
        low_level::exit(0)
    })
}

/// Sees to it that the process ends at `end`, also if code of the application keeps the interpreter to
/// itself, so that the main thread cannot run. Dropping what this returns calls it off.
fn exit_in_any_case(lending: &Arc<Lending>, end: Instant) -> mpsc::Sender<()> {
    let lending = Arc::clone(lending);
    let (calling_off, called_off) = mpsc::channel();
    let exit = move || {
        let left = end.saturating_duration_since(Instant::now());
        if called_off.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout) {
            lending.stop();
            log::error!("the application keeps the interpreter to itself; leaving without it");
            low_level::exit(0);
        }
    };
    if let Err(error) = thread::Builder::new().name("portico-exit".to_owned()).spawn(exit) {
        log::warn!("nothing will end the process if the application is stuck: {error}");
    }
    calling_off
}

/// Takes all the descriptors that the system allows: each connection needs one, and many systems start
/// processes with 1,024 of them.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        log::warn!("the limit of {:?} open files cannot be raised: {error}", limit.current);
    }
}

fn opening(log: &str, target: &LogTarget) -> String {
    match target {
        LogTarget::Stdout | LogTarget::Stderr => format!("opening the {log}"),
        LogTarget::File(path) => format!("opening the {log} {}", path.display()),
    }
}

fn system(doing: &str, error: &io::Error) -> StartError {
    StartError::System(format!("{doing} failed: {error}"))
}
