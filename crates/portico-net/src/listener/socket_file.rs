//! Files of UNIX sockets: whose one is, who may connect, and whether one that is there may go.
//!
//! The folder may be the workers' user's, who can put another file under the name at any time. So permissions and
//! owner are set through a descriptor of what was found to be the socket, never by its path.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use portico_files::Owner;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Uid, chmod, chownat, fstat, lstat, openat,
};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::process::{Pid, getpid, test_kill_process};
use socket2::{Domain, SockAddr, Socket, Type};

/// The file of a UNIX socket, known by more than its name.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// The process that removes it: forked ones have a copy of this value.
    pub owner: Pid,
    /// The process that this one has taken the socket over from. It goes on with it if this one's start fails.
    pub former: Option<Pid>,
}

impl SocketFile {
    /// The file that is at `path` now, on which this process is about to listen. It gets these permissions.
    ///
    /// # Errors
    /// There is no socket, but something else; the system's.
    pub(super) fn claim(path: &Path, socket: &Socket, mode: u32) -> io::Result<Self> {
        let (file, stat) = open(path)?;
        if stat.st_mode & PERMISSIONS != mode {
            // There is no fchmod(2) for a descriptor that only names a file, but this way to it (proc(5)).
            chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), Mode::from_raw_mode(mode))?;
        }
        let former = if socket.is_listener()? { last_to_listen(socket) } else { None };
        Ok(Self { path: path.into(), device: stat.st_dev, inode: stat.st_ino, owner: getpid(), former })
    }

    /// Gives the file to the workers' user.
    ///
    /// # Errors
    /// It is another file by now; the system's.
    pub(super) fn give(&self, owner: Owner) -> io::Result<()> {
        let (file, stat) = open(&self.path)?;
        if (stat.st_dev, stat.st_ino) != (self.device, self.inode) {
            return Err(io::Error::other("it is another file by now"));
        }
        let (user, group) = (owner.user.map(Uid::from_raw), owner.group.map(Gid::from_raw));
        Ok(chownat(&file, "", user, group, AtFlags::EMPTY_PATH)?)
    }

    /// Removes it, if that is this process' part.
    pub(super) fn remove(&self, socket: &OwnedFd) {
        let is_alive = |pid: Pid| pid != self.owner && test_kill_process(pid) != Err(Errno::SRCH);
        if getpid() != self.owner || last_to_listen(socket).is_some_and(is_alive) {
            return; // A worker's copy; or another process has taken the socket over.
        }
        if self.former.is_some_and(is_alive) {
            return; // This one's start has failed, and the former goes on.
        }
        let same =
            lstat(&self.path).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (self.device, self.inode));
        if same && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("the socket {} cannot be removed: {error}", self.path.display());
        }
    }
}

/// What chmod(2) sets.
const PERMISSIONS: u32 = 0o7777;

/// The socket's file at `path`, open to be named alone. A link is not followed; nor is a second name of another
/// program's socket taken, which whoever may write the folder could have made.
fn open(path: &Path) -> io::Result<(OwnedFd, Stat)> {
    let file = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket if stat.st_nlink == 1 => Ok((file, stat)),
        _ => Err(io::Error::other("something else is at the path of the socket, which is not touched")),
    }
}

/// The process that was the last to call listen(2) on this UNIX socket: its credentials are what clients see
/// (unix(7), SO_PEERCRED).
fn last_to_listen(socket: impl AsFd) -> Option<Pid> {
    sockopt::socket_peercred(socket).ok().map(|credentials| credentials.pid)
}

/// Removes the socket file that a killed server left behind; leaves anything else alone.
pub(super) fn remove_stale(path: &Path) -> io::Result<()> {
    if is_stale(path)? { fs::remove_file(path) } else { Ok(()) }
}

/// Whether a socket of this path can be bound.
pub(super) fn probe(path: &Path) -> io::Result<()> {
    is_stale(path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)?)
}

/// Whether a killed server left a socket file at `path`; `false` where there is nothing.
///
/// # Errors
/// There is something else.
fn is_stale(path: &Path) -> io::Result<bool> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::other("the path exists and is not a socket"));
    }
    match is_listened_on(path) {
        Ok(false) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        // Also a socket of another type: somebody's.
        Ok(true) | Err(_) => Err(io::Error::other("another process is listening on it")),
    }
}

/// Whether a process listens on the UNIX socket at `path`. A full backlog is not waited for.
fn is_listened_on(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => Err(error),
    }
}
