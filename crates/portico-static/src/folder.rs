//! A folder whose files are served, and the opening of what is beneath it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use portico_config::Symlinks;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, statat};
use rustix::io::Errno;

use crate::served_file::{OpenedFacts, ServedFile};

/// How long an opening may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// No longer than a look at what the kernel has in memory: for a thread that must not wait for a disk.
    Memory,
    /// As long as the disk needs.
    Disk,
}

/// Why there is no file to serve.
#[derive(Debug)]
pub(crate) enum OpenFault {
    /// There is none of that name, or none that may be served.
    Missing,
    /// The process may not read it (EACCES).
    Denied,
    /// A symbolic link leads out of the folder, where links are to lead to something beneath.
    Outside,
    /// The kernel would have to ask the disk: to be opened with [`Patience::Disk`].
    Cold,
    /// Descriptors have run out, the disk is broken.
    Failed(io::Error),
}

/// A folder that is held open. A path beneath it is resolved by the kernel from there, so that neither `..` nor a
/// symbolic link, made or exchanged at whatever moment, leads out of it (openat2(2), `RESOLVE_BENEATH`).
///
/// Where there is no openat2 (gVisor, a seccomp filter of before 2020), paths are walked folder by folder, and
/// links are refused, unless they are to be followed anywhere.
#[derive(Debug)]
pub(crate) struct ServedFolder {
    path: PathBuf,
    links: Symlinks,
    /// Open to be named alone (O_PATH).
    folder: OwnedFd,
    /// openat2(2) has been refused.
    walks: AtomicBool,
}

/// An entry of a folder.
#[derive(Debug)]
pub(crate) struct ListedFile {
    /// Its name.
    pub(crate) name: Vec<u8>,
    /// What is known of a file; `None` for a folder.
    pub(crate) facts: Option<OpenedFacts>,
}

/// A pipe without a writer does not hold the opening up, and no terminal becomes the process's own.
const OPENED: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

const STEP: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder of that name may be served although it begins with a dot (RFC 8615).
const WELL_KNOWN: &[u8] = b".well-known";

impl ServedFolder {
    /// The folder at `path`, which may be behind links: who configures the server has named it.
    ///
    /// # Errors
    /// The kernel's, with the path.
    pub(crate) fn open(path: &Path, links: Symlinks) -> io::Result<Self> {
        let folder = openat(CWD, path, FOLDER, Mode::empty())
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        Ok(Self { path: path.to_owned(), links, folder, walks: AtomicBool::new(false) })
    }

    /// What is at its path by now, if that is another folder: a link now leads elsewhere, a folder was made anew.
    ///
    /// # Errors
    /// There is none at the moment, or the disk would have to be asked.
    pub(crate) fn reopen(&self, patience: Patience) -> Result<Option<Self>, OpenFault> {
        let folder = match patience {
            Patience::Disk => openat(CWD, &self.path, FOLDER, Mode::empty()),
            Patience::Memory => openat2(CWD, &self.path, FOLDER, Mode::empty(), ResolveFlags::CACHED),
        };
        let folder = folder.map_err(|error| match (patience, error) {
            // There is no openat2, or none that knows of RESOLVE_CACHED.
            (Patience::Memory, Errno::NOSYS | Errno::PERM | Errno::INVAL) => OpenFault::Cold,
            (_, error) => OpenFault::from(error),
        })?;
        let identity = |folder: &OwnedFd| fstat(folder).map(|stat| (stat.st_dev, stat.st_ino));
        if identity(&self.folder).map_err(OpenFault::from)? == identity(&folder).map_err(OpenFault::from)? {
            return Ok(None);
        }
        let walks = AtomicBool::new(self.walks.load(Ordering::Relaxed));
        Ok(Some(Self { path: self.path.clone(), links: self.links, folder, walks }))
    }

    /// The entries of the folder `opened`, which is at `relative`: names, whether each is a folder, and what else
    /// is known of it. No more than `max`, in no order; links count as what they lead to, where they are followed.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn entries(
        &self,
        opened: OwnedFd,
        relative: &[u8],
        max: usize,
    ) -> io::Result<Vec<ListedFile>> {
        let mut entries = Vec::new();
        let mut folder = Dir::read_from(&opened)?;
        while let Some(entry) = folder.read() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if entries.len() == max {
                break;
            }
            if !may_be_served(name) {
                continue;
            }
            let is_link = entry.file_type() == FileType::Symlink;
            let known = match is_link {
                true => self.find(&[relative, name].concat(), Patience::Disk).ok().map(|found| match found {
                    ServedFile::File(_, facts) => Some(facts),
                    ServedFile::Folder(_) => None,
                }),
                false => match statat(&opened, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                        FileType::RegularFile => Some(Some(OpenedFacts::from_stat(&stat))),
                        FileType::Directory => Some(None),
                        _ => None,
                    },
                    Err(_) => None,
                },
            };
            if let Some(facts) = known {
                entries.push(ListedFile { name: name.to_vec(), facts });
            }
        }
        Ok(entries)
    }

    /// Opens what is at `relative`: names with `/` between, in the bytes that the file system has, or nothing for
    /// the folder itself. A `/` at the end asks for a folder.
    ///
    /// # Errors
    /// [`OpenFault`]; a path with `.`, `..`, an empty name, a name that begins with a dot, NUL or `\` is
    /// [`OpenFault::Missing`], whether there is such a file or not.
    pub(crate) fn find(&self, relative: &[u8], patience: Patience) -> Result<ServedFile, OpenFault> {
        let (names, wants_folder) = match relative.strip_suffix(b"/") {
            Some(names) => (names, true),
            None => (relative, relative.is_empty()),
        };
        if !names.is_empty() && !names.split(|byte| *byte == b'/').all(may_be_served) {
            return Err(OpenFault::Missing);
        }
        let path = OsStr::from_bytes(if names.is_empty() { b"." } else { names });
        let flags = if wants_folder { OPENED | OFlags::DIRECTORY } else { OPENED };
        let opened = self.resolve(Path::new(path), flags, patience).map_err(OpenFault::from)?;
        match ServedFile::from_opened(opened) {
            Ok(Some(file)) => Ok(file),
            Ok(None) => Err(OpenFault::Missing),
            Err(error) => Err(OpenFault::Failed(error)),
        }
    }

    fn resolve(&self, path: &Path, flags: OFlags, patience: Patience) -> Result<OwnedFd, Errno> {
        if self.walks.load(Ordering::Relaxed) {
            return self.walk(path, flags, patience);
        }
        let mut resolve = ResolveFlags::NO_MAGICLINKS;
        resolve |= match self.links {
            Symlinks::Beneath => ResolveFlags::BENEATH,
            Symlinks::Follow => ResolveFlags::empty(),
            Symlinks::Refuse => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        };
        if patience == Patience::Memory {
            resolve |= ResolveFlags::CACHED;
        }
        match openat2(&self.folder, path, flags, Mode::empty(), resolve) {
            // EPERM is a filter's answer, and a file system's to O_NOATIME alone. EINVAL: no RESOLVE_CACHED yet
            // (before Linux 5.12).
            Err(Errno::NOSYS | Errno::PERM) => {
                self.walks.store(true, Ordering::Relaxed);
                self.walk(path, flags, patience)
            }
            Err(Errno::INVAL) if patience == Patience::Memory => Err(Errno::AGAIN),
            opened => opened,
        }
    }

    /// The same without openat2(2), a name at a time: what a walk opens it has opened itself. It cannot tell what
    /// is in memory.
    fn walk(&self, path: &Path, flags: OFlags, patience: Patience) -> Result<OwnedFd, Errno> {
        if patience == Patience::Memory {
            return Err(Errno::AGAIN);
        }
        if self.links == Symlinks::Follow {
            return openat(&self.folder, path, flags, Mode::empty());
        }
        let mut names = path.as_os_str().as_bytes().split(|byte| *byte == b'/').map(OsStr::from_bytes);
        let Some(last) = names.next_back() else { return Err(Errno::NOENT) };
        let mut step = None;
        for name in names {
            step = Some(openat(at(&self.folder, step.as_ref()), name, STEP, Mode::empty())?);
        }
        openat(at(&self.folder, step.as_ref()), last, flags | OFlags::NOFOLLOW, Mode::empty())
    }
}

fn at<'f>(folder: &'f OwnedFd, step: Option<&'f OwnedFd>) -> BorrowedFd<'f> {
    step.unwrap_or(folder).as_fd()
}

/// Whether a file of this name may be served, or one in a folder of this name.
fn may_be_served(name: &[u8]) -> bool {
    let hidden = name.first().is_none_or(|first| *first == b'.') && name != WELL_KNOWN;
    !hidden && !name.iter().any(|byte| matches!(byte, 0 | b'\\'))
}

impl From<Errno> for OpenFault {
    fn from(error: Errno) -> Self {
        match error {
            // NOTDIR: a name within a file. LOOP: a link where links are refused, or links without end. NXIO,
            // NODEV: a socket, a device without a driver. NAMETOOLONG: no file has that name.
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::NXIO
            | Errno::NODEV
            | Errno::NAMETOOLONG
            | Errno::INVAL
            | Errno::ILSEQ => Self::Missing,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            Errno::XDEV => Self::Outside,
            Errno::AGAIN => Self::Cold,
            error => Self::Failed(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, create_dir, rename, write};
    use std::io::Read as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::thread;

    use proptest::prelude::*;
    use rustix::fs::mknodat;

    use super::*;

    const SECRET: &str = "outside";

    /// A folder with files and links, beside a secret file.
    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let at = |name: &str| tree.path().join(name);
        write(at("secret"), SECRET).unwrap();
        create_dir(at("secrets")).unwrap();
        write(at("secrets/a"), SECRET).unwrap();
        for folder in ["root", "root/css", "root/.git", "root/.well-known"] {
            create_dir(at(folder)).unwrap();
        }
        for file in ["a", "css/b", ".env", ".git/config", ".well-known/x", "a\\b", "..a"] {
            write(at("root").join(file), file).unwrap();
        }
        symlink("../secret", at("root/out")).unwrap();
        symlink(at("secret"), at("root/absolute")).unwrap();
        symlink("../secrets", at("root/folder-out")).unwrap();
        symlink("css/b", at("root/in")).unwrap();
        symlink("../a", at("root/css/up")).unwrap();
        symlink("loop", at("root/loop")).unwrap();
        symlink(".env", at("root/to-hidden")).unwrap();
        let fifo = Mode::from_raw_mode(0o644);
        mknodat(CWD, at("root/fifo"), FileType::Fifo, fifo, 0).unwrap();
        tree
    }

    fn folder(tree: &tempfile::TempDir, links: Symlinks, walks: bool) -> ServedFolder {
        let folder = ServedFolder::open(&tree.path().join("root"), links).unwrap();
        folder.walks.store(walks, Ordering::Relaxed);
        folder
    }

    /// What is read of the file there, or the fault.
    fn read(folder: &ServedFolder, path: &str) -> String {
        match folder.find(path.as_bytes(), Patience::Disk) {
            Ok(ServedFile::File(mut file, facts)) => {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                assert_eq!(facts.length, text.len() as u64);
                text
            }
            Ok(ServedFile::Folder(_)) => "a folder".into(),
            Err(fault) => format!("{fault:?}"),
        }
    }

    #[test]
    fn files_are_found_beneath_and_nowhere_else() {
        let tree = tree();
        for (path, beneath, walked) in [
            ("a", "a", "a"),
            ("css/b", "css/b", "css/b"),
            ("css", "a folder", "a folder"),
            ("css/", "a folder", "a folder"),
            ("", "a folder", "a folder"),
            (".well-known/x", ".well-known/x", ".well-known/x"),
            ("in", "css/b", "Missing"),
            ("css/up", "a", "Missing"),
            ("out", "Outside", "Missing"),
            ("absolute", "Outside", "Missing"),
            ("folder-out/a", "Outside", "Missing"),
            ("loop", "Missing", "Missing"),
            ("fifo", "Missing", "Missing"),
            ("a/", "Missing", "Missing"),
            ("a/b", "Missing", "Missing"),
            ("b", "Missing", "Missing"),
            ("../secret", "Missing", "Missing"),
            ("css/../../secret", "Missing", "Missing"),
            ("/etc/passwd", "Missing", "Missing"),
            ("css//b", "Missing", "Missing"),
            ("./a", "Missing", "Missing"),
            ("a\0b", "Missing", "Missing"),
            ("a\\b", "Missing", "Missing"),
            (".env", "Missing", "Missing"),
            (".git/config", "Missing", "Missing"),
            ("..a", "Missing", "Missing"),
        ] {
            assert_eq!(read(&folder(&tree, Symlinks::Beneath, false), path), beneath, "{path}");
            assert_eq!(read(&folder(&tree, Symlinks::Beneath, true), path), walked, "{path} walked");
            assert_eq!(read(&folder(&tree, Symlinks::Refuse, false), path), walked, "{path} without links");
        }
        assert_eq!(read(&folder(&tree, Symlinks::Beneath, false), &"a".repeat(300)), "Missing");
    }

    #[test]
    fn links_that_are_followed_anywhere_open_nothing_else() {
        let tree = tree();
        for walks in [false, true] {
            let folder = folder(&tree, Symlinks::Follow, walks);
            for path in ["out", "absolute", "folder-out/a"] {
                assert_eq!(read(&folder, path), SECRET, "{path}");
            }
            for path in
                ["../secret", "css/../../secret", ".env", ".git/config", "/etc/passwd", "fifo", "a\0b"]
            {
                assert_eq!(read(&folder, path), "Missing", "{path}");
            }
        }
    }

    #[test]
    fn unreadable_files_are_denied() {
        let tree = tree();
        let path = tree.path().join("root/a");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        let text = read(&folder(&tree, Symlinks::Beneath, false), "a");
        // Root reads what nobody may.
        assert_eq!(text, if rustix::process::geteuid().is_root() { "a" } else { "Denied" });
    }

    #[test]
    fn what_is_in_memory_is_opened_without_the_disk() {
        let tree = tree();
        let served = folder(&tree, Symlinks::Beneath, false);
        assert_eq!(read(&served, "css/b"), "css/b", "now the kernel knows it");
        assert!(matches!(served.find(b"css/b", Patience::Memory), Ok(ServedFile::File(..))));
        assert!(matches!(
            folder(&tree, Symlinks::Beneath, true).find(b"a", Patience::Memory),
            Err(OpenFault::Cold)
        ));
    }

    /// Ends the other thread also when a test fails.
    struct End<'e>(&'e AtomicBool);

    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Has two names in `root` be, in turn, a file or folder and a link to something outside.
    fn exchange(root: &Path) -> io::Result<()> {
        let (made, file, folder) = (root.join("made"), root.join("turning"), root.join("folder"));
        for (target, place) in [("../secret", &file), ("../secrets", &folder)] {
            symlink(target, &made)?;
            rename(&made, place)?;
            fs::remove_file(place)?;
        }
        write(&made, "a")?;
        rename(&made, &file)?;
        create_dir(&folder)?;
        write(folder.join("a"), "a")?;
        fs::remove_dir_all(&folder)
    }

    #[test]
    fn links_that_change_meanwhile_lead_nowhere_outside() {
        let tree = tree();
        let (ended, root) = (AtomicBool::new(false), tree.path().join("root"));
        let changes = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    exchange(&root).unwrap();
                    changes.fetch_add(1, Ordering::Relaxed);
                }
            });
            let end = End(&ended);
            for (links, walks) in
                [(Symlinks::Beneath, false), (Symlinks::Beneath, true), (Symlinks::Refuse, false)]
            {
                let folder = folder(&tree, links, walks);
                let (first, mut looks) = (changes.load(Ordering::Relaxed), 0);
                // On a busy machine one of both may have no turn for a long time.
                while looks < 2_000 || changes.load(Ordering::Relaxed) < first + 100 {
                    looks += 1;
                    for path in ["turning", "folder/a"] {
                        if let Ok(ServedFile::File(mut file, _)) =
                            folder.find(path.as_bytes(), Patience::Disk)
                        {
                            let mut text = String::new();
                            file.read_to_string(&mut text).unwrap();
                            assert_ne!(text, SECRET, "{path}, {links:?}, walks: {walks}");
                        }
                    }
                }
            }
            drop(end);
        });
    }

    #[test]
    fn a_folder_that_was_exchanged_is_opened_again() {
        let tree = tree();
        let (first, second) = (tree.path().join("first"), tree.path().join("second"));
        for folder in [&first, &second] {
            create_dir(folder).unwrap();
            write(folder.join("a"), folder.file_name().unwrap().as_bytes()).unwrap();
        }
        let current = tree.path().join("current");
        symlink(&first, &current).unwrap();
        let folder = ServedFolder::open(&current, Symlinks::Beneath).unwrap();
        assert!(folder.reopen(Patience::Disk).unwrap().is_none());
        fs::remove_file(&current).unwrap();
        assert!(folder.reopen(Patience::Disk).is_err());
        assert_eq!(read(&folder, "a"), "first", "it is still open");
        symlink(&second, &current).unwrap();
        assert_eq!(read(&folder.reopen(Patience::Disk).unwrap().unwrap(), "a"), "second");
    }

    proptest! {
        #[test]
        fn no_path_leaves_it(
            path in "[a./\\\\\u{0}out-]{0,12}|(\\.\\.?/|a/|folder-out/|css/up/|/){1,6}(secret|a|out)",
        ) {
            static TREE: std::sync::LazyLock<tempfile::TempDir> = std::sync::LazyLock::new(tree);
            let tree = &*TREE;
            for walks in [false, true] {
                prop_assert_ne!(read(&folder(tree, Symlinks::Beneath, walks), &path), SECRET);
            }
        }
    }
}
