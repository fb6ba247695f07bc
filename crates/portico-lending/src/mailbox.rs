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

/// A list of messages and a flag that says whether there are any, which costs the driver one load to look at.
#[derive(Debug)]
pub(crate) struct Mailbox<M> {
    messages: Mutex<Vec<M>>,
    full: AtomicBool,
}

impl<M> Mailbox<M> {
    /// An empty mailbox.
    pub(crate) fn new() -> Self {
        Self { messages: Mutex::new(Vec::new()), full: AtomicBool::new(false) }
    }

    /// Leaves a message. The sender looks into the slot afterwards, the driver into the mailbox after it has laid
    /// the engine there: with both sequentially consistent, one of them sees the other.
    pub(crate) fn post(&self, message: M) {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        self.full.store(true, Ordering::SeqCst);
    }

    /// Whether messages wait.
    #[inline]
    pub(crate) fn has_messages(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    /// Takes all messages out.
    #[inline]
    pub(crate) fn collect(&self) -> Vec<M> {
        if !self.has_messages() {
            return Vec::new();
        }
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        self.full.store(false, Ordering::SeqCst);
        std::mem::take(&mut messages)
    }
}

impl<M> Default for Mailbox<M> {
    fn default() -> Self {
        Self::new()
    }
}
