//! What a limit costs: nanoseconds of a check, the least of many runs, for a client that is known, for many
//! clients, and for clients that are all new in a table that is full.
//!
//! `cargo run --release --package portico-edge --example limit_cost`

use std::hash::RandomState;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use portico_config::{LimitKey, RateLimit};
use portico_edge::limit::{LimitSubject, LimitTable, Rate, table_words};

const CHECKS: u32 = 100_000;

fn main() {
    let limit = RateLimit {
        requests: 1000,
        period: Duration::from_secs(1),
        burst: 1_000_000,
        by: LimitKey::Client,
        dry_run: false,
    };
    let rate = Rate::new(&limit);
    let memory: Vec<AtomicU64> = (0..table_words(65_536)).map(|_| AtomicU64::new(0)).collect();
    let table = LimitTable::new(&memory, RandomState::new());
    let mut report = String::new();
    for (name, clients) in [("one client", 1), ("1,000 clients", 1000), ("1,000,000 clients", 1_000_000)] {
        let mut number = 0_u32;
        let mut run = || {
            let start = Instant::now();
            for _ in 0..CHECKS {
                number = (number + 1) % clients;
                let subject = LimitSubject::client(1, IpAddr::V4(Ipv4Addr::from(number)));
                black_box(table.check(&subject, rate, 1 << 40));
            }
            start.elapsed().as_secs_f64() * 1e9 / f64::from(CHECKS)
        };
        let least = (0..30).map(|_| run()).fold(f64::INFINITY, f64::min);
        report.push_str(&format!("{name}: {least:.0} ns\n"));
    }
    // An example's output is its result.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), report.as_bytes());
}
