//! Files that are written: made by root for a lesser user, or found.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fcntl_setfl, fstat, ftruncate, openat};
use rustix::io::Errno;

use crate::exposure::Exposure;
use crate::folder_entry::{FolderEntry, LastLink};
use crate::owner::Owner;

/// Not waiting for anybody: a pipe's reader, whoever has a lease (fcntl(2), F_SETLEASE).
const FLAGS: OFlags =
    OFlags::WRONLY.union(OFlags::APPEND).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// What a log is made with, less the process' mask.
const MODE: u32 = 0o666;

/// How often what is neither there nor can be made is tried: somebody removes and makes it meanwhile.
const TRIES_MAX: usize = 8;

/// Opens a log for appending and makes it if it is not there; never waits. What is made is given to `owner`; what
/// was there stays whose it is.
///
/// With a lesser owner, where that or others than root can write: a regular file that has no other name, or none.
///
/// # Errors
/// The kernel's, or what was found there: a symbolic link, a pipe, a file of several names.
pub fn open_log(path: &Path, owner: Option<Owner>) -> io::Result<File> {
    match owner {
        Some(owner) if owner.is_lesser() => open_guarded(path, owner),
        Some(owner) => match plain().create_new(true).open(path) {
            Ok(file) => owner.take(&file).map(|()| file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_plain(path),
            Err(error) => Err(error),
        },
        None => open_plain(path),
    }
}

/// As [`open_log`], for code that has another idea of how to open it: with `O_TRUNC` in `flags` it is emptied.
///
/// # Errors
/// As [`open_log`]; `flags` are not those of a file that is written.
pub fn open_written(path: &Path, flags: i32, owner: Option<Owner>) -> io::Result<File> {
    let flags = OFlags::from_bits_retain(flags.cast_unsigned());
    if !flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
        return File::open(path);
    }
    let file = open_log(path, owner)?;
    if flags.contains(OFlags::TRUNC) && file.metadata()?.is_file() {
        ftruncate(&file, 0)?;
    }
    Ok(file)
}

fn plain() -> std::fs::OpenOptions {
    let mut options = File::options();
    options.append(true).mode(MODE).custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
    options
}

fn open_plain(path: &Path) -> io::Result<File> {
    settled(plain().create(true).open(path).map_err(told)?)
}

fn open_guarded(path: &Path, owner: Owner) -> io::Result<File> {
    let entry = FolderEntry::find(path, LastLink::Follow)?
        .map_err(|exposure| refused("a symbolic link", &exposure))?;
    let open = |flags: OFlags| openat(entry.folder(), entry.name(), FLAGS | flags, Mode::from_raw_mode(MODE));
    if entry.is_magic() {
        return settled(open(OFlags::empty()).map_err(|error| told(error.into()))?.into());
    }
    for _ in 0..TRIES_MAX {
        match open(OFlags::NOFOLLOW) {
            Ok(file) => return check(file.into(), entry.exposure()),
            Err(Errno::NOENT) => {}
            Err(Errno::LOOP) => return Err(linked(entry.exposure())),
            Err(error) => return Err(told(error.into())),
        }
        match open(OFlags::NOFOLLOW | OFlags::CREATE | OFlags::EXCL) {
            Ok(file) => {
                let file = File::from(file);
                owner.take(&file)?;
                return Ok(file);
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("it is made and removed again and again"))
}

/// Whether what was found may be written.
fn check(file: File, exposure: Option<&Exposure>) -> io::Result<File> {
    let Some(exposure) = exposure else { return settled(file) };
    let stat = fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_nlink == 1 => Ok(file),
        FileType::RegularFile => Err(refused("a file with several names", exposure)),
        FileType::Fifo => Err(refused("a pipe", exposure)),
        _ => Err(refused("no regular file", exposure)),
    }
}

/// A file that is no regular one is written as it would have been opened: a pipe waits for its reader.
fn settled(file: File) -> io::Result<File> {
    if !file.metadata()?.is_file() {
        fcntl_setfl(&file, OFlags::APPEND)?;
    }
    Ok(file)
}

/// What opening has met, for the operator.
fn told(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::NXIO) => io::Error::other("it is a pipe that nobody reads, or a socket"),
        Some(Errno::AGAIN) => io::Error::other("another process holds a lease on it"),
        _ => error,
    }
}

fn refused(what: &str, exposure: &Exposure) -> io::Error {
    let message = format!("root does not write it: it is {what}, and {exposure}");
    io::Error::new(io::ErrorKind::PermissionDenied, message)
}

/// It has become a link since it was looked at.
fn linked(exposure: Option<&Exposure>) -> io::Error {
    exposure.map_or_else(|| Errno::LOOP.into(), |exposure| refused("a symbolic link", exposure))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::PathBuf;

    use rustix::fs::{CWD, fcntl_getfl, mknodat};

    use super::*;
    use crate::testing::TestFolder;

    const NOBODY: Owner = Owner { user: Some(65534), group: Some(65533) };

    fn refusal(path: &Path) -> String {
        open_log(path, Some(NOBODY)).unwrap_err().to_string()
    }

    fn fifo(path: &Path) -> PathBuf {
        mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        path.to_owned()
    }

    #[test]
    fn what_is_made_is_the_owners_and_what_was_there_stays_whose_it_is() {
        let Some(folder) = TestFolder::of_root() else { return };
        let theirs = folder.folder_of("theirs", 65534);
        for path in [theirs.join("a"), folder.path().join("a")] {
            open_log(&path, Some(NOBODY)).unwrap().write_all(b"1").unwrap();
            let made = path.metadata().unwrap();
            assert_eq!((made.uid(), made.gid()), (65534, 65533));
            open_log(&path, Some(NOBODY)).unwrap().write_all(b"2").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "12", "appended");
        }
        let found = folder.write("found", "");
        open_log(&found, Some(NOBODY)).unwrap();
        assert_eq!(found.metadata().unwrap().uid(), 0);
        let group = Owner { user: None, group: Some(65533) };
        let path = folder.path().join("groups");
        open_log(&path, Some(group)).unwrap();
        assert_eq!((path.metadata().unwrap().uid(), path.metadata().unwrap().gid()), (0, 65533));
        open_log(&path, Some(group)).unwrap();
    }

    #[test]
    fn a_link_is_followed_only_where_root_alone_could_have_made_it() {
        let Some(folder) = TestFolder::of_root() else { return };
        let theirs = folder.folder_of("theirs", 65534);
        let victim = folder.path().join("victim");
        symlink(&victim, theirs.join("log")).unwrap();
        assert!(refusal(&theirs.join("log")).contains("a symbolic link"));
        assert!(refusal(&theirs.join("log")).contains("belongs to user 65534"));
        fs::create_dir(folder.path().join("others")).unwrap();
        symlink(folder.path().join("others"), theirs.join("logs")).unwrap();
        assert!(refusal(&theirs.join("logs/victim")).contains("a symbolic link"), "nor one of its folders");
        assert!(!victim.exists() && !folder.path().join("others/victim").exists());
        symlink("victim", folder.path().join("log")).unwrap();
        open_log(&folder.path().join("log"), Some(NOBODY)).unwrap();
        assert!(victim.exists(), "root has made that one");
        // And so has it these, whose last step is one of /proc's.
        open_log(Path::new("/dev/null"), Some(NOBODY)).unwrap();
        let file = fs::File::options().append(true).open(&victim).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&file);
        let path = PathBuf::from(format!("/dev/fd/{number}"));
        open_log(&path, Some(NOBODY)).unwrap().write_all(b"x").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"x");
    }

    #[test]
    fn a_file_that_has_another_name_may_be_somebody_elses() {
        let Some(folder) = TestFolder::of_root() else { return };
        let theirs = folder.folder_of("theirs", 65534);
        let victim = folder.write("victim", "");
        fs::hard_link(&victim, theirs.join("log")).unwrap();
        assert!(refusal(&theirs.join("log")).contains("several names"));
        open_log(&victim, Some(NOBODY)).unwrap();
    }

    #[test]
    fn nothing_waits_for_the_other_end_of_a_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let path = fifo(&folder.path().join("pipe"));
        let error = open_log(&path, None).unwrap_err().to_string();
        assert!(error.contains("a pipe that nobody reads"), "{error}");
        let _reader = File::options().read(true).write(true).open(&path).unwrap();
        let log = open_log(&path, None).unwrap();
        assert!(!fcntl_getfl(&log).unwrap().contains(OFlags::NONBLOCK), "written as any pipe is");
        let Some(folder) = TestFolder::of_root() else { return };
        let path = fifo(&folder.folder_of("theirs", 65534).join("pipe"));
        assert!(refusal(&path).contains("nobody reads"));
        let _reader = File::options().read(true).write(true).open(&path).unwrap();
        assert!(refusal(&path).contains("it is a pipe, and"), "its reader may be one that does not read");
        let own = fifo(&folder.path().join("pipe"));
        let _reader = File::options().read(true).write(true).open(&own).unwrap();
        open_log(&own, Some(NOBODY)).unwrap();
    }

    #[test]
    fn a_file_is_emptied_where_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "former").unwrap();
        let flags = |flags: OFlags| flags.bits().cast_signed();
        open_written(&path, flags(OFlags::WRONLY | OFlags::APPEND), None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"former");
        open_written(&path, flags(OFlags::WRONLY | OFlags::TRUNC), None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        assert!(open_written(&path, flags(OFlags::RDONLY), None).unwrap().write_all(b"x").is_err());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o111, 0);
    }
}
