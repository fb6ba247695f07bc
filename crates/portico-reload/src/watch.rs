//! The watch over an application's folders.

use std::collections::HashSet;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use glob::{MatchOptions, Pattern};
use portico_config::{Config, ReloadEngine};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::bytecode;
use crate::inotify::{Inotify, Seen};
use crate::kind::{self, FileKind};
use crate::snapshot::FolderSnapshots;

/// Watches the folders of an application, for the thread of a worker that owns it. It says which files have
/// changed, and decides nothing.
#[derive(Debug)]
pub struct FileWatch {
    backend: Backend,
    /// Absolute; relative paths begin here.
    root: PathBuf,
    extra: Vec<Pattern>,
    folders: HashSet<PathBuf>,
    /// Whether the limit has been told.
    full: bool,
    stopped: UnixStream,
}

/// Dropping this ends the wait of its [`FileWatch`], for good.
#[derive(Debug)]
pub struct WatchStop(#[expect(dead_code, reason = "its end is what is told")] UnixStream);

/// A file that has changed, or come, or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// Absolute.
    pub path: PathBuf,
    /// What it means.
    pub kind: FileKind,
}

/// The event that a wait of [`FileWatch`] has ended with. It says what has changed on disk; whether that matters
/// to the application is its caller's to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// These files have changed; at least one.
    Changed(Vec<FileChange>),
    /// Nothing has.
    Quiet,
    /// There is nobody any more to be told.
    Stopped,
}

/// The means of noticing changes: inotify, or reading the folders again.
#[derive(Debug)]
enum Backend {
    Inotify(Inotify),
    Poll(FolderSnapshots),
}

/// Folders that are watched at most. More are no application's: the server was started in a home folder.
const FOLDERS_MAX: usize = 4096;

/// How often is looked where the kernel does not tell.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Where the configuration is looked for that is not named. It has routes, too.
const CONFIGURATION_FILES: [&str; 2] = ["portico.toml", "pyproject.toml"];

/// A folder with this file is a virtual environment.
const VIRTUAL_ENVIRONMENT: &str = "pyvenv.cfg";

const GLOBS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// The files below `root` that the configuration is read from.
pub fn configuration_files(config: &Config, root: &Path) -> Vec<PathBuf> {
    let sources =
        config.edge.sources().into_iter().filter(|path| path.extension().is_some_and(|it| it == "toml"));
    sources.chain(CONFIGURATION_FILES.map(Path::new)).map(|path| root.join(path)).collect()
}

impl FileWatch {
    /// Watches the application in the folder `root`, and what `--reload-extra-file` names.
    ///
    /// # Errors
    /// The kernel's, where inotify was asked for by name.
    pub fn new(config: &Config, root: &Path) -> io::Result<(Self, WatchStop)> {
        let backend = match config.reload_watch.engine {
            ReloadEngine::Poll => Backend::Poll(FolderSnapshots::default()),
            ReloadEngine::Inotify => Backend::Inotify(Inotify::new()?),
            ReloadEngine::Auto => match Inotify::new() {
                Ok(inotify) => Backend::Inotify(inotify),
                Err(error) => {
                    log::warn!("--reload looks for changes by itself, inotify is not to be had: {error}");
                    Backend::Poll(FolderSnapshots::default())
                }
            },
        };
        let (stopped, stop) = UnixStream::pair()?;
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let mut watch =
            Self { backend, root, extra: Vec::new(), folders: HashSet::new(), full: false, stopped };
        watch.add_tree(&watch.root.clone(), config.reload_watch.engine == ReloadEngine::Auto)?;
        for folder in &config.pythonpath {
            watch.add_tree(&watch.root.join(folder), false)?;
        }
        for glob in &config.reload_watch.extra_files {
            watch.add_glob(&watch.root.join(glob))?;
        }
        let usual = CONFIGURATION_FILES.map(Path::new);
        for source in config.edge.sources().into_iter().chain(usual) {
            watch.add_source(source)?;
        }
        Ok((watch, WatchStop(stop)))
    }

    /// Watches the folders of these files as well, which are imported from elsewhere.
    pub fn follow<'a>(&mut self, files: impl Iterator<Item = &'a Path>) {
        for folder in files.filter_map(Path::parent) {
            if let Err(error) = self.add(folder) {
                log::debug!("changes in {} are not noticed: {error}", folder.display());
            }
        }
    }

    /// As the log names it: relative to the application's folder where it lies there.
    pub fn name<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }

    /// Waits until files have changed, for so long at most.
    pub fn next(&mut self, limit: Duration) -> WatchEvent {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let (pause, told) = match &self.backend {
                Backend::Inotify(inotify) => (left, Some(inotify)),
                Backend::Poll(_) => (left.min(LOOK_INTERVAL), None),
            };
            let timeout = Timespec { tv_sec: pause.as_secs() as i64, tv_nsec: pause.subsec_nanos().into() };
            let mut polled = vec![PollFd::new(&self.stopped, PollFlags::IN)];
            polled.extend(told.map(|inotify| PollFd::new(inotify, PollFlags::IN)));
            // A failure is as if nothing had been told: it is looked again.
            let _ = poll(&mut polled, Some(&timeout));
            if !polled[0].revents().is_empty() {
                return WatchEvent::Stopped;
            }
            let seen = match &mut self.backend {
                Backend::Inotify(inotify) => inotify.read(),
                Backend::Poll(looks) => looks.changes(),
            };
            let mut changes = Vec::new();
            seen.into_iter().for_each(|seen| self.take(seen, &mut changes));
            if !changes.is_empty() {
                let code = changes.iter().filter(|change| change.kind == FileKind::Code);
                code.for_each(|change| bytecode::forget(&change.path));
                return WatchEvent::Changed(changes);
            }
            if Instant::now() >= end {
                return WatchEvent::Quiet;
            }
        }
    }

    /// Waits until nothing has changed for `quiet`, for `limit` at most: editors write in several steps, and a
    /// checkout writes many files. `false` if there is nobody any more to be told.
    pub fn settle(&mut self, quiet: Duration, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            match self.next(quiet) {
                WatchEvent::Changed(_) if Instant::now() < end => {}
                WatchEvent::Stopped => return false,
                _ => return true,
            }
        }
    }

    fn take(&mut self, seen: Seen, changes: &mut Vec<FileChange>) {
        let Seen { path, folder, there } = seen;
        if !folder {
            changes.extend(self.kind(&path).map(|kind| FileChange { path, kind }));
        } else if !is_foreign(&path) {
            if there {
                self.arrive(&path, changes);
            } else {
                self.folders.retain(|known| !known.starts_with(&path));
                changes.push(FileChange { path, kind: FileKind::Code });
            }
        }
    }

    /// A folder has come, with what is in it.
    fn arrive(&mut self, folder: &Path, changes: &mut Vec<FileChange>) {
        self.folders.retain(|known| !known.starts_with(folder)); // Watches of one that was there before are over.
        if let Err(error) = self.add_tree(folder, false) {
            log::warn!("changes in {} are not noticed: {error}", folder.display());
        }
        let inside: Vec<_> = self.folders.iter().filter(|known| known.starts_with(folder)).cloned().collect();
        for entry in inside.iter().filter_map(|folder| folder.read_dir().ok()).flatten().flatten() {
            let path = entry.path();
            if !path.is_dir() {
                changes.extend(self.kind(&path).map(|kind| FileChange { path, kind }));
            }
        }
    }

    fn kind(&self, path: &Path) -> Option<FileKind> {
        let named =
            path.ancestors().any(|path| self.extra.iter().any(|glob| glob.matches_path_with(path, GLOBS)));
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        if named { Some(FileKind::Read) } else { kind::of_file(below) }
    }

    /// Watches a folder and those in it but for what others have put there. With `fall_back`, looks by itself from
    /// now on where the kernel has no watch left.
    fn add_tree(&mut self, root: &Path, fall_back: bool) -> io::Result<()> {
        let mut waiting = vec![root.to_owned()];
        while let Some(folder) = waiting.pop() {
            match self.add(&folder) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull && fall_back => {
                    log::warn!("--reload looks for changes by itself: the system has no inotify watch left");
                    let mut looks = FolderSnapshots::default();
                    self.folders.insert(folder.clone());
                    self.folders.iter().for_each(|folder| looks.add(folder));
                    self.backend = Backend::Poll(looks);
                }
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(error),
                Err(error) => {
                    log::debug!("changes in {} are not noticed: {error}", folder.display());
                    continue;
                }
            }
            if self.full {
                return Ok(());
            }
            let entries = folder.read_dir().into_iter().flatten().flatten();
            // Not through links, which may lead in a circle.
            let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            waiting.extend(folders.map(|entry| entry.path()).filter(|path| !is_foreign(path)));
        }
        Ok(())
    }

    fn add(&mut self, folder: &Path) -> io::Result<()> {
        if self.folders.contains(folder) {
            return Ok(());
        }
        if self.folders.len() >= FOLDERS_MAX {
            if !std::mem::replace(&mut self.full, true) {
                log::warn!("--reload watches the first {FOLDERS_MAX} folders below {}", self.root.display());
            }
            return Ok(());
        }
        match &mut self.backend {
            Backend::Inotify(inotify) => inotify.add(folder)?,
            Backend::Poll(looks) => looks.add(folder),
        }
        self.folders.insert(folder.to_owned());
        Ok(())
    }

    /// Watches what routes are read from.
    fn add_source(&mut self, source: &Path) -> io::Result<()> {
        let path = self.root.join(source);
        let Some(text) = path.to_str() else { return Ok(()) };
        self.add_glob(Path::new(&Pattern::escape(text)))
    }

    /// Watches what this glob, which is absolute, may match.
    fn add_glob(&mut self, glob: &Path) -> io::Result<()> {
        // Without `/` at its end, as folders are written, and `.` in it.
        let glob: &Path = &glob.components().collect::<PathBuf>();
        let Some(text) = glob.to_str() else { return Ok(()) };
        match Pattern::new(text) {
            Ok(pattern) => self.extra.push(pattern),
            Err(error) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{text}: {error}")));
            }
        }
        let is_plain = |path: &Path| path.to_str().is_some_and(|path| !path.contains(['*', '?', '[']));
        let base = glob.ancestors().find(|path| is_plain(path)).unwrap_or(&self.root).to_owned();
        if base == glob && !base.is_dir() {
            self.follow(std::iter::once(glob));
            return Ok(());
        }
        self.add_tree(&base, false)
    }
}

/// Whether a folder is none of the application's.
fn is_foreign(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str());
    name.is_none_or(kind::is_foreign_folder) || folder.join(VIRTUAL_ENVIRONMENT).exists()
}

#[cfg(test)]
mod tests;
