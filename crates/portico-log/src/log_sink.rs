//! Where a log goes, written to without waiting for whoever reads it.
//!
//! A pipe, a terminal or a socket may have a reader that stands still, and then makes its writers wait. Standard
//! streams are shared with other programs, so that their mode is not ours to change: what can be opened once more
//! is, for a description of our own that never waits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use portico_os::above_standard;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{SendFlags, send};
use rustix::process::{Resource, getrlimit};

/// The destination of a log's lines: a file, a pipe, a terminal or a socket. Writing never waits for its reader,
/// and never changes the mode of a descriptor that is shared with other programs.
#[derive(Debug)]
pub struct LogSink {
    descriptor: OwnedFd,
    way: WriteMode,
    /// Device and inode.
    identity: (u64, u64),
}

/// The way of writing to a destination without waiting for its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteMode {
    /// It has no reader that could make a writer wait, or an open description of our own in non-blocking mode.
    Write,
    /// A socket takes the wish with each message.
    Send,
    /// The description is shared, and there is no way to another: it is asked before each write, which is then
    /// small enough to be taken whole. Another writer may still be faster.
    Ask,
}

/// How far below the limit of descriptors one is that is set apart, and the highest limit that counts: the kernel
/// sets memory aside for all numbers below.
const APART: RawFd = 16;
const NUMBER_MAX: u64 = 65_536;

/// So much fits where a pipe says that there is room (PIPE_BUF, pipe(7)).
const PIPE_BYTES_MAX: usize = 4096;

impl LogSink {
    /// A standard stream, or what else is shared with other processes. The stream itself may be closed later.
    ///
    /// # Errors
    /// It is closed, or the process has no descriptor left.
    pub fn shared(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        let copy = fcntl_dupfd_cloexec(descriptor, 3)?;
        let kind = FileType::from_raw_mode(fstat(&copy)?.st_mode);
        let way = match kind {
            FileType::Socket => WriteMode::Send,
            FileType::Fifo | FileType::CharacterDevice => match open_anew(&copy) {
                Ok(own) => return Self::new(own, WriteMode::Write),
                // As of a pipe that another user has made, or that nobody reads any more.
                Err(_) => WriteMode::Ask,
            },
            _ => WriteMode::Write,
        };
        Self::new(copy, way)
    }

    fn new(descriptor: OwnedFd, way: WriteMode) -> io::Result<Self> {
        let identity = identity(&descriptor)?;
        Ok(Self { descriptor, way, identity })
    }

    /// The file at `path`, which is appended to, and made if it is not there.
    ///
    /// # Errors
    /// The file system's; `ENXIO` for a named pipe that nobody reads, which is not waited for.
    pub fn append(path: &Path) -> io::Result<Self> {
        // Nothing else waits in non-blocking mode but what has a reader.
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::CLOEXEC
            | OFlags::NOCTTY
            | OFlags::NONBLOCK;
        let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o666))?;
        Self::new(above_standard(file)?, WriteMode::Write)
    }

    /// A file that another part of the program has opened for appending.
    ///
    /// # Errors
    /// The kernel's; none is expected.
    pub fn of_file(file: impl Into<OwnedFd>) -> io::Result<Self> {
        let descriptor = above_standard(file.into())?;
        fcntl_setfl(&descriptor, fcntl_getfl(&descriptor)? | OFlags::NONBLOCK)?;
        Self::new(descriptor, WriteMode::Write)
    }

    /// The same file for writers that wait, such as programs to whose standard streams it becomes.
    ///
    /// # Errors
    /// As [`LogSink::append`].
    pub fn append_waiting(path: &Path) -> io::Result<OwnedFd> {
        let Self { descriptor, .. } = Self::append(path)?;
        fcntl_setfl(&descriptor, fcntl_getfl(&descriptor)? - OFlags::NONBLOCK)?;
        Ok(descriptor)
    }

    /// Whether a write may wait all the same, where another process writes there as well: it is for a thread that
    /// may.
    pub fn may_wait(&self) -> bool {
        self.way == WriteMode::Ask
    }

    /// Writes as much of `bytes` as is taken now.
    ///
    /// # Errors
    /// `WouldBlock`: nothing is taken. Others: it will not be, as where there is no reader or no room any more.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let written = match self.way {
                WriteMode::Write => rustix::io::write(&self.descriptor, bytes),
                WriteMode::Send => send(&self.descriptor, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
                WriteMode::Ask if !self.has_room(Some(Duration::ZERO)) => Err(Errno::AGAIN),
                WriteMode::Ask => {
                    rustix::io::write(&self.descriptor, &bytes[..bytes.len().min(PIPE_BYTES_MAX)])
                }
            };
            return match written {
                Err(Errno::INTR) => continue,
                written => Ok(written?),
            };
        }
    }

    /// The same under a number that no descriptor of this process is likely to have had: where somebody has closed
    /// descriptors that others will close as well, thinking that they are still theirs.
    pub fn set_apart(self) -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(NUMBER_MAX).min(NUMBER_MAX);
        let number = (limit as RawFd).saturating_sub(APART).max(3);
        match fcntl_dupfd_cloexec(&self.descriptor, number) {
            Ok(descriptor) => Self { descriptor, ..self },
            Err(_) => self,
        }
    }

    /// Whether its descriptor is still its own: nobody has closed it, and it is no other file by now.
    pub fn is_intact(&self) -> bool {
        identity(&self.descriptor).is_ok_and(|identity| identity == self.identity)
    }

    /// Waits until something is taken again, or an error can be had, for this time at most (`None`: for ever).
    pub fn has_room(&self, limit: Option<Duration>) -> bool {
        let timeout = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut polled = [PollFd::new(&self.descriptor, PollFlags::OUT)];
        matches!(poll(&mut polled, timeout.as_ref()), Ok(1..))
    }

    /// Writes `bytes`, for which it waits this long at most. How many were taken.
    ///
    /// # Errors
    /// As [`LogSink::write`], but that it has waited.
    pub fn write_within(&self, bytes: &[u8], limit: Duration) -> io::Result<usize> {
        let end = Instant::now() + limit;
        let mut written = 0;
        while written < bytes.len() {
            match self.write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    self.has_room(Some(left));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
}

impl AsFd for LogSink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn identity(descriptor: &OwnedFd) -> io::Result<(u64, u64)> {
    let stat = fstat(descriptor)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Another open description of the same pipe or terminal, which never waits.
fn open_anew(descriptor: &OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    Ok(above_standard(rustix::fs::open(path, flags, Mode::empty())?)?)
}

#[cfg(test)]
mod tests {
    use std::fs::{File, read_to_string};
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    const PROMPT: Duration = Duration::from_secs(2);

    /// Fills `sink` until it takes nothing; how much that was.
    fn fill(sink: &LogSink) -> usize {
        let mut written = 0;
        for piece in [&[b'x'; 1000][..], b"x"] {
            loop {
                let started = Instant::now();
                match sink.write(piece) {
                    Ok(count) => written += count,
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        assert!(started.elapsed() < PROMPT);
                        break;
                    }
                }
                assert!(written < 16 * 1024 * 1024, "it is never full");
            }
        }
        written
    }

    /// Whether a write through `descriptor`, by a program that shares it, would wait.
    fn waits(descriptor: impl AsFd) -> bool {
        !fcntl_getfl(descriptor).unwrap().contains(OFlags::NONBLOCK)
    }

    /// One that stands still takes what it has room for, and the rest once it goes on.
    fn stand_still(sink: &LogSink, mut reader: File) {
        let filled = fill(sink);
        assert!(filled > 0);
        assert!(!sink.has_room(Some(Duration::ZERO)));
        assert_eq!(sink.write_within(b"lost", Duration::from_millis(20)).unwrap(), 0);
        let reading = thread::spawn(move || {
            let mut read = vec![0; filled];
            reader.read_exact(&mut read).unwrap();
            let mut rest = [0; 6];
            reader.read_exact(&mut rest).unwrap();
            rest
        });
        assert_eq!(sink.write_within(b"latest", Duration::from_secs(20)).unwrap(), 6);
        assert_eq!(&reading.join().unwrap(), b"latest");
    }

    #[test]
    fn a_pipe_that_is_not_read_makes_nobody_wait_and_its_other_writers_wait_as_before() {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let sink = LogSink::shared(writer.as_fd()).unwrap();
        assert!(waits(&writer) && !waits(&sink) && !sink.may_wait());
        stand_still(&sink, reader.into());
    }

    #[test]
    fn a_pipe_that_cannot_be_opened_anew_is_asked_first() {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let sink = LogSink::new(writer, WriteMode::Ask).unwrap();
        assert!(waits(&sink));
        assert!(sink.may_wait());
        stand_still(&sink, reader.into());
    }

    #[test]
    fn a_socket_that_is_not_read_makes_nobody_wait() {
        let (reader, writer) = UnixStream::pair().unwrap();
        let sink = LogSink::shared(writer.as_fd()).unwrap();
        assert!(waits(&writer));
        stand_still(&sink, OwnedFd::from(reader).into());
    }

    #[test]
    fn a_named_pipe_that_is_not_read_makes_nobody_wait() {
        let folder = std::env::temp_dir().join(format!("portico-sink-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let error = LogSink::append(&path).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::NXIO), "and none that nobody reads");
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let reader = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
        fcntl_setfl(&reader, OFlags::empty()).unwrap();
        assert!(waits(LogSink::append_waiting(&path).unwrap()));
        stand_still(&LogSink::append(&path).unwrap(), reader.into());
        let path = folder.join("file");
        for text in [&b"one\n"[..], b"two\n"] {
            assert_eq!(LogSink::append(&path).unwrap().write(text).unwrap(), 4);
        }
        assert_eq!(read_to_string(&path).unwrap(), "one\ntwo\n");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn one_whose_number_is_another_files_knows_it() {
        let (_reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut sink = LogSink::shared(writer.as_fd()).unwrap();
        assert!(sink.is_intact());
        let (_other_reader, other) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::io::dup2(&other, &mut sink.descriptor).unwrap();
        assert!(!sink.is_intact());
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error_and_no_signal() {
        let (reader, writer) = UnixStream::pair().unwrap();
        let sink = LogSink::shared(writer.as_fd()).unwrap();
        drop(reader);
        assert_eq!(sink.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let before = LogSink::shared(writer.as_fd()).unwrap();
        drop(reader);
        for sink in [before, LogSink::shared(writer.as_fd()).unwrap()] {
            assert_eq!(sink.write_within(b"x", PROMPT).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        }
    }
}
