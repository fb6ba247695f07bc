//! What the supervisor has of this program: the listeners, and the logs.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use portico_config::{Config, Preload};
use portico_server::{AccessLog, Destination, Listener, LostRequest};
use portico_supervisor::{Footprint, Host, Running};

use super::destination;
use crate::logging;

/// The command, as its supervisor sees it.
pub struct Command {
    config: Arc<Config>,
    /// The bound sockets, until they are closed.
    listeners: Option<Rc<Vec<Listener>>>,
    access_log: Option<Destination>,
}

impl Command {
    /// With these settings and bound sockets.
    pub fn new(config: Arc<Config>, listeners: Rc<Vec<Listener>>) -> Self {
        let access_log = config.access_log.as_ref().map(destination);
        Self { config, listeners: Some(listeners), access_log }
    }
}

impl Host for Command {
    fn serving(&mut self) {
        for listener in self.listeners.iter().flat_map(|listeners| listeners.iter()) {
            log::info!("Listening at: {} ({})", listener.url(), std::process::id());
        }
    }

    fn complete(&mut self, workers: &[u32]) {
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

    fn lost_request(&mut self, running: &Running, status: u16, _reason: &str) {
        let Some(destination) = &self.access_log else { return };
        let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let Running { method, target, peer, .. } = running;
        let request = LostRequest { method, target, peer: *peer, second, status };
        if let Err(error) = AccessLog::append(destination, self.config.access_log_format, &request) {
            log::error!("the access log cannot be written: {error}");
        }
    }

    fn reopen_logs(&mut self) {
        logging::reopen();
    }

    fn listeners(&self) -> Vec<(BorrowedFd<'_>, String)> {
        let listeners = self.listeners.iter().flat_map(|listeners| listeners.iter());
        listeners.map(|listener| (listener.as_fd(), listener.url().to_owned())).collect()
    }
}

/// What the workers are, in one line: how many, why so many, and what follows for what they talk to.
pub fn tell_workers(config: &Config) {
    let workers = match (config.workers.min, config.workers.max) {
        (1, 1) => "1 worker".to_owned(),
        (min, max) if min == max => format!("{max} workers"),
        (min, max) => format!("{min} to {max} workers"),
    };
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get());
    let requests = u64::from(config.workers.max) * u64::from(config.threads);
    log::info!(
        "{workers} x {} on {}: at most {} at once, so at most {} of an application whose threads keep one each",
        counted(config.threads.into(), "thread"),
        counted(cpus as u64, "CPU"),
        counted(requests, "request"),
        counted(requests, "database connection"),
    );
}

/// `1 thread`, `2 threads`.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn mebibytes(kib: u64) -> String {
    format!("{} MiB", kib.div_ceil(1024))
}
