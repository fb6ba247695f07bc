//! How often clients may come: GCRA, on a table in memory that all workers share.
//!
//! One number is kept for each client, the theoretical arrival time of its next request, and is replaced by
//! compare-and-swap. There is no lock that a worker could hold when it dies, and nothing is freed: a slot
//! whose time has passed is free as it is.

mod gcra;
mod key;
mod table;

pub use gcra::Rate;
pub use key::LimitSubject;
pub use table::{LimitSlot, LimitTable, Verdict};
