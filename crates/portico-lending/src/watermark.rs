//! How far a response has been written to its spool file and read from it: agreed on by the application thread
//! that writes and the thread that drives and reads, so that neither waits for the other and no byte is left
//! lying.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Two positions in a file, and whether the reader wants to be told of more.
///
/// Sequentially consistent: the writer stores `written` and then looks at `asleep`, the reader sets `asleep` and
/// then looks at `written`; they cannot both miss each other.
#[derive(Debug)]
pub struct Watermark {
    written: AtomicU64,
    taken: AtomicU64,
    asleep: AtomicBool,
}

impl Default for Watermark {
    fn default() -> Self {
        Self::new()
    }
}

impl Watermark {
    /// Nothing has been written, and the reader does not know of it.
    pub fn new() -> Self {
        Self { written: AtomicU64::new(0), taken: AtomicU64::new(0), asleep: AtomicBool::new(true) }
    }

    /// The end of what has been written.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    /// The writer has written `count` bytes more; whether the reader is to be told.
    #[must_use]
    pub fn advance(&self, count: u64) -> bool {
        self.written.fetch_add(count, Ordering::SeqCst);
        self.asleep.swap(false, Ordering::SeqCst)
    }

    /// What the reader may take, at most `max` bytes: offset and length. `None`: nothing, and it will be told of
    /// more.
    pub fn available(&self, max: u64) -> Option<(u64, u64)> {
        let taken = self.taken.load(Ordering::SeqCst);
        if self.written() == taken {
            // Both read and write, as the writer's do: loom knows no other order of all of them.
            self.asleep.swap(true, Ordering::SeqCst);
        }
        let count = self.written.fetch_add(0, Ordering::SeqCst) - taken;
        (count > 0).then_some((taken, count.min(max)))
    }

    /// The reader has taken `count` bytes.
    pub fn take(&self, count: u64) {
        self.taken.fetch_add(count, Ordering::SeqCst);
    }

    /// Bytes that have been written and not taken.
    pub fn waiting(&self) -> u64 {
        // In this order: what is taken has been written before.
        let taken = self.taken.load(Ordering::SeqCst);
        self.written() - taken
    }

    /// Whether all that has been written has been taken.
    pub fn is_drained(&self) -> bool {
        self.taken.load(Ordering::SeqCst) == self.written()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_reader_is_told_once_it_has_found_nothing() {
        let mark = Watermark::new();
        assert!(mark.advance(3), "it does not know of the file yet");
        assert!(!mark.advance(4), "it has been told");
        assert_eq!(mark.available(5), Some((0, 5)));
        mark.take(5);
        assert!(!mark.is_drained());
        assert_eq!(mark.available(5), Some((5, 2)));
        mark.take(2);
        assert!(mark.is_drained());
        assert!(!mark.advance(1), "it has not looked yet");
        assert_eq!(mark.available(9), Some((7, 1)));
        mark.take(1);
        assert_eq!(mark.available(9), None);
        assert!(mark.advance(1));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    use super::*;

    /// Whatever is written is taken: by the look that follows, or because the reader is told.
    #[test]
    fn loom_no_byte_is_left_lying() {
        loom::model(|| {
            let mark = Arc::new(Watermark::new());
            // As the mailbox, which keeps its messages under a lock.
            let told = Arc::new(Mutex::new(false));
            let (writer, tell) = (Arc::clone(&mark), Arc::clone(&told));
            let writing = thread::spawn(move || {
                for _ in 0..2 {
                    if writer.advance(1) {
                        *tell.lock().unwrap() = true;
                    }
                }
            });
            // As the engine does: in turns, each of which ends by asking whether there is more.
            let take_all = || {
                while let Some((_, count)) = mark.available(1) {
                    mark.take(count);
                    if mark.available(1).is_none() {
                        break;
                    }
                }
            };
            if std::mem::take(&mut *told.lock().unwrap()) {
                take_all();
            }
            writing.join().unwrap();
            if std::mem::take(&mut *told.lock().unwrap()) {
                take_all();
            }
            assert!(mark.is_drained(), "taken {} of {}", mark.taken.load(Ordering::SeqCst), mark.written());
        });
    }
}
