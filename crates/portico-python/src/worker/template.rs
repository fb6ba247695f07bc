//! The template process of `--preload`: imports the application, and forks the workers from what it has then.
//!
//! It has one thread and answers no request. Each worker is forked twice: the process in between ends at
//! once, so that the worker becomes the supervisor's child and the supervisor alone reaps.

use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use pyo3::prelude::*;

use portico_config::{Config, Preload};
use portico_net::Listener;
use portico_supervisor::{
    ChildContext, ControlCommand, ControlSocket, Forked, Report, Scoreboard, StacksFile,
};
use portico_worker::{EarlyProbes, Master, Wake, logging, logs};

use super::app::Loaded;
use super::context::is_child_of;
use super::fork_safety::obstacles;
use super::forked;
use super::host::ForkContext;
use super::signals::{Signals, ignore_at_end};
use super::source::{Source, find};
use super::start_error::StartError;
use crate::conf::reopen_handlers;
use crate::error::traceback;
use crate::fork::{Handlers, PythonFork, exit_now};
use crate::raw;
use crate::stacks::{self, Stacks};

/// A process that the template has forked, with the application in it.
pub(crate) struct ForkedWorker<'py> {
    /// Its place.
    pub(crate) child: ChildContext,
    /// The application.
    pub(crate) loaded: Loaded,
    /// How it was forked.
    pub(crate) fork: PythonFork<'py>,
}

/// How often what waits for the log's reader is tried again.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Is a template. Returns in the workers that it forks alone.
pub(crate) fn run<'py>(
    py: Python<'py>,
    fork_context: &ForkContext,
    (mut child, listeners): (ChildContext, &[Listener]),
    begun: PyResult<()>,
    mut fork: PythonFork<'py>,
) -> ForkedWorker<'py> {
    let stacks = child.stacks.take();
    let place = (listeners, &child.scoreboard);
    let prepared =
        begun.map_err(StartError::from).and_then(|()| prepare(py, fork_context, stacks, &mut fork, place));
    let (loaded, signals) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            ignore_at_end(py);
            py.detach(logging::flush);
            if error.is_interruption(py) {
                report(&child.control, &Report::Signalled);
                raw::exit(py, 0);
            }
            let status = error.exit_status();
            report(&child.control, &Report::BootFailed { status, message: error.told() });
            raw::exit(py, status)
        }
    };
    report(&child.control, &Report::Ready);
    serve(py, fork_context, child, loaded, signals)
}

/// Imports the application and looks at what that has left.
fn prepare(
    py: Python<'_>,
    fork_context: &ForkContext,
    stacks: Option<StacksFile>,
    fork: &mut PythonFork<'_>,
    (listeners, scoreboard): (&[Listener], &Scoreboard),
) -> Result<(Loaded, Signals), StartError> {
    let setup = &fork_context.setup;
    let mut signals = Signals::interrupting(py, Master::Supervisor)?;
    fork.unblock_signals()?;
    let stacks = stacks.map(|stacks| Stacks::install(py, stacks)).transpose()?;
    let early_probes = answer_probes(py, &setup.config, listeners, scoreboard);
    let found = find(py, Source::Target, &setup.config, setup.folder.path());
    // The workers have their own.
    stacks.iter().for_each(|stacks| stacks.uninstall(py));
    drop(stacks);
    // Nothing is forked beside a thread of the server's own.
    py.detach(|| drop(early_probes));
    let loaded = found?;
    let gc = py.import("gc")?;
    gc.call_method0("collect")?;
    // What is there now is not looked at by the workers' collections, which would write to it: its pages stay
    // shared.
    gc.call_method0("freeze")?;
    let obstacles = obstacles(py, fork.former_threads())?;
    if setup.config.preload == Preload::Strict && !obstacles.is_empty() {
        return Err(StartError::Unforkable(format!(
            "--preload=strict: what the import of {} has left does not survive a fork: {}",
            loaded.target,
            obstacles.join("; ")
        )));
    }
    for obstacle in obstacles {
        log::warn!(
            "--preload: the import of {} has left what does not survive a fork: {obstacle}",
            loaded.target
        );
    }
    signals.catch(py)?;
    Ok((loaded, signals))
}

/// Has processes that the application forks let go of `listeners`, and at the first start probes answered there
/// while it is imported.
fn answer_probes(
    py: Python<'_>,
    config: &Arc<Config>,
    listeners: &[Listener],
    scoreboard: &Scoreboard,
) -> Option<EarlyProbes> {
    let shared: io::Result<Vec<Listener>> = listeners.iter().map(Listener::share).collect();
    let withheld = shared.map_err(PyErr::from).and_then(|shared| {
        forked::withhold(py, listeners.iter().chain(&shared))?;
        Ok(EarlyProbes::of_template(config, shared, scoreboard.clone())?)
    });
    withheld.unwrap_or_else(|error| {
        log::warn!(
            "probes are not answered during the import, or what that forks keeps the listening sockets: {error}"
        );
        None
    })
}

/// Forks workers as the supervisor asks for them, until that ends.
fn serve<'py>(
    py: Python<'py>,
    fork_context: &ForkContext,
    child: ChildContext,
    loaded: Loaded,
    signals: Signals,
) -> ForkedWorker<'py> {
    let inbox = signals.inbox();
    let mut fork = PythonFork::new(py, Handlers::Keep);
    loop {
        // It has one thread: what the log's reader has not taken is tried again now and then.
        let limit = logging::is_waiting().then_some(LOG_INTERVAL);
        let waited = py.detach(|| inbox.wait(Some(&child.control), limit));
        match waited.map_err(PyErr::from).and_then(|wake| py.check_signals().map(|()| wake)) {
            Ok(Wake::Command(ControlCommand::Fork { slot, generation, control, stacks })) => {
                // Here and not in the supervisor: this process has the application.
                if let Some(hooks) = &fork_context.hooks
                    && let Err(error) = hooks.call(py, "before_fork", (slot,))
                {
                    log::error!("the hook pre_fork raised\n{}", traceback(py, &error));
                    // The worker's end of its control socket goes with this turn, which tells the supervisor.
                    continue;
                }
                match fork.fork_twice() {
                    Ok(Forked::Parent(_)) => {}
                    Ok(Forked::Child) => {
                        logging::begin_process();
                        let control = ControlSocket::from_descriptor(control);
                        await_supervisor(&child);
                        report(&control, &Report::Started);
                        // The template's own line and its signals go.
                        let stacks = Some(StacksFile::from_descriptor(stacks));
                        let child = ChildContext { slot, generation, control, stacks, ..child };
                        return ForkedWorker { child, loaded, fork };
                    }
                    // The worker's end of its control socket goes with this turn, which tells the supervisor.
                    Err(error) => log::error!("forking a worker failed: {error}"),
                }
            }
            Ok(Wake::Command(ControlCommand::ReopenLogs(files))) => {
                logs::take(&fork_context.setup, files);
                reopen_handlers(py);
            }
            Ok(Wake::ReopenLogs) => {
                logs::reopen(&fork_context.setup);
                reopen_handlers(py);
            }
            Ok(Wake::TellStacks) => stacks::log_all(py, None, None),
            Ok(Wake::Timeout) => logging::proceed(),
            Ok(
                Wake::Command(ControlCommand::AnnounceClose)
                | Wake::Interrupted
                | Wake::Handlers
                | Wake::ExitNotified,
            ) => {}
            // What the application has registered to run at the end is the workers' to run.
            Ok(Wake::Stop(_) | Wake::StopNow(_)) => {
                report(&child.control, &Report::Signalled);
                end(py, 0)
            }
            Ok(Wake::Orphaned | Wake::Command(_)) => end(py, 0),
            Err(error) => {
                log::error!("waiting has failed in the template: {error}");
                end(py, 1)
            }
        }
    }
}

/// Ends the process, but for what it had to say.
fn end(py: Python<'_>, status: i32) -> ! {
    py.detach(logging::flush);
    exit_now(py, status)
}

/// How often a new worker looks whether it is the supervisor's child, and for how long.
const ADOPTION_PAUSE: Duration = Duration::from_millis(1);
const ADOPTION_LOOKS: u32 = 5000;

/// Waits until this process, which was forked twice, is the supervisor's child. That is when the process in
/// between has ended, which it does at once; the supervisor believes none but its children.
fn await_supervisor(child: &ChildContext) {
    for _ in 0..ADOPTION_LOOKS {
        if is_child_of(child.supervisor) {
            return;
        }
        thread::sleep(ADOPTION_PAUSE);
    }
}

/// Tells the supervisor. One that has died is noticed where the line is read.
fn report(control: &ControlSocket, report: &Report) {
    if let Err(error) = control.report(report) {
        log::debug!("The supervisor cannot be told {report}: {error}");
    }
}
