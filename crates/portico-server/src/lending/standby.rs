//! The standby: the thread that never calls the application. It keeps the deadlines, takes an engine that nobody
//! looks after, and drives it until an application thread can.

use std::thread;
use std::time::{Duration, Instant};

use portico_net::Events;

use super::Lending;
use crate::engine::Engine;

/// How soon the standby looks whether a lent engine has been taken back, where that may be late.
const WATCH_TICK: Duration = Duration::from_micros(1500);

/// Looks that find everything looked after before the standby sleeps until it is roused.
const QUIET_TICKS: u32 = 8;

/// Calls that compute and take no longer than this come back soon enough by themselves, nearly always.
const BRISK: Duration = Duration::from_millis(3);

/// While they do, the standby looks once in so many of them at least...
const CALLS_A_LOOK: u32 = 64;

/// ...unless it has found one that did not: then as often as makes what such calls hold up, if there is one more,
/// no larger a part than this of the time since.
const HELD_UP_PART: u32 = 64;

/// The times at which the standby looks after the engine.
#[derive(Debug)]
struct StandbySchedule {
    /// When an engine was last found that nobody looked after.
    left_alone: Instant,
}

impl StandbySchedule {
    /// When to look again. `average` is what calls take, `waits` whether they let the interpreter go meanwhile.
    fn tick(&self, now: Instant, average: Duration, waits: bool) -> Duration {
        if waits || average > BRISK {
            return WATCH_TICK;
        }
        let soonest = WATCH_TICK.max(2 * average);
        let quiet = now.saturating_duration_since(self.left_alone) / HELD_UP_PART;
        quiet.clamp(soonest, soonest.max(CALLS_A_LOOK * average))
    }
}

impl Lending {
    /// Runs the calling thread as the standby until the engine has stopped.
    pub fn run_standby(&self) {
        self.exchange.thread_states().enlist_standby();
        let mut events = Events::new();
        let mut watch = StandbySchedule { left_alone: Instant::now() };
        let (mut seen, mut seen_at, mut quiet) = (0, Instant::now(), 0);
        while !self.is_stopped() {
            let tick = self.standby_sleep(&watch, quiet > QUIET_TICKS);
            let lends = self.exchange.thread_states().lends();
            let looked_after = self.exchange.thread_states().is_looked_after();
            let now = Instant::now();
            if lends != seen {
                seen_at = now;
            }
            // A deadline may have come sooner than the tick.
            let left_alone = lends == seen && !looked_after && now.saturating_duration_since(seen_at) >= tick;
            let due = self.next_deadline.due().is_some_and(|due| due <= now);
            quiet = if lends == seen && looked_after { quiet + 1 } else { 0 };
            seen = lends;
            if (self.exchange.thread_states().was_standby_asked() || left_alone || due)
                && let Some(engine) = self.exchange.take()
            {
                if left_alone {
                    watch.left_alone = now;
                }
                self.drive_as_standby(engine, &mut events);
            }
        }
    }

    /// Sleeps until the next tick or deadline; returns what the tick is.
    fn standby_sleep(&self, watch: &StandbySchedule, deeply: bool) -> Duration {
        let now = Instant::now();
        self.exchange.thread_states().set_standby_asleep(deeply);
        // Whoever lends and then finds nobody asleep is seen here: it does not poll any more.
        let deeply = deeply && self.exchange.thread_states().is_looked_after();
        let tick = watch.tick(now, self.call_durations.average(), self.call_durations.waits());
        let until = if deeply { self.next_deadline.due() } else { Some(now + tick) };
        // Roused between the decision and here, `park` returns at once.
        if !self.is_stopped() {
            match self.next_deadline.sleep_until(until, now) {
                Some(time) => thread::park_timeout(time),
                None => thread::park(),
            }
        }
        self.exchange.thread_states().set_standby_asleep(false);
        tick
    }

    /// Drives until an application thread can, or until calls come back by themselves.
    fn drive_as_standby(&self, mut engine: Box<Engine>, events: &mut Events) {
        let mut lends = self.exchange.thread_states().lends();
        let mut looked = Instant::now();
        loop {
            self.look(&mut engine, events);
            if !self.advance(&mut engine) {
                return self.finish(engine);
            }
            engine.flush_held();
            let call = engine.has_call();
            let relieved = if call {
                self.exchange.thread_states().has_idle()
            } else {
                self.exchange.thread_states().polling() > 0
            };
            let stays = !relieved && !engine.has_unfinished();
            self.exchange.thread_states().set_standby_polling(stays);
            if let Some(again) = self.release(engine) {
                self.exchange.thread_states().set_standby_polling(false);
                engine = again;
                continue;
            }
            if call {
                // Also if none was idle before: a call may have ended since.
                self.exchange.thread_states().wake_one(&self.poller());
            }
            if relieved {
                return;
            }
            if stays {
                let until = self.next_deadline.due().into_iter().chain(self.waits.press_at()).min();
                let timeout = self.next_deadline.sleep_until(until, Instant::now());
                if let Err(error) = self.reactor.wait_aside(timeout) {
                    self.report_failed_wait(&error);
                }
                self.exchange.thread_states().set_standby_polling(false);
            }
            let (now, lends_now) = (Instant::now(), self.exchange.thread_states().lends());
            if lends_now != lends && now.saturating_duration_since(looked) < WATCH_TICK {
                // Threads come back from calls, and look for themselves. Else each packet would wake this one.
                return;
            }
            (looked, lends) = (now, lends_now);
            match self.exchange.take() {
                Some(again) => engine = again,
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_the_less_often_the_longer_calls_have_come_back() {
        let left_alone = Instant::now();
        let watch = StandbySchedule { left_alone };
        let tick = |seconds: f64, micros, waits| {
            watch.tick(left_alone + Duration::from_secs_f64(seconds), Duration::from_micros(micros), waits)
        };
        assert_eq!(tick(0.0, 100, false), WATCH_TICK);
        assert_eq!(tick(0.16, 100, false), Duration::from_micros(2500));
        assert_eq!(tick(60.0, 100, false), Duration::from_micros(6400), "once in 64 calls");
        assert_eq!(tick(60.0, 10, false), WATCH_TICK);
        assert_eq!(tick(60.0, 2000, false), Duration::from_millis(128));
        assert_eq!(tick(0.0, 2000, false), Duration::from_millis(4), "not within a usual call");
        assert_eq!(tick(60.0, 100, true), WATCH_TICK);
        assert_eq!(tick(60.0, 4000, false), WATCH_TICK, "too long to be waited for");
    }
}
