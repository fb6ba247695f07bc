//! How the threads of a worker pass one value on, the engine: the slot that it lies in, the mailbox of whoever
//! has it, and which thread is woken.
//!
//! Generic over the value and its messages, and without a dependency, so that `loom` runs these very steps in
//! every interleaving. What is done with the value is `portico-server`'s. The other thing that two threads share
//! without a lock is here for the same reason: how far a spooled response is written and read ([`Watermark`]).
#![deny(unreachable_pub)]

mod active_calls;
mod exchange;
mod mailbox;
mod poller;
mod slot;
mod thread_states;
mod watermark;

pub use active_calls::{ActiveCall, ActiveCalls};
pub use exchange::Exchange;
pub use poller::Poller;
pub use thread_states::NextDeadline;
pub use watermark::Watermark;
