//! The command as a tree of processes: a supervisor, and the workers that it forks.
//!
//! The supervisor runs no code of the application and has one thread. A process that it forks goes on here
//! with its part, and ends here: it never returns to the Python code that has called the command, which runs
//! on in the supervisor alone.

use std::rc::{Rc, Weak};
use std::sync::Arc;

use pyo3::prelude::*;

use portico_config::Resolved;
use portico_server::{Handover, Listener};
use portico_supervisor::upgrade::Takeover;
use portico_supervisor::{Post, Report, Role, Supervisor};

use super::host::{Command, Origin, tell_workers};
use super::life::Life;
use super::post::{Station, end_with_supervisor};
use super::signals::{ENDED_BY_SIGNAL, Master, Signals, ignore_at_end};
use super::template::{self, Forebear};
use super::{Setting, Source, StartError, check, forked, raise_descriptor_limit, set_up, system};
use crate::fork::{Handlers, PythonFork, leave_signals};
use crate::{logging, raw};

/// What all processes of the tree have from the first.
struct Tree {
    setting: Setting,
    /// The sockets are the host's, which closes them in the supervisor.
    listeners: Weak<Vec<Listener>>,
    handover: Handover,
}

/// Runs the command until a signal stops it; returns the exit status, in the process that was started alone.
///
/// # Errors
/// See [`StartError`].
pub fn run(py: Python<'_>, resolved: &Resolved) -> Result<i32, StartError> {
    let mut origin = Origin::find(py)?;
    let setting = set_up(py, resolved)?;
    if setting.config.check_config {
        return check(py, Source::Target, &setting).map(|()| 0);
    }
    log::info!("Starting portico {}", env!("CARGO_PKG_VERSION"));
    raise_descriptor_limit();
    // Before the application is imported: an address that is taken shows at once, and a client that comes
    // early waits in the backlog.
    let inherited = origin.takeover.as_mut().map(Takeover::take_listeners).unwrap_or_default();
    let listeners = Listener::take_over(&setting.config, inherited)
        .map_err(|error| StartError::Listen(error.to_string()))?;
    let listeners = Rc::new(listeners);
    let tree = Tree {
        setting,
        listeners: Rc::downgrade(&listeners),
        handover: Handover::new().map_err(|error| system("connecting the workers", &error))?,
    };
    let config = Arc::clone(&tree.setting.config);
    let host = Command::new(Arc::clone(&config), listeners, origin);
    let mut supervisor =
        Supervisor::new(config, Box::new(host)).map_err(|error| system("making the scoreboard", &error))?;
    leave_signals(py)?;
    let mut fork = PythonFork::new(py, Handlers::Reset);
    tell_workers(&tree.setting.config);
    logging::show_errors(true);
    let role = supervisor.run(&mut fork);
    logging::show_errors(false);
    let listeners = tree.listeners.upgrade();
    // In a child the supervisor's ends of the other processes' lines go with it, which must not outlive it.
    // So does the host, and the listeners are this process' own.
    drop(supervisor);
    let listeners = listeners.and_then(Rc::into_inner).unwrap_or_default();
    match role {
        Role::Exit(status) => Ok(status),
        Role::Worker(post) => tree.work(py, post, Source::Target, listeners, fork),
        Role::Template(post) => {
            end_with_supervisor(&post);
            if let Err(error) = forked::withhold(py, &listeners) {
                log::warn!("what the application forks at its import keeps the listening sockets: {error}");
            }
            let Forebear { post, loaded, fork } = template::run(py, &tree.setting, post, fork);
            tree.work(py, post, Source::Loaded(loaded), listeners, fork)
        }
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
        let station = Arc::new(Station::new(post, self.handover));
        if matches!(source, Source::Target) {
            end_with_supervisor(station.post()); // It has the application to import.
        }
        let begun = begin(py, &station, fork);
        let lived = begun.map_err(StartError::from).and_then(|mut signals| {
            let life = Life { setting: self.setting, listeners, station: Some(Arc::clone(&station)) };
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
        raw::exit(py, status)
    }
}

/// Makes the process a worker's: its signals, its name.
fn begin(py: Python<'_>, station: &Station, mut fork: PythonFork<'_>) -> PyResult<Signals> {
    let signals = Signals::interrupting(py, Master::Supervisor)?;
    fork.unblock_signals()?;
    let slot = station.slot().to_string();
    py.import("os")?.getattr("environ")?.set_item(SLOT_VARIABLE, slot)?;
    Ok(signals)
}

/// Tells the application which of the workers it is in.
const SLOT_VARIABLE: &str = "PORTICO_WORKER_SLOT";
