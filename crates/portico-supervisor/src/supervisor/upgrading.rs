//! USR2: a new supervisor is started, and when it serves this one ends.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use portico_metrics::Counter;

use super::Supervisor;
use crate::scoreboard::{EventKind, SupervisorField, SupervisorState};
use crate::state::SupervisorEvent;
use crate::upgrade::{Upgrade, UpgradeOutcome};

/// A new supervisor that does not serve yet.
pub(super) struct Upgrading {
    upgrade: Upgrade,
    /// When it must.
    until: Option<Instant>,
}

impl Upgrading {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.until
    }
}

impl AsFd for Upgrading {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.upgrade.as_fd()
    }
}

impl Supervisor {
    pub(super) fn begin_upgrade(&mut self, now: Instant) {
        let asked = self.scoreboard.get(SupervisorField::UpgradesAsked);
        self.scoreboard.set(SupervisorField::UpgradesAsked, asked + 1);
        self.note_event(EventKind::Upgrade, "an upgrade was asked for");
        match self.start_new() {
            Ok(upgrade) => {
                log::info!("Upgrading: new supervisor with pid: {}", upgrade.pid());
                // With preload it boots a template and then a worker.
                let limit = 2 * self.config.boot_timeout;
                let until = (!limit.is_zero()).then(|| now + limit);
                self.upgrading = Some(Upgrading { upgrade, until });
            }
            Err(why) => self.fail_upgrade(&why),
        }
    }

    fn start_new(&mut self) -> Result<Upgrade, String> {
        if self.scoreboard.state() != SupervisorState::Serving {
            return Err("this one does not serve".to_owned());
        }
        if self.upgrading.is_some() {
            return Err("there is one under way".to_owned());
        }
        self.host.upgrading();
        let command = self.host.command_line().ok_or("how this program was started is not known")?;
        Upgrade::start(command, &self.host.listeners(), &self.host.secret())
            .map_err(|error| error.to_string())
    }

    /// Looks what has become of the new supervisor.
    pub(super) fn follow_upgrade(&mut self, now: Instant) {
        let Some(Upgrading { upgrade, until }) = self.upgrading.take() else { return };
        match upgrade.outcome() {
            Some(UpgradeOutcome::Ready) => {
                log::info!("Upgraded: the supervisor {} serves", upgrade.pid());
                self.notify(|notifier| notifier.main_pid(upgrade.pid()));
                self.notifier = None;
                self.scoreboard.set(SupervisorField::Superseded, 1);
                self.host.superseded();
                self.events.push_back(SupervisorEvent::Superseded);
            }
            Some(UpgradeOutcome::Ended) => self.fail_upgrade("the new supervisor has ended before it served"),
            None if until.is_some_and(|until| until <= now) => {
                end(upgrade);
                self.fail_upgrade("the new supervisor did not serve in time (--boot-timeout)");
            }
            None => self.upgrading = Some(Upgrading { upgrade, until }),
        }
    }

    /// This supervisor is told to stop: so is the new one.
    pub(super) fn give_up_upgrade(&mut self) {
        if let Some(Upgrading { upgrade, .. }) = self.upgrading.take() {
            end(upgrade);
            self.fail_upgrade("the server is stopping");
        }
    }

    fn fail_upgrade(&self, why: &str) {
        log::error!("upgrade failed; the old program keeps serving: {why}");
        self.scoreboard.metrics().add(Counter::UpgradesFailed, 1);
        self.note_event(EventKind::Upgrade, &format!("the upgrade failed: {why}"));
    }
}

fn end(upgrade: Upgrade) {
    if let Err(error) = upgrade.kill() {
        log::debug!("the new supervisor cannot be ended: {error}");
    }
}
