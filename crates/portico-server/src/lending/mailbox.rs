//! What threads without the engine leave for the one that has it.

#[cfg(loom)]
use loom::sync::Mutex;
#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering};
#[cfg(not(loom))]
use std::sync::Mutex;
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering};

/// A list of letters and a flag that says whether there are any, which costs the driver one load to look at.
#[derive(Debug)]
pub struct Mailbox<M> {
    letters: Mutex<Vec<M>>,
    full: AtomicBool,
}

impl<M> Mailbox<M> {
    /// An empty mailbox.
    pub fn new() -> Self {
        Self { letters: Mutex::new(Vec::new()), full: AtomicBool::new(false) }
    }

    /// Leaves a letter. The sender looks into the slot afterwards, the driver into the mailbox after it has laid
    /// the engine there: with both sequentially consistent, one of them sees the other.
    pub fn post(&self, letter: M) {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
        self.full.store(true, Ordering::SeqCst);
    }

    /// Whether letters wait.
    pub fn has_letters(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    /// Takes all letters out.
    pub fn collect(&self) -> Vec<M> {
        if !self.has_letters() {
            return Vec::new();
        }
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        self.full.store(false, Ordering::SeqCst);
        std::mem::take(&mut letters)
    }
}

impl<M> Default for Mailbox<M> {
    fn default() -> Self {
        Self::new()
    }
}
