//! Makes a router of the configuration's routes, and refuses those of which no one could say which counts.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portico_config::{EdgeSettings, Route, RouteHost, RoutePath, RouteResponse};

use super::{EdgeRouter, RouteFiles};
use crate::access::{Users, challenge};
use crate::error_pages::ErrorPages;
use crate::files::ImmutableNames;
use crate::flat::{Containers, FlatAuth, FlatRoute, LoadedFiles, flatten, hosts};
use crate::host::RequestHost;
use crate::limit::CONCURRENT_LIMITS_MAX;
use crate::pattern::{Segment, segments};
use crate::redirect::RedirectTable;
use crate::trie::Trie;

/// Why routes cannot be served: one line that shows what is wrong where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTableError(String);

impl std::fmt::Display for RouteTableError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RouteTableError {}

impl EdgeRouter {
    /// Makes a router. `names_application`: whether a main application is named, so that it gets what no route
    /// takes; otherwise it does where some route leaves requests to it.
    ///
    /// # Errors
    /// Two routes are equally specific for one request, or a file that a route names cannot be used.
    pub fn build(
        settings: &EdgeSettings,
        names_application: bool,
        files: &mut dyn RouteFiles,
    ) -> Result<Self, RouteTableError> {
        let mut sources = settings.routes.clone();
        refuse_more_concurrent(&sources)?;
        // What gets all else, where no route says so.
        let has_root = sources.iter().any(|route| where_of(route) == Route::default());
        if !has_root {
            sources.push(Route::default());
        }
        let loaded = load(&sources, settings.error_pages.as_deref(), files)?;
        let containers = Containers::of(&sources);
        let applications: Vec<&str> = settings.applications().into_iter().map(|(target, _)| target).collect();
        let mut routes = Vec::new();
        let mut manifests = Manifests::default();
        for (index, source) in sources.iter().enumerate() {
            for host in hosts(source) {
                let chain = containers.chain(index as u32, host.as_ref());
                let mut route =
                    flatten(&sources, chain, host, settings.error_pages.as_ref(), &loaded, &applications);
                route.immutable = manifests.names(&route, files)?;
                routes.push(route);
            }
        }
        // The one for all else comes last.
        routes.sort_by_key(|route| std::cmp::Reverse(route.rank()));
        refuse_ties(&routes)?;
        // Defaults for all routes need no application; a route that leaves its requests to it does.
        let responds = |route: &FlatRoute| {
            let own = &sources[route.chain[0] as usize];
            where_of(own) != Route::default() || own.response.is_some()
        };
        let is_application = |route: &FlatRoute| route.response == RouteResponse::MainApplication;
        let responding = || routes.iter().filter(|route| responds(route));
        let serves_any_host =
            names_application || responding().any(|route| is_application(route) || route.host.is_none());
        let mut router = Self {
            names_hosts: routes.iter().any(|route| route.host.is_some()),
            is_idle: settings.routes.is_empty(),
            has_main: settings.needs_main_application(names_application),
            sources,
            exact_hosts: HashMap::new(),
            hosts_below: HashMap::new(),
            any_host: Trie::default(),
            with_file: Vec::new(),
            files: Vec::new(),
            serves_any_host,
            unread: manifests.unread,
            routes: routes.into_iter().map(Arc::new).collect(),
        };
        router.index();
        Ok(router)
    }

    fn index(&mut self) {
        for (index, route) in self.routes.iter().enumerate() {
            let index = index as u32;
            if let Some(file) = &route.if_file {
                self.with_file.push(index);
                if !self.files.contains(file) {
                    self.files.push(file.clone());
                }
            }
            let trie = match &route.host {
                None => &mut self.any_host,
                Some(RouteHost::Exact(name)) => self.exact_hosts.entry(name.clone()).or_default(),
                Some(RouteHost::Below(name)) => self.hosts_below.entry(name.clone()).or_default(),
            };
            if route.if_file.is_none() {
                add(trie, route, index);
            }
        }
    }
}

/// Adds a route to the trie of its host.
pub(super) fn add(trie: &mut Trie, route: &FlatRoute, index: u32) {
    match &route.path {
        RoutePath::Any => trie.add_prefix("", index),
        RoutePath::Prefix(path) => trie.add_prefix(path, index),
        RoutePath::Exact(path) => trie.add_exact(path, index),
    }
}

/// Whether a route for `wanted` takes requests for `host`.
pub(super) fn is_for_host(wanted: Option<&RouteHost>, host: Option<&RequestHost<'_>>) -> bool {
    match (wanted, host) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(RouteHost::Exact(name)), Some(host)) => name == host.name(),
        (Some(RouteHost::Below(name)), Some(host)) => host.parents().any(|parent| parent == name),
    }
}

/// Where a route applies, and nothing else of it.
fn where_of(route: &Route) -> Route {
    Route {
        hosts: route.hosts.clone(),
        path: route.path.clone(),
        methods: route.methods.clone(),
        if_file: route.if_file.clone(),
        ..Route::default()
    }
}

/// Reads the files that routes name.
fn load(
    routes: &[Route],
    error_pages: Option<&Path>,
    files: &mut dyn RouteFiles,
) -> Result<LoadedFiles, RouteTableError> {
    let mut loaded = LoadedFiles::default();
    let folders =
        routes.iter().filter_map(|route| Some((route.origin.to_string(), route.error_pages.as_deref()?)));
    for (origin, folder) in folders.chain(error_pages.map(|folder| ("--error-pages".to_owned(), folder))) {
        if !loaded.error_pages.contains_key(folder) {
            let pages = ErrorPages::load(folder, &mut |path| files.read(path));
            let pages = pages.map_err(|problem| RouteTableError(format!("{origin}: {problem}")))?;
            loaded.error_pages.insert(folder.to_owned(), Arc::new(pages));
        }
    }
    let mut read = |route: &Route, path: &Path| {
        files.read(path).map_err(|error| {
            let path = path.display();
            RouteTableError(format!("{}: {path} cannot be read: {error}", route.origin))
        })
    };
    for route in routes {
        if let Some(path) = route.redirects.as_ref().filter(|path| !loaded.redirects.contains_key(*path)) {
            let text = String::from_utf8(read(route, path)?)
                .map_err(|_| RouteTableError(format!("{}: {} is not UTF-8", route.origin, path.display())))?;
            let table = RedirectTable::parse(&path.display().to_string(), &text).map_err(RouteTableError)?;
            loaded.redirects.insert(path.clone(), Arc::new(table));
        }
        if let Some(RouteResponse::Fixed { page: Some(page), .. }) = &route.response
            && !loaded.pages.contains_key(page)
        {
            loaded.pages.insert(PathBuf::clone(page), read(route, page)?.into());
        }
    }
    for (index, route) in routes.iter().enumerate() {
        if let Some(path) = &route.auth {
            let auth = load_auth(routes, path, route, &read(route, path)?)?;
            loaded.auth.insert(index as u32, Arc::new(auth));
        }
    }
    Ok(loaded)
}

/// The names of files that never change, as builds have listed them in the folders that routes serve.
#[derive(Default)]
struct Manifests {
    /// By folders and patterns: routes for several hosts have one list.
    known: HashMap<(Vec<PathBuf>, Vec<String>), Arc<ImmutableNames>>,
    /// Manifests that are none, and why; a line each.
    unread: Vec<String>,
}

/// How a manifest is read.
type ReadManifest = fn(&mut ImmutableNames, &[u8]) -> Result<usize, String>;

/// Where Django's storage of hashed names and Vite put their manifests.
const MANIFESTS: [(&str, ReadManifest); 2] =
    [("staticfiles.json", ImmutableNames::add_django), (".vite/manifest.json", ImmutableNames::add_vite)];

impl Manifests {
    /// The names for a route.
    fn names(
        &mut self,
        route: &FlatRoute,
        files: &mut dyn RouteFiles,
    ) -> Result<Arc<ImmutableNames>, RouteTableError> {
        let RouteResponse::Files(folders) = &route.response else { return Ok(Arc::default()) };
        let key = (folders.clone(), route.files.immutable.clone());
        if let Some(names) = self.known.get(&key) {
            return Ok(Arc::clone(names));
        }
        let mut names = ImmutableNames::default();
        for pattern in &route.files.immutable {
            let added = names.add_pattern(pattern);
            added.map_err(|problem| RouteTableError(format!("{}: immutable: {problem}", route.origin)))?;
        }
        for (folder, (name, add)) in folders.iter().flat_map(|folder| MANIFESTS.map(|it| (folder, it))) {
            let path = folder.join(name);
            // Most folders have none. One that is wrong is no reason not to serve: it makes nothing immutable.
            if let Ok(manifest) = files.read(&path)
                && let Err(problem) = add(&mut names, &manifest)
            {
                let path = path.display();
                self.unread.push(format!("{}: {path} lists no immutable files: {problem}", route.origin));
            }
        }
        let names = Arc::new(names);
        self.known.insert(key, Arc::clone(&names));
        Ok(names)
    }
}

/// Reads the users of `route`, whose file `path` has this content.
fn load_auth(
    routes: &[Route],
    path: &Path,
    route: &Route,
    content: &[u8],
) -> Result<FlatAuth, RouteTableError> {
    let name = path.display().to_string();
    let text = str::from_utf8(content)
        .map_err(|_| RouteTableError(format!("{}: {name} is not UTF-8", route.origin)))?;
    let users = Users::parse(&name, text)
        .map_err(|problem| RouteTableError(format!("{}: {problem}", route.origin)))?;
    let realm = match &route.path {
        RoutePath::Any => "/",
        RoutePath::Prefix(path) | RoutePath::Exact(path) => path,
    };
    let first = routes.iter().position(|other| other.auth.as_deref() == Some(path));
    Ok(FlatAuth { users, id: first.unwrap_or_default() as u64, challenge: challenge(realm) })
}

/// Refuses more of `concurrent` than a worker has room to count.
fn refuse_more_concurrent(routes: &[Route]) -> Result<(), RouteTableError> {
    let mut limited = routes.iter().filter(|route| route.concurrent.is_some());
    match limited.nth(CONCURRENT_LIMITS_MAX) {
        None => Ok(()),
        Some(route) => Err(RouteTableError(format!(
            "{}: at most {CONCURRENT_LIMITS_MAX} routes may say `concurrent`; let routes inherit it from one that \
             contains them",
            route.origin
        ))),
    }
}

/// Refuses routes that are equally specific for some request. Which stands first in a file never matters, so that
/// routes of a file, of options and of frameworks can be put together.
fn refuse_ties(routes: &[FlatRoute]) -> Result<(), RouteTableError> {
    let mut places: BTreeMap<(Option<&RouteHost>, bool, String), Vec<&FlatRoute>> = BTreeMap::new();
    for route in routes {
        let path = match &route.path {
            RoutePath::Any => "/".to_owned(),
            RoutePath::Prefix(path) => format!("/{path}"),
            RoutePath::Exact(path) if path.contains('{') => "patterns".to_owned(),
            RoutePath::Exact(path) => format!("={path}"),
        };
        places.entry((route.host.as_ref(), route.if_file.is_some(), path)).or_default().push(route);
    }
    for ((.., path), together) in &places {
        for (index, left) in together.iter().enumerate() {
            for right in &together[index + 1..] {
                if (path != "patterns" || patterns_tie(left, right)) && methods_tie(left, right) {
                    return Err(RouteTableError(format!(
                        "two routes are equally specific: that for {} ({}) and that for {} ({}); put them into \
                         one, or give one of them a condition",
                        left.place(),
                        left.origin,
                        right.place(),
                        right.origin
                    )));
                }
            }
        }
    }
    Ok(())
}

fn methods_tie(left: &FlatRoute, right: &FlatRoute) -> bool {
    match (left.methods.is_empty(), right.methods.is_empty()) {
        (true, true) => true,
        (false, false) => left.methods.iter().any(|method| right.methods.contains(method)),
        _ => false,
    }
}

/// Whether some path matches both, and no segment of one is more specific.
fn patterns_tie(left: &FlatRoute, right: &FlatRoute) -> bool {
    let (RoutePath::Exact(left), RoutePath::Exact(right)) = (&left.path, &right.path) else { return false };
    let (left, right) = (segments(left), segments(right));
    let mut pairs = left.iter().zip(&right);
    let decided = pairs.by_ref().find(|(left, right)| !left.is_same(right) || is_rest(left));
    match decided {
        // One is the beginning of the other, or both are the same.
        None => left.len() == right.len(),
        Some((first, second)) if !first.overlaps(second) || first.rank() != second.rank() => false,
        Some((first, _)) if is_rest(first) => true,
        // From here on both can match the same path unless a later segment says otherwise.
        Some(_) => {
            let has_rest = |segments: &[Segment]| segments.last().is_some_and(is_rest);
            let lengths = left.len() == right.len() || has_rest(&left) || has_rest(&right);
            lengths && pairs.all(|(left, right)| left.overlaps(right))
        }
    }
}

fn is_rest(segment: &Segment) -> bool {
    matches!(segment, Segment::Rest { .. })
}
