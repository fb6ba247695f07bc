//! What of a worker process needs no Python: its logs and telemetry, what wakes its main thread, the watch over
//! its calls, and when it is to be replaced.
//!
//! What decides over time is a value here that is told the time, and returns what is to be done; threads, the
//! interpreter and the process are those of whoever owns it, `portico-python`.
#![deny(unreachable_pub)]

mod after_queue;
mod call_status;
mod call_watch;
mod crippled;
mod disconnects;
mod early_probes;
mod ending;
mod error;
mod escalation;
pub mod folders;
mod health;
mod hub_turning;
mod inbox;
mod limit_memory;
pub mod logging;
pub mod logs;
mod process_watch;
mod raw;
mod recycling;
mod setup;
mod siblings;
mod sizing;
mod slot_handle;
mod stack_table;
mod start_pipe;
mod switching;
pub mod telemetry;
mod thread_numbers;
mod warmup;

pub use after_queue::{AFTER_QUEUE_MAX, AfterQueue, AfterRefusal};
pub use call_status::{CallStatus, ClientState};
pub use call_watch::{CallDescription, CallWatch, TICK_MAX, pause, tick};
pub use crippled::{crippled_message, end_crippled};
pub use disconnects::{DisconnectStep, Disconnects};
pub use early_probes::EarlyProbes;
pub use ending::{Ending, LEAVING, LeaveStep};
pub use error::{SystemError, WarmUpError};
pub use escalation::EscalationStep;
pub use hub_turning::TurningStep;
pub use inbox::{Inbox, Master, Meaning, Wake};
pub use limit_memory::limit_words;
pub use process_watch::{KeptStep, ProcessWatch, ReplaceReason};
pub use recycling::{OwnUsage, RecycleReason, Recycling};
pub use setup::{
    FileVersion, FormerEnvironment, WorkerSetup, going_to, no_upload_folder, opening, plain,
    raise_descriptor_limit,
};
pub use siblings::OtherWorkers;
pub use sizing::{counted, fit_workers, mebibytes, tell_workers, worker_class, write_pidfile};
pub use slot_handle::SlotHandle;
pub use stack_table::{FrameNumber, Noted, StackTable};
pub use start_pipe::{StartPipe, forget_start, settle_start, tell_start};
pub use switching::{SHORT_INTERVAL, SwitchStep, Switching, is_hard_to_get, is_long, is_short};
pub use thread_numbers::ThreadNumbers;
pub use warmup::warm_up;
