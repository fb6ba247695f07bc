//! What every way to serve begins with, and the words in which a start tells what it was doing.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use portico_config::{Config, LogTarget};
use portico_os::Folder;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The state that every way to serve begins with: settings, folder, environment and logs.
#[derive(Clone, Debug)]
pub struct WorkerSetup {
    /// The settings.
    pub config: Arc<Config>,
    /// Where the application is looked for, and what its relative paths begin at.
    pub folder: Folder,
    /// What `--env` has changed.
    pub former: FormerEnvironment,
    /// The access log, where the supervisor has opened it for its workers.
    pub access_log: Option<Arc<File>>,
    /// The files of the configuration as they were before it was read, for `--reload`.
    pub read_from: Vec<(PathBuf, Option<FileVersion>)>,
}

/// A file's time of change and its size.
pub type FileVersion = (SystemTime, u64);

/// What the variables that `--env` sets were before; of those that were not there, nothing.
pub type FormerEnvironment = Vec<(String, Option<OsString>)>;

/// Takes all the descriptors that the system allows: each connection needs one, and many systems start
/// processes with 1,024 of them.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        let current = limit.current.unwrap_or(u64::MAX);
        log::warn!("the limit of {current} open files cannot be raised: {error}");
    }
}

/// What is wrong with `--tmp-upload-dir`.
pub fn no_upload_folder(path: &Path) -> String {
    format!("--tmp-upload-dir: {} is not a folder; name one that exists", path.display())
}

/// What is done where `folder` is entered.
pub fn going_to(folder: &Path) -> String {
    format!("changing to {}", folder.display())
}

/// Without `.` in it.
pub fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

/// What is done where a log is opened.
pub fn opening(log: &str, target: &LogTarget) -> String {
    match target {
        LogTarget::Stdout | LogTarget::Stderr => format!("opening the {log}"),
        LogTarget::File(path) => format!("opening the {log} {}", path.display()),
    }
}
