//! The metrics that an application keeps itself, behind the server's own: by route, and those of
//! prometheus_client.

use std::fmt::Write as _;

use portico_metrics::{ApplicationEntry, ApplicationMetrics, TextFormat, route_text};
use portico_supervisor::{Entry, ROUTE_NUMBERS, RouteNumber, Scoreboard, SlotField};

/// The end of a text of OpenMetrics.
const END: &str = "# EOF\n";

/// `text`, the server's own metrics, with those of the application in it.
pub(crate) fn appended(board: &Scoreboard, text: &str, format: TextFormat) -> String {
    let (own, end) = match text.strip_suffix(END) {
        Some(own) => (own, END),
        None => (text, ""),
    };
    let routes = board.routes();
    let names: Vec<(RouteNumber, String)> = (0..ROUTE_NUMBERS)
        .map(RouteNumber::of_index)
        .filter_map(|number| Some((number, routes.name(number)?)))
        .collect();
    let durations = board.slots().flat_map(|(_, slot)| {
        names.iter().filter_map(move |(number, name)| Some((name.clone(), slot.route_durations(*number)?)))
    });
    let by_route = route_text(durations, format);
    let kept = kept(board);
    let lost = board.slots().map(|(_, slot)| slot.application_metrics().lost()).fold(0, u64::saturating_add);
    let mut left_out = String::new();
    for (name, help, count) in [
        ("portico_application_series_lost", "Series of the application that found no room.", lost),
        (
            "portico_application_series_refused",
            "Metrics of the application that cannot be shown.",
            kept.refused(),
        ),
        ("portico_routes_overflow", "Names of routes that found no place in the table.", routes.overflow()),
    ] {
        // Nearly nobody ever has one of them.
        if count > 0 {
            let _ = writeln!(left_out, "# TYPE {name} gauge\n# HELP {name} {help}\n{name} {count}");
        }
    }
    format!("{own}{by_route}{}{left_out}{end}", kept.text(format))
}

/// The metrics that the application keeps by prometheus_client.
fn kept(board: &Scoreboard) -> ApplicationMetrics {
    let entries: Vec<(u32, u64, Entry)> = board
        .slots()
        .flat_map(|(number, slot)| {
            let pid = slot.get(SlotField::Pid);
            slot.application_metrics().iter().map(move |entry| (number, pid, entry))
        })
        .collect();
    ApplicationMetrics::of(entries.iter().map(|(slot, pid, entry)| ApplicationEntry {
        slot: *slot,
        is_alive: *pid != 0 && entry.owner == *pid,
        key: &entry.key,
        value: f64::from_bits(entry.value),
        time: f64::from_bits(entry.time),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_stand_before_the_end() {
        let board = Scoreboard::create(2, 1).unwrap();
        assert_eq!(appended(&board, "x 1\n# EOF\n", TextFormat::OpenMetrics), "x 1\n# EOF\n");
        let number = board.routes().number("/users/<id>");
        for (_, slot) in board.slots() {
            slot.route_durations(number).unwrap().record(5);
            slot.route_durations(RouteNumber::OTHER).unwrap().record(5);
        }
        let text = appended(&board, "x 1\n# EOF\n", TextFormat::OpenMetrics);
        assert!(text.starts_with("x 1\n# TYPE portico_route_duration_seconds histogram\n"), "{text}");
        assert!(
            text.contains("_count{http_route=\"/users/<id>\"} 2\n") && text.ends_with("\n# EOF\n"),
            "{text}"
        );
        assert!(text.contains("_count{http_route=\"_OTHER\"} 2\n"), "{text}");
        let older = appended(&board, "x 1\n", TextFormat::Prometheus);
        assert!(!older.contains("# EOF") && older.contains("_count{http_route"), "{older}");
    }
}
