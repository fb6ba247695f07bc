//! The cost of a decision does not grow with the number of routes.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use portico_config::{EdgeSettings, HeaderAction, HeaderRule, Route, RoutePath, RouteResponse};
use portico_edge::{EdgeRouter, RouteRequest};

/// Routes of three kinds, so that all ways of looking one up are among them.
fn router(number: usize) -> EdgeRouter {
    let route = |number: usize| Route {
        path: match number % 3 {
            0 => RoutePath::Prefix(format!("/section{number}/part")),
            1 => RoutePath::Exact(format!("/page{number}")),
            _ => RoutePath::Exact(format!("/old{number}/{{slug}}.html")),
        },
        response: Some(RouteResponse::Fixed { status: 204, page: None }),
        headers: vec![HeaderRule { name: "A".to_owned(), action: HeaderAction::Remove }],
        ..Route::default()
    };
    let settings = EdgeSettings { routes: (0..number).map(route).collect(), ..EdgeSettings::default() };
    let mut read = |_: &Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    EdgeRouter::build(&settings, true, &mut read).unwrap_or_else(|error| panic!("{error}"))
}

/// The least time of a thousand decisions, of many tries: whatever else the machine does only adds to it.
fn cost(router: &EdgeRouter, path: &str) -> f64 {
    let request = RouteRequest { method: b"GET", path: path.as_bytes(), query: None, host: None };
    let run = || {
        let start = Instant::now();
        for _ in 0..1000 {
            black_box(router.decide(black_box(&request), &[]));
        }
        start.elapsed().as_secs_f64()
    };
    (0..50).map(|_| run()).fold(f64::INFINITY, f64::min)
}

#[test]
fn a_thousand_routes_cost_what_three_do() {
    let (few, many) = (router(3), router(1000));
    for path in ["/", "/section0/part/x", "/page1", "/old2/x.html", "/no/such/path"] {
        let (few, many) = (cost(&few, path), cost(&many, path));
        // Twice, because a table of a thousand is in a farther cache; a search through them would be a hundred
        // times.
        assert!(many < few * 2.0 + 0.0002, "{path}: {few} s for 3 routes, {many} s for 1000");
    }
}
