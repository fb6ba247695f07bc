//! The output of a log: nobody who logs waits for whoever reads it.
//!
//! A record is written at once by whoever logs it, where the sink takes it: nothing is lost with a process that
//! ends in the next moment. Otherwise the record waits in a bounded queue. A thread that exists only while records
//! wait writes them when the reader is ready. A process that must have one thread writes them at the next record
//! or the next look ([`LogOutput::proceed`]).

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::log_sink::LogSink;
use crate::record_queue::{RecordQueue, Weight};

/// The output of one log: a sink, and the records that it has not taken. Owned by the process that logs;
/// whoever logs never waits for the log's reader.
#[derive(Debug)]
pub struct LogOutput {
    state: Mutex<OutputState>,
    changed: Condvar,
    /// The process that the rest belongs to. One that it has forked may find the lock held for ever.
    owner: AtomicU32,
    /// The record that tells how many others were dropped.
    notice: fn(u64) -> String,
}

/// The part of [`LogOutput`] that its lock guards.
#[derive(Debug)]
struct OutputState {
    sink: Arc<LogSink>,
    queue: RecordQueue,
    /// There may be a thread.
    threaded: bool,
    /// There is one.
    running: bool,
    /// It has a record in its hands that comes before those that wait.
    writing: bool,
}

/// How often the thread that waits for a reader looks whether it is to go on with another sink, or to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How long the thread stays that has nothing to write.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// How long a process that was forked by somebody else waits for the reader, as any program does for that of its
/// standard error, but not for ever.
const FORKED_WAIT_MAX: Duration = Duration::from_secs(1);

impl LogOutput {
    /// Writes to `sink`. `notice` makes the record that tells of dropped ones.
    pub fn new(sink: LogSink, notice: fn(u64) -> String) -> Self {
        Self {
            state: Mutex::new(OutputState::new(sink.into())),
            changed: Condvar::new(),
            owner: AtomicU32::new(std::process::id()),
            notice,
        }
    }

    /// Whether it belongs to this process, and not to one that has forked it unasked.
    pub fn is_own(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == std::process::id()
    }

    /// This process has just been forked, by one that had no other thread, and goes on with an output of its own:
    /// what waited there is the other process' to write.
    pub fn begin_process(&self) {
        self.owner.store(std::process::id(), Ordering::Relaxed);
        let mut state = self.lock();
        *state = OutputState::new(Arc::clone(&state.sink));
    }

    /// Writes to another sink from now on. What waits goes there as well.
    pub fn replace(&self, sink: LogSink) {
        let mut state = self.lock();
        state.write_here(self.notice);
        state.sink = Arc::new(sink);
        self.changed.notify_all();
    }

    /// Whether the sink's descriptor is still its own.
    pub fn is_intact(&self) -> bool {
        self.lock().sink.is_intact()
    }

    /// As [`LogOutput::replace`], where somebody else has closed the former sink's descriptor: the number is left
    /// alone.
    pub fn replace_lost(&self, sink: LogSink) {
        std::mem::forget(Arc::clone(&self.lock().sink));
        self.replace(sink.set_apart());
    }

    /// Writes `record`, whole lines, or has it wait. In a process that was forked by somebody else it is written
    /// past all that may be locked there.
    pub fn write(&'static self, record: String, weight: Weight) {
        if !self.is_own() {
            return self.write_apart(&record);
        }
        let mut state = self.lock();
        state.queue.push(record, weight);
        state.write_here(self.notice);
        if !state.queue.is_empty() && state.threaded {
            self.changed.notify_all();
            if !state.running {
                let thread = thread::Builder::new().name("portico-errors".to_owned());
                // Where the system has no thread left, it may have one when the next record comes.
                state.running = thread.spawn(move || self.run()).is_ok();
            }
        }
    }

    fn write_apart(&self, record: &str) {
        let sink = match self.state.try_lock() {
            Ok(state) => Some(Arc::clone(&state.sink)),
            // Another thread held the lock at the moment of the fork.
            Err(_) => LogSink::shared(rustix::stdio::stderr()).ok().map(Arc::new),
        };
        if let Some(sink) = sink {
            let _ = sink.write_within(record.as_bytes(), FORKED_WAIT_MAX); // There is nowhere to say so.
        }
    }

    /// Whether something waits to be written.
    pub fn is_waiting(&self) -> bool {
        let state = self.lock();
        state.writing || !state.queue.is_empty()
    }

    /// Goes on with what waits, where no thread does.
    pub fn proceed(&self) {
        self.lock().write_here(self.notice);
    }

    /// Waits until everything is written, this long at most. Whether it is.
    pub fn flush(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            state.write_here(self.notice);
            if !state.writing && state.queue.is_empty() {
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            if !state.running {
                let sink = Arc::clone(&state.sink);
                drop(state);
                sink.has_room(Some(left));
                state = self.lock();
            } else {
                let waited = self.changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// From now on a thread waits for the reader, where somebody has to: this process does not fork.
    pub fn allow_thread(&self) {
        self.lock().threaded = true;
    }

    /// Ends that, after what waits has been written, for which this long is waited at most.
    pub fn end_thread(&self, limit: Duration) {
        self.flush(limit);
        let mut state = self.lock();
        state.threaded = false;
        self.changed.notify_all();
        while state.running {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The thread.
    fn run(&self) {
        let mut state = self.lock();
        let mut idle_until = Instant::now() + IDLE_MAX;
        loop {
            let left = idle_until.saturating_duration_since(Instant::now());
            let record = if state.threaded { state.queue.pop() } else { None };
            let Some(record) = record else {
                self.changed.notify_all();
                if !state.threaded || left.is_zero() {
                    state.running = false;
                    return;
                }
                let waited = self.changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            };
            state.writing = true;
            drop(state);
            let written = self.write_rest(record.text.as_bytes(), record.sent);
            state = self.lock();
            state.writing = false;
            if !written {
                state.queue.note_lost(&record);
            }
            state.queue.push_notice(self.notice);
            idle_until = Instant::now() + IDLE_MAX;
        }
    }

    /// Writes what is left of `record` and waits for the reader. `false`: it is lost.
    fn write_rest(&self, record: &[u8], sent: usize) -> bool {
        let mut sent = sent;
        while sent < record.len() {
            let (sink, goes_on) = {
                let state = self.lock();
                (Arc::clone(&state.sink), state.threaded)
            };
            match sink.write(&record[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && goes_on => {
                    sink.has_room(Some(LOOK_INTERVAL));
                }
                Err(_) => return false,
            }
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, OutputState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OutputState {
    fn new(sink: Arc<LogSink>) -> Self {
        Self { sink, queue: RecordQueue::default(), threaded: false, running: false, writing: false }
    }

    /// Writes what is taken now, unless the thread has what comes first, or is to write because that may wait.
    fn write_here(&mut self, notice: fn(u64) -> String) {
        if self.writing || self.threaded && self.sink.may_wait() {
            return;
        }
        self.queue.write_to(&self.sink);
        self.queue.push_notice(notice);
        self.queue.write_to(&self.sink);
    }
}

#[cfg(test)]
mod tests;
