//! What of a running server is shown: its commands, `portico top` and the page of `portico web` show the values
//! that are made here, and no others.
//!
//! A [`Snapshot`] is the whole server at one moment as plain values, which serde writes as JSON. Everything is a
//! function of its arguments: only `Snapshot::read` reads memory, the scoreboard, and only [`ReadTime::now`] asks
//! a clock.
#![deny(unreachable_pub)]
#![forbid(unsafe_code)]

mod call_id;
mod durations;
mod history;
mod rates;
mod reading;
mod responses;
mod sentence;
mod snapshot;
mod stack_groups;

pub use call_id::CallId;
pub use rates::ServerRates;
pub use sentence::{FrequentStack, Level, Sentence};
pub use snapshot::{ReadTime, RequestPhase, ServerState, ShownRequest, SlotFacts, Snapshot, WorkerState};
pub use stack_groups::{StackGroup, StackOfThread, group_stacks};
