//! How often clients may come, and how many requests may run at once, counted in memory that all workers share.
//!
//! For a rate (GCRA) one number is kept for each client, the theoretical arrival time of its next request, and is
//! replaced by compare-and-swap. There is no lock that a worker could hold when it dies, and nothing is freed: a
//! slot whose time has passed is free as it is.

mod concurrency;
mod gcra;
mod key;
mod table;

pub use concurrency::{CONCURRENCY_WORDS, CONCURRENT_LIMITS_MAX, ConcurrencyLimit, ConcurrencyRow};
pub use gcra::Rate;
pub use key::{LimitSubject, client_network};
pub use table::{LimitTable, Verdict, forgotten, table_words};
