//! Descriptors without which a process cannot do its work. Code that closes descriptors by their numbers
//! (`os.closerange`, a library that prepares a daemon) closes these too, and what is opened next gets their
//! numbers.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The descriptors that a process cannot do without, and which files they are, so that it notices when somebody
/// else has closed them. It closes none itself.
#[derive(Debug, Default)]
pub struct VitalDescriptors(Mutex<Vec<WatchedDescriptor>>);

/// A descriptor, and the file that it has to be.
#[derive(Debug)]
struct WatchedDescriptor {
    what: &'static str,
    number: RawFd,
    identity: FileIdentity,
}

/// The descriptors of this process.
const DESCRIPTORS: &str = "/proc/self/fd";

/// The facts that tell a file from another that has come to its number.
#[derive(Debug, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
    /// Of files that have no inode of their own, such as epoll instances, the kind.
    kind: Option<PathBuf>,
}

impl VitalDescriptors {
    /// From now on `descriptor` is vital: `what` it is, for the log. One that cannot be looked at is left out.
    pub fn add(&self, what: &'static str, descriptor: impl AsFd) {
        let number = descriptor.as_fd().as_raw_fd();
        if let Ok(identity) = FileIdentity::of(number) {
            self.lock().push(WatchedDescriptor { what, number, identity });
        }
    }

    /// `descriptor` is about to be closed by its owner.
    pub fn remove(&self, descriptor: impl AsFd) {
        let number = descriptor.as_fd().as_raw_fd();
        self.lock().retain(|entry| entry.number != number);
    }

    /// What of it others have closed or replaced, each name once; nothing where that cannot be told.
    pub fn lost(&self) -> Vec<&'static str> {
        let mut lost = Vec::new();
        if !Path::new(DESCRIPTORS).exists() {
            return lost; // An application may change its root.
        }
        for entry in self.lock().iter() {
            let is_lost = match FileIdentity::of(entry.number) {
                Ok(identity) => identity != entry.identity,
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            };
            if is_lost && !lost.contains(&entry.what) {
                lost.push(entry.what);
            }
        }
        lost
    }

    fn lock(&self) -> MutexGuard<'_, Vec<WatchedDescriptor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileIdentity {
    /// Through /proc: a number that may be anybody's is no descriptor that could be borrowed.
    fn of(number: RawFd) -> io::Result<Self> {
        let path = format!("{DESCRIPTORS}/{number}");
        let metadata = fs::metadata(&path)?;
        let kind = fs::read_link(&path)?;
        let kind = Some(kind).filter(|kind| kind.to_string_lossy().starts_with("anon_inode:"));
        Ok(Self { device: metadata.dev(), inode: metadata.ino(), kind })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::OwnedFd;

    use rustix::event::{EventfdFlags, epoll, eventfd};
    use rustix::io::dup2;

    use super::*;

    fn epoll_instance() -> OwnedFd {
        epoll::create(epoll::CreateFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn what_is_still_there_is_not_lost_and_what_its_owner_closes_neither() {
        let vital = VitalDescriptors::default();
        let (one, other) = (epoll_instance(), epoll_instance());
        vital.add("one", &one);
        vital.add("other", &other);
        assert!(vital.lost().is_empty());
        vital.remove(&one);
        drop(one);
        assert!(vital.lost().is_empty());
    }

    #[test]
    fn what_others_close_or_replace_is_lost() {
        let vital = VitalDescriptors::default();
        let closed = File::open("/dev/null").unwrap();
        vital.add("closed", &closed);
        drop(closed);
        let mut replaced: OwnedFd = File::open("/dev/null").unwrap().into();
        vital.add("replaced", &replaced);
        dup2(File::open("/dev/zero").unwrap(), &mut replaced).unwrap();
        // Both are without an inode of their own.
        let mut epoll = epoll_instance();
        vital.add("epoll", &epoll);
        dup2(eventfd(0, EventfdFlags::CLOEXEC).unwrap(), &mut epoll).unwrap();
        let kept = epoll_instance();
        vital.add("kept", &kept);
        vital.add("replaced", &replaced); // As it is now.
        assert_eq!(vital.lost(), ["closed", "replaced", "epoll"]);
    }
}
