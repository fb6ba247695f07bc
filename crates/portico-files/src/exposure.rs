//! Who but root can change a file or a folder: by its owner, its mode and its mount.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Stat, StatVfsMountFlags, fstat, fstatvfs};

/// The first folder on a path, or its file, that others than root can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    path: PathBuf,
    cause: Cause,
}

/// The reason for which others than root can change a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// It belongs to this user.
    User(u32),
    /// This group may write it.
    Group(u32),
    /// Everybody may write it; also where the sticky bit is set, as for /tmp: what is not there can be made.
    Everybody,
}

/// Write permission of the group, and of others.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

impl Exposure {
    /// That of an open folder or file, which is at `path`.
    pub(crate) fn of_open(file: impl AsFd, path: &Path) -> io::Result<Option<Self>> {
        Ok(Self::of(&fstat(&file)?, file, path))
    }

    /// That of what `stat` says, on the mount that `beside` is on.
    pub(crate) fn of(stat: &Stat, beside: impl AsFd, path: &Path) -> Option<Self> {
        let cause = if stat.st_uid != 0 {
            Cause::User(stat.st_uid)
        } else if stat.st_mode & OTHERS_WRITE != 0 && !is_read_only(&beside) {
            Cause::Everybody
        } else if stat.st_mode & GROUP_WRITES != 0 && !is_read_only(&beside) {
            Cause::Group(stat.st_gid)
        } else {
            return None;
        };
        Some(Self { path: path.to_owned(), cause })
    }
}

/// Whether the mount is one that nobody can write to, whatever the modes say. Those of a volume that Kubernetes
/// makes of a ConfigMap are 0777.
fn is_read_only(file: impl AsFd) -> bool {
    fstatvfs(file).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY))
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.cause {
            Cause::User(user) => write!(f, "{path} belongs to user {user}"),
            Cause::Group(group) => write!(f, "{path} can be written by group {group}"),
            Cause::Everybody => write!(f, "{path} can be written by everybody"),
        }
    }
}
