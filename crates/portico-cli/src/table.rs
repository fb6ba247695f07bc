//! Tables for a terminal, and figures as people read them.

use std::fmt::Write as _;

/// Rows of cells under a heading.
#[derive(Debug)]
pub(crate) struct TextTable {
    /// Columns whose cells stand at their right edge: figures.
    right: &'static [bool],
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// A table of these columns; with each, whether it holds figures.
    pub(crate) fn new(heading: &[&str], right: &'static [bool]) -> Self {
        Self { right, rows: vec![heading.iter().map(|&name| name.to_owned()).collect()] }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// Whether there is nothing but the heading.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

impl std::fmt::Display for TextTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = |cell: &String| cell.chars().count();
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().filter_map(|row| row.get(column).map(length)).max().unwrap_or(0))
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, &width), &right) in row.iter().zip(&widths).zip(self.right) {
                let _ = match right {
                    true => write!(line, "{cell:>width$}  "),
                    false => write!(line, "{cell:<width$}  "),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
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
