//! `portico maintenance`: makes and removes the files that routes name with `if_file`.
//!
//! It needs no server: those that run with the configuration notice within a second.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use portico_config::{Config, MaintenanceOrder, Route, RouteResponse};

use crate::output::Output;

/// A file that routes wait for.
struct WatchedFile<'c> {
    /// As its routes name it.
    name: &'c Path,
    /// Where it is.
    path: PathBuf,
    routes: Vec<&'c Route>,
}

/// Does what `order` says about the files that the routes of `config` name.
pub fn run(config: &Config, order: &MaintenanceOrder) -> Output {
    let files = watched(config);
    let chosen: Vec<&WatchedFile<'_>> = match &order.file {
        None => files.iter().collect(),
        Some(name) => files.iter().filter(|file| file.is_called(name)).collect(),
    };
    match (order.on, &chosen[..]) {
        (_, []) => Output::failure(none(&files, order.file.as_deref())),
        (None, _) => Output::of(chosen.iter().map(|file| file.told()).collect()),
        (Some(on), [file]) => match file.turn(on) {
            Ok(changed) => {
                Output::of(format!("{}{}", if changed { "" } else { "Already so: " }, file.told()))
            }
            Err(error) => Output::failure(format!("{}: {error}", file.path.display())),
        },
        (Some(on), _) => {
            let word = if on { "on" } else { "off" };
            let names: Vec<String> = chosen.iter().map(|file| file.name.display().to_string()).collect();
            Output::failure(format!(
                "routes name several files with if_file; write portico maintenance {word} FILE with one of {}",
                names.join(", ")
            ))
        }
    }
}

/// Each file once, in the order in which routes name them.
fn watched(config: &Config) -> Vec<WatchedFile<'_>> {
    let folder = config.chdir.clone().unwrap_or_default();
    let mut files: Vec<WatchedFile<'_>> = Vec::new();
    for route in &config.edge.routes {
        let Some(name) = &route.if_file else { continue };
        match files.iter_mut().find(|file| file.name == name) {
            Some(file) => file.routes.push(route),
            None => {
                let path = folder.join(name);
                let path = std::path::absolute(&path).unwrap_or(path);
                files.push(WatchedFile { name, path, routes: vec![route] });
            }
        }
    }
    files
}

fn none(files: &[WatchedFile<'_>], named: Option<&Path>) -> String {
    match named {
        Some(name) if !files.is_empty() => {
            let names: Vec<String> = files.iter().map(|file| file.name.display().to_string()).collect();
            format!("no route has if_file = {:?}; there is {}", name.display().to_string(), names.join(", "))
        }
        _ => "no route has if_file: add one to portico.toml, such as [[route]] with if_file = \"MAINTENANCE\" and \
              respond = 503"
            .to_owned(),
    }
}

impl WatchedFile<'_> {
    /// Whether `name` is its name, its path, or the last part of it.
    fn is_called(&self, name: &Path) -> bool {
        self.name == name || self.path == name || self.path.file_name() == Some(name.as_os_str())
    }

    fn is_there(&self) -> bool {
        self.path.exists()
    }

    /// Makes or removes it. Returns whether that changed anything.
    fn turn(&self, on: bool) -> io::Result<bool> {
        // A link of that name that leads nowhere is none that is there, and is neither followed nor replaced.
        match on {
            _ if self.is_there() == on => Ok(false),
            true => OpenOptions::new().write(true).create_new(true).open(&self.path).map(|_| true),
            false => fs::remove_file(&self.path).map(|()| true),
        }
    }

    fn told(&self) -> String {
        let (word, verb) = if self.is_there() { ("on", "is there") } else { ("off", "is not there") };
        let routes: Vec<String> = self.routes.iter().map(|route| told_of(route)).collect();
        format!("{word}: {} {verb}; while it is, {}\n", self.path.display(), routes.join(", "))
    }
}

/// What a route does, without the file that it waits for.
fn told_of(route: &Route) -> String {
    let place = Route { if_file: None, ..route.clone() };
    let does = match &route.response {
        Some(RouteResponse::Fixed { status, .. }) => format!("responds {status}"),
        Some(RouteResponse::Redirect { to, .. }) => format!("redirects to {to}"),
        Some(RouteResponse::Files(_)) => "has files".to_owned(),
        Some(RouteResponse::MainApplication | RouteResponse::Application(_)) => {
            "has an application".to_owned()
        }
        None => "has other settings".to_owned(),
    };
    format!("{place} {does} ({})", route.origin)
}
