//! When certificates expire, on the scoreboard: whoever reads the metrics has neither the files nor the right to
//! them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::thread::{load_text, store_text};

/// Certificates that are told; a server with more has the first ones here.
const CERTIFICATES_MAX: usize = 16;

/// Words of a name: of a longer one the end is told.
const NAME_WORDS: usize = 8;

/// When it expires, the length of its name, its name.
const ENTRY_WORDS: usize = 2 + NAME_WORDS;

/// Words that they take.
pub(super) const CERTIFICATE_WORDS: usize = CERTIFICATES_MAX * ENTRY_WORDS;

/// Those of a server. The supervisor alone writes them, seldom, so that a reader may find the name of one that is
/// written at that moment without its end, and leaves it out.
#[derive(Clone, Copy, Debug)]
pub struct Certificates<'a>(pub(super) &'a [AtomicU64]);

impl Certificates<'_> {
    /// They are these: each with its name and when it expires, in seconds since 1970.
    pub fn set<'name>(self, certificates: impl IntoIterator<Item = (&'name str, u64)>) {
        let mut certificates = certificates.into_iter();
        for entry in self.0.chunks_exact(ENTRY_WORDS) {
            let (name, until) = certificates.next().unwrap_or_default();
            let name = &name.as_bytes()[name.len().saturating_sub(8 * NAME_WORDS)..];
            if load_text(&entry[2..], entry[1].load(Ordering::Relaxed)) != name {
                entry[0].store(0, Ordering::Release);
                entry[1].store(store_text(&entry[2..], name), Ordering::Release);
            }
            entry[0].store(until, Ordering::Release);
        }
    }

    /// Their names, and when they expire.
    pub fn all(self) -> Vec<(String, u64)> {
        let entries = self.0.chunks_exact(ENTRY_WORDS);
        let known = entries.filter_map(|entry| {
            let until = entry[0].load(Ordering::Acquire);
            let name = load_text(&entry[2..], entry[1].load(Ordering::Acquire));
            (until > 0).then(|| (String::from_utf8_lossy(&name).into_owned(), until))
        });
        known.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Scoreboard;
    use super::*;

    #[test]
    fn they_are_told_with_their_names_as_far_as_there_is_room() {
        let board = Scoreboard::create(1, 1).unwrap();
        let certificates = board.certificates();
        assert!(certificates.all().is_empty());
        certificates.set([("a.pem", 7), ("b.pem", 8)]);
        assert_eq!(certificates.all(), [("a.pem".to_owned(), 7), ("b.pem".to_owned(), 8)]);
        certificates.set([("b.pem", 9)]);
        assert_eq!(certificates.all(), [("b.pem".to_owned(), 9)]);
        let names: Vec<String> = (0..20).map(|number| format!("{}{number:02}", "x".repeat(80))).collect();
        certificates.set(names.iter().map(|name| (&**name, 5)));
        let told = certificates.all();
        assert_eq!((told.len(), told[15].0.len()), (CERTIFICATES_MAX, 64));
        assert!(told[15].0.ends_with("x15"));
    }

    #[test]
    fn a_name_that_is_cut_within_a_letter_is_told() {
        let board = Scoreboard::create(1, 1).unwrap();
        let name = "\u{e9}".repeat(40) + "x";
        board.certificates().set([(&*name, 1)]);
        assert!(board.certificates().all()[0].0.ends_with("\u{e9}x"));
    }
}
