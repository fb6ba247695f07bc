//! What a route says: where it applies, what responds, and how. Plain values; `route_table` reads them, and
//! portico-edge decides with them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

/// One `[[route]]`, or an option that is a short spelling of one. A field that is `None` or empty is inherited
/// from the route that contains this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Who said it.
    pub origin: RouteOrigin,
    /// `host`: any of them; empty for all.
    pub hosts: Vec<RouteHost>,
    /// `path` or `exact`.
    pub path: RoutePath,
    /// `methods`: sorted, in upper case; empty for all.
    pub methods: Vec<String>,
    /// `if_file`: the route counts while this file is there, and then above all paths.
    pub if_file: Option<PathBuf>,
    /// `app`, `static`, `redirect` or `respond`.
    pub response: Option<RouteResponse>,
    /// `redirects`: a file with one redirect on each line, which goes before the response.
    pub redirects: Option<PathBuf>,
    /// `headers` of responses.
    pub headers: Vec<HeaderRule>,
    /// `request_headers`: what the application gets.
    pub request_headers: Vec<HeaderRule>,
    /// `auth`: a file of users and hashes.
    pub auth: Option<PathBuf>,
    /// `allow`: whose requests are served; `None` for all.
    pub allow: Option<Vec<IpNet>>,
    /// `deny`: whose are not.
    pub deny: Option<Vec<IpNet>>,
    /// `limit`
    pub limit: Option<RateLimit>,
    /// `concurrent`: requests that may run at once, in all workers together.
    pub concurrent: Option<u32>,
    /// `timeout`; zero means without end.
    pub timeout: Option<Duration>,
    /// `limit_request_body`; 0 means no limit.
    pub body_bytes_max: Option<u64>,
    /// `stream_request_body`
    pub stream_request_body: Option<bool>,
    /// `compress`
    pub compress: Option<bool>,
    /// `error_pages`: a folder of pages such as `404.html` and `5xx.html`.
    pub error_pages: Option<PathBuf>,
    /// `intercept`: the application's own errors get these pages too.
    pub intercept: Option<bool>,
    /// `rewrite`: the path that whatever responds sees.
    pub rewrite: Option<String>,
    /// `internal`: reached by X-Accel-Redirect and X-Sendfile only.
    pub internal: Option<bool>,
    /// What concerns files alone.
    pub files: FileOptions,
}

/// What a route says of the files that it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileOptions {
    /// `fallback`
    pub fallback: Option<Fallback>,
    /// `index`: names of the file that stands for its folder.
    pub index: Option<Vec<String>>,
    /// `listing`
    pub listing: Option<bool>,
    /// `symlinks`
    pub symlinks: Option<Symlinks>,
    /// `max_age`
    pub max_age: Option<Duration>,
    /// `immutable`: patterns of paths that never change their content.
    pub immutable: Option<Vec<String>>,
    /// `mime`: types by extension, which is in lower case.
    pub mime: Vec<(String, String)>,
}

/// Where a route was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RouteOrigin {
    /// By nobody: the application that gets all else.
    #[default]
    Implied,
    /// In a configuration file.
    File {
        /// As it was named.
        path: String,
        /// From 1.
        line: u32,
    },
    /// Elsewhere: `--static /static=dist`, `PORTICO_ROUTE`.
    Option(String),
}

/// Which hosts a route is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteHost {
    /// This one: in lower case, without port and final dot.
    Exact(String),
    /// `*.example.com`: all below `example.com`, which stands here.
    Below(String),
}

/// Which paths a route is for. They are decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum RoutePath {
    /// All.
    #[default]
    Any,
    /// `path`: this one and those below it. It begins with `/` and does not end with it.
    Prefix(String),
    /// `exact`: this one, in which `{name}` stands for one segment or a part of it and `{name…}` for the rest.
    Exact(String),
}

/// What responds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteResponse {
    /// `app = true`: the application that the command names, with nothing taken off the path.
    MainApplication,
    /// `app = "shop:app"`: with the route's path as SCRIPT_NAME.
    Application(String),
    /// `static`: the first of these folders that has the file.
    Files(Vec<PathBuf>),
    /// `redirect`, with `status`.
    Redirect {
        /// A path, or a whole URI; `{path}` and captures stand for themselves.
        to: String,
        /// 301, 302, 303, 307 or 308.
        status: u16,
    },
    /// `respond`, with `page`.
    Fixed {
        /// 200 to 599.
        status: u16,
        /// Its body, read at the start.
        page: Option<PathBuf>,
    },
}

/// What becomes of one header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRule {
    /// As it was written.
    pub name: String,
    /// What is done with it.
    pub action: HeaderAction,
}

/// What is done with a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderAction {
    /// It has this value, whatever the response says.
    Set(String),
    /// It has this value where the response does not have the header.
    SetIfAbsent(String),
    /// It is taken out.
    Remove,
}

/// How many requests a client may make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// So many...
    pub requests: u32,
    /// ...in this time.
    pub period: Duration,
    /// So many at once beyond the rate; at least 1.
    pub burst: u32,
    /// Whose requests count together.
    pub by: LimitKey,
    /// Only log what would be refused.
    pub dry_run: bool,
}

/// Whose requests count together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LimitKey {
    /// Those of one client: an IPv4 address, or the first 64 bits of an IPv6 address.
    #[default]
    Client,
    /// Those with one value of this header, in lower case; those without it by client.
    Header(String),
}

/// What responds for a file that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// `404`
    NotFound,
    /// `"app"`: the main application.
    Application,
    /// `"/index.html"`: this file, to navigation of a browser.
    File(String),
}

/// Which symbolic links are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Symlinks {
    /// Those that stay beneath the folder.
    #[default]
    Beneath,
    /// All.
    Follow,
    /// None.
    Refuse,
}

/// All routes, and what holds for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeSettings {
    /// In the order in which they were said, which never matters.
    pub routes: Vec<Route>,
    /// `--no-django-static` clears it.
    pub django_static: bool,
    /// `--static-cache`: bytes of a worker's memory for small files.
    pub static_cache_bytes: u64,
    /// `--limit-slots`: clients that limits can tell apart.
    pub limit_slots: u32,
    /// `--error-pages`: the folder for routes that name none.
    pub error_pages: Option<PathBuf>,
}

impl Default for EdgeSettings {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            django_static: true,
            static_cache_bytes: 0,
            limit_slots: 0,
            error_pages: None,
        }
    }
}

impl EdgeSettings {
    /// The applications that are mounted beside the main one, each once and with the first route that names it.
    /// Their order is that in which they are numbered.
    pub fn applications(&self) -> Vec<(&str, &Route)> {
        let mut found: Vec<(&str, &Route)> = Vec::new();
        for route in &self.routes {
            if let Some(RouteResponse::Application(target)) = &route.response
                && !found.iter().any(|(other, _)| other == target)
            {
                found.push((target, route));
            }
        }
        found
    }

    /// What routes are read from: configuration files, and the files and folders that they name. Not those that
    /// are served.
    pub fn sources(&self) -> Vec<&Path> {
        let mut found: Vec<&Path> = self.error_pages.as_deref().into_iter().collect();
        for route in &self.routes {
            let page = match &route.response {
                Some(RouteResponse::Fixed { page, .. }) => page.as_deref(),
                _ => None,
            };
            let origin = match &route.origin {
                RouteOrigin::File { path, .. } => Some(Path::new(path)),
                _ => None,
            };
            found.extend(
                [origin, route.redirects.as_deref(), route.error_pages.as_deref(), page]
                    .into_iter()
                    .flatten(),
            );
        }
        found.sort();
        found.dedup();
        found
    }

    /// Whether there is to be a main application; `is_named` where a command or setting names one. Where routes
    /// have applications of their own, and leave nothing to the main one, none is looked for.
    pub fn needs_main_application(&self, is_named: bool) -> bool {
        // A route without a response of its own or around it has that of the main one; defaults for all have none.
        let is_default = |route: &Route| {
            route.hosts.is_empty()
                && route.path == RoutePath::Any
                && route.methods.is_empty()
                && route.if_file.is_none()
        };
        let leaves_requests = |route: &Route| match &route.response {
            _ if route.files.fallback == Some(Fallback::Application) => true,
            Some(response) => *response == RouteResponse::MainApplication,
            None => {
                let mut others = self.routes.iter();
                !is_default(route) && !others.any(|other| other.response.is_some() && other.contains(route))
            }
        };
        is_named || self.applications().is_empty() || self.routes.iter().any(leaves_requests)
    }
}

impl Route {
    /// Where it applies, for people: `example.com/shop, GET`.
    pub fn place(&self) -> String {
        self.to_string()
    }

    /// Whether all requests of `other` are this one's as well, as far as that can be told without captures.
    fn contains(&self, other: &Self) -> bool {
        let hosts = self.hosts.is_empty()
            || (!other.hosts.is_empty() && other.hosts.iter().all(|host| self.hosts.contains(host)));
        let path = match (&self.path, &other.path) {
            (RoutePath::Any, _) => true,
            (RoutePath::Prefix(outer), RoutePath::Prefix(inner) | RoutePath::Exact(inner)) => inner
                .strip_prefix(outer.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            _ => false,
        };
        hosts && path && self.methods.is_empty() && self.if_file.is_none()
    }

    /// Whether `other` applies to exactly the same requests.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        let key = |route: &Self| {
            let mut hosts = route.hosts.clone();
            hosts.sort();
            (hosts, route.path.clone(), route.methods.clone(), route.if_file.clone())
        };
        key(self) == key(other)
    }

    /// Takes what `other`, an option for the same place, says.
    ///
    /// # Errors
    /// The key that both say.
    pub(crate) fn absorb(&mut self, other: Self) -> Result<(), &'static str> {
        fn take<T>(own: &mut Option<T>, theirs: Option<T>, key: &'static str) -> Result<(), &'static str> {
            match (&own, theirs) {
                (Some(_), Some(_)) => Err(key),
                (_, None) => Ok(()),
                (None, theirs) => {
                    *own = theirs;
                    Ok(())
                }
            }
        }
        take(&mut self.response, other.response, "what responds")?;
        take(&mut self.auth, other.auth, "auth")?;
        take(&mut self.limit, other.limit, "limit")?;
        take(&mut self.compress, other.compress, "compress")?;
        let is_said =
            |rule: &HeaderRule| self.headers.iter().any(|own| own.name.eq_ignore_ascii_case(&rule.name));
        if other.headers.iter().any(is_said) {
            return Err("a header");
        }
        self.headers.extend(other.headers);
        Ok(())
    }
}

impl fmt::Display for RouteOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Implied => f.write_str("the default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Option(option) => f.write_str(option),
        }
    }
}

impl fmt::Display for RouteHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

impl fmt::Display for RouteResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MainApplication => f.write_str("the application"),
            Self::Application(target) => write!(f, "application {target}"),
            Self::Files(folders) => {
                let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
                write!(f, "files of {}", folders.join(", "))
            }
            Self::Redirect { to, status } => write!(f, "redirect to {to} ({status})"),
            Self::Fixed { status, page: None } => write!(f, "respond {status}"),
            Self::Fixed { status, page: Some(page) } => {
                write!(f, "respond {status} with {}", page.display())
            }
        }
    }
}

/// Where it applies, for people: `example.com/shop, GET`.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        f.write_str(&hosts.join("|"))?;
        match &self.path {
            RoutePath::Any => f.write_str("/")?,
            RoutePath::Prefix(path) => f.write_str(path)?,
            RoutePath::Exact(path) => write!(f, "={path}")?,
        }
        if !self.methods.is_empty() {
            write!(f, ", {}", self.methods.join("|"))?;
        }
        if let Some(file) = &self.if_file {
            write!(f, ", while {} is there", file.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::with_environment;

    #[test]
    fn a_main_application_is_needed_where_something_is_left_to_it() {
        for (routes, expected) in [
            ("[]", true),
            ("[{ path = '/', respond = 204 }]", true),
            ("[{ path = '/a', app = 'a:app' }]", false),
            ("[{ path = '/a', app = 'a:app' }, { headers = { A = '1' } }]", false),
            ("[{ path = '/a', app = 'a:app' }, { path = '/a/b', limit = '5/s' }]", false),
            ("[{ path = '/a', app = 'a:app' }, { exact = '/a/{x}', limit = '5/s' }]", false),
            ("[{ path = '/a', app = 'a:app' }, { path = '/ab', limit = '5/s' }]", true),
            ("[{ host = 'a.b', app = 'a:app' }, { path = '/a', limit = '5/s' }]", true),
            ("[{ host = 'a.b', app = 'a:app' }, { host = 'a.b', path = '/a', limit = '5/s' }]", false),
            ("[{ path = '/a', app = 'a:app' }, { path = '/b', app = true }]", true),
            ("[{ path = '/a', app = 'a:app' }, { path = '/b', static = 'x' }]", false),
            ("[{ path = '/a', app = 'a:app' }, { path = '/b', static = 'x', fallback = 'app' }]", true),
        ] {
            let edge = with_environment(&[("PORTICO_ROUTE", routes)], &[]).edge;
            assert_eq!(edge.needs_main_application(false), expected, "{routes}");
            assert!(edge.needs_main_application(true), "{routes}");
        }
        let routes = "[{ path = '/a', app = 'a:app' }, { path = '/b', app = 'b:app' }, \
                       { path = '/c', app = 'a:app' }]";
        let edge = with_environment(&[("PORTICO_ROUTE", routes)], &[]).edge;
        let targets: Vec<&str> = edge.applications().iter().map(|(target, _)| *target).collect();
        assert_eq!(targets, ["a:app", "b:app"]);
    }
}
