//! What the machine is told, what it has done, and which process that is about.

use std::fmt;
use std::time::Duration;

use log::Level;
use portico_metrics::StartReason;

/// A name for a process that holds before its process id is known. No two living ones share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Child {
    /// The worker in this slot.
    Worker(u32),
    /// The template of this generation.
    Template(u32),
}

impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(slot) => write!(f, "the worker in slot {slot}"),
            Self::Template(generation) => write!(f, "the template of generation {generation}"),
        }
    }
}

/// An event of the machine: it knows nothing but these.
#[derive(Clone, Debug)]
pub(crate) enum SupervisorEvent {
    /// It serves; a template: it has imported the application.
    Ready(Child),
    /// It says that it cannot serve, and ends.
    BootFailed {
        /// Which.
        child: Child,
        /// The exit status that it ends with.
        status: i32,
        /// For the operator.
        message: String,
    },
    /// It was reaped, or could not be forked.
    Exited {
        /// Which.
        child: Child,
        /// Its exit status; 128 and the number if a signal ended it.
        status: i32,
    },
    /// It has closed its end of the control socket.
    HungUp(Child),
    /// A worker that goes on serving is to be replaced.
    Replace {
        /// Its slot.
        slot: u32,
        /// For the operator.
        reason: String,
    },
    /// The worker in this slot was told to end by a signal. So is the server, perhaps.
    Signalled(u32),
    /// A file of the application has changed since the worker in this slot was started.
    Changed {
        /// Its slot.
        slot: u32,
        /// The file.
        file: String,
    },
    /// The worker in this slot has shown no life for long.
    Stalled(u32),
    /// It says more on its control socket than anything that works as it should.
    Flooded(Child),
    /// TERM: stop after the drain delay.
    Terminate,
    /// INT: stop gracefully.
    Interrupt,
    /// QUIT: stop at once.
    Quit,
    /// Another supervisor has taken over.
    Superseded,
    /// HUP.
    Reload,
    /// TTIN: one worker more.
    Grow,
    /// TTOU: one worker less.
    Shrink,
    /// WINCH: stop the workers, keep the supervisor.
    Withdraw,
    /// Autoscaling asks for this number of workers.
    Scale(u32),
    /// Nothing but time has passed.
    Tick,
}

/// An action that the supervisor performs for the machine, in the order in which they are returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Fork a template.
    StartTemplate {
        /// The generation of its workers.
        generation: u32,
    },
    /// Fork a worker.
    StartWorker {
        /// Its slot.
        slot: u32,
        /// Its generation. With preload that template forks it.
        generation: u32,
        /// What makes it necessary.
        reason: StartReason,
    },
    /// Tell the worker to end, others are left.
    Retire {
        /// Its slot.
        slot: u32,
        /// For the operator, in a few words.
        why: String,
    },
    /// Tell the worker to end within this time, no other is left.
    Drain {
        /// Its slot.
        slot: u32,
        /// From now on.
        limit: Duration,
    },
    /// Tell the worker that the server is about to stop.
    AnnounceClose(u32),
    /// Tell it to end at once.
    Stop(Child),
    /// SIGKILL.
    Kill {
        /// Which.
        child: Child,
        /// For the operator: it was killed because ...
        why: &'static str,
    },
    /// Log its stacks: it is about to be told to end.
    TellStacks(Child),
    /// The first worker is ready.
    Serving,
    /// A stop was asked for.
    Stopping,
    /// The workers end now, and none will follow them.
    StopListening,
    /// Reloads have come to their end.
    ReloadEnded {
        /// How many demands that answers.
        count: u32,
        /// Whether the old code goes on serving.
        failed: bool,
    },
    /// For the operator.
    Log(Level, String),
    /// Everything has ended.
    Exit(i32),
}
