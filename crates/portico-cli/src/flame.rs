//! A profile as a value: which stacks were seen, and for how long. Read from what workers tell, merged over them,
//! and written in the forms that people and programs read. Does no I/O.
//!
//! All text in it is somebody else's: paths come from clients, names from the application, and a worker can write
//! what it likes. It is cleaned once, where it is read: no control character and nothing that turns the direction
//! of text gets into any form. Each form escapes what it must beside that.

mod collapsed;
mod hottest;
mod speedscope;
mod svg;

use std::collections::BTreeMap;
use std::sync::Arc;

/// Stacks with the time that was spent in each.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Profile {
    /// By their frames, the request's tag first and the innermost last.
    stacks: BTreeMap<Vec<ProfileFrame>, Spent>,
}

/// A function at a line of its file; or a tag or a note, which have no file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ProfileFrame {
    function: Arc<str>,
    file: Arc<str>,
    line: u32,
}

/// The time that was spent in a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    micros: u64,
    samples: u64,
}

/// The parts of the text above a picture that are not in the profile itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    /// What was done, in a few words.
    pub(crate) title: String,
    /// What a reader must know: one sentence each.
    pub(crate) notes: Vec<String>,
}

/// Frames of a stack that are read.
const DEPTH_MAX: usize = 256;

impl Profile {
    /// Adds what a worker has told: keys, microseconds and samples, in the order in which they were written. What
    /// is no such key is left out.
    pub(crate) fn read(&mut self, entries: impl IntoIterator<Item = (Vec<u8>, u64, u64)>) {
        let mut frames: Vec<ProfileFrame> = Vec::new();
        for (key, micros, samples) in entries {
            match key.split_first() {
                Some((b'T', text)) => frames.push(ProfileFrame::note(&String::from_utf8_lossy(text))),
                Some((b'F', text)) => frames.push(ProfileFrame::parse(&String::from_utf8_lossy(text))),
                Some((b'S', numbers)) => {
                    let number = |bytes: &[u8; 4]| frames.get(u32::from_le_bytes(*bytes) as usize).cloned();
                    let (numbers, _) = numbers.as_chunks::<4>();
                    let mut stack: Vec<ProfileFrame> =
                        numbers.iter().take(DEPTH_MAX).filter_map(number).collect();
                    let starts = stack.iter().skip(1).take_while(|frame| frame.starts_thread()).count();
                    stack.drain(1.min(stack.len())..1.min(stack.len()) + starts);
                    if !stack.is_empty() && micros > 0 {
                        self.add(stack, Spent { micros, samples });
                    }
                }
                _ => {}
            }
        }
    }

    fn add(&mut self, stack: Vec<ProfileFrame>, spent: Spent) {
        let all = self.stacks.entry(stack).or_default();
        all.micros = all.micros.saturating_add(spent.micros);
        all.samples = all.samples.saturating_add(spent.samples);
    }

    /// The time of all stacks.
    pub(crate) fn micros(&self) -> u64 {
        self.stacks.values().map(|spent| spent.micros).fold(0, u64::saturating_add)
    }

    /// Whether no call was seen.
    pub(crate) fn is_empty(&self) -> bool {
        self.stacks.is_empty()
    }
}

impl ProfileFrame {
    fn note(text: &str) -> Self {
        Self { function: clean(text), file: Arc::default(), line: 0 }
    }

    /// Function, file and line, with a zero byte between them.
    fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '\0');
        let mut next = || parts.next().unwrap_or_default();
        let (function, file, line) = (next(), next(), next());
        Self { function: clean(function), file: clean(file), line: line.parse().unwrap_or_default() }
    }

    /// The file as people say it: below the folder of installed packages, or of Python's library.
    fn short_file(&self) -> &str {
        let file = &*self.file;
        let below = |folder: &str| file.rfind(folder).map(|at| &file[at + folder.len()..]);
        if let Some(rest) = below("/site-packages/").or_else(|| below("/dist-packages/")) {
            return rest;
        }
        self.library_file().unwrap_or(file)
    }

    /// The file below `lib/python3.x/`, where it is there.
    fn library_file(&self) -> Option<&str> {
        let (_, rest) = self.file.split_once("/lib/python3")?;
        rest.split_once('/').map(|(_, rest)| rest)
    }

    /// Whether it is one of those by which `threading` starts a thread: every stack has them.
    fn starts_thread(&self) -> bool {
        let name = self.function.rsplit('.').next().unwrap_or_default();
        self.file.ends_with("/threading.py") && ["_bootstrap", "_bootstrap_inner", "run"].contains(&name)
    }

    /// Whether it is code of somebody else: an installed package, or Python's library.
    fn is_library(&self) -> bool {
        self.file.starts_with('<')
            || self.library_file().is_some()
            || self.short_file().len() < self.file.len()
    }

    /// Whether it is no function: a request's tag, or a note such as `[waits for its client]`.
    fn is_note(&self) -> bool {
        self.file.is_empty()
    }

    /// `function (file:line)`, or the note.
    fn label(&self) -> String {
        match self.is_note() {
            true => self.function.to_string(),
            false => format!("{} ({}:{})", self.function, self.short_file(), self.line),
        }
    }
}

/// `text` without what a terminal or a picture would take for something else than text.
fn clean(text: &str) -> Arc<str> {
    let is_plain = |character: char| {
        !character.is_control()
            && !matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            && !matches!(character, '\u{fffe}' | '\u{ffff}')
    };
    let plain = text.chars().map(|character| if is_plain(character) { character } else { '\u{fffd}' });
    plain.collect::<String>().into()
}

/// A time as it is told of a profile.
fn seconds(micros: u64) -> String {
    match micros {
        0..10_000_000 => format!("{:.2} s", micros as f64 / 1e6),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", part as f64 * 100.0 / whole.max(1) as f64)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A profile of stacks, each as `tag;function file line;...`, and microseconds.
    pub(crate) fn profile(stacks: &[(&str, u64)]) -> Profile {
        let mut profile = Profile::default();
        for (text, micros) in stacks {
            let frame = |text: &str| match text.split(' ').collect::<Vec<_>>()[..] {
                [function, file, line] => ProfileFrame::parse(&format!("{function}\0{file}\0{line}")),
                _ => ProfileFrame::note(text),
            };
            profile.add(text.split(';').map(frame).collect(), Spent { micros: *micros, samples: 1 });
        }
        profile
    }
}

#[cfg(test)]
mod tests {
    use super::testing::profile;
    use super::*;

    fn stack(numbers: &[u32]) -> Vec<u8> {
        [b'S'].into_iter().chain(numbers.iter().flat_map(|number| number.to_le_bytes())).collect()
    }

    #[test]
    fn what_workers_tell_is_merged() {
        let mut read = Profile::default();
        let first =
            [(b"TGET /".to_vec(), 0, 0), (b"Fview\0app.py\x007".to_vec(), 0, 0), (stack(&[0, 1]), 500, 5)];
        // Another worker has met the same in another order.
        let other = [
            (b"Fview\0app.py\x007".to_vec(), 0, 0),
            (b"TGET /".to_vec(), 0, 0),
            (stack(&[1, 0]), 250, 2),
            (stack(&[1]), 1, 1),
        ];
        read.read(first);
        read.read(other);
        assert_eq!(read.micros(), 751);
        let both =
            read.stacks.get(&vec![ProfileFrame::note("GET /"), ProfileFrame::parse("view\0app.py\x007")]);
        assert_eq!(both, Some(&Spent { micros: 750, samples: 7 }));
    }

    #[test]
    fn how_a_thread_starts_is_left_out() {
        let frame = |function: &str| {
            let file =
                if function.starts_with("Thread") { "/usr/lib/python3.11/threading.py" } else { "app.py" };
            (format!("F{function}\0{file}\x001").into_bytes(), 0, 0)
        };
        let mut read = Profile::default();
        let mut keys = vec![(b"TGET /".to_vec(), 0, 0)];
        keys.extend(["Thread._bootstrap", "Thread._bootstrap_inner", "Thread.run", "app"].map(frame));
        keys.push((stack(&[0, 1, 2, 3, 4, 3]), 5, 1));
        keys.push((stack(&[0]), 5, 1));
        read.read(keys);
        let labels: Vec<String> = read.stacks.keys().flatten().map(ProfileFrame::label).collect();
        let run = "Thread.run (threading.py:1)";
        assert_eq!(labels, ["GET /", "GET /", "app (app.py:1)", run], "one that the application calls stays");
    }

    #[test]
    fn nonsense_is_left_out() {
        let mut read = Profile::default();
        read.read([
            (vec![], 1, 1),
            (b"X".to_vec(), 1, 1),
            (b"S\0\0".to_vec(), 1, 1),
            (stack(&[0, 7, u32::MAX]), 1, 1),
            (b"F".to_vec(), 1, 1),
            (b"F\xff\xfe\0\0\0\0".to_vec(), 1, 1),
            (stack(&[0, 1]), u64::MAX, u64::MAX),
            (stack(&[0, 1]), u64::MAX, u64::MAX),
            (stack(&[0; 10_000]), 1, 1),
        ]);
        assert_eq!(read.micros(), u64::MAX);
        assert!(read.stacks.keys().all(|stack| stack.len() <= DEPTH_MAX));
    }

    #[test]
    fn text_is_cleaned_where_it_is_read() {
        let frame = ProfileFrame::parse("a\x1b[31m\u{202e}b\n\0c\rd\x001");
        assert_eq!((&*frame.function, &*frame.file), ("a\u{fffd}[31m\u{fffd}b\u{fffd}", "c\u{fffd}d"));
    }

    #[test]
    fn files_are_told_below_their_folder() {
        for (file, short, is_library) in [
            ("/srv/shop/app.py", "/srv/shop/app.py", false),
            ("/v/lib/python3.12/site-packages/django/core/x.py", "django/core/x.py", true),
            ("/usr/lib/python3/dist-packages/yaml/x.py", "yaml/x.py", true),
            ("/usr/lib/python3.12/json/decoder.py", "json/decoder.py", true),
            ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap>", true),
        ] {
            let frame = ProfileFrame::parse(&format!("f\0{file}\x001"));
            assert_eq!((frame.short_file(), frame.is_library()), (short, is_library), "{file}");
        }
    }

    #[test]
    fn an_empty_profile_is_empty() {
        assert!(Profile::default().is_empty() && !profile(&[("GET /", 1)]).is_empty());
    }
}
