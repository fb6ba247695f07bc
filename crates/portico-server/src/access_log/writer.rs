//! The batch between the engine and the log's own thread, and that thread.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use portico_config::AccessLogFormat;

use super::Record;
use super::batch::Batch;
use super::format::{Clock, format};

/// Where the lines go.
#[derive(Debug)]
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
}

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
        let output: Box<dyn Write + Send> = match destination {
            Destination::Stdout => Box::new(std::io::stdout()),
            Destination::File(path) => Box::new(File::options().create(true).append(true).open(path)?),
        };
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        let thread = thread::Builder::new().name("portico-log".into()).spawn(move || {
            Writer { shared: writer, output, line, clock: Clock::default(), lost_bytes: 0 }.run()
        })?;
        Ok(Self { shared, thread: Some(thread) })
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
        if self.shared.lock().is_empty() && !self.shared.closed.load(Ordering::SeqCst) {
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
    fn write_lines(&mut self, lines: &[u8]) {
        match self.output.write_all(lines).and_then(|()| self.output.flush()) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::Peer;

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
