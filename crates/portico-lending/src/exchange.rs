//! The slot, the mailbox and the thread states together: the steps by which the engine changes hands.
//!
//! Generic over the value that is lent, so that `loom` can run these very steps in every interleaving.

use crate::mailbox::Mailbox;
use crate::slot::Slot;
use crate::thread_states::ThreadStates;

/// One value, the messages to whoever has it, and the threads that pass it on.
#[derive(Debug)]
pub struct Exchange<T, L> {
    slot: Slot<T>,
    mailbox: Mailbox<L>,
    thread_states: ThreadStates,
}

impl<T, L> Exchange<T, L> {
    /// An exchange with `value` in its slot.
    pub fn new(value: Box<T>) -> Self {
        let slot = Slot::new();
        slot.put(value);
        Self { slot, mailbox: Mailbox::new(), thread_states: ThreadStates::default() }
    }

    /// The threads.
    #[inline]
    pub fn thread_states(&self) -> &ThreadStates {
        &self.thread_states
    }

    /// Takes the value, if it lies in the slot.
    #[inline]
    pub fn take(&self) -> Option<Box<T>> {
        self.slot.take()
    }

    /// Lays the value into the slot; gives it back if a message has come meanwhile.
    #[inline]
    pub fn release(&self, value: Box<T>) -> Option<Box<T>> {
        self.slot.put(value);
        if self.mailbox.has_messages() { self.slot.take() } else { None }
    }

    /// Lays the value down whatever messages there are: nobody will take it again.
    #[inline]
    pub fn lay_to_rest(&self, value: Box<T>) {
        self.slot.put(value);
    }

    /// Leaves a message for whoever has the value. `Some` if nobody has: the caller delivers.
    #[inline]
    pub fn post(&self, message: L) -> Option<Box<T>> {
        self.mailbox.post(message);
        self.slot.take()
    }

    /// Whether there are messages for whoever has the value.
    #[inline]
    pub fn has_messages(&self) -> bool {
        self.mailbox.has_messages()
    }

    /// The messages; whoever has the value asks for them.
    #[inline]
    pub fn collect(&self) -> Vec<L> {
        self.mailbox.collect()
    }

    /// What a thread does that has announced to park and not yet parked: sees to it that it leaves no value with
    /// work in it, and none that nobody looks after. Whoever lays the value down later sees the thread.
    pub fn last_look(&self, has_work: impl Fn(&T) -> bool) -> Option<Box<T>> {
        loop {
            let value = self.slot.take()?;
            if has_work(&value) || !self.thread_states.is_polled() {
                return Some(value);
            }
            if let Some(value) = self.release(value) {
                return Some(value);
            }
            // One that ended its wait while this thread had the value found none, and may have parked.
            if self.thread_states.is_polled() {
                return None;
            }
        }
    }
}

/// Every interleaving of a few threads, by `loom` (`make test-loom`).
#[cfg(all(test, loom))]
mod loom_models {
    use loom::sync::atomic::{AtomicBool, Ordering};
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    use super::*;
    use crate::poller::Poller;

    /// Runs every interleaving with at most three preemptions: more find nothing new in models of this size, and
    /// take hours.
    fn explore(model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    /// Stands for the engine. The lock is never waited for: the one thread that has the value finds it free.
    #[derive(Default)]
    struct Value {
        delivered: Mutex<u32>,
        work: bool,
    }

    impl Value {
        fn deliver(&self, messages: &[u32]) {
            *self.delivered.try_lock().expect("one thread has the value") += messages.iter().sum::<u32>();
        }
    }

    type Model = Exchange<Value, u32>;

    /// Threads that wait for the network need not be woken here: those of the models park.
    struct NobodyPolls;

    impl Poller for NobodyPolls {
        fn wake(&self) {}

        fn wake_aside(&self) {}
    }

    /// Drains the mailbox and releases the engine until no message is left, as every thread does that has it.
    fn put_back(model: &Model, mut value: Box<Value>) {
        loop {
            value.deliver(&model.collect());
            match model.release(value) {
                Some(again) => value = again,
                None => return,
            }
        }
    }

    #[test]
    fn loom_one_thread_at_a_time_has_the_value_and_every_letter_is_delivered() {
        explore(|| {
            let model = Arc::new(Model::new(Box::default()));
            let posters: Vec<_> = [1, 10]
                .into_iter()
                .map(|message| {
                    let model = Arc::clone(&model);
                    thread::spawn(move || {
                        if let Some(value) = model.post(message) {
                            put_back(&model, value);
                        }
                    })
                })
                .collect();
            // The lender: releases the engine for a call, takes back if it is still there.
            if let Some(value) = model.take() {
                put_back(&model, value);
            }
            if let Some(value) = model.take() {
                put_back(&model, value);
            }
            posters.into_iter().for_each(|poster| poster.join().unwrap());
            let value = model.take().expect("it lies in the slot when everybody is done");
            assert!(model.collect().is_empty());
            assert_eq!(*value.delivered.lock().unwrap(), 11);
        });
    }

    /// An idle thread that waits for work as `Lending::idle` does while calls are short.
    fn idle_until_work(model: &Model) {
        loop {
            model.thread_states().announce_park();
            let value = match model.last_look(|value| value.work) {
                Some(value) => Some(value),
                None => {
                    model.thread_states().park();
                    model.take()
                }
            };
            model.thread_states().revoke_park();
            match value {
                Some(mut value) if value.work => {
                    value.work = false;
                    return put_back(model, value);
                }
                Some(value) => put_back(model, value),
                None => {}
            }
        }
    }

    #[test]
    fn loom_no_thread_parks_for_good_while_work_lies_in_the_slot() {
        explore(|| {
            let model = Arc::new(Model::new(Box::default()));
            // The standby waits for the network: that alone runs no request.
            model.thread_states().set_standby_polling(true);
            let idler = {
                let model = Arc::clone(&model);
                thread::spawn(move || idle_until_work(&model))
            };
            // A thread within a call brings work about, as `Lending::give_back` does.
            let mut value = loop {
                match model.take() {
                    Some(value) => break value,
                    None => thread::yield_now(),
                }
            };
            value.work = true;
            while let Some(again) = model.release(value) {
                value = again;
            }
            model.thread_states().wake_one(&NobodyPolls);
            idler.join().unwrap();
        });
    }

    #[test]
    fn loom_a_value_without_work_is_looked_after_by_somebody() {
        explore(|| {
            let model = Arc::new(Model::new(Box::default()));
            model.thread_states().begin_poll();
            let idle = |model: &Model| {
                model.thread_states().announce_park();
                if let Some(value) = model.last_look(|value| value.work) {
                    model.thread_states().revoke_park();
                    model.thread_states().begin_poll();
                    put_back(model, value);
                }
            };
            let leaver = {
                let model = Arc::clone(&model);
                // Wakes without events, as by a mere wake-up.
                thread::spawn(move || {
                    model.thread_states().end_poll();
                    match model.take() {
                        Some(value) => {
                            model.thread_states().begin_poll();
                            put_back(&model, value);
                        }
                        None => idle(&model),
                    }
                })
            };
            idle(&model);
            leaver.join().unwrap();
            assert!(model.thread_states().is_polled(), "both threads have parked");
        });
    }

    #[test]
    fn loom_the_standby_does_not_sleep_through_a_lending() {
        explore(|| {
            let model = Arc::new(Model::new(Box::default()));
            let watched = Arc::new(AtomicBool::new(false));
            model.thread_states().begin_poll();
            let standby = {
                let (model, watched) = (Arc::clone(&model), Arc::clone(&watched));
                thread::spawn(move || {
                    model.thread_states().enlist_standby();
                    model.thread_states().set_standby_asleep(true);
                    if model.thread_states().is_looked_after() {
                        thread::park();
                    }
                    watched.store(true, Ordering::SeqCst);
                })
            };
            // The poller takes its engine, and lends it for a call.
            model.thread_states().end_poll();
            let value = model.take().expect("nobody else takes it here");
            put_back(&model, value);
            model.thread_states().rouse_standby(&NobodyPolls);
            // A model in which the standby stays parked ends in a deadlock, which `loom` reports.
            standby.join().unwrap();
            assert!(watched.load(Ordering::SeqCst));
        });
    }
}
