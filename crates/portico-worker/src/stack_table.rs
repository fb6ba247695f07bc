//! The stacks that a profile has found, as a worker tells them: each different frame and each different stack
//! once, with the time that was spent there. Bounded in all that an application can make many of.
//!
//! The entries have keys of three kinds. `T` and the text of a request's tag, or `F` and the function, file and
//! line of a frame, get numbers in the order in which they come; `S` and those numbers, the tag first and the
//! innermost frame last, is a stack. Its value is microseconds, its time how often it was seen.

use std::collections::HashMap;

use portico_supervisor::{Entries, EntryPlace};

/// Collects stacks as entries: always the same ones. One thread at a time has it.
#[derive(Debug, Default)]
pub struct StackTable {
    numbers: HashMap<Vec<u8>, u32>,
    stacks: HashMap<Box<[u32]>, EntryPlace>,
    tags: usize,
    next: u32,
}

/// A frame or a tag in a [`StackTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameNumber(u32);

/// Whether a stack has been noted, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// With all its frames.
    Whole,
    /// Without the outermost of its frames, since there are too many.
    Cut,
    /// Not at all: there is no room left.
    Dropped,
}

/// Frames of one stack that are kept: the innermost.
const DEPTH_MAX: usize = 128;

/// Different tags. All others count as one for each method.
const TAGS_MAX: usize = 256;

/// Different frames.
const FRAMES_MAX: usize = 32 * 1024;

/// Bytes of a function's name, of a file's and of a tag's that are kept. Of a file the end: it says more.
const NAME_BYTES_MAX: usize = 160;
const FILE_BYTES_MAX: usize = 400;
const TAG_BYTES_MAX: usize = 300;

/// Stands among the frames where some were cut, or where there are none.
const CUT: &str = "[more frames]";

impl StackTable {
    /// The tag of a request: its method, and its route or path.
    pub fn tag(&mut self, entries: Entries<'_>, method: &str, path: &str) -> Option<FrameNumber> {
        let key = tag_key(method, path);
        if self.tags >= TAGS_MAX && !self.numbers.contains_key(&key) {
            // The last place of all is theirs, of whatever method: a method can be anything, too.
            return self.numbered(entries, tag_key("_OTHER", ""));
        }
        self.tags += usize::from(!self.numbers.contains_key(&key));
        self.numbered(entries, key)
    }

    /// A frame.
    pub fn frame(
        &mut self,
        entries: Entries<'_>,
        function: &str,
        file: &str,
        line: u32,
    ) -> Option<FrameNumber> {
        let file = match file.len() > FILE_BYTES_MAX {
            true => {
                let from = (file.len() - FILE_BYTES_MAX..).find(|at| file.is_char_boundary(*at));
                format!("...{}", &file[from.unwrap_or(file.len())..])
            }
            false => file.to_owned(),
        };
        let key = format!("F{}\0{file}\0{line}", cut(function, NAME_BYTES_MAX));
        self.numbered(entries, key.into_bytes())
    }

    /// Something that stands in the place of a frame, such as `[waits for its client]`.
    pub fn note(&mut self, entries: Entries<'_>, text: &str) -> Option<FrameNumber> {
        self.frame(entries, text, "", 0)
    }

    fn numbered(&mut self, entries: Entries<'_>, key: Vec<u8>) -> Option<FrameNumber> {
        if let Some(number) = self.numbers.get(&key) {
            return Some(FrameNumber(*number));
        }
        if self.numbers.len() >= FRAMES_MAX {
            return None;
        }
        entries.append(&key, 0, 0, 0)?;
        let number = self.next;
        self.next += 1;
        self.numbers.insert(key, number);
        Some(FrameNumber(number))
    }

    /// So many microseconds were spent in a request of `tag` with `frames` on the stack, the innermost first.
    pub fn add(
        &mut self,
        entries: Entries<'_>,
        tag: Option<FrameNumber>,
        frames: &[Option<FrameNumber>],
        micros: u64,
    ) -> Noted {
        let kept = &frames[..frames.len().min(DEPTH_MAX)];
        let is_cut = kept.len() < frames.len();
        let cut_mark = if is_cut { self.note(entries, CUT).map(Some) } else { Some(None) };
        let numbers = || -> Option<Box<[u32]>> {
            let outermost = [Some(tag?)].into_iter().chain([cut_mark?]).flatten().map(Some);
            outermost.chain(kept.iter().rev().copied()).map(|frame| frame.map(|frame| frame.0)).collect()
        };
        let Some(stack) = numbers() else { return Noted::Dropped };
        let place = match self.stacks.get(&stack) {
            Some(place) => *place,
            None => {
                let key: Vec<u8> =
                    [b'S'].into_iter().chain(stack.iter().flat_map(|it| it.to_le_bytes())).collect();
                let Some(place) = entries.append(&key, 0, 0, 0) else { return Noted::Dropped };
                self.stacks.insert(stack, place);
                place
            }
        };
        entries.add_value(place, micros);
        entries.set_time(place, entries.time(place).saturating_add(1));
        if is_cut { Noted::Cut } else { Noted::Whole }
    }
}

fn tag_key(method: &str, path: &str) -> Vec<u8> {
    format!("T{} {}", cut(method, 16), cut(path, TAG_BYTES_MAX)).trim_end().to_owned().into_bytes()
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=text.len().min(bytes_max)).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use portico_supervisor::Scoreboard;

    use super::*;

    fn keys(board: &Scoreboard) -> Vec<(String, u64, u64)> {
        let entries = board.slot(0).unwrap().inspection().entries();
        let text = |key: Vec<u8>| key.escape_ascii().to_string();
        entries.iter().map(|entry| (text(entry.key), entry.value, entry.time)).collect()
    }

    #[test]
    fn equal_stacks_are_added_up() {
        let board = Scoreboard::create(1, 1).unwrap();
        let entries = board.slot(0).unwrap().inspection().entries();
        let mut table = StackTable::default();
        let tag = table.tag(entries, "GET", "/users/<id>");
        let (view, query) =
            (table.frame(entries, "view", "app.py", 7), table.frame(entries, "query", "db.py", 9));
        assert_eq!(table.add(entries, tag, &[query, view], 100), Noted::Whole);
        assert_eq!(table.add(entries, tag, &[view], 5), Noted::Whole);
        assert_eq!(
            (table.frame(entries, "view", "app.py", 7), table.tag(entries, "GET", "/users/<id>")),
            (view, tag)
        );
        assert_eq!(table.add(entries, tag, &[query, view], 20), Noted::Whole);
        let expected = [
            ("TGET /users/<id>", 0, 0),
            ("Fview\\x00app.py\\x007", 0, 0),
            ("Fquery\\x00db.py\\x009", 0, 0),
            ("S\\x00\\x00\\x00\\x00\\x01\\x00\\x00\\x00\\x02\\x00\\x00\\x00", 120, 2),
            ("S\\x00\\x00\\x00\\x00\\x01\\x00\\x00\\x00", 5, 1),
        ];
        assert_eq!(keys(&board), expected.map(|(key, value, time)| (key.to_owned(), value, time)));
    }

    #[test]
    fn recursion_keeps_the_innermost_frames() {
        let board = Scoreboard::create(1, 1).unwrap();
        let entries = board.slot(0).unwrap().inspection().entries();
        let mut table = StackTable::default();
        let (tag, frame, leaf) = (
            table.tag(entries, "GET", "/"),
            table.frame(entries, "f", "a", 1),
            table.frame(entries, "g", "a", 2),
        );
        let mut frames = vec![frame; DEPTH_MAX];
        frames[0] = leaf;
        assert_eq!(table.add(entries, tag, &frames, 1), Noted::Whole, "at the limit");
        frames.push(frame);
        assert_eq!(table.add(entries, tag, &frames, 1), Noted::Cut);
        let stacks: Vec<usize> =
            board.slot(0).unwrap().inspection().entries().iter().map(|entry| entry.key.len()).collect();
        assert_eq!(stacks[3], 1 + 4 * (1 + DEPTH_MAX));
        assert_eq!(stacks[5], 1 + 4 * (2 + DEPTH_MAX), "with the mark, and its own frame before it");
    }

    #[test]
    fn an_application_with_many_paths_fills_256_tags() {
        let board = Scoreboard::create(1, 1).unwrap();
        let entries = board.slot(0).unwrap().inspection().entries();
        let mut table = StackTable::default();
        let tags: Vec<_> =
            (0..=TAGS_MAX).map(|index| table.tag(entries, "GET", &format!("/{index}"))).collect();
        assert_ne!(tags[TAGS_MAX - 1], tags[TAGS_MAX]);
        assert_eq!(table.tag(entries, "PUT", "/more"), tags[TAGS_MAX]);
        assert_eq!(table.tag(entries, "GET", "/7"), tags[7], "those that have a place keep it");
        assert_eq!(keys(&board).last().unwrap().0, "T_OTHER");
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_known_stacks_go_on() {
        let board = Scoreboard::create(1, 1).unwrap();
        let entries = board.slot(0).unwrap().inspection().entries();
        let mut table = StackTable::default();
        let tag = table.tag(entries, "GET", "/");
        let known = table.frame(entries, "known", "a", 1);
        assert_eq!(table.add(entries, tag, &[known], 1), Noted::Whole);
        let long = "x".repeat(FILE_BYTES_MAX);
        let dropped = (0..100_000).find(|index| {
            let frame = table.frame(entries, "f", &long, *index);
            table.add(entries, tag, &[frame, known], 1) == Noted::Dropped
        });
        assert!(dropped.is_some_and(|index| index > 1_000), "{dropped:?}");
        assert_eq!(table.add(entries, tag, &[known], 1), Noted::Whole);
    }

    #[test]
    fn names_are_cut_between_characters() {
        let board = Scoreboard::create(1, 1).unwrap();
        let entries = board.slot(0).unwrap().inspection().entries();
        let mut table = StackTable::default();
        table.frame(entries, &"ä".repeat(200), &"ü".repeat(300), 1).unwrap();
        table.tag(entries, "GET", &"ö".repeat(300)).unwrap();
        for entry in board.slot(0).unwrap().inspection().entries().iter() {
            assert!(String::from_utf8(entry.key).unwrap().len() < 700);
        }
    }
}
