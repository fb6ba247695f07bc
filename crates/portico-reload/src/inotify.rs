//! Changes as the kernel tells them: inotify, through rustix.
//!
//! Not through the crate `notify`: that asks the kernel to tell each file that is merely opened as well, which an
//! application does with every import and every page, and has a thread of its own to throw it away again.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// An event of an entry in a watched folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The entry.
    pub path: PathBuf,
    /// Whether it is a folder.
    pub folder: bool,
    /// Whether it is there now.
    pub there: bool,
}

/// Watches of folders, not of what is below the folders in them.
#[derive(Debug)]
pub(crate) struct Inotify {
    descriptor: OwnedFd,
    folders: HashMap<i32, PathBuf>,
}

/// A file that was written is told when it is closed, not with each write.
const WATCHED: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR);

const GONE: ReadFlags = ReadFlags::DELETE.union(ReadFlags::MOVED_FROM);

/// Room for a few dozen events; the others are read with the next call.
const BUFFER_BYTES: usize = 8 * 1024;

impl Inotify {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// The kernel's: the user has too many of them.
    pub(crate) fn new() -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { descriptor, folders: HashMap::new() })
    }

    /// Watches this folder.
    ///
    /// # Errors
    /// The kernel's; `StorageFull` if the user has no watch left.
    pub(crate) fn add(&mut self, folder: &Path) -> io::Result<()> {
        let watch = inotify::add_watch(&self.descriptor, folder, WATCHED)?;
        self.folders.insert(watch, folder.to_owned());
        Ok(())
    }

    /// What has happened since it was asked last.
    pub(crate) fn read(&mut self) -> Vec<Seen> {
        let mut space = [MaybeUninit::<u8>::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(&self.descriptor, &mut space);
        let mut seen = Vec::new();
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return seen,
                Err(error) => {
                    log::error!("changes of files cannot be read: {error}");
                    return seen;
                }
            };
            let flags = event.events();
            if flags.contains(ReadFlags::IGNORED) {
                self.folders.remove(&event.wd());
            } else if let (Some(folder), Some(name)) = (self.folders.get(&event.wd()), event.file_name()) {
                seen.push(Seen {
                    path: folder.join(OsStr::from_bytes(name.to_bytes())),
                    folder: flags.contains(ReadFlags::ISDIR),
                    there: !flags.intersects(GONE),
                });
            }
        }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
