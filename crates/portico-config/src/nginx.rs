//! nginx's configuration for `portico migrate`: `server` and `location` as routes, as far as they are one of ours.
//! Every directive that becomes nothing is named with its line.
//!
//! nginx has one block that counts for each request, Portico one route. But a location has nothing of the location
//! around whose path it lies, while a route has all that the route around it says: so each location is worked out
//! with what `server` and `http` say (`location.rs`), and written is what differs from the route around it
//! (`routes.rs`).

mod include;
mod known;
mod listen;
mod location;
mod paths;
mod routes;
mod servers;
mod syntax;
mod values;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use crate::draft::MigrationDraft;
use crate::settings;
use known::{KnownDirective, known, restricts};
use syntax::NginxDirective;

/// What holds for all servers of a configuration.
struct NginxSite<'d> {
    /// The directives of `http`, or those of the file where it has no such block.
    http: Vec<&'d NginxDirective>,
    /// Names or addresses of what is taken for the application.
    application: Option<String>,
    /// Directives that restrict access and have a route, or a problem of their own.
    settled: RefCell<HashSet<*const NginxDirective>>,
}

impl NginxSite<'_> {
    /// Notes what need not be told any more.
    fn settle<'s>(&self, directives: impl IntoIterator<Item = &'s NginxDirective>) {
        self.settled.borrow_mut().extend(directives.into_iter().map(std::ptr::from_ref));
    }

    fn is_settled(&self, directive: &NginxDirective) -> bool {
        self.settled.borrow().contains(&std::ptr::from_ref(directive))
    }
}

/// Directives that pass a request on to what may be a WSGI application.
const PASSES: [&str; 3] = ["proxy_pass", "uwsgi_pass", "scgi_pass"];

/// Those that do not.
const OTHER_PASSES: [&str; 3] = ["fastcgi_pass", "grpc_pass", "memcached_pass"];

/// Whether a text is such a configuration: it has a block that only nginx has.
pub(crate) fn is_configuration(text: &str) -> bool {
    let blocks = ["http", "server", "location", "upstream", "events"];
    syntax::parse(text, "").is_ok_and(|directives| {
        directives.iter().any(|it| it.block.is_some() && blocks.contains(&it.name.as_str()))
    })
}

impl MigrationDraft {
    /// Takes the servers of a file.
    pub(crate) fn take_nginx(&mut self, text: &str, path: &Path) {
        let file = path.display().to_string();
        let directives = match syntax::parse(text, &file) {
            Ok(directives) => include::expand(directives, path, self),
            Err(problem) => return self.problems.push(problem),
        };
        let mut needless: BTreeMap<String, Vec<String>> = BTreeMap::new();
        self.report(&directives, &mut needless);
        let is_http = |it: &&NginxDirective| it.name == "http";
        let http: Vec<&NginxDirective> = match directives.iter().any(|it| is_http(&it)) {
            true => directives.iter().filter(is_http).flat_map(|it| it.block.iter().flatten()).collect(),
            false => directives.iter().collect(),
        };
        for stray in http.iter().filter(|it| it.name == "location") {
            self.problems.push(format!("{}: location: left out, it is in no server", stray.place));
        }
        let application = self.application(&directives, &file);
        self.take_servers(&NginxSite { http, application, settled: RefCell::default() });
        if !needless.is_empty() {
            let names = needless.iter().map(|(name, lines)| format!("{name} ({})", lines.join(", ")));
            let names = names.collect::<Vec<_>>().join(", ");
            self.notes.push(format!("{file}: not needed here, or always so, with their lines: {names}"));
        }
        if self.says(&settings::BIND) {
            self.notes.push(format!("{file}: names no application; write app = \"module:name\" at the top"));
        }
        self.note_differences(&directives, &file);
        // What a server says is worked out for each of its locations.
        for lines in [&mut self.notes, &mut self.problems] {
            let mut told = HashSet::new();
            lines.retain(|line| told.insert(line.clone()));
        }
    }

    /// What is the same for all routes and not as nginx has it, once.
    fn note_differences(&mut self, directives: &[NginxDirective], file: &str) {
        let says = |name: &str, what: &dyn Fn(&NginxDirective) -> bool| {
            let mut all = vec![directives];
            while let Some(block) = all.pop() {
                if block.iter().any(|it| it.name == name && what(it)) {
                    return true;
                }
                all.extend(block.iter().filter_map(|it| it.block.as_deref()));
            }
            false
        };
        if says("add_header", &|it| it.arguments.last().is_none_or(|last| last != "always")) {
            self.notes.push(format!("{file}: headers are on errors too, as with `always` of add_header"));
        }
        let (real, named) = (says("real_ip_header", &|_| true), says("set_real_ip_from", &|_| true));
        if (real || named) && says("allow", &restricts) | says("deny", &restricts) {
            self.problems.push(format!(
                "{file}: allow and deny are about the clients that real_ip names; say forwarded_allow_ips with \
                 the proxies in front, or they are about the proxies"
            ));
        }
        if says("auth_basic_user_file", &|_| true) {
            self.notes.push(format!(
                "{file}: passwords that are hashed by crypt, or not at all, are refused; `portico hash-password \
                 USER` makes lines for a file of users"
            ));
        }
    }

    /// Names what becomes nothing, in the order of the file.
    fn report(&mut self, directives: &[NginxDirective], needless: &mut BTreeMap<String, Vec<String>>) {
        for it in directives {
            match known(it) {
                KnownDirective::Taken => {}
                KnownDirective::Instead(why) if restricts(it) => {
                    self.problems.push(format!("{}: {}: {why}; it restricts access", it.place, it.shown()));
                }
                KnownDirective::Needless | KnownDirective::Not if restricts(it) => {
                    self.problems.push(format!(
                        "{}: {}: left out, and it restricts access",
                        it.place,
                        it.shown()
                    ));
                }
                KnownDirective::Needless => {
                    let line = it.place.rsplit(':').next().unwrap_or_default().to_owned();
                    needless.entry(it.name.clone()).or_default().push(line);
                }
                KnownDirective::Instead(why) => {
                    self.notes.push(format!("{}: {}: {why}", it.place, it.shown()))
                }
                KnownDirective::Never(why) => {
                    self.problems.push(format!("{}: {}: left out, {why}", it.place, it.shown()));
                }
                KnownDirective::Not => self.notes.push(format!(
                    "{}: {}: left out, nothing is known of it here",
                    it.place,
                    it.shown()
                )),
            }
            // What is in a block of another kind is told of with the block.
            if matches!(it.name.as_str(), "http" | "server" | "location") {
                self.report(it.block.as_deref().unwrap_or_default(), needless);
            }
        }
    }

    /// Tells of what restricts access within the locations of a block and has become nothing.
    fn tell_lost_guards(&mut self, block: &[NginxDirective], site: &NginxSite<'_>) {
        for location in block.iter().filter(|it| it.name == "location") {
            let inner = location.block.as_deref().unwrap_or_default();
            for it in inner.iter().filter(|it| matches!(known(it), KnownDirective::Taken)) {
                if restricts(it) && !site.is_settled(it) {
                    let why = match it.name.as_str() {
                        "if" => "routes have no such condition",
                        _ => "and it restricts access",
                    };
                    self.problems.push(format!("{}: {}: left out, {why}", it.place, it.shown()));
                }
            }
            self.tell_lost_guards(inner, site);
        }
    }

    /// What is taken for the application: what most locations pass requests on to, among those for all paths if
    /// there are such.
    fn application(&mut self, directives: &[NginxDirective], file: &str) -> Option<String> {
        let mut targets: Vec<(String, (usize, usize))> = Vec::new();
        let mut open: Vec<(&NginxDirective, bool)> = directives.iter().map(|it| (it, false)).collect();
        open.reverse();
        while let Some((it, is_for_all)) = open.pop() {
            let is_for_all = is_for_all || (it.name == "location" && it.first() == "/");
            open.extend(it.block.iter().flatten().rev().map(|it| (it, is_for_all)));
            let Some(target) = passed_to(it) else { continue };
            let at = targets.iter().position(|(other, _)| *other == target).unwrap_or_else(|| {
                targets.push((target, (0, 0)));
                targets.len() - 1
            });
            targets[at].1.0 += usize::from(is_for_all);
            targets[at].1.1 += 1;
        }
        // Of several that are named as often, the first.
        let (application, _) = targets.iter().rev().max_by_key(|(_, counts)| *counts)?.clone();
        self.notes
            .push(format!("{file}: {application} is taken for the application that Portico serves itself"));
        Some(application)
    }
}

/// The path that a directive gives requests that it passes on, if it gives them any.
fn passed_path(directive: &NginxDirective) -> Option<&str> {
    let (_, target) = directive.first().split_once("://")?;
    let start = if target.starts_with("unix:") {
        target.rfind(":/").filter(|at| *at > 5)? + 1
    } else {
        target.find('/')?
    };
    Some(&target[start..])
}

/// What a directive passes requests on to, without scheme and path: a name of an `upstream`, or an address.
fn passed_to(directive: &NginxDirective) -> Option<String> {
    if !PASSES.contains(&directive.name.as_str()) {
        return None;
    }
    let target = directive.first();
    let target = target.split_once("://").map_or(target, |(_, rest)| rest);
    let end =
        if target.starts_with("unix:") { target.rfind(":/").filter(|at| *at > 5) } else { target.find('/') };
    Some(target[..end.unwrap_or(target.len())].to_owned())
}

#[cfg(test)]
mod tests;
