//! The locations of a server of nginx as routes: which paths they are for, and of each what differs from the route
//! around it.

use toml::Value as Toml;

use super::known::is_guarded;
use super::listen::NginxServer;
use super::location::{
    FlatLocation, LocationPath, LocationResponse, NginxLocation, NginxScope, TIMEOUT_SECONDS,
};
use super::paths::{LocatedPath, LocationKind};
use super::syntax::NginxDirective;
use super::{NginxSite, PASSES, passed_path};
use crate::draft::{MigratedRoute, MigrationDraft};
use crate::path_regex::{self, RegexPlace};

/// A location with the path that a route has for it.
pub(super) struct LocatedBlock<'d> {
    pub place: String,
    pub path: LocationPath,
    scope: NginxScope<'d>,
    /// The path with which `proxy_pass http://app/` has requests passed on, where it is another.
    rewrite: Option<String>,
    pub kind: LocationKind,
    pub is_guarded: bool,
    /// Whether the route has more paths than the location.
    is_wider: bool,
}

/// What guards a route, and the directives that say so.
const GUARDS: [(&str, &[&str]); 5] = [
    ("allow", &["allow", "deny"]),
    ("deny", &["allow", "deny"]),
    ("auth", &["auth_basic"]),
    ("limit", &["limit_req"]),
    ("internal", &["internal"]),
];

impl MigrationDraft {
    /// Takes a server, for these hosts. `body` is the largest body that is taken where nothing else is said.
    pub(super) fn take_server(
        &mut self,
        server: &NginxServer<'_>,
        hosts: &[String],
        site: &NginxSite<'_>,
        body: &Toml,
    ) {
        let scope = NginxScope::of(site.http.iter().copied()).within(server.block);
        let mut located = self.located(server, &scope, hosts, site);
        // A route that others lie within comes before them.
        located.sort_by_key(|it| it.path.text().len());
        let scheme = if server.listens.iter().any(|listen| listen.is_tls) { "https" } else { "http" };
        let named: Vec<Option<&str>> = server.hosts.iter().map(|host| Some(host.as_str())).collect();
        // `$host` is another in each, so that each has a route of its own.
        let needs_host = |it: &LocatedBlock<'_>| {
            let own = it.scope.own(&["return"]).is_some_and(|it| it.shown().contains("host"));
            own && named.len() > 1
        };
        let base = FlatLocation {
            entries: [("limit_request_body", body.clone())].into(),
            ..FlatLocation::default()
        };
        let mut written: Vec<(LocationPath, FlatLocation)> = Vec::new();
        for it in &located {
            let choices = if needs_host(it) { named.clone() } else { vec![named.first().copied().flatten()] };
            for host in choices {
                let location = NginxLocation {
                    site,
                    server: server.block,
                    scope: &it.scope,
                    path: &it.path,
                    place: &it.place,
                    host,
                    scheme,
                };
                let mut flat = location.flat(self);
                let around = written.iter().rev().find(|(path, _)| contains(path, &it.path));
                let around = around.map_or(&base, |(_, flat)| flat).clone();
                let mut route = MigratedRoute::at(&it.place);
                match needs_host(it) {
                    true => route.set("host", host.unwrap_or_default()),
                    false => set_hosts(&mut route, hosts),
                }
                self.write(it, route, &mut flat, &around, site);
                if it.rewrite.is_none() {
                    written.push((it.path.clone(), flat));
                }
            }
        }
        self.take_rewrites(server, hosts);
    }

    /// Writes of a location what differs from the route around it. What a route cannot take back stays in `flat`.
    fn write(
        &mut self,
        it: &LocatedBlock<'_>,
        mut route: MigratedRoute,
        flat: &mut FlatLocation,
        around: &FlatLocation,
        site: &NginxSite<'_>,
    ) {
        if flat.response.is_none() && !it.path.text().is_empty() {
            refuse_unserved(flat, around);
        }
        let rewrite = it.rewrite.as_ref().filter(|_| flat.response == Some(LocationResponse::Application));
        match &it.path {
            LocationPath::Prefix(path) if rewrite.is_some() => {
                route.set("exact", format!("{path}/{{rest…}}"));
            }
            LocationPath::Exact(path) => route.set("exact", path.as_str()),
            LocationPath::Prefix(path) if path.is_empty() => {}
            LocationPath::Prefix(path) => route.set("path", path.as_str()),
        }
        if let Some(rewrite) = rewrite {
            route.set("rewrite", rewrite.as_str());
        }
        let is_root = it.path.text().is_empty();
        if flat.response.is_none() && flat.is_bare && !is_root {
            self.notes.push(format!(
                "{}: location: left out, it names no folder, and nginx looks into its own, html",
                it.place
            ));
        }
        match &flat.response {
            response if *response == around.response && rewrite.is_none() => {}
            None if is_root => {}
            None => return, // What stands there has been told of.
            Some(response) => set_response(&mut route, response, &it.path),
        }
        self.tell_wider(it, flat, around);
        site.settle(GUARDS.iter().flat_map(|(_, names)| it.scope.all(names)));
        let response = flat.response.clone();
        let keys: Vec<&'static str> = flat.entries.keys().chain(around.entries.keys()).copied().collect();
        for key in keys {
            let (own, theirs) = (flat.entries.get(key).cloned(), around.entries.get(key));
            let own = own.or_else(|| reset(key, theirs.is_some(), response.as_ref()));
            match own {
                Some(own) if Some(&own) == theirs => {}
                Some(own) => {
                    route.set(key, own.clone());
                    flat.entries.insert(key, own);
                }
                None => {
                    let Some(theirs) = theirs else { continue };
                    if matches!(key, "auth" | "limit") {
                        self.problems.push(format!(
                            "{}: location: nginx has no {key} here, the route has that of the route around it",
                            it.place
                        ));
                    }
                    flat.entries.insert(key, theirs.clone());
                }
            }
        }
        self.write_headers(it, &mut route, flat, around);
        if route.says_something() {
            self.add_route(route);
        }
    }

    /// Tells of a guard that is not for all paths of a location's route, as these are more than the location's.
    fn tell_wider(&mut self, it: &LocatedBlock<'_>, flat: &FlatLocation, around: &FlatLocation) {
        let is_lost = |key: &&str| {
            around.entries.contains_key(*key) && flat.entries.get(*key) != around.entries.get(*key)
        };
        if it.is_wider
            && let Some(key) = GUARDS.iter().map(|(key, _)| *key).find(is_lost)
        {
            self.problems.push(format!(
                "{}: location: its route has more paths than it, and has not the {key} of the route around it",
                it.place
            ));
        }
    }

    /// Writes the headers of a location that the route around it has not.
    fn write_headers(
        &mut self,
        it: &LocatedBlock<'_>,
        route: &mut MigratedRoute,
        flat: &mut FlatLocation,
        around: &FlatLocation,
    ) {
        for (name, value) in &flat.headers {
            if around.headers.get(name) != Some(value) {
                route.set_header(name, value.clone());
            }
        }
        let lost = around.headers.iter().filter(|(name, _)| !flat.headers.contains_key(*name));
        let lost: Vec<(String, Toml)> = lost.map(|(name, value)| (name.clone(), value.clone())).collect();
        if !lost.is_empty() {
            let names = lost.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
            self.notes.push(format!(
                "{}: location: a route has the headers of the route around it, so it keeps {names}, which nginx \
                 does not send here",
                it.place
            ));
            flat.headers.extend(lost);
        }
    }

    /// All locations of a server, the server itself first.
    fn located<'d>(
        &mut self,
        server: &NginxServer<'d>,
        scope: &NginxScope<'d>,
        hosts: &[String],
        site: &NginxSite<'_>,
    ) -> Vec<LocatedBlock<'d>> {
        let mut all = Vec::new();
        // A server that returns has no use for its locations.
        let returns = server.block.iter().any(|it| it.name == "return");
        if !returns {
            self.locations(server.block, scope, &mut all, site);
        }
        self.conditions(server.block, scope, &LocationPath::Prefix(String::new()), hosts, site);
        self.tell_other_order(&all);
        let is_within = |outer: &&LocatedBlock<'_>, inner: &LocatedBlock<'_>| {
            outer.rewrite.is_some() && outer.path != inner.path && contains(&outer.path, &inner.path)
        };
        for inner in &all {
            if let Some(outer) = all.iter().find(|outer| is_within(outer, inner)) {
                self.problems.push(format!(
                    "{}: location: the one in {} gives its requests another path, and so is before all within it",
                    inner.place, outer.place
                ));
            }
        }
        if !all.iter().any(|it: &LocatedBlock<'_>| it.path == LocationPath::Prefix(String::new())) {
            let path = LocationPath::Prefix(String::new());
            all.push(LocatedBlock {
                place: server.place.to_owned(),
                path,
                scope: scope.clone(),
                rewrite: None,
                kind: LocationKind::Prefix,
                is_guarded: is_guarded(server.block),
                is_wider: false,
            });
        }
        all
    }

    fn locations<'d>(
        &mut self,
        block: &'d [NginxDirective],
        scope: &NginxScope<'d>,
        all: &mut Vec<LocatedBlock<'d>>,
        site: &NginxSite<'_>,
    ) {
        for it in block.iter().filter(|it| it.name == "location") {
            let Some(inner) = &it.block else { continue };
            let within = scope.within(inner);
            let kind = match it.arguments.first().map(String::as_str) {
                Some("=" | "^~") => LocationKind::Final,
                Some("~" | "~*") => LocationKind::Regex,
                _ => LocationKind::Prefix,
            };
            for LocatedPath { path, is_wider } in self.paths(it, inner, site) {
                let rewrite = rewrite_of(inner, it.arguments.last().map_or("", String::as_str), &path);
                let rewrite = rewrite.unwrap_or_else(|why| {
                    self.problems.push(format!("{}: {}: {why}", it.place, it.shown()));
                    None
                });
                all.push(LocatedBlock {
                    place: it.place.clone(),
                    path,
                    scope: within.clone(),
                    rewrite,
                    kind,
                    is_guarded: is_guarded(inner),
                    is_wider,
                });
            }
            self.locations(inner, &within, all, site);
        }
    }

    /// All `if`s of a server and its locations.
    fn conditions(
        &mut self,
        block: &[NginxDirective],
        scope: &NginxScope<'_>,
        path: &LocationPath,
        hosts: &[String],
        site: &NginxSite<'_>,
    ) {
        for it in block {
            match (it.name.as_str(), &it.block) {
                ("if", Some(inner)) => {
                    site.settle([it]);
                    self.condition(it, inner, scope, path, hosts);
                }
                ("location", Some(inner)) => {
                    let at = match &it.arguments[..] {
                        [path] if !path.starts_with('@') => {
                            LocationPath::Prefix(path.trim_end_matches('/').to_owned())
                        }
                        [operator, path] if operator == "=" => LocationPath::Exact(path.clone()),
                        [operator, path] if operator == "^~" => {
                            LocationPath::Prefix(path.trim_end_matches('/').to_owned())
                        }
                        _ => continue, // What it has of them is told of as lost.
                    };
                    self.conditions(inner, &scope.within(inner), &at, hosts, site);
                }
                _ => {}
            }
        }
    }

    /// `if (-f FILE) { return STATUS; }`, the only condition that a route has.
    fn condition(
        &mut self,
        directive: &NginxDirective,
        inner: &[NginxDirective],
        scope: &NginxScope<'_>,
        path: &LocationPath,
        hosts: &[String],
    ) {
        let words = directive.arguments.join(" ");
        let file = words.strip_prefix("(-f ").and_then(|rest| rest.strip_suffix(')'));
        let root = scope.last("root").map_or("", NginxDirective::first).trim_end_matches('/');
        let file = file.map(|file| file.replace("$document_root", root));
        match (file, inner) {
            (Some(file), [only])
                if only.name == "return" && !file.contains('$') && only.arguments.len() == 1 =>
            {
                let mut route = MigratedRoute::at(&directive.place);
                set_hosts(&mut route, hosts);
                match path {
                    LocationPath::Prefix(path) if path.is_empty() => {}
                    LocationPath::Prefix(path) => route.set("path", path.as_str()),
                    LocationPath::Exact(path) => route.set("exact", path.as_str()),
                }
                route.set("if_file", file);
                route.set("respond", only.first().parse::<i64>().unwrap_or_default());
                self.add_route(route);
            }
            _ => self.problems.push(format!(
                "{}: {}: left out, routes have no such condition",
                directive.place,
                directive.shown()
            )),
        }
    }

    /// `rewrite` of a server or a location that redirects.
    fn take_rewrites(&mut self, server: &NginxServer<'_>, hosts: &[String]) {
        let mut open: Vec<&NginxDirective> = server.block.iter().rev().collect();
        while let Some(it) = open.pop() {
            if it.name == "location" {
                open.extend(it.block.iter().flatten().rev());
            }
            if it.name != "rewrite" {
                continue;
            }
            if let Err(why) = self.rewrite(it, hosts) {
                self.problems.push(format!("{}: {}: left out, {why}", it.place, it.shown()));
            }
        }
    }

    fn rewrite(&mut self, it: &NginxDirective, hosts: &[String]) -> Result<(), &'static str> {
        let [regex, to, flags @ ..] = &it.arguments[..] else { return Err("it leads nowhere") };
        let status = match flags.first().map(String::as_str) {
            Some("permanent") => 301,
            Some("redirect") => 302,
            None if to.starts_with("http://") || to.starts_with("https://") => 302,
            _ => return Err("a route changes no path for other routes; redirect, or say rewrite in a route"),
        };
        let found = path_regex::read(regex).ok_or("no route can say which paths it is for")?;
        for paths in found {
            let mut route = MigratedRoute::at(&it.place);
            set_hosts(&mut route, hosts);
            match &paths.place {
                RegexPlace::Exact(path) => route.set("exact", path.as_str()),
                RegexPlace::Prefix(path) => route.set("path", path.as_str()),
                _ => return Err("no route can say which paths it is for"),
            }
            let to = path_regex::fill(to.trim_end_matches('?'), &paths.captures);
            let to = to.ok_or("where it leads cannot be said in a route")?;
            for remark in &paths.remarks {
                self.notes.push(format!("{}: {}: {remark}", it.place, it.shown()));
            }
            route.set("redirect", to);
            if status != 302 {
                route.set("status", status);
            }
            self.add_route(route);
        }
        Ok(())
    }
}

/// Has a location without a response refuse what its guards are for, where the route around it has other guards:
/// nginx looks into a folder of its own, where nothing is.
fn refuse_unserved(flat: &mut FlatLocation, around: &FlatLocation) {
    let is_own =
        |key: &str| flat.entries.contains_key(key) && flat.entries.get(key) != around.entries.get(key);
    if !GUARDS.iter().any(|(key, _)| is_own(key)) {
        return;
    }
    let is_nobody = flat.entries.get("allow") == Some(&Toml::Array(Vec::new()));
    if is_nobody {
        flat.entries.remove("allow");
        flat.entries.extend(around.entries.get("allow").map(|allow| ("allow", allow.clone())));
    }
    flat.response = Some(LocationResponse::Status(if is_nobody { 403 } else { 404 }));
}

fn set_response(route: &mut MigratedRoute, response: &LocationResponse, path: &LocationPath) {
    match response {
        LocationResponse::Application => route.set("app", true),
        LocationResponse::Status(status) => route.set("respond", *status),
        LocationResponse::Redirect { to, status } => {
            route.set("redirect", to.as_str());
            route.set("status", *status);
        }
        LocationResponse::Files { folder, alias_of: None } => match path {
            // A route takes its path off before it looks for the file.
            LocationPath::Prefix(path) => route.set("static", format!("{folder}{path}")),
            LocationPath::Exact(_) => route.set("static", folder.as_str()),
        },
        LocationResponse::Files { folder, alias_of: Some(_) } => match path {
            LocationPath::Prefix(_) => route.set("static", folder.as_str()),
            LocationPath::Exact(path) => {
                // It names the file itself.
                let (parent, name) = folder.rsplit_once('/').unwrap_or((".", folder));
                route.set("static", if parent.is_empty() { "/" } else { parent });
                if *path != format!("/{name}") {
                    route.set("rewrite", format!("/{name}"));
                }
            }
        },
    }
}

/// What a route says so that it does not have what the route around it has; `None` where it cannot.
fn reset(key: &str, is_inherited: bool, response: Option<&LocationResponse>) -> Option<Toml> {
    if !is_inherited {
        return None;
    }
    let has_files = matches!(response, Some(LocationResponse::Files { .. }));
    let is_application = response == Some(&LocationResponse::Application);
    Some(match key {
        "allow" => Toml::from(vec!["0.0.0.0/0", "::/0"]),
        "deny" => Toml::Array(Vec::new()),
        "internal" => Toml::from(false),
        "listing" if has_files => Toml::from(false),
        "compress" | "intercept" | "stream_request_body" if is_application => Toml::from(false),
        "fallback" if has_files => Toml::from(404),
        "index" if has_files => Toml::from(vec!["index.html"]),
        "max_age" if has_files => Toml::from("1m"),
        "timeout" if is_application => Toml::from(TIMEOUT_SECONDS),
        _ => return None,
    })
}

/// Whether a route for `outer` is around one for `inner`.
pub(super) fn contains(outer: &LocationPath, inner: &LocationPath) -> bool {
    let LocationPath::Prefix(outer) = outer else { return false };
    inner.text().strip_prefix(outer.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn set_hosts(route: &mut MigratedRoute, hosts: &[String]) {
    match hosts {
        [] => {}
        [host] => route.set("host", host.as_str()),
        hosts => route.set("host", hosts.to_vec()),
    }
}

/// The path with which a location passes its requests on, where it is not their own: `proxy_pass http://app/`.
/// nginx puts it in the place of the location's, which is written as `text`.
///
/// # Errors
/// Why a route cannot say it.
fn rewrite_of(
    inner: &[NginxDirective],
    text: &str,
    path: &LocationPath,
) -> Result<Option<String>, &'static str> {
    let passed = inner.iter().find(|it| PASSES.contains(&it.name.as_str()));
    let Some(to) = passed.and_then(passed_path) else { return Ok(None) };
    if to.contains('$') {
        return Err("the path that requests are passed on with has variables");
    }
    if to == text {
        return Ok(None);
    }
    match path {
        LocationPath::Exact(_) => Ok(Some(to.to_owned())),
        // `location /a` with `/` makes //x of /a/x, which is meant for /x.
        LocationPath::Prefix(_) if text.ends_with('/') == to.ends_with('/') || to == "/" => {
            Ok(Some(format!("{}/{{rest}}", to.trim_end_matches('/'))))
        }
        LocationPath::Prefix(_) => Err("its path and that of proxy_pass do not both end with a slash"),
    }
}
