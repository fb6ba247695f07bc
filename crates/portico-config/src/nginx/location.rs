//! One location of nginx with all that counts for it: its own directives, and those of the blocks around it where
//! it has none of the kind.

use std::collections::BTreeMap;

use toml::Value as Toml;

use super::syntax::NginxDirective;
use super::values::{access, limit, seconds, size, target};
use super::{NginxSite, OTHER_PASSES, PASSES, passed_to};
use crate::draft::MigrationDraft;

/// The blocks around a place, the innermost last.
#[derive(Clone, Default)]
pub(super) struct NginxScope<'d> {
    levels: Vec<Vec<&'d NginxDirective>>,
}

/// What responds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LocationResponse {
    Application,
    /// The files of this folder, to which the whole path is added (`root`), or what is below a location (`alias`).
    Files {
        folder: String,
        alias_of: Option<String>,
    },
    Redirect {
        to: String,
        status: i64,
    },
    Status(i64),
}

/// What counts for a location, in the keys of a route.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FlatLocation {
    pub response: Option<LocationResponse>,
    /// Nothing in it says what responds, so that nginx looks into a folder of its own.
    pub is_bare: bool,
    pub entries: BTreeMap<&'static str, Toml>,
    pub headers: BTreeMap<String, Toml>,
}

/// The path of a location, without regular expressions; `/` is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LocationPath {
    Prefix(String),
    Exact(String),
}

/// The largest body that nginx takes where nothing is said of it.
pub(super) const BODY_MAX: &str = "1m";
/// How long nginx waits for a response where nothing is said of it.
pub(super) const TIMEOUT_SECONDS: i64 = 60;
/// What `expires max` is here.
const FOREVER_SECONDS: i64 = 365 * 86_400;

impl<'d> NginxScope<'d> {
    pub(super) fn of(directives: impl IntoIterator<Item = &'d NginxDirective>) -> Self {
        Self { levels: vec![directives.into_iter().collect()] }
    }

    /// The scope of a block within.
    pub(super) fn within(&self, block: &'d [NginxDirective]) -> Self {
        let mut levels = self.levels.clone();
        levels.push(block.iter().collect());
        Self { levels }
    }

    /// The directives of these names in the innermost block that has any, as nginx inherits lists.
    pub(super) fn all(&self, names: &[&str]) -> Vec<&'d NginxDirective> {
        let of = |level: &Vec<&'d NginxDirective>| -> Vec<&'d NginxDirective> {
            level.iter().copied().filter(|it| names.contains(&it.name.as_str())).collect()
        };
        self.levels.iter().rev().map(of).find(|found| !found.is_empty()).unwrap_or_default()
    }

    pub(super) fn last(&self, name: &str) -> Option<&'d NginxDirective> {
        self.all(&[name]).last().copied()
    }

    /// The directives of the innermost block alone: what responds is not inherited.
    pub(super) fn own(&self, names: &[&str]) -> Option<&'d NginxDirective> {
        self.levels.last()?.iter().copied().find(|it| names.contains(&it.name.as_str()))
    }

    fn is_on(&self, name: &str) -> bool {
        self.last(name).is_some_and(NginxDirective::is_on)
    }
}

impl LocationPath {
    pub(super) fn text(&self) -> &str {
        let (Self::Prefix(path) | Self::Exact(path)) = self;
        path
    }
}

/// A location that is being worked out.
pub(super) struct NginxLocation<'s, 'd> {
    pub site: &'s NginxSite<'d>,
    /// The directives of its server, among which named locations are.
    pub server: &'d [NginxDirective],
    pub scope: &'s NginxScope<'d>,
    pub path: &'s LocationPath,
    /// File and line of it.
    pub place: &'s str,
    /// What `$host` and `$scheme` stand for.
    pub host: Option<&'s str>,
    pub scheme: &'s str,
}

impl NginxLocation<'_, '_> {
    /// All that counts for it. What a route cannot say is told.
    pub(super) fn flat(&self, draft: &mut MigrationDraft) -> FlatLocation {
        let mut flat = FlatLocation {
            response: self.response(draft),
            is_bare: self.scope.own(&OTHER_PASSES).is_none() && !self.says_response(),
            ..FlatLocation::default()
        };
        let mut fallback = None;
        if let Some(LocationResponse::Files { .. }) = flat.response {
            fallback = self.fallback(draft);
        }
        match &flat.response {
            Some(LocationResponse::Files { .. }) => self.add_files(&mut flat, fallback, draft),
            Some(LocationResponse::Application) => self.add_application(&mut flat, draft),
            _ => {}
        }
        self.add_internal(&mut flat, draft);
        self.add_error_pages(&mut flat, draft);
        self.add_access(&mut flat, draft);
        self.add_limit(&mut flat, draft);
        self.add_headers(&mut flat, draft);
        flat
    }

    fn response(&self, draft: &mut MigrationDraft) -> Option<LocationResponse> {
        if let Some(returned) = self.scope.own(&["return"]) {
            return self.returned(returned, draft);
        }
        if let Some(passed) = self.scope.own(&PASSES) {
            return self.passed(passed, draft);
        }
        if self.scope.own(&OTHER_PASSES).is_some() {
            return None; // Told of with the directive.
        }
        let tries = self.scope.own(&["try_files"]);
        let folder = self.scope.all(&["root", "alias"]);
        match (folder.last(), tries) {
            (Some(said), _) if said.first().contains('$') => {
                draft.problems.push(format!("{}: {}: routes have no variables", said.place, said.shown()));
                None
            }
            (Some(said), _) if said.name == "alias" && self.scope.own(&["alias"]).is_none() => {
                draft.problems.push(format!(
                    "{}: location: left out, it has the alias of the location around it",
                    self.place
                ));
                None
            }
            (Some(said), _) => {
                if !said.first().starts_with('/') {
                    draft.problems.push(format!(
                        "{}: {}: it is relative to the folder of nginx, which is not known here; write all of it",
                        said.place,
                        said.shown()
                    ));
                }
                let folder = match said.first().trim_end_matches('/') {
                    "" => "/",
                    folder => folder,
                };
                let alias_of = (said.name == "alias").then(|| self.path.text().to_owned());
                Some(LocationResponse::Files { folder: folder.to_owned(), alias_of })
            }
            // `try_files @app` without any folder leads to the application at once.
            (None, Some(tries)) => self.named(tries.arguments.last().map_or("", String::as_str), draft),
            (None, None) => None,
        }
    }

    /// Whether anything says what responds.
    fn says_response(&self) -> bool {
        let own = self.scope.own(&["return", "try_files"]).or_else(|| self.scope.own(&PASSES));
        own.is_some() || !self.scope.all(&["root", "alias"]).is_empty()
    }

    fn passed(&self, passed: &NginxDirective, draft: &mut MigrationDraft) -> Option<LocationResponse> {
        if passed_to(passed) != self.site.application {
            draft.problems.push(format!(
                "{}: {}: left out, there is no proxy in this version, and one application is served",
                passed.place,
                passed.shown()
            ));
            return None;
        }
        Some(LocationResponse::Application)
    }

    /// `return CODE`, `return CODE TEXT`, `return CODE URL`, `return URL`.
    fn returned(&self, returned: &NginxDirective, draft: &mut MigrationDraft) -> Option<LocationResponse> {
        let arguments: Vec<&str> = returned.arguments.iter().map(String::as_str).collect();
        let (status, text) = match arguments[..] {
            [status] if status.parse::<i64>().is_ok() => (status.parse().unwrap_or(0), None),
            [url] => (302, Some(url)),
            [status, text, ..] => (status.parse().unwrap_or(0), Some(text)),
            [] => (0, None),
        };
        let mut problem = |why: &str| {
            draft.problems.push(format!("{}: {}: left out, {why}", returned.place, returned.shown()));
            None
        };
        match (status, text) {
            (301 | 302 | 303 | 307 | 308, Some(url)) => match target(url, self.host, self.scheme) {
                Some(to) if !to.contains('$') => Some(LocationResponse::Redirect { to, status }),
                _ => problem("where it leads cannot be said in a route"),
            },
            (444, _) => problem("no connection is closed without a response; write respond = 404"),
            (200..=599, text) => {
                if text.is_some_and(|text| !text.is_empty()) {
                    draft.notes.push(format!(
                        "{}: {}: the text is left out; write it to a file and name that with page",
                        returned.place,
                        returned.shown()
                    ));
                }
                Some(LocationResponse::Status(status))
            }
            _ => problem("it is no status that can be sent"),
        }
    }

    /// What a named location responds, if that is the application.
    fn named(&self, name: &str, draft: &mut MigrationDraft) -> Option<LocationResponse> {
        let block = self.named_block(name)?;
        let passed = block.iter().find(|it| PASSES.contains(&it.name.as_str()))?;
        self.passed(passed, draft)
    }

    fn named_block(&self, name: &str) -> Option<&[NginxDirective]> {
        let named = self.server.iter().find(|it| it.name == "location" && it.first() == name);
        named.filter(|_| name.starts_with('@'))?.block.as_deref()
    }

    /// What responds for a file that is not there, as `try_files` says it.
    fn fallback(&self, draft: &mut MigrationDraft) -> Option<Toml> {
        let tries = self.scope.own(&["try_files"])?;
        let (last, tried) = tries.arguments.split_last()?;
        let mut problem = |why: &str| {
            draft.problems.push(format!("{}: {}: {why}", tries.place, tries.shown()));
            None
        };
        if let Some(other) =
            tried.iter().find(|it| !matches!(it.as_str(), "$uri" | "$uri/" | "$uri/index.html"))
        {
            return problem(&format!("{other} is not tried; a route tries the path itself, and its index"));
        }
        let file = last.split('?').next().unwrap_or_default();
        match last.as_str() {
            "=404" => None,
            _ if last.starts_with('=') => problem("only 404 is sent for files that are not there"),
            name if name.starts_with('@') => match self.named(name, draft) {
                Some(_) => Some(Toml::from("app")),
                None => {
                    draft.problems.push(format!(
                        "{}: {}: {name} is no application",
                        tries.place,
                        tries.shown()
                    ));
                    None
                }
            },
            _ if file.contains('$')
                || !file.starts_with('/')
                || file.ends_with('/')
                || file.ends_with(".php") =>
            {
                problem("what it falls back to cannot be said in a route")
            }
            _ => {
                let below = file.strip_prefix(self.path.text()).filter(|below| below.starts_with('/'));
                match below {
                    Some(below) => {
                        draft.notes.push(format!(
                            "{}: {}: {file} is for navigation of browsers; other files that are not there are 404",
                            tries.place,
                            tries.shown()
                        ));
                        Some(Toml::from(below))
                    }
                    None => problem("the file is not below the location"),
                }
            }
        }
    }

    fn add_files(&self, flat: &mut FlatLocation, fallback: Option<Toml>, draft: &mut MigrationDraft) {
        let entries = &mut flat.entries;
        entries.extend(fallback.map(|fallback| ("fallback", fallback)));
        if self.scope.is_on("autoindex") {
            entries.insert("listing", true.into());
        }
        if let Some(index) = self.scope.last("index") {
            let is_plain = |name: &&String| !name.contains(['/', '$']) && !name.ends_with(".php");
            let names: Vec<String> = index.arguments.iter().filter(is_plain).cloned().collect();
            if names != ["index.html"] && names != ["index.html", "index.htm"] {
                entries.insert("index", names.into());
            }
        }
        if let Some(age) = self.expires(draft) {
            entries.insert("max_age", age.into());
        }
    }

    /// `internal`: files alone can be had by X-Accel-Redirect, and everything else by nobody.
    fn add_internal(&self, flat: &mut FlatLocation, draft: &mut MigrationDraft) {
        let Some(internal) = self.scope.own(&["internal"]) else { return };
        if let Some(LocationResponse::Files { .. }) = flat.response {
            flat.entries.insert("internal", true.into());
            return;
        }
        draft.notes.push(format!(
            "{}: internal: written as respond = 404; X-Accel-Redirect leads to files alone",
            internal.place
        ));
        *flat = FlatLocation { response: Some(LocationResponse::Status(404)), ..FlatLocation::default() };
    }

    /// Seconds for which clients may keep a response.
    fn expires(&self, draft: &mut MigrationDraft) -> Option<i64> {
        let expires = self.scope.last("expires")?;
        match expires.arguments.last()?.as_str() {
            "off" => None,
            "max" => Some(FOREVER_SECONDS),
            "epoch" | "-1" | "0" => Some(0),
            text => {
                let age = seconds(text).filter(|_| expires.arguments.len() == 1);
                if age.is_none() {
                    draft.problems.push(format!(
                        "{}: {}: left out, a route has one age in seconds",
                        expires.place,
                        expires.shown()
                    ));
                }
                // Longer than a year is as good as a year (RFC 2616, section 14.21).
                age.map(|age| age.min(FOREVER_SECONDS))
            }
        }
    }

    fn add_application(&self, flat: &mut FlatLocation, draft: &mut MigrationDraft) {
        let body =
            self.scope.last("client_max_body_size").map_or(Toml::from(BODY_MAX), |it| size(it.first()));
        flat.entries.insert("limit_request_body", body);
        let timeout = self.scope.last("proxy_read_timeout").or_else(|| self.scope.last("uwsgi_read_timeout"));
        if let Some(timeout) = timeout {
            match seconds(timeout.first()) {
                Some(seconds) => _ = flat.entries.insert("timeout", seconds.into()),
                None => draft.problems.push(format!("{}: {}: it is no time", timeout.place, timeout.shown())),
            }
        }
        for (directive, key) in [("gzip", "compress"), ("proxy_intercept_errors", "intercept")] {
            if self.scope.is_on(directive) {
                flat.entries.insert(key, true.into());
            }
        }
        if self.scope.last("proxy_request_buffering").is_some_and(|it| it.first() == "off") {
            flat.entries.insert("stream_request_body", true.into());
        }
        if let Some(age) = self.expires(draft) {
            let value = if age == 0 { "no-cache".to_owned() } else { format!("max-age={age}") };
            flat.headers.insert("Cache-Control".to_owned(), value.into());
        }
        for hidden in self.scope.all(&["proxy_hide_header"]) {
            flat.headers.insert(hidden.first().to_owned(), false.into());
        }
    }

    /// The folder of pages for errors, where each has the name that it must have.
    fn add_error_pages(&self, flat: &mut FlatLocation, draft: &mut MigrationDraft) {
        let said = self.scope.all(&["error_page"]);
        let root = self.scope.last("root").map_or("", NginxDirective::first).trim_end_matches('/');
        let mut folders: Vec<String> = Vec::new();
        for it in &said {
            let page = match &it.arguments[..] {
                [status, page] => page.rsplit_once('/').filter(|(_, name)| *name == format!("{status}.html")),
                _ => None,
            };
            match page {
                Some((folder, _)) if !root.is_empty() && !folder.contains('$') && !folder.contains("//") => {
                    folders.push(format!("{root}{folder}"));
                }
                _ => draft.notes.push(format!(
                    "{}: {}: left out; put pages named 404.html, 5xx.html and so on into a folder, and name that \
                     with error_pages",
                    it.place,
                    it.shown()
                )),
            }
        }
        folders.dedup();
        if let [folder] = &folders[..] {
            flat.entries.insert("error_pages", folder.as_str().into());
        } else if let Some(it) = said.first().filter(|_| folders.len() > 1) {
            draft.notes.push(format!("{}: error_page: left out, a route has one folder of pages", it.place));
        }
    }

    fn add_access(&self, flat: &mut FlatLocation, draft: &mut MigrationDraft) {
        let rules = self.scope.all(&["allow", "deny"]);
        match access(&rules) {
            Ok(found) => {
                flat.entries.extend(found.allow.map(|allow| ("allow", allow.into())));
                if !found.deny.is_empty() {
                    flat.entries.insert("deny", found.deny.into());
                }
            }
            Err(why) => {
                let place = rules.first().map_or(self.place, |rule| &rule.place);
                draft.problems.push(format!("{place}: allow and deny: left out, {why}"));
            }
        }
        let realm = self.scope.last("auth_basic").filter(|it| it.first() != "off");
        match (realm, self.scope.last("auth_basic_user_file")) {
            (Some(_), Some(file)) if file.first().contains('$') => {
                draft.problems.push(format!("{}: {}: routes have no variables", file.place, file.shown()));
            }
            (Some(realm), Some(file)) => {
                flat.entries.insert("auth", file.first().into());
                draft.notes.push(format!("{}: {}: the realm is left out", realm.place, realm.shown()));
            }
            (Some(realm), None) => {
                draft.problems.push(format!("{}: {}: no file of users is named", realm.place, realm.shown()));
            }
            (None, _) => {}
        }
    }

    fn add_limit(&self, flat: &mut FlatLocation, draft: &mut MigrationDraft) {
        let zones: Vec<&NginxDirective> =
            self.site.http.iter().copied().filter(|it| it.name == "limit_req_zone").collect();
        let limits = self.scope.all(&["limit_req"]);
        let has_status = self.scope.last("limit_req_status").is_some_and(|it| it.first() == "429");
        if let (Some(directive), false) = (limits.first(), has_status) {
            draft.notes.push(format!(
                "{}: {}: what is beyond the limit gets 429, not 503",
                directive.place,
                directive.shown()
            ));
        }
        for (index, directive) in limits.iter().enumerate() {
            let read = match index {
                0 => limit(directive, &zones, self.scope.is_on("limit_req_dry_run")),
                _ => Err("a route has one limit"),
            };
            match read {
                Ok((value, remarks)) => {
                    flat.entries.insert("limit", value);
                    for remark in remarks {
                        draft.notes.push(format!("{}: {}: {remark}", directive.place, directive.shown()));
                    }
                }
                Err(why) => draft.problems.push(format!(
                    "{}: {}: left out, {why}",
                    directive.place,
                    directive.shown()
                )),
            }
        }
    }

    fn add_headers(&self, flat: &mut FlatLocation, draft: &mut MigrationDraft) {
        for header in self.scope.all(&["add_header"]) {
            let [name, value, ..] = &header.arguments[..] else { continue };
            if value.contains('$') {
                draft.problems.push(format!(
                    "{}: {}: left out, values of headers have no variables",
                    header.place,
                    header.shown()
                ));
            } else if !value.is_empty() {
                flat.headers.insert(name.clone(), value.as_str().into());
            }
        }
    }
}
