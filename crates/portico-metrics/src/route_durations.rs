//! The durations of an application's calls by route: `portico_route_duration_seconds`.
//!
//! Apart from the table: which routes there are the application says, while it runs. The cells of a series are
//! those of any histogram; one thread at a time writes them as well as it can: calls of one route that end in two
//! threads at the same moment use atomic additions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::buckets::{ADVISED_NANOS, BUCKETS, Buckets, NO_DURATIONS, bucket_of, cumulated};
use crate::openmetrics::{TextFormat, escape_label, seconds};

/// Words of a series: the sum of its durations, then its buckets.
pub const SERIES_WORDS: usize = 1 + BUCKETS;

/// The name under which they are shown.
pub(crate) const ROUTE_DURATION: &str = "portico_route_duration_seconds";

const HELP: &str = "Time that calls of the application took, by the route that it has told \
                    (environ[\"portico.route\"]).";

/// The durations of one route in one slot. Copies are the same cells.
#[derive(Clone, Copy, Debug)]
pub struct RouteDurations<'a>(&'a [AtomicU64; SERIES_WORDS]);

impl<'a> RouteDurations<'a> {
    /// Those that lie in `words`; `None` if these are not [`SERIES_WORDS`].
    pub fn in_words(words: &'a [AtomicU64]) -> Option<Self> {
        words.try_into().ok().map(Self)
    }

    /// Adds a call that took so long.
    pub fn record(self, nanos: u64) {
        self.0[0].fetch_add(nanos, Ordering::Relaxed);
        self.0[1 + bucket_of(nanos)].fetch_add(1, Ordering::Relaxed);
    }

    fn read(self) -> (u64, Buckets) {
        let count = |bucket: usize| self.0[1 + bucket].load(Ordering::Relaxed);
        (self.0[0].load(Ordering::Relaxed), std::array::from_fn(count))
    }
}

/// The durations of all routes as text, without an end: `routes` are those of all slots, each with its name.
/// Nothing where none has been told.
pub fn route_text<'a>(
    routes: impl IntoIterator<Item = (String, RouteDurations<'a>)>,
    format: TextFormat,
) -> String {
    let mut all: BTreeMap<String, (u64, Buckets)> = BTreeMap::new();
    for (name, durations) in routes {
        let (sum, buckets) = durations.read();
        if buckets == NO_DURATIONS {
            continue;
        }
        let of_route = all.entry(name).or_insert((0, NO_DURATIONS));
        of_route.0 = of_route.0.saturating_add(sum);
        of_route.1.iter_mut().zip(buckets).for_each(|(all, count)| *all = all.saturating_add(count));
    }
    let mut text = String::new();
    if all.is_empty() {
        return text;
    }
    let _ = writeln!(text, "# TYPE {ROUTE_DURATION} histogram");
    if format == TextFormat::OpenMetrics {
        let _ = writeln!(text, "# UNIT {ROUTE_DURATION} seconds");
    }
    let _ = writeln!(text, "# HELP {ROUTE_DURATION} {}", HELP.replace('"', "'"));
    for (name, (sum, buckets)) in &all {
        let (route, (counts, total)) = (escape_label(name), cumulated(buckets));
        let bounds = ADVISED_NANOS.map(seconds).into_iter().chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(counts.into_iter().chain([total])) {
            let _ =
                writeln!(text, "{ROUTE_DURATION}_bucket{{http_route=\"{route}\",le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(text, "{ROUTE_DURATION}_count{{http_route=\"{route}\"}} {total}");
        let _ = writeln!(text, "{ROUTE_DURATION}_sum{{http_route=\"{route}\"}} {}", seconds(*sum));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Vec<AtomicU64> {
        (0..SERIES_WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn routes_are_summed_over_slots_and_escaped() {
        let (first, second, unused) = (words(), words(), words());
        let series = |words| RouteDurations::in_words(words).unwrap();
        series(&first).record(7_000_000);
        series(&second).record(2_000_000_000);
        let name = "/a\"\\\n<id>";
        let routes = [(name, &first), ("/never", &unused), (name, &second)];
        let text = route_text(
            routes.iter().map(|(name, words)| ((*name).to_owned(), series(words))),
            TextFormat::OpenMetrics,
        );
        let line = |rest: &str| format!("{ROUTE_DURATION}{rest}\n");
        assert!(text.contains(&line(r#"_count{http_route="/a\"\\\n<id>"} 2"#)), "{text}");
        assert!(text.contains(&line(r#"_sum{http_route="/a\"\\\n<id>"} 2.007"#)), "{text}");
        assert!(text.contains(&line(r#"_bucket{http_route="/a\"\\\n<id>",le="0.01"} 1"#)), "{text}");
        assert!(!text.contains("/never") && text.matches("# UNIT").count() == 1, "{text}");
        let older = route_text([(name.to_owned(), series(&first))], TextFormat::Prometheus);
        assert!(older.starts_with("# TYPE") && !older.contains("# UNIT"), "{older}");
    }

    #[test]
    fn where_no_route_was_told_nothing_is_shown() {
        let unused = words();
        let series = RouteDurations::in_words(&unused).unwrap();
        assert_eq!(route_text([("/".to_owned(), series)], TextFormat::OpenMetrics), "");
        assert!(RouteDurations::in_words(&unused[1..]).is_none());
    }
}
