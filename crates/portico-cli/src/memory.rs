//! `portico memory PID`: what the memory of the workers is full of.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use portico_config::MemoryOrder;
use portico_supervisor::{InspectionKind, InspectionNumber, InspectionOrder, Scoreboard};

use crate::inspection::{Inspected, inspect};
use crate::output::Output;
use crate::pause::Pause;
use crate::table::{TextTable, cut};

/// Rows that are shown of each worker.
const ROWS_MAX: usize = 25;

/// Characters of a type's or a line's name.
const WIDTH: usize = 90;

/// Has the workers of `board` look at their memory, once `is_confirmed` by an operator at a terminal.
pub(crate) fn tell<E>(board: &Scoreboard, order: &MemoryOrder, pause: Pause<'_, E>) -> Result<Output, E> {
    if !order.is_confirmed && !confirmed(order) {
        return Ok(Output::failure("memory: nothing was done".to_owned()));
    }
    let (kind, duration) = match order.trace {
        None => (InspectionKind::Objects, std::time::Duration::from_secs(60)),
        Some(duration) => (InspectionKind::Allocations, duration),
    };
    let asked = InspectionOrder { kind, duration, rate: 1 };
    let workers = match inspect(board, order.pid, order.slot, asked, pause)? {
        Ok(workers) => workers,
        Err(problem) => return Ok(Output::failure(format!("memory: {problem}"))),
    };
    let mut told = Output::default();
    for worker in &workers {
        let _ = writeln!(told.output, "Worker {} (pid {})\n", worker.slot, worker.pid);
        told.output.push_str(&match order.trace {
            None => objects(worker),
            Some(_) => allocations(worker),
        });
        told.output.push('\n');
        if let Some(problem) = &worker.problem {
            told.error.get_or_insert_with(|| format!("memory: worker {}: {problem}", worker.slot));
        }
    }
    Ok(told)
}

/// Asks at a terminal, since requests wait meanwhile. A script has decided it already.
fn confirmed(order: &MemoryOrder) -> bool {
    if !io::stdin().is_terminal() {
        return true;
    }
    let question = match order.trace {
        None => {
            "Its workers list all objects, which stops each for some hundredths of a second, or tenths where \
             there are millions. Go on? [y/N] "
        }
        Some(_) => {
            "Tracing makes its workers several times slower until it ends, and takes memory. Go on? [y/N] "
        }
    };
    let mut terminal = io::stderr();
    let mut line = String::new();
    let asked = terminal.write_all(question.as_bytes()).and_then(|()| terminal.flush());
    let read = asked.and_then(|()| io::stdin().lock().read_line(&mut line));
    read.is_ok() && matches!(line.trim(), "y" | "Y" | "yes")
}

fn objects(worker: &Inspected) -> String {
    let mut table = TextTable::new(&["OBJECTS", "SIZE", "TYPE"], &[true, true, false]);
    let (mut bytes, mut count) = (worker.number(InspectionNumber::Dropped), 0_u64);
    for (name, of_type, objects) in &worker.entries {
        bytes = bytes.saturating_add(*of_type);
        count = count.saturating_add(*objects);
        let _ = name;
    }
    for (name, of_type, objects) in worker.entries.iter().take(ROWS_MAX) {
        table.push(vec![objects.to_string(), size(*of_type), cut(&plain(name), WIDTH)]);
    }
    let mut text = format!("{table}\n{count} objects of the types above and others, {}.", size(bytes));
    text.push_str(
        " Sizes are those of the objects alone. Those that hold no others, such as strings and numbers, the \
         garbage collector does not know.\n",
    );
    let rest = worker.number(InspectionNumber::Rest);
    if rest > 0 {
        let _ = writeln!(text, "{rest} more objects were not looked at.");
    }
    text
}

fn allocations(worker: &Inspected) -> String {
    let mut table = TextTable::new(&["BLOCKS", "SIZE", "LINE"], &[true, true, false]);
    for (name, bytes, blocks) in worker.entries.iter().take(ROWS_MAX) {
        table.push(vec![blocks.to_string(), size(*bytes), cut(&plain(name).replacen('\0', ":", 1), WIDTH)]);
    }
    let others: u64 =
        worker.entries.iter().skip(ROWS_MAX).map(|(_, bytes, _)| *bytes).fold(0, u64::saturating_add);
    format!(
        "{table}\nMemory that was allocated meanwhile and is still in use, by the line that asked for it; other \
         lines: {}. Tracing took {} itself.\n",
        size(others.saturating_add(worker.number(InspectionNumber::Dropped))),
        size(worker.number(InspectionNumber::Rest)),
    )
}

/// What a worker has written, as a terminal can show it.
fn plain(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    text.chars().map(|it| if it.is_control() && it != '\0' { '\u{fffd}' } else { it }).collect()
}

/// `512 B`, `1.5 MiB`.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_as_people_read_them() {
        for (bytes, text) in [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (3 << 20, "3.0 MiB")] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn names_do_nothing_to_a_terminal() {
        assert_eq!(plain(b"a\x1b[2Jb\0c\xff"), "a\u{fffd}[2Jb\0c\u{fffd}");
    }
}
