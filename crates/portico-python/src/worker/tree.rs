//! The command as a tree of processes: a supervisor, and the workers that it forks.
//!
//! The supervisor runs no code of the application and has one thread. A process that it forks goes on here
//! with its part, and ends here: it never returns to the Python code that has called the command, which runs
//! on in the supervisor alone.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use pyo3::prelude::*;

use portico_config::{Config, LogTarget, Resolved};
use portico_server::{Handover, Keeper, Listener};
use portico_supervisor::upgrade::Takeover;
use portico_supervisor::{Post, Report, Role, Supervisor};

use super::configuration::Configuration;
use super::host::{Command, Inheritance, Origin, Possessions, fit_workers, tell_workers, write_pidfile};
use super::identity::Identity;
use super::life::Life;
use super::post::{Station, end_with_supervisor};
use super::signals::{ENDED_BY_SIGNAL, Master, Signals, ignore_at_end};
use super::template::{self, Forebear};
use super::{
    Source, StartError, check, development, environment, forked, raise_descriptor_limit, set_up, system,
    title,
};
use crate::conf::{Hooks, install_loggers, leave_loggers, log_here};
use crate::error::{one_line, traceback};
use crate::fork::{Handlers, PythonFork, leave_signals};
use crate::gateway::error_stream;
use crate::{daemon, logging, raw};

/// What all processes of the tree have from the first.
struct Tree {
    inheritance: Rc<RefCell<Inheritance>>,
    /// The sockets are the host's, which closes them in the supervisor.
    listeners: Weak<Vec<Listener>>,
    handover: Handover,
}

/// Runs the command until a signal stops it; returns the exit status, in the process that was started alone.
///
/// # Errors
/// See [`StartError`].
pub fn run(py: Python<'_>, resolved: &Resolved, configuration: Configuration) -> Result<i32, StartError> {
    let mut origin = Origin::find(py)?;
    if resolved.config.only_checks() {
        return check::import(py, Source::Target, &set_up(py, resolved)?).map(|()| 0);
    }
    if resolved.config.system.daemon && origin.takeover.is_none() {
        detach(py, &resolved.config)?;
    }
    let mut resolved = resolved.clone();
    let capacity = fit_workers(&mut resolved.config);
    let setting = set_up(py, &resolved)?;
    let hooks = announce(py, &configuration, &resolved)?;
    raise_descriptor_limit();
    // Before the application is imported: an address that is taken shows at once, and a client that comes
    // early waits in the backlog.
    let (listeners, keeper) = listen(&setting.config, &mut origin)?;
    let listeners = Rc::new(listeners);
    let (mut possessions, identity) = possess(py, &setting.config, origin.takeover.is_some())?;
    possessions.keeper = keeper;
    if let Some(hooks) = &hooks {
        hooks.listening(py, &listeners).map_err(|error| hook_failed(py, "when_ready", &error))?;
    }
    let config = Arc::clone(&setting.config);
    let tree = Tree {
        inheritance: Rc::new(RefCell::new(Inheritance { setting, hooks, identity })),
        listeners: Rc::downgrade(&listeners),
        handover: Handover::new().map_err(|error| system("connecting the workers", &error))?,
    };
    let host = Command::new(Rc::clone(&tree.inheritance), listeners, origin, possessions, configuration);
    let mut supervisor = Supervisor::new(Arc::clone(&config), Box::new(host))
        .map_err(|error| system("making the scoreboard", &error))?;
    leave_signals(py)?;
    let mut fork = PythonFork::new(py, Handlers::Reset);
    tell_workers(&config, &capacity);
    development::import_ahead(py, &config);
    name_processes(py, &config);
    logging::show_errors(true);
    let role = supervisor.run(&mut fork);
    logging::show_errors(false);
    let listeners = tree.listeners.upgrade();
    // In a child the supervisor's ends of the other processes' lines go with it, which must not outlive it.
    // So does the host, and the listeners are this process' own.
    drop(supervisor);
    let listeners = listeners.and_then(Rc::into_inner).unwrap_or_default();
    let hooks = tree.inheritance.borrow().hooks();
    if !matches!(role, Role::Exit(_)) {
        logging::begin_process();
        leave_supervisor(py, &tree.inheritance.borrow())?;
    }
    match role {
        Role::Exit(status) => {
            hooks.inspect(|hooks| hooks.tell(py, "exit", ()));
            leave_loggers(py);
            Ok(status)
        }
        Role::Worker(post) => tree.work(py, post, Source::Target, listeners, fork),
        Role::Template(post) => {
            daemon::forget();
            title::set(py, title::Role::Template, &tree.inheritance.borrow().setting.config);
            if let Err(error) = forked::withhold(py, &listeners) {
                log::warn!("what the application forks at its import keeps the listening sockets: {error}");
            }
            let inheritance = tree.inheritance.borrow().clone();
            let Forebear { post, loaded, fork } = template::run(py, &inheritance, post, fork);
            tree.work(py, post, Source::Loaded(loaded), listeners, fork)
        }
    }
}

/// Goes on in a child: what is the supervisor's own stays with it.
fn leave_supervisor(py: Python<'_>, inheritance: &Inheritance) -> PyResult<()> {
    let config = &inheritance.setting.config;
    environment::keep_manager_apart(py, config)?;
    if inheritance.hooks.is_none() {
        install_loggers(py, config, error_stream(py)?)?;
    }
    Ok(())
}

/// Binds what the configuration names, or takes it over from the supervisor that this one is to replace, and reads
/// the certificates for it.
fn listen(config: &Config, origin: &mut Origin) -> Result<(Vec<Listener>, Option<Keeper>), StartError> {
    let inherited = origin.takeover.as_mut().map(Takeover::take_listeners).unwrap_or_default();
    let mut listeners =
        Listener::take_over(config, inherited).map_err(|error| StartError::Listen(error.to_string()))?;
    let legacy = origin.takeover.as_mut().map(Takeover::take_secret).unwrap_or_default();
    let keeper = Keeper::open(config, &legacy).map_err(StartError::System)?;
    if let Some(keeper) = &keeper {
        Listener::secure(&mut listeners, &keeper.vault().into());
    }
    Ok((listeners, keeper))
}

/// Goes on as a daemon. What goes nowhere from then on is said while somebody can read it.
fn detach(py: Python<'_>, config: &Config) -> Result<(), StartError> {
    if config.error_log == LogTarget::Stderr && !config.system.stdio_inheritance {
        let warning =
            "portico: warning: --daemon: the error log goes nowhere; name a file (--error-logfile)\n";
        // A closed standard error is no error of the server's.
        let _ = io::stderr().write_all(warning.as_bytes());
    }
    Ok(daemon::detach(py, config.system.stdio_inheritance)?)
}

/// Takes what the server is to have of the system, once its sockets are bound.
fn possess(
    py: Python<'_>,
    config: &Config,
    upgrading: bool,
) -> Result<(Possessions, Option<Identity>), StartError> {
    let identity = Identity::find(py, config)?;
    if let Some(identity) = &identity {
        identity.give_files(config);
    }
    Ok((Possessions { pidfile: write_pidfile(config, upgrading)?, keeper: None }, identity))
}

fn name_processes(py: Python<'_>, config: &Config) {
    if !title::set(py, title::Role::Master, config) && config.system.proc_name.is_some() {
        log::warn!(
            "--name: ps shows it with the package setproctitle alone; install it: pip install setproctitle"
        );
    }
}

impl Tree {
    /// Is a worker, to the end of the process.
    fn work(
        self,
        py: Python<'_>,
        post: Post,
        source: Source,
        listeners: Vec<Listener>,
        fork: PythonFork<'_>,
    ) -> ! {
        let station =
            Arc::new(Station::new(post, self.handover, self.inheritance.borrow().setting.config.reload));
        daemon::forget();
        title::set(py, title::Role::Worker, &self.inheritance.borrow().setting.config);
        let mut begun = Ok(());
        if matches!(source, Source::Target) {
            // First the one, which undoes the other.
            begun = self.inheritance.borrow().identity.as_ref().map_or(Ok(()), |identity| identity.take(py));
            end_with_supervisor(station.post()); // It has the application to import.
        }
        logging::allow_thread();
        let begun = begun.and_then(|()| begin(py, &station, fork));
        let Inheritance { setting, hooks, .. } = &*self.inheritance.borrow();
        let lived = begun.map_err(StartError::from).and_then(|mut signals| {
            if let Some(hooks) = hooks {
                station.enter(py, hooks)?;
            }
            let life = Life { setting: setting.clone(), listeners, station: Some(Arc::clone(&station)) };
            life.run(py, source, &mut signals)?;
            Ok(signals.release(py)?)
        });
        let status = match lived {
            Ok(()) => 0,
            Err(error) if error.is_interruption(py) => {
                station.report(&Report::Replace(ENDED_BY_SIGNAL.into()));
                0
            }
            Err(error) => {
                station.boot_failed(&error);
                error.exit_status()
            }
        };
        ignore_at_end(py);
        station.end(py);
        py.detach(logging::flush);
        raw::exit(py, status)
    }
}

/// Says that the server starts, with the objects that hooks get, and through Python where that is configured.
fn announce(
    py: Python<'_>,
    configuration: &Configuration,
    resolved: &Resolved,
) -> Result<Option<Rc<Hooks>>, StartError> {
    let hooks = Hooks::new(py, &configuration.files, resolved, error_stream(py)?);
    let hooks = hooks.map_err(|error| StartError::System(one_line(py, &error)))?;
    if let Some(hooks) = &hooks {
        log_here(py, hooks);
        hooks.tell(py, "scaled", (resolved.config.workers.min,));
    }
    log::info!("Starting portico {}", env!("CARGO_PKG_VERSION"));
    if let Some(hooks) = &hooks {
        hooks.call(py, "starting", ()).map_err(|error| hook_failed(py, "on_starting", &error))?;
    }
    Ok(hooks.map(Rc::new))
}

fn hook_failed(py: Python<'_>, hook: &str, error: &PyErr) -> StartError {
    StartError::System(format!("the hook {hook} raised\n{}", traceback(py, error)))
}

/// Makes the process a worker's: its signals, its name.
fn begin(py: Python<'_>, station: &Station, mut fork: PythonFork<'_>) -> PyResult<Signals> {
    let signals = Signals::interrupting(py, Master::Supervisor)?;
    fork.unblock_signals()?;
    let environ = py.import("os")?.getattr("environ")?;
    environ.set_item(SLOT_VARIABLE, station.slot().to_string())?;
    environ.set_item(GENERATION_VARIABLE, station.generation().to_string())?;
    Ok(signals)
}

/// Tells the application how many reloads there have been.
const GENERATION_VARIABLE: &str = "PORTICO_GENERATION";

/// Tells the application which of the workers it is in.
const SLOT_VARIABLE: &str = "PORTICO_WORKER_SLOT";
