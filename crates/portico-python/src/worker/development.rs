//! `--reload` in a worker: which files are the application's, and who is told when one of them changes.
//!
//! Each worker watches what it has imported itself, from before its import on, and says so once: it is replaced
//! then. What counts as a file of an application by its name, and how changes are noticed, is `portico-reload`'s
//! affair.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, mem};

use pyo3::call::PyCallArgs;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule};

use portico_config::Config;
use portico_reload::{FileChange, FileKind, FileWatch, WatchEvent, WatchStop, configuration_files};
use portico_supervisor::Report;
use portico_worker::{FileVersion, WorkerSetup};
use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcgetpgrp, tcsetattr};

use super::context::WorkerContext;
use crate::error::one_line;
use crate::hub;
use crate::import_path;

/// The thread "portico-reload", owned by a worker under `--reload`. Dropping this ends it. It reports a change
/// once and replaces nothing itself: that is the supervisor's.
pub(crate) struct Reloader {
    /// Whether the application could not be imported: any code may mend it.
    broken: Arc<AtomicBool>,
    stop: Option<WatchStop>,
    thread: Option<JoinHandle<()>>,
}

/// The state of that thread: the watch, and the modules that it has been told to watch. It never has the
/// interpreter while it waits.
struct FileWatcher {
    watch: FileWatch,
    broken: Arc<AtomicBool>,
    context: Arc<WorkerContext>,
    /// Number of modules when they were last looked at.
    modules: usize,
}

/// How long nothing may have changed before the application is imported: editors write in several steps.
const QUIET: Duration = Duration::from_millis(40);

/// Longest time until then. What changes later makes the import begin anew.
const QUIET_MAX: Duration = Duration::from_millis(250);

/// How often is looked for modules that were imported from elsewhere.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Where others' code lies.
const INSTALLED: [&str; 2] = ["dist-packages", "site-packages"];

impl Reloader {
    /// Begins to watch. In a worker that follows a change it waits until the files have come to rest: to be called
    /// without the interpreter.
    ///
    /// # Errors
    /// The kernel's; a file that was named cannot be watched.
    pub(crate) fn start(setup: &WorkerSetup, context: &Arc<WorkerContext>) -> io::Result<Self> {
        let (mut watch, stop) = FileWatch::new(&setup.config, setup.folder.path())?;
        if context.generation() > 0 {
            watch.settle(QUIET, QUIET_MAX);
        }
        // The supervisor has read it before anything was watched here.
        let changed = setup.read_from.iter().find(|(path, version)| version_of(path) != *version);
        if let Some((path, _)) = changed {
            context.report(&Report::Changed(watch.name(path).to_string()));
        }
        let broken = Arc::new(AtomicBool::new(false));
        let mut watcher =
            FileWatcher { watch, broken: Arc::clone(&broken), context: Arc::clone(context), modules: 0 };
        let thread = thread::Builder::new().name("portico-reload".to_owned()).spawn(move || watcher.run())?;
        Ok(Self { broken, stop: Some(stop), thread: Some(thread) })
    }

    /// The application could not be imported.
    pub(crate) fn note_broken(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        drop(mem::take(&mut self.stop));
        let Some(thread) = mem::take(&mut self.thread) else { return };
        // Without the interpreter, which the thread may be waiting for.
        Python::attach(|py| {
            py.detach(|| {
                if thread.join().is_err() {
                    log::error!("the watch over files failed (this is a bug in Portico)");
                }
            });
        });
    }
}

impl FileWatcher {
    fn run(&mut self) {
        loop {
            match self.watch.next(LOOK_INTERVAL) {
                WatchEvent::Stopped => return,
                WatchEvent::Quiet => self.follow_imports(),
                WatchEvent::Changed(changes) => {
                    if let Some(change) = self.first_that_matters(&changes) {
                        let name = self.watch.name(&change.path).to_string();
                        return self.context.report(&Report::Changed(name));
                    }
                }
            }
        }
    }

    /// Modules may come from other folders.
    fn follow_imports(&mut self) {
        let count = hub::attach(|py| modules(py).map_or(0, |modules| modules.len()));
        if mem::replace(&mut self.modules, count) != count {
            let files = own_files();
            self.watch.follow(files.iter().map(PathBuf::as_path));
        }
    }

    fn first_that_matters<'a>(&self, changes: &'a [FileChange]) -> Option<&'a FileChange> {
        if let Some(change) = changes.iter().find(|change| change.kind == FileKind::Read) {
            return Some(change);
        }
        if self.broken.load(Ordering::SeqCst) {
            return changes.first();
        }
        let imported = own_files();
        // A folder that has gone takes what is in it along.
        changes.iter().find(|change| imported.iter().any(|file| file.starts_with(&change.path)))
    }
}

/// The files of the configuration as they are now; none where no change of theirs is followed.
pub(crate) fn configuration_versions(setup: &WorkerSetup) -> Vec<(PathBuf, Option<FileVersion>)> {
    if !setup.config.reload {
        return Vec::new();
    }
    let files = configuration_files(&setup.config, setup.folder.path()).into_iter();
    files.map(|path| (path.clone(), version_of(&path))).collect()
}

fn version_of(path: &Path) -> Option<FileVersion> {
    let metadata = path.metadata().ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// The files of all modules that are not installed packages' or Python's own.
fn own_files() -> Vec<PathBuf> {
    let files = hub::attach(|py| files(py).unwrap_or_default());
    let installed = |file: &Path| {
        file.components().any(|part| part.as_os_str().to_str().is_some_and(|part| INSTALLED.contains(&part)))
    };
    let standard = files.first().cloned().unwrap_or_default();
    files.into_iter().filter(|file| !installed(file) && !file.starts_with(&standard)).map(resolved).collect()
}

/// The folder of Python's own modules, and after it each module's file.
fn files(py: Python<'_>) -> PyResult<Vec<PathBuf>> {
    let os: PathBuf = py.import("os")?.getattr("__file__")?.extract()?;
    let standard = os.parent().map(Path::to_owned);
    // Read from its dictionary: asking the module may run code of its own.
    let file = |module: Bound<'_, PyAny>| -> Option<PathBuf> {
        module.cast::<PyModule>().ok()?.dict().get_item("__file__").ok()??.extract().ok()
    };
    Ok(standard.into_iter().chain(modules(py)?.values().iter().filter_map(file)).collect())
}

fn modules(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    Ok(py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?)
}

/// Without links in its folder; the file itself may have gone.
fn resolved(file: PathBuf) -> PathBuf {
    let folder = file.parent().and_then(|folder| folder.canonicalize().ok());
    folder.zip(file.file_name()).map_or_else(|| file.clone(), |(folder, name)| folder.join(name))
}

/// Imports modules of Python's own for all workers that are forked from now on: none of a project's changes is one
/// of them.
pub(crate) fn import_ahead(py: Python<'_>, setup: &WorkerSetup) {
    // Where the workers look beside what is on this process' path.
    let own = setup
        .config
        .pythonpath
        .iter()
        .map(|path| setup.folder.path().join(path))
        .chain([setup.folder.path().to_owned()]);
    let folders: Vec<_> = own.map(PathBuf::into_os_string).chain(import_path::entries_withheld()).collect();
    tell_ahead(py, &setup.config, "import_modules", (folders,));
}

/// Sees to it that an application finds no module of these where an import would find its own.
pub(crate) fn forget_hidden(py: Python<'_>, config: &Config) {
    tell_ahead(py, config, "forget_hidden", ());
}

fn tell_ahead<'py>(py: Python<'py>, config: &Config, function: &str, arguments: impl PyCallArgs<'py>) {
    if !config.reload {
        return;
    }
    if let Err(error) = py.import("portico._ahead").and_then(|ahead| ahead.call_method1(function, arguments))
    {
        log::warn!("each worker imports Python's own modules by itself: {}", one_line(py, &error));
    }
}

/// Has the terminal show what is typed again: a debugger that is ended at its prompt leaves it as it was there.
pub(crate) fn restore_terminal() {
    let terminal = io::stdin();
    // From the background the kernel would stop this process for it.
    if !tcgetpgrp(&terminal).is_ok_and(|group| group == getpgrp()) {
        return;
    }
    let Ok(mut modes) = tcgetattr(&terminal) else { return };
    let plain = LocalModes::ECHO | LocalModes::ICANON;
    if !modes.local_modes.contains(plain) {
        modes.local_modes |= plain;
        if let Err(error) = tcsetattr(&terminal, OptionalActions::Now, &modes) {
            log::debug!("the terminal cannot be restored: {error}");
        }
    }
}
