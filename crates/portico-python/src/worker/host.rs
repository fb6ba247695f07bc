//! What the supervisor has of this program: the listeners, and the logs.

use std::cell::RefCell;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use portico_log::{AccessLog, LineConstants, LostRequest, Outputs, Plan, Times};
use portico_metrics::{Gauge, Observed};
use portico_net::{CertificateExpiry, CertificateReloader, Listener};
use pyo3::call::PyCallArgs;
use pyo3::prelude::*;

use portico_config::{Config, Preload, Resolved};
use portico_files::Owner;
use portico_os::Folder;
use portico_supervisor::upgrade::{CommandLine, Takeover};
use portico_supervisor::{
    Footprint, Host, InterruptedRequest, LogFiles, Pidfile, ReloadError, Running, Scoreboard, SettingsFile,
    StacksFile, ask_stacks, stacks_in,
};
use portico_worker::{
    WorkerSetup, fit_workers, folders, logging, logs, mebibytes, opening, settle_start, telemetry,
    worker_class, write_pidfile,
};
use rustix::process::{Pid, Signal, getppid, kill_process};

use super::configuration::Configuration;
use super::development::{configuration_versions, restore_terminal};
use super::identity::Identity;
use super::start::{add_supervisors_folders, settle};
use super::start_error::{StartError, system};
use super::{environment, title};
use crate::conf::{Hooks, access_observer, guard_files, log_here, share_access_log};
use crate::error::{one_line, traceback};
use crate::gateway::error_stream;
use crate::import_path;

/// The program as its supervisor sees it: listeners, logs, hooks, configuration and certificates. Owned by the
/// supervisor's process; the workers get what they need through [`ForkContext`].
pub(crate) struct SupervisorHost {
    config: Arc<Config>,
    /// The bound sockets, until they are closed.
    listeners: Option<Rc<Vec<Listener>>>,
    /// Who is told of requests that died with their workers, and of the workers.
    outputs: Outputs,
    origin: Origin,
    resources: OwnedResources,
    /// What a reload reads again.
    configuration: Configuration,
    fork_context: Rc<RefCell<ForkContext>>,
    /// What is shown of the settings; `None` if there was no memory for it.
    settings: Option<SettingsFile>,
    /// When statsd was told last how long the certificates are valid.
    certificates_told: Option<(Instant, bool)>,
}

/// What is shown of settings, without what may be secret.
fn shown_settings(resolved: &Resolved) -> Option<SettingsFile> {
    let made = SettingsFile::create(&resolved.show_set_json());
    made.inspect_err(|error| log::warn!("the settings cannot be shown to portico web: {error}")).ok()
}

/// The state that processes which are forked from now on begin with. A reload replaces it as a whole.
#[derive(Clone)]
pub(crate) struct ForkContext {
    /// The settings.
    pub(crate) setup: WorkerSetup,
    /// The hooks, where something in Python is configured.
    pub(crate) hooks: Option<Rc<Hooks>>,
    /// Whose the workers are.
    pub(crate) identity: Option<Identity>,
}

impl ForkContext {
    /// The hooks, where something in Python is configured.
    pub(crate) fn hooks(&self) -> Option<Rc<Hooks>> {
        self.hooks.clone()
    }
}

/// The supervisor's resources beside its sockets; given back at its end.
#[derive(Debug, Default)]
pub(crate) struct OwnedResources {
    /// `--pid`.
    pub(crate) pidfile: Option<Pidfile>,
    /// Who reads certificates and keys.
    pub(crate) reloader: Option<CertificateReloader>,
}

/// The origin of this process: started, forked, or in the place of an old one.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    /// How it was started; `None` where Python does not know.
    pub(crate) command_line: Option<CommandLine>,
    /// It was started by `python -m`, which looks for modules in the current folder before all others.
    pub(crate) by_module: bool,
    /// What it has from the supervisor that it is to replace, until it serves.
    pub(crate) takeover: Option<Takeover>,
    /// That supervisor, until it has ended.
    pub(crate) former: Option<Pid>,
}

/// How often statsd is told of the certificates.
const CERTIFICATES_INTERVAL: Duration = Duration::from_secs(60);

impl SupervisorHost {
    /// With these settings and bound sockets.
    pub(crate) fn new(
        fork_context: Rc<RefCell<ForkContext>>,
        listeners: Rc<Vec<Listener>>,
        origin: Origin,
        resources: OwnedResources,
        configuration: Configuration,
    ) -> Self {
        let config = Arc::clone(&fork_context.borrow().setup.config);
        let outputs = outputs(&fork_context.borrow().setup, fork_context.borrow().hooks.as_deref());
        let settings = configuration.running.as_ref().and_then(shown_settings);
        Self {
            config,
            settings,
            listeners: Some(listeners),
            outputs,
            origin,
            resources,
            configuration,
            fork_context,
            certificates_told: None,
        }
    }

    /// Has the hooks told of something.
    fn tell(&self, what: &str, arguments: impl for<'py> PyCallArgs<'py>) {
        if let Some(hooks) = self.hooks() {
            Python::attach(|py| hooks.tell(py, what, arguments));
        }
    }

    fn hooks(&self) -> Option<Rc<Hooks>> {
        self.fork_context.borrow().hooks()
    }

    /// Reads certificates that have changed, and tells statsd how many days the first one is still valid, and
    /// whether there are newer ones that cannot be served with.
    fn look_after_certificates(&mut self, board: &Scoreboard) {
        let Some(reloader) = &mut self.resources.reloader else { return };
        reloader.look();
        let stale = reloader.is_stale();
        board.metrics().set(Gauge::CertificatesStale, stale.into());
        let expiries = reloader.expiries();
        let until = |expiry: &CertificateExpiry| u64::try_from(expiry.until).unwrap_or(0);
        board.certificates().set(expiries.iter().map(|expiry| (&*expiry.file, until(expiry))));
        let is_due = self
            .certificates_told
            .is_none_or(|(told, was_stale)| was_stale != stale || told.elapsed() >= CERTIFICATES_INTERVAL);
        if let Some(statsd) = self.outputs.statsd.as_mut().filter(|_| is_due)
            && let Some(days) = reloader.expiries().iter().map(|expiry| expiry.days).min()
        {
            self.certificates_told = Some((Instant::now(), stale));
            statsd.send(Observed::CertificateExpiry.metric(), u64::try_from(days).unwrap_or(0));
            statsd.send(Gauge::CertificatesStale.metric(), u64::from(stale));
            statsd.flush();
        }
    }

    /// Takes another configuration as far as a running server can.
    fn follow(
        &mut self,
        py: Python<'_>,
        mut resolved: Resolved,
        guarded: bool,
    ) -> Result<Arc<Config>, String> {
        fit_workers(&mut resolved.config);
        let told = |error: PyErr| one_line(py, &error);
        let identity = Identity::find(py, &resolved.config).map_err(|error| error.told())?;
        let workers = identity.as_ref().map(Identity::owner);
        let former = self.fork_context.borrow().setup.folder.clone();
        let known = [self.configuration.start(), Some(&former)];
        let folder =
            folders::enter_again(&resolved.config, known, guarded).map_err(|error| error.to_string())?;
        let setup = settle(py, resolved.config.clone(), folder).map_err(|error| error.told())?;
        let former = setup.former.clone();
        if workers.is_some_and(|workers| workers.is_lesser()) {
            import_path::withhold_exposed(py).map_err(told)?.iter().for_each(|it| log::warn!("{it}"));
            guard_files(py).map_err(told)?;
        }
        // Whom the files are protected from that are opened now.
        logging::give_files_to(workers);
        let followed = self.adopt(py, &resolved, setup, identity);
        match followed {
            Ok(_) => {
                self.configuration.workers = workers;
                self.settings = shown_settings(&resolved);
                self.configuration.running = Some(resolved);
            }
            Err(_) => {
                logging::give_files_to(self.owner());
                environment::restore(py, &former).map_err(told)?;
            }
        }
        followed
    }

    /// Whose the workers are.
    fn owner(&self) -> Option<Owner> {
        self.fork_context.borrow().identity.as_ref().map(Identity::owner)
    }

    /// Goes by `setting` from now on, or by none of it.
    fn adopt(
        &mut self,
        py: Python<'_>,
        resolved: &Resolved,
        mut setup: WorkerSetup,
        identity: Option<Identity>,
    ) -> Result<Arc<Config>, String> {
        let told = |error: PyErr| one_line(py, &error);
        let workers = identity.as_ref().map(Identity::owner);
        let config = Arc::clone(&setup.config);
        let place = |config: &Config| config.system.pidfile.as_ref().map(std::path::absolute);
        let moves = match (place(&self.config), place(&config)) {
            (Some(Ok(old)), Some(Ok(new))) => old != new,
            (old, new) => old.is_some() || new.is_some(),
        };
        let pidfile = match moves {
            true => write_pidfile(&config, self.origin.former.is_some(), workers)
                .map_err(|error| error.to_string())?,
            false => None,
        };
        setup.access_log = logs::open_access_log(&config).map_err(|error| error.to_string())?;
        if (&config.error_log, config.log_level, config.capture_output)
            != (&self.config.error_log, self.config.log_level, self.config.capture_output)
        {
            logging::install(&config.error_log, config.log_level, config.capture_output)
                .map_err(|error| format!("{} failed: {error}", opening("error log", &config.error_log)))?;
        }
        if config.telemetry != self.config.telemetry {
            telemetry::observe_log(&config);
        }
        resolved.warnings.iter().for_each(|warning| log::warn!("{warning}"));
        let hooks = match self.hooks() {
            Some(hooks) => {
                let workers = (config.workers != self.config.workers).then_some(config.workers.min);
                hooks.reload(py, &self.configuration.files, resolved, workers);
                Some(hooks)
            }
            None => {
                if Hooks::are_configured(&self.configuration.files, resolved) {
                    add_supervisors_folders(py, &config, setup.folder.path(), workers).map_err(told)?;
                }
                let hooks =
                    Hooks::new(py, &self.configuration.files, resolved, error_stream(py).map_err(told)?);
                let hooks = hooks?.map(Rc::new);
                hooks.inspect(|hooks| hooks.tell(py, "scaled", (config.workers.min,)))
            }
        };
        if let Some(hooks) = &hooks {
            log_here(py, hooks);
        }
        self.outputs = outputs(&setup, hooks.as_deref());
        if let Some(reloader) = &mut self.resources.reloader {
            reloader.follow(&config, workers);
        }
        self.config = Arc::clone(&config);
        if moves {
            // The former one goes, and its file with it.
            self.resources.pidfile = pidfile;
        }
        if let (Some(identity), Some(listeners)) = (&identity, &self.listeners) {
            identity.give_sockets(listeners);
        }
        title::set(py, title::Role::Master, &config);
        if let Err(error) = share_access_log(py, &setup) {
            log::error!("Python's logger of accesses cannot write to the access log: {}", told(error));
        }
        *self.fork_context.borrow_mut() = ForkContext { setup, hooks, identity };
        Ok(config)
    }
}

impl Origin {
    /// To be called at the start of the process, in the folder `start`, before anything reads its standard input.
    ///
    /// # Errors
    /// That folder is gone; the supervisor that has started this one to replace it has laid nothing before it;
    /// Python's own.
    pub(crate) fn find(py: Python<'_>, start: Option<&Folder>) -> Result<Self, StartError> {
        let gone = || StartError::System("the folder that it is started in has been removed".to_owned());
        let folder = start.ok_or_else(gone)?.path();
        let sys = py.import("sys")?;
        let program: Option<OsString> = sys.getattr("executable")?.extract()?;
        let arguments: Vec<OsString> = sys.getattr("orig_argv")?.extract()?;
        let program = program.filter(|program| !program.is_empty() && !arguments.is_empty());
        let command_line = program
            .map(|program| CommandLine::new(program, arguments.into_iter().skip(1).collect(), folder.into()));
        let takeover = Takeover::from_env().map_err(|error| system("replacing another server", &error))?;
        let former = takeover.as_ref().and_then(|_| getppid());
        let script: Option<PathBuf> = sys.getattr("argv")?.get_item(0).ok().and_then(|it| it.extract().ok());
        let by_module = script.is_some_and(|script| script.ends_with("portico/__main__.py"));
        let by_module = by_module && !import_path::is_safe(py);
        Ok(Self { command_line, by_module, takeover, former })
    }

    /// Has a new supervisor, which is root's, look for no module in the folder that it is started in: that may be
    /// the workers' user's.
    fn leave_folder(&mut self) {
        if !std::mem::take(&mut self.by_module) {
            return;
        }
        match Python::attach(|py| py.version_info() >= (3, 11)) {
            true => self.command_line.iter_mut().for_each(|line| line.add_option("-P")),
            false => {
                log::error!(
                    "python -m portico looks for modules in the current folder first, as root; with this Python \
                     an upgrade has to be one of a server that was started by the command portico"
                );
                self.command_line = None;
            }
        }
    }
}

impl Host for SupervisorHost {
    fn before_fork(&mut self, slot: u32) -> bool {
        let Some(hooks) = self.hooks() else { return true };
        Python::attach(|py| match hooks.call(py, "before_fork", (slot,)) {
            Ok(()) => true,
            Err(error) => {
                log::error!("the hook pre_fork raised\n{}", traceback(py, &error));
                false
            }
        })
    }

    fn started(&mut self, slot: u32, pid: u32) {
        self.tell("started", (slot, pid));
    }

    fn ended(&mut self, pid: u32) {
        self.tell("ended", (pid,));
    }

    fn scaled(&mut self, workers: u32) {
        self.tell("scaled", (workers,));
    }

    fn reload(&mut self) -> Result<Option<Arc<Config>>, ReloadError> {
        let reloaded = Python::attach(|py| {
            let told = |error: PyErr| one_line(py, &error);
            // What --env has said is said anew, and counts for none of the settings.
            let former = self.fork_context.borrow().setup.former.clone();
            environment::restore(py, &former).map_err(told)?;
            let here = Folder::named(PathBuf::new()).map_err(|error| error.to_string())?;
            let guarded = self.owner().is_some_and(|workers| workers.is_lesser());
            if let Some(start) = self.configuration.start() {
                folders::go_to(start, guarded).map_err(|error| error.to_string())?;
            }
            let read_from = configuration_versions(&self.fork_context.borrow().setup);
            let read = self.configuration.read_again(py);
            let followed = read.and_then(|resolved| self.follow(py, resolved, guarded));
            self.fork_context.borrow_mut().setup.read_from = read_from;
            if followed.is_err() {
                here.enter().map_err(|error| error.to_string())?;
                environment::fill(py, &self.config).map_err(told)?;
            }
            followed
        });
        Ok(Some(reloaded?))
    }

    fn upgrading(&mut self) {
        self.tell("upgrading", ());
        let guarded = self.owner().is_some_and(|owner| owner.is_lesser());
        if guarded {
            self.origin.leave_folder();
        }
        if let (Some(line), Some(start)) = (&mut self.origin.command_line, self.configuration.start()) {
            line.set_folder(folders::path_for_another(start, guarded));
        }
    }

    fn interrupting(&mut self, workers: &[u32]) {
        if self.hooks().is_some() {
            for pid in workers {
                let number = i32::try_from(*pid).ok().and_then(Pid::from_raw);
                if let Some(number) = number
                    && let Err(error) = kill_process(number, Signal::INT)
                {
                    log::debug!("Worker {pid} cannot be told of SIGINT: {error}");
                }
            }
        }
    }

    fn serving(&mut self) {
        logging::show_errors(false);
        for listener in self.listeners.iter().flat_map(|listeners| listeners.iter()) {
            log::info!("Listening at: {} ({})", listener.url(), std::process::id());
        }
        log::info!("Using worker: {}", worker_class(&self.config));
        settle_start(0);
    }

    fn complete(&mut self, workers: &[u32]) {
        // Not before: the old one's workers leave now, and these have to do for all requests.
        if let Some(takeover) = self.origin.takeover.take() {
            takeover.ready();
        }
        let footprints = workers.iter().filter_map(|pid| Footprint::of(Path::new("/"), *pid));
        let footprints: Vec<Footprint> = footprints.collect();
        let mean = |part: fn(&Footprint) -> u64| {
            footprints.iter().map(part).sum::<u64>().checked_div(footprints.len() as u64)
        };
        let means = (mean(|footprint| footprint.shared_kib), mean(|footprint| footprint.private_kib));
        if let (Some(shared), Some(private)) = means
            && self.config.preload != Preload::Off
        {
            log::info!(
                "Memory of each worker: {} shared, {} of its own",
                mebibytes(shared),
                mebibytes(private)
            );
        }
    }

    fn stop_listening(&mut self) {
        self.listeners = None;
    }

    fn lost_request(&mut self, lost: &InterruptedRequest<'_>) {
        if self.outputs.are_none() {
            return;
        }
        let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let InterruptedRequest { running, slot, pid, status, took_nanos } = *lost;
        let Running { method, target, peer, queued_nanos, .. } = running;
        let times = Times { queue: *queued_nanos, application: took_nanos, write: 0 };
        let request = LostRequest { method, target, peer: *peer, second, status, times };
        let facts = LineConstants {
            pid,
            slot: Some(slot),
            root_path: self.config.root_path.clone(),
            own_traces: false,
        };
        let plan = Plan::new(&self.config.access_log_format, facts);
        if let Err(error) = AccessLog::append(&mut self.outputs, &plan, &request) {
            log::error!("the access log cannot be written: {error}");
        }
    }

    fn worker_ended(&mut self) {
        if self.config.reload {
            restore_terminal();
        }
    }

    fn workers(&mut self, count: usize) {
        if let Some(statsd) = &mut self.outputs.statsd {
            statsd.send(Observed::Workers.metric(), count as u64);
            statsd.flush();
        }
    }

    fn waiting(&mut self, requests: u64) {
        if let Some(statsd) = self.outputs.statsd.as_mut().filter(|_| self.config.telemetry.backlog_metric) {
            statsd.send(Gauge::QueueLength.metric(), requests);
            statsd.flush();
        }
    }

    fn reopen_logs(&mut self) -> LogFiles {
        let files = logs::reopen(&self.fork_context.borrow().setup);
        // Before the workers do the same with those of Python's handlers, who may not make any.
        self.tell("reopen", ());
        files
    }

    fn tick(&mut self, board: &Scoreboard) {
        logging::proceed();
        self.look_after_certificates(board);
        if self.origin.former.is_some() && getppid() != self.origin.former {
            self.origin.former = None;
            self.resources.pidfile.iter_mut().for_each(Pidfile::promote);
        }
    }

    fn superseded(&mut self) {
        self.resources.pidfile.iter_mut().for_each(Pidfile::supersede);
    }

    fn ask_stacks(&mut self, pid: u32, file: &StacksFile) -> bool {
        let asked = ask_stacks(pid, file, std::process::id());
        if let Err(error) = &asked {
            log::debug!("Process {pid} cannot be asked for its stacks: {error}");
        }
        asked.unwrap_or_default()
    }

    fn stacks(&mut self, file: &StacksFile) -> Option<String> {
        let told = stacks_in(file).ok()?;
        let stacks: Vec<String> = told.iter().map(ToString::to_string).collect();
        (!stacks.is_empty()).then(|| stacks.join("\n"))
    }

    fn command_line(&self) -> Option<&CommandLine> {
        self.origin.command_line.as_ref()
    }

    fn listeners(&self) -> Vec<(BorrowedFd<'_>, String)> {
        let listeners = self.listeners.iter().flat_map(|listeners| listeners.iter());
        listeners.map(|listener| (listener.as_fd(), listener.name().to_owned())).collect()
    }

    fn secret(&self) -> Vec<u8> {
        self.resources.reloader.as_ref().map(CertificateReloader::ticket_keys).unwrap_or_default()
    }
}

/// Who is told of requests that have died with their workers.
fn outputs(setup: &WorkerSetup, hooks: Option<&Hooks>) -> Outputs {
    telemetry::outputs(
        setup,
        hooks.and_then(|hooks| Python::attach(|py| access_observer(py, hooks.server()))),
    )
}
