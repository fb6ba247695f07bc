//! The file in memory into which a process writes the stacks of its threads.
//!
//! The supervisor makes it before it forks the process and keeps a descriptor of it. Were it looked for among what
//! the process has open, the process would say which file is read and emptied, and the supervisor may be root.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    CWD, FileType, MemfdFlags, Mode, OFlags, fcntl_setfl, fstat, ftruncate, memfd_create, openat,
};
use rustix::io::pread;

use crate::descriptors::is_open_in;

/// The file, of which each process concerned has a descriptor.
#[derive(Debug)]
pub struct StacksFile(OwnedFd);

/// More than that is not read: the faulthandler writes at most 100 threads of 100 frames.
const BYTES_MAX: usize = 4 * 1024 * 1024;

impl StacksFile {
    /// That of the worker in this slot.
    ///
    /// # Errors
    /// The kernel's, when descriptors have run out.
    pub fn of_worker(slot: u32) -> io::Result<Self> {
        Self::create(&worker_name(slot))
    }

    /// That of the template of this generation.
    ///
    /// # Errors
    /// As [`StacksFile::of_worker`].
    pub fn of_template(generation: u32) -> io::Result<Self> {
        Self::create(&format!("{TEMPLATE}{generation}"))
    }

    /// One for the process itself alone, in which each of its threads writes its own.
    ///
    /// # Errors
    /// As [`StacksFile::of_worker`].
    pub fn of_single_threads() -> io::Result<Self> {
        Self::create(SINGLE_THREADS)
    }

    fn create(name: &str) -> io::Result<Self> {
        let file = memfd_create(name, MemfdFlags::CLOEXEC)?;
        // What several write at the same time stays whole, and nobody has a position that a cut leaves behind.
        fcntl_setfl(&file, OFlags::APPEND)?;
        Ok(Self(file))
    }

    /// That of the worker in this slot, from the process `holder` that has made it: its supervisor, or itself
    /// where it has none.
    ///
    /// # Errors
    /// `NotFound` if it has no such file; what keeps it from being opened.
    pub fn find(holder: u32, slot: u32) -> io::Result<Self> {
        let wanted = format!("/memfd:{} (deleted)", worker_name(slot));
        find(holder, &|link| link == wanted)?.into_iter().next().ok_or(io::ErrorKind::NotFound.into())
    }

    /// Those of the templates of the supervisor `holder`.
    ///
    /// # Errors
    /// What keeps them from being opened.
    pub fn find_templates(holder: u32) -> io::Result<Vec<Self>> {
        let wanted = format!("/memfd:{TEMPLATE}");
        find(holder, &|link| link.starts_with(&wanted))
    }

    /// Whether the process `pid` has it open.
    pub fn is_open_in(&self, pid: u32) -> bool {
        is_open_in(&self.0, pid)
    }

    /// Another descriptor of it.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// As a descriptor, to be sent to the process.
    pub fn from_descriptor(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// Empties it.
    ///
    /// # Errors
    /// The kernel's; none is expected.
    pub fn clear(&self) -> io::Result<()> {
        Ok(ftruncate(&self.0, 0)?)
    }

    /// What stands in it.
    ///
    /// # Errors
    /// The kernel's; none is expected.
    pub fn read(&self) -> io::Result<String> {
        let mut text = Vec::new();
        let mut block = [0; 16 * 1024];
        while text.len() < BYTES_MAX {
            let count = pread(&self.0, &mut block, text.len() as u64)?;
            if count == 0 {
                break;
            }
            text.extend_from_slice(&block[..count]);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

impl AsFd for StacksFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What the files are called, less the slot or the generation.
const WORKER: &str = "portico-stacks-";
const TEMPLATE: &str = "portico-stacks-template-";
const SINGLE_THREADS: &str = "portico-single-stacks";

fn worker_name(slot: u32) -> String {
    format!("{WORKER}{slot}")
}

/// Those that process `holder` has open under such names.
fn find(holder: u32, wanted: &dyn Fn(&str) -> bool) -> io::Result<Vec<StacksFile>> {
    Ok(files_in_memory(holder, wanted)?.into_iter().map(StacksFile).collect())
}

/// The files in memory that process `holder` has open under such names.
pub(crate) fn files_in_memory(holder: u32, wanted: &dyn Fn(&str) -> bool) -> io::Result<Vec<OwnedFd>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{holder}/fd"))? {
        let path = entry?.path();
        if fs::read_link(&path).is_ok_and(|link| wanted(&link.to_string_lossy()))
            && let Some(file) = open_in_memory(&path)?
        {
            found.push(file);
        }
    }
    Ok(found)
}

/// Opens a file that another process has open, if it is one without a name. In a mount namespace of its own a
/// process has any file under any name; opening what is none of ours could wait, or do something to a device.
fn open_in_memory(path: &Path) -> io::Result<Option<OwnedFd>> {
    let named = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&named)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 0 {
        return Ok(None);
    }
    let file = File::options().read(true).write(true).open(format!("/proc/self/fd/{}", named.as_raw_fd()))?;
    Ok(Some(file.into()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn own() -> u32 {
        std::process::id()
    }

    #[test]
    fn who_has_made_it_is_asked_for_it_by_the_slot() {
        let (first, other) = (StacksFile::of_worker(71).unwrap(), StacksFile::of_worker(710).unwrap());
        let template = StacksFile::of_template(7100).unwrap();
        rustix::io::write(&first, b"one").unwrap();
        rustix::io::write(&template, b"template").unwrap();
        let found = StacksFile::find(own(), 71).unwrap();
        assert_eq!((found.read().unwrap().as_str(), other.read().unwrap().as_str()), ("one", ""));
        let templates = StacksFile::find_templates(own()).unwrap();
        assert_eq!(templates.iter().map(|file| file.read().unwrap()).collect::<Vec<_>>(), ["template"]);
        assert!(found.is_open_in(own()) && !found.is_open_in(1));
        found.clear().unwrap();
        assert_eq!(first.read().unwrap(), "");
        rustix::io::write(&first, b"again").unwrap();
        assert_eq!(found.read().unwrap(), "again", "appended, wherever the position was");
        assert_eq!(StacksFile::find(own(), 72).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_that_has_a_name_is_none_whatever_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("named");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"somebody else's").unwrap();
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        assert!(open_in_memory(Path::new(&link)).unwrap().is_none());
        assert!(open_in_memory(Path::new("/dev/null")).unwrap().is_none());
        fs::remove_file(path).unwrap();
        assert!(open_in_memory(Path::new(&link)).unwrap().is_some());
    }

    #[test]
    fn no_more_is_read_than_any_process_has_to_tell() {
        let file = StacksFile::of_worker(73).unwrap();
        ftruncate(&file, 2 * BYTES_MAX as u64).unwrap();
        assert_eq!(file.read().unwrap().len(), BYTES_MAX);
    }
}
