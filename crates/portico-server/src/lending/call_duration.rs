//! What calls have lately been like, which decides how the engine is lent.
//!
//! To have another thread wait for the network while a call runs is worth its cost only if that thread could run
//! the request that it is woken for. Python's interpreter runs one thread at a time: while a call computes, others
//! can only queue for it, however long the call is. So two things are asked of calls: whether they are long, and
//! whether they wait, that is, let the interpreter go.
//!
//! Whether they wait is measured in two ways, because neither tells everything. The kernel says how much of a call
//! its thread was blocked; but a thread that waits for the interpreter is blocked as well. And while several
//! threads are at it, each that comes with a request finds the interpreter free or taken.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// The moving averages. Two threads that end a call at once may lose one of the two: an average does not mind.
#[derive(Debug, Default)]
pub(super) struct CallDurationAverage {
    average_nanos: AtomicU64,
    long: AtomicBool,
    waits: AtomicBool,
    /// Of the calls that were sampled: what they took and how much of it their thread was blocked.
    sampled_nanos: AtomicU64,
    blocked_nanos: AtomicU64,
    samples: AtomicU32,
    /// Samples that still are to be ignored.
    void: AtomicU32,
    calls: AtomicU32,
    /// Of the threads that came with a request, how many had to wait for the interpreter; in 1/2^16.
    interpreter_taken: AtomicU32,
}

/// The use of the processor by the calling thread when a call began that is sampled.
#[derive(Debug)]
pub(super) struct Sample {
    begun: Instant,
    usage: Usage,
}

/// Average above which calls count as long.
const LONG_ABOVE: Duration = Duration::from_micros(150);

/// Average below which they count as short again.
const SHORT_BELOW: Duration = Duration::from_micros(120);

/// What a single call may count for in that average, however long it was: one garbage collection or one slow query
/// among quick calls does not make calls long, one slow call in twenty does.
const OUTLIER: Duration = Duration::from_millis(4);

/// A call counts for one part in this many of the average.
const WEIGHT: u64 = 64;

/// Calls are sampled while they take longer than this: what is asked of the kernel takes a microsecond.
const SAMPLED_ABOVE: Duration = Duration::from_micros(75);

/// One call in this many is, once it is known what they are like.
const SAMPLED_EACH: u32 = 8;

/// So many samples tell what calls are like; each counts for one part in this many from then on.
const SAMPLES_ENOUGH: u32 = 16;

/// So many are ignored where calls have just been found to wait for each other.
const SAMPLES_VOID: u32 = 16;

/// What a single call may count for among the samples.
const SAMPLE_MAX: Duration = Duration::from_millis(100);

/// Calls wait if they are blocked for more than this share of their time, in per cent...
const WAITING_ABOVE: u64 = 30;

/// ...and compute if for less than this.
const WAITING_BELOW: u64 = 15;

/// A thread that gets the interpreter later than this after it wanted it has found it taken.
const TAKEN_ABOVE: Duration = Duration::from_micros(20);

/// Calls compute, whatever they seem to wait for, if three in four threads find the interpreter taken.
const TAKEN_SHARE: u32 = 3 << 14;

/// All of them.
const ALL_TAKEN: u32 = 1 << 16;

impl CallDurationAverage {
    /// A call begins on the calling thread. A sample to be [recorded](CallDurationAverage::record) with it at its
    /// end, if this is one of those that are asked.
    #[inline]
    pub(super) fn begin(&self) -> Option<Sample> {
        if self.average_nanos.load(Ordering::Relaxed) < SAMPLED_ABOVE.as_nanos() as u64 {
            return None;
        }
        let calls = self.calls.load(Ordering::Relaxed).wrapping_add(1);
        self.calls.store(calls, Ordering::Relaxed);
        let known = self.samples.load(Ordering::Relaxed) >= SAMPLES_ENOUGH;
        (!known || calls.is_multiple_of(SAMPLED_EACH)).then(Sample::take).flatten()
    }

    /// A call has taken `wall`. `parallel`: whether several threads can compute at once, as without Python's
    /// global lock.
    #[inline]
    pub(super) fn record(&self, wall: Duration, sample: Option<Sample>, parallel: impl FnOnce() -> bool) {
        let nanos = wall.min(OUTLIER).as_nanos() as u64;
        let average = self.average_nanos.load(Ordering::Relaxed);
        let average = average - average / WEIGHT + nanos / WEIGHT;
        self.average_nanos.store(average, Ordering::Relaxed);
        // Short calls have no sample, and nothing changes by them.
        if self.is_long() || average > LONG_ABOVE.as_nanos() as u64 || sample.is_some() {
            self.judge(average, sample, parallel());
        }
    }

    fn judge(&self, average: u64, sample: Option<Sample>, parallel: bool) {
        let limit = if self.is_long() { SHORT_BELOW } else { LONG_ABOVE };
        let long = u128::from(average) > limit.as_nanos();
        self.long.store(long, Ordering::Relaxed);
        if let Some(sample) = sample {
            self.record_sample(sample.begun.elapsed(), sample.blocked());
        }
        self.waits.store(long && (parallel || self.is_blocked()), Ordering::Relaxed);
    }

    fn record_sample(&self, wall: Duration, blocked: Duration) {
        let void = self.void.load(Ordering::Relaxed);
        if void > 0 {
            return self.void.store(void - 1, Ordering::Relaxed);
        }
        let share = SAMPLE_MAX.as_secs_f64() / wall.max(SAMPLE_MAX).as_secs_f64();
        let samples = self.samples.load(Ordering::Relaxed).min(SAMPLES_ENOUGH - 1);
        let weight = u64::from(samples) + 1;
        for (average, value) in [(&self.sampled_nanos, wall), (&self.blocked_nanos, blocked)] {
            let (former, value) = (average.load(Ordering::Relaxed), value.mul_f64(share).as_nanos() as u64);
            average.store(former - former / weight + value / weight, Ordering::Relaxed);
        }
        self.samples.store(samples + 1, Ordering::Relaxed);
    }

    /// Whether calls are blocked in what is not the interpreter, by what is known so far.
    fn is_blocked(&self) -> bool {
        let limit = if self.waits() { WAITING_BELOW } else { WAITING_ABOVE };
        let blocked = self.blocked_nanos.load(Ordering::Relaxed);
        blocked > self.sampled_nanos.load(Ordering::Relaxed) / 100 * limit
    }

    /// While calls wait: a thread that had a request to run has waited so long for the interpreter.
    pub(super) fn record_interpreter(&self, waited: Duration) {
        let former = self.interpreter_taken.load(Ordering::Relaxed);
        let now = if waited > TAKEN_ABOVE { ALL_TAKEN } else { 0 };
        let taken = former - former / WEIGHT as u32 + now / WEIGHT as u32;
        if taken <= TAKEN_SHARE {
            return self.interpreter_taken.store(taken, Ordering::Relaxed);
        }
        // Calls seem to wait, and it was the interpreter that they waited for. What has been sampled is void: once
        // others are woken no more, it is seen what calls are like by themselves.
        self.waits.store(false, Ordering::Relaxed);
        for average in [&self.sampled_nanos, &self.blocked_nanos] {
            average.store(0, Ordering::Relaxed);
        }
        self.samples.store(0, Ordering::Relaxed);
        self.void.store(SAMPLES_VOID, Ordering::Relaxed);
        self.interpreter_taken.store(0, Ordering::Relaxed);
    }

    /// Whether calls have lately been long.
    #[inline]
    pub(super) fn is_long(&self) -> bool {
        self.long.load(Ordering::Relaxed)
    }

    /// Whether they have been long and waited for something else than the interpreter: then each lending has
    /// another thread wait for the network at once.
    #[inline]
    pub(super) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// What calls have lately taken, on average.
    pub(super) fn average(&self) -> Duration {
        Duration::from_nanos(self.average_nanos.load(Ordering::Relaxed))
    }
}

impl Sample {
    fn take() -> Option<Self> {
        let usage = getrusage(UsageWho::RUSAGE_THREAD).ok()?;
        Some(Self { begun: Instant::now(), usage })
    }

    /// How long the thread was blocked since. One that has never waited of its own was not, also if the system has
    /// made it wait for a processor.
    fn blocked(&self) -> Duration {
        let wall = self.begun.elapsed();
        let Ok(now) = getrusage(UsageWho::RUSAGE_THREAD) else {
            return Duration::ZERO;
        };
        if now.voluntary_context_switches() == self.usage.voluntary_context_switches() {
            return Duration::ZERO;
        }
        wall.saturating_sub(computed(&now).saturating_sub(computed(&self.usage)))
    }
}

/// The processor's time that a thread has had.
fn computed(usage: &Usage) -> Duration {
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.max(0).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::thread;

    use super::*;

    const SERIAL: fn() -> bool = || false;
    const PARALLEL: fn() -> bool = || true;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    /// Calls of `wall`, of which their threads were blocked for `blocked`; each that would be is sampled.
    fn calls(call_durations: &CallDurationAverage, count: u32, wall: u64, blocked: u64) {
        for _ in 0..count {
            if call_durations.begin().is_some() {
                call_durations.record_sample(micros(wall), micros(blocked));
            }
            call_durations.record(micros(wall), None, SERIAL);
        }
    }

    #[test]
    fn calls_are_long_by_their_average_with_hysteresis() {
        let call_durations = CallDurationAverage::default();
        let calls = |micros, count| {
            (0..count).for_each(|_| call_durations.record(Duration::from_micros(micros), None, SERIAL));
        };
        calls(80, 1000);
        calls(100_000, 1);
        assert!(!call_durations.is_long(), "one slow call says nothing");
        calls(100_000, 1);
        assert!(call_durations.is_long());
        calls(130, 1000);
        assert!(call_durations.is_long(), "between the two limits nothing changes");
        calls(10, 1000);
        assert!(!call_durations.is_long());
    }

    #[test]
    fn short_calls_are_not_sampled_and_long_ones_seldom() {
        let call_durations = CallDurationAverage::default();
        let sampled = || (0..800).filter(|_| call_durations.begin().is_some()).count();
        calls(&call_durations, 1000, 50, 0);
        assert_eq!(sampled(), 0);
        calls(&call_durations, 1000, 500, 0);
        assert_eq!(sampled(), 100);
    }

    #[test]
    fn calls_that_compute_do_not_wait_however_long_they_are() {
        let call_durations = CallDurationAverage::default();
        calls(&call_durations, 1000, 2000, 50);
        assert!(call_durations.is_long() && !call_durations.waits());
        calls(&call_durations, 1000, 2000, 900);
        assert!(call_durations.waits());
        calls(&call_durations, 1000, 2000, 400);
        assert!(call_durations.waits(), "between the two limits nothing changes");
        calls(&call_durations, 1000, 2000, 200);
        assert!(!call_durations.waits());
    }

    #[test]
    fn calls_wait_from_the_first_few_on_that_do() {
        let call_durations = CallDurationAverage::default();
        calls(&call_durations, 4, 10_000, 9_900);
        assert!(call_durations.waits());
    }

    #[test]
    fn time_counts_not_calls() {
        let call_durations = CallDurationAverage::default();
        for _ in 0..100 {
            calls(&call_durations, 9, 30, 0);
            calls(&call_durations, 1, 100_000, 99_000);
        }
        assert!(call_durations.waits(), "nine in ten compute, for a thousandth of the time");
    }

    #[test]
    fn where_the_interpreter_is_taken_calls_do_not_wait_for_anything_else() {
        let call_durations = CallDurationAverage::default();
        calls(&call_durations, 100, 1000, 700);
        assert!(call_durations.waits());
        let found = |taken, free| {
            for number in 0..taken + free {
                call_durations.record_interpreter(micros(if number % (taken + free) < taken {
                    400
                } else {
                    1
                }));
            }
        };
        (0..200).for_each(|_| found(1, 1));
        assert!(call_durations.waits(), "it is free half of the time");
        (0..50).for_each(|_| found(9, 1));
        assert!(!call_durations.waits());
        // Those that still run are of the time when each waited for the others.
        calls(&call_durations, SAMPLES_VOID - 1, 1000, 700);
        assert!(!call_durations.waits());
        calls(&call_durations, 1000, 300, 0);
        assert!(!call_durations.waits());
    }

    #[test]
    fn without_a_global_lock_long_calls_leave_room_for_others() {
        let call_durations = CallDurationAverage::default();
        (0..100).for_each(|_| call_durations.record(micros(2000), None, PARALLEL));
        assert!(call_durations.waits());
    }

    #[test]
    fn a_thread_that_sleeps_is_blocked_and_one_that_computes_is_not() {
        let sample = Sample::take().unwrap();
        thread::sleep(Duration::from_millis(20));
        assert!(sample.blocked() > Duration::from_millis(15));
        let sample = Sample::take().unwrap();
        (0..3_000_000).for_each(|number| {
            black_box(number);
        });
        assert_eq!(sample.blocked(), Duration::ZERO, "whatever else the machine does");
    }
}
