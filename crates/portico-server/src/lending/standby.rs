//! The standby: the thread that never calls the application. It keeps the deadlines, takes an engine that nobody
//! looks after, and drives it until an application thread can.

use std::thread;
use std::time::{Duration, Instant};

use super::Lending;
use crate::engine::Engine;
use crate::reactor::Events;

/// How often the standby looks whether a lent engine has been taken back, while there is traffic. A call that
/// takes longer than one to two of these stops nobody else.
const WATCH_TICK: Duration = Duration::from_micros(1500);

/// Looks that find everything looked after before the standby sleeps until it is roused.
const QUIET_TICKS: u32 = 8;

impl Lending {
    /// Runs the calling thread as the standby until the engine has stopped.
    pub fn run_standby(&self) {
        self.exchange.crew().enlist_standby();
        let mut events = Events::new();
        let (mut seen, mut quiet) = (0, 0);
        while !self.is_stopped() {
            self.standby_sleep(quiet > QUIET_TICKS);
            let lends = self.exchange.crew().lends();
            let looked_after = self.exchange.crew().is_looked_after();
            let left_alone = lends == seen && !looked_after;
            let due = self.alarm.due().is_some_and(|due| due <= Instant::now());
            quiet = if lends == seen && looked_after { quiet + 1 } else { 0 };
            seen = lends;
            if (self.exchange.crew().was_standby_asked() || left_alone || due)
                && let Some(engine) = self.exchange.take()
            {
                self.drive_as_standby(engine, &mut events);
            }
        }
    }

    fn standby_sleep(&self, deeply: bool) {
        let now = Instant::now();
        self.exchange.crew().set_standby_asleep(deeply);
        // Whoever lends and then finds nobody asleep is seen here: it does not poll any more.
        let deeply = deeply && self.exchange.crew().is_looked_after();
        let until = if deeply { self.alarm.due() } else { Some(now + WATCH_TICK) };
        // Roused between the decision and here, `park` returns at once.
        if !self.is_stopped() {
            match self.alarm.sleep_until(until, now) {
                Some(time) => thread::park_timeout(time),
                None => thread::park(),
            }
        }
        self.exchange.crew().set_standby_asleep(false);
    }

    /// Drives until an application thread can.
    fn drive_as_standby(&self, mut engine: Box<Engine>, events: &mut Events) {
        loop {
            self.look(&mut engine, events);
            if !self.advance(&mut engine) {
                return self.finish(engine);
            }
            engine.flush_held();
            let call = engine.has_call();
            let relieved =
                if call { self.exchange.crew().has_idle() } else { self.exchange.crew().polling() > 0 };
            let stays = !relieved && !engine.has_unfinished();
            self.exchange.crew().set_standby_polling(stays);
            if let Some(again) = self.lay_down(engine) {
                self.exchange.crew().set_standby_polling(false);
                engine = again;
                continue;
            }
            if call {
                // Also if none was idle before: a call may have ended since.
                self.exchange.crew().wake_one(&self.reactor);
            }
            if relieved {
                return;
            }
            if stays {
                let timeout = self.alarm.sleep_until(self.alarm.due(), Instant::now());
                if let Err(error) = self.reactor.wait_aside(timeout) {
                    self.report_failed_wait(&error);
                }
                self.exchange.crew().set_standby_polling(false);
            }
            match self.exchange.take() {
                Some(again) => engine = again,
                None => return,
            }
        }
    }
}
