//! From a configuration to a process that serves: alone (`portico.serve`), or as one of several under a
//! supervisor (the command).

mod alone;
mod app;
mod check;
mod configuration;
mod context;
mod development;
mod disconnects;
mod discovery;
pub(crate) mod entry;
mod environment;
mod error_page;
mod fork_safety;
mod forked;
mod greenlets;
mod host;
mod identity;
mod inspector;
mod listening;
mod monitor;
mod mounts;
mod orders;
mod paste;
mod serving;
mod signals;
mod source;
mod start;
mod start_error;
mod static_folders;
mod switching;
mod template;
mod threads;
mod title;
mod tree;
mod turning;
mod watch;
