//! Changes as they show when one looks again and again: where the kernel does not tell them.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::inotify::Seen;

/// The entries of each watched folder as they were last read, to find changes where inotify is not used. Owned by
/// [`crate::watch::FileWatch`].
#[derive(Debug, Default)]
pub(crate) struct FolderSnapshots {
    folders: HashMap<PathBuf, HashMap<PathBuf, FileStamp>>,
}

/// The facts that tell one version of a file from the next, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    folder: bool,
    seconds: i64,
    nanos: i64,
    bytes: u64,
    inode: u64,
}

impl FolderSnapshots {
    /// Watches this folder from now on.
    pub(crate) fn add(&mut self, folder: &Path) {
        self.folders.insert(folder.to_owned(), entries(folder));
    }

    /// What has changed since the last look.
    pub(crate) fn changes(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        self.folders.retain(|folder, before| {
            let now = entries(folder);
            let gone = before.iter().filter(|(path, _)| !now.contains_key(*path));
            let gone = gone.map(|(path, stamp)| (path, stamp.folder, false));
            let changed = now.iter().filter(|(path, stamp)| match before.get(*path) {
                Some(former) => !stamp.folder && former != *stamp,
                None => true,
            });
            let changed = changed.map(|(path, stamp)| (path, stamp.folder, true));
            seen.extend(gone.chain(changed).map(|(path, folder, there)| Seen {
                path: path.clone(),
                folder,
                there,
            }));
            let left = !now.is_empty() || folder.is_dir();
            *before = now;
            left
        });
        seen
    }
}

/// What is in a folder; nothing if it cannot be read.
fn entries(folder: &Path) -> HashMap<PathBuf, FileStamp> {
    let read = fs::read_dir(folder).into_iter().flatten().flatten();
    let stamped = read.filter_map(|entry| {
        let path = entry.path();
        // Through links: what they lead to is what is imported.
        let metadata = fs::metadata(&path).ok()?;
        let stamp = FileStamp {
            folder: metadata.is_dir(),
            seconds: metadata.mtime(),
            nanos: metadata.mtime_nsec(),
            bytes: metadata.len(),
            inode: metadata.ino(),
        };
        Some((path, stamp))
    });
    stamped.collect()
}
