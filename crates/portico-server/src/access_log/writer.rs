//! The batch between the engine and the log's own thread, and that thread.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use portico_config::AccessLogFormat;

use super::batch::Batch;
use super::format::{Clock, format};
use super::{LostRequest, Record};

/// Where the lines go.
#[derive(Clone, Debug)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

/// The engine's end of the access log. Dropping it writes what is left and ends the thread.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    batch: Mutex<Batch>,
    asleep: AtomicBool,
    closed: AtomicBool,
    reopening: AtomicBool,
}

/// Has the file opened again that lines go to, for when it has been moved away.
#[derive(Clone, Debug)]
pub struct Reopener {
    shared: Arc<Shared>,
    thread: Thread,
}

/// Most bytes that are written at once, whole lines: so much a pipe takes from several processes without mixing
/// it (PIPE_BUF, pipe(7)).
const WRITE_BYTES_MAX: usize = 4096;

/// How often the thread looks for records while there is traffic: lines are on disk within this time, and no
/// request pays for waking the thread.
const TICK: Duration = Duration::from_millis(20);

/// Looks without a record after which the thread sleeps until the next one.
const QUIET_TICKS: u32 = 50;

/// Longest that the end of the log waits for a destination that takes nothing.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

impl AccessLog {
    /// Opens `destination` and starts the thread.
    ///
    /// # Errors
    /// The file system's, if the file cannot be opened for appending, or the kernel's, if there can be no thread.
    pub fn open(destination: Destination, line: AccessLogFormat) -> std::io::Result<Self> {
        let output = destination.open()?;
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        let thread = thread::Builder::new().name("portico-log".into()).spawn(move || {
            let clock = Clock::default();
            Writer { shared: writer, destination, output, line, clock, lost_bytes: 0 }.run()
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// How to have its file opened again; `None` once it has been closed.
    pub fn reopener(&self) -> Option<Reopener> {
        let thread = self.thread.as_ref()?.thread().clone();
        Some(Reopener { shared: Arc::clone(&self.shared), thread })
    }

    /// Appends the line of a request that died with its worker, without a thread and at once: for a process that
    /// has no log open.
    ///
    /// # Errors
    /// The file system's.
    pub fn append(
        destination: &Destination,
        line: AccessLogFormat,
        request: &LostRequest<'_>,
    ) -> std::io::Result<()> {
        let mut text = Vec::new();
        format(&request.line(), line, &mut Clock::default(), &mut text);
        let mut output = destination.open()?;
        output.write_all(&text)?;
        output.flush()
    }

    /// Notes `record` for the thread.
    pub fn push(&self, record: &Record<'_>) {
        self.shared.lock().push(record);
        if self.shared.asleep.load(Ordering::SeqCst)
            && self.shared.asleep.swap(false, Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
    }
}

impl Reopener {
    /// From the next line on it is another file. If that cannot be opened, the former one goes on being written.
    pub fn reopen(&self) {
        self.shared.reopening.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Destination {
    fn open(&self) -> io::Result<Box<dyn Write + Send>> {
        Ok(match self {
            Self::Stdout => Box::new(io::stdout()),
            Self::File(path) => Box::new(File::options().create(true).append(true).open(path)?),
        })
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        let Some(thread) = self.thread.take() else {
            return;
        };
        thread.thread().unpark();
        let tick = Duration::from_millis(5);
        let mut waited = Duration::ZERO;
        while !thread.is_finished() && waited < CLOSE_TIMEOUT {
            thread::sleep(tick);
            waited += tick;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread.
struct Writer {
    shared: Arc<Shared>,
    destination: Destination,
    output: Box<dyn Write + Send>,
    line: AccessLogFormat,
    clock: Clock,
    /// Bytes that could not be written since it began to fail; 0 while it works.
    lost_bytes: u64,
}

impl Writer {
    fn run(mut self) {
        let (mut batch, mut lines) = (Batch::default(), Vec::new());
        let mut quiet = 0;
        loop {
            let closed = self.shared.closed.load(Ordering::SeqCst);
            if self.shared.reopening.swap(false, Ordering::SeqCst) {
                self.reopen();
            }
            // The memory of the last batch is used for the next one.
            std::mem::swap(&mut *self.shared.lock(), &mut batch);
            if !batch.is_empty() {
                quiet = 0;
                self.write(&mut batch, &mut lines);
            } else if closed {
                return;
            } else {
                quiet += 1;
                self.pause(quiet > QUIET_TICKS);
            }
        }
    }

    fn pause(&self, long: bool) {
        if !long {
            return thread::park_timeout(TICK);
        }
        self.shared.asleep.store(true, Ordering::SeqCst);
        // What came before `asleep` was set has seen nobody asleep: look once more.
        let nothing = self.shared.lock().is_empty()
            && !self.shared.closed.load(Ordering::SeqCst)
            && !self.shared.reopening.load(Ordering::SeqCst);
        if nothing {
            thread::park();
        }
        self.shared.asleep.store(false, Ordering::SeqCst);
    }

    fn write(&mut self, batch: &mut Batch, lines: &mut Vec<u8>) {
        for line in batch.lines() {
            format(&line, self.line, &mut self.clock, lines);
        }
        self.write_lines(lines);
        if batch.dropped() > 0 {
            log::warn!("the access log could not keep up: {} lines were dropped", batch.dropped());
        }
        batch.clear();
        lines.clear();
        lines.shrink_to(256 * 1024);
        if !self.shared.closed.load(Ordering::SeqCst) {
            // Let a batch gather: one write for many lines.
            thread::park_timeout(TICK);
        }
    }

    /// Says that lines are lost when it begins and when it ends, not for each batch: a reader that has gone would
    /// fill the error log.
    fn reopen(&mut self) {
        match self.destination.open() {
            Ok(output) => self.output = output,
            Err(error) => log::error!("opening the access log again failed: {error}"),
        }
    }

    fn write_lines(&mut self, lines: &[u8]) {
        let written = parts(lines).try_for_each(|part| {
            self.output.write_all(part)?;
            self.output.flush()
        });
        match written {
            Ok(()) if self.lost_bytes > 0 => {
                log::warn!("the access log is written again; {} bytes of it are lost", self.lost_bytes);
                self.lost_bytes = 0;
            }
            Ok(()) => {}
            Err(error) => {
                if self.lost_bytes == 0 {
                    log::error!("the access log cannot be written, what would go there is lost: {error}");
                }
                self.lost_bytes += lines.len().max(1) as u64;
            }
        }
    }
}

/// `lines` in parts of whole lines, none longer than [`WRITE_BYTES_MAX`] unless one line is.
fn parts(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let is_end = |byte: &u8| *byte == b'\n';
        let fitting = lines.iter().take(WRITE_BYTES_MAX).rposition(is_end);
        let end = fitting.or_else(|| lines.iter().position(is_end)).map_or(lines.len(), |at| at + 1);
        let (part, rest) = lines.split_at(end);
        lines = rest;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::Peer;

    #[test]
    fn parts_are_whole_lines_of_bounded_length() {
        let lines: Vec<u8> = (0..500).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
        let long = [vec![b'x'; 2 * WRITE_BYTES_MAX], lines.clone()].concat();
        for text in [&lines, &long, &b"\n".to_vec(), &Vec::new()] {
            let parts: Vec<&[u8]> = parts(text).collect();
            assert_eq!(parts.concat(), *text);
            assert!(parts.iter().all(|part| part.ends_with(b"\n")));
            let longer = parts.iter().filter(|part| part.len() > WRITE_BYTES_MAX);
            assert_eq!(longer.count(), usize::from(text.starts_with(b"x")));
        }
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_again_also_while_the_log_is_asleep() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("access.log"), folder.path().join("moved"));
        let log = AccessLog::open(Destination::File(path.clone()), AccessLogFormat::Common).unwrap();
        log.push(&Record { head: None, peer: Peer::Unix, second: 0, status: 400, body_bytes: 0 });
        while !log.shared.asleep.load(Ordering::SeqCst) {
            thread::sleep(TICK);
        }
        std::fs::rename(&path, &moved).unwrap();
        log.reopener().unwrap().reopen();
        while !path.exists() {
            thread::sleep(TICK);
        }
        log.push(&Record { head: None, peer: Peer::Unix, second: 0, status: 408, body_bytes: 0 });
        drop(log);
        assert!(std::fs::read_to_string(path).unwrap().contains(" 408 "));
        assert!(std::fs::read_to_string(moved).unwrap().ends_with(" 400 -\n"));
    }

    #[test]
    fn a_request_that_was_lost_gets_its_line_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let request =
            LostRequest { method: b"GET", target: b"/a\"b", peer: None, second: 784111777, status: 502 };
        AccessLog::append(&Destination::File(path.clone()), AccessLogFormat::Common, &request).unwrap();
        let expected = "- - - [06/Nov/1994:08:49:37 +0000] \"GET /a\\\"b\" 502 -\n";
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
    }

    #[test]
    fn every_record_is_written_before_the_log_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = AccessLog::open(Destination::File(path.clone()), AccessLogFormat::Common).unwrap();
        for _ in 0..1000 {
            log.push(&Record { head: None, peer: Peer::Unix, second: 0, status: 400, body_bytes: 0 });
        }
        drop(log);
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 1000);
    }
}
