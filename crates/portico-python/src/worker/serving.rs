//! The life of a worker process: import the application, start the engine and its threads, warm up, accept, wait
//! for what ends it (`orders.rs` has that), stop.

use std::hash::RandomState;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use portico_log::{AccessLog, Occurrences};
use portico_net::Listener;
use pyo3::prelude::*;

use log::Level;
use portico_config::Config;
use portico_server::{Application, Lending, Recording, Routes, SharedLimits};
use portico_supervisor::{Report, StacksFile};
use portico_worker::{
    Inbox, LEAVING, SlotHandle, Wake, WorkerSetup, counted, crippled_message, end_crippled, logging, warm_up,
};

use super::app::{LoadError, Loaded};
use super::context::WorkerContext;
use super::development::Reloader;
use super::error_page;
use super::greenlets::Greenlets;
use super::listening::Listening;
use super::monitor::Monitor;
use super::orders::Orders;
use super::recording::begin_recording;
use super::signals::{Signals, ignore_at_end};
use super::source::{Source, find};
use super::start_error::{StartError, system};
use super::static_folders;
use super::threads::Threads;
use super::watch::{self, Stuck, Watching, close};
use crate::after_response::AfterResponse;
use crate::conf::reopen_loggers;
use crate::error::{one_line, traceback};
use crate::fork::{exit_now, flush_output};
use crate::gateway::{Gateway, Replace};
use crate::hub::Hub;
use crate::stacks::{self, Stacks};
use crate::thread_status::ThreadStatuses;
use crate::{forked_children, metric_values, raw};

/// A worker's ingredients. [`WorkerRun::run`] serves with them until the worker is to end.
pub(crate) struct WorkerRun {
    /// What it begins with.
    pub(crate) setup: WorkerSetup,
    /// Where it accepts.
    pub(crate) listeners: Vec<Listener>,
    /// Its place under a supervisor, if there is one.
    pub(crate) context: Option<Arc<WorkerContext>>,
    /// Where it writes the stacks of its threads, if somebody else has made that.
    pub(crate) stacks: Option<StacksFile>,
}

/// A worker that serves: its engine, its threads, and what looks after them.
struct Serving {
    config: Arc<Config>,
    lending: Arc<Lending>,
    threads: Arc<Threads>,
    records: Arc<ThreadStatuses>,
    stacks: Arc<Stacks>,
    context: Option<Arc<WorkerContext>>,
    /// Where the application's threads are greenlets: their hub, which goes on while the main thread waits.
    hub: Option<Arc<Hub>>,
    orders: Arc<Orders>,
    /// What is done after responses.
    after: Arc<AfterResponse>,
}

impl WorkerRun {
    /// Serves until a signal or the supervisor ends it.
    ///
    /// # Errors
    /// See [`StartError`]; once it serves, nothing but a Python signal handler's exception.
    pub(crate) fn run(self, py: Python<'_>, source: Source, signals: &mut Signals) -> Result<(), StartError> {
        let Self { setup, listeners, context, stacks } = self;
        let setup = Arc::new(setup);
        let config = &setup.config;
        let records = ThreadStatuses::new(place(config, context.as_deref())?);
        metric_values::attach(py, records.place(), context.as_deref().map_or(0, WorkerContext::slot));
        let recording = begin_recording(py, &setup, context.as_deref(), records.place())?;
        let reopener = recording.access_log.as_ref().and_then(AccessLog::reopener);
        let listening = Listening::prepare(py, config, listeners, records.place())?;
        // Before the application is imported: an import that hangs can be looked at.
        let stacks = install_stacks(py, stacks)?;
        let reloader = start_reloader(py, &setup, context.as_ref())?;
        let limits = limits(records.place(), context.as_deref());
        let (loaded, routes) = load(py, &setup, source, reloader.as_ref(), context.as_deref(), limits)?;
        let Loaded { application, target, mounted, .. } = loaded;
        let observer =
            context.as_deref().map(|context| context.loaded(py, &application)).transpose()?.flatten();
        let gateway = Gateway::new(py, application, mounted, config, observer)?;
        let hub = Hub::of_application(py)?;
        let after = AfterResponse::install(config.after_threads, records.place().metrics(), hub.as_ref());
        let called = Called::new(gateway, hub.as_ref(), &records);
        let lending =
            start_engine(config, recording, &called, routes, (records.place(), context.as_deref()))?;
        catch_signals(py, signals, &lending, &stacks, context.as_deref())?;
        let threads = start_threads(py, config, &lending, signals, &records, called)?;
        let watch = watch::start(Watching {
            config: Arc::clone(config),
            records: Arc::clone(&records),
            lending: Arc::clone(&lending),
            threads: Arc::clone(&threads),
            hub: hub.clone(),
            stacks: Arc::clone(&stacks),
            replace: context.clone().map(replacing),
            stuck: context.clone().map(aborting),
        })
        .map_err(|error| system("starting threads", &error))?;
        let engine = (Arc::clone(&lending), Arc::clone(&threads));
        let place = (context.clone(), records.place().clone());
        let orders = Arc::new(Orders::new(Arc::clone(&setup), engine, place, reopener));
        let serving = Serving {
            config: Arc::clone(config),
            lending: Arc::clone(&lending),
            threads: Arc::clone(&threads),
            records,
            stacks: Arc::clone(&stacks),
            context: context.clone(),
            hub,
            orders,
            after: Arc::clone(&after),
        };
        after.notify(ringing(&threads));
        let result = serving.serve(py, &target, listening, signals).and_then(|()| serving.check());
        drop(serving);
        after.end(py)?;
        stacks.uninstall(py);
        // Without the interpreter: the watch's helper may wait for it, and this writes the rest of the access
        // log.
        py.detach(|| {
            drop(reloader);
            drop(watch);
            close(&lending);
            drop(lending);
        });
        if let Some(context) = context.filter(|_| threads.are_some_stuck() || after.is_running()) {
            let status = result.map_or_else(|error| context.boot_failed(&error), |()| 0);
            context.end(py);
            exit_beside_stuck_threads(py, status);
        }
        result
    }
}

/// Imports the applications, and makes the routes. A mistake in these shows before the import, which may take
/// long.
fn load(
    py: Python<'_>,
    setup: &WorkerSetup,
    source: Source,
    reloader: Option<&Reloader>,
    context: Option<&WorkerContext>,
    limits: SharedLimits,
) -> Result<(Loaded, Option<Routes>), StartError> {
    let (config, folder) = (&*setup.config, setup.folder.path());
    let is_given = matches!(source, Source::Callable(_));
    let routes = portico_cli::router_of_worker(config, folder, is_given);
    let mistake = routes.as_ref().err().cloned();
    let (loaded, router) = match (reloader, mistake) {
        (None, Some(mistake)) => return Err(StartError::System(mistake)),
        (None, None) => {
            let loaded = find(py, source, config, folder)?;
            let is_first = context.is_none_or(|context| context.slot() == 0);
            let routes = static_folders::router(py, config, folder, is_given, &loaded);
            let routes = routes.map_err(StartError::System)?;
            if is_first {
                routes.told(py).iter().for_each(|line| log::info!("{line}"));
            }
            (loaded, routes.routes.router)
        }
        // A file that routes name is mended as code is.
        (Some(reloader), mistake) => {
            let found = match mistake {
                None => find(py, source, config, folder),
                Some(mistake) => Err(LoadError::usage(mistake)),
            };
            (or_error_page(py, found, reloader, context)?, routes.unwrap_or_default())
        }
    };
    for line in router.iter().flat_map(|router| router.unread_manifests()) {
        log::warn!("{line}");
    }
    if context.is_none_or(|context| context.slot() == 0) {
        for line in router.iter().flat_map(portico_cli::bypassed_guards) {
            log::warn!("{line}");
        }
    }
    Ok((loaded, router.map(|router| Routes::new(router, folder, config, limits, Instant::now()))))
}

/// The caller of the application: threads, or greenlets of a hub.
enum Called {
    Threads(Arc<Monitor>),
    Greenlets(Arc<Greenlets>),
}

impl Called {
    fn new(gateway: Gateway, hub: Option<&Arc<Hub>>, records: &Arc<ThreadStatuses>) -> Self {
        let records = Arc::clone(records);
        match hub {
            None => Self::Threads(Arc::new(Monitor::new(gateway, records))),
            Some(hub) => Self::Greenlets(Arc::new(Greenlets::new(Arc::clone(hub), gateway, records))),
        }
    }

    fn application(&self) -> Arc<dyn Application> {
        match self {
            Self::Threads(monitor) => Arc::clone(monitor) as Arc<dyn Application>,
            Self::Greenlets(greenlets) => Arc::clone(greenlets) as Arc<dyn Application>,
        }
    }
}

impl Serving {
    fn serve(
        &self,
        py: Python<'_>,
        target: &str,
        listening: Listening,
        signals: &Signals,
    ) -> Result<(), StartError> {
        let result = self.serve_until_end(py, target, listening, &signals.inbox());
        if let Some(hub) = &self.hub {
            hub.close(py);
        }
        result
    }

    fn serve_until_end(
        &self,
        py: Python<'_>,
        target: &str,
        listening: Listening,
        inbox: &Inbox,
    ) -> Result<(), StartError> {
        if let Err(error) = self.warm_up(py, listening.listeners()) {
            if let Some(context) = &self.context {
                context.boot_failed(&error);
            }
            self.orders.ending().fail(error.exit_status());
            py.detach(|| self.orders.stop());
            self.wait_for_end(py, inbox)?;
            return Err(error);
        }
        let urls: Vec<String> = listening.urls().collect();
        if let Some(context) = &self.context {
            context.outlive_supervisor();
        }
        let listeners = listening.begin(py, self.records.place());
        self.lending.listen(listeners).map_err(|error| system("listening", &error))?;
        self.announce(target, &urls);
        match &self.context {
            None => self.records.place().serve_alone(),
            Some(context) => {
                context.ready();
                context.tell(py, "ready", "worker.alive");
            }
        }
        self.wait_for_end(py, inbox)
    }

    fn warm_up(&self, py: Python<'_>, listeners: &[Listener]) -> Result<(), StartError> {
        let Some(listener) = listeners.first() else { return Ok(()) };
        let (config, lending, server) =
            (Arc::clone(&self.config), Arc::clone(&self.lending), Arc::clone(listener.server()));
        Ok(self.outside(py, move || warm_up(&config, &lending, &server))?)
    }

    /// Runs `work` without the interpreter, and with the hub going on if there is one.
    fn outside<T: Send + 'static>(&self, py: Python<'_>, work: impl Fn() -> T + Send + Sync + 'static) -> T {
        let Some(hub) = &self.hub else { return py.detach(work) };
        hub.run_outside(py, work, |error| {
            forked_children::end(py, Some(error), "a greenlet");
            let error = one_line(py, error);
            log::error!(
                "{error} was raised in a greenlet, which gevent and eventlet pass on; the worker goes on"
            );
        })
    }

    fn announce(&self, target: &str, urls: &[String]) {
        let threads = match &self.hub {
            None => counted(self.config.threads.into(), "thread"),
            Some(hub) => {
                format!("{} of {}", counted(self.config.threads.into(), "greenlet"), hub.library())
            }
        };
        let pid = std::process::id();
        match &self.context {
            Some(context) => {
                // Under --reload one line tells of each restart, and that is another one.
                let level =
                    if context.generation() > 0 && self.config.reload { Level::Debug } else { Level::Info };
                log::log!(level, "Worker {} serves {target} with {threads} (pid {pid})", context.slot());
            }
            None => {
                log::info!("Serving {target} with {threads} (pid {pid})");
                for url in urls {
                    log::info!("Listening at: {url} ({pid})");
                }
            }
        }
    }

    /// Waits for what ends the worker, and then until everything has stopped; ends the process itself if a
    /// thread is stuck in the application beyond the time that it has.
    fn wait_for_end(&self, py: Python<'_>, inbox: &Inbox) -> Result<(), StartError> {
        loop {
            let (orders, inbox) = (Arc::clone(&self.orders), inbox.clone());
            let wake = self.outside(py, move || orders.follow(&inbox));
            py.check_signals()?;
            let wake = match wake {
                Ok(wake) => wake,
                Err(error) => {
                    py.detach(|| self.give_up(&format!("waiting for signals failed: {error}")));
                    return Ok(self.threads.join(py)?);
                }
            };
            match wake {
                Wake::TellStacks => stacks::log_all(py, Some(&self.records), Some(&self.stacks)),
                Wake::ReopenLogs => {
                    reopen_loggers(py, self.context.as_deref().and_then(WorkerContext::hooked))
                }
                Wake::Interrupted => self.tell_interruption(py),
                // It waits for them as for calls: for --graceful-timeout at most, and says what it drops.
                Wake::ExitNotified
                    if self.threads.all_ended(self.lending.is_stopped()) && self.after.is_done() =>
                {
                    return Ok(self.threads.join(py)?);
                }
                Wake::Timeout => self.exit_without_threads(py),
                _ => {}
            }
        }
    }

    /// Ends the process, or where it is not the server's own all that serves in it: nothing can tell when the
    /// threads have ended.
    fn give_up(&self, reason: &str) {
        if self.context.is_some() {
            end_crippled(reason);
        }
        self.lending.fail(reason.to_owned());
        let end = Instant::now() + LEAVING;
        while !self.threads.all_ended(false) && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether all has ended well.
    fn check(&self) -> Result<(), StartError> {
        let failure = self.lending.failure();
        failure.map_or(Ok(()), |reason| Err(StartError::System(crippled_message(reason))))
    }

    /// For the hook `worker_int`.
    fn tell_interruption(&self, py: Python<'_>) {
        if let Some(context) = &self.context {
            context.tell(py, "interrupt", "worker_int");
        }
    }

    /// Ends the process although threads are still in the application: Python's own end would wait for locks
    /// that they may hold.
    fn exit_without_threads(&self, py: Python<'_>) -> ! {
        // Cuts what is still open, and names it in the log.
        py.detach(|| self.lending.stop());
        let calls = self.lending.calls();
        if calls > 0 {
            log::error!("{calls} of the application's calls did not end; leaving without them");
        }
        self.after.close();
        if let Some(context) = &self.context {
            context.end(py);
        }
        flush_output(py);
        py.detach(|| {
            close(&self.lending);
            logging::exit(self.orders.ending().status())
        })
    }
}

/// Ends the process as Python does, as far as that goes with threads that are stuck in the application: one that
/// comes back to an interpreter that is no more aborts the process.
fn exit_beside_stuck_threads(py: Python<'_>, status: i32) -> ! {
    ignore_at_end(py);
    for (module, function) in [("threading", "_shutdown"), ("atexit", "_run_exitfuncs")] {
        if let Err(error) = py.import(module).and_then(|module| module.call_method0(function)) {
            log::error!("at the end {module}.{function} raised\n{}", traceback(py, &error));
        }
    }
    py.detach(logging::flush);
    exit_now(py, status)
}

fn start_engine(
    config: &Arc<Config>,
    recording: Recording,
    called: &Called,
    routes: Option<Routes>,
    (place, context): (&SlotHandle, Option<&WorkerContext>),
) -> Result<Arc<Lending>, StartError> {
    let (application, health) = (called.application(), place.health(config));
    let sharing = context.map(|context| context.sharing(place));
    Lending::new(Arc::clone(config), recording, application, routes, health, sharing)
        .map_err(|error| system("starting the engine", &error))
}

/// Has the main thread look whether all that it waits for has ended.
fn ringing(threads: &Arc<Threads>) -> impl Fn() + Send + Sync + 'static {
    let threads = Arc::downgrade(threads);
    move || threads.upgrade().iter().for_each(|threads| threads.ring())
}

fn start_threads(
    py: Python<'_>,
    config: &Config,
    lending: &Arc<Lending>,
    signals: &Signals,
    records: &Arc<ThreadStatuses>,
    called: Called,
) -> Result<Arc<Threads>, StartError> {
    let exit_notifier = signals.exit_notifier().map_err(|error| system("starting threads", &error))?;
    let standby = Arc::clone(lending);
    thread::Builder::new()
        .name("portico-standby".to_owned())
        .spawn(move || standby.run_standby())
        .map_err(|error| system("starting threads", &error))?;
    let (each, records) = (Arc::clone(lending), Arc::clone(records));
    Ok(match called {
        Called::Threads(monitor) => {
            let threads = Arc::new(Threads::start(py, config, exit_notifier, move |index| {
                records.enlist(index, Python::attach(raw::thread_ident));
                each.run_thread();
            })?);
            monitor.streams().begin(replacing_threads(&threads, lending));
            threads
        }
        // All calls share the thread of the hub: no connection can be taken over.
        Called::Greenlets(greenlets) => {
            Arc::new(Threads::start_for(py, greenlets, config.threads, exit_notifier, move |_| {
                each.run_thread()
            })?)
        }
    })
}

/// Where routes count what they limit: together with the other workers, if there are some.
fn limits(place: &SlotHandle, context: Option<&WorkerContext>) -> SharedLimits {
    place.limits(context.map_or_else(RandomState::new, WorkerContext::limit_keys))
}

/// Where the worker writes what it is doing.
fn place(config: &Config, context: Option<&WorkerContext>) -> Result<SlotHandle, StartError> {
    let place = match context {
        Some(context) => context.place().ok_or_else(|| io::ErrorKind::InvalidInput.into()),
        None => SlotHandle::alone(config),
    };
    place.map_err(|error| system("making the scoreboard", &error))
}

/// Puts another thread in the place of one whose call has taken its connection over.
fn replacing_threads(threads: &Arc<Threads>, lending: &Arc<Lending>) -> Replace {
    // Weak: the lending has the gateway, and the gateway this.
    let (threads, lending) = (Arc::downgrade(threads), Arc::downgrade(lending));
    Box::new(move |py, index, request| {
        let (Some(threads), Some(lending)) = (threads.upgrade(), lending.upgrade()) else { return };
        match threads.start_beside(py, index) {
            Ok(()) => drop(lending.release_thread(request)),
            Err(error) => {
                if let Some(times) = UNREPLACED.note() {
                    let error = one_line(py, &error);
                    log::warn!("a WebSocket keeps one of --threads, since no other starts: {error}{times}");
                }
            }
        }
    })
}

static UNREPLACED: Occurrences = Occurrences::new();

fn install_stacks(py: Python<'_>, file: Option<StacksFile>) -> Result<Arc<Stacks>, StartError> {
    let file = file.map_or_else(|| StacksFile::of_worker(0), Ok);
    let file = file.map_err(|error| system("making memory for stacks", &error))?;
    Ok(Arc::new(Stacks::install(py, file)?))
}

/// With `--reload`: before the application is imported, so that nothing that changes meanwhile is missed.
fn start_reloader(
    py: Python<'_>,
    setup: &WorkerSetup,
    context: Option<&Arc<WorkerContext>>,
) -> Result<Option<Reloader>, StartError> {
    let Some(context) = context.filter(|_| setup.config.reload) else { return Ok(None) };
    let started = py.detach(|| Reloader::start(setup, context));
    started.map(Some).map_err(|error| system("watching files for --reload", &error))
}

/// What was found, or a page that tells why it was not. What was asked for in vain at the first start is refused
/// as ever: no change of a file would mend it.
fn or_error_page(
    py: Python<'_>,
    found: Result<Loaded, LoadError>,
    reloader: &Reloader,
    context: Option<&WorkerContext>,
) -> Result<Loaded, StartError> {
    let error = match found {
        Err(error) if !error.interrupted => error,
        found => return Ok(found?),
    };
    if error.traceback.is_none() && context.is_some_and(|context| context.generation() == 0) {
        return Err(error.into());
    }
    reloader.note_broken();
    let page = error_page::standing_in(py, &error)?;
    log::error!("{}", StartError::from(error).told());
    Ok(page)
}

/// Has the supervisor replace this worker.
fn replacing(context: Arc<WorkerContext>) -> Box<dyn Fn(String) + Send> {
    Box::new(move |reason| context.report(&Report::Replace(reason)))
}

/// Tells the worker that one of its threads is stuck, for the hook `worker_abort`.
fn aborting(context: Arc<WorkerContext>) -> Stuck {
    Arc::new(move |py| context.tell(py, "abort", "worker_abort"))
}

/// Has signals wake the main thread from now on, and notes the descriptors that this process needs beside the
/// engine's.
fn catch_signals(
    py: Python<'_>,
    signals: &mut Signals,
    lending: &Lending,
    stacks: &Stacks,
    context: Option<&WorkerContext>,
) -> PyResult<()> {
    signals.catch(py)?;
    let vital = lending.vital();
    vital.add("the file of stacks", stacks);
    signals.add_to(vital);
    if let Some(context) = context {
        vital.add("the control socket", context.control());
    }
    Ok(())
}
