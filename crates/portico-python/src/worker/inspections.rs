//! Does what an outside command has this worker find out about itself (`portico profile`, `portico memory`): sees
//! the order, and has a thread follow it as long as the command waits.
//!
//! While there is no order this is a look at one number with each tick of the watch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use portico_supervisor::{InspectionKind, InspectionNumber, InspectionOrder, InspectionOutcome, now_nanos};
use pyo3::prelude::*;

use super::inspector::Inspector;
use super::memory_use;
use super::sampler::Sampler;
use crate::error::one_line;
use crate::stacks::Stacks;
use crate::thread_status::ThreadStatuses;

/// The orders of one worker. The watch looks at it with each tick.
pub(super) struct Inspections {
    records: Arc<ThreadStatuses>,
    stacks: Arc<Stacks>,
    /// The last order that was seen.
    seen: u64,
    follower: Option<Follower>,
}

/// The thread that follows an order.
struct Follower {
    is_stopped: Arc<AtomicBool>,
    /// Disconnected once it has ended.
    ended: Receiver<()>,
}

/// The part of a follower that its thread has.
struct Following {
    records: Arc<ThreadStatuses>,
    stacks: Arc<Stacks>,
    number: u64,
    order: InspectionOrder,
    is_stopped: Arc<AtomicBool>,
}

/// How often it may be looked in a second.
const RATE_MAX: u64 = 1_000;

/// How long an order may be followed, whatever it says.
const DURATION_MAX: Duration = Duration::from_secs(600);

/// How long the interpreter is waited for until stacks are taken without it. Threads that compute in Python pass
/// it on sooner.
const HELD: Duration = Duration::from_secs(1);

/// How long the thread may take to end with its worker. Where it takes longer, C code has the interpreter.
const LEAVING: Duration = Duration::from_millis(500);

impl Inspections {
    /// Those of the worker with these records.
    pub(super) fn new(records: &Arc<ThreadStatuses>, stacks: &Arc<Stacks>) -> Self {
        let seen = records.place().slot().inspection().order_number();
        Self { records: Arc::clone(records), stacks: Arc::clone(stacks), seen, follower: None }
    }

    /// Sees to an order that has come, once the one before it has ended.
    pub(super) fn look(&mut self, now: u64) {
        if self.records.place().slot().inspection().order_number() == self.seen {
            return;
        }
        let records = Arc::clone(&self.records);
        let room = records.place().slot().inspection();
        let number = room.order_number();
        if self.is_following() {
            return;
        }
        self.seen = number;
        let Some(order) = room.order(std::process::id()).filter(|_| room.is_awaited(now)) else { return };
        if let Err(error) = self.follow(number, order) {
            log::warn!("what an operator wants to know of this worker cannot be found out: {error}");
            room.end(number, InspectionOutcome::Failed);
        }
    }

    fn is_following(&mut self) -> bool {
        let has_ended = self.follower.as_ref().is_some_and(Follower::has_ended);
        if has_ended {
            self.follower = None;
        }
        self.follower.is_some()
    }

    fn follow(&mut self, number: u64, order: InspectionOrder) -> std::io::Result<()> {
        let (end, ended): (Sender<()>, _) = channel();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let following = Following {
            records: Arc::clone(&self.records),
            stacks: Arc::clone(&self.stacks),
            number,
            order,
            is_stopped: Arc::clone(&is_stopped),
        };
        let work = move || {
            following.run();
            drop(end);
        };
        thread::Builder::new().name("portico-inspect".to_owned()).spawn(work)?;
        self.follower = Some(Follower { is_stopped, ended });
        Ok(())
    }
}

impl Follower {
    fn has_ended(&self) -> bool {
        self.ended.try_recv() == Err(TryRecvError::Disconnected)
    }
}

impl Drop for Follower {
    /// Ends the thread, as `Inspector` does: it must not come for the interpreter when Python has ended.
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        let _ = self.ended.recv_timeout(LEAVING);
    }
}

impl Following {
    fn run(&self) {
        let place = self.records.place();
        let room = place.slot().inspection();
        room.begin(self.number, now_nanos());
        let duration = self.order.duration.min(DURATION_MAX);
        let goes_on = || self.goes_on();
        let outcome = catch_unwind(AssertUnwindSafe(|| match self.order.kind {
            InspectionKind::WallTime => self.sample(duration, false),
            InspectionKind::CpuTime => self.sample(duration, true),
            InspectionKind::Objects => memory_use::count_objects(room, &goes_on),
            InspectionKind::Allocations => memory_use::trace(room, duration, &goes_on),
        }));
        let outcome = match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => {
                let error = crate::hub::attach(|py| one_line(py, &error));
                log::warn!("what an operator wants to know of this worker cannot be found out: {error}");
                InspectionOutcome::Failed
            }
            Err(_) => {
                log::error!("finding out about this worker failed (this is a bug in Portico)");
                InspectionOutcome::Failed
            }
        };
        // Nobody reads it: the command has died.
        if !room.is_awaited(now_nanos()) {
            place.give_back_found();
        }
        room.end(self.number, outcome);
    }

    fn goes_on(&self) -> bool {
        let room = self.records.place().slot().inspection();
        !self.is_stopped.load(Ordering::Relaxed) && room.is_awaited(now_nanos())
    }

    /// Looks at the calls again and again for `duration`.
    fn sample(&self, duration: Duration, of_cpu: bool) -> PyResult<InspectionOutcome> {
        if of_cpu && !Path::new("/proc/self/schedstat").exists() {
            log::warn!("this kernel does not count the time of threads (schedstat); profile without --cpu");
            return Ok(InspectionOutcome::Failed);
        }
        let room = self.records.place().slot().inspection();
        let period = 1_000_000_000 / self.order.rate.clamp(1, RATE_MAX);
        let sampler = Arc::new(Mutex::new(Sampler::new(&self.records, &self.stacks, of_cpu, period)));
        let inspector = Inspector::start("portico-sample")?;
        let begun = now_nanos();
        let end = begun + duration.as_nanos() as u64;
        let (mut random, mut due) = (begun | 1, begun);
        while self.goes_on() {
            let now = now_nanos();
            if now >= end {
                break;
            }
            let late = now.saturating_sub(due) / period;
            if late > 0 {
                room.add(InspectionNumber::Late, late);
            }
            // A quarter earlier or later than due, so that nothing in step with the sampler stays unseen.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            due = due.max(now.saturating_sub(period)) + period;
            let at = (due + random % (period / 2).max(1)).saturating_sub(period / 4).min(end);
            thread::sleep(Duration::from_nanos(at.saturating_sub(now)));
            self.sample_once(&sampler, &inspector, end);
        }
        lock(&sampler).end();
        Ok(InspectionOutcome::Done)
    }

    /// Takes one sample: with the interpreter where there is a GIL. While that is not to be had for long, as many
    /// without it as it takes, until `end`.
    fn sample_once(&self, sampler: &Arc<Mutex<Sampler>>, inspector: &Inspector, end: u64) {
        if !lock(sampler).needs_interpreter() {
            return lock(sampler).sample_outside(0);
        }
        let own = Arc::clone(sampler);
        let taken = inspector.ask(move |py| lock(&own).sample(py));
        let mut since = now_nanos();
        while taken.recv_timeout(HELD) == Err(RecvTimeoutError::Timeout) && self.goes_on() {
            let now = now_nanos();
            lock(sampler).sample_outside(now.saturating_sub(since));
            since = now;
            if now >= end {
                return;
            }
        }
    }
}

fn lock(sampler: &Mutex<Sampler>) -> MutexGuard<'_, Sampler> {
    sampler.lock().unwrap_or_else(PoisonError::into_inner)
}
