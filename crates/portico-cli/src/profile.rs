//! `portico profile PID`: where the calls of the workers spend their time.

use std::fmt::Write as _;
use std::fs;

use portico_config::{ProfileFormat, ProfileOrder};
use portico_supervisor::{
    InspectionKind, InspectionNumber, InspectionOrder, Scoreboard, SlotField, WorkerSlot,
};

use crate::flame::{About, Profile};
use crate::inspection::{Inspected, inspect};
use crate::output::Output;
use crate::pause::Pause;

/// What a reader of the figures must know about them.
const OF_WALL: &str = concat!(
    "Time that passed while calls ran, also while they waited. Samples fall where a thread gives up ",
    "the interpreter; C code that keeps it counts for the line that called it, or for the next one."
);
const OF_CPU: &str = concat!(
    "Time of a processor that calls used, by the scheduler's count; waiting counts nothing. Samples fall ",
    "where a thread gives up the interpreter; C code that keeps it counts for the line that called it, or ",
    "for the next one."
);

/// Profiles the workers of `board`.
pub(crate) fn tell<E>(board: &Scoreboard, order: &ProfileOrder, pause: Pause<'_, E>) -> Result<Output, E> {
    let kind = if order.of_cpu { InspectionKind::CpuTime } else { InspectionKind::WallTime };
    let asked = InspectionOrder { kind, duration: order.duration, rate: order.rate };
    let mut workers = match inspect(board, order.pid, order.slot, asked, pause)? {
        Ok(workers) => workers,
        Err(problem) => return Ok(Output::failure(format!("profile: {problem}"))),
    };
    let mut profile = Profile::default();
    workers.iter_mut().for_each(|worker| profile.read(std::mem::take(&mut worker.entries)));
    let about = about(order, &workers);
    let text = match order.format {
        None => tables(&profile, &about),
        Some(ProfileFormat::Svg) => profile.svg(&about),
        Some(ProfileFormat::Collapsed) => profile.collapsed(),
        Some(ProfileFormat::Speedscope) => profile.speedscope(&about),
    };
    let problem = workers.iter().find_map(problem_of).map(|problem| format!("profile: {problem}"));
    let Some(file) = &order.file else { return Ok(Output { output: text, error: problem }) };
    Ok(match fs::write(file, text) {
        Ok(()) => Output { output: format!("Written to {}\n", file.display()), error: problem },
        Err(error) => Output::failure(format!("profile: {} cannot be written: {error}", file.display())),
    })
}

/// The process that Python's own profiler is to look at: the worker in the slot that was named, or the first.
pub(crate) fn worker_of(board: &Scoreboard, order: &ProfileOrder) -> Option<u32> {
    let pid_of = |row: WorkerSlot<'_>| u32::try_from(row.get(SlotField::Pid)).ok().filter(|pid| *pid != 0);
    let workers: Vec<(u32, u32)> =
        board.slots().filter_map(|(slot, row)| Some((slot, pid_of(row)?))).collect();
    let is_wanted = |(slot, pid): &&(u32, u32)| match order.slot {
        Some(only) => *slot == only,
        None => *pid == order.pid,
    };
    let named = workers.iter().find(is_wanted);
    named.or_else(|| workers.first().filter(|_| order.slot.is_none())).map(|(_, pid)| *pid)
}

fn about(order: &ProfileOrder, workers: &[Inspected]) -> About {
    let what = if order.of_cpu { "processor time" } else { "wall time" };
    let whose = match workers {
        [worker] => format!("worker {} (pid {})", worker.slot, worker.pid),
        workers => format!("{} workers", workers.len()),
    };
    let title = format!(
        "Profile of {whose}: {what} of calls in {} s, {} samples a second",
        order.duration.as_secs_f64(),
        order.rate
    );
    let mut notes = vec![if order.of_cpu { OF_CPU } else { OF_WALL }.to_owned()];
    let sum = |number| workers.iter().map(|worker| worker.number(number)).fold(0, u64::saturating_add);
    let samples = sum(InspectionNumber::Samples);
    let late = sum(InspectionNumber::Late);
    let held = sum(InspectionNumber::HeldNanos);
    if held > 0 {
        notes.push(format!(
            "The interpreter could not be had for {:.1} s; stacks were taken without it then.",
            held as f64 / 1e9
        ));
    } else if late > samples / 4 {
        notes.push(format!(
            "The interpreter or a processor was hard to get: {late} of {} samples came late, and count for \
             the time until then.",
            samples.saturating_add(late)
        ));
    }
    let counted = [
        (sum(InspectionNumber::CutStacks), "stacks were too deep: their outermost frames are not shown"),
        (sum(InspectionNumber::Failed), "stacks could not be read"),
    ];
    notes.extend(
        counted.iter().filter(|(count, _)| *count > 0).map(|(count, text)| format!("{count} {text}.")),
    );
    let dropped = sum(InspectionNumber::Dropped);
    if dropped > 0 {
        let seconds = dropped as f64 / 1e6;
        notes.push(format!("{seconds:.2} s are missing, whose stacks had no room."));
    }
    notes.extend(workers.iter().filter_map(problem_of).map(|problem| format!("{problem}.")));
    About { title, notes }
}

fn problem_of(worker: &Inspected) -> Option<String> {
    let problem = worker.problem.as_ref()?;
    Some(format!("worker {} (pid {}): {problem}", worker.slot, worker.pid))
}

fn tables(profile: &Profile, about: &About) -> String {
    let mut text = format!("{}\n", about.title);
    match profile.is_empty() {
        true => text.push_str("\nNo call ran meanwhile.\n"),
        false => {
            let _ = write!(text, "\n{}", profile.tables());
        }
    }
    for note in &about.notes {
        let _ = write!(text, "\n{note}");
    }
    text.push('\n');
    text
}
