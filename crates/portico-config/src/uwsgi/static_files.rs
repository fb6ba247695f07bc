//! uWSGI's static files as routes: which folders at which paths, and for how long clients keep them.

use std::path::Path;

use toml::Value as Toml;

use super::ini::IniOption;
use crate::draft::{MigratedRoute, MigrationDraft};
use crate::path_regex::{self, RegexPlace};

/// Files that uWSGI serves.
pub(super) struct StaticFiles {
    place: String,
    /// The path of the route, without a slash at its end; empty for all.
    path: String,
    /// One file for one path.
    is_file: bool,
    folders: Vec<String>,
    /// The name that the file has in its folder.
    rewrite: Option<String>,
    /// Seconds.
    max_age: Option<i64>,
}

impl MigrationDraft {
    /// What is served, in the order in which it is said.
    pub(super) fn static_files(&mut self, options: &[&IniOption]) -> Vec<StaticFiles> {
        let mut all: Vec<StaticFiles> = Vec::new();
        for option in options {
            let (path, folder) = match option.name.as_str() {
                "static-map" | "static-map2" => match option.value.split_once('=') {
                    Some((path, folder)) => (path.trim(), folder.trim()),
                    None => {
                        self.problems.push(format!("{}: {}: it maps nothing", option.place, option.name));
                        continue;
                    }
                },
                "check-static" => ("/", option.value.as_str()),
                "check-static-docroot" => {
                    self.notes.push(format!(
                        "{}: {}: left out, the folder is not in this file; write a route with static",
                        option.place, option.name
                    ));
                    continue;
                }
                _ => continue,
            };
            let path = path.trim_end_matches('/').to_owned();
            let has_extension = |path: &str| Path::new(path).extension().is_some();
            let is_file = has_extension(&path) && has_extension(folder) && !Path::new(folder).is_dir();
            let mut file = StaticFiles {
                place: option.place.clone(),
                folders: vec![folder.to_owned()],
                path,
                is_file,
                rewrite: None,
                max_age: None,
            };
            if is_file {
                let (parent, name) = folder.rsplit_once('/').unwrap_or((".", folder));
                file.rewrite = Some(format!("/{name}")).filter(|name| *name != file.path);
                file.folders = vec![if parent.is_empty() { "/" } else { parent }.to_owned()];
            } else if option.name == "static-map2" {
                file.folders = vec![format!("{}{}", folder.trim_end_matches('/'), file.path)];
            }
            match all.iter_mut().find(|other| !is_file && other.path == file.path) {
                Some(other) => other.folders.append(&mut file.folders),
                None => all.push(file),
            }
        }
        all
    }

    /// `REGEX SECONDS`, in which the expression is about file names or paths.
    pub(super) fn expire(&mut self, files: &mut [StaticFiles], option: &IniOption, place: &str) {
        let parts = option.value.rsplit_once([' ', '=']);
        let seconds = parts.and_then(|(regex, seconds)| Some((regex.trim(), seconds.parse::<i64>().ok()?)));
        let Some((regex, seconds)) = seconds else {
            self.problems.push(format!("{place}: left out, it is no expression and a number of seconds"));
            return;
        };
        let found = path_regex::read(regex).unwrap_or_default();
        let is_all = found.iter().any(|it| it.place == RegexPlace::Any);
        let mut is_taken = false;
        for file in files {
            let is_meant = found.iter().any(|it| match &it.place {
                RegexPlace::Prefix(path) if option.name == "static-expires-uri" => *path == file.path,
                RegexPlace::Prefix(path) => file.folders.iter().any(|it| it.trim_end_matches('/') == path),
                _ => false,
            });
            if is_all || is_meant {
                (file.max_age, is_taken) = (Some(seconds), true);
            }
        }
        if !is_taken {
            self.notes.push(format!(
                "{place}: left out, a route has one max_age for all of its files; write max_age or immutable into \
                 the route that is meant"
            ));
        }
    }
}

impl StaticFiles {
    /// The route that serves them, with the names of `index`.
    pub(super) fn route(self, index: &[Toml]) -> MigratedRoute {
        let mut route = MigratedRoute::at(&self.place);
        match (self.is_file, self.path.as_str()) {
            (true, path) => route.set("exact", path),
            (false, "") => {}
            (false, path) => route.set("path", path),
        }
        match &self.folders[..] {
            [folder] => route.set("static", folder.as_str()),
            folders => route.set("static", folders.to_vec()),
        }
        if let Some(rewrite) = self.rewrite {
            route.set("rewrite", rewrite);
        }
        if !self.is_file {
            // uWSGI asks the application for what is no file, and has no index unless it is told so.
            route.set("fallback", "app");
            route.set("index", index.to_vec());
        }
        if let Some(seconds) = self.max_age {
            route.set("max_age", seconds);
        }
        route
    }
}
