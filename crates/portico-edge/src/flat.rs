//! A route with all that it inherits, worked out at the start so that nothing of it costs at run time.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use portico_config::{
    Fallback, FileOptions, RateLimit, Route, RouteHost, RouteOrigin, RoutePath, RouteResponse, Symlinks,
};

use crate::access::Users;
use crate::error_pages::ErrorPages;
use crate::files::ImmutableNames;
use crate::headers::HeaderPlan;
use crate::limit::{ConcurrencyLimit, Rate};
use crate::pattern::PathTemplate;
use crate::redirect::RedirectTable;

/// A route as requests get it: nothing of it is left to be inherited.
#[derive(Clone, Debug)]
pub struct FlatRoute {
    /// Who said the route itself.
    pub origin: RouteOrigin,
    /// For which host; `None` for all.
    pub host: Option<RouteHost>,
    /// For which paths.
    pub path: RoutePath,
    /// For which methods, sorted; empty for all.
    pub methods: Vec<String>,
    /// The file that must be there.
    pub if_file: Option<PathBuf>,
    /// What responds.
    pub response: RouteResponse,
    /// The path of the route that said so, which is taken off before a file is looked for. Empty, or begins with
    /// `/` and does not end with it.
    pub mount: String,
    /// The application that is called, where it is not the main one: of a route with files, that to which they
    /// fall back.
    pub application: Option<Arc<MountedApplication>>,
    /// The redirects that go before the response.
    pub redirects: Option<Arc<RedirectTable>>,
    /// The body of a fixed response.
    pub page: Option<Arc<[u8]>>,
    /// What becomes of the headers of responses.
    pub headers: HeaderPlan,
    /// What becomes of the headers of requests.
    pub request_headers: HeaderPlan,
    /// Who has to give a password.
    pub auth: Option<Arc<FlatAuth>>,
    /// Whose requests are served; `None` for all.
    pub allow: Option<Vec<IpNet>>,
    /// Whose are not.
    pub deny: Vec<IpNet>,
    /// How often clients may come.
    pub limit: Option<FlatLimit>,
    /// How many requests may run at once.
    pub concurrent: Option<ConcurrencyLimit>,
    /// `None` for that of the server, as for the next ones.
    pub timeout: Option<Duration>,
    /// 0 means no limit.
    pub body_bytes_max: Option<u64>,
    /// Whether bodies reach the application while they arrive.
    pub stream_request_body: Option<bool>,
    /// Whether the application's responses are compressed.
    pub compress: bool,
    /// The pages for errors.
    pub error_pages: Option<Arc<ErrorPages>>,
    /// Whether the application's errors get them too.
    pub intercept: bool,
    /// Whether it is for X-Accel-Redirect and X-Sendfile alone.
    pub internal: bool,
    /// What concerns files.
    pub files: FlatFiles,
    /// The names of files that never change, by the manifests in the folders and by patterns.
    pub immutable: Arc<ImmutableNames>,
    pub(crate) redirect: Option<PathTemplate>,
    pub(crate) rewrite: Option<PathTemplate>,
    /// The routes that it is made of, itself first: numbers of those that the configuration has.
    pub(crate) chain: Vec<u32>,
}

/// An application other than the main one, and the path that it is mounted at.
#[derive(Debug, PartialEq, Eq)]
pub struct MountedApplication {
    /// Its number among [`portico_config::EdgeSettings::applications`].
    pub number: usize,
    /// What of the path is SCRIPT_NAME, below `--root-path`. Empty, or begins with `/` and does not end with it.
    pub path: String,
}

/// Whose passwords a route asks for.
#[derive(Debug)]
pub struct FlatAuth {
    /// The users and their hashes.
    pub users: Users,
    /// Tells these users from those of other routes.
    pub id: u64,
    /// The value of `WWW-Authenticate`. Its realm is the path of the route that says so, so that browsers do not
    /// send the password of one route to another.
    pub challenge: String,
}

/// How often clients may come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatLimit {
    /// As it was said.
    pub said: RateLimit,
    /// The same for the table of clients.
    pub rate: Rate,
    /// Under which all routes that inherit it count together, in all workers.
    pub id: u64,
}

/// What a route does with files, all of it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatFiles {
    /// What responds for a file that is not there.
    pub fallback: Fallback,
    /// The file that stands for its folder.
    pub index: Vec<String>,
    /// Whether other folders are listed.
    pub listing: bool,
    /// Which links are followed.
    pub symlinks: Symlinks,
    /// How long clients may keep a file.
    pub max_age: Duration,
    /// Whether the route says that itself, rather than the default.
    pub says_max_age: bool,
    /// Patterns of paths below the mount whose content never changes.
    pub immutable: Vec<String>,
    /// Types by extension that count before those of the table.
    pub mime: Vec<(String, String)>,
}

/// How long clients keep a file that may change: WhiteNoise's default.
const MAX_AGE: Duration = Duration::from_secs(60);

impl FlatRoute {
    /// Whether anything but the application decides about its requests, so that another spelling of the path must
    /// not reach the application around it.
    pub fn is_guarded(&self) -> bool {
        self.is_for_some() || self.limit.is_some() || self.concurrent.is_some()
    }

    /// Whether what it has is not for everybody: the application decides for whom, or a password or an address.
    pub fn is_for_some(&self) -> bool {
        self.internal || self.auth.is_some() || self.allow.is_some() || !self.deny.is_empty()
    }

    /// The route of requests that no route of a configuration is for: nothing is set.
    pub fn unset() -> Self {
        flatten(&[], Vec::new(), None, None, &LoadedFiles::default(), &[])
    }

    /// Whether it takes requests with this method.
    pub(crate) fn takes(&self, method: &[u8]) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|own| own.as_bytes() == method)
    }

    /// Orders routes by how specific they are: host, path, methods, and `if_file` above all.
    pub(crate) fn rank(&self) -> (bool, (u8, usize), (u8, usize), bool) {
        let host = match &self.host {
            Some(RouteHost::Exact(_)) => (2, 0),
            Some(RouteHost::Below(name)) => (1, name.len()),
            None => (0, 0),
        };
        let path = match &self.path {
            RoutePath::Exact(path) => (2, path.len()),
            RoutePath::Prefix(path) => (1, path.len()),
            RoutePath::Any => (0, 0),
        };
        (self.if_file.is_some(), host, path, !self.methods.is_empty())
    }

    /// Where it applies, for people.
    pub fn place(&self) -> String {
        let route = Route {
            hosts: self.host.iter().cloned().collect(),
            path: self.path.clone(),
            methods: self.methods.clone(),
            if_file: self.if_file.clone(),
            ..Route::default()
        };
        route.to_string()
    }
}

/// The routes of the configuration by where they apply, for looking up which contain another.
pub(crate) struct Containers<'r> {
    routes: &'r [Route],
    places: HashMap<(Option<RouteHost>, RoutePath), Vec<u32>>,
}

impl<'r> Containers<'r> {
    pub(crate) fn of(routes: &'r [Route]) -> Self {
        let mut places: HashMap<_, Vec<u32>> = HashMap::new();
        for (index, route) in routes.iter().enumerate() {
            for host in hosts(route) {
                places.entry((host, route.path.clone())).or_default().push(index as u32);
            }
        }
        Self { routes, places }
    }

    /// The numbers of `route` for `host` and of the routes that contain it, the most specific first.
    pub(crate) fn chain(&self, route: u32, host: Option<&RouteHost>) -> Vec<u32> {
        let own = &self.routes[route as usize];
        let mut chain = vec![route];
        for host in host_and_parents(host) {
            for path in path_and_parents(&own.path) {
                let here = self.places.get(&(host.clone(), path)).into_iter().flatten().copied();
                let contains = |index: &u32| {
                    let other = &self.routes[*index as usize];
                    *index != route && contains_methods(other, own) && contains_file(other, own)
                };
                let mut here: Vec<u32> = here.filter(contains).collect();
                // One with conditions is more specific than one without.
                here.sort_by_key(|index| {
                    let other = &self.routes[*index as usize];
                    (other.if_file.is_none(), other.methods.is_empty())
                });
                chain.extend(here);
            }
        }
        chain
    }
}

/// The hosts of a route, `None` for all.
pub(crate) fn hosts(route: &Route) -> Vec<Option<RouteHost>> {
    if route.hosts.is_empty() { vec![None] } else { route.hosts.iter().cloned().map(Some).collect() }
}

fn contains_methods(other: &Route, own: &Route) -> bool {
    other.methods.is_empty()
        || (!own.methods.is_empty() && own.methods.iter().all(|method| other.methods.contains(method)))
}

fn contains_file(other: &Route, own: &Route) -> bool {
    other.if_file.is_none() || other.if_file == own.if_file
}

/// A host and what contains it, down to all hosts.
fn host_and_parents(host: Option<&RouteHost>) -> Vec<Option<RouteHost>> {
    let mut all = Vec::new();
    if let Some(host) = host {
        all.push(Some(host.clone()));
        let (RouteHost::Exact(name) | RouteHost::Below(name)) = host;
        let mut rest = name.as_str();
        // An address is below nothing, and no route can say that it is.
        while let Some((_, parent)) = rest.split_once('.') {
            all.push(Some(RouteHost::Below(parent.to_owned())));
            rest = parent;
        }
    }
    all.push(None);
    all
}

/// A path and what contains it, up to all paths.
fn path_and_parents(path: &RoutePath) -> Vec<RoutePath> {
    let mut all = vec![path.clone()];
    let mut rest = match path {
        RoutePath::Any => return all,
        // Captures have no fixed path below them.
        RoutePath::Exact(path) => {
            let literal = path.split('{').next().unwrap_or_default();
            if literal.len() == path.len() && !literal.ends_with('/') {
                all.push(RoutePath::Prefix(literal.to_owned()));
            }
            literal
        }
        RoutePath::Prefix(path) => path,
    };
    while let Some(at) = rest.rfind('/') {
        rest = &rest[..at];
        all.push(if rest.is_empty() { RoutePath::Any } else { RoutePath::Prefix(rest.to_owned()) });
    }
    all
}

/// What is read once and shared by all routes that name it.
#[derive(Default)]
pub(crate) struct LoadedFiles {
    pub redirects: HashMap<PathBuf, Arc<RedirectTable>>,
    pub pages: HashMap<PathBuf, Arc<[u8]>>,
    pub error_pages: HashMap<PathBuf, Arc<ErrorPages>>,
    /// By the number of the route that says so.
    pub auth: HashMap<u32, Arc<FlatAuth>>,
}

/// The route that `chain` amounts to for `host`.
pub(crate) fn flatten(
    routes: &[Route],
    chain: Vec<u32>,
    host: Option<RouteHost>,
    error_pages: Option<&PathBuf>,
    loaded: &LoadedFiles,
    applications: &[&str],
) -> FlatRoute {
    let links: Vec<(u32, &Route)> = chain.iter().map(|index| (*index, &routes[*index as usize])).collect();
    let own = links.first().map_or_else(Route::default, |(_, route)| (*route).clone());
    let responds = links.iter().find(|(_, route)| route.response.is_some());
    let response = responds.and_then(|(_, route)| route.response.clone());
    let mount = responds.map(|(_, route)| prefix(route)).unwrap_or_default();
    let page = match &response {
        Some(RouteResponse::Fixed { page: Some(page), .. }) => loaded.pages.get(page).cloned(),
        _ => None,
    };
    let redirect = match &response {
        Some(RouteResponse::Redirect { to, .. }) => Some(PathTemplate::parse(to)),
        _ => None,
    };
    let (mut headers, mut request_headers) = (HeaderPlan::default(), HeaderPlan::default());
    for (_, route) in &links {
        headers.inherit(&route.headers);
        request_headers.inherit(&route.request_headers);
    }
    let redirects = first(&links, |route| route.redirects.clone());
    FlatRoute {
        origin: own.origin,
        host,
        path: own.path,
        methods: own.methods,
        if_file: own.if_file,
        response: response.unwrap_or(RouteResponse::MainApplication),
        mount: mount.to_owned(),
        application: mounted(&links, applications),
        redirects: redirects.and_then(|path| loaded.redirects.get(&path).cloned()),
        page,
        headers,
        request_headers,
        auth: links.iter().find_map(|(index, _)| loaded.auth.get(index).cloned()),
        allow: first(&links, |route| route.allow.clone()),
        deny: first(&links, |route| route.deny.clone()).unwrap_or_default(),
        limit: links.iter().find_map(|(_, route)| {
            let said = route.limit.clone()?;
            Some(FlatLimit { rate: Rate::new(&said), said, id: place_id(route) })
        }),
        concurrent: links.iter().find_map(|(number, route)| {
            let earlier = routes.iter().take(*number as usize);
            let index = earlier.filter(|route| route.concurrent.is_some()).count();
            Some(ConcurrencyLimit { max: route.concurrent?, id: place_id(route), index })
        }),
        timeout: first(&links, |route| route.timeout),
        body_bytes_max: first(&links, |route| route.body_bytes_max),
        stream_request_body: first(&links, |route| route.stream_request_body),
        compress: first(&links, |route| route.compress).unwrap_or(false),
        error_pages: first(&links, |route| route.error_pages.clone())
            .or_else(|| error_pages.cloned())
            .and_then(|folder| loaded.error_pages.get(&folder).cloned()),
        intercept: first(&links, |route| route.intercept).unwrap_or(false),
        internal: first(&links, |route| route.internal).unwrap_or(false),
        files: flatten_files(&links.iter().map(|(_, route)| &route.files).collect::<Vec<_>>()),
        immutable: Arc::default(),
        redirect,
        rewrite: first(&links, |route| route.rewrite.clone()).map(|text| PathTemplate::parse(&text)),
        chain,
    }
}

/// The path that a route's response is mounted at.
fn prefix(route: &Route) -> &str {
    match &route.path {
        RoutePath::Prefix(path) => path,
        RoutePath::Any | RoutePath::Exact(_) => "",
    }
}

/// The application of the most specific route that has one, unless that is the main one.
fn mounted(links: &[(u32, &Route)], applications: &[&str]) -> Option<Arc<MountedApplication>> {
    let of_application = links.iter().find_map(|(_, route)| match &route.response {
        Some(RouteResponse::MainApplication) => Some((None, *route)),
        Some(RouteResponse::Application(target)) => Some((Some(target), *route)),
        _ => None,
    });
    let (Some(target), route) = of_application? else { return None };
    let number = applications.iter().position(|other| other == target)?;
    Some(Arc::new(MountedApplication { number, path: prefix(route).to_owned() }))
}

fn flatten_files(links: &[&FileOptions]) -> FlatFiles {
    let mut mime: Vec<(String, String)> = Vec::new();
    for (extension, media_type) in links.iter().flat_map(|files| &files.mime) {
        if !mime.iter().any(|(other, _)| other == extension) {
            mime.push((extension.clone(), media_type.clone()));
        }
    }
    let index = links.iter().find_map(|files| files.index.clone());
    FlatFiles {
        fallback: links.iter().find_map(|files| files.fallback.clone()).unwrap_or(Fallback::NotFound),
        index: index.unwrap_or_else(|| vec!["index.html".to_owned()]),
        listing: links.iter().find_map(|files| files.listing).unwrap_or(false),
        symlinks: links.iter().find_map(|files| files.symlinks).unwrap_or_default(),
        max_age: links.iter().find_map(|files| files.max_age).unwrap_or(MAX_AGE),
        says_max_age: links.iter().any(|files| files.max_age.is_some()),
        immutable: links.iter().find_map(|files| files.immutable.clone()).unwrap_or_default(),
        mime,
    }
}

/// Names a route by where it applies, which no other route shares: what was counted under it still counts after a
/// reload, whatever else that has changed. The same in all processes of a program; not 0.
fn place_id(route: &Route) -> u64 {
    let mut hasher = DefaultHasher::new();
    route.to_string().hash(&mut hasher);
    hasher.finish().max(1)
}

/// What the most specific route says that says anything.
fn first<T>(links: &[(u32, &Route)], said: impl Fn(&Route) -> Option<T>) -> Option<T> {
    links.iter().find_map(|(_, route)| said(route))
}
