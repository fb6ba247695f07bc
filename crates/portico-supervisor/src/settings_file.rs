//! The effective settings as a file in memory of the supervisor: for whoever may look into that process, and as
//! `portico config` shows them, without what may be secret.
//!
//! Nobody changes it, not even the supervisor: a reload makes another one. So the workers, which have inherited
//! it, cannot have it say something else.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use portico_os::above_standard;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::io::{pread, write};

use crate::stacks_file::files_in_memory;

/// The file.
#[derive(Debug)]
pub struct SettingsFile {
    /// Kept open to be found.
    _file: OwnedFd,
}

/// What /proc shows of it.
const NAME: &str = "portico-settings";

/// More than that is not read. All settings with their sources are some 20 KiB.
const BYTES_MAX: usize = 1024 * 1024;

/// What tells it from a file that others could write.
const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

impl SettingsFile {
    /// One with this text.
    ///
    /// # Errors
    /// The kernel's: no memory, no descriptor.
    pub fn create(text: &str) -> io::Result<Self> {
        let file = memfd_create(NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            rest = &rest[write(&file, rest)?..];
        }
        fcntl_add_seals(&file, SEALS)?;
        Ok(Self { _file: above_standard(file)? })
    }

    /// The text of that of the process `holder`.
    ///
    /// # Errors
    /// `NotFound` if it has none; what keeps it from being read.
    pub fn read_of(holder: u32) -> io::Result<String> {
        let wanted = format!("/memfd:{NAME} (deleted)");
        let found = files_in_memory(holder, &|link| link == wanted)?;
        let is_whole = |file: &OwnedFd| fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SEALS));
        let file = found.into_iter().rfind(is_whole).ok_or(io::ErrorKind::NotFound)?;
        let mut text = Vec::new();
        let mut block = [0; 16 * 1024];
        while text.len() < BYTES_MAX {
            match pread(file.as_fd(), &mut block, text.len() as u64)? {
                0 => break,
                count => text.extend_from_slice(&block[..count]),
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn it_is_found_by_its_process_and_changed_by_nobody() {
        let own = std::process::id();
        let file = SettingsFile::create(&"x".repeat(20_000)).unwrap();
        assert_eq!(SettingsFile::read_of(own).unwrap().len(), 20_000);
        assert_eq!(write(&file._file, b"y"), Err(Errno::PERM));
        let forged = memfd_create(NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        write(&forged, b"forged").unwrap();
        assert_eq!(SettingsFile::read_of(own).unwrap().len(), 20_000, "one that others could write is none");
        drop(file);
        assert_eq!(SettingsFile::read_of(own).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
