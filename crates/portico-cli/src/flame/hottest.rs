//! The lines and the requests of a profile that took the most time, as tables for a terminal.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use super::{Profile, ProfileFrame, percent, seconds};
use crate::table::{TextTable, cut};

/// A line of code, or a note in the place of one.
#[derive(Debug)]
pub(super) struct HotLine<'a> {
    pub(super) frame: &'a ProfileFrame,
    /// Microseconds in the line itself.
    pub(super) own: u64,
    /// Microseconds in it and what it called.
    pub(super) total: u64,
}

/// Rows of each table.
const ROWS_MAX: usize = 15;

/// Characters of a line's or a request's text.
const WIDTH: usize = 100;

impl Profile {
    /// Lines by the time in themselves. A line that calls itself counts once for each stack.
    pub(super) fn hottest(&self) -> Vec<HotLine<'_>> {
        let mut lines: HashMap<&ProfileFrame, (u64, u64)> = HashMap::new();
        for (stack, spent) in &self.stacks {
            let mut seen = HashSet::new();
            for frame in stack.iter().skip(1).filter(|frame| seen.insert(*frame)) {
                let times = lines.entry(frame).or_default();
                times.1 = times.1.saturating_add(spent.micros);
            }
            if let Some(leaf) = stack.iter().skip(1).next_back() {
                let times = lines.entry(leaf).or_default();
                times.0 = times.0.saturating_add(spent.micros);
            }
        }
        let line = |(frame, (own, total))| HotLine { frame, own, total };
        let mut lines: Vec<HotLine<'_>> = lines.into_iter().map(line).collect();
        lines.sort_by(|a, b| (b.own, b.total).cmp(&(a.own, a.total)).then_with(|| a.frame.cmp(b.frame)));
        lines
    }

    /// Both tables.
    pub(crate) fn tables(&self) -> String {
        let all = self.micros();
        let mut lines = TextTable::new(&["SELF", "", "TOTAL", "", "LINE"], &[true, true, true, true, false]);
        for HotLine { frame, own, total } in self.hottest().iter().take(ROWS_MAX).filter(|line| line.own > 0)
        {
            lines.push(vec![
                seconds(*own),
                percent(*own, all),
                seconds(*total),
                percent(*total, all),
                cut(&place(frame), WIDTH),
            ]);
        }
        let mut tags: HashMap<&ProfileFrame, u64> = HashMap::new();
        for (stack, spent) in &self.stacks {
            if let Some(tag) = stack.first() {
                let micros = tags.entry(tag).or_default();
                *micros = micros.saturating_add(spent.micros);
            }
        }
        let mut tags: Vec<(&ProfileFrame, u64)> = tags.into_iter().collect();
        tags.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        let mut requests = TextTable::new(&["TIME", "", "REQUEST"], &[true, true, false]);
        for (tag, micros) in tags.iter().take(ROWS_MAX) {
            requests.push(vec![seconds(*micros), percent(*micros, all), cut(&tag.function, WIDTH)]);
        }
        let mut text = format!("{lines}");
        let _ = write!(text, "\n{requests}");
        text
    }
}

/// `file:line function`, or the note.
fn place(frame: &ProfileFrame) -> String {
    match frame.is_note() {
        true => frame.function.to_string(),
        false => format!("{}:{} {}", frame.short_file(), frame.line, frame.function),
    }
}

#[cfg(test)]
mod tests {
    use crate::flame::testing::profile;

    #[test]
    fn the_hottest_line_comes_first() {
        let profile = profile(&[
            ("GET /slow;view app.py 7;query db.py 9", 7_000_000),
            ("GET /slow;view app.py 7", 1_000_000),
            ("POST /;view app.py 7;view app.py 7", 2_000_000),
            ("POST /", 500),
        ]);
        let lines: Vec<_> =
            profile.hottest().iter().map(|line| (line.frame.label(), line.own, line.total)).collect();
        let expected =
            [("query (db.py:9)", 7_000_000, 7_000_000), ("view (app.py:7)", 3_000_000, 10_000_000)];
        assert_eq!(lines, expected.map(|(label, own, total)| (label.to_owned(), own, total)));
        let text = profile.tables();
        let words = |line: usize| text.lines().nth(line).unwrap().split_whitespace().collect::<Vec<_>>();
        assert_eq!(words(1), ["7.00", "s", "70.0", "%", "7.00", "s", "70.0", "%", "db.py:9", "query"]);
        assert_eq!(words(5), ["8.00", "s", "80.0", "%", "GET", "/slow"], "{text}");
    }
}
