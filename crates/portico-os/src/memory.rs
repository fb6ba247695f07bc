//! Memory that processes share, of a length that nobody can change.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create};

use crate::standard::above_standard;

/// What holds for all shared memory. A mapping of a file that has been shortened raises SIGBUS in every process
/// that reads it, and whoever has a descriptor of the file could shorten it.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// A file without a name (memfd) of `bytes` zeros, whose length is sealed. Pages that nobody writes cost no
/// memory. `name` is what /proc shows of it.
///
/// # Errors
/// The kernel's: no memory, no descriptor.
pub fn sealed_memory(name: &str, bytes: u64) -> io::Result<OwnedFd> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, bytes)?;
    fcntl_add_seals(&file, SEALS)?;
    Ok(above_standard(file)?)
}

/// Whether the length of `file`, which another process may have made, is sealed: it can be mapped safely.
pub fn is_sealed(file: impl AsFd) -> bool {
    fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SEALS))
}

#[cfg(test)]
mod tests {
    use rustix::fs::fstat;
    use rustix::io::{Errno, pwrite};

    use super::*;

    #[test]
    fn its_length_cannot_be_changed_by_whoever_has_a_descriptor() {
        let memory = sealed_memory("test", 10_000).unwrap();
        assert!(is_sealed(&memory));
        let other = memory.try_clone().unwrap();
        for bytes in [0, 9_999, 10_001] {
            assert_eq!(ftruncate(&other, bytes), Err(Errno::PERM), "{bytes}");
        }
        assert_eq!(pwrite(&other, b"x", 20_000), Err(Errno::PERM), "it grows by no write either");
        assert_eq!(fcntl_add_seals(&other, SealFlags::WRITE), Err(Errno::PERM), "nor is it made read-only");
        assert_eq!(pwrite(&other, b"x", 9_999), Ok(1));
        assert_eq!(fstat(&memory).unwrap().st_size, 10_000);
    }

    #[test]
    fn other_files_are_not_sealed() {
        let unsealed = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(!is_sealed(&unsealed));
        fcntl_add_seals(&unsealed, SealFlags::SHRINK).unwrap();
        assert!(!is_sealed(&unsealed), "not all seals");
        assert!(!is_sealed(std::fs::File::open("/dev/null").unwrap()));
    }
}
