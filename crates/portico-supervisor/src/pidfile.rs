//! The file in which the supervisor's process id stands (`--pid`).
//!
//! It is written at once under another name and moved, so that nobody reads half a number. One that another server
//! holds is refused. Whatever else stands in it was left behind, also if some other program has the number by now,
//! as happens in containers, which start counting anew.
//!
//! The folder may belong to the workers' user: links that this user makes there are not followed, and a pid file
//! of this user's that names one of its own processes is not believed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use portico_files::{FolderEntry, LastLink, Owner};
use rustix::fs::{AtFlags, Mode, OFlags, accessat, fchmod, openat, renameat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, getpid};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::scoreboard::Scoreboard;

/// The file of this process. It is removed when this is dropped, if it is still this process' own.
#[derive(Debug)]
pub struct Pidfile {
    entry: FolderEntry,
    name: OsString,
    /// The process that it names: forked ones have a copy of this value.
    owner: Pid,
    /// While the supervisor that this one takes over from has the file: its name, which this one's gets then.
    awaited: Option<OsString>,
    /// Another supervisor has taken over.
    superseded: bool,
}

/// Everybody may read it.
const MODE: Mode = Mode::from_raw_mode(0o644);

/// Longer than any number.
const TEXT_BYTES_MAX: u64 = 64;

/// How often another name is tried for what is written.
const TRIES_MAX: usize = 8;

impl Pidfile {
    /// Writes this process' id into the file at `path`; into that of the same name with `.2` behind it if the
    /// supervisor that this one takes over from has the other (`upgrading`). `workers`: whose the workers are.
    ///
    /// # Errors
    /// Another server holds the file; or the system's.
    pub fn create(path: &Path, upgrading: bool, workers: Option<Owner>) -> io::Result<Self> {
        // The application may change to another folder.
        let entry = FolderEntry::find_for(path, LastLink::Keep, workers)?;
        let name = entry.name().to_owned();
        let (name, awaited) = if upgrading { (second(&name), Some(name)) } else { (name, None) };
        refuse_held(&entry, &name, workers)?;
        write(&entry, &name)?;
        Ok(Self { entry, name, owner: getpid(), awaited, superseded: false })
    }

    /// The supervisor that this one takes over from has ended: its file is this one's from now on.
    pub fn promote(&mut self) {
        let Some(name) = self.awaited.take() else { return };
        match renameat(self.entry.folder(), &self.name, self.entry.folder(), &name) {
            Ok(()) => self.name = name,
            Err(error) => {
                let (from, to) = (self.told(&self.name), self.told(&name));
                log::error!("the pid file {from} cannot be moved to {to}: {error}");
            }
        }
    }

    /// Another supervisor has taken over, and will move its file over this one.
    pub fn supersede(&mut self) {
        self.superseded = true;
    }

    fn told(&self, name: &OsStr) -> String {
        self.entry.path().with_file_name(name).display().to_string()
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if getpid() != self.owner || holder(&self.entry, &self.name) != Some(self.owner) {
            return; // A worker's copy; or another server's by now.
        }
        let is_there =
            |name| accessat(self.entry.folder(), name, rustix::fs::Access::EXISTS, AtFlags::empty());
        if self.superseded && is_there(second(&self.name)).is_ok() {
            return;
        }
        if let Err(error) = unlinkat(self.entry.folder(), &self.name, AtFlags::empty()) {
            log::warn!("the pid file {} cannot be removed: {error}", self.told(&self.name));
        }
    }
}

/// As gunicorn names the file of a new master.
fn second(name: &OsStr) -> OsString {
    let mut name = name.to_owned();
    name.push(".2");
    name
}

/// Whom the file of that name names.
fn holder(entry: &FolderEntry, name: &OsStr) -> Option<Pid> {
    let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    flags.set(OFlags::NOFOLLOW, entry.exposure().is_some());
    let file = File::from(openat(entry.folder(), name, flags, Mode::empty()).ok()?);
    let mut text = String::new();
    file.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text).ok()?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        return None;
    }
    let number: i32 = text.trim().parse().ok()?;
    Pid::from_raw(number.max(0))
}

fn refuse_held(entry: &FolderEntry, name: &OsStr, workers: Option<Owner>) -> io::Result<()> {
    let Some(holder) = holder(entry, name).filter(|holder| *holder != getpid()) else { return Ok(()) };
    let number = holder.as_raw_nonzero().get().unsigned_abs();
    if entry.exposure().is_some() && user_of(number) == workers.and_then(|workers| workers.user) {
        return Ok(()); // The workers' user has written it: no server of this configuration is that one's.
    }
    match Scoreboard::attach(number) {
        Ok(_) => Err(io::Error::other(format!("a server runs already, as process {number}"))),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(io::Error::other(format!(
            "it names process {number}, which another user runs; remove the file if that is no server"
        ))),
        Err(_) => Ok(()),
    }
}

/// Whose the process is (proc_pid_status(5)). The owner of its folder in /proc would be root for one that has made
/// itself undumpable.
fn user_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Writes this process' id under a name that nobody can know, and moves it.
fn write(entry: &FolderEntry, name: &OsStr) -> io::Result<()> {
    let (temporary, file) = create_temporary(entry, name)?;
    let mut file = File::from(file);
    let written = writeln!(file, "{}", getpid())
        .and_then(|()| Ok(fchmod(&file, MODE)?)) // Whatever the umask.
        .and_then(|()| Ok(renameat(entry.folder(), &temporary, entry.folder(), name)?));
    if written.is_err() {
        let _ = unlinkat(entry.folder(), &temporary, AtFlags::empty()); // If it is there at all.
    }
    written
}

fn create_temporary(entry: &FolderEntry, name: &OsStr) -> io::Result<(OsString, OwnedFd)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..TRIES_MAX {
        let mut random = [0; 8];
        getrandom(&mut random, GetRandomFlags::empty())?;
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{:016x}", u64::from_ne_bytes(random)));
        match openat(entry.folder(), &temporary, flags, MODE) {
            Ok(file) => return Ok((temporary, file)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::EXIST.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn own() -> String {
        format!("{}\n", std::process::id())
    }

    #[test]
    fn it_is_written_whole_and_goes_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pid");
        let file = Pidfile::create(&path, false, None).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), own());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(names(folder.path()), ["a.pid"], "nothing temporary is left");
        drop(file);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn what_was_left_behind_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pid");
        // Nobody, no number, the number of a process that is no server: the one that has started this one.
        let parent = format!("{}", std::os::unix::process::parent_id());
        for text in ["4194304999", "", "x", "0", "-1", &"9".repeat(100), &parent] {
            fs::write(&path, text).unwrap();
            let file = Pidfile::create(&path, false, None).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), own(), "{text:?}");
            drop(file);
        }
    }

    #[test]
    fn one_that_is_anothers_by_now_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pid");
        let file = Pidfile::create(&path, false, None).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn a_new_supervisor_waits_for_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pid");
        let mut old = Pidfile::create(&path, false, None).unwrap();
        let mut new = Pidfile::create(&path, true, None).unwrap();
        assert_eq!(names(folder.path()), ["a.pid", "a.pid.2"]);
        old.supersede();
        drop(old);
        assert_eq!(names(folder.path()), ["a.pid", "a.pid.2"], "the new one moves its own over it");
        new.promote();
        assert_eq!(names(folder.path()), ["a.pid"]);
        new.promote();
        drop(new);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn an_upgrade_that_fails_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pid");
        let old = Pidfile::create(&path, false, None).unwrap();
        drop(Pidfile::create(&path, true, None).unwrap());
        assert_eq!(names(folder.path()), ["a.pid"]);
        drop(old);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(Pidfile::create(Path::new("/no/such/folder/a.pid"), false, None).is_err());
    }

    #[test]
    fn what_lies_there_is_neither_followed_nor_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (path, victim) = (folder.path().join("a.pid"), folder.path().join("victim"));
        fs::write(&victim, "kept").unwrap();
        // The name that was written under before could be known.
        symlink(&victim, folder.path().join(format!("a.pid.{}", getpid()))).unwrap();
        symlink(&victim, &path).unwrap();
        let file = Pidfile::create(&path, false, None).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
        assert!(!path.symlink_metadata().unwrap().is_symlink());
        drop(file);
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, pipe, Mode::from_raw_mode(0o600), 0).unwrap();
        let file = Pidfile::create(&path, false, None).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), own());
        drop(file);
    }

    #[test]
    fn the_workers_user_keeps_no_server_from_starting() {
        const NOBODY: Owner = Owner { user: Some(65534), group: None };
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: it takes root to run a process as another user");
            return;
        }
        let folder = tempfile::tempdir_in("/var/lib").unwrap();
        let path = folder.path().join("a.pid");
        // What is taken for a server: it has a scoreboard.
        let _board = Scoreboard::create(1, 1).unwrap();
        let mut open = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
        let is_board = |path: &std::path::PathBuf| {
            fs::read_link(path).is_ok_and(|link| link.to_string_lossy().contains("portico-scoreboard"))
        };
        let board = File::options().read(true).write(true).open(open.find(is_board).unwrap()).unwrap();
        let mut theirs = Command::new("/bin/sleep").arg("60").stdin(board).uid(65534).spawn().unwrap();
        assert_eq!(user_of(theirs.id()), Some(65534));
        fs::write(&path, theirs.id().to_string()).unwrap();
        let refused = |workers| {
            let entry = FolderEntry::find_for(&path, LastLink::Keep, workers).unwrap();
            (entry.exposure().is_some(), refuse_held(&entry, entry.name(), workers).is_err())
        };
        assert_eq!(refused(Some(NOBODY)), (false, true), "root has written the file");
        chown(folder.path(), Some(65534), None).unwrap();
        assert_eq!(refused(Some(NOBODY)), (true, false));
        theirs.kill().unwrap();
        theirs.wait().unwrap();
        let other = folder.path().join("other");
        fs::create_dir(&other).unwrap();
        symlink("other", folder.path().join("link")).unwrap();
        let error = Pidfile::create(&folder.path().join("link/a.pid"), false, Some(NOBODY)).unwrap_err();
        assert!(error.to_string().contains("a symbolic link"), "{error}");
        assert_eq!(names(&other), [""; 0]);
    }
}
