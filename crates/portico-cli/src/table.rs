//! Tables for a terminal, and figures as people read them.

use comfy_table::{CellAlignment, Table, presets};

/// A table without lines, as commands print it: each column as wide as its widest cell, two spaces between them
/// and none at the end of a line.
#[derive(Debug)]
pub(crate) struct TextTable(Table);

impl TextTable {
    /// A table of these columns; with each, whether it holds figures, which stand at its right edge.
    pub(crate) fn new(heading: &[&str], right: &[bool]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(heading);
        for (column, &is_right) in table.column_iter_mut().zip(right) {
            column.set_padding((0, 2));
            column.set_cell_alignment(if is_right { CellAlignment::Right } else { CellAlignment::Left });
        }
        Self(table)
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.0.add_row(row);
    }

    /// Whether there is nothing but the heading.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for TextTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.lines().try_for_each(|line| writeln!(f, "{}", line.trim_end()))
    }
}

/// A time as `850 ms`, `12.3 s`, `5m 07s`, `3h 20m`, `12d 04h`.
pub(crate) fn time(nanos: u64) -> String {
    let seconds = nanos / 1_000_000_000;
    match seconds {
        0 => format!("{} ms", nanos / 1_000_000),
        1..60 => format!("{:.1} s", nanos as f64 / 1e9),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// The same of seconds.
pub(crate) fn time_of_seconds(seconds: f64) -> String {
    time((seconds * 1e9) as u64)
}

/// A time in as few characters as tell it: `850 us`, `12 ms`, `4.2 s`, `42 s`, `5m07s`, `3h20m`, `12d04h`.
pub(crate) fn short_time(seconds: f64) -> String {
    let whole = seconds as u64;
    match seconds {
        _ if seconds < 0.001 => format!("{:.0} us", seconds * 1e6),
        _ if seconds < 0.01 => format!("{:.1} ms", seconds * 1e3),
        _ if seconds < 0.9995 => format!("{:.0} ms", seconds * 1e3),
        _ if seconds < 59.95 => format!("{seconds:.1} s"),
        _ if whole < 3_600 => format!("{}m{:02}s", whole.max(60) / 60, whole.max(60) % 60),
        _ if whole < 86_400 => format!("{}h{:02}m", whole / 3_600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole / 3_600 % 24),
    }
}

/// Memory as `85 MiB`; `-` if it has not been measured.
pub(crate) fn memory(kib: u64) -> String {
    match kib {
        0 => "-".to_owned(),
        kib => format!("{} MiB", kib.div_ceil(1024)),
    }
}

/// `text` cut to `width` characters.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(3)).collect();
    kept + "..."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_have_two_figures() {
        let expected = [
            (0.0, "0 us"),
            (0.00085, "850 us"),
            (0.0021, "2.1 ms"),
            (0.012, "12 ms"),
            (0.9999, "1.0 s"),
            (42.04, "42.0 s"),
            (59.96, "1m00s"),
            (307.0, "5m07s"),
            (12_000.0, "3h20m"),
            (1_051_200.0, "12d04h"),
        ];
        for (seconds, text) in expected {
            assert_eq!(short_time(seconds), text);
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = TextTable::new(&["name", "count", "path"], &[false, true, false]);
        assert!(table.is_empty());
        for (name, count, path) in
            [("a", "7", "/"), ("\u{65e5}\u{672c}\u{8a9e}", "1234567", "/a b"), ("", "", "")]
        {
            table.push(vec![name.to_owned(), count.to_owned(), path.to_owned()]);
        }
        assert!(!table.is_empty());
        let expected = "name      count  path\n\
             a             7  /\n\
             \u{65e5}\u{672c}\u{8a9e}  1234567  /a b\n\
             \n";
        assert_eq!(table.to_string(), expected);
    }
}
