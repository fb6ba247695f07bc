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
use portico_files::Owner;
use portico_os::Folder;
use portico_server::{Handover, Keeper, Listener};
use portico_supervisor::upgrade::Takeover;
use portico_supervisor::{ChildContext, ProcessRole, Report, Supervisor};
use rustix::process::geteuid;

use super::configuration::Configuration;
use super::context::{Station, end_with_supervisor};
use super::host::{Command, Inheritance, Origin, Possessions, fit_workers, tell_workers, write_pidfile};
use super::identity::Identity;
use super::serving::Life;
use super::signals::{Master, Signals, ignore_at_end};
use super::template::{self, Forebear};
use super::{
    Setting, Source, StartError, add_supervisors_folders, check, development, environment, folders, forked,
    listen_in_time, logs, put_on_path, raise_descriptor_limit, require_interpreter, set_up, system,
    tell_start, title,
};
use crate::conf::{Hooks, guard_files, install_loggers, leave_loggers, log_here};
use crate::error::traceback;
use crate::fork::{Handlers, PythonFork, leave_signals};
use crate::gateway::error_stream;
use crate::import_path::unsafe_start;
use crate::{daemon, import_path, logging, raw};

/// What all processes of the tree have from the first.
struct Tree {
    inheritance: Rc<RefCell<Inheritance>>,
    /// The sockets are the host's, which closes them in the supervisor.
    listeners: Weak<Vec<Listener>>,
    handover: Handover,
}

/// What a worker begins with.
struct Start<'py> {
    post: ChildContext,
    source: Source,
    /// Whether it has become its user's.
    begun: PyResult<()>,
    fork: PythonFork<'py>,
}

/// Runs the command until a signal stops it; returns the exit status, in the process that was started alone.
///
/// # Errors
/// See [`StartError`].
pub fn run(py: Python<'_>, resolved: &Resolved, mut configuration: Configuration) -> Result<i32, StartError> {
    let mut origin = Origin::find(py, configuration.start())?;
    let start = configuration.start().cloned();
    if resolved.config.only_checks() {
        return only_check(py, resolved, start.as_ref());
    }
    if resolved.config.system.daemon && origin.takeover.is_none() {
        detach(py, &resolved.config)?;
    }
    let mut resolved = resolved.clone();
    let capacity = fit_workers(&mut resolved.config);
    let identity = Identity::find(py, &resolved.config)?;
    let workers = identity.as_ref().map(Identity::owner);
    let is_lesser = workers.is_some_and(|workers| workers.is_lesser());
    let started_in = std::env::current_dir().ok().filter(|_| is_lesser && origin.by_module);
    let mut setting = open_up(py, &resolved, identity.as_ref(), start.as_ref())?;
    drop(start); // The host has it, and no child.
    started_in.and_then(|folder| unsafe_start(&folder)).iter().for_each(|told| log::warn!("{told}"));
    configuration.workers = workers;
    configuration.running = Some(resolved.clone());
    setting.access_log = logs::open_access_log(&setting.config)?;
    logs::share_with_python(py, &setting)?;
    require_interpreter(py, &setting.config)?;
    let hooks = announce(py, &configuration, &resolved, &setting, workers)?;
    raise_descriptor_limit();
    // Before the application is imported: an address that is taken shows at once, and a client that comes
    // early waits in the backlog.
    let (listeners, keeper) = listen(py, &setting.config, &mut origin, workers)?;
    if let Some(identity) = &identity {
        identity.give_sockets(&listeners);
    }
    let listeners = Rc::new(listeners);
    let pidfile = write_pidfile(&setting.config, origin.takeover.is_some(), workers)?;
    let possessions = Possessions { pidfile, keeper };
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
    development::import_ahead(py, &tree.inheritance.borrow().setting);
    name_processes(py, &config);
    logging::show_errors(true);
    let role = supervisor.run(&mut fork);
    logging::show_errors(false);
    let listeners = tree.listeners.upgrade();
    // In a child the supervisor's ends of the other processes' lines go with it, which must not outlive it.
    // So does the host, and the listeners are this process' own.
    drop(supervisor);
    let listeners = listeners.and_then(Rc::into_inner).unwrap_or_default();
    Ok(tree.go_on(py, role, listeners, fork))
}

/// Imports the application as a worker would, and does no more; returns the exit status.
fn only_check(py: Python<'_>, resolved: &Resolved, start: Option<&Folder>) -> Result<i32, StartError> {
    // Whoever is not root imports it anyway.
    let identity = geteuid().is_root().then(|| Identity::find(py, &resolved.config));
    let identity = identity.transpose()?.flatten();
    let setting = open_up(py, resolved, identity.as_ref(), start)?;
    identity.map_or(Ok(()), |identity| identity.take(py))?;
    import_path::restore(py)?;
    setting.put_on_path(py)?;
    check::import(py, Source::Target, &setting).map(|()| 0)
}

/// As [`set_up`], in a process that may be root's with workers of `identity`: imports before that what it may
/// need, and from then on nothing that is not root's.
fn open_up(
    py: Python<'_>,
    resolved: &Resolved,
    identity: Option<&Identity>,
    start: Option<&Folder>,
) -> Result<Setting, StartError> {
    let workers = identity.map(Identity::owner);
    let is_lesser = workers.is_some_and(|workers| workers.is_lesser());
    let withheld = if is_lesser { import_path::withhold_exposed(py)? } else { Vec::new() };
    import_path::import_ahead(py, is_lesser)?;
    title::find_setter(py);
    logging::give_files_to(workers);
    if is_lesser {
        guard_files(py)?;
    }
    let setting = set_up(py, resolved, start)?;
    withheld.iter().for_each(|told| log::warn!("{told}"));
    Ok(setting)
}

/// Goes on in a child, which becomes its user's before anything else: what is the supervisor's own stays with it,
/// and imports find the application's modules from now on.
fn leave_supervisor(py: Python<'_>, inheritance: &Inheritance, post: &ChildContext) -> PyResult<()> {
    logging::begin_process();
    // First the one, which undoes the other.
    let taken = inheritance.identity.as_ref().map_or(Ok(()), |identity| identity.take(py));
    end_with_supervisor(post); // It has the application to import.
    taken?;
    logging::give_files_to(None);
    let folder = folders::follow(py, &inheritance.setting.folder)?;
    import_path::restore(py)?;
    put_on_path(py, &inheritance.setting.config, folder)?;
    let config = &inheritance.setting.config;
    environment::keep_manager_apart(py, config)?;
    if inheritance.hooks.is_none() {
        install_loggers(py, config, error_stream(py)?)?;
    }
    Ok(())
}

/// Binds what the configuration names, or takes it over from the supervisor that this one is to replace, and reads
/// the certificates for it.
fn listen(
    py: Python<'_>,
    config: &Config,
    origin: &mut Origin,
    workers: Option<Owner>,
) -> Result<(Vec<Listener>, Option<Keeper>), StartError> {
    let inherited = origin.takeover.as_mut().map(Takeover::take_listeners).unwrap_or_default();
    let mut listeners = listen_in_time(py, config, inherited)?;
    let legacy = origin.takeover.as_mut().map(Takeover::take_secret).unwrap_or_default();
    let keeper = Keeper::open(config, &legacy, workers).map_err(StartError::System)?;
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

fn name_processes(py: Python<'_>, config: &Config) {
    if !title::set(py, title::Role::Master, config) && config.system.proc_name.is_some() {
        log::warn!(
            "--name: ps shows it with the package setproctitle alone; install it: pip install setproctitle"
        );
    }
}

impl Tree {
    /// Is what this process is from now on. Returns the exit status, in the supervisor alone.
    fn go_on(self, py: Python<'_>, role: ProcessRole, listeners: Vec<Listener>, fork: PythonFork<'_>) -> i32 {
        match role {
            ProcessRole::Exit(status) => {
                let hooks = self.inheritance.borrow().hooks();
                hooks.inspect(|hooks| hooks.tell(py, "exit", ()));
                leave_loggers(py);
                status
            }
            ProcessRole::Worker(post) => {
                let begun = leave_supervisor(py, &self.inheritance.borrow(), &post);
                self.inheritance.borrow_mut().setting.folder.let_go();
                self.work(py, Start { post, source: Source::Target, begun, fork }, listeners)
            }
            ProcessRole::Template(post) => {
                let begun = leave_supervisor(py, &self.inheritance.borrow(), &post);
                self.inheritance.borrow_mut().setting.folder.let_go();
                let inheritance = self.inheritance.borrow().clone();
                daemon::forget();
                title::set(py, title::Role::Template, &inheritance.setting.config);
                if let Err(error) = forked::withhold(py, &listeners) {
                    log::warn!(
                        "what the application forks at its import keeps the listening sockets: {error}"
                    );
                }
                let Forebear { post, loaded, fork } = template::run(py, &inheritance, post, begun, fork);
                let start = Start { post, source: Source::Loaded(loaded), begun: Ok(()), fork };
                self.work(py, start, listeners)
            }
        }
    }

    /// Is a worker, to the end of the process.
    fn work(self, py: Python<'_>, start: Start<'_>, listeners: Vec<Listener>) -> ! {
        let Start { mut post, source, begun, fork } = start;
        let stacks = post.stacks.take();
        let station =
            Arc::new(Station::new(post, self.handover, self.inheritance.borrow().setting.config.reload));
        daemon::forget();
        title::set(py, title::Role::Worker, &self.inheritance.borrow().setting.config);
        logging::allow_thread();
        let begun = begun.and_then(|()| begin(py, &station, fork));
        let Inheritance { setting, hooks, .. } = &*self.inheritance.borrow();
        let lived = begun.map_err(StartError::from).and_then(|mut signals| {
            if let Some(hooks) = hooks {
                station.enter(py, hooks)?;
            }
            let (setting, station) = (setting.clone(), Some(Arc::clone(&station)));
            let life = Life { setting, listeners, station, stacks };
            life.run(py, source, &mut signals)?;
            Ok(signals.release(py)?)
        });
        let status = match lived {
            Ok(()) => 0,
            Err(error) if error.is_interruption(py) => {
                station.report(&Report::Signalled);
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
    setting: &Setting,
    workers: Option<Owner>,
) -> Result<Option<Rc<Hooks>>, StartError> {
    if Hooks::are_configured(&configuration.files, resolved) {
        add_supervisors_folders(py, &setting.config, setting.folder.path(), workers)?;
    }
    let hooks = Hooks::new(py, &configuration.files, resolved, error_stream(py)?);
    let hooks = hooks.map_err(StartError::System)?;
    if let Some(hooks) = &hooks {
        log_here(py, hooks);
        hooks.tell(py, "scaled", (resolved.config.workers.min,));
    }
    tell_start(py)?;
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
