//! An opened file, and what its descriptor says of it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, fstat};

/// What was opened beneath a folder.
#[derive(Debug)]
pub enum ServedFile {
    /// A regular file.
    File(File, FileFacts),
    /// A folder, open for reading its entries.
    Folder(OwnedFd),
}

/// What the kernel says of an open regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// Its length in bytes.
    pub length: u64,
    /// When its content was last changed, in nanoseconds since 1970; before that 0.
    pub modified_nanos: u64,
    /// Its device and its number there: another file under the same name has another pair.
    pub identity: (u64, u64),
}

impl FileFacts {
    /// Those of `file`, which is open.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of(file: &File) -> io::Result<Self> {
        Ok(Self::from_stat(&fstat(file)?))
    }

    fn from_stat(stat: &rustix::fs::Stat) -> Self {
        let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
        let nanos = stat.st_mtime_nsec;
        Self {
            length: u64::try_from(stat.st_size).unwrap_or(0),
            modified_nanos: seconds.saturating_mul(1_000_000_000).saturating_add(nanos),
            identity: (stat.st_dev, stat.st_ino),
        }
    }
}

impl ServedFile {
    /// What `opened` is; `None` if it is neither a regular file nor a folder: a pipe, a device, a socket.
    pub(crate) fn from_opened(opened: OwnedFd) -> io::Result<Option<Self>> {
        let stat = fstat(&opened)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Some(Self::File(File::from(opened), FileFacts::from_stat(&stat))),
            FileType::Directory => Some(Self::Folder(opened)),
            _ => None,
        })
    }
}
