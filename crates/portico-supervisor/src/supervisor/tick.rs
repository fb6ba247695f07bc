//! What the supervisor looks at every second: heartbeats, waiting requests, memory
//! kills, dropped connections; and the watchdog.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use portico_config::Config;
use portico_metrics::{Gauge, Histogram, ThreadUse, octave_counts};

use super::Supervisor;
use crate::autoscale::{Autoscaler, LoadSample, WaitCounts};
use crate::backlog::{ListenOverflows, OWN_NETSTAT, listen_overflows};
use crate::health::{longest_wait, queue_health};
use crate::memory::MemoryGroup;
use crate::notify::Notifier;
use crate::scoreboard::{SlotField, SlotState, SupervisorField, SupervisorState, now_nanos};
use crate::state::{Child, SupervisorEvent};

const INTERVAL: Duration = Duration::from_secs(1);

/// The state that is kept from one look to the next.
pub(super) struct TickState {
    next: Instant,
    memory_group: Option<MemoryGroup>,
    oom_kills: Option<u64>,
    /// With a range of workers.
    autoscaler: Option<Autoscaler>,
    /// How long the requests of each slot had waited until the last tick.
    waits: BTreeMap<u32, WaitCounts>,
    watchdog_next: Option<Instant>,
    overflows: Option<ListenOverflows>,
}

impl TickState {
    pub(super) fn new(config: &Config) -> Self {
        let (min, max) = (config.workers.min, config.workers.max);
        Self {
            next: Instant::now(),
            memory_group: MemoryGroup::own(Path::new("/")),
            oom_kills: None,
            autoscaler: (min < max).then(|| Autoscaler::new(min, max, config.threads)),
            waits: BTreeMap::new(),
            watchdog_next: None,
            overflows: listen_overflows(Path::new(OWN_NETSTAT)).map(ListenOverflows::since),
        }
    }

    /// Goes by another configuration.
    pub(super) fn follow(&mut self, config: &Config) {
        let (min, max) = (config.workers.min, config.workers.max);
        self.autoscaler = (min < max).then(|| Autoscaler::new(min, max, config.threads));
    }

    pub(super) fn next_timeout(&self) -> Instant {
        self.watchdog_next.map_or(self.next, |watchdog| watchdog.min(self.next))
    }

    /// Processes that the kernel had killed for want of memory when the one that died now was known to live, and
    /// until now. Each of them explains one death.
    pub(super) fn oom_kills_since(&mut self) -> Option<(u64, u64)> {
        let now = self.memory_group.as_ref()?.oom_kills()?;
        let before = self.oom_kills?;
        self.oom_kills = Some(now.min(before + 1));
        Some((before, now))
    }
}

impl Supervisor {
    /// Looks, if it is time to.
    pub(super) fn tick(&mut self, now: Instant) {
        if let Some(interval) = self.notifier.as_ref().and_then(Notifier::watchdog_interval)
            && self.ticks.watchdog_next.is_none_or(|next| next <= now)
        {
            self.ticks.watchdog_next = Some(now + interval);
            self.notify(Notifier::watchdog);
        }
        if now < self.ticks.next {
            return;
        }
        self.ticks.next = now + INTERVAL;
        self.reap(); // Also what no signal has told.
        self.host.tick(&self.scoreboard);
        self.ticks.oom_kills = self.ticks.memory_group.as_ref().and_then(MemoryGroup::oom_kills);
        self.check_heartbeats();
        self.check_queues();
        self.autoscale();
        let ready = self.scoreboard.slots().filter(|(_, slot)| slot.state() == SlotState::Ready);
        let waiting = ready.map(|(_, slot)| slot.metrics().gauge(Gauge::QueueLength));
        self.host.waiting(waiting.fold(0, u64::saturating_add));
        if let Some(overflows) = &mut self.ticks.overflows
            && let Some(count) = listen_overflows(Path::new(OWN_NETSTAT))
            && let Some(message) = overflows.tick(count, now)
        {
            log::warn!("{message}");
        }
    }

    fn check_heartbeats(&mut self) {
        for (child, process) in &mut self.processes {
            if let Child::Worker(slot) = *child
                && let Some(row) = self.scoreboard.slot(slot)
                && process.heartbeat.has_stopped(row.get(SlotField::HeartbeatNanos))
            {
                self.events.push_back(SupervisorEvent::Stalled(slot));
            }
        }
    }

    /// Says on the scoreboard whether requests wait for longer than `--ready-max-wait`.
    fn check_queues(&self) {
        let (former, limit) = (self.scoreboard.queue_health(), self.config.health.ready_max_wait);
        let health = queue_health(former, longest_wait(&self.scoreboard, now_nanos()), limit);
        if health != former {
            self.scoreboard.set(SupervisorField::QueueHealth, health as u64);
        }
    }

    fn autoscale(&mut self) {
        if self.ticks.autoscaler.is_none() || self.scoreboard.state() != SupervisorState::Serving {
            return;
        }
        let mut sample = LoadSample { workers: self.state.wanted(), ..LoadSample::default() };
        let mut seen = BTreeMap::new();
        for (number, slot) in self.scoreboard.slots() {
            let metrics = slot.metrics();
            let waits = octave_counts(&metrics.durations_at(Histogram::QueueDuration, 0).1);
            // What was there at the first look says nothing about now.
            let before = self.ticks.waits.get(&number).unwrap_or(&waits);
            for ((sum, count), before) in sample.waits.iter_mut().zip(waits).zip(before) {
                *sum = sum.saturating_add(count.saturating_sub(*before));
            }
            seen.insert(number, waits);
            if slot.state() == SlotState::Ready {
                sample.ready += 1;
                sample.queued = sample.queued.saturating_add(metrics.gauge(Gauge::QueueLength));
                sample.busy = sample.busy.saturating_add(metrics.threads(ThreadUse::Busy));
            }
        }
        self.ticks.waits = seen;
        let count = self.ticks.autoscaler.as_mut().and_then(|autoscaler| autoscaler.tick(&sample));
        self.events.extend(count.map(SupervisorEvent::Scale));
    }
}
