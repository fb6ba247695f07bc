//! `portico cancel PID ID`: has one call ended, and says what became of it.
//!
//! The wish is a word on the scoreboard; the watch of the worker sees it within a tenth of a second. It holds the
//! number of the call, so one that has ended meanwhile is past it, and so is every other call.

use std::time::{Duration, Instant};

use portico_insight::{CallId, ReadTime, RequestPhase, ShownRequest, Snapshot};
use portico_supervisor::Scoreboard;

use crate::output::Output;
use crate::pause::{LOOK_EVERY, Pause};
use crate::table::time_of_seconds;
use crate::words::request_line;

/// The longest wait for what becomes of a call. A worker takes --timeout-grace and the watch's tick for that.
const PATIENCE: Duration = Duration::from_secs(60);

/// What has become of a call that was to be cancelled.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CancelOutcome {
    /// It runs still, as this request.
    Runs(Box<ShownRequest>),
    /// It has ended.
    Ended,
    /// It did not: its client has had a response in its stead, and its thread is written off.
    GivenUp,
}

/// The call `id`, if it runs, as `board` has it.
pub(crate) fn find(board: &Scoreboard, id: CallId) -> Option<ShownRequest> {
    let requests = Snapshot::read(board, ReadTime::now()).requests;
    requests.into_iter().find(|request| request.id == id)
}

/// Has call `id` cancelled. `false` if `board` has no such thread.
pub(crate) fn ask(board: &Scoreboard, id: CallId) -> bool {
    let thread = board.slot(id.slot).and_then(|slot| slot.thread(id.thread));
    thread.map(|thread| thread.ask_cancel(id.sequence)).is_some()
}

/// What has become of call `id` so far.
pub(crate) fn outcome(board: &Scoreboard, id: CallId) -> CancelOutcome {
    match find(board, id) {
        None => CancelOutcome::Ended,
        Some(request) if request.phase == RequestPhase::Lost => CancelOutcome::GivenUp,
        Some(request) => CancelOutcome::Runs(Box::new(request)),
    }
}

/// Cancels the call that `text` names, and waits for what becomes of it.
pub(crate) fn cancel<E>(board: &Scoreboard, text: &str, pause: Pause<'_, E>) -> Result<Output, E> {
    let Ok(id) = text.parse::<CallId>() else {
        let error =
            format!("{text:?} is no id of a request; portico requests PID lists them, such as 0-2-48");
        return Ok(Output::failure(error));
    };
    let Some(request) = find(board, id) else {
        return Ok(Output::failure(format!("no request {id} runs: it has ended, and nothing was cancelled")));
    };
    let told = request_line(&request);
    if request.phase == RequestPhase::Lost {
        return Ok(Output::failure(format!("{told} ({id}) has been given up already; its thread is lost")));
    }
    let begin = Instant::now();
    ask(board, id);
    loop {
        let time = || time_of_seconds(begin.elapsed().as_secs_f64());
        match outcome(board, id) {
            CancelOutcome::Ended => {
                return Ok(Output::of(format!("{told} ({id}) ended, after {}\n", time())));
            }
            CancelOutcome::GivenUp => {
                return Ok(Output::of(format!(
                    "{told} ({id}) did not end and was given up, after {}: its client has a response, another \
                     thread takes the place of its thread, and the worker is replaced\n",
                    time()
                )));
            }
            CancelOutcome::Runs(_) if begin.elapsed() >= PATIENCE => {
                return Ok(Output::failure(format!(
                    "{told} ({id}) is cancelled, but still runs after {}",
                    time()
                )));
            }
            CancelOutcome::Runs(_) => pause(LOOK_EVERY)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use portico_supervisor::{Note, SlotField, ThreadState};

    use super::*;

    fn board() -> Scoreboard {
        let board = Scoreboard::create(1, 2).unwrap();
        board.slot(0).unwrap().set(SlotField::Pid, 4711);
        begin(&board);
        board
    }

    fn begin(board: &Scoreboard) -> u64 {
        let (method, target) = (&b"GET"[..], &b"/slow\x1b?secret=1"[..]);
        let note = Note { method, target, peer: None, begun_nanos: 1, queued_nanos: 0, route_timeout: None };
        board.slot(0).unwrap().thread(1).unwrap().begin(&note)
    }

    fn told(board: &Scoreboard, id: &str, mut then: impl FnMut()) -> Output {
        let mut pause = |_| -> Result<(), Infallible> {
            then();
            Ok(())
        };
        cancel(board, id, &mut pause).unwrap()
    }

    fn never() {
        panic!("there is nothing to wait for");
    }

    #[test]
    fn a_call_that_ends_is_told() {
        let board = board();
        let thread = board.slot(0).unwrap().thread(1).unwrap();
        let end = || {
            assert!(thread.running().unwrap().is_cancel_asked);
            thread.set_state(ThreadState::Idle);
        };
        let output = told(&board, "0-2-2", end).output;
        assert!(output.starts_with("GET /slow\\u{1b} (0-2-2) ended, after "), "{output}");
    }

    #[test]
    fn the_thread_s_next_call_is_the_end_of_the_one() {
        let board = board();
        let output = told(&board, "0-2-2", || assert_eq!(begin(&board), 4)).output;
        assert!(output.contains(" ended, after "), "{output}");
        let next = board.slot(0).unwrap().thread(1).unwrap().running().unwrap();
        assert!(!next.is_cancel_asked);
    }

    #[test]
    fn a_call_that_does_not_end_is_given_up() {
        let board = board();
        let thread = board.slot(0).unwrap().thread(1).unwrap();
        let output = told(&board, "0-2-2", || thread.set_state(ThreadState::Lost)).output;
        assert!(output.contains(" did not end and was given up, after "), "{output}");
        let again = told(&board, "0-2-2", never);
        assert!(again.error.unwrap().contains("has been given up already"));
    }

    #[test]
    fn what_is_no_call_or_has_ended_hits_nothing() {
        let board = board();
        for (id, error) in [
            ("0-2-4", "no request 0-2-4 runs: it has ended, and nothing was cancelled"),
            ("0-1-2", "no request 0-1-2 runs"),
            ("7-9-2", "no request 7-9-2 runs"),
            ("0-2", "\"0-2\" is no id of a request"),
        ] {
            let told = told(&board, id, never);
            assert!(told.error.as_deref().unwrap().starts_with(error), "{told:?}");
            assert_eq!(told.output, "");
        }
        assert!(!board.slot(0).unwrap().thread(1).unwrap().running().unwrap().is_cancel_asked);
    }

    #[test]
    fn the_operator_ends_the_wait() {
        let board = board();
        let mut pauses = 0;
        let mut interrupted = |_| {
            pauses += 1;
            if pauses < 3 { Ok(()) } else { Err("Ctrl-C") }
        };
        assert_eq!(cancel(&board, "0-2-2", &mut interrupted).unwrap_err(), "Ctrl-C");
    }
}
