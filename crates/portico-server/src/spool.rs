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
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use portico_os::above_standard;

/// All spool files of one worker.
#[derive(Debug)]
pub struct Spools {
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
}

/// Bytes from which on closing a file takes time.
const LARGE_BYTES: u64 = 64 * 1024 * 1024;

/// One spool file. Dropped, it gives back what it took of the worker's share.
#[derive(Debug)]
pub struct SpoolFile {
    file: File,
    /// Bytes that are reserved for it.
    reserved: AtomicU64,
    spools: Arc<Spools>,
}

/// Why bytes cannot be stored.
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
    pub fn new(folder: Option<PathBuf>, bytes_max: u64, files_max: u32) -> Self {
        let (bytes, files, failures) = (AtomicU64::new(0), AtomicU32::new(0), AtomicU64::new(0));
        Self { folder, bytes_max, files_max, bytes, files, failures }
    }

    /// Makes a file.
    ///
    /// # Errors
    /// Too many are open, or the folder's.
    pub fn create(self: &Arc<Self>) -> Result<SpoolFile, SpoolError> {
        // Counted before it is made: threads that come at once do not exceed the limit together.
        if self.files.fetch_add(1, Ordering::Relaxed) >= self.files_max {
            self.files.fetch_sub(1, Ordering::Relaxed);
            return Err(self.failed(SpoolError::Files));
        }
        let file = self.folder.as_ref().map_or_else(tempfile::tempfile, tempfile::tempfile_in);
        match file.and_then(|file| Ok(above_standard(file.into())?)) {
            Ok(file) => {
                Ok(SpoolFile { file: file.into(), reserved: AtomicU64::new(0), spools: Arc::clone(self) })
            }
            Err(error) => {
                self.files.fetch_sub(1, Ordering::Relaxed);
                Err(self.failed(SpoolError::Io(error)))
            }
        }
    }

    /// Files that one connection may have with all of its streams: an eighth of all.
    pub fn files_per_connection(&self) -> u32 {
        (self.files_max / 8).max(1)
    }

    /// Whether there is little room for another file, or for more in one.
    pub fn is_short(&self) -> bool {
        self.files.load(Ordering::Relaxed) >= self.files_max - self.files_max / 16
            || self.bytes.load(Ordering::Relaxed) >= self.bytes_max - self.bytes_max / 16
    }

    /// Bytes in all files.
    #[cfg(test)]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Open files.
    #[cfg(test)]
    pub fn files(&self) -> u32 {
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
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), SpoolError> {
        let end = offset + bytes.len() as u64;
        let more = end.saturating_sub(self.reserved.load(Ordering::Relaxed));
        if self.spools.bytes.fetch_add(more, Ordering::Relaxed) + more > self.spools.bytes_max {
            self.spools.bytes.fetch_sub(more, Ordering::Relaxed);
            return Err(self.spools.failed(SpoolError::Total));
        }
        self.reserved.fetch_add(more, Ordering::Relaxed);
        self.file.write_all_at(bytes, offset).map_err(|error| self.spools.failed(SpoolError::Io(error)))
    }

    /// Reads into `buffer` from `offset` on; at least one byte where there is one.
    ///
    /// # Errors
    /// The file system's.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    /// The file, to be sent from.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for SpoolFile {
    /// Has a large file given back by a thread of its own: the file system takes a tenth of a second for a
    /// gigabyte, and it may be the thread that drives which has it last.
    fn drop(&mut self) {
        if *self.reserved.get_mut() >= LARGE_BYTES
            && let Ok(file) = self.file.try_clone()
        {
            let closing = std::thread::Builder::new().name("portico-files".to_owned());
            let _ = closing.spawn(move || drop(file)); // Where there is no thread it has been dropped here.
        }
        self.spools.bytes.fetch_sub(*self.reserved.get_mut(), Ordering::Relaxed);
        self.spools.files.fetch_sub(1, Ordering::Relaxed);
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
        let (one, other) = (spools.create().unwrap(), spools.create().unwrap());
        assert!(matches!(spools.create(), Err(SpoolError::Files)));
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
    fn a_folder_that_cannot_be_written_takes_no_share() {
        let spools = Arc::new(Spools::new(Some("/nonexistent".into()), 10, 1));
        for _ in 0..3 {
            assert!(matches!(spools.create(), Err(SpoolError::Io(_))));
        }
        assert_eq!((spools.bytes(), spools.files()), (0, 0));
    }
}
