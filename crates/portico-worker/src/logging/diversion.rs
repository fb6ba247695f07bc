//! Records on their way to somebody else's log, at once or by a thread: whoever logs never waits for that.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::Level;

/// A record that goes to somebody else's log.
#[derive(Clone, Debug)]
pub struct Diverted {
    /// Its level.
    pub level: Level,
    /// Its text.
    pub message: String,
    /// When it came about, in seconds since 1970.
    pub seconds: f64,
}

/// Logs a record; `false` if it could not.
pub(super) type Relay = Arc<dyn Fn(&Diverted) -> bool + Send + Sync>;

/// The way of records to Python's loggers, which write them instead of the log.
#[derive(Clone)]
pub(super) enum Diversion {
    /// Straight to the relay, on the thread that logs.
    AtOnce(Relay),
    /// Into a queue, which a thread empties.
    Queued(Arc<DiversionQueue>),
}

/// Records that wait for the thread which passes them to Python.
pub(super) struct DiversionQueue {
    state: Mutex<DiversionState>,
    changed: Condvar,
}

/// The records that wait for Python's logging, and whether their thread is passing one on. Behind the queue's
/// lock, which is never held while Python runs.
#[derive(Default)]
struct DiversionState {
    waiting: VecDeque<Diverted>,
    /// The thread is logging one.
    busy: bool,
    closed: bool,
}

/// Records that may wait; those beyond go to the server's own log.
const WAITING_MAX: usize = 4096;

impl Diversion {
    /// Takes a record, or gives it back.
    pub(super) fn take(&self, record: Diverted) -> Result<(), Diverted> {
        match self {
            Self::AtOnce(relay) if relay(&record) => Ok(()),
            Self::AtOnce(_) => Err(record),
            Self::Queued(queue) => queue.push(record),
        }
    }
}

impl DiversionQueue {
    /// Starts the thread. What the relay does not log goes to `refused`.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start(relay: Relay, refused: fn(Diverted)) -> std::io::Result<Arc<Self>> {
        let queue = Arc::new(Self { state: Mutex::default(), changed: Condvar::new() });
        let own = Arc::clone(&queue);
        let run = move || {
            while let Some(record) = own.next() {
                if !relay(&record) {
                    refused(record);
                }
            }
        };
        thread::Builder::new().name("portico-relay".to_owned()).spawn(run)?;
        Ok(queue)
    }

    /// Takes no further record. Waits until all are logged, this long at most, and returns those that are not.
    pub(super) fn close(&self, patience: Duration) -> Vec<Diverted> {
        let end = Instant::now() + patience;
        let mut state = self.lock();
        state.closed = true;
        self.changed.notify_all();
        while state.busy || !state.waiting.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waiting.drain(..).collect()
    }

    fn push(&self, record: Diverted) -> Result<(), Diverted> {
        let mut state = self.lock();
        if state.closed || state.waiting.len() >= WAITING_MAX {
            return Err(record);
        }
        state.waiting.push_back(record);
        self.changed.notify_all();
        Ok(())
    }

    fn next(&self) -> Option<Diverted> {
        let mut state = self.lock();
        state.busy = false;
        self.changed.notify_all();
        loop {
            if let Some(record) = state.waiting.pop_front() {
                state.busy = true;
                return Some(record);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, DiversionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: &str) -> Diverted {
        Diverted { level: Level::Info, message: message.to_owned(), seconds: 0.0 }
    }

    fn lost(record: Diverted) {
        panic!("{record:?} was refused");
    }

    #[test]
    fn records_are_logged_in_their_order_and_before_the_end() {
        let logged = Arc::new(Mutex::new(Vec::new()));
        let own = Arc::clone(&logged);
        let relay: Relay = Arc::new(move |record| {
            own.lock().unwrap().push(record.message.clone());
            true
        });
        let queue = DiversionQueue::start(relay, lost).unwrap();
        let numbers: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        numbers.iter().for_each(|number| queue.push(record(number)).unwrap());
        assert!(queue.close(Duration::from_secs(10)).is_empty());
        assert_eq!(*logged.lock().unwrap(), numbers);
        assert!(queue.push(record("late")).is_err());
    }

    #[test]
    fn what_a_stuck_relay_leaves_is_given_back() {
        let stuck = Arc::new(Mutex::new(()));
        let held = stuck.lock().unwrap();
        let own = Arc::clone(&stuck);
        let relay: Relay = Arc::new(move |_| own.lock().is_ok());
        let queue = DiversionQueue::start(relay, lost).unwrap();
        let taken = (0..2 * WAITING_MAX).take_while(|_| queue.push(record("x")).is_ok()).count();
        assert!((WAITING_MAX..=WAITING_MAX + 1).contains(&taken), "{taken}");
        assert!(queue.close(Duration::from_millis(20)).len() >= WAITING_MAX - 1);
        drop(held);
    }
}
