//! The commands to a running portico: `portico status PID` and its like.
//!
//! They read the scoreboard, send a signal and wait for what comes of it. No process that serves has to do
//! anything for `status`; it works while every interpreter is held. Beside them are commands that need no server:
//! `portico dev-cert`, `portico route`, `portico maintenance`, `portico hash-password`.
//!
//! Knows no Python: whoever runs a command says how it waits (`pause.rs`), and prints its [`Output`].
#![deny(unreachable_pub)]

mod application_metrics;
mod asked_stacks;
mod cancel;
mod dev_cert;
mod flame;
mod hash_password;
mod inspection;
mod maintenance;
mod memory;
mod output;
mod pause;
mod profile;
mod replacement;
mod report;
mod requests;
mod routes;
mod stacks;
mod static_folders;
mod status;
mod table;
mod top;
mod web;
mod words;

use std::io;

use portico_config::{InspectionCommand, MemoryOrder, ProfileOrder, ServerCommand, TopForm};
use portico_insight::ReadTime;
use portico_metrics::TextFormat;
use portico_supervisor::Scoreboard;

pub use dev_cert::make as make_dev_cert;
pub use hash_password::make as make_password_hash;
pub use maintenance::run as run_maintenance;
pub use output::Output;
pub use portico_edge::{ApplicationFolder, bypassed_guards};
pub use routes::{
    check as check_routes, check_modules, explain as explain_route, has_main as has_main_application,
    refuse_exposed_folders, router, router_of_worker, warnings as route_warnings,
};

pub use static_folders::{RoutesWithFolders, router_with_folders};

use pause::Pause;

/// Runs a command to its end.
///
/// # Errors
/// Those of `pause`.
pub fn run<E>(command: ServerCommand, pause: Pause<'_, E>) -> Result<Output, E> {
    let pid = command.pid();
    let board = match Scoreboard::attach(pid) {
        Ok(board) => board,
        Err(error) => return Ok(Output::failure(unreadable(pid, &error))),
    };
    match command {
        ServerCommand::Status(_) => Ok(Output::of(status::tell(&board, ReadTime::now()))),
        ServerCommand::StatusJson(_) => Ok(Output::of(report::status(&board, ReadTime::now()))),
        ServerCommand::Metrics(_) => {
            Ok(Output::of(report::metrics(&board, TextFormat::OpenMetrics, ReadTime::now().nanos)))
        }
        ServerCommand::MetricsOfPrometheus(_) => {
            Ok(Output::of(report::metrics(&board, TextFormat::Prometheus, ReadTime::now().nanos)))
        }
        ServerCommand::Requests(_) => Ok(Output::of(requests::tell(&board, ReadTime::now()))),
        ServerCommand::RequestsJson(_) => Ok(Output::of(requests::json(&board, ReadTime::now()))),
        ServerCommand::Stacks(_) => stacks::tell(&board, pid, pause),
        ServerCommand::StacksGrouped(_) => stacks::tell_grouped(&board, pid, pause),
        ServerCommand::Top { form: TopForm::Screen, .. } => Ok(top::run(&board, pid)),
        ServerCommand::Top { form: TopForm::Once, .. } => top::once(&board, pause),
        ServerCommand::Top { form: TopForm::Json, .. } => top::once_as_json(&board, pause),
        ServerCommand::Web(_, order) => web::serve(board, pid, order, pause),
        ServerCommand::Cancel(_, id) => cancel::cancel(&board, &id, pause),
        ServerCommand::Reload(_) => replacement::reload(&board, pid, pause),
        ServerCommand::Upgrade(_) => replacement::upgrade(&board, pid, pause),
    }
}

/// Has workers find out about themselves, and tells what they found.
///
/// # Errors
/// Those of `pause`.
pub fn inspect<E>(command: &InspectionCommand, pause: Pause<'_, E>) -> Result<Output, E> {
    let (InspectionCommand::Profile(ProfileOrder { pid, .. })
    | InspectionCommand::Memory(MemoryOrder { pid, .. })) = command;
    let board = match Scoreboard::attach(*pid) {
        Ok(board) => board,
        Err(error) => return Ok(Output::failure(unreadable(*pid, &error))),
    };
    match command {
        InspectionCommand::Profile(order) => profile::tell(&board, order, pause),
        InspectionCommand::Memory(order) => memory::tell(&board, order, pause),
    }
}

/// The worker that `portico profile --external` is about.
///
/// # Errors
/// One line: there is none, or it may not be looked at.
pub fn worker_to_profile(order: &ProfileOrder) -> Result<u32, String> {
    let board = Scoreboard::attach(order.pid).map_err(|error| unreadable(order.pid, &error))?;
    profile::worker_of(&board, order)
        .ok_or_else(|| "profile: there is no such worker at this moment".to_owned())
}

fn unreadable(pid: u32, error: &io::Error) -> String {
    match error.kind() {
        // Also where the process itself is not there: /proc has no folder for it.
        io::ErrorKind::NotFound => format!("process {pid} is no portico that runs"),
        io::ErrorKind::PermissionDenied => {
            format!("process {pid} belongs to another user; ask as that one, or as root")
        }
        _ => format!("process {pid} cannot be asked: {error}"),
    }
}
