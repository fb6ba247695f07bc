//! From a request's head to a decision: the most specific route for host, path and method, and what follows.

mod build;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portico_config::{Route, RouteResponse};

use crate::decision::{ApplicationCall, FileLookup, Refusal, RouteAction, RouteDecision};
use crate::flat::FlatRoute;
use crate::host::RequestHost;
use crate::path::RequestPath;
use crate::pattern::Captures;
use crate::redirect::location;
use crate::trie::{Match, Trie};

/// All routes, ready to decide.
#[derive(Debug)]
pub struct EdgeRouter {
    /// The last one is for all that no other route takes.
    routes: Vec<Arc<FlatRoute>>,
    sources: Vec<Route>,
    exact_hosts: HashMap<String, Trie>,
    hosts_below: HashMap<String, Trie>,
    any_host: Trie,
    /// Routes with `if_file`, the most specific first.
    with_file: Vec<u32>,
    files: Vec<PathBuf>,
    is_idle: bool,
    /// Whether there is a main application.
    has_main: bool,
    names_hosts: bool,
    /// Whether hosts that no route names have anything that responds.
    serves_any_host: bool,
    /// Manifests that are none.
    unread: Vec<String>,
}

/// What of a request's head decides about its route.
#[derive(Clone, Copy, Debug)]
pub struct RouteRequest<'q> {
    /// As it was sent.
    pub method: &'q [u8],
    /// The path of the target, as it was sent.
    pub path: &'q [u8],
    /// What follows the `?`.
    pub query: Option<&'q [u8]>,
    /// The host that the request is for, as it is believed.
    pub host: Option<&'q [u8]>,
}

/// What the router needs of the world when it is made.
pub trait RouteFiles {
    /// The content of a file that a route names.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&mut self, path: &Path) -> std::io::Result<Vec<u8>>;
}

impl<F: FnMut(&Path) -> std::io::Result<Vec<u8>>> RouteFiles for F {
    fn read(&mut self, path: &Path) -> std::io::Result<Vec<u8>> {
        self(path)
    }
}

impl EdgeRouter {
    /// The files that routes ask for with `if_file`, in the order in which [`EdgeRouter::decide`] wants to know of
    /// them.
    pub fn watched_files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The manifests of static files that could not be used, and why: a line each.
    pub fn unread_manifests(&self) -> &[String] {
        &self.unread
    }

    /// Whether routes are for hosts, so that it counts which one a request names.
    pub fn names_hosts(&self) -> bool {
        self.names_hosts
    }

    /// Whether every request is the application's, with nothing to be done about it.
    pub fn is_idle(&self) -> bool {
        self.is_idle
    }

    /// The routes with all that they inherit.
    pub fn routes(&self) -> &[Arc<FlatRoute>] {
        &self.routes
    }

    /// The route that takes what no other takes: of requests of which nothing is known, too.
    pub fn root(&self) -> &Arc<FlatRoute> {
        self.flat(self.last())
    }

    /// The route of a request and what responds to it. `present` says of each of [`EdgeRouter::watched_files`]
    /// whether it is there.
    pub fn decide(&self, request: &RouteRequest<'_>, present: &[bool]) -> RouteDecision<'_> {
        self.decide_below(b"", request, present)
    }

    /// As [`EdgeRouter::decide`], for a request whose path stood below `prefix`, as it was sent: that is no matter
    /// of routes, but a part of the whole path that redirects have in `{path}`. Empty, or without a slash at its
    /// end.
    pub fn decide_below(
        &self,
        prefix: &[u8],
        request: &RouteRequest<'_>,
        present: &[bool],
    ) -> RouteDecision<'_> {
        match self.route(request, present) {
            Ok((found, path)) => {
                let route = self.flat(found.route);
                let action = match &route.response {
                    RouteResponse::MainApplication if !self.has_main => {
                        RouteAction::Refuse(Refusal::NotFound)
                    }
                    _ => action(route, prefix, request, &path, &found.captures),
                };
                RouteDecision { route, action }
            }
            Err(refused) => {
                RouteDecision { route: self.flat(refused.route), action: RouteAction::Refuse(refused.why) }
            }
        }
    }

    /// The file that the application has named by X-Accel-Redirect, as a path in its normal form: that of the most
    /// specific route, if this one is internal and has files. It is looked for once, so that no chain comes of it.
    /// What the routes of the request's host do not have, those of the hosts above it may have, and then those for
    /// every host: one internal route is enough for an application with several hosts.
    pub fn internal(&self, host: Option<&[u8]>, path: &[u8]) -> Option<(&FlatRoute, FileLookup<'_>)> {
        let host = host.filter(|_| self.names_hosts).and_then(|host| RequestHost::parse(host).ok());
        let of_host = host.iter().flat_map(|host| self.tries_of(host));
        of_host.chain([&self.any_host]).find_map(|trie| {
            let found = trie.find(path, &|route| self.flat(route).takes(b"GET"))?;
            let route = self.flat(found.route);
            let RouteResponse::Files(folders) = &route.response else { return None };
            let below = path.strip_prefix(route.mount.as_bytes())?.to_vec();
            route.internal.then_some((&**route, FileLookup { folders, path: below }))
        })
    }

    /// The routes that name this host, then those for hosts below one that it is below, the closest first.
    fn tries_of<'r>(&'r self, host: &'r RequestHost<'_>) -> impl Iterator<Item = &'r Trie> {
        let exact = self.exact_hosts.get(host.name());
        let below = host.parents().filter_map(|parent| self.hosts_below.get(parent));
        exact.into_iter().chain(below)
    }

    /// The folders of internal routes, below which X-Sendfile may name a file.
    pub fn internal_folders(&self) -> Vec<PathBuf> {
        let folders =
            self.routes.iter().filter(|route| route.internal).filter_map(|route| match &route.response {
                RouteResponse::Files(folders) => Some(folders),
                _ => None,
            });
        let mut folders: Vec<PathBuf> = folders.flatten().cloned().collect();
        folders.sort();
        folders.dedup();
        folders
    }

    /// The route that counts for a request, before what responds is known.
    pub(crate) fn route<'q>(
        &self,
        request: &RouteRequest<'q>,
        present: &[bool],
    ) -> Result<(Match, RequestPath<'q>), RefusedRequest> {
        let refuse = |why: Refusal| RefusedRequest { route: self.last(), why };
        let host = match request.host.filter(|_| self.names_hosts) {
            Some(host) => Some(RequestHost::parse(host).map_err(|_| refuse(Refusal::BadRequest(HOST)))?),
            None => None,
        };
        if request.path == b"*" {
            // OPTIONS * is about the server, which has no path (RFC 9110, section 9.3.7).
            let found = Match { route: self.last(), captures: Captures::new() };
            let path = RequestPath::parse(b"/").map_err(|_| refuse(Refusal::BadRequest(PATH)))?;
            return Ok((found, path));
        }
        let path = RequestPath::parse(request.path).map_err(|_| refuse(Refusal::BadRequest(PATH)))?;
        let found = self.find(host.as_ref(), path.normal(), request.method, present);
        // What others may take the path for must lead to the same route, too.
        for (other, why) in [(path.spelling(), SPELLING), (path.folded(), BACKSLASH)] {
            let Some(other) = other else { continue };
            let other = self.find(host.as_ref(), other, request.method, present);
            if other.map(|other| other.route) != found.as_ref().map(|found| found.route) {
                return Err(refuse(Refusal::BadRequest(why)));
            }
        }
        match found {
            Some(found) => Ok((found, path)),
            None if self.serves_host(host.as_ref()) => {
                Err(refuse(match self.methods_of(host.as_ref(), path.normal()) {
                    methods if methods.is_empty() => Refusal::NotFound,
                    methods => Refusal::MethodNotAllowed(methods),
                }))
            }
            None => Err(refuse(Refusal::Misdirected)),
        }
    }

    fn find(
        &self,
        host: Option<&RequestHost<'_>>,
        path: &[u8],
        method: &[u8],
        present: &[bool],
    ) -> Option<Match> {
        if !self.with_file.is_empty()
            && let found @ Some(_) = self.find_with_file(host, path, method, present)
        {
            return found;
        }
        self.find_where(host, path, &|route| self.flat(route).takes(method))
    }

    fn find_where(
        &self,
        host: Option<&RequestHost<'_>>,
        path: &[u8],
        takes: &dyn Fn(u32) -> bool,
    ) -> Option<Match> {
        if let Some(host) = host
            && let found @ Some(_) = self.tries_of(host).find_map(|trie| trie.find(path, takes))
        {
            return found;
        }
        if !self.serves_any_host && self.names_hosts {
            return None;
        }
        self.any_host.find(path, takes)
    }

    /// The most specific of the routes whose file is there. There are few, and none for most.
    fn find_with_file(
        &self,
        host: Option<&RequestHost<'_>>,
        path: &[u8],
        method: &[u8],
        present: &[bool],
    ) -> Option<Match> {
        self.with_file.iter().find_map(|&route| {
            let flat = self.flat(route);
            let file = flat.if_file.as_ref()?;
            let at = self.files.iter().position(|other| other == file)?;
            let is_there = present.get(at).copied().unwrap_or(false);
            if !is_there || !flat.takes(method) || !build::is_for_host(flat.host.as_ref(), host) {
                return None;
            }
            // A trie of one route says how its path matches, captures and all.
            let mut trie = Trie::default();
            build::add(&mut trie, flat, route);
            trie.find(path, &|_| true)
        })
    }

    /// Whether requests for this host can have a route.
    fn serves_host(&self, host: Option<&RequestHost<'_>>) -> bool {
        let is_named = |host: &RequestHost<'_>| {
            self.exact_hosts.contains_key(host.name())
                || host.parents().any(|parent| self.hosts_below.contains_key(parent))
        };
        !self.names_hosts || self.serves_any_host || host.is_some_and(is_named)
    }

    /// The methods with which a request of this path would have a route.
    fn methods_of(&self, host: Option<&RequestHost<'_>>, path: &[u8]) -> Vec<String> {
        let mut methods: Vec<String> = self.routes.iter().flat_map(|route| route.methods.clone()).collect();
        methods.sort();
        methods.dedup();
        let has_route = |method: &str| {
            self.find_where(host, path, &|route| self.flat(route).takes(method.as_bytes())).is_some()
        };
        methods.retain(|method| has_route(method));
        methods
    }

    /// All routes that match a request, the most specific first.
    pub(crate) fn matching(&self, request: &RouteRequest<'_>, present: &[bool]) -> Vec<&FlatRoute> {
        let host = request.host.and_then(|host| RequestHost::parse(host).ok());
        let Ok(path) = RequestPath::parse(request.path) else { return Vec::new() };
        let matches = |index: u32, route: &FlatRoute| {
            let is_there = |file: &PathBuf| {
                let at = self.files.iter().position(|other| other == file);
                at.and_then(|at| present.get(at)).copied().unwrap_or(false)
            };
            route.takes(request.method)
                && route.if_file.as_ref().is_none_or(is_there)
                && build::is_for_host(route.host.as_ref(), host.as_ref())
                && {
                    let mut trie = Trie::default();
                    build::add(&mut trie, route, index);
                    trie.find(path.normal(), &|_| true).is_some()
                }
        };
        self.routes
            .iter()
            .enumerate()
            .filter(|(at, it)| matches(*at as u32, it))
            .map(|(_, it)| &**it)
            .collect()
    }

    /// The route that counts for a path in its normal form.
    pub(crate) fn winner(
        &self,
        host: &str,
        path: &[u8],
        method: &str,
        present: &[bool],
    ) -> Option<&FlatRoute> {
        let host = RequestHost::parse(host.as_bytes()).ok()?;
        let host = Some(&host).filter(|_| self.names_hosts);
        self.find(host, path, method.as_bytes(), present).map(|found| &**self.flat(found.route))
    }

    pub(crate) fn flat(&self, route: u32) -> &Arc<FlatRoute> {
        &self.routes[route as usize]
    }

    /// The routes of the configuration that make up this one, itself first.
    pub(crate) fn chain<'r>(&'r self, route: &'r FlatRoute) -> impl Iterator<Item = &'r Route> {
        route.chain.iter().map(|index| &self.sources[*index as usize])
    }

    fn last(&self) -> u32 {
        self.routes.len() as u32 - 1
    }
}

/// A request without a route.
#[derive(Debug)]
pub(crate) struct RefusedRequest {
    /// Whose headers and error pages the refusal has.
    pub route: u32,
    pub why: Refusal,
}

const HOST: &str = "the host can be read in two ways";
const PATH: &str = "the path can be read in two ways";
const SPELLING: &str = "the path as it was sent has another route than the path that it means";
const BACKSLASH: &str = "the path has another route where its backslashes are read as slashes";

fn action<'r>(
    route: &'r FlatRoute,
    prefix: &[u8],
    request: &RouteRequest<'_>,
    path: &RequestPath<'_>,
    captures: &Captures,
) -> RouteAction<'r> {
    if route.internal {
        return RouteAction::Refuse(Refusal::NotFound);
    }
    let is_for_application =
        matches!(route.response, RouteResponse::MainApplication | RouteResponse::Application(_));
    if path.is_ambiguous() && (!is_for_application || route.is_guarded() || route.redirects.is_some()) {
        // Of files none has such a name that could be asked for (404); elsewhere the request is wrong.
        return RouteAction::Refuse(match route.response {
            RouteResponse::Files(_) if !route.is_guarded() => Refusal::NotFound,
            _ => Refusal::BadRequest(PATH),
        });
    }
    if let Some((to, status)) = route.redirects.as_ref().and_then(|table| table.find(path.normal())) {
        return RouteAction::Redirect { status, location: location(to, request.query) };
    }
    let rewritten = route.rewrite.as_ref().map(|template| template.decoded(path.normal(), captures));
    match &route.response {
        RouteResponse::MainApplication => {
            RouteAction::Call(ApplicationCall { target: None, script_name: "", rewritten })
        }
        RouteResponse::Application(target) => RouteAction::Call(ApplicationCall {
            target: Some(target),
            script_name: script_name(&route.mount, rewritten.as_deref()),
            rewritten,
        }),
        RouteResponse::Files(folders) => {
            let below_mount = || path.normal().strip_prefix(route.mount.as_bytes()).unwrap_or(path.normal());
            let path = rewritten.unwrap_or_else(|| below_mount().to_vec());
            RouteAction::Serve(FileLookup { folders, path })
        }
        RouteResponse::Redirect { status, .. } => {
            let whole = [&*decoded(prefix), path.normal()].concat();
            let to = route.redirect.as_ref().map(|template| template.encoded(&whole, captures));
            let location = location(&to.unwrap_or_default(), request.query);
            RouteAction::Redirect { status: *status, location }
        }
        RouteResponse::Fixed { status, .. } => RouteAction::Respond { status: *status },
    }
}

/// `prefix`, which is percent-encoded, for what encodes it again; one that is no path stays as it is.
fn decoded(prefix: &[u8]) -> Cow<'_, [u8]> {
    match RequestPath::parse(prefix) {
        _ if prefix.is_empty() => Cow::Borrowed(prefix),
        Ok(path) => Cow::Owned(path.normal().to_vec()),
        Err(_) => Cow::Borrowed(prefix),
    }
}

/// What of the path is SCRIPT_NAME of an application that is mounted at `mount`. A rewritten path that does not
/// lead there has none of it, as behind gateways.
fn script_name<'r>(mount: &'r str, rewritten: Option<&[u8]>) -> &'r str {
    let is_below = |path: &[u8]| {
        let rest = path.strip_prefix(mount.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    if rewritten.is_none_or(is_below) { mount } else { "" }
}

#[cfg(test)]
mod tests;
