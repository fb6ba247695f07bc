//! Temporary files in which request bodies and responses wait, and how much of them one worker may have.
//!
//! Shared by the thread that drives, which stores bodies, and the application threads, which store what slow
//! clients have not taken of their responses. The files have no name: whatever ends the process, none is left
//! behind.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};

use portico_os::above_standard;

/// The account of all spool files of one worker: their total and its limit. Whoever writes a file takes its share
/// here first.
#[derive(Debug)]
pub(crate) struct Spools {
    /// `--tmp-upload-dir`; `None` is the system's temporary folder.
    folder: Option<PathBuf>,
    /// `--spool-total`
    bytes_max: u64,
    /// Files that may be open at once.
    files_max: u32,
    bytes: AtomicU64,
    files: AtomicU32,
    /// How often no file could be made or written.
    failures: AtomicU64,
    /// The thread that empties large files, once there has been one.
    emptying: OnceLock<Sender<(File, Share)>>,
}

/// Bytes from which on giving a file back takes time: the file system has a tenth of a second for a gigabyte.
const LARGE_BYTES: u64 = 4 * 1024 * 1024;

/// One spool file. Dropped, it gives back what it took of the worker's share.
#[derive(Debug)]
pub(crate) struct SpoolFile {
    // Closed before the share is given back: what all files take never exceeds the total.
    file: File,
    share: Share,
}

/// The part of the worker's total that a file takes.
#[derive(Debug)]
struct Share {
    files: u32,
    bytes: AtomicU64,
    spools: Arc<Spools>,
}

/// The reason for which bytes cannot be stored.
#[derive(Debug)]
pub enum SpoolError {
    /// As many files as may be are open.
    Files,
    /// The file system's.
    Io(io::Error),
    /// All files together would exceed `--spool-total`.
    Total,
}

impl Spools {
    /// No file yet. `bytes_max` bounds the bytes in all of them, `files_max` their number.
    pub(crate) fn new(folder: Option<PathBuf>, bytes_max: u64, files_max: u32) -> Self {
        let (bytes, files, failures) = (AtomicU64::new(0), AtomicU32::new(0), AtomicU64::new(0));
        Self { folder, bytes_max, files_max, bytes, files, failures, emptying: OnceLock::new() }
    }

    /// Makes a file with room for `bytes` bytes, and for more as long as there is.
    ///
    /// # Errors
    /// Too many are open, there is no such room, or the folder's.
    pub(crate) fn create(self: &Arc<Self>, bytes: u64) -> Result<SpoolFile, SpoolError> {
        // Counted before it is made: threads that come at once do not exceed the limit together.
        let share = Share { files: 1, bytes: AtomicU64::new(0), spools: Arc::clone(self) };
        if self.files.fetch_add(1, Ordering::Relaxed) >= self.files_max {
            return Err(self.failed(SpoolError::Files));
        }
        share.extend_to(bytes)?;
        let file = self.folder.as_ref().map_or_else(tempfile::tempfile, tempfile::tempfile_in);
        match file.and_then(|file| Ok(above_standard(file.into())?)) {
            Ok(file) => Ok(SpoolFile { file: file.into(), share }),
            Err(error) => Err(self.failed(SpoolError::Io(error))),
        }
    }

    /// Has a large file emptied by a thread of its own: it may be the thread that drives which has it last.
    fn empty_apart(&self, file: File, share: Share) {
        let emptying = self.emptying.get_or_init(|| {
            let (sender, files) = channel::<(File, Share)>();
            // Where there is no thread, what is sent comes back, and is dropped there.
            let _ = std::thread::Builder::new().name("portico-files".to_owned()).spawn(move || {
                for (file, share) in files {
                    let _ = file.set_len(0);
                    drop((file, share));
                }
            });
            sender
        });
        let _ = emptying.send((file, share));
    }

    /// Files that one connection may have with all of its streams: an eighth of all.
    #[inline]
    pub(crate) fn files_per_connection(&self) -> u32 {
        (self.files_max / 8).max(1)
    }

    /// Whether there is little room for another file, or for more in one.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.files.load(Ordering::Relaxed) >= self.files_max - self.files_max / 16
            || self.bytes.load(Ordering::Relaxed) >= self.bytes_max - self.bytes_max / 16
    }

    /// Bytes in all files.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Open files.
    #[cfg(test)]
    pub(crate) fn files(&self) -> u32 {
        self.files.load(Ordering::Relaxed)
    }

    /// Says that something could not be stored: the first, the second, the fourth time and so on.
    fn failed(&self, error: SpoolError) -> SpoolError {
        let times = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if times.is_power_of_two() {
            let remedy = match (&error, &self.folder) {
                (SpoolError::Files, _) => "raise `ulimit -n`",
                (SpoolError::Total, _) => "raise --spool-total",
                (SpoolError::Io(_), Some(_)) => "mend --tmp-upload-dir",
                (SpoolError::Io(_), None) => "set --tmp-upload-dir or TMPDIR",
            };
            log::warn!("no temporary file for a body or a response: {error}; {remedy} ({times} so far)");
        }
        error
    }
}

impl SpoolFile {
    /// Writes `bytes` at `offset`, which is at most the end of what has been written. One thread at a time writes.
    ///
    /// # Errors
    /// There is no room for all of them.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), SpoolError> {
        self.share.extend_to(offset + bytes.len() as u64)?;
        let written = self.file.write_all_at(bytes, offset);
        written.map_err(|error| self.share.spools.failed(SpoolError::Io(error)))
    }

    /// Reads into `buffer` from `offset` on; at least one byte where there is one.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    /// The file, to be sent from.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        if *self.share.bytes.get_mut() >= LARGE_BYTES
            && let Ok(file) = self.file.try_clone()
        {
            let share = self.share.take();
            Arc::clone(&share.spools).empty_apart(file, share);
        }
    }
}

impl Share {
    /// Makes it at least `bytes` bytes. One thread at a time does so.
    fn extend_to(&self, bytes: u64) -> Result<(), SpoolError> {
        let more = bytes.saturating_sub(self.bytes.load(Ordering::Relaxed));
        let extended = |all: u64| all.checked_add(more).filter(|all| *all <= self.spools.bytes_max);
        let all = &self.spools.bytes;
        if more > 0 && all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, extended).is_err() {
            return Err(self.spools.failed(SpoolError::Total));
        }
        self.bytes.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    /// Leaves nothing.
    fn take(&mut self) -> Self {
        let (files, bytes) = (std::mem::take(&mut self.files), std::mem::take(self.bytes.get_mut()));
        Self { files, bytes: AtomicU64::new(bytes), spools: Arc::clone(&self.spools) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.spools.bytes.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
        self.spools.files.fetch_sub(self.files, Ordering::Relaxed);
    }
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files => f.write_str("as many temporary files are open as may be"),
            Self::Io(error) => error.fmt(f),
            Self::Total => f.write_str("the temporary files have reached their limit"),
        }
    }
}

impl From<SpoolError> for io::Error {
    fn from(error: SpoolError) -> Self {
        match error {
            SpoolError::Io(error) => error,
            SpoolError::Files | SpoolError::Total => io::Error::other(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_together_keep_to_their_limit() {
        let spools = Arc::new(Spools::new(None, 10, 2));
        let (one, other) = (spools.create(0).unwrap(), spools.create(0).unwrap());
        assert!(matches!(spools.create(0), Err(SpoolError::Files)));
        one.write_at(b"123456", 0).unwrap();
        assert!(matches!(other.write_at(b"12345", 0), Err(SpoolError::Total)));
        other.write_at(b"1234", 0).unwrap();
        // What is written again takes no more room.
        one.write_at(b"654321", 0).unwrap();
        let mut read = [0; 6];
        assert_eq!((one.read_at(&mut read, 0).unwrap(), &read), (6, b"654321"));
        assert_eq!((spools.bytes(), spools.files()), (10, 2));
        drop(one);
        other.write_at(b"567890", 4).unwrap();
        assert_eq!((spools.bytes(), spools.files()), (10, 1));
        drop(other);
        assert_eq!((spools.bytes(), spools.files()), (0, 0));
    }

    #[test]
    fn a_file_that_will_be_large_has_its_room_from_the_start_or_is_not_made() {
        let spools = Arc::new(Spools::new(None, 10, 3));
        let one = spools.create(7).unwrap();
        assert!(matches!(spools.create(4), Err(SpoolError::Total)));
        let other = spools.create(3).unwrap();
        assert_eq!((spools.bytes(), spools.files()), (10, 2));
        one.write_at(b"1234567", 0).unwrap();
        assert!(matches!(one.write_at(b"8", 7), Err(SpoolError::Total)));
        drop(other);
        one.write_at(b"8", 7).unwrap();
        assert_eq!((spools.bytes(), spools.files()), (8, 1));
    }

    #[test]
    fn room_is_given_back_when_the_file_takes_none_any_more() {
        let spools = Arc::new(Spools::new(None, 2 * LARGE_BYTES, 2));
        let files: Vec<_> = (0..2).map(|_| spools.create(LARGE_BYTES).unwrap()).collect();
        let opened: Vec<_> = files.iter().map(|file| file.file().try_clone().unwrap()).collect();
        for file in &files {
            file.write_at(&vec![1; LARGE_BYTES as usize], 0).unwrap();
        }
        drop(files);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            // Read before the files are: what has been given back is not there any more.
            let bytes = spools.bytes();
            let there: u64 = opened.iter().map(|file| file.metadata().unwrap().len()).sum();
            assert!(there <= bytes, "{there} bytes are there, {bytes} are counted");
            if bytes == 0 {
                break;
            }
            assert!(std::time::Instant::now() < deadline);
        }
        assert_eq!(spools.files(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_written_takes_no_share() {
        let spools = Arc::new(Spools::new(Some("/nonexistent".into()), 10, 1));
        for _ in 0..3 {
            assert!(matches!(spools.create(0), Err(SpoolError::Io(_))));
        }
        assert_eq!((spools.bytes(), spools.files()), (0, 0));
    }
}
