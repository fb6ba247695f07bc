//! Folders for tests, which have to be root's to give files away.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// A folder that root alone can change, as those above it.
pub(crate) struct TestFolder(tempfile::TempDir);

impl TestFolder {
    /// A new one; `None`, which is told, where this process is not root. Not in /tmp, where everybody can write.
    pub(crate) fn of_root() -> Option<Self> {
        if !geteuid().is_root() {
            eprintln!("skipped: it takes root to give files to other users");
            return None;
        }
        let folder = tempfile::tempdir_in("/var/lib").expect("root may write there");
        mode(folder.path(), 0o755);
        Some(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A file in it, and the folders that this takes.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("root may");
        fs::write(&path, text).expect("root may");
        path
    }

    /// A folder in it that is this user's.
    pub(crate) fn folder_of(&self, name: &str, user: u32) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir(&path).expect("root may");
        chown(&path, Some(user), None).expect("root may");
        path
    }
}

/// Sets permissions.
pub(crate) fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("root may");
}
