//! How many workers there are and what they share, in numbers and in words.

use std::path::Path;

use portico_config::{Config, Workers};
use portico_files::Owner;
use portico_supervisor::{Capacity, Pidfile};

use crate::error::SystemError;

/// What a worker is in gunicorn's words.
pub fn worker_class(config: &Config) -> &'static str {
    if config.threads > 1 { "gthread" } else { "sync" }
}

/// Writes `--pid`, if there is to be one; `upgrading`: another supervisor has the file still.
///
/// # Errors
/// Another server has it; or the system's.
pub fn write_pidfile(
    config: &Config,
    upgrading: bool,
    workers: Option<Owner>,
) -> Result<Option<Pidfile>, SystemError> {
    let Some(path) = &config.system.pidfile else { return Ok(None) };
    let doing = format!("writing the pid file {}", path.display());
    Pidfile::create(path, upgrading, workers).map(Some).map_err(|error| SystemError::new(&doing, &error))
}

/// Lowers the number of workers, where it is Portico's to choose, to what there is room for, and has them share
/// memory and disk. Returns what there is.
pub fn fit_workers(config: &mut Config) -> Capacity {
    let capacity = Capacity::of(Path::new("/"), available_cpus());
    if config.workers_auto {
        let count = config.workers.max.min(capacity.workers());
        config.workers = Workers { min: count, max: count };
    }
    let (memory, disk) = (capacity.memory_kib.map(|kib| kib * 1024), free_disk_bytes(config));
    config.client_limits.fit(memory, disk, config.workers.max);
    capacity
}

/// What is free where temporary files are made.
fn free_disk_bytes(config: &Config) -> Option<u64> {
    let folder = config.tmp_upload_dir.clone().unwrap_or_else(std::env::temp_dir);
    let system = rustix::fs::statvfs(folder).ok()?;
    Some(system.f_bavail.saturating_mul(system.f_frsize))
}

/// What the workers are, in one line: how many, why so many, and what follows for what they talk to.
pub fn tell_workers(config: &Config, capacity: &Capacity) {
    let workers = match (config.workers.min, config.workers.max) {
        (1, 1) => "1 worker".to_owned(),
        (min, max) if min == max => format!("{max} workers"),
        (min, max) => format!("{min} to {max} workers"),
    };
    let why = match config.workers_auto {
        true => capacity.to_string(),
        false if config.reload && config.workers.max == 1 => "which is enough for --reload".to_owned(),
        false => format!("as asked for; there {}", are_cpus(capacity.cpus)),
    };
    let requests = u64::from(config.workers.max) * u64::from(config.threads);
    log::info!(
        "{workers} ({why}) x {} = at most {}, so at most {} per pool",
        counted(config.threads.into(), "thread"),
        counted(requests, "concurrent request"),
        counted(requests, "database connection"),
    );
}

/// By affinity and quota.
fn available_cpus() -> u32 {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get());
    u32::try_from(cpus).unwrap_or(u32::MAX)
}

fn are_cpus(count: u32) -> String {
    format!("{} {}", if count == 1 { "is" } else { "are" }, counted(count.into(), "CPU"))
}

/// `1 thread`, `2 threads`.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// `85 MiB`, rounded up.
pub fn mebibytes(kib: u64) -> String {
    format!("{} MiB", kib.div_ceil(1024))
}
