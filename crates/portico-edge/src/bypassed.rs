//! Guards that a more specific route leads around: for `portico check` and the log of a start.
//!
//! A route within a guarded one inherits the guard. One that is more specific by its host or its methods, or whose
//! captures are exact, lies within none of the guarded route's paths and inherits nothing of it, but takes some of
//! its requests.

use std::collections::HashSet;

use portico_config::{Route, RouteHost, RoutePath, RouteResponse};

use crate::explain::{PROBE, reason, segments_of};
use crate::flat::FlatRoute;
use crate::pattern::{Segment, segments};
use crate::router::EdgeRouter;

/// A key of a route that keeps requests from what responds, and whether a route says it.
type GuardKey = (&'static str, fn(&Route) -> bool);

const GUARDS: [GuardKey; 6] = [
    ("allow", |route| route.allow.is_some()),
    ("deny", |route| route.deny.is_some()),
    ("auth", |route| route.auth.is_some()),
    ("limit", |route| route.limit.is_some()),
    ("concurrent", |route| route.concurrent.is_some()),
    ("internal", |route| route.internal.is_some()),
];

/// Routes that take requests of a guarded route without its guard, a line for each pair.
pub fn bypassed_guards(router: &EdgeRouter) -> Vec<String> {
    let deepest = router.routes().iter().map(|route| segments_of(&route.path)).max().unwrap_or_default() + 1;
    let (mut told, mut lines) = (HashSet::new(), Vec::new());
    for guarded in router.routes().iter().filter(|route| route.is_guarded()) {
        for other in router.routes().iter().filter(|route| serves(route)) {
            let missing = missing(router, guarded, other);
            // What one says for several hosts is told once.
            let pair = (guarded.chain[0], other.chain[0]);
            if missing.is_empty() || told.contains(&pair) || !takes_some(router, guarded, other, deepest) {
                continue;
            }
            told.insert(pair);
            lines.push(format!(
                "{}: {} of the route for {} does not hold where the route for {} ({}) counts, because {}: say it \
                 there too",
                guarded.origin,
                missing.join(" and "),
                guarded.place(),
                other.place(),
                other.origin,
                reason(other, guarded)
            ));
        }
    }
    lines
}

/// Whether a client gets anything of a route that a guard may be for.
fn serves(route: &FlatRoute) -> bool {
    let is_bare =
        matches!(route.response, RouteResponse::Redirect { .. } | RouteResponse::Fixed { page: None, .. });
    !is_bare && !route.internal
}

/// The guards of `guarded` of which `other` has neither its own nor one that it inherits. One that it takes back,
/// it says.
fn missing(router: &EdgeRouter, guarded: &FlatRoute, other: &FlatRoute) -> Vec<&'static str> {
    let is_set = |key: &str| match key {
        "allow" => guarded.allow.is_some(),
        "deny" => !guarded.deny.is_empty(),
        "internal" => guarded.internal,
        _ => true,
    };
    let lacks = |(key, says): &GuardKey| {
        let is_said = |route| router.chain(route).any(says);
        (is_set(key) && is_said(guarded) && !is_said(other)).then_some(*key)
    };
    GUARDS.iter().filter_map(lacks).collect()
}

/// Whether `other` gets a request that `guarded` is for as well.
fn takes_some(router: &EdgeRouter, guarded: &FlatRoute, other: &FlatRoute, deepest: usize) -> bool {
    let Some(host) = common_host(guarded.host.as_ref(), other.host.as_ref()) else { return false };
    let Some((path, is_open)) = common_path(&guarded.path, &other.path) else { return false };
    let methods: Vec<&str> = match (&guarded.methods[..], &other.methods[..]) {
        ([], []) => vec!["PORTICO-PROBE"],
        ([], some) | (some, []) => some.iter().map(String::as_str).collect(),
        (own, theirs) => own.iter().filter(|own| theirs.contains(own)).map(String::as_str).collect(),
    };
    let is_needed = |file| [&guarded.if_file, &other.if_file].contains(&&Some(file));
    let present: Vec<bool> = router.watched_files().iter().cloned().map(is_needed).collect();
    (0..=if is_open { deepest } else { 0 }).any(|depth| {
        let mut path = path.clone();
        path.extend_from_slice(format!("/{PROBE}").repeat(depth).as_bytes());
        if path.is_empty() {
            path.push(b'/');
        }
        methods.iter().any(|method| {
            let found = router.winner(&host, &path, method, &present);
            found.is_some_and(|found| std::ptr::eq(found, other))
        })
    })
}

/// A host that both are for.
fn common_host(left: Option<&RouteHost>, right: Option<&RouteHost>) -> Option<String> {
    let is_below = |name: &str, parent: &str| {
        name.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
    };
    let probe = |parent: &str| format!("portico-probe.{parent}");
    match (left, right) {
        (None, None) => Some(probe("invalid")),
        (None, Some(RouteHost::Exact(name))) | (Some(RouteHost::Exact(name)), None) => Some(name.clone()),
        (None, Some(RouteHost::Below(name))) | (Some(RouteHost::Below(name)), None) => Some(probe(name)),
        (Some(RouteHost::Exact(left)), Some(RouteHost::Exact(right))) => {
            (left == right).then(|| left.clone())
        }
        (Some(RouteHost::Exact(name)), Some(RouteHost::Below(parent)))
        | (Some(RouteHost::Below(parent)), Some(RouteHost::Exact(name))) => {
            is_below(name, parent).then(|| name.clone())
        }
        (Some(RouteHost::Below(left)), Some(RouteHost::Below(right))) => {
            let (long, short) = if left.len() < right.len() { (right, left) } else { (left, right) };
            (long == short || is_below(long, short)).then(|| probe(long))
        }
    }
}

/// A path that both are for, and whether both are for all below it too.
fn common_path(left: &RoutePath, right: &RoutePath) -> Option<(Vec<u8>, bool)> {
    let ((left, left_is_open), (right, right_is_open)) = (parts(left), parts(right));
    let mut path = Vec::new();
    for at in 0..left.len().max(right.len()) {
        path.push(b'/');
        match (left.get(at), right.get(at)) {
            (Some(left), Some(right)) => path.extend(common_segment(left, right)?),
            (Some(only), None) if right_is_open => path.extend(common_segment(only, only)?),
            (None, Some(only)) if left_is_open => path.extend(common_segment(only, only)?),
            _ => return None,
        }
    }
    Some((path, left_is_open && right_is_open))
}

/// The segments that a path has at least, and whether it takes more.
fn parts(path: &RoutePath) -> (Vec<Segment>, bool) {
    match path {
        RoutePath::Any => (Vec::new(), true),
        RoutePath::Prefix(path) => {
            (path.split('/').skip(1).map(|part| Segment::Literal(part.as_bytes().into())).collect(), true)
        }
        RoutePath::Exact(path) => {
            let mut parts = segments(path);
            let is_open = matches!(parts.last(), Some(Segment::Rest { .. }));
            if is_open {
                parts.pop();
                parts.push(Segment::Capture { before: [].into(), name: String::new(), after: [].into() });
            }
            (parts, is_open)
        }
    }
}

/// A segment that both match.
fn common_segment(left: &Segment, right: &Segment) -> Option<Vec<u8>> {
    if !left.overlaps(right) {
        return None;
    }
    Some(match (left, right) {
        (Segment::Literal(literal), _) | (_, Segment::Literal(literal)) => literal.to_vec(),
        (
            Segment::Capture { before, after, .. },
            Segment::Capture { before: other_before, after: other_after, .. },
        ) => {
            let longer =
                |left: &[u8], right: &[u8]| if left.len() < right.len() { right } else { left }.to_vec();
            [longer(before, other_before), PROBE.as_bytes().to_vec(), longer(after, other_after)].concat()
        }
        _ => PROBE.as_bytes().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::tests::router;

    #[test]
    fn a_more_specific_route_without_the_guard_is_told() {
        for (routes, parts) in [
            (
                "[{ path = '/admin', deny = ['0.0.0.0/0'] }, { host = 'example.com', app = true }]",
                &["deny of the route for /admin does not", "example.com", "its host is more specific"][..],
            ),
            (
                "[{ path = '/admin', auth = 'u' }, { host = '*.example.com', path = '/', app = true }]",
                &["auth of the route for /admin", "*.example.com", "its host is more specific"],
            ),
            (
                "[{ path = '/', methods = 'POST', deny = ['0.0.0.0/0'] }, { path = '/api', app = true }]",
                &["deny of the route for /, POST does", "/api", "its path is longer"],
            ),
            (
                "[{ path = '/a', allow = ['10.0.0.0/8'] }, { methods = 'POST', exact = '/{x}/b', app = true }]",
                &["allow of the route for /a does", "/{x}/b, POST", "its path is exact"],
            ),
            (
                "[{ path = '/files/private', deny = ['0.0.0.0/0'] }, { exact = '/files/{name}', app = true }]",
                &["deny of the route for /files/private does", "=/files/{name}", "its path is exact"],
            ),
            (
                "[{ exact = '/a/{x}.html', limit = '5/m', concurrent = 3 }, \
                  { exact = '/a/b{x}', methods = 'GET', host = 'b.example', app = true }]",
                &["limit and concurrent of the route for =/a/{x}.html", "=/a/b{x}", "its host"],
            ),
            (
                "[{ path = '/i', internal = true, static = '/s' }, { host = 'b.example', app = true }]",
                &["internal of the route for /i does", "b.example"],
            ),
            (
                "[{ host = '*.a.example', path = '/x', auth = 'u' }, \
                  { host = ['b.a.example', 'c.a.example'], app = true }]",
                &["auth of the route for", "*.a.example"],
            ),
            (
                "[{ path = '/a', auth = 'u' }, { if_file = 'f', path = '/', static = '/s' }]",
                &["auth of the route for /a", "its file is there"],
            ),
        ] {
            let lines = bypassed_guards(&router(routes));
            let [line] = &lines[..] else { panic!("{routes}: {lines:?}") };
            for part in parts {
                assert!(line.contains(part), "{part} in {line}");
            }
            assert_eq!(line.matches("PORTICO_ROUTE").count(), 2, "both say who said them: {line}");
        }
    }

    #[test]
    fn there_is_no_alarm_where_the_guard_holds_or_is_taken_back() {
        for routes in [
            "[]",
            "[{ path = '/a', app = true }, { host = 'a.example', app = true }]",
            // They inherit it.
            "[{ path = '/admin', auth = 'u' }, { path = '/admin/x', app = true }]",
            "[{ path = '/admin', auth = 'u' }, { path = '/admin', methods = 'POST', app = true }]",
            "[{ path = '/admin', auth = 'u' }, { host = 'a.example', path = '/admin', app = true }]",
            "[{ path = '/files', deny = ['10.0.0.0/8'] }, { exact = '/files/{name}', app = true }]",
            "[{ auth = 'u' }, { host = 'a.example', app = true }]",
            // They have their own, or take it back.
            "[{ path = '/admin', auth = 'u' }, { host = 'a.example', app = true, auth = 'v' }]",
            "[{ path = '/admin', deny = ['10.0.0.0/8'] }, { host = 'a.example', app = true, deny = [] }]",
            "[{ path = '/admin', auth = 'u' }, { host = 'a.example', app = true }, \
              { host = 'a.example', path = '/admin', auth = 'u' }]",
            // No request is for both.
            "[{ host = 'b.example', path = '/admin', auth = 'u' }, { host = 'a.example', app = true }]",
            "[{ path = '/a', methods = 'POST', auth = 'u' }, { host = 'a.example', methods = 'PUT', app = true }]",
            "[{ exact = '/a/{x}', auth = 'u' }, { exact = '/b/{x}', host = 'a.example', app = true }]",
            "[{ exact = '/a/x-{x}', auth = 'u' }, { exact = '/a/y-{x}', host = 'a.example', app = true }]",
            // Nobody gets anything of it.
            "[{ path = '/admin', auth = 'u' }, { host = 'a.example', redirect = 'https://b.example{path}' }]",
            "[{ path = '/admin', auth = 'u' }, { host = 'a.example', respond = 404 }]",
            // The less specific one is not asked.
            "[{ host = 'a.example', path = '/admin', auth = 'u' }, { app = true }]",
        ] {
            assert_eq!(bypassed_guards(&router(routes)), [""; 0], "{routes}");
        }
    }
}
