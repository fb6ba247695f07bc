//! The command as a tree of processes: a supervisor, and the workers that it forks.
//!
//! The supervisor runs no code of the application and has one thread. A process that it forks goes on here
//! with its part, and ends here: it never returns to the Python code that has called the command, which runs
//! on in the supervisor alone.

use std::cell::RefCell;
use std::hash::RandomState;
use std::io::{self, Write};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use portico_net::{CertificateReloader, Listener};
use pyo3::prelude::*;

use portico_config::{Config, LogTarget, Resolved};
use portico_files::Owner;
use portico_os::Folder;
use portico_server::Handover;
use portico_supervisor::upgrade::Takeover;
use portico_supervisor::{ChildContext, ProcessRole, Report, Supervisor, SupervisorField};
use portico_worker::{
    Master, WorkerSetup, fit_workers, folders, forget_start, limit_words, logging, logs,
    raise_descriptor_limit, tell_workers, write_pidfile,
};
use rustix::process::geteuid;

use super::configuration::Configuration;
use super::context::{WorkerContext, end_with_supervisor};
use super::host::{ForkContext, Origin, OwnedResources, SupervisorHost};
use super::identity::Identity;
use super::serving::WorkerRun;
use super::signals::{Signals, ignore_at_end};
use super::source::Source;
use super::start::{
    add_supervisors_folders, listen_in_time, put_on_path, require_interpreter, set_up, tell_start,
};
use super::start_error::{StartError, system};
use super::template::{self, ForkedWorker};
use super::{check, development, environment, title};
use crate::conf::{Hooks, guard_files, install_loggers, leave_loggers, log_here, share_access_log};
use crate::error::traceback;
use crate::fork::{Handlers, PythonFork, leave_signals};
use crate::gateway::error_stream;
use crate::import_path::unsafe_start;
use crate::{daemon, import_path, raw};

/// The first process' parts that all processes of the tree have from it.
struct Tree {
    fork_context: Rc<RefCell<ForkContext>>,
    /// The sockets are the host's, which closes them in the supervisor.
    listeners: Weak<Vec<Listener>>,
    handover: Handover,
    limit_keys: RandomState,
}

/// The parts that a worker begins with, made right after its fork and used up by its start.
struct Start<'py> {
    child: ChildContext,
    source: Source,
    /// Whether it has become its user's.
    begun: PyResult<()>,
    fork: PythonFork<'py>,
}

/// Runs the command until a signal stops it; returns the exit status, in the process that was started alone.
///
/// # Errors
/// See [`StartError`].
pub(crate) fn run(
    py: Python<'_>,
    resolved: &Resolved,
    mut configuration: Configuration,
) -> Result<i32, StartError> {
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
    let mut setup = open_up(py, &resolved, identity.as_ref(), start.as_ref())?;
    drop(start); // The host has it, and no child.
    started_in.and_then(|folder| unsafe_start(&folder)).iter().for_each(|told| log::warn!("{told}"));
    configuration.workers = workers;
    configuration.running = Some(resolved.clone());
    setup.access_log = logs::open_access_log(&setup.config)?;
    share_access_log(py, &setup)?;
    require_interpreter(py, &setup.config)?;
    let hooks = announce(py, &configuration, &resolved, &setup, workers)?;
    raise_descriptor_limit();
    // Before the application is imported: an address that is taken shows at once, and a client that comes
    // early waits in the backlog.
    let (listeners, reloader) = listen(py, &setup.config, &mut origin, workers)?;
    if let Some(identity) = &identity {
        identity.give_sockets(&listeners);
    }
    let listeners = Rc::new(listeners);
    let pidfile = write_pidfile(&setup.config, origin.takeover.is_some(), workers)?;
    let takes_over = origin.takeover.is_some();
    let resources = OwnedResources { pidfile, reloader };
    if let Some(hooks) = &hooks {
        hooks.listening(py, &listeners).map_err(|error| hook_failed(py, "when_ready", &error))?;
    }
    let config = Arc::clone(&setup.config);
    let tree = Tree {
        fork_context: Rc::new(RefCell::new(ForkContext { setup, hooks, identity })),
        listeners: Rc::downgrade(&listeners),
        handover: Handover::new().map_err(|error| system("connecting the workers", &error))?,
        limit_keys: RandomState::new(),
    };
    let host =
        SupervisorHost::new(Rc::clone(&tree.fork_context), listeners, origin, resources, configuration);
    let mut supervisor = Supervisor::new(Arc::clone(&config), Box::new(host), limit_words(&config))
        .map_err(|error| system("making the scoreboard", &error))?;
    supervisor.scoreboard().set(SupervisorField::TakesOver, takes_over.into());
    logging::count_in(supervisor.scoreboard().leaked().metrics());
    leave_signals(py)?;
    let mut fork = PythonFork::new(py, Handlers::Reset);
    tell_workers(&config, &capacity);
    development::import_ahead(py, &tree.fork_context.borrow().setup);
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
    let setup = open_up(py, resolved, identity.as_ref(), start)?;
    identity.map_or(Ok(()), |identity| identity.take(py))?;
    import_path::restore(py)?;
    put_on_path(py, &setup.config, setup.folder.path())?;
    check::import(py, Source::Target, &setup).map(|()| 0)
}

/// As [`set_up`], in a process that may be root's with workers of `identity`: imports before that what it may
/// need, and from then on nothing that is not root's.
fn open_up(
    py: Python<'_>,
    resolved: &Resolved,
    identity: Option<&Identity>,
    start: Option<&Folder>,
) -> Result<WorkerSetup, StartError> {
    let workers = identity.map(Identity::owner);
    let is_lesser = workers.is_some_and(|workers| workers.is_lesser());
    let withheld = if is_lesser { import_path::withhold_exposed(py)? } else { Vec::new() };
    import_path::import_ahead(py, is_lesser)?;
    title::find_setter(py);
    logging::give_files_to(workers);
    if is_lesser {
        guard_files(py)?;
    }
    let setup = set_up(py, resolved, start)?;
    withheld.iter().for_each(|told| log::warn!("{told}"));
    Ok(setup)
}

/// Goes on in a child, which becomes its user's before anything else: what is the supervisor's own stays with it,
/// and imports find the application's modules from now on.
fn leave_supervisor(py: Python<'_>, fork_context: &ForkContext, child: &ChildContext) -> PyResult<()> {
    logging::begin_process();
    // First the one, which undoes the other.
    let taken = fork_context.identity.as_ref().map_or(Ok(()), |identity| identity.take(py));
    end_with_supervisor(child); // It has the application to import.
    taken?;
    logging::give_files_to(None);
    let followed = folders::follow(&fork_context.setup.folder)?;
    if followed.moved {
        // What lies in the other folder is not what Python's finders remember of this one.
        py.import("importlib")?.call_method0("invalidate_caches")?;
    }
    import_path::restore(py)?;
    put_on_path(py, &fork_context.setup.config, followed.path)?;
    let config = &fork_context.setup.config;
    environment::keep_manager_apart(py, config)?;
    if fork_context.hooks.is_none() {
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
) -> Result<(Vec<Listener>, Option<CertificateReloader>), StartError> {
    let inherited = origin.takeover.as_mut().map(Takeover::take_listeners).unwrap_or_default();
    let mut listeners = listen_in_time(py, config, inherited)?;
    let legacy = origin.takeover.as_mut().map(Takeover::take_secret).unwrap_or_default();
    let reloader = CertificateReloader::open(config, &legacy, workers).map_err(StartError::System)?;
    if let Some(reloader) = &reloader {
        Listener::secure(&mut listeners, &reloader.shared().into());
    }
    Ok((listeners, reloader))
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
                let hooks = self.fork_context.borrow().hooks();
                hooks.inspect(|hooks| hooks.tell(py, "exit", ()));
                leave_loggers(py);
                status
            }
            ProcessRole::Worker(child) => {
                let begun = leave_supervisor(py, &self.fork_context.borrow(), &child);
                self.fork_context.borrow_mut().setup.folder.let_go();
                self.work(py, Start { child, source: Source::Target, begun, fork }, listeners)
            }
            ProcessRole::Template(child) => {
                let begun = leave_supervisor(py, &self.fork_context.borrow(), &child);
                self.fork_context.borrow_mut().setup.folder.let_go();
                let fork_context = self.fork_context.borrow().clone();
                forget_start();
                title::set(py, title::Role::Template, &fork_context.setup.config);
                let ForkedWorker { child, loaded, fork } =
                    template::run(py, &fork_context, (child, &listeners), begun, fork);
                let start = Start { child, source: Source::Loaded(loaded), begun: Ok(()), fork };
                self.work(py, start, listeners)
            }
        }
    }

    /// Is a worker, to the end of the process.
    fn work(self, py: Python<'_>, start: Start<'_>, listeners: Vec<Listener>) -> ! {
        let Start { mut child, source, begun, fork } = start;
        let stacks = child.stacks.take();
        let context = Arc::new(WorkerContext::new(
            child,
            self.handover,
            self.limit_keys,
            self.fork_context.borrow().setup.config.reload,
        ));
        forget_start();
        title::set(py, title::Role::Worker, &self.fork_context.borrow().setup.config);
        logging::allow_thread();
        let begun = begun.and_then(|()| begin(py, &context, fork));
        let ForkContext { setup, hooks, .. } = &*self.fork_context.borrow();
        let lived = begun.map_err(StartError::from).and_then(|mut signals| {
            if let Some(hooks) = hooks {
                context.enter(py, hooks)?;
            }
            let (setup, context) = (setup.clone(), Some(Arc::clone(&context)));
            let worker_run = WorkerRun { setup, listeners, context, stacks };
            worker_run.run(py, source, &mut signals)?;
            Ok(signals.release(py)?)
        });
        let status = match lived {
            Ok(()) => 0,
            Err(error) if error.is_interruption(py) => {
                context.report(&Report::Signalled);
                0
            }
            Err(error) => {
                context.boot_failed(&error);
                error.exit_status()
            }
        };
        ignore_at_end(py);
        context.end(py);
        py.detach(logging::flush);
        raw::exit(py, status)
    }
}

/// Says that the server starts, with the objects that hooks get, and through Python where that is configured.
fn announce(
    py: Python<'_>,
    configuration: &Configuration,
    resolved: &Resolved,
    setup: &WorkerSetup,
    workers: Option<Owner>,
) -> Result<Option<Rc<Hooks>>, StartError> {
    if Hooks::are_configured(&configuration.files, resolved) {
        add_supervisors_folders(py, &setup.config, setup.folder.path(), workers)?;
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
fn begin(py: Python<'_>, context: &WorkerContext, mut fork: PythonFork<'_>) -> PyResult<Signals> {
    let signals = Signals::interrupting(py, Master::Supervisor)?;
    fork.unblock_signals()?;
    let environ = py.import("os")?.getattr("environ")?;
    environ.set_item(SLOT_VARIABLE, context.slot().to_string())?;
    environ.set_item(GENERATION_VARIABLE, context.generation().to_string())?;
    Ok(signals)
}

/// Tells the application how many reloads there have been.
const GENERATION_VARIABLE: &str = "PORTICO_GENERATION";

/// Tells the application which of the workers it is in.
const SLOT_VARIABLE: &str = "PORTICO_WORKER_SLOT";
