//! What finding a route costs, with 1 to 4,000 routes: nanoseconds of a decision, the least of many runs.
//!
//! `cargo run --release --package portico-edge --example route_cost`

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use portico_config::{EdgeSettings, Route, RoutePath, RouteResponse};
use portico_edge::{EdgeRouter, RouteRequest};

const DECISIONS: u32 = 10_000;
const RUNS: u32 = 50;

fn main() {
    let mut table = String::new();
    for number in [0, 1, 10, 100, 1000, 4000] {
        let router = router(number);
        let mut line = format!("{number:>5} routes");
        for path in ["/", "/api/items/17", "/section500/page.html", "/no/such/path", "/caf%C3%A9/x"] {
            let request = RouteRequest { method: b"GET", path: path.as_bytes(), query: None, host: None };
            line.push_str(&format!("  {path} {:.0} ns", cost(&router, &request)));
        }
        table.push_str(&line);
        table.push('\n');
    }
    // An example's output is its result.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), table.as_bytes());
}

fn router(number: usize) -> EdgeRouter {
    let route = |number: usize| Route {
        path: RoutePath::Prefix(format!("/section{number}")),
        response: Some(RouteResponse::Application(format!("app{number}:app"))),
        ..Route::default()
    };
    let settings = EdgeSettings { routes: (0..number).map(route).collect(), ..EdgeSettings::default() };
    let mut read = |_: &Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    EdgeRouter::build(&settings, true, &mut read).unwrap_or_else(|error| panic!("{error}"))
}

fn cost(router: &EdgeRouter, request: &RouteRequest<'_>) -> f64 {
    let run = || {
        let start = Instant::now();
        for _ in 0..DECISIONS {
            black_box(router.decide(black_box(request), &[]));
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(DECISIONS)
    };
    (0..RUNS).map(|_| run()).fold(f64::INFINITY, f64::min)
}
