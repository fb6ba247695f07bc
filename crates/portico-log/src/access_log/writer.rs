//! The batch between the engine and the log's own thread, and that thread.
//!
//! One file because the two share the batches, and who may touch which is read from both.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, IntoRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use portico_config::AccessLogFormat;
use portico_files::open_log;
use portico_metrics::{Counter, Histogram, Metrics};
use portico_os::above_standard;
use portico_proto::ResponseHead;
use rustix::io::fcntl_dupfd_cloexec;

use super::batch::Batch;
use super::clock::Clock;
use super::format::format;
use super::observer::AccessObserver;
use super::plan::{LineConstants, Plan};
use super::{AccessRecord, LostRequest, Reason, Times};
use crate::log_sink::LogSink;
use crate::occurrences::Occurrences;
use crate::statsd::Statsd;
use crate::syslog::{Severity, Syslog};

/// The place where the lines of the log go. The program chooses it from the configuration; the log's thread opens
/// it and alone writes to it.
#[derive(Clone, Debug)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
    /// A file that is open. Whoever has opened it opens it again, under the same descriptor.
    Opened {
        /// The descriptor.
        file: Arc<File>,
        /// Where the file is: opened here only where an application has closed the descriptor.
        path: PathBuf,
    },
}

/// All that is told of requests, and where.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Where lines go.
    pub lines: Option<Destination>,
    /// Where they go as well.
    pub syslog: Option<Syslog>,
    /// Where metrics go.
    pub statsd: Option<Statsd>,
    /// Who is told of requests that the application has not answered.
    pub observer: Option<AccessObserver>,
    /// Where lines that are dropped are counted.
    pub metrics: Option<Metrics<'static>>,
}

/// The engine's end of the access log. Dropping it writes what is left and ends the thread.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<LogState>,
    plan: Arc<Plan>,
    /// Only what the server has answered is told.
    selective: bool,
    thread: Option<JoinHandle<()>>,
}

/// The part of the log that requests' threads and the log's own thread share. The lock is held for the copy of one
/// record and never while a destination is written to, so that a slow one holds up no request.
#[derive(Debug, Default)]
struct LogState {
    batch: Mutex<Batch>,
    asleep: AtomicBool,
    closed: AtomicBool,
    reopening: AtomicBool,
}

/// Has the file opened again that lines go to, for when it has been moved away.
#[derive(Clone, Debug)]
pub struct Reopener {
    shared: Arc<LogState>,
    thread: Thread,
}

/// Most bytes that are written at once, whole lines: so much a pipe takes from several processes without mixing
/// it (PIPE_BUF, pipe(7)).
const PIPE_BYTES_MAX: usize = 4096;

/// The same for a file, which takes any number when it is appended to.
const FILE_BYTES_MAX: usize = 256 * 1024;

/// How often the thread looks for records while there is traffic: lines are on disk within this time, and no
/// request pays for waking the thread.
const TICK: Duration = Duration::from_millis(20);

/// Looks without a record after which the thread sleeps until the next one.
const QUIET_TICKS: u32 = 50;

/// Longest that the end of the log waits for a destination that takes nothing.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

impl AccessLog {
    /// Opens the file of `outputs` and starts the thread.
    ///
    /// # Errors
    /// The file system's, if the file cannot be opened for appending, or the kernel's, if there can be no thread.
    pub fn open(outputs: Outputs, format: &AccessLogFormat, constants: LineConstants) -> io::Result<Self> {
        let file = outputs.lines.as_ref().map(Destination::open).transpose()?;
        let told = file.is_some() || outputs.syslog.is_some();
        let plan = Plan::new(if told { format } else { &AccessLogFormat::Common }, constants);
        let plan = if outputs.statsd.is_some() { plan.with_times() } else { plan };
        let plan = Arc::new(if outputs.observer.is_some() { plan.with_times().with_fields() } else { plan });
        let selective = !told && outputs.statsd.is_none();
        let shared = Arc::new(LogState::default());
        let writer = Writer {
            shared: Arc::clone(&shared),
            outputs,
            file,
            plan: Arc::clone(&plan),
            clock: Clock::default(),
            lost_bytes: 0,
            drops: Occurrences::new(),
            untold_drops: 0,
        };
        let thread = thread::Builder::new().name("portico-log".into()).spawn(move || writer.run())?;
        Ok(Self { shared, plan, selective, thread: Some(thread) })
    }

    /// How to have its file opened again; `None` once it has been closed.
    pub fn reopener(&self) -> Option<Reopener> {
        let thread = self.thread.as_ref()?.thread().clone();
        Some(Reopener { shared: Arc::clone(&self.shared), thread })
    }

    /// Tells of a request that died with its worker, without a thread and at once: for a process that has no log
    /// open, and that must not wait for its reader.
    ///
    /// # Errors
    /// The file system's; `WouldBlock` where the reader stands still: the line is lost.
    pub fn append(outputs: &mut Outputs, plan: &Plan, request: &LostRequest<'_>) -> io::Result<()> {
        let (mut batch, mut text) = (Batch::default(), Vec::new());
        batch.push_lost(request, plan);
        format(&batch, plan, &mut Clock::default(), &mut Vec::new(), |lines| text.extend_from_slice(lines));
        outputs.send(&text, plan);
        outputs.tell(&batch, plan);
        let sink = match &outputs.lines {
            None => return Ok(()),
            Some(Destination::Stdout) => LogSink::shared(rustix::stdio::stdout())?,
            Some(Destination::File(path)) => LogSink::of_file(open_log(path, None)?)?,
            Some(Destination::Opened { file, .. }) => LogSink::shared(file.as_fd())?,
        };
        match sink.write(&text)? {
            count if count == text.len() => Ok(()),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Whether it needs to know where the time of requests goes.
    #[inline]
    pub fn needs_times(&self) -> bool {
        self.plan.needs_times()
    }

    /// Whether it needs an id of each request.
    pub fn needs_ids(&self) -> bool {
        self.plan.needs_ids()
    }

    /// Notes what it needs of the response's fields, for the request's record.
    pub fn note_response(&self, head: &ResponseHead, noted: &mut Vec<u8>) {
        self.plan.note_response(head, noted);
    }

    /// Notes `record` for the thread.
    #[inline]
    pub fn push(&self, record: &AccessRecord<'_>) {
        if self.selective && !record.reason.is_some_and(Reason::is_servers) {
            return;
        }
        self.shared.lock().push(record, &self.plan);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        if self.shared.asleep.swap(false, Ordering::SeqCst)
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

impl Outputs {
    /// Whether nobody is told.
    pub fn are_none(&self) -> bool {
        self.lines.is_none() && self.syslog.is_none() && self.statsd.is_none() && self.observer.is_none()
    }

    /// Sends `lines` to where they go as well.
    fn send(&mut self, lines: &[u8], plan: &Plan) {
        if let Some(syslog) = &mut self.syslog {
            // A template may have more than one line: each is a message.
            for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                syslog.send(Severity::Info, plan.constants.pid, line);
            }
        }
    }

    /// Tells those of the requests of a batch who want no lines.
    fn tell(&mut self, batch: &Batch, plan: &Plan) {
        if let Some(statsd) = &mut self.statsd {
            measure(batch, plan, statsd);
        }
        if let Some(observer) = &mut self.observer {
            observer.tell(batch, plan);
        }
    }
}

impl Destination {
    fn open(&self) -> io::Result<Opened> {
        let file = match self {
            Self::Stdout => {
                // A descriptor of the log's own: an application that closes its standard output takes no line
                // away.
                let own = fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
                return Opened::new(own.into(), PIPE_BYTES_MAX);
            }
            Self::File(path) => File::from(above_standard(open_log(path, None)?.into())?),
            Self::Opened { file, .. } => File::from(above_standard(file.try_clone()?.into())?),
        };
        let write_bytes_max = write_bytes_max(&file)?;
        Opened::new(file, write_bytes_max)
    }
}

fn write_bytes_max(file: &File) -> io::Result<usize> {
    Ok(if file.metadata()?.is_file() { FILE_BYTES_MAX } else { PIPE_BYTES_MAX })
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

impl LogState {
    fn lock(&self) -> MutexGuard<'_, Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A destination of the log that is open, owned by its thread.
struct Opened {
    out: File,
    write_bytes_max: usize,
    /// Device and inode.
    identity: (u64, u64),
}

impl Opened {
    fn new(out: File, write_bytes_max: usize) -> io::Result<Self> {
        let identity = identity(&out)?;
        Ok(Self { out, write_bytes_max, identity })
    }

    /// Whether its descriptor is still its own: an application that closes others' may have closed it, and a
    /// client may have the number by now.
    fn is_intact(&self) -> bool {
        identity(&self.out).is_ok_and(|identity| identity == self.identity)
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The state of the log's thread, which alone formats and writes. It never waits for a reader of the log.
struct Writer {
    shared: Arc<LogState>,
    outputs: Outputs,
    file: Option<Opened>,
    plan: Arc<Plan>,
    clock: Clock,
    /// Bytes that could not be written since it began to fail; 0 while it works.
    lost_bytes: u64,
    /// How often lines had to be dropped, and how many have not been told.
    drops: Occurrences,
    untold_drops: u64,
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
                return self.tell_dropped(0);
            } else {
                quiet += 1;
                let unsent = self.outputs.syslog.as_mut().is_some_and(|syslog| {
                    syslog.proceed();
                    syslog.is_waiting()
                });
                self.pause(quiet > QUIET_TICKS && !unsent);
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
        if self.file.is_some() || self.outputs.syslog.is_some() {
            let (plan, mut clock) = (Arc::clone(&self.plan), std::mem::take(&mut self.clock));
            format(batch, &plan, &mut clock, lines, |lines| {
                self.outputs.send(lines, &plan);
                self.write_lines(lines);
            });
            self.clock = clock;
        }
        self.outputs.tell(batch, &self.plan);
        self.tell_dropped(batch.dropped());
        batch.clear();
        lines.shrink_to(256 * 1024);
        if !self.shared.closed.load(Ordering::SeqCst) {
            // Let a batch gather: one write for many lines.
            thread::park_timeout(TICK);
        }
    }

    /// Says that lines have been dropped: the first, the second, the fourth time and so on, and what is left
    /// untold at the end.
    fn tell_dropped(&mut self, count: u64) {
        self.untold_drops += count;
        if let Some(metrics) = self.outputs.metrics.filter(|_| count > 0) {
            metrics.add(Counter::AccessLogDropped, count);
        }
        let ends = self.shared.closed.load(Ordering::SeqCst);
        let is_told = (count > 0 && self.drops.note().is_some()) || ends && self.untold_drops > 0;
        if is_told {
            let lines = std::mem::take(&mut self.untold_drops);
            log::warn!("the access log could not keep up: {lines} lines were dropped");
        }
    }

    fn reopen(&mut self) {
        match self.outputs.lines.as_ref().map(Destination::open).transpose() {
            Ok(file) => self.file = file,
            Err(error) => log::error!("opening the access log again failed: {error}"),
        }
    }

    /// Says that lines are lost when it begins and when it ends, not for each batch: a reader that has gone would
    /// fill the error log.
    fn write_lines(&mut self, lines: &[u8]) {
        if let Some(lost) = self.file.take_if(|file| !file.is_intact()) {
            let _ = lost.out.into_raw_fd(); // Whoever has it now keeps it.
            // The other descriptor of it may have been closed as well.
            if let Some(Destination::Opened { path, .. }) = &self.outputs.lines {
                self.outputs.lines = Some(Destination::File(path.clone()));
            }
            self.reopen();
        }
        let Some(Opened { out, write_bytes_max, .. }) = &mut self.file else { return };
        let written = parts(lines, *write_bytes_max).try_for_each(|part| out.write_all(part));
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

/// Tells statsd of the requests of a batch, as gunicorn does of each.
fn measure(batch: &Batch, plan: &Plan, statsd: &mut Statsd) {
    let (mut requests, mut statuses) = (0, BTreeMap::new());
    for line in batch.lines(plan) {
        requests += 1;
        *statuses.entry(line.entry.status).or_insert(0) += 1;
        let duration = line.entry.times.as_ref().map_or(0, Times::whole);
        statsd.send(Histogram::RequestDuration.metric(), duration);
    }
    statsd.send(Counter::Exchanges.metric(), requests);
    for (status, count) in statuses {
        statsd.send_series(Counter::Exchanges.metric(), status, count);
    }
    statsd.flush();
}

/// `lines` in parts of whole lines, none longer than `bytes_max` unless one line is.
fn parts(mut lines: &[u8], bytes_max: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let is_end = |byte: &u8| *byte == b'\n';
        let fitting = lines.iter().take(bytes_max).rposition(is_end);
        let end = fitting.or_else(|| lines.iter().position(is_end)).map_or(lines.len(), |at| at + 1);
        let (part, rest) = lines.split_at(end);
        lines = rest;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Sample;
    use super::*;

    fn log_to(path: &std::path::Path) -> AccessLog {
        let outputs = Outputs { lines: Some(Destination::File(path.to_owned())), ..Outputs::default() };
        AccessLog::open(outputs, &AccessLogFormat::Common, LineConstants::default()).unwrap()
    }

    #[test]
    fn parts_are_whole_lines_of_bounded_length() {
        let lines: Vec<u8> = (0..500).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
        let long = [vec![b'x'; 2 * PIPE_BYTES_MAX], lines.clone()].concat();
        for text in [&lines, &long, &b"\n".to_vec(), &Vec::new()] {
            let parts: Vec<&[u8]> = parts(text, PIPE_BYTES_MAX).collect();
            assert_eq!(parts.concat(), *text);
            assert!(parts.iter().all(|part| part.ends_with(b"\n")));
            let longer = parts.iter().filter(|part| part.len() > PIPE_BYTES_MAX);
            assert_eq!(longer.count(), usize::from(text.starts_with(b"x")));
        }
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_again_also_while_the_log_is_asleep() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("access.log"), folder.path().join("moved"));
        let log = log_to(&path);
        let sample = Sample::default();
        log.push(&sample.record());
        while !log.shared.asleep.load(Ordering::SeqCst) {
            thread::sleep(TICK);
        }
        std::fs::rename(&path, &moved).unwrap();
        log.reopener().unwrap().reopen();
        while !path.exists() {
            thread::sleep(TICK);
        }
        log.push(&AccessRecord { status: 408, ..sample.record() });
        drop(log);
        assert!(std::fs::read_to_string(path).unwrap().contains(" 408 "));
        assert!(std::fs::read_to_string(moved).unwrap().ends_with(" 200 12\n"));
    }

    #[test]
    fn a_request_that_was_lost_gets_its_line_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let request = LostRequest {
            method: b"GET",
            target: b"/a\"b",
            peer: None,
            second: 784111777,
            status: 502,
            times: Times::default(),
        };
        let plan = Plan::new(&AccessLogFormat::Common, LineConstants::default());
        let mut outputs = Outputs { lines: Some(Destination::File(path.clone())), ..Outputs::default() };
        AccessLog::append(&mut outputs, &plan, &request).unwrap();
        let expected = "- - - [06/Nov/1994:08:49:37 +0000] \"GET /a\\\"b\" 502 -\n";
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
    }

    #[test]
    fn every_record_is_written_before_the_log_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = log_to(&path);
        let sample = Sample::default();
        for _ in 0..1000 {
            log.push(&sample.record());
        }
        drop(log);
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 1000);
    }
}
