//! Whole screens of a planted server, as a terminal would show them.

use std::net::IpAddr;

use portico_insight::ReadTime;
use portico_metrics::{CountedExchange, Gauge, Histogram, Method};
use portico_supervisor::{
    Note, Scoreboard, SlotField, SlotState, SupervisorField, SupervisorState, ThreadState,
};

use super::*;
use crate::top::keys::TerminalKey;

const SECOND: u64 = 1_000_000_000;

const WIDE: Canvas = Canvas { columns: 100, rows: 24, is_utf8: true };
const USUAL: Canvas = Canvas { columns: 80, rows: 24, is_utf8: false };
const NARROW: Canvas = Canvas { columns: 40, rows: 12, is_utf8: false };

/// A server of two workers with four threads, one of them with a request that hangs.
fn board() -> Scoreboard {
    let board = Scoreboard::create(2, 8).unwrap();
    board.set(SupervisorField::Pid, 4710);
    board.set(SupervisorField::State, SupervisorState::Serving as u64);
    board.set(SupervisorField::StartedNanos, SECOND);
    board.metrics().set(Gauge::WorkersWanted, 2);
    board.metrics().set(Gauge::ThreadsPerWorker, 4);
    for (number, slot) in board.slots() {
        slot.set(SlotField::Pid, 4711 + u64::from(number));
        slot.set(SlotField::State, SlotState::Ready as u64);
        slot.set(SlotField::StartedNanos, SECOND);
        slot.set(SlotField::HeartbeatNanos, 12_000 * SECOND);
        slot.metrics().set(Gauge::Connections, 12);
        slot.metrics().set(Gauge::ResidentBytes, 85 * 1024 * 1024);
    }
    begin(&board, (0, 2), b"/reports/year?secret=1", 42 * SECOND, ThreadState::Running);
    begin(&board, (1, 0), b"/a\x1b[2J\xff", 2 * SECOND, ThreadState::AwaitingClient);
    begin(&board, (1, 1), b"/", 3_000_000, ThreadState::Running);
    board
}

fn begin(board: &Scoreboard, (slot, thread): (u32, usize), target: &[u8], age: u64, state: ThreadState) {
    let peer: Option<IpAddr> = Some("192.0.2.7".parse().unwrap());
    let begun_nanos = 12_001 * SECOND - age;
    let note = Note { method: b"GET", target, peer, begun_nanos, queued_nanos: 0, route_timeout: None };
    let record = board.slot(slot).unwrap().thread(thread).unwrap();
    record.begin(&note);
    record.totals().begin_call();
    record.set_state(state);
}

/// The snapshot, and the rates of the ten seconds before it.
fn read(board: &Scoreboard) -> (Snapshot, ServerRates) {
    let at = |second: u64| ReadTime { nanos: second * SECOND, unix_time: 45_067.0 };
    let before = Snapshot::read(board, at(11_991));
    for (number, slot) in board.slots() {
        for _ in 0..200 * (number + 1) {
            slot.metrics().record_exchange(&CountedExchange::without_call(
                Method::of(b"GET"),
                200,
                7_100_000,
            ));
            slot.metrics().record(Histogram::QueueDuration, 30_000);
        }
    }
    board.slot(0).unwrap().metrics().record_exchange(&CountedExchange::without_call(
        Method::of(b"GET"),
        500,
        900_000_000,
    ));
    let after = Snapshot::read(board, at(12_001));
    let rates = ServerRates::between(&before, &after).unwrap();
    (after, rates)
}

fn shown(board: &Scoreboard, state: &TopState, canvas: Canvas) -> String {
    let (snapshot, rates) = read(board);
    let sentence = Sentence::of(&snapshot, Some(&rates), None);
    let history: Vec<f64> = (0..30).map(f64::from).collect();
    let view = View {
        snapshot: &snapshot,
        rates: Some(&rates),
        sentence: &sentence,
        history: &history,
        state,
        clock: "12:31:07Z",
    };
    let lines = screen(&view, canvas);
    assert_eq!(lines.len(), canvas.rows);
    assert!(lines.iter().all(|line| line.width() <= canvas.columns));
    lines.iter().map(|line| format!("{}\n", line.text().trim_end())).collect()
}

/// As it is, with the version that all screens have in common taken out.
fn check(actual: &str, expected: &str) {
    let actual = actual.replace(&format!("Portico {}", env!("CARGO_PKG_VERSION")), "Portico X.Y.Z");
    assert_eq!(actual.trim_end(), expected.trim_end(), "\n{actual}");
}

#[test]
fn a_wide_screen() {
    check(&shown(&board(), &TopState::default(), WIDE), include_str!("wide.txt"));
}

#[test]
fn a_screen_of_80_columns_without_utf8() {
    check(&shown(&board(), &TopState::default(), USUAL), include_str!("usual.txt"));
}

#[test]
fn a_narrow_screen() {
    check(&shown(&board(), &TopState::default(), NARROW), include_str!("narrow.txt"));
}

#[test]
fn a_long_sentence_takes_two_lines_where_there_are_some() {
    let board = board();
    let lines =
        |canvas| shown(&board, &TopState::default(), canvas).lines().map(str::to_owned).collect::<Vec<_>>();
    let narrow = lines(Canvas { columns: 60, rows: 24, is_utf8: false });
    let expected = ["1 request has run for 42 s: GET /reports/year; 5 of 8", "threads are free."];
    assert_eq!(narrow[1..3], expected);
    assert!(lines(Canvas { rows: 12, ..USUAL })[2].starts_with("req/s"));
}

#[test]
fn no_size_is_too_small() {
    let board = board();
    let mut state = TopState::default();
    for _ in 0..2 {
        for columns in 0..30 {
            for rows in 0..14 {
                shown(&board, &state, Canvas { columns, rows, is_utf8: true });
            }
        }
        state.show("title".to_owned(), &"line\n".repeat(30));
    }
}

#[test]
fn what_clients_send_never_gets_to_the_terminal_as_it_is() {
    let text = shown(&board(), &TopState::default(), WIDE);
    assert!(text.contains(r"GET /a\u{1b}[2J\u{fffd}") && !text.contains("secret"), "{text}");
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn the_selected_request_is_in_sight() {
    let board = Scoreboard::create(1, 64).unwrap();
    board.set(SupervisorField::StartedNanos, SECOND);
    board.slot(0).unwrap().set(SlotField::Pid, 4711);
    for thread in 0..60 {
        begin(&board, (0, thread), format!("/{thread}").as_bytes(), SECOND, ThreadState::Running);
    }
    let (snapshot, _) = read(&board);
    let mut state = TopState::default();
    state.follow(&snapshot.requests);
    assert!(shown(&board, &state, USUAL).contains(">    1.0 s running   0-1-2 "));
    for _ in 0..40 {
        state.press(TerminalKey::Down, &snapshot.requests, 10);
    }
    let text = shown(&board, &state, USUAL);
    assert!(text.contains("> ") && text.contains("GET /40") && !text.contains("GET /1\n"), "{text}");
}

#[test]
fn many_workers_leave_room_for_requests() {
    let board = Scoreboard::create(64, 2).unwrap();
    board.set(SupervisorField::StartedNanos, SECOND);
    for (number, slot) in board.slots() {
        slot.set(SlotField::Pid, 4711 + u64::from(number));
    }
    begin(&board, (63, 0), b"/last", SECOND, ThreadState::Running);
    let text = shown(&board, &TopState::default(), USUAL);
    assert!(text.contains("     and 58 more\n") && text.contains("GET /last"), "{text}");
}

#[test]
fn questions_filters_and_messages_are_in_the_last_line() {
    let board = board();
    let (snapshot, _) = read(&board);
    let last = |state: &TopState| shown(&board, state, USUAL).lines().last().unwrap().to_owned();
    let mut state = TopState::default();
    state.follow(&snapshot.requests);
    assert!(last(&state).starts_with(" q quit  ? help  s stack  S all stacks  c cancel"));
    state.press(TerminalKey::Char('c'), &snapshot.requests, 10);
    assert_eq!(last(&state), " Cancel GET /reports/year (0-3-2)? y/n");
    state.press(TerminalKey::Char('n'), &snapshot.requests, 10);
    assert_eq!(last(&state), " Nothing was done");
    for key in "/year".chars() {
        state.press(TerminalKey::Char(key), &snapshot.requests, 10);
    }
    assert!(last(&state).starts_with(" /year_   Enter"));
    let text = shown(&board, &state, USUAL);
    assert!(text.contains("1 of 3 in flight") && !text.contains("GET /a"), "{text}");
    state
        .show(" GET /reports/year".to_owned(), "  File \"views.py\", line 88, in year\n    time.sleep(99)\n");
    let text = shown(&board, &state, USUAL);
    assert!(text.contains("  File \"views.py\", line 88, in year\n    time.sleep(99)\n"), "{text}");
    assert!(text.ends_with(" arrows and Space to read, q to go back\n"));
}

#[test]
fn a_page_for_a_pipe_has_everything_and_no_marks() {
    let board = board();
    let (snapshot, rates) = read(&board);
    let view = View {
        snapshot: &snapshot,
        rates: Some(&rates),
        sentence: &Sentence::of(&snapshot, Some(&rates), None),
        history: &[],
        state: &TopState::default(),
        clock: "",
    };
    let text = page(&view, 100, false);
    assert!(text.contains("GET /reports/year") && !text.contains('>') && !text.contains("quit"), "{text}");
    assert!(text.is_ascii() && text.lines().count() < 20);
}

#[test]
fn bars_show_what_is_not_empty() {
    assert_eq!(bar(0.0, 4, false), "....");
    assert_eq!(bar(0.01, 4, false), "#...");
    assert_eq!(bar(0.5, 4, false), "##..");
    assert_eq!(bar(1.0, 4, false), "####");
    assert_eq!(sparkline(&[0.0, 1.0, 8.0], 2, false), "_#");
    assert_eq!(sparkline(&[0.0, 0.0], 4, true), "  ");
    assert_eq!([0.4, 12.34, 412.4, 12_400.0].map(per_second), ["0.4", "12.3", "412", "12.4k"]);
}
