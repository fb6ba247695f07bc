//! Who but root can change what a path leads to.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, statat};

use crate::exposure::Exposure;
use crate::folder_entry::{FolderEntry, LastLink};

/// Who but root can change what `path` leads to, or put something there; `None` if nobody can.
///
/// # Errors
/// The path cannot be walked: a folder of it is none, or there are too many links.
pub fn exposure(path: &Path) -> io::Result<Option<Exposure>> {
    let entry = match FolderEntry::find(path, LastLink::Follow) {
        Ok(Ok(entry)) => entry,
        Ok(Err(exposure)) => return Ok(Some(exposure)),
        // Who can make the folders that are not there?
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return path.parent().map_or(Ok(None), exposure);
        }
        Err(error) => return Err(error),
    };
    if entry.exposure().is_some() {
        return Ok(entry.exposure().cloned());
    }
    match statat(entry.folder(), entry.name(), AtFlags::SYMLINK_NOFOLLOW) {
        // A link of /proc, to what root has open: its own mode says nothing.
        Ok(_) if entry.is_magic() => Ok(None),
        Ok(stat) => Ok(Exposure::of(&stat, entry.folder(), entry.path())),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Who but root can have `path` lead elsewhere; `None` if nobody can. What it leads to may be anybody's.
///
/// # Errors
/// The path cannot be walked: it leads nowhere, or there are too many links.
pub fn redirection(path: &Path) -> io::Result<Option<Exposure>> {
    match FolderEntry::find(path, LastLink::Follow)? {
        Err(exposure) => Ok(Some(exposure)),
        Ok(entry) => {
            statat(entry.folder(), entry.name(), AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(entry.exposure().cloned())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    use super::*;
    use crate::testing::{TestFolder, mode};

    fn told(path: &Path) -> String {
        exposure(path).unwrap().map(|exposure| exposure.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_root_alone_can_change_is_not_exposed() {
        let Some(folder) = TestFolder::of_root() else { return };
        let file = folder.write("a.conf", "");
        assert_eq!(told(&file), "");
        assert_eq!(told(&folder.path().join("missing")), "", "nobody else can make it");
        assert_eq!(told(folder.path()), "");
        assert_eq!(told(Path::new("/")), "");
        symlink(&file, folder.path().join("link")).unwrap();
        assert_eq!(told(&folder.path().join("link")), "", "root alone could have made the link");
        assert_eq!(told(&folder.path().join("no/such/file")), "");
        assert!(exposure(&folder.write("file", "").join("under")).is_err());
    }

    #[test]
    fn the_file_and_every_folder_above_it_count() {
        let Some(folder) = TestFolder::of_root() else { return };
        let file = folder.write("a/b/c.conf", "");
        let (outer, inner) = (folder.path().join("a"), folder.path().join("a/b"));
        for path in [&outer, &inner, &file] {
            chown(path, Some(65534), None).unwrap();
            assert_eq!(told(&file), format!("{} belongs to user 65534", path.display()));
            chown(path, Some(0), Some(65534)).unwrap();
            assert_eq!(told(&file), "", "the group may not write");
            mode(path, 0o775);
            assert_eq!(told(&file), format!("{} can be written by group 65534", path.display()));
            mode(path, 0o1777);
            assert_eq!(told(&file), format!("{} can be written by everybody", path.display()));
            mode(path, 0o755);
        }
        let theirs = folder.folder_of("theirs", 65534);
        let exposed = format!("{} belongs to user 65534", theirs.display());
        assert_eq!(told(&theirs.join("no/such/file")), exposed, "they can make it");
        assert_eq!(told(&file), "");
    }

    #[test]
    fn links_lead_to_what_counts_and_none_is_followed_where_others_can_write() {
        let Some(folder) = TestFolder::of_root() else { return };
        let theirs = folder.folder_of("theirs", 65534);
        let own = folder.write("own.conf", "");
        symlink(&own, theirs.join("link")).unwrap();
        let exposed = format!("{} belongs to user 65534", theirs.display());
        assert_eq!(told(&theirs.join("link")), exposed);
        assert_eq!(told(&theirs.join("../own.conf")), exposed, "nor is it left by ..");
        symlink(&theirs, folder.path().join("current")).unwrap();
        fs::write(theirs.join("a.conf"), "").unwrap();
        assert_eq!(told(&folder.path().join("current/a.conf")), exposed);
        symlink("loop", folder.path().join("loop")).unwrap();
        assert!(exposure(&folder.path().join("loop")).is_err());
    }

    #[test]
    fn who_can_have_a_folders_path_lead_elsewhere() {
        let Some(folder) = TestFolder::of_root() else { return };
        let told = |path: &Path| redirection(path).unwrap().map(|it| it.to_string()).unwrap_or_default();
        let theirs = folder.folder_of("theirs", 65534);
        let exposed = format!("{} belongs to user 65534", theirs.display());
        assert_eq!(told(&theirs), "", "what is in it is theirs, where it is is not");
        symlink(&theirs, folder.path().join("current")).unwrap();
        assert_eq!(told(&folder.path().join("current")), "");
        fs::create_dir(theirs.join("r1")).unwrap();
        symlink("r1", theirs.join("current")).unwrap();
        assert_eq!(told(&theirs.join("r1")), exposed);
        assert_eq!(told(&theirs.join("current")), exposed);
        assert!(redirection(&folder.path().join("missing")).is_err());
    }

    #[test]
    fn what_root_has_open_is_not_exposed_under_its_number() {
        let Some(folder) = TestFolder::of_root() else { return };
        let file = fs::File::open(folder.write("theirs", "")).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&file);
        assert_eq!(told(Path::new(&format!("/dev/fd/{number}"))), "");
    }
}
