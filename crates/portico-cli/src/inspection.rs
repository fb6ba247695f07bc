//! Has workers find something out about themselves: gives them the order, keeps their lease while it waits, and
//! reads what they have found. `portico profile` and `portico memory` do the rest.

use std::time::{Duration, Instant};

use portico_supervisor::{
    InspectionLease, InspectionNumber, InspectionOrder, InspectionOutcome, Scoreboard, SlotField, WorkerSlot,
    now_nanos,
};

use crate::pause::{LOOK_EVERY, Pause};

/// What became of the order in one worker.
#[derive(Debug)]
pub(crate) struct Inspected {
    /// Its slot.
    pub(crate) slot: u32,
    /// Its process id.
    pub(crate) pid: u32,
    /// What it has found, as far as it came: keys, values and times.
    pub(crate) entries: Vec<(Vec<u8>, u64, u64)>,
    /// Why that is not all that was asked for.
    pub(crate) problem: Option<String>,
    numbers: [u64; NUMBERS],
}

const NUMBERS: usize = InspectionNumber::Rest as usize + 1;

/// A worker that has the order.
struct AskedWorker<'a> {
    slot: u32,
    row: WorkerSlot<'a>,
    pid: u32,
    lease: InspectionLease<'a>,
    number: u64,
    problem: Option<String>,
    is_over: bool,
    /// Its process is seen under its number: not from another container.
    is_visible: bool,
}

/// How long a worker may take to begin: it looks for orders some times in a second.
const BEGIN_PATIENCE: Duration = Duration::from_secs(3);

/// How long it may take to end, beyond the time that the order has: it may have to wait for its interpreter.
const END_PATIENCE: Duration = Duration::from_secs(5);

impl Inspected {
    /// One of the numbers that it has told.
    pub(crate) fn number(&self, number: InspectionNumber) -> u64 {
        self.numbers[number as usize]
    }
}

/// Gives the workers of `board`, or the one that has process id `pid` or slot `only`, an order, and waits until
/// it has been followed.
pub(crate) fn inspect<E>(
    board: &Scoreboard,
    pid: u32,
    only: Option<u32>,
    order: InspectionOrder,
    pause: Pause<'_, E>,
) -> Result<Result<Vec<Inspected>, String>, E> {
    let mut asked = match ask(board, pid, only, order) {
        Ok(asked) => asked,
        Err(problem) => return Ok(Err(problem)),
    };
    let begun = Instant::now();
    while asked.iter().any(|worker| !worker.is_over) {
        pause(LOOK_EVERY)?;
        let taken = begun.elapsed();
        asked
            .iter_mut()
            .filter(|worker| !worker.is_over)
            .for_each(|worker| worker.look(taken, order.duration));
    }
    Ok(Ok(asked.into_iter().map(|worker| worker.read(board)).collect()))
}

fn ask<'a>(
    board: &'a Scoreboard,
    pid: u32,
    only: Option<u32>,
    order: InspectionOrder,
) -> Result<Vec<AskedWorker<'a>>, String> {
    let pid_of = |row: WorkerSlot<'_>| u32::try_from(row.get(SlotField::Pid)).unwrap_or_default();
    let mut workers: Vec<_> = board.slots().filter(|(_, row)| pid_of(*row) != 0).collect();
    if workers.iter().any(|(_, row)| pid_of(*row) == pid) {
        workers.retain(|(_, row)| pid_of(*row) == pid);
    }
    if let Some(only) = only {
        workers.retain(|(slot, _)| *slot == only);
    }
    if workers.is_empty() {
        return Err(match only {
            Some(slot) => format!("there is no worker in slot {slot} at this moment"),
            None => "it has no worker at this moment".to_owned(),
        });
    }
    let mut asked = Vec::new();
    for (slot, row) in workers {
        let Some(lease) = row.inspection().lease(now_nanos()) else {
            return Err(format!(
                "worker {slot} is being profiled already, or asked for its memory; one command at a time does that"
            ));
        };
        let pid = pid_of(row);
        asked.push(AskedWorker {
            slot,
            row,
            pid,
            lease,
            number: 0,
            problem: None,
            is_over: false,
            is_visible: !is_gone(pid),
        });
    }
    // Once all leases are had: so all begin at the same moment, or none does.
    asked.iter_mut().for_each(|worker| worker.number = worker.lease.give(worker.pid, order));
    Ok(asked)
}

impl AskedWorker<'_> {
    /// Looks how far it is, `taken` after it got the order.
    fn look(&mut self, taken: Duration, duration: Duration) {
        let outcome = self.lease.outcome(self.number);
        let problem = match outcome {
            Some(InspectionOutcome::Done) => None,
            Some(InspectionOutcome::Failed) => Some("it could not do it; its log says why".to_owned()),
            Some(InspectionOutcome::Taken) => {
                Some("its application traces memory itself (tracemalloc); that is left alone".to_owned())
            }
            None => match self.trouble(taken, duration) {
                None => {
                    if !self.lease.renew(now_nanos()) {
                        self.problem = Some("another command has taken it over".to_owned());
                        self.is_over = true;
                    }
                    return;
                }
                trouble => trouble,
            },
        };
        self.problem = problem;
        self.is_over = true;
    }

    fn is_gone(&self) -> bool {
        self.is_visible && is_gone(self.pid)
    }

    /// Why it is waited for no longer.
    fn trouble(&self, taken: Duration, duration: Duration) -> Option<String> {
        let seconds = taken.as_secs_f64();
        if self.row.get(SlotField::Pid) != u64::from(self.pid) || self.is_gone() {
            return Some(format!("it ended after {seconds:.1} s; what it had found until then counts"));
        }
        let has_begun = self.lease.has_begun(self.number);
        if !has_begun && taken > BEGIN_PATIENCE {
            let starts = self.row.get(SlotField::HeartbeatNanos) == 0;
            return Some(match starts {
                true => "it is still starting, and cannot be asked yet".to_owned(),
                false => {
                    "it has not begun: something keeps it, such as C code from the time before".to_owned()
                }
            });
        }
        let is_late = has_begun && taken > duration + END_PATIENCE;
        is_late.then(|| {
            let last = self.lease.room().number(InspectionNumber::LastNanos);
            let begun = self.lease.room().number(InspectionNumber::BegunNanos);
            let held = Duration::from_nanos(now_nanos().saturating_sub(last.max(begun))).as_secs_f64();
            format!("C code has kept its interpreter for {held:.1} s, and nothing could be seen since")
        })
    }

    fn read(self, board: &Scoreboard) -> Inspected {
        let room = self.lease.room();
        let entries = room.entries().iter().map(|entry| (entry.key, entry.value, entry.time)).collect();
        let mut numbers = [0; NUMBERS];
        for number in [
            InspectionNumber::BegunNanos,
            InspectionNumber::LastNanos,
            InspectionNumber::Samples,
            InspectionNumber::Late,
            InspectionNumber::HeldNanos,
            InspectionNumber::CutStacks,
            InspectionNumber::Failed,
            InspectionNumber::Dropped,
            InspectionNumber::Rest,
        ] {
            numbers[number as usize] = room.number(number);
        }
        let lost = room.entries().lost();
        let has_ended = self.lease.outcome(self.number).is_some() || self.is_gone();
        let mut problem = self.problem;
        if !self.lease.has_begun(self.number) {
            problem.get_or_insert_with(|| "it has not begun".to_owned());
            return Inspected {
                slot: self.slot,
                pid: self.pid,
                entries: Vec::new(),
                problem,
                numbers: [0; NUMBERS],
            };
        }
        if lost > 0 && problem.is_none() && numbers[InspectionNumber::Dropped as usize] == 0 {
            problem = Some(format!("{lost} of its findings had no room"));
        }
        if has_ended {
            board.give_back_found(self.slot);
        }
        Inspected { slot: self.slot, pid: self.pid, entries, problem, numbers }
    }
}

/// Whether the process has died, also where nobody has reaped it yet.
fn is_gone(pid: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    // The state stands behind the name, which may hold anything but ends at the last bracket.
    status.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use portico_supervisor::InspectionKind;

    use super::*;

    const ORDER: InspectionOrder =
        InspectionOrder { kind: InspectionKind::WallTime, duration: Duration::from_millis(1), rate: 100 };

    fn board() -> Scoreboard {
        let board = Scoreboard::create(2, 1).unwrap();
        let slot = board.slot(1).unwrap();
        slot.set(SlotField::Pid, u64::from(std::process::id()));
        slot.set(SlotField::HeartbeatNanos, 1);
        board
    }

    fn refusal(board: &Scoreboard, only: Option<u32>) -> String {
        let mut never = |_| -> Result<(), Infallible> { panic!("there is nothing to wait for") };
        inspect(board, 1, only, ORDER, &mut never).unwrap().unwrap_err()
    }

    #[test]
    fn what_a_worker_finds_is_read_when_it_has_ended() {
        let board = board();
        let room = board.slot(1).unwrap().inspection();
        let mut looks = 0;
        let mut worker = |_| -> Result<(), Infallible> {
            looks += 1;
            match looks {
                1 => room.begin(room.order_number(), 1),
                2 => drop(room.entries().append(b"found", 0, 3, 4)),
                _ => room.end(room.order_number(), InspectionOutcome::Done),
            }
            Ok(())
        };
        let found = inspect(&board, 1, None, ORDER, &mut worker).unwrap().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].slot, &found[0].entries), (1, &vec![(b"found".to_vec(), 4, 3)]));
        assert_eq!(found[0].problem, None);
        assert_eq!(room.entries().iter().count(), 0, "its memory is given back");
        assert!(!room.is_awaited(now_nanos()));
    }

    #[test]
    fn nobody_to_ask_and_one_that_is_asked_already_are_told() {
        assert_eq!(refusal(&Scoreboard::create(1, 1).unwrap(), None), "it has no worker at this moment");
        let board = board();
        assert_eq!(refusal(&board, Some(0)), "there is no worker in slot 0 at this moment");
        let lease = board.slot(1).unwrap().inspection().lease(now_nanos()).unwrap();
        assert!(refusal(&board, Some(1)).starts_with("worker 1 is being profiled already"));
        drop(lease);
    }

    #[test]
    fn the_operator_ends_the_wait_and_the_work() {
        let board = board();
        let mut interrupted = |_| Err("Ctrl-C");
        let ended = inspect(&board, 1, None, ORDER, &mut interrupted);
        assert_eq!(ended.map(|_| ()), Err("Ctrl-C"));
        assert!(!board.slot(1).unwrap().inspection().is_awaited(now_nanos()));
    }

    #[test]
    fn a_worker_that_dies_is_told_with_what_it_had_found() {
        let board = board();
        let slot = board.slot(1).unwrap();
        let room = slot.inspection();
        let mut looks = 0;
        let mut worker = |_| -> Result<(), Infallible> {
            looks += 1;
            match looks {
                1 => room.begin(room.order_number(), 1),
                2 => drop(room.entries().append(b"found", 0, 3, 4)),
                _ => slot.set(SlotField::Pid, 0),
            }
            Ok(())
        };
        let found = inspect(&board, 1, None, ORDER, &mut worker).unwrap().unwrap();
        assert!(found[0].problem.as_deref().unwrap().starts_with("it ended after"), "{found:?}");
        assert_eq!(found[0].entries.len(), 1);
    }
}
