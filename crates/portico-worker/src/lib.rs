//! What of a worker process needs no Python: its logs and telemetry, what wakes its main thread, the watch over
//! its calls, and when it is to be replaced.
//!
//! What decides over time is a value here that is told the time, and returns what is to be done; threads, the
//! interpreter and the process are those of whoever owns it, `portico-python`.
#![deny(unreachable_pub)]

mod crippled;
mod error;
mod escalation;
pub mod folders;
mod inbox;
pub mod logging;
pub mod logs;
mod raw;
mod recycling;
mod setup;
mod siblings;
mod sizing;
mod slot_handle;
mod start_pipe;
pub mod telemetry;
mod warmup;

pub use crippled::{crippled_message, end_crippled};
pub use error::{SystemError, WarmUpError};
pub use escalation::{CallLimits, EscalationStep, TimeoutEscalation};
pub use inbox::{Inbox, Master, Meaning, Wake};
pub use recycling::Recycling;
pub use setup::{
    FormerEnvironment, WorkerSetup, going_to, no_upload_folder, opening, plain, raise_descriptor_limit,
};
pub use siblings::OtherWorkers;
pub use sizing::{counted, fit_workers, mebibytes, tell_workers, worker_class, write_pidfile};
pub use slot_handle::SlotHandle;
pub use start_pipe::{StartPipe, forget_start, settle_start, tell_start};
pub use warmup::warm_up;
