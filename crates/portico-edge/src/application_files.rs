//! Routes for folders of static files that applications have set up themselves: Django's STATIC_ROOT, Flask's
//! folder.
//!
//! They are routes like others, but they give way: where a route of the operator responds, none is made, nor where
//! one would take requests from a route that guards them.

use std::path::PathBuf;
use std::time::Duration;

use portico_config::{
    EdgeSettings, Fallback, FileOptions, HeaderAction, HeaderRule, Route, RouteHost, RouteOrigin, RoutePath,
    RouteResponse,
};

/// A folder of static files of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationFolder {
    /// What it is, for people: `Django's STATIC_ROOT`.
    pub kind: String,
    /// The number of its application among [`EdgeSettings::applications`]; `None` for the main one.
    pub application: Option<usize>,
    /// Where it is served: begins with a slash and does not end with one.
    pub path: String,
    /// Whether that is below the path of the application.
    pub is_relative: bool,
    /// The folder.
    pub folder: PathBuf,
    /// Whether pages of other sites may use the files, fonts above all.
    pub allow_origin: bool,
    /// How long clients keep a file, where the application says so.
    pub max_age: Option<Duration>,
}

/// What pages of other sites need to use a font.
const ALLOW_ORIGIN: &str = "Access-Control-Allow-Origin";

/// Settings with the routes for a folder.
pub struct PlacedFolder {
    /// The settings; as they were where no route was made.
    pub settings: EdgeSettings,
    /// The paths of the routes.
    pub paths: Vec<String>,
    /// Why a route was not made that an operator may expect: a line each.
    pub left: Vec<String>,
}

/// `settings` with routes for `folder`, but for where routes of the operator respond or guard.
pub fn with_folder(settings: &EdgeSettings, folder: &ApplicationFolder) -> PlacedFolder {
    let mut placed = PlacedFolder { settings: settings.clone(), paths: Vec::new(), left: Vec::new() };
    for (hosts, mount) in places(settings, folder.application) {
        let path = if folder.is_relative { format!("{mount}{}", folder.path) } else { folder.path.clone() };
        let Some(route) = route(&placed.settings, folder, hosts, &path) else { continue };
        if let Some(guard) = settings.routes.iter().find(|other| is_evaded(other, &route.hosts, &path)) {
            let (kind, place) = (&folder.kind, guard.place());
            placed.left.push(format!(
                "{kind} is not served at {path}/: a route for it would go around what the one for {place} \
                 ({}) says; a [[route]] with path = {path:?} and static = {:?} serves it",
                guard.origin,
                folder.folder.display().to_string(),
            ));
            continue;
        }
        match placed.settings.routes.iter_mut().find(|other| ties(other, &route)) {
            // One of the operator's that says how, but not what responds.
            Some(other) if other.hosts == route.hosts => complete(other, route),
            Some(_) => continue,
            None => placed.settings.routes.push(route),
        }
        placed.paths.push(path);
    }
    placed.paths.dedup();
    placed.left.dedup();
    placed
}

/// Whether a route without conditions for `path` would keep requests from `other`, which has some and decides what
/// clients may get. A route inherits from those around it that have no condition, and so not from `other`.
fn is_evaded(other: &Route, hosts: &[RouteHost], path: &str) -> bool {
    if (other.methods.is_empty() && other.if_file.is_none()) || !contains(&other.path, path) {
        return false;
    }
    let is_around = |host: &RouteHost| other.hosts.iter().any(|outer| contains_host(outer, host));
    if !other.hosts.is_empty() && !hosts.iter().any(is_around) {
        // A route for a host goes before one for all hosts.
        return false;
    }
    let guards = other.allow.is_some()
        || other.deny.is_some()
        || other.auth.is_some()
        || other.limit.is_some()
        || other.concurrent.is_some();
    let is_application =
        matches!(other.response, Some(RouteResponse::MainApplication | RouteResponse::Application(_)));
    let responds = other.response.is_some() && !is_application || other.redirects.is_some();
    // For the same path, the route with methods is the more specific one. One whose file is there goes before all.
    guards || (responds && other.if_file.is_none() && length(&other.path) < path.len())
}

/// Whether a host is `outer` or below it.
fn contains_host(outer: &RouteHost, host: &RouteHost) -> bool {
    let RouteHost::Below(parent) = outer else { return outer == host };
    let (RouteHost::Exact(name) | RouteHost::Below(name)) = host;
    outer == host || name.strip_suffix(parent.as_str()).is_some_and(|rest| rest.ends_with('.'))
}

/// Each place of an application: a host, or all, and the path.
fn places(settings: &EdgeSettings, application: Option<usize>) -> Vec<(Vec<RouteHost>, String)> {
    let applications = settings.applications();
    let target = application.and_then(|number| applications.get(number)).map(|(target, _)| *target);
    let is_its = |route: &&Route| match &route.response {
        Some(RouteResponse::MainApplication) => application.is_none(),
        Some(RouteResponse::Application(other)) => target == Some(other.as_str()),
        _ => false,
    };
    let place = |route: &Route| match &route.path {
        RoutePath::Any => Some((route.hosts.clone(), String::new())),
        // The main application has the whole path.
        RoutePath::Prefix(_) if application.is_none() => Some((route.hosts.clone(), String::new())),
        RoutePath::Prefix(path) => Some((route.hosts.clone(), path.clone())),
        RoutePath::Exact(_) => None,
    };
    let each = |(hosts, path): (Vec<RouteHost>, String)| {
        let hosts = match hosts.is_empty() {
            true => vec![Vec::new()],
            false => hosts.into_iter().map(|host| vec![host]).collect(),
        };
        hosts.into_iter().map(move |hosts| (hosts, path.clone()))
    };
    let mut places: Vec<_> = settings.routes.iter().filter(is_its).filter_map(place).flat_map(each).collect();
    if application.is_none() {
        // It gets what no route takes.
        places.push((Vec::new(), String::new()));
    }
    places.sort();
    places.dedup();
    places
}

/// The route for `folder` at this place, unless the operator's routes respond there.
fn route(
    settings: &EdgeSettings,
    folder: &ApplicationFolder,
    hosts: Vec<RouteHost>,
    path: &str,
) -> Option<Route> {
    let is_plain = |segment: &str| !matches!(segment, "" | "." | "..");
    if !path.strip_prefix('/')?.split('/').all(is_plain) || path.contains(['{', '}', '\\', '?', '#']) {
        return None;
    }
    let around = |route: &&Route| {
        route.if_file.is_none()
            && route.methods.is_empty()
            && (route.hosts.is_empty() || hosts.iter().any(|host| route.hosts.contains(host)))
            && contains(&route.path, path)
    };
    let around: Vec<&Route> = settings.routes.iter().filter(around).collect();
    let specific = |route: &&&Route| (!route.hosts.is_empty(), length(&route.path));
    let responding = around.iter().filter(|route| route.response.is_some()).max_by_key(specific);
    let is_free = responding.is_none_or(|route| {
        let is_application =
            matches!(route.response, Some(RouteResponse::MainApplication | RouteResponse::Application(_)));
        is_application && length(&route.path) < path.len()
    });
    if !is_free {
        return None;
    }
    let has_header =
        |route: &&Route| route.headers.iter().any(|rule| rule.name.eq_ignore_ascii_case(ALLOW_ORIGIN));
    let allowed = folder.allow_origin && !around.iter().any(has_header);
    let action = HeaderAction::Set("*".to_owned());
    Some(Route {
        origin: RouteOrigin::Option(folder.kind.clone()),
        hosts,
        path: RoutePath::Prefix(path.to_owned()),
        response: Some(RouteResponse::Files(vec![folder.folder.clone()])),
        headers: allowed.then(|| HeaderRule { name: ALLOW_ORIGIN.to_owned(), action }).into_iter().collect(),
        files: FileOptions {
            // Applications make files when they are asked for, too.
            fallback: Some(Fallback::Application),
            max_age: folder.max_age,
            ..FileOptions::default()
        },
        ..Route::default()
    })
}

fn contains(outer: &RoutePath, path: &str) -> bool {
    match outer {
        RoutePath::Any => true,
        RoutePath::Prefix(outer) => {
            path.strip_prefix(outer.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        RoutePath::Exact(_) => false,
    }
}

fn length(path: &RoutePath) -> usize {
    match path {
        RoutePath::Any => 0,
        RoutePath::Prefix(path) | RoutePath::Exact(path) => path.len(),
    }
}

/// Whether both are for the same path of the same host, so that none is more specific.
fn ties(one: &Route, other: &Route) -> bool {
    let same_host = match (one.hosts.is_empty(), other.hosts.is_empty()) {
        (true, true) => true,
        (false, false) => one.hosts.iter().any(|host| other.hosts.contains(host)),
        _ => false,
    };
    same_host && one.path == other.path && one.methods.is_empty() && one.if_file.is_none()
}

/// Adds to a route of the operator what `made` says and it does not.
fn complete(route: &mut Route, made: Route) {
    route.response = made.response;
    route.headers.extend(made.headers);
    let files = &mut route.files;
    files.fallback = files.fallback.take().or(made.files.fallback);
    files.max_age = files.max_age.or(made.files.max_age);
}

#[cfg(test)]
mod tests {
    use portico_config::{Parsed, parse};

    use super::*;
    use crate::router::{EdgeRouter, RouteRequest};

    fn settings(routes: &str) -> EdgeSettings {
        let text = std::ffi::OsString::from(routes);
        let env = |name: &str| (name == "PORTICO_ROUTE").then(|| text.clone());
        match parse(std::iter::empty(), &env) {
            Ok(Parsed::Run(resolved)) => resolved.config.edge,
            other => panic!("{routes}: {other:?}"),
        }
    }

    fn django(application: Option<usize>, path: &str, is_relative: bool) -> ApplicationFolder {
        ApplicationFolder {
            kind: "Django's STATIC_ROOT".to_owned(),
            application,
            path: path.to_owned(),
            is_relative,
            folder: "/srv/static".into(),
            allow_origin: true,
            max_age: None,
        }
    }

    /// The paths that get a route, and a router with it.
    fn made(routes: &str, folder: &ApplicationFolder) -> (Vec<String>, EdgeRouter) {
        let placed = with_folder(&settings(routes), folder);
        // Nothing is read but files of users.
        let mut read = |_: &std::path::Path| {
            Ok(b"bob:$2y$04$KBCwKxOzLha2MUKvKBCwKui0nTY/vM1SuWl0DVv6yR50jmX2M4Ya.\n".to_vec())
        };
        let router = EdgeRouter::build(&placed.settings, true, &mut read);
        (placed.paths, router.unwrap_or_else(|error| panic!("{error}")))
    }

    fn responds(router: &EdgeRouter, host: &str, path: &str) -> String {
        let request =
            RouteRequest { method: b"GET", path: path.as_bytes(), query: None, host: Some(host.as_bytes()) };
        router.decide(&request, &[]).route.response.to_string()
    }

    #[test]
    fn a_folder_gets_a_route() {
        let (paths, router) = made("[]", &django(None, "/static", false));
        assert_eq!(paths, ["/static"]);
        assert_eq!(responds(&router, "a", "/static/x.css"), "files of /srv/static");
        assert_eq!(responds(&router, "a", "/statics"), "the application");
        let request = RouteRequest { method: b"GET", path: b"/static/x", query: None, host: None };
        let route = router.decide(&request, &[]).route;
        assert_eq!(route.files.fallback, Fallback::Application);
        assert_eq!(route.headers.added(false, |_| true).collect::<Vec<_>>(), [(ALLOW_ORIGIN, "*")]);
        assert_eq!(route.application, None);
    }

    #[test]
    fn a_route_of_the_operator_counts() {
        for routes in [
            "[{ path = '/static', static = 'dist' }]",
            "[{ path = '/static', app = true }]",
            "[{ path = '/static', respond = 404 }]",
            "[{ path = '/', static = 'dist' }]",
        ] {
            assert_eq!(made(routes, &django(None, "/static", false)).0, [""; 0], "{routes}");
        }
        for routes in [
            "[{ path = '/', app = true, headers = { X = '1' } }]",
            "[{ path = '/static/deep', static = 'dist' }]",
            "[{ exact = '/static/x', static = 'dist' }]",
            "[{ path = '/static', methods = 'POST', respond = 405 }]",
            "[{ path = '/', if_file = 'x', respond = 503 }]",
        ] {
            assert_eq!(made(routes, &django(None, "/static", false)).0, ["/static"], "{routes}");
        }
    }

    #[test]
    fn no_route_goes_around_a_guard() {
        let guards = [
            "deny = '0.0.0.0/0'",
            "allow = '10.0.0.0/8'",
            "auth = 'users'",
            "limit = '5/s'",
            "concurrent = 2",
        ];
        let conditions = ["methods = ['GET', 'HEAD']", "methods = 'POST'", "if_file = 'closed'"];
        for guard in guards {
            for condition in conditions {
                for path in ["/", "/static"] {
                    let routes = format!("[{{ path = '{path}', {condition}, {guard} }}]");
                    let placed = with_folder(&settings(&routes), &django(None, "/static", false));
                    assert_eq!((placed.paths.len(), placed.left.len()), (0, 1), "{routes}");
                    assert!(
                        placed.left[0].contains("would go around what the one for /"),
                        "{:?}",
                        placed.left
                    );
                }
            }
            // Without a condition, the route inherits it.
            let routes = format!("[{{ path = '/', {guard} }}]");
            assert_eq!(made(&routes, &django(None, "/static", false)).0, ["/static"], "{routes}");
        }
        for (routes, expected) in [
            ("[{ path = '/', methods = 'GET', respond = 403 }]", false),
            ("[{ path = '/', methods = 'GET', redirect = '/in' }]", false),
            ("[{ path = '/', methods = 'GET', app = true }]", true),
            ("[{ path = '/', methods = 'GET', headers = { X = '1' } }]", true),
            ("[{ path = '/other', methods = 'GET', deny = '0.0.0.0/0' }]", true),
            ("[{ path = '/static/deep', methods = 'GET', deny = '0.0.0.0/0' }]", true),
            ("[{ exact = '/static/x', methods = 'GET', deny = '0.0.0.0/0' }]", true),
        ] {
            let paths = made(routes, &django(None, "/static", false)).0;
            assert_eq!(!paths.is_empty(), expected, "{routes}");
        }
    }

    #[test]
    fn a_guard_counts_for_its_hosts() {
        let guard = |host: &str| {
            format!(
                "[{{ host = 'a.b.example', app = true }}, \
                   {{ host = '{host}', path = '/', methods = 'GET', deny = '0.0.0.0/0' }}]"
            )
        };
        for (host, expected) in [
            ("a.b.example", ["denied", "served"]),
            ("*.b.example", ["denied", "served"]),
            ("*.example", ["denied", "served"]),
            ("*.a.b.example", ["served", "served"]),
            ("b.example", ["served", "served"]),
            ("*.xb.example", ["served", "served"]),
        ] {
            let (_, router) = made(&guard(host), &django(None, "/static", false));
            let served = ["a.b.example", "other.test"].map(|host| {
                match responds(&router, host, "/static/x").as_str() {
                    "files of /srv/static" => "served",
                    _ => "denied",
                }
            });
            assert_eq!(served, expected, "{host}");
        }
        // The host's own route goes before the one that is made for all hosts.
        let routes = "[{ host = 'a.example', path = '/', methods = 'GET', deny = '0.0.0.0/0' }]";
        let (paths, router) = made(routes, &django(None, "/static", false));
        assert_eq!(
            (paths.len(), responds(&router, "a.example", "/static/x")),
            (1, "the application".to_owned())
        );
    }

    #[test]
    fn a_route_that_says_only_how_is_completed() {
        let routes = "[{ path = '/static', max_age = '1h', limit = '5/s', \
                         headers = { Access-Control-Allow-Origin = 'https://a.example' } }]";
        let (paths, router) = made(routes, &django(None, "/static", false));
        assert_eq!(paths, ["/static"]);
        let request = RouteRequest { method: b"GET", path: b"/static/x", query: None, host: None };
        let route = router.decide(&request, &[]).route;
        assert_eq!((route.files.max_age, route.limit.is_some()), (Duration::from_secs(3600), true));
        let headers: Vec<_> = route.headers.added(false, |_| false).collect();
        assert_eq!(headers, [(ALLOW_ORIGIN, "https://a.example")]);
        assert_eq!(responds(&router, "a", "/static/x"), "files of /srv/static");
    }

    #[test]
    fn a_mounted_application_has_them_where_it_is() {
        let routes =
            "[{ path = '/shop', app = 'shop:app' }, { host = 'b.example', path = '/', app = 'shop:app' }]";
        let (paths, router) = made(routes, &django(Some(0), "/static", true));
        assert_eq!(paths, ["/shop/static", "/static"]);
        assert_eq!(responds(&router, "a", "/shop/static/x"), "files of /srv/static");
        assert_eq!(responds(&router, "b.example", "/static/x"), "files of /srv/static");
        assert_eq!(responds(&router, "a", "/static/x"), "the application");
        let request = RouteRequest { method: b"GET", path: b"/shop/static/x", query: None, host: Some(b"a") };
        let application = router.decide(&request, &[]).route.application.clone();
        assert_eq!(application.map(|it| (it.number, it.path.clone())), Some((0, "/shop".to_owned())));
        let (paths, _) = made(routes, &django(Some(0), "/static", false));
        assert_eq!(paths, ["/static"]);
    }

    #[test]
    fn the_main_application_has_them_on_its_hosts() {
        let routes =
            "[{ host = ['a.example', 'b.example'], app = true }, { host = 'c.example', respond = 404 }]";
        let (_, router) = made(routes, &django(None, "/static", false));
        for (host, expected) in [
            ("b.example", "files of /srv/static"),
            ("c.example", "respond 404"),
            ("d", "files of /srv/static"),
        ] {
            assert_eq!(responds(&router, host, "/static/x"), expected, "{host}");
        }
    }

    #[test]
    fn a_route_for_more_hosts_is_no_tie() {
        let routes = "[{ host = ['a.example', 'b.example'], app = true }, \
                        { host = ['a.example', 'x.example'], path = '/static', headers = { X = '1' } }, \
                        { host = 'b.example', path = '/static', headers = { X = '1' } }]";
        let (_, router) = made(routes, &django(None, "/static", false));
        assert_eq!(responds(&router, "a.example", "/static/x"), "the application");
        assert_eq!(responds(&router, "b.example", "/static/x"), "files of /srv/static");
    }

    #[test]
    fn a_path_that_no_route_can_have_gets_none() {
        for path in ["", "/", "/a//b", "/../x", "/{x}", "/a?b"] {
            assert_eq!(made("[]", &django(None, path, false)).0, [""; 0], "{path}");
        }
    }
}
