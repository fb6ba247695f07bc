//! The numbers of the supervisor and of each worker that are no metrics.

/// The numbers on the scoreboard that the supervisor alone writes; each is the index of its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupervisorField {
    /// The word "portico" and the version of the layout.
    Magic,
    /// Which table of metrics the cells are of.
    Layout,
    /// Words of the metrics of each process.
    MetricWords,
    /// Those of them that are gauges, which come first. No other ever falls.
    GaugeWords,
    /// Number of slots.
    Slots,
    /// Number of thread records in each.
    Threads,
    /// Its process id.
    Pid,
    /// When it started, see [`now_nanos`](super::now_nanos).
    StartedNanos,
    /// A [`SupervisorState`].
    State,
    /// Reloads that have been asked for.
    ReloadsAsked,
    /// Upgrades that have been asked for.
    UpgradesAsked,
    /// Words for the limits of routes.
    LimitWords,
    /// When its loop has last come round.
    HeartbeatNanos,
    /// When the first worker was ready; 0 before.
    ServingNanos,
    /// How long requests wait, as `QueueHealth` says it.
    QueueHealth,
    /// 1 once another supervisor serves in its place.
    Superseded,
    /// 1 if another supervisor serves until this one does.
    TakesOver,
    /// Words before these.
    LimitsFrom,
    /// Words of a thread's record.
    ThreadWords,
    /// The version of Portico, 16 bits for each of its three numbers.
    Version,
}

/// The progress of the server between start and end, as `portico status` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub enum SupervisorState {
    /// No worker has been ready yet.
    #[default]
    Booting = 0,
    /// At least one worker serves.
    Serving = 1,
    /// A stop has been asked for.
    Stopping = 2,
}

/// Whether requests wait for a thread longer than `--ready-max-wait` allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum QueueHealth {
    /// That is not looked at.
    #[default]
    Unwatched = 0,
    /// They do not.
    Brisk = 1,
    /// They do, or did, and wait for half of that still.
    Late = 2,
}

/// The numbers of a worker on the scoreboard; each is the index of its word in the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotField {
    /// Process id of the worker; 0 if there is none.
    Pid,
    /// A [`SlotState`].
    State,
    /// The generation that the worker belongs to.
    Generation,
    /// When it was forked.
    StartedNanos,
    /// When it became ready; 0 before.
    ReadyNanos,
    /// When it last showed that it lives.
    HeartbeatNanos,
    /// Counts the demands for the stacks of its threads...
    StacksAsked,
    /// ... and those that have been met.
    StacksTold,
    /// What runs the application, as the program that serves has it; 0 while that is not known.
    Interpreter,
    /// When its application was imported; 0 before.
    LoadedNanos,
    /// 1 while it answers probes before it has an application.
    AnswersProbes,
}

/// The progress of a slot's worker. The supervisor writes it, for `portico status` and for the other workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub enum SlotState {
    /// No worker.
    #[default]
    Empty = 0,
    /// The worker starts: imports, warms up.
    Starting = 1,
    /// It serves.
    Ready = 2,
    /// It finishes what it has.
    Retiring = 3,
}
