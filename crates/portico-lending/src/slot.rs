//! Where the engine lies while its driver is in a call or waits for the network.

#[cfg(loom)]
use loom::sync::atomic::{AtomicPtr, Ordering};
use std::ptr;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicPtr, Ordering};

/// Room for one boxed value, or none. Whoever takes the value owns it: two threads never have it at once.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    value: AtomicPtr<T>,
}

// SAFETY: a `Slot` hands a `Box<T>` from thread to thread by value and never gives out a reference into it.
unsafe impl<T: Send> Send for Slot<T> {}
// SAFETY: as above; `put` and `take` are single atomic swaps, so at most one thread gets the box.
unsafe impl<T: Send> Sync for Slot<T> {}

impl<T> Slot<T> {
    /// An empty slot.
    pub(crate) fn new() -> Self {
        Self { value: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Lays `value` in the slot. There is one value for one slot, so it is empty; were it not, the former value is
    /// given back rather than lost.
    ///
    /// Sequentially consistent, as `take` is: a thread that puts and then reads another flag, and one that sets
    /// that flag and then takes, cannot both miss each other. The mailbox and the idle list rest on this.
    #[inline]
    pub(crate) fn put(&self, value: Box<T>) -> Option<Box<T>> {
        let former = self.value.swap(Box::into_raw(value), Ordering::SeqCst);
        // SAFETY: see `own`; the swap took `former` out.
        unsafe { own(former) }
    }

    /// Takes the value out, if there is one.
    #[inline]
    pub(crate) fn take(&self) -> Option<Box<T>> {
        let value = self.value.swap(ptr::null_mut(), Ordering::SeqCst);
        // SAFETY: see `own`; the swap took `value` out.
        unsafe { own(value) }
    }
}

/// Makes a box of a pointer that an atomic swap took out of a slot.
///
/// # Safety
/// `value` is null or came from `Box::into_raw` in `put`, and the swap that returned it removed it from the slot.
unsafe fn own<T>(value: *mut T) -> Option<Box<T>> {
    if value.is_null() {
        return None;
    }
    // SAFETY: by the contract above this thread is the only one to have the pointer.
    Some(unsafe { Box::from_raw(value) })
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}
