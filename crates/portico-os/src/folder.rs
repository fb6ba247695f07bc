//! A folder that a process works in: by its name, which may be a link that is moved from one release to the next,
//! and as it was, which an open descriptor keeps.

use std::env;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, Stat, fstat, openat, stat};
use rustix::process::fchdir;

/// A folder by its name and as it was when it was opened, so that a process can come back to the same one,
/// or to what has taken its name.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    /// Until it is let go.
    held: Option<Arc<OwnedFd>>,
    id: Id,
}

/// Device and inode, by which a folder is known again whatever its name is by then.
type Id = (u64, u64);

/// The folder that a process which went to a [`Folder`] has found there.
#[derive(Debug)]
pub enum Entered {
    /// Where the name leads now; `moved` if that is not the folder that it led to before.
    ByName {
        /// Whether it is another folder.
        moved: bool,
    },
    /// The name leads nowhere any more: to the folder as it was.
    AsItWas(io::Error),
}

impl Folder {
    /// The current folder, by the name that the shell has for it (`PWD`) where that leads to it, else by the
    /// kernel's, which has no links.
    ///
    /// # Errors
    /// The kernel's: it has been removed.
    pub fn current() -> io::Result<Self> {
        let real = env::current_dir()?;
        let here = id(&stat(".")?);
        let is_here = |path: &PathBuf| {
            path.is_absolute()
                && !path.components().any(|part| part == Component::ParentDir)
                && stat(path).is_ok_and(|stat| id(&stat) == here)
        };
        let named = env::var_os("PWD").map(PathBuf::from).filter(is_here);
        Self::named(named.unwrap_or(real))
    }

    /// The current folder, which `path` has led to.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn named(path: PathBuf) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let held = openat(CWD, ".", flags, Mode::empty())?;
        let id = id(&fstat(&held)?);
        Ok(Self { path, held: Some(Arc::new(held)), id })
    }

    /// Its name, which is absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path to it, as it was, for a program that this process starts.
    pub fn held_path(&self) -> PathBuf {
        let held = self.held.as_ref().map(|held| format!("/proc/self/fd/{}", held.as_raw_fd()));
        held.map_or_else(|| self.path.clone(), PathBuf::from)
    }

    /// Does without it as it was, in a process that is to have nothing open of its parent's.
    pub fn let_go(&mut self) {
        self.held = None;
    }

    /// Whether it is the current folder.
    pub fn is_current(&self) -> bool {
        stat(".").is_ok_and(|here| id(&here) == self.id)
    }

    /// Goes to it, as it was.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enter(&self) -> io::Result<()> {
        match &self.held {
            Some(held) => Ok(fchdir(held)?),
            None => env::set_current_dir(&self.path),
        }
    }

    /// Goes to where its name leads now.
    ///
    /// # Errors
    /// The kernel's: neither that nor the folder as it was can be entered.
    pub fn enter_by_name(&self) -> io::Result<Entered> {
        match env::set_current_dir(&self.path) {
            Ok(()) => Ok(Entered::ByName { moved: !self.is_current() }),
            Err(error) => self.enter().map(|()| Entered::AsItWas(error)),
        }
    }
}

fn id(stat: &Stat) -> Id {
    (stat.st_dev, stat.st_ino)
}
