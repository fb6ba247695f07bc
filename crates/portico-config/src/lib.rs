//! Every setting, declared once: what was said (`RawConfig`) becomes a [`Config`] that holds every invariant.
//!
//! The table in `settings/` is the only list of settings. The command line, `--help`, the environment,
//! configuration files, the keyword arguments of `portico.serve` and docs/reference/settings.md all come from it.
//! This crate reads configuration files, but runs none that is written in Python; it opens no socket. It resolves
//! host names, because an address that cannot be had is a mistake in the configuration.
#![forbid(unsafe_code)]
#![deny(unreachable_pub)]

mod abbreviation;
mod access_log_format;
#[cfg(test)]
mod account;
mod bind;
mod ciphers;
mod cli;
mod conceal;
mod draft;
mod environment;
mod error;
mod files;
mod gunicorn;
mod health;
mod hosts;
mod inspection_command;
mod migrate;
mod misspelt;
mod nginx;
mod parse;
mod path_regex;
mod preset;
mod proxies;
mod raw;
mod reference;
mod reload;
mod resolution;
mod resolve;
mod resolved;
mod route;
mod route_table;
mod schema;
mod server_command;
mod setting;
mod settings;
mod show;
mod systemd;
mod task;
mod telemetry;
#[cfg(test)]
mod testing;
mod toml_file;
mod traces;
mod typed;
mod uwsgi;
mod value;

pub use access_log_format::{AccessLogFormat, Atom, AtomForm, Piece, RequestStage};
pub use bind::{Bind, BindAddress, WireProtocol};
pub use conceal::conceal_arguments;
pub use error::ConfigError;
pub use files::{FileAccess, FileValue, PythonFile, WorkerKind};
pub use health::HEALTH_ENDPOINTS;
pub use inspection_command::{InspectionCommand, MemoryOrder, ProfileFormat, ProfileOrder};
pub use misspelt::misspelt_variables;
pub use parse::{Parsed, from_pairs, parse, parse_again, parse_with_files};
pub use proxies::{
    Behind, EarlyHints, ForwardedHeaders, HeaderMap, ProxyProtocol, SchemeHeader, TrustedPeers,
};
pub use raw::SettingSource;
pub use reference::reference;
pub use resolution::Resolved;
pub use resolved::{
    Account, ClientCertificate, ClientLimits, Config, LogLevel, LogTarget, OnDisconnect, Preload,
    ReloadEngine, StreamRequestBody, TlsSettings, Warmup, Workers,
};
pub use route::{
    EdgeSettings, Fallback, FileOptions, HeaderAction, HeaderRule, LimitKey, RateLimit, Route, RouteHost,
    RouteOrigin, RoutePath, RouteResponse, Symlinks,
};
pub use route_table::check_redirect;
pub use schema::schema;
pub use server_command::{PageOrder, ServerCommand, TopForm};
pub use settings::{
    empty_list, file_names, is_hook, is_list, is_octal, is_repeatable, is_text, likely_file_name,
};
pub use task::{MaintenanceOrder, Printout, RouteQuestion};
pub use telemetry::{Endpoint, StatsdSettings, SyslogSettings, SyslogTransport};
pub use traces::{CollectorUrl, RootSampler, TraceParents, TraceSampler, TraceSettings};
pub use value::escaped;
