//! Probes that come before there is an application: while the first workers of a server import it.
//!
//! An engine of its own answers them, whose one thread never calls an application; other requests get 503. One
//! process has it, the worker of the first slot or, with `--preload`, the template, and only where nobody else
//! could have answered: at the first start, on sockets that no other server accepts from. It ends before any
//! worker accepts, so that no request is refused that could be answered:
//!
//! ```text
//!   slot 0   AnswersProbes = 1    is a slot loaded? ──yes──> accepts no more; AnswersProbes = 0
//!   slot n   LoadedNanos = now    waits until no slot answers probes; accepts
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use portico_config::{BindAddress, Config};
use portico_net::Listener;
use portico_server::{Application, Health, Lending, Recording, Request, Responder};
use portico_supervisor::{Scoreboard, SlotField, SlotState, SupervisorField, SupervisorState, now_nanos};

use crate::health::health;

/// The engine that answers probes while the application is imported. Dropped, it has ended.
#[derive(Debug)]
pub struct EarlyProbes {
    /// Dropped, it has the thread end.
    ending: Option<Sender<()>>,
    watch: Option<JoinHandle<()>>,
}

/// No request gets so far that it would be called.
struct NoApplication;

impl Application for NoApplication {
    fn call(&self, _: Request, _: Responder) {
        log::error!("a request was to be run before there was an application (this is a bug in Portico)");
    }
}

/// How often it is looked whether another worker is ready to accept, and whether that one may.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How long a worker that could accept waits for the one that answers probes. That takes a look; a process that
/// does not come to it is about to be killed.
const HAND_OVER_MAX: Duration = Duration::from_secs(1);

/// How long responses that have begun may take once another one accepts.
const LEAVE_MAX: Duration = Duration::from_millis(500);

impl EarlyProbes {
    /// Answers on `listeners` while a template imports the application, where that is wanted of the first one.
    ///
    /// # Errors
    /// The kernel's, when memory, descriptors or threads have run out.
    pub fn of_template(
        config: &Arc<Config>,
        listeners: Vec<Listener>,
        scoreboard: Scoreboard,
    ) -> io::Result<Option<Self>> {
        match health(config, scoreboard.clone()).filter(|_| are_wanted(config, &scoreboard)) {
            Some(health) => Self::begin(config, listeners, health, (scoreboard, None)),
            None => Ok(None),
        }
    }

    /// Answers on `listeners`, for the worker of `slot`, or a template if that is `None`. The caller keeps
    /// other descriptors of the same sockets. `None` if another worker accepts already.
    ///
    /// # Errors
    /// The kernel's, when memory, descriptors or threads have run out.
    pub(crate) fn begin(
        config: &Arc<Config>,
        listeners: Vec<Listener>,
        health: Health,
        (scoreboard, slot): (Scoreboard, Option<u32>),
    ) -> io::Result<Option<Self>> {
        if !claim(&scoreboard, slot) {
            return Ok(None);
        }
        let begun = Self::start(config, listeners, health, scoreboard.clone(), slot);
        if begun.is_err() {
            release(&scoreboard, slot);
        }
        begun.map(Some)
    }

    fn start(
        config: &Arc<Config>,
        listeners: Vec<Listener>,
        health: Health,
        scoreboard: Scoreboard,
        slot: Option<u32>,
    ) -> io::Result<Self> {
        let (application, health) = (Arc::new(NoApplication), Some(health.without_application()));
        let lending =
            Lending::new(Arc::clone(config), Recording::private(), application, None, health, None)?;
        let standby = Arc::clone(&lending);
        let standby =
            thread::Builder::new().name("portico-early".to_owned()).spawn(move || standby.run_standby())?;
        let (ending, ended) = channel::<()>();
        let watching = Arc::clone(&lending);
        let watch = thread::Builder::new().name("portico-probes".to_owned()).spawn(move || {
            while ended.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if is_another_loaded(&scoreboard, slot) {
                    break;
                }
            }
            watching.unlisten();
            release(&scoreboard, slot);
            watching.drain(LEAVE_MAX);
            let _ = standby.join();
            watching.close();
        });
        let watch = watch.inspect_err(|_| lending.stop())?;
        let probes = Self { ending: Some(ending), watch: Some(watch) };
        lending.listen(listeners)?;
        Ok(probes)
    }
}

impl Drop for EarlyProbes {
    fn drop(&mut self) {
        self.ending = None;
        if let Some(watch) = self.watch.take() {
            let _ = watch.join();
        }
    }
}

/// Whether a server of `config` that has this scoreboard answers probes before it has an application.
pub(crate) fn are_wanted(config: &Config, scoreboard: &Scoreboard) -> bool {
    config.health.path.is_some()
        && !config.reload
        && scoreboard.state() == SupervisorState::Booting
        // The old program, or systemd for the next start, has the sockets: those who wait there are served
        // soon.
        && scoreboard.get(SupervisorField::TakesOver) == 0
        && !config.binds.iter().any(|bind| matches!(bind.address, BindAddress::Fd(_)))
}

/// Notes that the application of the worker in `slot` is there, and waits until that worker alone answers.
pub(crate) fn await_turn(scoreboard: &Scoreboard, slot: u32) {
    let Some(own) = scoreboard.slot(slot) else { return };
    own.set(SlotField::LoadedNanos, now_nanos());
    fence(Ordering::SeqCst); // As in `claim`: one of both sees the other.
    let end = Instant::now() + HAND_OVER_MAX;
    let is_answered = || {
        let others = scoreboard.slots().filter(|(number, _)| *number != slot).map(|(_, slot)| slot);
        others
            .filter(|slot| slot.state() != SlotState::Empty)
            .any(|slot| slot.get(SlotField::AnswersProbes) != 0)
    };
    while is_answered() && Instant::now() < end {
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Says that this process answers probes; `false` if a worker is about to accept already.
fn claim(scoreboard: &Scoreboard, slot: Option<u32>) -> bool {
    set(scoreboard, slot, 1);
    fence(Ordering::SeqCst);
    let is_free = !is_another_loaded(scoreboard, slot);
    if !is_free {
        release(scoreboard, slot);
    }
    is_free
}

fn release(scoreboard: &Scoreboard, slot: Option<u32>) {
    set(scoreboard, slot, 0);
}

fn set(scoreboard: &Scoreboard, slot: Option<u32>, value: u64) {
    if let Some(slot) = slot.and_then(|slot| scoreboard.slot(slot)) {
        slot.set(SlotField::AnswersProbes, value);
    }
}

fn is_another_loaded(scoreboard: &Scoreboard, own: Option<u32>) -> bool {
    scoreboard.slots().any(|(number, slot)| Some(number) != own && slot.get(SlotField::LoadedNanos) != 0)
}
