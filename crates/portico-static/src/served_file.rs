//! An opened file, and what its descriptor says of it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, fstat};

/// What was opened beneath a folder.
#[derive(Debug)]
pub(crate) enum ServedFile {
    /// A regular file.
    File(File, OpenedFacts),
    /// A folder, open for reading its entries.
    Folder(OwnedFd),
}

/// What the kernel says of an open regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenedFacts {
    /// Its length in bytes.
    pub(crate) length: u64,
    /// When its content was last changed, in nanoseconds since 1970; before that 0.
    pub(crate) modified_nanos: u64,
    /// When anything of it was last changed, its times included: who sets the time of a file back is seen all the
    /// same.
    pub(crate) changed_nanos: u64,
    /// Its device and its number there: another file under the same name has another pair.
    pub(crate) identity: (u64, u64),
}

const NANOS: u64 = 1_000_000_000;

impl OpenedFacts {
    /// Those of `file`, which is open.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        Ok(Self::from_stat(&fstat(file)?))
    }

    pub(crate) fn from_stat(stat: &rustix::fs::Stat) -> Self {
        let nanos = |seconds: i64, nanos: u64| {
            u64::try_from(seconds).unwrap_or(0).saturating_mul(NANOS).saturating_add(nanos)
        };
        Self {
            length: u64::try_from(stat.st_size).unwrap_or(0),
            modified_nanos: nanos(stat.st_mtime, stat.st_mtime_nsec),
            changed_nanos: nanos(stat.st_ctime, stat.st_ctime_nsec),
            identity: (stat.st_dev, stat.st_ino),
        }
    }
}

impl ServedFile {
    /// What `opened` is; `None` if it is neither a regular file nor a folder: a pipe, a device, a socket.
    pub(crate) fn from_opened(opened: OwnedFd) -> io::Result<Option<Self>> {
        let stat = fstat(&opened)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Some(Self::File(File::from(opened), OpenedFacts::from_stat(&stat))),
            FileType::Directory => Some(Self::Folder(opened)),
            _ => None,
        })
    }
}
