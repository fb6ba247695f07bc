//! Where a path leads, walked folder by folder.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, openat, readlinkat, statat,
};
use rustix::io::Errno;

use crate::exposure::Exposure;
use crate::owner::Owner;

/// A name in a folder that is held open: what others do to the path meanwhile does not lead elsewhere. Whoever
/// opens, renames or removes a file for root goes through one, and never by the path again.
#[derive(Debug)]
pub struct FolderEntry {
    /// Open to be named alone (O_PATH).
    folder: OwnedFd,
    name: OsString,
    path: PathBuf,
    exposure: Option<Exposure>,
    is_magic: bool,
}

/// The treatment of a symbolic link that is the last on the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    /// It is followed, as those before it, where root alone could have made it.
    Follow,
    /// It is what is looked for.
    Keep,
}

/// As many as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// A walk along a path, folder by folder: where it is, and what is left of the path. It never asks the
/// kernel to resolve more than one name.
struct Walk {
    folder: OwnedFd,
    path: PathBuf,
    exposure: Option<Exposure>,
    /// What is still to be walked.
    rest: VecDeque<OsString>,
    links: usize,
}

impl FolderEntry {
    /// Where `path` leads, walked for the process that looks after `owner`'s. Without a lesser owner no folder and
    /// no link is refused.
    ///
    /// # Errors
    /// The kernel's; what [`FolderEntry::find`] refuses.
    pub fn find_for(path: &Path, last: LastLink, owner: Option<Owner>) -> io::Result<Self> {
        if owner.is_some_and(|owner| owner.is_lesser()) {
            return Self::find(path, last)?.map_err(|exposure| {
                let message = format!("a symbolic link is on its path, and {exposure}");
                io::Error::new(io::ErrorKind::PermissionDenied, message)
            });
        }
        let path = std::path::absolute(path)?;
        let (folder, name) = match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) => (folder, name.to_owned()),
            _ => (path.as_path(), OsString::from(".")),
        };
        let folder = openat(CWD, folder, FOLDER, Mode::empty())?;
        Ok(Self { folder, name, path, exposure: None, is_magic: false })
    }

    /// Where `path` leads. `Err` within: it goes over a symbolic link, or back by `..`, from a folder that others
    /// than root can change, which is this one.
    ///
    /// # Errors
    /// The kernel's: a folder is not there, there are too many links.
    pub fn find(path: &Path, last: LastLink) -> io::Result<Result<Self, Exposure>> {
        let mut walk = Walk::begin(std::path::absolute(path)?)?;
        loop {
            let Some(name) = walk.rest.pop_front() else {
                // The path names a folder by `/` or `..`.
                return Ok(Ok(walk.end(OsString::from("."), false)));
            };
            if name == ".." && walk.exposure.is_none() {
                walk.path.pop();
                walk.enter(&name)?;
                continue;
            }
            let is_last = walk.rest.is_empty();
            match walk.kind(&name)? {
                Some(kind)
                    if (name == ".."
                        || kind == FileType::Symlink && !(is_last && last == LastLink::Keep))
                        && let Some(exposure) = walk.exposure.take() =>
                {
                    return Ok(Err(exposure));
                }
                None if is_last => return Ok(Ok(walk.end(name, false))),
                None => return Err(io::ErrorKind::NotFound.into()),
                Some(FileType::Symlink) if is_last && last == LastLink::Keep => {
                    return Ok(Ok(walk.end(name, false)));
                }
                Some(FileType::Symlink) => {
                    let target =
                        OsString::from_vec(readlinkat(&walk.folder, &name, Vec::new())?.into_bytes());
                    if walk.is_magic(&target)? {
                        return match is_last {
                            true => Ok(Ok(walk.end(name, true))),
                            false => Err(io::ErrorKind::NotADirectory.into()),
                        };
                    }
                    walk.follow(&target)?;
                }
                Some(_) if is_last => return Ok(Ok(walk.end(name, false))),
                Some(_) => {
                    walk.path.push(&name);
                    walk.enter(&name)?;
                }
            }
        }
    }

    /// The folder.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// The name in it, which may not be there.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// The path without links, for people.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who but root can put something else there.
    pub fn exposure(&self) -> Option<&Exposure> {
        self.exposure.as_ref()
    }

    /// Whether the name is one of /proc that stands for an open file, as that behind /dev/stdout does.
    pub fn is_magic(&self) -> bool {
        self.is_magic
    }
}

impl Walk {
    fn begin(path: PathBuf) -> io::Result<Self> {
        let root = openat(CWD, "/", FOLDER, Mode::empty())?;
        let exposure = Exposure::of_open(&root, Path::new("/"))?;
        Ok(Self { folder: root, path: "/".into(), exposure, rest: parts(&path), links: 0 })
    }

    /// What stands under `name`; `None` if nothing does.
    fn kind(&self, name: &OsStr) -> io::Result<Option<FileType>> {
        match statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Goes on in the folder `name`, whose path is known. One that has become a link meanwhile is none.
    fn enter(&mut self, name: &OsStr) -> io::Result<()> {
        self.folder = openat(&self.folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        if self.exposure.is_none() {
            self.exposure = Exposure::of_open(&self.folder, &self.path)?;
        }
        Ok(())
    }

    /// Goes on with what a link leads to.
    fn follow(&mut self, target: &OsStr) -> io::Result<()> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::LOOP.into());
        }
        for part in parts(Path::new(target)).into_iter().rev() {
            self.rest.push_front(part);
        }
        if target.as_bytes().starts_with(b"/") {
            let root = Self::begin("/".into())?;
            (self.folder, self.path, self.exposure) = (root.folder, root.path, root.exposure);
        }
        Ok(())
    }

    /// Whether a link of this folder, of which `target` is told, leads to an open file and not by a path (proc(5),
    /// /proc/PID/fd): all others of /proc are relative.
    fn is_magic(&self, target: &OsStr) -> io::Result<bool> {
        let is_path = !target.as_bytes().starts_with(b"/") && !target.as_bytes().contains(&b':');
        Ok(!is_path && fstatfs(&self.folder)?.f_type == PROC_SUPER_MAGIC)
    }

    fn end(self, name: OsString, is_magic: bool) -> FolderEntry {
        let path = if name == "." { self.path } else { self.path.join(&name) };
        FolderEntry { folder: self.folder, name, path, exposure: self.exposure, is_magic }
    }
}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn parts(path: &Path) -> VecDeque<OsString> {
    let named = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(named).collect()
}
