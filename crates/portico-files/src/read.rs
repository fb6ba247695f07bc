//! Files that are read.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};

use crate::exposure::Exposure;
use crate::folder_entry::{FolderEntry, LastLink};
use crate::owner::Owner;

/// More than any file of configuration or certificates has; what others have put there may be endless.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW);

/// The text of a file that may be anybody's: a regular one, read without waiting and to a limit.
///
/// # Errors
/// The kernel's; it is no regular file, too large, or no text.
pub fn read_text(path: &Path) -> io::Result<String> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let bytes = read(File::options().read(true).custom_flags(flags).open(path)?)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text in UTF-8"))
}

/// What a file holds that root reads for `owner`, who will learn it: a key, a certificate. With a lesser owner it
/// has to be one that root alone can change, or the owner's own; else its path could be made to lead to what the
/// owner may not read.
///
/// # Errors
/// The kernel's; who else can change what it leads to.
pub fn read_for(path: &Path, owner: Option<Owner>) -> io::Result<Vec<u8>> {
    if !owner.is_some_and(|owner| owner.is_lesser()) {
        return std::fs::read(path);
    }
    let entry = FolderEntry::find(path, LastLink::Follow)?.map_err(|exposure| refused(&exposure))?;
    let mut flags = FLAGS;
    flags.set(OFlags::NOFOLLOW, !entry.is_magic());
    let file = File::from(openat(entry.folder(), entry.name(), flags, Mode::empty())?);
    if entry.is_magic() {
        return read(file);
    }
    let exposure = match entry.exposure() {
        Some(exposure) => Some(exposure.clone()),
        None => Exposure::of_open(&file, entry.path())?,
    };
    match exposure {
        Some(exposure) if owner.and_then(|owner| owner.user) != Some(file.metadata()?.uid()) => {
            Err(refused(&exposure))
        }
        _ => read(file),
    }
}

fn read(file: File) -> io::Result<Vec<u8>> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(bytes),
    }
}

fn refused(exposure: &Exposure) -> io::Error {
    let message = format!(
        "root does not read it for --user, for {exposure}; give the file to that user without links on its path, \
         or the file and all folders above it to root alone"
    );
    io::Error::new(io::ErrorKind::PermissionDenied, message)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;
    use crate::testing::TestFolder;

    const NOBODY: Owner = Owner { user: Some(65534), group: None };

    #[test]
    fn text_is_read_from_regular_files_alone_and_to_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "é").unwrap();
        assert_eq!(read_text(&path).unwrap(), "é");
        fs::write(&path, b"\xff").unwrap();
        assert!(read_text(&path).is_err());
        let sized = |bytes: u64| File::create(&path).unwrap().set_len(bytes).unwrap();
        sized(FILE_BYTES_MAX);
        assert!(read_text(&path).is_ok());
        sized(FILE_BYTES_MAX + 1);
        assert_eq!(read_text(&path).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let pipe = folder.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert_eq!(read_text(&pipe).unwrap_err().to_string(), "it is no regular file");
    }

    #[test]
    fn what_is_read_for_a_lesser_user_is_its_own_or_roots_alone() {
        let Some(folder) = TestFolder::of_root() else { return };
        let theirs = folder.folder_of("theirs", 65534);
        let secret = folder.write("secret", "root's");
        assert_eq!(read_for(&secret, Some(NOBODY)).unwrap(), b"root's", "root has named it");
        symlink(&secret, theirs.join("key")).unwrap();
        let error = read_for(&theirs.join("key"), Some(NOBODY)).unwrap_err().to_string();
        assert!(error.contains(&format!("{} belongs to user 65534", theirs.display())), "{error}");
        assert_eq!(read_for(&theirs.join("key"), None).unwrap(), b"root's", "nobody is lesser");
        let own = theirs.join("own");
        fs::write(&own, "their own").unwrap();
        assert!(read_for(&own, Some(NOBODY)).is_err(), "root's, moved there");
        chown(&own, Some(65534), None).unwrap();
        assert_eq!(read_for(&own, Some(NOBODY)).unwrap(), b"their own");
        symlink("secret", folder.path().join("link")).unwrap();
        assert_eq!(read_for(&folder.path().join("link"), Some(NOBODY)).unwrap(), b"root's");
        let pipe = theirs.join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        chown(&pipe, Some(65534), None).unwrap();
        assert!(read_for(&pipe, Some(NOBODY)).unwrap_err().to_string().contains("no regular file"));
    }
}
