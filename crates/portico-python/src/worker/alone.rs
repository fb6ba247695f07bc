//! `portico.serve`, and the command where it only checks: one process without a supervisor.

use portico_net::{CertificateReloader, Listener};
use pyo3::prelude::*;

use portico_config::Resolved;
use portico_worker::{Master, WorkerSetup, logging, raise_descriptor_limit};

use super::check;
use super::serving::WorkerRun;
use super::signals::Signals;
use super::source::Source;
use super::start::{listen_in_time, put_on_path, require_interpreter, set_up, tell_start};
use super::start_error::StartError;
use crate::conf;
use crate::gateway::error_stream;

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
