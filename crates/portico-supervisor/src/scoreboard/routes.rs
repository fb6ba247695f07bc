//! The names of an application's routes, as the application tells them: `/users/<id>` for `/users/7`.
//!
//! All workers share one table, first come, first served. It is bounded, so that one that tells paths instead
//! fills it and no more: what finds no room counts as [`OTHER_ROUTE`].
//!
//! A worker can write anything here: a reader takes it for text, and tells it only with all that is no text
//! escaped.

use std::sync::atomic::{AtomicU64, Ordering};

use super::thread::{load_text, store_text};

/// The table. Copies are the same words.
#[derive(Clone, Copy, Debug)]
pub struct RouteTable<'a>(&'a [AtomicU64]);

/// The number of a route in the table, or of all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteNumber(u16);

/// Routes that have a place of their own.
pub const ROUTES_MAX: usize = 256;

/// The longest name of a route, in bytes. A longer one is one of the others.
const ROUTE_BYTES_MAX: usize = 120;

/// What all routes are called that have found no place.
const OTHER_ROUTE: &str = "_OTHER";

/// Free, being written, or written; then the length; then the text.
const STATE: usize = 0;
const LENGTH: usize = 1;
const TEXT_AT: usize = 2;
const ROUTE_WORDS: usize = TEXT_AT + ROUTE_BYTES_MAX / 8;

const FREE: u64 = 0;
const BEING_WRITTEN: u64 = 1;
const WRITTEN: u64 = 2;

/// Words of the table: how many calls found no place, then the places. Whole pages.
pub(super) const TABLE_WORDS: usize = (1 + ROUTES_MAX * ROUTE_WORDS).next_multiple_of(512);

/// Numbers that there are, with that of all others.
pub const ROUTE_NUMBERS: usize = ROUTES_MAX + 1;

impl RouteNumber {
    /// All routes without a place.
    pub const OTHER: Self = Self(ROUTES_MAX as u16);

    /// As an index below [`ROUTE_NUMBERS`].
    pub fn index(self) -> usize {
        usize::from(self.0).min(ROUTES_MAX)
    }

    /// That with this index.
    pub fn of_index(index: usize) -> Self {
        Self(index.min(ROUTES_MAX) as u16)
    }
}

impl<'a> RouteTable<'a> {
    /// The table in `words`.
    pub(super) fn in_words(words: &'a [AtomicU64]) -> Self {
        Self(words)
    }

    fn place(self, index: usize) -> Option<&'a [AtomicU64]> {
        let from = 1 + index * ROUTE_WORDS;
        self.0.get(from..from + ROUTE_WORDS)
    }

    /// The number of the route with this name: its own, or a new one, or that of all others.
    pub fn number(self, name: &str) -> RouteNumber {
        if name.is_empty() || name.len() > ROUTE_BYTES_MAX {
            return self.other();
        }
        for index in 0..ROUTES_MAX {
            let Some(place) = self.place(index) else { break };
            let claimed =
                place[STATE].compare_exchange(FREE, BEING_WRITTEN, Ordering::AcqRel, Ordering::Acquire);
            match claimed {
                Ok(_) => {
                    place[LENGTH].store(store_text(&place[TEXT_AT..], name.as_bytes()), Ordering::Relaxed);
                    place[STATE].store(WRITTEN, Ordering::Release);
                    return RouteNumber::of_index(index);
                }
                Err(WRITTEN) if text(place) == name.as_bytes() => return RouteNumber::of_index(index),
                // Another one's; or being written by a worker, which may have died at it. If that writes the same
                // name, two places have it, and whoever shows them adds them up.
                Err(_) => {}
            }
        }
        self.other()
    }

    fn other(self) -> RouteNumber {
        if let Some(count) = self.0.first() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        RouteNumber::OTHER
    }

    /// The name of the route with this number; `None` if there is none.
    pub fn name(self, number: RouteNumber) -> Option<String> {
        if number == RouteNumber::OTHER {
            return Some(OTHER_ROUTE.to_owned());
        }
        let place = self.place(number.index())?;
        let is_written = place[STATE].load(Ordering::Acquire) == WRITTEN;
        is_written.then(|| String::from_utf8_lossy(&text(place)).into_owned())
    }

    /// Names that were told and found no place, counted anew by each process that tells them.
    pub fn overflow(self) -> u64 {
        self.0.first().map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

fn text(place: &[AtomicU64]) -> Vec<u8> {
    load_text(&place[TEXT_AT..], place[LENGTH].load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Vec<AtomicU64> {
        (0..TABLE_WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_name_has_one_number() {
        let words = words();
        let table = RouteTable::in_words(&words);
        let users = table.number("/users/<id>");
        assert_ne!(table.number("/"), users);
        assert_eq!(table.number("/users/<id>"), users);
        assert_eq!(table.name(users).as_deref(), Some("/users/<id>"));
        assert_eq!(table.name(RouteNumber::of_index(2)), None);
    }

    #[test]
    fn the_257th_and_what_is_too_long_count_as_others() {
        let words = words();
        let table = RouteTable::in_words(&words);
        for index in 0..ROUTES_MAX {
            assert_eq!(table.number(&format!("/{index}")).index(), index);
        }
        assert_eq!((table.number("/256"), table.overflow()), (RouteNumber::OTHER, 1));
        assert_eq!(table.number("/255").index(), 255, "those that have a place keep it");
        assert_eq!(table.name(RouteNumber::OTHER).as_deref(), Some("_OTHER"));
        let table_of_others = self::words();
        let others = RouteTable::in_words(&table_of_others);
        assert_eq!(others.number(&"x".repeat(ROUTE_BYTES_MAX)).index(), 0);
        assert_eq!(others.number(&"x".repeat(ROUTE_BYTES_MAX + 1)), RouteNumber::OTHER);
        assert_eq!((others.number(""), others.overflow()), (RouteNumber::OTHER, 2));
    }

    #[test]
    fn nonsense_is_read_as_text() {
        let words: Vec<AtomicU64> = (0..TABLE_WORDS).map(|_| AtomicU64::new(u64::MAX)).collect();
        let table = RouteTable::in_words(&words);
        assert_eq!((table.name(RouteNumber::of_index(5)), table.number("/")), (None, RouteNumber::OTHER));
        words.iter().for_each(|word| word.store(WRITTEN, Ordering::Relaxed));
        assert!(table.name(RouteNumber::of_index(5)).is_some());
        let short = RouteTable::in_words(&[]);
        assert_eq!((short.number("/"), short.name(RouteNumber::of_index(0))), (RouteNumber::OTHER, None));
    }

    #[test]
    fn workers_that_come_at_once_lose_no_name() {
        let words = words();
        let table = RouteTable::in_words(&words);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                scope.spawn(move || {
                    for index in 0..40 {
                        let name = format!("/{worker}/{index}");
                        assert_eq!(table.name(table.number(&name)), Some(name));
                    }
                });
            }
        });
        let names: Vec<_> = (0..ROUTES_MAX).filter_map(|it| table.name(RouteNumber::of_index(it))).collect();
        assert_eq!((names.len(), table.overflow()), (160, 0));
    }
}
