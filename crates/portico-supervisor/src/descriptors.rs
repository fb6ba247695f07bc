//! What other processes have open, as /proc has it.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use rustix::fs::fstat;

/// Whether the process `pid` has this very file open, as far as this process may know.
pub(crate) fn is_open_in(file: impl AsFd, pid: u32) -> bool {
    let Ok(own) = fstat(file) else { return false };
    let is_it = |entry: fs::DirEntry| {
        let found = entry.path().metadata();
        found.is_ok_and(|found| (found.dev(), found.ino()) == (own.st_dev, own.st_ino))
    };
    fs::read_dir(format!("/proc/{pid}/fd"))
        .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(is_it)))
}

/// The parent of the process `pid` (proc_pid_status(5)).
pub fn parent_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_file_is_known_by_itself_and_not_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let file = File::create(&path).unwrap();
        fs::rename(&path, folder.path().join("b")).unwrap();
        let other = File::create(&path).unwrap();
        assert!(is_open_in(&file, std::process::id()));
        drop(other);
        let closed = File::open(&path).unwrap();
        assert!(!is_open_in(&closed, parent_of(std::process::id()).unwrap()));
    }

    #[test]
    fn a_parent_is_the_one_that_the_kernel_knows() {
        assert_eq!(parent_of(std::process::id()), Some(std::os::unix::process::parent_id()));
        assert_eq!(parent_of(u32::MAX), None);
    }
}
