//! The error log: the sink behind the `log` crate, in gunicorn's line format.
//!
//! One write per record, so that lines of several processes do not mix. Formatting needs no interpreter: the
//! standby thread and the engine log as well. Nobody who logs waits for whoever reads the log ([`LogOutput`]). The
//! access log is not here.
//!
//! One file because a record passes all of it on one way: front, line, sink, observers.

use std::cell::Cell;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Metadata, Record};
use portico_config::{LogLevel, LogTarget};
use portico_files::{Owner, open_log};
use portico_log::{LogOutput, LogSink, Severity, Statsd, Syslog, Weight};
use portico_metrics::{Counter, LogSeverity, Metrics};
use rustix::stdio::{dup2_stderr, dup2_stdout, stderr, stdout};
use signal_hook::low_level;

use crate::raw::{self, LocalTime};
use crate::start_pipe::tell_start;
use diversion::{Diversion, DiversionQueue, Relay};

pub use diversion::Diverted;

mod diversion;

/// Sends records of the `log` crate and lines of `wsgi.errors` to where `target` says, from now on.
///
/// With `capture`, so do standard output and error from now on, where that is a file. May be called again, as by a
/// second `portico.serve` in one process.
///
/// # Errors
/// The log file cannot be opened for appending.
pub fn install(target: &LogTarget, level: LogLevel, capture: bool) -> io::Result<()> {
    let target = ErrorLogDestination::of(target)?;
    CAPTURING.store(capture, Ordering::Relaxed);
    let sink = target.open()?;
    match LOG.get() {
        Some(log) => {
            if !log.output.is_own() {
                log.output.begin_process();
            }
            *log.target() = target;
            log.output.replace(sink);
        }
        None => {
            let output = LogOutput::new(sink, notice);
            LOG.get_or_init(|| ErrorLog { target: Mutex::new(target), output });
            // Fails only if another logger stands already; records then go to that one.
            let _ = log::set_logger(&Front);
        }
    }
    log::set_max_level(match level {
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Warning => LevelFilter::Warn,
        LogLevel::Error | LogLevel::Critical => LevelFilter::Error,
    });
    Ok(())
}

/// Whose the log files are that are made from now on, and from whom those are protected that are opened: the
/// workers' user. `None` in a process that is that user's.
pub fn give_files_to(owner: Option<Owner>) {
    *OWNER.lock().unwrap_or_else(PoisonError::into_inner) = owner;
}

/// That user.
pub fn owner() -> Option<Owner> {
    *OWNER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has records told there as well from now on, in this process and in those that it forks.
pub fn observe(syslog: Option<Syslog>, statsd: Option<Statsd>) {
    let mut observers = observers();
    (observers.syslog, observers.statsd) = (syslog, statsd);
}

/// Has records counted there as well, by this process alone: one that it forks says itself where it counts.
pub fn count_in(metrics: Metrics<'static>) {
    observers().metrics = Some(metrics);
}

/// Opens a log file again that has been moved away, and returns it for other processes to write to. If that fails,
/// the former one goes on being written.
pub fn reopen() -> Option<OwnedFd> {
    let ErrorLogDestination::File(path) = &LOG.get()?.target().clone() else { return None };
    let opened = open_log(path, owner()).and_then(|file| Ok((file.try_clone()?, file)));
    match opened {
        Ok((file, other)) => {
            replace(file);
            Some(other.into())
        }
        Err(error) => {
            log::error!("opening the error log {} again failed: {error}", path.display());
            None
        }
    }
}

/// Writes to this file from now on, if the log goes to one: another process has opened it again.
pub fn replace(file: impl Into<File>) {
    let Some(log) = LOG.get() else { return };
    if !matches!(&*log.target(), ErrorLogDestination::File(_)) {
        return;
    }
    match sink_of(file.into()) {
        Ok(sink) => log.output.replace(sink),
        Err(error) => log::error!("the error log that was opened again cannot be taken: {error}"),
    }
}

/// Has a thread of this process wait for a reader that stands still. A process that is to fork has none: it goes
/// on with what waits when it logs again, and at each [`proceed`].
pub fn allow_thread() {
    if let Some(log) = LOG.get() {
        log.output.allow_thread();
    }
}

/// Ends that.
pub fn end_thread() {
    if let Some(log) = LOG.get() {
        log.output.end_thread(FLUSH_MAX);
    }
}

/// This process has been forked by one of Portico's, and logs for itself.
pub fn begin_process() {
    observers().metrics = None;
    if let Some(log) = LOG.get() {
        log.output.begin_process();
    }
}

/// Goes on with what a reader that stood still has not taken.
pub fn proceed() {
    if let Some(log) = LOG.get() {
        log.output.proceed();
    }
}

/// Whether something waits for the reader.
pub fn is_waiting() -> bool {
    LOG.get().is_some_and(|log| log.output.is_waiting())
}

/// Waits until the reader has taken everything; but not long.
pub fn flush() {
    if let Some(log) = LOG.get() {
        log.output.flush(FLUSH_MAX);
    }
}

/// Ends the process at once, but for what it had to say.
pub fn exit(status: i32) -> ! {
    flush();
    low_level::exit(status)
}

/// Has records go to `relay` from now on, on the thread that logs. What it does not log goes where it went before.
pub fn divert(relay: impl Fn(&Diverted) -> bool + Send + Sync + 'static) {
    let relay: Relay = Arc::new(relay);
    *diversion() = Some((Diversion::AtOnce(Relay::clone(&relay)), relay));
}

/// Has records that are diverted wait for a thread of this process: nobody who logs waits for the relay.
///
/// # Errors
/// The system has no thread left.
pub fn divert_to_thread() -> io::Result<()> {
    let mut diversion = diversion();
    if let Some((way, relay)) = diversion.as_mut() {
        *way = Diversion::Queued(DiversionQueue::start(Relay::clone(relay), write_diverted)?);
    }
    Ok(())
}

/// Ends that. What waits is logged by the relay within this time, or goes to the log itself.
pub fn end_diversion(patience: Duration) {
    let ended = diversion().take();
    if let Some((Diversion::Queued(queue), _)) = ended {
        queue.close(patience).into_iter().for_each(write_diverted);
    }
}

fn diversion() -> MutexGuard<'static, Option<(Diversion, Relay)>> {
    DIVERSION.lock().unwrap_or_else(PoisonError::into_inner)
}

fn observers() -> MutexGuard<'static, Observers> {
    OBSERVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_diverted(record: Diverted) {
    if let Some(log) = LOG.get() {
        log.write_record(record.level, &record.message);
    }
}

/// Whether records come to be seen where the process was started.
pub fn goes_to_stderr() -> bool {
    LOG.get().is_some_and(|log| matches!(*log.target(), ErrorLogDestination::Stderr { .. }))
}

/// Writes `text`, which holds whole lines, as it is.
pub fn write_lines(text: String) {
    match LOG.get() {
        Some(log) => log.write(text, Weight::Ordinary),
        None => show(&text),
    }
}

/// Writes `text` to standard error, for whose reader it waits, but not long. What cannot be written is lost: there
/// is nowhere to say so.
fn show(text: &str) {
    if let Ok(sink) = LogSink::shared(stderr()) {
        let _ = sink.write_within(text.as_bytes(), FLUSH_MAX);
    }
}

/// Whether errors that go to a file are written to standard error as well: until the server serves, that is where
/// its operator looks.
pub fn show_errors(shown: bool) {
    ERRORS_SHOWN.store(shown, Ordering::Relaxed);
}

/// How long the reader is waited for where a process, or its start, comes to its end.
const FLUSH_MAX: Duration = Duration::from_secs(1);

static LOG: OnceLock<ErrorLog> = OnceLock::new();
static ERRORS_SHOWN: AtomicBool = AtomicBool::new(false);
static CAPTURING: AtomicBool = AtomicBool::new(false);

/// See [`give_files_to`].
static OWNER: Mutex<Option<Owner>> = Mutex::new(None);
static DIVERSION: Mutex<Option<(Diversion, Relay)>> = Mutex::new(None);

thread_local! {
    /// This thread is diverting a record: what is logged meanwhile is about that.
    static DIVERTING: Cell<bool> = const { Cell::new(false) };
}

static OBSERVERS: Mutex<Observers> = Mutex::new(Observers { syslog: None, statsd: None, metrics: None });

/// The receivers of records beside the log: syslog and statsd. Each process has one set, made at its start;
/// neither is ever waited for.
struct Observers {
    syslog: Option<Syslog>,
    statsd: Option<Statsd>,
    metrics: Option<Metrics<'static>>,
}

impl Observers {
    /// A record has been written.
    fn send(&mut self, level: Level, message: &str) {
        let Some(syslog) = &mut self.syslog else { return };
        let severity = match level {
            Level::Error => Severity::Error,
            Level::Warn => Severity::Warning,
            Level::Info => Severity::Info,
            Level::Debug | Level::Trace => Severity::Debug,
        };
        syslog.send(severity, std::process::id(), message.as_bytes());
    }

    /// A record has come about, whoever writes it.
    fn count(&mut self, level: Level, message: &str) {
        let Some(severity) = severity(level, message) else { return };
        if let Some(metrics) = self.metrics {
            metrics.add_log_record(severity);
        }
        if let Some(statsd) = &mut self.statsd {
            statsd.send_series(Counter::LogRecords.metric(), severity, 1);
            statsd.flush();
        }
    }
}

/// The severity by which a record is counted, as gunicorn does.
fn severity(level: Level, message: &str) -> Option<LogSeverity> {
    match level {
        Level::Error if message.contains(TRACEBACK) => Some(LogSeverity::Exception),
        Level::Error => Some(LogSeverity::Error),
        Level::Warn => Some(LogSeverity::Warning),
        Level::Info | Level::Debug | Level::Trace => None,
    }
}

/// What tells an exception from another error.
const TRACEBACK: &str = "\nTraceback (most recent call last)";

/// The error log of this process: where it goes, and the output that is open. There is one, and it lives as long
/// as the process; a reload changes its target under the lock.
struct ErrorLog {
    target: Mutex<ErrorLogDestination>,
    output: LogOutput,
}

impl ErrorLog {
    fn target(&self) -> MutexGuard<'_, ErrorLogDestination> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the log anew first if somebody has closed its descriptor: the number may be a client's by now.
    fn write(&'static self, record: String, weight: Weight) {
        if self.output.is_own() && !self.output.is_intact() {
            // The user of a worker may not open the file: where that fails, standard error is to be had.
            match self.target().open().or_else(|_| LogSink::shared(stderr())) {
                Ok(sink) => self.output.replace_lost(sink),
                Err(_) => return, // Nowhere is better than to a client.
            }
        }
        self.output.write(record, weight);
    }
}

/// The logger of the `log` crate, which leads to [`LOG`].
struct Front;

impl log::Log for Front {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata())
            && let Some(log) = LOG.get()
        {
            log.log(record);
        }
    }

    fn flush(&self) {}
}

impl ErrorLog {
    fn log(&'static self, record: &Record<'_>) {
        if !self.output.is_own() {
            // Forked by the application: whatever is locked here may be so for ever, and no thread relays.
            let message = escaped(&record.args().to_string());
            self.output.write(line(record.level(), &message, false), Weight::Ordinary);
            if let Ok(mut observers) = OBSERVERS.try_lock() {
                observers.send(record.level(), &message);
            }
            return;
        }
        let way = diversion().as_ref().map(|(way, _)| way.clone()).filter(|_| !DIVERTING.replace(true));
        let message = record.args().to_string();
        observers().count(record.level(), &message);
        let left = match way {
            None => Some(message),
            Some(way) => {
                let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
                let taken = way.take(Diverted { level: record.level(), message, seconds });
                DIVERTING.set(false);
                taken.err().map(|record| record.message)
            }
        };
        if let Some(message) = left {
            self.write_record(record.level(), &message);
        }
    }

    fn write_record(&'static self, level: Level, message: &str) {
        let message = escaped(message);
        let target = self.target().clone();
        let is_file = matches!(target, ErrorLogDestination::File(_));
        let line = line(level, &message, target.colour());
        let shown = level == Level::Error && ERRORS_SHOWN.load(Ordering::Relaxed);
        if shown && !tell_start(&line, !is_file) && is_file {
            show(&line);
        }
        let weight = if level == Level::Error { Weight::Important } else { Weight::Ordinary };
        self.write(line, weight);
        observers().send(level, &message);
    }
}

/// What an output tells of records that its reader was too slow for, or that could not be written.
fn notice(dropped: u64) -> String {
    let message = format!("the error log could not keep up: {dropped} records were dropped");
    line(Level::Warn, &message, LOG.get().is_some_and(|log| log.target().colour()))
}

/// The destination of the error log, kept so that a file can be opened again at SIGUSR1 or after somebody has
/// closed its descriptor.
#[derive(Clone)]
enum ErrorLogDestination {
    Stdout,
    Stderr { colour: bool },
    File(PathBuf),
}

impl ErrorLogDestination {
    fn of(target: &LogTarget) -> io::Result<Self> {
        Ok(match target {
            LogTarget::Stdout => Self::Stdout,
            LogTarget::Stderr => {
                Self::Stderr { colour: io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
            }
            // The application may change to another folder.
            LogTarget::File(path) => Self::File(std::path::absolute(path)?),
        })
    }

    fn open(&self) -> io::Result<LogSink> {
        match self {
            Self::Stdout => LogSink::shared(stdout()),
            Self::Stderr { .. } => LogSink::shared(stderr()),
            Self::File(path) => sink_of(open_log(path, owner())?),
        }
    }

    fn colour(&self) -> bool {
        matches!(self, Self::Stderr { colour: true })
    }
}

/// Writes to `file`, and puts it in the place of standard output and error where that is asked for.
fn sink_of(file: File) -> io::Result<LogSink> {
    if CAPTURING.load(Ordering::Relaxed) {
        dup2_stdout(&file)?;
        dup2_stderr(&file)?;
    }
    // What has a reader gets a description of the log's own: the other one waits, as programs want it.
    if file.metadata()?.is_file() { LogSink::of_file(file) } else { LogSink::shared(file.as_fd()) }
}

/// `message` without control bytes other than line ends and tabs: a target or a header in it may be hostile, a
/// terminal obeys.
fn escaped(message: &str) -> String {
    let mut escaped = String::with_capacity(message.len());
    for character in message.trim_end_matches('\n').chars() {
        match character {
            '\n' | '\t' => escaped.push(character),
            _ if character.is_control() => escaped.extend(character.escape_default()),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// `[2026-10-18 12:00:00 +0200] [4711] [INFO] message`
fn line(level: Level, message: &str, colour: bool) -> String {
    let (name, code) = match level {
        Level::Error => ("ERROR", "31"),
        Level::Warn => ("WARNING", "33"),
        Level::Info => ("INFO", "32"),
        Level::Debug | Level::Trace => ("DEBUG", "2"),
    };
    let mut line = String::with_capacity(64 + message.len());
    push_time(&mut line);
    let _ = match colour {
        true => write!(line, " [{}] [\x1b[{code}m{name}\x1b[0m] ", std::process::id()),
        false => write!(line, " [{}] [{name}] ", std::process::id()),
    };
    line.push_str(message);
    line.push('\n');
    line
}

fn push_time(line: &mut String) {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match raw::local_time(seconds as i64) {
        Some(local) => push_local_time(line, &local),
        None => {
            let _ = write!(line, "[{seconds}]");
        }
    }
}

fn push_local_time(line: &mut String, local: &LocalTime) {
    let (year, month, day) = local.date;
    let (hour, minute, second) = local.time;
    let sign = if local.offset_seconds < 0 { '-' } else { '+' };
    let minutes_east = local.offset_seconds.unsigned_abs() / 60;
    let (hours_east, minutes_east) = (minutes_east / 60, minutes_east % 60);
    let _ = write!(
        line,
        "[{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} {sign}{hours_east:02}{minutes_east:02}]"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_by_gunicorn_s_severities() {
        let traceback = "hook raised\nTraceback (most recent call last):\n";
        assert_eq!(severity(Level::Error, traceback), Some(LogSeverity::Exception));
        assert_eq!(severity(Level::Error, "no address"), Some(LogSeverity::Error));
        assert_eq!(severity(Level::Warn, traceback), Some(LogSeverity::Warning));
        assert_eq!(severity(Level::Info, "started"), None);
    }

    #[test]
    fn control_bytes_do_not_reach_a_terminal() {
        assert_eq!(escaped("a\x1b[2Jb\r\u{7f}\tc\nd\n"), "a\\u{1b}[2Jb\\r\\u{7f}\tc\nd");
    }

    #[test]
    fn a_time_is_local_with_its_offset() {
        let text = |offset_seconds| {
            let mut line = String::new();
            push_local_time(&mut line, &LocalTime { date: (2026, 3, 9), time: (7, 5, 1), offset_seconds });
            line
        };
        assert_eq!(text(7200), "[2026-03-09 07:05:01 +0200]");
        assert_eq!(text(-12_600), "[2026-03-09 07:05:01 -0330]");
    }

    #[test]
    fn a_line_has_its_process_and_level() {
        let (plain, coloured) = (line(Level::Warn, "x", false), line(Level::Error, "x", true));
        assert!(plain.ends_with(&format!("] [{}] [WARNING] x\n", std::process::id())), "{plain}");
        assert!(coloured.ends_with("[\x1b[31mERROR\x1b[0m] x\n"), "{coloured}");
    }
}
