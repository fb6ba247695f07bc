//! The file in which the supervisor's process id stands (`--pid`).
//!
//! It is written at once under another name and moved, so that nobody reads half a number. One that another server
//! holds is refused. Whatever else stands in it was left behind, also if some other program has the number by now,
//! as happens in containers, which start counting anew.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, getpid};

use crate::Scoreboard;

/// The file of this process. It is removed when this is dropped, if it is still this process' own.
#[derive(Debug)]
pub struct Pidfile {
    path: PathBuf,
    /// The process that it names: forked ones have a copy of this value.
    owner: Pid,
    /// While the supervisor that this one takes over from has the file: its path, which this one's gets then.
    awaited: Option<PathBuf>,
    /// Another supervisor has taken over.
    superseded: bool,
}

/// Everybody may read it.
const MODE: u32 = 0o644;

/// Longer than any number.
const TEXT_BYTES_MAX: usize = 64;

impl Pidfile {
    /// Writes this process' id into the file at `path`; into that of the same name with `.2` behind it if the
    /// supervisor that this one takes over from has the other (`upgrading`).
    ///
    /// # Errors
    /// Another server holds the file; or the system's.
    pub fn create(path: &Path, upgrading: bool) -> io::Result<Self> {
        // The application may change to another folder.
        let path = std::path::absolute(path)?;
        let (path, awaited) = match upgrading {
            true => (second(&path), Some(path)),
            false => (path, None),
        };
        refuse_held(&path)?;
        write(&path)?;
        Ok(Self { path, owner: getpid(), awaited, superseded: false })
    }

    /// The supervisor that this one takes over from has ended: its file is this one's from now on.
    pub fn promote(&mut self) {
        let Some(path) = self.awaited.take() else { return };
        match fs::rename(&self.path, &path) {
            Ok(()) => self.path = path,
            Err(error) => {
                log::error!(
                    "the pid file {} cannot be moved to {}: {error}",
                    self.path.display(),
                    path.display()
                );
            }
        }
    }

    /// Another supervisor has taken over, and will move its file over this one.
    pub fn supersede(&mut self) {
        self.superseded = true;
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if getpid() != self.owner || holder(&self.path) != Some(self.owner) {
            return; // A worker's copy; or another server's by now.
        }
        if self.superseded && second(&self.path).exists() {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            log::warn!("the pid file {} cannot be removed: {error}", self.path.display());
        }
    }
}

/// As gunicorn names the file of a new master.
fn second(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".2");
    name.into()
}

/// Whom the file at `path` names.
fn holder(path: &Path) -> Option<Pid> {
    let text = fs::read(path).ok().filter(|text| text.len() <= TEXT_BYTES_MAX)?;
    let number: i32 = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
    Pid::from_raw(number.max(0))
}

fn refuse_held(path: &Path) -> io::Result<()> {
    let Some(holder) = holder(path).filter(|holder| *holder != getpid()) else { return Ok(()) };
    let number = holder.as_raw_nonzero().get().unsigned_abs();
    match Scoreboard::attach(number) {
        Ok(_) => Err(io::Error::other(format!("a server runs already, as process {number}"))),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(io::Error::other(format!(
            "it names process {number}, which another user runs; remove the file if that is no server"
        ))),
        Err(_) => Ok(()),
    }
}

fn write(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", getpid()));
    let temporary = PathBuf::from(name);
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&temporary)?;
        writeln!(file, "{}", getpid())?;
        file.set_permissions(Permissions::from_mode(MODE))?; // Whatever the umask.
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary); // If it is there at all.
    }
    written
}

#[cfg(test)]
mod tests {
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
        let file = Pidfile::create(&path, false).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), own());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, MODE);
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
            let file = Pidfile::create(&path, false).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), own(), "{text:?}");
            drop(file);
        }
    }

    #[test]
    fn one_that_is_anothers_by_now_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pid");
        let file = Pidfile::create(&path, false).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn a_new_supervisor_waits_for_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pid");
        let mut old = Pidfile::create(&path, false).unwrap();
        let mut new = Pidfile::create(&path, true).unwrap();
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
        let old = Pidfile::create(&path, false).unwrap();
        drop(Pidfile::create(&path, true).unwrap());
        assert_eq!(names(folder.path()), ["a.pid"]);
        drop(old);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(Pidfile::create(Path::new("/no/such/folder/a.pid"), false).is_err());
    }
}
