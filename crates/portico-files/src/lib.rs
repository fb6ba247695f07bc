//! Files that a process of root's opens although a lesser user can write where they lie: logs, configuration,
//! certificates, the pid file.
//!
//! The lesser user is the one of `--user`, whose processes run the application. What it can rename, link or
//! replace must not decide which file root reads, writes or gives away. So paths are walked folder by folder
//! ([`FolderEntry`]): a symbolic link is followed only where root alone could have made it, and what is opened
//! is looked at through its descriptor. Where there is no lesser user nothing is refused.
#![deny(unreachable_pub)]

mod exposed;
mod exposure;
mod folder_entry;
mod log;
mod owner;
mod read;
#[cfg(test)]
mod testing;

pub use exposed::{exposure, redirection};
pub use folder_entry::{FolderEntry, LastLink};
pub use log::{open_log, open_written};
pub use owner::Owner;
pub use read::{read_for, read_text};
